// sim/core.h: virtual time, the event queue, seeded chance and the trace hash of one simulated run.
//
// Rules: integer picoseconds; event key (time, tie, sequence), where tie is 0 (first in, first out)
// or a seeded hash of the sequence number; no wall clock, address, hash-table order or unseeded
// chance reaches an event. The hash folds every dispatched event, field by field.
//
// Threads: one OS thread at a time; the pthread mode hands a baton.

#ifndef PHX_SIM_CORE_H
#define PHX_SIM_CORE_H

#include <stdbool.h>
#include <stdint.h>

struct phx_core;

enum phx_tie { PHX_TIE_FIFO = 1, PHX_TIE_RANDOM };

struct phx_event_record {
    uint64_t time_ps;
    uint64_t tie;
    uint64_t sequence;
    uint32_t type;   // whose handler: phx_core_handle()
    uint32_t object; // index of what it concerns, never an address
    uint64_t argument;
};

typedef void phx_core_handler(void *context, const struct phx_event_record *event);

struct phx_core *phx_core_create(uint64_t seed, enum phx_tie tie); // NULL: no memory
void phx_core_destroy(struct phx_core *core);

// Event types are small numbers, below 64, each with one handler.
void phx_core_handle(struct phx_core *core, uint32_t type, phx_core_handler *handler,
                     void *context);
// time_ps below now counts as now. False: no memory (the run then ends with an error).
bool phx_core_schedule(struct phx_core *core, uint64_t time_ps, uint32_t type, uint32_t object,
                       uint64_t argument);
// Dispatches the next event; false when there is none.
bool phx_core_step(struct phx_core *core);
uint64_t phx_core_now_ps(const struct phx_core *core);
uint64_t phx_core_pending(const struct phx_core *core);
uint64_t phx_core_events(const struct phx_core *core); // dispatched so far
// Of everything so far, with the seed; 0 in a build without xxHash.
uint64_t phx_core_hash(const struct phx_core *core);
bool phx_core_has_hash(void);
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
    PHX_CHANCE_CORRUPT
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
