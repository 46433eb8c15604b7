// tools/bench_signal.c: one signal, one way, over the shared memory transport, beside a bare cache
// line between the same two processes in the same run.

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hw/clock.h"
#include "hw/crew.h"
#include "tools/bench_ep.h"

#define REGION_BYTES 4096u

struct arena {
    uint32_t samples; // first: what the ranks are set up with
    uint32_t rounds;
    struct phx_mem_key keys[2];
    int32_t rc[2];
    double signal_ns; // the least of the samples
    double line_ns;
    _Alignas(64) uint64_t lines[2][8]; // the bare line of each
};

struct end {
    struct arena *arena;
    struct phx_crew_rank *self;
    uint32_t rank;
    struct phx_transport *t;
    uint64_t *word; // where the other's signals arrive
    struct phx_op op;
};

#define SPINS_MAX 100000u

static void await(const uint64_t *word, uint64_t value)
{
    // Two processes that have one core between them take turns, and the figures show it.
    for (uint32_t spins = 0; __atomic_load_n(word, __ATOMIC_ACQUIRE) != value; spins++)
        if (spins >= SPINS_MAX)
            (void)sched_yield();
}

static int end_open(struct end *e)
{
    const struct phx_peer other = {(uint16_t)(1 - e->rank), 1};
    struct phx_mem mine;
    struct phx_mem theirs = {0, 0};
    struct phx_event event;
    e->t = phx_shm_transport(phx_crew_rank_shm(e->self));
    e->word = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (e->word == MAP_FAILED)
        return PHX_ERR_NO_MEMORY;
    int rc =
        phx_mem_register(e->t, e->word, REGION_BYTES, other.rank, &mine, &e->arena->keys[e->rank]);
    phx_crew_rank_barrier(e->self);
    if (rc == 0)
        rc = phx_mem_import(e->t, other, &e->arena->keys[other.rank], &theirs);
    if (rc == 0)
        rc = phx_peer_connect(e->t, other);
    if (rc == 0 && (phx_poll(e->t, &event, 1) != 1 || event.status != 0))
        rc = PHX_ERR_PEER_UNREACHABLE;
    phx_crew_rank_barrier(e->self);
    e->op.code = PHX_OP_PUT;
    e->op.flags = PHX_OP_SIGNAL | PHX_OP_SILENT;
    e->op.peer = other;
    e->op.target.mem = theirs;
    return rc;
}

// Nanoseconds of one way. Rank 0 begins each round, rank 1 answers with the same number.
static double signal_run(struct end *e, uint64_t base)
{
    uint32_t rounds = e->arena->rounds;
    phx_crew_rank_barrier(e->self);
    uint64_t from_ns = phx_clock_ns();
    for (uint64_t i = base + 1; i <= base + rounds; i++) {
        e->op.signal_value = i;
        if (e->rank == 0)
            (void)phx_post(e->t, &e->op, 1);
        await(e->word, i);
        if (e->rank == 1)
            (void)phx_post(e->t, &e->op, 1);
    }
    return (double)(phx_clock_ns() - from_ns) / (2.0 * rounds);
}

static double line_run(struct end *e, uint64_t base)
{
    uint32_t rounds = e->arena->rounds;
    uint64_t *mine = e->arena->lines[e->rank];
    uint64_t *theirs = e->arena->lines[1 - e->rank];
    phx_crew_rank_barrier(e->self);
    uint64_t from_ns = phx_clock_ns();
    for (uint64_t i = base + 1; i <= base + rounds; i++) {
        if (e->rank == 0)
            __atomic_store_n(theirs, i, __ATOMIC_RELEASE);
        await(mine, i);
        if (e->rank == 1)
            __atomic_store_n(theirs, i, __ATOMIC_RELEASE);
    }
    return (double)(phx_clock_ns() - from_ns) / (2.0 * rounds);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static int signal_main(struct phx_crew_rank *self, void *arena)
{
    struct end e;
    memset(&e, 0, sizeof e);
    e.arena = arena;
    e.self = self;
    e.rank = phx_crew_rank_number(self);
    int rc = end_open(&e);
    uint32_t samples = e.arena->samples;
    double *signals = calloc(2ull * samples, sizeof *signals);
    if (rc == 0 && signals == NULL)
        rc = PHX_ERR_NO_MEMORY;
    for (uint32_t i = 0; rc == 0 && i < samples; i++) {
        signals[i] = signal_run(&e, (uint64_t)i * e.arena->rounds);
        signals[samples + i] = line_run(&e, (uint64_t)i * e.arena->rounds);
    }
    if (rc == 0 && e.rank == 0) {
        qsort(signals, samples, sizeof *signals, compare);
        qsort(signals + samples, samples, sizeof *signals, compare);
        e.arena->signal_ns = signals[samples / 2];
        e.arena->line_ns = signals[samples + samples / 2];
    }
    free(signals);
    e.arena->rc[e.rank] = rc;
    phx_crew_rank_barrier(self);
    return rc == 0 ? 0 : 1;
}

int phx_bench_signal_run(uint32_t samples, uint32_t rounds, struct phx_bench_signal *result,
                         struct phx_message *message)
{
    const uint32_t setup[2] = {samples, rounds};
    const struct phx_crew_options options = {.ranks = 2,
                                             .workers = 1,
                                             .spin_us = 0,
                                             .arena_bytes = sizeof(struct arena),
                                             .setup = setup,
                                             .setup_bytes = sizeof setup,
                                             .main = signal_main,
                                             .is_quiet = true};
    struct phx_crew *crew = NULL;
    int rc = phx_crew_start(&options, &crew, message);
    if (rc != 0)
        return rc;
    while (phx_crew_wait(crew, 5) > 0)
        continue;
    const struct arena *a = phx_crew_arena(crew);
    result->signal_ns = a->signal_ns;
    result->line_ns = a->line_ns;
    for (uint32_t r = 0; r < 2; r++) {
        struct phx_crew_status s = phx_crew_status(crew, r);
        if (rc == 0 && (s.exit != PHX_CREW_EXITED || s.code != 0))
            rc = phx_fail(message, a->rc[r] != 0 ? a->rc[r] : PHX_ERR_PEER_LOST,
                          "rank %u of the signal's two: %s", r, phx_error_text(a->rc[r]));
    }
    phx_crew_end(crew);
    return rc;
}
