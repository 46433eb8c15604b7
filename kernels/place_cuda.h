// kernels/place_cuda.h: where the rows of a source begin within an expert, reckoned by a warp of a
// GPU worker without a layout. Where each source's counts lie is asked before it is known of which
// expert: a lane has a source.

#ifndef PHX_KERNELS_PLACE_CUDA_H
#define PHX_KERNELS_PLACE_CUDA_H

// The counts of this lane's source; NULL: it is not before t->source, or was not counted.
PHX_FN void phx_dispatch_counts_before(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                       struct phx_taking *t)
{
    uint32_t source = threadIdx.x % PHX_WARP;
    t->before = NULL;
    (void)w;
    if (source >= t->source)
        return;
    uint64_t counted = op->handle.counted[source];
    uint8_t *route = phx_handle_route(&op->handle, source);
    if (phx_counted_is_there(counted))
        t->before = phx_route_counts(route);
}
PHX_FN uint32_t phx_dispatch_begin(const struct phx_worker *split, const struct phx_dispatch_op *op,
                                   const struct phx_taking *t, uint32_t expert)
{
    uint32_t before = t->before != NULL ? t->before[expert] : 0;
    PHX_ROLLED for (uint32_t source = PHX_WARP + phx_lane(split); source < t->source;
                    source += PHX_WARP) before += phx_dispatch_count(op, source, expert);
    return phx_split_sum(split, before);
}

#endif
