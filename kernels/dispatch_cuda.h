// kernels/dispatch_cuda.h: a GPU worker's words to its peers, once its rows are posted.
//
// There is one for each peer, and each is a few reads: so a lane has one. Who was given up gets its
// words as elsewhere, one peer after another; and so does everybody where a test lets the rank die.

#ifndef PHX_KERNELS_DISPATCH_CUDA_H
#define PHX_KERNELS_DISPATCH_CUDA_H

// By the lanes of the first warp: the rows word of the peer at an offset.
PHX_FN void phx_dispatch_write_word(const struct phx_worker *w, uint64_t sequence, uint32_t offset,
                                    int is_there)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_chip *chip = phx_chip();
    uint32_t peer = is_there ? phx_wrap(w->rank->rank + offset, s->ranks) : 0;
    uint32_t part = phx_part_of(s, w->index, offset);
    uint64_t word = phx_word_make(w->rank->epoch, sequence, chip->tally[peer]);
    phx_wire_write_each(is_there && !chip->suspected[peer],
                        phx_region_at(w, peer) + phx_rows_word_offset(s, sequence, part), word);
}

PHX_FN void phx_dispatch_send_words(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    uint32_t ranks = w->rank->shape.ranks;
    int each = phx_chip()->may_die != 0;
    if (!each && threadIdx.x < PHX_WARP) {
        __syncwarp(); // lane 0 has counted the rows
        for (uint32_t turn = threadIdx.x; turn - threadIdx.x < ranks; turn += PHX_WARP)
            phx_dispatch_write_word(w, op->common.sequence, turn + 1 < ranks ? turn + 1 : 0,
                                    turn < ranks);
    }
    PHX_ROLLED for (uint32_t turn = 1; turn <= ranks; turn++)
    {
        uint32_t offset = turn < ranks ? turn : 0;
        uint32_t peer = phx_wrap(w->rank->rank + offset, ranks);
        if (each || phx_suspects_to(w, peer))
            phx_dispatch_send_word(w, op, peer, phx_part_of(&w->rank->shape, w->index, offset));
    }
}

#endif
