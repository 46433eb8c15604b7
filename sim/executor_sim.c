// sim/executor_sim.c: a rank's workers as fibers in virtual time, and the clock they see.
//
// Work is charged, not waited for: a worker runs ahead of virtual time by its debt, posts at its
// own time, and sleeps the debt off only when it is about to wait. So a leaf costs no event and no
// switch.

#include "engine/assert.h"
#include "engine/limits.h"
#include "sim/world_state.h"

__extension__ typedef unsigned __int128 wide;

static struct phx_sim_rank *rank_of(const struct phx_executor *e)
{
    return ((const struct phx_sim_executor *)e)->rank;
}

// The caller's strand; a body that passes another's index has a bug.
static struct phx_strand *caller(const struct phx_executor *e, uint32_t worker)
{
    struct phx_sim_rank *rank = rank_of(e);
    struct phx_strand *strand = phx_rank_strand(rank, worker);
    phx_assert(strand == rank->world->running);
    return strand;
}

// --- clocks --------------------------------------------------------------------------------------

static uint64_t clock_ns(const struct phx_sim_rank *rank, uint64_t time_ps)
{
    int64_t ns = (int64_t)(time_ps / 1000) + rank->clock_offset_ns;
    return ns > 0 ? (uint64_t)ns : 0;
}

static uint64_t clock_inverse_ps(const struct phx_sim_rank *rank, uint64_t ns)
{
    if (ns >= PHX_TIME_NEVER / 2000)
        return PHX_TIME_NEVER; // further away than any run goes
    int64_t plain_ns = (int64_t)ns - rank->clock_offset_ns;
    return plain_ns > 0 ? (uint64_t)plain_ns * 1000 : 0;
}

uint64_t phx_world_rank_clock_ns(const struct phx_world *world, uint32_t rank)
{
    phx_assert(rank < world->rank_count);
    return clock_ns(&world->ranks[rank], phx_core_now_ps(world->core));
}

uint64_t phx_sim_now_ns(struct phx_sim_rank *rank)
{
    const struct phx_strand *running = rank->world->running;
    if (running != NULL && running->rank == rank)
        return clock_ns(rank, phx_strand_time_ps(running));
    return clock_ns(rank, phx_core_now_ps(rank->world->core));
}

static uint64_t executor_now_ns(struct phx_executor *e, uint32_t worker)
{
    return clock_ns(rank_of(e), phx_strand_time_ps(caller(e, worker)));
}

void phx_sim_sleep_ns(struct phx_sim_rank *rank, uint64_t ns)
{
    struct phx_strand *strand = rank->world->running;
    phx_assert(strand != NULL && strand->rank == rank && ns < PHX_TIME_NEVER / 2000);
    uint64_t until_ps = phx_strand_time_ps(strand) + ns * 1000;
    strand->debt_ps = 0;
    phx_strand_sleep_until(strand, until_ps);
}

// --- waiting -------------------------------------------------------------------------------------

// The caller looks again without any time having passed. Once or twice is how callers are; for ever
// is a loop that virtual time cannot end.
static void park_in_vain(struct phx_strand *strand)
{
    if (++strand->parks_in_vain < PHX_PARKS_IN_VAIN_MAX)
        return;
    phx_world_stop(strand->rank->world, PHX_ERR_STATE,
                   "a worker parks again and again until a time that has passed");
    phx_strand_block(strand, PHX_STRAND_SLEEPING, false);
}

static void executor_park(struct phx_executor *e, uint32_t worker, const uint64_t *words,
                          uint32_t count, uint64_t until_ns)
{
    struct phx_strand *strand = caller(e, worker);
    struct phx_sim_rank *rank = strand->rank;
    if (strand->debt_ps != 0) {
        strand->parks_in_vain = 0;
        phx_strand_settle(strand);
        return;
    }
    bool told = worker == PHX_WORKER_CONTROL && rank->events_arrived;
    strand->until_ps = clock_inverse_ps(rank, until_ns);
    if (told || strand->until_ps <= phx_core_now_ps(rank->world->core)) {
        if (told)
            rank->events_arrived = false;
        park_in_vain(strand);
        return;
    }
    strand->parks_in_vain = 0;
    strand->words = words;
    strand->count = count;
    phx_strand_block(strand, PHX_STRAND_PARKED, true);
    strand->words = NULL;
    strand->count = 0;
    if (worker == PHX_WORKER_CONTROL)
        rank->events_arrived = false;
}

// Unlike the rest it may come from any fiber of the rank, whatever `worker` says: phx_abort() does
// not know on which it was called.
static void executor_wake(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    const struct phx_sim_rank *rank = rank_of(e);
    const struct phx_strand *running = rank->world->running;
    (void)worker;
    phx_assert(running != NULL && running->rank == rank);
    phx_world_word_changed(rank->world, rank->number, word);
}

// --- work ----------------------------------------------------------------------------------------

static uint64_t slowed(const struct phx_sim_rank *rank, uint64_t ps)
{
    return rank->slow_percent == 100 ? ps : (uint64_t)((wide)ps * 100 / rank->slow_percent);
}

// The time for `bytes` at a share of the rank's memory. Most of them fit 64 bits, which divide
// faster.
static uint64_t bytes_ps(uint64_t bytes, uint64_t sharers, uint64_t bytes_per_us)
{
    const uint64_t us_ps = 1000000;
    if (bytes <= UINT64_MAX / us_ps / PHX_WORKERS_MAX)
        return bytes * us_ps * sharers / bytes_per_us;
    return (uint64_t)((wide)bytes * us_ps * sharers / bytes_per_us);
}

static uint64_t bytes_kept_ps(struct phx_world *world, uint64_t bytes, uint64_t sharers)
{
    struct phx_charge *kept =
        &world->charges[bytes * UINT64_C(0x9E3779B97F4A7C15) >> 32 & (PHX_CHARGES_KEPT - 1)];
    if (kept->bytes != bytes || kept->sharers != sharers)
        *kept = (struct phx_charge){bytes, sharers,
                                    bytes_ps(bytes, sharers, world->options.compute_bytes_per_us)};
    return kept->ps;
}

static void executor_charge(struct phx_executor *e, uint32_t worker, struct phx_cost cost)
{
    struct phx_strand *strand = caller(e, worker);
    const struct phx_sim_rank *rank = strand->rank;
    const struct phx_world_options *o = &rank->world->options;
    // The rank's memory is shared by the workers that run.
    uint32_t sharers = rank->workers_running > 1 ? rank->workers_running : 1;
    uint64_t ps =
        cost.operations * o->compute_operation_ps + bytes_kept_ps(rank->world, cost.bytes, sharers);
    strand->debt_ps += slowed(rank, ps);
}

__attribute__((noinline)) static void observe_all(const struct phx_sim_rank *rank, uint32_t worker,
                                                  const uint64_t *word)
{
    const struct phx_world *world = rank->world;
    for (uint32_t i = 0; i < world->observer_count; i++) {
        const struct phx_world_hooks *hooks = &world->hooks[world->observers[i]];
        hooks->observe(hooks->context, rank->number, worker, word);
    }
}

__attribute__((noinline)) static void touch_all(const struct phx_sim_rank *rank, uint32_t worker,
                                                const void *base, uint64_t size_bytes, int is_write)
{
    const struct phx_world *world = rank->world;
    for (uint32_t i = 0; i < world->toucher_count; i++) {
        const struct phx_world_hooks *hooks = &world->hooks[world->touchers[i]];
        hooks->touch(hooks->context, rank->number, worker, base, size_bytes, is_write);
    }
}

// Each word and span of a body passes the next two, and mostly the fabric alone wants to know: then
// nothing is kept over the call.
static void executor_observe(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    const struct phx_sim_rank *rank = rank_of(e);
    const struct phx_world *world = rank->world;
    const struct phx_world_hooks *only = &world->hooks[world->observers[0]];
    if (world->observer_count == 1)
        only->observe(only->context, rank->number, worker, word);
    else
        observe_all(rank, worker, word);
}

static void executor_touch(struct phx_executor *e, uint32_t worker, const void *base,
                           uint64_t size_bytes, int is_write)
{
    const struct phx_sim_rank *rank = rank_of(e);
    const struct phx_world *world = rank->world;
    const struct phx_world_hooks *only = &world->hooks[world->touchers[0]];
    if (world->toucher_count == 1)
        only->touch(only->context, rank->number, worker, base, size_bytes, is_write);
    else
        touch_all(rank, worker, base, size_bytes, is_write);
}

static void executor_phase(struct phx_executor *e, uint32_t worker, uint32_t phase, uint64_t number)
{
    struct phx_strand *strand = caller(e, worker);
    struct phx_world *world = strand->rank->world;
    strand->phase = phase;
    strand->number = number;
    for (uint32_t i = 0; i < world->hook_count; i++)
        if (world->hooks[i].phase != NULL)
            world->hooks[i].phase(world->hooks[i].context, strand->rank->number, worker, phase,
                                  number);
}

// --- launches ------------------------------------------------------------------------------------

void phx_worker_main(void *argument)
{
    struct phx_strand *strand = argument;
    struct phx_sim_rank *rank = strand->rank;
    for (;;) {
        PHX_SIM_ACQUIRE(&rank->body);
        rank->body(rank->body_argument, strand->worker);
        PHX_SIM_RELEASE(&rank->run_end_ps); // not where workers acquire: they are not ordered
        // It ends when its work does, which needs no turn of its own.
        uint64_t end_ps = phx_strand_time_ps(strand);
        strand->debt_ps = 0;
        if (end_ps > rank->run_end_ps)
            rank->run_end_ps = end_ps;
        if (--rank->workers_left == 0)
            phx_strand_wake(&rank->strands[0], rank->run_end_ps);
        phx_strand_block(strand, PHX_STRAND_IDLE, false);
    }
}

static int workers_make(struct phx_sim_rank *rank, uint32_t workers)
{
    for (uint32_t w = 0; w < workers; w++) {
        struct phx_strand *strand = phx_rank_strand(rank, w);
        phx_assert(strand->state == PHX_STRAND_IDLE);
        if (strand->fiber == NULL)
            strand->fiber = phx_fiber_create(rank->world->fibers, phx_worker_main, strand);
        if (strand->fiber == NULL)
            return PHX_ERR_NO_MEMORY;
    }
    return 0;
}

static int executor_run(struct phx_executor *e, phx_body_fn *body, void *argument, uint32_t workers,
                        void (*on_events)(void *context), void *context)
{
    struct phx_strand *control = caller(e, PHX_WORKER_CONTROL);
    struct phx_sim_rank *rank = control->rank;
    struct phx_world *world = rank->world;
    phx_assert(workers >= 1 && workers <= world->options.workers && rank->workers_left == 0);
    if (workers_make(rank, workers) != 0) {
        phx_world_stop(world, PHX_ERR_NO_MEMORY, "no memory for a worker's fiber");
        return PHX_ERR_ABORTED;
    }
    uint64_t start_ps = phx_strand_time_ps(control) + slowed(rank, world->options.launch_ps);
    control->debt_ps = 0;
    rank->body = body;
    rank->body_argument = argument;
    rank->workers_running = workers;
    rank->workers_left = workers;
    rank->run_end_ps = start_ps;
    PHX_SIM_RELEASE(&rank->body);
    for (uint32_t w = 0; w < workers; w++) {
        struct phx_strand *strand = phx_rank_strand(rank, w);
        strand->state = PHX_STRAND_READY;
        phx_strand_wake(strand, start_ps);
    }
    while (rank->workers_left > 0 || phx_core_now_ps(world->core) < rank->run_end_ps) {
        if (rank->events_arrived) {
            rank->events_arrived = false;
            if (on_events != NULL)
                on_events(context);
            phx_strand_settle(control);
            continue;
        }
        if (rank->workers_left == 0)
            phx_strand_wake(control, rank->run_end_ps);
        phx_strand_block(control, PHX_STRAND_LAUNCHED, false);
    }
    PHX_SIM_ACQUIRE(&rank->run_end_ps);
    rank->workers_running = 0;
    return 0;
}

const struct phx_executor_ops phx_sim_executor_ops = {
    .now_ns = executor_now_ns,
    .park = executor_park,
    .wake = executor_wake,
    .charge = executor_charge,
    .observe = executor_observe,
    .touch = executor_touch,
    .run = executor_run,
    .phase = executor_phase,
};

// --- a rank's own view ---------------------------------------------------------------------------

uint32_t phx_sim_rank_number(const struct phx_sim_rank *rank)
{
    return rank->number;
}

struct phx_world *phx_sim_rank_world(struct phx_sim_rank *rank)
{
    return rank->world;
}

struct phx_transport *phx_sim_transport(struct phx_sim_rank *rank)
{
    return rank->transport;
}

struct phx_executor *phx_sim_executor(struct phx_sim_rank *rank)
{
    return &rank->executor.executor;
}
