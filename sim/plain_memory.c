// sim/plain_memory.c: memcpy() and its like for the simulator's own state under ThreadSanitizer.
//
// The sanitizer takes over the C library's, in code that is not instrumented too, and would report
// the simulator's own tables as races between the fibers that take turns on them. In those builds
// sim/ is compiled with the names below in their place (sim/CMakeLists.txt).

#include <stddef.h>

void *phx_plain_memcpy(void *restrict to, const void *restrict from, size_t size);
void *phx_plain_memmove(void *to, const void *from, size_t size);
void *phx_plain_memset(void *to, int value, size_t size);
int phx_plain_memcmp(const void *a, const void *b, size_t size);

void *phx_plain_memcpy(void *restrict to, const void *restrict from, size_t size)
{
    unsigned char *target = to;
    const unsigned char *source = from;
    for (size_t i = 0; i < size; i++)
        target[i] = source[i];
    return to;
}

void *phx_plain_memmove(void *to, const void *from, size_t size)
{
    unsigned char *target = to;
    const unsigned char *source = from;
    if (target <= source) {
        for (size_t i = 0; i < size; i++)
            target[i] = source[i];
        return to;
    }
    for (size_t i = size; i > 0; i--)
        target[i - 1] = source[i - 1];
    return to;
}

void *phx_plain_memset(void *to, int value, size_t size)
{
    unsigned char *target = to;
    for (size_t i = 0; i < size; i++)
        target[i] = (unsigned char)value;
    return to;
}

int phx_plain_memcmp(const void *a, const void *b, size_t size)
{
    const unsigned char *left = a, *right = b;
    for (size_t i = 0; i < size; i++)
        if (left[i] != right[i])
            return left[i] < right[i] ? -1 : 1;
    return 0;
}
