// sim/history.c: a recorded run in memory, and the hashes of what it gave.

#include "sim/history.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/rank.h"
#include "sim/workload_internal.h"

enum { ROWS = 3 }; // of an operation in `fates`

int phx_history_open(struct phx_history *h, uint32_t ranks, uint64_t operations,
                     struct phx_message *message)
{
    uint64_t one = sizeof(struct phx_history_operation) + ROWS * (uint64_t)ranks;
    *h = (struct phx_history){.ranks = ranks, .operations = operations};
    if (ranks < 1 || ranks > PHX_RANKS_MAX || operations < 1 ||
        operations > PHX_HISTORY_BYTES_MAX / ranks / one)
        return phx_fail(message, PHX_ERR_INVALID,
                        "%llu operations of %u ranks: a history holds at most %llu bytes",
                        (unsigned long long)operations, ranks,
                        (unsigned long long)PHX_HISTORY_BYTES_MAX);
    h->begun = calloc(ranks, sizeof *h->begun);
    h->list = calloc(ranks * operations, sizeof *h->list);
    h->fates = calloc(ranks * operations, ROWS * (size_t)ranks);
    if (h->begun == NULL || h->list == NULL || h->fates == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a history of %u ranks", ranks);
    return 0;
}

void phx_history_free(struct phx_history *h)
{
    free(h->begun);
    free(h->list);
    free(h->fates);
    memset(h, 0, sizeof *h);
}

struct phx_history_operation *phx_history_at(const struct phx_history *h, uint32_t rank,
                                             uint64_t operation)
{
    return &h->list[rank * h->operations + operation];
}

static uint8_t *fates_at(const struct phx_history *h, uint32_t rank, uint64_t operation)
{
    return h->fates + (rank * h->operations + operation) * ROWS * h->ranks;
}

void phx_history_fates(struct phx_history *h)
{
    for (uint32_t r = 0; r < h->ranks; r++) {
        for (uint64_t o = 0; o < h->operations; o++) {
            const struct phx_history_operation *at = phx_history_at(h, r, o);
            uint8_t *fates = fates_at(h, r, o);
            for (uint32_t s = 0; s < h->ranks; s++) {
                bool is_self = at->hash == 0 && s == r;
                bool first = is_self || (at->hash != 0 && phx_rank_set_has(&at->first, s));
                bool second = is_self || (at->hash != 0 && phx_rank_set_has(&at->second, s));
                fates[s] = first ? PHX_FATE_PRESENT : PHX_FATE_ABSENT;
                fates[h->ranks + s] = second ? PHX_FATE_PRESENT : PHX_FATE_ABSENT;
                fates[2 * h->ranks + s] = at->hash != 0 && phx_rank_set_has(&at->masked, s);
            }
        }
    }
}

const uint8_t *phx_history_replay(const struct phx_history *h, uint32_t rank, uint64_t operation)
{
    return fates_at(h, rank, operation);
}

const uint8_t *phx_history_masked(const struct phx_history *h, uint32_t rank, uint64_t operation)
{
    return fates_at(h, rank, operation) + 2 * (size_t)h->ranks;
}

// --- hashes -------------------------------------------------------------------------------------

// Eight bytes at a time, each step a bijection of the state (a change is never lost on the way).
static uint64_t mix(uint64_t state, uint64_t value)
{
    state = (state ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    return state ^ state >> 29;
}

static uint64_t mix_bytes(uint64_t state, const void *bytes, uint64_t size_bytes)
{
    const uint8_t *p = bytes;
    uint64_t value;
    for (; size_bytes >= sizeof value; p += sizeof value, size_bytes -= sizeof value) {
        memcpy(&value, p, sizeof value);
        state = mix(state, value);
    }
    value = 0;
    memcpy(&value, p, size_bytes);
    return mix(state, value ^ size_bytes << 56);
}

uint64_t phx_history_hash_dispatch(const struct phx_stage *stage,
                                   const struct phx_dispatch_result *result)
{
    const struct phx_shape *s = &stage->shape;
    const struct phx_oracle_output *o = &result->output;
    uint64_t row_bytes = phx_payload_bytes(s, s->channels);
    uint64_t state = PHX_DISPATCH;
    state = mix_bytes(state, o->layout_range,
                      (uint64_t)s->experts_local_max * s->ranks * sizeof *o->layout_range);
    for (uint32_t e = 0; e < s->experts_local_max; e++) {
        uint64_t first = s->layout == PHX_LAYOUT_COMPACT ? (uint64_t)o->offsets[e]
                                                         : (uint64_t)e * s->ranks * s->tokens_max;
        uint64_t rows = (uint64_t)o->recv_count[e];
        state = mix(state, rows);
        state = mix_bytes(state, o->src_info + first, rows * sizeof *o->src_info);
        state = mix_bytes(state, o->payload + first * row_bytes, rows * row_bytes);
        for (uint32_t w = 0; w < phx_scale_words(s, s->channels); w++)
            for (uint64_t i = 0; i < rows; i++)
                state =
                    mix(state, o->scales[phx_oracle_scale_at(s, o->capacity_rows, first + i, w)]);
    }
    return state | (state == 0);
}

uint64_t phx_history_hash_combine(const struct phx_stage *stage,
                                  const struct phx_combine_result *result)
{
    const struct phx_shape *s = &stage->shape;
    uint64_t tokens = stage->moe->tokens;
    uint64_t state = PHX_COMBINE;
    state = mix_bytes(state, result->out, tokens * s->channels * sizeof *result->out);
    state = mix_bytes(state, result->token_loss, tokens * sizeof *result->token_loss);
    return state | (state == 0);
}

uint64_t phx_history_hash(const struct phx_history *h)
{
    uint64_t state = mix(h->ranks, h->operations);
    for (uint32_t r = 0; r < h->ranks; r++) {
        state = mix(state, h->begun[r]);
        for (uint64_t o = 0; o < h->operations; o++) {
            const struct phx_history_operation *at = phx_history_at(h, r, o);
            state = mix(state, at->hash);
            for (uint32_t w = 0; at->hash != 0 && w < PHX_RANK_WORDS; w++)
                state = mix(mix(mix(state, at->first.words[w]), at->second.words[w]),
                            at->masked.words[w]);
        }
    }
    return state | (state == 0);
}
