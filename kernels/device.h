// kernels/device.h: everything a kernel body may call, whatever runs it.
//
// A worker is a thread block on a GPU, a pthread on a host, a fiber in the simulator. Every call
// is collective over the worker and its scalar arguments are uniform. A body uses nothing else: no
// thread index, block barrier or shared memory, no libc.
//
//   who        w->index, w->count, w->rank
//   time       phx_now, phx_settle; phx_now_begun: when the operation began; phx_now_looked: when
//              the last phx_gather or phx_look did. Both may be known already
//   waiting    phx_load (acquire), phx_gather, phx_look, phx_park; only wait.h calls them, from
//              phx_wait and phx_barrier. phx_expect: what will be waited for next, and
//              phx_gather_expecting, which looks for that, too
//   peers      phx_region_of, phx_head_of: the region of this rank that a source writes, and where
//              its head of an operation lies; to both an offset in the region is added
//              phx_put, phx_put_signal, phx_signal; on the worker's own lane; 0: it has no room
//              now. Bodies call phx_send_put and its like of wait.h, which wait for room
//   rank       phx_local_load, _store, _add, _cas: atomics among the workers of one rank;
//              phx_local_cas_begin, _end: a _cas in two steps, which orders nothing;
//              phx_local_claim: of a word that this worker alone changes in this operation, and
//              others read after a barrier;
//              phx_local_count: an addition that nobody waits for; phx_arrive; phx_arrive_relaxed:
//              nobody relies on what came before it; phx_wake
//   user mask  phx_mask_clear: entries of active_ranks, by any worker; phx_suspects_to: whether to
//              send to a peer, as phx_take_masks() saw it (or later)
//   loops      phx_each_begin(w) PHX_EACH(w, i, n) { } phx_each_end(w): the threads of a worker
//              share the turns; in one, only plain reads and stores and phx_own_*, which a thread
//              calls for itself; phx_each_agree: as _end, and whether something holds for all of
//              them. PHX_EACH_ALL: every thread takes part in every round, with i from
//              n up in the last; in it phx_scan too
//              phx_split(w): groups of threads share the turns of a loop, from phx_split_first()
//              in steps of phx_split_step(); in it leaves, scalars, loops and phx_local_*, on the
//              split worker, and phx_split_sum() over its threads; then phx_split_end()
//   sending    phx_stage_take: where to build a row that will be put; phx_tally_*: rows sent;
//              phx_told: what was posted may be kept back until it is called, before any wait and
//              before what takes long; phx_sent_all: nothing more is put, but for worker 0's
//              status words
//   scalars    phx_store_i32, _u32, _u64, _i64, _f32: stored once per worker, seen by others after
//              a barrier; a body does not read back what it stored before one
//   leaves     phx_copy, phx_copy_row, phx_zero_row, phx_stage_row, phx_sum_rows, phx_check_sum,
//              phx_scatter: rows and spans; phx_row_load: one word of a row; phx_place_received: a
//              received row; phx_row_ahead: one that a group of threads will place, to be fetched
//              while its fate is decided, and phx_row_ahead_wait, in phx_split(); phx_rows_fetched:
//              waits for rows that were fetched to be summed;
//              phx_fetch: what will be read soon, a hint
//
// Targets: device_c.h (simulator and host), device_cuda.h (a thread block).

#ifndef PHX_KERNELS_DEVICE_H
#define PHX_KERNELS_DEVICE_H

#include "kernels/rank.h"
#include "kernels/token.h"
#include "kernels/word.h"

struct phx_worker {
    const struct phx_rank *rank;
    uint32_t index;
    uint32_t count;
    // Set by phx_worker_begin() and phx_operation_begin() in wait.h.
    const struct phx_op_common *op;
    uint64_t start_ns;     // of the operation, or of the restart after a pause
    uint64_t last_poll_ns; // to notice a pause
    uint64_t barriers;     // passed by this worker
    uint32_t restarted;
    uint32_t announced;      // WAITING was stored for this operation: on this rank + 1
    uint32_t blocked;        // it has been, for D/4, in this operation
    uint32_t has_ended;      // a barrier told it so: it arrives at none any more
    const uint64_t *fate_at; // what phx_wait() saw last, of which fate
    uint64_t fate_seen;
#if defined(__CUDACC__)
    uint32_t lanes;    // PHX_LANES, or PHX_WARP when split
    uint32_t turn;     // device_cuda.h
    uint32_t stages;   // slots on chip ever taken
    uint32_t unfenced; // the last of them was written
    uint32_t fetches;  // phx_rows_fetch(): ever, and waited for
    uint32_t fetches_seen;
    uint32_t expects; // phx_expect(): 1: its words are looked for, 2: they are there, and say
    uint64_t expected_sum;
    uint64_t expected_fate; // as it then was
#else
    struct phx_row_list list; // scratch, as phx_row_list_of() and phx_token_of() hand it out
    struct phx_token token;
#endif
};

// A body is long, and a GPU runs most lines of it once: a good part of what it pays for is fetching
// instructions. So what hardly ever happens is called (PHX_COLD). It works on a copy of the worker:
// the worker itself would have to lie in memory, where now it lies in registers.
//
//     PHX_ASIDE_BEGIN(w);
//     int result = phx_something_apart(aside, ...);
//     PHX_ASIDE_END(w);
#if defined(__CUDACC__)
#define PHX_ASIDE_BEGIN(w)                                                                         \
    struct phx_worker aside_storage = *(w);                                                        \
    struct phx_worker *const aside = &aside_storage
#define PHX_ASIDE_END(w) phx_worker_rejoin(w, &aside_storage)
// Takes over what a call may have changed, and nothing else: the rest stays known to the compiler.
PHX_FN void phx_worker_rejoin(struct phx_worker *w, const struct phx_worker *aside)
{
    w->start_ns = aside->start_ns;
    w->last_poll_ns = aside->last_poll_ns;
    w->restarted = aside->restarted;
    w->announced = aside->announced;
    w->blocked = aside->blocked;
    w->has_ended = aside->has_ended;
    w->turn = aside->turn;
}
#else
#define PHX_ASIDE_BEGIN(w) struct phx_worker *const aside = (w)
#define PHX_ASIDE_END(w) (void)(w)
#endif

#if defined(__CUDACC__)
#include "kernels/device_cuda.h"
#else
#include "kernels/device_c.h"
#endif

// A word in the head of operation `sequence` of a source's region, at an offset in the region, and
// the wire row in a slot.
PHX_FN const uint64_t *phx_word_from(const struct phx_worker *w, uint32_t source, uint64_t sequence,
                                     uint64_t offset)
{
    return (const uint64_t *)(const void *)(phx_head_of(w, source, sequence) + offset);
}
PHX_FN const uint8_t *phx_row_from(const struct phx_worker *w, uint32_t source,
                                   const struct phx_row_places *places, uint32_t slot)
{
    const uint8_t *base = slot < places->near_rows ? phx_head_of(w, source, places->sequence)
                                                   : phx_region_of(w, source);
    return base + phx_row_place(places, slot);
}

// A received row to the place of one of its experts: its payload and its scales.
#if !defined(__CUDACC__)
PHX_FN void phx_place_received(const struct phx_worker *w, uint8_t *target, const uint8_t *wire,
                               uint64_t payload_bytes, uint32_t *scales, uint64_t stride,
                               uint32_t words)
{
    phx_place_row(w, target, wire, payload_bytes);
    phx_scatter(w, scales, stride, (const uint32_t *)(const void *)(wire + payload_bytes), words);
}
#endif

#endif
