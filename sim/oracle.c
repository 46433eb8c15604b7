// sim/oracle.c: the contract of dispatch, written out row by row.

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/oracle_internal.h"

#define GROUP PHX_SCALE_GROUP

// --- rows on the wire ---------------------------------------------------------------------------

struct wire_row { // as it leaves the source: payload, then scale words
    uint8_t *payload;
    uint32_t *scales;
};

static struct wire_row wire_row_at(const struct phx_shape *shape,
                                   const struct phx_oracle_wire *wire, uint32_t source,
                                   uint32_t token)
{
    uint64_t row = (uint64_t)source * shape->tokens_max + token;
    struct wire_row at;
    at.payload = wire->payload + row * phx_payload_bytes(shape, shape->channels);
    at.scales = wire->scales + row * phx_scale_words(shape, shape->channels);
    return at;
}

static inline float amax_of_group(const uint16_t *restrict x)
{
    uint32_t largest = 0; // magnitudes have the order of their codes
    for (uint32_t c = 0; c < GROUP; c++) {
        uint32_t size = x[c] & 0x7FFFu;
        size &= 0u - (size <= 0x7F80u); // NaN counts as nothing
        largest = size > largest ? size : largest;
    }
    float amax = phx__oracle_bf16_value((uint16_t)largest);
    return amax > 1e-4f ? amax : 1e-4f;
}

static inline void quantise_group(const uint16_t *restrict x, float inverse,
                                  uint8_t *restrict payload)
{
    for (uint32_t c = 0; c < GROUP; c++)
        payload[c] = phx__oracle_e4m3_nearest(phx__oracle_bf16_value(x[c]) * inverse);
}

static inline void quantise_groups(const struct phx_shape *shape, const uint16_t *x,
                                   struct wire_row *row)
{
    for (uint32_t g = 0; g < shape->channels / GROUP; g++) {
        float amax = amax_of_group(x + g * GROUP);
        float scale = amax * (1.0f / 448.0f);
        float inverse = 448.0f / amax;
        if (shape->scale_format == PHX_SCALE_UE8M0) {
            uint32_t byte = phx__oracle_power_above(scale, &inverse);
            row->scales[g / 4] |= byte << (g % 4 * 8);
        } else {
            memcpy(&row->scales[g], &scale, sizeof(scale));
        }
        quantise_group(x + (uint64_t)g * GROUP, inverse, row->payload + (uint64_t)g * GROUP);
    }
}

static inline void dequantise_group(const uint8_t *restrict payload, float scale,
                                    uint16_t *restrict x)
{
    for (uint32_t c = 0; c < GROUP; c++)
        x[c] = phx__oracle_bf16_nearest(phx__oracle_e4m3_value(payload[c]) * scale);
}

// Both again for processors with wider vectors.
static void row_quantise_plain(const struct phx_shape *shape, const uint16_t *x,
                               struct wire_row *row)
{
    quantise_groups(shape, x, row);
}
static void dequantise_plain(const uint8_t *payload, float scale, uint16_t *x)
{
    dequantise_group(payload, scale, x);
}
#if defined(__x86_64__)
__attribute__((target("avx2"), flatten)) static void
row_quantise_avx2(const struct phx_shape *shape, const uint16_t *x, struct wire_row *row)
{
    quantise_groups(shape, x, row);
}
__attribute__((target("avx2"), flatten)) static void dequantise_avx2(const uint8_t *payload,
                                                                     float scale, uint16_t *x)
{
    dequantise_group(payload, scale, x);
}
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}
#else
#define row_quantise_avx2 row_quantise_plain
#define dequantise_avx2 dequantise_plain
static bool has_avx2(void)
{
    return false;
}
#endif

static void row_quantise(const struct phx_shape *shape, const uint16_t *x, struct wire_row *row)
{
    (has_avx2() ? row_quantise_avx2 : row_quantise_plain)(shape, x, row);
}

static void row_build(const struct phx_shape *shape, const uint16_t *x, bool present,
                      struct wire_row *row)
{
    uint64_t payload_bytes = phx_payload_bytes(shape, shape->channels);
    memset(row->payload, 0, payload_bytes);
    for (uint32_t w = 0; w < phx_scale_words(shape, shape->channels); w++)
        row->scales[w] = 0;
    if (!present)
        return;
    if (shape->dtype == PHX_FP8_E4M3)
        row_quantise(shape, x, row);
    else
        memcpy(row->payload, x, payload_bytes);
}

void phx_oracle_wire_fill(const struct phx_oracle_input *input, uint32_t source,
                          struct phx_oracle_wire *wire)
{
    const struct phx_shape *shape = input->shape;
    for (uint32_t t = 0; t < input->sources[source].tokens; t++) {
        struct wire_row row = wire_row_at(shape, wire, source, t);
        row_build(shape, input->sources[source].x + (uint64_t)t * shape->channels, true, &row);
    }
}

void phx_oracle_wire_read(const struct phx_shape *shape, const struct phx_oracle_wire *wire,
                          uint32_t source, uint32_t token, uint16_t *x)
{
    struct wire_row row = wire_row_at(shape, wire, source, token);
    if (shape->dtype == PHX_BF16) {
        memcpy(x, row.payload, phx_payload_bytes(shape, shape->channels));
        return;
    }
    for (uint32_t g = 0; g < shape->channels / GROUP; g++) {
        float scale;
        if (shape->scale_format == PHX_SCALE_UE8M0) { // four groups to a word
            int exponent = (int)(row.scales[g / 4] >> (g % 4 * 8) & 0xFF);
            scale = exponent == 255 ? NAN : ldexpf(1.0f, exponent - 127);
        } else {
            memcpy(&scale, &row.scales[g], sizeof(scale));
        }
        (has_avx2() ? dequantise_avx2 : dequantise_plain)(row.payload + (uint64_t)g * GROUP, scale,
                                                          x + (uint64_t)g * GROUP);
    }
}

// --- checks of what the caller gave -------------------------------------------------------------

static int source_check(const struct phx_oracle_input *in, uint32_t s, struct phx_message *m)
{
    const struct phx_shape *shape = in->shape;
    const struct phx_oracle_source *source = &in->sources[s];
    if (source->tokens > shape->tokens_max)
        return phx_fail(m, PHX_ERR_INVALID, "tokens of rank %u is %u; at most tokens_max, %u", s,
                        source->tokens, shape->tokens_max);
    uint64_t entries = (uint64_t)source->tokens * shape->top_k;
    uint64_t bad = 0;
    for (uint64_t i = 0; i < entries; i++) // all at once: hardly ever is one bad
        bad |= (uint64_t)source->topk_idx[i] + 1 > shape->experts;
    for (uint64_t i = 0; bad != 0 && i < entries; i++) {
        int64_t expert = source->topk_idx[i];
        if (expert < -1 || expert >= (int64_t)shape->experts)
            return phx_fail(m, PHX_ERR_INVALID,
                            "topk_idx of rank %u, token %" PRIu64 ", is %" PRId64
                            "; it may be -1 to %" PRId64,
                            s, i / shape->top_k, expert, (int64_t)shape->experts - 1);
    }
    return 0;
}

int phx__oracle_input_check(const struct phx_oracle_input *in, uint32_t rank, struct phx_message *m)
{
    const struct phx_shape *shape = in->shape;
    if (rank >= shape->ranks)
        return phx_fail(m, PHX_ERR_INVALID, "rank is %u; below ranks, %u", rank, shape->ranks);
    if (in->is_checked)
        return 0;
    if (shape->top_k == 0 || shape->top_k > PHX_TOP_K_MAX)
        return phx_fail(m, PHX_ERR_INVALID, "top_k is %u; 1 to %u", shape->top_k, PHX_TOP_K_MAX);
    if (shape->channels == 0 || shape->channels % GROUP != 0)
        return phx_fail(m, PHX_ERR_INVALID, "channels is %u; a multiple of %u", shape->channels,
                        GROUP);
    for (uint32_t e = 0; e < shape->experts; e++) {
        if (in->expert_rank[e] >= shape->ranks)
            return phx_fail(m, PHX_ERR_INVALID, "expert_rank[%u] is %u; below ranks, %u", e,
                            in->expert_rank[e], shape->ranks);
        if (in->expert_local[e] >= shape->experts_local_max)
            return phx_fail(m, PHX_ERR_INVALID,
                            "expert_local[%u] is %u; below experts_local_max, %u", e,
                            in->expert_local[e], shape->experts_local_max);
    }
    for (uint32_t s = 0; s < shape->ranks; s++) {
        int error = source_check(in, s, m);
        if (error != 0)
            return error;
    }
    return 0;
}

// --- dispatch -----------------------------------------------------------------------------------

uint64_t phx__oracle_block_rows(const struct phx_shape *shape)
{
    return (uint64_t)shape->ranks * shape->tokens_max;
}

uint64_t phx_oracle_rows(const struct phx_shape *shape, uint64_t capacity_rows)
{
    return shape->layout == PHX_LAYOUT_COMPACT
               ? capacity_rows
               : shape->experts_local_max * phx__oracle_block_rows(shape);
}

uint64_t phx_oracle_scale_words(const struct phx_shape *shape, uint64_t capacity_rows)
{
    return phx_oracle_rows(shape, capacity_rows) * phx_scale_words(shape, shape->channels);
}

uint64_t phx_oracle_scale_at(const struct phx_shape *shape, uint64_t capacity_rows, uint64_t row,
                             uint32_t word)
{
    if (shape->layout == PHX_LAYOUT_COMPACT)
        return word * capacity_rows + row;
    uint64_t block = phx__oracle_block_rows(shape);
    uint64_t words = phx_scale_words(shape, shape->channels);
    return row / block * words * block + word * block + row % block;
}

// Rows that source s has for each local expert of `rank`, added to counts[expert_local].
static void count_rows(const struct phx_oracle_input *in, uint32_t s, uint32_t rank,
                       int64_t *counts)
{
    const struct phx_oracle_source *source = &in->sources[s];
    for (uint64_t i = 0; i < (uint64_t)source->tokens * in->shape->top_k; i++) {
        int64_t expert = source->topk_idx[i];
        if (expert >= 0 && in->expert_rank[expert] == rank)
            counts[in->expert_local[expert]]++;
    }
}

// Fills recv_count, layout_range and offsets; firsts[e] is expert e's first row in the output.
static int layout_fill(const struct phx_oracle_input *in, uint32_t rank, const uint8_t *counted,
                       struct phx_oracle_output *out, int64_t *firsts, struct phx_message *m)
{
    const struct phx_shape *shape = in->shape;
    bool compact = shape->layout == PHX_LAYOUT_COMPACT;
    uint32_t experts = shape->experts_local_max;
    int64_t *totals = calloc(2 * (size_t)experts, sizeof(*totals));
    if (totals == NULL)
        return phx_fail(m, PHX_ERR_NO_MEMORY, "no memory for the counts of %u experts", experts);
    int64_t *counts = totals + experts; // of one source
    for (uint32_t s = 0; s < shape->ranks; s++) {
        memset(counts, 0, experts * sizeof(*counts));
        if (counted[s])
            count_rows(in, s, rank, counts);
        for (uint32_t e = 0; e < experts; e++) {
            out->layout_range[(uint64_t)e * shape->ranks + s] = totals[e] << 32 | counts[e];
            totals[e] += counts[e];
        }
    }
    int64_t next = 0;
    int error = 0;
    for (uint32_t e = 0; e < experts; e++) {
        firsts[e] = compact ? next : (int64_t)(e * phx__oracle_block_rows(shape));
        out->recv_count[e] = (int32_t)totals[e];
        if (compact)
            out->offsets[e] = next;
        next += totals[e];
        if (!compact && totals[e] > (int64_t)phx__oracle_block_rows(shape) && error == 0)
            error =
                phx_fail(m, PHX_ERR_CAPACITY, "local expert %u has %" PRId64 " rows of %" PRIu64, e,
                         totals[e], phx__oracle_block_rows(shape));
    }
    if (compact) {
        out->offsets[experts] = next;
        if ((uint64_t)next > out->capacity_rows)
            error = phx_fail(m, PHX_ERR_CAPACITY, "%" PRId64 " rows for capacity_rows %" PRIu64,
                             next, out->capacity_rows);
    }
    free(totals);
    return error;
}

static void row_place(const struct phx_shape *shape, const struct wire_row *row, uint32_t token,
                      uint64_t at, struct phx_oracle_output *out)
{
    uint64_t payload_bytes = phx_payload_bytes(shape, shape->channels);
    out->src_info[at] = (int32_t)token;
    memcpy(out->payload + at * payload_bytes, row->payload, payload_bytes);
    for (uint32_t w = 0; w < phx_scale_words(shape, shape->channels); w++)
        out->scales[phx_oracle_scale_at(shape, out->capacity_rows, at, w)] = row->scales[w];
}

// A row as `rank` has it: made into *scratch, or found in `wire`; zeros if it never came.
static struct wire_row row_of(const struct phx_oracle_input *in, const struct phx_oracle_wire *wire,
                              uint32_t source, uint32_t token, bool present,
                              struct wire_row *scratch)
{
    const struct phx_shape *shape = in->shape;
    if (present && wire != NULL)
        return wire_row_at(shape, wire, source, token);
    row_build(shape, in->sources[source].x + (uint64_t)token * shape->channels, present, scratch);
    return *scratch;
}

// cursors[e] is the next free row of local expert e.
static void rows_fill(const struct phx_oracle_input *in, const struct phx_oracle_wire *wire,
                      uint32_t rank, const struct phx_oracle_masks *masks, struct wire_row *scratch,
                      int64_t *cursors, struct phx_oracle_output *out)
{
    const struct phx_shape *shape = in->shape;
    for (uint32_t s = 0; s < shape->ranks; s++) {
        const struct phx_oracle_source *source = &in->sources[s];
        for (uint32_t t = 0; masks->counted[s] && t < source->tokens; t++) {
            struct wire_row row;
            bool built = false;
            for (uint32_t k = 0; k < shape->top_k; k++) {
                int64_t expert = source->topk_idx[(uint64_t)t * shape->top_k + k];
                if (expert < 0 || in->expert_rank[expert] != rank)
                    continue;
                if (!built)
                    row = row_of(in, wire, s, t, masks->rows_present[s] != 0, scratch);
                built = true;
                row_place(shape, &row, t, (uint64_t)cursors[in->expert_local[expert]]++, out);
            }
        }
    }
}

int phx_oracle_dispatch_wired(const struct phx_oracle_input *input,
                              const struct phx_oracle_wire *wire, uint32_t rank,
                              const struct phx_oracle_masks *masks, struct phx_oracle_output *out,
                              struct phx_message *message)
{
    const struct phx_shape *shape = input->shape;
    int error = phx__oracle_input_check(input, rank, message);
    if (error != 0)
        return error;
    int64_t *firsts = calloc(shape->experts_local_max, sizeof(*firsts));
    struct wire_row row;
    row.payload = malloc(phx_payload_bytes(shape, shape->channels));
    row.scales = calloc(shape->channels / GROUP, sizeof(*row.scales));
    if (firsts == NULL || row.payload == NULL || row.scales == NULL)
        error = phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a row of %u channels",
                         shape->channels);
    if (error == 0)
        error = layout_fill(input, rank, masks->counted, out, firsts, message);
    if (error == 0)
        rows_fill(input, wire, rank, masks, &row, firsts, out);
    free(row.scales);
    free(row.payload);
    free(firsts);
    return error;
}

int phx_oracle_dispatch(const struct phx_oracle_input *input, uint32_t rank,
                        const struct phx_oracle_masks *masks, struct phx_oracle_output *out,
                        struct phx_message *message)
{
    return phx_oracle_dispatch_wired(input, NULL, rank, masks, out, message);
}

// --- comparing ----------------------------------------------------------------------------------

static int layout_compare(const struct phx_shape *shape, const struct phx_oracle_output *expected,
                          const struct phx_oracle_output *actual, struct phx_message *m)
{
    for (uint32_t e = 0; e < shape->experts_local_max; e++) {
        if (actual->recv_count[e] != expected->recv_count[e])
            return phx_fail(m, PHX_ERR_CORRUPT, "recv_count[%u] is %d, expected %d", e,
                            actual->recv_count[e], expected->recv_count[e]);
        for (uint32_t s = 0; s < shape->ranks; s++) {
            uint64_t at = (uint64_t)e * shape->ranks + s;
            if (actual->layout_range[at] != expected->layout_range[at])
                return phx_fail(m, PHX_ERR_CORRUPT,
                                "layout_range[%u][%u] is 0x%" PRIx64 ", expected 0x%" PRIx64, e, s,
                                (uint64_t)actual->layout_range[at],
                                (uint64_t)expected->layout_range[at]);
        }
    }
    for (uint32_t e = 0; shape->layout == PHX_LAYOUT_COMPACT && e <= shape->experts_local_max; e++)
        if (actual->offsets[e] != expected->offsets[e])
            return phx_fail(m, PHX_ERR_CORRUPT, "offsets[%u] is %" PRId64 ", expected %" PRId64, e,
                            actual->offsets[e], expected->offsets[e]);
    return 0;
}

static int row_compare(const struct phx_shape *shape, const struct phx_oracle_output *expected,
                       const struct phx_oracle_output *actual, uint32_t expert, uint64_t row,
                       struct phx_message *m)
{
    if (actual->src_info[row] != expected->src_info[row])
        return phx_fail(m, PHX_ERR_CORRUPT,
                        "src_info of local expert %u, row %" PRIu64 ", is %d, expected %d", expert,
                        row, actual->src_info[row], expected->src_info[row]);
    uint64_t bytes = phx_payload_bytes(shape, shape->channels);
    const uint8_t *a = actual->payload + row * bytes;
    const uint8_t *b = expected->payload + row * bytes;
    uint64_t at = 0;
    if (memcmp(a, b, bytes) != 0) {
        while (a[at] == b[at])
            at++;
        return phx_fail(m, PHX_ERR_CORRUPT,
                        "payload of local expert %u, row %" PRIu64 ", token %d: byte %" PRIu64
                        " is 0x%02x, expected 0x%02x",
                        expert, row, expected->src_info[row], at, a[at], b[at]);
    }
    for (uint32_t w = 0; w < phx_scale_words(shape, shape->channels); w++) {
        uint32_t is = actual->scales[phx_oracle_scale_at(shape, actual->capacity_rows, row, w)];
        uint32_t want =
            expected->scales[phx_oracle_scale_at(shape, expected->capacity_rows, row, w)];
        if (is != want)
            return phx_fail(m, PHX_ERR_CORRUPT,
                            "scale word %u of local expert %u, row %" PRIu64
                            ", token %d, is 0x%08x, expected 0x%08x",
                            w, expert, row, expected->src_info[row], is, want);
    }
    return 0;
}

int phx_oracle_dispatch_compare(const struct phx_shape *shape,
                                const struct phx_oracle_output *expected,
                                const struct phx_oracle_output *actual, struct phx_message *message)
{
    int error = layout_compare(shape, expected, actual, message);
    for (uint32_t e = 0; e < shape->experts_local_max; e++) {
        uint64_t first = shape->layout == PHX_LAYOUT_COMPACT ? (uint64_t)expected->offsets[e]
                                                             : e * phx__oracle_block_rows(shape);
        for (int32_t i = 0; error == 0 && i < expected->recv_count[e]; i++)
            error = row_compare(shape, expected, actual, e, first + (uint64_t)i, message);
    }
    return error;
}
