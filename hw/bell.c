// hw/bell.c: a futex that is shared between processes.

#include "hw/bell.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void phx_bell_ring(struct phx_bell *bell)
{
#if defined(PHX_TSAN) // which knows no fences
    if (__atomic_fetch_add(&bell->sleepers, 0, __ATOMIC_SEQ_CST) == 0)
        return;
#else
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&bell->sleepers, __ATOMIC_RELAXED) == 0)
        return;
#endif
    (void)__atomic_fetch_add(&bell->count, 1, __ATOMIC_SEQ_CST);
    (void)syscall(SYS_futex, &bell->count, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

uint32_t phx_bell_arm(struct phx_bell *bell)
{
    (void)__atomic_fetch_add(&bell->sleepers, 1, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&bell->count, __ATOMIC_SEQ_CST);
}

void phx_bell_disarm(struct phx_bell *bell)
{
    (void)__atomic_fetch_sub(&bell->sleepers, 1, __ATOMIC_RELAXED);
}

void phx_bell_sleep(struct phx_bell *bell, uint32_t ticket, uint64_t ns)
{
    // A day at a time: callers look again.
    const uint64_t most_ns = UINT64_C(86400) * 1000000000;
    uint64_t bounded_ns = ns < most_ns ? ns : most_ns;
    const struct timespec timeout = {.tv_sec = (time_t)(bounded_ns / 1000000000),
                                     .tv_nsec = (long)(bounded_ns % 1000000000)};
    (void)syscall(SYS_futex, &bell->count, FUTEX_WAIT, ticket, &timeout, NULL, 0);
}
