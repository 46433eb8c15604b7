// tests/test_world.c: ranks, workers, clocks, the bootstrap, and what faults do to all of them.

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/layout.h"
#include "sim/world_internal.h"
#include "tests/test.h"

#define US UINT64_C(1000)

struct stage { // what the programs of one test share; one fiber runs at a time
    struct phx_world *world;
    uint64_t word[8]; // words of rank 0, stored to by anybody
    uint64_t seen_ns[8];
    uint32_t count;
    char log[256];
    size_t length;
    int error;
};

static void say(struct stage *stage, const char *what)
{
    PHX_SIM_ACQUIRE(stage); // ranks share nothing else; the switch between them orders nothing
    CHECK(stage->length + strlen(what) + 2 < sizeof stage->log);
    stage->length += strlen(strcpy(stage->log + stage->length, what));
    PHX_SIM_RELEASE(stage);
}

static struct phx_world_options options_of(uint32_t ranks, uint32_t workers)
{
    return (struct phx_world_options){
        .seed = 1,
        .schedule.tie = PHX_TIE_FIFO,
        .fibers = PHX_PTHREADS, // there in every build; the hash tests compare both kinds
        .workers = workers,
        .cluster = {.nodes = 1, .ranks_per_node = ranks},
    };
}

static void world_make(struct stage *stage, const struct phx_world_options *options)
{
    struct phx_message message;
    memset(stage, 0, sizeof *stage);
    int error = phx_world_create(options, &stage->world, &message);
    CHECK_MSG(error == 0, "%s", message.text);
}

// Runs and destroys; the message of a failed run stays in *message.
static int world_run(struct stage *stage, phx_rank_main *main, struct phx_message *message)
{
    int error = phx_world_run(stage->world, main, stage, message);
    phx_world_destroy(stage->world);
    return error;
}

static void world_pass(struct stage *stage, phx_rank_main *main)
{
    struct phx_message message;
    int error = world_run(stage, main, &message);
    CHECK_MSG(error == 0, "%s", message.text);
}

static uint64_t now(struct phx_executor *e, uint32_t worker)
{
    return e->ops->now_ns(e, worker);
}

// --- creation ------------------------------------------------------------------------------------

TEST(world_refuses_options_out_of_range)
{
    struct phx_world *world = NULL;
    struct phx_message message;
    struct phx_world_options options = options_of(0, 1);
    CHECK_EQ(phx_world_create(&options, &world, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text,
                 "nodes (1) times ranks_per_node (0) is 0; it may be 1 to 1024 ranks");
    options = options_of(1025, 1);
    CHECK_EQ(phx_world_create(&options, &world, &message), PHX_ERR_INVALID);
    options = options_of(1, 0);
    CHECK_EQ(phx_world_create(&options, &world, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "workers is 0; it may be 1 to 4096");
    options = options_of(1, 1);
    options.schedule.tie = (enum phx_tie)9;
    CHECK_EQ(phx_world_create(&options, &world, &message), PHX_ERR_INVALID);
    options = options_of(1, 1);
    options.fibers = (enum phx_fiber_mode)0;
    CHECK_EQ(phx_world_create(&options, &world, &message), PHX_ERR_INVALID);
    CHECK(world == NULL);
}

TEST(world_may_be_destroyed_without_a_run)
{
    struct stage stage;
    struct phx_world_options options = options_of(4, 2);
    world_make(&stage, &options);
    CHECK_EQ(phx_world_rank_count(stage.world), 4);
    CHECK(phx_world_rank_alive(stage.world, 3));
    phx_world_destroy(stage.world);
    phx_world_destroy(NULL);
}

// --- ranks, time and memory ----------------------------------------------------------------------

static void main_sleeps(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    uint32_t r = phx_sim_rank_number(rank);
    CHECK_EQ(phx_sim_now_ns(rank), 0);
    phx_sim_sleep_ns(rank, (10 - r) * US);
    stage->seen_ns[r] = phx_sim_now_ns(rank);
    say(stage, r == 0 ? "0" : r == 1 ? "1" : "2");
    uint64_t *memory = phx_sim_alloc(rank, UINT64_C(1) << 30); // reserved, not used
    CHECK(memory != NULL);
    CHECK_EQ((uintptr_t)memory % 4096, 0);
    CHECK_EQ(memory[12345], 0);
    memory[12345] = 1;
    CHECK(phx_sim_alloc(rank, UINT64_C(1) << 60) == NULL);
}

TEST(world_ranks_sleep_in_virtual_time)
{
    struct stage stage;
    struct phx_world_options options = options_of(3, 1);
    world_make(&stage, &options);
    world_pass(&stage, main_sleeps);
    CHECK_STR_EQ(stage.log, "210");
    CHECK_EQ(stage.seen_ns[0], 10 * US);
    CHECK_EQ(stage.seen_ns[2], 8 * US);
}

// --- workers -------------------------------------------------------------------------------------

struct job {
    struct stage *stage;
    struct phx_executor *e;
    uint64_t barrier;
    uint64_t end_ns[8];
};

static void body_charges(void *argument, uint32_t worker)
{
    struct job *job = argument;
    struct phx_executor *e = job->e;
    uint64_t begin = now(e, worker);
    CHECK_EQ(begin, 3300); // the launch
    struct phx_cost cost = {.operations = 2, .bytes = 3000000};
    e->ops->charge(e, worker, cost);
    // 3 TB/s shared by four workers: 3 MB take 4 us; two leaf calls are 0.1 us.
    CHECK_EQ(now(e, worker), begin + 4100);
    if (worker == 2)
        e->ops->charge(e, worker, cost);
    job->end_ns[worker] = now(e, worker);
}

static void main_runs_charges(struct phx_sim_rank *rank, void *argument)
{
    struct job job = {.stage = argument, .e = phx_sim_executor(rank)};
    CHECK_EQ(job.e->ops->run(job.e, body_charges, &job, 4, NULL, NULL), 0);
    CHECK_EQ(job.end_ns[0], 3300 + 4100);
    CHECK_EQ(job.end_ns[2], 3300 + 8200);
    CHECK_EQ(phx_sim_now_ns(rank), 3300 + 8200); // when the last worker's work was done
}

TEST(world_workers_run_ahead_by_what_they_charge)
{
    struct stage stage;
    struct phx_world_options options = options_of(1, 4);
    world_make(&stage, &options);
    world_pass(&stage, main_runs_charges);
}

// The waiter looks, parks, and must be woken at the waker's own time.
static void body_wakes(void *argument, uint32_t worker)
{
    struct job *job = argument;
    struct phx_executor *e = job->e;
    struct phx_cost cost = {.operations = 1, .bytes = 0};
    if (worker == 0) {
        e->ops->charge(e, worker, cost); // 50 ns, to be slept off before the park
        uint64_t looks = 0;
        while (__atomic_load_n(&job->barrier, __ATOMIC_ACQUIRE) == 0) {
            e->ops->park(e, worker, &job->barrier, 1, PHX_TIME_NEVER);
            if (looks++ == 0)
                CHECK_EQ(now(e, worker), 3300 + 50);
        }
        CHECK_EQ(looks, 2); // after the debt, and after nothing else
        CHECK_EQ(now(e, worker), 3300 + 1000);
    } else {
        e->ops->park(e, worker, NULL, 0, 3300 + 900); // until a time
        CHECK_EQ(now(e, worker), 3300 + 900);
        e->ops->park(e, worker, NULL, 0, 3300 + 900); // a time that has passed
        CHECK_EQ(now(e, worker), 3300 + 900);
        cost.operations = 2;
        e->ops->charge(e, worker, cost);
        __atomic_store_n(&job->barrier, 1, __ATOMIC_RELEASE);
        e->ops->wake(e, worker, &job->barrier);
    }
}

static void main_wakes_once(struct phx_sim_rank *rank, void *argument)
{
    struct job job = {.stage = argument, .e = phx_sim_executor(rank)};
    CHECK_EQ(job.e->ops->run(job.e, body_wakes, &job, 2, NULL, NULL), 0);
    CHECK_EQ(phx_sim_now_ns(rank), 3300 + 1000);
}

TEST(world_parks_until_a_word_changes_or_a_time_comes)
{
    struct stage stage;
    struct phx_world_options options = options_of(1, 2);
    world_make(&stage, &options);
    world_pass(&stage, main_wakes_once);
}

static void body_counts(void *argument, uint32_t worker)
{
    struct job *job = argument;
    job->end_ns[worker]++;
}

static void main_runs_often(struct phx_sim_rank *rank, void *argument)
{
    struct job job = {.stage = argument, .e = phx_sim_executor(rank)};
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQ(job.e->ops->run(job.e, body_counts, &job, 1 + i % 4, NULL, NULL), 0);
    CHECK_EQ(job.end_ns[0], 100);
    CHECK_EQ(job.end_ns[3], 25);
    CHECK_EQ(phx_sim_now_ns(rank), 100 * 3300);
}

TEST(world_reuses_workers)
{
    struct stage stage;
    struct phx_world_options options = options_of(1, 4);
    world_make(&stage, &options);
    world_pass(&stage, main_runs_often);
}

static void on_nothing(void *context, const struct phx_event_record *event)
{
    (void)context, (void)event;
}

static void body_floods(void *argument, uint32_t worker)
{
    struct job *job = argument;
    struct phx_core *core = phx_world_core(job->stage->world);
    for (uint64_t i = 0; i < 1000; i++) {
        CHECK(phx_core_schedule(core, phx_core_now_ps(core) + i, PHX_EVENTS_TEST, worker, i));
        if (i % 100 == 0)
            job->e->ops->park(job->e, worker, NULL, 0, now(job->e, worker) + 1);
    }
}

static void main_floods(struct phx_sim_rank *rank, void *argument)
{
    struct job job = {.stage = argument, .e = phx_sim_executor(rank)};
    CHECK_EQ(job.e->ops->run(job.e, body_floods, &job, 4, NULL, NULL), 0);
}

// The queue grows on several fibers; to ThreadSanitizer that must not look like a race.
TEST(world_takes_events_from_every_worker)
{
    for (int tie = PHX_TIE_FIFO; tie <= PHX_TIE_RANDOM; tie++) {
        struct stage stage;
        struct phx_world_options options = options_of(2, 4);
        options.schedule.tie = (enum phx_tie)tie;
        world_make(&stage, &options);
        phx_core_handle(phx_world_core(stage.world), PHX_EVENTS_TEST, on_nothing, NULL);
        world_pass(&stage, main_floods);
    }
}

// --- the transport's events reach the control fiber ----------------------------------------------

#define EVENT_STORE PHX_EVENTS_TEST
#define EVENT_ARRIVE (PHX_EVENTS_TEST + 1)

static void on_store(void *context, const struct phx_event_record *event)
{
    struct stage *stage = context;
    __atomic_store_n(&stage->word[event->object], event->argument, __ATOMIC_RELEASE);
    phx_world_word_changed(stage->world, 0, &stage->word[event->object]);
}

static void on_arrive(void *context, const struct phx_event_record *event)
{
    struct stage *stage = context;
    (void)event;
    phx_world_events_arrived(stage->world, 0);
}

static void count_events(void *context)
{
    struct stage *stage = context;
    stage->seen_ns[stage->count++] = phx_sim_now_ns(phx_world_rank(stage->world, 0));
}

static void body_waits_for_store(void *argument, uint32_t worker)
{
    struct job *job = argument;
    struct stage *stage = job->stage;
    uint32_t parks = 0;
    while (__atomic_load_n(&stage->word[2], __ATOMIC_ACQUIRE) == 0) {
        job->e->ops->park(job->e, worker, &stage->word[1], 2, PHX_TIME_NEVER);
        parks++;
    }
    CHECK_EQ(now(job->e, worker), 20 * US);
    CHECK_EQ(parks, 2); // for words 1 and 2, not for word 3
}

static void main_polls(struct phx_sim_rank *rank, void *argument)
{
    struct job job = {.stage = argument, .e = phx_sim_executor(rank)};
    struct stage *stage = argument;
    CHECK_EQ(job.e->ops->run(job.e, body_waits_for_store, &job, 1, count_events, stage), 0);
    CHECK_EQ(stage->count, 2);
    CHECK_EQ(stage->seen_ns[0], 5 * US);
    CHECK_EQ(stage->seen_ns[1], 7 * US);
    CHECK_EQ(phx_sim_now_ns(rank), 20 * US);
    job.e->ops->park(job.e, PHX_WORKER_CONTROL, NULL, 0, 90 * US);
    CHECK_EQ(phx_sim_now_ns(rank), 30 * US); // an event ends the control fiber's park too
}

TEST(world_brings_events_to_the_control_fiber)
{
    struct stage stage;
    struct phx_world_options options = options_of(1, 1);
    world_make(&stage, &options);
    struct phx_core *core = phx_world_core(stage.world);
    phx_core_handle(core, EVENT_STORE, on_store, &stage);
    phx_core_handle(core, EVENT_ARRIVE, on_arrive, &stage);
    CHECK(phx_core_schedule(core, 5 * US * 1000, EVENT_ARRIVE, 0, 0));
    CHECK(phx_core_schedule(core, 7 * US * 1000, EVENT_ARRIVE, 0, 0));
    CHECK(phx_core_schedule(core, 9 * US * 1000, EVENT_STORE, 3, 1)); // nobody's
    CHECK(phx_core_schedule(core, 10 * US * 1000, EVENT_STORE, 1, 1));
    CHECK(phx_core_schedule(core, 20 * US * 1000, EVENT_STORE, 2, 1));
    CHECK(phx_core_schedule(core, 30 * US * 1000, EVENT_ARRIVE, 0, 0));
    world_pass(&stage, main_polls);
}

// --- the bootstrap -------------------------------------------------------------------------------

static void main_exchanges(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    uint32_t r = phx_sim_rank_number(rank);
    uint32_t mine[3], theirs[3];
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 3; i++)
            mine[i] = 100 * round + 10 * r + i;
        phx_sim_sleep_ns(rank, r * US);
        CHECK_EQ(phx_sim_exchange(rank, mine, theirs, sizeof mine[0]), 0);
        for (uint32_t i = 0; i < 3; i++)
            CHECK_EQ(theirs[i], 100 * round + 10 * i + r);
    }
    stage->seen_ns[r] = phx_sim_now_ns(rank);
}

TEST(world_exchanges_cards)
{
    struct stage stage;
    struct phx_world_options options = options_of(3, 1);
    world_make(&stage, &options);
    world_pass(&stage, main_exchanges);
    CHECK_EQ(stage.seen_ns[0], 24 * US); // twice: the last comes 2 us late, and 10 us on
    CHECK_EQ(stage.seen_ns[2], 24 * US);
}

static void main_exchange_loses_one(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    uint32_t r = phx_sim_rank_number(rank);
    uint64_t mine[3] = {r, r, r}, theirs[3] = {7, 7, 7};
    if (r == 1 && stage->count == 0) { // before it came
        phx_sim_sleep_ns(rank, 5 * US);
        phx_world_kill(stage->world, 1);
    }
    if (r == 2) {
        phx_sim_sleep_ns(rank, 2 * US);
        if (stage->count == 1) // after it came
            phx_world_kill(stage->world, 1);
        phx_sim_sleep_ns(rank, 2 * US);
    }
    int error = phx_sim_exchange(rank, mine, theirs, sizeof mine[0]);
    CHECK_EQ(error, stage->count == 0 ? PHX_ERR_PEER_LOST : 0);
    CHECK_EQ(theirs[1], stage->count == 0 ? 7 : 1); // outputs are written on success alone
    stage->seen_ns[r] = phx_sim_now_ns(rank);
}

TEST(world_exchange_survives_a_death)
{
    for (uint32_t after = 0; after < 2; after++) {
        struct stage stage;
        struct phx_world_options options = options_of(3, 1);
        world_make(&stage, &options);
        stage.count = after;
        world_pass(&stage, main_exchange_loses_one);
        CHECK_EQ(stage.seen_ns[0], after == 0 ? 15 * US : 14 * US);
        CHECK_EQ(stage.seen_ns[1], 0);
        CHECK_EQ(stage.seen_ns[2], stage.seen_ns[0]);
    }
}

static void main_exchange_mismatches(struct phx_sim_rank *rank, void *argument)
{
    uint8_t mine[64] = {0}, theirs[64];
    (void)argument;
    CHECK_EQ(phx_sim_exchange(rank, mine, theirs, 8 + phx_sim_rank_number(rank)), PHX_ERR_MISMATCH);
}

TEST(world_exchange_refuses_cards_of_two_sizes)
{
    struct stage stage;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    world_pass(&stage, main_exchange_mismatches);
}

// --- faults --------------------------------------------------------------------------------------

#define EVENT_FAULT (PHX_EVENTS_TEST + 2)
enum { KILL = 1, PAUSE, RESUME, SLOW, OFFSET, SET_BACK, RESTART };

static void main_again(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    say(stage, "again ");
    CHECK_EQ(phx_world_rank_incarnation(stage->world, phx_sim_rank_number(rank)), 2);
    CHECK_EQ(*(uint64_t *)phx_sim_alloc(rank, 8), 0);
    // What the first incarnation was waiting for, at 50 us, does not wake the second.
    struct phx_executor *e = phx_sim_executor(rank);
    e->ops->park(e, PHX_WORKER_CONTROL, NULL, 0, 70 * US);
    CHECK_EQ(phx_sim_now_ns(rank), 70 * US);
    say(stage, "end ");
}

static void on_fault(void *context, const struct phx_event_record *event)
{
    struct stage *stage = context;
    struct phx_message message;
    switch (event->argument) {
    case KILL:
        phx_world_kill(stage->world, event->object);
        break;
    case PAUSE:
        phx_world_pause(stage->world, event->object);
        break;
    case RESUME:
        phx_world_resume(stage->world, event->object);
        break;
    case SLOW:
        phx_world_slow(stage->world, event->object, 25);
        break;
    case OFFSET:
        phx_world_clock_offset(stage->world, event->object, 1000000);
        break;
    case SET_BACK:
        phx_world_clock_offset(stage->world, event->object, INT64_MIN);
        break;
    case RESTART:
        CHECK_EQ(phx_world_restart(stage->world, event->object, main_again, stage, &message),
                 stage->error);
        break;
    default:
        CHECK(false);
    }
}

static void fault_at(struct stage *stage, uint64_t at_us, uint32_t rank, uint64_t what)
{
    struct phx_core *core = phx_world_core(stage->world);
    phx_core_handle(core, EVENT_FAULT, on_fault, stage);
    CHECK(phx_core_schedule(core, at_us * 1000000, EVENT_FAULT, rank, what));
}

static void main_ticks(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    uint32_t r = phx_sim_rank_number(rank);
    for (uint32_t i = 0; i < 10; i++) {
        phx_sim_sleep_ns(rank, 10 * US);
        stage->word[r]++;
    }
    stage->seen_ns[r] = phx_sim_now_ns(rank);
}

TEST(world_a_killed_rank_runs_no_more)
{
    struct stage stage;
    struct phx_message message;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    fault_at(&stage, 45, 1, KILL);
    fault_at(&stage, 50, 1, KILL); // the dead stay dead
    fault_at(&stage, 51, 1, RESUME);
    CHECK_EQ(phx_world_rank_died_ps(stage.world, 1), UINT64_MAX);
    CHECK_EQ(phx_world_run(stage.world, main_ticks, &stage, &message), 0);
    CHECK(!phx_world_rank_alive(stage.world, 1));
    CHECK_EQ(phx_world_rank_died_ps(stage.world, 1), 45000000);
    CHECK_EQ(phx_world_run(stage.world, main_ticks, &stage, &message), PHX_ERR_STATE);
    phx_world_destroy(stage.world);
    CHECK_EQ(stage.word[0], 10);
    CHECK_EQ(stage.word[1], 4);
}

TEST(world_a_paused_rank_goes_on_late)
{
    struct stage stage;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    fault_at(&stage, 35, 1, PAUSE);
    fault_at(&stage, 36, 1, PAUSE);
    fault_at(&stage, 85, 1, RESUME);
    world_pass(&stage, main_ticks);
    CHECK_EQ(stage.seen_ns[0], 100 * US);
    CHECK_EQ(stage.seen_ns[1], 145 * US); // its fourth tick came at 85
    CHECK_EQ(stage.word[1], 10);
}

TEST(world_ends_although_a_rank_stays_paused)
{
    struct stage stage;
    struct phx_message message;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    fault_at(&stage, 35, 1, PAUSE);
    CHECK_EQ(phx_world_run(stage.world, main_ticks, &stage, &message), 0);
    CHECK(phx_world_rank_returned(stage.world, 0));
    CHECK(!phx_world_rank_returned(stage.world, 1) && phx_world_rank_paused(stage.world, 1));
    phx_world_destroy(stage.world);
    CHECK_EQ(stage.word[1], 3);
}

static void main_parks_until(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    struct phx_executor *e = phx_sim_executor(rank);
    e->ops->park(e, PHX_WORKER_CONTROL, NULL, 0, 40 * US);
    stage->seen_ns[phx_sim_rank_number(rank)] = phx_sim_now_ns(rank);
}

TEST(world_a_deadline_in_a_pause_is_met_after_it)
{
    struct stage stage;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    fault_at(&stage, 35, 1, PAUSE);
    fault_at(&stage, 85, 1, RESUME);
    world_pass(&stage, main_parks_until);
    CHECK_EQ(stage.seen_ns[0], 40 * US);
    CHECK_EQ(stage.seen_ns[1], 85 * US);
}

static void body_two_wakers(void *argument, uint32_t worker)
{
    struct job *job = argument;
    struct phx_executor *e = job->e;
    struct phx_cost cost = {.operations = worker == 1 ? 100 : 20, .bytes = 0}; // 5 us and 1 us
    if (worker == 0) {
        e->ops->park(e, worker, &job->barrier, 1, PHX_TIME_NEVER);
        CHECK_EQ(now(e, worker), 3300 + 1000); // the earlier of two that were asked for
        e->ops->park(e, worker, &job->end_ns[0], 1, 3300 + 20 * US);
        CHECK_EQ(now(e, worker), 3300 + 20 * US); // and the later is forgotten
        return;
    }
    e->ops->charge(e, worker, cost);
    e->ops->wake(e, worker, &job->barrier);
}

static void main_two_wakers(struct phx_sim_rank *rank, void *argument)
{
    struct job job = {.stage = argument, .e = phx_sim_executor(rank)};
    CHECK_EQ(job.e->ops->run(job.e, body_two_wakers, &job, 3, NULL, NULL), 0);
}

TEST(world_the_earliest_of_several_wakes_counts)
{
    struct stage stage;
    struct phx_world_options options = options_of(1, 3);
    world_make(&stage, &options);
    world_pass(&stage, main_two_wakers);
}

static void main_restarted(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    *(uint64_t *)phx_sim_alloc(rank, 8) = 5;
    phx_sim_sleep_ns(rank, 50 * US);
    say(stage, "first ");
}

TEST(world_restarts_a_dead_rank_with_new_memory)
{
    struct stage stage;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    fault_at(&stage, 10, 1, KILL);
    fault_at(&stage, 20, 1, RESTART);
    world_pass(&stage, main_restarted);
    CHECK_STR_EQ(stage.log, "again first end ");
    world_make(&stage, &options);
    stage.error = PHX_ERR_STATE;
    fault_at(&stage, 20, 1, RESTART); // it lives
    world_pass(&stage, main_restarted);
    CHECK_STR_EQ(stage.log, "first first ");
}

static void body_own_fault(void *argument, uint32_t worker)
{
    struct job *job = argument;
    struct stage *stage = job->stage;
    struct phx_cost cost = {.operations = 20, .bytes = 0};
    job->e->ops->charge(job->e, worker, cost); // 1 us
    if (worker == 0) {
        if (stage->count == KILL)
            phx_world_kill(stage->world, 0);
        else
            phx_world_pause(stage->world, 0);
        say(stage, "returned ");
    }
    job->e->ops->park(job->e, worker, NULL, 0, 0); // sleeps the charge off
    job->e->ops->park(job->e, worker, NULL, 0, 6300);
    say(stage, worker == 0 ? "w0 " : "w1 ");
    job->end_ns[worker] = now(job->e, worker);
}

static void main_own_fault(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    if (phx_sim_rank_number(rank) == 1) {
        phx_sim_sleep_ns(rank, 100 * US);
        if (stage->count == PAUSE)
            phx_world_resume(stage->world, 0);
        return;
    }
    struct job job = {.stage = stage, .e = phx_sim_executor(rank)};
    CHECK_EQ(job.e->ops->run(job.e, body_own_fault, &job, 2, NULL, NULL), 0);
    CHECK_EQ(job.end_ns[0], 100 * US);
    CHECK_EQ(job.end_ns[1], 100 * US);
    say(stage, "run ");
}

TEST(world_faults_on_the_own_rank_strike_at_the_workers_time)
{
    for (uint32_t what = KILL; what <= PAUSE; what++) {
        struct stage stage;
        struct phx_message message;
        struct phx_world_options options = options_of(2, 2);
        world_make(&stage, &options);
        stage.count = what;
        CHECK_EQ(phx_world_run(stage.world, main_own_fault, &stage, &message), 0);
        uint64_t died_ps = phx_world_rank_died_ps(stage.world, 0);
        CHECK_EQ(died_ps, what == KILL ? 4300000 : UINT64_MAX); // launch and charge
        phx_world_destroy(stage.world);
        CHECK_STR_EQ(stage.log, what == KILL ? "" : "returned w0 w1 run ");
    }
}

static void main_slow(struct phx_sim_rank *rank, void *argument)
{
    struct phx_executor *e = phx_sim_executor(rank);
    struct phx_cost cost = {.operations = 20, .bytes = 3000000};
    (void)argument;
    phx_sim_sleep_ns(rank, 10 * US);
    e->ops->charge(e, PHX_WORKER_CONTROL, cost);
    CHECK_EQ(phx_sim_now_ns(rank), phx_sim_rank_number(rank) == 0 ? 12 * US : 18 * US);
}

TEST(world_a_slow_rank_pays_more_for_its_work)
{
    struct stage stage;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    fault_at(&stage, 5, 1, SLOW);
    world_pass(&stage, main_slow);
}

static void main_offset(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    struct phx_executor *e = phx_sim_executor(rank);
    uint64_t until = 500 * US;
    uint32_t parks = 0;
    while (e->ops->now_ns(e, PHX_WORKER_CONTROL) < until) {
        e->ops->park(e, PHX_WORKER_CONTROL, NULL, 0, until);
        parks++;
    }
    stage->seen_ns[phx_sim_rank_number(rank)] =
        phx_core_now_ps(phx_world_core(stage->world)) / 1000;
    CHECK(parks <= 2); // who is told of a new clock looks again
}

TEST(world_a_clock_offset_moves_that_ranks_deadlines)
{
    struct stage stage;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    fault_at(&stage, 40, 1, OFFSET); // ahead by 1 ms
    world_pass(&stage, main_offset);
    CHECK_EQ(stage.seen_ns[0], 500 * US);
    CHECK_EQ(stage.seen_ns[1], 40 * US);
}

TEST(world_a_clock_set_far_back_runs_on_from_0)
{
    struct stage stage;
    struct phx_world_options options = options_of(2, 1);
    world_make(&stage, &options);
    fault_at(&stage, 40, 1, SET_BACK);
    world_pass(&stage, main_offset);
    CHECK_EQ(stage.seen_ns[0], 500 * US);
    CHECK_EQ(stage.seen_ns[1], 540 * US); // all of it again
}

// --- no progress ---------------------------------------------------------------------------------

static void body_deadlocks(void *argument, uint32_t worker)
{
    struct job *job = argument;
    job->e->ops->phase(job->e, worker, PHX_PHASE_COMBINE_RECEIVE, 5);
    for (;;)
        job->e->ops->park(job->e, worker, (uint64_t *)(uintptr_t)job->barrier + worker, 1,
                          PHX_TIME_NEVER);
}

static void main_deadlocks(struct phx_sim_rank *rank, void *argument)
{
    struct job job = {.stage = argument, .e = phx_sim_executor(rank)};
    uint64_t cards[4] = {0};
    if (phx_sim_rank_number(rank) == 1) {
        phx_sim_exchange(rank, cards, cards + 2, 8);
        return;
    }
    job.barrier = (uintptr_t)phx_sim_alloc(rank, 4096) + 64;
    (void)job.e->ops->run(job.e, body_deadlocks, &job, 2, NULL, NULL);
}

TEST(world_reports_who_waits_for_what_when_nothing_can_run)
{
    struct stage stage;
    struct phx_message message;
    struct phx_world_options options = options_of(2, 2);
    world_make(&stage, &options);
    CHECK_EQ(world_run(&stage, main_deadlocks, &message), PHX_ERR_TIMEOUT);
    CHECK_STR_EQ(message.text,
                 "nothing can run at 3300 ns: "
                 "rank 0 worker 0 waits for memory 1 + 0x40 in combine-receive 5 since 3300 ns; "
                 "rank 0 worker 1 waits for memory 1 + 0x48 in combine-receive 5 since 3300 ns; "
                 "and 1 more");
    options = options_of(64, 16);
    world_make(&stage, &options);
    CHECK_EQ(world_run(&stage, main_deadlocks, &message), PHX_ERR_TIMEOUT);
    CHECK(strstr(message.text, "more") != NULL);
}

static void main_exchange_waits(struct phx_sim_rank *rank, void *argument)
{
    uint64_t cards[16] = {0};
    (void)argument;
    if (phx_sim_rank_number(rank) > 0)
        phx_sim_sleep_ns(rank, UINT64_C(1000000000));
    (void)phx_sim_exchange(rank, cards, cards + 8, 8);
}

TEST(world_stops_at_its_time_limit)
{
    struct stage stage;
    struct phx_message message;
    struct phx_world_options options = options_of(6, 1);
    options.time_limit_ps = 1000000000;
    world_make(&stage, &options);
    phx_core_handle(phx_world_core(stage.world), EVENT_STORE, on_store, &stage);
    CHECK(phx_core_schedule(phx_world_core(stage.world), 1000000000, EVENT_STORE, 0, 0));
    CHECK_EQ(phx_world_run(stage.world, main_exchange_waits, &stage, &message), PHX_ERR_TIMEOUT);
    CHECK_MSG(strstr(message.text, "time limit reached at 1000000 ns: rank 0 control waits in the "
                                   "bootstrap for rank 1, 2, 3 and 2 more") == message.text,
              "%s", message.text);
    phx_world_destroy(stage.world);
}

static void main_spins(struct phx_sim_rank *rank, void *argument)
{
    struct phx_executor *e = phx_sim_executor(rank);
    (void)argument;
    for (;;)
        e->ops->park(e, PHX_WORKER_CONTROL, NULL, 0, 0);
}

TEST(world_stops_a_rank_that_spins)
{
    struct stage stage;
    struct phx_message message;
    struct phx_world_options options = options_of(1, 1);
    world_make(&stage, &options);
    CHECK_EQ(world_run(&stage, main_spins, &message), PHX_ERR_STATE);
    CHECK(strstr(message.text, "parks again and again") != NULL);
}

TEST(world_keeps_the_first_violations_and_counts_all)
{
    struct stage stage;
    struct phx_world_options options = options_of(1, 1);
    const struct phx_violation *list;
    world_make(&stage, &options);
    CHECK_EQ(phx_world_violations(stage.world, &list), 0);
    for (uint32_t i = 0; i < 100; i++) {
        struct phx_violation violation = {.rule = "a-rule", .number = i};
        phx_world_violate(stage.world, &violation);
    }
    CHECK_EQ(phx_world_violations(stage.world, &list), 100);
    CHECK_EQ(list[63].number, 63);
    phx_world_destroy(stage.world);
}

// --- replay --------------------------------------------------------------------------------------

static void body_mixes(void *argument, uint32_t worker)
{
    struct job *job = argument;
    struct phx_executor *e = job->e;
    struct stage *stage = job->stage;
    uint32_t rank, self;
    CHECK(phx_world_current(stage->world, &rank, &self));
    CHECK_EQ(self, worker);
    for (uint64_t i = 0; i < 20; i++) {
        uint64_t chance = phx_chance_below(7, 1, PHX_CHANCE_PAYLOAD, rank * 8 + worker, i);
        struct phx_cost cost = {.operations = (uint32_t)chance, .bytes = 0};
        e->ops->charge(e, worker, cost);
        __atomic_fetch_add(&job->barrier, 1, __ATOMIC_ACQ_REL);
        e->ops->wake(e, worker, &job->barrier);
        e->ops->park(e, worker, &job->barrier, 1, now(e, worker) + 100);
        // Who comes here in which order is what ties decide.
        PHX_SIM_ACQUIRE(stage);
        stage->word[0] = stage->word[0] * 31 + rank * 8 + worker;
        PHX_SIM_RELEASE(stage);
    }
}

static void main_mixes(struct phx_sim_rank *rank, void *argument)
{
    struct job job = {.stage = argument, .e = phx_sim_executor(rank)};
    uint64_t mine[4] = {0}, theirs[4];
    CHECK_EQ(phx_sim_exchange(rank, mine, theirs, 8), 0);
    CHECK_EQ(job.e->ops->run(job.e, body_mixes, &job, 3, NULL, NULL), 0);
}

static uint64_t mixed_hash(enum phx_fiber_mode fibers, enum phx_tie tie, uint64_t seed,
                           uint64_t *order)
{
    struct stage stage;
    struct phx_message message;
    struct phx_world_options options = options_of(4, 3);
    options.fibers = fibers;
    options.schedule.tie = tie;
    options.seed = seed;
    world_make(&stage, &options);
    fault_at(&stage, 14, 2, KILL);
    fault_at(&stage, 15, 1, PAUSE);
    fault_at(&stage, 25, 1, RESUME);
    int error = phx_world_run(stage.world, main_mixes, &stage, &message);
    CHECK_MSG(error == 0, "%s", message.text);
    CHECK(phx_world_drain(stage.world));
    uint64_t hash = phx_core_hash(phx_world_core(stage.world));
    phx_core_fold(phx_world_core(stage.world), 0);
    phx_world_destroy(stage.world);
    *order = stage.word[0];
    return hash;
}

TEST(world_runs_alike_on_fibers_and_on_pthreads)
{
    struct phx_world *world;
    struct phx_world_options options = options_of(1, 1);
    options.fibers = PHX_FIBERS;
    if (phx_world_create(&options, &world, NULL) == PHX_ERR_UNSUPPORTED)
        SKIP("this build has no Boost.Context");
    phx_world_destroy(world);
    for (int tie = PHX_TIE_FIFO; tie <= PHX_TIE_RANDOM; tie++) {
        uint64_t one, two;
        uint64_t hash = mixed_hash(PHX_FIBERS, (enum phx_tie)tie, 5, &one);
        CHECK_EQ(hash, mixed_hash(PHX_PTHREADS, (enum phx_tie)tie, 5, &two));
        CHECK_EQ(one, two);
    }
}

TEST(world_replays_a_seed_and_ties_follow_it)
{
    uint64_t first, again, other, fifo;
    uint64_t hash = mixed_hash(PHX_PTHREADS, PHX_TIE_RANDOM, 5, &first);
    CHECK_EQ(hash, mixed_hash(PHX_PTHREADS, PHX_TIE_RANDOM, 5, &again));
    CHECK_EQ(first, again);
    mixed_hash(PHX_PTHREADS, PHX_TIE_RANDOM, 6, &other);
    mixed_hash(PHX_PTHREADS, PHX_TIE_FIFO, 5, &fifo);
    CHECK(first != other && first != fifo);
}
