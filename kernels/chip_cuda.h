// kernels/chip_cuda.h: what a block keeps in its multiprocessor's shared memory.

#ifndef PHX_KERNELS_CHIP_CUDA_H
#define PHX_KERNELS_CHIP_CUDA_H

#include "kernels/kernels.h"
#include "kernels/word.h"

#define PHX_WARP 32u
#define PHX_WARP_ALL 0xFFFFFFFFu
#ifndef PHX_LANES
#define PHX_LANES 256u // threads that run a body
#endif
#define PHX_THREADS (PHX_LANES + PHX_WARP) // and the wire
#define PHX_GATHERED 5u                    // words that phx_gather() takes at a time
#define PHX_SUMS_MAX 3u                    // that phx_sums() adds up at a time
#define PHX_WIRE_JOBS 64u                  // a power of two
#define PHX_BITS_EXPERTS 256u              // experts that route_cuda.h ranks at a time
#define PHX_BITS_WORDS (PHX_LANES / 32u)
#define PHX_PASSES 4u // pairs of a token and a k that a lane has at a time when it builds a route
#define PHX_SCRATCH 1024u // experts of which a route's check counts on chip

#define PHX_REGIONS 64u // ranks whose regions' addresses are kept on chip
#define PHX_LISTS 16u   // sources whose rows combine looks up at once

enum phx_wire_kind { PHX_WIRE_PUT = 1, PHX_WIRE_SIGNAL, PHX_WIRE_FREE, PHX_WIRE_END };

struct phx_wire_job {
    uint32_t kind;
    uint32_t size_bytes; // PUT
    const uint8_t *from; // PUT: in shared memory
    uint8_t *to;         // PUT, SIGNAL
    uint64_t value;      // SIGNAL
};

struct phx_expected { // phx_expect()
    const uint64_t *words;
    const uint64_t *fate;
    uint32_t count;
};

struct phx_chip {
    uint64_t token_there; // mbarriers: phx_token_fetch(),
    uint64_t rows_there;  // phx_rows_fetch()
    uint64_t handed[2][PHX_GATHERED];
    uint64_t looked_ns[2]; // when a look began
    uint64_t begun_ns;     // when the launch did
    uint64_t warp_sum[2][PHX_LANES / PHX_WARP];
    uint32_t warp_sums[2][PHX_LANES / PHX_WARP][PHX_SUMS_MAX];
    uint32_t warp_seen[2][PHX_LANES / PHX_WARP];
    struct phx_wire_job jobs[PHX_WIRE_JOBS];
    uint32_t written;    // jobs ever, by lane 0,
    uint32_t posted;     // of these, told of
    uint32_t taken;      // by the wire,
    uint32_t taken_seen; // and of these, seen by lane 0
    uint32_t freed;      // slots whose rows have been read, by the wire
    uint32_t has_ended;  // the last job was written
    uint32_t slots;      // rows that fit behind this struct; 0: none
    uint32_t slot_bytes;
    uint32_t ahead_at; // behind the slots: a dispatched row for each warp; 0: none
    uint32_t ahead_bytes;
    uint32_t may_die; // a test launch that lets the rank die
    struct phx_rank rank;
    struct phx_figures figures; // of rank.shape
    struct phx_launch launch;
    uint8_t *from[PHX_REGIONS]; // as in rank
    uint8_t *to[PHX_REGIONS];
    struct phx_gpu_counters counters;
    struct phx_expected expected;
    uint32_t suspects_any; // some of suspected[] are set
    struct phx_token token;
    struct phx_row_list list;
    struct phx_row_list lists[PHX_LISTS]; // combine_cuda.h
    uint8_t suspected[PHX_RANKS_MAX];
    uint32_t tally[PHX_RANKS_MAX];
    uint32_t pairs[PHX_PASSES][PHX_LANES / PHX_WARP]; // of a warp: rows | entries << 16
    // Lines one word longer, so that lanes that look at one word of different lines seldom want one
    // bank.
    uint32_t bits[PHX_BITS_EXPERTS][PHX_BITS_WORDS + 1];
    uint32_t before[PHX_BITS_EXPERTS][PHX_BITS_WORDS + 1]; // route_cuda.h
    uint32_t scratch[PHX_SCRATCH];
};

#define PHX_CHIP_BYTES ((sizeof(struct phx_chip) + 127) / 128 * 128)

extern __shared__ __align__(128) uint8_t phx_chip_memory[];

PHX_FN struct phx_chip *phx_chip(void)
{
    return (struct phx_chip *)(void *)phx_chip_memory;
}
static __device__ __forceinline__ const struct phx_figures *phx_figures_here(void) // layout.h
{
    return &phx_chip()->figures;
}
PHX_FN uint8_t *phx_chip_slot(uint32_t slot)
{
    return phx_chip_memory + PHX_CHIP_BYTES + (uint64_t)slot * phx_chip()->slot_bytes;
}

#endif
