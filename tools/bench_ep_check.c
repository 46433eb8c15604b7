// tools/bench_ep_check.c: whether what dispatch and combine gave a rank is right.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/leaves.h"
#include "tools/bench_ep_internal.h"

static uint64_t row_at(const struct phx_bench_rank *r, uint32_t expert, uint64_t in_expert)
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

static void wire_row_make(const struct phx_bench_rank *r, const uint16_t *x, struct wire_row *w)
{
    const struct phx_bench_ep *b = r->b;
    uint32_t channels = r->channels;
    const struct phx_leaves *leaves = phx_leaves_get();
    uint32_t groups = channels / PHX_SCALE_GROUP;
    memset(w->scales, 0, sizeof w->scales);
    w->payload_bytes = b->dtype == PHX_BF16 ? 2 * (uint64_t)channels : channels;
    w->words = b->dtype == PHX_BF16 ? 0 : groups;
    if (b->dtype == PHX_BF16) {
        memcpy(w->payload, x, w->payload_bytes);
        memcpy(w->back, x, w->payload_bytes);
    } else if (b->scales == PHX_SCALE_F32) {
        leaves->quantise_f32(x, channels, w->payload, (float *)(void *)w->scales);
        leaves->dequantise_f32(w->payload, (const float *)(const void *)w->scales, channels,
                               w->back);
    } else {
        w->words = (groups + 3) / 4;
        leaves->quantise_ue8m0(x, channels, w->payload, (uint8_t *)w->scales);
        leaves->dequantise_ue8m0(w->payload, (const uint8_t *)w->scales, channels, w->back);
    }
}

static uint32_t scale_of(const struct phx_bench_rank *r, uint32_t expert, uint64_t in_expert,
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
static bool source_check(struct phx_bench_rank *r, uint32_t source, const uint16_t *x,
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
                wire_row_make(r, x + (uint64_t)token * r->channels, w);
                is_right =
                    memcmp(r->t.recv_x + row * w->payload_bytes, w->payload, w->payload_bytes) == 0;
                for (uint32_t word = 0; word < w->words; word++)
                    is_right &= scale_of(r, e, i, w, word) == w->scales[word];
                memcpy(r->t.y + row * r->channels, w->back, 2 * (uint64_t)r->channels);
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

bool phx_bench_dispatch_check(struct phx_bench_rank *r)
{
    const struct phx_bench_ep *b = r->b;
    uint64_t routes = (uint64_t)b->tokens * b->top_k;
    r->seat->bytes.entries = 0;
    uint16_t *x = malloc((uint64_t)b->tokens * r->channels * 2 + 1);
    int64_t *idx = malloc(routes * 8 + 1);
    float *weights = malloc(routes * 4 + 1);
    struct wire_row *w = malloc(sizeof *w);
    bool is_ok = x != NULL && idx != NULL && weights != NULL && w != NULL;
    for (uint32_t s = 0; is_ok && s < b->ranks; s++) {
        phx_router_draw(r->router, 0, s, r->channels, x, idx, weights);
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
bool phx_bench_combine_check(struct phx_bench_rank *r)
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
        wire_row_make(r, r->t.x + (uint64_t)t * r->channels, w);
        double error = 0;
        double size = 0;
        for (uint32_t c = 0; c < r->channels; c++) {
            double want = weight * (double)f32_of(w->back[c]);
            double have = (double)f32_of(r->t.out[(uint64_t)t * r->channels + c]);
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
