// tests/test_transport_shm.c: shared memory keeps engine/transport.h, and notices every end of a
// process.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hw/shm_internal.h"
#include "hw/shm_pages.h"
#include "tests/conformance.h"
#include "tests/test.h"

#define QUIET_MS 150 // longer than a watcher's turn

struct fixture {
    struct phx_shm *shm[PHX_CONFORMANCE_ENDPOINTS];
    bool is_dead[PHX_CONFORMANCE_ENDPOINTS];
    uint64_t notified;
    uint64_t looked;
};

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static uint64_t job_new(void)
{
    static uint64_t jobs;
    return (uint64_t)getpid() << 20 | __atomic_add_fetch(&jobs, 1, __ATOMIC_RELAXED);
}

static void on_notify(void *context)
{
    struct fixture *f = context;
    (void)__atomic_fetch_add(&f->notified, 1, __ATOMIC_SEQ_CST);
}

// Something may still happen while a loss may be noticed: only after a death.
static bool fixture_step(void *context)
{
    struct fixture *f = context;
    for (uint32_t i = 0; i < PHX_CONFORMANCE_ENDPOINTS; i++)
        phx_shm_progress(f->shm[i]);
    bool may_lose = false;
    for (uint32_t i = 0; i < PHX_CONFORMANCE_ENDPOINTS; i++)
        may_lose |= f->is_dead[i];
    for (int waited = 0; may_lose && waited < QUIET_MS; waited += 5) {
        uint64_t notified = __atomic_load_n(&f->notified, __ATOMIC_SEQ_CST);
        if (notified != f->looked) {
            f->looked = notified;
            return true;
        }
        sleep_ms(5);
    }
    return false;
}

static void *fixture_memory(void *context, uint32_t endpoint, uint64_t size_bytes)
{
    (void)context;
    (void)endpoint;
    void *memory =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED ? memory : NULL; // stays until the program ends
}

static void fixture_kill(void *context, uint32_t endpoint)
{
    struct fixture *f = context;
    phx_shm_die(f->shm[endpoint]);
    f->is_dead[endpoint] = true;
}

static void fixture_close(void *context)
{
    struct fixture *f = context;
    for (uint32_t i = 0; i < PHX_CONFORMANCE_ENDPOINTS; i++)
        phx_transport_close(phx_shm_transport(f->shm[i]));
    free(f);
}

static struct phx_shm *endpoint_open(uint64_t job, uint32_t rank, uint32_t ranks, struct fixture *f)
{
    const struct phx_shm_options o = {.job = job,
                                      .rank = rank,
                                      .ranks = ranks,
                                      .incarnation = 1,
                                      .lanes = 3,
                                      .notify = f != NULL ? on_notify : NULL,
                                      .notify_context = f};
    struct phx_message message = {""};
    struct phx_shm *shm = NULL;
    CHECK_MSG(phx_shm_create(&o, &shm, &message) == 0, "%s", message.text);
    return shm;
}

static void make_shm(struct phx_conformance *fixture)
{
    struct fixture *f = calloc(1, sizeof *f);
    CHECK(f != NULL);
    uint64_t job = job_new();
    fixture->context = f;
    fixture->step = fixture_step;
    fixture->memory = fixture_memory;
    fixture->kill = fixture_kill;
    fixture->close = fixture_close;
    for (uint32_t i = 0; i < PHX_CONFORMANCE_ENDPOINTS; i++) {
        f->shm[i] = endpoint_open(job, i, PHX_CONFORMANCE_ENDPOINTS, f);
        fixture->transport[i] = phx_shm_transport(f->shm[i]);
        fixture->peer[i] = (struct phx_peer){(uint16_t)i, 1};
    }
}

PHX_CONFORMANCE_TESTS(shm, make_shm)

// --- real processes -----------------------------------------------------------------------------

struct pair { // this process is rank 0, a child is rank 1 and may write `region`
    struct phx_shm *shm;
    struct phx_transport *t;
    uint8_t *region;
    struct phx_mem mem;
    pid_t child;
    int to_child;
    int from_child;
};
#define SIZE 65536u

static void say(int pipe, const void *bytes, size_t size)
{
    CHECK_EQ(write(pipe, bytes, size), (ssize_t)size);
}
static void hear(int pipe, void *bytes, size_t size)
{
    CHECK_EQ(read(pipe, bytes, size), (ssize_t)size);
}

static struct phx_op store_of(struct phx_mem source, struct phx_mem target, uint64_t value)
{
    struct phx_op op;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.flags = PHX_OP_SIGNAL;
    op.peer = (struct phx_peer){0, 1};
    op.size_bytes = op.wire_bytes = 4096;
    op.source.mem = source;
    op.target = (struct phx_span){target, 4096};
    op.signal_value = value;
    return op;
}

// What the child does: puts (bytes of `value`, then the signal `value`), each when it is told.
static void child_main(uint64_t job, int in, int out)
{
    struct phx_shm *shm = endpoint_open(job, 1, 2, NULL);
    struct phx_transport *t = phx_shm_transport(shm);
    uint8_t *bytes = fixture_memory(NULL, 0, SIZE);
    struct phx_mem source, target;
    struct phx_mem_key key;
    uint8_t command;
    say(out, "r", 1);
    hear(in, &key, sizeof key);
    if (phx_mem_register(t, bytes, SIZE, PHX_WRITER_NONE, &source, NULL) != 0 ||
        phx_mem_import(t, (struct phx_peer){0, 1}, &key, &target) != 0 ||
        phx_peer_connect(t, (struct phx_peer){0, 1}) != 0)
        _exit(3);
    say(out, "c", 1);
    while (read(in, &command, 1) == 1 && command != 0) {
        struct phx_op op = store_of(source, target, command);
        struct phx_event events[4];
        memset(bytes, command, SIZE);
        if (phx_post(t, &op, 1) != 1)
            _exit(4);
        uint32_t got = 0;
        while ((got = phx_poll(t, events, 1)) == 1 && events[0].kind != PHX_EVENT_OP)
            continue;
        say(out, &events[0].status, sizeof events[0].status);
    }
    phx_transport_close(t); // in order
    _exit(0);
}

static void pair_open(struct pair *p)
{
    int down[2], up[2];
    char told;
    struct phx_mem_key key;
    uint64_t job = job_new();
    CHECK_EQ(pipe(down), 0);
    CHECK_EQ(pipe(up), 0);
    p->child = fork();
    CHECK(p->child >= 0);
    if (p->child == 0) {
        (void)close(down[1]);
        (void)close(up[0]);
        child_main(job, down[0], up[1]);
    }
    (void)close(down[0]);
    (void)close(up[1]);
    p->to_child = down[1];
    p->from_child = up[0];
    p->shm = endpoint_open(job, 0, 2, NULL);
    p->t = phx_shm_transport(p->shm);
    p->region = fixture_memory(NULL, 0, SIZE);
    hear(p->from_child, &told, 1);
    CHECK_EQ(phx_mem_register(p->t, p->region, SIZE, 1, &p->mem, &key), 0);
    say(p->to_child, &key, sizeof key);
    hear(p->from_child, &told, 1);
    CHECK_EQ(phx_peer_connect(p->t, (struct phx_peer){1, 1}), 0);
    struct phx_event up_event;
    CHECK_EQ(phx_poll(p->t, &up_event, 1), 1);
    CHECK_EQ(up_event.peer_state, PHX_PEER_UP);
}

static void pair_close(struct pair *p)
{
    int status;
    (void)close(p->to_child);
    (void)close(p->from_child);
    CHECK_EQ(waitpid(p->child, &status, 0), p->child);
    phx_transport_close(p->t);
}

static int child_puts(struct pair *p, uint8_t value)
{
    int status = 1;
    say(p->to_child, &value, 1);
    hear(p->from_child, &status, sizeof status);
    return status;
}

// The event of the child's end; fails after five seconds.
static struct phx_event await_loss(struct pair *p)
{
    struct phx_event e;
    memset(&e, 0, sizeof e);
    for (int i = 0; i < 5000; i++) {
        if (phx_poll(p->t, &e, 1) == 1)
            return e;
        sleep_ms(1);
    }
    CHECK_MSG(false, "nothing told of the end");
    return e;
}

TEST(shm_puts_between_processes)
{
    struct pair p;
    pair_open(&p);
    CHECK_EQ(child_puts(&p, 7), 0);
    CHECK_EQ(__atomic_load_n((uint64_t *)(void *)p.region, __ATOMIC_ACQUIRE), 7);
    for (uint32_t i = 0; i < 4096; i++)
        CHECK_EQ(p.region[4096 + i], 7);
    CHECK_EQ(p.region[8192], 0);
    pair_close(&p);
}

TEST(shm_notices_a_kill)
{
    struct pair p;
    pair_open(&p);
    CHECK_EQ(kill(p.child, SIGKILL), 0);
    struct phx_event e = await_loss(&p);
    CHECK_EQ(e.kind, PHX_EVENT_PEER);
    CHECK_EQ(e.peer_state, PHX_PEER_LOST);
    CHECK_EQ(e.status, PHX_ERR_PEER_LOST);
    CHECK_MSG(e.backend_code == PHX_SHM_EVIDENCE_LOCK || e.backend_code == PHX_SHM_EVIDENCE_PIDFD,
              "by evidence: %s", phx_shm_evidence_text(e.backend_code));
    pair_close(&p);
}

TEST(shm_tells_an_orderly_end_from_a_death)
{
    struct pair p;
    pair_open(&p);
    const uint8_t leave = 0;
    say(p.to_child, &leave, 1);
    struct phx_event e = await_loss(&p);
    CHECK_EQ(e.peer_state, PHX_PEER_LOST);
    CHECK_EQ(e.backend_code, PHX_SHM_EVIDENCE_LEFT);
    CHECK_EQ(e.status, PHX_ERR_PEER_UNREACHABLE);
    pair_close(&p);
}

// A process that was stopped, fenced, and woke: it changes no byte, and its ops say so.
TEST(shm_fence_keeps_a_zombie_out)
{
    struct pair p;
    pair_open(&p);
    CHECK_EQ(child_puts(&p, 3), 0);
    CHECK_EQ(kill(p.child, SIGSTOP), 0);
    phx_peer_fence(p.t, (struct phx_peer){1, 1});
    uint8_t before[SIZE];
    memcpy(before, p.region, SIZE);
    CHECK_EQ(before[5000], 3);
    CHECK_EQ(kill(p.child, SIGCONT), 0);
    int status = child_puts(&p, 9);
    CHECK_MSG(status == PHX_ERR_STALE || status == PHX_ERR_PEER_LOST, "status %d", status);
    CHECK_MEM_EQ(p.region, before, SIZE);
    pair_close(&p);
}

// Even one that was already inside its copy: it holds the old pages, which nobody reads any more.
TEST(shm_fence_leaves_old_pages_behind)
{
    struct pair p;
    pair_open(&p);
    struct phx_shm_mem *m = phx_shm_mem_find(p.shm, p.mem);
    CHECK(m != NULL);
    uint8_t *theirs = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m->file, 0);
    CHECK(theirs != MAP_FAILED);
    theirs[100] = 5;
    CHECK_EQ(p.region[100], 5);
    phx_peer_fence(p.t, (struct phx_peer){1, 1});
    CHECK_EQ(p.region[100], 5); // what had landed stays
    theirs[100] = 6;
    theirs[200] = 6;
    CHECK_EQ(p.region[100], 5);
    CHECK_EQ(p.region[200], 0);
    pair_close(&p);
}

// --- pages --------------------------------------------------------------------------------------

static uint8_t *map_at(uint64_t beyond, uint64_t size_bytes) // a multiple of a huge page, and more
{
    uint8_t *memory = mmap(NULL, size_bytes + 2 * PHX_HUGE_PAGE_BYTES, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory + (PHX_HUGE_PAGE_BYTES - (uintptr_t)memory % PHX_HUGE_PAGE_BYTES) + beyond;
}

static uint64_t reserved_free(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[256];
    unsigned long pages = 0;
    unsigned long kib = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "HugePages_Free: %lu", &pages);
        (void)sscanf(line, "Hugepagesize: %lu", &kib);
    }
    if (file != NULL)
        (void)fclose(file);
    return kib * 1024 == PHX_HUGE_PAGE_BYTES ? pages * PHX_HUGE_PAGE_BYTES : 0;
}

static void pages_drop(struct phx_shm_pages *pages, uint64_t size_bytes)
{
    (void)munmap(pages->mapped, size_bytes);
    (void)close(pages->file);
}

TEST(shm_pages_are_reserved_huge_ones_where_enough_are_free)
{
    struct phx_shm_pages pages;
    uint64_t size = 2 * PHX_HUGE_PAGE_BYTES;
    uint64_t free_bytes = reserved_free();
    CHECK_EQ(phx_shm_pages_make(map_at(0, size), size, &pages), 0);
    CHECK_EQ(pages.is_reserved, free_bytes >= size);
    CHECK_EQ(pages.offset_bytes, 0);
    memset(pages.mapped, 1, size);
    pages_drop(&pages, size);
    // More than there are: ordinary ones.
    size = free_bytes + PHX_HUGE_PAGE_BYTES;
    CHECK_EQ(phx_shm_pages_make(map_at(0, size), size, &pages), 0);
    CHECK(!pages.is_reserved);
    pages_drop(&pages, size);
}

// The place in a huge page is the same in the file as in memory, so that one can be mapped.
TEST(shm_pages_elsewhere_are_ordinary_and_lie_as_huge_ones_would)
{
    struct phx_shm_pages pages;
    const uint64_t sizes[] = {4096, PHX_HUGE_PAGE_BYTES, 3 * PHX_HUGE_PAGE_BYTES + 4096};
    for (uint32_t i = 0; i < 3; i++) {
        uint8_t *base = map_at(12288, sizes[i]);
        struct stat stat;
        CHECK_EQ(phx_shm_pages_make(base, sizes[i], &pages), 0);
        CHECK(!pages.is_reserved);
        CHECK_EQ(pages.offset_bytes, sizes[i] < PHX_HUGE_PAGE_BYTES ? 0 : 12288);
        CHECK_EQ(fstat(pages.file, &stat), 0);
        CHECK_EQ(stat.st_size, pages.offset_bytes + sizes[i]);
        memset(pages.mapped, 1, sizes[i]);
        pages_drop(&pages, sizes[i]);
    }
}

TEST(shm_numa_places_nothing_on_one_node)
{
    uint8_t *memory = map_at(0, 4096);
    CHECK(phx_numa_nodes() >= 1);
    if (phx_numa_nodes() == 1)
        CHECK(!phx_numa_prefer_here(memory, 4096));
    else
        CHECK(phx_numa_prefer_here(memory, 4096));
    memory[0] = 1;
}

// A region of several huge pages, at such an address or not, is written to its end, kept at a
// fence, and counted.
static void check_long_region(uint64_t beyond)
{
    const uint64_t size = 2 * PHX_HUGE_PAGE_BYTES;
    uint64_t job = job_new();
    struct phx_shm *shm[2] = {endpoint_open(job, 0, 2, NULL), endpoint_open(job, 1, 2, NULL)};
    struct phx_transport *t[2] = {phx_shm_transport(shm[0]), phx_shm_transport(shm[1])};
    uint8_t *region = map_at(beyond, size);
    static uint8_t row[8192];
    struct phx_mem mine, stage, theirs;
    struct phx_mem_key key;
    struct phx_event event;
    struct phx_shm_pages_count count;
    memset(row, 7, sizeof row);
    CHECK_EQ(phx_mem_register(t[0], region, size, 1, &mine, &key), 0);
    CHECK_EQ(phx_mem_register(t[1], row, sizeof row, PHX_WRITER_NONE, &stage, NULL), 0);
    CHECK_EQ(phx_mem_import(t[1], (struct phx_peer){0, 1}, &key, &theirs), 0);
    CHECK_EQ(phx_peer_connect(t[1], (struct phx_peer){0, 1}), 0);
    CHECK_EQ(phx_poll(t[1], &event, 1), 1);
    struct phx_op op = {.code = PHX_OP_PUT,
                        .peer = {0, 1},
                        .size_bytes = sizeof row,
                        .wire_bytes = sizeof row,
                        .source = {stage, 0},
                        .target = {theirs, size - sizeof row}};
    CHECK_EQ(phx_post(t[1], &op, 1), 1);
    CHECK_EQ(phx_poll(t[1], &event, 1), 1);
    CHECK_EQ(event.status, 0);
    CHECK_MEM_EQ(region + size - sizeof row, row, sizeof row);
    phx_shm_pages_count(shm[0], &count);
    CHECK_EQ(count.region_bytes, size);
    CHECK(count.reserved_bytes == 0 || (count.reserved_bytes == size && beyond == 0));
    phx_peer_fence(t[0], (struct phx_peer){1, 1});
    CHECK_EQ(region[size - 1], 7);
    op.target.offset_bytes = 0;
    CHECK_EQ(phx_post(t[1], &op, 1), 1);
    CHECK_EQ(phx_poll(t[1], &event, 1), 1);
    CHECK(event.status < 0);
    CHECK_EQ(region[0], 0);
    phx_transport_close(t[1]);
    phx_transport_close(t[0]);
}

TEST(shm_region_of_huge_pages_is_like_any)
{
    check_long_region(0);
    check_long_region(4096);
}

TEST(shm_refuses_bad_options)
{
    struct phx_message message;
    struct phx_shm *shm = NULL;
    struct phx_shm_options o = {.job = 1, .rank = 2, .ranks = 2, .incarnation = 1, .lanes = 1};
    CHECK_EQ(phx_shm_create(&o, &shm, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "rank is 2; it must be below ranks, 2");
    o.rank = 0;
    o.lanes = 0;
    CHECK_EQ(phx_shm_create(&o, &shm, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "lanes is 0; it may be 1 to 4096");
    CHECK(shm == NULL);
}

// A second process of the same rank and incarnation finds the place taken.
TEST(shm_refuses_a_second_self)
{
    uint64_t job = job_new();
    struct phx_shm *first = endpoint_open(job, 0, 2, NULL);
    const struct phx_shm_options o = {
        .job = job, .rank = 0, .ranks = 2, .incarnation = 1, .lanes = 1};
    struct phx_shm *second = NULL;
    struct phx_message message;
    CHECK_EQ(phx_shm_create(&o, &second, &message), PHX_ERR_IO);
    CHECK_STR_EQ(message.text, "shared memory of rank 0: listening on the socket of this rank: "
                               "Address already in use");
    phx_transport_close(phx_shm_transport(first));
}
