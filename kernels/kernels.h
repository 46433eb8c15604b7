// kernels/kernels.h: the kernels as C targets start them: one function that an executor runs on
// every worker of a rank.

#ifndef PHX_KERNELS_KERNELS_H
#define PHX_KERNELS_KERNELS_H

#include "kernels/rank.h"

#ifdef __cplusplus
extern "C" {
#endif

enum phx_half { PHX_HALF_SEND = 1, PHX_HALF_RECEIVE = 2 }; // flags: both is the whole operation

struct phx_launch {
    const struct phx_rank *rank;
    uint32_t kind;                   // enum phx_kind
    uint32_t halves;                 // enum phx_half flags
    uint32_t workers;                // for phx_gpu_launch() alone: rank->shape.workers
    uint32_t reserved;
    struct phx_dispatch_op dispatch; // when kind says so
    struct phx_combine_op combine;
};

// A phx_body_fn (engine/executor.h): argument is a struct phx_launch.
void phx_kernel_run(void *argument, uint32_t worker);

// Rank-wide barriers that such a launch passes.
uint32_t phx_kernel_barriers(uint32_t kind, uint32_t halves);

#ifdef __cplusplus
}
#endif

#endif
