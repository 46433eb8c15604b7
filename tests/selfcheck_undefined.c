// Planted: a signed addition that overflows.

#include "tests/test.h"

#include <limits.h>

TEST(selfcheck_overflows_an_int)
{
    volatile int most = INT_MAX;
    volatile int sum = most + 1;
    CHECK(sum != 0);
}
