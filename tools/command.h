// tools/command.h: the commands of the phx program, one file each, and how they end.

#ifndef PHX_TOOLS_COMMAND_H
#define PHX_TOOLS_COMMAND_H

#include <stdint.h>

enum phx_exit {
    PHX_EXIT_PASSED = 0,
    PHX_EXIT_FAILED = 1,   // the scenario failed
    PHX_EXIT_USAGE = 2,    // the command line or an input
    PHX_EXIT_INTERNAL = 3, // neither: this program's fault, or the machine's
};

// argv[0] is the command's name as usage shows it, such as "phx sim". Each returns enum phx_exit.
int phx_command_sim(int argc, char **argv);
int phx_command_run(int argc, char **argv);
int phx_command_info(int argc, char **argv);
int phx_command_explore(int argc, char **argv);
int phx_command_replay(int argc, char **argv);
int phx_command_shrink(int argc, char **argv);
int phx_command_bench(int argc, char **argv);
int phx_command_rendezvous(int argc, char **argv);

// A whole number as people type it: decimal, or hexadecimal after 0x. 0, or -1 with *value
// untouched.
int phx_parse_u64(const char *text, uint64_t *value);

// Milliseconds since the program started, for wall_ms alone.
double phx_wall_ms(void);

#endif
