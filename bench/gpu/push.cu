// bench/gpu/push.cu: see the header.

#include <cuda_runtime.h>

#include "bench/gpu/push.h"

#define THREADS 512u
#define AT_ONCE 4u // independent loads of a thread

__global__ void __launch_bounds__(THREADS)
    phx_push_kernel(const __grid_constant__ struct phx_push push)
{
    // Blocks are dealt to peers; those of one peer share its bytes.
    uint32_t peer = blockIdx.x % push.peers;
    uint64_t blocks = gridDim.x / push.peers;
    uint64_t step = blocks * THREADS;
    uint64_t count = push.bytes / 16;
    const uint4 *from = (const uint4 *)(const void *)push.from;
    uint4 *to = (uint4 *)(void *)push.to[peer];
    uint64_t i = blockIdx.x / push.peers * THREADS + threadIdx.x;
    for (; i + (AT_ONCE - 1) * step < count; i += AT_ONCE * step) {
        uint4 words[AT_ONCE];
#pragma unroll
        for (uint32_t k = 0; k < AT_ONCE; k++)
            words[k] = from[i + k * step];
#pragma unroll
        for (uint32_t k = 0; k < AT_ONCE; k++)
            to[i + k * step] = words[k];
    }
    for (; i < count; i += step)
        to[i] = from[i];
}

extern "C" int phx_push_launch(const struct phx_push *push, uint32_t blocks, void *stream,
                               struct phx_message *message)
{
    uint32_t each = blocks / push->peers > 0 ? blocks / push->peers : 1;
    phx_push_kernel<<<each * push->peers, THREADS, 0, (cudaStream_t)stream>>>(*push);
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess)
        return 0;
    return phx_fail(message, PHX_ERR_DEVICE_LOST, "the push: %s", cudaGetErrorString(error));
}
