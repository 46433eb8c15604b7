// tools/bench_ep_rank.c: what one rank of phx bench ep does.

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hw/clock.h"
#include "kernels/leaves.h"
#include "sim/routing.h"
#include "sim/workload.h"
#include "tools/bench_ep_internal.h"

// --- opening ------------------------------------------------------------------------------------

static void *take(uint64_t count, uint64_t size_bytes, bool *failed)
{
    uint64_t bytes = (count * size_bytes + 4096) / 4096 * 4096;
    void *memory = aligned_alloc(4096, bytes);
    if (memory == NULL)
        *failed = true;
    else
        memset(memory, 0, bytes); // pages are there before anything is timed
    return memory;
}

static bool tensors_make(struct phx_bencher *r)
{
    const struct phx_bench_ep *b = r->b;
    struct phx_bench_tensors *t = &r->t;
    bool failed = false;
    uint64_t tokens = b->tokens;
    uint64_t local = r->hint.experts_local;
    r->rows_max = r->hint.recv_rows_max;
    t->x = take(tokens * b->hidden, 2, &failed);
    t->topk_idx = take(tokens * b->top_k, 8, &failed);
    t->topk_weights = take(tokens * b->top_k, 4, &failed);
    t->recv_x = take(r->hint.recv_x_bytes, 1, &failed);
    t->recv_scales = take(r->hint.recv_scale_bytes, 1, &failed);
    t->recv_count = take(local, 4, &failed);
    t->src_info = take(r->rows_max, 4, &failed);
    t->range = take(local * b->ranks, 8, &failed);
    t->offsets = take(local + 1, 8, &failed);
    t->y = take(r->rows_max * b->hidden, 2, &failed);
    t->out = take(tokens * b->hidden, 2, &failed);
    t->token_loss = take(tokens, 4, &failed);
    t->active = take(b->ranks, 4, &failed);
    for (uint32_t i = 0; !failed && i < b->ranks; i++)
        t->active[i] = 1;
    return !failed;
}

int phx_bencher_open(struct phx_bencher *r)
{
    const struct phx_bench_ep *b = r->b;
    struct phx_group_options o;
    phx_group_options_init(&o);
    o.rank = r->rank;
    o.ranks = b->ranks;
    o.experts = b->experts;
    o.top_k = b->top_k;
    o.tokens_max = b->tokens;
    o.hidden = b->hidden;
    o.workers = b->workers;
    o.dtype = b->dtype;
    o.scale_format = b->scales;
    o.rows = b->rows;
    o.layout = b->layout;
    o.timeout_us = b->is_tolerant ? INT64_C(30000000) : PHX_TIMEOUT_NONE;
    if (r->cuda != NULL)
        phx_bench_gpu_options(r, &o);
    int rc = phx_size_hint(&o, &r->hint, &r->message);
    if (rc == 0 && !tensors_make(r))
        rc = phx_fail(&r->message, PHX_ERR_NO_MEMORY, "no memory for the tensors of rank %u",
                      r->rank);
    if (rc == 0)
        rc = phx_crew_rank_open(r->self, &o, &r->group, &r->message);
    if (rc == 0)
        rc = phx_handle_create(r->group, &r->handle, &r->message);
    if (rc != 0)
        return rc;
    const struct phx_moe_load moe = {.steps = 1,
                                     .layers = 1,
                                     .tokens = b->tokens,
                                     .hidden = b->hidden,
                                     .experts = b->experts,
                                     .top_k = b->top_k,
                                     .routing = PHX_ROUTING_UNIFORM};
    r->router = phx_router_create(&moe, 0, b->ranks, b->seed);
    if (r->router == NULL)
        return phx_fail(&r->message, PHX_ERR_NO_MEMORY, "no memory to draw the inputs");
    phx_router_draw(r->router, 0, r->rank, b->hidden, r->t.x, r->t.topk_idx, r->t.topk_weights);
    return 0;
}

void phx_bencher_close(struct phx_bencher *r)
{
    struct phx_bench_tensors *t = &r->t;
    void *const all[] = {t->x,          t->topk_idx,   t->topk_weights, t->recv_x,  t->recv_scales,
                         t->recv_count, t->src_info,   t->range,        t->offsets, t->y,
                         t->out,        t->token_loss, t->active,       t->from,    t->to};
    if (r->group != NULL) {
        phx_handle_free(r->group, r->handle);
        phx_group_close(r->group);
    }
    phx_router_destroy(r->router);
    for (uint32_t i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

// --- operations ---------------------------------------------------------------------------------

static int dispatch(struct phx_bencher *r)
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

static int combine(struct phx_bencher *r)
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

// --- correctness --------------------------------------------------------------------------------

static uint64_t row_at(const struct phx_bencher *r, uint32_t expert, uint64_t in_expert)
{
    if (r->b->layout == PHX_LAYOUT_COMPACT)
        return (uint64_t)r->t.offsets[expert] + in_expert;
    return (uint64_t)expert * r->b->ranks * r->b->tokens + in_expert;
}

static float f32_of(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The row as it travels: quantised if it is, and read back as bf16.
struct wire_row {
    uint8_t payload[2 * PHX_HIDDEN_MAX];
    uint32_t scales[PHX_HIDDEN_MAX / PHX_SCALE_GROUP];
    uint16_t back[PHX_HIDDEN_MAX];
    uint64_t payload_bytes;
    uint32_t words;
};

static void wire_row_make(const struct phx_bench_ep *b, const uint16_t *x, struct wire_row *w)
{
    const struct phx_leaves *leaves = phx_leaves_get();
    uint32_t groups = b->hidden / PHX_SCALE_GROUP;
    memset(w->scales, 0, sizeof w->scales);
    w->payload_bytes = b->dtype == PHX_BF16 ? 2 * (uint64_t)b->hidden : b->hidden;
    w->words = b->dtype == PHX_BF16 ? 0 : groups;
    if (b->dtype == PHX_BF16) {
        memcpy(w->payload, x, w->payload_bytes);
        memcpy(w->back, x, w->payload_bytes);
    } else if (b->scales == PHX_SCALE_F32) {
        leaves->quantise_f32(x, b->hidden, w->payload, (float *)(void *)w->scales);
        leaves->dequantise_f32(w->payload, (const float *)(const void *)w->scales, b->hidden,
                               w->back);
    } else {
        w->words = (groups + 3) / 4;
        leaves->quantise_ue8m0(x, b->hidden, w->payload, (uint8_t *)w->scales);
        leaves->dequantise_ue8m0(w->payload, (const uint8_t *)w->scales, b->hidden, w->back);
    }
}

static uint32_t scale_of(const struct phx_bencher *r, uint32_t expert, uint64_t in_expert,
                         const struct wire_row *w, uint32_t word)
{
    const struct phx_bench_ep *b = r->b;
    uint64_t tall = (uint64_t)b->ranks * b->tokens;
    if (b->layout == PHX_LAYOUT_COMPACT)
        return r->t.recv_scales[word * r->rows_max + row_at(r, expert, in_expert)];
    return r->t.recv_scales[((uint64_t)expert * w->words + word) * tall + in_expert];
}

// Every row that came from `source` must be the source's token, bit for bit; then the experts: each
// gives back what it received.
static bool source_check(struct phx_bencher *r, uint32_t source, const uint16_t *x,
                         struct wire_row *w)
{
    const struct phx_bench_ep *b = r->b;
    for (uint32_t e = 0; e < r->hint.experts_local; e++) {
        int64_t range = r->t.range[(uint64_t)e * b->ranks + source];
        uint64_t begin = (uint64_t)range >> 32;
        for (uint64_t i = begin; i < begin + ((uint64_t)range & 0xFFFFFFFFu); i++) {
            uint64_t row = row_at(r, e, i);
            uint32_t token = (uint32_t)r->t.src_info[row];
            bool is_right = token < b->tokens;
            if (is_right) {
                wire_row_make(b, x + (uint64_t)token * b->hidden, w);
                is_right =
                    memcmp(r->t.recv_x + row * w->payload_bytes, w->payload, w->payload_bytes) == 0;
                for (uint32_t word = 0; word < w->words; word++)
                    is_right &= scale_of(r, e, i, w, word) == w->scales[word];
                memcpy(r->t.y + row * b->hidden, w->back, 2 * (uint64_t)b->hidden);
            }
            if (!is_right)
                return phx_fail(&r->message, PHX_ERR_CORRUPT,
                                "rank %u, local expert %u, row %llu is not token %u of rank %u",
                                r->rank, e, (unsigned long long)i, token, source) == 0;
        }
        r->seat->bytes.entries += (uint64_t)range & 0xFFFFFFFFu;
    }
    return true;
}

bool phx_bench_dispatch_check(struct phx_bencher *r)
{
    const struct phx_bench_ep *b = r->b;
    uint64_t routes = (uint64_t)b->tokens * b->top_k;
    uint16_t *x = malloc((uint64_t)b->tokens * b->hidden * 2 + 1);
    int64_t *idx = malloc(routes * 8 + 1);
    float *weights = malloc(routes * 4 + 1);
    struct wire_row *w = malloc(sizeof *w);
    bool is_ok = x != NULL && idx != NULL && weights != NULL && w != NULL;
    for (uint32_t s = 0; is_ok && s < b->ranks; s++) {
        phx_router_draw(r->router, 0, s, b->hidden, x, idx, weights);
        is_ok = source_check(r, s, x, w);
    }
    free(x);
    free(idx);
    free(weights);
    free(w);
    return is_ok;
}

// Each expert gave back its input, so a token comes back times the sum of its weights: exactly in
// f64, and here within what one rounding to bf16 per rank and one of the sum may cost.
bool phx_bench_combine_check(struct phx_bencher *r)
{
    const struct phx_bench_ep *b = r->b;
    const double bound = 3.0 / 256; // bf16: half a unit in the last place is 2^-9, of either
    struct wire_row *w = malloc(sizeof *w);
    double worst = 0;
    for (uint32_t t = 0; w != NULL && t < b->tokens; t++) {
        double weight = 0;
        for (uint32_t k = 0; k < b->top_k; k++)
            if (r->t.topk_idx[(uint64_t)t * b->top_k + k] >= 0)
                weight += (double)r->t.topk_weights[(uint64_t)t * b->top_k + k];
        wire_row_make(b, r->t.x + (uint64_t)t * b->hidden, w);
        double error = 0;
        double size = 0;
        for (uint32_t c = 0; c < b->hidden; c++) {
            double want = weight * (double)f32_of(w->back[c]);
            double have = (double)f32_of(r->t.out[(uint64_t)t * b->hidden + c]);
            error += (have - want) * (have - want);
            size += want * want;
        }
        double relative = size > 0 ? sqrt(error / size) : sqrt(error);
        if (relative > worst)
            worst = relative;
    }
    bool is_ok = w != NULL && worst <= bound;
    free(w);
    r->seat->sum_error = worst;
    if (!is_ok)
        (void)phx_fail(&r->message, PHX_ERR_CORRUPT,
                       "rank %u: combine is off by %g of a token's size; at most %g is rounding",
                       r->rank, worst, bound);
    return is_ok;
}

void phx_bench_bytes_count(struct phx_bencher *r)
{
    const struct phx_bench_ep *b = r->b;
    struct phx_bench_bytes *n = &r->seat->bytes;
    uint8_t seen[PHX_RANKS_MAX];
    uint32_t held = b->experts / b->ranks;
    uint32_t more = b->experts % b->ranks;
    n->rows = 0;
    n->away_rows = n->away_entries = 0;
    for (uint32_t t = 0; t < b->tokens; t++) {
        memset(seen, 0, b->ranks);
        for (uint32_t k = 0; k < b->top_k; k++) {
            int64_t e = r->t.topk_idx[(uint64_t)t * b->top_k + k];
            if (e < 0)
                continue;
            uint32_t expert = (uint32_t)e;
            uint32_t rank = expert < more * (held + 1) ? expert / (held + 1)
                                                       : more + (expert - more * (held + 1)) / held;
            n->rows += !seen[rank] || b->rows == PHX_ROWS_PER_EXPERT;
            n->away_rows += !seen[rank] && rank != r->rank;
            n->away_entries += rank != r->rank;
            seen[rank] = 1;
        }
    }
    uint64_t wide = 2 * (uint64_t)b->hidden;
    uint64_t row = b->dtype == PHX_BF16 ? wide : b->hidden + 4 * (b->hidden / PHX_SCALE_GROUP);
    n->dispatch = b->tokens * wide + 2 * n->rows * row + n->entries * row;
    n->combine = n->entries * wide + 2 * n->rows * wide + b->tokens * wide;
}

// --- timing -------------------------------------------------------------------------------------

static uint64_t floor_run(struct phx_bencher *r)
{
    uint64_t bytes = (r->seat->bytes.dispatch + r->seat->bytes.combine) / 2; // copied: twice moved
    phx_crew_rank_barrier(r->self);
    uint64_t from_ns = phx_clock_ns();
    memcpy(r->t.to, r->t.from, bytes);
    __asm__ volatile("" : : "r"(r->t.to) : "memory");
    return phx_clock_ns() - from_ns;
}

static int sample_run(struct phx_bencher *r, struct phx_bench_sample *sample)
{
    sample->floor_ns = floor_run(r);
    phx_crew_rank_barrier(r->self);
    uint64_t from_ns = phx_clock_ns();
    int rc = dispatch(r);
    sample->dispatch_ns = phx_clock_ns() - from_ns;
    phx_crew_rank_barrier(r->self);
    from_ns = phx_clock_ns();
    if (rc == 0)
        rc = combine(r);
    sample->combine_ns = phx_clock_ns() - from_ns;
    phx_crew_rank_barrier(r->self);
    from_ns = phx_clock_ns();
    if (rc == 0)
        rc = dispatch(r);
    if (rc == 0)
        rc = combine(r);
    sample->pair_ns = phx_clock_ns() - from_ns;
    return rc;
}

static int bencher_run(struct phx_bencher *r)
{
    bool failed = false;
    int rc = phx_bencher_open(r);
    if (r->cuda != NULL)
        return rc != 0 ? rc : phx_bench_gpu_run(r);
    if (rc == 0)
        rc = dispatch(r);
    if (rc == 0 && !phx_bench_dispatch_check(r))
        rc = PHX_ERR_CORRUPT;
    if (rc == 0)
        rc = combine(r);
    if (rc == 0 && !phx_bench_combine_check(r))
        rc = PHX_ERR_CORRUPT;
    if (rc != 0)
        return rc;
    phx_bench_bytes_count(r);
    uint64_t bytes = (r->seat->bytes.dispatch + r->seat->bytes.combine) / 2;
    r->t.from = take(bytes, 1, &failed);
    r->t.to = take(bytes, 1, &failed);
    if (failed)
        return phx_fail(&r->message, PHX_ERR_NO_MEMORY, "no memory for the floor's copies");
    for (uint32_t i = 0; rc == 0 && i < r->b->warmups; i++)
        rc = sample_run(r, &r->seat->samples[0]);
    for (uint32_t i = 0; rc == 0 && i < r->b->samples; i++)
        rc = sample_run(r, &r->seat->samples[i]);
    for (uint32_t i = 0; rc == 0 && i < r->b->ranks; i++)
        if (r->t.active[i] == 0)
            rc = phx_fail(&r->message, PHX_ERR_PEER_LOST, "rank %u masked rank %u", r->rank, i);
    phx_crew_rank_barrier(r->self); // who leaves counts as lost to those who still wait
    return rc;
}

int phx_bench_ep_main(struct phx_crew_rank *self, void *arena)
{
    struct phx_bench_arena *a = arena;
    struct phx_bencher r;
    memset(&r, 0, sizeof r);
    r.b = &a->bench;
    r.arena = a;
    r.self = self;
    r.rank = phx_crew_rank_number(self);
    r.cuda = phx_crew_rank_cuda(self);
    r.seat = phx_bench_seat_of(a, r.rank);
    r.seat->rc = bencher_run(&r);
    memcpy(&r.seat->message, &r.message, sizeof r.message);
    phx_bencher_close(&r);
    return r.seat->rc == 0 ? 0 : 1;
}
