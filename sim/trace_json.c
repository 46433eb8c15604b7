// sim/trace_json.c: Chrome trace events, written as they are told.
//
//     process = rank (pid)    thread 0: control    1 + w: worker w    1000000 + peer: queues to it
//
// Phases are spans of the control thread, waits of the workers; a message is a span on its queue,
// from the first byte out to the last. Arrows go from the sender's phase over the queue to the wait
// that the signal ended. Times are microseconds with six decimals, made from picoseconds without
// rounding, but Perfetto counts nanoseconds and drops the end of an arrow that lies in no span: so
// an arrow ends shortly before its wait does, and passes over a queue only where the message's span
// is a nanosecond or longer.

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/layout.h"
#include "sim/trace.h"
#include "sim/world_internal.h"

#define QUEUE_THREAD 1000000u
#define NS 1000u // in ps

struct json {
    FILE *file;
    char path[192];
    uint32_t ranks;
    uint32_t threads;  // control and workers of a rank
    uint64_t *died_ps; // [ranks] UINT64_MAX: not
    uint8_t *named;    // [ranks][ranks] 1: the queues of the pair have their name
    bool first;
};

static uint32_t thread_of(uint32_t worker)
{
    return worker == PHX_WORKER_CONTROL ? 0 : 1 + worker;
}

// --- text ---------------------------------------------------------------------------------------

static void begin_event(struct json *j)
{
    fputs(j->first ? "\n" : ",\n", j->file);
    j->first = false;
}

static void put_time(struct json *j, const char *key, uint64_t ps)
{
    fprintf(j->file, ",\"%s\":%" PRIu64 ".%06" PRIu64, key, ps / 1000000, ps % 1000000);
}

static void put_text(struct json *j, const char *text)
{
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(j->file, "\\%c", c);
        else if (c < 0x20)
            fprintf(j->file, "\\u%04x", c);
        else
            fputc(c, j->file);
    }
}

// {"ph":"X","pid":..,"tid":..,"ts":.. and the name; the caller adds the rest and the brace.
static void put_head(struct json *j, char kind, uint32_t rank, uint32_t thread, uint64_t ps,
                     const char *name)
{
    begin_event(j);
    fprintf(j->file, "{\"ph\":\"%c\",\"pid\":%u,\"tid\":%u", kind, rank, thread);
    put_time(j, "ts", ps);
    fputs(",\"name\":\"", j->file);
    put_text(j, name);
    fputc('"', j->file);
}

static void put_span(struct json *j, uint32_t rank, uint32_t thread, uint64_t begin_ps,
                     uint64_t end_ps, const char *category, const char *name)
{
    put_head(j, 'X', rank, thread, begin_ps, name);
    put_time(j, "dur", end_ps > begin_ps ? end_ps - begin_ps : 0);
    fprintf(j->file, ",\"cat\":\"%s\"", category);
}

static void put_name(struct json *j, const char *what, uint32_t rank, uint32_t thread,
                     const char *name)
{
    begin_event(j);
    fprintf(j->file,
            "{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"%s\",\"args\":{\"name\":\"%s\"}}", rank,
            thread, what, name);
}

static void put_order(struct json *j, const char *what, uint32_t rank, uint32_t thread)
{
    begin_event(j);
    fprintf(j->file,
            "{\"ph\":\"M\",\"pid\":%u,\"tid\":%u,\"name\":\"%s\",\"args\":{\"sort_index\":%u}}",
            rank, thread, what, thread > 0 ? thread : rank);
}

static void put_flow(struct json *j, char kind, uint32_t rank, uint32_t thread, uint64_t ps,
                     const char *id)
{
    put_head(j, kind, rank, thread, ps, "signal");
    fprintf(j->file, ",\"cat\":\"signal\",\"id\":\"%s\"%s}", id,
            kind == 'f' ? ",\"bp\":\"e\"" : "");
}

static void put_mark(struct json *j, uint32_t rank, uint64_t at_ps, const char *name,
                     const char *text)
{
    put_head(j, 'i', rank, 0, at_ps, name);
    fputs(",\"s\":\"p\",\"args\":{\"text\":\"", j->file);
    put_text(j, text);
    fputs("\"}}", j->file);
}

// --- records ------------------------------------------------------------------------------------

static void put_message(struct json *j, const struct phx_trace_message *m)
{
    char name[64];
    uint8_t *named = &j->named[(size_t)m->source * j->ranks + m->target];
    if (*named == 0) {
        snprintf(name, sizeof name, "queues to %u", m->target);
        put_name(j, "thread_name", m->source, QUEUE_THREAD + m->target, name);
        put_order(j, "thread_sort_index", m->source, QUEUE_THREAD + m->target);
        *named = 1;
    }
    snprintf(name, sizeof name, "%s to %u", m->word != NULL ? "signal" : "put", m->target);
    put_span(j, m->source, QUEUE_THREAD + m->target, m->leave_ps, m->gone_ps, "message", name);
    fprintf(j->file,
            ",\"args\":{\"lane\":%u,\"bytes\":%" PRIu64 ",\"operation\":%u,\"message\":%" PRIu64
            ",\"outcome\":\"%s\"",
            m->lane, m->size_bytes, m->token & 0xFFFFFFu, m->serial, m->outcome);
    put_time(j, "ended_us", m->end_ps);
    fputs("}}", j->file);
}

static void put_signal(struct json *j, const struct phx_trace_record *r)
{
    const struct phx_trace_message *m = r->message;
    uint64_t length_ps = r->end_ps - r->begin_ps;
    char id[64];
    bool passes = m->gone_ps >= m->leave_ps + NS;
    // A worker runs ahead of the clock: what it posted there leaves though the rank dies before.
    bool is_late = m->issue_ps + NS >= j->died_ps[m->source];
    if (length_ps < NS || (is_late && !passes))
        return; // Perfetto would count that wait as empty, or find no span for the beginning
    // One message may end the waits of several workers; each arrow is its own.
    snprintf(id, sizeof id, "%" PRIu64 "-%u", m->serial, thread_of(r->worker));
    if (!is_late)
        put_flow(j, 's', m->source, 0, m->issue_ps, id);
    if (passes)
        put_flow(j, is_late ? 's' : 't', m->source, QUEUE_THREAD + m->target, m->leave_ps, id);
    put_flow(j, 'f', r->rank, thread_of(r->worker),
             length_ps < 2 * NS ? r->begin_ps : r->end_ps - 2 * NS, id);
}

static void put_wait(struct json *j, const struct phx_trace_record *r)
{
    put_span(j, r->rank, thread_of(r->worker), r->begin_ps, r->end_ps, "wait", r->name);
    if (r->peer != PHX_TRACE_NOBODY)
        fprintf(j->file, ",\"args\":{\"for_rank\":%u}", r->peer);
    fputs("}", j->file);
}

static void on_record(void *context, const struct phx_trace_record *r)
{
    struct json *j = context;
    char name[48];
    switch (r->kind) {
    case PHX_TRACE_PHASE:
        put_span(j, r->rank, thread_of(r->worker), r->begin_ps, r->end_ps, "phase",
                 phx_trace_phase_name(r->phase));
        fprintf(j->file, ",\"args\":{\"number\":%" PRIu64 "}}", r->number);
        break;
    case PHX_TRACE_WAIT:
        put_wait(j, r);
        break;
    case PHX_TRACE_SIGNAL:
        put_signal(j, r);
        break;
    case PHX_TRACE_MESSAGE:
        put_message(j, r->message);
        break;
    case PHX_TRACE_MASK:
        snprintf(name, sizeof name, "masks %u", r->peer);
        put_mark(j, r->rank, r->begin_ps, name, "not waited for and sent nothing from now on");
        break;
    default:
        if (strcmp(r->name, "killed") == 0)
            j->died_ps[r->rank] = r->begin_ps;
        put_mark(j, r->rank, r->begin_ps, r->name, r->text);
        break;
    }
}

// --- opening and closing ------------------------------------------------------------------------

static int on_begin(void *context, const struct phx_trace_setup *setup, struct phx_message *message)
{
    struct json *j = context;
    j->ranks = setup->ranks;
    j->threads = 1 + setup->workers;
    j->named = calloc((size_t)j->ranks * j->ranks, 1);
    j->died_ps = malloc(j->ranks * sizeof *j->died_ps);
    if (j->named == NULL || j->died_ps == NULL) {
        (void)fclose(j->file);
        free(j->named);
        free(j->died_ps);
        free(j);
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a trace of %u ranks",
                        setup->ranks);
    }
    fputs("{\"displayTimeUnit\":\"ns\",\"traceEvents\":[", j->file);
    memset(j->died_ps, 0xFF, j->ranks * sizeof *j->died_ps);
    for (uint32_t r = 0; r < j->ranks; r++) {
        char name[48];
        snprintf(name, sizeof name, "rank %u", r);
        put_name(j, "process_name", r, 0, name);
        put_order(j, "process_sort_index", r, 0);
        put_name(j, "thread_name", r, 0, "control");
        for (uint32_t i = 1; i < j->threads; i++) {
            snprintf(name, sizeof name, "worker %u", i - 1);
            put_name(j, "thread_name", r, i, name);
            put_order(j, "thread_sort_index", r, i);
        }
    }
    return 0;
}

static int on_end(void *context, struct phx_message *message)
{
    struct json *j = context;
    int error = 0;
    fputs("\n]}\n", j->file);
    bool bad = ferror(j->file) != 0;
    bad = fclose(j->file) != 0 || bad;
    if (bad)
        error = phx_fail(message, PHX_ERR_IO, "trace \"%s\" could not be written in full", j->path);
    free(j->named);
    free(j->died_ps);
    free(j);
    return error;
}

int phx_trace_json_open(const char *path, struct phx_trace_sink *sink, struct phx_message *message)
{
    struct json *j = calloc(1, sizeof *j);
    if (j == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a trace");
    j->first = true;
    snprintf(j->path, sizeof j->path, "%s", path);
    j->file = fopen(path, "w");
    if (j->file == NULL) {
        free(j);
        return phx_fail(message, PHX_ERR_IO, "trace \"%s\" cannot be written: %s", path,
                        strerror(errno));
    }
    *sink = (struct phx_trace_sink){j, on_begin, on_record, on_end};
    return 0;
}
