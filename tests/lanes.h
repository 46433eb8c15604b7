// tests/lanes.h: enough of device.h to run route_cuda.h's code without a GPU: each lane of a block
// is a fiber, which runs from one barrier to the next.
//
// Between two barriers lanes run in an order that is drawn, and so do warps between two barriers of
// the block: votes order one warp alone. To ThreadSanitizer only a barrier orders them, so that
// what one lane reads of another without one between is a race. A barrier that some lanes meet and
// others do not ends the test.

#ifndef PHX_TESTS_LANES_H
#define PHX_TESTS_LANES_H

#include <string.h>

// What a GPU's compiler is told of loops.
#pragma GCC diagnostic ignored "-Wunknown-pragmas"

#define __CUDACC__ 1 // the form for many lanes is chosen by it
#define __device__
#define __host__
#define __shared__
#define __forceinline__ inline
#define __noinline__
#define __align__(n) __attribute__((aligned(n)))
#define PHX_KERNELS_DEVICE_H // this file stands for it

#include "kernels/rank.h"
#include "kernels/token.h"
#include "kernels/word.h"
#include "sim/sanitizer.h"

struct phx_worker {
    const struct phx_rank *rank;
    uint32_t index;
    uint32_t count;
    uint32_t lanes;
};

#include "kernels/chip_cuda.h"

struct lane_uint4 {
    uint32_t x, y, z, w;
} __attribute__((aligned(16)));
#define uint4 struct lane_uint4 // CUDA's

struct lane_index {
    uint32_t x;
};
extern struct lane_index lane_indices[PHX_LANES];
extern uint32_t lane_running;
#define threadIdx (lane_indices[__atomic_load_n(&lane_running, __ATOMIC_RELAXED)])
extern uint32_t lane_values[PHX_LANES];
extern uint32_t warp_values[PHX_LANES];

void lanes_meet(void); // the barrier
void warp_meets(void); // of this lane's warp alone: others may be far ahead or behind

static inline uint32_t phx_lane(const struct phx_worker *w)
{
    (void)w;
    return threadIdx.x;
}
static inline void phx_sync(const struct phx_worker *w)
{
    (void)w;
    lanes_meet();
}
#define PHX_EACH(w, i, n) for (uint32_t i = phx_lane(w); i < (n); i += PHX_LANES)
#define phx_each_begin(w) phx_sync(w)
#define phx_each_end(w) phx_sync(w)

static inline void phx_store_u32(const struct phx_worker *w, uint32_t *p, uint32_t value)
{
    if (phx_lane(w) == 0)
        *p = value;
}
static inline void phx_store_u64(const struct phx_worker *w, uint64_t *p, uint64_t value)
{
    if (phx_lane(w) == 0)
        *p = value;
}
static inline int __popc(uint32_t value)
{
    return __builtin_popcount(value);
}
static inline int __clz(int value)
{
    return value == 0 ? 32 : __builtin_clz((unsigned)value);
}
static inline uint32_t atomicOr(uint32_t *word, uint32_t bits)
{
    return __atomic_fetch_or(word, bits, __ATOMIC_RELAXED);
}

static inline uint32_t lanes_sum(uint32_t value)
{
    uint32_t sum = 0;
    lane_values[threadIdx.x] = value;
    lanes_meet();
    for (uint32_t i = 0; i < PHX_LANES; i++)
        sum += lane_values[i];
    lanes_meet();
    return sum;
}
static inline int phx_each_agree(const struct phx_worker *w, int holds)
{
    (void)w;
    return lanes_sum(holds != 0) == PHX_LANES;
}
// The values of this lane's warp, to all of it, until warp_taken().
static inline const uint32_t *warp_give(uint32_t value)
{
    warp_values[threadIdx.x] = value;
    warp_meets();
    return warp_values + threadIdx.x / PHX_WARP * PHX_WARP;
}
static inline uint32_t warp_taken(uint32_t result)
{
    warp_meets();
    return result;
}
static inline uint32_t __match_any_sync(uint32_t lanes, uint32_t value)
{
    const uint32_t *values = warp_give(value);
    uint32_t same = 0;
    for (uint32_t i = 0; i < PHX_WARP; i++)
        same |= (uint32_t)(values[i] == value) << i;
    return warp_taken(same & lanes);
}
static inline uint32_t __ballot_sync(uint32_t lanes, int vote)
{
    const uint32_t *values = warp_give(vote != 0);
    uint32_t votes = 0;
    for (uint32_t i = 0; i < PHX_WARP; i++)
        votes |= values[i] << i;
    return warp_taken(votes & lanes);
}
static inline uint32_t __shfl_sync(uint32_t lanes, uint32_t value, int lane)
{
    (void)lanes;
    return warp_taken(warp_give(value)[lane]);
}
static inline uint32_t __shfl_up_sync(uint32_t lanes, uint32_t value, uint32_t step)
{
    uint32_t lane = threadIdx.x % PHX_WARP;
    (void)lanes;
    return warp_taken(warp_give(value)[lane - (lane >= step ? step : 0)]);
}
static inline void phx_sums(const struct phx_worker *w, uint32_t *sums, uint32_t count)
{
    (void)w;
    for (uint32_t i = 0; i < count; i++)
        sums[i] = lanes_sum(sums[i]);
}
static inline uint8_t *phx_stage_take(struct phx_worker *w, uint8_t *home, uint64_t size_bytes)
{
    (void)w;
    (void)size_bytes;
    return home;
}
static inline void phx_copy(const struct phx_worker *w, void *to, const void *from, uint64_t bytes)
{
    if (phx_lane(w) == 0)
        memcpy(to, from, bytes);
    phx_sync(w);
}
static inline void phx_copy_row(const struct phx_worker *w, void *to, const void *from,
                                uint64_t bytes)
{
    phx_copy(w, to, from, bytes);
}
#define PHX_PIECES_PLAIN // a piece is copied at one go: no other lane runs meanwhile
static inline struct phx_token *phx_token_of(struct phx_worker *w)
{
    (void)w;
    return &phx_chip()->token;
}
static inline uint8_t *phx_region_of(const struct phx_worker *w, uint32_t source)
{
    return w->rank->from[source];
}
static inline uint8_t *phx_head_of(const struct phx_worker *w, uint32_t source, uint64_t sequence)
{
    (void)sequence;
    return w->rank->from[source];
}

#endif
