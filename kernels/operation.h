// kernels/operation.h: one launch on one worker: which bodies run, in which order. The same on
// every target. kind and halves are the launch's; a GPU kernel that is for one kind alone gives it
// as a constant.

#ifndef PHX_KERNELS_OPERATION_H
#define PHX_KERNELS_OPERATION_H

#include "kernels/combine.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"

PHX_FN void phx_launch_run(const struct phx_launch *launch, uint32_t worker, uint32_t kind,
                           uint32_t halves)
{
    const struct phx_op_common *op =
        kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
    struct phx_worker w;
    phx_worker_begin(&w, launch->rank, worker, op->barriers_before);
    if (kind == PHX_DISPATCH) {
        if (halves & PHX_HALF_SEND)
            phx_dispatch_send(&w, &launch->dispatch);
        if (halves & PHX_HALF_RECEIVE)
            phx_dispatch_receive(&w, &launch->dispatch);
    } else {
        if (halves & PHX_HALF_SEND)
            phx_combine_send(&w, &launch->combine);
        if (halves & PHX_HALF_RECEIVE)
            phx_combine_receive(&w, &launch->combine);
    }
    if (halves == PHX_HALF_SEND) // a full lane is a wait, too, and is told like one
        phx_barrier_leave(&w);
}

#endif
