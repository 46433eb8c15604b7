// kernels/block_cuda.h: a block, from its launch to its end: what it fetches, the body, the numbers
// that it leaves. For kernels: launch.cu has those for every launch, launch_usual.cu those for
// most.

#ifndef PHX_KERNELS_BLOCK_CUDA_H
#define PHX_KERNELS_BLOCK_CUDA_H

#define PHX_FIGURES_ON_CHIP // layout.h

#include "kernels/operation.h"

// Kernels of launch_usual.cu, as phx_gpu_rank() and phx_gpu_ranks().
const void *phx_gpu_rank_usual(uint32_t kind);
const void *phx_gpu_ranks_usual(void);

static __device__ struct phx_op_common *common_of(struct phx_launch *launch)
{
    return launch->kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
}

static __device__ void take_numbers(struct phx_launch *launch, const struct phx_gpu_counters *c)
{
    struct phx_op_common *op = common_of(launch);
    uint32_t kind = launch->kind - 1;
    int sends = (launch->halves & PHX_HALF_SEND) != 0;
    op->sequence = (sends ? c->sent[kind] : c->received[kind]) + 1;
    op->operation = sends ? c->operations + 1 : c->operation_of[kind][op->sequence % PHX_SLOTS_MAX];
    op->sent = c->operations + (uint64_t)sends;
    op->barriers_before = c->barriers;
}

static __device__ void give_numbers(const struct phx_launch *launch, struct phx_gpu_counters *c,
                                    uint64_t barriers)
{
    const struct phx_op_common *op =
        launch->kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
    uint32_t kind = launch->kind - 1;
    if (launch->halves & PHX_HALF_SEND) {
        c->operations = op->operation;
        c->sent[kind] = op->sequence;
        c->operation_of[kind][op->sequence % PHX_SLOTS_MAX] = op->operation;
    }
    if (launch->halves & PHX_HALF_RECEIVE)
        c->received[kind] = op->sequence;
    c->barriers = op->barriers_before + barriers;
    c->readers = 0;
}

template <typename T> static __device__ __forceinline__ void chip_copy(T *to, const T *from)
{
    static_assert(sizeof *from % 4 == 0, "copied by words");
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < sizeof *from / 4; i += PHX_THREADS)
        ((uint32_t *)(void *)to)[i] = ((const uint32_t *)(const void *)from)[i];
}

// What lies in global memory, a word a thread, all under way at once.
struct fetched {
    uint32_t word;
    uint32_t *to; // on chip; NULL: none
};
static __device__ __forceinline__ struct fetched fetch(const struct phx_rank *rank,
                                                       const struct phx_gpu_counters *counters)
{
    struct phx_chip *chip = phx_chip();
    const uint32_t rank_words = sizeof *rank / 4;
    const uint32_t counters_at = (rank_words + PHX_WARP - 1) / PHX_WARP * PHX_WARP;
    const uint32_t counters_words = sizeof *counters / 4;
    static_assert((sizeof *rank + sizeof *counters) / 4 + PHX_WARP <= PHX_THREADS, "one each");
    uint32_t i = threadIdx.x;
    struct fetched f = {0, NULL};
    if (i < rank_words) {
        f.word = ((const uint32_t *)(const void *)rank)[i];
        f.to = (uint32_t *)(void *)&chip->rank + i;
    } else if (i - counters_at < counters_words && counters != NULL) {
        f.word = ((const uint32_t *)(const void *)counters)[i - counters_at];
        f.to = (uint32_t *)(void *)&chip->counters + (i - counters_at);
    }
    return f;
}

// Slots of a launch, and behind them those that are set aside for rows fetched ahead, as slots |
// ahead << 16 (launch.cu): where these are, if any.
static __device__ __forceinline__ void chip_slots(struct phx_chip *chip, uint32_t slots)
{
    uint32_t ahead = slots >> 16;
    chip->slots = slots & 0xFFFFu;
    chip->ahead_at = ahead != 0 ? PHX_CHIP_BYTES + chip->slots * chip->slot_bytes : 0;
    chip->ahead_bytes = ahead * chip->slot_bytes;
}

static __device__ __forceinline__ void chip_clear(struct phx_chip *chip)
{
    chip->written = 0;
    chip->posted = 0;
    chip->taken = 0;
    chip->taken_seen = 0;
    chip->freed = 0;
    chip->has_ended = 0;
    chip->suspects_any = 0;
    phx_fetch_init(&chip->token_there);
    phx_fetch_init(&chip->rows_there);
}

static __device__ __forceinline__ void chip_begin(const struct phx_launch *launch,
                                                  const struct phx_figures *figures,
                                                  const struct phx_gpu_counters *counters,
                                                  uint32_t slots)
{
    struct phx_chip *chip = phx_chip();
    struct fetched fetched = fetch(launch->rank, counters);
    chip_copy(&chip->launch, launch);
    chip_copy(&chip->figures, figures);
    if (threadIdx.x == PHX_LANES)
        chip_clear(chip);
    if (fetched.to != NULL)
        *fetched.to = fetched.word;
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t dispatch = chip->figures.dispatch_stride;
        uint32_t combine = chip->figures.combine_stride;
        chip->slot_bytes = dispatch > combine ? dispatch : combine;
        chip_slots(chip, slots);
        chip->launch.rank = &chip->rank;
        if (counters != NULL)
            take_numbers(&chip->launch, &chip->counters);
    }
    if (threadIdx.x == PHX_LANES)
        chip->begun_ns = phx_own_now();
    __syncthreads();
}

// Addresses, which lie one step further. The lanes of the body find them after they next meet.
static __device__ __forceinline__ void chip_addresses(void)
{
    struct phx_chip *chip = phx_chip();
    static_assert(PHX_LANES >= 2 * PHX_WARP + PHX_REGIONS, "a thread for each");
    uint32_t near = threadIdx.x - 2 * PHX_WARP; // regions
    if (near < PHX_REGIONS && near < chip->rank.shape.ranks) {
        chip->from[near] = chip->rank.from[near];
        chip->to[near] = chip->rank.to[near];
    }
    if (threadIdx.x == PHX_WARP) {
        uint64_t after = chip->rank.state->die_after_puts;
        chip->may_die = (after | chip->rank.state->dead) != 0;
    }
}

// The last block that has read the numbers writes those of the next launch.
static __device__ __forceinline__ void pass_numbers(struct phx_gpu_counters *counters)
{
    const struct phx_chip *chip = phx_chip();
    const struct phx_launch *launch = &chip->launch;
    uint64_t before = phx_local_word(counters->readers).fetch_add(1, cuda::memory_order_acq_rel);
    if (before + 1 == chip->rank.shape.workers)
        give_numbers(launch, counters,
                     phx_kernel_barriers(&chip->rank.shape, launch->kind, launch->halves));
}

// kind and halves: the launch's, where they are known before it; 0 otherwise.
static __device__ __forceinline__ void block_run(const struct phx_launch *launch,
                                                 const struct phx_figures *figures,
                                                 struct phx_gpu_counters *counters, uint32_t worker,
                                                 uint32_t slots, uint32_t kind, uint32_t halves)
{
    struct phx_chip *chip = phx_chip();
    chip_begin(launch, figures, counters, slots);
    if (threadIdx.x >= PHX_LANES) {
        if (threadIdx.x == PHX_LANES && chip->launch.kind == PHX_DISPATCH &&
            (chip->launch.halves & PHX_HALF_SEND))
            phx_token_fetch(&chip->launch.dispatch, worker);
        if (threadIdx.x == PHX_LANES && counters != NULL)
            pass_numbers(counters);
        __syncwarp();
        phx_wire_run();
        return;
    }
    chip_addresses();
    if (halves == 0 || (halves & PHX_HALF_SEND) == 0) // a send half meets before it sends
        phx_sync_block();
    phx_launch_run(&chip->launch, worker, kind != 0 ? kind : chip->launch.kind,
                   halves != 0 ? halves : chip->launch.halves);
    phx_sync_block();
    if (threadIdx.x != 0)
        return;
    phx_wire_end();
}

#endif
