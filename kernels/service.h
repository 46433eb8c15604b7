// kernels/service.h: which peers, and which share of their rows, a worker serves.
//
// Work divided by peer (enum phx_division): worker w serves peer offset w % ranks, share w / ranks
// of its rows; with fewer workers than ranks, every peer offset that is w modulo workers. By token:
// worker w sends the tokens that are w modulo workers. Rows that come in are divided by peer either
// way. The same worker always writes the same words, so each word has one ordered path.

#ifndef PHX_KERNELS_SERVICE_H
#define PHX_KERNELS_SERVICE_H

#include "kernels/device.h"

// The peers (or sources) that a worker serves, one after another, starting behind its own rank so
// that ranks do not all send to the same peer at once.
struct phx_service {
    uint32_t offset; // peer = (rank + offset) % ranks
    uint32_t part;   // whose words and rows this worker sends; or the share of rows that it takes
    uint32_t step;
};
PHX_BOTH struct phx_service phx_service_by_peer(const struct phx_worker *w)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_service v;
    if (w->count >= s->ranks) {
        v.offset = w->index / s->ranks < phx_shares(s) ? w->index % s->ranks : s->ranks;
        v.part = w->index / s->ranks;
        v.step = s->ranks;
    } else {
        v.offset = w->index;
        v.part = 0;
        v.step = w->count;
    }
    return v;
}
// By token, where a worker serves every peer: whom in a turn, from 0. Itself comes last: what has
// to travel goes first. Past the last turn, as elsewhere, the offset is `ranks`.
PHX_BOTH struct phx_service phx_service_in_turn(const struct phx_worker *w, uint32_t turn)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_service v;
    v.offset = turn + 1 < s->ranks ? turn + 1 : turn < s->ranks ? 0 : s->ranks;
    v.part = phx_part_of(s, w->index, v.offset);
    v.step = 1;
    return v;
}
// To whom this worker sends words.
PHX_BOTH struct phx_service phx_service_first(const struct phx_worker *w)
{
    return phx_is_by_token(&w->rank->shape) ? phx_service_in_turn(w, 0) : phx_service_by_peer(w);
}
PHX_BOTH struct phx_service phx_service_next(const struct phx_worker *w, struct phx_service v)
{
    const struct phx_shape *s = &w->rank->shape;
    if (phx_is_by_token(s)) // the offset is one more than its turn
        return phx_service_in_turn(w, v.offset == 0 ? s->ranks : v.offset);
    v.offset += v.step;
    v.part = phx_part_of(s, w->index, v.offset);
    return v;
}
PHX_BOTH uint32_t phx_service_peer(const struct phx_worker *w, struct phx_service v)
{
    return phx_wrap(w->rank->rank + v.offset, w->rank->shape.ranks);
}

#endif
