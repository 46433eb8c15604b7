// tools/bench_report.h: what phx bench ep found, as a table and as JSON.

#ifndef PHX_TOOLS_BENCH_REPORT_H
#define PHX_TOOLS_BENCH_REPORT_H

#include "tools/bench_ep.h"

void phx_bench_print_table(const struct phx_bench_ep *bench, const struct phx_bench_result *result);
// Returns enum phx_exit.
int phx_bench_print_json(const struct phx_bench_ep *bench, const struct phx_bench_result *result);

#endif
