// sim/world_rank.c: the fibers of ranks: who runs when, what stops them, and what faults do to
// them.

#define _DEFAULT_SOURCE // MAP_ANONYMOUS, madvise()

#include <stdlib.h>
#include <sys/mman.h>

#include "engine/assert.h"
#include "sim/world_state.h"

// --- turns ---------------------------------------------------------------------------------------

struct phx_strand *phx_rank_strand(const struct phx_sim_rank *rank, uint32_t worker)
{
    if (worker == PHX_WORKER_CONTROL)
        return &rank->strands[0];
    phx_assert(worker < rank->world->options.workers);
    return &rank->strands[1 + worker];
}

uint64_t phx_strand_time_ps(const struct phx_strand *strand)
{
    return phx_core_now_ps(strand->rank->world->core) + strand->debt_ps;
}

void phx_strand_wake(struct phx_strand *strand, uint64_t time_ps)
{
    struct phx_world *world = strand->rank->world;
    if (strand->deferred || time_ps >= strand->wake_ps)
        return;
    uint64_t argument = (uint64_t)strand->rank->incarnation << 32 | strand->ticket;
    if (!phx_core_schedule_as(world->core, time_ps, PHX_EVENT_RESUME, strand->index, argument,
                              PHX_ACTOR_STRANDS + strand->index)) {
        phx_world_stop(world, PHX_ERR_NO_MEMORY, "no memory for an event");
        return;
    }
    strand->wake_ps = time_ps;
}

static void alarm_set(struct phx_strand *strand)
{
    struct phx_world *world = strand->rank->world;
    // An earlier alarm will find that it is too early and set the next.
    if (strand->until_ps == PHX_TIME_NEVER || strand->alarm_ps <= strand->until_ps)
        return;
    if (!phx_core_schedule_as(world->core, strand->until_ps, PHX_EVENT_ALARM, strand->index,
                              strand->rank->incarnation, PHX_ACTOR_STRANDS + strand->index)) {
        phx_world_stop(world, PHX_ERR_NO_MEMORY, "no memory for an event");
        return;
    }
    strand->alarm_ps = strand->until_ps;
}

static void hooks_waited(struct phx_strand *strand)
{
    struct phx_world *world = strand->rank->world;
    uint64_t now_ps = phx_core_now_ps(world->core);
    for (uint32_t i = 0; i < world->hook_count; i++)
        if (world->hooks[i].waited != NULL)
            world->hooks[i].waited(world->hooks[i].context, strand->rank->number, strand->worker,
                                   strand->words, strand->count, strand->since_ps, now_ps);
}

void phx_strand_block(struct phx_strand *strand, enum phx_strand_state state, bool waits)
{
    struct phx_world *world = strand->rank->world;
    phx_assert(world->running == strand && strand->state == PHX_STRAND_RUNNING);
    strand->state = state;
    strand->since_ps = phx_core_now_ps(world->core);
    if (state == PHX_STRAND_PARKED) {
        world->parked[strand->index] = (struct phx_parked){strand->words, strand->count, true};
        alarm_set(strand);
    }
    phx_fiber_yield(world->fibers);
    if (waits)
        hooks_waited(strand);
}

void phx_strand_sleep_until(struct phx_strand *strand, uint64_t time_ps)
{
    // More than once when something else asked for an earlier turn.
    while (phx_core_now_ps(strand->rank->world->core) < time_ps) {
        phx_strand_wake(strand, time_ps);
        phx_strand_block(strand, PHX_STRAND_SLEEPING, false);
    }
}

void phx_strand_settle(struct phx_strand *strand)
{
    if (strand->debt_ps == 0)
        return;
    uint64_t until_ps = phx_strand_time_ps(strand);
    strand->debt_ps = 0;
    phx_strand_sleep_until(strand, until_ps);
}

// The turn of this strand, until it blocks or ends.
static void strand_run(struct phx_strand *strand)
{
    struct phx_world *world = strand->rank->world;
    strand->ticket++;
    strand->wake_ps = PHX_TIME_NEVER;
    strand->deferred = false;
    strand->state = PHX_STRAND_RUNNING;
    world->parked[strand->index].is_parked = false;
    world->running = strand;
    phx_fiber_resume(strand->fiber);
    world->running = NULL;
}

static bool event_is_stale(const struct phx_strand *strand, uint64_t incarnation)
{
    return incarnation != strand->rank->incarnation || strand->state == PHX_STRAND_DEAD;
}

void phx_world_on_resume(void *context, const struct phx_event_record *event)
{
    struct phx_world *world = context;
    struct phx_strand *strand = &world->strands[event->object];
    if (event_is_stale(strand, event->argument >> 32) ||
        (uint32_t)event->argument != strand->ticket)
        return;
    if (strand->rank->paused)
        strand->deferred = true;
    else
        strand_run(strand);
}

void phx_world_on_alarm(void *context, const struct phx_event_record *event)
{
    struct phx_world *world = context;
    struct phx_strand *strand = &world->strands[event->object];
    if (event_is_stale(strand, event->argument))
        return;
    if (strand->alarm_ps <= event->time_ps) // below: the time was rounded up
        strand->alarm_ps = PHX_TIME_NEVER;
    if (strand->state != PHX_STRAND_PARKED)
        return;
    if (strand->until_ps > event->time_ps)
        alarm_set(strand);
    else if (strand->rank->paused)
        strand->deferred = true;
    else
        strand_run(strand);
}

// --- what wakes ----------------------------------------------------------------------------------

void phx_world_word_changed(struct phx_world *world, uint32_t rank, const void *address)
{
    phx_assert(rank < world->rank_count);
    uint32_t first = rank * (1 + world->options.workers);
    uint64_t time_ps = phx_world_time_ps(world);
    for (uint32_t i = first; i <= first + world->options.workers; i++) {
        const struct phx_parked *parked = &world->parked[i];
        if (!parked->is_parked)
            continue;
        uintptr_t offset = (uintptr_t)address - (uintptr_t)parked->words;
        if (address == NULL || offset < 8 * (uintptr_t)parked->count)
            phx_strand_wake(&world->strands[i], time_ps);
    }
}

void phx_world_events_arrived(struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    struct phx_sim_rank *r = &world->ranks[rank];
    r->events_arrived = true;
    struct phx_strand *control = &r->strands[0];
    if (control->state == PHX_STRAND_PARKED || control->state == PHX_STRAND_LAUNCHED)
        phx_strand_wake(control, phx_world_time_ps(world));
}

// --- processes -----------------------------------------------------------------------------------

static void control_main(void *argument)
{
    struct phx_strand *strand = argument;
    struct phx_sim_rank *rank = strand->rank;
    struct phx_world *world = rank->world;
    PHX_SIM_ACQUIRE(rank);
    rank->main(rank, rank->argument);
    phx_strand_settle(strand);
    strand->state = PHX_STRAND_DONE;
    rank->returned = true;
    world->live--;
    for (uint32_t i = 0; i < world->hook_count; i++)
        if (world->hooks[i].rank_returned != NULL)
            world->hooks[i].rank_returned(world->hooks[i].context, rank->number);
    phx_exchange_progress(world);
}

int phx_rank_start(struct phx_sim_rank *rank, phx_rank_main *main, void *argument)
{
    struct phx_world *world = rank->world;
    struct phx_strand *control = &rank->strands[0];
    control->fiber = phx_fiber_create(world->fibers, control_main, control);
    if (control->fiber == NULL)
        return PHX_ERR_NO_MEMORY;
    rank->incarnation++;
    rank->alive = true;
    rank->returned = false;
    rank->died_ps = UINT64_MAX;
    rank->main = main;
    rank->argument = argument;
    rank->transport = NULL;
    for (uint32_t i = 0; i < world->hook_count; i++) {
        const struct phx_world_hooks *hooks = &world->hooks[i];
        struct phx_transport *transport =
            hooks->rank_start != NULL ? hooks->rank_start(hooks->context, rank->number) : NULL;
        if (rank->transport == NULL)
            rank->transport = transport;
    }
    world->live++;
    control->state = PHX_STRAND_READY;
    PHX_SIM_RELEASE(rank);
    phx_strand_wake(control, phx_world_time_ps(world));
    return 0;
}

static void paused_set(struct phx_sim_rank *rank, bool paused)
{
    rank->world->paused_count += (uint32_t)paused - (uint32_t)rank->paused;
    rank->paused = paused;
}

void phx_rank_release(struct phx_sim_rank *rank)
{
    for (uint32_t i = 0; i <= rank->world->options.workers; i++) {
        struct phx_strand *strand = &rank->strands[i];
        if (strand->fiber != NULL)
            phx_fiber_destroy(strand->fiber);
        *strand = (struct phx_strand){
            .rank = rank,
            .worker = strand->worker,
            .index = strand->index,
            .state = PHX_STRAND_IDLE,
            .wake_ps = PHX_TIME_NEVER,
            .alarm_ps = PHX_TIME_NEVER,
        };
    }
    rank->workers_left = 0;
    rank->events_arrived = false;
    rank->exchange_here = false;
}

int phx_world_restart(struct phx_world *world, uint32_t rank, phx_rank_main *main, void *argument,
                      struct phx_message *message)
{
    phx_assert(rank < world->rank_count);
    struct phx_sim_rank *r = &world->ranks[rank];
    if (r->alive || !world->ran)
        return phx_fail(message, PHX_ERR_STATE, "rank %u is not dead, so it cannot be restarted",
                        rank);
    phx_rank_release(r);
    paused_set(r, false);
    r->slow_percent = 100;
    if (phx_rank_start(r, main, argument) != 0)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the fibers of rank %u", rank);
    return 0;
}

// --- memory --------------------------------------------------------------------------------------

#define REGION_BYTES_MAX (UINT64_C(1) << 46) // beyond any address space; keeps the rounding exact
// Huge pages spare faults where much of a region is used, and waste memory where little of each
// page is, as in the sparse regions of large worlds.
#define HUGE_REGION_BYTES_MIN (UINT64_C(4) << 20)
#define HUGE_WORLD_BYTES_MAX (UINT64_C(256) << 20) // if every rank has such a region

// Small pieces share a region, which spares system calls. The first of these regions lie side by
// side in an arena of a few huge pages: a page fault for each 4 KiB costs a small world more than
// many of its events, and huge pages of its own would waste most of each.
#define CHUNK_BYTES (UINT64_C(512) << 10)
#define CHUNK_PIECE_BYTES_MAX (CHUNK_BYTES / 2)
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)
#define ARENA_BYTES (2 * HUGE_PAGE_BYTES)

static void *memory_map(uint64_t size)
{
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return base != MAP_FAILED ? base : NULL;
}

// NULL: the arena is used up, or there is none.
static void *arena_take(struct phx_world *world, uint64_t size)
{
    if (world->arena_map == NULL) {
        world->arena_map = memory_map(ARENA_BYTES + HUGE_PAGE_BYTES);
        if (world->arena_map == NULL)
            return NULL;
        uint64_t over = (uintptr_t)world->arena_map % HUGE_PAGE_BYTES;
        world->arena = world->arena_map + (over != 0 ? HUGE_PAGE_BYTES - over : 0);
        world->arena_left_bytes = ARENA_BYTES;
        (void)madvise(world->arena, ARENA_BYTES, MADV_HUGEPAGE); // a wish
    }
    if (world->arena_left_bytes < size)
        return NULL;
    uint8_t *base = world->arena;
    world->arena += size;
    world->arena_left_bytes -= size;
    return base;
}

void phx_world_arena_free(struct phx_world *world)
{
    if (world->arena_map != NULL)
        munmap(world->arena_map, ARENA_BYTES + HUGE_PAGE_BYTES);
    world->arena_map = NULL;
}

static void *region_map(struct phx_sim_rank *rank, uint64_t size)
{
    struct phx_world *world = rank->world;
    struct phx_region *region = malloc(sizeof *region);
    if (region == NULL)
        return NULL;
    void *base = size == CHUNK_BYTES ? arena_take(world, size) : NULL;
    bool is_borrowed = base != NULL;
    if (!is_borrowed)
        base = memory_map(size);
    if (base == NULL) {
        free(region);
        return NULL;
    }
    if (size >= HUGE_REGION_BYTES_MIN && size * world->rank_count <= HUGE_WORLD_BYTES_MAX)
        (void)madvise(base, size, MADV_HUGEPAGE); // a wish; small pages do as well
    *region = (struct phx_region){rank->regions, base, size, is_borrowed};
    rank->regions = region;
    return base;
}

void *phx_sim_alloc(struct phx_sim_rank *rank, uint64_t size_bytes)
{
    if (size_bytes > REGION_BYTES_MAX)
        return NULL;
    uint64_t size = size_bytes == 0 ? 4096 : (size_bytes + 4095) / 4096 * 4096;
    if (size > CHUNK_PIECE_BYTES_MAX)
        return region_map(rank, size);
    if (rank->chunk_left_bytes < size) {
        uint8_t *chunk = region_map(rank, CHUNK_BYTES);
        if (chunk == NULL)
            return NULL;
        rank->chunk = chunk;
        rank->chunk_left_bytes = CHUNK_BYTES;
    }
    uint8_t *piece = rank->chunk;
    rank->chunk += size;
    rank->chunk_left_bytes -= size;
    return piece;
}

void phx_rank_memory_free(struct phx_sim_rank *rank)
{
    while (rank->regions != NULL) {
        struct phx_region *region = rank->regions;
        rank->regions = region->next;
        if (!region->is_borrowed)
            munmap(region->base, region->size_bytes);
        free(region);
    }
    rank->chunk_left_bytes = 0;
}

// --- faults --------------------------------------------------------------------------------------

// A fault that a fiber aims at its own rank strikes at that fiber's time.
static struct phx_strand *own_strand(struct phx_world *world, const struct phx_sim_rank *rank)
{
    struct phx_strand *self = world->running;
    if (self == NULL || self->rank != rank)
        return NULL;
    phx_strand_settle(self);
    return self;
}

void phx_world_kill(struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    struct phx_sim_rank *r = &world->ranks[rank];
    if (!r->alive)
        return;
    struct phx_strand *self = own_strand(world, r);
    if (!r->returned)
        world->live--;
    r->alive = false;
    paused_set(r, false);
    r->died_ps = phx_core_now_ps(world->core);
    for (uint32_t i = 0; i <= world->options.workers; i++)
        if (&r->strands[i] != self) {
            r->strands[i].state = PHX_STRAND_DEAD;
            world->parked[r->strands[i].index].is_parked = false;
        }
    for (uint32_t i = 0; i < world->hook_count; i++)
        if (world->hooks[i].rank_killed != NULL)
            world->hooks[i].rank_killed(world->hooks[i].context, rank);
    phx_exchange_progress(world);
    if (self != NULL) {
        phx_strand_block(self, PHX_STRAND_DEAD, false);
        phx_assert(false); // the dead do not come back
    }
}

static void hooks_paused(struct phx_world *world, uint32_t rank, bool paused)
{
    for (uint32_t i = 0; i < world->hook_count; i++)
        if (world->hooks[i].rank_paused != NULL)
            world->hooks[i].rank_paused(world->hooks[i].context, rank, paused);
}

void phx_world_pause(struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    struct phx_sim_rank *r = &world->ranks[rank];
    if (!r->alive || r->paused)
        return;
    struct phx_strand *self = own_strand(world, r);
    if (r->paused) // somebody else did, while it slept
        return;
    paused_set(r, true);
    hooks_paused(world, rank, true);
    if (self != NULL) {
        self->deferred = true;
        phx_strand_block(self, PHX_STRAND_SLEEPING, false);
    }
}

void phx_world_resume(struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    struct phx_sim_rank *r = &world->ranks[rank];
    if (!r->alive || !r->paused)
        return;
    paused_set(r, false);
    hooks_paused(world, rank, false);
    for (uint32_t i = 0; i <= world->options.workers; i++) {
        struct phx_strand *strand = &r->strands[i];
        if (!strand->deferred)
            continue;
        strand->deferred = false;
        strand->wake_ps = PHX_TIME_NEVER;
        phx_strand_wake(strand, phx_world_time_ps(world));
    }
}

void phx_world_slow(struct phx_world *world, uint32_t rank, uint32_t percent)
{
    phx_assert(rank < world->rank_count && percent >= 1);
    world->ranks[rank].slow_percent = percent;
}

void phx_world_clock_offset(struct phx_world *world, uint32_t rank, int64_t offset_ns)
{
    phx_assert(rank < world->rank_count);
    // A clock that would go below 0 is set to 0 and runs on from there; it does not stand still.
    int64_t now_ns = (int64_t)(phx_world_time_ps(world) / 1000);
    world->ranks[rank].clock_offset_ns = offset_ns < -now_ns ? -now_ns : offset_ns;
    // Deadlines were given on the old clock: everyone who waits looks again.
    phx_world_word_changed(world, rank, NULL);
}
