// tools/bench_ep_internal.h: what phx bench ep and its ranks share.

#ifndef PHX_TOOLS_BENCH_EP_INTERNAL_H
#define PHX_TOOLS_BENCH_EP_INTERNAL_H

#include "hw/crew.h"
#include "tools/bench_ep.h"

struct phx_bench_seat { // of one rank, in the arena
    int32_t rc;
    struct phx_message message;
    struct phx_bench_bytes bytes;
    double sum_error;
    struct phx_bench_sample samples[]; // [bench.samples], at least one
};

struct phx_bench_arena {
    struct phx_bench_ep bench; // first: what the ranks are set up with
    _Alignas(64) uint8_t seats[];
};

static inline uint64_t phx_bench_seat_bytes(const struct phx_bench_ep *bench)
{
    uint64_t bytes =
        sizeof(struct phx_bench_seat) + (bench->samples + 1ull) * sizeof(struct phx_bench_sample);
    return (bytes + 63) / 64 * 64;
}
static inline struct phx_bench_seat *phx_bench_seat_of(struct phx_bench_arena *arena, uint32_t rank)
{
    return (struct phx_bench_seat *)(void *)(arena->seats +
                                             rank * phx_bench_seat_bytes(&arena->bench));
}

int phx_bench_ep_main(struct phx_crew_rank *self, void *arena); // a phx_crew_main

#endif
