// tests/test_route.c: route messages: what the builder writes passes the check, and no bytes that a
// peer could send instead do harm: they are refused, or every number in them is in range.

#include <stdlib.h>
#include <string.h>

#include "kernels/dispatch.h"
#include "tests/test.h"

static struct phx_shape small_shape(void)
{
    struct phx_shape s;
    memset(&s, 0, sizeof s);
    s.ranks = 2;
    s.experts = 6;
    s.experts_local_max = 3;
    s.top_k = 4;
    s.tokens_max = 8;
    s.hidden = s.channels = 128;
    s.in_flight = 1;
    s.workers = 1;
    s.dtype = PHX_BF16;
    s.rows = PHX_ROWS_ONCE;
    s.layout = PHX_LAYOUT_SLOTS;
    return s;
}

// Three tokens: 1 to experts 0 and 2, 4 to expert 2, 7 to 1, 0 and 2.
static void fill(const struct phx_shape *s, uint8_t *m)
{
    phx_route_append(s, m, 1, 0, 0, 0.25f);
    phx_route_append(s, m, 1, 2, 3, 0.5f);
    phx_route_append(s, m, 4, 2, 1, 1.0f);
    phx_route_append(s, m, 7, 1, 0, 0.125f);
    phx_route_append(s, m, 7, 0, 1, 0.125f);
    phx_route_append(s, m, 7, 2, 2, 0.75f);
    phx_route_finish(s, m);
}

static uint8_t *built(const struct phx_shape *s)
{
    uint8_t *m = calloc(1, phx_route_stride(s));
    CHECK(m != NULL);
    phx_route_begin(s, m, s->tokens_max);
    fill(s, m);
    return m;
}

static int accepted(const struct phx_shape *s, uint8_t *m, uint64_t row_count)
{
    uint32_t scratch[16];
    CHECK(2 * s->experts_local_max <= 16);
    memset(scratch, 0xA5, sizeof scratch); // the check needs no clean scratch, and steps over it
    int ok = phx_route_header_ok(s, phx_route_header(m), row_count) &&
             phx_route_ok(s, s->experts_local_max, m, scratch, 2);
    for (uint32_t i = 0; i < 16; i++)
        CHECK(scratch[i] == 0xA5A5A5A5u || (i % 2 == 0 && i < 2 * s->experts_local_max));
    return ok;
}

static void seal(const struct phx_shape *s, uint8_t *m) // a forger knows the check sum too
{
    struct phx_route_header *h = phx_route_header(m);
    uint64_t bytes = phx_route_bytes(s, h->row_count, h->entry_count);
    h->head_check = phx_route_head_check(s, h->row_count, h->entry_count);
    if (bytes <= phx_route_stride(s))
        h->check = phx_route_check_sum(m, bytes);
}

TEST(route_built_message_passes_and_says_what_was_put_in)
{
    struct phx_shape s = small_shape();
    uint8_t *m = built(&s);
    struct phx_route_header *h = phx_route_header(m);
    CHECK_EQ(h->row_count, 3);
    CHECK_EQ(h->entry_count, 6);
    CHECK(accepted(&s, m, 3));
    const uint32_t counts[] = {2, 1, 3};
    CHECK_MEM_EQ(phx_route_counts(m), counts, sizeof counts);
    const struct phx_route_row *rows = phx_route_rows(&s, m);
    CHECK_EQ(rows[1].token, 4);
    CHECK_EQ(phx_route_row_end(h, rows, 1) - rows[1].entry_begin, 1);
    const struct phx_route_entry *e = phx_route_entries(&s, m, 3);
    CHECK_EQ(e[5].expert, 2);
    CHECK_EQ(e[5].index, 2); // third row of expert 2 from this source
    CHECK_EQ(e[5].k, 2);
    free(m);
}

TEST(route_message_is_the_same_whatever_room_it_was_built_in)
{
    struct phx_shape s = small_shape();
    uint8_t *m = built(&s);
    uint8_t *tight = calloc(1, phx_route_bytes(&s, 3, 6));
    CHECK(tight != NULL);
    phx_route_begin(&s, tight, 3);
    fill(&s, tight);
    CHECK_MEM_EQ(tight, m, phx_route_bytes(&s, 3, 6));
    free(tight);
    free(m);
}

// Messages that a worker builds lie one behind the other, however its peers are shared out.
// Those of many tokens have the room that their entries need, those of few the most.
static void check_packed(uint32_t workers, uint32_t tokens)
{
    enum { RANKS = 7, LOCAL = 2, TOKENS_MAX = 2000 };
    struct phx_shape s = small_shape();
    s.ranks = RANKS;
    s.workers = workers;
    s.experts = RANKS * LOCAL;
    s.experts_local_max = LOCAL;
    s.top_k = 2;
    s.tokens_max = tokens;
    uint16_t expert_rank[RANKS * LOCAL];
    uint16_t expert_local[RANKS * LOCAL];
    for (uint16_t e = 0; e < RANKS * LOCAL; e++) {
        expert_rank[e] = e / LOCAL;
        expert_local[e] = e % LOCAL;
    }
    static int64_t topk[TOKENS_MAX * 2]; // each twice in a row: the second counts for nothing
    for (uint32_t t = 0; t < tokens; t++)
        topk[2 * t] = topk[2 * t + 1] = t % (RANKS * LOCAL);
    uint8_t *stage = calloc(1, phx_stage_bytes(&s));
    CHECK(stage != NULL);
    uint32_t sent_rows[RANKS];
    uint64_t sent_at[RANKS];
    struct phx_dispatch_op op = {.topk_idx = topk, .token_count = tokens};
    op.common.sequence = 1;
    op.handle.sent_rows = sent_rows;
    op.handle.sent_at = sent_at;
    const struct phx_rank rank = {
        .shape = s,
        .rank = 3,
        .expert_rank = expert_rank,
        .expert_local = expert_local,
        .stage = stage,
    };
    for (uint32_t index = 0; index < workers; index++) {
        struct phx_worker w = {.rank = &rank, .index = index, .count = workers};
        phx_routes_build(&w, &op);
        uint64_t at = phx_routes_first(&w);
        for (uint32_t i = index; i < RANKS; i += workers) {
            uint32_t peer = (rank.rank + i) % RANKS;
            uint8_t *m = phx_route_staged(&w, &op, peer);
            CHECK_EQ(sent_at[peer], at);
            CHECK(sent_rows[peer] >= tokens / 14 * 2 && sent_rows[peer] <= tokens / 14 * 2 + 2);
            CHECK_EQ(phx_route_header(m)->entry_count, sent_rows[peer]);
            CHECK(accepted(&s, m, sent_rows[peer]));
            uint32_t most = tokens < TOKENS_MAX ? 2 * tokens : 2 * sent_rows[peer];
            at += phx_align(phx_route_bytes(&s, most < tokens ? most : tokens, most), 16);
        }
        const struct phx_worker next = {.rank = &rank, .index = index + 1, .count = workers};
        CHECK(at <= phx_routes_first(&next));
    }
    free(stage);
}

TEST(route_messages_of_a_worker_are_built_one_behind_the_other)
{
    for (uint32_t workers = 1; workers <= 9; workers++)
        for (uint32_t tokens = 40; tokens <= 2000; tokens += 1960)
            check_packed(workers, tokens);
}

TEST(route_empty_message_passes)
{
    struct phx_shape s = small_shape();
    uint8_t *m = calloc(1, phx_route_stride(&s));
    CHECK(m != NULL);
    phx_route_begin(&s, m, s.tokens_max);
    phx_route_finish(&s, m);
    CHECK(accepted(&s, m, 0));
    CHECK(!accepted(&s, m, 1)); // the signal said otherwise
    free(m);
}

TEST(route_every_flipped_bit_is_refused)
{
    struct phx_shape s = small_shape();
    uint8_t *m = built(&s);
    uint64_t bytes = phx_route_bytes(&s, 3, 6);
    for (uint64_t bit = 0; bit < bytes * 8; bit++) {
        m[bit / 8] ^= (uint8_t)(1u << bit % 8);
        CHECK_MSG(!accepted(&s, m, 3), "bit %llu", (unsigned long long)bit);
        m[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    CHECK(accepted(&s, m, 3));
    free(m);
}

struct forgery {
    const char *what;
    void (*forge)(const struct phx_shape *s, uint8_t *m);
};
static void too_many_rows(const struct phx_shape *s, uint8_t *m)
{
    phx_route_header(m)->row_count = s->tokens_max + 1;
}
static void too_many_entries(const struct phx_shape *s, uint8_t *m)
{
    (void)s;
    phx_route_header(m)->entry_count = 13;
}
static void token_out_of_range(const struct phx_shape *s, uint8_t *m)
{
    phx_route_rows(s, m)[2].token = s->tokens_max;
}
static void token_twice(const struct phx_shape *s, uint8_t *m)
{
    phx_route_rows(s, m)[1].token = 1;
}
static void entries_overlap(const struct phx_shape *s, uint8_t *m)
{
    phx_route_rows(s, m)[1].entry_begin = 0;
}
static void entries_past_the_end(const struct phx_shape *s, uint8_t *m)
{
    phx_route_rows(s, m)[2].entry_begin = 6;
}
static void first_entry_skipped(const struct phx_shape *s, uint8_t *m)
{
    phx_route_rows(s, m)[0].entry_begin = 1;
}
static void expert_out_of_range(const struct phx_shape *s, uint8_t *m)
{
    phx_route_entries(s, m, 3)[0].expert = 3;
}
static void index_out_of_range(const struct phx_shape *s, uint8_t *m)
{
    phx_route_entries(s, m, 3)[0].index = 2;
}
static void k_out_of_range(const struct phx_shape *s, uint8_t *m)
{
    phx_route_entries(s, m, 3)[0].k = 4;
}
// Tokens 1 and 7 to expert 0, both as its first row: one place for two, and one that nobody fills.
static void one_place_for_two(const struct phx_shape *s, uint8_t *m)
{
    phx_route_entries(s, m, 3)[4].index = 0;
}
static void places_out_of_order(const struct phx_shape *s, uint8_t *m)
{
    phx_route_entries(s, m, 3)[0].index = 1;
    phx_route_entries(s, m, 3)[4].index = 0;
}
static void expert_twice_in_a_row(const struct phx_shape *s, uint8_t *m)
{
    phx_route_entries(s, m, 3)[1].expert = 0; // token 1: expert 0 twice, at the same place
    phx_route_entries(s, m, 3)[1].index = 0;
    phx_route_counts(m)[0]++;
    phx_route_counts(m)[2]--;
}
static void k_twice(const struct phx_shape *s, uint8_t *m)
{
    phx_route_entries(s, m, 3)[4].k = 0; // token 7: k 0, 0, 2
}
static void k_descending(const struct phx_shape *s, uint8_t *m)
{
    phx_route_entries(s, m, 3)[3].k = 2; // token 7: k 2, 1, 0
    phx_route_entries(s, m, 3)[5].k = 0;
}
static void counts_too_large(const struct phx_shape *s, uint8_t *m)
{
    (void)s;
    phx_route_counts(m)[0] = 0xFFFFFFFFu;
    phx_route_counts(m)[1] = 5; // the 32-bit sum is right
    phx_route_counts(m)[2] = 2;
}
TEST(route_forged_messages_are_refused)
{
    const struct forgery forgeries[] = {{"too many rows", too_many_rows},
                                        {"too many entries", too_many_entries},
                                        {"token out of range", token_out_of_range},
                                        {"token twice", token_twice},
                                        {"entries overlap", entries_overlap},
                                        {"entries past the end", entries_past_the_end},
                                        {"first entry skipped", first_entry_skipped},
                                        {"expert out of range", expert_out_of_range},
                                        {"index out of range", index_out_of_range},
                                        {"k out of range", k_out_of_range},
                                        {"one place for two rows", one_place_for_two},
                                        {"places out of order", places_out_of_order},
                                        {"an expert twice in a row", expert_twice_in_a_row},
                                        {"the same k twice", k_twice},
                                        {"descending k", k_descending},
                                        {"counts too large", counts_too_large}};
    struct phx_shape s = small_shape();
    for (size_t i = 0; i < sizeof forgeries / sizeof forgeries[0]; i++) {
        uint8_t *m = built(&s);
        forgeries[i].forge(&s, m);
        seal(&s, m);
        CHECK_MSG(!accepted(&s, m, phx_route_header(m)->row_count), "%s", forgeries[i].what);
        free(m);
    }
}

// Nothing behind the header is read by numbers that were not written together with it.
TEST(route_every_flipped_bit_of_a_header_is_noticed_by_the_header)
{
    struct phx_shape s = small_shape();
    struct phx_shape other = small_shape();
    uint8_t *m = built(&s);
    const struct phx_route_header *h = phx_route_header(m);
    const uint32_t row_count = h->row_count;
    CHECK(phx_route_header_ok(&s, h, row_count));
    for (uint32_t bit = 0; bit < 8 * offsetof(struct phx_route_header, check); bit++) {
        m[bit / 8] = (uint8_t)(m[bit / 8] ^ 1u << bit % 8);
        CHECK_MSG(!phx_route_header_ok(&s, h, h->row_count), "bit %u", bit);
        m[bit / 8] = (uint8_t)(m[bit / 8] ^ 1u << bit % 8);
    }
    CHECK(phx_route_header_ok(&s, h, row_count));
    other.experts_local_max--; // another shape's
    CHECK(!phx_route_header_ok(&other, h, row_count));
    free(m);
}

TEST(route_expert_twice_counts_once)
{
    struct phx_shape s = small_shape();
    const int64_t list[] = {3, -1, 3, 9};
    CHECK_EQ(phx_topk_expert(&s, list, 0, 0), 3);
    CHECK_EQ(phx_topk_expert(&s, list, 0, 1), -1);
    CHECK_EQ(phx_topk_expert(&s, list, 0, 2), -1);
    CHECK_EQ(phx_topk_expert(&s, list, 0, 3), -1); // out of range
}

// Lanes of a GPU worker each have a turn; elsewhere a worker goes from one peer to the next. Both
// go to every peer once, to itself last, and no two workers write a part of one peer.
TEST(route_turns_go_the_way_from_peer_to_peer)
{
    for (uint32_t seed = 0; seed < 400; seed++) {
        struct phx_rank rank;
        uint32_t parts[24] = {0}; // of the first peer, by how many workers each is written
        memset(&rank, 0, sizeof rank);
        rank.shape.ranks = 1 + seed % 13;
        rank.shape.workers = 1 + seed % 24;
        rank.shape.division = PHX_BY_TOKEN;
        rank.rank = seed % rank.shape.ranks;
        for (uint32_t index = 0; index < rank.shape.workers; index++) {
            struct phx_worker w = {.rank = &rank, .index = index, .count = rank.shape.workers};
            struct phx_service v = phx_service_first(&w);
            parts[v.part]++;
            for (uint32_t turn = 0; turn < rank.shape.ranks; turn++) {
                struct phx_service in_turn = phx_service_in_turn(&w, turn);
                CHECK_EQ(in_turn.offset, v.offset);
                CHECK_EQ(in_turn.part, v.part);
                CHECK_EQ(v.offset, (turn + 1) % rank.shape.ranks);
                CHECK_EQ(phx_service_peer(&w, v), (rank.rank + turn + 1) % rank.shape.ranks);
                v = phx_service_next(&w, v);
            }
            CHECK_EQ(v.offset, rank.shape.ranks);
            CHECK_EQ(phx_service_in_turn(&w, rank.shape.ranks + 3).offset, rank.shape.ranks);
        }
        for (uint32_t part = 0; part < rank.shape.workers; part++)
            CHECK_EQ(parts[part], 1);
    }
}
