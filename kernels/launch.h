// kernels/launch.h: starting the kernels on a GPU. No CUDA type in this header, for C callers.
//
// Two ways: one rank on its process's GPU, on any stream (hw/cuda_executor.c), or all ranks of a
// group on one device, in one cooperative launch whose blocks are divided among them, which is how
// the bodies are compared with the simulator's.

#ifndef PHX_KERNELS_LAUNCH_H
#define PHX_KERNELS_LAUNCH_H

#include "engine/error.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PHX_GPU_WARPS_PER_BLOCK 4u

// The numbers of a group's operations, in PHX_GPU_COUNTERS_BYTES of device memory: what a launch
// that is replayed by a graph goes by. Zeroed for a group that has run none.
struct phx_gpu_counters {
    uint64_t operations; // begun, of both kinds
    uint64_t barriers;   // passed
    uint64_t sent[2];    // of each kind (enum phx_kind - 1)
    uint64_t received[2];
    uint64_t operation_of[2][PHX_IN_FLIGHT_MAX]; // by the parity of its number of the kind
};
#define PHX_GPU_COUNTERS_BYTES 512u // that the counters take, with what launches keep beside them

// Enqueues one launch of one rank on a stream (a cudaStream_t; capturable) and returns. *launch is
// copied; its rank, and all that it names, is device memory or mapped host memory, and workers is
// rank->shape.workers. counters NULL: the numbers are those in *launch; else a send half takes the
// next ones, a receive half those of the oldest send half, and *launch's do not matter.
// PHX_ERR_INVALID: more workers than the device holds at once; PHX_ERR_DEVICE_LOST: a CUDA error.
int phx_gpu_launch(const struct phx_launch *launch, struct phx_gpu_counters *counters, void *stream,
                   struct phx_message *message);

// launches: [ranks] in device memory, and everything they point to. Each rank has shape.workers
// workers, a multiple of PHX_GPU_WARPS_PER_BLOCK or fewer than that; `workers` repeats the number.
// Runs and waits. PHX_ERR_INVALID: more blocks than the device holds at once; PHX_ERR_DEVICE_LOST:
// a CUDA error, named in the message.
int phx_gpu_run(const struct phx_launch *launches, uint32_t ranks, uint32_t workers,
                float *kernel_us, struct phx_message *message);

#ifdef __cplusplus
}
#endif

#endif
