// tools/report.h: what a run came to, in words for a person and as one JSON object.

#ifndef PHX_TOOLS_REPORT_H
#define PHX_TOOLS_REPORT_H

#include <stdio.h>

#include "sim/summary.h"
#include "tools/scenario.h"

void phx_report_text(FILE *out, const struct phx_scenario *scenario,
                     const struct phx_summary *summary, double wall_ms);
// "kill rank 3 (process), struck at 1222.317 us, in dispatch 5 after 40 puts", cut to the size.
void phx_report_strike(char *text, size_t text_size, const struct phx_workload *w,
                       const struct phx_strike *strike);
// 0, or PHX_ERR_NO_MEMORY with nothing written.
int phx_report_json(FILE *out, const struct phx_summary *summary, double wall_ms);

#endif
