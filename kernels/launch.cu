// kernels/launch.cu: the kernel bodies, compiled for GPUs, and their launch.

#include "kernels/launch.h"

#include <cooperative_groups.h>
#include <cuda_runtime.h>

#include "kernels/operation.h"

__global__ void phx_gpu_kernel(const struct phx_launch *launches, uint32_t blocks_per_rank)
{
    uint32_t worker =
        blockIdx.x % blocks_per_rank * (blockDim.x / PHX_WARP) + threadIdx.x / PHX_WARP;
    phx_launch_run(&launches[blockIdx.x / blocks_per_rank], worker);
}

// The numbers of one launch, from the counters, which go on: by the first thread of a grid of one.
__global__ void phx_gpu_number_kernel(struct phx_gpu_counters *c, uint32_t kind, uint32_t halves,
                                      uint32_t barriers, struct phx_op_common *numbers)
{
    uint32_t k = kind - 1;
    if (halves & PHX_HALF_SEND) {
        c->sent[k]++;
        c->operation_of[k][c->sent[k] % PHX_IN_FLIGHT_MAX] = ++c->operations;
    }
    numbers->sequence = (halves & PHX_HALF_SEND) != 0 ? c->sent[k] : c->received[k] + 1;
    if (halves & PHX_HALF_RECEIVE)
        c->received[k]++;
    numbers->operation = c->operation_of[k][numbers->sequence % PHX_IN_FLIGHT_MAX];
    numbers->sent = c->operations;
    numbers->barriers_before = c->barriers;
    c->barriers += barriers;
}

__global__ void phx_gpu_rank_kernel(struct phx_launch launch, const struct phx_op_common *numbers)
{
    if (numbers != NULL) {
        struct phx_op_common *op =
            launch.kind == PHX_DISPATCH ? &launch.dispatch.common : &launch.combine.common;
        op->operation = numbers->operation;
        op->sequence = numbers->sequence;
        op->sent = numbers->sent;
        op->barriers_before = numbers->barriers_before;
    }
    phx_launch_run(&launch, blockIdx.x * (blockDim.x / PHX_WARP) + threadIdx.x / PHX_WARP);
}

static int cuda_fail(cudaError_t error, const char *call, struct phx_message *message)
{
    return phx_fail(message, PHX_ERR_DEVICE_LOST, "%s: %s", call, cudaGetErrorString(error));
}

static int check_blocks(const void *kernel, uint32_t blocks, uint32_t threads,
                        struct phx_message *message)
{
    int device = 0;
    int processors = 0;
    int per_processor = 0;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, (int)threads,
                                                              0);
    if (error != cudaSuccess)
        return cuda_fail(error, "reading the device's limits", message);
    uint32_t most = (uint32_t)(processors * per_processor);
    if (blocks > most)
        return phx_fail(message, PHX_ERR_INVALID,
                        "workers: %u blocks of %u threads are needed at once, the device holds %u",
                        blocks, threads, most);
    return 0;
}

extern "C" int phx_gpu_run(const struct phx_launch *launches, uint32_t ranks, uint32_t workers,
                           float *kernel_us, struct phx_message *message)
{
    uint32_t warps = workers < PHX_GPU_WARPS_PER_BLOCK ? workers : PHX_GPU_WARPS_PER_BLOCK;
    if (workers == 0 || workers % warps != 0)
        return phx_fail(message, PHX_ERR_INVALID, "workers = %u: must be a multiple of %u", workers,
                        PHX_GPU_WARPS_PER_BLOCK);
    uint32_t blocks_per_rank = workers / warps;
    uint32_t blocks = ranks * blocks_per_rank;
    uint32_t threads = warps * PHX_WARP;
    int rc = check_blocks((const void *)phx_gpu_kernel, blocks, threads, message);
    if (rc != 0)
        return rc;
    cudaEvent_t begin;
    cudaEvent_t end;
    float ms = 0.0f;
    void *arguments[] = {(void *)&launches, (void *)&blocks_per_rank};
    cudaError_t error = cudaEventCreate(&begin);
    if (error != cudaSuccess)
        return cuda_fail(error, "cudaEventCreate", message);
    error = cudaEventCreate(&end);
    if (error != cudaSuccess) {
        cudaEventDestroy(begin);
        return cuda_fail(error, "cudaEventCreate", message);
    }
    cudaEventRecord(begin);
    error = cudaLaunchCooperativeKernel((void *)phx_gpu_kernel, blocks, threads, arguments, 0, 0);
    cudaEventRecord(end);
    if (error == cudaSuccess)
        error = cudaEventSynchronize(end);
    if (error == cudaSuccess)
        error = cudaEventElapsedTime(&ms, begin, end);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    if (error != cudaSuccess)
        return cuda_fail(error, "cudaLaunchCooperativeKernel", message);
    if (kernel_us != NULL)
        *kernel_us = ms * 1000.0f;
    return 0;
}

extern "C" int phx_gpu_launch(const struct phx_launch *launch, struct phx_gpu_counters *counters,
                              void *stream, struct phx_message *message)
{
    uint32_t workers = launch->workers;
    uint32_t warps = workers < PHX_GPU_WARPS_PER_BLOCK ? workers : PHX_GPU_WARPS_PER_BLOCK;
    if (workers == 0 || workers % warps != 0)
        return phx_fail(message, PHX_ERR_INVALID, "workers = %u: must be a multiple of %u", workers,
                        PHX_GPU_WARPS_PER_BLOCK);
    uint32_t threads = warps * PHX_WARP;
    const void *kernel = (const void *)phx_gpu_rank_kernel;
    int rc = check_blocks(kernel, workers / warps, threads, message);
    if (rc != 0)
        return rc;
    // The numbers lie behind the counters.
    struct phx_op_common *numbers =
        counters != NULL ? (struct phx_op_common *)(void *)(counters + 1) : NULL;
    struct phx_launch copy = *launch;
    void *arguments[] = {&copy, &numbers};
    cudaStream_t on = (cudaStream_t)stream;
    if (counters != NULL) {
        phx_gpu_number_kernel<<<1, 1, 0, on>>>(counters, launch->kind, launch->halves,
                                               phx_kernel_barriers(launch->kind, launch->halves),
                                               numbers);
        cudaError_t error = cudaGetLastError();
        if (error != cudaSuccess)
            return cuda_fail(error, "launching the kernel that counts", message);
    }
    cudaError_t error =
        cudaLaunchCooperativeKernel(kernel, workers / warps, threads, arguments, 0, on);
    return error == cudaSuccess ? 0 : cuda_fail(error, "cudaLaunchCooperativeKernel", message);
}
