// tools/svg_picture.c: the page: title, what struck, the bands, the time axis, the legend.

#include "tools/svg_picture.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/report.h"
#include "tools/svg_frame.h"

#define STRIKES_MAX 4u // told above the bands
#define LINE 180       // of text

// Times, waits and puts: colours that stay apart in grey too. Lengths in tenths, hence the scale.
static const char STYLE[] =
    "<style>\n"
    "text{font-family:Helvetica,Arial,'DejaVu Sans',sans-serif;font-size:110px;fill:#1b1f24}\n"
    ".T{font-size:170px;font-weight:bold}.m{font-size:110px;fill:#57606a}\n"
    ".m.R,.r,.rs{text-anchor:end}.m.M{text-anchor:middle}.r{font-size:120px}.rs{font-size:80px}\n"
    ".b{fill:#f6f8fa}.n{stroke:#8c959f;stroke-width:20}.a{stroke:#8c959f;stroke-width:8}\n"
    ".t{fill:#fff}.d{fill:#2f6fb5}.c{fill:#2c8a5b}.e{fill:#d9a520}\n"
    ".h{fill:url(#hatch)}.k{fill:#fff;fill-opacity:.88}.q{font-size:100px;fill:#4b535d}\n"
    ".pd,.pc,.ps,.pl{fill:none;stroke-opacity:.35}.pd{stroke:#2f6fb5}.pc{stroke:#2c8a5b}\n"
    ".ps{stroke:#e07b00;stroke-opacity:.8}\n"
    ".pl{stroke:#cf222e;stroke-opacity:.75;stroke-dasharray:50 40}\n"
    ".w1{stroke-width:5}.w2{stroke-width:8}.w3{stroke-width:11}.w4{stroke-width:15}\n"
    ".w5{stroke-width:19}.w6{stroke-width:24}\n"
    ".x{fill:#6e7781;fill-opacity:.4}.s{fill:#d4a72c;fill-opacity:.4}\n"
    ".l{fill:#d4a72c;fill-opacity:.2}\n"
    ".f{stroke:#cf222e;stroke-width:10;stroke-dasharray:60 40}\n"
    ".z{stroke:#cf222e;stroke-width:34}.z0{stroke:#fff;stroke-width:60}\n"
    ".F{fill:#cf222e;font-weight:bold}.g{stroke:#a40e26;stroke-width:16}.G{fill:#a40e26}\n"
    ".w{font-size:100px;font-weight:bold;fill:#fff}\n"
    ".v{fill:#fff;stroke:#6639ba;stroke-width:14}.V{font-size:100px;fill:#fff}\n"
    ".y{stroke:#000;stroke-width:30}.Y{fill:#000;font-weight:bold}\n"
    ".o{stroke:#57606a;stroke-width:10}.u{stroke:#1a7f37;stroke-width:14}\n"
    ".U{fill:#1a7f37;font-weight:bold}.i{stroke:#1a7f37;stroke-width:10;stroke-dasharray:60 40}\n"
    "</style>\n"
    "<defs><pattern id=\"hatch\" width=\"60\" height=\"60\" patternUnits=\"userSpaceOnUse\" "
    "patternTransform=\"rotate(45)\"><rect width=\"60\" height=\"60\" fill=\"#eaeef2\"/>"
    "<rect width=\"22\" height=\"60\" fill=\"#8c959f\"/></pattern></defs>\n";

static const struct phx_strike *first_strike(const struct phx_frame *f)
{
    const struct phx_strike *first = NULL;
    for (uint32_t i = 0; i < f->summary->strike_count; i++) {
        const struct phx_strike *s = &f->summary->strikes[i];
        if (s->at_ps != UINT64_MAX && s->kind != 0 && (first == NULL || s->at_ps < first->at_ps))
            first = s;
    }
    return first;
}

// --- above the bands ----------------------------------------------------------------------------

static int64_t draw_title(struct phx_frame *f)
{
    const struct phx_workload *w = &f->scenario->workload;
    char text[256];
    int64_t y = 300;
    phx_svg_words(&f->svg, "T", 160, y, f->scenario->name);
    (void)snprintf(text, sizeof text,
                   "%u ranks, %u on each node; deadline %" PRIu64 " us; seed %" PRIu64 ": %s",
                   f->ranks, f->per_node, w->timeout_us, f->summary->seed,
                   f->summary->is_passed ? "all checks passed" : "CHECKS FAILED");
    phx_svg_words(&f->svg, f->summary->is_passed ? "m" : "F", 160, y += LINE + 10, text);
    for (uint32_t i = 0; i < f->summary->strike_count && i < STRIKES_MAX; i++) {
        phx_report_strike(text, sizeof text, w, &f->summary->strikes[i]);
        phx_svg_words(&f->svg, "F", 160, y += LINE, text);
    }
    if (f->summary->strike_count > STRIKES_MAX) {
        (void)snprintf(text, sizeof text, "and %u more faults",
                       f->summary->strike_count - STRIKES_MAX);
        phx_svg_words(&f->svg, "F", 160, y += LINE, text);
    }
    return y + 120;
}

// |<-- text -->|, its words in the middle, or beside it when it is short.
static void draw_extent(struct phx_frame *f, const char *line, const char *words, int64_t y,
                        uint64_t from_ps, uint64_t to_ps, const char *text)
{
    int64_t x1 = phx_frame_x(f, from_ps);
    int64_t x2 = phx_frame_x(f, to_ps);
    int64_t width = phx_svg_width(text, 11) + 60;
    phx_svg_line(&f->svg, line, x1, y, x2, y);
    if (phx_frame_has(f, from_ps))
        phx_svg_line(&f->svg, line, x1, y - 50, x1, y + 50);
    if (phx_frame_has(f, to_ps))
        phx_svg_line(&f->svg, line, x2, y - 50, x2, y + 50);
    int64_t left = (x1 + x2 - width) / 2;
    if (width + 200 > x2 - x1)
        left = x2 + 60 + width <= PHX_FRAME_RIGHT ? x2 + 60 : x1 - 60 - width;
    phx_svg_rect(&f->svg, "k", left, y - 80, width, 160);
    phx_svg_words(&f->svg, words, left + 30, y + 40, text);
}

static void draw_extents(struct phx_frame *f, int64_t y)
{
    const struct phx_strike *s = first_strike(f);
    uint64_t begin_ps;
    char text[128];
    char us[32];
    if (s == NULL)
        return;
    const char *kind = s->kind == PHX_DISPATCH ? "dispatch" : "combine";
    uint64_t timeout_ps = f->scenario->workload.timeout_us * 1000000;
    if (phx_frame_struck(f, s, &begin_ps) && timeout_ps < UINT64_MAX - begin_ps &&
        phx_frame_has(f, begin_ps)) {
        (void)snprintf(text, sizeof text, "deadline of %s %" PRIu64 ": %" PRIu64 " us", kind,
                       s->number, f->scenario->workload.timeout_us);
        draw_extent(f, "o", "m", y, begin_ps, begin_ps + timeout_ps, text);
    }
    if (s->within_ps == UINT64_MAX || !phx_frame_has(f, s->at_ps))
        return;
    uint64_t over_ps = s->at_ps + s->within_ps;
    (void)snprintf(text, sizeof text, "all survivors through %s %" PRIu64 " after %s us", kind,
                   s->number, phx_frame_us(us, s->within_ps));
    draw_extent(f, "u", "U", y + 200, s->at_ps, over_ps, text);
    if (phx_frame_has(f, over_ps))
        phx_svg_line(&f->svg, "i", phx_frame_x(f, over_ps), y + 200, phx_frame_x(f, over_ps),
                     phx_frame_bottom(f));
}

// --- below them ---------------------------------------------------------------------------------

static void draw_axis(struct phx_frame *f, int64_t y)
{
    uint64_t length_ps = f->to_ps - f->from_ps;
    uint64_t step_ps = 1000;
    for (uint32_t i = 0; step_ps < length_ps / 10; i++) // 1, 2, 5, 10...
        step_ps = i % 3 == 1 ? step_ps / 2 * 5 : step_ps * 2;
    phx_svg_line(&f->svg, "a", PHX_FRAME_LEFT, y, PHX_FRAME_RIGHT, y);
    phx_svg_words(&f->svg, "m R", PHX_FRAME_LEFT - 60, y + 160, "time, us");
    uint64_t first_ps = f->from_ps + (step_ps - 1 - (f->from_ps + step_ps - 1) % step_ps);
    for (uint64_t at_ps = first_ps; at_ps <= f->to_ps; at_ps += step_ps) {
        char text[32];
        int64_t x = phx_frame_x(f, at_ps);
        phx_svg_line(&f->svg, "a", x, y, x, y + 50);
        if (x - PHX_FRAME_LEFT > 150 || x == PHX_FRAME_LEFT)
            phx_svg_words(&f->svg, "m M", x, y + 160, phx_frame_us(text, at_ps));
    }
}

enum swatch { SWATCH_BOX = 1, SWATCH_LINE, SWATCH_CROSS, SWATCH_FLAG, SWATCH_DIAMOND };

struct legend {
    const char *class;
    const char *text;
    enum swatch swatch;
    uint32_t mark; // enum phx_picture_mark_kind that must be there; 0: always
};

static void draw_swatch(struct phx_frame *f, const struct legend *l, int64_t x, int64_t y)
{
    switch (l->swatch) {
    case SWATCH_BOX:
        phx_svg_rect(&f->svg, l->class, x, y - 90, 220, 100);
        break;
    case SWATCH_LINE:
        phx_svg_line(&f->svg, l->class, x, y, x + 220, y - 80);
        break;
    case SWATCH_CROSS:
        phx_svg_line(&f->svg, "z", x + 60, y - 90, x + 160, y + 10);
        phx_svg_line(&f->svg, "z", x + 60, y + 10, x + 160, y - 90);
        break;
    case SWATCH_FLAG:
        phx_svg_line(&f->svg, "g", x + 40, y - 110, x + 40, y + 20);
        phx_svg_rect(&f->svg, "G", x + 40, y - 60, 150, 80);
        break;
    case SWATCH_DIAMOND:
        phx_svg_print(&f->svg,
                      "<path class=\"v\" d=\"M%" PRId64 " %" PRId64 "l50 -50l50 50l-50 50z\"/>\n",
                      x + 60, y - 40);
        break;
    }
}

static bool has_mark(const struct phx_frame *f, uint32_t kind)
{
    for (uint32_t i = 0; i < f->picture->marks.count; i++)
        if (phx_picture_mark(f->picture, i)->kind == kind)
            return true;
    return false;
}

static int64_t draw_legend(struct phx_frame *f, int64_t y)
{
    static const struct legend entries[] = {
        {"d", "dispatch", SWATCH_BOX, 0},
        {"e", "experts", SWATCH_BOX, 0},
        {"c", "combine", SWATCH_BOX, 0},
        {"h", "a worker waits", SWATCH_BOX, 0},
        {"x", "dead", SWATCH_BOX, PHX_MARK_KILLED},
        {"s", "stopped", SWATCH_BOX, PHX_MARK_STOPPED},
        {"l", "fault lasts", SWATCH_BOX, PHX_MARK_HEALED},
        {"", "fault", SWATCH_CROSS, PHX_MARK_FAULT},
        {"", "gives a rank up", SWATCH_FLAG, PHX_MARK_MASKED},
        {"", "tells the others: I am waiting", SWATCH_DIAMOND, PHX_MARK_WAITING},
        {"pd w4", "puts of a pair (dispatch)", SWATCH_LINE, 0},
        {"pc w4", "(combine)", SWATCH_LINE, 0},
        {"ps w4", "from or to a struck rank", SWATCH_LINE, PHX_MARK_FAULT},
        {"pl w4", "none arrived", SWATCH_LINE, PHX_MARK_FAULT},
    };
    int64_t x = 160;
    for (uint32_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        int64_t width = 280 + phx_svg_width(entries[i].text, 11) + 160;
        if (entries[i].mark != 0 && !has_mark(f, entries[i].mark))
            continue;
        if (x + width > PHX_FRAME_WIDTH) {
            x = 160;
            y += LINE;
        }
        draw_swatch(f, &entries[i], x, y);
        phx_svg_words(&f->svg, "m", x + 280, y, entries[i].text);
        x += width;
    }
    if (!f->draws_all_puts) {
        phx_svg_words(&f->svg, "m", 160, y += LINE,
                      "Puts between undisturbed ranks are left out: there are too many.");
    }
    return y + 140;
}

static void find_struck(struct phx_frame *f)
{
    for (uint32_t i = 0; i < f->picture->marks.count; i++) {
        const struct phx_picture_mark *m = phx_picture_mark(f->picture, i);
        if (m->kind == PHX_MARK_FAULT || m->kind == PHX_MARK_KILLED || m->kind == PHX_MARK_STOPPED)
            f->struck.words[m->rank / 64] |= UINT64_C(1) << (m->rank % 64);
    }
}

// --- the page -----------------------------------------------------------------------------------

static void layout(struct phx_frame *f, int64_t top)
{
    f->top = top;
    f->has_words = f->ranks <= 16;
    f->pitch = f->ranks <= 16 ? 460 : f->ranks <= 32 ? 260 : 180;
    f->bar_height = f->ranks <= 16 ? 180 : f->ranks <= 32 ? 100 : 60;
    f->wait_height = f->ranks <= 16 ? 140 : f->ranks <= 32 ? 70 : 40;
}

static void draw(struct phx_frame *f)
{
    bool has_extents = first_strike(f) != NULL;
    phx_svg_print(&f->svg, "%s", STYLE);
    phx_svg_print(&f->svg,
                  "<rect x=\"5\" y=\"5\" width=\"%d\" height=\"@HEIGHT@\" rx=\"80\" "
                  "fill=\"#fff\" stroke=\"#d0d7de\" stroke-width=\"10\"/>\n",
                  PHX_FRAME_WIDTH - 10);
    int64_t y = draw_title(f);
    layout(f, has_extents ? y + 420 : y + 60);
    phx_frame_draw_bands(f);
    phx_frame_draw_marks(f);
    if (has_extents)
        draw_extents(f, y + 100);
    int64_t bottom = phx_frame_bottom(f) + 40;
    draw_axis(f, bottom);
    f->top = draw_legend(f, bottom + 400); // from here on: the height
}

static int write_file(const struct phx_frame *f, const char *path, struct phx_message *message)
{
    static const char mark[] = "@HEIGHT@";
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return phx_fail(message, PHX_ERR_IO, "picture \"%s\" cannot be written: %s", path,
                        strerror(errno));
    const char *at = strstr(f->svg.text, mark);
    (void)fprintf(file,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%d\" "
                  "height=\"%" PRId64 "\" viewBox=\"0 0 %d %" PRId64 "\">\n<title>",
                  PHX_FRAME_WIDTH / 10, f->top / 10, PHX_FRAME_WIDTH, f->top);
    struct phx_svg title = {0};
    phx_svg_escape(&title, f->scenario->name);
    (void)fprintf(file, "%s</title>\n%.*s%" PRId64 "%s</svg>\n",
                  title.text != NULL ? title.text : "", (int)(at - f->svg.text), f->svg.text,
                  f->top - 10, at + sizeof mark - 1);
    phx_svg_free(&title);
    bool is_bad = ferror(file) != 0;
    is_bad = fclose(file) != 0 || is_bad;
    return is_bad
               ? phx_fail(message, PHX_ERR_IO, "picture \"%s\" could not be written in full", path)
               : 0;
}

int phx_picture_write(const struct phx_picture *picture, const struct phx_scenario *scenario,
                      const struct phx_summary *summary, const struct phx_picture_window *window,
                      const char *path, struct phx_message *message)
{
    struct phx_frame f = {
        .picture = picture,
        .scenario = scenario,
        .summary = summary,
        .ranks = picture->setup.ranks,
        .per_node = scenario->workload.cluster.ranks_per_node,
    };
    find_struck(&f);
    phx_frame_choose(&f, &f.from_ps, &f.to_ps);
    if (window->from_ps != UINT64_MAX)
        f.from_ps = window->from_ps;
    if (window->to_ps != UINT64_MAX)
        f.to_ps = window->to_ps;
    if (f.to_ps <= f.from_ps) {
        char from[32];
        char to[32];
        return phx_fail(message, PHX_ERR_INVALID,
                        "--svg: the picture would go from %s to %s us; it must end after it begins",
                        phx_frame_us(from, f.from_ps), phx_frame_us(to, f.to_ps));
    }
    draw(&f);
    int rc = f.svg.is_failed ? phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the picture")
                             : write_file(&f, path, message);
    phx_svg_free(&f.svg);
    return rc;
}
