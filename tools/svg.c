// tools/svg.c: appends to a growing text.

#include "tools/svg.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(struct phx_svg *svg, size_t more)
{
    if (svg->is_failed)
        return false;
    if (svg->size_bytes + more + 1 <= svg->capacity_bytes)
        return true;
    size_t capacity = 2 * (svg->size_bytes + more + 1);
    char *grown = realloc(svg->text, capacity);
    if (grown == NULL) {
        svg->is_failed = true;
        return false;
    }
    svg->text = grown;
    svg->capacity_bytes = capacity;
    return true;
}

void phx_svg_print(struct phx_svg *svg, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !reserve(svg, (size_t)length))
        return;
    va_start(arguments, format);
    (void)vsnprintf(svg->text + svg->size_bytes, (size_t)length + 1, format, arguments);
    va_end(arguments);
    svg->size_bytes += (size_t)length;
}

// Bytes of the UTF-8 character at `at`; 0: it is none.
static size_t character_bytes(const unsigned char *at)
{
    size_t bytes = at[0] < 0x80                     ? 1
                   : at[0] >= 0xC2 && at[0] < 0xE0  ? 2
                   : (at[0] & 0xF0) == 0xE0         ? 3
                   : at[0] >= 0xF0 && at[0] <= 0xF4 ? 4
                                                    : 0;
    for (size_t i = 1; i < bytes; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    // Overlong forms, surrogates, what lies beyond 10FFFF, and the two that XML refuses.
    if ((at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] >= 0xA0) ||
        (at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] >= 0x90) ||
        (at[0] == 0xEF && at[1] == 0xBF && at[2] >= 0xBE))
        return 0;
    return bytes;
}

void phx_svg_escape(struct phx_svg *svg, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at != '\0') {
        size_t bytes = character_bytes(at);
        if (*at == '&')
            phx_svg_print(svg, "&amp;");
        else if (*at == '<')
            phx_svg_print(svg, "&lt;");
        else if (*at == '>')
            phx_svg_print(svg, "&gt;");
        else if (*at == '"')
            phx_svg_print(svg, "&quot;");
        else if (bytes == 0 || *at < 0x20 || *at == 0x7F)
            phx_svg_print(svg, "?");
        else
            phx_svg_print(svg, "%.*s", (int)bytes, (const char *)at);
        at += bytes > 0 ? bytes : 1;
    }
}

void phx_svg_length(struct phx_svg *svg, const char *name, int64_t length)
{
    phx_svg_print(svg, " %s=\"%" PRId64 "\"", name, length);
}

void phx_svg_rect(struct phx_svg *svg, const char *class, int64_t x, int64_t y, int64_t width,
                  int64_t height)
{
    phx_svg_print(svg, "<rect class=\"%s\"", class);
    phx_svg_length(svg, "x", x);
    phx_svg_length(svg, "y", y);
    phx_svg_length(svg, "width", width > 1 ? width : 1);
    phx_svg_length(svg, "height", height);
    phx_svg_print(svg, "/>\n");
}

void phx_svg_line(struct phx_svg *svg, const char *class, int64_t x1, int64_t y1, int64_t x2,
                  int64_t y2)
{
    phx_svg_print(svg, "<line class=\"%s\"", class);
    phx_svg_length(svg, "x1", x1);
    phx_svg_length(svg, "y1", y1);
    phx_svg_length(svg, "x2", x2);
    phx_svg_length(svg, "y2", y2);
    phx_svg_print(svg, "/>\n");
}

void phx_svg_words(struct phx_svg *svg, const char *class, int64_t x, int64_t y, const char *text)
{
    phx_svg_print(svg, "<text class=\"%s\"", class);
    phx_svg_length(svg, "x", x);
    phx_svg_length(svg, "y", y);
    phx_svg_print(svg, ">");
    phx_svg_escape(svg, text);
    phx_svg_print(svg, "</text>\n");
}

int64_t phx_svg_width(const char *text, uint32_t font_pixels)
{
    return (int64_t)(strlen(text) * font_pixels) * 56 / 10; // a usual sans-serif's mean
}

void phx_svg_free(struct phx_svg *svg)
{
    free(svg->text);
    *svg = (struct phx_svg){0};
}
