// kernels/dispatch_cuda.h: a GPU worker's puts of a row to its peers, and its words to them.
//
// There is one for each peer, and each is a few reads: so a lane has one. Who was given up gets its
// words as elsewhere, one peer after another; and where a test lets the rank die, so does everybody
// get everything.

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
                        phx_dispatch_rows_word(w, sequence, peer), NULL, 0);
}

// Staging a row that goes nowhere costs less than asking.
PHX_FN int phx_dispatch_token_goes(const struct phx_worker *w, const struct phx_token *t)
{
    (void)w;
    (void)t;
    return 1;
}

PHX_FN void phx_dispatch_put_row(struct phx_worker *w, const struct phx_dispatch_op *op,
                                 const struct phx_token *t, uint32_t token, const uint8_t *row)
{
    const struct phx_shape *s = &w->rank->shape;
    uint64_t to = phx_dispatch_row_offset(s, op->common.sequence, token);
    static_assert(PHX_TOP_K_MAX <= PHX_WARP && PHX_TOP_K_MAX <= PHX_WIRE_JOBS, "a lane for each");
    if (phx_chip()->may_die != 0 || !__isShared(row)) {
        PHX_ROLLED for (uint32_t k = 0; k < s->top_k; k++)
            phx_dispatch_put_row_to(w, op, t, k, token, row);
        return;
    }
    phx_put_fence(w);
    if (threadIdx.x >= PHX_WARP)
        return;
    uint32_t k = threadIdx.x;
    int goes = k < s->top_k && phx_token_first(t, k) && !phx_suspects_to(w, t->peer[k]);
    uint32_t peer = goes ? t->peer[k] : 0;
    phx_wire_write_each(goes, phx_region_at(w, peer) + to, 0, row,
                        phx_put_pieces_bytes(phx_dispatch_stored_bytes(s)));
    if (threadIdx.x == 0)
        phx_wire_post();
    if (goes)
        phx_chip()->tally[peer]++;
}

PHX_FN void phx_dispatch_send_words(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    uint32_t ranks = w->rank->shape.ranks;
    int may_die = phx_chip()->may_die != 0;
    int apart = may_die || phx_chip()->suspects_any != 0; // some at least
    if (!may_die && threadIdx.x < PHX_WARP) {
        __syncwarp(); // the lanes have counted the rows
        for (uint32_t turn = threadIdx.x; turn - threadIdx.x < ranks; turn += PHX_WARP)
            phx_dispatch_write_word(w, op->common.sequence, turn);
    }
    PHX_ROLLED for (struct phx_service v = phx_service_first(w); apart && v.offset < ranks;
                    v = phx_service_next(w, v))
    {
        uint32_t peer = phx_service_peer(w, v);
        if (may_die || phx_suspects_to(w, peer))
            phx_dispatch_send_word(w, op, peer, v.part);
    }
}

#endif
