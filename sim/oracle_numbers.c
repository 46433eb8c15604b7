// sim/oracle_numbers.c: conversions between number formats by what the codes mean: of all values
// the nearest, of two as near the even one.

#include <math.h>
#include <string.h>

#include "sim/oracle_internal.h"

#define E4M3_CODES PHX_ORACLE_E4M3_CODES

void phx__oracle_e4m3_values(double values[E4M3_CODES])
{
    for (uint32_t code = 0; code < E4M3_CODES - 1; code++) {
        int exponent = (int)(code >> 3);
        int mantissa = (int)(code & 7);
        values[code] = exponent == 0 ? ldexp(mantissa, -9) : ldexp(8 + mantissa, exponent - 10);
    }
    values[E4M3_CODES - 1] = INFINITY;
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
