// sim/routing.h: what a workload feeds to dispatch: activations, experts and weights of each token.
//
// A pure function of (seed, load, operation, rank, token): any rank's inputs of any operation can
// be made again at any time, which is how the checker knows what the others sent. Integers, and
// single correctly rounded float divisions; no libm.

#ifndef PHX_SIM_ROUTING_H
#define PHX_SIM_ROUTING_H

#include <stdint.h>

struct phx_moe_load;
struct phx_router;

#define PHX_PAIRS_MAX (1u << 20) // dispatch and combine pairs of one load: steps * layers

// `load` numbers the loads of a workload; it is part of every draw. NULL: no memory.
struct phx_router *phx_router_create(const struct phx_moe_load *moe, uint32_t load, uint32_t ranks,
                                     uint64_t seed);
void phx_router_destroy(struct phx_router *router); // NULL is allowed

// Pair `pair` (from 0) of rank `rank`: x [tokens, channels] bf16, topk_idx [tokens, top_k],
// topk_weights [tokens, top_k], which sum to about 1 for each token.
void phx_router_draw(const struct phx_router *router, uint64_t pair, uint32_t rank,
                     uint32_t channels, uint16_t *x, int64_t *topk_idx, float *topk_weights);

// 2^40 * i^-(s_millionths / 10^6), rounded down, at least 1; i >= 1. For tests, and the tables.
uint64_t phx_zipf_weight(uint32_t i, uint64_t s_millionths);

#endif
