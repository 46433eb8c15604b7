// tools/bench_ep.h: times dispatch and combine on processes of this host, after checking them.
//
// On GPUs (bench_ep_gpu.c) samples are of kernels: their times by CUDA events, the pair's by
// replaying a graph of one, with the L2 cache as the last operation left it, and emptied.
//
// Every rank opens one group, checks one pair, and then, for each sample, in turn: the memcpy
// floor, dispatch, combine. A sample's time is that of the slowest rank, from a barrier on. Bytes
// and the floor: bench/README.md, "phx bench ep".

#ifndef PHX_TOOLS_BENCH_EP_H
#define PHX_TOOLS_BENCH_EP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

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
    bool is_cuda;          // on GPUs; workers 0: as many as fit one
    uint32_t devices[64];  // is_cuda: of each rank
    uint32_t flush_mib;    // is_cuda: written before each cold sample, to empty the L2 cache
};

struct phx_bench_bytes { // of one rank, read and written, that no implementation can avoid
    uint64_t rows;       // sent by this rank: (token, rank) pairs
    uint64_t entries;    // received by this rank: (token, expert) pairs
    uint64_t dispatch;
    uint64_t combine;
    uint64_t away_rows;    // of rows, once for each rank, those to other ranks
    uint64_t away_entries; // (token, expert) pairs whose expert lives elsewhere
};

struct phx_bench_gpu { // on GPUs alone
    char device[64];
    uint32_t workers;
    uint32_t reserved;
    uint64_t sent[2];    // bytes that leave the GPU: dispatch, combine
    double push_us[2];   // the best plain push of as many, all ranks at once
};

struct phx_bench_sample { // nanoseconds, of the slowest rank
    uint64_t floor_ns;    // memcpy that reads and writes as many bytes as the pair must
    uint64_t dispatch_ns;
    uint64_t combine_ns;
    uint64_t pair_ns; // both, from one barrier to the slowest end
};

struct phx_bench_result {
    struct phx_bench_bytes bytes;     // of rank 0
    struct phx_bench_sample *samples; // [samples], the caller's to free; on GPUs then as many cold
    struct phx_bench_gpu gpu;         // of the slowest rank
    double sum_error;                 // of combine, relative to f64, the largest of all ranks
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
