// sim/summary.h: what a run came to, for the program that prints it.

#ifndef PHX_SIM_SUMMARY_H
#define PHX_SIM_SUMMARY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/phalanx.h"
#include "sim/world.h"

struct phx_strike {     // one fault of the list
    uint32_t fault;     // its index
    uint64_t at_ps;     // when it struck; UINT64_MAX: never
    uint32_t kind;      // enum phx_kind of the operation it struck; 0: none was left
    uint64_t number;    // of that operation, from 1
    uint32_t load;      // of the workload, from 0
    uint32_t phase;     // enum phx_phase that the struck rank had entered last; 0: none yet
    uint64_t within_ps; // from the strike to the end of that operation on the last survivor;
                        // UINT64_MAX: no survivor ended it
};

struct phx_checked {     // a checker that looked at this run
    const char *text;    // what it holds, one clause
    uint64_t count;      // how often it looked
    uint32_t violations; // that it found, of those that are kept
};
#define PHX_CHECKS_MAX 16u

struct phx_summary_live { // of a run on real processes; all zero: the run was simulated
    const char *transport;
    uint32_t workers;    // of each rank
    uint32_t slack;      // what deadlines, durations and times were multiplied with
    uint64_t open_ns;    // from launch to the last rank's first operation
    uint64_t longest_ns; // that a call of an undisturbed rank took
    struct phx_rank_set away; // ranks that a fault held up, and that ended among fewer than all
};

struct phx_summary {
    bool is_passed; // no violation
    uint64_t seed;
    uint64_t trace_hash;
    uint64_t virtual_ns; // until the last rank returned
    uint64_t events;
    uint64_t operations;  // begun and completed, on all ranks together
    uint64_t messages;    // puts handed to the network
    uint64_t lost_tokens; // tokens whose token_loss was above 0, on all ranks together
    uint32_t ranks;
    struct phx_rank_set finished; // ranks that ended their program
    struct phx_rank_set active;   // ranks that every undisturbed one of them holds active
    struct phx_rank_set disputed; // ranks that some of those hold active and others do not
    struct phx_strike *strikes;   // [strike_count]
    uint32_t strike_count;
    struct phx_violation *violations; // [violation_count], the first ones in full
    uint32_t violation_count;
    uint64_t violations_total;
    struct phx_checked checks[PHX_CHECKS_MAX];
    uint32_t check_count;
    struct phx_summary_live live;
};

void phx_summary_free(struct phx_summary *summary); // what it points to

#endif
