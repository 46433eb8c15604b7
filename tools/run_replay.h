// tools/run_replay.h: phx replay of a file that phx run --record wrote.

#ifndef PHX_TOOLS_RUN_REPLAY_H
#define PHX_TOOLS_RUN_REPLAY_H

#include <stdbool.h>

// Returns enum phx_exit: passed when every output is the recorded one, bit for bit.
int phx_replay_history(const char *path, bool is_json);

#endif
