// kernels/leaves_avx512.h: the conversions inside the AVX-512 leaves, alone, so that tests can
// sweep all 2^32 inputs through them. Nothing else includes this.

#ifndef PHX_KERNELS_LEAVES_AVX512_H
#define PHX_KERNELS_LEAVES_AVX512_H

#include <stdint.h>

// Only where phx_leaves_avx512() is not NULL. count is a multiple of 64; q and y need no alignment.
void phx__avx512_e4m3_from_f32(const float *x, uint32_t count, uint8_t *q);
// The same for |x| below 464, as groups without NaN and infinity take it.
void phx__avx512_e4m3_clean_from_f32(const float *x, uint32_t count, uint8_t *q);
void phx__avx512_bf16_from_f32(const float *x, uint32_t count, uint16_t *y);

#endif
