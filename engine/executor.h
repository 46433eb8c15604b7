// engine/executor.h: who runs a rank's workers, and what time it is for them.
//
// Three executors implement this table: the simulator's (fibers, or pthreads under a baton, in
// virtual time), a pool of pthreads with the host transports, and one that launches kernels on a
// GPU. Kernel bodies never see it: they see kernels/device.h, whose C target (kernels/device_c.h)
// calls these entries. GPU workers need none; their executor's memory is not the control thread's,
// so it has a second table.
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
struct phx_rank;        // kernels/rank.h, as is
struct phx_handle_view; // what a handle hands from dispatch to combine

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
    // `on_events` while they run, and returns when all have returned. 0, PHX_ERR_ABORTED, or
    // PHX_ERR_DEVICE_LOST.
    int (*run)(struct phx_executor *e, phx_body_fn *body, void *argument, uint32_t workers,
               void (*on_events)(void *context), void *context);
    // Names what the caller does next, for traces and for faults that strike a phase
    // (enum phx_phase of kernels/layout.h); `number` counts from 1 per kind.
    void (*phase)(struct phx_executor *e, uint32_t worker, uint32_t phase, uint64_t number);
};

// Of an executor whose workers have memory of their own: what launches name has a twin there, made
// before the first launch that names it. `run` copies the control thread's to the twin before the
// workers start, and back what they changed, so that the engine reads and writes its own. The
// user's tensors have no twins: they must lie where the workers reach them, and the control thread
// may not.
struct phx_twin_ops { // no entry is NULL; 0, PHX_ERR_NO_MEMORY or PHX_ERR_DEVICE_LOST
    int (*rank_open)(struct phx_executor *e, const struct phx_rank *rank);
    void (*rank_close)(struct phx_executor *e, const struct phx_rank *rank);
    // answered: [ranks], of the handle's last combine.
    int (*handle_open)(struct phx_executor *e, const struct phx_rank *rank,
                       const struct phx_handle_view *view, uint64_t *answered);
    void (*handle_close)(struct phx_executor *e, const struct phx_rank *rank,
                         const struct phx_handle_view *view);
    // Copies from the control thread's memory into a tensor of the user's. If the device was lost,
    // the next `run` says so.
    void (*store)(struct phx_executor *e, void *to, const void *from, uint64_t size_bytes);
    // Why `run` failed, if there is more to say than its error; else "".
    const char *(*said)(struct phx_executor *e);
};

struct phx_executor { // the first member of each executor's own struct
    const struct phx_executor_ops *ops;
    const struct phx_twin_ops *twins; // NULL: workers share the control thread's memory
};

#ifdef __cplusplus
}
#endif

#endif
