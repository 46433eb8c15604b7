// kernels/dispatch_cuda.h: a GPU worker's words to its peers, once its rows are posted.
//
// There is one for each peer, and each is a few reads: so a lane has one. Who was given up gets its
// words as elsewhere, one peer after another; and so does everybody where a test lets the rank die.

#ifndef PHX_KERNELS_DISPATCH_CUDA_H
#define PHX_KERNELS_DISPATCH_CUDA_H

// By the lanes of the first warp: the word of this lane's turn, if there is one.
PHX_FN void phx_dispatch_write_word(const struct phx_worker *w, uint64_t sequence, uint32_t turn)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_service v = phx_service_in_turn(w, turn);
    int is_there = v.offset < s->ranks;
    uint32_t peer = is_there ? phx_service_peer(w, v) : 0;
    phx_wire_write_each(is_there && !phx_suspects_to(w, peer),
                        phx_region_at(w, peer) + phx_rows_word_offset(s, sequence, v.part),
                        phx_dispatch_rows_word(w, sequence, peer));
}

PHX_FN void phx_dispatch_send_words(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    uint32_t ranks = w->rank->shape.ranks;
    int may_die = phx_chip()->may_die != 0;
    if (!may_die && threadIdx.x < PHX_WARP) {
        __syncwarp(); // lane 0 has counted the rows
        for (uint32_t turn = threadIdx.x; turn - threadIdx.x < ranks; turn += PHX_WARP)
            phx_dispatch_write_word(w, op->common.sequence, turn);
    }
    PHX_ROLLED for (struct phx_service v = phx_service_first(w); v.offset < ranks;
                    v = phx_service_next(w, v))
    {
        uint32_t peer = phx_service_peer(w, v);
        if (may_die || phx_suspects_to(w, peer))
            phx_dispatch_send_word(w, op, peer, v.part);
    }
}

#endif
