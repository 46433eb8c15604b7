// hw/shm_pages.h: the pages that regions lie in: of which size, and on which memory node.
//
// A region of whole huge pages, at such an address, takes reserved ones (hugetlb) where enough are
// free. Every other takes ordinary ones, laid out so that the system may put transparent huge pages
// under it (shmem_enabled) and asked to. With several memory nodes a region's pages are asked for
// on that of the thread that makes it, which is the rank that reads it; with one there is nothing
// to place. Threads: any.

#ifndef PHX_HW_SHM_PAGES_H
#define PHX_HW_SHM_PAGES_H

#include <stdbool.h>
#include <stdint.h>

#define PHX_HUGE_PAGE_BYTES (UINT64_C(2) << 20)

struct phx_shm_pages { // a memory file, mapped here
    int file;
    uint64_t offset_bytes; // of the region in it
    void *mapped;          // not yet where the region is
    bool is_reserved;      // hugetlb
};
// For the region that is to lie at `base`. 0, or a negative enum phx_error; nothing is left then.
int phx_shm_pages_make(const void *base, uint64_t size_bytes, struct phx_shm_pages *pages);

// Of this process, all its shared memory: bytes under transparent huge pages.
uint64_t phx_shm_pages_transparent(void);

// Memory nodes of this machine; 1 where it does not say.
uint32_t phx_numa_nodes(void);
// Asks for the pages of a mapping on the memory node that this thread runs on, before any is
// touched. False: not done, because there is one node, or the system refused.
bool phx_numa_prefer_here(void *mapped, uint64_t size_bytes);

#endif
