// kernels/combine.h: weighted expert outputs back to the ranks of their tokens.
//
// Send:    the expert rank goes through each source's rows as dispatch counted them. Rows once: it
// sums
//          weight * output over its experts of that token, in order of k, in f32, rounds once to
//          bf16 and puts the partial sum into the wire slot of that token. Per expert: it puts each
//          output row. The last put carries the signal, with the number of rows.
// Receive: wait for every rank | barrier | each token adds the partial sums in rank order (or
// weights
//          the rows in order of k), in f32. A rank whose row count is not what was dispatched there
//          did not answer: all weights of its experts count as lost, token by token.

#ifndef PHX_KERNELS_COMBINE_H
#define PHX_KERNELS_COMBINE_H

#include "kernels/dispatch.h"

// --- send ---------------------------------------------------------------------------------------

// Where an entry's expert output stands in y; NULL if it lay beyond the compact output.
PHX_FN const uint16_t *phx_combine_output_row(const struct phx_worker *w,
                                              const struct phx_combine_op *op, uint32_t source,
                                              const struct phx_route_entry *entry)
{
    const struct phx_shape *s = &w->rank->shape;
    uint64_t in_expert =
        (uint64_t)op->handle.begin[(uint64_t)entry->expert * s->ranks + source] + entry->index;
    uint64_t at = phx_row_at(s, &op->handle, entry->expert, in_expert);
    if (phx_is_compact(s) && at >= op->handle.rows_max)
        return NULL;
    return op->y + at * s->channels;
}

// The last put of a part carries the signal, and which one is last shows only when the next comes:
// so one put is held back.
struct phx_combine_puts {
    uint32_t source;
    uint64_t slot;    // of the row held back
    uint8_t *stage;   // where it was built
    uint64_t to_at;   // of slot 0, in the region
    uint8_t *staged;  // of slot 0
    uint64_t stride;  // of both
    uint64_t bytes;   // of a row: stored,
    uint64_t on_wire; // and charged
    int held;
    int posted;    // 0: the lane never made room
    uint32_t turn; // which of its two rows a worker builds in, where staging is used again
};

PHX_FN struct phx_combine_puts
phx_combine_puts_begin(const struct phx_worker *w, const struct phx_combine_op *op, uint32_t source)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_combine_puts puts;
    puts.source = source;
    puts.slot = 0;
    puts.stage = NULL;
    puts.to_at = phx_combine_row_offset(s, op->common.sequence, 0);
    puts.staged = w->rank->stage + phx_stage_combine_offset(s, op->common.sequence, source, 0);
    puts.stride = phx_combine_row_stride(s);
    puts.bytes = phx_combine_stored_bytes(s);
    puts.on_wire = phx_combine_wire_bytes(s, s->hidden);
    puts.held = 0;
    puts.posted = 1;
    puts.turn = 0;
    return puts;
}

// Where the row for a slot is built. A transport that has copied a row when it has taken the put
// needs two rows of each worker, which stay in its caches: the one held back, and the next.
PHX_FN uint8_t *phx_combine_stage(struct phx_worker *w, struct phx_combine_puts *puts,
                                  uint64_t slot)
{
    const struct phx_shape *s = &w->rank->shape;
    uint8_t *home = puts->staged + slot * puts->stride;
    puts->turn ^= 1u;
    if (w->rank->stage_reused && 2 * (uint64_t)w->count <= s->ranks * phx_combine_rows_per_slot(s))
        home = w->rank->stage + phx_stage_combine_offset(s, 0, 0, 2 * w->index + puts->turn);
    return phx_stage_take(w, home, puts->stride);
}

PHX_FN void phx_combine_put(struct phx_worker *w, const struct phx_combine_op *op,
                            struct phx_combine_puts *puts, uint8_t *stage, uint64_t slot)
{
    if (puts->held)
        puts->posted &= phx_send_put(w, puts->source, puts->to_at + puts->slot * puts->stride,
                                     puts->stage, puts->bytes, puts->on_wire,
                                     phx_token_tag(PHX_COMBINE, op->common.sequence));
    puts->held = 1;
    puts->slot = slot;
    puts->stage = stage;
}

PHX_FN void phx_combine_put_last(struct phx_worker *w, const struct phx_combine_op *op,
                                 struct phx_combine_puts *puts, uint64_t word_at, uint64_t word)
{
    uint32_t tag = phx_token_tag(PHX_COMBINE, op->common.sequence);
    if (!puts->held)
        puts->posted &= phx_send_signal(w, puts->source, word_at, word, tag);
    else
        puts->posted &=
            phx_send_put_signal(w, puts->source, puts->to_at + puts->slot * puts->stride,
                                puts->stage, puts->bytes, puts->on_wire, word_at, word, tag);
}

PHX_FN void phx_combine_seal(struct phx_worker *w, const struct phx_combine_op *op, uint8_t *stage,
                             uint64_t slot)
{
    const struct phx_shape *s = &w->rank->shape;
    if (phx_rows_checked(s))
        phx_row_seal(w, stage, phx_combine_row_bytes(s->channels),
                     phx_check_key(PHX_COMBINE, op->common.sequence, slot));
}

// Fills in entry i of what one dispatched row of a source is summed from. Returns how many there
// are.
PHX_FN uint32_t phx_combine_list_entry(const struct phx_worker *w, const struct phx_combine_op *op,
                                       uint32_t source, uint32_t row, uint32_t i,
                                       struct phx_row_list *list)
{
    const struct phx_shape *s = &w->rank->shape;
    uint8_t *message = phx_handle_route(&op->handle, source);
    const struct phx_route_header *h = phx_route_header(message);
    const struct phx_route_row *rows = phx_route_rows(s, message);
    uint32_t begin = rows[row].entry_begin;
    uint32_t count = phx_route_row_end(h, rows, row) - begin;
    const struct phx_route_entry *entry = phx_route_entries(s, message, h->row_count) + begin + i;
    if (i < count) {
        list->row[i] = phx_combine_output_row(w, op, source, entry);
        list->weight[i] = entry->weight;
        list->k[i] = (uint8_t)entry->k;
        list->token = rows[row].token;
    }
    return count;
}

#if defined(__CUDACC__)
#include "kernels/combine_cuda.h"
#else
// What is known of all rows that this worker will send, before the first.
PHX_FN void phx_combine_prepare(struct phx_worker *w, const struct phx_combine_op *op)
{
    (void)w;
    (void)op;
}
// What the first row for a source is summed from.
PHX_FN void phx_combine_ahead(struct phx_worker *w, const struct phx_combine_op *op,
                              uint32_t source)
{
    (void)w;
    (void)op;
    (void)source;
}
// Rows that a source is sent: none, if its own never came: it gets the signal, and will count them
// as lost.
PHX_FN uint32_t phx_combine_rows_for(struct phx_worker *w, const struct phx_combine_op *op,
                                     uint32_t source)
{
    (void)w;
    if (op->handle.present[source] != PHX_FATE_PRESENT)
        return 0;
    return phx_route_header(phx_handle_route(&op->handle, source))->row_count;
}
// The first offset whose signals this worker waits for.
PHX_FN uint32_t phx_combine_taken_first(const struct phx_worker *w)
{
    return w->index;
}
// What one dispatched row of a source is summed from.
PHX_FN struct phx_row_list *phx_combine_row_list(struct phx_worker *w,
                                                 const struct phx_combine_op *op, uint32_t source,
                                                 uint32_t row)
{
    struct phx_row_list *list = phx_row_list_of(w);
    list->count = 1;
    for (uint32_t i = 0; i < list->count; i++)
        list->count = phx_combine_list_entry(w, op, source, row, i, list);
    return list;
}
#endif

// Builds and puts what one dispatched row of a source gives. Returns 1; 0 if part of it lay beyond
// the compact output, so that the source must count it as lost.
PHX_FN uint32_t phx_combine_send_row(struct phx_worker *w, const struct phx_combine_op *op,
                                     struct phx_combine_puts *puts, uint32_t row)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_row_list *list = phx_combine_row_list(w, op, puts->source, row);
    uint32_t count = list->count;
    uint32_t token = list->token;
    for (uint32_t i = 0; phx_is_compact(s) && i < count; i++)
        if (list->row[i] == NULL) // in slots there is room for all
            return 0;
    if (phx_is_once(s)) {
        uint8_t *stage = phx_combine_stage(w, puts, token);
        phx_rows_fetched(w);
        phx_sum_rows(w, (uint16_t *)(void *)stage, list, count, 1.0f);
        phx_combine_seal(w, op, stage, token);
        phx_combine_put(w, op, puts, stage, token);
        return 1;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t slot = (uint64_t)token * s->top_k + list->k[i];
        uint8_t *stage = phx_combine_stage(w, puts, slot);
        phx_copy_row(w, stage, list->row[i], phx_combine_row_bytes(s->channels));
        phx_combine_seal(w, op, stage, slot);
        phx_combine_put(w, op, puts, stage, slot);
    }
    return 1;
}

PHX_FN void phx_combine_send_part(struct phx_worker *w, const struct phx_combine_op *op,
                                  uint32_t source, uint32_t part)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    uint64_t sequence = op->common.sequence;
    uint64_t word_at = phx_combine_word_offset(s, sequence, part);
    uint32_t parts = phx_parts(s);
    uint32_t sent = 0;
    struct phx_combine_puts puts = phx_combine_puts_begin(w, op, source);
    if (phx_suspects_to(w, source)) {
        phx_send_masked(w, PHX_WAIT_COMBINE, source, word_at, phx_token_tag(PHX_COMBINE, sequence));
        return;
    }
    uint32_t row_count = phx_combine_rows_for(w, op, source);
    phx_combine_ahead(w, op, source);
    for (uint32_t row = part; row < row_count && puts.posted; row += parts)
        sent += phx_combine_send_row(w, op, &puts, row);
    if (puts.posted)
        phx_combine_put_last(w, op, &puts, word_at, phx_word_make(rank->epoch, sequence, sent));
    if (!puts.posted)
        phx_send_failed(w, PHX_WAIT_COMBINE, source);
}

PHX_FN void phx_combine_send(struct phx_worker *w, const struct phx_combine_op *op)
{
    phx_operation_begin(w, &op->common);
    if (w->index == 0)
        phx_phase(w, PHX_PHASE_COMBINE_SEND, op->common.sequence);
    phx_take_masks(w);
    phx_combine_prepare(w, op);
    for (struct phx_service v = phx_service_first(w); v.offset < w->rank->shape.ranks;
         v = phx_service_next(w, v))
        phx_combine_send_part(w, op, phx_service_peer(w, v), v.part);
    phx_told(w);
}

// --- receive ------------------------------------------------------------------------------------

// What one token gets from a peer holds its check. *rows counts the rows that the peer sent for it:
// one, or (per expert) as many as make one.
PHX_FN int phx_combine_token_holds(struct phx_worker *w, const struct phx_combine_op *op,
                                   uint32_t peer, uint32_t token, uint32_t *rows)
{
    const struct phx_shape *s = &w->rank->shape;
    uint64_t sequence = op->common.sequence;
    int is_there = 0;
    for (uint32_t k = 0; k < s->top_k; k++) {
        int64_t expert = phx_topk_expert(s, op->topk_idx, token, k);
        if (expert < 0 || w->rank->expert_rank[expert] != peer)
            continue;
        if (is_there && phx_is_once(s))
            break;
        is_there = 1;
        uint64_t slot = phx_is_once(s) ? token : (uint64_t)token * s->top_k + k;
        if (!phx_row_holds(w, phx_region_of(w, peer) + phx_combine_row_offset(s, sequence, slot),
                           phx_combine_row_bytes(s->channels),
                           phx_check_key(PHX_COMBINE, sequence, slot)))
            return 0;
    }
    *rows += (uint32_t)is_there;
    return 1;
}

// All rows that came from a peer, which are as many as we had sent it.
PHX_FN int phx_combine_rows_hold(struct phx_worker *w, const struct phx_combine_op *op,
                                 uint32_t peer)
{
    uint32_t rows = 0;
    int holds = 1;
    for (uint32_t t = 0; holds && rows < op->handle.sent_rows[peer] && t < op->token_count; t++)
        holds = phx_combine_token_holds(w, op, peer, t, &rows);
    return holds;
}

PHX_FN void phx_combine_take(struct phx_worker *w, const struct phx_combine_op *op, uint32_t peer)
{
    const struct phx_shape *s = &w->rank->shape;
    const uint64_t *words = phx_word_from(w, peer, op->common.sequence,
                                          phx_combine_word_offset(s, op->common.sequence, 0));
    uint64_t sum;
    uint64_t answered = 0;
    if (phx_wait_or_replay(w, PHX_WAIT_COMBINE, 0, peer, words, phx_parts(s), &sum) ==
        PHX_SEEN_ALL) {
        // Planted: whoever signals has answered, for however many rows.
        answered = sum == op->handle.sent_rows[peer] || PHX_BUG(LOSS_NOT_REPORTED);
        if (answered && phx_rows_checked(s) && !phx_combine_rows_hold(w, op, peer)) {
            answered = 0;
            phx_fate_absent(w, PHX_WAIT_COMBINE, peer, PHX_CAUSE_CORRUPT);
        } else {
            phx_fate_decide(w, PHX_WAIT_COMBINE, peer, PHX_FATE_PRESENT);
        }
    }
    phx_store_u64(w, &op->answered[peer], answered);
}

// For a planted mistake alone: what became of a rank is decided once, in phx_combine_take().
PHX_FN uint64_t phx_combine_words_look(struct phx_worker *w, const struct phx_combine_op *op,
                                       uint32_t peer)
{
    const struct phx_shape *s = &w->rank->shape;
    uint64_t sum;
    const uint64_t *words = phx_word_from(w, peer, op->common.sequence,
                                          phx_combine_word_offset(s, op->common.sequence, 0));
    return phx_look(w, NULL, NULL, 0, words, phx_parts(s), &sum) == PHX_SEEN_ALL &&
           sum == op->handle.sent_rows[peer];
}

// The weights of one token: all, and those whose rank did not answer; in order of k.
struct phx_combine_weights {
    float total;
    float kept;
    float lost;
};

// What was answered, by what is planted. flag: what was decided.
PHX_FN uint64_t phx_combine_answered(struct phx_worker *w, const struct phx_combine_op *op,
                                     uint32_t peer, uint64_t flag)
{
    // Planted: the mask is asked again, and may have changed since it was decided.
    if (PHX_BUG(MASK_READ_TWICE) && phx_suspects(w, peer))
        return 0;
    // Planted: each worker asks the words again whether that rank has answered.
    return PHX_BUG(TWO_DECISIONS) ? phx_combine_words_look(w, op, peer) : flag;
}

PHX_FN struct phx_combine_weights
phx_combine_weigh(struct phx_worker *w, const struct phx_combine_op *op, struct phx_token *t)
{
    struct phx_combine_weights sums = {0.0f, 0.0f, 0.0f};
    for (uint32_t k = 0; k < w->rank->shape.top_k; k++) {
        uint32_t peer = t->peer[k];
        if (peer == PHX_NO_PEER)
            continue;
        uint64_t answered = phx_combine_answered(w, op, peer, t->flag[k]);
        if (answered != t->flag[k]) // planted alone
            t->flag[k] = answered;
        sums.total += t->weight[k];
        if (answered != 0)
            sums.kept += t->weight[k];
        // Planted: who took no part in the dispatch has nothing to lose.
        else if (!PHX_BUG(LOSS_NOT_REPORTED) || phx_counted_is_there(op->handle.counted[peer]))
            sums.lost += t->weight[k];
    }
    return sums;
}

// Entry k adds a row to the sum: its own, or, rows once, that of its peer, whose first it is.
PHX_BOTH int phx_combine_adds(const struct phx_shape *s, const struct phx_token *t, uint32_t k)
{
    return t->peer[k] != PHX_NO_PEER && t->flag[k] != 0 &&
           (!phx_is_once(s) || phx_token_first(t, k));
}

// Lists the rows of one token that came, in the order in which they are summed: in order of k, or,
// rows once, in rank order and already weighted. Returns their number.
PHX_FN uint32_t phx_combine_list(struct phx_worker *w, const struct phx_combine_op *op,
                                 uint32_t token, const struct phx_token *t,
                                 struct phx_row_list *list)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    int is_once = phx_is_once(s);
    uint64_t rows_at = phx_combine_row_offset(s, op->common.sequence, 0);
    uint64_t stride = phx_combine_row_stride(s);
    uint32_t count = 0;
    PHX_EACH(w, k, s->top_k)
    {
        list->is_listed[k] = (uint8_t)phx_combine_adds(s, t, k);
    }
    phx_each_end(w);
    PHX_EACH(w, k, s->top_k)
    {
        uint32_t place = 0;
        for (uint32_t i = 0; i < s->top_k; i++)
            place += list->is_listed[i] && (is_once ? t->peer[i] < t->peer[k] : i < k);
        uint64_t slot = is_once ? token : (uint64_t)token * s->top_k + k;
        if (list->is_listed[k]) {
            list->row[place] = (const uint16_t *)(const void *)(phx_region_of(w, t->peer[k]) +
                                                                rows_at + slot * stride);
            list->weight[place] = is_once ? 1.0f : t->weight[k];
        }
    }
    phx_each_end(w);
    for (uint32_t k = 0; k < s->top_k; k++)
        count += list->is_listed[k];
    return count;
}

// What a token will be summed from.
struct phx_combine_plan {
    struct phx_token *token;
    struct phx_combine_weights sums;
    uint32_t count; // rows in the worker's list
};
PHX_FN void phx_combine_plan_rows(struct phx_worker *w, const struct phx_combine_op *op,
                                  uint32_t token, struct phx_combine_plan *plan)
{
    plan->sums = phx_combine_weigh(w, op, plan->token);
    plan->count = phx_combine_list(w, op, token, plan->token, phx_row_list_of(w));
}
// Before it is known who answered: as if everybody had, which mostly holds.
PHX_FN void phx_combine_plan_token(struct phx_worker *w, const struct phx_combine_op *op,
                                   uint32_t token, struct phx_combine_plan *plan)
{
    plan->token = phx_token_load(w, op->topk_idx, op->topk_weights, token);
    if (!PHX_BUG(MASK_READ_TWICE) && !PHX_BUG(TWO_DECISIONS)) // these are asked again
        phx_combine_plan_rows(w, op, token, plan);
}

// As it turned out.
PHX_COLD void phx_combine_plan_again_apart(struct phx_worker *w, const struct phx_combine_op *op,
                                           uint32_t token, struct phx_combine_plan *plan)
{
    phx_combine_plan_rows(w, op, token, plan);
}
PHX_FN void phx_combine_plan_again(struct phx_worker *w, const struct phx_combine_op *op,
                                   uint32_t token, struct phx_combine_plan *plan)
{
    struct phx_combine_plan changed = *plan;
    PHX_ASIDE_BEGIN(w);
    phx_combine_plan_again_apart(aside, op, token, &changed);
    PHX_ASIDE_END(w);
    *plan = changed;
}

PHX_FN void phx_combine_token(struct phx_worker *w, const struct phx_combine_op *op, uint32_t token,
                              struct phx_combine_plan *plan)
{
    if (!phx_token_flags(w, plan->token, op->answered) || PHX_BUG(MASK_READ_TWICE) ||
        PHX_BUG(TWO_DECISIONS))
        phx_combine_plan_again(w, op, token, plan);
    struct phx_row_list *list = phx_row_list_of(w);
    struct phx_combine_weights sums = plan->sums;
    uint32_t count = plan->count;
    uint16_t *out = op->out + (uint64_t)token * w->rank->shape.channels;
    float scale = 1.0f;
    if (op->renormalise && sums.lost != 0.0f && sums.kept > 0.0f)
        scale = sums.total / sums.kept;
    if (PHX_BUG(WEIGHTS_AFTER_ROUNDING) && scale != 1.0f) { // planted: rounded, then scaled
        phx_sum_rows(w, out, list, count, 1.0f);
        list->row[0] = out;
        list->weight[0] = 1.0f;
        count = 1;
    }
    phx_sum_rows(w, out, list, count, scale);
    if (op->token_loss != NULL)
        phx_store_f32(w, &op->token_loss[token], sums.lost);
}

// Who answered is known behind it. 0: the operation was ended.
PHX_FN int phx_combine_take_all(struct phx_worker *w, const struct phx_combine_op *op)
{
    const struct phx_rank *rank = w->rank;
    for (uint32_t i = phx_combine_taken_first(w); i < rank->shape.ranks; i += w->count)
        phx_combine_take(w, op, (rank->rank + i) % rank->shape.ranks);
    return phx_barrier(w);
}

PHX_FN void phx_combine_receive(struct phx_worker *w, const struct phx_combine_op *op)
{
    phx_operation_begin(w, &op->common);
    if (w->index == 0)
        phx_phase(w, PHX_PHASE_COMBINE_RECEIVE, op->common.sequence);
    phx_sent_all(w);
    for (uint32_t token = w->index;; token += w->count) {
        int is_there = token < op->token_count;
        struct phx_combine_plan plan = {NULL, {0.0f, 0.0f, 0.0f}, 0};
        if (is_there)
            phx_combine_plan_token(w, op, token, &plan);
        if (token == w->index && !phx_combine_take_all(w, op)) // once
            return;
        if (!is_there)
            return;
        phx_combine_token(w, op, token, &plan);
    }
}

#endif
