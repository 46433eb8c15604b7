// sim/world_state.h: the world's own state. Only world*.c, executor_sim.c and bootstrap_sim.c
// include it; everything else goes through world.h and world_internal.h.
//
// A strand is one fiber of a rank and what it waits for. Strand 0 of a rank is its control fiber,
// strand 1 + w its worker w. States, and the events that move them:
//
//   IDLE ---run---> READY --resume--> RUNNING --charge, then park--> SLEEPING --resume--> RUNNING
//                     ^                  | park                        (until its debt is spent)
//                     |                  v
//                     +--wake, timer-- PARKED      (words, until)
//                     +--all done----- LAUNCHED    (control: its workers run)
//                     +--all came----- EXCHANGING  (control: the bootstrap)
//   any --kill--> DEAD        main returned --> DONE

#ifndef PHX_SIM_WORLD_STATE_H
#define PHX_SIM_WORLD_STATE_H

#include "sim/fiber.h"
#include "sim/world_internal.h"

#define PHX_HOOKS_MAX 8u
#define PHX_VIOLATIONS_KEPT 64u
// Returns of park at one virtual time, in a row, after which a worker is taken for spinning.
#define PHX_PARKS_IN_VAIN_MAX 1000000u

enum phx_world_event {
    PHX_EVENT_RESUME = PHX_EVENTS_WORLD, // object: strand; argument: incarnation and ticket
    PHX_EVENT_ALARM                      // object: strand; argument: incarnation
};

enum phx_strand_state {
    PHX_STRAND_IDLE = 1,
    PHX_STRAND_READY,
    PHX_STRAND_RUNNING,
    PHX_STRAND_SLEEPING,
    PHX_STRAND_PARKED,
    PHX_STRAND_LAUNCHED,
    PHX_STRAND_EXCHANGING,
    PHX_STRAND_DONE,
    PHX_STRAND_DEAD
};

struct phx_strand {
    struct phx_sim_rank *rank;
    uint32_t worker; // or PHX_WORKER_CONTROL
    uint32_t index;  // in the world; what events name
    enum phx_strand_state state;
    struct phx_fiber *fiber; // NULL: not made yet
    uint64_t debt_ps;        // charged and not slept off
    uint32_t ticket;         // a resume event counts only with the current one
    bool deferred;           // it came due while the rank was paused
    uint64_t wake_ps;        // when the resume event that counts is due; PHX_TIME_NEVER: none
    uint64_t alarm_ps;       // when its next alarm is due; PHX_TIME_NEVER: none
    uint64_t since_ps;       // it has been waiting
    uint64_t until_ps;       // PARKED: at the latest
    const uint64_t *words;   // PARKED: [count]
    uint32_t count;
    uint32_t parks_in_vain;
    uint32_t phase;
    uint64_t number;
};

// What a strand is parked on, beside those of all others: each word that lands asks the strands of
// its rank, and of very many ranks no strand is in a cache.
struct phx_parked {
    const uint64_t *words;
    uint32_t count;
    bool is_parked; // its strand's state is PHX_STRAND_PARKED
};

struct phx_region { // memory of a rank
    struct phx_region *next;
    void *base;
    uint64_t size_bytes;
    bool is_borrowed; // of the world's arena
};

struct phx_sim_executor {
    struct phx_executor executor;
    struct phx_sim_rank *rank;
};

struct phx_sim_rank {
    struct phx_world *world;
    uint32_t number;
    uint32_t incarnation;
    bool alive;
    bool returned;
    bool paused;
    bool events_arrived; // and the control fiber has not been told
    uint32_t slow_percent;
    int64_t clock_offset_ns;
    uint64_t died_ps;
    struct phx_transport *transport;
    struct phx_sim_executor executor;
    struct phx_strand *strands; // [1 + workers]
    struct phx_region *regions;
    uint8_t *chunk; // the rest of the latest region for small pieces
    uint64_t chunk_left_bytes;
    phx_rank_main *main;
    void *argument;
    // The executor's run in progress.
    phx_body_fn *body;
    void *body_argument;
    uint32_t workers_running; // of this run
    uint32_t workers_left;
    uint64_t run_end_ps; // latest end of a worker so far
    // The bootstrap's exchange in progress.
    bool exchange_here;
    const uint8_t *exchange_mine;
    uint8_t *exchange_theirs;
    uint32_t exchange_card_bytes;
    int exchange_result;
};

#define PHX_CHARGES_KEPT 16u

struct phx_charge { // a time for bytes, kept: leaves move the same spans, and it takes a division
    uint64_t bytes;
    uint64_t sharers; // 0: none is kept
    uint64_t ps;
};

struct phx_world {
    struct phx_world_options options; // defaults filled; names of presets copied
    char *preset_names[2];
    struct phx_core *core;
    struct phx_fabric *fabric; // what phx_network_attach() made; NULL: no network
    struct phx_fibers *fibers;
    uint32_t rank_count;
    uint32_t live; // ranks that have neither returned nor died
    bool ran;
    struct phx_sim_rank *ranks; // [rank_count]
    struct phx_strand *strands; // [rank_count * (1 + workers)]
    struct phx_parked *parked;  // the same
    uint32_t paused_count;      // of ranks
    struct phx_strand *running; // NULL: the scheduler
    phx_rank_main *main;
    void *argument;
    // Where the chunks of a small world lie; arena_map is what was mapped for it.
    uint8_t *arena_map;
    uint8_t *arena;
    uint64_t arena_left_bytes;
    int stop_error; // 0: go on
    const char *stop_why;
    struct phx_world_hooks hooks[PHX_HOOKS_MAX];
    uint32_t hook_count;
    // Positions of those that have the entry, in order: a worker's every load and span asks.
    uint8_t observers[PHX_HOOKS_MAX], touchers[PHX_HOOKS_MAX];
    uint32_t observer_count, toucher_count;
    struct phx_charge charges[PHX_CHARGES_KEPT]; // by a hash of the bytes
    uint32_t violation_count;                    // all of them
    struct phx_violation violations[PHX_VIOLATIONS_KEPT];
};

// --- world_rank.c --------------------------------------------------------------------------------

uint64_t phx_strand_time_ps(const struct phx_strand *strand); // now, plus its debt
// Lets the strand run at time_ps, or earlier if that was asked already.
void phx_strand_wake(struct phx_strand *strand, uint64_t time_ps);
// From the strand itself: gives the turn away until it is woken. `waits`: hooks hear of it.
void phx_strand_block(struct phx_strand *strand, enum phx_strand_state state, bool waits);
// From the strand itself: sleeps off its debt.
void phx_strand_settle(struct phx_strand *strand);
void phx_strand_sleep_until(struct phx_strand *strand, uint64_t time_ps);
struct phx_strand *phx_rank_strand(const struct phx_sim_rank *rank, uint32_t worker);
// Starts a process: transport, control fiber. 0 or PHX_ERR_NO_MEMORY.
int phx_rank_start(struct phx_sim_rank *rank, phx_rank_main *main, void *argument);
void phx_rank_release(struct phx_sim_rank *rank); // its fibers; none may be running
void phx_rank_memory_free(struct phx_sim_rank *rank);
void phx_world_arena_free(struct phx_world *world); // after every rank's memory
void phx_world_on_resume(void *context, const struct phx_event_record *event);
void phx_world_on_alarm(void *context, const struct phx_event_record *event);

// --- executor_sim.c ------------------------------------------------------------------------------

extern const struct phx_executor_ops phx_sim_executor_ops;
void phx_worker_main(void *strand); // a worker fiber: one run's body after another

// --- bootstrap_sim.c -----------------------------------------------------------------------------

void phx_exchange_progress(struct phx_world *world); // somebody came, died or returned

#endif
