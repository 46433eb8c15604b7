// engine/executor.h: who runs a rank's workers, and what time it is for them.
//
// Two executors implement this table: the simulator's (fibers, or pthreads under a baton, in
// virtual time) and, with the host transports, a pool of pthreads. Kernel bodies never see it: they
// see kernels/device.h, whose C target (kernels/device_c.h) calls these entries. GPU workers need
// none.
//
// Threads: `run` is called by the rank's control thread, the rest by the worker whose index is
// given.

#ifndef PHX_ENGINE_EXECUTOR_H
#define PHX_ENGINE_EXECUTOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct phx_executor;
struct phx_transport;

#define PHX_WORKER_CONTROL 0xFFFFFFFFu // the caller is the rank's control thread, not a worker
#define PHX_TIME_NEVER UINT64_MAX

typedef void phx_body_fn(void *argument, uint32_t worker);

// What a piece of work costs; the simulator turns it into virtual time, others ignore it.
struct phx_cost {
    uint32_t operations; // leaf calls
    uint64_t bytes;      // bytes read plus written in local memory
};

struct phx_executor_ops { // no entry is NULL
    // Monotonic nanoseconds from an arbitrary origin; not comparable between ranks.
    uint64_t (*now_ns)(struct phx_executor *e, uint32_t worker);
    // Returns when one of the words changed since the caller last read it, or when now >= until_ns,
    // or earlier (callers check again). `until_ns` may lie in the past.
    void (*park)(struct phx_executor *e, uint32_t worker, const uint64_t *words, uint32_t count,
                 uint64_t until_ns);
    // The caller changed *word; workers of this rank parked on it return. NULL: all of them return.
    void (*wake)(struct phx_executor *e, uint32_t worker, const uint64_t *word);
    void (*charge)(struct phx_executor *e, uint32_t worker, struct phx_cost cost);
    // The caller loaded *word with acquire and acts on what it saw.
    void (*observe)(struct phx_executor *e, uint32_t worker, const uint64_t *word);
    // A leaf is about to read or write local memory. The simulator checks that memory which peers
    // write has been signalled, and reports a violation otherwise.
    void (*touch)(struct phx_executor *e, uint32_t worker, const void *base, uint64_t size_bytes,
                  int is_write);
    // Runs body(argument, 0..workers-1) concurrently, keeps the transport's events flowing to
    // `on_events` while they run, and returns when all have returned. 0, or PHX_ERR_ABORTED.
    int (*run)(struct phx_executor *e, phx_body_fn *body, void *argument, uint32_t workers,
               void (*on_events)(void *context), void *context);
    // Names what the caller does next, for traces and for faults that strike a phase
    // (enum phx_phase of kernels/layout.h); `number` counts from 1 per kind.
    void (*phase)(struct phx_executor *e, uint32_t worker, uint32_t phase, uint64_t number);
};

struct phx_executor { // the first member of each executor's own struct
    const struct phx_executor_ops *ops;
};

#ifdef __cplusplus
}
#endif

#endif
