// tests/test_oracle.c: the oracle against cases worked out by hand, and its conversions against the
// leaves, which share no code with it.

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/leaves.h"
#include "kernels/numerics.h"
#include "sim/oracle.h"
#include "tests/test.h"

// Two ranks; rank 0 holds experts 0 and 1, rank 1 holds expert 2.
//
//   source 0   token 0: experts 0, 2    token 1: experts 0, 0
//   source 1   token 0: -, 0            token 1: 2, 1            token 2: -, -
//
// So rank 0's expert 0 gets, in order, source 0's tokens 0, 1, 1 and source 1's token 0; expert 1
// gets source 1's token 1. Rank 1's expert 2 gets source 0's token 0 and source 1's token 1.

#define RANKS 2u
#define TOP_K 2u
#define CHANNELS 128u
#define TOKENS_MAX 4u
#define BLOCK (RANKS * TOKENS_MAX)
#define ROWS (2u * BLOCK)

static const uint32_t expert_rank[3] = {0, 0, 1};
static const uint32_t expert_local[3] = {0, 1, 0};
static const int64_t topk_0[2 * TOP_K] = {0, 2, 0, 0};
static const int64_t topk_1[3 * TOP_K] = {-1, 0, 2, 1, -1, -1};
static const float weights_0[2 * TOP_K] = {0.5f, 0.25f, 1.0f, 0.5f};
static const float weights_1[3 * TOP_K] = {9.0f, 2.0f, 0.5f, 1.0f, 9.0f, 9.0f};

struct fixture {
    struct phx_shape shape;
    struct phx_oracle_source sources[RANKS];
    struct phx_oracle_input input;
    uint16_t x[RANKS][TOKENS_MAX][CHANNELS];
    int32_t recv_count[2];
    int64_t layout_range[2 * RANKS];
    int64_t offsets[3];
    int32_t src_info[ROWS];
    uint16_t payload[ROWS][CHANNELS];
    uint32_t scales[ROWS];
    struct phx_oracle_output out;
    struct phx_message message;
};

static uint16_t x_code(uint32_t rank, uint32_t token)
{
    return (uint16_t)(0x4000 + 16 * rank + token);
}

static void fixture_open(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    memset(f->payload, 0xEE, sizeof(f->payload));
    memset(f->src_info, 0xEE, sizeof(f->src_info));
    f->shape.ranks = RANKS;
    f->shape.experts = 3;
    f->shape.experts_local_max = 2;
    f->shape.top_k = TOP_K;
    f->shape.tokens_max = TOKENS_MAX;
    f->shape.hidden = CHANNELS;
    f->shape.channels = CHANNELS;
    f->shape.in_flight = 1;
    f->shape.workers = 1;
    f->shape.dtype = PHX_BF16;
    f->shape.scale_format = PHX_SCALE_F32;
    f->shape.rows = PHX_ROWS_ONCE;
    f->shape.layout = PHX_LAYOUT_SLOTS;
    for (uint32_t r = 0; r < RANKS; r++)
        for (uint32_t t = 0; t < TOKENS_MAX; t++)
            for (uint32_t c = 0; c < CHANNELS; c++)
                f->x[r][t][c] = x_code(r, t);
    f->sources[0] = (struct phx_oracle_source){2, f->x[0][0], topk_0, weights_0};
    f->sources[1] = (struct phx_oracle_source){3, f->x[1][0], topk_1, weights_1};
    f->input = (struct phx_oracle_input){&f->shape, expert_rank, expert_local, f->sources, false};
    f->out =
        (struct phx_oracle_output){0,           f->recv_count,         f->layout_range, f->offsets,
                                   f->src_info, (uint8_t *)f->payload, f->scales};
}

static int dispatch(struct fixture *f, uint32_t rank, uint8_t counted_0, uint8_t counted_1,
                    uint8_t present_1)
{
    const uint8_t counted[RANKS] = {counted_0, counted_1};
    const uint8_t present[RANKS] = {1, present_1};
    const struct phx_oracle_masks masks = {counted, present};
    return phx_oracle_dispatch(&f->input, rank, &masks, &f->out, &f->message);
}

static int64_t range(int64_t begin, int64_t count)
{
    return begin << 32 | count;
}

static void check_row(const struct fixture *f, uint64_t row, int32_t token, uint16_t code)
{
    CHECK_EQ(f->src_info[row], token);
    for (uint32_t c = 0; c < CHANNELS; c++)
        CHECK_EQ(f->payload[row][c], code);
}

// --- dispatch -----------------------------------------------------------------------------------

TEST(oracle_dispatch_orders_rows_by_source_token_and_k)
{
    static struct fixture f;
    fixture_open(&f);
    CHECK_EQ(dispatch(&f, 0, 1, 1, 1), 0);
    CHECK_EQ(f.recv_count[0], 4);
    CHECK_EQ(f.recv_count[1], 1);
    CHECK_EQ(f.layout_range[0], range(0, 3));
    CHECK_EQ(f.layout_range[1], range(3, 1));
    CHECK_EQ(f.layout_range[2], range(0, 0));
    CHECK_EQ(f.layout_range[3], range(0, 1));
    check_row(&f, 0, 0, x_code(0, 0));
    check_row(&f, 1, 1, x_code(0, 1));
    check_row(&f, 2, 1, x_code(0, 1));
    check_row(&f, 3, 0, x_code(1, 0));
    check_row(&f, BLOCK, 1, x_code(1, 1));
    CHECK_EQ(f.payload[4][0], 0xEEEE); // beyond the count nothing is written
    CHECK_EQ(f.payload[BLOCK + 1][0], 0xEEEE);
    CHECK_EQ(dispatch(&f, 1, 1, 1, 1), 0);
    CHECK_EQ(f.recv_count[0], 2);
    CHECK_EQ(f.recv_count[1], 0); // rank 1 has one expert
    check_row(&f, 0, 0, x_code(0, 0));
    check_row(&f, 1, 1, x_code(1, 1));
}

TEST(oracle_dispatch_gives_no_place_to_a_source_that_is_not_counted)
{
    static struct fixture f;
    fixture_open(&f);
    CHECK_EQ(dispatch(&f, 0, 0, 1, 1), 0);
    CHECK_EQ(f.recv_count[0], 1);
    CHECK_EQ(f.layout_range[0], range(0, 0));
    CHECK_EQ(f.layout_range[1], range(0, 1));
    check_row(&f, 0, 0, x_code(1, 0));
    CHECK_EQ(f.payload[1][0], 0xEEEE);
}

TEST(oracle_dispatch_zeroes_counted_rows_that_never_came)
{
    static struct fixture f;
    fixture_open(&f);
    CHECK_EQ(dispatch(&f, 0, 1, 1, 0), 0);
    CHECK_EQ(f.recv_count[0], 4);
    check_row(&f, 2, 1, x_code(0, 1));
    check_row(&f, 3, 0, 0);
    check_row(&f, BLOCK, 1, 0);
}

TEST(oracle_dispatch_packs_experts_when_compact)
{
    static struct fixture f;
    fixture_open(&f);
    f.shape.layout = PHX_LAYOUT_COMPACT;
    f.out.capacity_rows = 5;
    CHECK_EQ(dispatch(&f, 0, 1, 1, 1), 0);
    CHECK_EQ(f.offsets[0], 0);
    CHECK_EQ(f.offsets[1], 4);
    CHECK_EQ(f.offsets[2], 5);
    check_row(&f, 3, 0, x_code(1, 0));
    check_row(&f, 4, 1, x_code(1, 1));
    CHECK_EQ(f.layout_range[3], range(0, 1)); // within the expert
    f.out.capacity_rows = 4;
    CHECK_EQ(dispatch(&f, 0, 1, 1, 1), PHX_ERR_CAPACITY);
    CHECK_STR_EQ(f.message.text, "5 rows for capacity_rows 4");
    CHECK_EQ(f.offsets[2], 5);
}

TEST(oracle_dispatch_refuses_what_it_cannot_place)
{
    static struct fixture f;
    static const int64_t wrong[TOP_K] = {0, 3};
    fixture_open(&f);
    f.sources[0].topk_idx = wrong;
    f.sources[0].tokens = 1;
    CHECK_EQ(dispatch(&f, 0, 1, 1, 1), PHX_ERR_INVALID);
    CHECK_STR_EQ(f.message.text, "topk_idx of rank 0, token 0, is 3; it may be -1 to 2");
    fixture_open(&f);
    f.sources[1].tokens = 5;
    CHECK_EQ(dispatch(&f, 0, 1, 1, 1), PHX_ERR_INVALID);
    CHECK_STR_EQ(f.message.text, "tokens of rank 1 is 5; at most tokens_max, 4");
    fixture_open(&f);
    CHECK_EQ(dispatch(&f, 2, 1, 1, 1), PHX_ERR_INVALID);
    f.input.is_checked = true; // of the inputs, not of who asks
    CHECK_EQ(dispatch(&f, 2, 1, 1, 1), PHX_ERR_INVALID);
    static int64_t crowd[TOKENS_MAX * 4]; // one expert four times a token: 16 rows for 4
    fixture_open(&f);
    f.shape.top_k = 4;
    f.shape.ranks = 1;
    f.sources[0] = (struct phx_oracle_source){TOKENS_MAX, f.x[0][0], crowd, NULL};
    static const uint32_t all_zero[3] = {0, 0, 0};
    f.input.expert_rank = all_zero;
    CHECK_EQ(dispatch(&f, 0, 1, 1, 1), PHX_ERR_CAPACITY);
}

// --- fp8 ----------------------------------------------------------------------------------------

#define WIDE 640u // five groups, so that ue8m0 needs two words

static uint64_t random_next(uint64_t *state) // splitmix64
{
    uint64_t z = *state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

struct wide {
    uint16_t x[1][WIDE];
    uint8_t payload[8][WIDE];
    uint32_t scales[8 * 5];
    uint8_t q[WIDE];
    float scale[5];
    uint8_t exponent[5];
};
static struct wide wide;

// One rank, one expert listed second: one token, one row, in a block of `rows`.
static void wide_dispatch(struct fixture *f, uint32_t format, uint32_t layout)
{
    static const uint32_t zero[1] = {0};
    static const int64_t topk[2] = {-1, 0};
    fixture_open(f);
    f->shape.ranks = 1;
    f->shape.experts = 1;
    f->shape.experts_local_max = 1;
    f->shape.channels = WIDE;
    f->shape.hidden = WIDE;
    f->shape.dtype = PHX_FP8_E4M3;
    f->shape.scale_format = format;
    f->shape.layout = layout;
    f->input.expert_rank = zero;
    f->input.expert_local = zero;
    f->sources[0] = (struct phx_oracle_source){1, wide.x[0], topk, NULL};
    memset(wide.scales, 0xEE, sizeof(wide.scales));
    f->out.payload = wide.payload[0];
    f->out.scales = wide.scales;
    f->out.capacity_rows = 7;
    CHECK_EQ(dispatch(f, 0, 1, 1, 1), 0);
}

TEST(oracle_fp8_scales_stand_by_group_then_row)
{
    static struct fixture f;
    for (uint32_t c = 0; c < WIDE; c++) // amax of group g is 448 * 2^g
        wide.x[0][c] = phx_bf16_from_f32(ldexpf(c % 2 ? 448.0f : -224.0f, (int)(c / 128)));
    wide_dispatch(&f, PHX_SCALE_F32, PHX_LAYOUT_SLOTS);
    for (uint32_t g = 0; g < 5; g++) { // stride R * M = 4
        float scale = ldexpf(448.0f, (int)g) * (1.0f / 448.0f);
        CHECK_EQ(wide.scales[g * 4], phx_bits_from_f32(scale));
        CHECK_EQ(wide.scales[g * 4 + 1], 0xEEEEEEEEu);
        CHECK_EQ(wide.payload[0][g * 128], 0xF6);     // -224
        CHECK_EQ(wide.payload[0][g * 128 + 1], 0x7E); // 448
    }
    wide_dispatch(&f, PHX_SCALE_F32, PHX_LAYOUT_COMPACT);
    for (uint32_t g = 0; g < 5; g++) // stride capacity_rows = 7
        CHECK_EQ(wide.scales[g * 7], phx_bits_from_f32(ldexpf(448.0f, (int)g) * (1.0f / 448.0f)));
    wide_dispatch(&f, PHX_SCALE_UE8M0, PHX_LAYOUT_SLOTS);
    // 448 * (1/448 as f32) is 1 or a little more: the exponent byte is what the formula gives.
    uint32_t first = phx_scale_ue8m0(448.0f);
    CHECK_EQ(wide.scales[0], first | (first + 1) << 8 | (first + 2) << 16 | (first + 3) << 24);
    CHECK_EQ(wide.scales[4], first + 4); // the other three bytes are zero
    CHECK_EQ(wide.scales[1], 0xEEEEEEEEu);
}

TEST(oracle_fp8_agrees_with_the_leaves)
{
    static struct fixture f;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t state = seed;
        for (uint32_t c = 0; c < WIDE; c++) {
            uint64_t r = random_next(&state);
            // Group 0: any bits. Others: around the floor of amax, around 1, finite and large.
            wide.x[0][c] = (uint16_t)r;
            if (c >= 128 && c < 384)
                wide.x[0][c] = (uint16_t)((r & 0x8000u) | (r >> 16) % (c < 256 ? 0x3900 : 0x4100));
            if (c >= 384)
                wide.x[0][c] = (uint16_t)((r & 0x80FFu) | 0x7E00u);
        }
        wide_dispatch(&f, PHX_SCALE_F32, PHX_LAYOUT_COMPACT);
        phx_leaves_portable.quantise_f32(wide.x[0], WIDE, wide.q, wide.scale);
        CHECK_MEM_EQ(wide.payload[0], wide.q, WIDE);
        for (uint32_t g = 0; g < 5; g++)
            CHECK_EQ(wide.scales[g * 7], phx_bits_from_f32(wide.scale[g]));
        wide_dispatch(&f, PHX_SCALE_UE8M0, PHX_LAYOUT_COMPACT);
        phx_leaves_portable.quantise_ue8m0(wide.x[0], WIDE, wide.q, wide.exponent);
        CHECK_MEM_EQ(wide.payload[0], wide.q, WIDE);
        for (uint32_t g = 0; g < 5; g++)
            CHECK_EQ(wide.scales[g / 4 * 7] >> (g % 4 * 8) & 0xFF, wide.exponent[g]);
    }
}

// --- comparing ----------------------------------------------------------------------------------

TEST(oracle_compare_names_the_first_difference)
{
    static struct fixture a;
    static struct fixture b;
    fixture_open(&a);
    fixture_open(&b);
    CHECK_EQ(dispatch(&a, 0, 1, 1, 1), 0);
    CHECK_EQ(dispatch(&b, 0, 1, 1, 1), 0);
    b.payload[5][0] = 1; // beyond the count: not looked at
    CHECK_EQ(phx_oracle_dispatch_compare(&a.shape, &a.out, &b.out, &a.message), 0);
    b.payload[BLOCK][3] ^= 1;
    CHECK_EQ(phx_oracle_dispatch_compare(&a.shape, &a.out, &b.out, &a.message), PHX_ERR_CORRUPT);
    CHECK_STR_EQ(a.message.text,
                 "payload of local expert 1, row 8, token 1: byte 6 is 0x10, expected 0x11");
    b.src_info[2] = 0;
    CHECK_EQ(phx_oracle_dispatch_compare(&a.shape, &a.out, &b.out, &a.message), PHX_ERR_CORRUPT);
    CHECK_STR_EQ(a.message.text, "src_info of local expert 0, row 2, is 0, expected 1");
    b.layout_range[3] = range(1, 1);
    CHECK_EQ(phx_oracle_dispatch_compare(&a.shape, &a.out, &b.out, &a.message), PHX_ERR_CORRUPT);
    CHECK_STR_EQ(a.message.text, "layout_range[1][1] is 0x100000001, expected 0x1");
    b.recv_count[0] = 3;
    CHECK_EQ(phx_oracle_dispatch_compare(&a.shape, &a.out, &b.out, &a.message), PHX_ERR_CORRUPT);
    CHECK_STR_EQ(a.message.text, "recv_count[0] is 3, expected 4");
}

// --- combine ------------------------------------------------------------------------------------

// What each row's expert gave: one value in every channel, another in every row, so that a wrong
// row shows.
struct answer {
    uint16_t rows[RANKS][ROWS][CHANNELS];
    uint16_t out[TOKENS_MAX][CHANNELS];
    float loss[TOKENS_MAX];
    uint8_t answered[RANKS];
    struct phx_oracle_combine combine;
    struct phx_oracle_error error;
};

static const uint16_t *answer_row(void *context, uint32_t rank, uint64_t row)
{
    struct answer *a = context;
    return a->rows[rank][row];
}

static void answer_set(struct answer *a, uint32_t rank, uint32_t row, float value)
{
    for (uint32_t c = 0; c < CHANNELS; c++)
        a->rows[rank][row][c] = phx_bf16_from_f32(value);
}

static void answer_open(struct answer *a, uint32_t rank, enum phx_rows_form form)
{
    memset(a, 0, sizeof(*a));
    a->answered[0] = 1;
    a->answered[1] = 1;
    a->combine.rank = rank;
    a->combine.form = form;
    a->combine.answered = a->answered;
    a->combine.expert_row = answer_row;
    a->combine.context = a;
    a->combine.out = a->out[0];
    a->combine.token_loss = a->loss;
    answer_set(a, 0, 0, 2.0f);  // source 0, token 0, expert 0
    answer_set(a, 0, 1, 1.0f);  // source 0, token 1, k = 0
    answer_set(a, 0, 2, 8.0f);  // source 0, token 1, k = 1
    answer_set(a, 0, 3, 16.0f); // source 1, token 0
    answer_set(a, 0, BLOCK, 32.0f);
    answer_set(a, 1, 0, 4.0f);  // source 0, token 0, expert 2
    answer_set(a, 1, 1, 64.0f); // source 1, token 1
}

static void check_token(const struct answer *a, uint32_t token, float value, float loss)
{
    for (uint32_t c = 0; c < CHANNELS; c++)
        CHECK_EQ(a->out[token][c], phx_bf16_from_f32(value));
    CHECK(a->loss[token] == loss);
}

static void combine(struct fixture *f, struct answer *a)
{
    CHECK_EQ(phx_oracle_combine(&f->input, &a->combine, &f->message), 0);
    CHECK_EQ(phx_oracle_combine_error(&f->input, &a->combine, a->out[0], &a->error, &f->message),
             0);
}

static void check_sums(enum phx_rows_form form)
{
    static struct fixture f;
    static struct answer a;
    fixture_open(&f);
    answer_open(&a, 0, form);
    combine(&f, &a);
    check_token(&a, 0, 0.5f * 2 + 0.25f * 4, 0);
    check_token(&a, 1, 1.0f * 1 + 0.5f * 8, 0);
    CHECK(a.error.abs_max == 0.0);
    answer_open(&a, 1, form);
    combine(&f, &a);
    check_token(&a, 0, 2.0f * 16, 0);
    check_token(&a, 1, 0.5f * 64 + 1.0f * 32, 0);
    check_token(&a, 2, 0, 0);
    CHECK(a.error.abs_max == 0.0);
    // Rank 1 does not answer.
    answer_open(&a, 0, form);
    a.answered[1] = 0;
    combine(&f, &a);
    check_token(&a, 0, 1.0f, 0.25f);
    check_token(&a, 1, 5.0f, 0);
    a.combine.renormalise = true;
    combine(&f, &a);
    check_token(&a, 0, 1.5f, 0.25f); // 0.75 / 0.5
    check_token(&a, 1, 5.0f, 0);
    CHECK(a.error.abs_max == 0.0);
    // Nobody answers: zeros, all of it lost, nothing to scale by.
    a.answered[0] = 0;
    combine(&f, &a);
    check_token(&a, 0, 0, 0.75f);
    check_token(&a, 1, 0, 1.5f);
}

TEST(oracle_combine_sums_and_counts_losses)
{
    check_sums(PHX_ROWS_ONCE);
    check_sums(PHX_ROWS_PER_EXPERT);
}

TEST(oracle_combine_follows_each_ranks_own_layout)
{
    static struct fixture f;
    static struct answer a;
    static const uint8_t only_1[RANKS] = {0, 1};
    static const uint8_t *const counted[RANKS] = {only_1, NULL};
    fixture_open(&f);
    answer_open(&a, 1, PHX_ROWS_ONCE);
    a.combine.counted = counted; // rank 0 counted source 1 alone: its row is the first
    answer_set(&a, 0, 0, 128.0f);
    combine(&f, &a);
    check_token(&a, 0, 2.0f * 128, 0);
    f.shape.layout = PHX_LAYOUT_COMPACT; // then expert 1's row follows it
    answer_set(&a, 0, 1, 256.0f);
    combine(&f, &a);
    check_token(&a, 1, 0.5f * 64 + 1.0f * 256, 0);
    answer_open(&a, 0, PHX_ROWS_ONCE);
    a.combine.counted = counted; // source 0's rows were not counted there, so nothing was summed
    combine(&f, &a);
    check_token(&a, 0, 1.0f, 0.5f);
    check_token(&a, 1, 0, 1.5f);
}

TEST(oracle_combine_forms_differ_where_partials_round)
{
    static struct fixture f;
    static struct answer a;
    static const int64_t topk[3] = {0, 1, 2};
    static const float weights[3] = {1.0f, 0x1p-8f, 0x1p-8f};
    fixture_open(&f);
    f.shape.top_k = 3;
    f.sources[0] = (struct phx_oracle_source){1, f.x[0][0], topk, weights};
    f.sources[1].tokens = 0;
    for (int form = PHX_ROWS_ONCE; form <= PHX_ROWS_PER_EXPERT; form++) {
        answer_open(&a, 0, (enum phx_rows_form)form);
        answer_set(&a, 0, 0, 1.0f);
        answer_set(&a, 0, BLOCK, 1.0f);
        answer_set(&a, 1, 0, 1.0f);
        combine(&f, &a);
        // Exact: 1 + 2^-7. Once: rank 0's 1 + 2^-8 is a tie and goes to 1, and so does the sum.
        bool once = form == PHX_ROWS_ONCE;
        check_token(&a, 0, once ? 1.0f : 1.0f + 0x1p-7f, 0);
        CHECK(a.error.abs_max == (once ? 0x1p-7 : 0.0));
        double relative = 0x1p-7 / (1.0 + 0x1p-7);
        CHECK(fabs(a.error.relative_l2 - (once ? relative : 0.0)) < 1e-12);
        CHECK_EQ(a.error.skipped, 0);
    }
}

TEST(oracle_combine_takes_other_weights_at_the_source)
{
    static struct fixture f;
    static struct answer a;
    static const float other[2 * TOP_K] = {2.0f, 4.0f, 8.0f, 16.0f};
    fixture_open(&f);
    answer_open(&a, 0, PHX_ROWS_PER_EXPERT);
    a.combine.topk_weights = other;
    a.answered[1] = 0;
    combine(&f, &a);
    check_token(&a, 0, 2.0f * 2, 4.0f);
    f.sources[0].topk_weights = NULL;
    a.combine.topk_weights = NULL;
    combine(&f, &a);
    check_token(&a, 0, 2.0f, 1.0f); // weights of 1
}

TEST(oracle_combine_error_skips_what_is_not_finite)
{
    static struct fixture f;
    static struct answer a;
    fixture_open(&f);
    answer_open(&a, 0, PHX_ROWS_ONCE);
    a.rows[0][0][5] = 0x7F80;
    combine(&f, &a);
    CHECK_EQ(a.out[0][5], 0x7F80);
    CHECK_EQ(a.error.skipped, 1);
    CHECK(a.error.abs_max == 0.0);
}
