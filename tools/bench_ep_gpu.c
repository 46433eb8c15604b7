// tools/bench_ep_gpu.c: what one rank of phx bench ep does on a GPU.
//
// Timed are graphs: of PAIRS pairs with an event between kernels, for the kernels; of one pair, for
// the pair, replayed PAIRS times between two events; and, cold, of a pair that lines the ranks up,
// a write that empties the L2 cache, and a pair with events. All ranks start a sample together, and
// within one they wait for each other in every operation.

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/gpu/push.h"
#include "engine/group.h"
#include "engine/phalanx_cuda.h"
#include "kernels/launch.h"
#include "tools/bench_ep_internal.h"

#define PAIRS 16u
#define LEAD_IN 2u // pairs, or pushes, before what is timed
#define PUSHES 20u
#define FLUSH_BYTES (UINT64_C(256) << 20) // several times the L2 cache

struct bench_gpu {
    struct phx_bench_rank *r;
    struct phx_bench_tensors d; // in device memory
    cudaStream_t stream;
    cudaEvent_t events[2 * PAIRS + 1];
    cudaGraphExec_t kernels;
    cudaGraphExec_t pair;
    cudaGraphExec_t cold;
    void *flush;
    uint8_t *push_from;
};

static int check(struct bench_gpu *g, cudaError_t error, const char *call)
{
    if (error == cudaSuccess)
        return 0;
    return phx_fail(&g->r->message, PHX_ERR_DEVICE_LOST, "rank %u: %s: %s", g->r->rank, call,
                    cudaGetErrorString(error));
}

// As many blocks as the GPU holds at once, each with tokens of its own.
void phx_bench_gpu_options(struct phx_bench_rank *r, struct phx_group_options *options)
{
    struct phx_shape shape;
    struct phx_group_options any = *options;
    any.division = options->division = PHX_BY_TOKEN;
    any.workers = 1;
    if (options->workers == 0 && phx__shape_make(&any, &shape, NULL) == 0)
        options->workers = phx_gpu_workers_max(&shape);
    r->seat->gpu.workers = options->workers;
}

// --- tensors ------------------------------------------------------------------------------------

struct extent { // of one tensor, in both memories
    void *host;
    void **device;
    uint64_t bytes;
};

static uint32_t extents_fill(struct bench_gpu *g, struct extent *e)
{
    struct phx_bench_rank *r = g->r;
    const struct phx_bench_ep *b = r->b;
    struct phx_bench_tensors *t = &r->t;
    struct phx_bench_tensors *d = &g->d;
    uint64_t tokens = b->tokens;
    uint64_t local = r->hint.experts_local;
    const struct extent all[] = {
        {t->x, (void **)&d->x, tokens * b->hidden * 2},
        {t->topk_idx, (void **)&d->topk_idx, tokens * b->top_k * 8},
        {t->topk_weights, (void **)&d->topk_weights, tokens * b->top_k * 4},
        {t->y, (void **)&d->y, r->rows_max * b->hidden * 2},
        {t->active, (void **)&d->active, b->ranks * 4ull},
        {t->recv_x, (void **)&d->recv_x, r->hint.recv_x_bytes}, // from here on: outputs
        {t->recv_scales, (void **)&d->recv_scales, r->hint.recv_scale_bytes},
        {t->recv_count, (void **)&d->recv_count, local * 4},
        {t->src_info, (void **)&d->src_info, r->rows_max * 4},
        {t->range, (void **)&d->range, local * b->ranks * 8},
        {t->offsets, (void **)&d->offsets, (local + 1) * 8},
        {t->out, (void **)&d->out, tokens * b->hidden * 2},
        {t->token_loss, (void **)&d->token_loss, tokens * 4},
    };
    memcpy(e, all, sizeof all);
    return sizeof all / sizeof all[0];
}
#define TENSORS 13u
#define INPUTS 5u // the first ones
#define OUTPUT_Y 3u
#define OUTPUT_ACTIVE 4u

static int tensors_make(struct bench_gpu *g)
{
    struct extent e[TENSORS];
    uint32_t count = extents_fill(g, e);
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        rc = check(g, cudaMalloc(e[i].device, e[i].bytes + 16), "memory for a tensor");
        if (rc == 0)
            rc = check(g,
                       cudaMemcpy(*e[i].device, e[i].host, e[i].bytes, cudaMemcpyHostToDevice),
                       "copying a tensor");
    }
    return rc;
}

// Outputs to the host; their device memory is overwritten, so that what is not written again shows.
static int outputs_fetch(struct bench_gpu *g, bool poison)
{
    struct extent e[TENSORS];
    uint32_t count = extents_fill(g, e);
    int rc = 0;
    for (uint32_t i = OUTPUT_ACTIVE; rc == 0 && i < count; i++)
        rc = check(g, cudaMemcpy(e[i].host, *e[i].device, e[i].bytes, cudaMemcpyDeviceToHost),
                   "copying an output");
    for (uint32_t i = INPUTS; rc == 0 && poison && i < count; i++)
        rc = check(g, cudaMemset(*e[i].device, 0xA5, e[i].bytes), "poisoning an output");
    return rc;
}

// --- operations ---------------------------------------------------------------------------------

static struct phx_dispatch_args dispatch_args(const struct bench_gpu *g)
{
    const struct phx_bench_tensors *d = &g->d;
    bool is_compact = g->r->b->layout == PHX_LAYOUT_COMPACT;
    return (struct phx_dispatch_args){
        .size = sizeof(struct phx_dispatch_args),
        .token_count = g->r->b->tokens,
        .x = d->x,
        .topk_idx = d->topk_idx,
        .topk_weights = d->topk_weights,
        .active_ranks = d->active,
        .recv_x = d->recv_x,
        .recv_scales = d->recv_scales,
        .recv_count = d->recv_count,
        .recv_src_info = d->src_info,
        .recv_layout_range = d->range,
        .recv_offsets = is_compact ? d->offsets : NULL,
        .recv_rows_max = g->r->rows_max,
    };
}

static struct phx_combine_args combine_args(const struct bench_gpu *g)
{
    const struct phx_bench_tensors *d = &g->d;
    return (struct phx_combine_args){
        .size = sizeof(struct phx_combine_args),
        .token_count = g->r->b->tokens,
        .y = d->y,
        .topk_idx = d->topk_idx,
        .topk_weights = d->topk_weights,
        .active_ranks = d->active,
        .out = d->out,
        .token_loss = d->token_loss,
    };
}

static int dispatch_checked(struct bench_gpu *g)
{
    int rc = outputs_fetch(g, false);
    if (rc == 0 && !phx_bench_dispatch_check(g->r))
        rc = PHX_ERR_CORRUPT;
    return rc;
}

static int combine_checked(struct bench_gpu *g)
{
    int rc = outputs_fetch(g, true);
    if (rc == 0 && !phx_bench_combine_check(g->r))
        rc = PHX_ERR_CORRUPT;
    for (uint32_t i = 0; rc == 0 && i < g->r->b->ranks; i++)
        if (g->r->t.active[i] == 0)
            rc = phx_fail(&g->r->message, PHX_ERR_PEER_LOST, "rank %u masked rank %u", g->r->rank,
                          i);
    return rc;
}

// One pair by the host's calls, from poisoned outputs.
static int first_check(struct bench_gpu *g)
{
    struct phx_bench_rank *r = g->r;
    struct extent e[TENSORS];
    (void)extents_fill(g, e);
    const struct phx_dispatch_args dispatch = dispatch_args(g);
    const struct phx_combine_args combine = combine_args(g);
    int rc = outputs_fetch(g, true);
    if (rc == 0)
        rc = phx_dispatch(r->group, &dispatch, r->handle, NULL, &r->message);
    if (rc == 0)
        rc = dispatch_checked(g);
    if (rc == 0) // what the experts give back
        rc = check(g,
                   cudaMemcpy(*e[OUTPUT_Y].device, e[OUTPUT_Y].host, e[OUTPUT_Y].bytes,
                              cudaMemcpyHostToDevice),
                   "copying expert outputs");
    if (rc == 0)
        rc = phx_combine(r->group, &combine, r->handle, NULL, &r->message);
    return rc == 0 ? combine_checked(g) : rc;
}

// --- graphs -------------------------------------------------------------------------------------

static int pair_enqueue(struct bench_gpu *g, cudaEvent_t between, cudaEvent_t after)
{
    struct phx_bench_rank *r = g->r;
    const struct phx_dispatch_args dispatch = dispatch_args(g);
    const struct phx_combine_args combine = combine_args(g);
    int rc = phx_cuda_dispatch(r->group, &dispatch, r->handle, NULL, g->stream, &r->message);
    if (rc == 0 && between != NULL)
        rc = check(g, cudaEventRecordWithFlags(between, g->stream, cudaEventRecordExternal),
                   "an event in a graph");
    if (rc == 0)
        rc = phx_cuda_combine(r->group, &combine, r->handle, NULL, g->stream, &r->message);
    if (rc == 0 && after != NULL)
        rc = check(g, cudaEventRecordWithFlags(after, g->stream, cudaEventRecordExternal),
                   "an event in a graph");
    return rc;
}

static int event_first(struct bench_gpu *g)
{
    return check(g, cudaEventRecordWithFlags(g->events[0], g->stream, cudaEventRecordExternal),
                 "an event in a graph");
}

static int kernels_enqueue(struct bench_gpu *g)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < LEAD_IN; i++)
        rc = pair_enqueue(g, NULL, NULL);
    if (rc == 0)
        rc = event_first(g);
    for (uint32_t i = 0; rc == 0 && i < PAIRS; i++)
        rc = pair_enqueue(g, g->events[2 * i + 1], g->events[2 * i + 2]);
    return rc;
}

static int one_enqueue(struct bench_gpu *g)
{
    return pair_enqueue(g, NULL, NULL);
}

static int cold_enqueue(struct bench_gpu *g)
{
    int rc = pair_enqueue(g, NULL, NULL);
    if (rc == 0)
        rc = check(g, cudaMemsetAsync(g->flush, 0, FLUSH_BYTES, g->stream), "emptying the cache");
    if (rc == 0)
        rc = event_first(g);
    return rc == 0 ? pair_enqueue(g, g->events[1], g->events[2]) : rc;
}

static int graph_make(struct bench_gpu *g, int (*enqueue)(struct bench_gpu *g),
                      cudaGraphExec_t *exec)
{
    cudaGraph_t graph = NULL;
    int rc = check(g, cudaStreamBeginCapture(g->stream, cudaStreamCaptureModeThreadLocal),
                   "capturing a graph");
    if (rc != 0)
        return rc;
    rc = enqueue(g);
    cudaError_t error = cudaStreamEndCapture(g->stream, &graph);
    if (rc == 0)
        rc = check(g, error, "capturing a graph");
    if (rc == 0)
        rc = check(g, cudaGraphInstantiate(exec, graph, 0), "making a graph");
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    return rc;
}

static int graphs_make(struct bench_gpu *g)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < 2 * PAIRS + 1; i++)
        rc = check(g, cudaEventCreate(&g->events[i]), "an event");
    if (rc == 0)
        rc = graph_make(g, kernels_enqueue, &g->kernels);
    if (rc == 0)
        rc = graph_make(g, one_enqueue, &g->pair);
    if (rc == 0)
        rc = graph_make(g, cold_enqueue, &g->cold);
    return rc;
}

static int graph_run(struct bench_gpu *g, cudaGraphExec_t graph)
{
    g->r->host->barrier(g->r->host->context);
    int rc = check(g, cudaGraphLaunch(graph, g->stream), "launching a graph");
    return rc == 0 ? check(g, cudaStreamSynchronize(g->stream), "a graph") : rc;
}

// --- samples ------------------------------------------------------------------------------------

static int between(struct bench_gpu *g, uint32_t from, uint32_t to, double *us)
{
    float ms = 0.0f;
    int rc = check(g, cudaEventElapsedTime(&ms, g->events[from], g->events[to]), "reading events");
    *us += (double)ms * 1e3;
    return rc;
}

static int kernels_time(struct bench_gpu *g, struct phx_bench_stamps *s)
{
    double dispatch_us = 0.0;
    double combine_us = 0.0;
    int rc = graph_run(g, g->kernels);
    for (uint32_t i = 0; rc == 0 && i < PAIRS; i++) {
        rc = between(g, 2 * i, 2 * i + 1, &dispatch_us);
        if (rc == 0)
            rc = between(g, 2 * i + 1, 2 * i + 2, &combine_us);
    }
    s[PHX_BENCH_DISPATCH].done_ns = (uint64_t)(dispatch_us * 1e3 / PAIRS);
    s[PHX_BENCH_COMBINE].done_ns = (uint64_t)(combine_us * 1e3 / PAIRS);
    return rc;
}

static int pair_time(struct bench_gpu *g, struct phx_bench_stamps *s)
{
    double us = 0.0;
    cudaError_t error = cudaSuccess;
    g->r->host->barrier(g->r->host->context);
    for (uint32_t i = 0; error == cudaSuccess && i < LEAD_IN + PAIRS; i++) {
        if (i == LEAD_IN)
            error = cudaEventRecord(g->events[0], g->stream);
        if (error == cudaSuccess)
            error = cudaGraphLaunch(g->pair, g->stream);
    }
    if (error == cudaSuccess)
        error = cudaEventRecord(g->events[1], g->stream);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(g->stream);
    int rc = check(g, error, "replaying a pair");
    if (rc == 0)
        rc = between(g, 0, 1, &us);
    s[PHX_BENCH_PAIR].done_ns = (uint64_t)(us * 1e3 / PAIRS);
    return rc;
}

static int cold_time(struct bench_gpu *g, struct phx_bench_stamps *s)
{
    double dispatch_us = 0.0;
    double combine_us = 0.0;
    int rc = graph_run(g, g->cold);
    if (rc == 0)
        rc = between(g, 0, 1, &dispatch_us);
    if (rc == 0)
        rc = between(g, 1, 2, &combine_us);
    s[PHX_BENCH_COLD_DISPATCH].done_ns = (uint64_t)(dispatch_us * 1e3);
    s[PHX_BENCH_COLD_COMBINE].done_ns = (uint64_t)(combine_us * 1e3);
    s[PHX_BENCH_COLD_PAIR].done_ns = (uint64_t)((dispatch_us + combine_us) * 1e3);
    return rc;
}

static int samples_take(struct bench_gpu *g)
{
    const struct phx_bench_ep *b = g->r->b;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < b->warmups + b->samples; i++) {
        struct phx_bench_stamps *s = g->r->seat->stamps[i < b->warmups ? 0 : i - b->warmups];
        memset(s, 0, PHX_BENCH_SPANS * sizeof *s); // durations: nobody came at another time
        rc = kernels_time(g, s);
        if (rc == 0)
            rc = pair_time(g, s);
        if (rc == 0)
            rc = cold_time(g, s);
    }
    return rc;
}

// --- the floor ----------------------------------------------------------------------------------

static int push_time(struct bench_gpu *g, const struct phx_push *push, uint32_t blocks, double *us)
{
    g->r->host->barrier(g->r->host->context);
    int rc = 0;
    *us = 0.0;
    for (uint32_t i = 0; rc == 0 && i < LEAD_IN + PUSHES; i++) {
        if (i == LEAD_IN)
            rc = check(g, cudaEventRecord(g->events[0], g->stream), "an event");
        if (rc == 0)
            rc = phx_push_launch(push, blocks, g->stream, &g->r->message);
    }
    if (rc == 0)
        rc = check(g, cudaEventRecord(g->events[1], g->stream), "an event");
    if (rc == 0)
        rc = check(g, cudaStreamSynchronize(g->stream), "a push");
    if (rc == 0)
        rc = between(g, 0, 1, us);
    *us /= PUSHES;
    return rc;
}

// As many bytes as an operation sends off this GPU, dealt to all other ranks, into the rows of our
// regions there: the next operation writes what it needs of them anew.
static int push_kind(struct bench_gpu *g, uint32_t kind)
{
    static const uint32_t blocks[] = {66, 132, 264, 528};
    const struct phx_group *group = g->r->group;
    const struct phx_shape *s = &group->rank.shape;
    struct phx_bench_gpu *result = &g->r->seat->gpu;
    struct phx_push push = {.from = g->push_from};
    uint64_t room = phx_region_bytes(s) - phx_heads_bytes(s);
    int rc = 0;
    for (uint32_t i = 1; i < s->ranks && push.peers < PHX_PUSH_PEERS_MAX; i++)
        push.to[push.peers++] =
            group->to[(group->rank.rank + i) % s->ranks] + phx_heads_bytes(s);
    if (push.peers == 0)
        return 0;
    push.bytes = result->sent[kind] / push.peers / 16 * 16;
    if (push.bytes > room)
        push.bytes = room / 16 * 16;
    result->push_us[kind] = 0.0;
    for (uint32_t i = 0; rc == 0 && i < sizeof blocks / sizeof blocks[0]; i++) {
        double us = 0.0;
        rc = push_time(g, &push, blocks[i], &us);
        if (result->push_us[kind] <= 0.0 || us < result->push_us[kind])
            result->push_us[kind] = us;
    }
    return rc;
}

// Rows of this rank's tokens that go to other ranks.
static uint64_t away_count(const struct phx_bench_rank *r, enum phx_rows_form rows)
{
    struct phx_bench_ep b = *r->b;
    uint32_t to[PHX_RANKS_MAX];
    uint64_t away = 0;
    b.rows = rows;
    phx_bench_rows_count(&b, r->t.topk_idx, to);
    for (uint32_t i = 0; i < b.ranks; i++)
        away += i != r->rank ? to[i] : 0;
    return away;
}

static int floor_time(struct bench_gpu *g)
{
    struct phx_bench_rank *r = g->r;
    const struct phx_shape *s = &r->group->rank.shape;
    struct phx_bench_gpu *result = &r->seat->gpu;
    result->sent[0] = away_count(r, PHX_ROWS_ONCE) * phx_dispatch_row_bytes(s, s->channels);
    result->sent[1] = away_count(r, r->b->rows) * phx_combine_row_bytes(s->channels);
    uint64_t most = result->sent[0] > result->sent[1] ? result->sent[0] : result->sent[1];
    int rc = check(g, cudaMalloc((void **)&g->push_from, most + 16), "memory for the push");
    if (rc == 0)
        rc = push_kind(g, 0);
    if (rc == 0)
        rc = push_kind(g, 1);
    uint64_t both_ns = (uint64_t)((result->push_us[0] + result->push_us[1]) * 1e3);
    for (uint32_t i = 0; i < r->b->samples; i++)
        r->seat->stamps[i][PHX_BENCH_FLOOR].done_ns = both_ns;
    return rc;
}

// --- the run ------------------------------------------------------------------------------------

static int streams_run(struct bench_gpu *g)
{
    struct phx_bench_rank *r = g->r;
    int rc = phx_cuda_begin(r->group, &r->message);
    if (rc != 0)
        return rc;
    rc = graphs_make(g);
    if (rc == 0)
        rc = samples_take(g);
    if (rc == 0)
        rc = floor_time(g);
    if (rc == 0) // once more from poisoned outputs: what was timed is right, too
        rc = graph_run(g, g->pair);
    if (rc == 0)
        rc = dispatch_checked(g);
    if (rc == 0)
        rc = combine_checked(g);
    struct phx_message message = {""};
    int ended = phx_cuda_end(r->group, &message);
    if (rc == 0 && ended != 0)
        rc = phx_fail(&r->message, ended, "%s", message.text);
    return rc;
}

static void bench_gpu_close(struct bench_gpu *g)
{
    struct extent e[TENSORS];
    uint32_t count = extents_fill(g, e);
    (void)cudaDeviceSynchronize();
    const cudaGraphExec_t graphs[] = {g->kernels, g->pair, g->cold};
    for (uint32_t i = 0; i < 3; i++)
        if (graphs[i] != NULL)
            (void)cudaGraphExecDestroy(graphs[i]);
    for (uint32_t i = 0; i < count; i++)
        (void)cudaFree(*e[i].device);
    (void)cudaFree(g->flush);
    (void)cudaFree(g->push_from);
    for (uint32_t i = 0; i < 2 * PAIRS + 1; i++)
        if (g->events[i] != NULL)
            (void)cudaEventDestroy(g->events[i]);
    if (g->stream != NULL)
        (void)cudaStreamDestroy(g->stream);
}

int phx_bench_gpu_run(struct phx_bench_rank *r)
{
    struct bench_gpu g = {.r = r};
    struct cudaDeviceProp p;
    int rc = check(&g, cudaGetDeviceProperties(&p, (int)r->b->devices[r->rank]), "the GPU");
    if (rc == 0)
        (void)snprintf(r->seat->gpu.device, sizeof r->seat->gpu.device, "%.63s", p.name);
    if (rc == 0)
        rc = check(&g, cudaStreamCreateWithFlags(&g.stream, cudaStreamNonBlocking), "a stream");
    if (rc == 0)
        rc = check(&g, cudaMalloc(&g.flush, FLUSH_BYTES), "the flush");
    if (rc == 0)
        rc = tensors_make(&g);
    if (rc == 0)
        rc = first_check(&g);
    if (rc == 0) {
        r->seat->bytes.entries = 0;
        rc = streams_run(&g);
    }
    bench_gpu_close(&g);
    if (rc == 0)
        r->host->barrier(r->host->context); // who leaves is lost to those who still wait
    return rc;
}
