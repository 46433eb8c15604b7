// hw/crew.h: the processes of one host that are the ranks of a job, started by one launcher: ours,
// or another one.
//
// Ours forks a process per rank, which shares one arena of memory with it: for cards,
// barriers, and what a program wants to leave behind where its death can't take it. Whatever ends
// the launcher ends every process of the crew (the kernel kills them), and whatever ends a crew
// leaves no process, file or segment.
//
// Processes that another launcher started (torchrun, mpirun, a shell) join: they meet by a
// bootstrap, and rank 0 hands the memory to each over a socket. Each rank's lock in it tells the
// others when its process ends, as the launcher would.
//
// Threads: the launcher has one thread when it starts a crew.

#ifndef PHX_HW_CREW_H
#define PHX_HW_CREW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "engine/phalanx.h"
#include "hw/bootstrap.h"
#include "hw/cuda.h"
#include "hw/executor_host.h"
#include "hw/shm.h"

#ifdef __cplusplus
extern "C" {
#endif

struct phx_crew;
struct phx_crew_rank; // in a process of the crew: itself

// A rank's program; what it returns (0 to 125) is the exit status of its process.
typedef int phx_crew_main(struct phx_crew_rank *self, void *arena);

struct phx_crew_options {
    uint32_t ranks;   // 1 to PHX_RANKS_MAX
    uint32_t workers; // of each rank
    uint32_t spin_us; // PHX_CREW_SPIN_AUTO: PHX_HOST_SPIN_US, or 0 when workers outnumber cores
    uint64_t arena_bytes;
    const void *setup; // [setup_bytes], copied to the front of the arena before ranks start
    uint64_t setup_bytes;
    phx_crew_main *main;
    bool is_quiet; // what ranks print goes where the launcher's goes, without "rank N: " before it
    // [ranks] ordinals of the GPUs that they run on (phx_gpus_choose()); borrowed for the start.
    // NULL: on the host's processor, over shared memory.
    const uint32_t *devices;
    // [ranks] their UUIDs: each process then sees its own GPU alone. NULL: it sees all of them.
    const uint8_t (*uuids)[16];
};
#define PHX_CREW_SPIN_AUTO UINT32_MAX

int phx_crew_start(const struct phx_crew_options *options, struct phx_crew **crew,
                   struct phx_message *message);
void *phx_crew_arena(struct phx_crew *crew); // zeroed, aligned to 4096; lives until phx_crew_end()
pid_t phx_crew_pid(const struct phx_crew *crew, uint32_t rank); // 0: it has ended

enum phx_crew_exit { PHX_CREW_RUNNING = 0, PHX_CREW_EXITED, PHX_CREW_KILLED };
struct phx_crew_status {
    uint32_t exit;  // enum phx_crew_exit
    int32_t code;   // the exit status, or the signal
    uint64_t at_ns; // CLOCK_MONOTONIC, when the launcher noticed
};
struct phx_crew_status phx_crew_status(const struct phx_crew *crew, uint32_t rank);

// Passes on what ranks print and takes in their ends, for at most `ms`. Returns how many still run.
uint32_t phx_crew_wait(struct phx_crew *crew, uint32_t ms);
// Kills what still runs and reaps it; the arena stays.
void phx_crew_kill(struct phx_crew *crew);
// The same, and gives everything back. NULL is allowed.
void phx_crew_end(struct phx_crew *crew);

// --- in a process that another launcher started -------------------------------------------------

// Becomes that rank of a crew: every rank calls it, with the same options (main and is_quiet are
// for launchers). rank, ranks and timeout_ms (0: PHX_BOOTSTRAP_TIMEOUT_MS) are those with which it
// joined `b`, which has no more to do when this returns. The
// calling thread is the one that lives as long as the process. PHX_ERR_MISMATCH names a rank of
// another host, or another number; PHX_ERR_PEER_LOST one that ended meanwhile.
int phx_crew_join(const struct phx_crew_options *options, uint32_t rank, uint32_t timeout_ms,
                  struct phx_bootstrap *b, struct phx_crew_rank **self,
                  struct phx_message *message);
void phx_crew_leave(struct phx_crew_rank *self); // that joined. NULL is allowed

// --- in a process of the crew -------------------------------------------------------------------

uint32_t phx_crew_rank_number(const struct phx_crew_rank *self);
void *phx_crew_rank_arena(const struct phx_crew_rank *self);
// Its process has ended. Between processes of another launcher: or it has left.
bool phx_crew_rank_is_gone(const struct phx_crew_rank *self, uint32_t rank);
struct phx_shm *phx_crew_rank_shm(struct phx_crew_rank *self);
struct phx_cuda *phx_crew_rank_cuda(struct phx_crew_rank *self); // NULL: not on a GPU
struct phx_target phx_crew_rank_target(struct phx_crew_rank *self);
// Told of phases of this rank's workers, from now on.
void phx_crew_rank_on_phase(struct phx_crew_rank *self,
                            void (*phase)(void *context, uint32_t worker, uint32_t phase,
                                          uint64_t number),
                            void *context);
// Told of ops that were posted, on the worker's thread, and of events. Before the first group.
void phx_crew_rank_on_ops(struct phx_crew_rank *self,
                          void (*post)(void *context, const struct phx_op *op),
                          void (*event)(void *context, const struct phx_event *event),
                          void *context);
// Every rank of the crew calls it, in the same order. options->rank and ranks are filled in.
// PHX_ERR_PEER_LOST: a rank ended before it showed its card, or did not come within the timeout of
// a crew that joined.
int phx_crew_rank_open(struct phx_crew_rank *self, const struct phx_group_options *options,
                       struct phx_group **group, struct phx_message *message);
// Waits for all ranks that still run; of a crew that joined, for at most its timeout.
void phx_crew_rank_barrier(struct phx_crew_rank *self);

#ifdef __cplusplus
}
#endif

#endif
