// tools/run_internal.h: what the launcher of phx run and the processes of its ranks share.

#ifndef PHX_TOOLS_RUN_INTERNAL_H
#define PHX_TOOLS_RUN_INTERNAL_H

#include <sys/types.h>

#include "hw/clock.h"
#include "hw/crew.h"
#include "sim/workload_internal.h"
#include "tools/run.h"

#define PHX_LIVE_VIOLATIONS 8u       // kept of each rank
#define PHX_LIVE_VIOLATIONS_KEPT 64u // of the run

enum phx_live_struck { PHX_LIVE_CLAIMED = 1, PHX_LIVE_STRUCK };

struct phx_live_strike { // one fault of the list
    uint32_t state;      // enum phx_live_struck
    uint32_t kind;       // of the operation that the rank was in; 0: none
    uint32_t phase;      // that its first worker had entered last
    uint64_t number;
    uint64_t at_ns; // CLOCK_MONOTONIC, as all times here
};

struct phx_live_record { // one operation of one rank
    uint64_t begin_ns;   // 0: it has not begun
    uint64_t end_ns;
    uint64_t longest_ns; // of its calls
    uint32_t is_ended;   // what follows, and the results, are there
    struct phx_outcome outcome;
};

struct phx_live_reported { // a violation that a rank's own process saw
    char rule[32];
    uint32_t kind;
    uint64_t number;
    uint64_t at_ns;
    char text[sizeof((struct phx_violation *)0)->text];
};

struct phx_live_suspicion {
    uint32_t cause;     // enum phx_cause; 0: none
    uint32_t kind;      // of the operation after which it was first seen
    uint64_t number;    // likewise
    uint64_t operation; // likewise, through all loads
};

struct phx_live_seat { // of one rank
    _Alignas(64) pid_t pid;
    uint32_t end;         // enum phx_program_end, at its end
    uint64_t launched_ns; // of one that joined
    uint64_t opened_ns; // all its groups; 0: not yet
    uint64_t ended_ns;
    uint64_t begun; // operations
    uint64_t posts;
    uint64_t events;
    uint32_t phase;     // of its first worker
    uint32_t kind;      // of the operation that it is in
    uint64_t number[3]; // of the last operation of each kind that it entered
    uint32_t violation_count;
    struct phx_live_reported violations[PHX_LIVE_VIOLATIONS];
    int32_t active[PHX_RANKS_MAX];
    struct phx_live_suspicion suspicions[PHX_RANKS_MAX];
};

// Each process of a run has one of its own: from the launcher when it was forked, or made anew from
// the same scenario. What they share is the arena, which has no pointers that others follow.
struct phx_live {
    struct phx_run run;
    struct phx_workload workload; // times multiplied
    struct phx_workload_options run_options;
    struct phx_live_options options;
    struct phx_crew *crew; // the launcher's
    uint64_t launch_ns;
    uint8_t *arena; // front, strikes, seats, records, results
    uint64_t strikes_at;
    uint64_t seats_at;
    uint64_t records_at;
    uint64_t *results_at;     // [load_count]
    uint64_t *pair_bytes;     // [load_count] of one pair of one rank
    uint64_t *dispatch_bytes; // [load_count] of it, what dispatch leaves
    uint64_t arena_bytes;
    uint64_t zero_ns; // when all groups were open; 0: not yet
    struct phx_violation *violations;
    uint64_t violation_count;
    void (*leave)(struct phx_live *live, void *context); // a rank is at its end
    void *leave_context;
};

struct phx_live_front {
    struct phx_live *live; // of a launcher, for the processes that it forks
    uint32_t is_over;      // ranks that wait at their end may leave
    // Without a launcher of ours:
    uint32_t reporter; // 1 + the rank that judges
    uint32_t verdict;  // enum phx_live_verdict
};

enum phx_live_verdict { PHX_LIVE_PASSED = 1, PHX_LIVE_FAILED, PHX_LIVE_NOT_JUDGED };

static inline struct phx_live_front *phx_live_front_of(const struct phx_live *live)
{
    return (struct phx_live_front *)(void *)live->arena;
}
static inline struct phx_live_strike *phx_live_strike_of(const struct phx_live *live,
                                                         uint32_t fault)
{
    return (struct phx_live_strike *)(void *)(live->arena + live->strikes_at) + fault;
}
static inline struct phx_live_seat *phx_live_seat_of(const struct phx_live *live, uint32_t rank)
{
    return (struct phx_live_seat *)(void *)(live->arena + live->seats_at) + rank;
}
static inline struct phx_live_record *phx_live_record_of(const struct phx_live *live,
                                                         uint32_t rank, uint64_t operation)
{
    uint8_t *base = live->arena + live->records_at;
    return (struct phx_live_record *)(void *)base + rank * live->run.operations + operation;
}

// --- run_open.c ---------------------------------------------------------------------------------

// How many workers a rank has, unless it was said, and what times are multiplied with.
uint32_t phx_live_workers(const struct phx_workload *w, const struct phx_live_options *options);
// Everything but the arena. `options` with its workers.
int phx_live_open(const struct phx_workload *w, const struct phx_live_options *options,
                  struct phx_live **live, struct phx_message *message);
void phx_live_close(struct phx_live *live); // NULL is allowed
// Without faults all operations together take far less; what takes longer has lost its progress.
uint64_t phx_live_limit_ns(const struct phx_live *live);
// Sets zero_ns, if all groups are open.
void phx_live_take_zero(struct phx_live *live);

// --- run_results.c: where results lie in the arena ----------------------------------------------

struct phx_live_results { // of one pair of one rank
    struct phx_oracle_output received;
    uint16_t *out;
    float *token_loss;
};
// Lays the arena out. PHX_ERR_INVALID: too large.
int phx_live_layout(struct phx_live *live, struct phx_message *message);
void phx_live_results(const struct phx_live *live, uint32_t load, uint32_t rank, uint64_t pair,
                      struct phx_live_results *results);
// Copies what an operation gave; only rows that are one's.
void phx_live_keep_dispatch(const struct phx_stage *stage, const struct phx_oracle_output *from,
                            struct phx_oracle_output *to);

// --- run_rank.c ---------------------------------------------------------------------------------

phx_crew_main phx_live_rank_main; // of a process that the launcher forked
int phx_live_rank_run(struct phx_live *live, struct phx_crew_rank *self);

// --- run_faults.c -------------------------------------------------------------------------------

int phx_live_faults_check(const struct phx_workload *w, const struct phx_live_options *options,
                          struct phx_message *message);
// In a rank's process. A put was posted; a phase was entered.
bool phx_live_counts_puts(const struct phx_workload *w, uint32_t rank);
void phx_live_on_put(const struct phx_live *live, uint32_t rank, uint32_t kind, uint64_t number,
                     uint32_t puts);
// After how many puts of this operation the rank is to be struck; 0: not by its puts.
uint32_t phx_live_puts_of(const struct phx_workload *w, uint32_t rank, uint32_t kind,
                          uint64_t number);
void phx_live_on_phase(const struct phx_live *live, uint32_t rank, uint32_t kind, uint32_t phase,
                       uint64_t number, bool begins);
// In the launcher, every millisecond, and when a fault's time has come: in so many nanoseconds.
uint64_t phx_live_faults_next_ns(const struct phx_live *live);
void phx_live_faults_tick(const struct phx_live *live);
// Without a launcher of ours, in a rank's process: what others can't do for it, every so often.
bool phx_live_needs_keeper(const struct phx_workload *w, uint32_t rank);
void phx_live_faults_keep(const struct phx_live *live, uint32_t rank);
// A hang struck the rank: nobody waits for its end.
bool phx_live_is_held(const struct phx_live *live, uint32_t rank);

// --- run_check.c --------------------------------------------------------------------------------

// After the run: violations, the history and the summary.
int phx_live_judge(struct phx_live *live, struct phx_summary *summary,
                   struct phx_history *history, struct phx_message *message);

#endif
