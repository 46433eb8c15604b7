// hw/shm_memory.c: regions that peers write, and those of peers: handles, keys, and who may have
// which. What they are made of is behind struct phx_shm_memory.
//
// Handles are never used twice: an epoch is the handle's number plus one, and 0 once released. The
// owner shows live epochs on its page, where writers look before each op.

#include "hw/shm_internal.h"

#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "engine/assert.h"
#include "hw/shm_pages.h"

static struct phx_shm_mem *mem_take(struct phx_shm *shm, struct phx_mem *mem)
{
    if (shm->mem_count == PHX_SHM_MEMS)
        return NULL;
    struct phx_shm_mem *m = &shm->mems[shm->mem_count];
    mem->index = shm->mem_count++;
    mem->epoch = mem->index + 1;
    m->file = -1;
    return m;
}

// Last of all: from here on workers and peers may find it.
static void mem_publish(struct phx_shm *shm, struct phx_mem mem)
{
    __atomic_store_n(&shm->mems[mem.index].epoch, mem.epoch, __ATOMIC_RELEASE);
    __atomic_store_n(&shm->page->live_epoch[mem.index], mem.epoch, __ATOMIC_RELEASE);
}

struct phx_shm_mem *phx_shm_mem_find(const struct phx_shm *shm, struct phx_mem mem)
{
    if (mem.index >= PHX_SHM_MEMS || mem.epoch == 0)
        return NULL;
    struct phx_shm_mem *m = &shm->mems[mem.index];
    return __atomic_load_n(&m->epoch, __ATOMIC_ACQUIRE) == mem.epoch ? m : NULL;
}

int phx_shm_mem_register(struct phx_transport *t, void *base, uint64_t size_bytes, uint16_t writer,
                         struct phx_mem *mem, struct phx_mem_key *key)
{
    struct phx_shm *shm = phx_shm_of(t);
    bool is_written = writer != PHX_WRITER_NONE;
    if (is_written &&
        (writer >= shm->options.ranks || (uintptr_t)base % PHX_SHM_PAGE_BYTES != 0 ||
         size_bytes % PHX_SHM_PAGE_BYTES != 0))
        return PHX_ERR_INVALID; // regions are whole pages
    uint64_t nonce = 0;
    if (is_written && getrandom(&nonce, sizeof nonce, 0) != (ssize_t)sizeof nonce)
        return PHX_ERR_IO;
    struct phx_mem handle;
    pthread_mutex_lock(&shm->lock);
    struct phx_shm_mem *m = mem_take(shm, &handle);
    int error = m == NULL ? PHX_ERR_NO_MEMORY : 0;
    if (error == 0) {
        m->peer = writer;
        m->base = base;
        m->size_bytes = size_bytes;
        m->nonce = nonce;
        error = shm->memory->make(shm, m);
    }
    if (error == 0)
        mem_publish(shm, handle);
    pthread_mutex_unlock(&shm->lock);
    if (error != 0)
        return error;
    if (key != NULL) {
        const struct phx_shm_key k = {.rank = (uint16_t)shm->options.rank,
                                      .incarnation = (uint16_t)shm->options.incarnation,
                                      .writer = writer,
                                      .index = handle.index,
                                      .epoch = handle.epoch,
                                      .size_bytes = size_bytes,
                                      .nonce = nonce};
        memcpy(key->bytes, &k, sizeof k);
    }
    *mem = handle;
    return 0;
}

// The owner's file, mapped here. An owner that is gone, or that does not give it to this rank,
// leaves an import without memory: ops on it fail.
static int map_import(struct phx_shm *shm, struct phx_shm_mem *m, const struct phx_shm_key *k)
{
    if (k->rank == shm->options.rank && k->incarnation == (uint16_t)shm->options.incarnation) {
        const struct phx_shm_mem *own = phx_shm_mem_find(shm, (struct phx_mem){k->index, k->epoch});
        if (own != NULL && !own->imported && own->nonce == k->nonce && own->peer == k->rank) {
            m->base = own->base;
            m->size_bytes = own->size_bytes;
        }
        return 0;
    }
    m->size_bytes = k->size_bytes; // as the owner says; what stands in is as large
    const struct phx_shm_request request = {.magic = PHX_SHM_MAGIC,
                                            .job = shm->options.job,
                                            .kind = PHX_SHM_REQUEST_REGION,
                                            .rank = shm->options.rank,
                                            .incarnation = shm->options.incarnation,
                                            .index = k->index,
                                            .epoch = k->epoch,
                                            .nonce = k->nonce};
    struct phx_shm_answer answer;
    int files[2] = {-1, -1};
    int socket = -1;
    if (phx_shm_ask(k->rank, k->incarnation, &request, &answer, files, &socket) != 0)
        return shm->memory->map(shm, m, -1, NULL);
    (void)close(socket);
    if (answer.error != 0 || answer.file_count != 1) {
        for (uint32_t i = 0; i < 2; i++)
            if (files[i] >= 0)
                (void)close(files[i]);
        return shm->memory->map(shm, m, -1, NULL);
    }
    int error = shm->memory->map(shm, m, files[0], &answer);
    (void)close(files[0]);
    return error;
}

int phx_shm_mem_import(struct phx_transport *t, struct phx_peer peer, const struct phx_mem_key *key,
                       struct phx_mem *mem)
{
    struct phx_shm *shm = phx_shm_of(t);
    struct phx_shm_key k;
    memcpy(&k, key->bytes, sizeof k);
    if (peer.rank >= shm->options.ranks || k.rank != peer.rank || k.index >= PHX_SHM_MEMS)
        return PHX_ERR_INVALID;
    if (k.incarnation != peer.epoch)
        return PHX_ERR_STALE;
    struct phx_mem handle;
    pthread_mutex_lock(&shm->lock);
    struct phx_shm_mem *m = mem_take(shm, &handle);
    pthread_mutex_unlock(&shm->lock);
    if (m == NULL)
        return PHX_ERR_NO_MEMORY;
    m->imported = true;
    m->peer = peer.rank;
    m->remote_incarnation = k.incarnation;
    m->remote_index = k.index;
    m->remote_epoch = k.epoch;
    int error = map_import(shm, m, &k); // without the lock: the peer may be asking us
    if (error != 0)
        return error;
    mem_publish(shm, handle);
    *mem = handle;
    return 0;
}

static bool is_own(const struct phx_shm *shm, const struct phx_shm_mem *m)
{
    return m->imported && m->peer == shm->options.rank;
}

void phx_shm_mem_release(struct phx_transport *t, struct phx_mem mem)
{
    struct phx_shm *shm = phx_shm_of(t);
    pthread_mutex_lock(&shm->lock);
    struct phx_shm_mem *m = phx_shm_mem_find(shm, mem);
    if (m != NULL) {
        __atomic_store_n(&shm->page->live_epoch[mem.index], 0, __ATOMIC_SEQ_CST);
        __atomic_store_n(&m->epoch, 0, __ATOMIC_RELEASE);
        // An import stays mapped: a worker may be storing there.
        if (!m->imported)
            shm->memory->drop(shm, m);
    }
    pthread_mutex_unlock(&shm->lock);
}

void phx_shm_pages_count(struct phx_shm *shm, struct phx_shm_pages_count *count)
{
    *count = (struct phx_shm_pages_count){0};
    pthread_mutex_lock(&shm->lock);
    for (uint32_t i = 0; i < shm->mem_count; i++) {
        const struct phx_shm_mem *m = &shm->mems[i];
        if (m->imported || m->file < 0)
            continue;
        count->region_bytes += m->size_bytes;
        if (m->is_reserved)
            count->reserved_bytes += m->size_bytes;
    }
    pthread_mutex_unlock(&shm->lock);
    count->transparent_bytes = phx_shm_pages_transparent();
}

void phx_shm_retire(struct phx_shm *shm, uint32_t peer)
{
    for (uint32_t i = 0; i < shm->mem_count; i++) {
        struct phx_shm_mem *m = &shm->mems[i];
        if (m->imported || m->epoch == 0 || m->peer != peer || m->file < 0)
            continue;
        __atomic_store_n(&shm->page->live_epoch[i], 0, __ATOMIC_SEQ_CST);
        // "Nothing can write here any more" is a promise: without memory for it, better no process.
        phx_assert(shm->memory->renew(shm, m) == 0);
    }
}

void phx_shm_mems_free(struct phx_shm *shm)
{
    for (uint32_t i = 0; i < shm->mem_count; i++) {
        struct phx_shm_mem *m = &shm->mems[i];
        if (m->imported && m->base != NULL && !is_own(shm, m))
            shm->memory->unmap(shm, m);
        else if (!m->imported)
            shm->memory->drop(shm, m);
    }
}

void *phx_shm_mem_base(struct phx_transport *t, struct phx_mem mem)
{
    const struct phx_shm_mem *m = phx_shm_mem_find(phx_shm_of(t), mem);
    return m != NULL ? m->base : NULL;
}
