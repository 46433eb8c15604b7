// sim/workload_judge.h: how a run ended, against what its scenario expects.

#ifndef PHX_SIM_WORKLOAD_JUDGE_H
#define PHX_SIM_WORKLOAD_JUDGE_H

#include "sim/workload_internal.h"

// *is_named: some fault of the list names this rank. *is_struck: one that stops or slows its
// process, so that it is no survivor of it.
void phx_judge_names(const struct phx_workload *w, uint32_t rank, bool *is_named, bool *is_struck);

// After the run: expectations that do not hold become violations, and everything goes into the
// summary.
int phx_judge(struct phx_run *run, struct phx_summary *summary, struct phx_message *message);

#endif
