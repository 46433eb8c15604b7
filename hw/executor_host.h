// hw/executor_host.h: a rank's workers as pthreads, on CLOCK_MONOTONIC.
//
// A worker that waits spins for a while and then sleeps on the rank's bell. Its first park after
// spinning only arms the bell and returns, so that it looks at its words once more before it
// sleeps: no change between the look and the sleep is lost.

#ifndef PHX_HW_EXECUTOR_HOST_H
#define PHX_HW_EXECUTOR_HOST_H

#include "engine/error.h"
#include "engine/executor.h"
#include "hw/bell.h"

#ifdef __cplusplus
extern "C" {
#endif

struct phx_host_executor;

// Long enough for a put of a row over shared memory, short beside a wake-up by the kernel.
#define PHX_HOST_SPIN_US 20u

// Cores that this process may run on.
uint32_t phx_host_cores(void);
// How long waits should spin when so many workers run on this host: PHX_HOST_SPIN_US, or 0 when
// they outnumber the cores, for whoever is waited for may need this one.
uint32_t phx_host_spin_us(uint32_t workers);

struct phx_host_executor_options {
    uint32_t workers; // 1 to PHX_WORKERS_MAX
    uint32_t spin_us; // 0: sleep at once, as is best with more workers than cores
    // Told of phases (engine/executor.h), on the worker's thread. NULL: nobody.
    void (*phase)(void *context, uint32_t worker, uint32_t phase, uint64_t number);
    void *phase_context;
};

int phx_host_executor_create(const struct phx_host_executor_options *options,
                             struct phx_host_executor **executor, struct phx_message *message);
struct phx_executor *phx_host_executor_of(struct phx_host_executor *executor);
// The bell that peers ring, if the transport has one: workers sleep on it instead of one of the
// executor's own. Before the first launch.
void phx_host_executor_sleep_on(struct phx_host_executor *executor, struct phx_bell *bell);
// The transport has events: the control thread, if it is inside `run`, polls. Any thread; a
// transport's `notify`.
void phx_host_executor_notify(void *executor);
// No launch may be running. NULL is allowed.
void phx_host_executor_destroy(struct phx_host_executor *executor);

#ifdef __cplusplus
}
#endif

#endif
