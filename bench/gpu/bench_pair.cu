// bench/gpu/bench_pair.cu: dispatch and combine between the GPUs of one host, in one process, for
// tuning the kernels: phx bench ep has the figures of processes.
//
//     bench_pair [--gpus G] [--ranks R] [--tokens T] [--experts E] [--bf16] [--per-expert]
//                [--compact] [--workers W] [--repeat N]
//
// Ranks are dealt out among the GPUs. A sample is a graph of N operations of one kind on every
// rank's stream, replayed; printed are microseconds an operation, the slowest rank's, least and
// median of 21. `push` is the same number of bytes stored to the other GPUs by a plain kernel.
//
//     nvcc -std=c++20 -arch=sm_90 -O3 --fmad=false -ftz=false -prec-div=true -I. \
//         -o bench_pair bench/gpu/bench_pair.cu kernels/launch.cu kernels/launch_usual.cu \
//         engine/error.c

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>
#include <random>
#include <vector>

#include "kernels/launch.h"
#include "kernels/route.h"

#define CHECK(call)                                                                                \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error_));                        \
            exit(3);                                                                               \
        }                                                                                          \
    } while (0)

struct options {
    uint32_t gpus = 2;
    uint32_t ranks = 0;
    uint32_t tokens = 128;
    uint32_t experts = 256;
    uint32_t workers = 0;
    uint32_t repeat = 20;
    bool bf16 = false;
    bool per_expert = false;
    bool compact = false;
};

struct rank_memory {
    int device;
    cudaStream_t stream;
    struct phx_rank rank; // as it lies on the device
    struct phx_rank *device_rank;
    struct phx_gpu_counters *counters;
    struct phx_launch dispatch;
    struct phx_launch combine;
    std::vector<uint8_t *> regions; // [ranks] by source
    uint64_t sent_bytes[2];         // off this GPU, by dispatch and combine
    uint8_t *push_from;
    std::vector<uint8_t *> push_to;
    cudaEvent_t begin;
    cudaEvent_t end;
};

static void *take(uint64_t bytes)
{
    void *memory = NULL;
    CHECK(cudaMalloc(&memory, bytes + 256));
    CHECK(cudaMemset(memory, 0, bytes + 256));
    return memory;
}
template <typename T> static T *take_array(uint64_t count)
{
    return (T *)take(count * sizeof(T));
}
template <typename T> static T *give(const std::vector<T> &values)
{
    T *memory = take_array<T>(values.size());
    CHECK(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    return memory;
}

static struct phx_shape shape_of(const options &o)
{
    struct phx_shape s;
    memset(&s, 0, sizeof s);
    s.ranks = o.ranks;
    s.experts = o.experts;
    s.experts_local_max = (o.experts + o.ranks - 1) / o.ranks;
    s.top_k = 8;
    s.tokens_max = o.tokens;
    s.hidden = s.channels = 7168;
    s.in_flight = 1;
    s.workers = o.workers;
    s.dtype = o.bf16 ? PHX_BF16 : PHX_FP8_E4M3;
    s.scale_format = PHX_SCALE_F32;
    s.rows = o.per_expert ? PHX_ROWS_PER_EXPERT : PHX_ROWS_ONCE;
    s.layout = o.compact ? PHX_LAYOUT_COMPACT : PHX_LAYOUT_SLOTS;
    s.check = PHX_CHECK_ROUTES;
    s.division = PHX_BY_TOKEN;
    return s;
}

// --- a rank's memory ----------------------------------------------------------------------------

static void take_inputs(const options &o, const struct phx_shape &s, uint32_t r, rank_memory *m,
                        std::vector<rank_memory> &all)
{
    std::mt19937 draw(1000 + r);
    std::vector<uint16_t> x((uint64_t)o.tokens * s.channels);
    std::vector<int64_t> idx(o.tokens * s.top_k);
    std::vector<float> weights(o.tokens * s.top_k);
    for (uint16_t &v : x)
        v = (uint16_t)(0x3F00 + draw() % 0x180 + (draw() % 2 << 15));
    for (uint32_t t = 0; t < o.tokens; t++) {
        std::vector<uint32_t> peers;
        for (uint32_t k = 0; k < s.top_k; k++) {
            int64_t expert;
            bool again;
            do {
                expert = draw() % o.experts;
                again = false;
                for (uint32_t i = 0; i < k; i++)
                    again |= idx[t * s.top_k + i] == expert;
            } while (again);
            idx[t * s.top_k + k] = expert;
            weights[t * s.top_k + k] = (float)(1 + draw() % 100) / 100.0f;
            uint32_t peer = (uint32_t)expert / s.experts_local_max;
            bool known = std::find(peers.begin(), peers.end(), peer) != peers.end();
            if (all[peer].device == m->device || (known && !o.per_expert))
                continue;
            if (!known)
                m->sent_bytes[0] += phx_dispatch_wire_bytes(&s, s.channels);
            all[peer].sent_bytes[1] += phx_combine_wire_bytes(&s, s.channels);
            peers.push_back(peer);
        }
    }
    struct phx_dispatch_op *d = &m->dispatch.dispatch;
    d->x = give(x);
    d->topk_idx = give(idx);
    d->topk_weights = give(weights);
    d->token_count = o.tokens;
}

static void take_outputs(const struct phx_shape &s, rank_memory *m)
{
    uint64_t rows = (uint64_t)s.experts_local_max * s.ranks * s.tokens_max;
    struct phx_dispatch_op *d = &m->dispatch.dispatch;
    struct phx_combine_op *c = &m->combine.combine;
    d->recv_x = take_array<uint8_t>(rows * phx_payload_bytes(&s, s.channels));
    d->recv_scales = take_array<uint32_t>(rows * phx_scale_words(&s, s.channels));
    d->recv_src_info = take_array<int32_t>(rows);
    d->recv_count = take_array<int32_t>(s.experts_local_max);
    d->recv_layout_range = take_array<int64_t>((uint64_t)s.experts_local_max * s.ranks);
    d->common.active_ranks = give(std::vector<int32_t>(s.ranks, 1));
    d->common.timeout_ns = UINT64_C(2000000000);
    d->handle.routes = take_array<uint8_t>(s.ranks * phx_route_stride(&s));
    d->handle.route_at = take_array<uint64_t>(s.ranks);
    d->handle.sent_at = take_array<uint64_t>(s.ranks);
    d->handle.begin = take_array<uint32_t>((uint64_t)s.experts_local_max * s.ranks);
    d->handle.offset = take_array<int64_t>(s.experts_local_max + 1);
    d->handle.count = take_array<uint32_t>(s.experts_local_max);
    d->handle.counted = take_array<uint64_t>(s.ranks);
    d->handle.present = take_array<uint64_t>(s.ranks);
    d->handle.sent_rows = take_array<uint32_t>(s.ranks);
    d->handle.rows_max = rows;
    c->y = take_array<uint16_t>(rows * s.channels);
    c->topk_idx = d->topk_idx;
    c->topk_weights = d->topk_weights;
    c->token_count = d->token_count;
    c->out = take_array<uint16_t>((uint64_t)s.tokens_max * s.channels);
    c->token_loss = take_array<float>(s.tokens_max);
    c->answered = take_array<uint64_t>(s.ranks);
    c->common.active_ranks = d->common.active_ranks;
    c->common.timeout_ns = d->common.timeout_ns;
    c->handle = d->handle;
}

static void take_rank(const struct phx_shape &s, uint32_t r, rank_memory *m)
{
    CHECK(cudaSetDevice(m->device));
    CHECK(cudaStreamCreateWithFlags(&m->stream, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&m->begin));
    CHECK(cudaEventCreate(&m->end));
    std::vector<uint16_t> expert_rank(s.experts);
    std::vector<uint16_t> expert_local(s.experts);
    for (uint32_t e = 0; e < s.experts; e++) {
        expert_rank[e] = (uint16_t)(e / s.experts_local_max);
        expert_local[e] = (uint16_t)(e % s.experts_local_max);
    }
    for (uint32_t p = 0; p < s.ranks; p++)
        m->regions.push_back(take_array<uint8_t>(phx_region_bytes(&s)));
    m->rank.shape = s;
    m->rank.rank = r;
    m->rank.epoch = 1;
    m->rank.experts_local =
        std::min(s.experts_local_max, s.experts - std::min(s.experts, r * s.experts_local_max));
    m->rank.expert_rank = give(expert_rank);
    m->rank.expert_local = give(expert_local);
    m->rank.stage = take_array<uint8_t>(phx_stage_bytes(&s));
    m->rank.state = take_array<struct phx_rank_state>(1);
    m->rank.suspected = take_array<uint64_t>(s.ranks);
    m->rank.fates = take_array<uint64_t>(PHX_WAIT_PHASES * s.ranks);
    m->rank.owed = take_array<uint64_t>(PHX_WAIT_PHASES * s.ranks);
    m->counters = take_array<struct phx_gpu_counters>(1);
    m->push_from = take_array<uint8_t>(UINT64_C(64) << 20);
}

static void connect(const struct phx_shape &s, uint32_t r, std::vector<rank_memory> &all)
{
    rank_memory *m = &all[r];
    CHECK(cudaSetDevice(m->device));
    std::vector<uint8_t *> from(m->regions);
    std::vector<uint8_t *> to;
    for (uint32_t p = 0; p < s.ranks; p++)
        to.push_back(all[p].regions[r]);
    m->rank.from = give(from);
    m->rank.to = give(to);
    m->device_rank = take_array<struct phx_rank>(1);
    CHECK(cudaMemcpy(m->device_rank, &m->rank, sizeof m->rank, cudaMemcpyHostToDevice));
    m->dispatch.rank = m->device_rank;
    m->dispatch.kind = PHX_DISPATCH;
    m->dispatch.halves = PHX_HALF_SEND | PHX_HALF_RECEIVE;
    m->combine.rank = m->device_rank;
    m->combine.kind = PHX_COMBINE;
    m->combine.halves = PHX_HALF_SEND | PHX_HALF_RECEIVE;
}

// --- timing -------------------------------------------------------------------------------------

__global__ void push_kernel(const uint4 *from, uint4 *const *to, uint32_t peers, uint64_t pieces)
{
    uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < pieces; i += step)
        to[i % peers][i / peers] = from[i];
}

enum kind { DISPATCH, COMBINE, PAIR, PUSH_DISPATCH, PUSH_COMBINE };

static void enqueue(const struct phx_shape &s, rank_memory *m, enum kind kind, uint4 **push_to,
                    uint32_t peers)
{
    struct phx_message message = {""};
    int rc = 0;
    if (kind == DISPATCH || kind == PAIR)
        rc = phx_gpu_launch(&s, &m->dispatch, m->counters, m->stream, &message);
    if (rc == 0 && (kind == COMBINE || kind == PAIR))
        rc = phx_gpu_launch(&s, &m->combine, m->counters, m->stream, &message);
    if (kind >= PUSH_DISPATCH && peers > 0)
        push_kernel<<<132, 512, 0, m->stream>>>((const uint4 *)m->push_from, push_to, peers,
                                                m->sent_bytes[kind - PUSH_DISPATCH] / 16);
    if (rc != 0) {
        fprintf(stderr, "%s\n", message.text);
        exit(3);
    }
}

static void measure(const char *name, const options &o, const struct phx_shape &s,
                    std::vector<rank_memory> &all, enum kind kind)
{
    std::vector<cudaGraphExec_t> graphs;
    for (rank_memory &m : all) {
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        CHECK(cudaSetDevice(m.device));
        std::vector<uint4 *> to;
        for (rank_memory &peer : all)
            if (peer.device != m.device)
                to.push_back((uint4 *)(peer.push_from + (UINT64_C(32) << 20)));
        uint4 **push_to = give(to);
        CHECK(cudaStreamBeginCapture(m.stream, cudaStreamCaptureModeThreadLocal));
        for (uint32_t i = 0; i < o.repeat; i++)
            enqueue(s, &m, kind, push_to, (uint32_t)to.size());
        CHECK(cudaStreamEndCapture(m.stream, &graph));
        CHECK(cudaGraphInstantiate(&exec, graph, 0));
        graphs.push_back(exec);
    }
    std::vector<float> samples;
    for (uint32_t sample = 0; sample < 23; sample++) {
        for (size_t r = 0; r < all.size(); r++) {
            CHECK(cudaSetDevice(all[r].device));
            CHECK(cudaGraphLaunch(graphs[r], all[r].stream)); // lines the ranks up
            CHECK(cudaEventRecord(all[r].begin, all[r].stream));
            CHECK(cudaGraphLaunch(graphs[r], all[r].stream));
            CHECK(cudaEventRecord(all[r].end, all[r].stream));
        }
        float most = 0.0f;
        for (rank_memory &m : all) {
            float ms = 0.0f;
            CHECK(cudaSetDevice(m.device));
            CHECK(cudaEventSynchronize(m.end));
            CHECK(cudaEventElapsedTime(&ms, m.begin, m.end));
            most = std::max(most, ms * 1000.0f / (float)o.repeat);
        }
        if (sample >= 2)
            samples.push_back(most);
    }
    std::sort(samples.begin(), samples.end());
    double megabytes = kind == DISPATCH || kind == PUSH_DISPATCH
                           ? (double)all[0].sent_bytes[0] / 1e6
                       : kind == PAIR ? (double)(all[0].sent_bytes[0] + all[0].sent_bytes[1]) / 1e6
                                      : (double)all[0].sent_bytes[1] / 1e6;
    printf("%-14s %7.2f %7.2f us   %6.2f MB off rank 0\n", name, samples[0],
           samples[samples.size() / 2], megabytes);
}

static void check_masks(std::vector<rank_memory> &all)
{
    for (size_t r = 0; r < all.size(); r++) {
        std::vector<uint64_t> suspected(all.size());
        CHECK(cudaSetDevice(all[r].device));
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaMemcpy(suspected.data(), all[r].rank.suspected, suspected.size() * 8,
                         cudaMemcpyDeviceToHost));
        for (size_t p = 0; p < suspected.size(); p++)
            if (suspected[p] != 0)
                printf("rank %zu masked rank %zu, cause %llu\n", r, p,
                       (unsigned long long)suspected[p]);
    }
}

static uint32_t number(int argc, char **argv, int *i)
{
    if (*i + 1 >= argc) {
        fprintf(stderr, "%s needs a number\n", argv[*i]);
        exit(2);
    }
    return (uint32_t)strtoul(argv[++*i], NULL, 10);
}

static options parse(int argc, char **argv)
{
    options o;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--gpus") == 0)
            o.gpus = number(argc, argv, &i);
        else if (strcmp(a, "--ranks") == 0)
            o.ranks = number(argc, argv, &i);
        else if (strcmp(a, "--tokens") == 0)
            o.tokens = number(argc, argv, &i);
        else if (strcmp(a, "--experts") == 0)
            o.experts = number(argc, argv, &i);
        else if (strcmp(a, "--workers") == 0)
            o.workers = number(argc, argv, &i);
        else if (strcmp(a, "--repeat") == 0)
            o.repeat = number(argc, argv, &i);
        else if (strcmp(a, "--bf16") == 0)
            o.bf16 = true;
        else if (strcmp(a, "--compact") == 0)
            o.compact = true;
        else if (strcmp(a, "--per-expert") == 0)
            o.per_expert = true;
        else {
            fprintf(stderr, "not understood: %s\n", a);
            exit(2);
        }
    }
    if (o.ranks == 0)
        o.ranks = o.gpus;
    if (o.workers == 0)
        o.workers = 132 / ((o.ranks + o.gpus - 1) / o.gpus);
    return o;
}

int main(int argc, char **argv)
{
    options o = parse(argc, argv);
    struct phx_shape s = shape_of(o);
    std::vector<rank_memory> all(o.ranks);
    for (uint32_t g = 0; g < o.gpus; g++) {
        CHECK(cudaSetDevice((int)g));
        for (uint32_t p = 0; p < o.gpus; p++)
            if (p != g)
                CHECK(cudaDeviceEnablePeerAccess((int)p, 0));
    }
    for (uint32_t r = 0; r < o.ranks; r++) {
        all[r].device = (int)(r % o.gpus);
        memset(&all[r].dispatch, 0, sizeof all[r].dispatch);
        memset(&all[r].combine, 0, sizeof all[r].combine);
        memset(&all[r].rank, 0, sizeof all[r].rank);
        all[r].sent_bytes[0] = all[r].sent_bytes[1] = 0;
    }
    for (uint32_t r = 0; r < o.ranks; r++)
        take_rank(s, r, &all[r]);
    for (uint32_t r = 0; r < o.ranks; r++) {
        connect(s, r, all);
        take_inputs(o, s, r, &all[r], all);
        take_outputs(s, &all[r]);
    }
    printf("%u ranks on %u GPUs, %u workers each; %u tokens, hidden 7168, top-8 of %u, %s, %s%s\n",
           o.ranks, o.gpus, o.workers, o.tokens, o.experts, o.bf16 ? "bf16" : "fp8",
           o.per_expert ? "per expert" : "once", o.compact ? ", compact" : "");
    measure("dispatch", o, s, all, DISPATCH);
    measure("combine", o, s, all, COMBINE);
    measure("pair", o, s, all, PAIR);
    if (o.gpus > 1) {
        measure("push dispatch", o, s, all, PUSH_DISPATCH);
        measure("push combine", o, s, all, PUSH_COMBINE);
    }
    check_masks(all);
    return 0;
}
