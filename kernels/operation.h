// kernels/operation.h: one launch on one worker: which bodies run, in which order. The same on
// every target.

#ifndef PHX_KERNELS_OPERATION_H
#define PHX_KERNELS_OPERATION_H

#include "kernels/combine.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"

PHX_FN void phx_launch_run(const struct phx_launch *launch, uint32_t worker)
{
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
    if (launch->halves == PHX_HALF_SEND) // a full lane is a wait, too, and is told like one
        phx_barrier_leave(&w);
}

#endif
