// hw/cuda_outcome.cu: the outcome of an operation on a stream, where it is known: on the device.

#include <cuda_runtime.h>

#include "hw/cuda_outcome.h"

#define LANES 32u

static __device__ void set_add(struct phx_rank_set *set, uint32_t rank)
{
    atomicOr((unsigned long long *)(void *)&set->words[rank / 64], 1ull << (rank % 64));
}

static __device__ void read_rank(const struct phx_cuda_outcome_work *w, struct phx_outcome *o,
                                 uint32_t rank)
{
    bool is_dispatch = w->kind == PHX_DISPATCH;
    if (is_dispatch && phx_counted_is_there(w->view.counted[rank]))
        set_add(&o->counted, rank);
    if (is_dispatch && w->view.present[rank] == PHX_FATE_PRESENT)
        set_add(&o->present, rank);
    if (!is_dispatch && w->answered[rank] != 0)
        set_add(&o->answered, rank);
    if (w->rank->suspected[rank] == PHX_CAUSE_NONE)
        return;
    set_add(&o->masked, rank);
    atomicAdd(&o->masked_count, 1u);
    if (w->active_ranks != NULL)
        w->active_ranks[rank] = 0;
}

__global__ void phx_cuda_outcome_kernel(const __grid_constant__ struct phx_cuda_outcome_work w)
{
    __shared__ struct phx_outcome o;
    for (uint32_t i = threadIdx.x; i < sizeof o / 4; i += LANES)
        ((uint32_t *)(void *)&o)[i] = 0;
    __syncwarp();
    for (uint32_t r = threadIdx.x; r < w.rank->shape.ranks; r += LANES)
        read_rank(&w, &o, r);
    for (uint32_t e = threadIdx.x; w.kind == PHX_DISPATCH && e < w.rank->experts_local; e += LANES)
        atomicAdd(&o.rows_received, w.view.count[e]);
    for (uint32_t e = threadIdx.x; w.recv_offsets != NULL && e <= w.rank->experts_local; e += LANES)
        w.recv_offsets[e] = w.view.offset[e];
    if (threadIdx.x == 0) {
        o.kind = w.kind;
        o.number = w.counters->received[w.kind - 1];
        o.epoch = w.epoch;
        o.rows_dropped = w.rank->state->rows_dropped;
    }
    __syncwarp();
    for (uint32_t i = threadIdx.x; w.outcome != NULL && i < sizeof o / 4; i += LANES)
        ((uint32_t *)(void *)w.outcome)[i] = ((const uint32_t *)(const void *)&o)[i];
}

extern "C" int phx_cuda_outcome_launch(const struct phx_cuda_outcome_work *work, void *stream,
                                       struct phx_message *message)
{
    phx_cuda_outcome_kernel<<<1, LANES, 0, (cudaStream_t)stream>>>(*work);
    cudaError_t error = cudaGetLastError();
    if (error == cudaSuccess)
        return 0;
    return phx_fail(message, PHX_ERR_DEVICE_LOST, "the kernel that reads an outcome: %s",
                    cudaGetErrorString(error));
}
