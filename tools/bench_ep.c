// tools/bench_ep.c: starts the ranks of phx bench ep and gathers what they measured.

#include "tools/bench_ep_internal.h"

#include <stdlib.h>
#include <string.h>

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void gather(struct phx_bench_arena *arena, struct phx_bench_result *result)
{
    const struct phx_bench_ep *b = &arena->bench;
    result->bytes = phx_bench_seat_of(arena, 0)->bytes;
    result->gpu = phx_bench_seat_of(arena, 0)->gpu;
    for (uint32_t r = 0; r < b->ranks; r++) {
        const struct phx_bench_seat *seat = phx_bench_seat_of(arena, r);
        if (seat->sum_error > result->sum_error)
            result->sum_error = seat->sum_error;
        for (uint32_t i = 0; i < 2; i++) {
            if (seat->gpu.push_us[i] > result->gpu.push_us[i])
                result->gpu.push_us[i] = seat->gpu.push_us[i];
            result->gpu.sent[i] = larger(result->gpu.sent[i], seat->gpu.sent[i]);
        }
        for (uint32_t i = 0; i < (b->is_cuda ? 2 : 1) * b->samples; i++) {
            struct phx_bench_sample *s = &result->samples[i];
            s->floor_ns = larger(s->floor_ns, seat->samples[i].floor_ns);
            s->dispatch_ns = larger(s->dispatch_ns, seat->samples[i].dispatch_ns);
            s->combine_ns = larger(s->combine_ns, seat->samples[i].combine_ns);
            s->pair_ns = larger(s->pair_ns, seat->samples[i].pair_ns);
        }
    }
}

// The first rank that failed speaks for all: the others then lost it.
static int why_failed(struct phx_crew *crew, struct phx_bench_arena *arena,
                      struct phx_message *message)
{
    for (uint32_t r = 0; r < arena->bench.ranks; r++) {
        const struct phx_bench_seat *seat = phx_bench_seat_of(arena, r);
        if (seat->rc != 0)
            return phx_fail(message, seat->rc, "%s", seat->message.text);
    }
    for (uint32_t r = 0; r < arena->bench.ranks; r++) {
        struct phx_crew_status status = phx_crew_status(crew, r);
        if (status.exit == PHX_CREW_KILLED)
            return phx_fail(message, PHX_ERR_PEER_LOST, "rank %u was ended by signal %d (%s)", r,
                            status.code, strsignal(status.code));
        if (status.code != 0)
            return phx_fail(message, PHX_ERR_STATE, "rank %u ended with status %d", r, status.code);
    }
    return 0;
}

int phx_bench_ep_run(const struct phx_bench_ep *bench, struct phx_bench_result *result,
                     struct phx_message *message)
{
    const struct phx_crew_options options = {
        .ranks = bench->ranks,
        .workers = bench->workers > 0 ? bench->workers : 1,
        .spin_us = bench->spin_us,
        .arena_bytes = sizeof(struct phx_bench_arena) + bench->ranks * phx_bench_seat_bytes(bench),
        .main = phx_bench_ep_main,
        .is_quiet = true,
        .setup = bench,
        .setup_bytes = sizeof *bench,
        .devices = bench->is_cuda ? bench->devices : NULL,
    };
    struct phx_crew *crew = NULL;
    memset(result, 0, sizeof *result);
    result->samples = calloc(2 * (size_t)bench->samples, sizeof *result->samples);
    if (result->samples == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u samples", bench->samples);
    int rc = phx_crew_start(&options, &crew, message);
    if (rc == 0) {
        while (phx_crew_wait(crew, 5) > 0)
            continue;
        struct phx_bench_arena *arena = phx_crew_arena(crew);
        rc = why_failed(crew, arena, message);
        if (rc == 0)
            gather(arena, result);
        phx_crew_end(crew);
    }
    if (rc != 0) {
        free(result->samples);
        result->samples = NULL;
    }
    return rc;
}
