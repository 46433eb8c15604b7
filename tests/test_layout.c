// tests/test_layout.c: nothing in a pair region, in staging or among the words overlaps, for many
// shapes; and words keep their order across both wraps.

#include <string.h>

#include "kernels/layout.h"
#include "tests/test.h"

static struct phx_shape shape_of(uint32_t seed)
{
    struct phx_shape s;
    memset(&s, 0, sizeof s);
    s.ranks = 1 + seed % 17;
    s.experts = 1 + seed % 61;
    s.experts_local_max = 1 + seed % 13;
    s.top_k = 1 + seed % 9;
    s.tokens_max = 1 + seed % 37;
    s.hidden = 128 * (1 + seed % 5);
    s.channels = seed % 2 ? s.hidden : 128;
    s.in_flight = 1 + seed % 2;
    s.workers = 1 + seed % 41;
    s.dtype = seed % 3 ? PHX_FP8_E4M3 : PHX_BF16;
    s.scale_format = seed % 4 ? PHX_SCALE_F32 : PHX_SCALE_UE8M0;
    s.rows = seed % 5 ? PHX_ROWS_ONCE : PHX_ROWS_PER_EXPERT;
    s.layout = PHX_LAYOUT_SLOTS;
    s.division = seed % 7 < 4 ? PHX_BY_TOKEN : PHX_BY_PEER;
    return s;
}

static void check_region(const struct phx_shape *s)
{
    uint64_t at = 0;
    uint32_t near = phx_near_rows(s);
    CHECK(near <= s->tokens_max && near * phx_dispatch_row_stride(s) <= PHX_NEAR_BYTES);
    for (uint64_t n = 0; n < phx_slots(s); n++) {
        CHECK_EQ(phx_counts_word_offset(s, n), at);
        CHECK_EQ(at % 64, 0);
        CHECK(phx_combine_word_offset(s, n, phx_parts(s) - 1) + 8 <= phx_route_offset(s, n, 0));
        at = phx_route_offset(s, n, 0);
        CHECK_EQ(at % (near > 0 ? 64 : 128), 0); // by itself, for who watches lines
        uint32_t most = s->experts_local_max < s->top_k ? s->experts_local_max : s->top_k;
        CHECK(phx_route_bytes(s, s->tokens_max, s->tokens_max * most) <= phx_route_stride(s));
        CHECK_EQ(phx_route_offset(s, n, near), at);
        CHECK(phx_route_room(s, phx_route_bytes(s, near, near * most)) <= phx_near_route_bytes(s));
        CHECK(phx_route_room(s, phx_route_stride(s)) <= phx_route_room_max(s));
        CHECK(phx_pieces_bytes(phx_route_stride(s)) * 3 >= phx_route_stride(s) * 4);
        at += phx_near_route_bytes(s);
        for (uint32_t row = 0; row < near; row++, at += phx_dispatch_row_stride(s))
            CHECK_EQ(phx_dispatch_row_offset(s, n, row), at);
        CHECK_EQ(at, (n + 1) * phx_head_bytes(s));
    }
    CHECK_EQ(phx_status_word_offset(s), at);
    at = phx_heads_bytes(s);
    CHECK(phx_status_word_offset(s) + 8 <= at);
    CHECK(at < UINT32_MAX);
    for (uint64_t n = 0; near > 0 && n < phx_slots(s); n++, at += phx_route_room_max(s))
        CHECK_EQ(phx_route_offset(s, n, near + 1), at);
    for (uint64_t n = 0; n < phx_slots(s); n++) {
        for (uint32_t row = 0; row < s->tokens_max; row++) {
            CHECK(row < near || phx_dispatch_row_offset(s, n, row) == at);
            CHECK(phx_dispatch_row_bytes(s, s->channels) <= phx_dispatch_row_stride(s));
            at += phx_dispatch_row_stride(s);
        }
    }
    for (uint64_t n = 0; n < phx_slots(s); n++) {
        for (uint64_t row = 0; row < phx_combine_rows_per_slot(s); row++) {
            CHECK_EQ(phx_combine_row_offset(s, n, row), at);
            at += phx_combine_row_bytes(s->channels);
        }
    }
    CHECK(at <= phx_region_bytes(s));
    CHECK(phx_region_bytes(s) - at < 4096);
}

static void check_stage(const struct phx_shape *s)
{
    uint64_t at = 0;
    for (uint64_t n = 0; n < phx_slots(s); n++)
        for (uint32_t p = 0; p < s->ranks; p++, at += phx_route_stride(s))
            CHECK(p > 0 || phx_stage_routes_offset(s, n) == at);
    for (uint64_t n = 0; n < phx_slots(s); n++)
        for (uint32_t t = 0; t < s->tokens_max; t++, at += phx_dispatch_row_stride(s))
            CHECK_EQ(phx_stage_row_offset(s, n, t), at);
    for (uint64_t n = 0; n < phx_slots(s); n++)
        for (uint32_t p = 0; p < s->ranks; p++)
            for (uint64_t row = 0; row < phx_combine_rows_per_slot(s); row++) {
                CHECK_EQ(phx_stage_combine_offset(s, n, p, row), at);
                at += phx_combine_row_bytes(s->channels);
            }
    CHECK(at <= phx_stage_bytes(s));
}

static void check_words(const struct phx_shape *s)
{
    uint64_t before = 0;
    for (uint64_t n = 0; n < phx_slots(s); n++) {
        for (uint32_t i = 0; i < 1 + 2 * phx_parts(s); i++) {
            uint64_t at = phx_counts_word_offset(s, n);
            if (i > 0)
                at = i <= phx_parts(s) ? phx_rows_word_offset(s, n, i - 1)
                                       : phx_combine_word_offset(s, n, i - 1 - phx_parts(s));
            CHECK_EQ(at % 8, 0);
            CHECK(at >= before);
            before = at + 8;
            CHECK(before <= phx_status_word_offset(s));
        }
    }
}

TEST(layout_nothing_overlaps)
{
    for (uint32_t seed = 0; seed < 2000; seed++) {
        struct phx_shape s = shape_of(seed);
        check_region(&s);
        check_words(&s);
    }
}

// Heads of many ranks are small, and have room for what a pair uses; full rows are not there.
TEST(layout_few_small_rows_share_a_head_with_their_words)
{
    struct phx_shape s = shape_of(5);
    s.ranks = 1024;
    s.workers = 1;
    s.experts_local_max = 1;
    s.top_k = 8;
    s.tokens_max = 128;
    s.hidden = 7168;
    s.channels = 128;
    s.dtype = PHX_FP8_E4M3;
    s.scale_format = PHX_SCALE_F32;
    CHECK_EQ(phx_near_rows(&s), 4);
    CHECK_EQ(phx_head_bytes(&s), 960);
    for (uint64_t n = 0; n < phx_slots(&s); n++) {
        CHECK_EQ(phx_dispatch_row_offset(&s, n, 3) / 960, n);
        CHECK_EQ((phx_route_offset(&s, n, 4) + phx_route_bytes(&s, 4, 4) - 1) / 960, n);
        CHECK_EQ(phx_rows_word_offset(&s, n, 0) / 960, n);
        // What a pair of one row needs is in the first six lines.
        CHECK_EQ(phx_dispatch_row_offset(&s, n, 1) - n * 960, 6 * 64);
        CHECK(phx_dispatch_row_offset(&s, n, 4) >= phx_heads_bytes(&s));
        CHECK(phx_route_offset(&s, n, 5) >= phx_heads_bytes(&s));
    }
    s.ranks = 64;
    CHECK_EQ(phx_near_rows(&s), 16);
    s.channels = s.hidden;
    CHECK_EQ(phx_near_rows(&s), 0);
    CHECK_EQ(phx_counts_word_offset(&s, 0), 0);
}

TEST(layout_staging_does_not_overlap)
{
    for (uint32_t seed = 0; seed < 300; seed++) {
        struct phx_shape s = shape_of(seed);
        check_stage(&s);
    }
}

TEST(layout_slots_repeat_after_their_number)
{
    struct phx_shape s = shape_of(5);
    uint32_t k = phx_slots(&s);
    for (uint64_t n = 1; n < 20; n++) {
        CHECK_EQ(phx_route_offset(&s, n, 1), phx_route_offset(&s, n + k, 1));
        CHECK(phx_route_offset(&s, n, 1) != phx_route_offset(&s, n + 1, 1));
        CHECK_EQ(phx_counts_word_offset(&s, n), phx_counts_word_offset(&s, n + k));
    }
}

TEST(layout_words_round_trip)
{
    uint64_t word = phx_word_make(0x12345, 0x7654321, 0x1ABCDEF);
    CHECK_EQ(phx_word_epoch(word), 0x2345);
    CHECK_EQ(phx_word_sequence(word), 0x654321);
    CHECK_EQ(phx_word_value(word), 0xABCDEF);
    CHECK_EQ(phx_word_value(phx_word_make(1, 1, PHX_WORD_VALUE_MASKED)), PHX_WORD_VALUE_MASKED);
}
