// kernels/token.h: what a worker notes of one token: its routing, and the rows that it is summed
// from.

#ifndef PHX_KERNELS_TOKEN_H
#define PHX_KERNELS_TOKEN_H

#include "engine/limits.h"
#include "kernels/macros.h"

struct phx_row_list { // rows to be summed, in order
    const uint16_t *row[PHX_TOP_K_MAX];
    float weight[PHX_TOP_K_MAX];
    uint8_t is_listed[PHX_TOP_K_MAX]; // of entry k of a token
    uint8_t k[PHX_TOP_K_MAX];         // of row i, in the token's list; in combine's send half,
    uint32_t token;                   // as these
    uint32_t count;
};

// One token's routing: [top_k] of each.
#define PHX_NO_PEER 0xFFFFFFFFu
struct phx_token {
    uint32_t peer[PHX_TOP_K_MAX]; // PHX_NO_PEER: no expert, or one that the token listed before
    float weight[PHX_TOP_K_MAX];
    uint64_t flag[PHX_TOP_K_MAX]; // 1; or that of the peer, in the array that the caller named
};

#endif
