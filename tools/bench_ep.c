// tools/bench_ep.c: starts the ranks of phx bench ep on this host and gathers what they measured.

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hw/clock.h"
#include "hw/crew.h"
#include "tools/bench_ep_internal.h"

#define HUGE_BYTES (2u << 20)

// --- a rank's process ---------------------------------------------------------------------------

static int host_open(void *context, const struct phx_group_options *options,
                     struct phx_group **group, struct phx_message *message)
{
    return phx_crew_rank_open(context, options, group, message);
}

static void host_close(void *context, struct phx_group *group)
{
    (void)context;
    phx_group_close(group);
}

static void host_barrier(void *context)
{
    phx_crew_rank_barrier(context);
}

static uint64_t host_now_ns(void *context)
{
    (void)context;
    return phx_clock_ns();
}

// In huge pages, where the system has them, as the tensors of an engine are; all pages are there
// before anything is timed.
static void *host_alloc(void *context, uint64_t size_bytes)
{
    uint64_t unit = size_bytes < HUGE_BYTES ? 4096 : HUGE_BYTES;
    uint64_t bytes = (size_bytes + unit - 1) / unit * unit;
    void *memory = aligned_alloc(unit, bytes);
    (void)context;
    if (memory == NULL)
        return NULL;
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    return memset(memory, 0, bytes);
}

static void host_free(void *context, void *memory)
{
    (void)context;
    free(memory);
}

static void host_opened(void *context, struct phx_bench_seat *seat)
{
    phx_shm_pages_count(phx_crew_rank_shm(context), &seat->pages);
}

// Shared memory has a floor to compare with; on a GPU the tensors here are for the checks.
static int ep_main(struct phx_crew_rank *self, void *arena)
{
    struct phx_bench_arena *a = arena;
    struct phx_bench_host host = {.context = self,
                                  .open = host_open,
                                  .close = host_close,
                                  .barrier = host_barrier,
                                  .now_ns = host_now_ns,
                                  .alloc = host_alloc,
                                  .free = host_free};
    uint32_t rank = phx_crew_rank_number(self);
    struct phx_bench_seat *seat = phx_bench_seat_of(a, rank);
    if (a->bench.transport == PHX_BENCH_CUDA) {
        host.options = phx_bench_gpu_options;
        host.run = phx_bench_gpu_run;
    } else {
        host.opened = host_opened;
        host.has_floor = true;
    }
    phx_bench_rank_run(&a->bench, &host, rank, seat);
    return seat->rc == 0 ? 0 : 1;
}

// --- gathering ----------------------------------------------------------------------------------

uint64_t phx_bench_span_ns(struct phx_bench_arena *arena, uint32_t at, uint32_t span)
{
    uint64_t from_ns = 0;
    uint64_t to_ns = 0;
    for (uint32_t r = 0; r < arena->bench.ranks; r++) {
        const struct phx_bench_stamps *s = &phx_bench_seat_of(arena, r)->stamps[at][span];
        from_ns = s->came_ns > from_ns ? s->came_ns : from_ns;
        to_ns = s->done_ns > to_ns ? s->done_ns : to_ns;
    }
    return to_ns - from_ns;
}

static void gather_gpu(const struct phx_bench_gpu *from, struct phx_bench_gpu *to)
{
    memcpy(to->device, from->device, sizeof to->device);
    to->workers = from->workers;
    for (uint32_t i = 0; i < 2; i++) {
        to->sent[i] = from->sent[i] > to->sent[i] ? from->sent[i] : to->sent[i];
        to->push_us[i] = from->push_us[i] > to->push_us[i] ? from->push_us[i] : to->push_us[i];
    }
}

static void gather(struct phx_bench_arena *arena, struct phx_bench_result *result)
{
    const struct phx_bench_ep *b = &arena->bench;
    result->bytes = phx_bench_seat_of(arena, 0)->bytes;
    for (uint32_t r = 0; r < b->ranks; r++) {
        const struct phx_bench_seat *seat = phx_bench_seat_of(arena, r);
        if (seat->sum_error > result->sum_error)
            result->sum_error = seat->sum_error;
        result->pages.region_bytes += seat->pages.region_bytes;
        result->pages.reserved_bytes += seat->pages.reserved_bytes;
        result->pages.transparent_bytes += seat->pages.transparent_bytes;
        gather_gpu(&seat->gpu, &result->gpu);
    }
    for (uint32_t i = 0; i < b->samples; i++)
        for (uint32_t span = 0; span < PHX_BENCH_SPANS; span++)
            result->samples[i].ns[span] = phx_bench_span_ns(arena, i, span);
}

int phx_bench_why_failed(struct phx_bench_arena *arena, struct phx_message *message)
{
    for (uint32_t r = 0; r < arena->bench.ranks; r++) {
        const struct phx_bench_seat *seat = phx_bench_seat_of(arena, r);
        if (seat->rc != 0)
            return phx_fail(message, seat->rc, "%s", seat->message.text);
    }
    return 0;
}

static int why_ended(struct phx_crew *crew, struct phx_bench_arena *arena,
                     struct phx_message *message)
{
    int rc = phx_bench_why_failed(arena, message);
    for (uint32_t r = 0; rc == 0 && r < arena->bench.ranks; r++) {
        struct phx_crew_status status = phx_crew_status(crew, r);
        if (status.exit == PHX_CREW_KILLED)
            rc = phx_fail(message, PHX_ERR_PEER_LOST, "rank %u was ended by signal %d (%s)", r,
                          status.code, strsignal(status.code));
        else if (status.code != 0)
            rc = phx_fail(message, PHX_ERR_STATE, "rank %u ended with status %d", r, status.code);
    }
    return rc;
}

// The crew's start says what is wrong with a GPU; who can't have one is refused before.
static int gpus_choose(struct phx_bench_ep *bench, struct phx_message *message)
{
    struct phx_gpu_table gpus;
    if (bench->ranks > PHX_GPUS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "ranks is %u; over cuda it may be 1 to %u",
                        bench->ranks, PHX_GPUS_MAX);
    int rc = phx_cuda_probe(&gpus, message);
    return rc != 0 ? rc
                   : phx_gpus_choose(&gpus, bench->ranks, bench->ranks_per_gpu, bench->devices,
                                     message);
}

static int run_shm(const struct phx_bench_ep *bench, struct phx_bench_result *result,
                   struct phx_message *message)
{
    const struct phx_crew_options options = {
        .ranks = bench->ranks,
        .workers = bench->workers > 0 ? bench->workers : 1,
        .spin_us = bench->spin_us,
        .arena_bytes = phx_bench_arena_bytes(bench),
        .main = ep_main,
        .is_quiet = true,
        .setup = bench,
        .setup_bytes = sizeof *bench,
        .devices = bench->transport == PHX_BENCH_CUDA ? bench->devices : NULL,
    };
    struct phx_crew *crew = NULL;
    int rc = phx_crew_start(&options, &crew, message);
    if (rc != 0)
        return rc;
    while (phx_crew_wait(crew, 5) > 0)
        continue;
    struct phx_bench_arena *arena = phx_crew_arena(crew);
    rc = why_ended(crew, arena, message);
    if (rc == 0)
        gather(arena, result);
    phx_crew_end(crew);
    return rc;
}

int phx_bench_ep_run(const struct phx_bench_ep *bench, struct phx_bench_result *result,
                     struct phx_message *message)
{
    memset(result, 0, sizeof *result);
    result->samples = calloc(bench->samples, sizeof *result->samples);
    if (result->samples == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u samples", bench->samples);
    struct phx_bench_ep chosen = *bench;
    int rc = bench->transport == PHX_BENCH_CUDA ? gpus_choose(&chosen, message) : 0;
    if (rc == 0)
        rc = bench->transport == PHX_BENCH_SIM ? phx_bench_ep_sim(bench, result, message)
                                               : run_shm(&chosen, result, message);
    if (rc != 0) {
        free(result->samples);
        result->samples = NULL;
    }
    return rc;
}
