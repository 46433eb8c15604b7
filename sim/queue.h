// sim/queue.h: pending events in the order (time, tie, sequence).
//
// A radix queue: it relies on time never running backwards, that is on pushes never being earlier
// than the latest pop, and pays for an event a constant number of moves between lists where a heap
// pays the logarithm of what is pending.
//
//   level = highest byte in which an event's time differs from the anchor, a time that no event
//           still pending lies before (0: none)
//   slot  = that byte of the event's time
//
//   level 7  [.][.][.] ... 256 lists      far away
//     ...
//   level 1  [.][x][.] ... 256 lists      the next 65536 ps
//   level 0  [x][.][.] ... 256 lists      one time each
//
// The earliest event is in the lowest slot of the lowest level in use. Where that list is short,
// the event is looked for and taken out. Otherwise the earliest time becomes the new anchor and the
// list is dealt out to lower levels; all other lists keep their place. Lists keep the order of
// insertion and dealing them out does too, so events of one time stand in order of sequence. With
// other ties lists are always dealt out, and events of the current time move to a small heap, where
// an event's tie is at least that of any earlier event of its actor.
//
// A list's events stand in blocks, side by side: with a million pending, links from event to event
// would each wait for memory.
//
//   cells of a block:  [next block][event][event] ... [event]

#ifndef PHX_SIM_QUEUE_H
#define PHX_SIM_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/core.h"

#define PHX_QUEUE_LEVELS 8u
#define PHX_QUEUE_SLOTS 256u
#define PHX_QUEUE_SEQUENCE_BITS 58u
#define PHX_QUEUE_BLOCK 16u // cells
#define PHX_QUEUE_EMPTY (PHX_QUEUE_BLOCK - 1)
#define PHX_QUEUE_TOLD 32u // a power of two, more than between the first stage and the last

struct phx_queue_item {
    uint64_t time_ps;
    uint64_t key; // sequence << 6 | type: in order of sequence
    uint64_t argument;
    uint32_t actor;
    uint32_t object : 31;
    uint32_t is_told : 1; // the queue's own: that it comes soon
};

union phx_queue_cell {
    struct phx_queue_item item;
    uint32_t next; // cell 0 of a block: the first cell of the block behind it, in its list or among
                   // the free ones; 0: none
};

struct phx_queue_list {
    uint32_t first, last; // cells; last == PHX_QUEUE_EMPTY: none
    uint64_t earliest_ps; // of its events; UINT64_MAX: none
};

struct phx_queue_tied {
    uint64_t tie;
    struct phx_queue_item item;
};

struct phx_queue_lowered {
    uint32_t actor;
    uint32_t rank;
};

struct phx_queue {
    union phx_queue_cell *cells; // [capacity]; those of block 0 are never used
    uint32_t capacity;
    uint32_t used;      // cells of blocks that were handed out at least once, and of block 0
    uint32_t free;      // first cell of the first free block; 0: none
    uint64_t base_ps;   // time of the latest pop
    uint64_t anchor_ps; // what levels are counted from
    uint64_t count;
    phx_core_soon_fn *soon; // NULL: nobody asks
    void *soon_context;
    struct phx_queue_ahead {            // the walk ahead of the events
        uint64_t window;                // of 65536 ps, whose lists of 256 ps are walked
        uint32_t slot;                  // the list whose events are told of,
        uint32_t cell;                  // and the one told of last; 0: from its first
        uint32_t lead;                  // events told of and not taken
        uint32_t count;                 // steps
        uint32_t types[PHX_QUEUE_TOLD]; // of the latest steps, for the later stages
        uint32_t objects[PHX_QUEUE_TOLD];
    } ahead;
    uint64_t bits[PHX_QUEUE_LEVELS][PHX_QUEUE_SLOTS / 64]; // lists that are not empty
    uint8_t words[PHX_QUEUE_LEVELS];                       // bit per word of these that is not 0
    uint32_t levels;                                       // bit per level in use
    struct phx_queue_list lists[PHX_QUEUE_LEVELS][PHX_QUEUE_SLOTS];
    // Not FIFO only: events at base_ps, a binary heap by (tie, key).
    enum phx_tie tie;
    uint64_t seed;
    struct phx_queue_lowered lowered[PHX_PCT_DEPTH_MAX]; // PCT: actors that fell, in order
    uint32_t lowered_count;
    struct phx_queue_tied *tied; // [tied_capacity], room for all that pend
    uint32_t tied_count, tied_capacity;
};

bool phx_queue_init(struct phx_queue *queue, enum phx_tie tie, uint64_t seed); // false: no memory
void phx_queue_free(struct phx_queue *queue);
// item->time_ps must not lie before the latest pop. False: no memory.
bool phx_queue_push(struct phx_queue *queue, const struct phx_queue_item *item);
// Takes the first out; false when empty. *tie is 0 when ties are FIFO.
bool phx_queue_pop(struct phx_queue *queue, struct phx_queue_item *item, uint64_t *tie);
// PCT: from now on this actor comes after all that did not fall, and after those that fell before
// with a lower rank (below PHX_PCT_DEPTH_MAX).
void phx_queue_lower(struct phx_queue *queue, uint32_t actor, uint32_t rank);

#endif
