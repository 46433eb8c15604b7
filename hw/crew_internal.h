// hw/crew_internal.h: what the processes of a crew share, and its launcher, if it is ours.

#ifndef PHX_HW_CREW_INTERNAL_H
#define PHX_HW_CREW_INTERNAL_H

#include <pthread.h>

#include "hw/crew.h"

#define PHX_CREW_STATUS_SETUP 126 // the process could not be set up; it said why

struct phx_crew_seat {             // of one rank, in the shared memory
    _Alignas(64) uint32_t is_gone; // the launcher reaped it, or a rank found its lock given up
    uint32_t barriers;             // that it has come to
    uint32_t shown;                // groups whose cards it has written
    uint32_t taken;                // groups whose cards it has read
    pthread_mutex_t life;          // of one that joined: robust, held while it lives
};

struct phx_crew_shared {
    uint64_t job;
    uint64_t arena_at;            // from the start of this struct
    struct phx_bell bell;         // rung when a seat changed
    struct phx_crew_seat ranks[]; // then cards: [ranks][ranks][card]
};

struct phx_crew_rank {
    struct phx_crew_shared *shared;
    uint32_t rank;
    uint32_t ranks;
    uint64_t shared_bytes; // of a rank that joined; 0: a launcher of ours forked it
    bool has_life;         // it holds its lock
    uint64_t patience_ns;  // how long it waits for others; 0: for ever
    struct phx_host_executor *executor;
    struct phx_shm *shm;
    struct phx_cuda *cuda; // instead of both
    void (*phase)(void *context, uint32_t worker, uint32_t phase, uint64_t number);
    void *phase_context;
};

// What the crew shares: the struct, seats and cards; the arena follows.
uint64_t phx_crew_head_bytes(uint32_t ranks);
uint32_t phx_crew_spin_us(const struct phx_crew_options *options);
int phx_crew_options_check(const struct phx_crew_options *options, struct phx_message *message);

// crew_rank.c. `self` is zeroed, but for what a join fills in; it is closed whatever make returned.
int phx_crew_rank_make(struct phx_crew_rank *self, const struct phx_crew_options *options,
                       struct phx_crew_shared *shared, uint32_t rank, uint32_t incarnation,
                       struct phx_message *message);
void phx_crew_rank_close(struct phx_crew_rank *self);

#endif
