// tests/gpu/case.h: one random case of the comparison: a shape, a placement, the inputs of every
// operation and, sometimes, a death. A pure function of its number.

#ifndef PHX_TESTS_GPU_CASE_H
#define PHX_TESTS_GPU_CASE_H

#include "tests/gpu/gpu_ranks.h"

#define CASE_RANKS_MAX 8u
#define CASE_NOBODY 0xFFFFFFFFu

struct test_case {
    uint64_t number;
    struct phx_shape shape;
    int32_t *expert_map; // [experts]
    uint16_t *expert_rank;
    uint16_t *expert_local;
    uint32_t experts_of[CASE_RANKS_MAX];
    uint32_t pairs; // dispatch and combine, so often
    int split;      // halves in launches of their own
    int renormalise;
    uint64_t timeout_us;
    uint32_t victim;     // or CASE_NOBODY
    uint32_t death_pair; // 0 to pairs - 1: dies at the start of this pair's dispatch, or later,
    uint64_t death_puts; // after so many puts
};

// death: the case has a victim. Returns NULL without memory.
struct test_case *case_make(uint64_t number, int death);
void case_free(struct test_case *c);
void case_print(const struct test_case *c);

// Zeroed arrays for one rank and pair; every byte of the outputs is poisoned before use.
struct rank_io *case_io_make(const struct test_case *c); // [pairs][ranks]
void case_io_free(const struct test_case *c, struct rank_io *io);
struct rank_io *case_io_at(const struct test_case *c, struct rank_io *io, uint32_t pair,
                           uint32_t rank);
// x, routing, weights, expert outputs and token count of one rank and pair, from the case's number.
void case_fill_inputs(const struct test_case *c, uint32_t pair, uint32_t rank, struct rank_io *io);

#endif
