// sim/trace.h: what happened in a run, as Chrome trace JSON: open it in Perfetto (ui.perfetto.dev).
//
// A process per rank; in it a thread per worker, one for the control thread, and one per queue to a
// peer. Spans: phases, waits and messages on their queue. Flow arrows: put, signal, wait. Marks:
// faults and violations. Tracing changes neither the events nor the trace hash, and the text is a
// function of the run alone.

#ifndef PHX_SIM_TRACE_H
#define PHX_SIM_TRACE_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/world.h"

struct phx_trace;

// After phx_world_create() and before phx_world_run(). PHX_ERR_IO names the path and the cause.
int phx_trace_open(struct phx_world *world, const char *path, struct phx_trace **trace,
                   struct phx_message *message);
// Completes the file. Before phx_world_destroy() or after it. 0, or PHX_ERR_IO when any write
// failed.
int phx_trace_close(struct phx_trace *trace, struct phx_message *message); // NULL is allowed

// --- what the parts of sim/ tell; `trace` may be NULL -------------------------------------------

struct phx_trace_message {
    uint32_t source;
    uint32_t target;
    uint32_t lane;
    uint32_t token;
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
void phx_trace_put(struct phx_trace *trace, const struct phx_trace_message *m);
void phx_trace_mark(struct phx_trace *trace, uint32_t rank, uint64_t at_ps, const char *name,
                    const char *text);

#endif
