// tools/bug_option.h: --bug NAME, and how this program is called: there are two, of one source.

#ifndef PHX_TOOLS_BUG_OPTION_H
#define PHX_TOOLS_BUG_OPTION_H

#include "engine/bug.h"

// As one types it, for lines that repeat a run.
#if defined(PHX_PLANTED_BUGS) && PHX_PLANTED_BUGS
#define PHX_PROGRAM "phx-planted"
#else
#define PHX_PROGRAM "phx"
#endif

// PHX_PROGRAM, or what a script that starts this program says that it is called (PHX_COMMAND).
const char *phx_program(void);

// Puts the bug of that name in, for all that runs from now on; an empty name or NULL: none.
// Returns 0, or PHX_EXIT_USAGE after one line on stderr that begins with `command` ("phx sim").
int phx_choose_bug(const char *command, const char *name);

#endif
