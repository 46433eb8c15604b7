// tools/launched.h: whether a launcher started this process as one rank of a world, and which.

#ifndef PHX_TOOLS_LAUNCHED_H
#define PHX_TOOLS_LAUNCHED_H

#include "hw/bootstrap.h"
#include "tools/scenario.h"

struct phx_launched_options { // of the command line
    bool joins;               // --join
    bool is_alone;            // --alone
    const char *rendezvous;   // --rendezvous; NULL: not said
};

struct phx_launched {
    bool is_joined; // what follows is there
    struct phx_bootstrap_env env;
    struct phx_bootstrap_options world; // points into env: not to be copied
};

// Without options the environment decides: a process that is said to be a rank is one. A message
// says what is missing, and that --alone makes it no rank.
int phx_launched_find(const struct phx_launched_options *options, struct phx_launched *launched,
                      struct phx_message *message);

// How many ranks the scenario is to have: as many as were started. *ranks: what --ranks said, or 0.
int phx_launched_ranks(const struct phx_launched *launched, uint32_t *ranks,
                       struct phx_message *message);

// The same for equal scenarios. 0: no memory.
uint64_t phx_launched_digest(const struct phx_scenario *scenario);

#endif
