// sim/oracle_numbers.c: conversions between number formats by what the codes mean: of all values
// the nearest, of two as near the even one.

#include <math.h>
#include <string.h>

#include "sim/oracle_internal.h"

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
