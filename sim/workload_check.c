// sim/workload_check.c: compares what a rank got with the plain reference, bit for bit.
//
// The reference needs what the other ranks sent, which is drawn again from the seed, and what they
// counted, which they reported. Expert outputs are not read from the other ranks' memory (a rank
// that was paused looks at an operation that the others have left behind): they are made again from
// the inputs, through the oracle's conversions.

#include <stdlib.h>
#include <string.h>

#include "sim/core.h"
#include "sim/workload_internal.h"

// --- inputs -------------------------------------------------------------------------------------

static void inputs_free(struct phx_inputs *in)
{
    free(in->x);
    free(in->topk_idx);
    free(in->topk_weights);
    free(in->received);
    free(in->is_received);
    free(in->wire.payload);
    free(in->wire.scales);
    free(in->sources);
    *in = (struct phx_inputs){.pair = UINT64_MAX};
}

static bool inputs_alloc(struct phx_inputs *in, const struct phx_shape *s, uint32_t tokens)
{
    size_t rows = (size_t)s->ranks * tokens + 1; // one more, so that nothing is NULL without tokens
    in->x = malloc(rows * s->channels * sizeof *in->x);
    in->topk_idx = malloc(rows * s->top_k * sizeof *in->topk_idx);
    in->topk_weights = malloc(rows * s->top_k * sizeof *in->topk_weights);
    in->received = malloc(rows * s->channels * sizeof *in->received);
    in->is_received = malloc(s->ranks);
    in->wire.payload = malloc(rows * phx_payload_bytes(s, s->channels));
    in->wire.scales = malloc((rows * phx_scale_words(s, s->channels) + 1) * sizeof(uint32_t));
    in->sources = malloc(s->ranks * sizeof *in->sources);
    if (in->x != NULL && in->topk_idx != NULL && in->topk_weights != NULL && in->received != NULL &&
        in->is_received != NULL && in->sources != NULL && in->wire.payload != NULL &&
        in->wire.scales != NULL)
        return true;
    inputs_free(in);
    return false;
}

static void inputs_draw(struct phx_inputs *in, const struct phx_stage *stage, uint64_t pair)
{
    const struct phx_shape *s = &stage->shape;
    uint32_t tokens = stage->moe->tokens;
    in->pair = pair;
    in->is_wired = false;
    in->is_checked = false;
    memset(in->is_received, 0, s->ranks);
    for (uint32_t r = 0; r < s->ranks; r++) {
        uint64_t row = (uint64_t)r * tokens;
        struct phx_oracle_source *source = &in->sources[r];
        phx_router_draw(stage->router, pair, r, s->channels, in->x + row * s->channels,
                        in->topk_idx + row * s->top_k, in->topk_weights + row * s->top_k);
        source->tokens = tokens;
        source->x = in->x + row * s->channels;
        source->topk_idx = in->topk_idx + row * s->top_k;
        source->topk_weights = in->topk_weights + row * s->top_k;
    }
}

struct phx_inputs *phx_stage_inputs(struct phx_stage *stage, uint64_t pair)
{
    struct phx_inputs *oldest = &stage->inputs[0];
    stage->uses++;
    for (uint32_t i = 0; i < PHX_INPUTS_KEPT; i++) {
        struct phx_inputs *in = &stage->inputs[i];
        if (in->x != NULL && in->pair == pair) {
            in->last_use = stage->uses;
            return in;
        }
        if (in->last_use < oldest->last_use)
            oldest = in;
    }
    if (oldest->x == NULL && !inputs_alloc(oldest, &stage->shape, stage->moe->tokens))
        return NULL;
    inputs_draw(oldest, stage, pair);
    oldest->last_use = stage->uses;
    return oldest;
}

static struct phx_oracle_input oracle_input(const struct phx_stage *stage,
                                            const struct phx_inputs *in)
{
    struct phx_oracle_input input = {&stage->shape, stage->expert_rank, stage->expert_local,
                                     in->sources, in->is_checked};
    return input;
}

static void wire_fill(const struct phx_stage *stage, struct phx_inputs *in)
{
    struct phx_oracle_input input = oracle_input(stage, in);
    for (uint32_t r = 0; !in->is_wired && r < stage->shape.ranks; r++)
        phx_oracle_wire_fill(&input, r, &in->wire);
    in->is_wired = true;
}

// Rank `source`'s rows as any receiver reads them: off the wire, as bf16.
static const uint16_t *rows_received(const struct phx_stage *stage, struct phx_inputs *in,
                                     uint32_t source)
{
    const struct phx_shape *s = &stage->shape;
    uint64_t first = (uint64_t)source * stage->moe->tokens;
    uint16_t *received = in->received + first * s->channels;
    if (s->dtype == PHX_BF16)
        return in->x + first * s->channels;
    wire_fill(stage, in);
    for (uint32_t t = 0; !in->is_received[source] && t < stage->moe->tokens; t++)
        phx_oracle_wire_read(s, &in->wire, source, t, received + (uint64_t)t * s->channels);
    in->is_received[source] = 1;
    return received;
}

// --- stages -------------------------------------------------------------------------------------

static void shape_fill(struct phx_shape *s, const struct phx_run *run,
                       const struct phx_moe_load *moe)
{
    memset(s, 0, sizeof *s);
    s->ranks = run->ranks;
    s->experts = moe->experts;
    s->experts_local_max = (moe->experts + run->ranks - 1) / run->ranks;
    s->top_k = moe->top_k;
    s->tokens_max = moe->tokens > 0 ? moe->tokens : 1;
    s->hidden = moe->hidden;
    s->channels = run->workload->is_full ? moe->hidden : PHX_SCALE_GROUP;
    s->in_flight = moe->hooks ? 2 : 1;
    s->workers = run->workers;
    s->dtype = moe->dtype;
    s->scale_format = moe->scales;
    s->rows = moe->rows;
    s->layout = moe->layout;
    s->check = run->workload->row_check ? PHX_CHECK_ROWS : PHX_CHECK_ROUTES;
    s->division = run->workload->is_by_token ? PHX_BY_TOKEN : PHX_BY_PEER;
}

// In order; the first experts % ranks ranks hold one more.
static void experts_place(struct phx_stage *stage)
{
    const struct phx_shape *s = &stage->shape;
    uint32_t expert = 0;
    for (uint32_t r = 0; r < s->ranks; r++) {
        uint32_t held = s->experts / s->ranks + (r < s->experts % s->ranks);
        for (uint32_t local = 0; local < held; local++, expert++) {
            stage->expert_rank[expert] = r;
            stage->expert_local[expert] = local;
        }
    }
}

// Most rows that one rank can receive: its experts' or its tokens' share, whichever is less.
static uint64_t rows_max(const struct phx_shape *s)
{
    uint64_t each = s->layout == PHX_LAYOUT_SLOTS || s->experts_local_max < s->top_k
                        ? s->experts_local_max
                        : s->top_k;
    return each * s->ranks * s->tokens_max;
}

static bool expected_alloc(struct phx_oracle_output *o, const struct phx_shape *s)
{
    o->capacity_rows = rows_max(s);
    uint64_t rows = phx_oracle_rows(s, o->capacity_rows);
    o->recv_count = calloc(s->experts_local_max, sizeof *o->recv_count);
    o->layout_range = calloc((size_t)s->experts_local_max * s->ranks, sizeof *o->layout_range);
    o->offsets = calloc(s->experts_local_max + 1, sizeof *o->offsets);
    o->src_info = calloc(rows, sizeof *o->src_info);
    o->payload = calloc(rows, phx_payload_bytes(s, s->channels));
    o->scales = calloc(phx_oracle_scale_words(s, o->capacity_rows) + 1, sizeof *o->scales);
    return o->recv_count != NULL && o->layout_range != NULL && o->offsets != NULL &&
           o->src_info != NULL && o->payload != NULL && o->scales != NULL;
}

int phx_stage_open(struct phx_stage *stage, const struct phx_run *run, uint32_t load,
                   struct phx_message *message)
{
    const struct phx_moe_load *moe = &run->workload->loads[load];
    struct phx_shape *s = &stage->shape;
    shape_fill(s, run, moe);
    stage->moe = moe;
    stage->pairs = (uint64_t)moe->steps * moe->layers;
    stage->router = phx_router_create(moe, load, run->ranks, run->options->seed);
    stage->expert_rank = calloc(s->experts, sizeof *stage->expert_rank);
    stage->expert_local = calloc(s->experts, sizeof *stage->expert_local);
    stage->counted = calloc(stage->pairs, sizeof *stage->counted);
    stage->out = calloc((size_t)s->tokens_max * s->channels, sizeof *stage->out);
    stage->token_loss = calloc(s->tokens_max, sizeof *stage->token_loss);
    stage->y = calloc((size_t)s->tokens_max * s->top_k * s->channels, sizeof *stage->y);
    for (uint32_t i = 0; i < PHX_INPUTS_KEPT; i++)
        stage->inputs[i].pair = UINT64_MAX;
    if (stage->router == NULL || stage->expert_rank == NULL || stage->expert_local == NULL ||
        stage->counted == NULL || stage->out == NULL || stage->token_loss == NULL ||
        stage->y == NULL || !expected_alloc(&stage->expected, s))
        return phx_fail(message, PHX_ERR_NO_MEMORY,
                        "no memory to check a load of %u tokens on %u ranks", moe->tokens,
                        run->ranks);
    experts_place(stage);
    return 0;
}

void phx_stage_close(struct phx_stage *stage)
{
    for (uint32_t i = 0; i < PHX_INPUTS_KEPT; i++)
        inputs_free(&stage->inputs[i]);
    for (uint64_t p = 0; stage->counted != NULL && p < stage->pairs; p++)
        free(stage->counted[p]);
    free(stage->counted);
    free(stage->expected.recv_count);
    free(stage->expected.layout_range);
    free(stage->expected.offsets);
    free(stage->expected.src_info);
    free(stage->expected.payload);
    free(stage->expected.scales);
    free(stage->out);
    free(stage->token_loss);
    free(stage->y);
    free(stage->expert_rank);
    free(stage->expert_local);
    phx_router_destroy(stage->router);
}

// --- who is looked at ---------------------------------------------------------------------------

static bool is_checked(const struct phx_run *run, const struct phx_stage *stage, uint32_t rank,
                       uint64_t pair)
{
    if (run->ranks <= PHX_CHECKED_RANKS_MAX)
        return true;
    uint64_t who = UINT64_MAX - (stage->first_operation + pair); // beside the loads' draws
    return phx_chance_below(run->ranks, run->options->seed, PHX_CHANCE_PAYLOAD, who, rank) <
           PHX_CHECKED_RANKS_SAMPLE;
}

static void unpack(const struct phx_rank_set *set, uint32_t ranks, uint8_t *bytes)
{
    for (uint32_t r = 0; r < ranks; r++)
        bytes[r] = (uint8_t)phx_rank_set_has(set, r);
}

static void out_of_memory(struct phx_run *run, uint32_t rank, uint32_t kind, uint64_t pair)
{
    phx_run_violate(run, "not-checked", rank, kind, pair + 1, "no memory to check this result");
}

// --- dispatch -----------------------------------------------------------------------------------

void phx_check_dispatch(struct phx_run *run, struct phx_stage *stage, uint32_t rank, uint64_t pair,
                        const struct phx_dispatch_result *result)
{
    uint32_t ranks = run->ranks;
    if (stage->counted[pair] == NULL)
        stage->counted[pair] = calloc(ranks, ranks);
    if (stage->counted[pair] == NULL) {
        out_of_memory(run, rank, PHX_DISPATCH, pair);
        return;
    }
    uint8_t *counted = stage->counted[pair] + (size_t)rank * ranks;
    unpack(&result->outcome->counted, ranks, counted);
    if (!is_checked(run, stage, rank, pair))
        return;
    struct phx_inputs *in = phx_stage_inputs(stage, pair);
    if (in == NULL) {
        out_of_memory(run, rank, PHX_DISPATCH, pair);
        return;
    }
    uint8_t present[PHX_RANKS_MAX];
    unpack(&result->outcome->present, ranks, present);
    struct phx_oracle_input input = oracle_input(stage, in);
    struct phx_oracle_masks masks = {counted, present};
    struct phx_message message;
    wire_fill(stage, in);
    int rc = phx_oracle_dispatch_wired(&input, &in->wire, rank, &masks, &stage->expected, &message);
    in->is_checked |= rc == 0;
    if (rc == 0)
        rc =
            phx_oracle_dispatch_compare(&stage->shape, &stage->expected, &result->output, &message);
    if (rc != 0)
        phx_run_violate(run, "dispatch-result", rank, PHX_DISPATCH, pair + 1, "%s", message.text);
    run->dispatches_checked++;
}

// --- combine ------------------------------------------------------------------------------------

// Where the observing rank's rows lie in each expert's output, and which token each row is of.
struct rows {
    const struct phx_stage *stage;
    uint64_t *total;   // [experts] rows, all counted sources
    uint64_t *first;   // [experts] first row of the observing rank, within its expert's rows
    uint32_t *begin;   // [experts + 1] into entries
    uint32_t *entries; // [tokens * top_k] t * top_k + k, by expert, in order of t
};

static void rows_close(struct rows *rows)
{
    free(rows->total);
    free(rows->first);
    free(rows->begin);
    free(rows->entries);
}

static void rows_fill(struct rows *rows, const struct phx_inputs *in, uint32_t rank,
                      const uint8_t *counted)
{
    const struct phx_stage *stage = rows->stage;
    const struct phx_shape *s = &stage->shape;
    uint64_t entries = (uint64_t)stage->moe->tokens * s->top_k;
    for (uint32_t r = 0; r < s->ranks; r++) {
        uint8_t here[PHX_RANKS_MAX]; // which ranks counted r
        for (uint32_t d = 0; d < s->ranks; d++)
            here[d] = counted[(size_t)d * s->ranks + r] != 0;
        const int64_t *topk_idx = in->sources[r].topk_idx;
        for (uint64_t i = 0; i < entries; i++) {
            if (topk_idx[i] < 0)
                continue;
            uint64_t count = here[stage->expert_rank[topk_idx[i]]];
            rows->total[topk_idx[i]] += count;
            rows->first[topk_idx[i]] += r < rank ? count : 0;
        }
    }
    const int64_t *mine = in->sources[rank].topk_idx;
    for (uint64_t i = 0; i < entries; i++)
        if (mine[i] >= 0)
            rows->begin[mine[i] + 1]++;
    for (uint32_t e = 0; e < s->experts; e++)
        rows->begin[e + 1] += rows->begin[e];
    for (uint64_t i = 0; i < entries; i++)
        if (mine[i] >= 0)
            rows->entries[rows->begin[mine[i]]++] = (uint32_t)i;
    for (uint32_t e = s->experts; e > 0; e--) // filling moved each begin to its end
        rows->begin[e] = rows->begin[e - 1];
    rows->begin[0] = 0;
}

static bool rows_open(struct rows *rows, const struct phx_stage *stage, const struct phx_inputs *in,
                      uint32_t rank, const uint8_t *counted)
{
    const struct phx_shape *s = &stage->shape;
    size_t entries = (size_t)stage->moe->tokens * s->top_k + 1;
    *rows = (struct rows){
        .stage = stage,
        .total = calloc(s->experts, sizeof *rows->total),
        .first = calloc(s->experts, sizeof *rows->first),
        .begin = calloc(s->experts + 1, sizeof *rows->begin),
        .entries = calloc(entries, sizeof *rows->entries),
    };
    if (rows->total == NULL || rows->first == NULL || rows->begin == NULL ||
        rows->entries == NULL) {
        rows_close(rows);
        return false;
    }
    rows_fill(rows, in, rank, counted);
    return true;
}

// phx_oracle_expert_row: the row of rank `rank`'s output that holds one of the observer's tokens.
static const uint16_t *expert_row(void *context, uint32_t rank, uint64_t row)
{
    const struct rows *rows = context;
    const struct phx_shape *s = &rows->stage->shape;
    uint32_t held = s->experts / s->ranks;
    uint32_t more = s->experts % s->ranks;
    uint32_t expert = rank * held + (rank < more ? rank : more); // the first on that rank
    if (s->layout == PHX_LAYOUT_SLOTS) {
        uint64_t block = (uint64_t)s->ranks * s->tokens_max;
        expert += (uint32_t)(row / block);
        row %= block;
    } else {
        for (; row >= rows->total[expert]; expert++)
            row -= rows->total[expert];
    }
    uint32_t entry = rows->entries[rows->begin[expert] + (row - rows->first[expert])];
    return rows->stage->y + (uint64_t)entry * s->channels;
}

static void expert_outputs(struct phx_stage *stage, struct phx_inputs *in, uint32_t rank)
{
    const struct phx_shape *s = &stage->shape;
    const uint16_t *received = rows_received(stage, in, rank);
    for (uint32_t t = 0; t < stage->moe->tokens; t++) {
        for (uint32_t k = 0; k < s->top_k; k++) {
            uint64_t entry = (uint64_t)t * s->top_k + k;
            int64_t expert = in->sources[rank].topk_idx[entry];
            if (expert >= 0)
                phx_run_expert((uint32_t)expert, s->channels, received + (uint64_t)t * s->channels,
                               stage->y + entry * s->channels);
        }
    }
}

static void combine_compare(struct phx_run *run, const struct phx_stage *stage, uint32_t rank,
                            uint64_t pair, const struct phx_combine_result *result)
{
    uint32_t channels = stage->shape.channels;
    for (uint32_t t = 0; t < stage->moe->tokens; t++) {
        uint32_t got;
        uint32_t want;
        memcpy(&got, &result->token_loss[t], sizeof got);
        memcpy(&want, &stage->token_loss[t], sizeof want);
        if (got != want) {
            phx_run_violate(run, "combine-result", rank, PHX_COMBINE, pair + 1,
                            "token_loss[%u] is %.9g, expected %.9g", t,
                            (double)result->token_loss[t], (double)stage->token_loss[t]);
            return;
        }
        const uint16_t *row = result->out + (uint64_t)t * channels;
        const uint16_t *expected = stage->out + (uint64_t)t * channels;
        if (memcmp(row, expected, 2 * (size_t)channels) == 0)
            continue;
        uint32_t c = 0;
        while (row[c] == expected[c])
            c++;
        phx_run_violate(run, "combine-result", rank, PHX_COMBINE, pair + 1,
                        "token %u, channel %u is bf16 0x%04x, expected 0x%04x", t, c, row[c],
                        expected[c]);
        return;
    }
}

void phx_check_combine(struct phx_run *run, struct phx_stage *stage, uint32_t rank, uint64_t pair,
                       const struct phx_combine_result *result)
{
    const struct phx_shape *s = &stage->shape;
    const uint8_t *counted = stage->counted[pair];
    if (!is_checked(run, stage, rank, pair))
        return;
    struct phx_inputs *in = phx_stage_inputs(stage, pair);
    struct rows rows;
    if (in == NULL || counted == NULL || !rows_open(&rows, stage, in, rank, counted)) {
        out_of_memory(run, rank, PHX_COMBINE, pair);
        return;
    }
    expert_outputs(stage, in, rank);
    uint8_t answered[PHX_RANKS_MAX];
    const uint8_t *counted_by[PHX_RANKS_MAX];
    unpack(&result->outcome->answered, run->ranks, answered);
    for (uint32_t d = 0; d < run->ranks; d++)
        counted_by[d] = counted + (size_t)d * run->ranks;
    struct phx_oracle_input input = oracle_input(stage, in);
    struct phx_oracle_combine combine = {
        .rank = rank,
        .form = (enum phx_rows_form)s->rows,
        .renormalise = stage->moe->renormalise,
        .answered = answered,
        .counted = counted_by,
        .expert_row = expert_row,
        .context = &rows,
        .out = stage->out,
        .token_loss = stage->token_loss,
    };
    struct phx_message message;
    int rc = phx_oracle_combine(&input, &combine, &message);
    in->is_checked |= rc == 0;
    if (rc != 0)
        phx_run_violate(run, "not-checked", rank, PHX_COMBINE, pair + 1, "%s", message.text);
    else
        combine_compare(run, stage, rank, pair, result);
    run->combines_checked++;
    rows_close(&rows);
}

void phx_check_done(struct phx_run *run, struct phx_stage *stage, uint32_t rank, uint64_t pair)
{
    size_t load = (size_t)(stage - run->stages);
    run->rank[rank].pairs_done[load] = pair + 1;
    for (uint32_t r = 0; r < run->ranks; r++)
        if ((run->world == NULL || phx_world_rank_alive(run->world, r)) &&
            run->rank[r].pairs_done[load] <= pair)
            return;
    free(stage->counted[pair]);
    stage->counted[pair] = NULL;
}
