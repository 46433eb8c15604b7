// tools/svg_frame.h: where things lie in a picture; shared by the files that draw it.

#ifndef PHX_TOOLS_SVG_FRAME_H
#define PHX_TOOLS_SVG_FRAME_H

#include "tools/svg.h"
#include "tools/svg_picture.h"

#define PHX_FRAME_WIDTH 10000 // tenths of a pixel, as all lengths
#define PHX_FRAME_LEFT 880
#define PHX_FRAME_RIGHT 9840

struct phx_frame {
    struct phx_svg svg;
    const struct phx_picture *picture;
    const struct phx_scenario *scenario;
    const struct phx_summary *summary;
    uint64_t from_ps;
    uint64_t to_ps;
    uint32_t ranks;
    uint32_t per_node;
    struct phx_rank_set struck; // a fault named it, or its process was killed or stopped
    int64_t top;                // of the first band
    int64_t pitch;              // from band to band
    int64_t bar_height;         // operations
    int64_t wait_height;        // below it
    bool has_words;             // bands are high enough for text
    bool draws_all_puts;        // not those of struck ranks alone
};

// When a time is outside the window, the edge.
int64_t phx_frame_x(const struct phx_frame *f, uint64_t at_ps);
bool phx_frame_has(const struct phx_frame *f, uint64_t at_ps);
int64_t phx_frame_band(const struct phx_frame *f, uint32_t rank); // its top
int64_t phx_frame_bottom(const struct phx_frame *f);              // of the last band
// 1222.317, with as many decimals as it takes and at most three.
const char *phx_frame_us(char text[32], uint64_t ps);
// The window that explains the first fault; the beginning of a run without one.
void phx_frame_choose(const struct phx_frame *f, uint64_t *from_ps, uint64_t *to_ps);
// The operation that a strike struck, as the undisturbed ranks went through it: the first of them
// to begin it. False: they did not.
bool phx_frame_struck(const struct phx_frame *f, const struct phx_strike *strike,
                      uint64_t *begin_ps);

void phx_frame_draw_bands(struct phx_frame *f); // svg_bands.c
void phx_frame_draw_marks(struct phx_frame *f); // svg_marks.c

#endif
