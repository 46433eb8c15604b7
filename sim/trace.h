// sim/trace.h: collects what happened in a run and hands it, as records, to those who write it
// down.
//
// One collector stands on the world's hooks; what it hands out is a function of the run alone, and
// collecting changes neither the events nor the trace hash. Two sinks use it: sim/trace_json.c
// writes Chrome trace events (open them in Perfetto, ui.perfetto.dev), tools/svg_model.c keeps what
// a picture needs.

#ifndef PHX_SIM_TRACE_H
#define PHX_SIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/world.h"

struct phx_trace;

enum phx_trace_kind {
    PHX_TRACE_PHASE = 1, // `rank` was in `phase` of operation `number`
    PHX_TRACE_WAIT,      // a worker stood still, for words that `peer` writes
    PHX_TRACE_SIGNAL,    // follows the WAIT that `message` ended
    PHX_TRACE_MESSAGE,   // a put has ended: `message`
    PHX_TRACE_MASK,      // at begin_ps `rank` gave up on `peer`
    PHX_TRACE_MARK       // at begin_ps something named `name` came over `rank`: `text`
};

#define PHX_TRACE_NOBODY 0xFFFFFFFFu

struct phx_trace_message {
    uint32_t source;
    uint32_t target;
    uint32_t lane;
    uint32_t token;  // kind and sequence, kernels/wait.h
    uint64_t serial; // names the message in the trace, from 1
    uint64_t size_bytes;
    uint64_t issue_ps;
    uint64_t leave_ps;
    uint64_t gone_ps;
    uint64_t end_ps;  // delivered, or given up
    const void *word; // where its signal was stored; NULL: no signal
    uint64_t value;
    const char *outcome; // "delivered", "lost"...
};

struct phx_trace_record {
    uint32_t kind; // enum phx_trace_kind
    uint32_t rank;
    uint32_t worker; // PHASE, WAIT, SIGNAL: or PHX_WORKER_CONTROL
    uint32_t phase;  // PHASE: enum phx_phase
    uint32_t peer;   // WAIT: PHX_TRACE_NOBODY for a sleep, a barrier, room on a lane. MASK
    uint64_t number; // PHASE: of the operation
    uint64_t begin_ps;
    uint64_t end_ps;
    const struct phx_trace_message *message; // MESSAGE, SIGNAL
    const char *name;                        // MARK: of a fault or a rule
    const char *text;
};

struct phx_trace_setup {
    uint32_t ranks;
    uint32_t workers; // of each rank
};

struct phx_trace_sink {
    void *context;
    // Before the run. A negative enum phx_error ends the run before it begins.
    int (*begin)(void *context, const struct phx_trace_setup *setup, struct phx_message *message);
    // In order of their ends; borrowed for the call. On any fiber's stack.
    void (*record)(void *context, const struct phx_trace_record *record);
    // Once after a begin that gave 0, when all records were handed out. 0 or what went wrong.
    int (*end)(void *context, struct phx_message *message);
};

// After phx_world_create() and before phx_world_run(). Neither `path`, a file for Chrome trace
// events, nor `sink`, copied, need be there. PHX_ERR_IO names the path and the cause.
int phx_trace_open(struct phx_world *world, const char *path, const struct phx_trace_sink *sink,
                   struct phx_trace **trace, struct phx_message *message);
// Tells MASK records by this array of [ranks], 1: active. Borrowed until the trace is closed.
void phx_trace_watch(struct phx_trace *trace, uint32_t rank, const int32_t *active);
// Completes what is written. Before phx_world_destroy() or after it. 0, or the first sink's error.
int phx_trace_close(struct phx_trace *trace, struct phx_message *message); // NULL is allowed

const char *phx_trace_phase_name(uint32_t phase); // "dispatch send"...

// The sink that writes `path` (trace_json.c); *sink is there on 0.
int phx_trace_json_open(const char *path, struct phx_trace_sink *sink, struct phx_message *message);

// --- what the parts of sim/ tell; `trace` may be NULL -------------------------------------------

void phx_trace_put(struct phx_trace *trace, const struct phx_trace_message *put);
void phx_trace_mark(struct phx_trace *trace, uint32_t rank, uint64_t at_ps, const char *name,
                    const char *text);

#endif
