// tests/sim_group.h: a few simulated ranks that dispatch and combine with a fixed routing, and keep
// what came of each operation. For tests of waiting, masks and views. Every rank sends another
// value in every pair, and sg_dispatch() and sg_combine() count what does not hold it: rows of
// another operation that came as this one's. Bytes and sums are checked in full elsewhere.

#ifndef PHX_TESTS_SIM_GROUP_H
#define PHX_TESTS_SIM_GROUP_H

#include "engine/view.h"
#include "sim/fault.h"
#include "sim/open.h"

#ifndef PHX_SG_RANKS
#define PHX_SG_RANKS 4
#endif

enum {
    SG_RANKS = PHX_SG_RANKS,
    SG_PAIRS = 12,
    SG_TOKENS = 6,
    SG_HIDDEN = 128,
    SG_EXPERTS = 2 * SG_RANKS, // token t goes to experts t and t + 3
    SG_TOP_K = 2,
    SG_ROWS = SG_EXPERTS / SG_RANKS * SG_RANKS * SG_TOKENS
};

struct sg_rank {
    struct phx_group *group;
    struct phx_handle *handle;
    struct phx_outcome dispatched[SG_PAIRS];
    struct phx_outcome combined[SG_PAIRS];
    float loss[SG_PAIRS][SG_TOKENS];
    uint64_t done_ns[SG_PAIRS]; // when the combine was over
    uint32_t causes[SG_RANKS];  // at the end
    int64_t wait_ns[SG_RANKS];
    int32_t active[SG_RANKS];
    const uint8_t *replay;        // [3][SG_RANKS] fates for each operation to take; NULL: none
    const uint8_t *replay_masked; // [SG_RANKS] with it; NULL: none
    uint64_t rows_max;            // compact layout: rows that y holds; 0: SG_ROWS
    uint32_t wrong_rows;          // of a source that was present, without its value of this pair
    uint32_t wrong_sums;          // of tokens, given what the combine said was lost
    int rc;
    struct phx_message message;
    // arrays that operations use
    uint16_t x[SG_TOKENS * SG_HIDDEN];
    uint16_t y[SG_ROWS * SG_HIDDEN];
    uint16_t out[SG_TOKENS * SG_HIDDEN];
    int64_t topk_idx[SG_TOKENS * SG_TOP_K];
    float weights[SG_TOKENS * SG_TOP_K];
    int32_t count[SG_EXPERTS / SG_RANKS];
    int32_t src_info[SG_ROWS];
    int64_t range[SG_EXPERTS];
    int64_t offsets[SG_EXPERTS / SG_RANKS + 1];
};

struct sg_run {
    // in
    uint32_t nodes; // 1: NVLink between all
    uint32_t pairs;
    int64_t timeout_us;
    uint64_t think_ns[SG_RANKS]; // between dispatch and combine
    uint32_t workers;
    enum phx_output_layout layout;
    enum phx_rows_form rows;
    enum phx_check check;
    enum phx_fault_tolerance fault_tolerance;
    uint32_t wire_hidden; // what the wire is charged for; 0: SG_HIDDEN
    uint32_t victim;      // for programs of one's own
    struct phx_fault faults[4];
    uint32_t fault_count;
    void (*opened)(struct phx_sim_rank *rank, struct sg_rank *self); // after open; NULL: nothing
    phx_rank_main *main;                                             // NULL: sg_main
    // out
    struct sg_rank ranks[SG_RANKS];
    struct phx_view view; // for programs of one's own
    uint32_t violations;
    struct phx_violation violation; // the first
    int rc;
    struct phx_message message;
    struct phx_world *world;
};

// Zeroed, with all ranks on one node, 4 pairs, 1000 us, 2 workers, rows once, slots layout,
// checked routes, fault tolerance on.
struct sg_run *sg_new(void);
void sg_free(struct sg_run *run);
// Runs it; checks that the world ran, that no checker objected, that every rank's rc is 0, and that
// no row and no sum was wrong.
void sg_go(struct sg_run *run);

// For programs of one's own.
void sg_main(struct phx_sim_rank *rank, void *run);
int sg_open(struct sg_run *run, struct phx_sim_rank *rank); // the rank's group and handle
void sg_options(const struct sg_run *run, struct phx_group_options *options);
int sg_pair(struct sg_run *run, struct phx_sim_rank *rank, uint32_t pair);
int sg_dispatch(struct sg_rank *self, uint32_t pair); // the halves of a pair
int sg_combine(struct sg_rank *self, uint32_t pair);
uint16_t sg_value(uint32_t rank, uint32_t pair); // bf16, of all that a rank sends in a pair
struct phx_rank_set sg_members(uint32_t count);  // ranks 0 to count - 1

#endif
