// kernels/device.h: everything a kernel body may call, whatever runs it.
//
// A worker is a thread block on a GPU, a pthread on a host, a fiber in the simulator. Every call
// is collective over the worker and its scalar arguments are uniform. A body uses nothing else: no
// thread index, block barrier or shared memory, no libc.
//
//   who        w->index, w->count, w->rank
//   time       phx_now, phx_settle
//   waiting    phx_load (acquire), phx_gather, phx_look, phx_park; only wait.h calls them, from
//              phx_wait and phx_barrier
//   peers      phx_put, phx_put_signal, phx_signal; on the worker's own lane; 0: it has no room
//              now. Bodies call phx_send_put and its like of wait.h, which wait for room
//   rank       phx_local_load, _store, _add, _cas: atomics among the workers of one rank; phx_wake
//   user mask  phx_mask_clear: entries of active_ranks, by any worker; phx_suspects_to: whether to
//              send to a peer, as phx_take_masks() saw it (or later)
//   loops      phx_each_begin(w) PHX_EACH(w, i, n) { } phx_each_end(w): the threads of a worker
//              share the turns; in one, only plain reads and stores and phx_own_*, which a thread
//              calls for itself. PHX_EACH_ALL: every thread takes part in every round, with i from
//              n up in the last; in it phx_scan too
//              phx_split(w): groups of threads share the turns of a loop, from phx_split_first()
//              in steps of phx_split_step(); in it leaves, scalars and phx_local_*, on the split
//              worker; then phx_split_end()
//   sending    phx_stage_take: where to build a row that will be put; phx_tally_*: rows sent so far
//   scalars    phx_store_i32, _u32, _u64, _i64, _f32: stored once per worker, seen by others after
//              a barrier; a body does not read back what it stored before one
//   leaves     phx_copy, phx_copy_row, phx_place_row, phx_zero_row, phx_stage_row, phx_sum_rows,
//              phx_check_sum, phx_scatter: rows and spans; phx_row_load: one word of a row
//   serial     phx_serial_begin / _end: the code between runs on one thread of the worker, and what
//              it stored is visible to the whole worker after
//
// Targets: device_c.h (simulator and host), device_cuda.h (one warp).

#ifndef PHX_KERNELS_DEVICE_H
#define PHX_KERNELS_DEVICE_H

#include "kernels/rank.h"
#include "kernels/word.h"

struct phx_row_list { // rows to be summed, in order
    const uint16_t *row[PHX_TOP_K_MAX];
    float weight[PHX_TOP_K_MAX];
    uint8_t is_listed[PHX_TOP_K_MAX]; // of entry k of a token
};

// One token's routing: [top_k] of each.
#define PHX_NO_PEER 0xFFFFFFFFu
struct phx_token {
    uint32_t peer[PHX_TOP_K_MAX]; // PHX_NO_PEER: no expert, or one that the token listed before
    float weight[PHX_TOP_K_MAX];
    uint64_t flag[PHX_TOP_K_MAX]; // of the peer, in the array that the caller named
};

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
#else
    struct phx_row_list list; // scratch, as phx_row_list_of() and phx_token_of() hand it out
    struct phx_token token;
#endif
};

#if defined(__CUDACC__)
#include "kernels/device_cuda.h"
#else
#include "kernels/device_c.h"
#endif

// phx_copy_row() to where this rank's workers do not read it again.
#if !defined(PHX_PLACE_ROW)
PHX_FN void phx_place_row(const struct phx_worker *w, void *target, const void *source,
                          uint64_t size_bytes)
{
    phx_copy_row(w, target, source, size_bytes);
}
#endif

#endif
