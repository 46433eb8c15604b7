// kernels/route_cuda.h: building and checking route messages by all lanes of a GPU worker. The same
// bytes, and the same yes or no, as route.h's serial forms.
//
// Lanes take turns at what they share out: at one time a lane has a token, or a row; at another a
// pair of a token and a k, or an entry, so that all of them are busy and each for a short while.
// Which place an entry takes among the source's rows of its expert is the number of earlier tokens
// that name it: bits of a table on chip, an expert a line, PHX_LANES tokens and PHX_BITS_EXPERTS
// experts at a time, after those of the rounds before.

#ifndef PHX_KERNELS_ROUTE_CUDA_H
#define PHX_KERNELS_ROUTE_CUDA_H

#include "kernels/route.h"

PHX_FN void phx_bits_clear(const struct phx_worker *w, uint32_t experts)
{
    uint32_t *bits = &phx_chip()->bits[0][0];
    uint32_t lines = experts < PHX_BITS_EXPERTS ? experts : PHX_BITS_EXPERTS;
    PHX_EACH(w, i, lines * (PHX_BITS_WORDS + 1))
    bits[i] = 0;
}
// Returns 0 if it was set already.
PHX_FN int phx_bits_set(uint32_t line, uint32_t at)
{
    uint32_t bit = 1u << at % 32;
    return (atomicOr(&phx_chip()->bits[line][at / 32], bit) & bit) == 0;
}
// Numbers what was set: after it phx_bits_before() tells how many bits of a line come before one,
// in this round and the rounds before. counts[line * stride], of those, are brought up to date.
PHX_FN void phx_bits_count(const struct phx_worker *w, uint32_t experts, uint32_t *counts,
                           uint32_t stride)
{
    struct phx_chip *chip = phx_chip();
    PHX_EACH(w, line, experts < PHX_BITS_EXPERTS ? experts : PHX_BITS_EXPERTS)
    {
        uint32_t sum = counts[(uint64_t)line * stride];
#pragma unroll
        for (uint32_t i = 0; i < PHX_BITS_WORDS; i++) {
            chip->before[line][i] = sum;
            sum += (uint32_t)__popc(chip->bits[line][i]);
        }
        counts[(uint64_t)line * stride] = sum;
    }
}
PHX_FN uint32_t phx_bits_before(uint32_t line, uint32_t at)
{
    const struct phx_chip *chip = phx_chip();
    return chip->before[line][at / 32] +
           (uint32_t)__popc(chip->bits[line][at / 32] & ((1u << at % 32) - 1));
}

// This lane's part of what phx_route_check_sum() adds up over a message of so many words, four of
// them at a time: a message begins at a multiple of 16 bytes, and so does what lies behind it.
PHX_FN uint32_t phx_route_mix_mine(const struct phx_worker *w, const uint8_t *message,
                                   uint32_t words)
{
    const uint4 *pieces = (const uint4 *)(const void *)message;
    const uint32_t check = offsetof(struct phx_route_header, check) / 4;
    uint32_t sum = 0;
    PHX_EACH(w, i, (words + 3) / 4)
    {
        uint4 piece = pieces[i];
        uint32_t at = 4 * i;
        sum += phx_route_mix(piece.x, at);
        sum += at + 1 < words ? phx_route_mix(piece.y, at + 1) : 0;
        sum += at + 2 < words ? phx_route_mix(piece.z, at + 2) : 0;
        sum += at + 3 < words && at + 3 != check ? phx_route_mix(piece.w, at + 3) : 0;
    }
    return sum;
}
static_assert(offsetof(struct phx_route_header, check) == 12, "the fourth word");

// --- building -----------------------------------------------------------------------------------

#define PHX_TABLE_NONE 0xFFFFFFFFu
#define PHX_TABLE_AHEAD 4u // pairs of a lane whose loads are under way at once

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
    uint32_t pairs = count * top_k;
    const int64_t *idx = op->topk_idx + (uint64_t)first * top_k;
    const float *weights =
        op->topk_weights != NULL ? op->topk_weights + (uint64_t)first * top_k : NULL;
    phx_each_begin(w);
#pragma unroll 1
    for (uint32_t base = phx_lane(w); base < pairs; base += PHX_TABLE_AHEAD * PHX_LANES) {
        int64_t expert[PHX_TABLE_AHEAD];
        float weight[PHX_TABLE_AHEAD];
        uint32_t entry[PHX_TABLE_AHEAD];
#pragma unroll
        for (uint32_t i = 0; i < PHX_TABLE_AHEAD; i++) {
            uint32_t at = base + i * PHX_LANES;
            expert[i] = at < pairs ? idx[at] : -1;
            weight[i] = weights != NULL && at < pairs ? weights[at] : 1.0f;
        }
#pragma unroll
        for (uint32_t i = 0; i < PHX_TABLE_AHEAD; i++) {
            entry[i] = PHX_TABLE_NONE;
            if (expert[i] >= 0 && expert[i] < (int64_t)rank->shape.experts)
                entry[i] =
                    (uint32_t)rank->expert_rank[expert[i]] << 16 | rank->expert_local[expert[i]];
        }
#pragma unroll
        for (uint32_t i = 0; i < PHX_TABLE_AHEAD; i++) {
            uint32_t at = base + i * PHX_LANES;
            uint32_t place = at % top_k * count + at / top_k;
            if (at < pairs) {
                chip->table[place] = entry[i];
                chip->weights[place] = weight[i];
            }
        }
    }
    phx_each_end(w);
}

#define PHX_ENTRIES_AHEAD 8u

// Which entries of this lane's token go to a peer, as a set of k. Of an expert that stands there
// twice the first counts.
PHX_FN uint32_t phx_table_entries_to(const struct phx_shape *s, uint32_t count, uint32_t peer)
{
    const uint32_t *mine = phx_chip()->table + threadIdx.x;
    uint32_t set = 0;
    if (threadIdx.x >= count)
        return 0;
#pragma unroll 1
    for (uint32_t first = 0; first < s->top_k; first += PHX_ENTRIES_AHEAD) {
        uint32_t entry[PHX_ENTRIES_AHEAD];
        uint32_t earlier = set;
#pragma unroll
        for (uint32_t i = 0; i < PHX_ENTRIES_AHEAD; i++)
            entry[i] = first + i < s->top_k ? mine[(first + i) * count] : PHX_TABLE_NONE;
#pragma unroll
        for (uint32_t i = 0; i < PHX_ENTRIES_AHEAD; i++) {
            uint32_t is_there = entry[i] != PHX_TABLE_NONE && entry[i] >> 16 == peer;
#pragma unroll
            for (uint32_t j = 0; j < i; j++)
                is_there &= entry[j] != entry[i];
            for (uint32_t left = earlier; left != 0; left &= left - 1)
                is_there &= mine[((uint32_t)__ffs((int)left) - 1) * count] != entry[i];
            set |= is_there << (first + i);
        }
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

// How (token, k) pairs are dealt out: a lane has one token, and every `step`th k from its first.
struct phx_pairs {
    uint32_t token;
    uint32_t k;
    uint32_t step;
};
PHX_FN struct phx_pairs phx_pairs_of(uint32_t count) // 1 to PHX_LANES tokens
{
    uint32_t shift = 32 - (uint32_t)__clz((int)(count - 1));
    struct phx_pairs p;
    p.token = threadIdx.x & ((1u << shift) - 1);
    p.k = threadIdx.x >> shift;
    p.step = PHX_LANES >> shift;
    return p;
}

// The entries of a round's tokens, a table of experts at a time. What chip->tokens[] say is there,
// and the first table's bits are clear, when the lanes have met.
PHX_FN void phx_route_place(const struct phx_worker *w, uint8_t *message,
                            struct phx_route_entry *entries, uint32_t count)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_chip *chip = phx_chip();
    struct phx_pairs pairs = phx_pairs_of(count);
    const struct phx_route_token *t = &chip->tokens[pairs.token];
    for (uint32_t first = 0; first < s->experts_local_max; first += PHX_BITS_EXPERTS) {
        uint32_t experts = s->experts_local_max - first;
        if (first > 0)
            phx_bits_clear(w, experts);
        phx_sync(w);
        uint32_t set = pairs.token < count ? t->set : 0;
        PHX_ROLLED for (uint32_t k = pairs.k; k < s->top_k; k += pairs.step)
        {
            if ((set >> k & 1u) == 0) // or there is no such token
                continue;
            uint32_t line = (chip->table[k * count + pairs.token] & 0xFFFFu) - first;
            if (line < PHX_BITS_EXPERTS)
                phx_bits_set(line, pairs.token);
        }
        phx_sync(w);
        phx_bits_count(w, experts, phx_route_counts(message) + first, 1);
        phx_sync(w);
        PHX_ROLLED for (uint32_t k = pairs.k; k < s->top_k; k += pairs.step)
        {
            if ((set >> k & 1u) == 0)
                continue;
            uint32_t expert = chip->table[k * count + pairs.token] & 0xFFFFu;
            if (expert - first >= PHX_BITS_EXPERTS)
                continue;
            struct phx_route_entry *entry =
                entries + t->entry + (uint32_t)__popc(set & ((1u << k) - 1));
            entry->index = (uint16_t)phx_bits_before(expert - first, pairs.token);
            entry->row = (uint16_t)t->row;
            entry->weight = chip->weights[k * count + pairs.token];
            entry->expert = (uint16_t)expert;
            entry->k = (uint16_t)k;
        }
        phx_sync(w);
    }
}

PHX_FN void phx_route_finish_lanes(const struct phx_worker *w, uint8_t *message, uint32_t rows,
                                   uint32_t entries)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_route_header *h = phx_route_header(message);
    if (phx_lane(w) == 0) {
        h->row_count = rows;
        h->entry_count = entries;
        h->head_check = phx_route_head_check(s, rows, entries);
    }
    phx_sync(w);
    uint32_t words = (uint32_t)(phx_route_bytes(s, rows, entries) / 4);
    uint32_t sum = (uint32_t)phx_sum_lanes(w, phx_route_mix_mine(w, message, words));
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
    if (phx_is_by_token(s)) // else the rows' senders read it again
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
        phx_bits_clear(w, s->experts_local_max);
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
        struct phx_route_token token = {set, row, entry};
        phx_chip()->tokens[threadIdx.x] = token;
        phx_route_place(w, message, phx_route_entries(s, message, row_count), count);
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

// Rows and entries that are looked at together, and a table of experts.
struct phx_route_round {
    uint32_t row_first;
    uint32_t row_end;
    uint32_t entry_first;
    uint32_t entry_end;
    uint32_t expert_first;
};

// An entry, of three words that are loaded side by side.
struct phx_route_numbers {
    uint32_t index;
    uint32_t row;
    uint32_t expert;
    uint32_t k;
};
static_assert(sizeof(struct phx_route_entry) == 12 && offsetof(struct phx_route_entry, row) == 2 &&
                  offsetof(struct phx_route_entry, expert) == 8 &&
                  offsetof(struct phx_route_entry, k) == 10,
              "two numbers each in the first word and the last");
PHX_FN struct phx_route_numbers phx_route_numbers_of(const struct phx_route_entry *entry)
{
    const uint32_t *words = (const uint32_t *)(const void *)entry;
    struct phx_route_numbers n;
    n.index = words[0] & 0xFFFFu;
    n.row = words[0] >> 16;
    n.expert = words[2] & 0xFFFFu;
    n.k = words[2] >> 16;
    return n;
}

// The row and the expert of an entry are of this round, so that it has a bit.
PHX_FN int phx_route_entry_here(const struct phx_worker *w, const struct phx_route_round *round,
                                struct phx_route_numbers e)
{
    return e.row >= round->row_first && e.row < round->row_end &&
           e.expert < w->rank->experts_local && e.expert - round->expert_first < PHX_BITS_EXPERTS;
}

// Mistakes of a round's entries, but for their places: each stands where its row has its entries.
// All that an entry is compared with is fetched at once, from where there is something whatever it
// says, and nothing is asked in turn: a lane waits for two loads, one behind the other.
PHX_FN uint32_t phx_route_entries_check(const struct phx_worker *w, uint8_t *message,
                                        const struct phx_route_round *round)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    const struct phx_route_row *rows = phx_route_rows(s, message);
    const struct phx_route_entry *entries = phx_route_entries(s, message, h->row_count);
    const uint32_t *counts = phx_route_counts(message);
    uint32_t bad = 0;
    for (uint32_t i = round->entry_first + phx_lane(w); i < round->entry_end; i += PHX_LANES) {
        struct phx_route_numbers e = phx_route_numbers_of(&entries[i]);
        uint32_t k_before = entries[i > 0 ? i - 1 : 0].k;
        int is_row = e.row >= round->row_first && e.row < round->row_end;
        int is_expert = e.expert < w->rank->experts_local;
        uint32_t row = is_row ? e.row : round->row_first;
        uint32_t begin = rows[row].entry_begin;
        uint32_t end = phx_route_row_end(h, rows, row);
        uint32_t count = counts[is_expert ? e.expert : 0];
        int is_bad = !is_row | !is_expert | (i < begin) | (i >= end) |
                     ((i > begin) & (e.k <= k_before)) | (e.k >= s->top_k) | (e.index >= count);
        if (!is_bad && e.expert - round->expert_first < PHX_BITS_EXPERTS)
            // An expert twice in a row: the bit is set.
            is_bad = !phx_bits_set(e.expert - round->expert_first, e.row - round->row_first);
        bad += (uint32_t)is_bad;
    }
    return bad;
}

// Entries that have not the place that comes next in their expert.
PHX_FN uint32_t phx_route_places_check(const struct phx_worker *w, uint8_t *message,
                                       const struct phx_route_round *round)
{
    const struct phx_route_entry *entries =
        phx_route_entries(&w->rank->shape, message, phx_route_header(message)->row_count);
    uint32_t bad = 0;
    for (uint32_t i = round->entry_first + phx_lane(w); i < round->entry_end; i += PHX_LANES) {
        struct phx_route_numbers e = phx_route_numbers_of(&entries[i]);
        if (phx_route_entry_here(w, round, e))
            bad += e.index !=
                   phx_bits_before(e.expert - round->expert_first, e.row - round->row_first);
    }
    return bad;
}

// The first offset whose message this worker takes. Who builds one has words to send afterwards, so
// if there are workers enough others take them, which do nothing but wait.
PHX_FN uint32_t phx_route_taken_first(const struct phx_worker *w)
{
    const struct phx_shape *s = &w->rank->shape;
    uint32_t first = phx_route_first(s, w->index);
    return phx_is_by_token(s) && w->count >= 2 * s->ranks ? first - s->ranks : first;
}

// A message is checked on chip, if it fits there.
PHX_FN uint8_t *phx_route_desk(struct phx_worker *w, uint8_t *kept)
{
    return phx_stage_take(w, kept, phx_route_stride(&w->rank->shape));
}

// Copies a message of `row_count` rows from its source's region, once: as much as it may be long at
// the most, for its length stands in it. Returns its length; 0: the header does not hold.
PHX_FN uint64_t phx_route_fetch(struct phx_worker *w, uint8_t *message, const uint8_t *region,
                                uint64_t row_count)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    if (row_count > s->tokens_max)
        return 0;
    uint32_t rows = (uint32_t)row_count;
    phx_copy(w, message, region, phx_route_bytes(s, rows, rows * phx_route_row_entries_max(s)));
    return phx_route_header_ok(s, h, row_count) ? phx_route_bytes(s, rows, h->entry_count) : 0;
}

// What is wrong, what the counts add up to, and the check. scratch is zeroed.
PHX_FN void phx_route_sums(const struct phx_worker *w, uint8_t *message, uint32_t *scratch,
                           uint32_t stride, uint32_t *sums)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    const uint32_t *counts = phx_route_counts(message);
    PHX_EACH(w, e, s->experts_local_max)
    {
        sums[0] += counts[e] > s->tokens_max || (e >= w->rank->experts_local && counts[e] != 0);
        scratch[(uint64_t)e * stride] = 0;
        sums[1] += counts[e];
    }
    uint32_t words = (uint32_t)(phx_route_bytes(s, h->row_count, h->entry_count) / 4);
    sums[2] += phx_route_mix_mine(w, message, words);
}

// Mistakes of up to PHX_LANES rows from `first` on, and of their entries. The bits of the first
// round are clear.
PHX_FN uint32_t phx_route_round_check(const struct phx_worker *w, uint8_t *message, uint32_t first,
                                      uint32_t *scratch, uint32_t stride)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    const struct phx_route_row *rows = phx_route_rows(s, message);
    uint32_t row = first + phx_lane(w);
    uint32_t bad = row < h->row_count && !phx_route_row_ok(s, h, rows, row);
    struct phx_route_round round;
    round.row_first = first;
    round.row_end = h->row_count - first < PHX_LANES ? h->row_count : first + PHX_LANES;
    round.entry_first = rows[first].entry_begin;
    round.entry_end = phx_route_row_end(h, rows, round.row_end - 1);
    if (round.entry_end > h->entry_count)
        round.entry_end = h->entry_count; // a row with a mistake
    for (round.expert_first = 0; round.expert_first < w->rank->experts_local;
         round.expert_first += PHX_BITS_EXPERTS) {
        uint32_t experts = w->rank->experts_local - round.expert_first;
        if (first > 0 || round.expert_first > 0) {
            phx_sync(w);
            phx_bits_clear(w, experts);
        }
        phx_sync(w);
        bad += phx_route_entries_check(w, message, &round);
        phx_sync(w);
        phx_bits_count(w, experts, scratch + (uint64_t)round.expert_first * stride, stride);
        phx_sync(w);
        bad += phx_route_places_check(w, message, &round);
    }
    return bad;
}

// Everything is looked at before anything is known to be right, so that the lanes meet once for all
// sums: the header holds, and no number is used as a place before it is in range.
PHX_FN int phx_route_check(struct phx_worker *w, uint8_t *message, uint32_t *scratch)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    uint32_t sums[3] = {0, 0, 0};
    uint32_t stride = s->ranks;
    if (s->experts_local_max <= PHX_TABLE) {
        scratch = phx_chip()->table;
        stride = 1;
    }
    phx_bits_clear(w, w->rank->experts_local);
    phx_route_sums(w, message, scratch, stride, sums);
    for (uint32_t row = 0; row < h->row_count; row += PHX_LANES)
        sums[0] += phx_route_round_check(w, message, row, scratch, stride);
    phx_sum_three(w, sums);
    return sums[0] == 0 && sums[1] == h->entry_count && sums[2] == h->check;
}

#endif
