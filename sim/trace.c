// sim/trace.c: the collector: hooks of the world and of the network in, records out.
//
// Phases are told when they end. A signal is told when a wait ends on the word that a message
// stored, so that sinks draw only arrows that explain a wait. Masks are seen by comparing a rank's
// active_ranks with a copy whenever that rank does something.

#include "sim/trace.h"

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "kernels/layout.h"
#include "sim/fabric.h"
#include "sim/fabric_internal.h"
#include "sim/world_internal.h"

#define SINKS_MAX 2u

struct open_phase {
    uint32_t phase; // 0: none
    uint64_t number;
    uint64_t begin_ps;
};

struct stored {       // which message stored a word last
    const void *word; // NULL: free
    struct phx_trace_message message;
};

struct phx_trace {
    struct phx_world *world; // NULL: destroyed
    struct phx_trace_sink sinks[SINKS_MAX];
    uint32_t sink_count;
    bool is_closed;
    uint32_t ranks;
    uint32_t workers;          // of a rank
    struct open_phase *phases; // [ranks]
    const int32_t **active;    // [ranks], watched; NULL: not
    int32_t *active_seen;      // [ranks][ranks]
    uint64_t *gone_ps;         // [ranks][ranks]: the pair's latest message, as it was told
    struct stored *stored;     // hash by rank and word, looked up only
    uint32_t stored_count;
    uint32_t stored_capacity; // power of two
};

const char *phx_trace_phase_name(uint32_t phase)
{
    static const char *const names[] = {
        "",
        "dispatch send",
        "dispatch receive",
        "dispatch done",
        "combine send",
        "combine receive",
        "combine done",
    };
    return phase < sizeof names / sizeof names[0] ? names[phase] : "phase";
}

static void tell(struct phx_trace *t, const struct phx_trace_record *record)
{
    for (uint32_t i = 0; i < t->sink_count; i++)
        t->sinks[i].record(t->sinks[i].context, record);
}

// --- words --------------------------------------------------------------------------------------

static struct stored *stored_slot(const struct phx_trace *t, uint32_t rank, const void *word)
{
    uint64_t hash = (uint64_t)(uintptr_t)word * 0x9E3779B97F4A7C15ull;
    uint32_t slot = (uint32_t)(hash >> 32) & (t->stored_capacity - 1);
    while (t->stored[slot].word != NULL &&
           (t->stored[slot].word != word || t->stored[slot].message.target != rank))
        slot = (slot + 1) & (t->stored_capacity - 1);
    return &t->stored[slot];
}

static bool stored_grow(struct phx_trace *t)
{
    if (2 * (t->stored_count + 1) <= t->stored_capacity)
        return true;
    struct stored *old = t->stored;
    uint32_t old_capacity = t->stored_capacity;
    uint32_t capacity = old_capacity == 0 ? 256 : 2 * old_capacity;
    struct stored *grown = calloc(capacity, sizeof *grown);
    if (grown == NULL)
        return false;
    t->stored = grown;
    t->stored_capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++)
        if (old[i].word != NULL)
            *stored_slot(t, old[i].message.target, old[i].word) = old[i];
    free(old);
    return true;
}

// The rank that may write this word: each has its own region here.
static uint32_t writer_of(const struct phx_trace *t, uint32_t rank, const uint64_t *word)
{
    const struct phx_fabric *fabric = phx_world_fabric(t->world);
    if (fabric == NULL)
        return PHX_TRACE_NOBODY;
    uint32_t writer;
    uint64_t offset;
    if (phx_sim_mem_find(fabric, rank, word, &writer, &offset))
        return writer;
    return PHX_TRACE_NOBODY;
}

// --- masks --------------------------------------------------------------------------------------

static void look_at_masks(struct phx_trace *t, uint32_t rank, uint64_t at_ps)
{
    const int32_t *active = t->active[rank];
    int32_t *seen = &t->active_seen[(size_t)rank * t->ranks];
    if (active == NULL || memcmp(active, seen, t->ranks * sizeof *seen) == 0)
        return;
    for (uint32_t peer = 0; peer < t->ranks; peer++) {
        if (active[peer] == 0 && seen[peer] != 0) {
            const struct phx_trace_record record = {.kind = PHX_TRACE_MASK,
                                                    .rank = rank,
                                                    .peer = peer,
                                                    .begin_ps = at_ps,
                                                    .end_ps = at_ps};
            tell(t, &record);
        }
        seen[peer] = active[peer];
    }
}

void phx_trace_watch(struct phx_trace *trace, uint32_t rank, const int32_t *active)
{
    if (trace == NULL)
        return;
    trace->active[rank] = active;
    memcpy(&trace->active_seen[(size_t)rank * trace->ranks], active, trace->ranks * sizeof *active);
}

// --- what the parts of sim/ tell ----------------------------------------------------------------

// Stores of a burst pass their port together; told, each begins when the one before it is gone.
static struct phx_trace_message in_line(struct phx_trace *t, const struct phx_trace_message *put)
{
    struct phx_trace_message m = *put;
    uint64_t *gone_ps = &t->gone_ps[(size_t)m.source * t->ranks + m.target];
    if (m.leave_ps < *gone_ps)
        m.leave_ps = *gone_ps;
    if (m.gone_ps < m.leave_ps)
        m.gone_ps = m.leave_ps;
    *gone_ps = m.gone_ps;
    return m;
}

void phx_trace_put(struct phx_trace *trace, const struct phx_trace_message *put)
{
    if (trace == NULL || trace->is_closed)
        return;
    const struct phx_trace_message told = in_line(trace, put);
    const struct phx_trace_message *m = &told;
    const struct phx_trace_record record = {.kind = PHX_TRACE_MESSAGE,
                                            .rank = m->source,
                                            .peer = m->target,
                                            .begin_ps = m->leave_ps,
                                            .end_ps = m->end_ps,
                                            .message = m};
    tell(trace, &record);
    if (m->word == NULL || !stored_grow(trace))
        return;
    struct stored *s = stored_slot(trace, m->target, m->word);
    if (s->word == NULL)
        trace->stored_count++;
    *s = (struct stored){m->word, *m};
}

void phx_trace_mark(struct phx_trace *trace, uint32_t rank, uint64_t at_ps, const char *name,
                    const char *text)
{
    if (trace == NULL || trace->is_closed)
        return;
    const struct phx_trace_record record = {.kind = PHX_TRACE_MARK,
                                            .rank = rank,
                                            .begin_ps = at_ps,
                                            .end_ps = at_ps,
                                            .name = name,
                                            .text = text};
    tell(trace, &record);
}

// --- the world's hooks --------------------------------------------------------------------------

static void close_phase(struct phx_trace *t, uint32_t rank, uint64_t now_ps)
{
    struct open_phase *open = &t->phases[rank];
    if (open->phase == 0)
        return;
    const struct phx_trace_record record = {.kind = PHX_TRACE_PHASE,
                                            .rank = rank,
                                            .worker = PHX_WORKER_CONTROL,
                                            .phase = open->phase,
                                            .number = open->number,
                                            .begin_ps = open->begin_ps,
                                            .end_ps = now_ps};
    open->phase = 0;
    tell(t, &record);
}

// Worker 0 says when a half begins, the control fiber when the operation is done: for all workers.
static void on_phase(void *context, uint32_t rank, uint32_t worker, uint32_t phase, uint64_t number)
{
    struct phx_trace *t = context;
    if (t->is_closed)
        return;
    uint64_t now_ps = phx_world_time_ps(t->world);
    look_at_masks(t, rank, now_ps);
    (void)worker;
    close_phase(t, rank, now_ps);
    if (phase == PHX_PHASE_DISPATCH_DONE || phase == PHX_PHASE_COMBINE_DONE)
        return;
    t->phases[rank] = (struct open_phase){phase, number, now_ps};
}

static void on_observe(void *context, uint32_t rank, uint32_t worker, const uint64_t *word)
{
    struct phx_trace *t = context;
    (void)word;
    if (!t->is_closed && t->active[rank] != NULL)
        look_at_masks(t, rank, phx_world_fiber_time_ps(t->world, rank, worker));
}

static void on_waited(void *context, uint32_t rank, uint32_t worker, const uint64_t *words,
                      uint32_t count, uint64_t begin_ps, uint64_t end_ps)
{
    struct phx_trace *t = context;
    if (t->is_closed)
        return;
    look_at_masks(t, rank, end_ps);
    if (end_ps <= begin_ps)
        return;
    struct phx_trace_record record = {.kind = PHX_TRACE_WAIT,
                                      .rank = rank,
                                      .worker = worker,
                                      .peer = PHX_TRACE_NOBODY,
                                      .begin_ps = begin_ps,
                                      .end_ps = end_ps};
    if (count > 0)
        record.peer = writer_of(t, rank, &words[0]);
    record.name = count > 0 ? "wait" : "sleep";
    tell(t, &record);
    record.kind = PHX_TRACE_SIGNAL;
    for (uint32_t i = 0; t->stored_capacity > 0 && i < count; i++) {
        const struct stored *s = stored_slot(t, rank, &words[i]);
        if (s->word == NULL || s->message.end_ps < begin_ps || s->message.end_ps > end_ps)
            continue;
        record.message = &s->message;
        tell(t, &record);
    }
}

static void on_killed(void *context, uint32_t rank)
{
    struct phx_trace *t = context;
    if (t->is_closed)
        return;
    uint64_t now_ps = phx_world_time_ps(t->world);
    close_phase(t, rank, now_ps);
    phx_trace_mark(t, rank, now_ps, "killed", "the process runs no instruction more");
}

static void on_paused(void *context, uint32_t rank, bool is_paused)
{
    struct phx_trace *t = context;
    phx_trace_mark(t, rank, phx_world_time_ps(t->world), is_paused ? "stopped" : "resumed",
                   is_paused ? "the process stands still" : "the process goes on");
}

static void on_violated(void *context, const struct phx_violation *violation)
{
    struct phx_trace *t = context;
    phx_trace_mark(t, violation->rank, violation->at_ns * 1000, violation->rule, violation->text);
}

static void close_phases(struct phx_trace *t)
{
    uint64_t now_ps = phx_world_time_ps(t->world);
    for (uint32_t r = 0; r < t->ranks; r++)
        close_phase(t, r, now_ps);
}

static void trace_free(struct phx_trace *t)
{
    free(t->phases);
    free(t->active);
    free(t->active_seen);
    free(t->gone_ps);
    free(t->stored);
    free(t);
}

static void on_destroy(void *context)
{
    struct phx_trace *t = context;
    if (!t->is_closed)
        close_phases(t);
    t->world = NULL;
    if (t->is_closed)
        trace_free(t);
}

// --- opening and closing ------------------------------------------------------------------------

static int end_sinks(struct phx_trace *t, struct phx_message *message)
{
    int error = 0;
    for (uint32_t i = 0; i < t->sink_count; i++) {
        int rc = t->sinks[i].end(t->sinks[i].context, error == 0 ? message : NULL);
        error = error == 0 ? rc : error;
    }
    t->is_closed = true;
    return error;
}

static int add_sink(struct phx_trace *t, const struct phx_trace_sink *sink,
                    struct phx_message *message)
{
    const struct phx_trace_setup setup = {t->ranks, t->workers};
    int rc = sink->begin(sink->context, &setup, message);
    if (rc == 0)
        t->sinks[t->sink_count++] = *sink;
    return rc;
}

static int attach(struct phx_trace *t, const char *path, const struct phx_trace_sink *sink,
                  struct phx_message *message)
{
    struct phx_trace_sink json;
    int rc = 0;
    if (t->phases == NULL || t->active == NULL || t->active_seen == NULL || t->gone_ps == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a trace of %u ranks", t->ranks);
    if (path != NULL)
        rc = phx_trace_json_open(path, &json, message);
    if (rc == 0 && path != NULL)
        rc = add_sink(t, &json, message);
    if (rc == 0 && sink != NULL)
        rc = add_sink(t, sink, message);
    const struct phx_world_hooks hooks = {
        .context = t,
        .rank_killed = on_killed,
        .rank_paused = on_paused,
        .observe = on_observe,
        .phase = on_phase,
        .waited = on_waited,
        .violated = on_violated,
        .destroy = on_destroy,
    };
    if (rc == 0 && !phx_world_hooks_add(t->world, &hooks))
        rc = phx_fail(message, PHX_ERR_STATE, "the world has no room for the trace's hooks");
    return rc;
}

int phx_trace_open(struct phx_world *world, const char *path, const struct phx_trace_sink *sink,
                   struct phx_trace **trace, struct phx_message *message)
{
    struct phx_trace *t = calloc(1, sizeof *t);
    if (t == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a trace");
    t->world = world;
    t->ranks = phx_world_rank_count(world);
    t->workers = phx_world_options(world)->workers;
    t->phases = calloc(t->ranks, sizeof *t->phases);
    t->active = calloc(t->ranks, sizeof *t->active);
    t->active_seen = calloc((size_t)t->ranks * t->ranks, sizeof *t->active_seen);
    t->gone_ps = calloc((size_t)t->ranks * t->ranks, sizeof *t->gone_ps);
    int rc = attach(t, path, sink, message);
    if (rc != 0) {
        (void)end_sinks(t, NULL);
        trace_free(t);
        return rc;
    }
    struct phx_fabric *fabric = phx_fabric_of(world);
    if (fabric != NULL)
        phx_fabric_trace(fabric, t);
    *trace = t;
    return 0;
}

int phx_trace_close(struct phx_trace *trace, struct phx_message *message)
{
    if (trace == NULL)
        return 0;
    phx_assert(!trace->is_closed);
    if (trace->world != NULL)
        close_phases(trace);
    int error = end_sinks(trace, message);
    if (trace->world == NULL)
        trace_free(trace); // else the world's destroy does, which still names it
    return error;
}
