// kernels/kernels.c: the kernel bodies, compiled for C targets.

#include "kernels/kernels.h"

#include "kernels/combine.h"
#include "kernels/dispatch.h"

void phx_kernel_run(void *argument, uint32_t worker)
{
    const struct phx_launch *launch = argument;
    const struct phx_op_common *op =
        launch->kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
    struct phx_worker w;
    phx_worker_begin(&w, launch->rank, worker, op->barriers_before);
    if (launch->kind == PHX_DISPATCH) {
        if (launch->halves & PHX_HALF_SEND)
            phx_dispatch_send(&w, &launch->dispatch);
        if (launch->halves & PHX_HALF_RECEIVE)
            phx_dispatch_receive(&w, &launch->dispatch);
    } else {
        if (launch->halves & PHX_HALF_SEND)
            phx_combine_send(&w, &launch->combine);
        if (launch->halves & PHX_HALF_RECEIVE)
            phx_combine_receive(&w, &launch->combine);
    }
}

uint32_t phx_kernel_barriers(uint32_t kind, uint32_t halves)
{
    uint32_t send = kind == PHX_DISPATCH ? PHX_DISPATCH_SEND_BARRIERS : PHX_COMBINE_SEND_BARRIERS;
    uint32_t receive =
        kind == PHX_DISPATCH ? PHX_DISPATCH_RECEIVE_BARRIERS : PHX_COMBINE_RECEIVE_BARRIERS;
    return (halves & PHX_HALF_SEND ? send : 0) + (halves & PHX_HALF_RECEIVE ? receive : 0);
}
