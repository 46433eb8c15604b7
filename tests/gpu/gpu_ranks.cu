// tests/gpu/gpu_ranks.cu: device memory for the ranks of one group, and one operation on all of
// them.
//
// A host mirror of each rank's structs holds device pointers; it is copied in before each launch.
// Outputs are poisoned first, so that a byte nobody wrote shows.

#include "tests/gpu/gpu_ranks.h"

#include <cuda_runtime.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

struct device_rank {
    struct phx_rank rank; // device pointers
    struct phx_dispatch_op dispatch;
    struct phx_combine_op combine;
    struct phx_rank_state *state;
    uint64_t *answered;
};

struct gpu_ranks {
    struct phx_shape shape;
    uint64_t operations;
    uint64_t sequences[2];
    uint64_t barriers;
    std::vector<device_rank> ranks;
    std::vector<void *> allocations;
    struct phx_rank *device_ranks;
    struct phx_launch *launches;
    cudaError_t error;
};

static void *take(struct gpu_ranks *g, uint64_t bytes)
{
    void *memory = NULL;
    if (g->error == cudaSuccess)
        g->error = cudaMalloc(&memory, bytes > 0 ? bytes : 1);
    if (g->error == cudaSuccess) {
        g->allocations.push_back(memory);
        g->error = cudaMemset(memory, 0, bytes > 0 ? bytes : 1);
    }
    return memory;
}

template <typename T> static T *take_array(struct gpu_ranks *g, uint64_t count)
{
    return (T *)take(g, count * sizeof(T));
}

static void copy_in(struct gpu_ranks *g, const void *device, const void *host, uint64_t bytes)
{
    if (g->error == cudaSuccess && bytes > 0)
        g->error = cudaMemcpy((void *)device, host, bytes, cudaMemcpyHostToDevice);
}

static void copy_out(struct gpu_ranks *g, void *host, const void *device, uint64_t bytes)
{
    if (g->error == cudaSuccess && bytes > 0)
        g->error = cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost);
}

static void poison(struct gpu_ranks *g, void *device, uint64_t bytes)
{
    if (g->error == cudaSuccess)
        g->error = cudaMemset(device, 0xA5, bytes);
}

static int result(struct gpu_ranks *g, struct phx_message *message)
{
    if (g->error == cudaSuccess)
        return 0;
    return phx_fail(message, PHX_ERR_DEVICE_LOST, "CUDA: %s", cudaGetErrorString(g->error));
}

extern "C" int gpu_present(void)
{
    int count = 0;
    return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

uint64_t io_rows_max(const struct phx_shape *s)
{
    return (uint64_t)s->experts_local_max * s->ranks * s->tokens_max;
}

static void take_handle(struct gpu_ranks *g, struct phx_handle_view *h)
{
    const struct phx_shape *s = &g->shape;
    h->routes = take_array<uint8_t>(g, s->ranks * phx_route_stride(s));
    h->begin = take_array<uint32_t>(g, (uint64_t)s->experts_local_max * s->ranks);
    h->offset = take_array<int64_t>(g, s->experts_local_max + 1);
    h->count = take_array<uint32_t>(g, s->experts_local_max);
    h->counted = take_array<uint64_t>(g, s->ranks);
    h->present = take_array<uint64_t>(g, s->ranks);
    h->sent_rows = take_array<uint32_t>(g, s->ranks);
    h->route_at = take_array<uint64_t>(g, s->ranks);
    h->sent_at = take_array<uint64_t>(g, s->ranks);
    h->rows_max = io_rows_max(s);
}

static void take_io(struct gpu_ranks *g, device_rank *d)
{
    const struct phx_shape *s = &g->shape;
    uint64_t tokens = s->tokens_max;
    uint64_t rows = io_rows_max(s);
    struct phx_dispatch_op *op = &d->dispatch;
    op->x = take_array<uint16_t>(g, tokens * s->channels);
    op->topk_idx = take_array<int64_t>(g, tokens * s->top_k);
    op->topk_weights = take_array<float>(g, tokens * s->top_k);
    op->recv_x = take_array<uint8_t>(g, rows * phx_payload_bytes(s, s->channels));
    op->recv_scales = take_array<uint32_t>(g, rows * phx_scale_words(s, s->channels));
    op->recv_src_info = take_array<int32_t>(g, rows);
    op->recv_count = take_array<int32_t>(g, s->experts_local_max);
    op->recv_layout_range = take_array<int64_t>(g, (uint64_t)s->experts_local_max * s->ranks);
    op->common.active_ranks = take_array<int32_t>(g, s->ranks);
    take_handle(g, &op->handle);
    d->combine.y = take_array<uint16_t>(g, rows * s->channels);
    d->combine.topk_idx = op->topk_idx;
    d->combine.topk_weights = op->topk_weights;
    d->combine.out = take_array<uint16_t>(g, tokens * s->channels);
    d->combine.token_loss = take_array<float>(g, tokens);
    d->combine.answered = take_array<uint64_t>(g, s->ranks);
    d->combine.common.active_ranks = op->common.active_ranks;
    d->combine.handle = op->handle;
}

static void take_rank(struct gpu_ranks *g, uint32_t r, const struct placement *placement,
                      uint8_t *regions, const uint16_t *expert_rank, const uint16_t *expert_local)
{
    const struct phx_shape *s = &g->shape;
    device_rank *d = &g->ranks[r];
    uint64_t bytes = phx_region_bytes(s);
    std::vector<uint8_t *> from(s->ranks);
    std::vector<uint8_t *> to(s->ranks);
    for (uint32_t p = 0; p < s->ranks; p++) {
        from[p] = regions + ((uint64_t)r * s->ranks + p) * bytes;
        to[p] = regions + ((uint64_t)p * s->ranks + r) * bytes;
    }
    d->state = take_array<struct phx_rank_state>(g, 1);
    d->rank.shape = *s;
    d->rank.rank = r;
    d->rank.epoch = 1;
    d->rank.experts_local = placement->experts_of[r];
    d->rank.expert_rank = expert_rank;
    d->rank.expert_local = expert_local;
    d->rank.stage = take_array<uint8_t>(g, phx_stage_bytes(s));
    d->rank.state = d->state;
    d->rank.suspected = take_array<uint64_t>(g, s->ranks);
    d->rank.fates = take_array<uint64_t>(g, (uint64_t)PHX_WAIT_PHASES * s->ranks);
    d->rank.owed = take_array<uint64_t>(g, (uint64_t)PHX_WAIT_PHASES * s->ranks);
    d->rank.from = take_array<uint8_t *>(g, s->ranks);
    d->rank.to = take_array<uint8_t *>(g, s->ranks);
    copy_in(g, d->rank.from, from.data(), s->ranks * sizeof(uint8_t *));
    copy_in(g, d->rank.to, to.data(), s->ranks * sizeof(uint8_t *));
    take_io(g, d);
}

extern "C" int gpu_ranks_open(const struct phx_shape *shape, const struct placement *placement,
                              struct gpu_ranks **ranks, struct phx_message *message)
{
    struct gpu_ranks *g = new gpu_ranks();
    g->shape = *shape;
    g->ranks.resize(shape->ranks);
    uint8_t *regions =
        take_array<uint8_t>(g, (uint64_t)shape->ranks * shape->ranks * phx_region_bytes(shape));
    uint16_t *expert_rank = take_array<uint16_t>(g, shape->experts);
    uint16_t *expert_local = take_array<uint16_t>(g, shape->experts);
    copy_in(g, expert_rank, placement->expert_rank, shape->experts * 2);
    copy_in(g, expert_local, placement->expert_local, shape->experts * 2);
    for (uint32_t r = 0; r < shape->ranks && g->error == cudaSuccess; r++)
        take_rank(g, r, placement, regions, expert_rank, expert_local);
    g->device_ranks = take_array<struct phx_rank>(g, shape->ranks);
    g->launches = take_array<struct phx_launch>(g, shape->ranks);
    for (uint32_t r = 0; r < shape->ranks; r++)
        copy_in(g, &g->device_ranks[r], &g->ranks[r].rank, sizeof(struct phx_rank));
    int rc = result(g, message);
    if (rc != 0)
        gpu_ranks_close(g);
    else
        *ranks = g;
    return rc;
}

extern "C" int gpu_ranks_kill(struct gpu_ranks *g, uint32_t rank, uint64_t puts,
                              struct phx_message *message)
{
    struct phx_rank_state state;
    copy_out(g, &state, g->ranks[rank].state, sizeof state);
    state.puts = 0;
    state.die_after_puts = puts;
    state.dead = puts == 0;
    copy_in(g, g->ranks[rank].state, &state, sizeof state);
    return result(g, message);
}

static void send_inputs(struct gpu_ranks *g, uint32_t kind, device_rank *d,
                        const struct rank_io *io)
{
    const struct phx_shape *s = &g->shape;
    const struct phx_dispatch_op *op = &d->dispatch;
    uint64_t rows = io_rows_max(s);
    copy_in(g, op->common.active_ranks, io->active, s->ranks * 4);
    if (kind == PHX_COMBINE) {
        copy_in(g, d->combine.y, io->y, rows * s->channels * 2);
        poison(g, d->combine.out, (uint64_t)s->tokens_max * s->channels * 2);
        poison(g, d->combine.token_loss, s->tokens_max * 4);
        return;
    }
    copy_in(g, op->x, io->x, (uint64_t)io->token_count * s->channels * 2);
    copy_in(g, op->topk_idx, io->topk_idx, (uint64_t)io->token_count * s->top_k * 8);
    copy_in(g, op->topk_weights, io->weights, (uint64_t)io->token_count * s->top_k * 4);
    poison(g, op->recv_x, rows * phx_payload_bytes(s, s->channels));
    poison(g, op->recv_scales, rows * phx_scale_words(s, s->channels) * 4);
    poison(g, op->recv_src_info, rows * 4);
    poison(g, op->recv_count, s->experts_local_max * 4);
    poison(g, op->recv_layout_range, (uint64_t)s->experts_local_max * s->ranks * 8);
}

static void fetch_outputs(struct gpu_ranks *g, uint32_t kind, const device_rank *d,
                          struct rank_io *io)
{
    const struct phx_shape *s = &g->shape;
    const struct phx_dispatch_op *op = &d->dispatch;
    uint64_t rows = io_rows_max(s);
    std::vector<uint64_t> fates((uint64_t)PHX_WAIT_PHASES * s->ranks);
    copy_out(g, io->active, op->common.active_ranks, s->ranks * 4);
    copy_out(g, fates.data(), d->rank.fates, fates.size() * 8);
    for (uint64_t i = 0; i < fates.size(); i++)
        if (fates[i] >> 8 == g->operations)
            io->fates[i] = (uint8_t)fates[i];
    if (kind == PHX_COMBINE) {
        copy_out(g, io->out, d->combine.out, (uint64_t)s->tokens_max * s->channels * 2);
        copy_out(g, io->token_loss, d->combine.token_loss, s->tokens_max * 4);
        return;
    }
    copy_out(g, io->recv_x, op->recv_x, rows * phx_payload_bytes(s, s->channels));
    copy_out(g, io->recv_scales, op->recv_scales, rows * phx_scale_words(s, s->channels) * 4);
    copy_out(g, io->recv_src_info, op->recv_src_info, rows * 4);
    copy_out(g, io->recv_count, op->recv_count, s->experts_local_max * 4);
    copy_out(g, io->recv_layout_range, op->recv_layout_range,
             (uint64_t)s->experts_local_max * s->ranks * 8);
}

static int launch(struct gpu_ranks *g, uint32_t kind, uint32_t halves, float *kernel_us,
                  struct phx_message *message)
{
    const struct phx_shape *s = &g->shape;
    for (uint32_t r = 0; r < s->ranks; r++) {
        struct phx_launch l;
        memset(&l, 0, sizeof l);
        l.rank = &g->device_ranks[r];
        l.kind = kind;
        l.halves = halves;
        l.dispatch = g->ranks[r].dispatch;
        l.combine = g->ranks[r].combine;
        copy_in(g, &g->launches[r], &l, sizeof l);
    }
    int rc = result(g, message);
    float us = 0.0f;
    if (rc == 0)
        rc = phx_gpu_run(s, g->launches, s->ranks, halves, &us, message);
    *kernel_us += us;
    return rc;
}

static void set_common(struct gpu_ranks *g, struct phx_op_common *op, uint32_t kind,
                       uint64_t timeout_us)
{
    op->operation = g->operations;
    op->sent = g->operations;
    op->sequence = g->sequences[kind - 1];
    op->timeout_ns = timeout_us * 1000;
    op->barriers_before = g->barriers;
}

static int run_half(struct gpu_ranks *g, uint32_t kind, uint32_t halves, int renormalise,
                    uint64_t timeout_us, const struct rank_io *io, float *kernel_us,
                    struct phx_message *message)
{
    for (uint32_t r = 0; r < g->shape.ranks; r++) {
        device_rank *d = &g->ranks[r];
        if (kind == PHX_DISPATCH)
            set_common(g, &d->dispatch.common, kind, timeout_us);
        else
            set_common(g, &d->combine.common, kind, timeout_us);
        d->dispatch.token_count = io[r].token_count;
        d->combine.token_count = io[r].token_count;
        d->combine.renormalise = (uint32_t)renormalise;
    }
    g->barriers += phx_kernel_barriers(&g->shape, kind, halves);
    return launch(g, kind, halves, kernel_us, message);
}

extern "C" int gpu_ranks_run(struct gpu_ranks *g, uint32_t kind, int split, int renormalise,
                             uint64_t timeout_us, struct rank_io *io, float *kernel_us,
                             struct phx_message *message)
{
    int rc;
    *kernel_us = 0.0f;
    g->operations++;
    g->sequences[kind - 1]++;
    for (uint32_t r = 0; r < g->shape.ranks; r++)
        send_inputs(g, kind, &g->ranks[r], &io[r]);
    if (split) {
        rc = run_half(g, kind, PHX_HALF_SEND, renormalise, timeout_us, io, kernel_us, message);
        if (rc == 0)
            rc = run_half(g, kind, PHX_HALF_RECEIVE, renormalise, timeout_us, io, kernel_us,
                          message);
    } else {
        rc = run_half(g, kind, PHX_HALF_SEND | PHX_HALF_RECEIVE, renormalise, timeout_us, io,
                      kernel_us, message);
    }
    if (rc != 0)
        return rc;
    for (uint32_t r = 0; r < g->shape.ranks; r++)
        fetch_outputs(g, kind, &g->ranks[r], &io[r]);
    return result(g, message);
}

extern "C" void gpu_ranks_close(struct gpu_ranks *g)
{
    if (g == NULL)
        return;
    for (void *memory : g->allocations)
        cudaFree(memory);
    delete g;
}
