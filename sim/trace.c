// sim/trace.c: Chrome trace events, written as they happen.
//
//     process = rank (pid)    thread 0: control    1 + w: worker w    1000000 + peer: queues to it
//
// A message is a span on its queue, from the first byte out to the last. A flow (put, queue, wait)
// is written when a wait ends on the word that the message stored, so that only arrows that explain
// a wait are drawn. Times are microseconds with six decimals, made from picoseconds without
// rounding.

#include "sim/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "kernels/layout.h"
#include "sim/fabric.h"
#include "sim/world_internal.h"

#define QUEUE_THREAD 1000000u

struct open_phase {
    uint32_t phase; // 0: none
    uint64_t number;
    uint64_t begin_ps;
};

struct stored {       // which message stored a word last
    const void *word; // NULL: free
    uint32_t rank;
    uint32_t source;
    uint32_t thread; // of the put
    uint64_t serial;
    uint64_t issue_ps;
    uint64_t leave_ps;
    uint64_t end_ps;
    uint32_t target;
};

struct phx_trace {
    struct phx_world *world; // NULL: destroyed
    FILE *file;              // NULL: closed
    char path[192];
    uint32_t ranks;
    uint32_t threads;          // control and workers of a rank
    struct open_phase *phases; // [ranks][threads]
    uint8_t *named;            // [ranks][ranks] 1: the queues of the pair have their name
    struct stored *stored;     // hash by word, looked up only
    uint32_t stored_count;
    uint32_t stored_capacity; // power of two
    bool first;
};

static const char *const phase_names[] = {
    "",
    "dispatch send",
    "dispatch receive",
    "dispatch done",
    "combine send",
    "combine receive",
    "combine done",
};
#define PHASE_NAMES (sizeof phase_names / sizeof phase_names[0])

static const char *phase_name(uint32_t phase)
{
    return phase < PHASE_NAMES ? phase_names[phase] : "phase";
}

static uint32_t thread_of(uint32_t worker)
{
    return worker == PHX_WORKER_CONTROL ? 0 : 1 + worker;
}

// --- text ---------------------------------------------------------------------------------------

static void begin_event(struct phx_trace *t)
{
    fputs(t->first ? "\n" : ",\n", t->file);
    t->first = false;
}

static void put_time(struct phx_trace *t, const char *key, uint64_t ps)
{
    fprintf(t->file, ",\"%s\":%" PRIu64 ".%06" PRIu64, key, ps / 1000000, ps % 1000000);
}

static void put_text(struct phx_trace *t, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(t->file, "\\%c", c);
        else if (c < 0x20)
            fprintf(t->file, "\\u%04x", c);
        else
            fputc(c, t->file);
    }
}

// {"ph":"X","pid":..,"tid":..,"ts":.. and the name; the caller adds the rest and the brace.
static void put_head(struct phx_trace *t, char kind, uint32_t rank, uint32_t thread, uint64_t ps,
                     const char *name)
{
    begin_event(t);
    fprintf(t->file, "{\"ph\":\"%c\",\"pid\":%u,\"tid\":%u", kind, rank, thread);
    put_time(t, "ts", ps);
    fputs(",\"name\":\"", t->file);
    put_text(t, name);
    fputc('"', t->file);
}

static void put_span(struct phx_trace *t, uint32_t rank, uint32_t thread, uint64_t begin_ps,
                     uint64_t end_ps, const char *category, const char *name)
{
    put_head(t, 'X', rank, thread, begin_ps, name);
    put_time(t, "dur", end_ps > begin_ps ? end_ps - begin_ps : 0);
    fprintf(t->file, ",\"cat\":\"%s\"", category);
}

static void put_name(struct phx_trace *t, const char *what, uint32_t rank, uint32_t thread,
                     const char *name)
{
    begin_event(t);
    fprintf(t->file,
            "{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"%s\",\"args\":{\"name\":\"%s\"}}", rank,
            thread, what, name);
}

static void put_flow(struct phx_trace *t, char kind, uint32_t rank, uint32_t thread, uint64_t ps,
                     uint64_t serial)
{
    put_head(t, kind, rank, thread, ps, "signal");
    fprintf(t->file, ",\"cat\":\"signal\",\"id\":%" PRIu64 "%s}", serial,
            kind == 'f' ? ",\"bp\":\"e\"" : "");
}

// --- words --------------------------------------------------------------------------------------

static struct stored *stored_slot(const struct phx_trace *t, uint32_t rank, const void *word)
{
    uint64_t hash = (uint64_t)(uintptr_t)word * 0x9E3779B97F4A7C15ull;
    uint32_t slot = (uint32_t)(hash >> 32) & (t->stored_capacity - 1);
    while (t->stored[slot].word != NULL &&
           (t->stored[slot].word != word || t->stored[slot].rank != rank))
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
            *stored_slot(t, old[i].rank, old[i].word) = old[i];
    free(old);
    return true;
}

// --- what the parts of sim/ tell ----------------------------------------------------------------

void phx_trace_put(struct phx_trace *trace, const struct phx_trace_message *m)
{
    if (trace == NULL || trace->file == NULL)
        return;
    char name[64];
    uint8_t *named = &trace->named[(size_t)m->source * trace->ranks + m->target];
    if (*named == 0) {
        snprintf(name, sizeof name, "queues to %u", m->target);
        put_name(trace, "thread_name", m->source, QUEUE_THREAD + m->target, name);
        *named = 1;
    }
    snprintf(name, sizeof name, "%s to %u", m->word != NULL ? "signal" : "put", m->target);
    put_span(trace, m->source, QUEUE_THREAD + m->target, m->leave_ps, m->gone_ps, "message", name);
    fprintf(trace->file,
            ",\"args\":{\"lane\":%u,\"bytes\":%" PRIu64 ",\"operation\":%u,\"message\":%" PRIu64
            ",\"outcome\":\"%s\"",
            m->lane, m->size_bytes, m->token & 0xFFFFFFu, m->serial, m->outcome);
    put_time(trace, "ended_us", m->end_ps);
    fputs("}}", trace->file);
    if (m->word == NULL || !stored_grow(trace))
        return;
    struct stored *s = stored_slot(trace, m->target, m->word);
    if (s->word == NULL)
        trace->stored_count++;
    *s = (struct stored){
        .word = m->word,
        .rank = m->target,
        .source = m->source,
        .thread = 1 + m->lane < trace->threads ? 1 + m->lane : 0,
        .serial = m->serial,
        .issue_ps = m->issue_ps,
        .leave_ps = m->leave_ps,
        .end_ps = m->end_ps,
        .target = m->target,
    };
}

void phx_trace_mark(struct phx_trace *trace, uint32_t rank, uint64_t at_ps, const char *name,
                    const char *text)
{
    if (trace == NULL || trace->file == NULL)
        return;
    put_head(trace, 'i', rank, 0, at_ps, name);
    fputs(",\"s\":\"p\",\"args\":{\"text\":\"", trace->file);
    put_text(trace, text);
    fputs("\"}}", trace->file);
}

// --- the world's hooks --------------------------------------------------------------------------

static void close_phase(struct phx_trace *t, uint32_t rank, uint32_t thread, uint64_t now_ps)
{
    struct open_phase *open = &t->phases[rank * t->threads + thread];
    if (open->phase == 0)
        return;
    put_span(t, rank, thread, open->begin_ps, now_ps, "phase", phase_name(open->phase));
    fprintf(t->file, ",\"args\":{\"number\":%" PRIu64 "}}", open->number);
    open->phase = 0;
}

static void on_phase(void *context, uint32_t rank, uint32_t worker, uint32_t phase, uint64_t number)
{
    struct phx_trace *t = context;
    if (t->file == NULL)
        return;
    uint32_t thread = thread_of(worker);
    uint64_t now_ps = phx_world_time_ps(t->world);
    close_phase(t, rank, thread, now_ps);
    if (phase == PHX_PHASE_DISPATCH_DONE || phase == PHX_PHASE_COMBINE_DONE)
        return;
    t->phases[rank * t->threads + thread] = (struct open_phase){phase, number, now_ps};
}

static void on_waited(void *context, uint32_t rank, uint32_t worker, const uint64_t *words,
                      uint32_t count, uint64_t begin_ps, uint64_t end_ps)
{
    struct phx_trace *t = context;
    if (t->file == NULL || end_ps <= begin_ps)
        return;
    uint32_t thread = thread_of(worker);
    put_span(t, rank, thread, begin_ps, end_ps, "wait", count > 0 ? "wait" : "sleep");
    fputs("}", t->file);
    for (uint32_t i = 0; t->stored_capacity > 0 && i < count; i++) {
        const struct stored *s = stored_slot(t, rank, &words[i]);
        if (s->word == NULL || s->end_ps < begin_ps || s->end_ps > end_ps)
            continue;
        put_flow(t, 's', s->source, s->thread, s->issue_ps, s->serial);
        put_flow(t, 't', s->source, QUEUE_THREAD + s->target, s->leave_ps, s->serial);
        put_flow(t, 'f', rank, thread, end_ps, s->serial);
    }
}

static void on_killed(void *context, uint32_t rank)
{
    struct phx_trace *t = context;
    if (t->file == NULL)
        return;
    uint64_t now_ps = phx_world_time_ps(t->world);
    for (uint32_t i = 0; i < t->threads; i++)
        close_phase(t, rank, i, now_ps);
    phx_trace_mark(t, rank, now_ps, "killed", "the process runs no instruction more");
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
        for (uint32_t i = 0; i < t->threads; i++)
            close_phase(t, r, i, now_ps);
}

static void trace_free(struct phx_trace *t)
{
    free(t->phases);
    free(t->named);
    free(t->stored);
    free(t);
}

static void on_destroy(void *context)
{
    struct phx_trace *t = context;
    if (t->file != NULL)
        close_phases(t);
    t->world = NULL;
    if (t->file == NULL)
        trace_free(t); // closed before
}

// --- opening and closing ------------------------------------------------------------------------

static void put_names(struct phx_trace *t)
{
    for (uint32_t r = 0; r < t->ranks; r++) {
        char name[48];
        snprintf(name, sizeof name, "rank %u", r);
        put_name(t, "process_name", r, 0, name);
        put_name(t, "thread_name", r, 0, "control");
        for (uint32_t i = 1; i < t->threads; i++) {
            snprintf(name, sizeof name, "worker %u", i - 1);
            put_name(t, "thread_name", r, i, name);
        }
    }
}

int phx_trace_open(struct phx_world *world, const char *path, struct phx_trace **trace,
                   struct phx_message *message)
{
    struct phx_trace *t = calloc(1, sizeof *t);
    if (t == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a trace");
    t->world = world;
    t->ranks = phx_world_rank_count(world);
    t->threads = 1 + phx_world_options(world)->workers;
    t->first = true;
    snprintf(t->path, sizeof t->path, "%s", path);
    t->phases = calloc((size_t)t->ranks * t->threads, sizeof *t->phases);
    t->named = calloc((size_t)t->ranks * t->ranks, 1);
    if (t->phases == NULL || t->named == NULL) {
        trace_free(t);
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a trace of %u ranks",
                        phx_world_rank_count(world));
    }
    t->file = fopen(path, "w");
    if (t->file == NULL) {
        trace_free(t);
        return phx_fail(message, PHX_ERR_IO, "trace \"%s\" cannot be written: %s", path,
                        strerror(errno));
    }
    const struct phx_world_hooks hooks = {
        .context = t,
        .rank_killed = on_killed,
        .phase = on_phase,
        .waited = on_waited,
        .violated = on_violated,
        .destroy = on_destroy,
    };
    if (!phx_world_hooks_add(world, &hooks)) {
        fclose(t->file);
        trace_free(t);
        return phx_fail(message, PHX_ERR_STATE, "the world has no room for the trace's hooks");
    }
    struct phx_fabric *fabric = phx_fabric_of(world);
    if (fabric != NULL)
        phx_fabric_trace(fabric, t);
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", t->file);
    put_names(t);
    *trace = t;
    return 0;
}

int phx_trace_close(struct phx_trace *trace, struct phx_message *message)
{
    if (trace == NULL)
        return 0;
    phx_assert(trace->file != NULL);
    if (trace->world != NULL)
        close_phases(trace);
    fputs("\n]}\n", trace->file);
    bool bad = ferror(trace->file) != 0;
    bad = fclose(trace->file) != 0 || bad;
    trace->file = NULL;
    int error = 0;
    if (bad)
        error =
            phx_fail(message, PHX_ERR_IO, "trace \"%s\" could not be written in full", trace->path);
    if (trace->world == NULL)
        trace_free(trace); // else the world's destroy does, which still names it
    return error;
}
