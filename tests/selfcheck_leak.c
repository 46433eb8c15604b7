// Planted: a test that passes and leaks, which only the sanitizer's log tells.

#include "tests/test.h"

#include <stdlib.h>

static void *volatile kept;

TEST(selfcheck_leaks)
{
    kept = malloc(100);
    CHECK(kept != NULL);
    kept = NULL; // the only pointer to it is gone
}
