// sim/world.c: makes a simulated cluster, runs it to its end, and takes it apart.

#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/limits.h"
#include "sim/world_state.h"

// Local memory of an H100: HBM3 at 3.35 TB/s by its data sheet, of which copies reach about 3 TB/s.
#define COMPUTE_BYTES_PER_US 3000000u
// A leaf call beside its bytes: a round trip to that memory is about 0.5 us, and a warp has some
// ten rows on their way at a time.
#define COMPUTE_OPERATION_PS 50000u
// What an operation costs beside its bytes on H200s (reference/measured.md: a push of 1 MB).
#define LAUNCH_PS 3300000u

// --- making --------------------------------------------------------------------------------------

static int options_check(const struct phx_world_options *o, struct phx_message *message)
{
    int error = phx_schedule_check(&o->schedule, message);
    if (error != 0)
        return error;
    if (o->workers < 1 || o->workers > PHX_WORKERS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "workers is %u; it may be 1 to %u", o->workers,
                        PHX_WORKERS_MAX);
    uint64_t ranks = (uint64_t)o->cluster.nodes * o->cluster.ranks_per_node;
    if (ranks < 1 || ranks > PHX_RANKS_MAX)
        return phx_fail(message, PHX_ERR_INVALID,
                        "nodes (%u) times ranks_per_node (%u) is %llu; it may be 1 to %u ranks",
                        o->cluster.nodes, o->cluster.ranks_per_node, (unsigned long long)ranks,
                        PHX_RANKS_MAX);
    return 0;
}

// The names are the caller's; the world outlives them.
static int presets_copy(struct phx_world *world)
{
    const char **names[2] = {&world->options.cluster.intra_node,
                             &world->options.cluster.inter_node};
    for (int i = 0; i < 2; i++) {
        if (*names[i] == NULL)
            continue;
        size_t size = strlen(*names[i]) + 1;
        world->preset_names[i] = malloc(size);
        if (world->preset_names[i] == NULL)
            return PHX_ERR_NO_MEMORY;
        memcpy(world->preset_names[i], *names[i], size);
        *names[i] = world->preset_names[i];
    }
    return 0;
}

static int ranks_make(struct phx_world *world)
{
    uint32_t per_rank = 1 + world->options.workers;
    world->ranks = calloc(world->rank_count, sizeof world->ranks[0]);
    world->strands = calloc((size_t)world->rank_count * per_rank, sizeof world->strands[0]);
    world->parked = calloc((size_t)world->rank_count * per_rank, sizeof world->parked[0]);
    if (world->ranks == NULL || world->strands == NULL || world->parked == NULL)
        return PHX_ERR_NO_MEMORY;
    for (uint32_t r = 0; r < world->rank_count; r++) {
        struct phx_sim_rank *rank = &world->ranks[r];
        rank->world = world;
        rank->number = r;
        rank->slow_percent = 100;
        rank->died_ps = UINT64_MAX;
        rank->executor.executor.ops = &phx_sim_executor_ops;
        rank->executor.rank = rank;
        rank->strands = &world->strands[(size_t)r * per_rank];
        for (uint32_t i = 0; i < per_rank; i++) {
            struct phx_strand *strand = &rank->strands[i];
            strand->rank = rank;
            strand->worker = i == 0 ? PHX_WORKER_CONTROL : i - 1;
            strand->index = r * per_rank + i;
            strand->state = PHX_STRAND_IDLE;
            strand->wake_ps = PHX_TIME_NEVER;
            strand->alarm_ps = PHX_TIME_NEVER;
        }
    }
    return 0;
}

static int network_make(struct phx_world *world, struct phx_message *message)
{
    const struct phx_cluster *cluster = &world->options.cluster;
    if (cluster->intra_node == NULL && cluster->inter_node == NULL)
        return 0;
    return phx_network_attach(world, cluster, message);
}

int phx_world_create(const struct phx_world_options *options, struct phx_world **world,
                     struct phx_message *message)
{
    int error = options_check(options, message);
    if (error != 0)
        return error;
    struct phx_world *w = calloc(1, sizeof *w);
    if (w == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a world");
    w->options = *options;
    w->rank_count = options->cluster.nodes * options->cluster.ranks_per_node;
    if (w->options.compute_bytes_per_us == 0)
        w->options.compute_bytes_per_us = COMPUTE_BYTES_PER_US;
    if (w->options.compute_operation_ps == 0)
        w->options.compute_operation_ps = COMPUTE_OPERATION_PS;
    if (w->options.launch_ps == 0)
        w->options.launch_ps = LAUNCH_PS;
    w->core = phx_core_create(options->seed, &options->schedule);
    if (presets_copy(w) != 0 || w->core == NULL || ranks_make(w) != 0) {
        phx_world_destroy(w);
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a world of %u ranks",
                        options->cluster.nodes * options->cluster.ranks_per_node);
    }
    phx_core_handle(w->core, PHX_EVENT_RESUME, phx_world_on_resume, w);
    phx_core_handle(w->core, PHX_EVENT_ALARM, phx_world_on_alarm, w);
    error = phx_fibers_create(options->fibers, &w->fibers, message);
    if (error == 0)
        error = network_make(w, message);
    if (error != 0) {
        phx_world_destroy(w);
        return error;
    }
    *world = w;
    return 0;
}

void phx_world_destroy(struct phx_world *world)
{
    if (world == NULL)
        return;
    phx_assert(world->running == NULL);
    for (uint32_t i = world->hook_count; i > 0; i--)
        if (world->hooks[i - 1].destroy != NULL)
            world->hooks[i - 1].destroy(world->hooks[i - 1].context);
    bool has_ranks = world->ranks != NULL && world->strands != NULL && world->parked != NULL;
    for (uint32_t r = 0; has_ranks && r < world->rank_count; r++)
        phx_rank_release(&world->ranks[r]);
    phx_fibers_destroy(world->fibers);
    // After every fiber: what ran on them may hold memory of any rank.
    for (uint32_t r = 0; world->ranks != NULL && r < world->rank_count; r++)
        phx_rank_memory_free(&world->ranks[r]);
    phx_world_arena_free(world);
    phx_core_destroy(world->core);
    free(world->preset_names[0]);
    free(world->preset_names[1]);
    free(world->parked);
    free(world->strands);
    free(world->ranks);
    free(world);
}

bool phx_world_hooks_add(struct phx_world *world, const struct phx_world_hooks *hooks)
{
    if (world->hook_count == PHX_HOOKS_MAX)
        return false;
    if (hooks->observe != NULL)
        world->observers[world->observer_count++] = (uint8_t)world->hook_count;
    if (hooks->touch != NULL)
        world->touchers[world->toucher_count++] = (uint8_t)world->hook_count;
    world->hooks[world->hook_count++] = *hooks;
    return true;
}

// --- running -------------------------------------------------------------------------------------

// What the end of the run means: 0, or an error with its message.
static int run_judge(const struct phx_world *world, bool at_limit, struct phx_message *message)
{
    uint64_t now_ns = phx_core_now_ps(world->core) / 1000;
    if (world->stop_error != 0)
        return phx_fail(message, world->stop_error, "stopped at %llu ns: %s",
                        (unsigned long long)now_ns, world->stop_why);
    uint32_t waiting = 0;
    for (uint32_t r = 0; r < world->rank_count; r++) {
        const struct phx_sim_rank *rank = &world->ranks[r];
        waiting += rank->alive && !rank->returned && !rank->paused;
    }
    // A rank that stays stopped for ever waits for nobody, and nobody is to blame for it.
    if (waiting == 0)
        return 0;
    char text[sizeof message->text];
    phx_world_waiting(world, text, sizeof text - 48);
    return phx_fail(message, PHX_ERR_TIMEOUT, "%s at %llu ns: %s",
                    at_limit ? "time limit reached" : "nothing can run", (unsigned long long)now_ns,
                    text);
}

// The caller goes on with what all fibers left, as after joining threads.
static void fibers_join(const struct phx_world *world)
{
    size_t strands = (size_t)world->rank_count * (1 + world->options.workers);
    for (size_t i = 0; i < strands; i++)
        if (world->strands[i].fiber != NULL)
            PHX_SIM_ACQUIRE(world->strands[i].fiber);
}

int phx_world_run(struct phx_world *world, phx_rank_main *main, void *argument,
                  struct phx_message *message)
{
    if (world->ran)
        return phx_fail(message, PHX_ERR_STATE, "a world runs once");
    world->ran = true;
    world->main = main;
    world->argument = argument;
    for (uint32_t r = 0; r < world->rank_count; r++)
        if (phx_rank_start(&world->ranks[r], main, argument) != 0)
            return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the fibers of rank %u", r);
    uint64_t limit_ps = world->options.time_limit_ps;
    bool at_limit = false;
    while (world->live > 0 && world->stop_error == 0 && !at_limit && phx_core_step(world->core))
        at_limit = limit_ps != 0 && phx_core_now_ps(world->core) >= limit_ps;
    fibers_join(world);
    return run_judge(world, at_limit && world->live > 0, message);
}

bool phx_world_drain(struct phx_world *world)
{
    phx_assert(world->running == NULL);
    while (world->stop_error == 0 && phx_core_step(world->core))
        continue;
    fibers_join(world);
    return world->stop_error == 0;
}

void phx_world_stop(struct phx_world *world, int error, const char *why)
{
    phx_assert(error < 0);
    if (world->stop_error != 0)
        return;
    world->stop_error = error;
    world->stop_why = why;
}

// --- looking -------------------------------------------------------------------------------------

struct phx_core *phx_world_core(struct phx_world *world)
{
    return world->core;
}

void phx_world_fabric_set(struct phx_world *world, struct phx_fabric *fabric)
{
    world->fabric = fabric;
}

struct phx_fabric *phx_world_fabric(const struct phx_world *world)
{
    return world->fabric;
}

uint32_t phx_world_rank_count(const struct phx_world *world)
{
    return world->rank_count;
}

struct phx_sim_rank *phx_world_rank(struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    return &world->ranks[rank];
}

const struct phx_world_options *phx_world_options(const struct phx_world *world)
{
    return &world->options;
}

uint32_t phx_world_node(const struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    return rank / world->options.cluster.ranks_per_node;
}

bool phx_world_rank_alive(const struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    return world->ranks[rank].alive || !world->ran;
}

uint64_t phx_world_rank_died_ps(const struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    return world->ranks[rank].died_ps;
}

uint32_t phx_world_rank_incarnation(const struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    return world->ranks[rank].incarnation;
}

bool phx_world_rank_paused(const struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    return world->paused_count > 0 && world->ranks[rank].paused;
}

bool phx_world_rank_returned(const struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    return world->ranks[rank].returned;
}

void phx_world_program(const struct phx_world *world, phx_rank_main **main, void **argument)
{
    *main = world->main;
    *argument = world->argument;
}

bool phx_world_current(const struct phx_world *world, uint32_t *rank, uint32_t *worker)
{
    if (world->running == NULL)
        return false;
    *rank = world->running->rank->number;
    *worker = world->running->worker;
    return true;
}

uint64_t phx_world_time_ps(const struct phx_world *world)
{
    return world->running != NULL ? phx_strand_time_ps(world->running)
                                  : phx_core_now_ps(world->core);
}

uint64_t phx_world_fiber_time_ps(const struct phx_world *world, uint32_t rank, uint32_t worker)
{
    phx_assert(rank < world->rank_count);
    return phx_strand_time_ps(phx_rank_strand(&world->ranks[rank], worker));
}

void phx_world_worker_phase(const struct phx_world *world, uint32_t rank, uint32_t worker,
                            uint32_t *phase, uint64_t *number)
{
    phx_assert(rank < world->rank_count);
    const struct phx_strand *strand = phx_rank_strand(&world->ranks[rank], worker);
    *phase = strand->phase;
    *number = strand->number;
}
