// kernels/numerics.h: conversions between number formats, by bits; the scalar meaning of leaves.h.
//
// Every function is compared with the GPU's own conversion over all 2^32 f32 inputs
// (tests/gpu/sweep.cu), and hashes of the results are kept (tests/golden/sweep.h).
//
//   1. Rounding is to nearest, ties to even, in the default rounding mode. Subnormals are kept.
//   2. A NaN comes out as one value per format: bf16 0x7FFF, e4m3 0x7F, ue8m0 0xFF. Its sign and
//      payload are dropped, so that no result depends on which operand a processor propagates.
//   3. Nothing here contracts: compile with -ffp-contract=off, or --fmad=false -ftz=false
//      -prec-div=true on CUDA. The one fused step is phx_fma.
//
// These are CUDA's conversions too: __float2bfloat16_rn, __nv_cvt_float_to_fp8 with __NV_SATFINITE
// (cvt.rn.satfinite.e4m3x2.f32) and __nv_cvt_float_to_e8m0 with cudaRoundPosInf and __NV_NOSAT:
// there infinity and what rounds above 2^127 become 0xFF, which decodes as NaN. No difference is
// known.
//
// A group whose amax is infinite follows the formulas: scale = inf (ue8m0 0xFF), inverse = 0, so
// that finite channels quantise to a zero of their sign and infinite ones to NaN; dequantised, the
// whole group is NaN in either scale format. A group with NaN channels and a finite amax loses only
// those.

#ifndef PHX_KERNELS_NUMERICS_H
#define PHX_KERNELS_NUMERICS_H

#include "kernels/macros.h"

#define PHX_E4M3_MAX 448.0f
#define PHX_AMAX_MIN 1e-4f // so that an all-zero group has a scale
#define PHX_BF16_NAN 0x7FFFu
#define PHX_E4M3_NAN 0x7Fu
#define PHX_UE8M0_NAN 0xFFu

PHX_BOTH uint32_t phx_bits_from_f32(float x)
{
#if defined(__CUDA_ARCH__)
    return __float_as_uint(x);
#else
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof(bits));
    return bits;
#endif
}

PHX_BOTH float phx_f32_from_bits(uint32_t bits)
{
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    float x;
    __builtin_memcpy(&x, &bits, sizeof(x));
    return x;
#endif
}

PHX_BOTH float phx_fma(float a, float b, float c)
{
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#else
    return __builtin_fmaf(a, b, c);
#endif
}

PHX_BOTH float phx_divide(float a, float b)
{
#if defined(__CUDA_ARCH__)
    return __fdiv_rn(a, b); // exact rounding whatever -prec-div says
#else
    return a / b;
#endif
}

// --- bf16 --------------------------------------------------------------------------------------

PHX_BOTH uint16_t phx_bf16_from_f32(float x)
{
    uint32_t bits = phx_bits_from_f32(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return PHX_BF16_NAN;
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

PHX_BOTH float phx_f32_from_bf16(uint16_t x) // exact; a NaN keeps its bits
{
    return phx_f32_from_bits((uint32_t)x << 16);
}

// --- e4m3 (OCP, finite: no infinity, one NaN per sign) -------------------------------------------

PHX_BOTH uint8_t phx_e4m3_from_f32(float x)
{
    uint32_t bits = phx_bits_from_f32(x);
    uint32_t sign = bits >> 24 & 0x80u;
    uint32_t size = bits & 0x7FFFFFFFu;
    if (size > 0x7F800000u)
        return PHX_E4M3_NAN;
    if (size >= 0x43E00000u) // 448 and above, infinity included
        return (uint8_t)(sign | 0x7Eu);
    if (size >= 0x3C800000u) { // 2^-6, the smallest normal: drop 20 mantissa bits, rebias 127 to 7
        uint32_t rounded = (size + 0x7FFFFu + (size >> 20 & 1u)) >> 20;
        return (uint8_t)(sign | (rounded - (120u << 3)));
    }
    // Below, the unit is 2^-9, which is also the last bit of 2^14: that addition does the rounding.
    float shifted = phx_f32_from_bits(size) + 16384.0f;
    return (uint8_t)(sign | (phx_bits_from_f32(shifted) - 0x46800000u));
}

PHX_BOTH float phx_f32_from_e4m3(uint8_t x) // exact; a NaN becomes the quiet one, 0x7FC00000
{
    uint32_t sign = (uint32_t)(x & 0x80u) << 24;
    uint32_t size = x & 0x7Fu;
    if (size == 0x7Fu)
        return phx_f32_from_bits(0x7FC00000u);
    if (size >= 8)
        return phx_f32_from_bits(sign | ((size << 20) + (120u << 23)));
    return phx_f32_from_bits(sign | phx_bits_from_f32((float)size * 0.001953125f)); // 2^-9
}

// --- ue8m0: a power of two as its biased exponent ------------------------------------------------

// |x| rounded up to a power of two; at most 2^-127 gives 0.
PHX_BOTH uint8_t phx_ue8m0_from_f32(float x)
{
    uint32_t size = phx_bits_from_f32(x) & 0x7FFFFFFFu;
    if (size > 0x7F800000u)
        return PHX_UE8M0_NAN;
    if (size <= 0x00400000u)
        return 0;
    return (uint8_t)((size + 0x7FFFFFu) >> 23);
}

PHX_BOTH float phx_f32_from_ue8m0(uint8_t x)
{
    if (x == 0)
        return phx_f32_from_bits(0x00400000u); // 2^-127 is subnormal
    if (x == PHX_UE8M0_NAN)
        return phx_f32_from_bits(0x7FC00000u);
    return phx_f32_from_bits((uint32_t)x << 23);
}

// --- scales of a group of 128 channels -----------------------------------------------------------

// Folds one bf16 channel into the largest magnitude so far, which starts at 0: magnitudes of bf16
// order as integers do, and those of NaNs lie above infinity's.
PHX_BOTH uint32_t phx_amax_fold(uint32_t amax_bf16, uint16_t x)
{
    uint32_t size = x & 0x7FFFu;
    return size <= 0x7F80u && size > amax_bf16 ? size : amax_bf16;
}

PHX_BOTH float phx_amax_floor(float amax) // amax is not NaN
{
    return amax > PHX_AMAX_MIN ? amax : PHX_AMAX_MIN;
}

PHX_BOTH float phx_amax_finish(uint32_t amax_bf16)
{
    return phx_amax_floor(phx_f32_from_bits(amax_bf16 << 16));
}

// amax: floored, from phx_amax_finish().
PHX_BOTH float phx_scale_f32(float amax)
{
    return amax * (1.0f / PHX_E4M3_MAX);
}
PHX_BOTH float phx_inverse_f32(float amax)
{
    return phx_divide(PHX_E4M3_MAX, amax);
}
PHX_BOTH uint8_t phx_scale_ue8m0(float amax)
{
    return phx_ue8m0_from_f32(phx_scale_f32(amax));
}
// 1 / 2^(exponent - 127), exactly; 0 for 0xFF, which stands for an infinite amax here.
PHX_BOTH float phx_inverse_ue8m0(uint8_t exponent)
{
    if (exponent == PHX_UE8M0_NAN)
        return 0.0f;
    if (exponent == 254)
        return phx_f32_from_bits(0x00400000u); // 2^-127
    return phx_f32_from_bits((254u - exponent) << 23);
}

#endif
