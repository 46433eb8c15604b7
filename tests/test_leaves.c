// tests/test_leaves.c: every leaf against numerics.h, and each set against the portable one, to the
// bit, over rows that mix ordinary numbers with NaN, infinity, subnormals and zeros.

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine/limits.h"
#include "kernels/check.h"
#include "kernels/leaves.h"
#include "kernels/numerics.h"
#include "tests/test.h"

#define CHANNELS 1024u
#define GROUPS (CHANNELS / PHX_SCALE_GROUP)
#define ROWS 9u
#define SEEDS 400u

static uint64_t random_next(uint64_t *state) // splitmix64
{
    uint64_t z = *state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

enum flavour { ORDINARY = 1, ANY_BITS, SPECIALS, TINY, HUGE_ONES, FLAVOUR_END };

static uint16_t random_bf16(uint64_t *state, enum flavour flavour)
{
    static const uint16_t specials[] = {0x0000, 0x8000, 0x0001, 0x807F, 0x0080, 0x3F80, 0xBF80,
                                        0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7F81, 0x7FFF, 0xFFC0};
    uint64_t r = random_next(state);
    switch (flavour) {
    case ANY_BITS:
        return (uint16_t)r;
    case SPECIALS:
        return specials[r % (sizeof(specials) / sizeof(specials[0]))];
    case TINY: // below and around the floor of amax, subnormals included
        return (uint16_t)((r & 0x8000u) | (r >> 16) % 0x3900u);
    case HUGE_ONES: // finite; products and sums overflow
        return (uint16_t)((r & 0x8000u) | (0x7F7Fu - (r >> 16) % 0x200u));
    default: // exponents of about 1, 1 in 64 a special
        if (r >> 58 == 0)
            return specials[r % (sizeof(specials) / sizeof(specials[0]))];
        return (uint16_t)((r & 0x807Fu) | (0x3C00u + ((r >> 16) % 16 << 7)));
    }
}

static void random_row(uint64_t *state, uint16_t *row)
{
    for (uint32_t g = 0; g < GROUPS; g++) {
        enum flavour flavour = (enum flavour)(1 + random_next(state) % (FLAVOUR_END - 1));
        for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++)
            row[g * PHX_SCALE_GROUP + c] = random_bf16(state, flavour);
    }
}

static float random_weight(uint64_t *state)
{
    static const uint32_t specials[] = {0x00000000, 0x80000000, 0x00000001, 0x7F7FFFFF,
                                        0x7F800000, 0xFF800000, 0x7FC00001, 0x3F800000};
    uint64_t r = random_next(state);
    if (r % 8 == 0)
        return phx_f32_from_bits(specials[(r >> 8) % 8]);
    return (float)(r >> 40) * 0x1p-24f;
}

struct arena { // 16-byte aligned, as leaves ask
    _Alignas(32) uint16_t rows[ROWS][CHANNELS];
    _Alignas(32) uint8_t q[2][CHANNELS];
    _Alignas(32) uint16_t out[2][CHANNELS];
    float scale[2][GROUPS];
    uint8_t exponent[2][GROUPS];
};
static struct arena m;

// Runs a check on every set that is here, or on every one but the portable.
static void for_sets(void (*check)(const struct phx_leaves *set), bool is_portable_too)
{
    uint32_t count = 0;
    for (uint32_t i = is_portable_too ? 0 : 1; i < PHX_LEAVES_SETS; i++) {
        if (phx_leaves_set(i) == NULL)
            continue;
        check(phx_leaves_set(i));
        count++;
    }
    if (count == 0)
        SKIP("this build or processor has no set beside the portable one");
}

// --- all sets agree ------------------------------------------------------------------------------

static void quantises_as_portable(const struct phx_leaves *set)
{
    const struct phx_leaves *sets[2] = {&phx_leaves_portable, set};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t state = seed;
        random_row(&state, m.rows[0]);
        uint32_t channels = PHX_SCALE_GROUP * (1 + (uint32_t)(seed % GROUPS));
        for (int s = 0; s < 2; s++)
            sets[s]->quantise_f32(m.rows[0], channels, m.q[s], m.scale[s]);
        CHECK_MEM_EQ(m.q[0], m.q[1], channels);
        CHECK_MEM_EQ(m.scale[0], m.scale[1], channels / PHX_SCALE_GROUP * sizeof(float));
        for (int s = 0; s < 2; s++)
            sets[s]->quantise_ue8m0(m.rows[0], channels, m.q[s], m.exponent[s]);
        CHECK_MEM_EQ(m.q[0], m.q[1], channels);
        CHECK_MEM_EQ(m.exponent[0], m.exponent[1], channels / PHX_SCALE_GROUP);
    }
}

TEST(leaves_quantise_as_portable_ones)
{
    for_sets(quantises_as_portable, false);
}

static void dequantises_as_portable(const struct phx_leaves *set)
{
    const struct phx_leaves *sets[2] = {&phx_leaves_portable, set};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t state = seed;
        for (uint32_t c = 0; c < CHANNELS; c++)
            m.q[0][c] = (uint8_t)random_next(&state);
        for (uint32_t g = 0; g < GROUPS; g++) {
            m.scale[0][g] = random_weight(&state);
            m.exponent[0][g] = (uint8_t)random_next(&state);
        }
        m.exponent[0][0] = (uint8_t)seed; // each value in turn
        for (int s = 0; s < 2; s++)
            sets[s]->dequantise_f32(m.q[0], m.scale[0], CHANNELS, m.out[s]);
        CHECK_MEM_EQ(m.out[0], m.out[1], sizeof(m.out[0]));
        for (int s = 0; s < 2; s++)
            sets[s]->dequantise_ue8m0(m.q[0], m.exponent[0], CHANNELS, m.out[s]);
        CHECK_MEM_EQ(m.out[0], m.out[1], sizeof(m.out[0]));
    }
}

TEST(leaves_dequantise_as_portable_ones)
{
    for_sets(dequantises_as_portable, false);
}

static void sums_as_portable(const struct phx_leaves *set)
{
    const struct phx_leaves *sets[2] = {&phx_leaves_portable, set};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t state = seed;
        const uint16_t *rows[ROWS];
        float weights[ROWS];
        uint32_t count = (uint32_t)(seed % (ROWS + 1));
        for (uint32_t i = 0; i < count; i++) {
            random_row(&state, m.rows[i]);
            rows[i] = m.rows[i];
            weights[i] = random_weight(&state);
        }
        float scale = seed % 3 == 0 ? random_weight(&state) : 1.0f;
        uint32_t channels = PHX_SCALE_GROUP * (1 + (uint32_t)(seed % GROUPS));
        for (int s = 0; s < 2; s++)
            sets[s]->sum_rows(m.out[s], rows, weights, count, scale, channels);
        CHECK_MEM_EQ(m.out[0], m.out[1], channels * sizeof(uint16_t));
    }
}

TEST(leaves_sum_as_portable_ones)
{
    for_sets(sums_as_portable, false);
}

// --- what the leaves mean ------------------------------------------------------------------------

static void check_quantised(const struct phx_leaves *set, const float values[4], float scale)
{
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++)
        m.rows[0][c] = phx_bf16_from_f32(values[c % 4]);
    set->quantise_f32(m.rows[0], PHX_SCALE_GROUP, m.q[0], m.scale[0]);
    CHECK_EQ(phx_bits_from_f32(m.scale[0][0]), phx_bits_from_f32(scale));
}

static void check_meaning(const struct phx_leaves *set)
{
    check_quantised(set, (float[4]){448.0f, -224.0f, 0.0f, -0.0f}, 448.0f * (1.0f / 448.0f));
    CHECK_MEM_EQ(m.q[0], ((uint8_t[4]){0x7E, 0xF6, 0x00, 0x80}), 4);
    // The floor: a row of zeros keeps a scale that is not zero.
    check_quantised(set, (float[4]){0.0f, -0.0f, 0.0f, 0.0f}, 1e-4f * (1.0f / 448.0f));
    CHECK_MEM_EQ(m.q[0], ((uint8_t[4]){0x00, 0x80, 0x00, 0x00}), 4);
    // A NaN costs its own channel; an infinity costs the group.
    check_quantised(set, (float[4]){448.0f, NAN, 224.0f, 0.0f}, 448.0f * (1.0f / 448.0f));
    CHECK_MEM_EQ(m.q[0], ((uint8_t[4]){0x7E, 0x7F, 0x76, 0x00}), 4);
    check_quantised(set, (float[4]){448.0f, -INFINITY, -224.0f, 0.0f}, INFINITY);
    CHECK_MEM_EQ(m.q[0], ((uint8_t[4]){0x00, 0x7F, 0x80, 0x00}), 4);
    set->dequantise_f32(m.q[0], m.scale[0], PHX_SCALE_GROUP, m.out[0]);
    CHECK_MEM_EQ(m.out[0], ((uint16_t[4]){0x7FFF, 0x7FFF, 0x7FFF, 0x7FFF}), 8);
    set->quantise_ue8m0(m.rows[0], PHX_SCALE_GROUP, m.q[1], m.exponent[1]);
    CHECK_EQ(m.exponent[1][0], 0xFF);
    CHECK_MEM_EQ(m.q[0], m.q[1], PHX_SCALE_GROUP);
    set->dequantise_ue8m0(m.q[1], m.exponent[1], PHX_SCALE_GROUP, m.out[1]);
    CHECK_MEM_EQ(m.out[0], m.out[1], 2 * PHX_SCALE_GROUP);
}

TEST(leaves_quantise_by_the_formulas)
{
    for_sets(check_meaning, true);
}

static void check_sums(const struct phx_leaves *set)
{
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++) {
        m.rows[0][c] = phx_bf16_from_f32(1.0f);
        m.rows[1][c] = phx_bf16_from_f32(-3.0f);
    }
    const uint16_t *rows[2] = {m.rows[0], m.rows[1]};
    set->sum_rows(m.out[0], rows, (float[2]){0.5f, 0.25f}, 2, 2.0f, PHX_SCALE_GROUP);
    CHECK_EQ(m.out[0][0], phx_bf16_from_f32(-0.5f));
    CHECK_EQ(m.out[0][127], phx_bf16_from_f32(-0.5f));
    set->sum_rows(m.out[0], rows, (float[2]){0.5f, 0.25f}, 0, 1.0f, PHX_SCALE_GROUP);
    CHECK_EQ(m.out[0][5], 0);
    // Order counts: (2^127 + 2^127) - 2^127 overflows on the way.
    for (uint32_t c = 0; c < PHX_SCALE_GROUP; c++)
        m.rows[0][c] = 0x7F00;
    const uint16_t *same[3] = {m.rows[0], m.rows[0], m.rows[0]};
    set->sum_rows(m.out[0], same, (float[3]){1, 1, -1}, 3, 1.0f, PHX_SCALE_GROUP);
    CHECK_EQ(m.out[0][0], 0x7F80);
    set->sum_rows(m.out[0], same, (float[3]){1, -1, 1}, 3, 1.0f, PHX_SCALE_GROUP);
    CHECK_EQ(m.out[0][0], 0x7F00);
}

TEST(leaves_sum_rows_in_order_with_one_rounding)
{
    for_sets(check_sums, true);
}

static void check_moves(const struct phx_leaves *set)
{
    uint8_t source[67];
    uint8_t target[67];
    for (uint32_t i = 0; i < sizeof(source); i++)
        source[i] = (uint8_t)(i + 1);
    memset(target, 0xEE, sizeof(target));
    set->copy(target, source, 66);
    CHECK_MEM_EQ(target, source, 66);
    CHECK_EQ(target[66], 0xEE);
    set->zero(target, 65);
    CHECK_EQ(target[64], 0);
    CHECK_EQ(target[65], 66);
    set->copy(NULL, NULL, 0);
    set->zero(NULL, 0);
    uint32_t words[3] = {7, 8, 9};
    uint32_t spread[7] = {0};
    set->scatter_u32(spread, 3, words, 3);
    CHECK_MEM_EQ(spread, ((uint32_t[7]){7, 0, 0, 8, 0, 0, 9}), sizeof(spread));
}

// Streams of every alignment and of lengths around a line and around the shortest worth it.
static void check_stream(const struct phx_leaves *set)
{
    enum { MARGIN = 64, MOST = 3 * PHX_STREAM_BYTES / 2 };
    static _Alignas(64) uint8_t source[MOST + 2 * MARGIN];
    static _Alignas(64) uint8_t target[MOST + 2 * MARGIN];
    uint64_t state = 31;
    for (uint32_t i = 0; i < sizeof(source); i++)
        source[i] = (uint8_t)(random_next(&state) % 255);
    for (uint32_t to = 0; to < MARGIN; to++) {
        uint32_t bytes = (uint32_t)(random_next(&state) % MOST);
        const uint8_t *from = source + random_next(&state) % MARGIN;
        if (to % 2 == 0)
            bytes = PHX_STREAM_BYTES - 2 + to;
        memset(target, 0xFF, sizeof(target));
        set->stream(target + to, from, bytes);
        CHECK_MEM_EQ(target + to, from, bytes);
        for (uint32_t i = 0; i < MARGIN; i++) {
            CHECK(i >= to || target[i] == 0xFF);
            CHECK_EQ(target[to + bytes + i], 0xFF);
        }
    }
    set->stream(NULL, NULL, 0);
}

TEST(leaves_stream_exactly_the_bytes_asked_for)
{
    for_sets(check_stream, true);
}

TEST(leaves_move_exactly_the_bytes_asked_for)
{
    for_sets(check_moves, true);
}

// --- the check of a row --------------------------------------------------------------------------

TEST(leaves_check_sum_is_the_formula)
{
    // Worked out by hand from check.h's text, in another language.
    CHECK_EQ(phx_check_mix(0, 0), 0);
    CHECK_EQ(phx_check_mix(0, 1), UINT64_C(0x351F3DEEF2F1548F));
    CHECK_EQ(phx_check_mix(UINT64_C(0x0123456789ABCDEF), 7), UINT64_C(0xEFB5F2E827C6619E));
    CHECK_EQ(phx_check_key(2, 0x1000005, 9), UINT64_C(0xFBE5169B31E824D8));
    uint64_t words[3] = {1, 2, 3};
    CHECK_EQ(phx_leaves_portable.check_sum(words, sizeof words), UINT64_C(0xBB9071ABA6566143));
    CHECK_EQ(phx_leaves_portable.check_sum(words, 0), 0);
}

static void check_sums_as_portable(const struct phx_leaves *set)
{
    uint64_t state = 21;
    random_row(&state, m.rows[0]);
    for (uint32_t at = 0; at < 32; at += 8)
        for (uint32_t bytes = 0; bytes <= 512; bytes += 8) {
            const uint8_t *row = (const uint8_t *)m.rows[0] + at;
            CHECK_EQ(set->check_sum(row, bytes), phx_leaves_portable.check_sum(row, bytes));
        }
}

TEST(leaves_check_sum_as_portable_ones)
{
    for_sets(check_sums_as_portable, false);
}

static void check_flips(const struct phx_leaves *set)
{
    enum { BYTES = 7168 / 4 }; // 56 words a group of lanes, and some left over
    uint64_t state = 22;
    random_row(&state, m.rows[0]);
    uint8_t *row = (uint8_t *)m.rows[0];
    uint64_t sum = set->check_sum(row, BYTES);
    for (uint32_t bit = 0; bit < 8 * BYTES; bit++) {
        row[bit / 8] = (uint8_t)(row[bit / 8] ^ 1u << bit % 8);
        CHECK_MSG(set->check_sum(row, BYTES) != sum, "%s: bit %u", set->name, bit);
        row[bit / 8] = (uint8_t)(row[bit / 8] ^ 1u << bit % 8);
    }
    uint8_t first[8]; // the same words in another order
    memcpy(first, row, 8);
    memmove(row, row + 8, 8);
    memcpy(row + 8, first, 8);
    CHECK(set->check_sum(row, BYTES) != sum);
}

TEST(leaves_check_sum_sees_every_single_bit)
{
    for_sets(check_flips, true);
}

TEST(leaves_round_trip_stays_within_half_a_step)
{
    uint64_t state = 12;
    for (uint32_t c = 0; c < CHANNELS; c++) {
        uint64_t r = random_next(&state);
        m.rows[0][c] = (uint16_t)((r & 0x807Fu) | (0x3D00u + ((r >> 16) % 8 << 7)));
    }
    const struct phx_leaves *set = phx_leaves_get();
    set->quantise_f32(m.rows[0], CHANNELS, m.q[0], m.scale[0]);
    set->dequantise_f32(m.q[0], m.scale[0], CHANNELS, m.out[0]);
    for (uint32_t c = 0; c < CHANNELS; c++) {
        float x = phx_f32_from_bf16(m.rows[0][c]);
        float y = phx_f32_from_bf16(m.out[0][c]);
        float unit = m.scale[0][c / PHX_SCALE_GROUP] * 0x1p-9f; // of e4m3's subnormals
        float bound = fmaxf(fabsf(x) * (1.0f / 16 + 1.0f / 128), unit);
        CHECK_MSG(fabsf(x - y) <= bound, "channel %u: %g became %g", c, (double)x, (double)y);
    }
}

// --- choosing ------------------------------------------------------------------------------------

static void *get_leaves(void *unused)
{
    (void)unused;
    return (void *)(uintptr_t)phx_leaves_get();
}

TEST(leaves_get_is_the_same_on_every_thread)
{
    pthread_t threads[8];
    void *seen[8];
    for (int i = 0; i < 8; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, get_leaves, NULL), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], &seen[i]);
    const struct phx_leaves *set = phx_leaves_get();
    for (int i = 0; i < 8; i++)
        CHECK(seen[i] == (void *)(uintptr_t)set);
    const char *name = getenv("PHX_LEAVES");
    if (name != NULL && strcmp(name, "portable") == 0)
        CHECK_STR_EQ(set->name, "portable");
    const char *best = phx_leaves_avx512() != NULL ? "avx512"
                       : phx_leaves_avx2() != NULL ? "avx2"
                                                   : "portable";
    if (name == NULL)
        CHECK_STR_EQ(set->name, best);
}
