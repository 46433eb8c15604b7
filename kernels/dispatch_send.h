// kernels/dispatch_send.h: dispatch's send half.
//
// Every worker builds and sends the route messages of the peers it serves. Then, by peer: it stages
// its share of the rows (quantised once per token) | barrier | and puts the staged rows on its
// lanes, the last put of each (peer, part) carrying the signal. By token: it stages each of its
// tokens and puts it to all its peers, and then signals to every peer how many rows came from it.

#ifndef PHX_KERNELS_DISPATCH_SEND_H
#define PHX_KERNELS_DISPATCH_SEND_H

#include "kernels/route.h"
#include "kernels/seal.h"
#include "kernels/service.h"
#include "kernels/wait.h"

PHX_FN void phx_dispatch_send_route(struct phx_worker *w, const struct phx_dispatch_op *op,
                                    uint32_t peer)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    uint64_t sequence = op->common.sequence;
    uint32_t tag = phx_token_tag(PHX_DISPATCH, sequence);
    uint64_t word_at = phx_counts_word_offset(s, sequence);
    uint8_t *message = phx_route_message(w, op, peer);
    // Planted: rows go on to a rank that was given up.
    if (phx_suspects_to(w, peer) && !PHX_BUG(SLOT_WITHOUT_EVIDENCE)) {
        phx_send_masked(w, PHX_WAIT_COUNTS, peer, word_at, tag);
        return;
    }
    const struct phx_route_header *h = phx_route_header(message);
    uint64_t bytes = phx_route_bytes(s, h->row_count, h->entry_count);
    if (!phx_send_message(w, peer, phx_route_offset(s, sequence, h->row_count), message, bytes,
                          word_at, phx_word_make(rank->epoch, sequence, h->row_count), tag))
        phx_send_failed(w, PHX_WAIT_COUNTS, peer);
}

PHX_FN void phx_dispatch_stage_rows(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    const struct phx_shape *s = &w->rank->shape;
    for (uint32_t t = w->index; t < op->token_count; t += w->count) {
        int used = 0;
        for (uint32_t k = 0; k < s->top_k && !used; k++)
            used = phx_topk_expert(s, op->topk_idx, t, k) >= 0;
        if (!used)
            continue;
        uint8_t *row = w->rank->stage + phx_stage_row_offset(s, op->common.sequence, t);
        phx_stage_row(w, row, op->x + (uint64_t)t * s->channels);
        if (phx_rows_checked(s))
            phx_row_seal(w, row, phx_dispatch_row_bytes(s, s->channels),
                         phx_check_key(PHX_DISPATCH, op->common.sequence, t));
    }
}

// Puts the rows of one part to one peer; the last put carries the signal.
PHX_FN void phx_dispatch_send_rows(struct phx_worker *w, const struct phx_dispatch_op *op,
                                   uint32_t peer, uint32_t part)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    uint64_t sequence = op->common.sequence;
    uint32_t tag = phx_token_tag(PHX_DISPATCH, sequence);
    uint64_t word_at = phx_rows_word_offset(s, sequence, part);
    uint8_t *message = phx_route_staged(w, op, peer);
    const struct phx_route_row *rows = phx_route_rows(s, message);
    uint32_t row_count = phx_route_header(message)->row_count;
    uint32_t parts = phx_parts(s);
    uint32_t mine = row_count > part ? (row_count - part + parts - 1) / parts : 0;
    uint64_t bytes = phx_dispatch_stored_bytes(s);
    uint64_t wire = phx_dispatch_wire_bytes(s, s->hidden);
    const uint8_t *staged = rank->stage + phx_stage_row_offset(s, sequence, 0);
    struct phx_row_places places = phx_dispatch_row_places(s, sequence);
    int posted = 1;
    // Planted: rows go on to a rank that was given up.
    if (phx_suspects_to(w, peer) && !PHX_BUG(SLOT_WITHOUT_EVIDENCE)) {
        phx_send_masked(w, PHX_WAIT_ROWS, peer, word_at, tag);
        return;
    }
    uint64_t word = phx_word_make(rank->epoch, sequence, mine);
    for (uint32_t i = 0; i < mine && posted; i++) {
        uint32_t at = part + i * parts;
        const uint8_t *row = staged + rows[at].token * places.stride;
        uint64_t to = phx_row_place(&places, at);
        if (i + 1 < mine)
            posted = phx_send_put(w, peer, to, row, bytes, wire, tag);
        else
            posted = phx_send_put_signal(w, peer, to, row, bytes, wire, word_at, word, tag);
    }
    // Planted: no rows, no word; with the receiver in the know (below), or not.
    if (mine == 0 && !PHX_BUG(ZERO_ROWS_SILENT) && !(PHX_BUG(WORD_UNWRITTEN) && row_count == 0))
        posted = phx_send_signal(w, peer, word_at, word, tag);
    if (!posted)
        phx_send_failed(w, PHX_WAIT_ROWS, peer);
}

// By token: a row to the peer of entry k, if that is the first of its peer and not given up.
PHX_FN void phx_dispatch_put_row_to(struct phx_worker *w, const struct phx_dispatch_op *op,
                                    const struct phx_token *t, uint32_t k, uint32_t token,
                                    const uint8_t *row)
{
    const struct phx_shape *s = &w->rank->shape;
    uint64_t sequence = op->common.sequence;
    uint32_t peer = t->peer[k];
    if (!phx_token_first(t, k) || phx_suspects_to(w, peer))
        return;
    if (phx_send_put(w, peer, phx_dispatch_row_offset(s, sequence, token), row,
                     phx_dispatch_stored_bytes(s), phx_dispatch_wire_bytes(s, s->hidden),
                     phx_token_tag(PHX_DISPATCH, sequence)))
        phx_tally_add(w, peer);
    else
        phx_send_failed(w, PHX_WAIT_ROWS, peer);
}

// By token: how many of this worker's rows a peer was sent.
PHX_FN uint64_t phx_dispatch_rows_word(const struct phx_worker *w, uint64_t sequence, uint32_t peer)
{
    return phx_word_make(w->rank->epoch, sequence, phx_tally_of(w, peer));
}

PHX_FN void phx_dispatch_send_word(struct phx_worker *w, const struct phx_dispatch_op *op,
                                   uint32_t peer, uint32_t part)
{
    const struct phx_shape *s = &w->rank->shape;
    uint64_t sequence = op->common.sequence;
    uint32_t tag = phx_token_tag(PHX_DISPATCH, sequence);
    uint64_t word_at = phx_rows_word_offset(s, sequence, part);
    uint64_t word = phx_dispatch_rows_word(w, sequence, peer);
    if (phx_suspects_to(w, peer))
        phx_send_masked(w, PHX_WAIT_ROWS, peer, word_at, tag);
    else if (!phx_send_signal(w, peer, word_at, word, tag))
        phx_send_failed(w, PHX_WAIT_ROWS, peer);
}

#if defined(__CUDACC__)
#include "kernels/dispatch_cuda.h"
#else
PHX_FN int phx_dispatch_token_goes(const struct phx_worker *w, const struct phx_token *t)
{
    for (uint32_t k = 0; k < w->rank->shape.top_k; k++)
        if (phx_token_first(t, k) && !phx_suspects_to(w, t->peer[k]))
            return 1;
    return 0;
}
PHX_FN void phx_dispatch_put_row(struct phx_worker *w, const struct phx_dispatch_op *op,
                                 const struct phx_token *t, uint32_t token, const uint8_t *row)
{
    for (uint32_t k = 0; k < w->rank->shape.top_k; k++)
        phx_dispatch_put_row_to(w, op, t, k, token, row);
}
PHX_FN void phx_dispatch_send_words(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    for (struct phx_service v = phx_service_first(w); v.offset < w->rank->shape.ranks;
         v = phx_service_next(w, v))
        phx_dispatch_send_word(w, op, phx_service_peer(w, v), v.part);
}
#endif

// By token: each of this worker's rows to all its peers, then the words.
PHX_FN void phx_dispatch_send_token(struct phx_worker *w, const struct phx_dispatch_op *op,
                                    uint32_t token)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    uint64_t sequence = op->common.sequence;
    const struct phx_token *t = phx_token_load(w, op->topk_idx, NULL, token);
    if (!phx_dispatch_token_goes(w, t))
        return;
    uint8_t *row = phx_stage_take(w, rank->stage + phx_stage_row_offset(s, sequence, token),
                                  phx_dispatch_row_stride(s));
    phx_stage_row(w, row, op->x + (uint64_t)token * s->channels);
    if (phx_rows_checked(s))
        phx_row_seal(w, row, phx_dispatch_row_bytes(s, s->channels),
                     phx_check_key(PHX_DISPATCH, sequence, token));
    phx_dispatch_put_row(w, op, t, token, row);
}

PHX_FN void phx_dispatch_send_by_token(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    phx_tally_clear(w);
    for (uint32_t t = w->index; t < op->token_count; t += w->count)
        phx_dispatch_send_token(w, op, t);
    phx_dispatch_send_words(w, op);
}

PHX_FN void phx_dispatch_send_by_peer(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    phx_dispatch_stage_rows(w, op);
    // Planted: rows are sent that another worker may still be staging.
    if (PHX_BUG(BARRIER_NOT_WAITED))
        phx_barrier_arrive(w);
    else if (!phx_barrier(w))
        return;
    for (struct phx_service v = phx_service_first(w); v.offset < w->rank->shape.ranks;
         v = phx_service_next(w, v))
        phx_dispatch_send_rows(w, op, phx_service_peer(w, v), v.part);
}

PHX_FN void phx_dispatch_send(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    const struct phx_shape *s = &w->rank->shape;
    phx_operation_begin(w, &op->common);
    if (w->index == 0)
        phx_phase(w, PHX_PHASE_DISPATCH_SEND, op->common.sequence);
    phx_take_masks(w);
    phx_routes_build(w, op);
    for (uint32_t i = phx_route_first(s, w->index); i < s->ranks; i += w->count)
        phx_dispatch_send_route(w, op, (w->rank->rank + i) % s->ranks);
    phx_told(w); // by peer all rows are staged next
    if (phx_is_by_token(s))
        phx_dispatch_send_by_token(w, op);
    else
        phx_dispatch_send_by_peer(w, op);
    phx_told(w);
}

#endif
