// tests/check.c: what the checks of test.h compare and print, for both runners.

#include "tests/test.h"

#include <stdio.h>
#include <string.h>

enum { SHOWN_BYTES = 16 };

void phx_test_eq(struct phx_test_place place, const char *a_text, const char *b_text, intmax_t a,
                 intmax_t b)
{
    if (a == b)
        return;
    phx_test_fail(place, "CHECK_EQ(%s, %s): %jd (%#jx) is not %jd (%#jx)", a_text, b_text, a,
                  (uintmax_t)a, b, (uintmax_t)b);
}

void phx_test_str_eq(struct phx_test_place place, const char *a_text, const char *b_text,
                     const char *a, const char *b)
{
    if (a == b || (a != NULL && b != NULL && strcmp(a, b) == 0))
        return;
    phx_test_fail(place, "CHECK_STR_EQ(%s, %s): %s%s%s is not %s%s%s", a_text, b_text,
                  a != NULL ? "\"" : "", a != NULL ? a : "NULL", a != NULL ? "\"" : "",
                  b != NULL ? "\"" : "", b != NULL ? b : "NULL", b != NULL ? "\"" : "");
}

// Writes up to SHOWN_BYTES bytes from `from` as hexadecimal.
static void bytes_show(char *text, size_t text_size, const unsigned char *bytes, size_t from,
                       size_t size_bytes)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t i = from; i < size_bytes && i < from + SHOWN_BYTES; i++) {
        int wrote =
            snprintf(text + used, text_size - used, "%s%02x", i > from ? " " : "", bytes[i]);
        if (wrote < 0)
            return;
        used += (size_t)wrote;
    }
}

void phx_test_mem_eq(struct phx_test_place place, const char *a_text, const char *b_text,
                     const void *a, const void *b, size_t size_bytes)
{
    const unsigned char *x = (const unsigned char *)a;
    const unsigned char *y = (const unsigned char *)b;
    size_t first = 0;
    while (first < size_bytes && x[first] == y[first])
        first++;
    if (first == size_bytes)
        return;
    size_t differing = 0;
    for (size_t i = first; i < size_bytes; i++)
        differing += x[i] != y[i];
    char x_text[3 * SHOWN_BYTES + 1];
    char y_text[3 * SHOWN_BYTES + 1];
    bytes_show(x_text, sizeof x_text, x, first, size_bytes);
    bytes_show(y_text, sizeof y_text, y, first, size_bytes);
    phx_test_fail(place,
                  "CHECK_MEM_EQ(%s, %s): %zu of %zu bytes differ, the first at offset %zu: "
                  "%s is not %s",
                  a_text, b_text, differing, size_bytes, first, x_text, y_text);
}
