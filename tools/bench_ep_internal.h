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
    struct phx_bench_gpu gpu;
    struct phx_bench_sample samples[]; // [bench.samples], twice on GPUs, at least one
};

struct phx_bench_arena {
    struct phx_bench_ep bench; // first: what the ranks are set up with
    _Alignas(64) uint8_t seats[];
};

static inline uint64_t phx_bench_seat_bytes(const struct phx_bench_ep *bench)
{
    uint64_t samples = 2ull * bench->samples + 1;
    uint64_t bytes = sizeof(struct phx_bench_seat) + samples * sizeof(struct phx_bench_sample);
    return (bytes + 63) / 64 * 64;
}
static inline struct phx_bench_seat *phx_bench_seat_of(struct phx_bench_arena *arena, uint32_t rank)
{
    return (struct phx_bench_seat *)(void *)(arena->seats +
                                             rank * phx_bench_seat_bytes(&arena->bench));
}

struct phx_bench_tensors { // in memory of the host
    uint16_t *x;
    int64_t *topk_idx;
    float *topk_weights;
    uint8_t *recv_x;
    uint32_t *recv_scales;
    int32_t *recv_count;
    int32_t *src_info;
    int64_t *range;
    int64_t *offsets;
    uint16_t *y;
    uint16_t *out;
    float *token_loss;
    int32_t *active;
    uint8_t *from; // of the floor's copies
    uint8_t *to;
};

struct phx_bencher { // one rank
    const struct phx_bench_ep *b;
    struct phx_bench_arena *arena;
    struct phx_crew_rank *self;
    struct phx_cuda *cuda; // NULL: not on a GPU
    struct phx_bench_seat *seat;
    uint32_t rank;
    struct phx_group *group;
    struct phx_handle *handle;
    struct phx_size_hint hint;
    struct phx_router *router;
    struct phx_bench_tensors t;
    uint64_t rows_max;
    struct phx_message message;
};

int phx_bench_ep_main(struct phx_crew_rank *self, void *arena); // a phx_crew_main
// Group, handle, tensors, and inputs drawn.
int phx_bencher_open(struct phx_bencher *r);
void phx_bencher_close(struct phx_bencher *r);
// What dispatch left in the tensors is right; then y is what experts that give back their input
// make of it.
bool phx_bench_dispatch_check(struct phx_bencher *r);
bool phx_bench_combine_check(struct phx_bencher *r);
void phx_bench_bytes_count(struct phx_bencher *r);

// bench_ep_gpu.c; bench_ep_none.c in a build without CUDA. Workers, and how they divide the work,
// for a GPU. Then: checks, and all that is timed, into the seat.
void phx_bench_gpu_options(struct phx_bencher *r, struct phx_group_options *options);
int phx_bench_gpu_run(struct phx_bencher *r);

#endif
