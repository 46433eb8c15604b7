// hw/cuda_outcome.h: the kernel that turns what an operation left in device memory into a struct
// phx_outcome there.

#ifndef PHX_HW_CUDA_OUTCOME_H
#define PHX_HW_CUDA_OUTCOME_H

#include "engine/phalanx.h"
#include "kernels/kernels.h"
#include "kernels/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

struct phx_cuda_outcome_work { // all pointers are the device's
    const struct phx_rank *rank;
    struct phx_handle_view view;
    const uint64_t *answered;
    const struct phx_gpu_counters *counters;
    struct phx_outcome *outcome; // NULL: not asked for
    int32_t *active_ranks;       // [ranks] those suspected are cleared. NULL: none
    int64_t *recv_offsets;       // [experts_local + 1] NULL: not asked for
    uint64_t epoch;
    uint32_t kind; // enum phx_kind
    uint32_t reserved;
};

// Enqueues it behind the operation. PHX_ERR_DEVICE_LOST: a CUDA error.
int phx_cuda_outcome_launch(const struct phx_cuda_outcome_work *work, void *stream,
                            struct phx_message *message);

#ifdef __cplusplus
}
#endif

#endif
