// kernels/launch.cu: the kernel bodies, compiled for GPUs, and their launch.

#define PHX_FIGURES_ON_CHIP // layout.h

#include "kernels/launch.h"

#include <cuda_runtime.h>

#include "kernels/operation.h"

// --- a block ------------------------------------------------------------------------------------

static __device__ struct phx_op_common *common_of(struct phx_launch *launch)
{
    return launch->kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
}

static __device__ void take_numbers(struct phx_launch *launch, const struct phx_gpu_counters *c)
{
    struct phx_op_common *op = common_of(launch);
    uint32_t kind = launch->kind - 1;
    int sends = (launch->halves & PHX_HALF_SEND) != 0;
    op->sequence = (sends ? c->sent[kind] : c->received[kind]) + 1;
    op->operation = sends ? c->operations + 1 : c->operation_of[kind][op->sequence % PHX_SLOTS_MAX];
    op->sent = c->operations + (uint64_t)sends;
    op->barriers_before = c->barriers;
}

static __device__ void give_numbers(const struct phx_launch *launch, struct phx_gpu_counters *c,
                                    uint64_t barriers)
{
    const struct phx_op_common *op =
        launch->kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
    uint32_t kind = launch->kind - 1;
    if (launch->halves & PHX_HALF_SEND) {
        c->operations = op->operation;
        c->sent[kind] = op->sequence;
        c->operation_of[kind][op->sequence % PHX_SLOTS_MAX] = op->operation;
    }
    if (launch->halves & PHX_HALF_RECEIVE)
        c->received[kind] = op->sequence;
    c->barriers = op->barriers_before + barriers;
    c->finished = 0;
}

template <typename T> static __device__ __forceinline__ void chip_copy(T *to, const T *from)
{
    static_assert(sizeof *from % 4 == 0, "copied by words");
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < sizeof *from / 4; i += PHX_THREADS)
        ((uint32_t *)(void *)to)[i] = ((const uint32_t *)(const void *)from)[i];
}

// What lies in global memory, a word a thread, all under way at once.
struct fetched {
    uint32_t word;
    uint32_t *to; // on chip; NULL: none
};
static __device__ __forceinline__ struct fetched fetch(const struct phx_rank *rank,
                                                       const struct phx_gpu_counters *counters)
{
    struct phx_chip *chip = phx_chip();
    const uint32_t rank_words = sizeof *rank / 4;
    const uint32_t counters_at = (rank_words + PHX_WARP - 1) / PHX_WARP * PHX_WARP;
    const uint32_t counters_words = sizeof *counters / 4;
    static_assert((sizeof *rank + sizeof *counters) / 4 + PHX_WARP <= PHX_THREADS, "one each");
    uint32_t i = threadIdx.x;
    struct fetched f = {0, NULL};
    if (i < rank_words) {
        f.word = ((const uint32_t *)(const void *)rank)[i];
        f.to = (uint32_t *)(void *)&chip->rank + i;
    } else if (i - counters_at < counters_words && counters != NULL) {
        f.word = ((const uint32_t *)(const void *)counters)[i - counters_at];
        f.to = (uint32_t *)(void *)&chip->counters + (i - counters_at);
    }
    return f;
}

static __device__ __forceinline__ void chip_begin(const struct phx_launch *launch,
                                                  const struct phx_figures *figures,
                                                  const struct phx_gpu_counters *counters,
                                                  uint32_t slots)
{
    struct phx_chip *chip = phx_chip();
    struct fetched fetched = fetch(launch->rank, counters);
    chip_copy(&chip->launch, launch);
    chip_copy(&chip->figures, figures);
    if (fetched.to != NULL)
        *fetched.to = fetched.word;
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t dispatch = chip->figures.dispatch_stride;
        uint32_t combine = chip->figures.combine_stride;
        chip->slot_bytes = dispatch > combine ? dispatch : combine;
        chip->slots = slots;
        chip->expected.words = NULL;
        chip->expected.seen = 0;
        chip->posted = 0;
        chip->taken = 0;
        chip->freed = 0;
        chip->launch.rank = &chip->rank;
        if (counters != NULL)
            take_numbers(&chip->launch, &chip->counters);
    }
    static_assert(PHX_THREADS >= 2 * PHX_WARP + PHX_REGIONS, "a thread for each");
    uint32_t near = threadIdx.x - 2 * PHX_WARP; // regions
    if (near < PHX_REGIONS && near < chip->rank.shape.ranks) {
        chip->from[near] = chip->rank.from[near];
        chip->to[near] = chip->rank.to[near];
    }
    if (threadIdx.x == PHX_WARP) {
        uint64_t after = chip->rank.state->die_after_puts;
        chip->may_die = (after | chip->rank.state->dead) != 0;
    }
    __syncthreads();
}

static __device__ __forceinline__ void block_run(const struct phx_launch *launch,
                                                 const struct phx_figures *figures,
                                                 struct phx_gpu_counters *counters, uint32_t worker,
                                                 uint32_t slots)
{
    struct phx_chip *chip = phx_chip();
    chip_begin(launch, figures, counters, slots);
    if (threadIdx.x >= PHX_LANES) {
        phx_wire_run();
        return;
    }
    phx_launch_run(&chip->launch, worker);
    phx_sync_block();
    if (threadIdx.x != 0)
        return;
    phx_wire_post(PHX_WIRE_END, NULL, NULL, 0, 0);
    if (counters == NULL)
        return;
    uint32_t workers = chip->rank.shape.workers;
    if (phx_local_word(counters->finished).fetch_add(1, cuda::memory_order_acq_rel) + 1 == workers)
        give_numbers(
            &chip->launch, counters,
            phx_kernel_barriers(&chip->rank.shape, chip->launch.kind, chip->launch.halves));
}

__global__ void __launch_bounds__(PHX_THREADS, 1)
    phx_gpu_rank(const __grid_constant__ struct phx_launch launch,
                 const __grid_constant__ struct phx_figures figures,
                 struct phx_gpu_counters *counters, uint32_t slots)
{
    block_run(&launch, &figures, counters, blockIdx.x, slots);
}

__global__ void __launch_bounds__(PHX_THREADS, 1)
    phx_gpu_ranks(const struct phx_launch *launches,
                  const __grid_constant__ struct phx_figures figures, uint32_t workers,
                  uint32_t slots)
{
    block_run(&launches[blockIdx.x / workers], &figures, NULL, blockIdx.x % workers, slots);
}

// --- the host -----------------------------------------------------------------------------------

static int cuda_fail(cudaError_t error, const char *call, struct phx_message *message)
{
    return phx_fail(message, PHX_ERR_DEVICE_LOST, "%s: %s", call, cudaGetErrorString(error));
}

struct plan {
    uint32_t slots; // rows that fit on chip; fewer than three are of no use
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
    *slots = plan.slots;
    error = cudaLaunchCooperativeKernel(kernel, blocks, PHX_THREADS, arguments, plan.chip_bytes,
                                        stream);
    return error == cudaSuccess ? 0 : cuda_fail(error, "cudaLaunchCooperativeKernel", message);
}

extern "C" int phx_gpu_launch(const struct phx_shape *shape, const struct phx_launch *launch,
                              struct phx_gpu_counters *counters, void *stream,
                              struct phx_message *message)
{
    uint32_t slots = 0;
    struct phx_figures figures = phx_figures_of(shape);
    void *arguments[] = {(void *)launch, (void *)&figures, (void *)&counters, (void *)&slots};
    return launch_blocks(shape, (const void *)phx_gpu_rank, shape->workers, arguments, &slots,
                         (cudaStream_t)stream, message);
}

extern "C" int phx_gpu_run(const struct phx_shape *shape, const struct phx_launch *launches,
                           uint32_t ranks, float *kernel_us, struct phx_message *message)
{
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
        rc = launch_blocks(shape, (const void *)phx_gpu_ranks, ranks * workers, arguments, &slots,
                           NULL, message);
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
