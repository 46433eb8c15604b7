// tools/svg_picture.h: a run as a picture: a band for each rank, time across.

#ifndef PHX_TOOLS_SVG_PICTURE_H
#define PHX_TOOLS_SVG_PICTURE_H

#include "sim/summary.h"
#include "tools/svg_model.h"

#define PHX_PICTURE_RANKS_MAX 64u // bands that can still be told apart

struct phx_picture_window { // UINT64_MAX: chosen so that it explains the first fault
    uint64_t from_ps;
    uint64_t to_ps;
};

// PHX_ERR_INVALID: the window is empty; PHX_ERR_IO; PHX_ERR_NO_MEMORY. The message says why.
int phx_picture_write(const struct phx_picture *picture, const struct phx_scenario *scenario,
                      const struct phx_summary *summary, const struct phx_picture_window *window,
                      const char *path, struct phx_message *message);

#endif
