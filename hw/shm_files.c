// hw/shm_files.c: regions of host memory: memory files in place of the registered pages.

#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hw/shm_internal.h"
#include "hw/shm_pages.h"

// Puts what is mapped at `fresh` in the place of base, with base's bytes. Other threads that read
// base meanwhile see the same bytes before and after.
static int replace(void *base, void *fresh, uint64_t size_bytes)
{
    memcpy(fresh, base, size_bytes);
    if (mremap(fresh, size_bytes, size_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, base) != MAP_FAILED)
        return 0;
    (void)munmap(fresh, size_bytes);
    return PHX_ERR_NO_MEMORY;
}

// The same for memory in a file, which is mapped a second time: not every kernel moves a mapping of
// huge pages, and one that refuses has taken away what stood there.
static int replace_by_file(void *base, const struct phx_shm_pages *pages, uint64_t size_bytes)
{
    memcpy(pages->mapped, base, size_bytes);
    void *placed = mmap(base, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                        pages->file, (off_t)pages->offset_bytes);
    (void)munmap(pages->mapped, size_bytes);
    if (placed == MAP_FAILED)
        return PHX_ERR_NO_MEMORY;
    if (!pages->is_reserved)
        (void)madvise(base, size_bytes, MADV_HUGEPAGE); // where the system has them
    return 0;
}

static int make(struct phx_shm *shm, struct phx_shm_mem *m)
{
    (void)shm;
    if (m->peer == PHX_WRITER_NONE)
        return 0; // nobody else needs it
    struct phx_shm_pages pages;
    int error = phx_shm_pages_make(m->base, m->size_bytes, &pages);
    if (error != 0)
        return error;
    error = replace_by_file(m->base, &pages, m->size_bytes);
    if (error != 0) {
        (void)close(pages.file);
        return error;
    }
    m->file = pages.file;
    m->file_offset = pages.offset_bytes;
    m->is_reserved = pages.is_reserved;
    return 0;
}

// The region goes on as this process's own memory; its file is left to whoever still maps it. No
// memory for that: the pages stay shared, which the caller is told.
static int renew(struct phx_shm *shm, struct phx_shm_mem *m)
{
    (void)shm;
    if (m->file < 0)
        return 0;
    void *fresh =
        mmap(NULL, m->size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fresh == MAP_FAILED)
        return PHX_ERR_NO_MEMORY;
    int error = replace(m->base, fresh, m->size_bytes);
    if (error != 0)
        return error;
    (void)close(m->file);
    m->file = -1;
    return 0;
}

static void drop(struct phx_shm *shm, struct phx_shm_mem *m)
{
    (void)renew(shm, m); // out of memory: late stores of that one peer still arrive
}

// What lies beyond a file's end would fault when it is written.
static bool is_in_file(int file, const struct phx_shm_answer *a)
{
    struct stat stat;
    return fstat(file, &stat) == 0 && a->offset_bytes % PHX_SHM_PAGE_BYTES == 0 &&
           a->offset_bytes <= (uint64_t)stat.st_size &&
           a->size_bytes <= (uint64_t)stat.st_size - a->offset_bytes;
}

// Of an owner that is gone there is nothing to map, and no address either: posts see that.
static int map(struct phx_shm *shm, struct phx_shm_mem *m, int file,
               const struct phx_shm_answer *answer)
{
    if (file < 0)
        return 0;
    if (answer->memory != shm->memory->kind) {
        (void)phx_fail(&shm->base.said, 0, "its regions are not host memory, as this rank's are");
        return PHX_ERR_MISMATCH;
    }
    if (!is_in_file(file, answer))
        return 0;
    void *base = mmap(NULL, answer->size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file,
                      (off_t)answer->offset_bytes);
    if (base == MAP_FAILED)
        return PHX_ERR_NO_MEMORY;
    (void)madvise(base, answer->size_bytes, MADV_HUGEPAGE);
    m->base = base;
    m->size_bytes = answer->size_bytes;
    return 0;
}

static void unmap(struct phx_shm *shm, struct phx_shm_mem *m)
{
    (void)shm;
    (void)munmap(m->base, m->size_bytes);
}

const struct phx_shm_memory phx_shm_files = {
    .name = "shm",
    .kind = PHX_SHM_MEMORY_FILES,
    .make = make,
    .renew = renew,
    .drop = drop,
    .map = map,
    .unmap = unmap,
};
