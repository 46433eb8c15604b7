// hw/shm_pages.c: memory files with huge pages where there are any, on the reader's memory node.

#include "hw/shm_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/error.h"
#include "hw/shm_internal.h"

#ifndef MFD_HUGE_2MB
#define MFD_HUGE_2MB (21u << 26)
#endif

#define NODES_MAX 1024u

// --- memory nodes -------------------------------------------------------------------------------

uint32_t phx_numa_nodes(void)
{
    // As "0" or "0-3" or "0,2-3": the last number is the highest node.
    FILE *file = fopen("/sys/devices/system/node/online", "r");
    char line[256] = "";
    bool is_read = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (file != NULL)
        (void)fclose(file);
    const char *last = line;
    for (const char *c = line; is_read && *c != '\0'; c++)
        if (*c == '-' || *c == ',')
            last = c + 1;
    long highest = strtol(last, NULL, 10);
    return highest > 0 && highest < (long)NODES_MAX ? (uint32_t)highest + 1 : 1;
}

bool phx_numa_prefer_here(void *mapped, uint64_t size_bytes)
{
    unsigned long mask[NODES_MAX / (8 * sizeof(unsigned long))] = {0};
    const unsigned bits = 8 * sizeof(unsigned long);
    unsigned cpu;
    unsigned node;
    if (phx_numa_nodes() == 1 || syscall(SYS_getcpu, &cpu, &node, NULL) != 0 || node >= NODES_MAX)
        return false;
    mask[node / bits] = 1ul << node % bits;
    return syscall(SYS_mbind, mapped, size_bytes, MPOL_PREFERRED, mask, NODES_MAX, 0) == 0;
}

// --- files --------------------------------------------------------------------------------------

static int why(void)
{
    return errno == ENOMEM || errno == ENOSPC ? PHX_ERR_NO_MEMORY : PHX_ERR_IO;
}

static int pages_map(uint64_t size_bytes, struct phx_shm_pages *pages)
{
    if (pages->file < 0)
        return why();
    pages->mapped = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, pages->file,
                         (off_t)pages->offset_bytes);
    if (pages->mapped == MAP_FAILED) {
        (void)close(pages->file);
        return PHX_ERR_NO_MEMORY;
    }
    (void)phx_numa_prefer_here(pages->mapped, size_bytes);
    return 0;
}

static int make_small(const void *base, uint64_t size_bytes, struct phx_shm_pages *pages)
{
    // The place in a huge page is the same in the file as in memory, or none could be mapped.
    pages->offset_bytes =
        size_bytes >= PHX_HUGE_PAGE_BYTES ? (uintptr_t)base % PHX_HUGE_PAGE_BYTES : 0;
    pages->is_reserved = false;
    pages->file = phx_shm_file("phx-region", pages->offset_bytes + size_bytes, 0);
    int error = pages_map(size_bytes, pages);
    if (error == 0)
        (void)madvise(pages->mapped, size_bytes, MADV_HUGEPAGE); // where the system has them
    return error;
}

int phx_shm_pages_make(const void *base, uint64_t size_bytes, struct phx_shm_pages *pages)
{
    if ((uintptr_t)base % PHX_HUGE_PAGE_BYTES == 0 && size_bytes % PHX_HUGE_PAGE_BYTES == 0) {
        pages->offset_bytes = 0;
        pages->is_reserved = true;
        // The mapping reserves them all, so that no later touch can find none.
        pages->file = phx_shm_file("phx-region", size_bytes, MFD_HUGETLB | MFD_HUGE_2MB);
        if (pages_map(size_bytes, pages) == 0)
            return 0;
    }
    return make_small(base, size_bytes, pages);
}

uint64_t phx_shm_pages_transparent(void)
{
    static const char key[] = "ShmemPmdMapped:";
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    unsigned long long kib = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, sizeof key - 1) == 0)
            kib = strtoull(line + sizeof key - 1, NULL, 10);
    if (file != NULL)
        (void)fclose(file);
    return kib * 1024;
}
