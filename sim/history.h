// sim/history.h: what a run on real processes came to, operation by operation, so that the
// simulator can run it again: whom each rank saw, whom it masked, when, and a hash of every output.
//
// Outputs are a function of the inputs and the masks, and of nothing else. So a simulated run that
// takes the recorded masks must give the recorded outputs, bit for bit.

#ifndef PHX_SIM_HISTORY_H
#define PHX_SIM_HISTORY_H

#include "engine/phalanx.h"

struct phx_stage;
struct phx_dispatch_result;
struct phx_combine_result;

struct phx_history_operation { // of one rank
    uint64_t hash;             // of what it gave; 0: it did not end
    uint64_t begin_ns;         // since the last group was open
    uint64_t end_ns;
    struct phx_rank_set first;  // dispatch: counted. Combine: answered
    struct phx_rank_set second; // dispatch: present
    struct phx_rank_set masked; // after it
};

#define PHX_HISTORY_BYTES_MAX (UINT64_C(4) << 30)

struct phx_history {
    uint32_t ranks;
    uint64_t operations;                // of one rank, all loads
    uint64_t *begun;                    // [ranks] operations
    struct phx_history_operation *list; // [ranks][operations]
    uint8_t *fates; // [ranks][operations][3][ranks] of `list`: enum phx_fate, twice, and 1: masked
};

// PHX_ERR_INVALID: too large. PHX_ERR_NO_MEMORY. To be freed in any case.
int phx_history_open(struct phx_history *h, uint32_t ranks, uint64_t operations,
                     struct phx_message *message);
void phx_history_free(struct phx_history *h);
struct phx_history_operation *phx_history_at(const struct phx_history *h, uint32_t rank,
                                             uint64_t operation);
// Once `list` is filled: what phx_dispatch_args.replay and replay_masked take. Of an operation that
// did not end, nobody but the rank itself is waited for.
void phx_history_fates(struct phx_history *h);
const uint8_t *phx_history_replay(const struct phx_history *h, uint32_t rank, uint64_t operation);
const uint8_t *phx_history_masked(const struct phx_history *h, uint32_t rank, uint64_t operation);

// Never 0. What lies past an expert's rows is no output, and not looked at.
uint64_t phx_history_hash_dispatch(const struct phx_stage *stage,
                                   const struct phx_dispatch_result *result);
uint64_t phx_history_hash_combine(const struct phx_stage *stage,
                                  const struct phx_combine_result *result);
// Of the whole: every hash, and who saw and masked whom. No times.
uint64_t phx_history_hash(const struct phx_history *h);

#endif
