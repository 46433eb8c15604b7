// tools/svg_model.h: what a picture of a run is drawn from, kept while it runs.

#ifndef PHX_TOOLS_SVG_MODEL_H
#define PHX_TOOLS_SVG_MODEL_H

#include "sim/trace.h"
#include "tools/scenario.h"

struct phx_picture_span { // an operation on a rank, or the time of its experts before a combine
    uint64_t begin_ps;
    uint64_t end_ps;
    uint64_t number;
    uint32_t rank;
    uint32_t kind; // enum phx_kind; 0: experts
};
struct phx_picture_wait { // a worker of `rank` for words of `peer`
    uint64_t begin_ps;
    uint64_t end_ps;
    uint32_t rank;
    uint32_t peer;
};
struct phx_picture_put { // all puts of one operation from one rank to another
    uint64_t first_ps;   // the first one leaves
    uint64_t last_ps;    // the last one arrives, or is given up
    uint64_t bytes;
    uint32_t source;
    uint32_t target;
    uint32_t token; // kind and sequence
    uint32_t count;
    uint32_t lost; // of count
};
struct phx_picture_mark {
    uint64_t at_ps;
    uint32_t rank;
    uint32_t kind; // enum phx_picture_mark_kind
    uint32_t peer; // masked; waited for
    char name[48];
};
enum phx_picture_mark_kind {
    PHX_MARK_FAULT = 1, // name: of its kind
    PHX_MARK_HEALED,    // name: of its kind
    PHX_MARK_KILLED,
    PHX_MARK_STOPPED,
    PHX_MARK_RESUMED,
    PHX_MARK_MASKED,
    PHX_MARK_WAITING, // it told the others that it waits for `peer`
    PHX_MARK_VIOLATED // name: the rule
};

struct phx_picture_list { // grows
    void *items;
    uint32_t count;
    uint32_t capacity;
};

struct phx_picture {
    struct phx_trace_setup setup;
    struct phx_picture_list spans; // of one rank in order of time
    struct phx_picture_list waits;
    struct phx_picture_list puts;
    struct phx_picture_list marks; // in order of time
    struct phx_picture_told {      // [ranks]: its latest WAITING
        uint32_t operation;        // 1 + its number; 0: none yet
        uint32_t mark;
    } * told;
    uint32_t *put_index; // [put_slots] 1 + place in puts, by source, target and token
    uint32_t put_slots;  // power of two
    bool is_failed;      // no memory
};

// Zeroed before. Told of a run; the sink's context is the picture.
struct phx_trace_sink phx_picture_sink(struct phx_picture *picture);
void phx_picture_free(struct phx_picture *picture);

static inline const struct phx_picture_span *phx_picture_span(const struct phx_picture *p,
                                                              uint32_t i)
{
    return (const struct phx_picture_span *)p->spans.items + i;
}
static inline const struct phx_picture_wait *phx_picture_wait(const struct phx_picture *p,
                                                              uint32_t i)
{
    return (const struct phx_picture_wait *)p->waits.items + i;
}
static inline const struct phx_picture_put *phx_picture_put(const struct phx_picture *p, uint32_t i)
{
    return (const struct phx_picture_put *)p->puts.items + i;
}
static inline const struct phx_picture_mark *phx_picture_mark(const struct phx_picture *p,
                                                              uint32_t i)
{
    return (const struct phx_picture_mark *)p->marks.items + i;
}

#endif
