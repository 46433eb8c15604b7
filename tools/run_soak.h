// tools/run_soak.h: phx run over and over, each time with a fault at a random moment.

#ifndef PHX_TOOLS_RUN_SOAK_H
#define PHX_TOOLS_RUN_SOAK_H

#include <stdio.h>

#include "tools/run.h"

struct phx_soak_options {
    uint32_t rounds;
    uint32_t kind; // PHX_FAULT_KILL; or PHX_FAULT_PAUSE, for three deadlines; 0: the scenario's own
                   // faults and expectations
    bool is_json;
    bool has_progress; // a line on stderr now and then
};

// 0: no round failed. 1: some did. Or a negative enum phx_error. Rounds draw by the seed and their
// number; the moment is one of the time that a round without faults takes.
int phx_soak_run(const struct phx_workload *w, const struct phx_live_options *live,
                 const struct phx_soak_options *options, FILE *out, struct phx_message *message);

#endif
