// sim/workload_rank.c: the program of one simulated rank: what a serving process does with Phalanx.
//
// It opens a group per load, and then, pair after pair: draw inputs, dispatch, experts, combine.
// With hooks two micro-batches are in flight, and the experts of one run over the other's
// communication. It runs on the rank's control fiber, whose stack is small: big things live in rank
// memory.

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/leaves.h"
#include "sim/open.h"
#include "sim/workload_internal.h"
#include "sim/world_internal.h"

// A stand-in for three matrices of an expert on an H100: 5 us to launch, then about 0.15 us for a
// row of 7168 channels.
#define EXPERT_LAUNCH_NS 5000u
#define EXPERT_CHANNELS_PER_NS 48u

struct batch { // one pair in flight: its tensors, in rank memory
    struct phx_handle *handle;
    uint64_t pair;
    uint16_t *x;
    int64_t *topk_idx;
    float *topk_weights;
    struct phx_oracle_output received;
    uint16_t *y;
    uint16_t *out;
    float *token_loss;
    struct phx_outcome outcome;
};

struct program {
    struct phx_run *run;
    struct phx_sim_rank *sim;
    uint32_t rank;
    uint32_t load;
    struct phx_stage *stage;
    struct phx_group *group;
    struct phx_group **groups; // [loads]
    struct batch batches[2];
    struct phx_rank_set masked; // after the last operation, to see that masks only grow
    struct phx_message message;
};

void phx_run_violate(struct phx_run *run, const char *rule, uint32_t rank, uint32_t kind,
                     uint64_t number, const char *format, ...)
{
    struct phx_violation v = {
        .rule = rule,
        .rank = rank,
        .kind = kind,
        .number = number,
        .at_ns = phx_world_time_ps(run->world) / 1000,
    };
    va_list args;
    va_start(args, format);
    (void)vsnprintf(v.text, sizeof v.text, format, args);
    va_end(args);
    phx_world_violate(run->world, &v);
}

void phx_run_expert(uint32_t expert, uint32_t channels, const uint16_t *x, uint16_t *y)
{
    uint16_t mask = (uint16_t)((expert & 1) << 15 | (expert >> 1 & 0x7F));
    for (uint32_t c = 0; c < channels; c++)
        y[c] = x[c] ^ mask;
}

// --- opening ------------------------------------------------------------------------------------

static void options_fill(struct phx_group_options *o, const struct phx_run *run,
                         const struct phx_stage *stage)
{
    const struct phx_shape *s = &stage->shape;
    phx_group_options_init(o);
    o->ranks = s->ranks;
    o->experts = s->experts;
    o->top_k = s->top_k;
    o->tokens_max = s->tokens_max;
    o->hidden = s->hidden;
    o->channels = s->channels;
    o->in_flight = s->in_flight;
    o->workers = s->workers;
    o->dtype = (enum phx_dtype)s->dtype;
    o->scale_format = (enum phx_scale_format)s->scale_format;
    o->rows = (enum phx_rows_form)s->rows;
    o->layout = (enum phx_output_layout)s->layout;
    o->check = (enum phx_check)s->check;
    o->timeout_us = (int64_t)run->workload->timeout_us;
}

static void *rank_alloc(struct program *p, uint64_t count, uint64_t size_bytes, bool *failed)
{
    void *memory = phx_sim_alloc(p->sim, (count + 1) * size_bytes);
    if (memory == NULL)
        *failed = true;
    return memory;
}

static int batch_open(struct program *p, struct batch *b)
{
    const struct phx_shape *s = &p->stage->shape;
    uint64_t tokens = s->tokens_max;
    uint64_t capacity = p->stage->expected.capacity_rows;
    uint64_t rows = phx_oracle_rows(s, capacity);
    bool failed = false;
    b->x = rank_alloc(p, tokens * s->channels, sizeof *b->x, &failed);
    b->topk_idx = rank_alloc(p, tokens * s->top_k, sizeof *b->topk_idx, &failed);
    b->topk_weights = rank_alloc(p, tokens * s->top_k, sizeof *b->topk_weights, &failed);
    b->received.capacity_rows = capacity;
    b->received.recv_count = rank_alloc(p, s->experts_local_max, sizeof(int32_t), &failed);
    b->received.layout_range =
        rank_alloc(p, (uint64_t)s->experts_local_max * s->ranks, sizeof(int64_t), &failed);
    b->received.offsets = rank_alloc(p, s->experts_local_max + 1, sizeof(int64_t), &failed);
    b->received.src_info = rank_alloc(p, rows, sizeof(int32_t), &failed);
    b->received.payload = rank_alloc(p, rows, phx_payload_bytes(s, s->channels), &failed);
    b->received.scales =
        rank_alloc(p, phx_oracle_scale_words(s, capacity), sizeof(uint32_t), &failed);
    b->y = rank_alloc(p, rows * s->channels, sizeof *b->y, &failed);
    b->out = rank_alloc(p, tokens * s->channels, sizeof *b->out, &failed);
    b->token_loss = rank_alloc(p, tokens, sizeof *b->token_loss, &failed);
    if (failed)
        return phx_fail(&p->message, PHX_ERR_NO_MEMORY, "no memory for the tensors of a rank");
    return phx_handle_create(p->group, &b->handle, &p->message);
}

static bool groups_open(struct program *p)
{
    struct phx_run *run = p->run;
    for (uint32_t load = 0; load < run->workload->load_count; load++) {
        struct phx_group_options options;
        options_fill(&options, run, &run->stages[load]);
        int rc = phx_sim_open(p->sim, &options, &p->groups[load], &p->message);
        if (rc != 0) {
            phx_run_violate(run, rc == PHX_ERR_PEER_LOST ? "open-peer-lost" : "open", p->rank, 0, 0,
                            "the group could not be opened: %s", p->message.text);
            return false;
        }
    }
    run->rank[p->rank].is_open = true;
    uint64_t now_ps = phx_world_time_ps(run->world);
    if (now_ps > run->open_ps)
        run->open_ps = now_ps;
    return true;
}

// --- outcomes -----------------------------------------------------------------------------------

static uint64_t operation_of(const struct program *p, uint32_t kind, uint64_t pair)
{
    return p->stage->first_operation + 2 * pair + (kind == PHX_COMBINE);
}

static void call_begins(struct program *p, uint32_t kind, uint64_t pair, bool is_first)
{
    phx_watch_begin(p->run, p->rank, operation_of(p, kind, pair), is_first);
}

static bool operation_failed(struct program *p, uint32_t kind, uint64_t pair, int rc)
{
    phx_watch_end(p->run, p->rank, p->group, operation_of(p, kind, pair), kind, pair + 1);
    if (rc == 0)
        return false;
    phx_run_violate(p->run, "operation-error", p->rank, kind, pair + 1, "%s", p->message.text);
    return true;
}

// One outcome for each operation, in order; ranks only ever leave; nobody loses itself.
static void outcome_check(struct program *p, uint32_t kind, const struct batch *b)
{
    const struct phx_outcome *o = &b->outcome;
    struct phx_run_rank *mine = &p->run->rank[p->rank];
    p->run->outcomes_checked++;
    if (o->kind != kind || o->number != b->pair + 1)
        phx_run_violate(p->run, "op-outcome", p->rank, kind, b->pair + 1,
                        "the outcome is of kind %u, number %llu", o->kind,
                        (unsigned long long)o->number);
    bool has_self = kind == PHX_DISPATCH ? phx_rank_set_has(&o->counted, p->rank) &&
                                               phx_rank_set_has(&o->present, p->rank)
                                         : phx_rank_set_has(&o->answered, p->rank);
    if (!has_self || phx_rank_set_has(&o->masked, p->rank))
        phx_run_violate(p->run, "op-outcome", p->rank, kind, b->pair + 1,
                        "the rank is missing from its own operation");
    for (uint32_t r = 0; r < p->run->ranks; r++) {
        bool is_masked = phx_rank_set_has(&o->masked, r);
        if (phx_rank_set_has(&p->masked, r) && !is_masked)
            phx_run_violate(p->run, "op-outcome", p->rank, kind, b->pair + 1,
                            "rank %u was masked and is not any more", r);
        if (is_masked != (mine->active[r] == 0))
            phx_run_violate(p->run, "op-outcome", p->rank, kind, b->pair + 1,
                            "rank %u is %smasked, but active_ranks says %d", r,
                            is_masked ? "" : "not ", mine->active[r]);
    }
    p->masked = o->masked;
}

static void operation_ended(struct program *p, uint32_t kind, uint64_t pair)
{
    struct phx_run *run = p->run;
    struct phx_run_rank *mine = &run->rank[p->rank];
    uint64_t operation = operation_of(p, kind, pair);
    uint64_t now_ps = phx_world_time_ps(run->world);
    mine->operations++;
    if (mine->ended_ps != NULL)
        mine->ended_ps[operation] = now_ps;
    if (!mine->is_struck && now_ps > run->last_end_ps[operation])
        run->last_end_ps[operation] = now_ps;
}

// What follows is not the cluster's work, until aside(p, false).
static void aside(const struct program *p, bool begins)
{
    const struct phx_workload_options *o = p->run->options;
    if (o->aside != NULL)
        o->aside(o->aside_context, begins);
}

// --- dispatch, experts, combine -----------------------------------------------------------------

static struct phx_dispatch_args dispatch_args(struct program *p, struct batch *b)
{
    return (struct phx_dispatch_args){
        .size = sizeof(struct phx_dispatch_args),
        .token_count = p->stage->moe->tokens,
        .x = b->x,
        .topk_idx = b->topk_idx,
        .topk_weights = b->topk_weights,
        .active_ranks = p->run->rank[p->rank].active,
        .recv_x = b->received.payload,
        .recv_scales = b->received.scales,
        .recv_count = b->received.recv_count,
        .recv_src_info = b->received.src_info,
        .recv_layout_range = b->received.layout_range,
        .recv_offsets = b->received.offsets,
        .recv_rows_max = b->received.capacity_rows,
    };
}

static struct phx_combine_args combine_args(struct program *p, struct batch *b)
{
    return (struct phx_combine_args){
        .size = sizeof(struct phx_combine_args),
        .token_count = p->stage->moe->tokens,
        .y = b->y,
        .topk_idx = b->topk_idx,
        .topk_weights = b->topk_weights,
        .active_ranks = p->run->rank[p->rank].active,
        .renormalise = p->stage->moe->renormalise,
        .out = b->out,
        .token_loss = b->token_loss,
    };
}

static bool inputs_take(struct program *p, struct batch *b, uint64_t pair)
{
    const struct phx_shape *s = &p->stage->shape;
    aside(p, true);
    const struct phx_inputs *in = phx_stage_inputs(p->stage, pair);
    aside(p, false);
    if (in == NULL) {
        phx_run_violate(p->run, "not-checked", p->rank, 0, 0, "no memory to draw the inputs");
        return false;
    }
    const struct phx_oracle_source *mine = &in->sources[p->rank];
    size_t tokens = mine->tokens;
    b->pair = pair;
    memcpy(b->x, mine->x, tokens * s->channels * sizeof *b->x);
    memcpy(b->topk_idx, mine->topk_idx, tokens * s->top_k * sizeof *b->topk_idx);
    memcpy(b->topk_weights, mine->topk_weights, tokens * s->top_k * sizeof *b->topk_weights);
    return true;
}

// One received row as bf16, as an expert reads it.
static void row_read(const struct program *p, const struct batch *b, uint64_t row, uint16_t *x)
{
    const struct phx_shape *s = &p->stage->shape;
    const struct phx_leaves *leaves = phx_leaves_get();
    const uint8_t *payload = b->received.payload + row * phx_payload_bytes(s, s->channels);
    if (s->dtype == PHX_BF16) {
        memcpy(x, payload, 2 * (size_t)s->channels);
        return;
    }
    for (uint32_t g = 0; g < phx_scale_groups(s->channels); g++) {
        uint32_t word = s->scale_format == PHX_SCALE_UE8M0 ? g / 4 : g;
        uint32_t bits =
            b->received.scales[phx_oracle_scale_at(s, b->received.capacity_rows, row, word)];
        uint8_t exponent = (uint8_t)(bits >> (g % 4 * 8));
        float scale;
        memcpy(&scale, &bits, sizeof scale);
        const uint8_t *q = payload + (size_t)g * PHX_SCALE_GROUP;
        if (s->scale_format == PHX_SCALE_UE8M0)
            leaves->dequantise_ue8m0(q, &exponent, PHX_SCALE_GROUP, x + g * PHX_SCALE_GROUP);
        else
            leaves->dequantise_f32(q, &scale, PHX_SCALE_GROUP, x + g * PHX_SCALE_GROUP);
    }
}

static void experts_run(struct program *p, struct batch *b)
{
    const struct phx_shape *s = &p->stage->shape;
    uint32_t held = s->experts / s->ranks;
    uint32_t more = s->experts % s->ranks;
    uint32_t expert = p->rank * held + (p->rank < more ? p->rank : more);
    uint32_t experts = held + (p->rank < more);
    uint64_t rows = 0;
    aside(p, true);
    for (uint32_t e = 0; e < experts; e++, expert++) {
        uint64_t first = s->layout == PHX_LAYOUT_COMPACT ? (uint64_t)b->received.offsets[e]
                                                         : (uint64_t)e * s->ranks * s->tokens_max;
        for (int32_t i = 0; i < b->received.recv_count[e]; i++, rows++) {
            uint16_t *y = b->y + (first + (uint64_t)i) * s->channels;
            row_read(p, b, first + (uint64_t)i, y);
            phx_run_expert(expert, s->channels, y, y);
        }
    }
    aside(p, false);
    phx_sim_sleep_ns(p->sim, EXPERT_LAUNCH_NS + rows * s->hidden / EXPERT_CHANNELS_PER_NS);
}

static void dispatch_ended(struct program *p, struct batch *b)
{
    const struct phx_shape *s = &p->stage->shape;
    operation_ended(p, PHX_DISPATCH, b->pair);
    outcome_check(p, PHX_DISPATCH, b);
    // A rank that holds one expert fewer has one offset fewer.
    if (s->layout == PHX_LAYOUT_COMPACT && p->rank >= s->experts % s->ranks &&
        s->experts % s->ranks != 0)
        b->received.offsets[s->experts_local_max] = b->received.offsets[s->experts_local_max - 1];
    struct phx_dispatch_result result = {&b->outcome, b->received};
    aside(p, true);
    phx_check_dispatch(p->run, p->stage, p->rank, b->pair, &result);
    aside(p, false);
}

static void combine_ended(struct program *p, struct batch *b)
{
    operation_ended(p, PHX_COMBINE, b->pair);
    outcome_check(p, PHX_COMBINE, b);
    struct phx_combine_result result = {&b->outcome, b->out, b->token_loss};
    aside(p, true);
    phx_check_combine(p->run, p->stage, p->rank, b->pair, &result);
    aside(p, false);
    for (uint32_t t = 0; t < p->stage->moe->tokens; t++)
        p->run->rank[p->rank].lost_tokens += b->token_loss[t] > 0.0f;
    phx_check_done(p->run, p->stage, p->rank, b->pair);
}

static bool pair_run(struct program *p, uint64_t pair)
{
    struct batch *b = &p->batches[0];
    if (!inputs_take(p, b, pair))
        return false;
    struct phx_dispatch_args dispatch = dispatch_args(p, b);
    call_begins(p, PHX_DISPATCH, pair, true);
    if (operation_failed(p, PHX_DISPATCH, pair,
                         phx_dispatch(p->group, &dispatch, b->handle, &b->outcome, &p->message)))
        return false;
    dispatch_ended(p, b);
    experts_run(p, b);
    struct phx_combine_args combine = combine_args(p, b);
    call_begins(p, PHX_COMBINE, pair, true);
    if (operation_failed(p, PHX_COMBINE, pair,
                         phx_combine(p->group, &combine, b->handle, &b->outcome, &p->message)))
        return false;
    combine_ended(p, b);
    return true;
}

// --- hooks --------------------------------------------------------------------------------------

static bool dispatch_begin(struct program *p, struct batch *b, uint64_t pair)
{
    if (!inputs_take(p, b, pair))
        return false;
    struct phx_dispatch_args args = dispatch_args(p, b);
    call_begins(p, PHX_DISPATCH, pair, true);
    return !operation_failed(p, PHX_DISPATCH, pair,
                             phx_dispatch_send(p->group, &args, b->handle, &p->message));
}

static bool dispatch_end_and_combine(struct program *p, struct batch *b)
{
    call_begins(p, PHX_DISPATCH, b->pair, false);
    if (operation_failed(p, PHX_DISPATCH, b->pair,
                         phx_dispatch_receive(p->group, b->handle, &b->outcome, &p->message)))
        return false;
    dispatch_ended(p, b);
    experts_run(p, b);
    struct phx_combine_args args = combine_args(p, b);
    call_begins(p, PHX_COMBINE, b->pair, true);
    return !operation_failed(p, PHX_COMBINE, b->pair,
                             phx_combine_send(p->group, &args, b->handle, &p->message));
}

static bool combine_end(struct program *p, struct batch *b)
{
    call_begins(p, PHX_COMBINE, b->pair, false);
    if (operation_failed(p, PHX_COMBINE, b->pair,
                         phx_combine_receive(p->group, b->handle, &b->outcome, &p->message)))
        return false;
    combine_ended(p, b);
    return true;
}

// Up to two micro-batches; the second one's rows travel while the first one's experts run.
static bool pairs_run_hooked(struct program *p, uint64_t pair, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!dispatch_begin(p, &p->batches[i], pair + i))
            return false;
    for (uint32_t i = 0; i < count; i++)
        if (!dispatch_end_and_combine(p, &p->batches[i]))
            return false;
    for (uint32_t i = 0; i < count; i++)
        if (!combine_end(p, &p->batches[i]))
            return false;
    return true;
}

// --- the program --------------------------------------------------------------------------------

static bool load_run(struct program *p)
{
    bool hooks = p->stage->moe->hooks;
    memset(p->batches, 0, sizeof p->batches);
    memset(&p->masked, 0, sizeof p->masked);
    for (uint32_t i = 0; i < (hooks ? 2u : 1u); i++) {
        if (batch_open(p, &p->batches[i]) != 0) {
            phx_run_violate(p->run, "open", p->rank, 0, 0, "%s", p->message.text);
            return false;
        }
    }
    bool is_ok = true;
    for (uint64_t pair = 0; is_ok && pair < p->stage->pairs; pair += hooks ? 2 : 1) {
        uint64_t left = p->stage->pairs - pair;
        is_ok =
            hooks ? pairs_run_hooked(p, pair, left < 2 ? (uint32_t)left : 2) : pair_run(p, pair);
    }
    for (uint32_t i = 0; i < 2; i++)
        phx_handle_free(p->group, p->batches[i].handle);
    return is_ok;
}

void phx_run_rank_main(struct phx_sim_rank *sim_rank, void *argument)
{
    struct phx_run *run = argument;
    uint32_t rank = phx_sim_rank_number(sim_rank);
    uint32_t loads = run->workload->load_count;
    struct program *p = phx_sim_alloc(sim_rank, sizeof *p);
    if (p != NULL)
        p->groups = phx_sim_alloc(sim_rank, loads * sizeof *p->groups);
    if (p == NULL || p->groups == NULL) {
        phx_run_violate(run, "open", rank, 0, 0, "no memory for the rank's program");
        run->rank[rank].failed = true;
        return;
    }
    p->run = run;
    p->sim = sim_rank;
    p->rank = rank;
    bool is_ok = groups_open(p);
    for (p->load = 0; is_ok && p->load < loads; p->load++) {
        p->stage = &run->stages[p->load];
        p->group = p->groups[p->load];
        is_ok = load_run(p);
    }
    run->rank[rank].finished = is_ok;
    run->rank[rank].failed = !is_ok;
    run->rank[rank].finished_ps = phx_world_time_ps(run->world);
    // Closing waits for nothing, and takes back the memory from which the last rows may still be on
    // their way. Whoever waits for them gives up after two deadlines at most.
    phx_sim_sleep_ns(sim_rank, 2 * run->workload->timeout_us * 1000);
    for (uint32_t load = 0; load < loads; load++)
        phx_group_close(p->groups[load]);
}
