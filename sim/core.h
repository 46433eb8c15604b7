// sim/core.h: virtual time, the event queue, seeded chance and the trace hash of one simulated run.
//
// Rules: integer picoseconds; event key (time, tie, sequence), where the tie is as enum phx_tie
// says; no wall clock, address, hash-table order or unseeded chance reaches an event. The hash
// folds every dispatched event, field by field.
//
// Threads: one OS thread at a time; the pthread mode hands a baton.

#ifndef PHX_SIM_CORE_H
#define PHX_SIM_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"

struct phx_core;

// Which of several events of one time comes first. Events of one actor (phx_core_schedule_as())
// stay in the order in which they were scheduled, whatever the ties.
enum phx_tie {
    PHX_TIE_FIFO = 1, // the one that was scheduled first: ties are 0
    PHX_TIE_RANDOM,   // ties are a seeded hash of the sequence number
    PHX_TIE_PCT       // probabilistic concurrency testing: each actor has a drawn priority, and at
                      // pct_depth - 1 drawn event numbers the actor of that event falls below all
};

#define PHX_PCT_DEPTH_MAX 64u
#define PHX_QUANTUM_PS_MAX UINT64_C(1000000000000) // one second
struct phx_schedule {                              // zero fields: FIFO, 3, 10000, exact times
    enum phx_tie tie;
    uint32_t pct_depth;  // 1 (priorities never change) to PHX_PCT_DEPTH_MAX
    uint64_t pct_events; // the numbers are drawn from 1 to this
    uint64_t
        quantum_ps; // above 1: times are rounded up to its multiples, so that ties are frequent
};

#define PHX_OBJECT_MAX (UINT32_MAX >> 1)

struct phx_event_record {
    uint64_t time_ps;
    uint64_t tie;
    uint64_t sequence;
    uint32_t type;   // whose handler: phx_core_handle()
    uint32_t object; // index of what it concerns, at most PHX_OBJECT_MAX, never an address
    uint64_t argument;
};

typedef void phx_core_handler(void *context, const struct phx_event_record *event);

// NULL: no memory. The schedule is within its bounds (phx_schedule_check()); NULL: all zero.
struct phx_core *phx_core_create(uint64_t seed, const struct phx_schedule *schedule);
void phx_core_destroy(struct phx_core *core);

// Event types are small numbers, below 64, each with one handler.
void phx_core_handle(struct phx_core *core, uint32_t type, phx_core_handler *handler,
                     void *context);
// time_ps below now counts as now. False: no memory (the run then ends with an error).
bool phx_core_schedule(struct phx_core *core, uint64_t time_ps, uint32_t type, uint32_t object,
                       uint64_t argument);
// The same with an actor: what acts in program order, such as a fiber or a queue pair. Of events of
// one actor and time, none overtakes another. Above, the object is the actor.
bool phx_core_schedule_as(struct phx_core *core, uint64_t time_ps, uint32_t type, uint32_t object,
                          uint64_t argument, uint32_t actor);
// An event of that type right after event `number` (phx_core_events() then says `number`; from 1),
// or next when that many were dispatched already. It has no number of its own, so that taking it
// away leaves the numbers of others as they were. False: no memory.
bool phx_core_at_event(struct phx_core *core, uint64_t number, uint32_t type, uint32_t object,
                       uint64_t argument);
// Told of events that come soon, if many pend, so that what they concern may be fetched ahead; of
// each again as it comes nearer, because what it concerns is found by way of what was fetched
// before. A hint, in no order, not of each event, that depends on nothing but the events; the one
// function of a core.
enum phx_soon {
    PHX_SOON_FAR = 1, // about twenty events ahead; where 256 ps hold more, about those
    PHX_SOON_NEAR,    // five later each; the event may be past by then
    PHX_SOON_NEARER,
    PHX_SOON_NEXT
};
// For what does nothing but fetch: gcc takes it for a function without effect, and drops a call of
// it that it does not inline.
#define PHX_FETCHES __attribute__((always_inline)) static inline
typedef void phx_core_soon_fn(void *context, uint32_t type, uint32_t object, enum phx_soon soon);
void phx_core_soon(struct phx_core *core, phx_core_soon_fn *soon, void *context);
// Dispatches the next event; false when there is none.
bool phx_core_step(struct phx_core *core);
uint64_t phx_core_now_ps(const struct phx_core *core);
uint64_t phx_core_pending(const struct phx_core *core);
uint64_t phx_core_events(const struct phx_core *core); // dispatched so far, by time
// Of everything so far, with the seed; 0 in a build without xxHash.
uint64_t phx_core_hash(const struct phx_core *core);
bool phx_core_has_hash(void);
// Actors of different kinds, which must not share an order by having the same number.
#define PHX_ACTOR_STRANDS 0x80000000u // plus the strand's index
#define PHX_ACTOR_FAULTS 0x40000000u  // plus the fault's
// 0, or PHX_ERR_INVALID: the message names the field, its value and its bound.
int phx_schedule_check(const struct phx_schedule *schedule, struct phx_message *message);
void phx_core_fold(struct phx_core *core, uint64_t value); // adds something else to the hash

// Counter-based chance: a pure function of its arguments, uniform in 64 bits.
enum phx_purpose {
    PHX_CHANCE_TIE = 1,
    PHX_CHANCE_JITTER,
    PHX_CHANCE_LOSS,
    PHX_CHANCE_ORDER,
    PHX_CHANCE_FAULT,
    PHX_CHANCE_ROUTING,
    PHX_CHANCE_PAYLOAD,
    PHX_CHANCE_CORRUPT,
    PHX_CHANCE_EXPLORE
};
uint64_t phx_chance(uint64_t seed, enum phx_purpose purpose, uint64_t who, uint64_t number);
// The same in two steps, for many numbers of one `who`: at(who(seed, purpose, who), number).
uint64_t phx_chance_who(uint64_t seed, enum phx_purpose purpose, uint64_t who);
static inline uint64_t phx_chance_at(uint64_t who, uint64_t number)
{
    uint64_t x = who + UINT64_C(0x9E3779B97F4A7C15) * (number + 1);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}
// Uniform in [0, bound), without modulo bias worth naming (128-bit multiply). bound >= 1.
uint64_t phx_chance_below(uint64_t bound, uint64_t seed, enum phx_purpose purpose, uint64_t who,
                          uint64_t number);

#endif
