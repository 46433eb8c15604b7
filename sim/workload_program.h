// sim/workload_program.h: the program of one rank: what a serving process does with Phalanx.
//
// It opens a group per load, and then, pair after pair: take inputs, dispatch, experts, combine.
// With hooks two micro-batches are in flight, and the experts of one run over the other's
// communication. What stands around it is a table: sim/workload_rank.c runs it on a simulated rank,
// phx run in a process of its own. It runs on the rank's control thread, whose stack may be small:
// big things live in memory of the table's.

#ifndef PHX_SIM_WORKLOAD_PROGRAM_H
#define PHX_SIM_WORKLOAD_PROGRAM_H

#include "sim/workload_internal.h"

struct phx_program_ops {                                // entries marked * may be NULL
    void *(*alloc)(void *context, uint64_t size_bytes); // zeroed; NULL: no memory
    int (*open)(void *context, const struct phx_group_options *options, struct phx_group **group,
                struct phx_message *message);
    void (*opened)(void *context); // all groups are
    // What this rank gives to a pair. NULL: no memory.
    const struct phx_oracle_source *(*inputs)(void *context, struct phx_stage *stage,
                                              uint64_t pair);
    // * Fates to be taken instead of found out (phx_dispatch_args.replay); operations count from 0
    // through all loads.
    const uint8_t *(*replay)(void *context, uint64_t operation);
    const uint8_t *(*replay_masked)(void *context, uint64_t operation); // with it
    void (*compute)(void *context, uint64_t for_ns); // stands for the experts' work
    // * What follows is not the rank's work but stands around it; then no more.
    void (*aside)(void *context, bool begins);
    // A call of an operation; is_first: and the operation with it. Then the call ended.
    void (*call_begins)(void *context, uint64_t operation, bool is_first);
    void (*call_ended)(void *context, const struct phx_group *group, uint64_t operation,
                       uint32_t kind, uint64_t number);
    void (*dispatched)(void *context, struct phx_stage *stage, uint64_t pair,
                       const struct phx_dispatch_result *result);
    void (*combined)(void *context, struct phx_stage *stage, uint64_t pair,
                     const struct phx_combine_result *result);
    void (*violate)(void *context, const char *rule, uint32_t kind, uint64_t number,
                    const char *text);
    // How it ended (enum phx_program_end), before it closes its groups. Not called when there was
    // no memory to begin.
    void (*leave)(void *context, uint32_t end);
};

enum phx_program_end {
    PHX_PROGRAM_DONE = 1,
    PHX_PROGRAM_FAILED, // a violation says why
    PHX_PROGRAM_STOPPED // before the operation after the begins_max-th
};

struct phx_program {
    const struct phx_program_ops *ops;
    void *context;
    struct phx_run *run; // its stages and workload alone
    uint32_t rank;
    int32_t *active;     // [ranks] all 1
    uint64_t begins_max; // operations that it may begin; UINT64_MAX: all
};

// Returns enum phx_program_end.
uint32_t phx_program_run(const struct phx_program *program);

#endif
