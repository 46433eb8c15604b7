// kernels/route_cuda.h: building and checking route messages by all lanes of a GPU worker. The same
// bytes, and the same yes or no, as route.h's serial forms.
//
// Lanes take turns at what they share out: where a message is built a lane has a pair of a token
// and a k, where it is checked a row or an entry, so that all are busy and each for a short while.
// Which place an entry takes among the source's rows of its expert is the number of earlier tokens
// that name it: bits of a table on chip, an expert a line, at most PHX_LANES tokens and
// PHX_BITS_EXPERTS experts at a time, after those of the rounds before.

#ifndef PHX_KERNELS_ROUTE_CUDA_H
#define PHX_KERNELS_ROUTE_CUDA_H

#include "kernels/numerics.h"
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

// --- building -----------------------------------------------------------------------------------

// Pairs of a token and a k are dealt out so that the k of a token, filled up to a power of two, are
// neighbours in one warp, which finds out about all of them by votes. In a round a lane has a pair
// of each pass, and all their loads are under way at once.
struct phx_pairs {
    uint32_t k;        // of this lane
    uint32_t token;    // in a pass
    uint32_t siblings; // the lanes of its token, a bit each
    uint32_t step;     // tokens of a pass
    uint32_t passes;   // of a round, which has no more tokens than a line has bits
};
PHX_FN struct phx_pairs phx_pairs_of(const struct phx_shape *s)
{
    uint32_t shift = 32 - (uint32_t)__clz((int)(s->top_k - 1));
    uint32_t lanes = 1u << shift;
    struct phx_pairs p;
    p.k = threadIdx.x & (lanes - 1);
    p.token = threadIdx.x >> shift;
    p.siblings = (uint32_t)((1ull << lanes) - 1) << (threadIdx.x % PHX_WARP - p.k);
    p.step = PHX_LANES >> shift;
    p.passes = lanes < PHX_PASSES ? lanes : PHX_PASSES;
    return p;
}

// What a lane has of a pass, and what its warp has voted.
struct phx_pair {
    uint32_t expert; // local; PHX_PAIR_NONE: the entry does not go to the peer
    float weight;
    uint32_t entries; // lanes whose pair is an entry
    uint32_t rows;    // first lanes of the tokens that have one
};
#define PHX_PAIR_NONE 0xFFFFFFFFu

// Fetches the pairs of `count` tokens from `first` on.
PHX_FN void phx_pairs_load(const struct phx_worker *w, const struct phx_dispatch_op *op,
                           const struct phx_pairs *p, uint32_t peer, uint32_t first, uint32_t count,
                           struct phx_pair *own)
{
    const struct phx_rank *rank = w->rank;
    uint32_t top_k = rank->shape.top_k;
    int64_t expert[PHX_PASSES];
#pragma unroll
    for (uint32_t i = 0; i < PHX_PASSES; i++) {
        uint32_t token = i * p->step + p->token;
        uint64_t at = (uint64_t)(first + token) * top_k + p->k;
        int is_there = i < p->passes && token < count && p->k < top_k;
        expert[i] = is_there ? op->topk_idx[at] : -1;
        own[i].weight = is_there && op->topk_weights != NULL ? op->topk_weights[at] : 1.0f;
    }
#pragma unroll
    for (uint32_t i = 0; i < PHX_PASSES; i++) {
        own[i].expert = PHX_PAIR_NONE;
        if (expert[i] >= 0 && expert[i] < (int64_t)rank->shape.experts) {
            uint32_t local = rank->expert_local[expert[i]];
            own[i].expert = rank->expert_rank[expert[i]] == peer ? local : PHX_PAIR_NONE;
        }
    }
}

// Which of them are entries: of an expert that a token names twice the first counts. How many a
// warp has in a pass is known to all lanes when they have met.
PHX_FN void phx_pairs_vote(const struct phx_pairs *p, struct phx_pair *own)
{
    uint32_t lane = threadIdx.x % PHX_WARP;
    uint32_t before = (1u << lane) - 1;
    static_assert(PHX_PASSES * (PHX_LANES / PHX_WARP) == PHX_WARP, "a lane adds up for each");
#pragma unroll
    for (uint32_t i = 0; i < PHX_PASSES; i++) {
        uint32_t numbers = 0;
        own[i].entries = 0;
        own[i].rows = 0;
        if (i < p->passes) {
            uint32_t key = own[i].expert | p->token << 16;
            uint32_t same = __match_any_sync(PHX_WARP_ALL, key) & before;
            own[i].entries = __ballot_sync(PHX_WARP_ALL, own[i].expert != PHX_PAIR_NONE && !same);
            own[i].rows = __ballot_sync(PHX_WARP_ALL, p->k == 0 && own[i].entries & p->siblings);
            numbers = (uint32_t)__popc(own[i].rows) | (uint32_t)__popc(own[i].entries) << 16;
        }
        if (lane == 0)
            phx_chip()->pairs[i][threadIdx.x / PHX_WARP] = numbers;
    }
}
PHX_FN int phx_pair_is_entry(const struct phx_pair *own)
{
    return (int)(own->entries >> threadIdx.x % PHX_WARP & 1u);
}

// Rows and entries before those of this lane's warp, in this round: before[pass], each as rows |
// entries << 16. Returns those of the round.
PHX_FN uint32_t phx_pairs_before(uint32_t *before)
{
    uint32_t lane = threadIdx.x % PHX_WARP;
    uint32_t warps = PHX_LANES / PHX_WARP;
    uint32_t mine = phx_chip()->pairs[lane / warps][lane % warps];
    uint32_t sum = mine;
#pragma unroll
    for (uint32_t step = 1; step < PHX_WARP; step *= 2) {
        uint32_t other = __shfl_up_sync(PHX_WARP_ALL, sum, step);
        sum += lane >= step ? other : 0;
    }
#pragma unroll
    for (uint32_t i = 0; i < PHX_PASSES; i++)
        before[i] =
            __shfl_sync(PHX_WARP_ALL, sum - mine, (int)(i * warps + threadIdx.x / PHX_WARP));
    return __shfl_sync(PHX_WARP_ALL, sum, PHX_WARP - 1);
}

// A message that is being built.
struct phx_route_making {
    uint8_t *message;
    uint32_t row_count;
    uint32_t first; // token of the round
    uint32_t rows;  // before those of the round,
    uint32_t entries;
    uint32_t sum; // this lane's part of the check
};

// Words of a message: stored, and summed.
PHX_FN void phx_route_word(struct phx_route_making *m, uint32_t place, uint32_t word)
{
    ((uint32_t *)(void *)m->message)[place] = word;
    m->sum += phx_route_mix(word, place);
}

// This lane's row and entry of a pass. before: of its warp. Entries of other experts than those
// from expert_first on come with these.
PHX_FN void phx_route_write_pair(const struct phx_shape *s, struct phx_route_making *m,
                                 const struct phx_pairs *p, const struct phx_pair *own,
                                 uint32_t token, uint32_t before, uint32_t expert_first)
{
    uint32_t lane = threadIdx.x % PHX_WARP;
    uint32_t row =
        m->rows + (before & 0xFFFFu) + (uint32_t)__popc(own->rows & ((1u << (lane - p->k)) - 1));
    uint32_t entry =
        m->entries + (before >> 16) + (uint32_t)__popc(own->entries & ((1u << lane) - 1));
    if ((own->rows >> lane & 1u) != 0 && expert_first == 0) {
        uint32_t place = (uint32_t)(phx_route_rows_offset(s) / 4) + 2 * row;
        phx_route_word(m, place, m->first + token);
        phx_route_word(m, place + 1, entry);
    }
    uint32_t line = own->expert - expert_first;
    if (phx_pair_is_entry(own) && line < PHX_BITS_EXPERTS) {
        uint32_t place = (uint32_t)(phx_route_entries_offset(s, m->row_count) / 4) + 3 * entry;
        phx_route_word(m, place, phx_bits_before(line, token) | row << 16);
        phx_route_word(m, place + 1, phx_bits_from_f32(own->weight));
        phx_route_word(m, place + 2, own->expert | p->k << 16);
    }
}

// Rows and entries of a round, a table of experts at a time: its bits are clear, and the first
// votes known, when the lanes next meet.
PHX_FN void phx_route_round(const struct phx_worker *w, struct phx_route_making *m,
                            const struct phx_pairs *p, const struct phx_pair *own)
{
    const struct phx_shape *s = &w->rank->shape;
    uint32_t before[PHX_PASSES];
    uint32_t all = 0;
    for (uint32_t first = 0; first < s->experts_local_max; first += PHX_BITS_EXPERTS) {
        uint32_t experts = s->experts_local_max - first;
        if (first > 0) {
            phx_sync(w);
            phx_bits_clear(w, experts);
        }
        phx_sync(w);
#pragma unroll
        for (uint32_t i = 0; i < PHX_PASSES; i++)
            if (phx_pair_is_entry(&own[i]) && own[i].expert - first < PHX_BITS_EXPERTS)
                phx_bits_set(own[i].expert - first, i * p->step + p->token);
        if (first == 0) {
            all = phx_pairs_before(before);
            m->row_count = m->row_count != 0 ? m->row_count : all & 0xFFFFu; // the only round
        }
        phx_sync(w);
        phx_bits_count(w, experts, phx_route_counts(m->message) + first, 1);
        phx_sync(w);
#pragma unroll
        for (uint32_t i = 0; i < PHX_PASSES; i++)
            phx_route_write_pair(s, m, p, &own[i], i * p->step + p->token, before[i], first);
    }
    m->rows += all & 0xFFFFu;
    m->entries += all >> 16;
}

PHX_FN uint32_t phx_route_count_rows(const struct phx_worker *w, const struct phx_dispatch_op *op,
                                     const struct phx_pairs *p, uint32_t peer)
{
    uint32_t step = p->step * p->passes;
    uint32_t rows = 0;
    for (uint32_t first = 0; first < op->token_count; first += step) {
        uint32_t count = op->token_count - first < step ? op->token_count - first : step;
        struct phx_pair own[PHX_PASSES];
        uint32_t before[PHX_PASSES];
        phx_pairs_load(w, op, p, peer, first, count, own);
        phx_sync(w); // what was voted before is read
        phx_pairs_vote(p, own);
        phx_sync(w);
        rows += phx_pairs_before(before) & 0xFFFFu;
    }
    return rows;
}

// The counts as they now are, and the header.
PHX_FN void phx_route_finish_lanes(const struct phx_worker *w, struct phx_route_making *m)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_route_header *h = phx_route_header(m->message);
    const uint32_t counts_at = (uint32_t)(phx_route_counts_offset() / 4);
    PHX_EACH(w, e, (uint32_t)(phx_route_rows_offset(s) / 4) - counts_at)
    m->sum += phx_route_mix(phx_route_counts(m->message)[e], counts_at + e);
    if (phx_lane(w) == 0) {
        phx_route_word(m, 0, m->rows);
        phx_route_word(m, 1, m->entries);
        phx_route_word(m, 2, phx_route_head_check(s, m->rows, m->entries));
    }
    phx_sums(w, &m->sum, 1);
    phx_store_u32(w, &h->check, m->sum);
}

// Builds the message to one peer and says where: on chip, if it leaves at once and fits there.
PHX_FN uint8_t *phx_route_message(struct phx_worker *w, const struct phx_dispatch_op *op,
                                  uint32_t peer)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_pairs pairs = phx_pairs_of(s);
    uint32_t step = pairs.step * pairs.passes;
    struct phx_route_making m = {NULL, 0, 0, 0, 0, 0};
    phx_store_u64(w, &op->handle.sent_at[peer], peer * phx_route_stride(s));
    m.message = w->rank->stage + phx_stage_routes_offset(s, op->common.sequence) +
                peer * phx_route_stride(s);
    if (phx_is_by_token(s)) // else the rows' senders read it again
        m.message = phx_stage_take(w, m.message, phx_route_stride(s));
    PHX_EACH(w, e, (uint32_t)((phx_route_rows_offset(s) - phx_route_counts_offset()) / 4))
    phx_route_counts(m.message)[e] = 0; // the padding too: it is sent, and summed
    if (op->token_count > step)
        m.row_count = phx_route_count_rows(w, op, &pairs, peer);
    for (; m.first < op->token_count; m.first += step) {
        struct phx_pair own[PHX_PASSES];
        uint32_t count = op->token_count - m.first < step ? op->token_count - m.first : step;
        phx_pairs_load(w, op, &pairs, peer, m.first, count, own);
        if (op->token_count > step)
            phx_sync(w); // bits and votes before these are read
        phx_bits_clear(w, s->experts_local_max);
        phx_pairs_vote(&pairs, own);
        phx_route_round(w, &m, &pairs, own);
    }
    phx_route_finish_lanes(w, &m);
    phx_store_u32(w, &op->handle.sent_rows[peer], m.rows);
    return m.message;
}

// One token's routing, an entry a lane of the first warp. It stands until the next.
PHX_FN struct phx_token *phx_token_load(struct phx_worker *w, const int64_t *topk_idx,
                                        const float *topk_weights, uint32_t token)
{
    const struct phx_rank *rank = w->rank;
    struct phx_token *t = phx_token_of(w);
    uint32_t k = threadIdx.x;
    uint64_t at = (uint64_t)token * rank->shape.top_k + k;
    static_assert(PHX_TOP_K_MAX <= PHX_WARP, "a lane for each");
    phx_sync(w);
    if (k < PHX_WARP) {
        int64_t expert = k < rank->shape.top_k ? topk_idx[at] : -1;
        int is_there = expert >= 0 && expert < (int64_t)rank->shape.experts;
        uint32_t peer = is_there ? rank->expert_rank[expert] : PHX_NO_PEER;
        float weight = k < rank->shape.top_k && topk_weights != NULL ? topk_weights[at] : 0.0f;
        // Of an expert that stands there twice the first counts.
        uint32_t same = __match_any_sync(PHX_WARP_ALL, is_there ? (uint32_t)expert : ~0u);
        t->peer[k] = (same & ((1u << k) - 1)) == 0 ? peer : PHX_NO_PEER;
        t->flag[k] = 1;
        t->weight[k] = weight;
    }
    phx_sync(w);
    return t;
}

PHX_FN void phx_routes_build(struct phx_worker *w, const struct phx_dispatch_op *op)
{
    (void)w;
    (void)op; // each when it is sent
}

// --- checking -----------------------------------------------------------------------------------

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

// A message is checked on chip, if it fits there. What the check counts with is cleared before it
// comes.
PHX_FN uint8_t *phx_route_desk(struct phx_worker *w, uint8_t *kept)
{
    phx_bits_clear(w, w->rank->experts_local);
    return phx_stage_take(w, kept, phx_route_stride(&w->rank->shape));
}

// Copies a message of `row_count` rows from its source's region to where it is checked, and to
// where it is kept, once: as much as it may be long at the most, for its length stands in it.
// Returns its length; 0: the header does not hold; -1: some of it has not come.
PHX_FN int phx_route_fetch(struct phx_worker *w, uint8_t *message, uint8_t *kept,
                           const uint8_t *region, uint64_t row_count, uint64_t sequence)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_route_header *h = phx_route_header(message);
    if (row_count > s->tokens_max)
        return 0;
    uint32_t rows = (uint32_t)row_count;
    uint32_t most = (uint32_t)phx_route_bytes(s, rows, rows * phx_route_row_entries_max(s));
    if (!phx_is_by_token(s))
        phx_copy(w, message, region, most);
    else if (!phx_pieces_take(w, message, kept, region, most,
                              phx_piece_tag(w->rank->epoch, sequence)))
        return -1;
    if (!phx_route_header_ok(s, h, row_count))
        return 0;
    uint32_t bytes = (uint32_t)phx_route_bytes(s, rows, h->entry_count);
    if (!phx_is_by_token(s) && message != kept)
        phx_copy_row(w, kept, message, bytes);
    return (int)bytes;
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
    if (s->experts_local_max <= PHX_SCRATCH) {
        scratch = phx_chip()->scratch;
        stride = 1;
    }
    phx_route_sums(w, message, scratch, stride, sums);
    for (uint32_t row = 0; row < h->row_count; row += PHX_LANES)
        sums[0] += phx_route_round_check(w, message, row, scratch, stride);
    phx_sums(w, sums, 3);
    return sums[0] == 0 && sums[1] == h->entry_count && sums[2] == h->check;
}

#endif
