// tests/test_numerics.c: kernels/numerics.h against definitions by value, hand-made cases and the
// hashes of full sweeps.
//
// PHX_SWEEP_BLOCKS=all recomputes all 256 blocks (half a minute); otherwise the chosen few are.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/leaves.h"
#include "tests/golden/sweep_cpu.h"
#include "tests/golden/sweep_hashes.h"
#include "tests/test.h"

// --- definitions by value, sharing nothing with numerics.h ---------------------------------------

static double value_of_e4m3(uint32_t code) // of a magnitude below 0x7F
{
    uint32_t exponent = code >> 3;
    uint32_t mantissa = code & 7;
    if (exponent == 0)
        return ldexp(mantissa, -9);
    return ldexp(8 + mantissa, (int)exponent - 10);
}

static double value_of_bf16(uint32_t code) // of a magnitude; 0x7F80 counts as 2^128
{
    uint32_t exponent = code >> 7;
    uint32_t mantissa = code & 0x7F;
    if (exponent == 0)
        return ldexp(mantissa, -133);
    return ldexp(128 + mantissa, (int)exponent - 134);
}

// The code in [0, last] whose value is nearest; of two as near, the even one.
static uint32_t nearest(double x, uint32_t last, double (*value)(uint32_t))
{
    uint32_t low = 0;
    uint32_t high = last;
    if (x >= value(last))
        return last;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (value(middle) <= x)
            low = middle;
        else
            high = middle;
    }
    double below = x - value(low);
    double above = value(high) - x;
    if (below == above)
        return low % 2 == 0 ? low : high;
    return below < above ? low : high;
}

static void check_both(float x)
{
    uint32_t bits = phx_bits_from_f32(x);
    uint32_t negative = bits >> 31;
    double size = fabs((double)x);
    uint32_t e4m3 = isnan(x) ? 0x7F : negative << 7 | nearest(size, 0x7E, value_of_e4m3);
    uint32_t bf16 = isnan(x) ? 0x7FFF : negative << 15 | nearest(size, 0x7F80, value_of_bf16);
    CHECK_MSG(phx_e4m3_from_f32(x) == e4m3, "e4m3 of 0x%08x is 0x%02x, expected 0x%02x", bits,
              phx_e4m3_from_f32(x), e4m3);
    CHECK_MSG(phx_bf16_from_f32(x) == bf16, "bf16 of 0x%08x is 0x%04x, expected 0x%04x", bits,
              phx_bf16_from_f32(x), bf16);
}

static void check_around(float x) // x and its neighbours, of both signs
{
    uint32_t bits = phx_bits_from_f32(x);
    for (uint32_t step = 0; step <= 4; step++) {
        check_both(phx_f32_from_bits(bits - 2 + step));
        check_both(phx_f32_from_bits((bits - 2 + step) ^ 0x80000000u));
    }
}

// --- tests ---------------------------------------------------------------------------------------

TEST(numerics_compiler_neither_fuses_nor_flushes)
{
    volatile float a = 1.0f + 0x1p-12f;
    volatile float c = -1.0f;
    float fused = phx_fma(a, a, c);
    float apart = a * a + c;
    CHECK(fused != apart); // the square has 25 bits
    CHECK_EQ(phx_bits_from_f32(apart), phx_bits_from_f32(0x1p-11f));
    volatile float tiny = 0x1p-149f;
    CHECK(tiny * 1.0f == 0x1p-149f);
}

TEST(numerics_e4m3_decodes_every_code)
{
    for (uint32_t code = 0; code < 256; code++) {
        float x = phx_f32_from_e4m3((uint8_t)code);
        if ((code & 0x7F) == 0x7F) {
            CHECK_EQ(phx_bits_from_f32(x), 0x7FC00000);
            CHECK_EQ(phx_e4m3_from_f32(x), 0x7F);
            continue;
        }
        double size = value_of_e4m3(code & 0x7F);
        CHECK((double)x == (code < 128 ? size : -size));
        CHECK_EQ(phx_e4m3_from_f32(x), code); // the sign of zero included
    }
}

TEST(numerics_bf16_decodes_every_code)
{
    for (uint32_t code = 0; code < 65536; code++) {
        float x = phx_f32_from_bf16((uint16_t)code);
        CHECK_EQ(phx_bits_from_f32(x), (intmax_t)code << 16);
        CHECK_EQ(phx_bf16_from_f32(x), isnan(x) ? 0x7FFF : code);
    }
}

TEST(numerics_rounds_to_nearest_even_at_every_midpoint)
{
    for (uint32_t code = 0; code < 0x7E; code++)
        check_around((float)((value_of_e4m3(code) + value_of_e4m3(code + 1)) / 2));
    for (uint32_t code = 0; code < 0x7E; code++)
        check_around((float)value_of_e4m3(code));
    for (uint32_t code = 0; code < 0x7F80; code++)
        check_around((float)((value_of_bf16(code) + value_of_bf16(code + 1)) / 2));
}

TEST(numerics_converts_a_stride_of_all_inputs_by_value)
{
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 1u << 20; i++) {
        check_both(phx_f32_from_bits(bits));
        bits += 4099; // odd, so that low bits vary too; 2^20 steps span all 2^32
    }
}

TEST(numerics_e4m3_saturates_and_drops_nan_signs)
{
    CHECK_EQ(phx_e4m3_from_f32(448.0f), 0x7E);
    CHECK_EQ(phx_e4m3_from_f32(464.0f), 0x7E);
    CHECK_EQ(phx_e4m3_from_f32(1e30f), 0x7E);
    CHECK_EQ(phx_e4m3_from_f32(INFINITY), 0x7E);
    CHECK_EQ(phx_e4m3_from_f32(-INFINITY), 0xFE);
    CHECK_EQ(phx_e4m3_from_f32(phx_f32_from_bits(0x7F800001u)), 0x7F);
    CHECK_EQ(phx_e4m3_from_f32(phx_f32_from_bits(0xFFFFFFFFu)), 0x7F);
    CHECK_EQ(phx_e4m3_from_f32(-0.0f), 0x80);
    CHECK_EQ(phx_e4m3_from_f32(0x1p-10f), 0x00);        // half the smallest: to even
    CHECK_EQ(phx_e4m3_from_f32(0x1.000002p-10f), 0x01); // just above
    CHECK_EQ(phx_e4m3_from_f32(-0x1p-149f), 0x80);      // subnormal f32
    CHECK_EQ(phx_e4m3_from_f32(0x1.fp-7f), 0x08);       // up into the normals
}

TEST(numerics_bf16_keeps_infinity_and_drops_nan_payloads)
{
    CHECK_EQ(phx_bf16_from_f32(INFINITY), 0x7F80);
    CHECK_EQ(phx_bf16_from_f32(-INFINITY), 0xFF80);
    CHECK_EQ(phx_bf16_from_f32(phx_f32_from_bits(0x7F7FFFFFu)), 0x7F80); // rounds to infinity
    CHECK_EQ(phx_bf16_from_f32(phx_f32_from_bits(0xFF800001u)), 0x7FFF);
    CHECK_EQ(phx_bf16_from_f32(phx_f32_from_bits(0x00008001u)), 0x0001); // subnormals stay
    CHECK_EQ(phx_bf16_from_f32(-0.0f), 0x8000);
}

TEST(numerics_ue8m0_rounds_up_to_a_power_of_two)
{
    CHECK_EQ(phx_ue8m0_from_f32(1.0f), 127);
    CHECK_EQ(phx_ue8m0_from_f32(0x1.000002p0f), 128);
    CHECK_EQ(phx_ue8m0_from_f32(0x1p127f), 254);
    CHECK_EQ(phx_ue8m0_from_f32(0x1.000002p127f), 255);
    CHECK_EQ(phx_ue8m0_from_f32(INFINITY), 255);
    CHECK_EQ(phx_ue8m0_from_f32(NAN), 255);
    CHECK_EQ(phx_ue8m0_from_f32(0.0f), 0);
    CHECK_EQ(phx_ue8m0_from_f32(0x1p-127f), 0);
    CHECK_EQ(phx_ue8m0_from_f32(phx_f32_from_bits(0x00400001u)), 1);
    CHECK_EQ(phx_ue8m0_from_f32(0x1p-126f), 1);
    CHECK_EQ(phx_ue8m0_from_f32(-2.0f), 128);
    for (uint32_t code = 0; code < 255; code++) {
        float x = phx_f32_from_ue8m0((uint8_t)code);
        CHECK((double)x == ldexp(1.0, (int)code - 127));
        CHECK_EQ(phx_ue8m0_from_f32(x), code);
        CHECK((double)x * (double)phx_inverse_ue8m0((uint8_t)code) == 1.0);
    }
    CHECK(isnan(phx_f32_from_ue8m0(255)));
}

TEST(numerics_amax_ignores_nan_and_sign)
{
    uint32_t amax = 0;
    amax = phx_amax_fold(amax, 0x7FC0); // NaN
    amax = phx_amax_fold(amax, 0xFF81); // NaN, negative
    CHECK(phx_amax_finish(amax) == 1e-4f);
    amax = phx_amax_fold(amax, 0xBF80); // -1
    amax = phx_amax_fold(amax, 0x3F00); // 0.5
    CHECK(phx_amax_finish(amax) == 1.0f);
    amax = phx_amax_fold(amax, 0xFF80); // -infinity
    CHECK(isinf(phx_amax_finish(amax)));
}

TEST(numerics_scales_follow_the_formulas)
{
    CHECK(phx_scale_f32(448.0f) == 448.0f * (1.0f / 448.0f));
    CHECK(phx_inverse_f32(448.0f) == 1.0f);
    CHECK(phx_inverse_f32(2.0f) == 224.0f);
    CHECK_EQ(phx_scale_ue8m0(0x1p7f * 448.0f), 134);
    CHECK_EQ(phx_scale_ue8m0(450.0f), 128); // 1.004 goes up to 2
    CHECK(isinf(phx_scale_f32(INFINITY)));
    CHECK(phx_inverse_f32(INFINITY) == 0.0f);
    CHECK_EQ(phx_scale_ue8m0(INFINITY), 255);
    CHECK(phx_inverse_ue8m0(255) == 0.0f);
    // No channel leaves e4m3's range: amax itself lands within rounding of 448.
    for (uint32_t code = 0; code < 0x7F80; code++) {
        float amax = phx_amax_finish(code);
        CHECK(amax * phx_inverse_f32(amax) < 464.0f);
        CHECK(amax * phx_inverse_ue8m0(phx_scale_ue8m0(amax)) <= 448.0f * (1 + 0x1p-23f));
    }
}

// --- hashes of full sweeps -----------------------------------------------------------------------

// Where something happens: zero, subnormals, e4m3's range, its top, the ends of f32, both signs.
static const uint8_t blocks_chosen[] = {0x00, 0x3A, 0x3C, 0x43, 0x7F, 0x80, 0xBA, 0xC3, 0xFF};

static void check_block(uint32_t block)
{
    for (uint32_t sweep = PHX_SWEEP_BF16; sweep < PHX_SWEEP_END; sweep++)
        CHECK_MSG(phx_sweep_block(sweep, block) == phx_sweep_hashes[block][sweep - 1],
                  "%s, block 0x%02x", phx_sweep_name(sweep), block);
}

static void check_block_vector(uint32_t index, uint32_t block)
{
    struct phx_sweep_vectors v;
    CHECK(phx_sweep_vectors_get(index, &v));
    for (uint32_t sweep = PHX_SWEEP_BF16; sweep <= PHX_SWEEP_E4M3; sweep++)
        CHECK_MSG(phx_sweep_block_vector(&v, sweep, block) == phx_sweep_hashes[block][sweep - 1],
                  "%s through %s, block 0x%02x", phx_sweep_name(sweep), v.name, block);
}

static void check_block_avx2(uint32_t block)
{
    check_block_vector(0, block);
}

static void check_block_avx512(uint32_t block)
{
    check_block_vector(1, block);
}

static void check_blocks(void (*check)(uint32_t block))
{
    const char *blocks = getenv("PHX_SWEEP_BLOCKS");
    if (blocks != NULL && strcmp(blocks, "all") == 0) {
        for (uint32_t block = 0; block < PHX_SWEEP_BLOCKS; block++)
            check(block);
        return;
    }
    for (size_t i = 0; i < sizeof(blocks_chosen); i++)
        check(blocks_chosen[i]);
}

TEST(numerics_sweep_gives_the_golden_hashes)
{
    check_blocks(check_block);
}

TEST(numerics_avx2_sweep_gives_the_golden_hashes)
{
    if (phx_leaves_avx2() == NULL)
        SKIP("this build or processor has no AVX2 and FMA");
    check_blocks(check_block_avx2);
}

TEST(numerics_avx512_sweep_gives_the_golden_hashes)
{
    if (phx_leaves_avx512() == NULL)
        SKIP("this build or processor has no AVX-512 with F, BW, DQ and VL");
    check_blocks(check_block_avx512);
}
