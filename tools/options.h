// tools/options.h: what the commands' lines have in common: values of options, words for a shell,
// and files that could not be read.

#ifndef PHX_TOOLS_OPTIONS_H
#define PHX_TOOLS_OPTIONS_H

#include <argp.h>
#include <stdint.h>
#include <stdio.h>

#include "sim/core.h"
#include "tools/yaml_tree.h"

// A whole number min..max, as phx_parse_u64() takes it; else the program ends by argp_error().
uint64_t phx_number_or_usage(struct argp_state *state, const char *option, const char *text,
                             uint64_t min, uint64_t max);
// fifo, random or pct; likewise.
enum phx_tie phx_tie_or_usage(struct argp_state *state, const char *text);

// Prints the word as a shell takes it: in single quotes where it needs them.
void phx_print_word(FILE *out, const char *word);

// Says on stderr why a file was not read: file:line:column, if there is a place. Returns enum
// phx_exit for `rc`.
int phx_refuse_file(const char *path, const struct phx_diagnosis *d, int rc);

#endif
