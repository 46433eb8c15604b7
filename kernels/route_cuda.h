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

#define PHX_TABLE_NONE 0xFFFFFFFFu

// Tokens that the table holds at a time, one for each lane at most.
PHX_FN uint32_t phx_table_tokens(const struct phx_shape *s)
{
    uint32_t tokens = PHX_TABLE / s->top_k;
    return tokens < PHX_LANES ? tokens : PHX_LANES;
}

// Fetches the routing of `count` tokens from `first` on: entry k of the token of a lane at
// [k * count + lane], as rank << 16 | local expert.
PHX_FN void phx_table_load(const struct phx_worker *w, const struct phx_dispatch_op *op,
                           uint32_t first, uint32_t count)
{
    const struct phx_rank *rank = w->rank;
    uint32_t top_k = rank->shape.top_k;
    struct phx_chip *chip = phx_chip();
    phx_each_begin(w);
    PHX_EACH(w, i, count * top_k)
    {
        uint64_t at = (uint64_t)first * top_k + i;
        uint32_t place = i % top_k * count + i / top_k;
        int64_t expert = op->topk_idx[at];
        float weight = op->topk_weights != NULL ? op->topk_weights[at] : 1.0f;
        uint32_t entry = PHX_TABLE_NONE;
        if (expert >= 0 && expert < (int64_t)rank->shape.experts)
            entry = (uint32_t)rank->expert_rank[expert] << 16 | rank->expert_local[expert];
        chip->table[place] = entry;
        chip->weights[place] = weight;
    }
    phx_each_end(w);
}

// Which entries of this lane's token go to a peer, as a set of k. Of an expert that stands there
// twice the first counts.
PHX_FN uint32_t phx_table_entries_to(const struct phx_shape *s, uint32_t count, uint32_t peer)
{
    const uint32_t *mine = phx_chip()->table + threadIdx.x;
    uint32_t set = 0;
    if (threadIdx.x >= count)
        return 0;
    for (uint32_t k = 0; k < s->top_k; k++) {
        uint32_t entry = mine[k * count];
        if (entry == PHX_TABLE_NONE || entry >> 16 != peer)
            continue;
        int again = 0;
        for (uint32_t left = set; left != 0; left &= left - 1)
            again |= mine[((uint32_t)__ffs((int)left) - 1) * count] == entry;
        set |= again ? 0 : 1u << k;
    }
    return set;
}

PHX_FN uint32_t phx_route_count_rows(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                     uint32_t peer)
{
    const struct phx_shape *s = &w->rank->shape;
    uint32_t step = phx_table_tokens(s);
    uint32_t rows = 0;
    for (uint32_t first = 0; first < op->token_count; first += step) {
        uint32_t count = op->token_count - first < step ? op->token_count - first : step;
        phx_table_load(w, op, first, count);
        phx_scan(w, phx_table_entries_to(s, count, peer) != 0, &rows);
    }
    return rows;
}

// The entries of one lane's token, a table of experts at a time.
PHX_FN void phx_route_place(const struct phx_worker *w, uint8_t *message,
                            struct phx_route_entry *entries, uint32_t set, uint32_t count,
                            uint32_t row)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_chip *chip = phx_chip();
    uint32_t *counts = phx_route_counts(message);
    for (uint32_t first = 0; first < s->experts_local_max; first += PHX_BITS_EXPERTS) {
        phx_bits_clear(w, s->experts_local_max - first);
        for (uint32_t left = set; left != 0; left &= left - 1) {
            uint32_t at = ((uint32_t)__ffs((int)left) - 1) * count + threadIdx.x;
            uint32_t line = (chip->table[at] & 0xFFFFu) - first;
            if (line < PHX_BITS_EXPERTS)
                phx_bits_set(line);
        }
        phx_each_end(w);
        uint32_t i = 0;
        for (uint32_t left = set; left != 0; left &= left - 1, i++) {
            uint32_t k = (uint32_t)__ffs((int)left) - 1;
            uint32_t expert = chip->table[k * count + threadIdx.x] & 0xFFFFu;
            if (expert - first >= PHX_BITS_EXPERTS)
                continue;
            entries[i].index = (uint16_t)(counts[expert] + phx_bits_before(expert - first));
            entries[i].row = (uint16_t)row;
            entries[i].weight = chip->weights[k * count + threadIdx.x];
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

PHX_FN void phx_route_finish_lanes(const struct phx_worker *w, uint8_t *message, uint32_t rows,
                                   uint32_t entries)
{
    const struct phx_shape *s = &w->rank->shape;
    const uint32_t *words = (const uint32_t *)(const void *)message;
    struct phx_route_header *h = phx_route_header(message);
    uint32_t sum = 0;
    if (phx_serial_begin(w)) {
        h->row_count = rows;
        h->entry_count = entries;
        h->counts_size = s->experts_local_max;
    }
    phx_serial_end(w);
    PHX_EACH(w, i, (uint32_t)(phx_route_bytes(s, rows, entries) / 4))
    if (i != offsetof(struct phx_route_header, check) / 4)
        sum += phx_route_mix(words[i], i);
    sum = (uint32_t)phx_sum_lanes(w, sum);
    phx_store_u32(w, &h->check, sum);
    phx_sync(w);
}

// Builds the message to one peer and says where: on chip, if it leaves at once and fits there.
PHX_FN uint8_t *phx_route_message(struct phx_worker *w, const struct phx_dispatch_op *op,
                                  uint32_t peer)
{
    const struct phx_shape *s = &w->rank->shape;
    uint32_t step = phx_table_tokens(s);
    int is_single = op->token_count <= step;
    phx_store_u64(w, &op->handle.sent_at[peer], peer * phx_route_stride(s));
    uint8_t *message = w->rank->stage + phx_stage_routes_offset(s, op->common.sequence) +
                       peer * phx_route_stride(s);
    if (s->division == PHX_BY_TOKEN) // else the rows' senders read it again
        message = phx_stage_take(w, message, phx_route_stride(s));
    struct phx_route_row *rows = phx_route_rows(s, message);
    uint32_t row_count = is_single ? 0 : phx_route_count_rows(w, op, peer);
    uint32_t row_total = 0;
    uint32_t entry_total = 0;
    PHX_EACH(w, e, (uint32_t)((phx_route_rows_offset(s) - phx_route_counts_offset()) / 4))
    phx_route_counts(message)[e] = 0; // the padding too: it is sent, and summed
    for (uint32_t first = 0; first < op->token_count; first += step) {
        uint32_t count = op->token_count - first < step ? op->token_count - first : step;
        uint32_t both = 0;
        phx_table_load(w, op, first, count);
        uint32_t set = phx_table_entries_to(s, count, peer);
        uint32_t before = phx_scan(w, (set != 0) | (uint32_t)__popc(set) << 16, &both);
        uint32_t row = row_total + (before & 0xFFFFu);
        uint32_t entry = entry_total + (before >> 16);
        row_total += both & 0xFFFFu;
        entry_total += both >> 16;
        if (is_single)
            row_count = row_total;
        if (set != 0) {
            rows[row].token = first + threadIdx.x;
            rows[row].entry_begin = entry;
        }
        phx_route_place(w, message, phx_route_entries(s, message, row_count) + entry, set, count,
                        row);
    }
    phx_route_finish_lanes(w, message, row_total, entry_total);
    phx_store_u32(w, &op->handle.sent_rows[peer], row_total);
    return message;
}

PHX_FN void phx_routes_build(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    (void)w;
    (void)op; // each when it is sent
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
        if (e->expert >= w->rank->experts_local || e->k >= s->top_k || e->row != row ||
            (i > rows[row].entry_begin && e->k <= entries[i - 1].k) ||
            e->index >= phx_route_counts(message)[e->expert] ||
            phx_route_expert_again(entries, rows[row].entry_begin, i)) // a row has one bit for it
            return 0;
    }
    *begin = rows[row].entry_begin;
    *end = last;
    return 1;
}

// A message is checked on chip, if it fits there.
PHX_FN uint8_t *phx_route_desk(struct phx_worker *w, uint8_t *kept)
{
    return phx_stage_take(w, kept, phx_route_stride(&w->rank->shape));
}

// Every entry of these rows has the place that comes next in its expert; counts in `scratch`,
// `stride` apart.
PHX_FN int phx_route_places_check(const struct phx_worker *w, uint8_t *message, uint32_t begin,
                                  uint32_t end, uint32_t *scratch, uint32_t stride)
{
    const struct phx_route_entry *entries =
        phx_route_entries(&w->rank->shape, message, phx_route_header(message)->row_count);
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
                ok &= entries[i].index ==
                      scratch[(uint64_t)entries[i].expert * stride] + phx_bits_before(line);
        }
        phx_each_end(w);
        PHX_EACH(w, line, PHX_BITS_EXPERTS)
        if (first + line < local)
            scratch[(uint64_t)(first + line) * stride] += phx_bits_all(line);
        phx_each_end(w);
    }
    return ok;
}

// The counts are in range and add up to the entries; scratch is zeroed.
PHX_FN int phx_route_counts_check(const struct phx_worker *w, uint8_t *message, uint32_t *scratch,
                                  uint32_t stride)
{
    const struct phx_shape *s = &w->rank->shape;
    const uint32_t *counts = phx_route_counts(message);
    uint64_t total = 0;
    uint64_t bad = 0;
    PHX_EACH(w, e, s->experts_local_max)
    {
        bad += counts[e] > s->tokens_max || (e >= w->rank->experts_local && counts[e] != 0);
        scratch[(uint64_t)e * stride] = 0;
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
    uint32_t stride = s->ranks;
    if (s->experts_local_max <= PHX_TABLE) {
        scratch = phx_chip()->table;
        stride = 1;
    }
    if (!phx_route_counts_check(w, message, scratch, stride))
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
        bad += !phx_route_places_check(w, message, begin, end, scratch, stride);
    }
    return phx_sum_lanes(w, bad) == 0;
}

#endif
