// tools/svg.h: SVG 1.1 as text: elements, escaped text, numbers. No scripts, no floating point.
//
// Lengths are whole units, ten to a pixel: the picture's viewBox says so. The same run gives the
// same bytes with every compiler.

#ifndef PHX_TOOLS_SVG_H
#define PHX_TOOLS_SVG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct phx_svg {
    char *text;
    size_t size_bytes;
    size_t capacity_bytes;
    bool is_failed; // no memory; what follows is dropped
};

#define PHX_SVG_FORMAT __attribute__((format(printf, 2, 3)))
void phx_svg_print(struct phx_svg *svg, const char *format, ...) PHX_SVG_FORMAT;
// & < > " escaped; control characters, and bytes that are no UTF-8, as '?'.
void phx_svg_escape(struct phx_svg *svg, const char *text);
// ` name="123"`
void phx_svg_length(struct phx_svg *svg, const char *name, int64_t length);

void phx_svg_rect(struct phx_svg *svg, const char *class, int64_t x, int64_t y, int64_t width,
                  int64_t height);
void phx_svg_line(struct phx_svg *svg, const char *class, int64_t x1, int64_t y1, int64_t x2,
                  int64_t y2);
void phx_svg_words(struct phx_svg *svg, const char *class, int64_t x, int64_t y, const char *text);
// About how wide that text is, in a font of so many pixels.
int64_t phx_svg_width(const char *text, uint32_t font_pixels);
void phx_svg_free(struct phx_svg *svg);

#endif
