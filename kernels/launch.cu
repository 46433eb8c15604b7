// kernels/launch.cu: the kernel bodies, compiled for GPUs, and their launch.

#include "kernels/block_cuda.h"

#include "kernels/launch.h"

#include <cuda_runtime.h>

__global__ void __launch_bounds__(PHX_THREADS, 1)
    phx_gpu_rank(const __grid_constant__ struct phx_launch launch,
                 const __grid_constant__ struct phx_figures figures,
                 struct phx_gpu_counters *counters, uint32_t slots)
{
    block_run(&launch, &figures, counters, blockIdx.x, slots, 0, 0);
}

__global__ void __launch_bounds__(PHX_THREADS, 1)
    phx_gpu_ranks(const struct phx_launch *launches,
                  const __grid_constant__ struct phx_figures figures, uint32_t workers,
                  uint32_t slots)
{
    block_run(&launches[blockIdx.x / workers], &figures, NULL, blockIdx.x % workers, slots, 0, 0);
}

// --- the host -----------------------------------------------------------------------------------

static int cuda_fail(cudaError_t error, const char *call, struct phx_message *message)
{
    return phx_fail(message, PHX_ERR_DEVICE_LOST, "%s: %s", call, cudaGetErrorString(error));
}

struct plan {
    uint32_t slots; // rows that fit on chip; fewer than three are of no use
    uint32_t ahead; // of these, what is set aside for rows fetched ahead
    uint32_t chip_bytes;
    uint32_t blocks_max;
};

#define SLOTS_MIN 3u
#define SLOTS_MAX 32u

static cudaError_t plan_make(const struct phx_shape *s, const void *kernel, struct plan *plan)
{
    int device = 0;
    int processors = 0;
    int per_processor = 0;
    int chip_max = 0;
    uint64_t dispatch = phx_dispatch_row_stride(s);
    uint64_t combine = phx_combine_row_stride(s);
    uint64_t slot = dispatch > combine ? dispatch : combine;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&chip_max, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    if (error != cudaSuccess)
        return error;
    uint64_t slots = ((uint64_t)chip_max - PHX_CHIP_BYTES) / slot;
    plan->slots = (uint32_t)(slots > SLOTS_MAX ? SLOTS_MAX : slots);
    if (plan->slots < SLOTS_MIN)
        plan->slots = 0;
    plan->ahead = (uint32_t)((PHX_LANES / PHX_WARP * dispatch + slot - 1) / slot);
    if (plan->slots < plan->ahead + SLOTS_MIN)
        plan->ahead = 0;
    plan->chip_bytes = (uint32_t)(PHX_CHIP_BYTES + plan->slots * slot);
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 (int)plan->chip_bytes);
    if (error == cudaSuccess)
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, PHX_THREADS,
                                                              plan->chip_bytes);
    plan->blocks_max = (uint32_t)(processors * per_processor);
    return error;
}

extern "C" uint32_t phx_gpu_workers_max(const struct phx_shape *shape)
{
    struct plan plan;
    return plan_make(shape, (const void *)phx_gpu_rank, &plan) == cudaSuccess ? plan.blocks_max : 0;
}

static int launch_blocks(const struct phx_shape *shape, const void *kernel, uint32_t blocks,
                         void **arguments, uint32_t *slots, cudaStream_t stream,
                         struct phx_message *message)
{
    struct plan plan;
    cudaError_t error = plan_make(shape, kernel, &plan);
    if (error != cudaSuccess)
        return cuda_fail(error, "reading the device's limits", message);
    if (blocks > plan.blocks_max)
        return phx_fail(message, PHX_ERR_INVALID,
                        "workers = %u: %u blocks are needed at once, the device holds %u",
                        shape->workers, blocks, plan.blocks_max);
    *slots = (plan.slots - plan.ahead) | plan.ahead << 16;
    error = cudaLaunchCooperativeKernel(kernel, blocks, PHX_THREADS, arguments, plan.chip_bytes,
                                        stream);
    return error == cudaSuccess ? 0 : cuda_fail(error, "cudaLaunchCooperativeKernel", message);
}

// What launch_usual.cu is compiled for, but for replays.
static int is_usual(const struct phx_shape *s, uint32_t halves)
{
    return s->division == PHX_BY_TOKEN && s->layout == PHX_LAYOUT_SLOTS &&
           s->rows == PHX_ROWS_ONCE && s->check != PHX_CHECK_ROWS &&
           halves == (PHX_HALF_SEND | PHX_HALF_RECEIVE);
}

extern "C" int phx_gpu_launch(const struct phx_shape *shape, const struct phx_launch *launch,
                              struct phx_gpu_counters *counters, void *stream,
                              struct phx_message *message)
{
    uint32_t slots = 0;
    struct phx_figures figures = phx_figures_of(shape);
    void *arguments[] = {(void *)launch, (void *)&figures, (void *)&counters, (void *)&slots};
    const struct phx_op_common *op =
        launch->kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
    const void *kernel = is_usual(shape, launch->halves) && op->replay == NULL
                             ? phx_gpu_rank_usual(launch->kind)
                             : (const void *)phx_gpu_rank;
    return launch_blocks(shape, kernel, shape->workers, arguments, &slots, (cudaStream_t)stream,
                         message);
}

extern "C" int phx_gpu_run(const struct phx_shape *shape, const struct phx_launch *launches,
                           uint32_t ranks, uint32_t halves, float *kernel_us,
                           struct phx_message *message)
{
    const void *kernel =
        is_usual(shape, halves) ? phx_gpu_ranks_usual() : (const void *)phx_gpu_ranks;
    cudaEvent_t begin = NULL;
    cudaEvent_t end = NULL;
    float ms = 0.0f;
    uint32_t slots = 0;
    uint32_t workers = shape->workers;
    struct phx_figures figures = phx_figures_of(shape);
    void *arguments[] = {(void *)&launches, (void *)&figures, (void *)&workers, (void *)&slots};
    cudaError_t error = cudaEventCreate(&begin);
    if (error == cudaSuccess)
        error = cudaEventCreate(&end);
    int rc = error == cudaSuccess ? 0 : cuda_fail(error, "cudaEventCreate", message);
    if (rc == 0) {
        cudaEventRecord(begin);
        rc = launch_blocks(shape, kernel, ranks * workers, arguments, &slots, NULL, message);
        cudaEventRecord(end);
    }
    if (rc == 0) {
        error = cudaEventSynchronize(end);
        if (error == cudaSuccess)
            error = cudaEventElapsedTime(&ms, begin, end);
        if (error != cudaSuccess)
            rc = cuda_fail(error, "the kernel", message);
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    if (rc == 0 && kernel_us != NULL)
        *kernel_us = ms * 1000.0f;
    return rc;
}
