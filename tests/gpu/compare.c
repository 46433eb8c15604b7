// tests/gpu/compare.c: the same inputs to the kernels on a GPU and in the simulator; every byte of
// every output compared.
//
//     gpu_compare [--cases N] [--first NUMBER]
//
// Even cases are healthy, odd ones lose a rank at a random put. The GPU runs first and reports what
// each rank saw of each other (its fates); the simulator replays those fates, so that both have the
// same masks, and must then produce the same bytes. Only the victim may have been masked. Exit
// status: 0 all equal, 1 a difference, 2 usage, 3 the run could not be made.

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/open.h"
#include "tests/gpu/case.h"

struct tally {
    uint64_t cases;
    uint64_t deaths;
    uint64_t bytes;
    uint64_t differing;
    uint64_t masked; // (operation, rank, source) fates that were ABSENT
    uint64_t lost_tokens;
    uint64_t wrong; // fates, masks or losses that the case does not explain
};

// --- the simulator's side -----------------------------------------------------------------------

struct sim_side {
    const struct test_case *c;
    const struct rank_io *gpu; // whose fates are replayed
    struct rank_io *io;
    int failed;
    struct phx_message message;
};

static void set_options(const struct test_case *c, struct phx_group_options *o)
{
    const struct phx_shape *s = &c->shape;
    phx_group_options_init(o);
    o->experts = s->experts;
    o->top_k = s->top_k;
    o->tokens_max = s->tokens_max;
    o->hidden = s->hidden;
    o->in_flight = s->in_flight;
    o->workers = s->workers;
    o->dtype = (enum phx_dtype)s->dtype;
    o->scale_format = (enum phx_scale_format)s->scale_format;
    o->rows = (enum phx_rows_form)s->rows;
    o->layout = (enum phx_output_layout)s->layout;
    o->check = (enum phx_check)s->check;
    o->division = (enum phx_division)s->division;
    o->expert_map = c->expert_map;
    o->timeout_us = PHX_TIMEOUT_NONE;
}

// What the replay takes: the victim is alive in the simulator, and saw everyone.
static void replay_of(const struct test_case *c, const struct rank_io *gpu, uint32_t rank,
                      uint8_t *replay)
{
    for (uint32_t i = 0; i < PHX_WAIT_PHASES * c->shape.ranks; i++)
        replay[i] = rank == c->victim ? PHX_FATE_PRESENT : gpu->fates[i];
}

static int sim_dispatch(const struct sim_side *side, struct phx_group *group,
                        struct phx_handle *handle, struct rank_io *io, const uint8_t *replay,
                        struct phx_message *m)
{
    struct phx_dispatch_args a;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = io->token_count;
    a.x = io->x;
    a.topk_idx = io->topk_idx;
    a.topk_weights = io->weights;
    a.active_ranks = io->active;
    a.recv_x = io->recv_x;
    a.recv_scales = io->recv_scales;
    a.recv_count = io->recv_count;
    a.recv_src_info = io->recv_src_info;
    a.recv_layout_range = io->recv_layout_range;
    a.recv_rows_max = io_rows_max(&side->c->shape);
    a.replay = replay;
    if (!side->c->split)
        return phx_dispatch(group, &a, handle, NULL, m);
    int rc = phx_dispatch_send(group, &a, handle, m);
    return rc != 0 ? rc : phx_dispatch_receive(group, handle, NULL, m);
}

static int sim_combine(const struct sim_side *side, struct phx_group *group,
                       struct phx_handle *handle, struct rank_io *io, const uint8_t *replay,
                       struct phx_message *m)
{
    struct phx_combine_args a;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = io->token_count;
    a.y = io->y;
    a.topk_idx = io->topk_idx;
    a.topk_weights = io->weights;
    a.active_ranks = io->active;
    a.renormalise = (uint32_t)side->c->renormalise;
    a.out = io->out;
    a.token_loss = io->token_loss;
    a.replay = replay + PHX_WAIT_COMBINE * side->c->shape.ranks;
    if (!side->c->split)
        return phx_combine(group, &a, handle, NULL, m);
    int rc = phx_combine_send(group, &a, handle, m);
    return rc != 0 ? rc : phx_combine_receive(group, handle, NULL, m);
}

static int sim_rank_program(struct phx_sim_rank *rank, const struct sim_side *side,
                            struct phx_message *m)
{
    struct phx_group_options options;
    struct phx_group *group;
    struct phx_handle *handle;
    uint8_t replay[PHX_WAIT_PHASES * CASE_RANKS_MAX];
    uint32_t r = phx_sim_rank_number(rank);
    set_options(side->c, &options);
    int rc = phx_sim_open(rank, &options, &group, m);
    if (rc != 0)
        return rc;
    rc = phx_handle_create(group, &handle, m);
    for (uint32_t pair = 0; rc == 0 && pair < side->c->pairs; pair++) {
        struct rank_io *io = &side->io[pair * side->c->shape.ranks + r];
        const struct rank_io *gpu = &side->gpu[pair * side->c->shape.ranks + r];
        replay_of(side->c, gpu, r, replay);
        rc = sim_dispatch(side, group, handle, io, replay, m);
        if (rc == 0)
            rc = sim_combine(side, group, handle, io, replay, m);
    }
    phx_sim_close(rank, group);
    return rc;
}

static void sim_rank_main(struct phx_sim_rank *rank, void *argument)
{
    struct sim_side *side = argument;
    struct phx_message m = {""};
    if (sim_rank_program(rank, side, &m) != 0 && !side->failed) {
        side->failed = 1;
        side->message = m;
    }
}

static int run_sim(struct sim_side *side, struct phx_message *message)
{
    struct phx_world_options o;
    struct phx_world *world;
    memset(&o, 0, sizeof o);
    o.seed = side->c->number;
    o.schedule.tie = PHX_TIE_RANDOM;
    o.fibers = PHX_FIBERS;
    o.workers = side->c->shape.workers;
    o.cluster = (struct phx_cluster){1, side->c->shape.ranks, "nvlink4", "roce_400g", 0};
    int rc = phx_world_create(&o, &world, message);
    if (rc == PHX_ERR_UNSUPPORTED) { // a build without Boost.Context
        o.fibers = PHX_PTHREADS;
        rc = phx_world_create(&o, &world, message);
    }
    if (rc != 0)
        return rc;
    rc = phx_world_run(world, sim_rank_main, side, message);
    const struct phx_violation *list;
    if (rc == 0 && side->failed) {
        *message = side->message;
        rc = PHX_ERR_STATE;
    }
    if (rc == 0 && phx_world_violations(world, &list) > 0)
        rc = phx_fail(message, PHX_ERR_CORRUPT, "%s: %s", list[0].rule, list[0].text);
    phx_world_destroy(world);
    return rc;
}

// --- the GPU's side -----------------------------------------------------------------------------

static int run_gpu(const struct test_case *c, struct rank_io *io, struct phx_message *message)
{
    struct placement placement = {c->expert_rank, c->expert_local, c->experts_of};
    struct gpu_ranks *g = NULL;
    float us;
    int rc = gpu_ranks_open(&c->shape, &placement, &g, message);
    for (uint32_t pair = 0; rc == 0 && pair < c->pairs; pair++) {
        struct rank_io *now = case_io_at(c, io, pair, 0);
        if (c->victim != CASE_NOBODY && pair == c->death_pair)
            rc = gpu_ranks_kill(g, c->victim, c->death_puts, message);
        if (rc == 0)
            rc = gpu_ranks_run(g, PHX_DISPATCH, c->split, 0, c->timeout_us, now, &us, message);
        if (rc == 0)
            rc = gpu_ranks_run(g, PHX_COMBINE, c->split, c->renormalise, c->timeout_us, now, &us,
                               message);
    }
    gpu_ranks_close(g);
    return rc;
}

// --- the comparison -----------------------------------------------------------------------------

static void compare_bytes(struct tally *t, const char *what, const void *gpu, const void *sim,
                          uint64_t bytes)
{
    const uint8_t *a = gpu;
    const uint8_t *b = sim;
    t->bytes += bytes;
    for (uint64_t i = 0; i < bytes; i++) {
        if (a[i] == b[i])
            continue;
        if (t->differing++ < 8)
            printf("  %s differs at byte %llu: gpu 0x%02x, sim 0x%02x\n", what,
                   (unsigned long long)i, a[i], b[i]);
    }
}

// Only the victim may be masked, from the pair on in which it dies, and only that may cost
// anything: a kernel that gave up on the living would otherwise be replayed, and compare equal.
static void judge_fates(struct tally *t, const struct test_case *c, uint32_t pair,
                        const struct rank_io *gpu)
{
    const struct phx_shape *s = &c->shape;
    int masked_here = 0;
    for (uint32_t i = 0; i < PHX_WAIT_PHASES * s->ranks; i++) {
        int absent = gpu->fates[i] == PHX_FATE_ABSENT;
        masked_here |= absent;
        t->masked += (uint64_t)absent;
        t->wrong += absent && (i % s->ranks != c->victim || pair < c->death_pair);
        // Rows of a source that was not counted are not waited for: their fate stays open.
        t->wrong += gpu->fates[i] == PHX_FATE_OPEN &&
                    (i / s->ranks != PHX_WAIT_ROWS || gpu->fates[i % s->ranks] != PHX_FATE_ABSENT);
    }
    for (uint32_t r = 0; r < s->ranks; r++)
        t->wrong += gpu->active[r] == 0 && r != c->victim;
    if (masked_here)
        t->wrong += gpu->active[c->victim] != 0;
    for (uint32_t i = 0; i < gpu->token_count; i++) {
        t->lost_tokens += gpu->token_loss[i] > 0.0f;
        t->wrong += gpu->token_loss[i] > 0.0f && !masked_here;
    }
}

// Outputs were poisoned alike on both sides, so what neither wrote is equal too.
static void compare_rank(struct tally *t, const struct phx_shape *s, const struct rank_io *gpu,
                         const struct rank_io *sim, uint32_t experts_local)
{
    uint64_t rows = io_rows_max(s);
    compare_bytes(t, "recv_count", gpu->recv_count, sim->recv_count, experts_local * 4);
    compare_bytes(t, "recv_layout_range", gpu->recv_layout_range, sim->recv_layout_range,
                  (uint64_t)experts_local * s->ranks * 8);
    compare_bytes(t, "recv_src_info", gpu->recv_src_info, sim->recv_src_info, rows * 4);
    compare_bytes(t, "recv_x", gpu->recv_x, sim->recv_x, rows * phx_payload_bytes(s, s->channels));
    compare_bytes(t, "recv_scales", gpu->recv_scales, sim->recv_scales,
                  rows * phx_scale_words(s, s->channels) * 4);
    compare_bytes(t, "out", gpu->out, sim->out, (uint64_t)gpu->token_count * s->channels * 2);
    compare_bytes(t, "token_loss", gpu->token_loss, sim->token_loss, gpu->token_count * 4);
}

// death_timeout_us: 0, or the deadline of a case with a death.
static int run_case(uint64_t number, uint64_t death_timeout_us, struct tally *t,
                    struct phx_message *message)
{
    struct test_case *c = case_make(number, number % 2 == 1);
    if (c == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a case");
    if (death_timeout_us != 0 && c->victim != CASE_NOBODY)
        c->timeout_us = death_timeout_us;
    struct rank_io *gpu = case_io_make(c);
    struct rank_io *sim = case_io_make(c);
    for (uint32_t i = 0; i < c->pairs * c->shape.ranks; i++) {
        case_fill_inputs(c, i / c->shape.ranks, i % c->shape.ranks, &gpu[i]);
        case_fill_inputs(c, i / c->shape.ranks, i % c->shape.ranks, &sim[i]);
    }
    int rc = run_gpu(c, gpu, message);
    struct sim_side side = {c, gpu, sim, 0, {""}};
    if (rc == 0)
        rc = run_sim(&side, message);
    uint64_t before = t->differing;
    uint64_t wrong_before = t->wrong;
    for (uint32_t i = 0; rc == 0 && i < c->pairs * c->shape.ranks; i++)
        if (i % c->shape.ranks != c->victim) {
            compare_rank(t, &c->shape, &gpu[i], &sim[i], c->experts_of[i % c->shape.ranks]);
            judge_fates(t, c, i / c->shape.ranks, &gpu[i]);
        }
    case_print(c);
    if (rc == 0)
        printf(" : %llu bytes differ, %llu fates wrong\n",
               (unsigned long long)(t->differing - before),
               (unsigned long long)(t->wrong - wrong_before));
    else
        printf(" : not compared\n");
    t->cases++;
    t->deaths += c->victim != CASE_NOBODY;
    case_io_free(c, gpu);
    case_io_free(c, sim);
    case_free(c);
    return rc;
}

struct arguments {
    uint64_t cases;
    uint64_t first;
    uint64_t death_timeout_us;
};

static error_t parse(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;
    char *end;
    if (key != 'n' && key != 'f' && key != 't')
        return ARGP_ERR_UNKNOWN;
    uint64_t number = strtoull(value, &end, 10);
    if (*value == 0 || *end != 0)
        argp_error(state, "%s is not a number", value);
    *(key == 'n' ? &a->cases : key == 'f' ? &a->first : &a->death_timeout_us) = number;
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"cases", 'n', "N", 0, "how many cases (default 240)", 0},
        {"first", 'f', "NUMBER", 0, "the first case's number (default 0)", 0},
        {"death-timeout-us", 't', "US", 0,
         "the deadline of cases with a death (default: some 10 ms, by their size)", 0},
        {0}};
    static const struct argp argp = {
        options, parse, NULL, "Compares the kernels on a GPU with the simulator's.",
        NULL,    NULL,  NULL};
    struct arguments a = {240, 0, 0};
    struct tally t = {0};
    struct phx_message message = {""};
    argp_err_exit_status = 2;
    argp_parse(&argp, argc, argv, 0, NULL, &a);
    if (!gpu_present()) {
        printf("skipped: this machine has no GPU that CUDA can use\n");
        return 77;
    }
    for (uint64_t i = a.first; i < a.first + a.cases; i++) {
        if (run_case(i, a.death_timeout_us, &t, &message) != 0) {
            printf("FAIL: case %llu could not be compared: %s\n", (unsigned long long)i,
                   message.text);
            return 3;
        }
    }
    int passed = t.differing == 0 && t.wrong == 0 && (t.deaths == 0 || t.lost_tokens > 0);
    printf("%llu cases, %llu with a death; %llu bytes compared, %llu differ; %llu masked fates, "
           "%llu of them wrong; %llu tokens with a loss\n%s\n",
           (unsigned long long)t.cases, (unsigned long long)t.deaths, (unsigned long long)t.bytes,
           (unsigned long long)t.differing, (unsigned long long)t.masked,
           (unsigned long long)t.wrong, (unsigned long long)t.lost_tokens,
           passed ? "PASS" : "FAIL");
    return passed ? 0 : 1;
}
