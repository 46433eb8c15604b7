// sim/workload_program.c: dispatch, experts, combine, over and over; and what each outcome must
// say.

#include "sim/workload_program.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/leaves.h"

// A stand-in for three matrices of an expert on an H100: 5 us to launch, then about 0.15 us for a
// row of 7168 channels.
#define EXPERT_LAUNCH_NS 5000u
#define EXPERT_CHANNELS_PER_NS 48u

struct batch { // one pair in flight: its tensors
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
    const struct phx_program *e;
    struct phx_stage *stage;
    struct phx_group *group;
    struct phx_group **groups; // [loads]
    struct batch batches[2];
    struct phx_rank_set masked; // after the last operation, to see that masks only grow
    uint64_t begun;             // operations
    bool is_stopped;
    struct phx_message message;
};

#if defined(__GNUC__)
__attribute__((format(printf, 5, 6)))
#endif
static void
violate(const struct program *p, const char *rule, uint32_t kind, uint64_t number,
        const char *format, ...)
{
    char text[sizeof((struct phx_violation *)0)->text];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    p->e->ops->violate(p->e->context, rule, kind, number, text);
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
    o->division = (enum phx_division)s->division;
    o->timeout_us = (int64_t)run->workload->timeout_us;
    if (run->options->history != NULL)
        o->timeout_us = PHX_TIMEOUT_NONE;
}

static void *take(const struct program *p, uint64_t count, uint64_t size_bytes, bool *failed)
{
    void *memory = p->e->ops->alloc(p->e->context, (count + 1) * size_bytes);
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
    b->x = take(p, tokens * s->channels, sizeof *b->x, &failed);
    b->topk_idx = take(p, tokens * s->top_k, sizeof *b->topk_idx, &failed);
    b->topk_weights = take(p, tokens * s->top_k, sizeof *b->topk_weights, &failed);
    b->received.capacity_rows = capacity;
    b->received.recv_count = take(p, s->experts_local_max, sizeof(int32_t), &failed);
    b->received.layout_range =
        take(p, (uint64_t)s->experts_local_max * s->ranks, sizeof(int64_t), &failed);
    b->received.offsets = take(p, s->experts_local_max + 1, sizeof(int64_t), &failed);
    b->received.src_info = take(p, rows, sizeof(int32_t), &failed);
    b->received.payload = take(p, rows, phx_payload_bytes(s, s->channels), &failed);
    b->received.scales = take(p, phx_oracle_scale_words(s, capacity), sizeof(uint32_t), &failed);
    b->y = take(p, rows * s->channels, sizeof *b->y, &failed);
    b->out = take(p, tokens * s->channels, sizeof *b->out, &failed);
    b->token_loss = take(p, tokens, sizeof *b->token_loss, &failed);
    if (failed)
        return phx_fail(&p->message, PHX_ERR_NO_MEMORY, "no memory for the tensors of a rank");
    return phx_handle_create(p->group, &b->handle, &p->message);
}

static bool groups_open(struct program *p)
{
    const struct phx_run *run = p->e->run;
    for (uint32_t load = 0; load < run->workload->load_count; load++) {
        struct phx_group_options options;
        options_fill(&options, run, &run->stages[load]);
        int rc = p->e->ops->open(p->e->context, &options, &p->groups[load], &p->message);
        if (rc != 0) {
            violate(p, rc == PHX_ERR_PEER_LOST ? "open-peer-lost" : "open", 0, 0,
                    "the group could not be opened: %s", p->message.text);
            return false;
        }
    }
    p->e->ops->opened(p->e->context);
    return true;
}

// --- outcomes -----------------------------------------------------------------------------------

static uint64_t operation_of(const struct program *p, uint32_t kind, uint64_t pair)
{
    return p->stage->first_operation + 2 * pair + (kind == PHX_COMBINE);
}

// False: the program stops here.
static bool call_begins(struct program *p, uint32_t kind, uint64_t pair, bool is_first)
{
    if (is_first && p->begun++ == p->e->begins_max) {
        p->is_stopped = true;
        return false;
    }
    p->e->ops->call_begins(p->e->context, operation_of(p, kind, pair), is_first);
    return true;
}

static bool call_failed(struct program *p, uint32_t kind, uint64_t pair, int rc)
{
    p->e->ops->call_ended(p->e->context, p->group, operation_of(p, kind, pair), kind, pair + 1);
    if (rc == 0)
        return false;
    violate(p, "operation-error", kind, pair + 1, "%s", p->message.text);
    return true;
}

// One outcome for each operation, in order; ranks only ever leave; nobody loses itself.
static void outcome_check(struct program *p, uint32_t kind, const struct batch *b)
{
    const struct phx_outcome *o = &b->outcome;
    if (o->kind != kind || o->number != b->pair + 1)
        violate(p, "op-outcome", kind, b->pair + 1, "the outcome is of kind %u, number %llu",
                o->kind, (unsigned long long)o->number);
    bool has_self = kind == PHX_DISPATCH ? phx_rank_set_has(&o->counted, p->e->rank) &&
                                               phx_rank_set_has(&o->present, p->e->rank)
                                         : phx_rank_set_has(&o->answered, p->e->rank);
    if (!has_self || phx_rank_set_has(&o->masked, p->e->rank))
        violate(p, "op-outcome", kind, b->pair + 1, "the rank is missing from its own operation");
    for (uint32_t r = 0; r < p->e->run->ranks; r++) {
        bool is_masked = phx_rank_set_has(&o->masked, r);
        if (phx_rank_set_has(&p->masked, r) && !is_masked)
            violate(p, "op-outcome", kind, b->pair + 1, "rank %u was masked and is not any more",
                    r);
        if (is_masked != (p->e->active[r] == 0))
            violate(p, "op-outcome", kind, b->pair + 1,
                    "rank %u is %smasked, but active_ranks says %d", r, is_masked ? "" : "not ",
                    p->e->active[r]);
    }
    p->masked = o->masked;
}

static void aside(const struct program *p, bool begins)
{
    if (p->e->ops->aside != NULL)
        p->e->ops->aside(p->e->context, begins);
}

// --- dispatch, experts, combine -----------------------------------------------------------------

static const uint8_t *replay_of(const struct program *p, uint32_t kind, uint64_t pair)
{
    const struct phx_program_ops *ops = p->e->ops;
    return ops->replay != NULL ? ops->replay(p->e->context, operation_of(p, kind, pair)) : NULL;
}

static const uint8_t *replay_masked_of(const struct program *p, uint32_t kind, uint64_t pair)
{
    const struct phx_program_ops *ops = p->e->ops;
    return ops->replay_masked != NULL
               ? ops->replay_masked(p->e->context, operation_of(p, kind, pair))
               : NULL;
}

static struct phx_dispatch_args dispatch_args(struct program *p, struct batch *b)
{
    return (struct phx_dispatch_args){
        .size = sizeof(struct phx_dispatch_args),
        .token_count = p->stage->moe->tokens,
        .x = b->x,
        .topk_idx = b->topk_idx,
        .topk_weights = b->topk_weights,
        .active_ranks = p->e->active,
        .recv_x = b->received.payload,
        .recv_scales = b->received.scales,
        .recv_count = b->received.recv_count,
        .recv_src_info = b->received.src_info,
        .recv_layout_range = b->received.layout_range,
        .recv_offsets = b->received.offsets,
        .recv_rows_max = b->received.capacity_rows,
        .replay = replay_of(p, PHX_DISPATCH, b->pair),
        .replay_masked = replay_masked_of(p, PHX_DISPATCH, b->pair),
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
        .active_ranks = p->e->active,
        .renormalise = p->stage->moe->renormalise,
        .out = b->out,
        .token_loss = b->token_loss,
        .replay = replay_of(p, PHX_COMBINE, b->pair),
        .replay_masked = replay_masked_of(p, PHX_COMBINE, b->pair),
    };
}

static bool inputs_take(struct program *p, struct batch *b, uint64_t pair)
{
    const struct phx_shape *s = &p->stage->shape;
    aside(p, true);
    const struct phx_oracle_source *mine = p->e->ops->inputs(p->e->context, p->stage, pair);
    aside(p, false);
    if (mine == NULL) {
        violate(p, "not-checked", 0, 0, "no memory to draw the inputs");
        return false;
    }
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
    uint32_t expert = p->e->rank * held + (p->e->rank < more ? p->e->rank : more);
    uint32_t experts = held + (p->e->rank < more);
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
    p->e->ops->compute(p->e->context, EXPERT_LAUNCH_NS + rows * s->hidden / EXPERT_CHANNELS_PER_NS);
}

static void dispatch_ended(struct program *p, struct batch *b)
{
    const struct phx_shape *s = &p->stage->shape;
    outcome_check(p, PHX_DISPATCH, b);
    // A rank that holds one expert fewer has one offset fewer.
    if (s->layout == PHX_LAYOUT_COMPACT && p->e->rank >= s->experts % s->ranks &&
        s->experts % s->ranks != 0)
        b->received.offsets[s->experts_local_max] = b->received.offsets[s->experts_local_max - 1];
    struct phx_dispatch_result result = {&b->outcome, b->received};
    aside(p, true);
    p->e->ops->dispatched(p->e->context, p->stage, b->pair, &result);
    aside(p, false);
}

static void combine_ended(struct program *p, struct batch *b)
{
    outcome_check(p, PHX_COMBINE, b);
    struct phx_combine_result result = {&b->outcome, b->out, b->token_loss};
    aside(p, true);
    p->e->ops->combined(p->e->context, p->stage, b->pair, &result);
    aside(p, false);
}

static bool pair_run(struct program *p, uint64_t pair)
{
    struct batch *b = &p->batches[0];
    if (!inputs_take(p, b, pair))
        return false;
    struct phx_dispatch_args dispatch = dispatch_args(p, b);
    if (!call_begins(p, PHX_DISPATCH, pair, true))
        return false;
    if (call_failed(p, PHX_DISPATCH, pair,
                    phx_dispatch(p->group, &dispatch, b->handle, &b->outcome, &p->message)))
        return false;
    dispatch_ended(p, b);
    experts_run(p, b);
    struct phx_combine_args combine = combine_args(p, b);
    if (!call_begins(p, PHX_COMBINE, pair, true))
        return false;
    if (call_failed(p, PHX_COMBINE, pair,
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
    if (!call_begins(p, PHX_DISPATCH, pair, true))
        return false;
    return !call_failed(p, PHX_DISPATCH, pair,
                        phx_dispatch_send(p->group, &args, b->handle, &p->message));
}

static bool dispatch_end_and_combine(struct program *p, struct batch *b)
{
    if (!call_begins(p, PHX_DISPATCH, b->pair, false))
        return false;
    if (call_failed(p, PHX_DISPATCH, b->pair,
                    phx_dispatch_receive(p->group, b->handle, &b->outcome, &p->message)))
        return false;
    dispatch_ended(p, b);
    experts_run(p, b);
    struct phx_combine_args args = combine_args(p, b);
    if (!call_begins(p, PHX_COMBINE, b->pair, true))
        return false;
    return !call_failed(p, PHX_COMBINE, b->pair,
                        phx_combine_send(p->group, &args, b->handle, &p->message));
}

static bool combine_end(struct program *p, struct batch *b)
{
    if (!call_begins(p, PHX_COMBINE, b->pair, false))
        return false;
    if (call_failed(p, PHX_COMBINE, b->pair,
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
            violate(p, "open", 0, 0, "%s", p->message.text);
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

uint32_t phx_program_run(const struct phx_program *program)
{
    const struct phx_program_ops *ops = program->ops;
    uint32_t loads = program->run->workload->load_count;
    struct program *p = ops->alloc(program->context, sizeof *p);
    if (p != NULL)
        p->groups = ops->alloc(program->context, loads * sizeof(struct phx_group *));
    if (p == NULL || p->groups == NULL) {
        ops->violate(program->context, "open", 0, 0, "no memory for the rank's program");
        return PHX_PROGRAM_FAILED;
    }
    p->e = program;
    bool is_ok = groups_open(p);
    for (uint32_t load = 0; is_ok && load < loads; load++) {
        p->stage = &program->run->stages[load];
        p->group = p->groups[load];
        is_ok = load_run(p);
    }
    uint32_t end =
        is_ok ? PHX_PROGRAM_DONE : (p->is_stopped ? PHX_PROGRAM_STOPPED : PHX_PROGRAM_FAILED);
    ops->leave(program->context, end);
    for (uint32_t load = 0; load < loads; load++)
        phx_group_close(p->groups[load]);
    return end;
}
