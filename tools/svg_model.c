// tools/svg_model.c: the sink that keeps what a picture needs: puts only as sums, waits joined.

#include "tools/svg_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/limits.h"
#include "kernels/layout.h"

static void *list_add(struct phx_picture *p, struct phx_picture_list *list, size_t item_bytes)
{
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity == 0 ? 256 : 2 * list->capacity;
        void *grown = realloc(list->items, capacity * item_bytes);
        if (grown == NULL) {
            p->is_failed = true;
            return NULL;
        }
        list->items = grown;
        list->capacity = capacity;
    }
    void *item = (char *)list->items + list->count++ * item_bytes;
    memset(item, 0, item_bytes);
    return item;
}

static struct phx_picture_mark *mark_add(struct phx_picture *p, uint32_t kind,
                                         const struct phx_trace_record *r)
{
    struct phx_picture_mark *m = list_add(p, &p->marks, sizeof *m);
    if (m == NULL)
        return NULL;
    m->kind = kind;
    m->rank = r->rank;
    m->peer = r->peer;
    m->at_ps = r->begin_ps;
    return m;
}

// --- operations ---------------------------------------------------------------------------------

static uint32_t kind_of(uint32_t phase)
{
    return phase >= PHX_PHASE_COMBINE_SEND ? PHX_COMBINE : PHX_DISPATCH;
}

static void span_add(struct phx_picture *p, uint32_t rank, uint32_t kind, uint64_t number,
                     uint64_t begin_ps, uint64_t end_ps)
{
    struct phx_picture_span *s = list_add(p, &p->spans, sizeof *s);
    if (s != NULL)
        *s = (struct phx_picture_span){begin_ps, end_ps, number, rank, kind};
}

static void on_phase(struct phx_picture *p, const struct phx_trace_record *r)
{
    struct phx_picture_span *spans = p->spans.items;
    struct phx_picture_span *before = NULL;
    for (uint32_t i = p->spans.count; before == NULL && i > 0; i--)
        if (spans[i - 1].rank == r->rank)
            before = &spans[i - 1];
    uint32_t kind = kind_of(r->phase);
    if (before != NULL && before->kind == kind && before->number == r->number &&
        before->end_ps == r->begin_ps) {
        before->end_ps = r->end_ps; // its other half
        return;
    }
    // A combine goes back what a dispatch brought: between them the experts ran.
    if (before != NULL && before->kind == PHX_DISPATCH && r->phase == PHX_PHASE_COMBINE_SEND &&
        before->number == r->number && before->end_ps < r->begin_ps)
        span_add(p, r->rank, 0, r->number, before->end_ps, r->begin_ps);
    span_add(p, r->rank, kind, r->number, r->begin_ps, r->end_ps);
}

// --- waits --------------------------------------------------------------------------------------

#define JOIN_PS 2000000u // looks between two waits for the same words

static void on_wait(struct phx_picture *p, const struct phx_trace_record *r)
{
    if (r->peer == PHX_TRACE_NOBODY || r->peer == r->rank)
        return;
    struct phx_picture_wait *waits = p->waits.items;
    // A rank's workers take turns, so the wait that goes on is among its latest ones.
    uint32_t looks = 16 * p->setup.ranks;
    for (uint32_t i = p->waits.count; looks > 0 && i > 0; i--, looks--) {
        struct phx_picture_wait *w = &waits[i - 1];
        if (w->rank != r->rank || w->peer != r->peer || w->end_ps + JOIN_PS < r->begin_ps)
            continue;
        if (r->begin_ps < w->begin_ps)
            w->begin_ps = r->begin_ps;
        if (r->end_ps > w->end_ps)
            w->end_ps = r->end_ps;
        return;
    }
    struct phx_picture_wait *w = list_add(p, &p->waits, sizeof *w);
    if (w != NULL)
        *w = (struct phx_picture_wait){r->begin_ps, r->end_ps, r->rank, r->peer};
}

// --- puts ---------------------------------------------------------------------------------------

static uint32_t put_slot(const struct phx_picture *p, const struct phx_trace_message *m)
{
    const struct phx_picture_put *puts = p->puts.items;
    uint64_t key = ((uint64_t)m->source << 16 | m->target) << 32 | m->token;
    uint32_t slot = (uint32_t)(key * 0x9E3779B97F4A7C15ull >> 32) & (p->put_slots - 1);
    for (; p->put_index[slot] != 0; slot = (slot + 1) & (p->put_slots - 1)) {
        const struct phx_picture_put *put = &puts[p->put_index[slot] - 1];
        if (put->source == m->source && put->target == m->target && put->token == m->token)
            break;
    }
    return slot;
}

static bool put_index_grow(struct phx_picture *p)
{
    if (2 * (p->puts.count + 1) <= p->put_slots)
        return true;
    uint32_t slots = p->put_slots == 0 ? 1024 : 2 * p->put_slots;
    uint32_t *index = calloc(slots, sizeof *index);
    if (index == NULL) {
        p->is_failed = true;
        return false;
    }
    free(p->put_index);
    p->put_index = index;
    p->put_slots = slots;
    for (uint32_t i = 0; i < p->puts.count; i++) {
        const struct phx_picture_put *put = phx_picture_put(p, i);
        const struct phx_trace_message key = {
            .source = put->source, .target = put->target, .token = put->token};
        p->put_index[put_slot(p, &key)] = i + 1;
    }
    return true;
}

// A rank tells each of its peers, once in an operation: one mark, at the first of them.
static void on_waiting(struct phx_picture *p, const struct phx_trace_record *r, uint32_t whom)
{
    const struct phx_trace_message *m = r->message;
    struct phx_picture_told *told = &p->told[r->rank];
    uint32_t operation = 1 + phx_word_sequence(m->value); // status words carry no token
    if (told->operation == operation) {
        struct phx_picture_mark *mark = (struct phx_picture_mark *)p->marks.items + told->mark;
        if (m->issue_ps < mark->at_ps)
            mark->at_ps = m->issue_ps;
        return;
    }
    struct phx_picture_mark *mark = mark_add(p, PHX_MARK_WAITING, r);
    if (mark == NULL)
        return;
    mark->at_ps = m->issue_ps;
    mark->peer = whom;
    *told = (struct phx_picture_told){operation, p->marks.count - 1};
}

static void on_message(struct phx_picture *p, const struct phx_trace_record *r)
{
    const struct phx_trace_message *m = r->message;
    if (m->source == m->target || !put_index_grow(p))
        return;
    uint32_t value = phx_word_value(m->value);
    if (m->word != NULL && value >= PHX_WORD_VALUE_WAITING && value < PHX_WORD_VALUE_MASKED) {
        on_waiting(p, r, value - PHX_WORD_VALUE_WAITING);
        return;
    }
    uint32_t slot = put_slot(p, m);
    struct phx_picture_put *put;
    if (p->put_index[slot] == 0) {
        put = list_add(p, &p->puts, sizeof *put);
        if (put == NULL)
            return;
        *put = (struct phx_picture_put){
            .first_ps = m->leave_ps, .source = m->source, .target = m->target, .token = m->token};
        p->put_index[slot] = p->puts.count;
    } else {
        put = (struct phx_picture_put *)p->puts.items + p->put_index[slot] - 1;
    }
    bool is_lost = strcmp(m->outcome, "delivered") != 0;
    if (m->leave_ps < put->first_ps)
        put->first_ps = m->leave_ps;
    if (m->end_ps > put->last_ps && (!is_lost || put->lost == put->count))
        put->last_ps = m->end_ps;
    put->bytes += m->size_bytes;
    put->count++;
    put->lost += is_lost;
}

// --- the sink -----------------------------------------------------------------------------------

static void on_mark(struct phx_picture *p, const struct phx_trace_record *r)
{
    static const char healed[] = "end of ";
    bool is_healed = strncmp(r->name, healed, sizeof healed - 1) == 0;
    const char *name = is_healed ? r->name + sizeof healed - 1 : r->name;
    uint32_t kind = PHX_MARK_VIOLATED;
    if (strcmp(name, "killed") == 0)
        kind = PHX_MARK_KILLED;
    else if (strcmp(name, "stopped") == 0)
        kind = PHX_MARK_STOPPED;
    else if (strcmp(name, "resumed") == 0)
        kind = PHX_MARK_RESUMED;
    for (uint32_t f = PHX_FAULT_KILL; phx_fault_kind_name((enum phx_fault_kind)f) != NULL; f++)
        if (strcmp(name, phx_fault_kind_name((enum phx_fault_kind)f)) == 0)
            kind = is_healed ? PHX_MARK_HEALED : PHX_MARK_FAULT;
    struct phx_picture_mark *mark = mark_add(p, kind, r);
    if (mark != NULL)
        (void)snprintf(mark->name, sizeof mark->name, "%s", name);
}

static int on_begin(void *context, const struct phx_trace_setup *setup, struct phx_message *message)
{
    struct phx_picture *p = context;
    p->setup = *setup;
    p->told = calloc(setup->ranks, sizeof *p->told);
    return p->told != NULL ? 0 : phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the picture");
}

static void on_record(void *context, const struct phx_trace_record *r)
{
    struct phx_picture *p = context;
    switch (r->kind) {
    case PHX_TRACE_PHASE:
        on_phase(p, r);
        break;
    case PHX_TRACE_WAIT:
        on_wait(p, r);
        break;
    case PHX_TRACE_MESSAGE:
        on_message(p, r);
        break;
    case PHX_TRACE_MASK:
        (void)mark_add(p, PHX_MARK_MASKED, r);
        break;
    case PHX_TRACE_MARK:
        on_mark(p, r);
        break;
    default: // signals: too many to draw
        break;
    }
}

static int on_end(void *context, struct phx_message *message)
{
    const struct phx_picture *p = context;
    return p->is_failed ? phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the picture") : 0;
}

struct phx_trace_sink phx_picture_sink(struct phx_picture *picture)
{
    return (struct phx_trace_sink){picture, on_begin, on_record, on_end};
}

void phx_picture_free(struct phx_picture *picture)
{
    free(picture->spans.items);
    free(picture->waits.items);
    free(picture->puts.items);
    free(picture->marks.items);
    free(picture->told);
    free(picture->put_index);
    *picture = (struct phx_picture){0};
}
