// sim/oracle_combine.c: the contract of combine, written out token by token, and its error.

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/oracle_internal.h"

struct plan {
    uint64_t *rows;  // [tokens, top_k] where the entry's row lies on its expert's rank
    int64_t *firsts; // [experts] first row of the source in question, then a cursor
    uint8_t *kept;   // [ranks] 1: its sums count
};

static bool is_counted(const struct phx_oracle_combine *c, uint32_t rank, uint32_t source)
{
    return c->counted == NULL || c->counted[rank] == NULL || c->counted[rank][source] != 0;
}

// firsts[e]: rows that rank-mates of lower local index, and lower sources of e itself, put before.
static int firsts_fill(const struct phx_oracle_input *in, const struct phx_oracle_combine *c,
                       int64_t *firsts)
{
    const struct phx_shape *shape = in->shape;
    int64_t *totals = calloc(shape->experts, sizeof(*totals));
    int64_t *order = calloc((size_t)shape->ranks * shape->experts_local_max, sizeof(*order));
    uint8_t *counted = calloc(shape->ranks, 1); // by which ranks the source in question is
    bool ok = totals != NULL && order != NULL && counted != NULL;
    for (uint32_t s = 0; ok && s < shape->ranks; s++) {
        const struct phx_oracle_source *source = &in->sources[s];
        for (uint32_t d = 0; d < shape->ranks; d++)
            counted[d] = is_counted(c, d, s);
        for (uint64_t i = 0; i < (uint64_t)source->tokens * shape->top_k; i++) {
            int64_t e = source->topk_idx[i];
            if (e < 0)
                continue;
            totals[e] += counted[in->expert_rank[e]];
            firsts[e] += s < c->rank ? counted[in->expert_rank[e]] : 0;
        }
    }
    for (uint32_t e = 0; ok && e < shape->experts; e++) // expert + 1, so that 0 is none
        order[(uint64_t)in->expert_rank[e] * shape->experts_local_max + in->expert_local[e]] =
            e + 1;
    for (uint32_t r = 0; ok && r < shape->ranks; r++) {
        int64_t block = 0;
        for (uint32_t l = 0; l < shape->experts_local_max; l++) {
            int64_t e = order[(uint64_t)r * shape->experts_local_max + l] - 1;
            if (e < 0)
                continue;
            bool compact = shape->layout == PHX_LAYOUT_COMPACT;
            firsts[e] += compact ? block : (int64_t)(l * phx__oracle_block_rows(shape));
            block += totals[e];
        }
    }
    free(counted);
    free(order);
    free(totals);
    return ok ? 0 : PHX_ERR_NO_MEMORY;
}

static void plan_close(struct plan *plan)
{
    free(plan->kept);
    free(plan->firsts);
    free(plan->rows);
}

static int plan_open(const struct phx_oracle_input *in, const struct phx_oracle_combine *c,
                     struct plan *plan, struct phx_message *m)
{
    int error = phx__oracle_input_check(in, c->rank, m);
    if (error != 0)
        return error;
    const struct phx_shape *shape = in->shape;
    const struct phx_oracle_source *source = &in->sources[c->rank];
    uint64_t entries = (uint64_t)source->tokens * shape->top_k;
    plan->rows = calloc(entries + 1, sizeof(*plan->rows));
    plan->firsts = calloc(shape->experts, sizeof(*plan->firsts));
    plan->kept = calloc(shape->ranks, 1);
    if (plan->rows == NULL || plan->firsts == NULL || plan->kept == NULL ||
        firsts_fill(in, c, plan->firsts) != 0) {
        plan_close(plan);
        return phx_fail(m, PHX_ERR_NO_MEMORY, "no memory for %" PRIu64 " routed rows", entries);
    }
    for (uint32_t d = 0; d < shape->ranks; d++)
        plan->kept[d] = c->answered[d] != 0 && is_counted(c, d, c->rank);
    for (uint64_t i = 0; i < entries; i++)
        if (source->topk_idx[i] >= 0)
            plan->rows[i] = (uint64_t)plan->firsts[source->topk_idx[i]]++;
    return 0;
}

struct term { // one (token, k) of the source in question
    uint32_t rank;
    float weight;          // as given to combine
    float dispatch_weight; // as given to dispatch
    const uint16_t *y;     // NULL: that rank's sums do not count
};

// False for an empty entry.
static bool term_at(const struct phx_oracle_input *in, const struct phx_oracle_combine *c,
                    const struct plan *plan, uint64_t entry, struct term *term)
{
    const struct phx_oracle_source *source = &in->sources[c->rank];
    int64_t e = source->topk_idx[entry];
    if (e < 0)
        return false;
    term->rank = in->expert_rank[e];
    term->dispatch_weight = source->topk_weights != NULL ? source->topk_weights[entry] : 1.0f;
    term->weight = c->topk_weights != NULL ? c->topk_weights[entry] : term->dispatch_weight;
    term->y = NULL;
    if (plan->kept[term->rank]) {
        term->y = c->expert_row(c->context, term->rank, plan->rows[entry]);
        assert(term->y != NULL);
    }
    return true;
}

struct token { // the entries of one token, empty ones left out, in order of k
    struct term terms[PHX_TOP_K_MAX];
    uint32_t count;
    uint32_t ranks[PHX_TOP_K_MAX]; // that answered with something, ascending, each once
    uint32_t rank_count;
    float loss;
    float scale;
};

static void token_add_rank(struct token *token, uint32_t rank)
{
    uint32_t at = token->rank_count;
    while (at > 0 && token->ranks[at - 1] > rank)
        at--;
    if (at > 0 && token->ranks[at - 1] == rank)
        return;
    for (uint32_t i = token->rank_count; i > at; i--)
        token->ranks[i] = token->ranks[i - 1];
    token->ranks[at] = rank;
    token->rank_count++;
}

static void token_read(const struct phx_oracle_input *in, const struct phx_oracle_combine *c,
                       const struct plan *plan, uint32_t t, struct token *token)
{
    float total = 0.0f;
    float kept = 0.0f;
    token->count = 0;
    token->rank_count = 0;
    token->loss = 0.0f;
    for (uint32_t k = 0; k < in->shape->top_k; k++) {
        struct term *term = &token->terms[token->count];
        if (!term_at(in, c, plan, (uint64_t)t * in->shape->top_k + k, term))
            continue;
        token->count++;
        total += term->weight;
        if (term->y == NULL) {
            token->loss += term->weight;
            continue;
        }
        kept += term->weight;
        token_add_rank(token, term->rank);
    }
    bool scaled = c->renormalise && token->loss != 0.0f && kept > 0.0f;
    token->scale = scaled ? total / kept : 1.0f;
}

// Sums run over one scale group of channels at a time: arrays where the contract has scalars, the
// same steps in the same order for each channel.
#define GROUP PHX_SCALE_GROUP

static inline void group_fuse(float *sum, float weight, const uint16_t *y)
{
    for (uint32_t c = 0; c < GROUP; c++)
        sum[c] = fmaf(weight, phx__oracle_bf16_value(y[c]), sum[c]);
}

static inline void group_sum_once(const struct token *token, uint32_t first, float *sum)
{
    for (uint32_t r = 0; r < token->rank_count; r++) {
        float partial[GROUP] = {0.0f};
        for (uint32_t i = 0; i < token->count; i++)
            if (token->terms[i].rank == token->ranks[r])
                group_fuse(partial, token->terms[i].dispatch_weight, token->terms[i].y + first);
        for (uint32_t c = 0; c < GROUP; c++) // fma(1, p, sum) is one rounded addition
            sum[c] += phx__oracle_bf16_value(phx__oracle_bf16_nearest(partial[c]));
    }
}

static inline void group_sum(const struct token *token, enum phx_rows_form form, uint32_t first,
                             uint16_t *out)
{
    float sum[GROUP] = {0.0f};
    if (form == PHX_ROWS_ONCE) {
        group_sum_once(token, first, sum);
    } else {
        for (uint32_t i = 0; i < token->count; i++)
            if (token->terms[i].y != NULL)
                group_fuse(sum, token->terms[i].weight, token->terms[i].y + first);
    }
    for (uint32_t c = 0; c < GROUP; c++)
        out[c] = phx__oracle_bf16_nearest(sum[c] * token->scale);
}

static void token_sum(const struct token *token, enum phx_rows_form form, uint32_t channels,
                      uint16_t *out)
{
    for (uint32_t first = 0; first < channels; first += GROUP)
        group_sum(token, form, first, out + first);
}

// The same with the processor's fused multiply-add in place of the C library's, which is a call for
// each channel.
#if defined(__x86_64__)
__attribute__((target("avx2,fma"), flatten)) static void
token_sum_fma(const struct token *token, enum phx_rows_form form, uint32_t channels, uint16_t *out)
{
    for (uint32_t first = 0; first < channels; first += GROUP)
        group_sum(token, form, first, out + first);
}
#endif

int phx_oracle_combine(const struct phx_oracle_input *input,
                       const struct phx_oracle_combine *combine, struct phx_message *message)
{
    struct plan plan;
    int error = plan_open(input, combine, &plan, message);
    if (error != 0)
        return error;
    void (*sum)(const struct token *, enum phx_rows_form, uint32_t, uint16_t *) = token_sum;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        sum = token_sum_fma;
#endif
    uint32_t channels = input->shape->channels;
    for (uint32_t t = 0; t < input->sources[combine->rank].tokens; t++) {
        struct token token;
        token_read(input, combine, &plan, t, &token);
        combine->token_loss[t] = token.loss;
        sum(&token, combine->form, channels, combine->out + (uint64_t)t * channels);
    }
    plan_close(&plan);
    return 0;
}

// --- error against f64 --------------------------------------------------------------------------

static double token_sum_f64(const struct token *token, enum phx_rows_form form, bool renormalise,
                            uint32_t channel)
{
    double sum = 0.0;
    double total = 0.0;
    double kept = 0.0;
    for (uint32_t i = 0; i < token->count; i++) {
        const struct term *term = &token->terms[i];
        total += (double)term->weight;
        if (term->y == NULL)
            continue;
        kept += (double)term->weight;
        float weight = form == PHX_ROWS_ONCE ? term->dispatch_weight : term->weight;
        sum += (double)weight * (double)phx__oracle_bf16_value(term->y[channel]);
    }
    bool scaled = renormalise && token->loss != 0.0f && kept > 0.0;
    return scaled ? sum * (total / kept) : sum;
}

int phx_oracle_combine_error(const struct phx_oracle_input *input,
                             const struct phx_oracle_combine *combine, const uint16_t *out,
                             struct phx_oracle_error *error, struct phx_message *message)
{
    struct plan plan;
    int code = plan_open(input, combine, &plan, message);
    if (code != 0)
        return code;
    uint32_t channels = input->shape->channels;
    double squares = 0.0;
    double errors = 0.0;
    struct phx_oracle_error found = {0.0, 0.0, 0};
    for (uint32_t t = 0; t < input->sources[combine->rank].tokens; t++) {
        struct token token;
        token_read(input, combine, &plan, t, &token);
        for (uint32_t c = 0; c < channels; c++) {
            double exact = token_sum_f64(&token, combine->form, combine->renormalise, c);
            double got = (double)phx__oracle_bf16_value(out[(uint64_t)t * channels + c]);
            if (!isfinite(exact) || !isfinite(got)) {
                found.skipped++;
                continue;
            }
            found.abs_max = fmax(found.abs_max, fabs(got - exact));
            errors += (got - exact) * (got - exact);
            squares += exact * exact;
        }
    }
    found.relative_l2 = errors == 0.0 ? 0.0 : sqrt(errors / squares); // infinite if all were zero
    *error = found;
    plan_close(&plan);
    return 0;
}
