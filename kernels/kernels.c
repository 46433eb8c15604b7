// kernels/kernels.c: the kernel bodies, compiled for C targets.

#include "kernels/kernels.h"

#include "kernels/operation.h"

void phx_kernel_run(void *argument, uint32_t worker)
{
    phx_launch_run(argument, worker);
}

uint32_t phx_kernel_barriers(uint32_t kind, uint32_t halves)
{
    uint32_t send = kind == PHX_DISPATCH ? PHX_DISPATCH_SEND_BARRIERS : PHX_COMBINE_SEND_BARRIERS;
    uint32_t receive =
        kind == PHX_DISPATCH ? PHX_DISPATCH_RECEIVE_BARRIERS : PHX_COMBINE_RECEIVE_BARRIERS;
    uint32_t leave = halves == PHX_HALF_SEND; // worker 0's stay at the end of a send half
    return (halves & PHX_HALF_SEND ? send : 0) + (halves & PHX_HALF_RECEIVE ? receive : 0) + leave;
}
