// tools/svg_bands.c: the bands: puts behind them, then operations, what is sent, and waits.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/layout.h"
#include "tools/svg_frame.h"

#define FONT 11u
#define PUTS_MAX 2000u // lines that a reader, and the file's size, can bear

// --- puts ---------------------------------------------------------------------------------------

static bool put_shows(const struct phx_frame *f, const struct phx_picture_put *put)
{
    return put->last_ps >= f->from_ps && put->first_ps <= f->to_ps && put->count > 0;
}

static bool put_is_struck(const struct phx_frame *f, const struct phx_picture_put *put)
{
    return phx_rank_set_has(&f->struck, put->source) || phx_rank_set_has(&f->struck, put->target);
}

static int64_t middle(const struct phx_frame *f, uint32_t rank)
{
    return phx_frame_band(f, rank) + 40 + f->bar_height / 2;
}

// Width by bytes, in steps of four, from half a pixel.
static uint32_t put_weight(uint64_t bytes)
{
    uint32_t weight = 1;
    for (uint64_t b = 16384; b < bytes && weight < 6; b *= 4)
        weight++;
    return weight;
}

static void draw_put(struct phx_frame *f, const struct phx_picture_put *put)
{
    bool is_lost = put->lost == put->count;
    bool is_struck = put_is_struck(f, put);
    uint32_t kind = put->token >> 28;
    char class[24];
    (void)snprintf(class, sizeof class, "%s w%u",
                   is_lost                ? "pl"
                   : is_struck            ? "ps"
                   : kind == PHX_DISPATCH ? "pd"
                                          : "pc",
                   put_weight(put->bytes));
    int64_t x1 = phx_frame_x(f, put->first_ps);
    // What was given up arrived nowhere and at no time: it points at its target.
    int64_t x2 = is_lost ? x1 + 60 : phx_frame_x(f, put->last_ps);
    phx_svg_line(&f->svg, class, x1, middle(f, put->source), x2, middle(f, put->target));
}

static void draw_puts(struct phx_frame *f, bool are_struck)
{
    for (uint32_t i = 0; i < f->picture->puts.count; i++) {
        const struct phx_picture_put *put = phx_picture_put(f->picture, i);
        if (put_shows(f, put) && put_is_struck(f, put) == are_struck)
            draw_put(f, put);
    }
}

static uint32_t puts_shown(const struct phx_frame *f)
{
    uint32_t shown = 0;
    for (uint32_t i = 0; i < f->picture->puts.count; i++)
        shown += put_shows(f, phx_picture_put(f->picture, i));
    return shown;
}

// --- operations ---------------------------------------------------------------------------------

static void draw_span(struct phx_frame *f, const struct phx_picture_span *s)
{
    if (s->end_ps < f->from_ps || s->begin_ps > f->to_ps)
        return;
    static const char *const names[] = {"experts", "dispatch", "combine"};
    static const char *const classes[] = {"e", "d", "c"};
    int64_t x = phx_frame_x(f, s->begin_ps);
    int64_t width = phx_frame_x(f, s->end_ps) - x;
    int64_t y = phx_frame_band(f, s->rank) + 40;
    phx_svg_rect(&f->svg, classes[s->kind], x, y, width, f->bar_height);
    char text[48];
    (void)snprintf(text, sizeof text, "%s %" PRIu64, names[s->kind], s->number);
    if (s->kind == 0 || !f->has_words)
        return;
    if (phx_svg_width(text, FONT) + 60 > width)
        (void)snprintf(text, sizeof text, "%" PRIu64, s->number);
    if (phx_svg_width(text, FONT) + 40 <= width)
        phx_svg_words(&f->svg, "t", x + 30, y + f->bar_height - 50, text);
}

// --- waits --------------------------------------------------------------------------------------

struct edge { // of a wait
    uint64_t at_ps;
    uint32_t peer;
    bool is_end;
};

static int edge_order(const void *a, const void *b)
{
    const struct edge *x = a;
    const struct edge *y = b;
    if (x->at_ps != y->at_ps)
        return x->at_ps < y->at_ps ? -1 : 1;
    if (x->is_end != y->is_end)
        return x->is_end ? -1 : 1;
    return x->peer < y->peer ? -1 : x->peer > y->peer;
}

#define FLAG_WIDTH 620 // of svg_marks.c, which stands in the same lane

// To the right of the rank's flags, which would cover words.
static void make_way(const struct phx_frame *f, uint32_t rank, int64_t *x, int64_t *width)
{
    for (uint32_t i = 0; i < f->picture->marks.count; i++) {
        const struct phx_picture_mark *m = phx_picture_mark(f->picture, i);
        int64_t end = phx_frame_x(f, m->at_ps) + FLAG_WIDTH;
        if (m->kind != PHX_MARK_MASKED || m->rank != rank || end <= *x || end - FLAG_WIDTH > *x)
            continue;
        *width -= end - *x;
        *x = end;
    }
}

// "waits for 3, 5", as long as it fits; else nothing.
static void draw_whom(struct phx_frame *f, uint32_t rank, const uint32_t *waits, int64_t x,
                      int64_t width)
{
    int64_t y = phx_frame_band(f, rank) + 50 + f->bar_height;
    char text[96];
    size_t used = (size_t)snprintf(text, sizeof text, "waits for");
    uint32_t count = 0;
    for (uint32_t peer = 0; peer < f->ranks && used < 80; peer++)
        if (waits[peer] > 0)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s %u",
                                     count++ > 0 ? "," : "", peer);
    make_way(f, rank, &x, &width);
    if (count == 0 || used >= 80 || phx_svg_width(text, 10) + 60 > width)
        return;
    phx_svg_rect(&f->svg, "k", x + 20, y + 5, phx_svg_width(text, 10) + 40, f->wait_height - 10);
    phx_svg_words(&f->svg, "q", x + 40, y + f->wait_height - 25, text);
}

// One hatched bar from the first of overlapping waits to the last; said of whom where that holds
// long enough.
static void draw_waits(struct phx_frame *f, uint32_t rank, struct edge *edges, uint32_t *waits)
{
    uint32_t count = 0;
    uint32_t open = 0;
    uint64_t since_ps = 0;
    int64_t y = phx_frame_band(f, rank) + 50 + f->bar_height;
    for (uint32_t i = 0; i < f->picture->waits.count; i++) {
        const struct phx_picture_wait *w = phx_picture_wait(f->picture, i);
        if (w->rank != rank || w->end_ps < f->from_ps || w->begin_ps > f->to_ps)
            continue;
        edges[count++] = (struct edge){w->begin_ps, w->peer, false};
        edges[count++] = (struct edge){w->end_ps, w->peer, true};
    }
    qsort(edges, count, sizeof *edges, edge_order);
    memset(waits, 0, f->ranks * sizeof *waits);
    for (uint32_t i = 0; i < count; i++) { // the bars, so that words stand above all of them
        if (open == 0)
            since_ps = edges[i].at_ps;
        open = edges[i].is_end ? open - 1 : open + 1;
        bool goes_on = i + 1 < count && edges[i + 1].at_ps == edges[i].at_ps;
        if (open == 0 && !goes_on)
            phx_svg_rect(&f->svg, "h", phx_frame_x(f, since_ps), y,
                         phx_frame_x(f, edges[i].at_ps) - phx_frame_x(f, since_ps), f->wait_height);
    }
    for (uint32_t i = 0; f->has_words && i + 1 < count; i++) {
        waits[edges[i].peer] += edges[i].is_end ? UINT32_MAX : 1;
        int64_t x = phx_frame_x(f, edges[i].at_ps);
        draw_whom(f, rank, waits, x, phx_frame_x(f, edges[i + 1].at_ps) - x);
    }
}

// --- all of it ----------------------------------------------------------------------------------

static void draw_labels(struct phx_frame *f)
{
    for (uint32_t r = 0; r < f->ranks; r++) {
        char text[32];
        int64_t y = phx_frame_band(f, r);
        (void)snprintf(text, sizeof text, "rank %u", r);
        phx_svg_rect(&f->svg, "b", PHX_FRAME_LEFT, y + 20, PHX_FRAME_RIGHT - PHX_FRAME_LEFT,
                     f->pitch - 30);
        phx_svg_words(&f->svg, f->has_words ? "r" : "rs", PHX_FRAME_LEFT - 60,
                      y + 20 + f->bar_height, text);
        if (r % f->per_node != 0)
            continue;
        int64_t end = y + f->pitch * (r + f->per_node < f->ranks ? f->per_node : f->ranks - r);
        (void)snprintf(text, sizeof text, "node %u", r / f->per_node);
        phx_svg_line(&f->svg, "n", 260, y + 30, 260, end - 20);
        if (end - y < 400)
            continue; // one low band: the line alone
        phx_svg_print(&f->svg,
                      "<text class=\"m M\" transform=\"translate(200 %" PRId64
                      ") rotate(-90)\">%s</text>\n",
                      (y + end) / 2, text);
    }
}

void phx_frame_draw_bands(struct phx_frame *f)
{
    struct edge *edges = calloc((size_t)2 * f->picture->waits.count + 1, sizeof *edges);
    uint32_t *waits = calloc(f->ranks, sizeof *waits);
    draw_labels(f);
    f->draws_all_puts = puts_shown(f) <= PUTS_MAX;
    if (f->draws_all_puts)
        draw_puts(f, false);
    for (uint32_t i = 0; i < f->picture->spans.count; i++)
        draw_span(f, phx_picture_span(f->picture, i));
    draw_puts(f, true);
    for (uint32_t r = 0; r < f->ranks && edges != NULL && waits != NULL; r++)
        draw_waits(f, r, edges, waits);
    f->svg.is_failed = f->svg.is_failed || edges == NULL || waits == NULL;
    free(edges);
    free(waits);
}
