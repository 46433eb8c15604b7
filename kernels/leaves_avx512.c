// kernels/leaves_avx512.c: the leaves with AVX-512 (F, BW, DQ, VL), bit for bit the portable ones.
//
// The methods are those of leaves_avx2.c, twice as wide: bf16 is widened by interleaving with zeros
// and narrowed by packing, within 128-bit lanes, so that the order restores itself. What differs is
// that a product of 64 bits is one instruction, and that each row's next lines are asked for ahead.

#include <stddef.h>
#include <string.h>

#include "engine/limits.h"
#include "kernels/check.h"
#include "kernels/leaves.h"
#include "kernels/leaves_avx512.h"
#include "kernels/leaves_host.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/numerics.h"

#define AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))
#define AVX512_INLINE                                                                              \
    static inline                                                                                  \
        __attribute__((always_inline, target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")))

struct pair { // 32 channels as f32: the low four of each 128-bit lane of 32 bf16, and the high four
    __m512 low, high;
};

AVX512_INLINE __m512i load(const void *from)
{
    return _mm512_loadu_si512(from);
}

AVX512_INLINE void store(void *to, __m512i value)
{
    _mm512_storeu_si512(to, value);
}

AVX512_INLINE struct pair widen(__m512i bf16)
{
    __m512i zero = _mm512_setzero_si512();
    struct pair p = {_mm512_castsi512_ps(_mm512_unpacklo_epi16(zero, bf16)),
                     _mm512_castsi512_ps(_mm512_unpackhi_epi16(zero, bf16))};
    return p;
}

AVX512_INLINE __m512i magnitude_f32(__m512i bits)
{
    return _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
}

AVX512_INLINE __mmask16 is_nan(__m512i size) // of magnitudes
{
    return _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(0x7F800000));
}

// --- conversions: sixteen f32 to sixteen codes in 32-bit lanes -----------------------------------

AVX512_INLINE __m512i bf16_codes_clean(__m512 x) // of no NaN
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    return _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
}

AVX512_INLINE __m512i bf16_codes(__m512 x)
{
    __m512i size = magnitude_f32(_mm512_castps_si512(x));
    return _mm512_mask_mov_epi32(bf16_codes_clean(x), is_nan(size),
                                 _mm512_set1_epi32(PHX_BF16_NAN));
}

AVX512_INLINE __m512i e4m3_codes(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i size = magnitude_f32(bits);
    __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
    __m512i kept = _mm512_min_epi32(size, _mm512_set1_epi32(0x43E00000)); // saturates at 448
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(kept, 20), _mm512_set1_epi32(1));
    __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFFF - (120 << 23)));
    __m512i normal = _mm512_srli_epi32(_mm512_add_epi32(kept, half), 20);
    __m512 shifted = _mm512_add_ps(_mm512_castsi512_ps(kept), _mm512_set1_ps(16384.0f));
    __m512i below = _mm512_sub_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(0x46800000));
    __mmask16 is_below = _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(0x3C800000), size);
    __m512i code = _mm512_or_si512(_mm512_mask_mov_epi32(normal, is_below, below), sign);
    return _mm512_mask_mov_epi32(code, is_nan(size), _mm512_set1_epi32(PHX_E4M3_NAN));
}

AVX512_INLINE __m512i narrow_bf16(struct pair p)
{
    return _mm512_packus_epi32(bf16_codes(p.low), bf16_codes(p.high));
}

// Two vectors of 16-bit codes, packed by lanes of 128 bits, in order.
AVX512_INLINE __m512i order_bytes(__m512i mixed)
{
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), mixed);
}

AVX512_INLINE __m512i narrow_e4m3(struct pair a, struct pair b) // 32 channels, then the next 32
{
    __m512i first = _mm512_packus_epi32(e4m3_codes(a.low), e4m3_codes(a.high));
    __m512i second = _mm512_packus_epi32(e4m3_codes(b.low), e4m3_codes(b.high));
    return order_bytes(_mm512_packus_epi16(first, second));
}

// --- a group of 128 channels ---------------------------------------------------------------------
// Clean groups (nothing but finite numbers), or any, as in leaves_avx2.c.

AVX512_INLINE __m512i magnitude(__m512i bf16)
{
    return _mm512_and_si512(bf16, _mm512_set1_epi16(0x7FFF));
}

AVX512_INLINE uint32_t largest_of(__m512i sizes) // of 32 values below 0x8000
{
    __m256i half =
        _mm256_max_epi16(_mm512_castsi512_si256(sizes), _mm512_extracti64x4_epi64(sizes, 1));
    __m128i m = _mm_max_epi16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    // The instruction finds the smallest of eight: turn the order round.
    __m128i turned = _mm_sub_epi16(_mm_set1_epi16(0x7FFF), m);
    return 0x7FFFu - ((uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(turned)) & 0xFFFFu);
}

struct amax {
    float value; // over channels that are not NaN, floored
    int clean;
};

AVX512_INLINE struct amax amax_group(const uint16_t *x)
{
    __m512i sizes[4];
    for (uint32_t v = 0; v < 4; v++)
        sizes[v] = magnitude(load(x + 32 * v));
    uint32_t all = largest_of(_mm512_max_epi16(_mm512_max_epi16(sizes[0], sizes[1]),
                                               _mm512_max_epi16(sizes[2], sizes[3])));
    if (all < 0x7F80)
        return (struct amax){phx_amax_finish(all), 1};
    __m512i largest = _mm512_setzero_si512();
    for (uint32_t v = 0; v < 4; v++) {
        __mmask32 number = _mm512_cmple_epi16_mask(sizes[v], _mm512_set1_epi16(0x7F80));
        largest = _mm512_mask_max_epi16(largest, number, largest, sizes[v]);
    }
    return (struct amax){phx_amax_finish(largest_of(largest)), 0};
}

// Sixteen magnitudes below 464 to their codes + 968, as in leaves_avx2.c.
AVX512_INLINE __m512i e4m3_codes_clean(__m512 size)
{
    __m512 floored = _mm512_max_ps(size, _mm512_set1_ps(0.015625f));
    __m512i exponent =
        _mm512_and_si512(_mm512_castps_si512(floored), _mm512_set1_epi32(0x7F800000));
    __m512i unit = _mm512_add_epi32(exponent, _mm512_set1_epi32(20 << 23));
    __m512 sum = _mm512_add_ps(size, _mm512_castsi512_ps(unit));
    __m512i count = _mm512_sub_epi32(_mm512_castps_si512(sum), unit);
    return _mm512_add_epi32(count, _mm512_srli_epi32(exponent, 20));
}

AVX512_INLINE __m512i e4m3_words_clean(__m512i bf16, __m512 factor) // 32 codes in 16-bit lanes
{
    struct pair p = widen(magnitude(bf16));
    __m512i low = e4m3_codes_clean(_mm512_mul_ps(p.low, factor));
    __m512i high = e4m3_codes_clean(_mm512_mul_ps(p.high, factor));
    __m512i sign = _mm512_and_si512(_mm512_srli_epi16(bf16, 8), _mm512_set1_epi16(0x80));
    __m512i words = _mm512_packus_epi32(low, high);
    return _mm512_or_si512(_mm512_sub_epi16(words, _mm512_set1_epi16(121 << 3)), sign);
}

AVX512_INLINE void quantise_clean(const uint16_t *x, float inverse, uint8_t *q)
{
    __m512 factor = _mm512_set1_ps(inverse);
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c += 64) {
        __m512i first = e4m3_words_clean(load(x + c), factor);
        __m512i second = e4m3_words_clean(load(x + c + 32), factor);
        store(q + c, order_bytes(_mm512_packus_epi16(first, second)));
    }
}

AVX512_INLINE void quantise_any(const uint16_t *x, float inverse, uint8_t *q)
{
    __m512 factor = _mm512_set1_ps(inverse);
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c += 64) {
        struct pair a = widen(load(x + c));
        struct pair b = widen(load(x + c + 32));
        a.low = _mm512_mul_ps(a.low, factor);
        a.high = _mm512_mul_ps(a.high, factor);
        b.low = _mm512_mul_ps(b.low, factor);
        b.high = _mm512_mul_ps(b.high, factor);
        store(q + c, narrow_e4m3(a, b));
    }
}

AVX512_INLINE void quantise_group(const uint16_t *x, int clean, float inverse, uint8_t *q)
{
    if (clean)
        quantise_clean(x, inverse, q);
    else
        quantise_any(x, inverse, q);
}

// 32 e4m3 codes in 16-bit lanes to bf16, exactly; NaN gives anything.
AVX512_INLINE __m512i bf16_of_e4m3(__m512i code)
{
    // m * 2^-9 as bf16, for m = 0 to 7, in the words of a lane that the low bits of a code choose.
    const __m512i small = _mm512_broadcast_i32x4(
        _mm_setr_epi16(0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60));
    __m512i size = _mm512_and_si512(code, _mm512_set1_epi16(0x7F));
    __m512i normal = _mm512_add_epi16(_mm512_slli_epi16(size, 4), _mm512_set1_epi16(120 << 7));
    __mmask32 is_below = _mm512_cmpgt_epi16_mask(_mm512_set1_epi16(8), size);
    __m512i sign = _mm512_slli_epi16(_mm512_andnot_si512(_mm512_set1_epi16(0x7F), code), 8);
    __m512i value = _mm512_mask_permutexvar_epi16(normal, is_below, size, small);
    return _mm512_or_si512(value, sign);
}

// With a finite scale a channel is NaN only where its code is.
AVX512_INLINE void dequantise_clean(const uint8_t *q, float scale, uint16_t *x)
{
    __m512 factor = _mm512_set1_ps(scale);
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c += 32) {
        __m512i code =
            _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(q + c)));
        __m512i size = _mm512_and_si512(code, _mm512_set1_epi16(0x7F));
        __mmask32 nan = _mm512_cmpeq_epi16_mask(size, _mm512_set1_epi16(0x7F));
        struct pair p = widen(bf16_of_e4m3(code));
        __m512i low = bf16_codes_clean(_mm512_mul_ps(p.low, factor));
        __m512i high = bf16_codes_clean(_mm512_mul_ps(p.high, factor));
        store(x + c, _mm512_mask_mov_epi16(_mm512_packus_epi32(low, high), nan,
                                           _mm512_set1_epi16(PHX_BF16_NAN)));
    }
}

AVX512_INLINE void dequantise_group(const uint8_t *q, float scale, uint16_t *x)
{
    if ((phx_bits_from_f32(scale) & 0x7F800000u) != 0x7F800000u) {
        dequantise_clean(q, scale, x);
        return;
    }
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++) // NaN or infinity: rare
        x[c] = phx_bf16_from_f32(phx_f32_from_e4m3(q[c]) * scale);
}

// --- leaves --------------------------------------------------------------------------------------

AVX512 static void quantise_f32(const uint16_t *x, uint32_t channels, uint8_t *q, float *scale)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP) {
        struct amax amax = amax_group(x + c);
        scale[c / PHX_SCALE_GROUP] = phx_scale_f32(amax.value);
        quantise_group(x + c, amax.clean, phx_inverse_f32(amax.value), q + c);
    }
}

AVX512 static void quantise_ue8m0(const uint16_t *x, uint32_t channels, uint8_t *q,
                                  uint8_t *exponent)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP) {
        struct amax amax = amax_group(x + c);
        uint8_t e = phx_scale_ue8m0(amax.value);
        exponent[c / PHX_SCALE_GROUP] = e;
        quantise_group(x + c, amax.clean, phx_inverse_ue8m0(e), q + c);
    }
}

AVX512 static void dequantise_f32(const uint8_t *q, const float *scale, uint32_t channels,
                                  uint16_t *x)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP)
        dequantise_group(q + c, scale[c / PHX_SCALE_GROUP], x + c);
}

AVX512 static void dequantise_ue8m0(const uint8_t *q, const uint8_t *exponent, uint32_t channels,
                                    uint16_t *x)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP)
        dequantise_group(q + c, phx_f32_from_ue8m0(exponent[c / PHX_SCALE_GROUP]), x + c);
}

#define AHEAD 1024u // channels: what lies behind a row is mostly the expert's next one

// 128 channels at a time: eight accumulators, enough to cover the latency of a fused step.
AVX512 static void sum_rows(uint16_t *out, const uint16_t *const *rows, const float *weights,
                            uint32_t count, float scale, uint32_t channels)
{
    __m512 factor = _mm512_set1_ps(scale);
    for (uint32_t c = 0; c < channels; c += 128) {
        struct pair sums[4];
        for (uint32_t v = 0; v < 4; v++) {
            sums[v].low = _mm512_setzero_ps();
            sums[v].high = _mm512_setzero_ps();
        }
        for (uint32_t i = 0; i < count; i++) {
            __m512 weight = _mm512_set1_ps(weights[i]);
            for (uint32_t v = 0; v < 4; v++) {
                __builtin_prefetch(rows[i] + c + AHEAD + 32 * v);
                struct pair row = widen(load(rows[i] + c + 32 * v));
                sums[v].low = _mm512_fmadd_ps(weight, row.low, sums[v].low);
                sums[v].high = _mm512_fmadd_ps(weight, row.high, sums[v].high);
            }
        }
        for (uint32_t v = 0; v < 4; v++) {
            sums[v].low = _mm512_mul_ps(sums[v].low, factor);
            sums[v].high = _mm512_mul_ps(sums[v].high, factor);
            store(out + c + 32 * v, narrow_bf16(sums[v]));
        }
    }
}

AVX512 static void stream(void *target, const void *source, uint64_t size_bytes)
{
    uint8_t *to = target;
    const uint8_t *from = source;
    uint64_t at = -(uintptr_t)to % 64;
    if (size_bytes < PHX_STREAM_BYTES) {
        phx_host_copy(target, source, size_bytes);
        return;
    }
    memcpy(to, from, at);
    for (; at + 64 <= size_bytes; at += 64)
        _mm512_stream_si512((void *)(to + at), load(from + at));
    memcpy(to + at, from + at, size_bytes - at);
}

static void settle(void)
{
    _mm_sfence();
}

AVX512_INLINE __m512i fold(__m512i x, unsigned bits)
{
    return _mm512_xor_si512(x, _mm512_srli_epi64(x, bits));
}

AVX512_INLINE __m512i check_mix(__m512i word, __m512i step)
{
    __m512i h = fold(_mm512_xor_si512(word, step), 32);
    h = _mm512_mullo_epi64(h, _mm512_set1_epi64((long long)PHX_CHECK_FACTOR_1));
    h = _mm512_mullo_epi64(fold(h, 29), _mm512_set1_epi64((long long)PHX_CHECK_FACTOR_2));
    return fold(h, 32);
}

AVX512 static uint64_t check_sum(const void *row, uint64_t size_bytes)
{
    const uint8_t *bytes = row;
    uint64_t words = size_bytes / 8;
    uint64_t i = 0;
    __m512i sum = _mm512_setzero_si512();
    __m512i step = _mm512_mullo_epi64(_mm512_setr_epi64(1, 2, 3, 4, 5, 6, 7, 8),
                                      _mm512_set1_epi64((long long)PHX_CHECK_STEP));
    const __m512i eight = _mm512_set1_epi64((long long)(8 * PHX_CHECK_STEP));
    for (; i + 8 <= words; i += 8) {
        sum = _mm512_add_epi64(sum, check_mix(load(bytes + 8 * i), step));
        step = _mm512_add_epi64(step, eight);
    }
    uint64_t lanes[8];
    store(lanes, sum); // the compiler's own reduction adds signed numbers
    uint64_t total = 0;
    for (uint32_t lane = 0; lane < 8; lane++)
        total += lanes[lane];
    for (; i < words; i++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * i, sizeof word);
        total += phx_check_mix(word, i + 1);
    }
    return total;
}

static const struct phx_leaves leaves_avx512 = {
    .name = "avx512",
    .quantise_f32 = quantise_f32,
    .quantise_ue8m0 = quantise_ue8m0,
    .dequantise_f32 = dequantise_f32,
    .dequantise_ue8m0 = dequantise_ue8m0,
    .copy = phx_host_copy,
    .stream = stream,
    .settle = settle,
    .zero = phx_host_zero,
    .sum_rows = sum_rows,
    .check_sum = check_sum,
    .scatter_u32 = phx_host_scatter_u32,
};

const struct phx_leaves *phx_leaves_avx512(void)
{
    __builtin_cpu_init(); // callers may run before constructors
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                   __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? &leaves_avx512
               : NULL;
}

// --- for tests -----------------------------------------------------------------------------------

AVX512_INLINE void store_codes(const __m512i codes[4], uint8_t *q)
{
    for (uint32_t v = 0; v < 4; v++)
        _mm_storeu_si128((__m128i *)(void *)(q + 16 * v), _mm512_cvtepi32_epi8(codes[v]));
}

AVX512 void phx__avx512_e4m3_from_f32(const float *x, uint32_t count, uint8_t *q)
{
    for (uint32_t i = 0; i < count; i += 64) {
        __m512i codes[4];
        for (uint32_t v = 0; v < 4; v++)
            codes[v] = e4m3_codes(_mm512_loadu_ps(x + i + 16 * v));
        store_codes(codes, q + i);
    }
}

AVX512 void phx__avx512_e4m3_clean_from_f32(const float *x, uint32_t count, uint8_t *q)
{
    for (uint32_t i = 0; i < count; i += 64) {
        __m512i codes[4];
        for (uint32_t v = 0; v < 4; v++) {
            __m512i bits = load(x + i + 16 * v);
            __m512i size = magnitude_f32(bits);
            __m512i sign = _mm512_srli_epi32(_mm512_andnot_si512(size, bits), 24);
            __m512i code = e4m3_codes_clean(_mm512_castsi512_ps(size));
            codes[v] = _mm512_or_si512(_mm512_sub_epi32(code, _mm512_set1_epi32(121 << 3)), sign);
        }
        store_codes(codes, q + i);
    }
}

AVX512 void phx__avx512_bf16_from_f32(const float *x, uint32_t count, uint16_t *y)
{
    for (uint32_t i = 0; i < count; i += 16)
        _mm256_storeu_si256((__m256i *)(void *)(y + i),
                            _mm512_cvtepi32_epi16(bf16_codes(_mm512_loadu_ps(x + i))));
}

#else

#include <stdlib.h>

const struct phx_leaves *phx_leaves_avx512(void)
{
    return NULL;
}

// Callers ask phx_leaves_avx512() first, so these are never reached.
void phx__avx512_e4m3_from_f32(const float *x, uint32_t count, uint8_t *q)
{
    (void)x, (void)count, (void)q;
    abort();
}

void phx__avx512_e4m3_clean_from_f32(const float *x, uint32_t count, uint8_t *q)
{
    (void)x, (void)count, (void)q;
    abort();
}

void phx__avx512_bf16_from_f32(const float *x, uint32_t count, uint16_t *y)
{
    (void)x, (void)count, (void)y;
    abort();
}

#endif
