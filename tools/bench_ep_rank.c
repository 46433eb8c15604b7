// tools/bench_ep_rank.c: what one rank of phx bench ep does.

#include <stdlib.h>
#include <string.h>

#include "engine/group.h"
#include "sim/workload.h"
#include "tools/bench_ep_internal.h"

// --- opening ------------------------------------------------------------------------------------

static void *take(struct phx_bench_rank *r, uint64_t count, uint64_t size_bytes, bool *failed)
{
    void *memory = r->host->alloc(r->host->context, count * size_bytes + 1);
    if (memory == NULL)
        *failed = true;
    return memory;
}

static bool tensors_make(struct phx_bench_rank *r)
{
    const struct phx_bench_ep *b = r->b;
    struct phx_bench_tensors *t = &r->t;
    bool failed = false;
    uint64_t tokens = b->tokens;
    uint64_t local = r->hint.experts_local;
    r->rows_max = r->hint.recv_rows_max;
    t->x = take(r, tokens * r->channels, 2, &failed);
    t->topk_idx = take(r, tokens * b->top_k, 8, &failed);
    t->topk_weights = take(r, tokens * b->top_k, 4, &failed);
    t->recv_x = take(r, r->hint.recv_x_bytes, 1, &failed);
    t->recv_scales = take(r, r->hint.recv_scale_bytes, 1, &failed);
    t->recv_count = take(r, local, 4, &failed);
    t->src_info = take(r, r->rows_max, 4, &failed);
    t->range = take(r, local * b->ranks, 8, &failed);
    t->offsets = take(r, local + 1, 8, &failed);
    t->y = take(r, r->rows_max * r->channels, 2, &failed);
    t->out = take(r, tokens * r->channels, 2, &failed);
    t->token_loss = take(r, tokens, 4, &failed);
    t->active = take(r, b->ranks, 4, &failed);
    for (uint32_t i = 0; !failed && i < b->ranks; i++)
        t->active[i] = 1;
    return !failed;
}

static void options_fill(struct phx_bench_rank *r, struct phx_group_options *o)
{
    const struct phx_bench_ep *b = r->b;
    phx_group_options_init(o);
    o->rank = r->rank;
    o->ranks = b->ranks;
    o->experts = b->experts;
    o->top_k = b->top_k;
    o->tokens_max = b->tokens;
    o->hidden = b->hidden;
    o->channels = r->channels;
    o->workers = b->workers;
    o->dtype = b->dtype;
    o->scale_format = b->scales;
    o->rows = b->rows;
    o->layout = b->layout;
    o->fault_tolerance = b->fault_tolerance;
    o->timeout_us = INT64_C(30000000);
    if (r->host->options != NULL)
        r->host->options(r, o);
}

struct phx_router *phx_bench_router(const struct phx_bench_ep *b)
{
    const struct phx_moe_load moe = {.steps = 1,
                                     .layers = 1,
                                     .tokens = b->tokens,
                                     .hidden = b->hidden,
                                     .experts = b->experts,
                                     .top_k = b->top_k,
                                     .routing = PHX_ROUTING_UNIFORM};
    return phx_router_create(&moe, 0, b->ranks, b->seed);
}

static int rank_open(struct phx_bench_rank *r)
{
    struct phx_group_options o;
    options_fill(r, &o);
    int rc = phx_size_hint(&o, &r->hint, &r->message);
    if (rc == 0 && !tensors_make(r))
        rc = phx_fail(&r->message, PHX_ERR_NO_MEMORY, "no memory for the tensors of rank %u",
                      r->rank);
    if (rc == 0)
        rc = r->host->open(r->host->context, &o, &r->group, &r->message);
    if (rc == 0)
        rc = phx_handle_create(r->group, &r->handle, &r->message);
    if (rc != 0)
        return rc;
    r->router = phx_bench_router(r->b);
    if (r->router == NULL)
        return phx_fail(&r->message, PHX_ERR_NO_MEMORY, "no memory to draw the inputs");
    phx_router_draw(r->router, 0, r->rank, r->channels, r->t.x, r->t.topk_idx, r->t.topk_weights);
    return 0;
}

static void rank_close(struct phx_bench_rank *r)
{
    struct phx_bench_tensors *t = &r->t;
    void *const all[] = {t->x,          t->topk_idx,   t->topk_weights, t->recv_x,  t->recv_scales,
                         t->recv_count, t->src_info,   t->range,        t->offsets, t->y,
                         t->out,        t->token_loss, t->active,       t->from,    t->to};
    if (r->group != NULL) {
        phx_handle_free(r->group, r->handle);
        r->host->close(r->host->context, r->group);
    }
    phx_router_destroy(r->router);
    for (uint32_t i = 0; i < sizeof all / sizeof all[0]; i++)
        r->host->free(r->host->context, all[i]);
}

// --- operations ---------------------------------------------------------------------------------

static int dispatch(struct phx_bench_rank *r)
{
    struct phx_bench_tensors *t = &r->t;
    const struct phx_dispatch_args args = {
        .size = sizeof args,
        .token_count = r->b->tokens,
        .x = t->x,
        .topk_idx = t->topk_idx,
        .topk_weights = t->topk_weights,
        .active_ranks = t->active,
        .recv_x = t->recv_x,
        .recv_scales = t->recv_scales,
        .recv_count = t->recv_count,
        .recv_src_info = t->src_info,
        .recv_layout_range = t->range,
        .recv_offsets = t->offsets,
        .recv_rows_max = r->rows_max,
    };
    return phx_dispatch(r->group, &args, r->handle, NULL, &r->message);
}

static int combine(struct phx_bench_rank *r)
{
    struct phx_bench_tensors *t = &r->t;
    const struct phx_combine_args args = {
        .size = sizeof args,
        .token_count = r->b->tokens,
        .y = t->y,
        .topk_idx = t->topk_idx,
        .topk_weights = t->topk_weights,
        .active_ranks = t->active,
        .out = t->out,
        .token_loss = t->token_loss,
    };
    return phx_combine(r->group, &args, r->handle, NULL, &r->message);
}

// --- bytes --------------------------------------------------------------------------------------

void phx_bench_rows_count(const struct phx_bench_ep *b, const int64_t *topk_idx, uint32_t *to)
{
    uint32_t held = b->experts / b->ranks;
    uint32_t more = b->experts % b->ranks;
    memset(to, 0, b->ranks * sizeof *to);
    for (uint32_t t = 0; t < b->tokens; t++) {
        uint8_t seen[PHX_RANKS_MAX] = {0};
        for (uint32_t k = 0; k < b->top_k; k++) {
            int64_t e = topk_idx[(uint64_t)t * b->top_k + k];
            if (e < 0)
                continue;
            uint32_t expert = (uint32_t)e;
            uint32_t rank = expert < more * (held + 1) ? expert / (held + 1)
                                                       : more + (expert - more * (held + 1)) / held;
            to[rank] += !seen[rank] || b->rows == PHX_ROWS_PER_EXPERT;
            seen[rank] = 1;
        }
    }
}

uint64_t phx_bench_row_bytes(const struct phx_bench_ep *b)
{
    return b->dtype == PHX_BF16 ? 2 * (uint64_t)b->hidden
                                : b->hidden + 4 * ((uint64_t)b->hidden / PHX_SCALE_GROUP);
}

static void bytes_count(struct phx_bench_rank *r)
{
    const struct phx_bench_ep *b = r->b;
    struct phx_bench_bytes *n = &r->seat->bytes;
    uint32_t to[PHX_RANKS_MAX];
    uint64_t wide = 2 * (uint64_t)b->hidden;
    uint64_t row = phx_bench_row_bytes(b);
    phx_bench_rows_count(b, r->t.topk_idx, to);
    n->rows = 0;
    for (uint32_t i = 0; i < b->ranks; i++)
        n->rows += to[i];
    n->dispatch = b->tokens * wide + 2 * n->rows * row + n->entries * row;
    n->combine = n->entries * wide + 2 * n->rows * wide + b->tokens * wide;
}

// --- timing -------------------------------------------------------------------------------------

static void come(struct phx_bench_rank *r, struct phx_bench_stamps *s)
{
    s->came_ns = r->host->now_ns(r->host->context);
    r->host->barrier(r->host->context);
}

static int done(struct phx_bench_rank *r, struct phx_bench_stamps *s, int rc)
{
    s->done_ns = r->host->now_ns(r->host->context);
    return rc;
}

static void floor_run(struct phx_bench_rank *r, struct phx_bench_stamps *s)
{
    uint64_t bytes = (r->seat->bytes.dispatch + r->seat->bytes.combine) / 2; // copied: twice moved
    come(r, s);
    memcpy(r->t.to, r->t.from, bytes);
    __asm__ volatile("" : : "r"(r->t.to) : "memory");
    (void)done(r, s, 0);
}

static int pair_run(struct phx_bench_rank *r, struct phx_bench_stamps *s)
{
    come(r, s);
    int rc = dispatch(r);
    if (rc == 0)
        rc = combine(r);
    return done(r, s, rc);
}

// What is compared runs in one group, between operations: a group of its own lies in other memory,
// which alone makes 2 % of difference, either way.
static void tolerance_set(struct phx_bench_rank *r, bool is_other)
{
    bool is_on = (r->b->fault_tolerance == PHX_FAULT_TOLERANCE_ON) != is_other;
    r->group->options.fault_tolerance = is_on ? PHX_FAULT_TOLERANCE_ON : PHX_FAULT_TOLERANCE_OFF;
}

static int pairs_compare(struct phx_bench_rank *r, uint32_t at, struct phx_bench_stamps *s)
{
    static const enum phx_bench_span orders[2][4] = {
        {PHX_BENCH_PAIR, PHX_BENCH_OTHER, PHX_BENCH_OTHER_AGAIN, PHX_BENCH_PAIR_AGAIN},
        {PHX_BENCH_OTHER, PHX_BENCH_PAIR, PHX_BENCH_PAIR_AGAIN, PHX_BENCH_OTHER_AGAIN},
    };
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < 4; i++) {
        enum phx_bench_span span = orders[at % 2][i];
        tolerance_set(r, span == PHX_BENCH_OTHER || span == PHX_BENCH_OTHER_AGAIN);
        rc = pair_run(r, &s[span]);
    }
    tolerance_set(r, false);
    return rc;
}

static int sample_run(struct phx_bench_rank *r, uint32_t at, struct phx_bench_stamps *s)
{
    if (r->host->has_floor)
        floor_run(r, &s[PHX_BENCH_FLOOR]);
    come(r, &s[PHX_BENCH_DISPATCH]);
    int rc = done(r, &s[PHX_BENCH_DISPATCH], dispatch(r));
    come(r, &s[PHX_BENCH_COMBINE]);
    rc = done(r, &s[PHX_BENCH_COMBINE], rc != 0 ? rc : combine(r));
    if (rc == 0)
        rc = r->b->is_compared ? pairs_compare(r, at, s) : pair_run(r, &s[PHX_BENCH_PAIR]);
    return rc;
}

static int check_run(struct phx_bench_rank *r, bool is_other)
{
    tolerance_set(r, is_other);
    int rc = dispatch(r);
    if (rc == 0 && !phx_bench_dispatch_check(r))
        rc = PHX_ERR_CORRUPT;
    if (rc == 0)
        rc = combine(r);
    if (rc == 0 && !phx_bench_combine_check(r))
        rc = PHX_ERR_CORRUPT;
    return rc;
}

static int rank_run(struct phx_bench_rank *r)
{
    bool failed = false;
    int rc = rank_open(r);
    if (rc == 0 && r->host->opened != NULL)
        r->host->opened(r->host->context, r->seat);
    if (r->host->run != NULL)
        return rc != 0 ? rc : r->host->run(r);
    if (rc == 0 && r->b->is_compared)
        rc = check_run(r, true);
    if (rc == 0)
        rc = check_run(r, false);
    if (rc != 0)
        return rc;
    bytes_count(r);
    uint64_t bytes = (r->seat->bytes.dispatch + r->seat->bytes.combine) / 2;
    if (r->host->has_floor) {
        r->t.from = take(r, bytes, 1, &failed);
        r->t.to = take(r, bytes, 1, &failed);
    }
    if (failed)
        return phx_fail(&r->message, PHX_ERR_NO_MEMORY, "no memory for the floor's copies");
    for (uint32_t i = 0; rc == 0 && i < r->b->warmups; i++)
        rc = sample_run(r, i, r->seat->stamps[0]);
    for (uint32_t i = 0; rc == 0 && i < r->b->samples; i++)
        rc = sample_run(r, i, r->seat->stamps[i]);
    for (uint32_t i = 0; rc == 0 && i < r->b->ranks; i++)
        if (r->t.active[i] == 0)
            rc = phx_fail(&r->message, PHX_ERR_PEER_LOST, "rank %u masked rank %u", r->rank, i);
    r->host->barrier(r->host->context); // who leaves counts as lost to those who still wait
    return rc;
}

void phx_bench_rank_run(const struct phx_bench_ep *bench, const struct phx_bench_host *host,
                        uint32_t rank, struct phx_bench_seat *seat)
{
    struct phx_bench_rank r;
    memset(&r, 0, sizeof r);
    r.b = bench;
    r.host = host;
    r.rank = rank;
    r.seat = seat;
    r.channels = bench->transport == PHX_BENCH_SIM ? PHX_SCALE_GROUP : bench->hidden;
    seat->rc = rank_run(&r);
    memcpy(&seat->message, &r.message, sizeof r.message);
    rank_close(&r);
}
