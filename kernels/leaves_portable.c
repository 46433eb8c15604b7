// kernels/leaves_portable.c: the meaning of every leaf, one scalar at a time.

#include <string.h>

#include "engine/limits.h"
#include "kernels/check.h"
#include "kernels/leaves.h"
#include "kernels/leaves_host.h"
#include "kernels/numerics.h"

static float amax_group(const uint16_t *x)
{
    uint32_t amax = 0;
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++)
        amax = phx_amax_fold(amax, x[c]);
    return phx_amax_finish(amax);
}

static void quantise_group(const uint16_t *x, float inverse, uint8_t *q)
{
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++)
        q[c] = phx_e4m3_from_f32(phx_f32_from_bf16(x[c]) * inverse);
}

static void quantise_f32(const uint16_t *x, uint32_t channels, uint8_t *q, float *scale)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP) {
        float amax = amax_group(x + c);
        scale[c / PHX_SCALE_GROUP] = phx_scale_f32(amax);
        quantise_group(x + c, phx_inverse_f32(amax), q + c);
    }
}

static void quantise_ue8m0(const uint16_t *x, uint32_t channels, uint8_t *q, uint8_t *exponent)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP) {
        uint8_t e = phx_scale_ue8m0(amax_group(x + c));
        exponent[c / PHX_SCALE_GROUP] = e;
        quantise_group(x + c, phx_inverse_ue8m0(e), q + c);
    }
}

static void dequantise_group(const uint8_t *q, float scale, uint16_t *x)
{
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++)
        x[c] = phx_bf16_from_f32(phx_f32_from_e4m3(q[c]) * scale);
}

static void dequantise_f32(const uint8_t *q, const float *scale, uint32_t channels, uint16_t *x)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP)
        dequantise_group(q + c, scale[c / PHX_SCALE_GROUP], x + c);
}

static void dequantise_ue8m0(const uint8_t *q, const uint8_t *exponent, uint32_t channels,
                             uint16_t *x)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP)
        dequantise_group(q + c, phx_f32_from_ue8m0(exponent[c / PHX_SCALE_GROUP]), x + c);
}

static void settle(void)
{
    // copies are ordinary stores
}

static void sum_rows(uint16_t *out, const uint16_t *const *rows, const float *weights,
                     uint32_t count, float scale, uint32_t channels)
{
    for (uint32_t c = 0; c < channels; c++) {
        float sum = 0.0f;
        for (uint32_t i = 0; i < count; i++)
            sum = phx_fma(weights[i], phx_f32_from_bf16(rows[i][c]), sum);
        out[c] = phx_bf16_from_f32(sum * scale);
    }
}

static uint64_t check_sum(const void *row, uint64_t size_bytes)
{
    const uint8_t *bytes = row;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < size_bytes / 8; i++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * i, sizeof word);
        sum += phx_check_mix(word, i + 1);
    }
    return sum;
}

const struct phx_leaves phx_leaves_portable = {
    .name = "portable",
    .quantise_f32 = quantise_f32,
    .quantise_ue8m0 = quantise_ue8m0,
    .dequantise_f32 = dequantise_f32,
    .dequantise_ue8m0 = dequantise_ue8m0,
    .copy = phx_host_copy,
    .stream = phx_host_copy,
    .settle = settle,
    .zero = phx_host_zero,
    .sum_rows = sum_rows,
    .check_sum = check_sum,
    .scatter_u32 = phx_host_scatter_u32,
};
