// tests/test_routing.c: the inputs of a workload: legal, as distributed as they claim, repeatable.

#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#include "sim/routing.h"
#include "sim/workload.h"

#define RANKS 4u
#define TOKENS 64u
#define EXPERTS 32u
#define TOP_K 8u
#define CHANNELS 128u

struct drawn {
    uint16_t x[TOKENS * CHANNELS];
    int64_t topk_idx[TOKENS * TOP_K];
    float topk_weights[TOKENS * TOP_K];
};

static struct phx_router *router(uint32_t routing, uint64_t zipf_millionths, uint64_t seed)
{
    struct phx_moe_load moe = {
        .steps = 2,
        .layers = 2,
        .tokens = TOKENS,
        .hidden = CHANNELS,
        .experts = EXPERTS,
        .top_k = TOP_K,
        .routing = routing,
        .zipf_millionths = zipf_millionths,
    };
    struct phx_router *r = phx_router_create(&moe, 0, RANKS, seed);
    CHECK(r != NULL);
    return r;
}

static void draw(const struct phx_router *r, uint64_t pair, uint32_t rank, struct drawn *d)
{
    phx_router_draw(r, pair, rank, CHANNELS, d->x, d->topk_idx, d->topk_weights);
}

TEST(routing_lists_are_legal)
{
    static struct drawn d;
    const uint32_t kinds[] = {PHX_ROUTING_UNIFORM, PHX_ROUTING_BALANCED, PHX_ROUTING_ZIPF};
    for (uint32_t kind = 0; kind < 3; kind++) {
        struct phx_router *r = router(kinds[kind], 8000000, 3);
        draw(r, 1, 2, &d);
        for (uint32_t t = 0; t < TOKENS; t++) {
            float sum = 0;
            for (uint32_t k = 0; k < TOP_K; k++) {
                int64_t expert = d.topk_idx[t * TOP_K + k];
                CHECK(expert >= 0 && expert < EXPERTS);
                for (uint32_t other = 0; other < k; other++)
                    CHECK(d.topk_idx[t * TOP_K + other] != expert);
                CHECK(d.topk_weights[t * TOP_K + k] > 0.0f);
                sum += d.topk_weights[t * TOP_K + k];
            }
            CHECK_MSG(sum > 0.9999f && sum < 1.0001f, "weights sum to %g", (double)sum);
        }
        phx_router_destroy(r);
    }
}

TEST(routing_repeats_and_depends_on_seed_rank_and_pair)
{
    static struct drawn a;
    static struct drawn b;
    struct phx_router *r = router(PHX_ROUTING_ZIPF, 1100000, 3);
    struct phx_router *other = router(PHX_ROUTING_ZIPF, 1100000, 4);
    draw(r, 1, 2, &a);
    draw(r, 1, 2, &b);
    CHECK_MEM_EQ(&a, &b, sizeof a);
    draw(r, 1, 3, &b);
    CHECK(memcmp(a.x, b.x, sizeof a.x) != 0);
    draw(r, 2, 2, &b);
    CHECK(memcmp(a.x, b.x, sizeof a.x) != 0);
    draw(other, 1, 2, &b);
    CHECK(memcmp(a.x, b.x, sizeof a.x) != 0);
    CHECK(memcmp(a.topk_idx, b.topk_idx, sizeof a.topk_idx) != 0);
    phx_router_destroy(r);
    phx_router_destroy(other);
}

static void count_experts(uint32_t routing, uint64_t zipf_millionths, uint32_t counts[EXPERTS])
{
    static struct drawn d;
    struct phx_router *r = router(routing, zipf_millionths, 3);
    memset(counts, 0, EXPERTS * sizeof counts[0]);
    for (uint32_t rank = 0; rank < RANKS; rank++) {
        draw(r, 0, rank, &d);
        for (uint32_t i = 0; i < TOKENS * TOP_K; i++)
            counts[d.topk_idx[i]]++;
    }
    phx_router_destroy(r);
}

TEST(routing_balanced_gives_every_expert_the_same)
{
    uint32_t counts[EXPERTS];
    count_experts(PHX_ROUTING_BALANCED, 0, counts);
    for (uint32_t e = 0; e < EXPERTS; e++)
        CHECK_EQ(counts[e], RANKS * TOKENS * TOP_K / EXPERTS);
}

TEST(routing_zipf_is_skewed_and_uniform_is_not)
{
    uint32_t counts[EXPERTS];
    uint32_t most[2] = {0, 0};
    for (uint32_t skewed = 0; skewed < 2; skewed++) {
        count_experts(skewed ? PHX_ROUTING_ZIPF : PHX_ROUTING_UNIFORM, 1500000, counts);
        for (uint32_t e = 0; e < EXPERTS; e++)
            if (counts[e] > most[skewed])
                most[skewed] = counts[e];
    }
    // 64 each on average; with this skew nearly every one of 256 tokens goes to the favourite.
    CHECK_MSG(most[0] < 110, "uniform: %u", most[0]);
    CHECK_MSG(most[1] > 200, "zipf: %u", most[1]);
}

TEST(zipf_weights_are_exact)
{
    // 2^40 * i^-s, rounded down; s in millionths.
    CHECK_EQ(phx_zipf_weight(1, 1000000), INT64_C(1) << 40);
    CHECK_EQ(phx_zipf_weight(2, 1000000), INT64_C(1) << 39);
    CHECK_EQ(phx_zipf_weight(4, 500000), INT64_C(1) << 39);
    CHECK_EQ(phx_zipf_weight(7, 0), INT64_C(1) << 40);
    CHECK_EQ(phx_zipf_weight(65536, 8000000), 1); // floored
    // 3^-1.1 = 0.29865...; within a part in 2^28 of what the exact value gives.
    int64_t third = (int64_t)phx_zipf_weight(3, 1100000);
    CHECK_MSG(third > INT64_C(328369000000) && third < INT64_C(328379000000), "%lld",
              (long long)third);
}

TEST(routing_takes_rows_of_a_trace_over_and_over)
{
    static const int32_t trace[] = {0, 1, 2, -1, 3, 0};
    const struct phx_moe_load moe = {.steps = 2,
                                     .layers = 1,
                                     .tokens = 2,
                                     .experts = 4,
                                     .top_k = 2,
                                     .routing = PHX_ROUTING_TRACE,
                                     .trace = trace,
                                     .trace_rows = 3};
    uint16_t x[2 * 4];
    int64_t topk_idx[2 * 2];
    float weights[2 * 2];
    struct phx_router *router = phx_router_create(&moe, 0, 2, 1);
    CHECK(router != NULL);
    phx_router_draw(router, 0, 1, 4, x, topk_idx, weights); // rows 2 and 3, which is 0
    CHECK_EQ(topk_idx[0], 3);
    CHECK_EQ(topk_idx[1], 0);
    CHECK_EQ(topk_idx[2], 0);
    CHECK_EQ(topk_idx[3], 1);
    phx_router_draw(router, 1, 0, 4, x, topk_idx, weights); // rows 4 and 5: 1 and 2
    CHECK_EQ(topk_idx[0], 2);
    CHECK_EQ(topk_idx[1], -1);
    CHECK_EQ(topk_idx[2], 3);
    phx_router_destroy(router);
}
