// engine/assert.c: the last words of a program that broke a rule.

#include "engine/assert.h"

#include <stdio.h>
#include <stdlib.h>

void phx_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}
