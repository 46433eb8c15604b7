// kernels/combine_cuda.h: what combine's send half looks up before its first row.
//
// From a source to the rows of its token's expert outputs it is four reads, one after the other.
// The lanes of a worker make them for all sources at once: for the first row of its part of each,
// the only one unless tokens are more than workers.

#ifndef PHX_KERNELS_COMBINE_CUDA_H
#define PHX_KERNELS_COMBINE_CUDA_H

PHX_FN void phx_combine_prepare(struct phx_worker *w, const struct phx_combine_op *op)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_chip *chip = phx_chip();
    uint32_t by_token = phx_is_by_token(s);
    phx_each_begin(w);
    PHX_EACH(w, at, s->ranks * s->top_k)
    {
        uint32_t offset = at / s->top_k;
        uint32_t i = at % s->top_k;
        uint32_t source = (w->rank->rank + offset) % s->ranks;
        uint32_t row = phx_part_of(s, w->index, offset);
        uint32_t is_there = op->handle.present[source] == PHX_FATE_PRESENT;
        const uint8_t *message = phx_handle_route(&op->handle, source);
        uint32_t rows = is_there ? ((const struct phx_route_header *)message)->row_count : 0;
        if (i == 0)
            chip->tally[source] = rows;
        if (!by_token || offset >= PHX_LISTS)
            continue;
        struct phx_row_list *list = &chip->lists[offset];
        uint32_t count = row < rows ? phx_combine_list_entry(w, op, source, row, i, list) : 0;
        if (i == 0)
            list->count = count;
    }
    phx_each_end(w);
}

PHX_FN uint32_t phx_combine_offset(const struct phx_worker *w, uint32_t source)
{
    uint32_t mine = w->rank->rank;
    return source >= mine ? source - mine : source + w->rank->shape.ranks - mine;
}

PHX_FN uint32_t phx_combine_rows_for(struct phx_worker *w, const struct phx_combine_op *op,
                                     uint32_t source)
{
    (void)w;
    (void)op;
    return phx_chip()->tally[source];
}

// The rows that the first row for a source is summed from.
PHX_FN void phx_combine_ahead(struct phx_worker *w, const struct phx_combine_op *op,
                              uint32_t source)
{
    const struct phx_shape *s = &w->rank->shape;
    uint32_t offset = phx_combine_offset(w, source);
    if (phx_is_by_token(s) && phx_is_once(s) && !phx_is_compact(s) && offset < PHX_LISTS &&
        ((uintptr_t)op->y & 15) == 0)
        phx_rows_fetch(w, &phx_chip()->lists[offset]);
}

// The first offset whose signals this worker waits for: the workers that have the fewest tokens.
PHX_FN uint32_t phx_combine_taken_first(const struct phx_worker *w)
{
    const struct phx_shape *s = &w->rank->shape;
    return w->count >= s->ranks ? phx_route_first(s, w->index) : w->index;
}

PHX_FN struct phx_row_list *phx_combine_row_list(struct phx_worker *w,
                                                 const struct phx_combine_op *op, uint32_t source,
                                                 uint32_t row)
{
    const struct phx_shape *s = &w->rank->shape;
    uint32_t offset = phx_combine_offset(w, source);
    if (phx_is_by_token(s) && offset < PHX_LISTS && row == phx_part_of(s, w->index, offset))
        return &phx_chip()->lists[offset];
    struct phx_row_list *list = phx_row_list_of(w);
    phx_each_begin(w);
    PHX_EACH(w, i, s->top_k)
    {
        uint32_t count = phx_combine_list_entry(w, op, source, row, i, list);
        if (i == 0)
            list->count = count;
    }
    phx_each_end(w);
    return list;
}

#endif
