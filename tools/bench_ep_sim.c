// tools/bench_ep_sim.c: phx bench ep in the simulator. A sample is a world of its own, whose seed
// draws the routing, each flight's jitter and the order of what happens at one time; nothing else
// varies.

#include <stdlib.h>
#include <string.h>

#include "sim/network.h"
#include "sim/open.h"
#include "tools/bench_ep_internal.h"

struct sim_rank { // the context of its host
    struct phx_sim_rank *rank;
    uint8_t *cards; // [2][ranks], for barriers
};

static int sim_open(void *context, const struct phx_group_options *options,
                    struct phx_group **group, struct phx_message *message)
{
    const struct sim_rank *self = context;
    return phx_sim_open(self->rank, options, group, message);
}

static void sim_close(void *context, struct phx_group *group)
{
    const struct sim_rank *self = context;
    phx_sim_close(self->rank, group);
}

static void sim_barrier(void *context)
{
    const struct sim_rank *self = context;
    uint32_t ranks = phx_world_rank_count(phx_sim_rank_world(self->rank));
    (void)phx_sim_exchange(self->rank, self->cards, self->cards + ranks, 1);
}

static uint64_t sim_now_ns(void *context)
{
    const struct sim_rank *self = context;
    return phx_sim_now_ns(self->rank);
}

static void *sim_alloc(void *context, uint64_t size_bytes)
{
    const struct sim_rank *self = context;
    return phx_sim_alloc(self->rank, size_bytes);
}

static void sim_free(void *context, void *memory)
{
    (void)context; // with the world
    (void)memory;
}

static void sim_main(struct phx_sim_rank *rank, void *argument)
{
    struct phx_bench_arena *arena = argument;
    uint32_t number = phx_sim_rank_number(rank);
    struct phx_bench_seat *seat = phx_bench_seat_of(arena, number);
    struct sim_rank self = {rank, phx_sim_alloc(rank, 2 * (uint64_t)arena->bench.ranks)};
    const struct phx_bench_host host = {.context = &self,
                                        .open = sim_open,
                                        .close = sim_close,
                                        .barrier = sim_barrier,
                                        .now_ns = sim_now_ns,
                                        .alloc = sim_alloc,
                                        .free = sim_free};
    if (self.cards == NULL)
        seat->rc = phx_fail(&seat->message, PHX_ERR_NO_MEMORY, "no memory for rank %u", number);
    else
        phx_bench_rank_run(&arena->bench, &host, number, seat);
}

// --- the floor ----------------------------------------------------------------------------------

struct traffic { // rows through a rank's two ports, each way
    uint64_t out[2];
    uint64_t in[2];
};

static bool traffic_count(const struct phx_bench_ep *b, struct traffic *traffic)
{
    struct phx_router *router = phx_bench_router(b);
    uint64_t routes = (uint64_t)b->tokens * b->top_k;
    uint16_t *x = malloc((uint64_t)b->tokens * PHX_SCALE_GROUP * sizeof *x);
    int64_t *idx = malloc(routes * sizeof *idx);
    float *weights = malloc(routes * sizeof *weights);
    bool is_ok = router != NULL && x != NULL && idx != NULL && weights != NULL;
    for (uint32_t from = 0; is_ok && from < b->ranks; from++) {
        uint32_t to[PHX_RANKS_MAX];
        phx_router_draw(router, 0, from, PHX_SCALE_GROUP, x, idx, weights);
        phx_bench_rows_count(b, idx, to);
        for (uint32_t r = 0; r < b->ranks; r++) {
            uint32_t each = b->cluster.ranks_per_node;
            uint32_t port = from / each == r / each ? 0 : 1;
            if (r == from)
                continue;
            traffic[from].out[port] += to[r];
            traffic[r].in[port] += to[r];
        }
    }
    phx_router_destroy(router);
    free(x);
    free(idx);
    free(weights);
    return is_ok;
}

// What the busiest port takes for the rows of this size, and one flight.
static uint64_t floor_ps(const struct phx_bench_ep *b, const struct traffic *traffic,
                         uint64_t row_bytes)
{
    const struct phx_preset *presets[2] = {phx_preset_find(b->cluster.intra_node),
                                           phx_preset_find(b->cluster.inter_node)};
    uint64_t longest_ps = 0;
    for (uint32_t r = 0; r < b->ranks; r++)
        for (uint32_t port = 0; port < 2; port++) {
            uint64_t rows = traffic[r].out[port] > traffic[r].in[port] ? traffic[r].out[port]
                                                                       : traffic[r].in[port];
            if (rows == 0)
                continue;
            uint64_t ps = rows * row_bytes * 1000000 / presets[port]->bytes_per_us +
                          presets[port]->flight_ps;
            longest_ps = ps > longest_ps ? ps : longest_ps;
        }
    return longest_ps;
}

// Dispatch and combine send the same rows, there and back.
static int floor_find(const struct phx_bench_ep *b, struct phx_bench_sample *sample,
                      struct phx_bench_bytes *bytes)
{
    struct traffic *traffic = calloc(b->ranks, sizeof *traffic);
    bool is_ok = traffic != NULL && traffic_count(b, traffic);
    uint64_t row = phx_bench_row_bytes(b);
    uint64_t wide = 2 * (uint64_t)b->hidden;
    if (is_ok) {
        sample->ns[PHX_BENCH_FLOOR] =
            (floor_ps(b, traffic, row) + floor_ps(b, traffic, wide)) / 1000;
        bytes->rows = traffic[0].out[0] + traffic[0].out[1];
        bytes->dispatch = bytes->rows * row;
        bytes->combine = (traffic[0].in[0] + traffic[0].in[1]) * wide;
    }
    free(traffic);
    return is_ok ? 0 : PHX_ERR_NO_MEMORY;
}

// --- samples ------------------------------------------------------------------------------------

static int world_run(struct phx_bench_arena *arena, struct phx_message *message)
{
    const struct phx_bench_ep *b = &arena->bench;
    const struct phx_violation *violations;
    struct phx_world *world = NULL;
    const struct phx_world_options options = {.seed = b->seed,
                                              .schedule.tie = PHX_TIE_RANDOM,
#if PHX_HAVE_BOOST_CONTEXT
                                              .fibers = PHX_FIBERS,
#else
                                              .fibers = PHX_PTHREADS,
#endif
                                              .workers = b->workers,
                                              .cluster = b->cluster};
    int rc = phx_world_create(&options, &world, message);
    if (rc != 0)
        return rc;
    rc = phx_world_run(world, sim_main, arena, message);
    if (phx_world_violations(world, &violations) > 0)
        rc = phx_fail(message, PHX_ERR_CORRUPT, "%s: rank %u: %s", violations[0].rule,
                      violations[0].rank, violations[0].text);
    phx_world_destroy(world);
    int why = phx_bench_why_failed(arena, message);
    return why != 0 ? why : rc;
}

static int sample_run(const struct phx_bench_ep *bench, uint32_t at, struct phx_bench_arena *arena,
                      struct phx_bench_result *result, struct phx_message *message)
{
    struct phx_bench_sample *sample = &result->samples[at];
    struct phx_bench_bytes bytes = {0};
    memset(arena, 0, phx_bench_arena_bytes(bench));
    arena->bench = *bench;
    arena->bench.samples = 1;
    arena->bench.seed = bench->seed + at;
    int rc = world_run(arena, message);
    for (uint32_t span = 0; rc == 0 && span < PHX_BENCH_SPANS; span++)
        sample->ns[span] = phx_bench_span_ns(arena, 0, span);
    for (uint32_t r = 0; rc == 0 && r < bench->ranks; r++)
        if (phx_bench_seat_of(arena, r)->sum_error > result->sum_error)
            result->sum_error = phx_bench_seat_of(arena, r)->sum_error;
    if (rc == 0)
        rc = floor_find(&arena->bench, sample, &bytes);
    if (at == 0)
        result->bytes = bytes;
    return rc;
}

int phx_bench_ep_sim(const struct phx_bench_ep *bench, struct phx_bench_result *result,
                     struct phx_message *message)
{
    struct phx_bench_arena *arena = malloc(phx_bench_arena_bytes(bench));
    int rc = arena != NULL ? 0 : phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the samples");
    for (uint32_t i = 0; rc == 0 && i < bench->samples; i++)
        rc = sample_run(bench, i, arena, result, message);
    free(arena);
    return rc;
}
