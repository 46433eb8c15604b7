// sim/memory.h: the bytes of messages, and the shadow checker that watches every one of them.
//
// Each registered region that a peer writes has a shadow: 8 bytes for each granule of 64, saying
// which message wrote it last (lane, its ordinal on that lane, the operation it named). Each signal
// word remembers the message that stored it. When a worker loads a word and acts on it, everything
// that its message orders (that message and all earlier ones of that source on that lane) becomes
// readable. Violations, each a rule's name:
//
//   unsignalled-read             a leaf reads a granule whose last message has not been signalled
//   unwritten-read               a leaf reads a granule that no message ever wrote
//   write-to-peer-region         a leaf writes memory that belongs to a peer
//   slot-reused-without-evidence a payload lands on one of an older operation of its kind that the
//                                receiver has not completed
//   fenced-write                 a message of a fenced incarnation was let through
//   stale-write                  a message of an incarnation landed after one of a later one
//   word-on-two-lanes            a signal word was stored on another lane than before
//
// Limits, by design: a granule knows its last message alone, and only leaves are shown to the
// checker. A payload's bytes are copied once, at delivery, straight from the source rank's memory:
// the source must be stable until there is evidence of delivery, and a sender that changes it
// sooner sends the changed bytes, as a NIC would.
//
// Threads: the simulator's one. Memory: shadows are reserved lazily, an eighth of what was written.

#ifndef PHX_SIM_MEMORY_H
#define PHX_SIM_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"
#include "sim/world.h"

struct phx_memory;

typedef void phx_memory_violate_fn(void *context, const struct phx_violation *violation);

struct phx_memory_options {
    uint32_t ranks;
    uint32_t lanes; // per rank; at most 8192
    bool check;     // false: bytes move, nothing is watched
    phx_memory_violate_fn *violate;
    void *context;
};

int phx_memory_create(const struct phx_memory_options *options, struct phx_memory **memory,
                      struct phx_message *message);
void phx_memory_destroy(struct phx_memory *memory); // NULL is allowed
// Off for large runs; only before the first region is added. A run that was not checked must say
// so.
void phx_memory_check(struct phx_memory *memory, bool check);
// From now on a word that is stored on two lanes is a violation. Groups keep to one; a transport
// allows any.
void phx_memory_keep_lanes(struct phx_memory *memory);
bool phx_memory_checks(const struct phx_memory *memory);

// --- what the transport tells -------------------------------------------------------------------

// A region of `rank` that `writer`'s incarnation `writer_epoch` may write.
int phx_memory_add(struct phx_memory *memory, uint32_t rank, void *base, uint64_t size_bytes,
                   uint32_t writer);
void phx_memory_remove(struct phx_memory *memory, uint32_t rank, const void *base);
// From now on nothing of this incarnation of `writer` may land at `rank`.
void phx_memory_fence(struct phx_memory *memory, uint32_t rank, uint32_t writer,
                      uint32_t writer_epoch);
// The process died: nobody reads its memory any more, so nothing is reused there without evidence.
void phx_memory_dead(struct phx_memory *memory, uint32_t rank);
// The process was started again: what it had observed and completed is forgotten.
void phx_memory_restart(struct phx_memory *memory, uint32_t rank);

struct phx_landing { // one message, or a part of one, at its target
    uint32_t source;
    uint32_t source_epoch;
    uint32_t target;
    uint32_t lane;
    uint32_t ordinal;    // of the message on (source, target, lane), from 1
    uint32_t token;      // kind << 28 | sequence & 0xFFFFFF
    const uint8_t *from; // payload; NULL: none
    uint8_t *to;
    uint64_t size_bytes;
    uint64_t at_ps;
};
// Copies the payload and marks its granules. Returns a hash of the bytes, for the trace hash.
uint64_t phx_memory_land(struct phx_memory *memory, const struct phx_landing *landing);
// Stores the signal word with release and remembers whose it is.
void phx_memory_signal(struct phx_memory *memory, const struct phx_landing *landing, uint64_t *word,
                       uint64_t value);

// --- what workers tell --------------------------------------------------------------------------

// The worker loaded *word with acquire and acts on what it saw.
void phx_memory_observe(struct phx_memory *memory, uint32_t rank, const uint64_t *word);
void phx_memory_touch(struct phx_memory *memory, uint32_t rank, const void *base,
                      uint64_t size_bytes, bool is_write, uint64_t at_ps);
// The executor's phase: a DONE phase completes operation `number` of its kind.
void phx_memory_phase(struct phx_memory *memory, uint32_t rank, uint32_t phase, uint64_t number,
                      uint64_t at_ps);

struct phx_memory_figures {
    uint64_t landed;       // payloads
    uint64_t landed_bytes; // as stored
    uint64_t touches;      // spans checked
    uint64_t granules;     // granules checked
    uint64_t shadow_bytes; // reserved, in virtual memory
};
struct phx_memory_figures phx_memory_figures(const struct phx_memory *memory);

#endif
