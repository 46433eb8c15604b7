// tests/golden/sweep_cpu.h: one block of a sweep on this processor, by scalars or through AVX2.

#ifndef PHX_TESTS_GOLDEN_SWEEP_CPU_H
#define PHX_TESTS_GOLDEN_SWEEP_CPU_H

#include <stdbool.h>
#include <string.h>

#include "kernels/leaves_avx2.h"
#include "tests/golden/sweep.h"

// One loop per sweep, so that each compiles for its own conversion.
#define PHX_SWEEP_LOOP(sweep)                                                                      \
    for (uint32_t i = 0; i < PHX_SWEEP_INPUTS; i++)                                                \
    hash += phx_sweep_mix(i, phx_sweep_value(sweep, block << 24 | i))

static inline uint64_t phx_sweep_block(uint32_t sweep, uint32_t block)
{
    uint64_t hash = 0;
    if (sweep == PHX_SWEEP_BF16)
        PHX_SWEEP_LOOP(PHX_SWEEP_BF16);
    else if (sweep == PHX_SWEEP_E4M3)
        PHX_SWEEP_LOOP(PHX_SWEEP_E4M3);
    else if (sweep == PHX_SWEEP_UE8M0)
        PHX_SWEEP_LOOP(PHX_SWEEP_UE8M0);
    else
        PHX_SWEEP_LOOP(PHX_SWEEP_SCALE);
    return hash;
}

// PHX_SWEEP_BF16 and PHX_SWEEP_E4M3 alone; the other two have no vector form.
static inline uint64_t phx_sweep_block_avx2(uint32_t sweep, uint32_t block)
{
    enum { SPAN = 2048 };
    static _Thread_local float x[SPAN];
    static _Thread_local uint16_t bf16[SPAN];
    static _Thread_local uint8_t e4m3[SPAN];
    static _Thread_local uint8_t clean[SPAN];
    uint64_t hash = 0;
    for (uint32_t i = 0; i < PHX_SWEEP_INPUTS; i += SPAN) {
        for (uint32_t j = 0; j < SPAN; j++)
            x[j] = phx_f32_from_bits(block << 24 | (i + j));
        if (sweep == PHX_SWEEP_BF16) {
            phx__avx2_bf16_from_f32(x, SPAN, bf16);
            for (uint32_t j = 0; j < SPAN; j++)
                hash += phx_sweep_mix(i + j, bf16[j]);
        } else {
            phx__avx2_e4m3_from_f32(x, SPAN, e4m3);
            phx__avx2_e4m3_clean_from_f32(x, SPAN, clean);
            bool is_clean = (phx_bits_from_f32(x[SPAN - 1]) & 0x7FFFFFFFu) < 0x43E80000u; // 464
            if (is_clean && memcmp(e4m3, clean, SPAN) != 0)
                return 0; // the two ways disagree: no block has this hash
            for (uint32_t j = 0; j < SPAN; j++)
                hash += phx_sweep_mix(i + j, e4m3[j]);
        }
    }
    return hash;
}

#endif
