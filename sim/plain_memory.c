// sim/plain_memory.c: the C library's memory functions for the simulator's own state under
// ThreadSanitizer.
//
// The sanitizer watches them in code that is not instrumented too, and would report the simulator's
// own tables as races between the fibers that take turns on them. In those builds sim/ is compiled
// with the names below in their place (sim/CMakeLists.txt), which tell it to look away meanwhile.

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);

#define LOOK_AWAY() AnnotateIgnoreWritesBegin(__FILE__, __LINE__) // from reads too
#define LOOK_AGAIN() AnnotateIgnoreWritesEnd(__FILE__, __LINE__)

void *phx_plain_memcpy(void *restrict to, const void *restrict from, size_t size);
void *phx_plain_memmove(void *to, const void *from, size_t size);
void *phx_plain_memset(void *to, int value, size_t size);
int phx_plain_memcmp(const void *a, const void *b, size_t size);
void *phx_plain_malloc(size_t size);
void *phx_plain_calloc(size_t count, size_t size);
void *phx_plain_realloc(void *memory, size_t size);
void phx_plain_free(void *memory);

void *phx_plain_memcpy(void *restrict to, const void *restrict from, size_t size)
{
    LOOK_AWAY();
    memcpy(to, from, size);
    LOOK_AGAIN();
    return to;
}

void *phx_plain_memmove(void *to, const void *from, size_t size)
{
    LOOK_AWAY();
    memmove(to, from, size);
    LOOK_AGAIN();
    return to;
}

void *phx_plain_memset(void *to, int value, size_t size)
{
    LOOK_AWAY();
    memset(to, value, size);
    LOOK_AGAIN();
    return to;
}

int phx_plain_memcmp(const void *a, const void *b, size_t size)
{
    LOOK_AWAY();
    int order = memcmp(a, b, size);
    LOOK_AGAIN();
    return order;
}

void *phx_plain_malloc(size_t size)
{
    LOOK_AWAY();
    void *memory = malloc(size);
    LOOK_AGAIN();
    return memory;
}

void *phx_plain_calloc(size_t count, size_t size)
{
    LOOK_AWAY();
    void *memory = calloc(count, size);
    LOOK_AGAIN();
    return memory;
}

void *phx_plain_realloc(void *memory, size_t size)
{
    LOOK_AWAY();
    void *moved = realloc(memory, size);
    LOOK_AGAIN();
    return moved;
}

void phx_plain_free(void *memory)
{
    LOOK_AWAY();
    free(memory);
    LOOK_AGAIN();
}
