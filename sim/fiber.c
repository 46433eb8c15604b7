// sim/fiber.c: picks the kind of fiber and keeps count.

#include <assert.h>

#include "sim/fiber_ops.h"

int phx_fibers_create(enum phx_fiber_mode mode, struct phx_fibers **fibers,
                      struct phx_message *message)
{
    const struct phx_fiber_ops *ops = NULL;
    switch (mode) {
    case PHX_FIBERS:
#if PHX_HAVE_BOOST_CONTEXT
        ops = &phx_fiber_context_ops;
        break;
#else
        return phx_fail(message, PHX_ERR_UNSUPPORTED,
                        "fibers: this build lacks Boost.Context (libboost-context-dev); "
                        "fibers as pthreads work without it");
#endif
    case PHX_PTHREADS:
        ops = &phx_fiber_pthread_ops;
        break;
    default:
        return phx_fail(message, PHX_ERR_INVALID,
                        "fibers is %d; it may be PHX_FIBERS (%d) or PHX_PTHREADS (%d)", (int)mode,
                        (int)PHX_FIBERS, (int)PHX_PTHREADS);
    }
    struct phx_fibers *made = ops->open();
    if (made == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the table of fibers");
    made->ops = ops;
    *fibers = made;
    return 0;
}

void phx_fibers_destroy(struct phx_fibers *fibers)
{
    if (fibers == NULL)
        return;
    assert(fibers->alive == 0 && fibers->running == NULL);
    fibers->ops->close(fibers);
}

struct phx_fiber *phx_fiber_create(struct phx_fibers *fibers, phx_fiber_main *main, void *argument)
{
    assert(main != NULL);
    struct phx_fiber *fiber = fibers->ops->create(fibers, main, argument);
    if (fiber != NULL)
        fibers->alive++;
    return fiber;
}

void phx_fiber_destroy(struct phx_fiber *fiber)
{
    struct phx_fibers *fibers = fiber->fibers;
    assert(fibers->running != fiber && fibers->alive > 0);
    fibers->alive--;
    fibers->ops->destroy(fiber);
}

void phx_fiber_resume(struct phx_fiber *fiber)
{
    struct phx_fibers *fibers = fiber->fibers;
    assert(fibers->running == NULL && !fiber->done);
    fibers->running = fiber;
    // The last call, here and in yield: a return across a switch of stacks is one that the
    // processor predicts wrongly, so there should be one each way.
    fibers->ops->resume(fiber);
}

void phx_fiber_yield(struct phx_fibers *fibers)
{
    assert(fibers->running != NULL);
    fibers->ops->yield(fibers);
}

bool phx_fiber_done(const struct phx_fiber *fiber)
{
    return fiber->done;
}

uint64_t phx_fibers_alive(const struct phx_fibers *fibers)
{
    return fibers->alive;
}
