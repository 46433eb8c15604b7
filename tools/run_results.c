// tools/run_results.c: the memory in which ranks leave what they got, for when they are gone.
//
// Every pair of every rank has a place as large as its outputs could be; only what is stored takes
// memory.

#include <string.h>

#include "tools/run_internal.h"

static uint64_t aligned(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

// The arrays of a pair, one after the other. Without a base: how many bytes they take.
static uint64_t place(const struct phx_stage *stage, uint8_t *base, struct phx_live_results *r,
                      uint64_t *dispatch_bytes)
{
    const struct phx_shape *s = &stage->shape;
    uint64_t capacity = stage->expected.capacity_rows;
    uint64_t rows = phx_oracle_rows(s, capacity);
    uint64_t at = 0;
    struct phx_oracle_output *o = &r->received;
    o->capacity_rows = capacity;
#define PLACE(member, count)                                                                       \
    do {                                                                                           \
        (member) = base != NULL ? (void *)(base + at) : NULL;                                      \
        at = aligned(at + (count) * sizeof *(member), 64);                                         \
    } while (0)
    PLACE(o->recv_count, s->experts_local_max);
    PLACE(o->layout_range, (uint64_t)s->experts_local_max * s->ranks);
    PLACE(o->offsets, s->experts_local_max + 1);
    PLACE(o->src_info, rows);
    PLACE(o->payload, rows * phx_payload_bytes(s, s->channels));
    PLACE(o->scales, phx_oracle_scale_words(s, capacity));
    *dispatch_bytes = at;
    PLACE(r->out, (uint64_t)s->tokens_max * s->channels);
    PLACE(r->token_loss, s->tokens_max);
#undef PLACE
    return aligned(at, 4096);
}

// What a load's results will take at most: rows that arrive, and pages that are begun.
static uint64_t touched(const struct phx_stage *stage)
{
    const struct phx_shape *s = &stage->shape;
    uint64_t words = phx_scale_words(s, s->channels);
    uint64_t rows = (uint64_t)stage->moe->tokens * s->top_k;
    uint64_t row = phx_payload_bytes(s, s->channels) + 4 + 4 * words;
    uint64_t pages = (uint64_t)s->experts_local_max * (2 + words) + 4;
    uint64_t pair = rows * row + pages * 4096 + (uint64_t)s->tokens_max * (2 * s->channels + 4);
    uint64_t all;
    return __builtin_mul_overflow(pair, stage->pairs * s->ranks, &all) ? UINT64_MAX : all;
}

int phx_live_layout(struct phx_live *live, struct phx_message *message)
{
    struct phx_run *run = &live->run;
    uint32_t loads = run->workload->load_count;
    uint64_t bytes = 0;
    live->strikes_at = aligned(sizeof(struct phx_live_front), 64);
    live->seats_at =
        aligned(live->strikes_at + run->workload->fault_count * sizeof(struct phx_live_strike), 64);
    live->records_at = live->seats_at + run->ranks * sizeof(struct phx_live_seat);
    live->arena_bytes = aligned(
        live->records_at + run->ranks * run->operations * sizeof(struct phx_live_record), 4096);
    for (uint32_t i = 0; i < loads; i++) {
        struct phx_live_results unused;
        uint64_t more = touched(&run->stages[i]);
        uint64_t room;
        live->results_at[i] = live->arena_bytes;
        live->pair_bytes[i] = place(&run->stages[i], NULL, &unused, &live->dispatch_bytes[i]);
        bool is_large =
            __builtin_add_overflow(bytes, more, &bytes) ||
            __builtin_mul_overflow(live->pair_bytes[i], run->stages[i].pairs * run->ranks, &room) ||
            room > UINT64_C(1) << 44 || bytes > PHX_LIVE_BYTES_MAX;
        if (is_large)
            return phx_fail(message, PHX_ERR_INVALID,
                            "what %u ranks leave behind of %llu dispatches and combines is more "
                            "than %llu MiB: fewer steps, or payload: thin, make it less",
                            run->ranks, (unsigned long long)run->operations / 2,
                            (unsigned long long)(PHX_LIVE_BYTES_MAX >> 20));
        live->arena_bytes += room;
    }
    return 0;
}

void phx_live_results(const struct phx_live *live, uint32_t load, uint32_t rank, uint64_t pair,
                      struct phx_live_results *results)
{
    const struct phx_stage *stage = &live->run.stages[load];
    uint64_t at = live->results_at[load] + (rank * stage->pairs + pair) * live->pair_bytes[load];
    uint64_t unused;
    (void)place(stage, live->arena + at, results, &unused);
}

void phx_live_keep_dispatch(const struct phx_stage *stage, const struct phx_oracle_output *from,
                            struct phx_oracle_output *to)
{
    const struct phx_shape *s = &stage->shape;
    uint64_t row_bytes = phx_payload_bytes(s, s->channels);
    memcpy(to->recv_count, from->recv_count, s->experts_local_max * sizeof *to->recv_count);
    memcpy(to->layout_range, from->layout_range,
           (uint64_t)s->experts_local_max * s->ranks * sizeof *to->layout_range);
    memcpy(to->offsets, from->offsets, (s->experts_local_max + 1) * sizeof *to->offsets);
    for (uint32_t e = 0; e < s->experts_local_max; e++) {
        uint64_t first = s->layout == PHX_LAYOUT_COMPACT ? (uint64_t)from->offsets[e]
                                                         : (uint64_t)e * s->ranks * s->tokens_max;
        uint64_t rows = (uint64_t)from->recv_count[e];
        memcpy(to->src_info + first, from->src_info + first, rows * sizeof *to->src_info);
        memcpy(to->payload + first * row_bytes, from->payload + first * row_bytes,
               rows * row_bytes);
        for (uint32_t w = 0; rows > 0 && w < phx_scale_words(s, s->channels); w++) {
            uint64_t at = phx_oracle_scale_at(s, from->capacity_rows, first, w);
            memcpy(to->scales + at, from->scales + at, rows * sizeof *to->scales);
        }
    }
}
