// tools/explore_report.h: a campaign for a person who watches it, and what it came to.

#ifndef PHX_TOOLS_EXPLORE_REPORT_H
#define PHX_TOOLS_EXPLORE_REPORT_H

#include "tools/explore_jobs.h"

struct phx_progress { // on stderr: a bar on a terminal, else a line now and then
    const struct phx_jobs *jobs;
    uint64_t runs_before; // of the state that is resumed
    uint64_t first;
    double begun_ms;
    double line_ms;
    bool is_terminal;
};

void phx_progress_open(struct phx_progress *progress, const struct phx_jobs *jobs,
                       const struct phx_totals *totals);
// A phx_jobs.progress.
void phx_progress_show(void *context, const struct phx_totals *totals,
                       const struct phx_trial *failure);
void phx_progress_close(struct phx_progress *progress, const struct phx_totals *totals);

void phx_totals_print(FILE *out, const struct phx_jobs *jobs, const struct phx_totals *totals);
// 0, or PHX_ERR_NO_MEMORY with nothing written.
int phx_totals_json(FILE *out, const struct phx_jobs *jobs, const struct phx_totals *totals);

#endif
