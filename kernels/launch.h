// kernels/launch.h: starting the kernels on a GPU. No CUDA type in this header, for C callers.
//
// A rank's workers are the blocks of one cooperative launch. phx_gpu_launch() starts one rank's, on
// a stream, with nothing on the host to wait for; phx_gpu_run() those of all ranks of a group that
// share a device, which is how the bodies are compared with the simulator's.

#ifndef PHX_KERNELS_LAUNCH_H
#define PHX_KERNELS_LAUNCH_H

#include "engine/error.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

// The rank and everything it and the launch point to are memory that the device reaches;
// launch->rank is a device address, and `shape` what stands there. Takes shape->workers blocks.
// counters NULL: the launch has its numbers (struct phx_op_common). The stream is a cudaStream_t;
// may be captured. Returns at once. PHX_ERR_INVALID: more workers than the device holds at a time;
// PHX_ERR_DEVICE_LOST: a CUDA error, named in the message.
int phx_gpu_launch(const struct phx_shape *shape, const struct phx_launch *launch,
                   struct phx_gpu_counters *counters, void *stream, struct phx_message *message);

// launches: [ranks] in device memory, of this shape and these halves, none a replay. Runs and
// waits. Errors as above.
int phx_gpu_run(const struct phx_shape *shape, const struct phx_launch *launches, uint32_t ranks,
                uint32_t halves, float *kernel_us, struct phx_message *message);

// The most workers that a rank of this shape can have, alone on the current device. 0: an error.
uint32_t phx_gpu_workers_max(const struct phx_shape *shape);

#ifdef __cplusplus
}
#endif

#endif
