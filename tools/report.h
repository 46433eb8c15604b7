// tools/report.h: what a run came to, in words for a person and as one JSON object.

#ifndef PHX_TOOLS_REPORT_H
#define PHX_TOOLS_REPORT_H

#include <stdio.h>

#include "sim/summary.h"
#include "tools/scenario.h"

void phx_report_text(FILE *out, const struct phx_scenario *scenario,
                     const struct phx_summary *summary, double wall_ms);
// 0, or PHX_ERR_NO_MEMORY with nothing written.
int phx_report_json(FILE *out, const struct phx_summary *summary, double wall_ms);

#endif
