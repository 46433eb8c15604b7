// sim/ranks_text.h: a set of ranks as people write it.

#ifndef PHX_SIM_RANKS_TEXT_H
#define PHX_SIM_RANKS_TEXT_H

#include <stddef.h>

#include "engine/phalanx.h"

// "0-2, 4-7"; "none" when empty; ends with "..." where `size` is too small.
void phx_ranks_format(const struct phx_rank_set *set, uint32_t ranks, char *text, size_t size);

#endif
