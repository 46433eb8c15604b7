// tools/shrink.h: the smallest scenario that still breaks the same rule.
//
// Delta debugging over the list of faults, then everything else that can be less: ranks, steps,
// tokens, workers, layers, top_k, experts, hidden, and each switch back to its default. What is
// kept is always a scenario that the reader accepts and that was seen to break the rule. There is
// no chance in it: the same file shrinks to the same bytes.

#ifndef PHX_TOOLS_SHRINK_H
#define PHX_TOOLS_SHRINK_H

#include "tools/explore.h"

struct phx_shrink {
    uint32_t hang_seconds;
    uint64_t trials_max; // 0: as many as it takes
    // Told after every trial; may be NULL.
    void (*progress)(void *context, const struct phx_shrink *shrink);
    void *context;
    // What it comes to.
    struct phx_scenario *best;
    struct phx_trial trial; // of best
    uint64_t trials;
    char rule[48];
};

// 0: shrink->best is the caller's, to be freed with phx_scenario_free(). PHX_ERR_STATE: the
// scenario breaks no rule.
int phx_shrink_run(struct phx_shrink *shrink, const struct phx_scenario *scenario,
                   struct phx_message *message);

// Edits that make a scenario less, in the order in which they are tried. Each is asked with step 0,
// 1, ... and turns its scenario into that candidate; false: there are no more of them.
typedef bool phx_shrink_edit(struct phx_scenario *s, uint32_t step);
extern phx_shrink_edit *const PHX_SHRINK_EDITS[]; // NULL ends it

#endif
