// tools/explore_jobs.h: a campaign's runs, spread over processes, and what they came to.
//
// Runs are folded into the totals in the order of their numbers, whatever process ends first: the
// totals always say everything about the runs below `next`, and nothing about others. So a campaign
// can stop anywhere and go on from its state.

#ifndef PHX_TOOLS_EXPLORE_JOBS_H
#define PHX_TOOLS_EXPLORE_JOBS_H

#include "tools/explore.h"

#define PHX_RULES_MAX 64u

struct phx_rule_count {
    char rule[48];
    uint64_t count;
    uint64_t first; // number of the first run that broke it
};

struct phx_totals {
    uint64_t next; // number of the first run that is not in here
    uint64_t runs;
    uint64_t failed;
    uint64_t events;
    uint64_t operations;
    uint64_t hash; // of all (number, trace hash), whatever their order
    uint64_t wall_ms;
    struct phx_coverage coverage;
    struct phx_rule_count rules[PHX_RULES_MAX];
    uint32_t rule_count; // the first PHX_RULES_MAX that were seen
};

struct phx_jobs {
    const struct phx_campaign *campaign;
    uint32_t jobs;
    uint32_t hang_seconds;  // for one run
    uint64_t end;           // number behind the last run; UINT64_MAX: no end
    double until_wall_ms;   // phx_wall_ms() at which to stop; 0: none
    uint64_t failures_max;  // stop after so many; 0: never
    const char *directory;  // where failures are saved (directory.h); made when there is one
    const char *state_path; // NULL: none is kept
    uint64_t signature;     // of the campaign
    // Told now and then, and at the end; `failure` is NULL or a failed run as it is found.
    void (*progress)(void *context, const struct phx_totals *totals,
                     const struct phx_trial *failure);
    void *context;
};

#define PHX_JOBS_MAX 256u

// Runs numbers totals->next and on. 0; or an error of the machine, after which the totals still say
// what was done.
int phx_jobs_run(const struct phx_jobs *jobs, struct phx_totals *totals,
                 struct phx_message *message);
void phx_totals_add(struct phx_totals *totals, const struct phx_trial *trial);
// Where a failed run is saved.
void phx_failure_path(const struct phx_jobs *jobs, uint64_t number, char *path, size_t size);

// A number for what decides the runs: a state belongs to the campaign that has the same.
int phx_campaign_signature(const struct phx_campaign *c, uint64_t *signature,
                           struct phx_message *message);
// The file appears whole or not at all. 0, or PHX_ERR_IO.
int phx_state_write(const char *path, uint64_t signature, const struct phx_totals *totals,
                    struct phx_message *message);
// PHX_ERR_IO with *is_missing: there is none yet. PHX_ERR_MISMATCH: it is another campaign's.
int phx_state_read(const char *path, uint64_t signature, struct phx_totals *totals,
                   bool *is_missing, struct phx_message *message);

#endif
