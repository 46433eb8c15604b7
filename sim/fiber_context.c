// sim/fiber_context.c: fibers as stacks in one thread, switched by Boost.Context's two C entries.
//
//   low  [guard page][ 64 KiB stack ........ struct phx_fiber_context ] high
//
// The fiber's own struct lies at the top of its mapping, above the stack, so that one mmap holds it
// all and a free mapping can be chained through it.

#define _DEFAULT_SOURCE // MAP_ANONYMOUS, MAP_NORESERVE

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "sim/fiber_ops.h"
#include "sim/sanitizer.h"

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define HAVE_VALGRIND 1
#endif
#endif
#if !defined(HAVE_VALGRIND)
#define HAVE_VALGRIND 0
#endif

// Boost declares these in C++ alone; the assembly behind them is plain C ABI.
struct transfer {
    void *from; // the context that jumped here, suspended
    void *data;
};
struct transfer jump_fcontext(void *to, void *data);
void *make_fcontext(void *stack_high, size_t stack_bytes, void (*entry)(struct transfer));

#if defined(PHX_ASAN) && PHX_ASAN
void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack_save, const void **bottom_old,
                                     size_t *size_old);
void __asan_unpoison_memory_region(void const volatile *address, size_t size);
#endif
#if defined(PHX_TSAN) && PHX_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_set_fiber_name(void *fiber, const char *name);
#define TSAN_NO_SYNC 1u // the switch makes nothing visible: what workers share, they must order
#endif

#define GUARD_BYTES 4096u
#define HEAD_BYTES 4096u // room for the struct above the stack, and keeps the stack's top aligned
#define MAPPING_BYTES (GUARD_BYTES + PHX_FIBER_STACK_BYTES + HEAD_BYTES)

struct fiber_context {
    struct phx_fiber fiber;
    void *context; // where it stands, while suspended
    void *fake_stack;
    void *tsan;
    unsigned valgrind_id;
    struct fiber_context *next_free;
};

struct fibers_context {
    struct phx_fibers fibers;
    void *scheduler; // where it stands, while a fiber runs
    void *scheduler_fake_stack;
    const void *scheduler_bottom;
    size_t scheduler_bytes;
    void *scheduler_tsan;
    struct fiber_context *free;
};

static char *stack_low(const struct fiber_context *f)
{
    return (char *)(uintptr_t)f - PHX_FIBER_STACK_BYTES;
}

// A switch restores the floating-point status of the stack that it enters, and loading a status
// that differs from the current one costs ten times the switch (60 ns against 6). The only bits
// that differ between stacks are the sticky flags of past exceptions, which nothing here reads. So
// they are all set before the first stack is made, which inherits them, and no status differs from
// then on.
static void status_flags_set(void)
{
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | _MM_EXCEPT_MASK);
#endif
}

static struct phx_fibers *fibers_open(void)
{
    status_flags_set();
    struct fibers_context *all = calloc(1, sizeof *all);
    return all == NULL ? NULL : &all->fibers;
}

static void fibers_close(struct phx_fibers *fibers)
{
    struct fibers_context *all = (struct fibers_context *)fibers;
    while (all->free != NULL) {
        struct fiber_context *f = all->free;
        all->free = f->next_free;
#if HAVE_VALGRIND
        VALGRIND_STACK_DEREGISTER(f->valgrind_id);
#endif
#if defined(PHX_ASAN) && PHX_ASAN
        // The next mapping there, whosever it is, must not inherit the red zones of frames.
        __asan_unpoison_memory_region(stack_low(f) - GUARD_BYTES, MAPPING_BYTES);
#endif
        munmap(stack_low(f) - GUARD_BYTES, MAPPING_BYTES);
    }
    free(all);
}

// --- switches ------------------------------------------------------------------------------------

// Runs first on a new stack and last on one that is done.
static void fiber_entry(struct transfer transfer)
{
    struct fiber_context *f = transfer.data;
    struct fibers_context *all = (struct fibers_context *)f->fiber.fibers;
    all->scheduler = transfer.from;
#if defined(PHX_ASAN) && PHX_ASAN
    __sanitizer_finish_switch_fiber(NULL, &all->scheduler_bottom, &all->scheduler_bytes);
#endif
    PHX_SIM_ACQUIRE(f);
    f->fiber.main(f->fiber.argument);
    f->fiber.done = true;
    PHX_SIM_RELEASE(f);
#if defined(PHX_ASAN) && PHX_ASAN
    __sanitizer_start_switch_fiber(NULL, all->scheduler_bottom, all->scheduler_bytes);
#endif
#if defined(PHX_TSAN) && PHX_TSAN
    __tsan_switch_to_fiber(all->scheduler_tsan, TSAN_NO_SYNC);
#endif
    jump_fcontext(all->scheduler, NULL);
    abort(); // a fiber that is done is never resumed: phx_fiber_resume() asserts it
}

static void fiber_resume(struct phx_fiber *fiber)
{
    struct fiber_context *f = (struct fiber_context *)fiber;
    struct fibers_context *all = (struct fibers_context *)fiber->fibers;
#if defined(PHX_ASAN) && PHX_ASAN
    __sanitizer_start_switch_fiber(&all->scheduler_fake_stack, stack_low(f), PHX_FIBER_STACK_BYTES);
#endif
#if defined(PHX_TSAN) && PHX_TSAN
    all->scheduler_tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(f->tsan, TSAN_NO_SYNC);
#endif
    struct transfer back = jump_fcontext(f->context, f);
    f->context = back.from;
    all->fibers.running = NULL;
#if defined(PHX_ASAN) && PHX_ASAN
    __sanitizer_finish_switch_fiber(all->scheduler_fake_stack, NULL, NULL);
#endif
}

static void fiber_yield(struct phx_fibers *fibers)
{
    struct fibers_context *all = (struct fibers_context *)fibers;
    struct fiber_context *f = (struct fiber_context *)fibers->running;
    PHX_SIM_RELEASE(f); // see fiber.h
#if defined(PHX_ASAN) && PHX_ASAN
    __sanitizer_start_switch_fiber(&f->fake_stack, all->scheduler_bottom, all->scheduler_bytes);
#endif
#if defined(PHX_TSAN) && PHX_TSAN
    __tsan_switch_to_fiber(all->scheduler_tsan, TSAN_NO_SYNC);
#endif
    struct transfer back = jump_fcontext(all->scheduler, NULL);
    all->scheduler = back.from;
#if defined(PHX_ASAN) && PHX_ASAN
    __sanitizer_finish_switch_fiber(f->fake_stack, &all->scheduler_bottom, &all->scheduler_bytes);
#endif
}

// --- stacks --------------------------------------------------------------------------------------

static struct fiber_context *mapping_make(void)
{
    char *base = mmap(NULL, MAPPING_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    if (mprotect(base, GUARD_BYTES, PROT_NONE) != 0) {
        munmap(base, MAPPING_BYTES);
        return NULL;
    }
    struct fiber_context *f = (void *)(base + GUARD_BYTES + PHX_FIBER_STACK_BYTES);
#if HAVE_VALGRIND
    f->valgrind_id = VALGRIND_STACK_REGISTER(base + GUARD_BYTES, (char *)f - 1);
#endif
    return f;
}

static struct phx_fiber *fiber_create(struct phx_fibers *fibers, phx_fiber_main *main,
                                      void *argument)
{
    struct fibers_context *all = (struct fibers_context *)fibers;
    struct fiber_context *f = all->free;
    if (f != NULL)
        all->free = f->next_free;
    else
        f = mapping_make();
    if (f == NULL)
        return NULL;
    unsigned valgrind_id = f->valgrind_id;
    *f = (struct fiber_context){
        .fiber = {.fibers = fibers, .main = main, .argument = argument},
        .valgrind_id = valgrind_id,
    };
#if defined(PHX_ASAN) && PHX_ASAN
    // Frames that a killed fiber never left still have their red zones.
    __asan_unpoison_memory_region(stack_low(f), PHX_FIBER_STACK_BYTES);
#endif
#if defined(PHX_TSAN) && PHX_TSAN
    f->tsan = __tsan_create_fiber(0);
    __tsan_set_fiber_name(f->tsan, "fiber");
#endif
    PHX_SIM_RELEASE(f);
    f->context = make_fcontext((char *)f, PHX_FIBER_STACK_BYTES, fiber_entry);
    return &f->fiber;
}

static void fiber_destroy(struct phx_fiber *fiber)
{
    struct fiber_context *f = (struct fiber_context *)fiber;
    struct fibers_context *all = (struct fibers_context *)fiber->fibers;
    PHX_SIM_ACQUIRE(f);
#if defined(PHX_TSAN) && PHX_TSAN
    __tsan_destroy_fiber(f->tsan);
#endif
    f->next_free = all->free;
    all->free = f;
}

const struct phx_fiber_ops phx_fiber_context_ops = {
    .open = fibers_open,
    .close = fibers_close,
    .create = fiber_create,
    .destroy = fiber_destroy,
    .resume = fiber_resume,
    .yield = fiber_yield,
};
