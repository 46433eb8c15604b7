// tools/run_history.h: the file in which phx run --record writes a run down, and its replay.
//
//   "phx history 1\n", "scenario SIZE\n", SIZE bytes of YAML, then bytes; numbers in LEB128:
//   ranks, operations; per rank: operations begun; per operation (dispatch and combine by turns):
//     0: not begun. 1: begun; 2: and ended
//     when it began, in ns after the one before it began
//     2: how long it took; hash of the outputs (8 bytes, little end first); bit sets of ranks:
//        counted and present (dispatch) or answered (combine), masked
//   8 bytes: a check of all before
//
// The reader takes any bytes.

#ifndef PHX_TOOLS_RUN_HISTORY_H
#define PHX_TOOLS_RUN_HISTORY_H

#include <stdbool.h>

#include "sim/history.h"
#include "tools/scenario.h"

int phx_history_write(const char *path, const struct phx_scenario *scenario, uint64_t seed,
                      const struct phx_history *history, struct phx_message *message);
bool phx_history_is(const char *path); // it begins as a history does
// 0: both are the caller's. PHX_ERR_IO, PHX_ERR_INVALID, PHX_ERR_NO_MEMORY.
int phx_history_read(const char *path, struct phx_scenario **scenario, struct phx_history *history,
                     struct phx_message *message);
int phx_history_parse(const void *bytes, uint64_t size_bytes, struct phx_scenario **scenario,
                      struct phx_history *history, struct phx_message *message);

#endif
