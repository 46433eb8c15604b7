// kernels/launch.h: starting the kernels on a GPU. No CUDA type in this header, for C callers.
//
// Today: all ranks of a group on one device, in one cooperative launch whose blocks are divided
// among them, which is how the bodies are compared with the simulator's. One process per GPU comes
// with the NVLink transport.

#ifndef PHX_KERNELS_LAUNCH_H
#define PHX_KERNELS_LAUNCH_H

#include "engine/error.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PHX_GPU_WARPS_PER_BLOCK 4u

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
