// tests/test_shm_memory.c: regions that are not host memory: their files, sizes and GPU pass over
// the sockets, an owner that is gone leaves something to store into, and kinds are not mixed.
//
// The GPU here is one of paper: its memory is a memory file, its UUID a pattern.

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/phalanx.h"
#include "hw/executor_host.h"
#include "hw/shm_internal.h"
#include "tests/test.h"

#define ROOM 8192u   // what a paper GPU allocates at least
#define REGION 4096u // what is asked for

struct paper { // a rank's GPU
    struct phx_shm_memory memory;
    struct phx_shm_answer seen; // of the last region that was mapped
    uint32_t dropped;
    uint32_t stand_ins;
    bool refuses;
};

static void *room_map(int file)
{
    int flags = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    void *base = mmap(NULL, ROOM, PROT_READ | PROT_WRITE, flags, file, 0);
    return base != MAP_FAILED ? base : NULL;
}

static int paper_make(struct phx_shm *shm, struct phx_shm_mem *m)
{
    (void)shm;
    m->file = m->peer == PHX_WRITER_NONE ? -1 : phx_shm_file("paper", ROOM, 0);
    m->base = room_map(m->file);
    m->mapped_bytes = ROOM;
    return m->base != NULL ? 0 : PHX_ERR_NO_MEMORY;
}

static int paper_renew(struct phx_shm *shm, struct phx_shm_mem *m)
{
    (void)shm;
    void *fresh = room_map(-1);
    memcpy(fresh, m->base, ROOM);
    if (mremap(fresh, ROOM, ROOM, MREMAP_MAYMOVE | MREMAP_FIXED, m->base) == MAP_FAILED)
        return PHX_ERR_NO_MEMORY;
    (void)close(m->file);
    m->file = -1;
    return 0;
}

static void paper_drop(struct phx_shm *shm, struct phx_shm_mem *m)
{
    if (m->base == NULL)
        return;
    ((struct paper *)shm->memory->context)->dropped++;
    (void)munmap(m->base, ROOM);
    if (m->file >= 0)
        (void)close(m->file);
    m->file = -1;
    m->base = NULL;
}

static int paper_map(struct phx_shm *shm, struct phx_shm_mem *m, int file,
                     const struct phx_shm_answer *answer)
{
    struct paper *p = shm->memory->context;
    if (p->refuses)
        return phx_fail(&shm->base.said, PHX_ERR_UNSUPPORTED, "no way there");
    if (file < 0)
        p->stand_ins++;
    else
        p->seen = *answer;
    m->base = room_map(file);
    return m->base != NULL ? 0 : PHX_ERR_NO_MEMORY;
}

static void paper_unmap(struct phx_shm *shm, struct phx_shm_mem *m)
{
    (void)shm;
    (void)munmap(m->base, ROOM);
}

static void paper_init(struct paper *p, uint8_t uuid)
{
    memset(p, 0, sizeof *p);
    p->memory = (struct phx_shm_memory){.name = "paper",
                                        .kind = PHX_SHM_MEMORY_CUDA,
                                        .makes_memory = true,
                                        .context = p,
                                        .make = paper_make,
                                        .renew = paper_renew,
                                        .drop = paper_drop,
                                        .map = paper_map,
                                        .unmap = paper_unmap};
    memset(p->memory.device, uuid, sizeof p->memory.device);
}

static struct phx_transport *endpoint_open(uint32_t rank, uint64_t job,
                                           const struct phx_shm_memory *memory)
{
    const struct phx_shm_options o = {.job = (uint64_t)getpid() << 20 | 0xF0000 | job,
                                      .rank = rank,
                                      .ranks = 2,
                                      .incarnation = 1,
                                      .lanes = 1,
                                      .memory = memory};
    struct phx_message message = {""};
    struct phx_shm *shm = NULL;
    CHECK_MSG(phx_shm_create(&o, &shm, &message) == 0, "%s", message.text);
    return phx_shm_transport(shm);
}

TEST(shm_memory_of_a_gpu_passes_with_its_uuid_and_size)
{
    struct paper papers[2];
    struct phx_transport *t[2];
    struct phx_mem mine;
    struct phx_mem theirs;
    struct phx_mem_key key;
    for (uint32_t i = 0; i < 2; i++) {
        paper_init(&papers[i], (uint8_t)(0xA0 + i));
        t[i] = endpoint_open(i, 1, &papers[i].memory);
    }
    CHECK_STR_EQ(phx_transport_info(t[0])->name, "paper");
    CHECK_EQ(phx_mem_register(t[0], NULL, REGION, 1, &mine, &key), 0);
    CHECK_EQ(phx_mem_import(t[1], (struct phx_peer){0, 1}, &key, &theirs), 0);
    CHECK_EQ(papers[1].seen.memory, PHX_SHM_MEMORY_CUDA);
    CHECK_EQ(papers[1].seen.size_bytes, REGION);
    CHECK_EQ(papers[1].seen.mapped_bytes, ROOM);
    CHECK_MEM_EQ(papers[1].seen.device, papers[0].memory.device, 16);
    uint8_t *to = phx_mem_base(t[1], theirs);
    uint8_t *from = phx_mem_base(t[0], mine);
    to[100] = 7; // what a kernel would store
    CHECK_EQ(from[100], 7);
    phx_peer_fence(t[0], (struct phx_peer){1, 1});
    to[100] = 8; // a zombie's
    CHECK_EQ(from[100], 7);
    CHECK(phx_mem_base(t[0], mine) == from);
    phx_mem_release(t[0], mine);
    CHECK_EQ(papers[0].dropped, 1);
    phx_transport_close(t[1]);
    phx_transport_close(t[0]);
    CHECK_EQ(papers[0].dropped, 1);
}

TEST(shm_memory_of_an_owner_that_is_gone_is_stood_in_for)
{
    struct paper papers[2];
    struct phx_mem mem;
    struct phx_mem_key key;
    paper_init(&papers[0], 1);
    paper_init(&papers[1], 2);
    struct phx_transport *owner = endpoint_open(0, 2, &papers[0].memory);
    CHECK_EQ(phx_mem_register(owner, NULL, REGION, 1, &mem, &key), 0);
    phx_transport_close(owner);
    struct phx_transport *t = endpoint_open(1, 2, &papers[1].memory);
    CHECK_EQ(phx_mem_import(t, (struct phx_peer){0, 1}, &key, &mem), 0);
    CHECK_EQ(papers[1].stand_ins, 1);
    ((uint8_t *)phx_mem_base(t, mem))[0] = 1; // goes nowhere, and harms nobody
    phx_transport_close(t);
}

TEST(shm_memory_refusals_are_in_the_memorys_own_words)
{
    struct paper papers[2];
    struct phx_mem mem;
    struct phx_mem_key key;
    paper_init(&papers[0], 1);
    paper_init(&papers[1], 2);
    papers[1].refuses = true;
    struct phx_transport *owner = endpoint_open(0, 3, &papers[0].memory);
    struct phx_transport *t = endpoint_open(1, 3, &papers[1].memory);
    struct phx_transport *host = endpoint_open(1, 4, NULL);
    CHECK_EQ(phx_mem_register(owner, NULL, REGION, 1, &mem, &key), 0);
    CHECK_EQ(phx_mem_import(t, (struct phx_peer){0, 1}, &key, &mem), PHX_ERR_UNSUPPORTED);
    CHECK_STR_EQ(phx_transport_said(t), "no way there");
    phx_transport_close(host);
    phx_transport_close(t);
    phx_transport_close(owner);
}

TEST(shm_memory_of_a_gpu_is_not_mapped_as_host_memory)
{
    struct paper paper;
    struct phx_mem mem;
    struct phx_mem_key key;
    paper_init(&paper, 1);
    struct phx_transport *owner = endpoint_open(0, 5, &paper.memory);
    struct phx_transport *t = endpoint_open(1, 5, NULL);
    CHECK_EQ(phx_mem_register(owner, NULL, REGION, 1, &mem, &key), 0);
    CHECK_EQ(phx_mem_import(t, (struct phx_peer){0, 1}, &key, &mem), PHX_ERR_MISMATCH);
    CHECK_STR_EQ(phx_transport_said(t), "its regions are not host memory, as this rank's are");
    phx_transport_close(t);
    phx_transport_close(owner);
}

TEST(shm_memory_of_a_gpu_takes_no_posts)
{
    struct paper paper;
    struct phx_mem mem;
    struct phx_mem target;
    struct phx_mem_key key;
    struct phx_event events[4];
    paper_init(&paper, 1);
    struct phx_transport *t = endpoint_open(0, 6, &paper.memory);
    CHECK_EQ(phx_mem_register(t, NULL, REGION, 0, &mem, &key), 0);
    CHECK_EQ(phx_mem_import(t, (struct phx_peer){0, 1}, &key, &target), 0);
    CHECK_EQ(phx_peer_connect(t, (struct phx_peer){0, 1}), 0);
    const struct phx_op op = {.code = PHX_OP_PUT,
                              .flags = PHX_OP_SIGNAL,
                              .peer = {0, 1},
                              .wire_bytes = 8,
                              .target = {target, 0},
                              .signal_value = 1};
    CHECK_EQ(phx_post(t, &op, 1), 1);
    uint32_t count = phx_poll(t, events, 4);
    CHECK_EQ(count, 2); // and that the peer is up
    CHECK_EQ(events[0].status, PHX_ERR_UNSUPPORTED);
    phx_transport_close(t);
}

// Memory that ends where it says: the page behind it may not be touched.
static void *fenced_alloc(void *context, uint64_t size_bytes)
{
    uint64_t bytes = (size_bytes + 4095) / 4096 * 4096;
    (void)context;
    uint8_t *memory =
        mmap(NULL, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + bytes, 4096, PROT_NONE) != 0)
        return NULL;
    return memory;
}
static void fenced_free(void *context, void *memory, uint64_t size_bytes)
{
    (void)context;
    (void)munmap(memory, (size_bytes + 4095) / 4096 * 4096 + 4096);
}

TEST(shm_memory_of_a_gpu_leaves_large_regions_out_of_the_groups_own_memory)
{
    struct paper paper;
    struct phx_host_executor *executor = NULL;
    struct phx_group_options o;
    struct phx_group *group = NULL;
    struct phx_message message = {""};
    const struct phx_host_executor_options eo = {.workers = 1};
    paper_init(&paper, 1);
    struct phx_transport *t = endpoint_open(0, 7, &paper.memory);
    CHECK_EQ(phx_host_executor_create(&eo, &executor, &message), 0);
    phx_group_options_init(&o);
    o.ranks = 2;
    o.experts = 4;
    o.top_k = 2;
    o.tokens_max = 1024; // regions are larger than a huge page
    o.hidden = 7168;
    o.allocator = (struct phx_allocator){fenced_alloc, fenced_free, NULL};
    const struct phx_target target = {t, phx_host_executor_of(executor)};
    CHECK_MSG(phx_group_create(&o, &target, &group, &message) == 0, "%s", message.text);
    phx_group_close(group);
    phx_host_executor_destroy(executor);
    phx_transport_close(t);
}
