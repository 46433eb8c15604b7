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
    struct phx_dispatch_op dispatch; // when kind says so
    struct phx_combine_op combine;
};

// Numbers that operations take on the device, so that a captured graph takes new ones each time it
// is replayed. Device memory, zeroed at first; one launch of a group at a time.
struct phx_gpu_counters {
    uint64_t operations;
    uint64_t sent[2];                        // [enum phx_kind - 1] send halves
    uint64_t received[2];                    // receive halves
    uint64_t operation_of[2][PHX_SLOTS_MAX]; // of sequence % PHX_SLOTS_MAX
    uint64_t barriers;
    uint64_t readers; // blocks of the launch that runs which have read these
};

// A phx_body_fn (engine/executor.h): argument is a struct phx_launch.
void phx_kernel_run(void *argument, uint32_t worker);

// Rank-wide barriers that such a launch passes: dispatch's send half one between staging and
// sending, its receive half one behind the routes, one behind the layout if that comes before the
// rows, and worker 0's stay at the end, combine's receive half one; and a send half alone worker
// 0's stay.
PHX_BOTH uint32_t phx_kernel_barriers(const struct phx_shape *s, uint32_t kind, uint32_t halves)
{
    uint32_t send = kind == PHX_DISPATCH && !phx_is_by_token(s) ? 1 : 0;
    uint32_t receive = kind == PHX_DISPATCH ? 2 + (uint32_t)phx_is_laid_out_first(s) : 1;
    uint32_t leave = halves == PHX_HALF_SEND;
    return (halves & PHX_HALF_SEND ? send : 0) + (halves & PHX_HALF_RECEIVE ? receive : 0) + leave;
}

#ifdef __cplusplus
}
#endif

#endif
