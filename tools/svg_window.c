// tools/svg_window.c: which part of a run a picture shows, and where a time lies in it.

#include <inttypes.h>
#include <stdio.h>

#include "tools/svg_frame.h"

bool phx_frame_has(const struct phx_frame *f, uint64_t at_ps)
{
    return at_ps >= f->from_ps && at_ps <= f->to_ps;
}

int64_t phx_frame_x(const struct phx_frame *f, uint64_t at_ps)
{
    if (at_ps <= f->from_ps)
        return PHX_FRAME_LEFT;
    if (at_ps >= f->to_ps)
        return PHX_FRAME_RIGHT;
    __extension__ unsigned __int128 x = at_ps - f->from_ps;
    x = x * (PHX_FRAME_RIGHT - PHX_FRAME_LEFT) / (f->to_ps - f->from_ps);
    return PHX_FRAME_LEFT + (int64_t)x;
}

int64_t phx_frame_band(const struct phx_frame *f, uint32_t rank)
{
    return f->top + (int64_t)rank * f->pitch + (int64_t)(rank / f->per_node) * 60;
}

int64_t phx_frame_bottom(const struct phx_frame *f)
{
    return phx_frame_band(f, f->ranks - 1) + f->pitch;
}

const char *phx_frame_us(char text[32], uint64_t ps)
{
    uint64_t ns = (ps + 500) / 1000;
    int used = snprintf(text, 32, "%" PRIu64 ".%03" PRIu64, ns / 1000, ns % 1000);
    while (used > 0 && text[used - 1] == '0')
        text[--used] = '\0';
    if (used > 0 && text[used - 1] == '.')
        text[used - 1] = '\0';
    return text;
}

// --- choosing -----------------------------------------------------------------------------------

// The span of that operation on that rank that lies nearest after the strike, or around it.
static const struct phx_picture_span *struck_span(const struct phx_frame *f, uint32_t rank,
                                                  const struct phx_strike *strike)
{
    for (uint32_t i = 0; i < f->picture->spans.count; i++) {
        const struct phx_picture_span *s = phx_picture_span(f->picture, i);
        if (s->rank == rank && s->kind == strike->kind && s->number == strike->number &&
            s->end_ps >= strike->at_ps)
            return s;
    }
    return NULL;
}

// The operation of that rank before (or after) one of its spans.
static const struct phx_picture_span *neighbour(const struct phx_frame *f,
                                                const struct phx_picture_span *span, bool is_next)
{
    const struct phx_picture_span *found = NULL;
    for (uint32_t i = 0; i < f->picture->spans.count; i++) {
        const struct phx_picture_span *s = phx_picture_span(f->picture, i);
        if (s->rank != span->rank || s->kind == 0)
            continue;
        if (is_next && s->begin_ps >= span->end_ps)
            return s;
        if (!is_next && s->end_ps <= span->begin_ps)
            found = s;
    }
    return found;
}

bool phx_frame_struck(const struct phx_frame *f, const struct phx_strike *strike,
                      uint64_t *begin_ps)
{
    *begin_ps = UINT64_MAX;
    for (uint32_t r = 0; r < f->ranks; r++) {
        const struct phx_picture_span *s = struck_span(f, r, strike);
        if (s != NULL && !phx_rank_set_has(&f->struck, r) && s->begin_ps < *begin_ps)
            *begin_ps = s->begin_ps;
    }
    return *begin_ps != UINT64_MAX;
}

static void include_strike(const struct phx_frame *f, const struct phx_strike *strike,
                           uint64_t *from_ps, uint64_t *to_ps)
{
    if (strike->at_ps == UINT64_MAX || strike->kind == 0)
        return;
    if (strike->at_ps < *from_ps)
        *from_ps = strike->at_ps;
    if (strike->at_ps > *to_ps)
        *to_ps = strike->at_ps;
    for (uint32_t r = 0; r < f->ranks; r++) {
        const struct phx_picture_span *s = struck_span(f, r, strike);
        if (s == NULL)
            continue;
        const struct phx_picture_span *before = neighbour(f, s, false);
        const struct phx_picture_span *after = neighbour(f, s, true);
        uint64_t begin_ps = before != NULL ? before->begin_ps : s->begin_ps;
        if (begin_ps < *from_ps)
            *from_ps = begin_ps;
        // A rank that stood still ends its operations when the story is over.
        uint64_t end_ps = after != NULL ? after->end_ps : s->end_ps;
        if (!phx_rank_set_has(&f->struck, r) && end_ps > *to_ps)
            *to_ps = end_ps;
    }
}

void phx_frame_choose(const struct phx_frame *f, uint64_t *from_ps, uint64_t *to_ps)
{
    *from_ps = UINT64_MAX;
    *to_ps = 0;
    for (uint32_t i = 0; i < f->summary->strike_count; i++)
        include_strike(f, &f->summary->strikes[i], from_ps, to_ps);
    // Nothing struck an operation: the first two pairs.
    for (uint32_t i = 0; i < f->picture->spans.count && *to_ps == 0; i++)
        for (uint32_t k = 0; k < f->picture->spans.count; k++) {
            const struct phx_picture_span *s = phx_picture_span(f->picture, k);
            if (s->number > 2)
                continue;
            if (s->begin_ps < *from_ps)
                *from_ps = s->begin_ps;
            if (s->end_ps > *to_ps)
                *to_ps = s->end_ps;
        }
    if (*to_ps <= *from_ps) { // no operation at all
        *from_ps = 0;
        *to_ps = f->summary->virtual_ns > 0 ? f->summary->virtual_ns * 1000 : 1000;
    }
    uint64_t margin_ps = (*to_ps - *from_ps) / 100;
    *from_ps -= *from_ps < margin_ps ? *from_ps : margin_ps;
    *to_ps += margin_ps;
}
