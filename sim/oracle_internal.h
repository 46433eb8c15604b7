// sim/oracle_internal.h: what the parts of the oracle share. Nothing else includes this.

#ifndef PHX_SIM_ORACLE_INTERNAL_H
#define PHX_SIM_ORACLE_INTERNAL_H

#include <math.h>
#include <string.h>

#include "sim/oracle.h"

// --- oracle_numbers.c: conversions by value, sharing nothing with kernels/numerics.h ------------

#define PHX_ORACLE_E4M3_CODES 128u // magnitudes; the last one is NaN, here an infinity

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

void phx__oracle_e4m3_values(double values[PHX_ORACLE_E4M3_CODES]);
static inline uint8_t phx__oracle_e4m3_nearest(const double values[PHX_ORACLE_E4M3_CODES], float x)
{
    const double largest = values[PHX_ORACLE_E4M3_CODES - 2];
    uint32_t sign = signbit(x) ? 0x80 : 0;
    double size = fabs((double)x);
    size = size < largest ? size : largest;
    uint32_t low = 0; // values[low] <= size < values[low + 1]
    for (uint32_t step = PHX_ORACLE_E4M3_CODES / 2; step > 0; step /= 2)
        low += values[low + step] <= size ? step : 0;
    double to_low = size - values[low];
    double to_high = values[low + 1] - size;
    uint32_t up = (to_high < to_low) | ((to_high == to_low) & low);
    return (uint8_t)(x != x ? 0x7F : (sign | (low + (up & 1))));
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
