// kernels/device.h: everything a kernel body may call, whatever runs it.
//
// A worker is a converged warp on a GPU, a pthread on a host, a fiber in the simulator. Every call
// is collective over the worker and its scalar arguments are uniform. A body uses nothing else: no
// thread index, block barrier or shared memory, no libc.
//
//   who        w->index, w->count, w->rank
//   time       phx_now, phx_settle
//   waiting    phx_load (acquire), phx_park; only wait.h calls them, from phx_wait and phx_barrier
//   peers      phx_put, phx_put_signal, phx_signal; on the worker's own lane; 0: it has no room
//              now. Bodies call phx_send_put and its like of wait.h, which wait for room
//   rank       phx_local_load, _store, _add, _cas: atomics among the workers of one rank; phx_wake
//   user mask  phx_mask_load, phx_mask_clear: entries of active_ranks, by any worker
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
    uint32_t announced; // WAITING was stored for this operation: on this rank + 1
};

struct phx_row_list { // rows to be summed, in order
    const uint16_t *row[PHX_TOP_K_MAX];
    float weight[PHX_TOP_K_MAX];
    uint32_t count;
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
