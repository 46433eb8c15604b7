// sim/workload_judge.h: how a run ended, against what its scenario expects.

#ifndef PHX_SIM_WORKLOAD_JUDGE_H
#define PHX_SIM_WORKLOAD_JUDGE_H

#include "sim/workload_internal.h"

// True if some fault of the list stops or slows this rank itself, so that it is no survivor of it.
bool phx_judge_names(const struct phx_workload *w, uint32_t rank);

// After the run: expectations that do not hold become violations, and everything goes into the
// summary.
int phx_judge(struct phx_run *run, struct phx_summary *summary, struct phx_message *message);

#endif
