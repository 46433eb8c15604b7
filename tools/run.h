// tools/run.h: a scenario on real processes of this host, whose faults are made for real.
//
// Each rank is a process that runs sim/workload_program.h over shared memory, or on a GPU of its
// own over NVLink. It leaves what it got
// in memory that outlives it; the launcher stops, resumes and slows processes, and compares
// everything with the oracle afterwards, by the code that holds simulated runs to it. A kill or a
// stop that waits for a put or a phase is made by the very thread that comes to it.
//
// Where another launcher started the processes (torchrun, mpirun, a shell), each joins: they share
// the same memory, and the lowest rank that lives at the end does the comparing for all.

#ifndef PHX_TOOLS_RUN_H
#define PHX_TOOLS_RUN_H

#include "hw/bootstrap.h"
#include "sim/history.h"
#include "sim/summary.h"
#include "tools/scenario.h"

#define PHX_LIVE_SLACK_MAX 1000000u
#define PHX_LIVE_BYTES_MAX (UINT64_C(4) << 30) // of what all ranks leave behind
// A process has a thread for each peer, so that they grow with the square of the ranks.
#define PHX_LIVE_RANKS_MAX 64u
// When workers outnumber the cores, so that one that could go on waits for its turn.
#define PHX_LIVE_SLACK_CROWDED 100u
// On GPUs: tensors lie in host memory there, and so every row crosses PCIe. And when processes take
// turns on a GPU, for a millisecond or two each.
#define PHX_LIVE_SLACK_GPU 20u
#define PHX_LIVE_SLACK_GPU_CROWDED 2000u
#define PHX_LIVE_WORKERS_GPU 32u

struct phx_live_options {
    uint64_t seed;
    uint32_t workers; // of each rank; 0: as many as fit the cores, 1 to PHX_WORKLOAD_WORKERS
    uint32_t slack;   // what deadlines, durations and times are multiplied with; 0: 1, or
                      // PHX_LIVE_SLACK_CROWDED when workers outnumber the cores
    bool is_joined;   // another launcher starts the ranks, for phx_live_check()
    bool is_quiet;    // what ranks print goes out as it is, without "rank N: " before it
    bool is_cuda;     // on GPUs
    uint32_t ranks_per_gpu;               // at most; 0: 1
    bool sees_own;                        // each process sees its own GPU alone
    uint32_t devices[PHX_LIVE_RANKS_MAX]; // is_cuda: of each rank, by phx_live_gpus()
    uint8_t uuids[PHX_LIVE_RANKS_MAX][16];
};

// Looks for GPUs and gives each rank one. PHX_ERR_UNSUPPORTED: none, or no way between them;
// PHX_ERR_INVALID: not enough.
int phx_live_gpus(const struct phx_workload *w, struct phx_live_options *options,
                  struct phx_message *message);

// PHX_ERR_UNSUPPORTED: what can't be made for real here, by name. PHX_ERR_INVALID: more than
// PHX_LIVE_BYTES_MAX to leave behind, more than PHX_LIVE_RANKS_MAX ranks, a slack or workers that
// are out of range.
int phx_live_check(const struct phx_workload *w, const struct phx_live_options *options,
                   struct phx_message *message);

// Runs it. 0 when it ran, whether it passed or not: *summary and *history are the caller's.
// PHX_ERR_ABORTED: phx_live_interrupt() was called. Nothing is left behind in any case: no process,
// segment, file or socket. The caller has one thread.
int phx_live_run(const struct phx_workload *w, const struct phx_live_options *options,
                 struct phx_summary *summary, struct phx_history *history,
                 struct phx_message *message);
void phx_live_interrupt(void); // for signal handlers

struct phx_live_part { // of one rank in a run that it joined
    bool reports;      // it compared for all: summary and history are there
    bool is_passed;    // the run; the same on all ranks
};
// Runs one rank of it, in this process; `world` says which, and how it meets the others. digest: of
// the scenario. Returns when all ranks have ended. Ranks must agree on everything but `world`'s
// rank: PHX_ERR_MISMATCH names one that does not. A rank that ends early costs what the scenario
// says of it, once all have met. Nothing is left behind in any case.
int phx_live_join(const struct phx_workload *w, const struct phx_live_options *options,
                  const struct phx_bootstrap_options *world, uint64_t digest,
                  struct phx_live_part *part, struct phx_summary *summary,
                  struct phx_history *history, struct phx_message *message);

#endif
