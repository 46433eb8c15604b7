// sim/pages.c: mappings.

#define _DEFAULT_SOURCE // MAP_ANONYMOUS, madvise()

#include "sim/pages.h"

#include <sys/mman.h>

#define HUGE_BYTES_MIN ((size_t)2 << 20)

void *phx_pages_take(size_t size_bytes)
{
    if (size_bytes == 0)
        return NULL;
    void *pages = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    if (size_bytes >= HUGE_BYTES_MIN)
        (void)madvise(pages, size_bytes, MADV_HUGEPAGE); // a wish; small pages do as well
    return pages;
}

void phx_pages_give(void *pages, size_t size_bytes)
{
    if (pages != NULL)
        (void)munmap(pages, size_bytes);
}
