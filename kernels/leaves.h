// kernels/leaves.h: operations on a row or a span of local memory, for C targets.
//
// The portable implementation is the meaning; every other (AVX2 and AVX-512 here, CUDA in
// device_cuda.h) gives the same bits for every input, NaN and infinity included. One set is picked
// once, at start.
//
// Number formats (design part 3):
//   bf16    round to nearest, ties to even; any NaN becomes 0x7FFF
//   e4m3    round to nearest even, saturating to +-448; any NaN becomes 0x7F
//   scale   amax = largest |x| of 128 channels over those that are not NaN, at least 1e-4f
//           f32:   scale = amax * (1.0f / 448.0f);  q = e4m3(x * (448.0f / amax))
//           ue8m0: the scale rounded up to a power of two by bit operations, its biased exponent in
//                  a byte; q = e4m3(x * (1 / that power of two))
//   check   check.h: the sum of mix(word, place) over 8-byte words, places from 1
//   sums    f32, in the order of the list: acc = fma(weight, row, acc) from +0; then acc * scale
//
// Rows: `x` is [channels] bf16; channels is a multiple of 128, or of 128 after thin truncation.
// Pointers are aligned to 16 bytes and do not overlap unless said. Nothing allocates; any thread.

#ifndef PHX_KERNELS_LEAVES_H
#define PHX_KERNELS_LEAVES_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct phx_leaves {
    const char *name; // "portable", "avx2", "avx512"
    // q: [channels] e4m3 bytes; scale: [channels / 128] f32.
    void (*quantise_f32)(const uint16_t *x, uint32_t channels, uint8_t *q, float *scale);
    // exponent: [channels / 128] bytes, ue8m0: the scale is 2^(byte - 127).
    void (*quantise_ue8m0)(const uint16_t *x, uint32_t channels, uint8_t *q, uint8_t *exponent);
    // x: [channels] bf16 = bf16(e4m3 value * scale).
    void (*dequantise_f32)(const uint8_t *q, const float *scale, uint32_t channels, uint16_t *x);
    void (*dequantise_ue8m0)(const uint8_t *q, const uint8_t *exponent, uint32_t channels,
                             uint16_t *x);
    void (*copy)(void *target, const void *source, uint64_t size_bytes);
    // The same for a target that this processor does not read soon: long copies pass its caches.
    // Later stores may be seen before them, until settle(): a thread that streams settles before it
    // tells another.
    void (*stream)(void *target, const void *source, uint64_t size_bytes);
    void (*settle)(void);
    void (*zero)(void *target, uint64_t size_bytes);
    // out: [channels] bf16 = bf16(scale * sum of weights[i] * rows[i]); count may be 0 (zeros).
    void (*sum_rows)(uint16_t *out, const uint16_t *const *rows, const float *weights,
                     uint32_t count, float scale, uint32_t channels);
    // The check sum of size_bytes, a multiple of 8, without its key.
    uint64_t (*check_sum)(const void *row, uint64_t size_bytes);
    // target[i * stride] = source[i] for i < count.
    void (*scatter_u32)(uint32_t *target, uint64_t stride, const uint32_t *source, uint32_t count);
};

extern const struct phx_leaves phx_leaves_portable;
// NULL where the build or this processor has no AVX2 and FMA.
const struct phx_leaves *phx_leaves_avx2(void);
// NULL where the build or this processor lacks AVX-512's F, BW, DQ or VL.
const struct phx_leaves *phx_leaves_avx512(void);
#define PHX_LEAVES_SETS 3u
// Of every set, the portable one first; NULL from PHX_LEAVES_SETS on, and where it is missing here.
const struct phx_leaves *phx_leaves_set(uint32_t index);
// The set in use: the best for this processor, or the one named by PHX_LEAVES ("portable", "avx2",
// "avx512"; anything else, or a set this processor lacks, is reported on stderr and the best is
// used).
const struct phx_leaves *phx_leaves_get(void);

// Shorter copies than this are not worth passing the caches by.
#define PHX_STREAM_BYTES 2048u

#ifdef __cplusplus
}
#endif

#endif
