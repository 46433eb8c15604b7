// tools/bench_ep.h: times dispatch and combine on processes of this host, after checking them.
//
// Every rank opens one group, checks one pair, and then, for each sample, in turn: the memcpy
// floor, dispatch, combine. A sample's time is that of the slowest rank, from a barrier on. Bytes
// and the floor: bench/README.md, "phx bench ep".

#ifndef PHX_TOOLS_BENCH_EP_H
#define PHX_TOOLS_BENCH_EP_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/phalanx.h"

struct phx_bench_ep {
    uint32_t ranks;
    uint32_t workers; // of each rank
    uint32_t spin_us; // PHX_CREW_SPIN_AUTO
    uint32_t tokens;
    uint32_t hidden;
    uint32_t experts;
    uint32_t top_k;
    enum phx_dtype dtype;
    enum phx_scale_format scales;
    enum phx_rows_form rows;
    enum phx_output_layout layout;
    bool is_tolerant; // false: PHX_TIMEOUT_NONE
    uint32_t warmups;
    uint32_t samples;
    uint64_t seed;
};

struct phx_bench_bytes { // of one rank, read and written, that no implementation can avoid
    uint64_t rows;       // sent by this rank: (token, rank) pairs
    uint64_t entries;    // received by this rank: (token, expert) pairs
    uint64_t dispatch;
    uint64_t combine;
};

struct phx_bench_sample { // nanoseconds, of the slowest rank
    uint64_t floor_ns;    // memcpy that reads and writes as many bytes as the pair must
    uint64_t dispatch_ns;
    uint64_t combine_ns;
    uint64_t pair_ns; // both, from one barrier to the slowest end
};

struct phx_bench_result {
    struct phx_bench_bytes bytes;     // of rank 0
    struct phx_bench_sample *samples; // [samples], the caller's to free
    double sum_error;                 // of combine, relative to f64, the largest of all ranks
};

// PHX_ERR_CORRUPT: an output was wrong, and the message says which. Nothing was timed then.
int phx_bench_ep_run(const struct phx_bench_ep *bench, struct phx_bench_result *result,
                     struct phx_message *message);

// One signal, one way, between two processes, and a bare cache line between the same two: `samples`
// batches of `rounds` round trips; nanoseconds of one way.
struct phx_bench_signal {
    double signal_ns;
    double line_ns;
};
int phx_bench_signal_run(uint32_t samples, uint32_t rounds, struct phx_bench_signal *result,
                         struct phx_message *message);

#endif
