// kernels/dispatch_receive.h: dispatch's receive half.
//
// Wait for every source's route | barrier | fix the layout: rows of an expert stand by source rank,
// then by token | barrier | wait for each source's rows and fan each row out to its experts'
// places. A counted source whose rows never came leaves zeros. By token, and with room for all, a
// worker reckons the places of what it takes by itself, and the layout is written down behind the
// rows: nobody waits for it.

#ifndef PHX_KERNELS_DISPATCH_RECEIVE_H
#define PHX_KERNELS_DISPATCH_RECEIVE_H

#include "kernels/route.h"
#include "kernels/seal.h"
#include "kernels/service.h"
#include "kernels/wait.h"

// Returns where the next one goes.
PHX_FN uint64_t phx_dispatch_take_route(struct phx_worker *w, const struct phx_dispatch_op *op,
                                        uint32_t source, uint64_t at)
{
    const struct phx_shape *s = &w->rank->shape;
    const uint64_t *word = phx_word_from(w, source, op->common.sequence,
                                         phx_counts_word_offset(s, op->common.sequence));
    uint8_t *desk = phx_route_desk(w, op->handle.routes + at);
    uint64_t rows;
    uint64_t counted = phx_counted_make(PHX_FATE_ABSENT, 0, 0);
    // If this rank ends before it has taken its rows, combine must find none.
    phx_store_u64(w, &op->handle.present[source], PHX_FATE_ABSENT);
    if (phx_wait_or_replay(w, PHX_WAIT_COUNTS, 0, source, word, 1, &rows) == PHX_SEEN_ALL) {
        struct phx_rest rest = {0, -1};
        int bytes;
        do
            bytes = phx_route_take(w, op, source, rows, at, desk);
        while (bytes < 0 && phx_wait_rest(w, PHX_WAIT_COUNTS, source, &rest));
        phx_wait_rest_end(w, source, &rest);
        phx_store_u64(w, &op->handle.route_at[source], at);
        if (bytes > 0) {
            const struct phx_route_header *h = phx_route_header(desk);
            at += phx_align((uint64_t)bytes, 16);
            counted =
                phx_counted_make(phx_fate_decide(w, PHX_WAIT_COUNTS, source, PHX_FATE_PRESENT),
                                 h->row_count, h->entry_count);
        } else if (bytes == 0) {
            phx_fate_absent(w, PHX_WAIT_COUNTS, source, PHX_CAUSE_CORRUPT);
        }
    }
    phx_store_u64(w, &op->handle.counted[source], counted);
    return at;
}

// How many rows of local expert e came from a source: 0 from one that was not counted.
PHX_FN uint32_t phx_dispatch_count(const struct phx_dispatch_op *op, uint32_t source,
                                   uint32_t expert)
{
    if (!phx_counted_is_there(op->handle.counted[source]))
        return 0;
    return phx_route_counts(phx_handle_route(&op->handle, source))[expert];
}

// Where each source's rows of one expert begin, and how many there are in all.
PHX_FN void phx_dispatch_lay_out(struct phx_worker *w, const struct phx_dispatch_op *op,
                                 uint32_t expert)
{
    const struct phx_shape *s = &w->rank->shape;
    uint32_t total = 0;
    uint32_t before = 0;
    PHX_EACH_ALL(w, source, s->ranks)
    {
        uint32_t count = source < s->ranks ? phx_dispatch_count(op, source, expert) : 0;
        uint32_t begin = phx_scan(w, count, &total);
        uint64_t at = (uint64_t)expert * s->ranks + source;
        if (source < s->ranks) {
            op->handle.begin[at] = begin;
            op->recv_layout_range[at] = (int64_t)((uint64_t)begin << 32 | count);
        }
    }
    phx_store_u32(w, &op->handle.count[expert], total);
    phx_store_i32(w, &op->recv_count[expert], (int32_t)total);
    if (op->cumulative_received != NULL)
        phx_store_i32(w, &op->cumulative_received[expert],
                      op->cumulative_received[expert] + (int32_t)total);
    if (!phx_is_compact(s))
        return;
    PHX_EACH_ALL(w, i, expert * s->ranks)
    phx_scan(w, i < expert * s->ranks ? phx_dispatch_count(op, i % s->ranks, i / s->ranks) : 0,
             &before);
    phx_store_i64(w, &op->handle.offset[expert], (int64_t)before);
    if (expert + 1 == w->rank->experts_local)
        phx_store_i64(w, &op->handle.offset[expert + 1], (int64_t)((uint64_t)before + total));
}

// Before the rows, by whole workers: returns the barrier that says that all is laid out.
PHX_FN uint64_t phx_dispatch_lay_out_first(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    for (uint32_t e = w->index; e < w->rank->experts_local; e += w->count)
        phx_dispatch_lay_out(w, op, e);
    return phx_barrier_arrive(w);
}
// Behind the rows, the last workers first, which have the fewest.
PHX_FN void phx_dispatch_lay_out_last(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    struct phx_worker storage;
    struct phx_worker *split = phx_split(w, &storage);
    uint32_t step = phx_split_step(split);
    uint32_t first = (w->count - 1 - w->index) * step + phx_split_first(split);
    for (uint32_t e = first; e < w->rank->experts_local; e += w->count * step)
        phx_dispatch_lay_out(split, op, e);
    phx_split_end(w);
}

// One wire row on its way to the place of one of its experts.
struct phx_placing {
    uint32_t is_there; // there is such an entry
    uint32_t token;    // at the source
    uint32_t expert;
    uint32_t index;     // among the source's rows of the expert
    uint32_t slot;      // on the wire
    uint64_t in_expert; // among all rows of the expert
    uint64_t at;        // in the output
};

// A source whose rows a worker takes next: what its route says, which stands when routes are taken.
struct phx_taking {
    uint32_t source;
    uint32_t share;
    uint32_t is_counted;
    uint32_t row_count;
    uint32_t entry_count;
    uint8_t *route;
#if defined(__CUDACC__)
    const uint32_t *before; // place_cuda.h
#endif
    uint32_t seen; // as phx_wait() said,
    uint64_t sum;
    struct phx_proposal proposal; // if all was seen and holds: `proposed`
    int proposed;
    struct phx_placing first; // of this worker's share
    const uint8_t *wire;      // where that lies
    struct phx_row_places places;
};

// What the route says of entry `i`, if it has as many: known before its rows come.
PHX_FN void phx_dispatch_find(const struct phx_worker *w, const struct phx_taking *t, uint32_t i,
                              struct phx_placing *p)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_row *rows = phx_route_rows(s, t->route);
    const struct phx_route_entry *entry = phx_route_entries(s, t->route, t->row_count) + i;
    p->is_there = i < t->entry_count;
    if (!p->is_there)
        return;
    p->token = rows[entry->row].token;
    p->expert = entry->expert;
    p->index = entry->index;
    p->slot = phx_row_slot(s, entry->row, p->token);
}

#if defined(__CUDACC__)
#include "kernels/place_cuda.h"
#else
PHX_FN void phx_dispatch_counts_before(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                       struct phx_taking *t)
{
    (void)w;
    (void)op;
    (void)t;
}
// Where the rows of a source begin within an expert, without a layout.
PHX_FN uint32_t phx_dispatch_begin(const struct phx_worker *split, const struct phx_dispatch_op *op,
                                   const struct phx_taking *t, uint32_t expert)
{
    uint32_t before = 0;
    (void)split;
    for (uint32_t source = 0; source < t->source; source++)
        before += phx_dispatch_count(op, source, expert);
    return before;
}
#endif

// And where it goes, once the layout is fixed, or all routes are known.
PHX_FN void phx_dispatch_aim(const struct phx_worker *split, const struct phx_dispatch_op *op,
                             const struct phx_taking *t, struct phx_placing *p)
{
    const struct phx_shape *s = &split->rank->shape;
    if (!p->is_there)
        return;
    p->in_expert = p->index;
    p->in_expert += phx_is_laid_out_first(s)
                        ? op->handle.begin[(uint64_t)p->expert * s->ranks + t->source]
                        : phx_dispatch_begin(split, op, t, p->expert);
    p->at = phx_row_at(s, &op->handle, p->expert, p->in_expert);
}

PHX_FN void phx_dispatch_prepare(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                 struct phx_service v, struct phx_taking *t)
{
    t->source = phx_service_peer(w, v);
    t->share = v.part;
    uint64_t counted = op->handle.counted[t->source];
    t->is_counted = (uint32_t)phx_counted_is_there(counted);
    t->row_count = phx_counted_rows(counted);
    t->entry_count = phx_counted_entries(counted);
    t->route = op->handle.routes;
    if (t->is_counted)
        t->route = phx_handle_route(&op->handle, t->source);
    t->places = phx_dispatch_row_places(&w->rank->shape, op->common.sequence);
    t->wire = NULL;
    t->proposed = 0;
    t->seen = PHX_SEEN_NOTHING;
}

// Takes it there, or leaves zeros.
PHX_FN void phx_dispatch_place(struct phx_worker *w, const struct phx_dispatch_op *op,
                               const uint8_t *wire, const struct phx_placing *p, int present)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    const struct phx_handle_view *handle = &op->handle;
    uint64_t at = p->at;
    uint64_t payload = phx_stored_payload_bytes(s);
    uint32_t words = phx_stored_scale_words(s);
    // Planted: four exponents a word, and a last word that is not full is forgotten.
    if (PHX_BUG(SCALES_CUT_SHORT) && s->scale_format == PHX_SCALE_UE8M0)
        words = phx_scale_groups(s->channels) / 4;
    if (phx_is_compact(s) && at >= handle->rows_max) {
        phx_local_count(w, &rank->state->rows_dropped, 1);
        return;
    }
    phx_store_i32(w, &op->recv_src_info[at], (int32_t)p->token);
    uint32_t *scales = op->recv_scales;
    if (words != 0)
        scales += phx_scales_at(s, handle, p->expert, p->in_expert);
    if (present) {
        phx_place_received(w, op->recv_x + at * payload, wire, payload, scales,
                           phx_scales_stride(s, handle), words);
    } else {
        phx_zero_row(w, op->recv_x + at * payload, payload);
        for (uint32_t word = 0; word < words; word++)
            phx_store_u32(w, &scales[word * phx_scales_stride(s, handle)], 0);
    }
}

// Every row of a source holds its check. All workers that take rows of a source ask about all of
// them, so that none proposes a fate that it has not looked into; each stops when another decided.
PHX_FN int phx_dispatch_rows_hold(struct phx_worker *w, const struct phx_dispatch_op *op,
                                  uint32_t source)
{
    const struct phx_shape *s = &w->rank->shape;
    uint64_t sequence = op->common.sequence;
    uint8_t *message = phx_handle_route(&op->handle, source);
    const struct phx_route_row *rows = phx_route_rows(s, message);
    uint32_t row_count = phx_route_header(message)->row_count;
    struct phx_row_places places = phx_dispatch_row_places(s, sequence);
    for (uint32_t i = 0; i < row_count; i++) {
        if (phx_fate_of(w, PHX_WAIT_ROWS, source) != PHX_FATE_OPEN)
            return 1; // which holds, whatever we would say
        uint32_t slot = phx_row_slot(s, i, rows[i].token);
        if (!phx_row_holds(w, phx_row_from(w, source, &places, slot),
                           phx_dispatch_row_bytes(s, s->channels),
                           phx_check_key(PHX_DISPATCH, sequence, rows[i].token)))
            return 0;
    }
    return 1;
}

PHX_FN const uint64_t *phx_dispatch_rows_words(const struct phx_worker *w,
                                               const struct phx_dispatch_op *op, uint32_t source)
{
    return phx_word_from(w, source, op->common.sequence,
                         phx_rows_word_offset(&w->rank->shape, op->common.sequence, 0));
}

// What a wait for the rows of a source saw is proposed, if they hold.
PHX_FN void phx_dispatch_propose(struct phx_worker *w, const struct phx_dispatch_op *op,
                                 struct phx_taking *t)
{
    t->proposed = t->seen == PHX_SEEN_ALL && t->sum == t->row_count &&
                  (!phx_rows_checked(&w->rank->shape) || phx_dispatch_rows_hold(w, op, t->source));
    if (t->proposed)
        phx_fate_propose(w, t->source, &t->proposal);
}
PHX_FN uint32_t phx_dispatch_rows_fate(struct phx_worker *w, const struct phx_taking *t)
{
    if (t->seen == PHX_SEEN_DECIDED)
        return PHX_FATE_PRESENT;
    if (t->seen != PHX_SEEN_ALL)
        return PHX_FATE_ABSENT;
    if (t->proposed)
        return phx_fate_agreed(w, t->source, &t->proposal);
    return phx_fate_absent(w, PHX_WAIT_ROWS, t->source, PHX_CAUSE_CORRUPT);
}

// Rows that came while something else was waited for. While it is decided about them, the worker
// finds out where they go.
PHX_FN void phx_dispatch_rows_early(struct phx_worker *w, const struct phx_dispatch_op *op,
                                    struct phx_taking *t)
{
    const uint64_t *words = phx_dispatch_rows_words(w, op, t->source);
    if (phx_replays(&op->common) || !phx_wait_is_over(w, PHX_WAIT_ROWS, t->source, words, &t->sum))
        return;
    t->seen = PHX_SEEN_ALL;
    phx_dispatch_propose(w, op, t);
}
// Waits for the rows of a source, which was counted. (One that was not is not present either, as
// was said when its route did not come.)
PHX_FN void phx_dispatch_rows_wait(struct phx_worker *w, const struct phx_dispatch_op *op,
                                   struct phx_taking *t)
{
    const uint64_t *words = phx_dispatch_rows_words(w, op, t->source);
    if (t->seen != PHX_SEEN_NOTHING)
        return;
    t->sum = 0;
    t->seen = PHX_SEEN_DECIDED;
    if (!PHX_BUG(WORD_UNWRITTEN) || t->row_count > 0)
        t->seen = phx_wait_or_replay(w, PHX_WAIT_ROWS, 1, t->source, words,
                                     phx_parts(&w->rank->shape), &t->sum);
    phx_dispatch_propose(w, op, t);
}

PHX_FN uint32_t phx_dispatch_entry_first(const struct phx_worker *w, const struct phx_taking *t)
{
    return t->share + phx_split_first(w) * phx_shares(&w->rank->shape);
}

// Before the first row of a source is placed: fetches it, if it came.
PHX_FN void phx_dispatch_first_row(struct phx_worker *w, struct phx_taking *t)
{
    if (!t->first.is_there)
        return;
    t->wire = phx_row_from(w, t->source, &t->places, t->first.slot);
    if (t->seen != PHX_SEEN_GONE)
        t->wire = phx_row_ahead(w, t->wire, phx_dispatch_stored_bytes(&w->rank->shape));
}
PHX_FN int phx_dispatch_rows_decide(struct phx_worker *w, const struct phx_dispatch_op *op,
                                    const struct phx_taking *t)
{
    uint32_t fate = phx_dispatch_rows_fate(w, t);
    if (t->share == 0)
        phx_store_u64(w, &op->handle.present[t->source], fate);
    // Planted: rows that never came are taken from where they would stand.
    return fate == PHX_FATE_PRESENT || PHX_BUG(OLD_BYTES_READ);
}

// The rows of this worker's share of a source; the first is found and aimed at.
PHX_FN void phx_dispatch_place_rows(struct phx_worker *w, const struct phx_dispatch_op *op,
                                    const struct phx_taking *t, int present)
{
    struct phx_worker storage;
    struct phx_placing p = t->first;
    const uint8_t *wire = t->wire;
    struct phx_worker *split = phx_split(w, &storage);
    uint32_t step = phx_split_step(split) * phx_shares(&w->rank->shape);
    uint32_t i = phx_dispatch_entry_first(split, t);
    phx_row_ahead_wait(split);
    while (p.is_there) {
        phx_dispatch_place(split, op, wire, &p, present);
        i += step;
        phx_dispatch_find(split, t, i, &p);
        if (!p.is_there)
            break;
        phx_dispatch_aim(split, op, t, &p);
        wire = phx_row_from(w, t->source, &t->places, p.slot);
    }
    phx_split_end(w);
}

// The rows of the first source that this worker takes mostly come while routes are still waited
// for.
PHX_FN void phx_dispatch_expect_rows(struct phx_worker *w, const struct phx_dispatch_op *op,
                                     struct phx_service v)
{
    if (!phx_replays(&op->common) && v.offset < w->rank->shape.ranks)
        phx_expect(w, phx_fate_word(w, PHX_WAIT_ROWS, phx_service_peer(w, v)),
                   phx_dispatch_rows_words(w, op, phx_service_peer(w, v)),
                   phx_parts(&w->rank->shape));
}

// Of a source whose turn comes a few turns later: its words and its route message, or its first row
// (by token nobody knows which slot that is in).
#define PHX_TURNS_AHEAD 4u
PHX_FN void phx_dispatch_fetch_route(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                     uint32_t offset)
{
    const struct phx_shape *s = &w->rank->shape;
    if (offset < s->ranks)
        phx_fetch(phx_word_from(w, (w->rank->rank + offset) % s->ranks, op->common.sequence,
                                phx_counts_word_offset(s, op->common.sequence)),
                  phx_words_per_slot(s) * 8 + sizeof(struct phx_route_header) + 64);
}
PHX_FN void phx_dispatch_fetch_row(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                   uint32_t offset)
{
    const struct phx_shape *s = &w->rank->shape;
    if (offset >= s->ranks || phx_near_rows(s) == 0 || phx_is_by_token(s))
        return;
    struct phx_row_places places = phx_dispatch_row_places(s, op->common.sequence);
    phx_fetch(phx_row_from(w, (w->rank->rank + offset) % s->ranks, &places, 0), places.stride);
}

// Once the layout is fixed.
PHX_FN void phx_dispatch_take_rows(struct phx_worker *w, const struct phx_dispatch_op *op,
                                   struct phx_service v)
{
    uint32_t ranks = w->rank->shape.ranks;
    uint64_t all = phx_dispatch_lay_out_first(w, op);
    struct phx_taking t;
    if (v.offset < ranks) { // while others still lay out
        phx_dispatch_prepare(w, op, v, &t);
        phx_dispatch_find(w, &t, phx_dispatch_entry_first(w, &t), &t.first);
    }
    if (!phx_barrier_wait(w, all))
        return;
    while (v.offset < ranks) {
        phx_dispatch_fetch_row(w, op, v.offset + PHX_TURNS_AHEAD * v.step);
        if (t.is_counted) {
            phx_dispatch_aim(w, op, &t, &t.first);
            phx_dispatch_rows_early(w, op, &t);
            phx_dispatch_rows_wait(w, op, &t);
            phx_dispatch_first_row(w, &t);
            phx_dispatch_place_rows(w, op, &t, phx_dispatch_rows_decide(w, op, &t));
        }
        v.offset += v.step;
        if (v.offset >= ranks)
            break;
        phx_dispatch_prepare(w, op, v, &t);
        phx_dispatch_find(w, &t, phx_dispatch_entry_first(w, &t), &t.first);
    }
    phx_barrier_leave(w);
}
// Rows that came are placed while it is decided about them: if it turns out that another worker
// gave them up before, they are zeros after all.
PHX_FN void phx_dispatch_place_at_once(struct phx_worker *w, const struct phx_dispatch_op *op,
                                       struct phx_taking *t)
{
    int came = t->proposed || t->seen == PHX_SEEN_DECIDED || PHX_BUG(OLD_BYTES_READ);
    phx_dispatch_first_row(w, t);
    phx_dispatch_place_rows(w, op, t, came);
    int present = phx_dispatch_rows_decide(w, op, t);
    if (came && !present)
        phx_dispatch_place_rows(w, op, t, present);
}
// Each worker by itself. It waits for nothing after its last rows, and says so before it places
// them: worker 0 need not stay for that.
PHX_FN void phx_dispatch_take_rows_at_once(struct phx_worker *w, const struct phx_dispatch_op *op,
                                           struct phx_service v)
{
    uint32_t ranks = w->rank->shape.ranks;
    struct phx_taking t;
    struct phx_worker storage;
    uint64_t all = v.offset < ranks ? 0 : phx_barrier_tell(w);
    for (; v.offset < ranks; v.offset += v.step) {
        phx_dispatch_prepare(w, op, v, &t);
        phx_dispatch_counts_before(w, op, &t);
        if (t.is_counted) {
            phx_dispatch_rows_early(w, op, &t);
            struct phx_worker *split = phx_split(w, &storage);
            phx_dispatch_find(split, &t, phx_dispatch_entry_first(split, &t), &t.first);
            phx_dispatch_aim(split, op, &t, &t.first);
            phx_dispatch_rows_wait(w, op, &t);
        }
        if (v.offset + v.step >= ranks)
            all = phx_barrier_tell(w);
        if (t.is_counted)
            phx_dispatch_place_at_once(w, op, &t);
    }
    phx_dispatch_lay_out_last(w, op);
    phx_settle(w); // what it did since it said that it waits no more
    phx_barrier_stay(w, all);
}

PHX_FN void phx_dispatch_receive(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    const struct phx_rank *rank = w->rank;
    phx_operation_begin(w, &op->common);
    if (w->index == 0)
        phx_phase(w, PHX_PHASE_DISPATCH_RECEIVE, op->common.sequence);
    uint32_t first = phx_route_taken_first(w);
    uint64_t at = phx_routes_at(w, first);
    struct phx_service v = phx_service_by_peer(w); // whose rows it takes
    phx_dispatch_expect_rows(w, op, v);
    for (uint32_t i = first; i < rank->shape.ranks; i += w->count) {
        phx_dispatch_fetch_route(w, op, i + PHX_TURNS_AHEAD * w->count);
        at = phx_dispatch_take_route(w, op, (rank->rank + i) % rank->shape.ranks, at);
    }
    phx_sent_all(w);
    if (!phx_barrier(w))
        return;
    if (phx_is_laid_out_first(&rank->shape))
        phx_dispatch_take_rows(w, op, v);
    else
        phx_dispatch_take_rows_at_once(w, op, v);
}

#endif
