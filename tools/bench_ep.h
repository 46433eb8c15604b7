// tools/bench_ep.h: times dispatch and combine, on processes of this host, on its GPUs or in the
// simulator, after checking them.
//
// Every rank opens its groups, checks one pair of each, and then, for each sample, in turn: the
// floor, dispatch, combine, a pair of both. A sample's time is from when the last rank came to a
// barrier to when the slowest is done. What is counted, and the floors: bench/README.md.

#ifndef PHX_TOOLS_BENCH_EP_H
#define PHX_TOOLS_BENCH_EP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/phalanx.h"
#include "hw/cuda_topology.h"
#include "hw/shm.h"
#include "sim/world.h"

enum phx_bench_transport { PHX_BENCH_SHM = 1, PHX_BENCH_SIM, PHX_BENCH_CUDA };

struct phx_bench_ep {
    enum phx_bench_transport transport;
    uint32_t ranks;
    uint32_t workers; // of each rank
    uint32_t spin_us; // shm: PHX_CREW_SPIN_AUTO
    uint32_t tokens;
    uint32_t hidden;
    uint32_t experts;
    uint32_t top_k;
    enum phx_dtype dtype;
    enum phx_scale_format scales;
    enum phx_rows_form rows;
    enum phx_output_layout layout;
    enum phx_fault_tolerance fault_tolerance;
    bool is_compared; // each sample has pairs with the other fault tolerance, too
    uint32_t warmups;
    uint32_t samples;
    uint64_t seed;
    struct phx_cluster cluster; // sim
    uint32_t ranks_per_gpu;     // cuda, at most
    uint32_t devices[PHX_GPUS_MAX]; // cuda: of each rank
};

enum phx_bench_span {
    PHX_BENCH_FLOOR = 0, // shm: a memcpy that moves as many bytes. sim: what the links take
    PHX_BENCH_DISPATCH,
    PHX_BENCH_COMBINE,
    PHX_BENCH_PAIR,  // both, without a barrier between
    PHX_BENCH_OTHER, // the same with the other fault tolerance
    PHX_BENCH_OTHER_AGAIN,
    PHX_BENCH_PAIR_AGAIN, // in this order, or the other way round in every other sample
    PHX_BENCH_SPANS
};
// On GPUs operations begin with the L2 cache as the last ones left it; these with an empty one.
#define PHX_BENCH_COLD_DISPATCH PHX_BENCH_OTHER
#define PHX_BENCH_COLD_COMBINE PHX_BENCH_OTHER_AGAIN
#define PHX_BENCH_COLD_PAIR PHX_BENCH_PAIR_AGAIN

struct phx_bench_gpu { // cuda
    char device[64];
    uint32_t workers;
    uint32_t reserved;
    uint64_t sent[2];  // bytes that leave a GPU: dispatch, combine
    double push_us[2]; // the best plain push of as many, all ranks at once
};

struct phx_bench_bytes {
    uint64_t rows;     // sent by this rank: (token, rank) pairs
    uint64_t entries;  // received by this rank: (token, expert) pairs
    uint64_t dispatch; // read and written, or (sim) sent, that no implementation can avoid
    uint64_t combine;
};

struct phx_bench_sample {
    uint64_t ns[PHX_BENCH_SPANS]; // real, or (sim) virtual
};

struct phx_bench_result {
    struct phx_bench_bytes bytes;     // of rank 0, in the first sample
    struct phx_bench_sample *samples; // [samples], the caller's to free
    double sum_error;                 // of combine, relative to f64, the largest of all ranks
    struct phx_shm_pages_count pages; // shm: of all ranks
    struct phx_bench_gpu gpu;         // cuda: the most of any rank
};

// PHX_ERR_CORRUPT: an output was wrong, and the message says which. Nothing was timed then.
int phx_bench_ep_run(const struct phx_bench_ep *bench, struct phx_bench_result *result,
                     struct phx_message *message);

// The figures of a run on GPUs, as a table or as one JSON object whose results are rows. 0, or
// PHX_ERR_NO_MEMORY.
int phx_bench_gpu_print(const struct phx_bench_ep *bench, const struct phx_bench_result *result,
                        bool is_json, FILE *out);

// One signal, one way, between two processes, and a bare cache line between the same two: `samples`
// batches of `rounds` round trips; nanoseconds of one way.
struct phx_bench_signal {
    double signal_ns;
    double line_ns;
};
int phx_bench_signal_run(uint32_t samples, uint32_t rounds, struct phx_bench_signal *result,
                         struct phx_message *message);

#endif
