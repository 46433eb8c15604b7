// tests/test_bench_stats.c: what a list of samples says.

#include <math.h>

#include "tools/bench_stats.h"
#include "tests/test.h"

TEST(stats_of_one)
{
    double v[] = {7};
    struct phx_stats s = phx_stats_make(v, 1);
    CHECK(s.min == 7 && s.median == 7 && s.p99 == 7 && isnan(s.median_low));
}

// Of 21 samples the 7th is below the median with 96.1 %, the 8th with 90.5 % (sign test).
TEST(stats_bound_is_the_sign_tests)
{
    double v[21];
    for (int i = 0; i < 21; i++)
        v[i] = 21 - i;
    struct phx_stats s = phx_stats_make(v, 21);
    CHECK(s.min == 1 && s.median == 11 && s.p99 == 21);
    CHECK(s.median_low == 7);
}

TEST(stats_of_few_samples_have_no_bound)
{
    double v[5] = {5, 4, 3, 2, 1};
    CHECK(isnan(phx_stats_make(v, 4).median_low));
    CHECK(phx_stats_make(v, 5).median_low == 1); // all five above the median: 3.1 %
}

// Of 100 the 42nd: P(at most 41 of 100 fair coins) is 4.4 %, of 42 it is 6.7 %.
TEST(stats_of_a_hundred)
{
    double v[100];
    for (int i = 0; i < 100; i++)
        v[i] = i + 1;
    struct phx_stats s = phx_stats_make(v, 100);
    CHECK(s.median == 50.5 && s.p99 == 99);
    CHECK(s.median_low == 42);
}
