// tools/svg_marks.c: what stands out on the bands: faults, the dead and the stopped, masks,
// WAITING, violations.

#include <stdio.h>
#include <string.h>

#include "sim/ranks_text.h"
#include "tools/svg_frame.h"

#define FONT 11u
#define FONT_BOLD 13u // of 11 pixels, by its width

static int64_t bar_top(const struct phx_frame *f, uint32_t rank)
{
    return phx_frame_band(f, rank) + 40;
}

static int64_t wait_top(const struct phx_frame *f, uint32_t rank)
{
    return bar_top(f, rank) + f->bar_height + 10;
}

// Right of x, or left of it where the picture ends; on a ground of its own.
static void draw_label(struct phx_frame *f, const char *class, int64_t x, int64_t y,
                       const char *text)
{
    int64_t width = phx_svg_width(text, FONT_BOLD - 1) + 60;
    int64_t left = x + width + 90 <= PHX_FRAME_RIGHT ? x + 90 : x - 90 - width;
    if (left < PHX_FRAME_LEFT)
        left = PHX_FRAME_LEFT;
    phx_svg_rect(&f->svg, "k", left, y - 105, width, 140);
    phx_svg_words(&f->svg, class, left + 30, y, text);
}

static void draw_cross(struct phx_frame *f, uint32_t rank, uint64_t at_ps)
{
    int64_t x = phx_frame_x(f, at_ps);
    int64_t y = bar_top(f, rank) + f->bar_height / 2;
    int64_t half = f->has_words ? 70 : 40;
    phx_svg_line(&f->svg, "z0", x - half, y - half, x + half, y + half);
    phx_svg_line(&f->svg, "z0", x - half, y + half, x + half, y - half);
    phx_svg_line(&f->svg, "z", x - half, y - half, x + half, y + half);
    phx_svg_line(&f->svg, "z", x - half, y + half, x + half, y - half);
}

// --- faults -------------------------------------------------------------------------------------

// When what began at this mark ended: the next mark of that kind (and name) on the rank.
static uint64_t end_of(const struct phx_frame *f, uint32_t from, uint32_t kind)
{
    const struct phx_picture_mark *begin = phx_picture_mark(f->picture, from);
    for (uint32_t i = from + 1; i < f->picture->marks.count; i++) {
        const struct phx_picture_mark *m = phx_picture_mark(f->picture, i);
        if (m->rank == begin->rank && m->kind == kind &&
            (kind != PHX_MARK_HEALED || strcmp(m->name, begin->name) == 0))
            return m->at_ps;
    }
    return UINT64_MAX;
}

static void draw_zone(struct phx_frame *f, uint32_t from, const char *class, uint64_t end_ps)
{
    const struct phx_picture_mark *m = phx_picture_mark(f->picture, from);
    if (end_ps < f->from_ps || m->at_ps > f->to_ps)
        return;
    int64_t x = phx_frame_x(f, m->at_ps);
    phx_svg_rect(&f->svg, class, x, phx_frame_band(f, m->rank) + 20, phx_frame_x(f, end_ps) - x,
                 f->pitch - 30);
}

static void draw_zones(struct phx_frame *f)
{
    for (uint32_t i = 0; i < f->picture->marks.count; i++) {
        const struct phx_picture_mark *m = phx_picture_mark(f->picture, i);
        if (m->kind == PHX_MARK_KILLED)
            draw_zone(f, i, "x", UINT64_MAX);
        else if (m->kind == PHX_MARK_STOPPED)
            draw_zone(f, i, "s", end_of(f, i, PHX_MARK_RESUMED));
        else if (m->kind == PHX_MARK_FAULT && strcmp(m->name, "pause") != 0 &&
                 end_of(f, i, PHX_MARK_HEALED) != UINT64_MAX)
            draw_zone(f, i, "l", end_of(f, i, PHX_MARK_HEALED));
    }
}

// The same fault may strike again and again: the first time in the window has the words.
static bool is_first(const struct phx_frame *f, uint32_t index)
{
    const struct phx_picture_mark *mark = phx_picture_mark(f->picture, index);
    for (uint32_t i = 0; i < index; i++) {
        const struct phx_picture_mark *m = phx_picture_mark(f->picture, i);
        if (m->kind == PHX_MARK_FAULT && m->rank == mark->rank && phx_frame_has(f, m->at_ps))
            return false;
    }
    return true;
}

static void draw_faults(struct phx_frame *f)
{
    for (uint32_t i = 0; i < f->picture->marks.count; i++) {
        const struct phx_picture_mark *m = phx_picture_mark(f->picture, i);
        if (m->kind != PHX_MARK_FAULT || !phx_frame_has(f, m->at_ps))
            continue;
        int64_t x = phx_frame_x(f, m->at_ps);
        phx_svg_line(&f->svg, "f", x, f->top, x, phx_frame_bottom(f));
    }
    for (uint32_t i = 0; i < f->picture->marks.count; i++) {
        const struct phx_picture_mark *m = phx_picture_mark(f->picture, i);
        if (m->kind != PHX_MARK_FAULT || !phx_frame_has(f, m->at_ps))
            continue;
        char at[32];
        char text[96];
        draw_cross(f, m->rank, m->at_ps);
        if (!f->has_words || !is_first(f, i))
            continue;
        (void)snprintf(text, sizeof text, "%s at %s us",
                       strcmp(m->name, "kill") == 0 ? "killed" : m->name,
                       phx_frame_us(at, m->at_ps));
        draw_label(f, "F", phx_frame_x(f, m->at_ps), bar_top(f, m->rank) + 130, text);
    }
}

// --- what ranks say of each other ---------------------------------------------------------------

#define JOIN_WIDTH 700 // flags nearer than this would cover each other

// One flag for all that a rank masked at about one time.
static void draw_mask(struct phx_frame *f, uint32_t first)
{
    const struct phx_picture_mark *m = phx_picture_mark(f->picture, first);
    struct phx_rank_set masked = {{0}};
    char text[64] = "masks ";
    for (uint32_t i = first; i < f->picture->marks.count; i++) {
        const struct phx_picture_mark *other = phx_picture_mark(f->picture, i);
        if (other->kind == PHX_MARK_MASKED && other->rank == m->rank &&
            phx_frame_x(f, other->at_ps) - phx_frame_x(f, m->at_ps) < JOIN_WIDTH)
            masked.words[other->peer / 64] |= UINT64_C(1) << (other->peer % 64);
    }
    phx_ranks_format(&masked, f->ranks, text + 6, sizeof text - 6);
    int64_t x = phx_frame_x(f, m->at_ps);
    int64_t y = wait_top(f, m->rank);
    phx_svg_line(&f->svg, "g", x, bar_top(f, m->rank) - 10, x, y + f->wait_height);
    if (!f->has_words) {
        phx_svg_rect(&f->svg, "G", x, y, 60, f->wait_height);
        return;
    }
    int64_t width = phx_svg_width(text, FONT_BOLD - 1) + 60;
    int64_t left = x + width <= PHX_FRAME_RIGHT ? x : x - width;
    phx_svg_rect(&f->svg, "G", left, y - 5, width, f->wait_height + 10);
    phx_svg_words(&f->svg, "w", left + 30, y + f->wait_height - 20, text);
}

// Whether words may go on until x2 without leaving the operation, or covering its name.
static bool has_room(const struct phx_frame *f, const struct phx_picture_mark *m, int64_t x2)
{
    for (uint32_t i = 0; i < f->picture->spans.count; i++) {
        const struct phx_picture_span *s = phx_picture_span(f->picture, i);
        if (s->rank == m->rank && s->begin_ps <= m->at_ps && m->at_ps < s->end_ps)
            return x2 <= phx_frame_x(f, s->end_ps) &&
                   phx_frame_x(f, m->at_ps) > phx_frame_x(f, s->begin_ps) + 750;
    }
    return false;
}

static void draw_waiting(struct phx_frame *f, const struct phx_picture_mark *m)
{
    char text[48];
    int64_t x = phx_frame_x(f, m->at_ps);
    int64_t y = bar_top(f, m->rank) + f->bar_height / 2;
    int64_t half = f->has_words ? 50 : 30;
    phx_svg_print(&f->svg, "<path class=\"v\" d=\"M%lld %lldL%lld %lldL%lld %lldL%lld %lldz\"/>\n",
                  (long long)x - half, (long long)y, (long long)x, (long long)y - half,
                  (long long)x + half, (long long)y, (long long)x, (long long)y + half);
    if (!f->has_words)
        return;
    (void)snprintf(text, sizeof text, "WAITING for %u", m->peer);
    if (has_room(f, m, x + phx_svg_width(text, FONT) + 100))
        phx_svg_words(&f->svg, "V", x + 80, y + 40, text);
}

static void draw_violation(struct phx_frame *f, const struct phx_picture_mark *m)
{
    int64_t x = phx_frame_x(f, m->at_ps);
    phx_svg_line(&f->svg, "y", x, bar_top(f, m->rank) - 20, x,
                 wait_top(f, m->rank) + f->wait_height);
    if (f->has_words) // above the flags, which are often why
        draw_label(f, "Y", x, bar_top(f, m->rank) + 130, m->name);
}

void phx_frame_draw_marks(struct phx_frame *f)
{
    uint32_t violations = 0;
    int64_t flags[PHX_PICTURE_RANKS_MAX]; // where each rank's latest flag begins
    for (uint32_t r = 0; r < f->ranks; r++)
        flags[r] = -JOIN_WIDTH;
    draw_zones(f);
    for (uint32_t i = 0; i < f->picture->marks.count; i++) {
        const struct phx_picture_mark *m = phx_picture_mark(f->picture, i);
        if (!phx_frame_has(f, m->at_ps))
            continue;
        if (m->kind == PHX_MARK_WAITING)
            draw_waiting(f, m);
        int64_t x = phx_frame_x(f, m->at_ps);
        if (m->kind == PHX_MARK_MASKED && x - flags[m->rank] >= JOIN_WIDTH) {
            flags[m->rank] = x;
            draw_mask(f, i);
        }
        if (m->kind == PHX_MARK_VIOLATED && violations++ < 16)
            draw_violation(f, m);
    }
    draw_faults(f);
}
