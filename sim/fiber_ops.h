// sim/fiber_ops.h: what a kind of fiber fills in; only fiber*.c include it.

#ifndef PHX_SIM_FIBER_OPS_H
#define PHX_SIM_FIBER_OPS_H

#include "sim/fiber.h"

struct phx_fiber_ops {
    struct phx_fibers *(*open)(void); // NULL: no memory
    void (*close)(struct phx_fibers *fibers);
    struct phx_fiber *(*create)(struct phx_fibers *fibers, phx_fiber_main *main, void *argument);
    void (*destroy)(struct phx_fiber *fiber);
    void (*resume)(struct phx_fiber *fiber); // sets fibers->running to NULL before it returns
    void (*yield)(struct phx_fibers *fibers);
};

struct phx_fibers { // the first member of each kind's own struct
    const struct phx_fiber_ops *ops;
    struct phx_fiber *running; // NULL: the scheduler
    uint64_t alive;
};

struct phx_fiber { // likewise
    struct phx_fibers *fibers;
    phx_fiber_main *main;
    void *argument;
    bool done;
};

extern const struct phx_fiber_ops phx_fiber_context_ops; // with PHX_HAVE_BOOST_CONTEXT
extern const struct phx_fiber_ops phx_fiber_pthread_ops;

#endif
