// hw/clock.h: the clock of this host, the same for all its processes.

#ifndef PHX_HW_CLOCK_H
#define PHX_HW_CLOCK_H

#include <stdint.h>
#include <time.h>

// CLOCK_MONOTONIC, in nanoseconds.
static inline uint64_t phx_clock_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
