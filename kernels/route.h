// kernels/route.h: the route message, which travels ahead of the rows and fixes the layout.
//
// A source tells each destination which of its tokens come, to which local experts, with which
// weights, and which place each takes among the source's rows of that expert. With the messages of
// all sources a rank knows where every row goes before one has come, and where the gaps are if rows
// never come. Format: layout.h. Every field of a received message is checked before it is used;
// what fails the check counts as a corrupt source, never as a crash.

#ifndef PHX_KERNELS_ROUTE_H
#define PHX_KERNELS_ROUTE_H

#include "kernels/device.h"

PHX_BOTH struct phx_route_header *phx_route_header(uint8_t *message)
{
    return (struct phx_route_header *)(void *)message;
}
PHX_BOTH uint32_t *phx_route_counts(uint8_t *message)
{
    return (uint32_t *)(void *)(message + phx_route_counts_offset());
}
PHX_BOTH struct phx_route_row *phx_route_rows(const struct phx_shape *s, uint8_t *message)
{
    return (struct phx_route_row *)(void *)(message + phx_route_rows_offset(s));
}
PHX_BOTH struct phx_route_entry *phx_route_entries(const struct phx_shape *s, uint8_t *message,
                                                   uint32_t row_count)
{
    return (struct phx_route_entry *)(void *)(message + phx_route_entries_offset(s, row_count));
}
PHX_BOTH uint32_t phx_route_row_end(const struct phx_route_header *h,
                                    const struct phx_route_row *rows, uint32_t row)
{
    return row + 1 < h->row_count ? rows[row + 1].entry_begin : h->entry_count;
}

// Murmur3's 32-bit finaliser over each word and its place, summed: order-free, so that many threads
// can share the work, and any single flipped bit changes it.
PHX_BOTH uint32_t phx_route_mix(uint32_t word, uint32_t place)
{
    uint32_t h = word ^ (place * 0x9E3779B1u);
    h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
    h = (h ^ (h >> 13)) * 0xC2B2AE35u;
    return h ^ (h >> 16);
}
// Of the numbers that say how long a message is. A change of any one shows.
PHX_BOTH uint32_t phx_route_head_check(const struct phx_shape *s, uint32_t row_count,
                                       uint32_t entry_count)
{
    return phx_route_mix(row_count, 1) + phx_route_mix(entry_count, 2) +
           phx_route_mix(s->experts_local_max, 3);
}
PHX_BOTH uint32_t phx_route_check_sum(const uint8_t *message, uint64_t bytes)
{
    const uint32_t *words = (const uint32_t *)(const void *)message;
    uint32_t check = offsetof(struct phx_route_header, check) / 4;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < check; i++)
        sum += phx_route_mix(words[i], i);
    for (uint32_t i = check + 1; i < bytes / 4; i++)
        sum += phx_route_mix(words[i], i);
    return sum;
}

// --- building, at the source --------------------------------------------------------------------

PHX_BOTH int phx_route_is_mine(const struct phx_worker *w, uint32_t peer)
{
    uint32_t mine = w->rank->rank;
    uint32_t offset = peer >= mine ? peer - mine : peer + w->rank->shape.ranks - mine;
    uint32_t first = phx_route_first(&w->rank->shape, w->index);
    if ((w->count & (w->count - 1)) == 0) // mostly so, and asked for each entry: no division
        return (offset & (w->count - 1)) == first;
    return (offset < w->count ? offset : offset % w->count) == first;
}

// True when a token lists the expert of entry k before.
PHX_BOTH int phx_topk_again(const int64_t *list, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++)
        if (list[i] == list[k])
            return 1;
    return 0;
}
// The expert of entry k of a token; -1 for none, for a number out of range, and for an expert that
// the token lists twice (the first stands): host targets refuse those two before.
PHX_BOTH int64_t phx_topk_expert(const struct phx_shape *s, const int64_t *topk_idx, uint64_t token,
                                 uint32_t k)
{
    const int64_t *list = topk_idx + token * s->top_k;
    if (list[k] < 0 || list[k] >= (int64_t)s->experts || phx_topk_again(list, k))
        return -1;
    return list[k];
}

// flags[peer] of each peer of the token, whose flags were 1 before. Returns 1 if they all are.
PHX_FN int phx_token_flags(struct phx_worker *w, struct phx_token *t, const uint64_t *flags)
{
    int same = 1;
    PHX_EACH(w, k, w->rank->shape.top_k)
    {
        if (t->peer[k] == PHX_NO_PEER)
            continue;
        t->flag[k] = flags[t->peer[k]];
        same &= t->flag[k] == 1;
    }
    return phx_each_agree(w, same);
}
// Entry k is the first of its peer in the token's list.
PHX_BOTH int phx_token_first(const struct phx_token *t, uint32_t k)
{
    for (uint32_t i = 0; i < k; i++)
        if (t->peer[i] == t->peer[k])
            return 0;
    return t->peer[k] != PHX_NO_PEER;
}

// Begins a message of at most `rows_max` rows; that number stands in place of the check meanwhile.
PHX_BOTH void phx_route_begin(const struct phx_shape *s, uint8_t *message, uint32_t rows_max)
{
    struct phx_route_header *h = phx_route_header(message);
    h->row_count = 0;
    h->entry_count = 0;
    h->check = rows_max;
    uint32_t *counts = phx_route_counts(message);
    uint64_t size = phx_route_rows_offset(s) - phx_route_counts_offset();
    for (uint32_t e = 0; e < size / 4; e++)
        counts[e] = 0; // the padding too: it is sent, and summed
}

// Appends one (token, expert) pair. Entries grow from where they would start if all rows came, and
// move down when the number of rows is known.
PHX_BOTH void phx_route_append(const struct phx_shape *s, uint8_t *message, uint32_t token,
                               uint32_t expert, uint32_t k, float weight)
{
    struct phx_route_header *h = phx_route_header(message);
    struct phx_route_row *rows = phx_route_rows(s, message);
    struct phx_route_entry *entry = phx_route_entries(s, message, h->check) + h->entry_count;
    if (h->row_count == 0 || rows[h->row_count - 1].token != token) {
        rows[h->row_count].token = token;
        rows[h->row_count].entry_begin = h->entry_count;
        h->row_count++;
    }
    entry->index = (uint16_t)phx_route_counts(message)[expert]++;
    entry->row = (uint16_t)(h->row_count - 1);
    entry->weight = weight;
    entry->expert = (uint16_t)expert;
    entry->k = (uint16_t)k;
    h->entry_count++;
}

PHX_BOTH void phx_route_finish(const struct phx_shape *s, uint8_t *message)
{
    struct phx_route_header *h = phx_route_header(message);
    struct phx_route_entry *from = phx_route_entries(s, message, h->check);
    struct phx_route_entry *to = phx_route_entries(s, message, h->row_count);
    for (uint32_t i = 0; i < h->entry_count && to != from; i++) {
        // Downwards never overwrites what is still to be moved; but an entry may overlap its own
        // new place, and C leaves a direct assignment between such objects undefined.
        struct phx_route_entry entry = from[i];
        to[i] = entry;
    }
    h->head_check = phx_route_head_check(s, h->row_count, h->entry_count);
    h->check = phx_route_check_sum(message, phx_route_bytes(s, h->row_count, h->entry_count));
}

// Where the first message of a worker lies, among those that are built or were received. There is
// room for the longest from or to each rank, but those of one worker lie one behind the other, as
// most are much shorter.
PHX_FN uint64_t phx_routes_at(const struct phx_worker *w, uint32_t first)
{
    const struct phx_shape *s = &w->rank->shape;
    uint32_t more = s->ranks % w->count;
    uint64_t before = (uint64_t)first * (s->ranks / w->count);
    return (before + (first < more ? first : more)) * phx_route_stride(s);
}
PHX_FN uint64_t phx_routes_first(const struct phx_worker *w) // of those that it builds
{
    return phx_routes_at(w, phx_route_first(&w->rank->shape, w->index));
}
PHX_FN uint8_t *phx_route_staged(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                 uint32_t peer)
{
    return w->rank->stage + phx_stage_routes_offset(&w->rank->shape, op->common.sequence) +
           op->handle.sent_at[peer];
}

// Few messages of full length are not worth counting for.
#define PHX_ROUTES_APART_BYTES 65536u

// Gives each message that this worker builds the room that its entries need at the most. Serial.
PHX_FN void phx_routes_place(const struct phx_worker *w, const struct phx_dispatch_op *op)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    uint32_t *entries = op->handle.sent_rows; // until the rows are known
    uint64_t entries_max = (uint64_t)s->tokens_max * phx_route_row_entries_max(s);
    uint64_t at = phx_routes_first(w);
    int apart = s->ranks * phx_route_stride(s) <= PHX_ROUTES_APART_BYTES;
    for (uint32_t i = phx_route_first(s, w->index); i < s->ranks; i += w->count)
        entries[(rank->rank + i) % s->ranks] = apart ? (uint32_t)entries_max : 0;
    for (uint64_t i = 0; !apart && i < (uint64_t)op->token_count * s->top_k; i++) {
        int64_t expert = op->topk_idx[i];
        if (expert >= 0 && expert < (int64_t)s->experts &&
            phx_route_is_mine(w, rank->expert_rank[expert]))
            entries[rank->expert_rank[expert]]++;
    }
    for (uint32_t i = phx_route_first(s, w->index); i < s->ranks; i += w->count) {
        uint32_t peer = (rank->rank + i) % s->ranks;
        uint32_t most = entries[peer] < entries_max ? entries[peer] : (uint32_t)entries_max;
        uint32_t rows_max = most < s->tokens_max ? most : s->tokens_max;
        op->handle.sent_at[peer] = at;
        phx_route_begin(s, phx_route_staged(w, op, peer), rows_max);
        at += phx_align(phx_route_bytes(s, rows_max, most), 16);
    }
}

// Builds the messages to every peer that this worker serves, in one pass over the tokens. Serial;
// route_cuda.h has the form for many threads, which gives the same bytes.
PHX_FN void phx_routes_build_serially(const struct phx_worker *w, const struct phx_dispatch_op *op)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape shape = rank->shape; // a copy, which no store below can change
    const struct phx_shape *s = &shape;
    uint8_t *staged = rank->stage + phx_stage_routes_offset(s, op->common.sequence);
    const uint64_t *sent_at = op->handle.sent_at;
    phx_routes_place(w, op);
    for (uint32_t t = 0; t < op->token_count; t++) {
        const int64_t *list = op->topk_idx + (uint64_t)t * s->top_k;
        for (uint32_t k = 0; k < s->top_k; k++) {
            uint64_t at = (uint64_t)t * s->top_k + k;
            int64_t expert = list[k];
            if (expert < 0 || expert >= (int64_t)s->experts)
                continue;
            uint32_t peer = rank->expert_rank[expert];
            // Most entries are another worker's, so that is asked before the longer question.
            if (!phx_route_is_mine(w, peer) || phx_topk_again(list, k))
                continue;
            // Planted: the place in the list is counted without the entries that name no expert.
            for (uint32_t i = 0; PHX_BUG(TOKEN_INDEX_SHIFTED) && i < k; i++)
                at -= list[i] < 0;
            float weight = op->topk_weights != NULL ? op->topk_weights[at] : 1.0f;
            phx_route_append(s, staged + sent_at[peer], t, rank->expert_local[expert], k, weight);
        }
    }
    for (uint32_t i = phx_route_first(s, w->index); i < s->ranks; i += w->count) {
        uint32_t peer = (rank->rank + i) % s->ranks;
        uint8_t *message = staged + sent_at[peer];
        phx_route_finish(s, message);
        op->handle.sent_rows[peer] = phx_route_header(message)->row_count;
    }
}

// --- checking, at the destination ---------------------------------------------------------------

// The header's numbers are possible, so that the rest of the message has a length.
PHX_BOTH int phx_route_header_ok(const struct phx_shape *s, const struct phx_route_header *h,
                                 uint64_t row_count)
{
    return h->row_count == row_count && h->row_count <= s->tokens_max &&
           h->entry_count >= h->row_count &&
           h->head_check == phx_route_head_check(s, h->row_count, h->entry_count) &&
           h->entry_count <= (uint64_t)h->row_count * phx_route_row_entries_max(s);
}

PHX_BOTH int phx_route_row_ok(const struct phx_shape *s, const struct phx_route_header *h,
                              const struct phx_route_row *rows, uint32_t row)
{
    uint32_t end = phx_route_row_end(h, rows, row);
    if (rows[row].token >= s->tokens_max || (row > 0 && rows[row].token <= rows[row - 1].token))
        return 0;
    if (row == 0 && rows[0].entry_begin != 0)
        return 0;
    return rows[row].entry_begin < end && end <= h->entry_count &&
           end - rows[row].entry_begin <= phx_route_row_entries_max(s);
}

// An entry's expert stands in the same row before.
PHX_BOTH int phx_route_expert_again(const struct phx_route_entry *entries, uint32_t begin,
                                    uint32_t entry)
{
    for (uint32_t i = begin; i < entry; i++)
        if (entries[i].expert == entries[entry].expert)
            return 1;
    return 0;
}

// Every number in the message is in range, and no two entries take one place. `message` is our own
// copy: the sender can't change it. scratch[e * stride], e below experts_local_max, is overwritten.
PHX_BOTH int phx_route_ok(const struct phx_shape *s, uint32_t experts_local, uint8_t *message,
                          uint32_t *scratch, uint32_t stride)
{
    struct phx_route_header *h = phx_route_header(message);
    const struct phx_route_row *rows = phx_route_rows(s, message);
    const struct phx_route_entry *entries = phx_route_entries(s, message, h->row_count);
    const uint32_t *counts = phx_route_counts(message);
    uint64_t total = 0;
    for (uint32_t e = 0; e < s->experts_local_max; e++) {
        if (counts[e] > s->tokens_max || (e >= experts_local && counts[e] != 0))
            return 0;
        scratch[(uint64_t)e * stride] = 0;
        total += counts[e];
    }
    if (total != h->entry_count)
        return 0;
    for (uint32_t r = 0; r < h->row_count; r++) {
        if (!phx_route_row_ok(s, h, rows, r))
            return 0;
        for (uint32_t i = rows[r].entry_begin; i < phx_route_row_end(h, rows, r); i++) {
            const struct phx_route_entry *e = &entries[i];
            if (e->expert >= experts_local || e->k >= s->top_k || e->row != r ||
                (i > rows[r].entry_begin && e->k <= entries[i - 1].k) ||
                e->index != scratch[(uint64_t)e->expert * stride]++ ||
                e->index >= counts[e->expert] ||
                phx_route_expert_again(entries, rows[r].entry_begin, i))
                return 0;
        }
    }
    return h->check ==
           phx_route_check_sum(message, phx_route_bytes(s, h->row_count, h->entry_count));
}

#if defined(__CUDACC__)
#include "kernels/message_cuda.h"
#include "kernels/route_cuda.h"
#else
// One token's routing. It stands until the next.
PHX_FN struct phx_token *phx_token_load(struct phx_worker *w, const int64_t *topk_idx,
                                        const float *topk_weights, uint32_t token)
{
    const struct phx_rank *rank = w->rank;
    struct phx_token *t = phx_token_of(w);
    for (uint32_t k = 0; k < rank->shape.top_k; k++) {
        int64_t expert = phx_topk_expert(&rank->shape, topk_idx, token, k);
        t->peer[k] = expert < 0 ? PHX_NO_PEER : rank->expert_rank[expert];
        t->flag[k] = 1;
        if (topk_weights != NULL)
            t->weight[k] = topk_weights[(uint64_t)token * rank->shape.top_k + k];
    }
    return t;
}
// The message to a peer that this worker serves, after phx_routes_build().
PHX_FN uint8_t *phx_route_message(struct phx_worker *w, const struct phx_dispatch_op *op,
                                  uint32_t peer)
{
    return phx_route_staged(w, op, peer);
}
// The first offset whose message this worker takes: it sends to those ranks, too.
PHX_FN uint32_t phx_route_taken_first(const struct phx_worker *w)
{
    return phx_route_first(&w->rank->shape, w->index);
}
// Where a message is checked before it is kept at `kept`.
PHX_FN uint8_t *phx_route_desk(struct phx_worker *w, uint8_t *kept)
{
    (void)w;
    return kept;
}
PHX_FN void phx_routes_build(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    phx_routes_build_serially(w, op);
}
// Copies a message of `row_count` rows from its source's region. The source may rewrite that
// meanwhile (it should not): the second look at the header must agree with the first. Returns its
// length; 0: the header does not hold.
PHX_FN int phx_route_fetch(struct phx_worker *w, uint8_t *message, uint8_t *kept,
                           const uint8_t *region, uint64_t row_count, uint64_t sequence)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    (void)sequence;
    (void)kept; // the same place
    phx_copy(w, message, region, sizeof(struct phx_route_header));
    if (!phx_route_header_ok(s, h, row_count))
        return 0;
    uint64_t bytes = phx_route_bytes(s, h->row_count, h->entry_count);
    phx_copy(w, message, region, bytes);
    if (!phx_route_header_ok(s, h, row_count) ||
        phx_route_bytes(s, h->row_count, h->entry_count) != bytes)
        return 0;
    return (int)bytes;
}
// phx_route_ok() by all threads of a worker; scratch: of this source, `ranks` apart.
PHX_FN int phx_route_check(struct phx_worker *w, uint8_t *message, uint32_t *scratch)
{
    const struct phx_shape *s = &w->rank->shape;
    return phx_route_ok(s, w->rank->experts_local, message, scratch, s->ranks);
}
#endif

// Copies the message of `source` into the handle, to `at`, and checks the copy, at `desk`, which
// phx_route_desk() gave. `row_count` came in the signal. Returns the message's bytes; 0: it does
// not hold; -1: some of it has not come.
PHX_FN int phx_route_take(struct phx_worker *w, const struct phx_dispatch_op *op, uint32_t source,
                          uint64_t row_count, uint64_t at, uint8_t *desk)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    uint64_t sequence = op->common.sequence;
    const uint8_t *base = phx_route_is_near(s, row_count) ? phx_head_of(w, source, sequence)
                                                          : phx_region_of(w, source);
    const uint8_t *region = base + phx_route_offset(s, sequence, row_count);
    uint8_t *kept = op->handle.routes + at;
    int bytes = phx_route_fetch(w, desk, kept, region, row_count, sequence);
    if (bytes <= 0)
        return bytes;
    return phx_route_check(w, desk, &op->handle.begin[source]) ? bytes : 0;
}

#endif
