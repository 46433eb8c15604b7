// sim/oracle_numbers.c: conversions between number formats by what the codes mean: of all values
// the nearest, of two as near the even one.

#include <math.h>
#include <string.h>

#include "sim/oracle_internal.h"

#define E4M3_CODES PHX_ORACLE_E4M3_CODES

float phx__oracle_bf16_value(uint16_t code)
{
    uint32_t bits = (uint32_t)code << 16;
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

uint16_t phx__oracle_bf16_nearest(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    if (isnan(x))
        return 0x7FFF;
    if (isinf(x))
        return (uint16_t)(sign | 0x7F80);
    uint16_t below = (uint16_t)(bits >> 16 & 0x7FFFu);
    uint16_t above = (uint16_t)(below + 1);
    double size = fabs((double)x);
    double above_value = above == 0x7F80 ? ldexp(1.0, 128) : (double)phx__oracle_bf16_value(above);
    double to_below = size - (double)phx__oracle_bf16_value(below);
    double to_above = above_value - size;
    if (to_below < to_above || (to_below == to_above && below % 2 == 0))
        return (uint16_t)(sign | below);
    return (uint16_t)(sign | above);
}

void phx__oracle_e4m3_values(double values[E4M3_CODES])
{
    for (uint32_t code = 0; code < E4M3_CODES; code++) {
        int exponent = (int)(code >> 3);
        int mantissa = (int)(code & 7);
        values[code] = exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);
    }
}

uint8_t phx__oracle_e4m3_nearest(const double values[E4M3_CODES], float x)
{
    uint8_t sign = signbit(x) ? 0x80 : 0;
    double size = fabs((double)x);
    if (isnan(x))
        return 0x7F;
    if (size >= values[E4M3_CODES - 1])
        return (uint8_t)(sign | (E4M3_CODES - 1));
    uint32_t low = 0; // values[low] <= size < values[high]
    uint32_t high = E4M3_CODES - 1;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (values[middle] <= size)
            low = middle;
        else
            high = middle;
    }
    double to_low = size - values[low];
    double to_high = values[high] - size;
    bool is_low = to_low < to_high || (to_low == to_high && low % 2 == 0);
    return (uint8_t)(sign | (is_low ? low : high));
}

uint8_t phx__oracle_power_above(float scale, float *inverse)
{
    if (isinf(scale)) {
        *inverse = 0.0f;
        return 255;
    }
    int exponent;
    double mantissa = frexp((double)scale, &exponent); // in [0.5, 1)
    if (mantissa == 0.5)
        exponent--;
    *inverse = (float)ldexp(1.0, -exponent);
    return (uint8_t)(exponent + 127);
}
