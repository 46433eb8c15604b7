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

#ifndef PHX_SIM_QUEUE_H
#define PHX_SIM_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/core.h"

#define PHX_QUEUE_LEVELS 8u
#define PHX_QUEUE_SLOTS 256u
#define PHX_QUEUE_SEQUENCE_BITS 58u

struct phx_queue_item {
    uint64_t time_ps;
    uint64_t key; // sequence << 6 | type: in order of sequence
    uint64_t argument;
    uint32_t object;
    uint32_t next; // in its list, or in the list of free items; 0: last
};

struct phx_queue_list {
    uint32_t first, last; // items; 0: empty
};

struct phx_queue_tied {
    uint64_t tie;
    uint64_t key;
    uint32_t item;
    uint32_t actor;
};

struct phx_queue_lowered {
    uint32_t actor;
    uint32_t rank;
};

struct phx_queue {
    struct phx_queue_item *items; // [capacity]; item 0 is never used
    uint32_t capacity;
    uint32_t used;      // items 1..used were handed out at least once
    uint32_t free;      // first free item
    uint64_t base_ps;   // time of the latest pop
    uint64_t anchor_ps; // what levels are counted from
    uint64_t count;
    phx_core_soon_fn *soon; // NULL: nobody asks
    void *soon_context;
    uint32_t ahead; // the item that was told to be far last, in a list of the level above; 0: none
    uint32_t ahead_slot; // of that list
    uint64_t near;       // the list whose items were told to be nearer last
    uint64_t bits[PHX_QUEUE_LEVELS][PHX_QUEUE_SLOTS / 64]; // lists that are not empty
    uint8_t words[PHX_QUEUE_LEVELS];                       // bit per word of these that is not 0
    uint32_t levels;                                       // bit per level in use
    struct phx_queue_list lists[PHX_QUEUE_LEVELS][PHX_QUEUE_SLOTS];
    // Not FIFO only: events at base_ps, a binary heap by (tie, key).
    enum phx_tie tie;
    uint64_t seed;
    uint32_t *actors; // [actor_capacity], of items
    uint32_t actor_capacity;
    struct phx_queue_lowered lowered[PHX_PCT_DEPTH_MAX]; // PCT: actors that fell, in order
    uint32_t lowered_count;
    struct phx_queue_tied *tied; // [tied_capacity], at least capacity
    uint32_t tied_count, tied_capacity;
};

bool phx_queue_init(struct phx_queue *queue, enum phx_tie tie, uint64_t seed); // false: no memory
void phx_queue_free(struct phx_queue *queue);
// item->next is ignored. item->time_ps must not lie before the latest pop. False: no memory.
bool phx_queue_push(struct phx_queue *queue, const struct phx_queue_item *item, uint32_t actor);
// Takes the first out; false when empty. *actor is 0 when ties are FIFO.
bool phx_queue_pop(struct phx_queue *queue, struct phx_queue_item *item, uint64_t *tie,
                   uint32_t *actor);
// PCT: from now on this actor comes after all that did not fall, and after those that fell before
// with a lower rank (below PHX_PCT_DEPTH_MAX).
void phx_queue_lower(struct phx_queue *queue, uint32_t actor, uint32_t rank);

#endif
