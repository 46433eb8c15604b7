// sim/workload_internal.h: what the parts of a workload run share: the driver (workload.c), the
// program of a rank (workload_rank.c) and the comparison with the oracle (workload_check.c).

#ifndef PHX_SIM_WORKLOAD_INTERNAL_H
#define PHX_SIM_WORKLOAD_INTERNAL_H

#include "engine/phalanx.h"
#include "sim/oracle.h"
#include "sim/routing.h"
#include "sim/workload.h"

// With more ranks than this, each operation's results are compared on a drawn sample of them.
#define PHX_CHECKED_RANKS_MAX 64u
#define PHX_CHECKED_RANKS_SAMPLE 8u
#define PHX_INPUTS_KEPT 4u // pairs whose inputs are kept; others are drawn again when asked for

struct phx_inputs { // what all ranks gave to one pair
    uint64_t pair;  // UINT64_MAX: unused
    uint64_t last_use;
    uint16_t *x;          // [ranks, tokens, channels]
    int64_t *topk_idx;    // [ranks, tokens, top_k]
    float *topk_weights;  // [ranks, tokens, top_k]
    uint16_t *received;   // [ranks, tokens, channels] as bf16 at a receiver: quantised and back
    uint8_t *is_received; // [ranks] 1: filled
    struct phx_oracle_wire wire; // every rank's rows as they travel
    bool is_wired;
    bool is_checked;                   // by the oracle
    struct phx_oracle_source *sources; // [ranks]
};

struct phx_stage { // one load of the workload, on all ranks
    const struct phx_moe_load *moe;
    struct phx_router *router;
    struct phx_shape shape;
    uint32_t *expert_rank;  // [experts]
    uint32_t *expert_local; // [experts]
    uint64_t pairs;
    uint64_t first_operation; // of all loads: pair p is operations first + 2p, first + 2p + 1
    struct phx_inputs inputs[PHX_INPUTS_KEPT];
    uint64_t uses;
    // counted[p]: [ranks][ranks] which sources each rank counted in dispatch p; NULL: not yet, or
    // every rank that lives is past it.
    uint8_t **counted;
    struct phx_oracle_output expected; // scratch of the comparison
    uint16_t *out;                     // [tokens, channels] likewise
    float *token_loss;
    uint16_t *y; // [tokens, top_k, channels] likewise
};

struct phx_run_rank { // what a rank's program leaves behind
    bool is_open;     // all its groups
    bool finished;    // its program, to the end
    bool failed;      // a violation says why it did not
    bool has_left;    // a replay: it waits for nothing any more
    bool is_struck;   // named by a fault of its process: no survivor of it
    uint64_t finished_ps;
    uint64_t operations; // begun and completed
    uint64_t lost_tokens;
    int32_t *active;      // [ranks]
    uint64_t *ended_ps;   // [operations] when it ended each; kept for ranks that faults name
    uint64_t *pairs_done; // [loads]
    // of workload_watch.c
    uint64_t call_ps;      // when the call under way began
    uint64_t begun_frozen; // operations begun since faults are frozen
    uint64_t tolerated[2]; // by parity: operations before this one may still find someone late
    struct phx_rank_set suspected; // so far, in any group
};

struct phx_run_strike { // of one fault, as it was when it struck
    uint64_t at_ps;     // UINT64_MAX: while ranks ran it never did
    uint32_t kind;      // of the operation that the rank was in; 0: none
    uint32_t phase;     // enum phx_phase that its first worker had entered last; 0: none
    uint64_t number;    // of the operation, from 1
};

struct phx_run_totals { // for the summary
    uint64_t hash;
    uint64_t events;
    uint64_t messages;
    uint64_t reads_checked;
    uint64_t writes_checked;
    uint64_t slots_checked;
};

struct phx_run {
    const struct phx_workload *workload;
    const struct phx_workload_options *options;
    struct phx_world *world; // NULL: real processes; violations then go to `violate`
    void (*violate)(void *context, const struct phx_violation *violation);
    void *violate_context;
    const struct phx_violation *violations; // without a world: those kept so far, and how many
    uint64_t violation_count;               // there were
    uint32_t ranks;
    uint32_t workers;
    struct phx_stage *stages;       // [load_count]
    struct phx_run_rank *rank;      // [ranks]
    uint64_t operations;            // of one rank, all loads
    uint64_t *last_end_ps;          // [operations] the last end on a rank that is not struck
    struct phx_run_strike *strikes; // [fault_count]
    struct phx_run_totals totals;   // when it has ended
    uint64_t dispatches_checked;
    uint64_t combines_checked;
    uint64_t outcomes_checked;
    uint64_t told_checked;       // pairs of ranks of which one was given up, or ended early
    uint64_t history_checked;    // results that were compared with a recorded run's
    uint64_t frozen_checked;     // calls that ended with faults frozen
    uint64_t suspicions_checked; // calls after which suspicions were looked at
    struct phx_rank_set corrupt; // sources that some rank holds to be corrupt
    uint64_t open_ps;            // when the last group was open
};

// --- workload.c ---------------------------------------------------------------------------------

// Stages and what is kept of each rank. run->workload, options and workers (0: the workload's) are
// set, the rest is zero. To be closed in any case.
int phx_run_open(struct phx_run *run, struct phx_message *message);
void phx_run_close(struct phx_run *run);

// --- workload_rank.c
// ------------------------------------------------------------------------------

void phx_run_rank_main(struct phx_sim_rank *sim_rank, void *run); // a phx_rank_main

// Says that something is wrong with operation `number` (from 1; kind 0: none) of a rank.
#if defined(__GNUC__)
__attribute__((format(printf, 6, 7)))
#endif
void phx_run_violate(struct phx_run *run, const char *rule, uint32_t rank, uint32_t kind,
                     uint64_t number, const char *format, ...);

// The stand-in for expert `expert`: flips the sign and bits of the mantissa, by the expert's
// number, so that a row of the wrong expert shows. [channels] bf16; x and y may be the same.
void phx_run_expert(uint32_t expert, uint32_t channels, const uint16_t *x, uint16_t *y);

// --- workload_watch.c ---------------------------------------------------------------------------

// A call of operation `operation` (of all loads, from 0) begins; is_first: and the operation with
// it. Then the call ended.
void phx_watch_begin(struct phx_run *run, uint32_t rank, uint64_t operation, bool is_first);
void phx_watch_end(struct phx_run *run, uint32_t rank, const struct phx_group *group,
                   uint64_t operation, uint32_t kind, uint64_t number);
// A rank masked another, for that cause, in that operation: whether it may.
void phx_watch_suspect(struct phx_run *run, uint32_t rank, uint32_t other, uint32_t cause,
                       uint32_t kind, uint64_t number, bool is_tolerated);
// True when the fault strikes this rank, itself or with its host.
bool phx_watch_strikes(const struct phx_workload *w, const struct phx_fault *f, uint32_t rank);

// --- workload_check.c
// -----------------------------------------------------------------------------

int phx_stage_open(struct phx_stage *stage, const struct phx_run *run, uint32_t load,
                   struct phx_message *message);
void phx_stage_close(struct phx_stage *stage);

// The inputs of a pair, drawn if they are not there. NULL: no memory.
struct phx_inputs *phx_stage_inputs(struct phx_stage *stage, uint64_t pair);

struct phx_dispatch_result { // of one rank; arrays hold experts_local_max experts
    const struct phx_outcome *outcome;
    struct phx_oracle_output output;
};
struct phx_combine_result {
    const struct phx_outcome *outcome;
    const uint16_t *out;
    const float *token_loss;
};
// Compare with the oracle; what differs is a violation.
void phx_check_dispatch(struct phx_run *run, struct phx_stage *stage, uint32_t rank, uint64_t pair,
                        const struct phx_dispatch_result *result);
void phx_check_combine(struct phx_run *run, struct phx_stage *stage, uint32_t rank, uint64_t pair,
                       const struct phx_combine_result *result);
// A rank is done with a pair: what only it still needed goes.
void phx_check_done(struct phx_run *run, struct phx_stage *stage, uint32_t rank, uint64_t pair);

#endif
