// tests/test_burst.c: stores that travel together cost three events in all, and what a fault comes
// upon is judged as if each travelled alone: what was posted for a later time has not left.
//
// Two ranks on a node. Rank 0's worker puts ROWS rows of 1 KiB, STEP_PS apart and ahead of the
// clock, each with a pattern of its own; the last stores a word.

#include <string.h>

#include "engine/executor.h"
#include "kernels/layout.h"
#include "sim/fabric.h"
#include "sim/fault.h"
#include "sim/world_internal.h"
#include "tests/test.h"

#define ROWS 16u
#define ROW 1024u
#define REGION ((uint64_t)ROWS * ROW + 8)
#define STEP_PS 50000u
#define US 1000000ull // picoseconds

#define EVENT_ACT PHX_EVENTS_TEST
#define EVENT_LOOK (PHX_EVENTS_TEST + 1)
#define LOOKS 400u // 10 ns apart

struct test {
    struct phx_world *world;
    struct phx_fabric *fabric;
    struct phx_core *core;
    uint8_t *source;
    uint8_t *region;   // of rank 1
    struct phx_mem to; // the same, at rank 0
    struct phx_mem source_mem;
    uint64_t landed_ps[ROWS]; // when each row was first seen whole
    uint64_t begin_ps;        // of the first put
    uint64_t events;          // of the run, until all had landed
    uint32_t posted;
    bool loud;        // every row wants its completion
    uint32_t signals; // one more row that stores a word, from 1; 0: the last alone
    uint32_t token;   // of all rows; 0: its number
    void (*act)(struct test *t, uint32_t step);
    uint64_t act_ps[2]; // after begin_ps; 0: nothing happens
};

static void put(struct test *t, uint32_t row)
{
    struct phx_op op;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.flags = t->loud ? 0 : PHX_OP_SILENT;
    op.peer = (struct phx_peer){1, 1};
    op.size_bytes = ROW;
    op.wire_bytes = ROW;
    op.source = (struct phx_span){t->source_mem, (uint64_t)row * ROW};
    op.target = (struct phx_span){t->to, (uint64_t)row * ROW};
    op.token = t->token != 0 ? t->token : row;
    if (row + 1 == ROWS || (t->signals != 0 && row + 1 == t->signals)) {
        op.flags |= PHX_OP_SIGNAL;
        op.signal_value = row + 1;
        op.signal_offset = (uint32_t)(REGION - 8);
    }
    t->posted += phx_post(phx_fabric_transport(t->fabric, 0), &op, 1);
}

static bool row_landed(const struct test *t, uint32_t row)
{
    return memcmp(t->region + (uint64_t)row * ROW, t->source + (uint64_t)row * ROW, ROW) == 0;
}

static uint32_t rows_landed(const struct test *t)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < ROWS; i++)
        count += row_landed(t, i);
    return count;
}

static uint64_t value_at(const struct test *t)
{
    uint64_t value;
    memcpy(&value, t->region + REGION - 8, sizeof value);
    return value;
}

static void look(struct test *t)
{
    PHX_SIM_ACQUIRE(t); // what the ranks' fibers left, before they wait or end
    for (uint32_t i = 0; i < ROWS; i++)
        if (t->landed_ps[i] == 0 && row_landed(t, i))
            t->landed_ps[i] = phx_core_now_ps(t->core);
}

static void on_look(void *context, const struct phx_event_record *event)
{
    (void)event;
    look(context);
}

static void on_act(void *context, const struct phx_event_record *event)
{
    struct test *t = context;
    t->act(t, event->object);
}

static void body(void *argument, uint32_t worker)
{
    struct test *t = argument;
    struct phx_executor *e = phx_sim_executor(phx_world_rank(t->world, 0));
    const struct phx_cost cost = {.operations = 1}; // 50 ns
    t->begin_ps = phx_world_time_ps(t->world);
    for (uint32_t i = 0; i < 2; i++)
        if (t->act_ps[i] != 0)
            CHECK(phx_core_schedule(t->core, t->begin_ps + t->act_ps[i], EVENT_ACT, i, 0));
    for (uint32_t i = 0; i < LOOKS; i++)
        CHECK(phx_core_schedule(t->core, t->begin_ps + 10000 * i, EVENT_LOOK, 0, 0));
    for (uint32_t i = 0; i < ROWS; i++) {
        put(t, i);
        e->ops->charge(e, worker, cost);
    }
    PHX_SIM_RELEASE(t);
}

static void program(struct phx_sim_rank *rank, void *argument)
{
    struct test *t = argument;
    uint32_t me = phx_sim_rank_number(rank);
    struct phx_transport *transport = phx_sim_transport(rank);
    struct phx_mem_key mine[2];
    struct phx_mem_key theirs[2];
    struct phx_mem mem;
    memset(mine, 0, sizeof mine);
    uint8_t *memory = phx_sim_alloc(rank, REGION);
    if (me == 0) {
        t->source = memory;
        for (uint32_t i = 0; i < ROWS * ROW; i++)
            memory[i] = (uint8_t)(1 + i / ROW + i % 7);
        CHECK_EQ(phx_mem_register(transport, memory, REGION, PHX_WRITER_NONE, &t->source_mem, NULL),
                 0);
    } else {
        t->region = memory;
        CHECK_EQ(phx_mem_register(transport, memory, REGION, 0, &mem, &mine[0]), 0);
    }
    CHECK_EQ(phx_sim_exchange(rank, mine, theirs, sizeof mine[0]), 0);
    PHX_SIM_RELEASE(t);
    if (me == 1)
        return;
    CHECK_EQ(phx_mem_import(transport, (struct phx_peer){1, 1}, &theirs[1], &t->to), 0);
    CHECK_EQ(phx_peer_connect(transport, (struct phx_peer){1, 1}), 0);
    struct phx_event event;
    while (phx_poll(transport, &event, 1) == 0)
        phx_sim_sleep_ns(rank, 1000);
    struct phx_executor *e = phx_sim_executor(rank);
    t->events = phx_core_events(t->core);
    CHECK_EQ(e->ops->run(e, body, t, 1, NULL, NULL), 0);
}

static void start(struct test *t, enum phx_bursts bursts)
{
    struct phx_world_options options;
    struct phx_message message;
    memset(t, 0, sizeof *t);
    memset(&options, 0, sizeof options);
    options.seed = 1;
    options.fibers = PHX_PTHREADS; // there in every build
    options.workers = 1;
    options.cluster = (struct phx_cluster){1, 2, "nvlink4", NULL, bursts};
    CHECK_MSG(phx_world_create(&options, &t->world, &message) == 0, "%s", message.text);
    t->fabric = phx_fabric_of(t->world);
    t->core = phx_world_core(t->world);
    phx_core_handle(t->core, EVENT_ACT, on_act, t);
    phx_core_handle(t->core, EVENT_LOOK, on_look, t);
}

// Runs everything to its end and notes when rows landed.
static void run(struct test *t)
{
    struct phx_message message;
    CHECK_MSG(phx_world_run(t->world, program, t, &message) == 0, "%s", message.text);
    do
        look(t);
    while (phx_core_step(t->core));
    t->events = phx_core_events(t->core) - t->events;
    phx_fabric_check_outcomes(t->fabric);
    const struct phx_violation *list = NULL;
    uint32_t count = phx_world_violations(t->world, &list);
    CHECK_MSG(count == 0, "%u violations; the first: %s", count, list[0].text);
    CHECK_EQ(phx_fabric_figures(t->fabric).in_flight, 0);
}

static uint64_t end_ps(const struct test *t)
{
    return t->landed_ps[ROWS - 1] - t->begin_ps;
}

// --- without faults -----------------------------------------------------------------------------

// What is left of a run's events are a few of its fibers.
TEST(burst_of_rows_costs_three_events)
{
    struct test t;
    struct test alone;
    start(&t, 0);
    run(&t);
    start(&alone, PHX_BURSTS_OFF);
    run(&alone);
    CHECK_EQ(alone.events - t.events, 3 * (ROWS - 1));
    CHECK_EQ(rows_landed(&t), ROWS);
    CHECK_EQ(value_at(&t), ROWS);
    CHECK_EQ(phx_fabric_figures(t.fabric).delivered, ROWS);
    CHECK_EQ(phx_fabric_figures(t.fabric).bytes, ROWS * ROW);
    // The end of all of them, but for the jitter that is drawn once.
    int64_t apart_ps = (int64_t)end_ps(&t) - (int64_t)end_ps(&alone);
    CHECK_MSG(apart_ps < 20000 && apart_ps > -20000, "%lld ps apart", (long long)apart_ps);
    for (uint32_t i = 1; i < ROWS; i++)
        CHECK_EQ(t.landed_ps[i], t.landed_ps[0]); // with the word
    CHECK(alone.landed_ps[ROWS - 1] - alone.landed_ps[0] > (ROWS - 2) * STEP_PS);
    phx_world_destroy(t.world);
    phx_world_destroy(alone.world);
}

TEST(burst_ends_with_a_signal)
{
    struct test t;
    start(&t, PHX_BURSTS_ON);
    t.signals = 5;
    run(&t);
    for (uint32_t i = 1; i < ROWS; i++)
        CHECK((t.landed_ps[i] == t.landed_ps[i - 1]) == (i != 5));
    CHECK_EQ(rows_landed(&t), ROWS);
    phx_world_destroy(t.world);
}

TEST(burst_takes_nothing_that_wants_a_completion)
{
    struct test t;
    start(&t, PHX_BURSTS_ON);
    t.loud = true;
    run(&t);
    for (uint32_t i = 1; i < ROWS; i++)
        CHECK(t.landed_ps[i] > t.landed_ps[i - 1]);
    phx_world_destroy(t.world);
}

// --- what comes between -------------------------------------------------------------------------

static void kill_source(struct test *t, uint32_t step)
{
    (void)step;
    phx_world_kill(t->world, 0);
}

// The worker had posted all sixteen ahead of the clock when the first of them was issued. A death
// at the time of the seventh finds seven out, burst or not.
TEST(burst_lets_out_what_was_posted_before_a_death)
{
    for (int bursts = PHX_BURSTS_ON; bursts <= PHX_BURSTS_OFF; bursts++) {
        for (uint32_t out = 1; out < ROWS; out += 3) {
            struct test t;
            start(&t, (enum phx_bursts)bursts);
            t.act = kill_source;
            t.act_ps[0] = (out - 1) * STEP_PS + STEP_PS / 2;
            run(&t);
            CHECK_EQ(t.posted, ROWS);
            CHECK_EQ(rows_landed(&t), out);
            for (uint32_t i = 0; i < out; i++)
                CHECK(row_landed(&t, i));
            CHECK_EQ(value_at(&t), 0);
            CHECK_EQ(phx_fabric_figures(t.fabric).bytes, out * ROW);
            phx_world_destroy(t.world);
        }
    }
}

static void pause_source(struct test *t, uint32_t step)
{
    if (step == 0)
        phx_world_pause(t->world, 0);
    else
        phx_world_resume(t->world, 0);
}

TEST(burst_holds_what_was_posted_for_the_time_of_a_pause)
{
    for (int bursts = PHX_BURSTS_ON; bursts <= PHX_BURSTS_OFF; bursts++) {
        struct test t;
        start(&t, (enum phx_bursts)bursts);
        t.act = pause_source;
        t.act_ps[0] = 4 * STEP_PS + STEP_PS / 2; // five are out
        t.act_ps[1] = 100 * US;
        run(&t);
        CHECK_EQ(rows_landed(&t), ROWS);
        CHECK_EQ(value_at(&t), ROWS);
        for (uint32_t i = 0; i < ROWS; i++)
            CHECK((t.landed_ps[i] < t.begin_ps + 10 * US) == (i < 5));
        CHECK(t.landed_ps[5] >= t.begin_ps + 100 * US);
        phx_world_destroy(t.world);
    }
}

// A pause that ends before the rest was due delays nothing.
TEST(burst_goes_on_after_a_pause_between_two_of_it)
{
    struct test t;
    start(&t, PHX_BURSTS_ON);
    t.act = pause_source;
    t.act_ps[0] = 4 * STEP_PS + STEP_PS / 4;
    t.act_ps[1] = 4 * STEP_PS + STEP_PS / 2;
    run(&t);
    CHECK_EQ(rows_landed(&t), ROWS);
    CHECK(end_ps(&t) < 3 * US);
    CHECK(t.landed_ps[5] > t.landed_ps[4]); // two bursts
    CHECK_EQ(t.landed_ps[6], t.landed_ps[5]);
    phx_world_destroy(t.world);
}

static void link_down(struct test *t, uint32_t step)
{
    const struct phx_link_fault fault = {.down = step == 0};
    CHECK(phx_network_path_fault(phx_fabric_network(t->fabric), phx_core_now_ps(t->core), 0, 1,
                                 &fault));
}

TEST(burst_is_held_by_an_outage_and_lands_after_it)
{
    struct test t;
    start(&t, PHX_BURSTS_ON);
    t.act = link_down;
    t.act_ps[0] = 4 * STEP_PS + STEP_PS / 2;
    t.act_ps[1] = 50 * US;
    run(&t);
    CHECK_EQ(rows_landed(&t), ROWS);
    CHECK_EQ(value_at(&t), ROWS);
    for (uint32_t i = 0; i < ROWS; i++)
        CHECK(t.landed_ps[i] > t.begin_ps + 50 * US);
    CHECK_EQ(t.landed_ps[4], t.landed_ps[0]);
    for (uint32_t i = 6; i < ROWS; i++) // posted in the outage: each alone
        CHECK(t.landed_ps[i] > t.landed_ps[i - 1]);
    phx_world_destroy(t.world);
}

static void link_slow(struct test *t, uint32_t step)
{
    const struct phx_link_fault fault = {.delay_ps = step == 0 ? 20 * US : 0};
    CHECK(phx_network_path_fault(phx_fabric_network(t->fabric), phx_core_now_ps(t->core), 0, 1,
                                 &fault));
}

TEST(burst_meets_a_delay_with_what_has_not_left)
{
    struct test t;
    start(&t, PHX_BURSTS_ON);
    t.act = link_slow;
    t.act_ps[0] = 4 * STEP_PS + STEP_PS / 2;
    run(&t);
    for (uint32_t i = 0; i < ROWS; i++)
        CHECK((t.landed_ps[i] < t.begin_ps + 10 * US) == (i < 5));
    CHECK_EQ(value_at(&t), ROWS);
    phx_world_destroy(t.world);
}

static void fence_source(struct test *t, uint32_t step)
{
    (void)step;
    phx_peer_fence(phx_fabric_transport(t->fabric, 1), (struct phx_peer){0, 1});
}

static void gpu_dies(struct test *t, uint32_t step)
{
    (void)step;
    phx_fabric_gpu_dead(t->fabric, 1);
}

TEST(burst_is_judged_when_it_lands)
{
    struct test t;
    start(&t, PHX_BURSTS_ON);
    t.act = fence_source;
    t.act_ps[0] = (ROWS - 1) * STEP_PS + STEP_PS / 2;
    run(&t);
    CHECK_EQ(rows_landed(&t), 0);
    CHECK_EQ(value_at(&t), 0);
    CHECK_EQ(phx_fabric_figures(t.fabric).fenced, ROWS);
    phx_world_destroy(t.world);
    start(&t, PHX_BURSTS_ON);
    t.act = gpu_dies;
    t.act_ps[0] = (ROWS - 1) * STEP_PS + STEP_PS / 2;
    run(&t);
    CHECK_EQ(rows_landed(&t), 0);
    CHECK_EQ(phx_fabric_figures(t.fabric).vanished, ROWS);
    phx_world_destroy(t.world);
}

static void flush_target(struct test *t, uint32_t step)
{
    (void)step;
    phx_peer_flush(phx_fabric_transport(t->fabric, 0), (struct phx_peer){1, 1});
}

// Nothing of it lands, whether it had left or not, and every op has its event.
TEST(burst_that_was_flushed_never_lands)
{
    struct test t;
    start(&t, PHX_BURSTS_ON);
    t.act = flush_target;
    t.act_ps[0] = 4 * STEP_PS + STEP_PS / 2;
    run(&t);
    CHECK_EQ(rows_landed(&t), 0);
    CHECK_EQ(value_at(&t), 0);
    CHECK_EQ(phx_fabric_figures(t.fabric).failed, ROWS);
    phx_world_destroy(t.world);
}

// A fault that counts puts finds any number of them out.
TEST(burst_gives_way_to_a_fault_that_counts_puts)
{
    for (uint32_t after = 1; after <= ROWS; after += 5) {
        struct test t;
        start(&t, PHX_BURSTS_ON);
        t.token = (uint32_t)PHX_DISPATCH << 28 | 1;
        struct phx_fault f;
        struct phx_message message;
        memset(&f, 0, sizeof f);
        f.kind = PHX_FAULT_KILL;
        f.unit = PHX_UNIT_PROCESS;
        f.peer = PHX_FAULT_ANY;
        f.when.rank = PHX_FAULT_ANY;
        f.when.kind = PHX_DISPATCH;
        f.when.number = 1;
        f.when.after_puts = after;
        CHECK_MSG(phx_fault_install(t.world, &f, 1, &message) == 0, "%s", message.text);
        run(&t);
        CHECK_EQ(rows_landed(&t), after);
        CHECK_EQ(value_at(&t), after == ROWS ? ROWS : 0);
        phx_world_destroy(t.world);
    }
}
