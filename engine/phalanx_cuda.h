// engine/phalanx_cuda.h: operations of a group on GPUs, on the caller's stream.
//
// Between phx_cuda_begin() and phx_cuda_end() a group's operations are enqueued: a call checks its
// arguments, enqueues kernels, and returns; nothing waits on the host. The operations' numbers, the
// masks and what is held against each rank live in device memory, and kernels read them there when
// they run. So the calls may be captured in a graph, and each replay is a new operation that goes
// by the masks of its own time. Captured graphs stay valid after phx_cuda_end() and a later
// phx_cuda_begin(), as long as the group, the handle and the tensors live; what is captured by
// value are token counts, deadlines and addresses.
//
// All ranks must replay the same operations in the same order. One operation of a group runs at a
// time: its kernels must be ordered by streams and events, as those of one stream are.
//
// Tensors, active_ranks, wait_ns, token_loss and outcomes lie in device memory or mapped host
// memory. A stream is a cudaStream_t. Deaths of peers reach running kernels by a thread of the
// group's own.
//
// Between the two calls the group's other operations, phx_group_poll() and views are refused, with
// PHX_ERR_STATE; outside them, these.

#ifndef PHX_ENGINE_PHALANX_CUDA_H
#define PHX_ENGINE_PHALANX_CUDA_H

#include "engine/phalanx.h"

#ifdef __cplusplus
extern "C" {
#endif

// Not while a stream is being captured. PHX_ERR_UNSUPPORTED: the group's target is not a GPU.
int phx_cuda_begin(struct phx_group *group, struct phx_message *message);
// Waits for the device; then the group stands where its operations on streams have come to.
// PHX_ERR_STATE: one is between halves.
int phx_cuda_end(struct phx_group *group, struct phx_message *message);

// As phx_dispatch() and its halves. *outcome, in device memory, is written when the operation has
// completed; a compact output that was too small shows there alone, in rows_dropped. Entries of
// topk_idx that are no expert count as -1. NULL: none, and no kernel for it.
int phx_cuda_dispatch(struct phx_group *group, const struct phx_dispatch_args *args,
                      struct phx_handle *handle, struct phx_outcome *outcome, void *stream,
                      struct phx_message *message);
int phx_cuda_dispatch_send(struct phx_group *group, const struct phx_dispatch_args *args,
                           struct phx_handle *handle, void *stream, struct phx_message *message);
int phx_cuda_dispatch_receive(struct phx_group *group, struct phx_handle *handle,
                              struct phx_outcome *outcome, void *stream,
                              struct phx_message *message);

// As phx_combine() and its halves.
int phx_cuda_combine(struct phx_group *group, const struct phx_combine_args *args,
                     struct phx_handle *handle, struct phx_outcome *outcome, void *stream,
                     struct phx_message *message);
int phx_cuda_combine_send(struct phx_group *group, const struct phx_combine_args *args,
                          struct phx_handle *handle, void *stream, struct phx_message *message);
int phx_cuda_combine_receive(struct phx_group *group, struct phx_handle *handle,
                             struct phx_outcome *outcome, void *stream,
                             struct phx_message *message);

#ifdef __cplusplus
}
#endif

#endif
