// sim/fiber_pthread.c: fibers as threads that hand one baton.
//
// Every fiber and the scheduler has a futex word; whoever holds the baton gives it by setting the
// other's word and waits on its own. The words order memory between the threads. Where the code is
// not instrumented, ThreadSanitizer sees no order in them, as with the other kind of fiber.
//
// A fiber that is destroyed where it stands gets the baton once more, with `unwind` set: it jumps
// back to its entry and its thread ends.

#define _DEFAULT_SOURCE // syscall()

#include <assert.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sim/fiber_ops.h"
#include "sim/sanitizer.h"

// Sanitizers put more on a stack than the 64 KiB that a fiber has otherwise, and so does gdb's
// user.
#define THREAD_STACK_BYTES (256u * 1024u)

struct fiber_thread {
    struct phx_fiber fiber;
    pthread_t thread;
    uint32_t baton;
    bool unwind;
    jmp_buf entry;
};

struct fibers_thread {
    struct phx_fibers fibers;
    uint32_t baton; // the scheduler's
};

static void baton_give(uint32_t *baton)
{
    __atomic_store_n(baton, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, baton, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void baton_take(uint32_t *baton)
{
    while (__atomic_load_n(baton, __ATOMIC_ACQUIRE) == 0)
        syscall(SYS_futex, baton, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    __atomic_store_n(baton, 0, __ATOMIC_RELAXED);
}

static struct phx_fibers *fibers_open(void)
{
    struct fibers_thread *all = calloc(1, sizeof *all);
    return all == NULL ? NULL : &all->fibers;
}

static void fibers_close(struct phx_fibers *fibers)
{
    free(fibers);
}

static void *thread_entry(void *argument)
{
    struct fiber_thread *f = argument;
    struct fibers_thread *all = (struct fibers_thread *)f->fiber.fibers;
    baton_take(&f->baton);
    if (setjmp(f->entry) == 0 && !f->unwind)
        f->fiber.main(f->fiber.argument);
    if (!f->unwind) {
        f->fiber.done = true;
        PHX_SIM_RELEASE(f);
        baton_give(&all->baton);
    }
    return NULL;
}

static struct phx_fiber *fiber_create(struct phx_fibers *fibers, phx_fiber_main *main,
                                      void *argument)
{
    struct fiber_thread *f = calloc(1, sizeof *f);
    if (f == NULL)
        return NULL;
    f->fiber = (struct phx_fiber){.fibers = fibers, .main = main, .argument = argument};
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0)
        goto err_fiber;
    if (pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES) != 0 ||
        pthread_create(&f->thread, &attributes, thread_entry, f) != 0)
        goto err_attributes;
    pthread_attr_destroy(&attributes);
    return &f->fiber;
err_attributes:
    pthread_attr_destroy(&attributes);
err_fiber:
    free(f);
    return NULL;
}

static void fiber_destroy(struct phx_fiber *fiber)
{
    struct fiber_thread *f = (struct fiber_thread *)fiber;
    if (!fiber->done) {
        f->unwind = true;
        baton_give(&f->baton);
    }
    int joined = pthread_join(f->thread, NULL);
    assert(joined == 0);
    (void)joined;
    free(f);
}

static void fiber_resume(struct phx_fiber *fiber)
{
    struct fiber_thread *f = (struct fiber_thread *)fiber;
    struct fibers_thread *all = (struct fibers_thread *)fiber->fibers;
    baton_give(&f->baton);
    baton_take(&all->baton);
    all->fibers.running = NULL;
}

static void fiber_yield(struct phx_fibers *fibers)
{
    struct fibers_thread *all = (struct fibers_thread *)fibers;
    struct fiber_thread *f = (struct fiber_thread *)fibers->running;
    PHX_SIM_RELEASE(f); // see fiber.h; the futexes themselves tell ThreadSanitizer nothing
    baton_give(&all->baton);
    baton_take(&f->baton);
    if (f->unwind)
        longjmp(f->entry, 1);
}

const struct phx_fiber_ops phx_fiber_pthread_ops = {
    .open = fibers_open,
    .close = fibers_close,
    .create = fiber_create,
    .destroy = fiber_destroy,
    .resume = fiber_resume,
    .yield = fiber_yield,
};
