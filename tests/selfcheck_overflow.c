// Planted: a write one byte behind an allocation.

#include "tests/test.h"

#include <stdlib.h>

TEST(selfcheck_overflows)
{
    volatile size_t size_bytes = 100; // unknown to the compiler, which would find the fault itself
    unsigned char *bytes = (unsigned char *)malloc(size_bytes);
    CHECK(bytes != NULL);
    volatile unsigned char *target = bytes;
    target[size_bytes] = 1;
    free(bytes);
}
