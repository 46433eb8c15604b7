// kernels/route_cuda.h: building and checking route messages by all lanes of a GPU worker. The same
// bytes, and the same yes or no, as route.h's serial forms.
//
// A lane has one token (or row) of PHX_LANES at a time. Which place an entry takes among the
// source's rows of its expert is the number of earlier tokens that name it: bits of a table on
// chip, an expert a line, PHX_BITS_EXPERTS experts at a time, and the number from the lanes'
// earlier rounds.

#ifndef PHX_KERNELS_ROUTE_CUDA_H
#define PHX_KERNELS_ROUTE_CUDA_H

#include "kernels/route.h"

PHX_FN void phx_bits_clear(const struct phx_worker *w, uint32_t experts)
{
    uint32_t *bits = &phx_chip()->bits[0][0];
    phx_each_begin(w);
    PHX_EACH(w, i, (experts < PHX_BITS_EXPERTS ? experts : PHX_BITS_EXPERTS) * PHX_BITS_WORDS)
    bits[i] = 0;
    phx_each_end(w);
}
PHX_FN void phx_bits_set(uint32_t line)
{
    atomicOr(&phx_chip()->bits[line][threadIdx.x / 32], 1u << threadIdx.x % 32);
}
// Lanes before this one that set the line's bit.
PHX_FN uint32_t phx_bits_before(uint32_t line)
{
    const uint32_t *bits = phx_chip()->bits[line];
    uint32_t count = (uint32_t)__popc(bits[threadIdx.x / 32] & ((1u << threadIdx.x % 32) - 1));
    for (uint32_t i = 0; i < threadIdx.x / 32; i++)
        count += (uint32_t)__popc(bits[i]);
    return count;
}
PHX_FN uint32_t phx_bits_all(uint32_t line)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < PHX_BITS_WORDS; i++)
        count += (uint32_t)__popc(phx_chip()->bits[line][i]);
    return count;
}

// --- building -----------------------------------------------------------------------------------

// Which entries of a token go to a peer, as a set of k.
PHX_FN uint32_t phx_route_entries_to(const struct phx_rank *rank, const struct phx_dispatch_op *op,
                                     uint32_t token, uint32_t peer)
{
    const struct phx_shape *s = &rank->shape;
    uint32_t set = 0;
    for (uint32_t k = 0; k < s->top_k; k++) {
        int64_t expert = phx_topk_expert(s, op->topk_idx, token, k);
        if (expert >= 0 && rank->expert_rank[expert] == peer)
            set |= 1u << k;
    }
    return set;
}

PHX_FN uint32_t phx_route_count_rows(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                     uint32_t peer)
{
    uint32_t rows = 0;
    PHX_EACH_ALL(w, t, op->token_count)
    phx_scan(w, t < op->token_count && phx_route_entries_to(w->rank, op, t, peer) != 0, &rows);
    return rows;
}

// The places of one lane's entries among those of their experts, a table of experts at a time.
PHX_FN void phx_route_place(const struct phx_worker *w, const struct phx_dispatch_op *op,
                            uint8_t *message, struct phx_route_entry *entries, uint32_t set,
                            uint32_t token)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    uint32_t *counts = phx_route_counts(message);
    for (uint32_t first = 0; first < s->experts_local_max; first += PHX_BITS_EXPERTS) {
        phx_bits_clear(w, s->experts_local_max - first);
        for (uint32_t left = set; left != 0; left &= left - 1) {
            uint32_t k = (uint32_t)__ffs((int)left) - 1;
            uint32_t line =
                rank->expert_local[op->topk_idx[(uint64_t)token * s->top_k + k]] - first;
            if (line < PHX_BITS_EXPERTS)
                phx_bits_set(line);
        }
        phx_each_end(w);
        uint32_t i = 0;
        for (uint32_t left = set; left != 0; left &= left - 1, i++) {
            uint32_t k = (uint32_t)__ffs((int)left) - 1;
            uint64_t at = (uint64_t)token * s->top_k + k;
            uint32_t expert = rank->expert_local[op->topk_idx[at]];
            if (expert - first >= PHX_BITS_EXPERTS)
                continue;
            entries[i].index = counts[expert] + phx_bits_before(expert - first);
            entries[i].weight = op->topk_weights != NULL ? op->topk_weights[at] : 1.0f;
            entries[i].expert = (uint16_t)expert;
            entries[i].k = (uint16_t)k;
        }
        phx_each_end(w);
        PHX_EACH(w, line, PHX_BITS_EXPERTS)
        if (first + line < s->experts_local_max)
            counts[first + line] += phx_bits_all(line);
        phx_each_end(w);
    }
}

PHX_FN void phx_route_build(struct phx_worker *w, const struct phx_dispatch_op *op, uint32_t peer)
{
    const struct phx_rank *rank = w->rank;
    const struct phx_shape *s = &rank->shape;
    uint8_t *message = rank->stage + phx_stage_route_offset(s, op->common.sequence, peer);
    struct phx_route_header *h = phx_route_header(message);
    struct phx_route_row *rows = phx_route_rows(s, message);
    uint32_t row_count = phx_route_count_rows(w, op, peer);
    struct phx_route_entry *entries = phx_route_entries(s, message, row_count);
    uint32_t row_total = 0;
    uint32_t entry_total = 0;
    uint32_t sum = 0;
    PHX_EACH(w, e, (uint32_t)((phx_route_rows_offset(s) - phx_route_counts_offset()) / 4))
    phx_route_counts(message)[e] = 0;
    phx_each_end(w);
    PHX_EACH_ALL(w, t, op->token_count)
    {
        uint32_t set = t < op->token_count ? phx_route_entries_to(rank, op, t, peer) : 0;
        uint32_t row = phx_scan(w, set != 0, &row_total);
        uint32_t entry = phx_scan(w, (uint32_t)__popc(set), &entry_total);
        if (set != 0) {
            rows[row].token = t;
            rows[row].entry_begin = entry;
        }
        phx_route_place(w, op, message, entries + entry, set, t);
    }
    if (phx_serial_begin(w)) {
        h->row_count = row_count;
        h->entry_count = entry_total;
        h->counts_size = s->experts_local_max;
        op->handle.sent_rows[peer] = row_count;
    }
    phx_serial_end(w);
    const uint32_t *words = (const uint32_t *)(const void *)message;
    PHX_EACH(w, i, (uint32_t)(phx_route_bytes(s, row_count, entry_total) / 4))
    if (i != offsetof(struct phx_route_header, check) / 4)
        sum += phx_route_mix(words[i], i);
    sum = (uint32_t)phx_sum_lanes(w, sum);
    phx_store_u32(w, &h->check, sum);
    phx_sync(w);
}

PHX_FN void phx_routes_build(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    const struct phx_shape *s = &w->rank->shape;
    for (uint32_t i = phx_route_first(s, w->index); i < s->ranks; i += w->count)
        phx_route_build(w, op, (w->rank->rank + i) % s->ranks);
}

// --- checking -----------------------------------------------------------------------------------

// One row and its entries, but for their places. A row with a mistake has no entries.
PHX_FN int phx_route_row_check(const struct phx_worker *w, uint8_t *message, uint32_t row,
                               uint32_t *begin, uint32_t *end)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    const struct phx_route_row *rows = phx_route_rows(s, message);
    const struct phx_route_entry *entries = phx_route_entries(s, message, h->row_count);
    *begin = 0;
    *end = 0;
    if (!phx_route_row_ok(s, h, rows, row))
        return 0;
    uint32_t last = phx_route_row_end(h, rows, row);
    for (uint32_t i = rows[row].entry_begin; i < last; i++) {
        const struct phx_route_entry *e = &entries[i];
        if (e->expert >= w->rank->experts_local || e->k >= s->top_k ||
            (i > rows[row].entry_begin && e->k <= entries[i - 1].k) ||
            e->index >= phx_route_counts(message)[e->expert] ||
            phx_route_expert_again(entries, rows[row].entry_begin, i)) // a row has one bit for it
            return 0;
    }
    *begin = rows[row].entry_begin;
    *end = last;
    return 1;
}

// Every entry of these rows has the place that comes next in its expert; counts in `scratch`.
PHX_FN int phx_route_places_check(const struct phx_worker *w, uint8_t *message, uint32_t begin,
                                  uint32_t end, uint32_t *scratch)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_entry *entries =
        phx_route_entries(s, message, phx_route_header(message)->row_count);
    uint32_t local = w->rank->experts_local;
    int ok = 1;
    for (uint32_t first = 0; first < local; first += PHX_BITS_EXPERTS) {
        phx_bits_clear(w, local - first);
        for (uint32_t i = begin; i < end; i++)
            if (entries[i].expert - first < PHX_BITS_EXPERTS)
                phx_bits_set(entries[i].expert - first);
        phx_each_end(w);
        for (uint32_t i = begin; i < end; i++) {
            uint32_t line = entries[i].expert - first;
            if (line < PHX_BITS_EXPERTS)
                ok &= entries[i].index == scratch[(uint64_t)entries[i].expert * s->ranks] +
                                              phx_bits_before(line);
        }
        phx_each_end(w);
        PHX_EACH(w, line, PHX_BITS_EXPERTS)
        if (first + line < local)
            scratch[(uint64_t)(first + line) * s->ranks] += phx_bits_all(line);
        phx_each_end(w);
    }
    return ok;
}

// The counts are in range and add up to the entries; scratch is zeroed.
PHX_FN int phx_route_counts_check(const struct phx_worker *w, uint8_t *message, uint32_t *scratch)
{
    const struct phx_shape *s = &w->rank->shape;
    const uint32_t *counts = phx_route_counts(message);
    uint64_t total = 0;
    uint64_t bad = 0;
    PHX_EACH(w, e, s->experts_local_max)
    {
        bad += counts[e] > s->tokens_max || (e >= w->rank->experts_local && counts[e] != 0);
        scratch[(uint64_t)e * s->ranks] = 0;
        total += counts[e];
    }
    bad = phx_sum_lanes(w, bad);
    return phx_sum_lanes(w, total) == phx_route_header(message)->entry_count && bad == 0;
}

PHX_FN int phx_route_check(struct phx_worker *w, uint8_t *message, uint32_t *scratch)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    const uint32_t *words = (const uint32_t *)(const void *)message;
    uint32_t sum = 0;
    uint64_t bad = 0;
    if (!phx_route_counts_check(w, message, scratch))
        return 0;
    PHX_EACH(w, i, (uint32_t)(phx_route_bytes(s, h->row_count, h->entry_count) / 4))
    if (i != offsetof(struct phx_route_header, check) / 4)
        sum += phx_route_mix(words[i], i);
    if ((uint32_t)phx_sum_lanes(w, sum) != h->check)
        return 0;
    PHX_EACH_ALL(w, row, h->row_count)
    {
        uint32_t begin = 0;
        uint32_t end = 0;
        if (row < h->row_count)
            bad += !phx_route_row_check(w, message, row, &begin, &end);
        bad += !phx_route_places_check(w, message, begin, end, scratch);
    }
    return phx_sum_lanes(w, bad) == 0;
}

#endif
