// kernels/launch_usual.cu: the kernel bodies once more, for what most launches ask of them: one
// kind of operation, both halves, divided by token, a row for a token and rank, in slots and
// unchecked, no replay. The same sources; what they ask of that is a constant here (PHX_USUALLY in
// layout.h).

#define PHX_USUAL

#include "kernels/block_cuda.h"

#define BOTH_HALVES (PHX_HALF_SEND | PHX_HALF_RECEIVE)

template <uint32_t KIND>
__global__ void __launch_bounds__(PHX_THREADS, 1)
    rank_usual(const __grid_constant__ struct phx_launch launch,
               const __grid_constant__ struct phx_figures figures,
               struct phx_gpu_counters *counters, uint32_t slots)
{
    block_run(&launch, &figures, counters, blockIdx.x, slots, KIND, BOTH_HALVES);
}

__global__ void __launch_bounds__(PHX_THREADS, 1)
    ranks_usual(const struct phx_launch *launches,
                const __grid_constant__ struct phx_figures figures, uint32_t workers,
                uint32_t slots)
{
    block_run(&launches[blockIdx.x / workers], &figures, NULL, blockIdx.x % workers, slots, 0,
              BOTH_HALVES);
}

const void *phx_gpu_rank_usual(uint32_t kind)
{
    return kind == PHX_DISPATCH ? (const void *)rank_usual<PHX_DISPATCH>
                                : (const void *)rank_usual<PHX_COMBINE>;
}
const void *phx_gpu_ranks_usual(void)
{
    return (const void *)ranks_usual;
}
