// sim/workload.h: an MoE workload on a simulated cluster, through the public interface, checked.
//
// For each step and layer every rank draws its tokens and their routing from the seed, dispatches
// them, computes stand-in experts on what it received, and combines. Both outputs are compared bit
// for bit with sim/oracle.h, given the masks that the rank itself reported; then the outcome of the
// run is compared with what the scenario expects. Whatever differs is a violation.
//
// Everything here is a function of the workload and the seed. Integers and single, correctly
// rounded float operations only: no libm.

#ifndef PHX_SIM_WORKLOAD_H
#define PHX_SIM_WORKLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/phalanx.h"
#include "sim/fault.h"
#include "sim/summary.h"
#include "sim/world.h"

enum phx_routing {
    PHX_ROUTING_UNIFORM = 1,
    PHX_ROUTING_BALANCED,
    PHX_ROUTING_ZIPF,
    PHX_ROUTING_TRACE // rows of a table, taken one after the other, over and over
};

struct phx_moe_load { // one `moe:` of a scenario
    uint32_t steps;
    uint32_t layers;
    uint32_t tokens; // per rank and operation
    uint32_t hidden;
    uint32_t experts;
    uint32_t top_k;
    uint32_t dtype;   // enum phx_dtype, of dispatch
    uint32_t scales;  // enum phx_scale_format
    uint32_t rows;    // enum phx_rows_form
    uint32_t layout;  // enum phx_output_layout
    uint32_t routing; // enum phx_routing
    uint64_t zipf_millionths;
    const int32_t *trace; // TRACE: [trace_rows, top_k] experts, or -1; borrowed until the run ends
    uint64_t trace_rows;
    bool hooks; // send and receive halves, the expert of one micro-batch over the other's wait
    bool renormalise;
};

enum phx_alive {
    PHX_ALIVE_UNCHECKED = 0,
    PHX_ALIVE_ALL,
    PHX_ALIVE_ALL_BUT_FAULTED,
    PHX_ALIVE_LIST
};
#define PHX_EXPECT_NONE UINT64_MAX

struct phx_expectation {
    uint64_t survivors_finish_within_ps; // from a fault to the end, on the last survivor, of the
                                         // operation it struck. PHX_EXPECT_NONE: not checked
    uint64_t lost_tokens_max;            // PHX_EXPECT_NONE: not checked
    uint32_t alive;                      // enum phx_alive: each survivor's active_ranks at the end
    struct phx_rank_set alive_list;      // PHX_ALIVE_LIST
    uint64_t progress_within_ps;         // with freeze_ps; 0: phx_workload_progress_ps()
    bool is_healthy_stay; // two ranks that no fault touches, nor the path between them, never mask
                          // one another
    bool may_miss;        // a fault whose moment does not come is no violation
    bool is_corrupt_checked;     // `corrupt` is what must be reported, no more and no less
    struct phx_rank_set corrupt; // sources that some rank reported as corrupt
};

struct phx_workload {
    struct phx_cluster cluster;
    const struct phx_moe_load *loads; // run one after the other, each in a group of its own
    uint32_t load_count;
#define PHX_WORKLOAD_WORKERS 4u
    uint32_t workers;    // per rank; 0: PHX_WORKLOAD_WORKERS
    uint64_t timeout_us; // D
    bool is_full;        // payload: every channel is stored, not the first 128 alone
    bool row_check;      // rows carry a check of their own (options.check of a group)
    bool is_by_token;    // workers send their own tokens to every peer (options.division)
    // Not 0: faults are over by then. A fault strikes no more, and what was to last longer heals
    // (what is for ever, such as a kill, stays). From then on what any living rank has pending, or
    // begins, ends within expect.progress_within_ps, and nobody is newly masked for being late
    // after the first two operations begun past it.
    uint64_t freeze_ps;
    const struct phx_fault *faults;
    uint32_t fault_count;
    struct phx_expectation expect;
};

struct phx_history;
struct phx_trace_sink;
struct phx_workload_options { // how to run it
    uint64_t seed;
    struct phx_schedule schedule;
    enum phx_fiber_mode fibers;
    const char *trace_path;            // Chrome trace events go there; NULL: no trace
    const struct phx_trace_sink *sink; // trace.h; told what the trace is told; NULL: nobody
    // NULL: none. Else whom each rank sees is not found out but taken from a recorded run
    // (sim/history.h), no operation has a deadline, and outputs are compared with that run's. The
    // workload is that run's, without its faults; expectations are not looked at.
    const struct phx_history *history;
    // For benchmarks; NULL: none. Told when a run turns from the simulated cluster to what stands
    // around it (drawing inputs, the stand-in for experts, the comparison with the reference), and
    // when it turns back.
    void (*aside)(void *context, bool begins);
    void *aside_context;
};

// Most memory that payload: full may take, on all ranks together.
#define PHX_WORKLOAD_BYTES_MAX (UINT64_C(4) << 30)
// What a run would reserve; UINT64_MAX when that is beyond 64 bits. PHX_ERR_INVALID: a load that no
// group can be opened for; the message says why.
int phx_workload_bytes(const struct phx_workload *w, uint64_t *bytes, struct phx_message *message);

// What a pending operation may take once faults are frozen, if the scenario does not say: two
// deadlines of waits, twice (an operation begun late waits for one begun before it), and 10 ms.
uint64_t phx_workload_progress_ps(const struct phx_workload *w);

// Runs it and fills *summary, which the caller gives back with phx_summary_free(). 0 when it ran,
// whether it passed or not; a negative enum phx_error when it could not be run.
int phx_workload_run(const struct phx_workload *w, const struct phx_workload_options *options,
                     struct phx_summary *summary, struct phx_message *message);

#endif
