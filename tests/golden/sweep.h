// tests/golden/sweep.h: what the sweeps over all 2^32 f32 inputs compute, on a CPU and on a GPU.
//
// Inputs are bit patterns. A block is the 2^24 patterns that share their top byte. Its hash is a
// sum modulo 2^64 of one mixed word per input: independent of the order of the additions, so that
// any number of threads may share a block, yet each word depends on its input's place. The hashes
// that must come out are in sweep_hashes.h; sweep.c prints them.

#ifndef PHX_TESTS_GOLDEN_SWEEP_H
#define PHX_TESTS_GOLDEN_SWEEP_H

#include "kernels/numerics.h"

#define PHX_SWEEP_BLOCKS 256u
#define PHX_SWEEP_INPUTS (1u << 24) // per block

enum phx_sweep {
    PHX_SWEEP_BF16 = 1, // phx_bf16_from_f32
    PHX_SWEEP_E4M3,     // phx_e4m3_from_f32
    PHX_SWEEP_UE8M0,    // phx_ue8m0_from_f32
    PHX_SWEEP_SCALE,    // phx_scale_f32 and phx_inverse_f32 of |x| as amax; 0 for a NaN
    PHX_SWEEP_END
};

PHX_BOTH uint64_t phx_sweep_scale(uint32_t bits)
{
    uint32_t size = bits & 0x7FFFFFFFu;
    if (size > 0x7F800000u)
        size = 0; // an amax is never NaN
    float amax = phx_amax_floor(phx_f32_from_bits(size));
    return (uint64_t)phx_bits_from_f32(phx_inverse_f32(amax)) << 32 |
           phx_bits_from_f32(phx_scale_f32(amax));
}

PHX_BOTH uint64_t phx_sweep_value(uint32_t sweep, uint32_t bits)
{
    float x = phx_f32_from_bits(bits);
    switch (sweep) {
    case PHX_SWEEP_BF16:
        return phx_bf16_from_f32(x);
    case PHX_SWEEP_E4M3:
        return phx_e4m3_from_f32(x);
    case PHX_SWEEP_UE8M0:
        return phx_ue8m0_from_f32(x);
    default:
        return phx_sweep_scale(bits);
    }
}

// The word that the input with these low 24 bits adds to its block's hash.
PHX_BOTH uint64_t phx_sweep_mix(uint32_t index, uint64_t value)
{
    uint64_t z = value + ((uint64_t)index + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 32) * 0xD6E8FEB86659FD93ull;
    return z ^ z >> 29;
}

PHX_BOTH const char *phx_sweep_name(uint32_t sweep)
{
    switch (sweep) {
    case PHX_SWEEP_BF16:
        return "bf16";
    case PHX_SWEEP_E4M3:
        return "e4m3";
    case PHX_SWEEP_UE8M0:
        return "ue8m0";
    default:
        return "scale";
    }
}

#endif
