// tests/golden/sweep_cpu.h: one block of a sweep on this processor, by scalars or by a set of
// leaves.

#ifndef PHX_TESTS_GOLDEN_SWEEP_CPU_H
#define PHX_TESTS_GOLDEN_SWEEP_CPU_H

#include <stdbool.h>
#include <string.h>

#include "kernels/leaves.h"
#include "kernels/leaves_avx2.h"
#include "kernels/leaves_avx512.h"
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

struct phx_sweep_vectors { // the conversions inside a set of leaves
    const char *name;
    void (*bf16)(const float *x, uint32_t count, uint16_t *y);
    void (*e4m3)(const float *x, uint32_t count, uint8_t *q);
    void (*clean)(const float *x, uint32_t count, uint8_t *q);
};
#define PHX_SWEEP_VECTORS 2u
// False: this build or processor lacks that set.
static inline bool phx_sweep_vectors_get(uint32_t index, struct phx_sweep_vectors *v)
{
    static const struct phx_sweep_vectors all[PHX_SWEEP_VECTORS] = {
        {"avx2", phx__avx2_bf16_from_f32, phx__avx2_e4m3_from_f32, phx__avx2_e4m3_clean_from_f32},
        {"avx512", phx__avx512_bf16_from_f32, phx__avx512_e4m3_from_f32,
         phx__avx512_e4m3_clean_from_f32},
    };
    *v = all[index];
    return (index == 0 ? phx_leaves_avx2() : phx_leaves_avx512()) != NULL;
}

// PHX_SWEEP_BF16 and PHX_SWEEP_E4M3 alone; the other two have no vector form.
static inline uint64_t phx_sweep_block_vector(const struct phx_sweep_vectors *v, uint32_t sweep,
                                              uint32_t block)
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
            v->bf16(x, SPAN, bf16);
            for (uint32_t j = 0; j < SPAN; j++)
                hash += phx_sweep_mix(i + j, bf16[j]);
        } else {
            v->e4m3(x, SPAN, e4m3);
            v->clean(x, SPAN, clean);
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
