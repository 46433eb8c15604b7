// tools/bench_stats.c: order statistics.

#include "tools/bench_stats.h"

#include <math.h>
#include <stdlib.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

// The largest k such that at most 5 % of all binomial(count, 1/2) draws are below k: then the k-th
// least sample (from 1) is below the median with 95 % confidence.
static uint32_t low_rank(uint32_t count)
{
    double log_choose = -(double)count * log(2.0);
    double below = 0;
    uint32_t k = 0;
    while (k < count) {
        below += exp(log_choose);
        if (below > 0.05)
            return k;
        k++;
        log_choose += log((double)(count - k + 1)) - log((double)k);
    }
    return k;
}

struct phx_stats phx_stats_make(double *values, uint32_t count)
{
    qsort(values, count, sizeof *values, compare);
    uint32_t low = low_rank(count);
    uint32_t p99 = (uint32_t)(((uint64_t)count * 99 + 99) / 100);
    return (struct phx_stats){
        .min = values[0],
        .median =
            count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2,
        .p99 = values[p99 > 0 ? p99 - 1 : 0],
        .median_low = low > 0 ? values[low - 1] : (double)NAN,
    };
}
