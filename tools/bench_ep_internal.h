// tools/bench_ep_internal.h: what phx bench ep and its ranks share.
//
//   bench_ep.c        starts the ranks on this host, gathers what they measured
//   bench_ep_sim.c    the same in the simulator, a world for each sample
//   bench_ep_rank.c   what one rank does, whatever runs it
//   bench_ep_check.c  whether what it got is right
//   bench_ep_gpu.c    what it times on a GPU: graphs of kernels. bench_ep_none.c without CUDA

#ifndef PHX_TOOLS_BENCH_EP_INTERNAL_H
#define PHX_TOOLS_BENCH_EP_INTERNAL_H

#include "hw/shm.h"
#include "sim/routing.h"
#include "tools/bench_ep.h"

struct phx_bench_stamps { // of one rank
    uint64_t came_ns;     // to the barrier before
    uint64_t done_ns;
};

struct phx_bench_seat { // of one rank, in the arena
    int32_t rc;
    struct phx_message message;
    struct phx_bench_bytes bytes;
    double sum_error;
    struct phx_shm_pages_count pages; // shm
    struct phx_bench_gpu gpu;         // cuda
    struct phx_bench_stamps stamps[][PHX_BENCH_SPANS]; // [bench.samples], at least one
};

struct phx_bench_arena {
    struct phx_bench_ep bench; // first: what the ranks are set up with
    _Alignas(64) uint8_t seats[];
};

static inline uint64_t phx_bench_seat_bytes(const struct phx_bench_ep *bench)
{
    uint64_t bytes = sizeof(struct phx_bench_seat) +
                     (bench->samples + 1ull) * PHX_BENCH_SPANS * sizeof(struct phx_bench_stamps);
    return (bytes + 63) / 64 * 64;
}
static inline uint64_t phx_bench_arena_bytes(const struct phx_bench_ep *bench)
{
    return sizeof(struct phx_bench_arena) + bench->ranks * phx_bench_seat_bytes(bench);
}
static inline struct phx_bench_seat *phx_bench_seat_of(struct phx_bench_arena *arena, uint32_t rank)
{
    return (struct phx_bench_seat *)(void *)(arena->seats +
                                             rank * phx_bench_seat_bytes(&arena->bench));
}
// What all ranks took for span `span` of sample `at`.
uint64_t phx_bench_span_ns(struct phx_bench_arena *arena, uint32_t at, uint32_t span);
// The first rank that failed speaks for all: the others then lost it. 0: none did.
int phx_bench_why_failed(struct phx_bench_arena *arena, struct phx_message *message);

// --- one rank -----------------------------------------------------------------------------------

struct phx_bench_rank;
struct phx_bench_host { // what runs it
    void *context;
    int (*open)(void *context, const struct phx_group_options *options, struct phx_group **group,
                struct phx_message *message);
    void (*close)(void *context, struct phx_group *group);
    void (*barrier)(void *context);
    uint64_t (*now_ns)(void *context);
    void *(*alloc)(void *context, uint64_t size_bytes); // zeroed, aligned to 4096
    void (*free)(void *context, void *memory);
    // What there is to say of it once groups are open. NULL: nothing.
    void (*opened)(void *context, struct phx_bench_seat *seat);
    bool has_floor; // copies are timed
    // NULL: no. What else it needs of a group; and what it times instead, from an open group on.
    void (*options)(struct phx_bench_rank *r, struct phx_group_options *options);
    int (*run)(struct phx_bench_rank *r);
};

struct phx_bench_tensors {
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

struct phx_bench_rank {
    const struct phx_bench_ep *b;
    const struct phx_bench_host *host;
    struct phx_bench_seat *seat;
    uint32_t rank;
    uint32_t channels; // stored
    struct phx_group *group;
    struct phx_handle *handle;
    struct phx_size_hint hint;
    struct phx_router *router;
    struct phx_bench_tensors t;
    uint64_t rows_max;
    struct phx_message message;
};

// Everything, from opening to closing; the result is in the seat.
void phx_bench_rank_run(const struct phx_bench_ep *bench, const struct phx_bench_host *host,
                        uint32_t rank, struct phx_bench_seat *seat);
// Counts of rows from this rank to each: to[ranks], by this rank's routing.
void phx_bench_rows_count(const struct phx_bench_ep *bench, const int64_t *topk_idx, uint32_t *to);
// Bytes of a dispatched row.
uint64_t phx_bench_row_bytes(const struct phx_bench_ep *bench);
struct phx_router *phx_bench_router(const struct phx_bench_ep *bench);

// bench_ep_check.c: false, with a message, when what dispatch or combine gave is wrong. The first
// one counts received entries, and lets each expert give back what it received.
bool phx_bench_dispatch_check(struct phx_bench_rank *r);
bool phx_bench_combine_check(struct phx_bench_rank *r);

void phx_bench_gpu_options(struct phx_bench_rank *r, struct phx_group_options *options);
int phx_bench_gpu_run(struct phx_bench_rank *r);

int phx_bench_ep_sim(const struct phx_bench_ep *bench, struct phx_bench_result *result,
                     struct phx_message *message);

#endif
