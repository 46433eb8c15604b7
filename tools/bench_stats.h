// tools/bench_stats.h: what a list of samples says.

#ifndef PHX_TOOLS_BENCH_STATS_H
#define PHX_TOOLS_BENCH_STATS_H

#include <stdint.h>

struct phx_stats {
    double min;
    double median;
    double p99;        // the nearest sample at or above; the largest with fewer than 100
    double median_low; // the median of what is sampled is above this with 95 % confidence
};

// Sorts values[count]; count >= 1. The bound is an order statistic (sign test): no distribution is
// assumed. NAN with fewer than 5 samples, of which none is that low.
struct phx_stats phx_stats_make(double *values, uint32_t count);

#endif
