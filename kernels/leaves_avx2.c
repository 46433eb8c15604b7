// kernels/leaves_avx2.c: the leaves with AVX2 and FMA, bit for bit the portable ones.
//
// Functions carry their target themselves, so that this file needs no flags of its own and the rest
// of the program runs on any x86-64. Vectors of bf16 are widened by interleaving with zeros and
// narrowed by packing; both work within 128-bit halves, so the order restores itself.

#include <stddef.h>
#include <string.h>

#include "engine/limits.h"
#include "kernels/check.h"
#include "kernels/leaves.h"
#include "kernels/leaves_avx2.h"
#include "kernels/leaves_host.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include "kernels/numerics.h"

#define AVX2 __attribute__((target("avx2,fma")))
#define AVX2_INLINE static inline __attribute__((always_inline, target("avx2,fma")))

struct pair { // 16 channels as f32: the low four of each 128-bit half of 16 bf16, and the high four
    __m256 low, high;
};

AVX2_INLINE __m256i load(const void *from)
{
    return _mm256_loadu_si256((const __m256i *)from);
}

AVX2_INLINE void store(void *to, __m256i value)
{
    _mm256_storeu_si256((__m256i *)to, value);
}

AVX2_INLINE struct pair widen(__m256i bf16)
{
    __m256i zero = _mm256_setzero_si256();
    struct pair p = {_mm256_castsi256_ps(_mm256_unpacklo_epi16(zero, bf16)),
                     _mm256_castsi256_ps(_mm256_unpackhi_epi16(zero, bf16))};
    return p;
}

AVX2_INLINE __m256i is_nan(__m256i size) // of magnitudes
{
    return _mm256_cmpgt_epi32(size, _mm256_set1_epi32(0x7F800000));
}

// --- conversions: eight f32 to eight codes in 32-bit lanes ---------------------------------------

AVX2_INLINE __m256i bf16_codes_clean(__m256 x) // of no NaN
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
    return _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
}

AVX2_INLINE __m256i bf16_codes(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i rounded = bf16_codes_clean(x);
    __m256i size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
    return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(PHX_BF16_NAN), is_nan(size));
}

AVX2_INLINE __m256i e4m3_codes(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
    __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
    __m256i kept = _mm256_min_epi32(size, _mm256_set1_epi32(0x43E00000)); // saturates at 448
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(kept, 20), _mm256_set1_epi32(1));
    __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFFF - (120 << 23)));
    __m256i normal = _mm256_srli_epi32(_mm256_add_epi32(kept, half), 20);
    __m256 shifted = _mm256_add_ps(_mm256_castsi256_ps(kept), _mm256_set1_ps(16384.0f));
    __m256i below = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x46800000));
    __m256i is_below = _mm256_cmpgt_epi32(_mm256_set1_epi32(0x3C800000), size);
    __m256i code = _mm256_or_si256(_mm256_blendv_epi8(normal, below, is_below), sign);
    return _mm256_blendv_epi8(code, _mm256_set1_epi32(PHX_E4M3_NAN), is_nan(size));
}

AVX2_INLINE __m256i narrow_bf16(struct pair p)
{
    return _mm256_packus_epi32(bf16_codes(p.low), bf16_codes(p.high));
}

AVX2_INLINE __m256i narrow_e4m3(struct pair a, struct pair b) // 16 channels, then the next 16
{
    __m256i first = _mm256_packus_epi32(e4m3_codes(a.low), e4m3_codes(a.high));
    __m256i second = _mm256_packus_epi32(e4m3_codes(b.low), e4m3_codes(b.high));
    __m256i mixed = _mm256_packus_epi16(first, second);
    return _mm256_permute4x64_epi64(mixed, 0xD8); // quarters 0, 2, 1, 3
}

// --- a group of 128 channels ---------------------------------------------------------------------
//
// Groups are clean, with nothing but finite numbers, or not. Clean ones, which is nearly all, need
// no test of each channel for NaN and overflow, and keep signs aside in the 16-bit form.

AVX2_INLINE __m256i magnitude(__m256i bf16)
{
    return _mm256_and_si256(bf16, _mm256_set1_epi16(0x7FFF));
}

AVX2_INLINE uint32_t largest_of(__m256i sizes) // of sixteen values below 0x8000
{
    __m128i m = _mm_max_epi16(_mm256_castsi256_si128(sizes), _mm256_extracti128_si256(sizes, 1));
    // The instruction finds the smallest of eight: turn the order round.
    __m128i turned = _mm_sub_epi16(_mm_set1_epi16(0x7FFF), m);
    return 0x7FFFu - ((uint32_t)_mm_cvtsi128_si32(_mm_minpos_epu16(turned)) & 0xFFFFu);
}

struct amax {
    float value; // over channels that are not NaN, floored
    int clean;
};

AVX2_INLINE struct amax amax_group(const uint16_t *x)
{
    __m256i largest = _mm256_setzero_si256();
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c += 16)
        largest = _mm256_max_epi16(largest, magnitude(load(x + c)));
    uint32_t all = largest_of(largest);
    if (all < 0x7F80)
        return (struct amax){phx_amax_finish(all), 1};
    largest = _mm256_setzero_si256();
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c += 16) {
        __m256i size = magnitude(load(x + c));
        __m256i nan = _mm256_cmpgt_epi16(size, _mm256_set1_epi16(0x7F80));
        largest = _mm256_max_epi16(largest, _mm256_andnot_si256(nan, size));
    }
    return (struct amax){phx_amax_finish(largest_of(largest)), 0};
}

// Eight magnitudes below 464 to their codes + 968. Adding 2^(e+20) leaves units of 2^(e-3), e4m3's
// last bit where e is the exponent, or that of 2^-6 for what is subnormal.
AVX2_INLINE __m256i e4m3_codes_clean(__m256 size)
{
    __m256 floored = _mm256_max_ps(size, _mm256_set1_ps(0.015625f));
    __m256i exponent =
        _mm256_and_si256(_mm256_castps_si256(floored), _mm256_set1_epi32(0x7F800000));
    __m256i unit = _mm256_add_epi32(exponent, _mm256_set1_epi32(20 << 23));
    __m256 sum = _mm256_add_ps(size, _mm256_castsi256_ps(unit));
    __m256i count = _mm256_sub_epi32(_mm256_castps_si256(sum), unit);
    return _mm256_add_epi32(count, _mm256_srli_epi32(exponent, 20));
}

AVX2_INLINE __m256i e4m3_words_clean(__m256i bf16, __m256 factor) // 16 codes in 16-bit lanes
{
    struct pair p = widen(magnitude(bf16));
    __m256i low = e4m3_codes_clean(_mm256_mul_ps(p.low, factor));
    __m256i high = e4m3_codes_clean(_mm256_mul_ps(p.high, factor));
    __m256i sign = _mm256_and_si256(_mm256_srli_epi16(bf16, 8), _mm256_set1_epi16(0x80));
    __m256i words = _mm256_packus_epi32(low, high);
    return _mm256_or_si256(_mm256_sub_epi16(words, _mm256_set1_epi16(121 << 3)), sign);
}

AVX2_INLINE void quantise_clean(const uint16_t *x, float inverse, uint8_t *q)
{
    __m256 factor = _mm256_set1_ps(inverse);
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c += 32) {
        __m256i first = e4m3_words_clean(load(x + c), factor);
        __m256i second = e4m3_words_clean(load(x + c + 16), factor);
        __m256i mixed = _mm256_packus_epi16(first, second);
        store(q + c, _mm256_permute4x64_epi64(mixed, 0xD8));
    }
}

AVX2_INLINE void quantise_any(const uint16_t *x, float inverse, uint8_t *q)
{
    __m256 factor = _mm256_set1_ps(inverse);
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c += 32) {
        struct pair a = widen(load(x + c));
        struct pair b = widen(load(x + c + 16));
        a.low = _mm256_mul_ps(a.low, factor);
        a.high = _mm256_mul_ps(a.high, factor);
        b.low = _mm256_mul_ps(b.low, factor);
        b.high = _mm256_mul_ps(b.high, factor);
        store(q + c, narrow_e4m3(a, b));
    }
}

AVX2_INLINE void quantise_group(const uint16_t *x, int clean, float inverse, uint8_t *q)
{
    if (clean)
        quantise_clean(x, inverse, q);
    else
        quantise_any(x, inverse, q);
}

// Sixteen e4m3 codes in 16-bit lanes to bf16, exactly; NaN gives anything.
AVX2_INLINE __m256i bf16_of_e4m3(__m256i code)
{
    // The two bytes of m * 2^-9 as bf16, for m = 0 to 7. An index with its top bit set gives 0.
    const __m256i low_bytes =
        _mm256_setr_epi8(0, 0, (char)0x80, (char)0xC0, 0, 0x20, 0x40, 0x60, 0, 0, 0, 0, 0, 0, 0, 0,
                         0, 0, (char)0x80, (char)0xC0, 0, 0x20, 0x40, 0x60, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i high_bytes =
        _mm256_setr_epi8(0, 0x3B, 0x3B, 0x3B, 0x3C, 0x3C, 0x3C, 0x3C, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                         0x3B, 0x3B, 0x3B, 0x3C, 0x3C, 0x3C, 0x3C, 0, 0, 0, 0, 0, 0, 0, 0);
    __m256i size = _mm256_and_si256(code, _mm256_set1_epi16(0x7F));
    __m256i normal = _mm256_add_epi16(_mm256_slli_epi16(size, 4), _mm256_set1_epi16(120 << 7));
    __m256i in_low = _mm256_or_si256(size, _mm256_set1_epi16((short)0x8000));
    __m256i in_high = _mm256_or_si256(_mm256_slli_epi16(size, 8), _mm256_set1_epi16(0x80));
    __m256i below = _mm256_or_si256(_mm256_shuffle_epi8(low_bytes, in_low),
                                    _mm256_shuffle_epi8(high_bytes, in_high));
    __m256i is_below = _mm256_cmpgt_epi16(_mm256_set1_epi16(8), size);
    __m256i sign = _mm256_slli_epi16(_mm256_andnot_si256(_mm256_set1_epi16(0x7F), code), 8);
    return _mm256_or_si256(_mm256_blendv_epi8(normal, below, is_below), sign);
}

// With a finite scale a channel is NaN only where its code is.
AVX2_INLINE void dequantise_clean(const uint8_t *q, float scale, uint16_t *x)
{
    __m256 factor = _mm256_set1_ps(scale);
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(q + c));
        __m256i code = _mm256_cvtepu8_epi16(bytes);
        __m256i size = _mm256_and_si256(code, _mm256_set1_epi16(0x7F));
        __m256i nan = _mm256_cmpeq_epi16(size, _mm256_set1_epi16(0x7F));
        struct pair p = widen(bf16_of_e4m3(code));
        __m256i low = bf16_codes_clean(_mm256_mul_ps(p.low, factor));
        __m256i high = bf16_codes_clean(_mm256_mul_ps(p.high, factor));
        __m256i words = _mm256_packus_epi32(low, high);
        store(x + c, _mm256_blendv_epi8(words, _mm256_set1_epi16(PHX_BF16_NAN), nan));
    }
}

AVX2_INLINE void dequantise_group(const uint8_t *q, float scale, uint16_t *x)
{
    if ((phx_bits_from_f32(scale) & 0x7F800000u) != 0x7F800000u) {
        dequantise_clean(q, scale, x);
        return;
    }
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++) // NaN or infinity: rare
        x[c] = phx_bf16_from_f32(phx_f32_from_e4m3(q[c]) * scale);
}

// --- leaves --------------------------------------------------------------------------------------

AVX2 static void quantise_f32(const uint16_t *x, uint32_t channels, uint8_t *q, float *scale)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP) {
        struct amax amax = amax_group(x + c);
        scale[c / PHX_SCALE_GROUP] = phx_scale_f32(amax.value);
        quantise_group(x + c, amax.clean, phx_inverse_f32(amax.value), q + c);
    }
}

AVX2 static void quantise_ue8m0(const uint16_t *x, uint32_t channels, uint8_t *q, uint8_t *exponent)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP) {
        struct amax amax = amax_group(x + c);
        uint8_t e = phx_scale_ue8m0(amax.value);
        exponent[c / PHX_SCALE_GROUP] = e;
        quantise_group(x + c, amax.clean, phx_inverse_ue8m0(e), q + c);
    }
}

AVX2 static void dequantise_f32(const uint8_t *q, const float *scale, uint32_t channels,
                                uint16_t *x)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP)
        dequantise_group(q + c, scale[c / PHX_SCALE_GROUP], x + c);
}

AVX2 static void dequantise_ue8m0(const uint8_t *q, const uint8_t *exponent, uint32_t channels,
                                  uint16_t *x)
{
    for (uint32_t c = 0; c < channels; c += PHX_SCALE_GROUP)
        dequantise_group(q + c, phx_f32_from_ue8m0(exponent[c / PHX_SCALE_GROUP]), x + c);
}

// 64 channels at a time: eight accumulators, enough to cover the latency of a fused step.
AVX2 static void sum_rows(uint16_t *out, const uint16_t *const *rows, const float *weights,
                          uint32_t count, float scale, uint32_t channels)
{
    __m256 factor = _mm256_set1_ps(scale);
    for (uint32_t c = 0; c < channels; c += 64) {
        struct pair sums[4];
        for (uint32_t v = 0; v < 4; v++) {
            sums[v].low = _mm256_setzero_ps();
            sums[v].high = _mm256_setzero_ps();
        }
        for (uint32_t i = 0; i < count; i++) {
            __m256 weight = _mm256_set1_ps(weights[i]);
            for (uint32_t v = 0; v < 4; v++) {
                struct pair row = widen(load(rows[i] + c + 16 * v));
                sums[v].low = _mm256_fmadd_ps(weight, row.low, sums[v].low);
                sums[v].high = _mm256_fmadd_ps(weight, row.high, sums[v].high);
            }
        }
        for (uint32_t v = 0; v < 4; v++) {
            sums[v].low = _mm256_mul_ps(sums[v].low, factor);
            sums[v].high = _mm256_mul_ps(sums[v].high, factor);
            store(out + c + 16 * v, narrow_bf16(sums[v]));
        }
    }
}

AVX2 static void stream(void *target, const void *source, uint64_t size_bytes)
{
    uint8_t *to = target;
    const uint8_t *from = source;
    uint64_t at = -(uintptr_t)to % 64;
    if (size_bytes < PHX_STREAM_BYTES) {
        phx_host_copy(target, source, size_bytes);
        return;
    }
    memcpy(to, from, at);
    for (; at + 64 <= size_bytes; at += 64) { // whole lines
        _mm256_stream_si256((__m256i *)(void *)(to + at), load(from + at));
        _mm256_stream_si256((__m256i *)(void *)(to + at + 32), load(from + at + 32));
    }
    memcpy(to + at, from + at, size_bytes - at);
}

static void settle(void)
{
    _mm_sfence();
}

// By a number below 2^32.
AVX2_INLINE __m256i multiply(__m256i x, __m256i factor)
{
    __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), factor);
    return _mm256_add_epi64(_mm256_mul_epu32(x, factor), _mm256_slli_epi64(high, 32));
}

AVX2_INLINE __m256i fold(__m256i x, int bits)
{
    return _mm256_xor_si256(x, _mm256_srli_epi64(x, bits));
}

AVX2_INLINE __m256i check_mix(__m256i word, __m256i step)
{
    __m256i h = fold(_mm256_xor_si256(word, step), 32);
    h = fold(multiply(h, _mm256_set1_epi64x((long long)PHX_CHECK_FACTOR_1)), 29);
    h = multiply(h, _mm256_set1_epi64x((long long)PHX_CHECK_FACTOR_2));
    return fold(h, 32);
}

AVX2 static uint64_t check_sum(const void *row, uint64_t size_bytes)
{
    const uint8_t *bytes = row;
    uint64_t words = size_bytes / 8;
    uint64_t lanes[4];
    uint64_t i = 0;
    __m256i sum = _mm256_setzero_si256();
    __m256i step =
        _mm256_setr_epi64x((long long)PHX_CHECK_STEP, (long long)(2 * PHX_CHECK_STEP),
                           (long long)(3 * PHX_CHECK_STEP), (long long)(4 * PHX_CHECK_STEP));
    const __m256i four = _mm256_set1_epi64x((long long)(4 * PHX_CHECK_STEP));
    for (; i + 4 <= words; i += 4) {
        sum = _mm256_add_epi64(sum, check_mix(load(bytes + 8 * i), step));
        step = _mm256_add_epi64(step, four);
    }
    store(lanes, sum);
    uint64_t total = lanes[0] + lanes[1] + lanes[2] + lanes[3];
    for (; i < words; i++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * i, sizeof word);
        total += phx_check_mix(word, i + 1);
    }
    return total;
}

static const struct phx_leaves leaves_avx2 = {
    .name = "avx2",
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

const struct phx_leaves *phx_leaves_avx2(void)
{
    __builtin_cpu_init(); // callers may run before constructors
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? &leaves_avx2 : NULL;
}

// --- for tests -----------------------------------------------------------------------------------

AVX2_INLINE void store_codes(const __m256i codes[4], uint8_t *q)
{
    __m256i mixed = _mm256_packus_epi16(_mm256_packus_epi32(codes[0], codes[1]),
                                        _mm256_packus_epi32(codes[2], codes[3]));
    __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    store(q, _mm256_permutevar8x32_epi32(mixed, order));
}

AVX2 void phx__avx2_e4m3_from_f32(const float *x, uint32_t count, uint8_t *q)
{
    for (uint32_t i = 0; i < count; i += 32) {
        __m256i codes[4];
        for (uint32_t v = 0; v < 4; v++)
            codes[v] = e4m3_codes(_mm256_loadu_ps(x + i + 8 * v));
        store_codes(codes, q + i);
    }
}

AVX2 void phx__avx2_e4m3_clean_from_f32(const float *x, uint32_t count, uint8_t *q)
{
    for (uint32_t i = 0; i < count; i += 32) {
        __m256i codes[4];
        for (uint32_t v = 0; v < 4; v++) {
            __m256i bits = load(x + i + 8 * v);
            __m256i size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
            __m256i sign = _mm256_srli_epi32(_mm256_andnot_si256(size, bits), 24);
            __m256i code = e4m3_codes_clean(_mm256_castsi256_ps(size));
            codes[v] = _mm256_or_si256(_mm256_sub_epi32(code, _mm256_set1_epi32(121 << 3)), sign);
        }
        store_codes(codes, q + i);
    }
}

AVX2 void phx__avx2_bf16_from_f32(const float *x, uint32_t count, uint16_t *y)
{
    for (uint32_t i = 0; i < count; i += 16) {
        __m256i mixed = _mm256_packus_epi32(bf16_codes(_mm256_loadu_ps(x + i)),
                                            bf16_codes(_mm256_loadu_ps(x + i + 8)));
        store(y + i, _mm256_permute4x64_epi64(mixed, 0xD8));
    }
}

#else

#include <stdlib.h>

const struct phx_leaves *phx_leaves_avx2(void)
{
    return NULL;
}

// Callers ask phx_leaves_avx2() first, so these are never reached.
void phx__avx2_e4m3_from_f32(const float *x, uint32_t count, uint8_t *q)
{
    (void)x, (void)count, (void)q;
    abort();
}

void phx__avx2_e4m3_clean_from_f32(const float *x, uint32_t count, uint8_t *q)
{
    (void)x, (void)count, (void)q;
    abort();
}

void phx__avx2_bf16_from_f32(const float *x, uint32_t count, uint16_t *y)
{
    (void)x, (void)count, (void)y;
    abort();
}

#endif
