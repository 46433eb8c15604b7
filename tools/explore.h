// tools/explore.h: what phx explore, replay and shrink share: drawing scenarios, trying them, and
// what a campaign has seen.
//
//   campaign + number --phx_explore_draw()--> scenario --phx_trial_run()--> trial
//
// A scenario is a pure function of the campaign and the number of the run. A trial says which rule
// was broken first, and which fault struck in which phase of an operation.

#ifndef PHX_TOOLS_EXPLORE_H
#define PHX_TOOLS_EXPLORE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "sim/summary.h"
#include "tools/scenario.h"

// --- drawing -------------------------------------------------------------------------------------

struct phx_explore_limits {
    uint32_t ranks_max;
    uint32_t tokens_max;
    uint32_t pairs_max; // dispatches of a run, each with its combine
    uint32_t faults_max;
};
#define PHX_EXPLORE_FAULTS_MAX 32u

#define PHX_SYSTEMATIC_SETS 6u // shapes of the cluster, times kinds of ties

struct phx_campaign {
    struct phx_explore_limits limits;
    struct phx_scenario **bases; // [base_count]; none: everything is drawn
    uint32_t base_count;
    bool keeps_expectations; // of bases: each holds whatever else is drawn
    uint32_t tie;            // enum phx_tie, of every run; 0: drawn
    bool is_systematic;
    uint64_t systematic_events[PHX_SYSTEMATIC_SETS]; // of each set's run without a fault
    uint64_t count;                                  // of a systematic campaign's runs
    char bug[32];                                    // planted; empty: none
};

// Run `number` of the campaign: the seed of the run, or the place in the enumeration. The scenario
// is one that the reader accepts when it is written.
void phx_explore_draw(const struct phx_campaign *c, uint64_t number, struct phx_scenario *s);
// Faults onto s, whose cluster, loads and timeout are set.
void phx_explore_draw_faults(const struct phx_campaign *c, uint64_t seed, struct phx_scenario *s);
bool phx_explore_is_confined(const struct phx_fault *f); // it strikes once

// A number below `bound`, by seed and by what it is for: `knob`, and which of several.
uint64_t phx_explore_pick(uint64_t seed, uint32_t knob, uint64_t which, uint64_t bound);

// Counts the events of the run without faults, and from that the runs. 0, or a negative error.
int phx_systematic_open(struct phx_campaign *c, struct phx_message *message);
void phx_systematic_draw(const struct phx_campaign *c, uint64_t number, struct phx_scenario *s);

// --- what a campaign covers ----------------------------------------------------------------------

enum phx_column {
    PHX_COLUMN_OPENING = 0,
    PHX_COLUMN_DISPATCH_SEND,
    PHX_COLUMN_DISPATCH_RECEIVE,
    PHX_COLUMN_BETWEEN,
    PHX_COLUMN_COMBINE_SEND,
    PHX_COLUMN_COMBINE_RECEIVE,
    PHX_COLUMN_CLOSING,
    PHX_COLUMNS
};
#define PHX_COVERAGE_ROWS_MAX 64u // kinds of faults and their units
#define PHX_COVERAGE_WORDS (PHX_COVERAGE_ROWS_MAX * 8u / 64u)

struct phx_coverage_bits {
    uint64_t words[PHX_COVERAGE_WORDS]; // bit 8 * row + column
};
struct phx_coverage {
    uint64_t counts[PHX_COVERAGE_ROWS_MAX][PHX_COLUMNS]; // runs in which it happened
};

uint32_t phx_coverage_rows(void);
const char *phx_coverage_row_name(uint32_t row);
// PHX_COVERAGE_ROWS_MAX: no row has this fault.
uint32_t phx_coverage_row_of(const struct phx_fault *fault);
const char *phx_coverage_column_name(enum phx_column column);
// Why nothing can strike there; NULL: it can.
const char *phx_coverage_reason(uint32_t row, enum phx_column column);
void phx_coverage_mark(struct phx_coverage_bits *bits, const struct phx_scenario *s,
                       const struct phx_summary *summary);
void phx_coverage_add(struct phx_coverage *sum, const struct phx_coverage_bits *bits);
// Cells that were struck although a reason says that they cannot be.
uint32_t phx_coverage_contradictions(const struct phx_coverage *coverage);
void phx_coverage_print(FILE *out, const struct phx_coverage *coverage);

// --- one run -------------------------------------------------------------------------------------

enum phx_verdict {
    PHX_VERDICT_PASSED = 1,
    PHX_VERDICT_FAILED,  // a rule was broken
    PHX_VERDICT_CRASHED, // the process that ran it died
    PHX_VERDICT_HUNG,    // it was killed, because it did not end
    PHX_VERDICT_REFUSED  // it could not be run
};

struct phx_trial { // fixed size: it goes through pipes
    uint64_t number;
    uint64_t trace_hash;
    uint64_t events;
    uint64_t operations;
    uint64_t struck[PHX_SCENARIO_FAULTS_MAX / 64]; // faults that struck, by bit
    struct phx_coverage_bits coverage;
    uint32_t verdict; // enum phx_verdict
    uint32_t ranks;
    uint32_t violations;
    char rule[48]; // broken first
    char text[256];
};

// Here, in this process.
void phx_trial_run(const struct phx_scenario *s, struct phx_trial *trial);
// In a process of its own, killed after hang_seconds. PHX_VERDICT_REFUSED when there can be none.
void phx_trial_run_apart(const struct phx_scenario *s, uint32_t hang_seconds,
                         struct phx_trial *trial);
// After its process ended so, or was killed for being late: what is known.
void phx_trial_crashed(struct phx_trial *trial, int wait_status, bool is_late);
// Takes out the faults that did not strike.
void phx_trial_drop_unstruck(struct phx_scenario *s, const struct phx_trial *trial);
// Writes what shows the same failure again: faults that did not strike are left out where that
// changes nothing. `path` appears whole or not at all. 0, or PHX_ERR_IO.
int phx_failure_save(const struct phx_scenario *s, const struct phx_trial *trial, const char *path,
                     struct phx_message *message);

// The file appears whole or not at all. 0, or PHX_ERR_IO.
int phx_scenario_save(const struct phx_scenario *s, const char *path, struct phx_message *message);
// Loads a failure, or any other scenario, which then runs with seed 1. 0; or how to exit, after a
// line on stderr. *s is the caller's either way (NULL: nothing).
int phx_failure_load(const char *path, struct phx_scenario **s);

// A copy to change: its lists are its own, what they borrow is not. Not for phx_scenario_free().
void phx_scenario_copy(struct phx_scenario *to, const struct phx_scenario *from);

#endif
