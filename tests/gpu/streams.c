// tests/gpu/streams.c: operations on streams between processes with a GPU each: a captured graph
// gives what the host's calls give, byte for byte, and goes by the masks of its own time: a rank is
// killed between two replays of one graph, and the survivor's next replay completes without it.
//
// Exit status: 0 all held, 1 something did not, 77 no two GPUs here.

#include <cuda_runtime_api.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/phalanx_cuda.h"
#include "hw/crew.h"

#define RANKS 2u
#define TOKENS 32u
#define HIDDEN 512u
#define EXPERTS 8u
#define TOP_K 4u
#define REPLAYS 5u
#define VICTIM 1u

struct arena {
    int failed[RANKS]; // the line of what did not hold
    char said[RANKS][512];
};

struct rank {
    struct phx_crew_rank *self;
    struct arena *arena;
    uint32_t number;
    struct phx_group *group;
    struct phx_handle *handle;
    struct phx_dispatch_args dispatch; // device memory, all of it
    struct phx_combine_args combine;
    struct phx_outcome *outcomes; // [2] mapped host memory: dispatch, combine
    uint64_t recv_bytes;
    struct phx_message message;
};

static void say(struct rank *r, int line, const char *what)
{
    r->arena->failed[r->number] = line;
    (void)snprintf(r->arena->said[r->number], sizeof r->arena->said[0], "%.200s: %s", what,
                   r->message.text);
}

// The first thing that does not hold ends the rank's test.
#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            say(r, __LINE__, #condition);                                                          \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static void *device_take(uint64_t bytes, const void *from)
{
    void *memory = NULL;
    if (cudaMalloc(&memory, bytes) != cudaSuccess ||
        (from != NULL ? cudaMemcpy(memory, from, bytes, cudaMemcpyHostToDevice)
                      : cudaMemset(memory, 0, bytes)) != cudaSuccess)
        return NULL;
    return memory;
}

static int tensors_make(struct rank *r, const struct phx_size_hint *hint)
{
    static uint16_t x[TOKENS * HIDDEN];
    static int64_t topk[TOKENS * TOP_K];
    static float weights[TOKENS * TOP_K];
    static int32_t active[RANKS] = {1, 1};
    for (uint32_t i = 0; i < TOKENS * HIDDEN; i++)
        x[i] = (uint16_t)(0x3f00 + (i * 37 + r->number * 11) % 256);
    for (uint32_t i = 0; i < TOKENS * TOP_K; i++) {
        topk[i] = (int64_t)((i / TOP_K + i % TOP_K * (EXPERTS / TOP_K) + r->number) % EXPERTS);
        weights[i] = 0.25f;
    }
    uint64_t rows = hint->recv_rows_max;
    r->recv_bytes = hint->recv_x_bytes;
    r->dispatch = (struct phx_dispatch_args){
        .size = sizeof r->dispatch,
        .token_count = TOKENS,
        .x = device_take(sizeof x, x),
        .topk_idx = device_take(sizeof topk, topk),
        .topk_weights = device_take(sizeof weights, weights),
        .active_ranks = device_take(sizeof active, active),
        .recv_x = device_take(hint->recv_x_bytes, NULL),
        .recv_scales = device_take(hint->recv_scale_bytes, NULL),
        .recv_count = device_take(EXPERTS * 4, NULL),
        .recv_src_info = device_take(rows * 4, NULL),
        .recv_layout_range = device_take(EXPERTS * RANKS * 8, NULL),
    };
    r->combine = (struct phx_combine_args){
        .size = sizeof r->combine,
        .token_count = TOKENS,
        .y = device_take(rows * HIDDEN * 2, NULL),
        .topk_idx = r->dispatch.topk_idx,
        .topk_weights = r->dispatch.topk_weights,
        .active_ranks = r->dispatch.active_ranks,
        .out = device_take(sizeof x, NULL),
        .token_loss = device_take(TOKENS * 4, NULL),
    };
    r->outcomes = phx_cuda_host_alloc(2 * sizeof *r->outcomes);
    HOLDS(r->outcomes != NULL && r->combine.token_loss != NULL);
    return 0;
}

static int rank_open(struct rank *r)
{
    struct phx_group_options o;
    struct phx_size_hint hint;
    phx_group_options_init(&o);
    o.ranks = RANKS;
    o.rank = r->number;
    o.experts = EXPERTS;
    o.top_k = TOP_K;
    o.tokens_max = TOKENS;
    o.hidden = HIDDEN;
    o.workers = 16;
    o.division = PHX_BY_TOKEN;
    o.timeout_us = 5000000; // not what ends a wait here
    HOLDS(phx_size_hint(&o, &hint, &r->message) == 0);
    HOLDS(phx_crew_rank_open(r->self, &o, &r->group, &r->message) == 0);
    HOLDS(phx_handle_create(r->group, &r->handle, &r->message) == 0);
    return tensors_make(r, &hint);
}

static int enqueue(struct rank *r, cudaStream_t stream)
{
    HOLDS(phx_cuda_dispatch(r->group, &r->dispatch, r->handle, &r->outcomes[0], stream,
                            &r->message) == 0);
    HOLDS(phx_cuda_combine(r->group, &r->combine, r->handle, &r->outcomes[1], stream,
                           &r->message) == 0);
    return 0;
}

static int capture(struct rank *r, cudaStream_t stream, cudaGraphExec_t *exec)
{
    cudaGraph_t graph;
    HOLDS(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess);
    if (enqueue(r, stream) != 0)
        return 1;
    HOLDS(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    HOLDS(cudaGraphInstantiate(exec, graph, 0) == cudaSuccess);
    return 0;
}

static int replay(struct rank *r, cudaStream_t stream, cudaGraphExec_t exec)
{
    HOLDS(cudaGraphLaunch(exec, stream) == cudaSuccess);
    HOLDS(cudaStreamSynchronize(stream) == cudaSuccess);
    return 0;
}

// What the host's calls gave and what the graph gave.
static int compare(struct rank *r, cudaStream_t stream, cudaGraphExec_t exec)
{
    uint8_t *first = malloc(r->recv_bytes);
    uint8_t *again = malloc(r->recv_bytes);
    HOLDS(first != NULL && again != NULL);
    HOLDS(cudaMemcpy(first, r->dispatch.recv_x, r->recv_bytes, cudaMemcpyDeviceToHost) ==
          cudaSuccess);
    HOLDS(cudaMemset(r->dispatch.recv_x, 0, r->recv_bytes) == cudaSuccess);
    for (uint32_t i = 0; i < REPLAYS; i++) {
        if (replay(r, stream, exec) != 0)
            return 1;
        HOLDS(r->outcomes[0].number == i + 2 && r->outcomes[1].number == i + 2);
        HOLDS(r->outcomes[1].masked_count == 0);
        for (uint32_t p = 0; p < RANKS; p++)
            HOLDS(phx_rank_set_has(&r->outcomes[0].counted, p) &&
                  phx_rank_set_has(&r->outcomes[0].present, p) &&
                  phx_rank_set_has(&r->outcomes[1].answered, p));
    }
    HOLDS(cudaMemcpy(again, r->dispatch.recv_x, r->recv_bytes, cudaMemcpyDeviceToHost) ==
          cudaSuccess);
    HOLDS(memcmp(first, again, r->recv_bytes) == 0);
    free(first);
    free(again);
    return 0;
}

// The victim is gone; the graph does not know it.
static int survive(struct rank *r, cudaStream_t stream, cudaGraphExec_t exec)
{
    int32_t active[RANKS];
    float loss[TOKENS];
    for (uint32_t i = 0; i < REPLAYS; i++)
        if (replay(r, stream, exec) != 0)
            return 1;
    HOLDS(r->outcomes[1].number == 1 + 2 * REPLAYS);
    HOLDS(phx_rank_set_has(&r->outcomes[1].masked, VICTIM) && r->outcomes[1].masked_count == 1);
    HOLDS(!phx_rank_set_has(&r->outcomes[1].answered, VICTIM));
    HOLDS(!phx_rank_set_has(&r->outcomes[0].counted, VICTIM));
    HOLDS(!phx_rank_set_has(&r->outcomes[0].present, VICTIM));
    HOLDS(cudaMemcpy(active, r->dispatch.active_ranks, sizeof active, cudaMemcpyDeviceToHost) ==
          cudaSuccess);
    HOLDS(cudaMemcpy(loss, r->combine.token_loss, sizeof loss, cudaMemcpyDeviceToHost) ==
          cudaSuccess);
    HOLDS(active[r->number] == 1 && active[VICTIM] == 0);
    for (uint32_t t = 0; t < TOKENS; t++) // two of four experts live on each rank
        HOLDS(loss[t] == 0.5f);
    return 0;
}

static int test(struct rank *r)
{
    cudaStream_t stream;
    cudaGraphExec_t exec;
    if (rank_open(r) != 0)
        return 1;
    HOLDS(phx_dispatch(r->group, &r->dispatch, r->handle, NULL, &r->message) == 0);
    HOLDS(phx_combine(r->group, &r->combine, r->handle, NULL, &r->message) == 0);
    HOLDS(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    HOLDS(phx_cuda_dispatch(r->group, &r->dispatch, r->handle, NULL, stream, &r->message) ==
          PHX_ERR_STATE); // not begun
    HOLDS(phx_cuda_begin(r->group, &r->message) == 0);
    HOLDS(phx_dispatch(r->group, &r->dispatch, r->handle, NULL, &r->message) == PHX_ERR_STATE);
    if (capture(r, stream, &exec) != 0 || compare(r, stream, exec) != 0)
        return 1;
    if (r->number == VICTIM)
        (void)raise(SIGKILL);
    if (survive(r, stream, exec) != 0)
        return 1;
    HOLDS(phx_cuda_end(r->group, &r->message) == 0);
    struct phx_outcome o; // and the host's calls go on from there
    HOLDS(phx_dispatch(r->group, &r->dispatch, r->handle, &o, &r->message) == 0);
    HOLDS(o.number == 2 + 2 * REPLAYS && phx_rank_set_has(&o.masked, VICTIM));
    phx_handle_free(r->group, r->handle);
    phx_group_close(r->group);
    return 0;
}

static int rank_main(struct phx_crew_rank *self, void *arena)
{
    struct rank r = {.self = self, .arena = arena, .number = phx_crew_rank_number(self)};
    int failed = test(&r);
    (void)fflush(NULL);
    if (failed)
        _exit(1); // with its group as it is
    return 0;
}

int main(void)
{
    struct phx_gpu_table gpus;
    struct phx_message message = {""};
    uint32_t devices[RANKS];
    int rc = phx_cuda_probe(&gpus, &message);
    if (rc == 0)
        rc = phx_gpus_choose(&gpus, RANKS, 1, devices, &message);
    if (rc != 0) {
        printf("skipped: %s\n", message.text);
        return 77;
    }
    const struct phx_crew_options options = {.ranks = RANKS,
                                             .workers = 1,
                                             .spin_us = PHX_CREW_SPIN_AUTO,
                                             .arena_bytes = sizeof(struct arena),
                                             .main = rank_main,
                                             .devices = devices};
    struct phx_crew *crew = NULL;
    if (phx_crew_start(&options, &crew, &message) != 0) {
        printf("%s\n", message.text);
        return 1;
    }
    while (phx_crew_wait(crew, 5) > 0)
        continue;
    const struct arena *a = phx_crew_arena(crew);
    struct phx_crew_status survivor = phx_crew_status(crew, 1 - VICTIM);
    struct phx_crew_status victim = phx_crew_status(crew, VICTIM);
    bool is_ok = survivor.exit == PHX_CREW_EXITED && survivor.code == 0 &&
                 victim.exit == PHX_CREW_KILLED && victim.code == SIGKILL;
    for (uint32_t i = 0; i < RANKS; i++)
        if (a->failed[i] != 0)
            printf("rank %u, line %d: %s\n", i, a->failed[i], a->said[i]);
    printf("%s\n", is_ok ? "ok" : "failed");
    phx_crew_end(crew);
    return is_ok ? 0 : 1;
}
