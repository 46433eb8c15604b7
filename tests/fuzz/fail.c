// tests/fuzz/fail.c: CHECK() of tests/test.h for the test helpers that fuzz targets link.

#include "tests/test.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void phx_test_fail(struct phx_test_place place, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)fprintf(stderr, "%s:%d: ", place.file, place.line);
    (void)vfprintf(stderr, format, arguments);
    (void)fprintf(stderr, "\n");
    va_end(arguments);
    abort();
}
