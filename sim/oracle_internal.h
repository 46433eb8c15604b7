// sim/oracle_internal.h: what the parts of the oracle share. Nothing else includes this.

#ifndef PHX_SIM_ORACLE_INTERNAL_H
#define PHX_SIM_ORACLE_INTERNAL_H

#include <math.h>
#include <string.h>

#include "sim/oracle.h"

// --- oracle_numbers.c: conversions by value, sharing nothing with kernels/numerics.h ------------

static inline float phx__oracle_bf16_value(uint16_t code)
{
    uint32_t bits = (uint32_t)code << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// Without branches, so that a compiler makes vectors of it. Both distances are exact in f32. Above
// the largest finite code lies 2^128, which f32 has not: its half way is spelt out. An infinity's
// distances are not numbers, and it stays.
static inline uint16_t phx__oracle_bf16_nearest(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t below = bits >> 16 & 0x7FFFu;
    uint32_t above = below + 1;
    float size = fabsf(x);
    float to_below = size - phx__oracle_bf16_value((uint16_t)below);
    float to_above = phx__oracle_bf16_value((uint16_t)above) - size;
    uint32_t up = (to_above < to_below) | ((to_above == to_below) & below) |
                  ((above == 0x7F80) & (size >= 0x1.FFp127f));
    return (uint16_t)(x != x ? 0x7FFF : (sign | (below + (up & 1))));
}

// e4m3 magnitudes are multiples of a step: an eighth of the power of two below, 2^-9 at the least.
// So a code is a count of steps, and the nearest one is a rounded quotient, exact in f32.
// Magnitudes are compared as integers, without branches, as above.
static inline uint8_t phx__oracle_e4m3_nearest(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    uint32_t sign = bits >> 24 & 0x80u;
    bits &= 0x7FFFFFFFu;
    uint32_t nan = 0u - (bits > 0x7F800000u);       // all ones for one
    bits = bits < 0x43E00000u ? bits : 0x43E00000u; // 448
    float size;
    memcpy(&size, &bits, sizeof(size));
    uint32_t exponent = bits >> 23;
    exponent = exponent < 121 ? 121 : exponent; // 2^-6, the least normal power
    uint32_t per_step_bits = (257 - exponent) << 23;
    float per_step; // 8 / the power of two
    memcpy(&per_step, &per_step_bits, sizeof(per_step));
    float steps = size * per_step;
    int32_t low = (int32_t)steps;
    float rest = steps - (float)low;
    uint32_t up = (rest > 0.5f) | ((rest == 0.5f) & (uint32_t)low);
    uint32_t code = sign | ((exponent - 121) * 8 + (uint32_t)low + (up & 1));
    return (uint8_t)((code & ~nan) | (0x7Fu & nan));
}
// The float whose exponent and top mantissa bits are the code's, times what their biases differ by.
static inline float phx__oracle_e4m3_value(uint8_t code)
{
    uint32_t bits = (code & 0x7Fu) << 20;
    float value;
    memcpy(&value, &bits, sizeof(value));
    value *= 0x1p120f;
    value = (code & 0x7F) == 0x7F ? NAN : value;
    return (code & 0x80) != 0 ? -value : value;
}
// The exponent byte of a positive scale, rounded up to a power of two, and what channels are
// multiplied by.
uint8_t phx__oracle_power_above(float scale, float *inverse);

// --- oracle.c -----------------------------------------------------------------------------------

int phx__oracle_input_check(const struct phx_oracle_input *input, uint32_t rank,
                            struct phx_message *message);
// Rows of one expert's block in the slots layout.
uint64_t phx__oracle_block_rows(const struct phx_shape *shape);

#endif
