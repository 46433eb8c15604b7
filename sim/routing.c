// sim/routing.c: integer distributions over experts, and seeded tensors.
//
// Zipf: expert at popularity rank i has weight i^-s. log2 and exp2 are done bit by bit on integers
// (squarings for the one, products of 2^(-2^-k) for the other), so that the table, and with it
// every event of a run, is the same on every machine. Which expert is popular is drawn per layer.

#include "sim/routing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/core.h"
#include "sim/workload.h"

__extension__ typedef unsigned __int128 phx_u128; // -Wpedantic: no ISO name for it

#define TRIES_MAX 24u // draws for one place of a list before the next free expert is taken
#define FRACTION_BITS 32u

struct phx_router {
    struct phx_moe_load moe;
    uint32_t load;
    uint32_t ranks;
    uint64_t seed;
    uint64_t *cumulative; // [experts] ZIPF: weights of popularity ranks 0..i
    uint32_t *popular;    // [layers][experts] ZIPF: expert at each popularity rank
};

// log2(i), 32 bits after the point.
static uint64_t log2_fixed(uint32_t i)
{
    uint32_t whole = 31u - (uint32_t)__builtin_clz(i);
    uint64_t mantissa = (uint64_t)i << (62 - whole); // 1.0 to 2.0, 62 bits after the point
    uint64_t log = whole;
    for (uint32_t bit = 0; bit < FRACTION_BITS; bit++) {
        mantissa = (uint64_t)((phx_u128)mantissa * mantissa >> 62);
        log <<= 1;
        if (mantissa >> 63) {
            mantissa >>= 1;
            log |= 1;
        }
    }
    return log;
}

static uint64_t sqrt_floor(phx_u128 value)
{
    uint64_t root = 0;
    for (uint32_t bit = 64; bit-- > 0;) {
        uint64_t candidate = root | UINT64_C(1) << bit;
        if ((phx_u128)candidate * candidate <= value)
            root = candidate;
    }
    return root;
}

struct halvings { // by[k] = 2^(-2^-k), 63 bits after the point
    uint64_t by[FRACTION_BITS + 1];
};

static struct halvings halvings_make(void)
{
    struct halvings h;
    h.by[0] = UINT64_C(1) << 62;
    for (uint32_t k = 1; k <= FRACTION_BITS; k++)
        h.by[k] = sqrt_floor((phx_u128)h.by[k - 1] << 63);
    return h;
}

static uint64_t zipf_weight(const struct halvings *h, uint32_t i, uint64_t s_millionths)
{
    uint64_t exponent = (uint64_t)((phx_u128)log2_fixed(i) * s_millionths / 1000000u);
    uint64_t whole = exponent >> FRACTION_BITS;
    if (whole >= 40)
        return 1;
    uint64_t value = UINT64_C(1) << 63;
    for (uint32_t k = 1; k <= FRACTION_BITS; k++)
        if (exponent >> (FRACTION_BITS - k) & 1)
            value = (uint64_t)((phx_u128)value * h->by[k] >> 63);
    uint64_t weight = value >> 23 >> whole;
    return weight == 0 ? 1 : weight;
}

uint64_t phx_zipf_weight(uint32_t i, uint64_t s_millionths)
{
    assert(i >= 1);
    struct halvings h = halvings_make();
    return zipf_weight(&h, i, s_millionths);
}

static void fill_zipf(struct phx_router *r)
{
    struct halvings h = halvings_make();
    uint64_t sum = 0;
    for (uint32_t i = 0; i < r->moe.experts; i++) {
        sum += zipf_weight(&h, i + 1, r->moe.zipf_millionths);
        r->cumulative[i] = sum;
    }
    for (uint32_t layer = 0; layer < r->moe.layers; layer++) {
        uint32_t *popular = r->popular + (uint64_t)layer * r->moe.experts;
        uint64_t who = UINT64_MAX - ((uint64_t)r->load << 32 | layer); // of no token
        for (uint32_t i = 0; i < r->moe.experts; i++)
            popular[i] = i;
        for (uint32_t i = r->moe.experts - 1; i > 0; i--) {
            uint64_t j = phx_chance_below(i + 1, r->seed, PHX_CHANCE_ROUTING, who, i);
            uint32_t swap = popular[i];
            popular[i] = popular[j];
            popular[j] = swap;
        }
    }
}

struct phx_router *phx_router_create(const struct phx_moe_load *moe, uint32_t load, uint32_t ranks,
                                     uint64_t seed)
{
    struct phx_router *r = calloc(1, sizeof *r);
    if (r == NULL)
        return NULL;
    r->moe = *moe;
    r->load = load;
    r->ranks = ranks;
    r->seed = seed;
    if (moe->routing != PHX_ROUTING_ZIPF)
        return r;
    r->cumulative = calloc(moe->experts, sizeof *r->cumulative);
    r->popular = calloc((size_t)moe->layers * moe->experts, sizeof *r->popular);
    if (r->cumulative == NULL || r->popular == NULL) {
        phx_router_destroy(r);
        return NULL;
    }
    fill_zipf(r);
    return r;
}

void phx_router_destroy(struct phx_router *router)
{
    if (router == NULL)
        return;
    free(router->cumulative);
    free(router->popular);
    free(router);
}

// Names one token of one operation in phx_chance(): 4 | 20 | 16 | 24 bits.
static uint64_t token_name(const struct phx_router *r, uint64_t pair, uint32_t rank, uint32_t token)
{
    assert(pair < PHX_PAIRS_MAX && rank < PHX_RANKS_MAX && token < PHX_TOKENS_MAX);
    return (uint64_t)r->load << 60 | pair << 40 | (uint64_t)rank << 24 | token;
}

// `drawn` is of phx_chance().
static uint32_t pick_expert(const struct phx_router *r, uint64_t pair, uint64_t drawn)
{
    if (r->moe.routing == PHX_ROUTING_UNIFORM)
        return (uint32_t)((phx_u128)drawn * r->moe.experts >> 64);
    uint64_t total = r->cumulative[r->moe.experts - 1];
    uint64_t ticket = (uint64_t)((phx_u128)drawn * total >> 64);
    uint32_t low = 0;
    uint32_t high = r->moe.experts - 1;
    while (low < high) { // the first popularity rank whose cumulative weight exceeds the ticket
        uint32_t middle = low + (high - low) / 2;
        if (r->cumulative[middle] > ticket)
            high = middle;
        else
            low = middle + 1;
    }
    return r->popular[(pair % r->moe.layers) * r->moe.experts + low];
}

static int is_taken(const int64_t *list, uint32_t count, int64_t expert)
{
    for (uint32_t i = 0; i < count; i++)
        if (list[i] == expert)
            return 1;
    return 0;
}

// `chance` is of phx_chance_who(), for PHX_CHANCE_ROUTING, here and below.
static void draw_list(const struct phx_router *r, uint64_t pair, uint64_t chance, int64_t *list)
{
    uint64_t number = 0;
    for (uint32_t k = 0; k < r->moe.top_k; k++) {
        uint32_t expert = 0;
        uint32_t tries = 0;
        do
            expert = pick_expert(r, pair, phx_chance_at(chance, number++));
        while (is_taken(list, k, expert) && ++tries < TRIES_MAX);
        while (is_taken(list, k, expert)) // a skewed table: the popular ones are all taken
            expert = (expert + 1) % r->moe.experts;
        list[k] = expert;
    }
}

// Every expert gets the same number of tokens, give or take one, in each operation.
static void deal_list(const struct phx_router *r, uint64_t pair, uint32_t rank, uint32_t token,
                      int64_t *list)
{
    uint64_t index = (uint64_t)rank * r->moe.tokens + token;
    for (uint32_t k = 0; k < r->moe.top_k; k++)
        list[k] = (int64_t)((index * r->moe.top_k + k + pair) % r->moe.experts);
}

// Rows of the table one after the other: a rank goes on where the one before it ended, and a pair
// where the one before it did.
static void trace_list(const struct phx_router *r, uint64_t pair, uint32_t rank, uint32_t token,
                       int64_t *list)
{
    uint64_t index = (pair * r->ranks + rank) * r->moe.tokens + token;
    const int32_t *row = r->moe.trace + index % r->moe.trace_rows * r->moe.top_k;
    for (uint32_t k = 0; k < r->moe.top_k; k++)
        list[k] = row[k];
}

static void draw_weights(const struct phx_router *r, uint64_t chance, float *weights)
{
    uint32_t raw[PHX_TOP_K_MAX];
    uint32_t sum = 0;
    for (uint32_t k = 0; k < r->moe.top_k; k++) {
        uint64_t number = UINT64_C(1) << 32 | k; // beside the numbers of draw_list()
        raw[k] = (uint32_t)(phx_chance_at(chance, number) >> 48) + 1;
        sum += raw[k]; // 32 * 2^16: exact as an integer and as a float
    }
    for (uint32_t k = 0; k < r->moe.top_k; k++)
        weights[k] = (float)raw[k] / (float)sum;
}

// Finite bf16 values of 2^-7 to 2, either sign: four out of each draw.
static void draw_row(const struct phx_router *r, uint64_t who, uint32_t channels, uint16_t *x)
{
    uint64_t chance = phx_chance_who(r->seed, PHX_CHANCE_PAYLOAD, who);
    for (uint32_t i = 0; i < channels; i += 4) {
        // In each quarter, from the low bits: 3 of the exponent, 7 of the mantissa, 5 unused, sign.
        const uint64_t each = UINT64_C(0x0001000100010001);
        uint64_t bits = phx_chance_at(chance, i / 4);
        uint64_t value =
            (bits & 0x8000 * each) | (bits & 7 * each) << 7 | (bits >> 3 & 0x7F * each);
        value += (120 << 7) * each; // the exponent's top bit is free, so nothing is carried over
        for (uint32_t j = 0; j < 4; j++, value >>= 16)
            x[i + j] = (uint16_t)value;
    }
}

void phx_router_draw(const struct phx_router *router, uint64_t pair, uint32_t rank,
                     uint32_t channels, uint16_t *x, int64_t *topk_idx, float *topk_weights)
{
    uint32_t top_k = router->moe.top_k;
    assert(channels % 4 == 0);
    for (uint32_t t = 0; t < router->moe.tokens; t++) {
        uint64_t who = token_name(router, pair, rank, t);
        uint64_t chance = phx_chance_who(router->seed, PHX_CHANCE_ROUTING, who);
        draw_row(router, who, channels, x + (uint64_t)t * channels);
        if (router->moe.routing == PHX_ROUTING_BALANCED)
            deal_list(router, pair, rank, t, topk_idx + (uint64_t)t * top_k);
        else if (router->moe.routing == PHX_ROUTING_TRACE)
            trace_list(router, pair, rank, t, topk_idx + (uint64_t)t * top_k);
        else
            draw_list(router, pair, chance, topk_idx + (uint64_t)t * top_k);
        draw_weights(router, chance, topk_weights + (uint64_t)t * top_k);
    }
}
