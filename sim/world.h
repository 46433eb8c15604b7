// sim/world.h: a simulated cluster: ranks, their fibers, their memory, and the clock they see.
//
// A rank is a process on a node with one GPU and one NIC. Its program is a C function that runs on
// the rank's control fiber and may block only in this header's and the executor's calls. Its
// kernels run on worker fibers, through struct phx_executor; its bytes move through struct
// phx_transport.
//
// Determinism: the same options and seed give the same events, times, bytes and hash (core.h).
// Deadlock: when nothing can run and a live rank has not returned, phx_world_run() reports who
// waits for what, and since when.

#ifndef PHX_SIM_WORLD_H
#define PHX_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"
#include "engine/executor.h"
#include "engine/transport.h"
#include "sim/core.h"

struct phx_world;
struct phx_sim_rank;

enum phx_fiber_mode {
    PHX_FIBERS = 1, // Boost.Context switches in one OS thread
    PHX_PTHREADS    // one pthread per fiber, a futex baton between them: for gdb; same hash
                    // (what there is where Boost.Context is missing)
};

enum phx_bursts {      // of stores that one lane posts to one peer within 2 us
    PHX_BURSTS_ON = 1, // they travel together and land together, for three events
    PHX_BURSTS_OFF     // each travels alone: more interleavings, more events
};

struct phx_cluster {
    uint32_t nodes;
    uint32_t ranks_per_node;
    const char *intra_node; // preset names, network.h
    const char *inter_node;
    enum phx_bursts bursts; // 0: PHX_BURSTS_ON
};

struct phx_world_options {
    uint64_t seed;
    struct phx_schedule schedule;
    enum phx_fiber_mode fibers;
    uint32_t workers; // fibers per rank beside the control fiber
    struct phx_cluster cluster;
    uint64_t compute_bytes_per_us; // local memory bandwidth for leaves; 0: the preset default
    uint64_t compute_operation_ps; // fixed cost of a leaf call; 0: the preset default
    uint64_t launch_ps;            // fixed cost of a kernel launch; 0: the preset default
    uint64_t time_limit_ps;        // virtual; reaching it is a failure of progress. 0: none
};

// One thing that went wrong, found by a checker. Text is one sentence.
struct phx_violation {
    const char *rule; // a short fixed name, such as "unsignalled-read"
    uint32_t rank;
    uint32_t kind;   // enum phx_kind of the operation, 0: none
    uint64_t number; // of the operation, from 1
    uint64_t at_ns;  // virtual
    char text[192];
};

int phx_world_create(const struct phx_world_options *options, struct phx_world **world,
                     struct phx_message *message);
// NULL is allowed. Everything that ranks allocated here goes too; so does the stack of every fiber,
// but nothing that a killed rank had from malloc(): programs that may be killed use
// phx_sim_alloc().
void phx_world_destroy(struct phx_world *world);

typedef void phx_rank_main(struct phx_sim_rank *rank, void *argument);
// Runs main on every rank until all have returned or died, or stand paused with nothing to resume
// them. 0; PHX_ERR_TIMEOUT at the time limit or when nothing can run (message says who waits for
// what); PHX_ERR_NO_MEMORY; PHX_ERR_STATE for a second run, or a worker that waits without waiting.
int phx_world_run(struct phx_world *world, phx_rank_main *main, void *argument,
                  struct phx_message *message);

struct phx_core *phx_world_core(struct phx_world *world);
uint32_t phx_world_rank_count(const struct phx_world *world);
struct phx_sim_rank *phx_world_rank(struct phx_world *world, uint32_t rank);
bool phx_world_rank_alive(const struct phx_world *world, uint32_t rank);
// When it died, virtual; UINT64_MAX while it lives.
uint64_t phx_world_rank_died_ps(const struct phx_world *world, uint32_t rank);

// Called by checkers; kept in order, the first 64 in full, the rest counted: *list has the smaller
// of 64 and the count that is returned.
void phx_world_violate(struct phx_world *world, const struct phx_violation *violation);
uint32_t phx_world_violations(const struct phx_world *world, const struct phx_violation **list);

// --- from inside a rank's program ----------------------------------------------------------------

uint32_t phx_sim_rank_number(const struct phx_sim_rank *rank);
struct phx_world *phx_sim_rank_world(struct phx_sim_rank *rank);
struct phx_transport *phx_sim_transport(struct phx_sim_rank *rank);
struct phx_executor *phx_sim_executor(struct phx_sim_rank *rank);
// Zeroed memory of this rank, reserved lazily, in huge pages where possible; freed with the world.
// NULL: no memory. Aligned to 4096.
void *phx_sim_alloc(struct phx_sim_rank *rank, uint64_t size_bytes);
void phx_sim_sleep_ns(struct phx_sim_rank *rank, uint64_t ns);
uint64_t phx_sim_now_ns(struct phx_sim_rank *rank); // this rank's clock: offset by clock faults
// All-to-all of fixed cards over the simulated bootstrap: `mine` is [ranks][card_bytes], card i for
// rank i; `theirs` likewise, by sender. Blocks until all live ranks of the world came. The
// bootstrap network fails only with the process. 0, or PHX_ERR_PEER_LOST if a rank died before it
// came.
int phx_sim_exchange(struct phx_sim_rank *rank, const void *mine, void *theirs,
                     uint32_t card_bytes);

// --- what faults do (fault.h schedules them) -----------------------------------------------------

// From a fiber of the same rank they strike at that fiber's own time, its charged work included;
// kill then does not return, and pause returns after the resume. On a dead rank they do nothing.
void phx_world_kill(struct phx_world *world, uint32_t rank);  // the process: no instruction more
void phx_world_pause(struct phx_world *world, uint32_t rank); // SIGSTOP
void phx_world_resume(struct phx_world *world, uint32_t rank);
// Percent of full speed, from 1, of everything charged from now on.
void phx_world_slow(struct phx_world *world, uint32_t rank, uint32_t percent);
void phx_world_clock_offset(struct phx_world *world, uint32_t rank, int64_t offset_ns);

#endif
