// tests/test_wait.c: who is waited for, who is masked, and who is not: deadlines, WAITING, pauses,
// ranks that give up on each other, and words across both wraps.

#include <string.h>

#include "kernels/wait.h"
#include "sim/fabric_internal.h"
#include "sim/world_internal.h"
#include "tests/sim_group.h"
#include "tests/test.h"

#define US UINT64_C(1000000) // picoseconds

static uint32_t masked_by(const struct sg_run *run, uint32_t rank)
{
    return run->ranks[rank].combined[run->pairs - 2].masked_count; // who is through early may leave
}

TEST(wait_nobody_is_masked_without_faults)
{
    struct sg_run *run = sg_new();
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        CHECK_EQ(masked_by(run, r), 0);
        for (uint32_t p = 0; p < run->pairs; p++) {
            CHECK_EQ(run->ranks[r].dispatched[p].number, p + 1);
            for (uint32_t s = 0; s < SG_RANKS; s++) {
                CHECK(phx_rank_set_has(&run->ranks[r].dispatched[p].present, s));
                CHECK(phx_rank_set_has(&run->ranks[r].combined[p].answered, s));
            }
        }
    }
    sg_free(run);
}

// Rank 3's rows reach everyone but rank 0. Rank 0 waits D for them; ranks 1 and 2 meanwhile wait
// for rank 0 in combine, where their own D ends first. They must not mask it: it said that it was
// waiting.
TEST(wait_who_waits_for_another_is_not_blamed)
{
    struct sg_run *run = sg_new();
    run->think_ns[0] = 400000; // so that it answers well after the others' deadline
    run->fault_count = 1;
    run->faults[0].kind = PHX_FAULT_LINK_ONE_WAY;
    run->faults[0].rank = 3;
    run->faults[0].peer = 0;
    run->faults[0].when.kind = PHX_DISPATCH;
    run->faults[0].when.number = 2;
    sg_go(run);
    for (uint32_t r = 1; r <= 2; r++) {
        CHECK_EQ(masked_by(run, r), 0);
        // The wait went to the account of the rank that rank 0 was blocked on.
        CHECK(run->ranks[r].wait_ns[3] > 1000000);
        CHECK(run->ranks[r].wait_ns[0] < 1300000); // three pairs of 400 us
    }
    CHECK_EQ(masked_by(run, 0), 1);
    CHECK_EQ(run->ranks[0].causes[3], PHX_CAUSE_TIMEOUT);
    CHECK(run->ranks[3].causes[0] != PHX_CAUSE_NONE);
    CHECK_EQ(masked_by(run, 3), 1);
    sg_free(run);
}

static void pause(struct sg_run *run, uint32_t rank, uint64_t us)
{
    run->fault_count = 1;
    run->faults[0].kind = PHX_FAULT_PAUSE;
    run->faults[0].unit = PHX_UNIT_PROCESS;
    run->faults[0].rank = rank;
    run->faults[0].duration_ps = us * US;
    run->faults[0].when.rank = PHX_FAULT_ANY;
    run->faults[0].when.kind = PHX_DISPATCH;
    run->faults[0].when.number = 2;
    run->faults[0].when.after_puts = 3;
}

TEST(wait_a_pause_inside_the_deadline_costs_nobody)
{
    struct sg_run *run = sg_new();
    pause(run, 2, 600);
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        CHECK_EQ(masked_by(run, r), 0);
    sg_free(run);
}

// Paused for 3 D in the middle of its sends: the others mask it. When it wakes it must learn that,
// and blame nobody for the time it slept.
TEST(wait_a_rank_that_overslept_learns_that_it_was_given_up)
{
    struct sg_run *run = sg_new();
    pause(run, 2, 3000);
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        if (r == 2)
            continue;
        CHECK_EQ(masked_by(run, r), 1);
        CHECK_EQ(run->ranks[r].causes[2], PHX_CAUSE_TIMEOUT);
        CHECK_EQ(run->ranks[r].active[2], 0);
        CHECK_EQ(run->ranks[2].causes[r], PHX_CAUSE_GAVE_UP);
    }
    sg_free(run);
}

// A host that is suspended stops all of its ranks at once, wherever they are. When they wake, every
// deadline has long passed, and nobody is to blame.
TEST(wait_a_suspended_host_wakes_up_whole)
{
    for (uint64_t at_us = 16; at_us < 60; at_us += 2) {
        struct sg_run *run = sg_new();
        run->fault_count = SG_RANKS;
        for (uint32_t r = 0; r < SG_RANKS; r++) {
            run->faults[r].kind = PHX_FAULT_PAUSE;
            run->faults[r].unit = PHX_UNIT_PROCESS;
            run->faults[r].rank = r;
            run->faults[r].duration_ps = 3000 * US;
            run->faults[r].when.at_ps = at_us * US;
        }
        sg_go(run);
        for (uint32_t r = 0; r < SG_RANKS; r++)
            CHECK_MSG(masked_by(run, r) == 0, "rank %u, suspended at %llu us", r,
                      (unsigned long long)at_us);
        sg_free(run);
    }
}

// A dead rank costs its own tokens: the weights of its two experts, and nothing else.
TEST(wait_losses_are_those_of_the_dead_rank)
{
    struct sg_run *run = sg_new();
    run->fault_count = 1;
    run->faults[0].kind = PHX_FAULT_KILL;
    run->faults[0].unit = PHX_UNIT_PROCESS;
    run->faults[0].rank = 3;
    run->faults[0].when.rank = PHX_FAULT_ANY;
    run->faults[0].when.kind = PHX_DISPATCH;
    run->faults[0].when.number = 3;
    sg_go(run);
    for (uint32_t r = 0; r < 3; r++) {
        for (int t = 0; t < SG_TOKENS; t++) {
            float expected = 0.0f; // experts 6 and 7 were rank 3's
            for (int k = 0; k < SG_TOP_K; k++)
                expected += run->ranks[r].topk_idx[t * SG_TOP_K + k] >= 6 ? 0.5f : 0.0f;
            CHECK(run->ranks[r].loss[1][t] == 0.0f);
            CHECK(run->ranks[r].loss[2][t] == expected);
            CHECK(run->ranks[r].loss[3][t] == expected);
        }
    }
    sg_free(run);
}

static void near_the_wraps(struct phx_sim_rank *rank, struct sg_rank *self)
{
    (void)rank;
    self->group->epoch = 0x1FFFF; // its low 16 bits are all ones
    self->group->rank.epoch = 0xFFFF;
    self->group->operations = 0xFFFFF9;
    for (int k = 0; k < 2; k++)
        self->group->kinds[k].sent = self->group->kinds[k].received = 0xFFFFFA;
}

TEST(wait_sequences_wrap_at_24_bits)
{
    struct sg_run *run = sg_new();
    run->pairs = 12; // numbers 0xFFFFFB to 0x1000006
    run->opened = near_the_wraps;
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        CHECK_EQ(masked_by(run, r), 0);
        CHECK_EQ(run->ranks[r].combined[11].number, 0x1000006);
        CHECK_EQ(run->ranks[r].combined[11].epoch, 0x1FFFF);
    }
    sg_free(run);
}

TEST(wait_a_death_across_the_wrap_is_still_seen)
{
    struct sg_run *run = sg_new();
    run->pairs = 12;
    run->opened = near_the_wraps;
    run->fault_count = 1;
    run->faults[0].kind = PHX_FAULT_HANG;
    run->faults[0].unit = PHX_UNIT_PROCESS;
    run->faults[0].rank = 1;
    run->faults[0].when.at_ps = 60 * US;
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        if (r != 1)
            CHECK_EQ(masked_by(run, r), 1);
    sg_free(run);
}

// --- whoever of the workers waits ---------------------------------------------------------------

// Rank 3's counts reach rank 0 and its rows do not: rank 0 waits D in its last wait of the
// dispatch, then thinks; the others wait for it in combine past their own D. Whichever worker of
// rank 0 is the one that waits, it is worker 0 that says so.
static void check_waiting_for_rows(uint32_t workers)
{
    struct sg_run *run = sg_new();
    run->workers = workers;
    run->timeout_us = 2000;
    run->think_ns[0] = 600000;
    run->fault_count = 2;
    run->faults[0].kind = PHX_FAULT_SLOW; // its counts are far ahead of its rows
    run->faults[0].unit = PHX_UNIT_PROCESS;
    run->faults[0].rank = 3;
    run->faults[0].percent = 1;
    run->faults[1].kind = PHX_FAULT_LINK_ONE_WAY;
    run->faults[1].rank = 3;
    run->faults[1].peer = 0;
    run->faults[1].when.rank = 3;
    run->faults[1].when.kind = PHX_DISPATCH;
    run->faults[1].when.number = 2;
    run->faults[1].when.after_puts = SG_RANKS + 1; // the first of its rows
    sg_go(run);
    const struct phx_outcome *o = &run->ranks[0].dispatched[1];
    CHECK_MSG(phx_rank_set_has(&o->counted, 3) && !phx_rank_set_has(&o->present, 3),
              "%u workers: the fault missed the rows", workers);
    for (uint32_t r = 1; r <= 2; r++) {
        const struct sg_rank *self = &run->ranks[r];
        CHECK_MSG(masked_by(run, r) == 0, "%u workers, rank %u: causes %u %u %u %u", workers, r,
                  self->causes[0], self->causes[1], self->causes[2], self->causes[3]);
        CHECK(phx_rank_set_has(&self->combined[1].answered, 0));
    }
    CHECK_EQ(masked_by(run, 0), 1);
    CHECK_EQ(run->ranks[0].causes[3], PHX_CAUSE_TIMEOUT);
    CHECK_EQ(masked_by(run, 3), 1);
    CHECK_EQ(run->ranks[3].causes[0], PHX_CAUSE_GAVE_UP);
    sg_free(run);
}

TEST(wait_waiting_is_said_in_the_rows_phase_too)
{
    for (uint32_t workers = 1; workers <= 5; workers++)
        check_waiting_for_rows(workers);
    check_waiting_for_rows(2 * SG_RANKS); // two workers wait for each source
}

// --- the user's mask ----------------------------------------------------------------------------

static void masking_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    self->rc = sg_open(run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < run->pairs; pair++) {
        if (phx_sim_rank_number(rank) == 1 && pair == 1)
            self->active[run->victim] = 0;
        self->rc = sg_pair(run, rank, pair);
    }
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

// Rank 1's caller clears one entry before dispatch 2. From then on that rank gets neither counts
// nor rows of rank 1's, whichever of the workers would send them, and learns it; nobody else
// notices.
static void check_masking(uint32_t victim, uint32_t workers)
{
    struct sg_run *run = sg_new();
    run->workers = workers;
    run->victim = victim;
    run->main = masking_main;
    sg_go(run);
    for (uint32_t pair = 1; pair < run->pairs; pair++) {
        const struct phx_outcome *there = &run->ranks[victim].dispatched[pair];
        const struct phx_outcome *here = &run->ranks[1].dispatched[pair];
        CHECK_MSG(!phx_rank_set_has(&there->counted, 1), "%u workers, rank %u, pair %u: counts",
                  workers, victim, pair);
        CHECK_MSG(!phx_rank_set_has(&there->present, 1), "%u workers, rank %u, pair %u: rows",
                  workers, victim, pair);
        CHECK(!phx_rank_set_has(&here->counted, victim));
        CHECK(!phx_rank_set_has(&here->present, victim));
    }
    CHECK_EQ(run->ranks[1].causes[victim], PHX_CAUSE_USER);
    CHECK_EQ(run->ranks[victim].causes[1], PHX_CAUSE_GAVE_UP);
    CHECK_EQ(run->ranks[victim].active[1], 0);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        CHECK_EQ(masked_by(run, r), r == 1 || r == victim);
    sg_free(run);
}

TEST(wait_a_rank_that_the_user_masked_gets_nothing)
{
    for (uint32_t workers = 1; workers <= SG_RANKS + 1; workers++)
        for (uint32_t victim = 0; victim < SG_RANKS; victim++)
            if (victim != 1)
                check_masking(victim, workers);
}

// --- abort --------------------------------------------------------------------------------------

// Rank 0 is aborted by one of its workers, as that enters a phase of the third pair.
enum { ABORT_PAIR = 2 };
struct aborting {
    struct sg_run *run;
    uint32_t phase;
};

static void abort_at_phase(void *context, uint32_t rank, uint32_t worker, uint32_t phase,
                           uint64_t number)
{
    const struct aborting *a = context;
    (void)worker;
    if (rank == 0 && phase == a->phase && number == ABORT_PAIR + 1)
        phx_abort(a->run->ranks[0].group);
}

static struct aborting aborting;

static void aborting_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    uint32_t pair = 0;
    struct phx_world_hooks hooks;
    memset(&hooks, 0, sizeof hooks);
    hooks.context = &aborting;
    hooks.phase = abort_at_phase;
    if (phx_sim_rank_number(rank) == 0)
        CHECK(phx_world_hooks_add(run->world, &hooks));
    self->rc = sg_open(run, rank);
    for (; self->rc == 0 && pair < run->pairs; pair++)
        self->rc = sg_pair(run, rank, pair);
    if (phx_sim_rank_number(rank) == 0) {
        CHECK_EQ(self->rc, PHX_ERR_ABORTED);
        CHECK_EQ(pair, ABORT_PAIR + 1);
        CHECK_EQ(sg_dispatch(self, pair), PHX_ERR_ABORTED); // for good
        self->rc = 0;
    }
    phx_sim_sleep_ns(rank, 5000000);
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

// The others get this operation's rows of rank 0's or none (sg_go() looks at every row and sum),
// and lose rank 0 alone.
static void check_abort(uint32_t phase, uint32_t workers)
{
    struct sg_run *run = sg_new();
    run->workers = workers;
    run->pairs = 6;
    run->main = aborting_main;
    aborting = (struct aborting){run, phase};
    sg_go(run);
    for (uint32_t r = 1; r < SG_RANKS; r++) {
        CHECK_MSG(run->ranks[r].combined[5].masked.words[0] == 1,
                  "phase %u, %u workers, rank %u: causes %u %u %u %u", phase, workers, r,
                  run->ranks[r].causes[0], run->ranks[r].causes[1], run->ranks[r].causes[2],
                  run->ranks[r].causes[3]);
        CHECK_EQ(run->ranks[r].combined[ABORT_PAIR - 1].masked_count, 0);
        CHECK_EQ(run->ranks[r].combined[5].answered.words[0], 14);
    }
    sg_free(run);
}

TEST(wait_an_aborted_rank_returns_and_the_others_go_on)
{
    const uint32_t phases[] = {PHX_PHASE_DISPATCH_SEND, PHX_PHASE_DISPATCH_RECEIVE,
                               PHX_PHASE_COMBINE_SEND, PHX_PHASE_COMBINE_RECEIVE};
    for (size_t i = 0; i < sizeof phases / sizeof phases[0]; i++)
        for (uint32_t workers = 1; workers <= SG_RANKS + 1; workers++)
            check_abort(phases[i], workers);
}

// --- several workers, one fate ------------------------------------------------------------------

// A rank of two, without a transport: one worker waits for rank 1, and what another worker of the
// rank does meanwhile happens as the first looks at a word of rank 1's.
enum { RACE_OPERATION = 7, RACE_SEQUENCE = 3, RACE_WORDS = 2 };
struct race {
    struct phx_executor executor;
    struct phx_rank rank;
    struct phx_rank_state state;
    struct phx_environment environment;
    struct phx_op_common op;
    struct phx_worker worker;
    uint64_t fates[PHX_WAIT_PHASES * 2];
    uint64_t suspected[2];
    uint64_t words[RACE_WORDS];
    uint64_t now_ns;
    uint32_t fate; // what the other worker decides while this one looks at the words
};

static struct race *race_of(struct phx_executor *e)
{
    return (struct race *)(void *)e; // the executor is the first member
}
static uint64_t race_now(struct phx_executor *e, uint32_t worker)
{
    (void)worker;
    return ++race_of(e)->now_ns;
}
static void race_observe(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    struct race *r = race_of(e);
    (void)worker;
    (void)word;
    if (r->fate != PHX_FATE_OPEN)
        r->fates[PHX_WAIT_ROWS * 2 + 1] = (uint64_t)RACE_OPERATION << 8 | r->fate;
}
static void race_wake(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    (void)e;
    (void)worker;
    (void)word;
}
static void race_park(struct phx_executor *e, uint32_t worker, const uint64_t *words,
                      uint32_t count, uint64_t until_ns)
{
    (void)worker;
    (void)words;
    (void)count;
    if (until_ns > race_of(e)->now_ns)
        race_of(e)->now_ns = until_ns;
}
static const struct phx_executor_ops race_ops = {
    .now_ns = race_now, .observe = race_observe, .wake = race_wake, .park = race_park};

// What phx_wait() returns to worker 1 of 4, which can't be asked to announce anything.
static uint32_t race_wait(struct race *r, uint32_t fate, uint64_t suspicion, uint64_t sequence)
{
    uint64_t sum = 0;
    memset(r, 0, sizeof *r);
    r->executor.ops = &race_ops;
    r->environment.executor = &r->executor;
    r->rank.shape.ranks = 2;
    r->rank.shape.workers = 4;
    r->rank.shape.in_flight = 1;
    r->rank.epoch = 1;
    r->rank.state = &r->state;
    r->rank.environment = &r->environment;
    r->rank.fates = r->fates;
    r->rank.suspected = r->suspected;
    r->op.operation = RACE_OPERATION;
    r->op.sequence = RACE_SEQUENCE;
    r->op.timeout_ns = 1000000;
    r->fate = fate;
    r->suspected[1] = suspicion;
    for (int i = 0; i < RACE_WORDS; i++)
        r->words[i] = phx_word_make(1, sequence, 2);
    phx_worker_begin(&r->worker, &r->rank, 1, 0);
    phx_operation_begin(&r->worker, &r->op);
    return phx_wait(&r->worker, PHX_WAIT_ROWS, 1, r->words, RACE_WORDS, &sum);
}

TEST(wait_follows_the_fate_that_another_worker_decided)
{
    struct race r;
    const uint32_t present = PHX_FATE_PRESENT;
    const uint32_t absent = PHX_FATE_ABSENT;
    const uint64_t lost = PHX_CAUSE_TRANSPORT;
    const uint64_t word = (uint64_t)RACE_OPERATION << 8;
    uint64_t sum;
    // The source was lost behind its rows, and another worker had seen them all.
    CHECK_EQ(race_wait(&r, present, lost, RACE_SEQUENCE), PHX_SEEN_DECIDED);
    CHECK_EQ(r.fates[PHX_WAIT_ROWS * 2 + 1], word | present);
    // The same for a worker that finds a word which says that the source gave up.
    CHECK_EQ(race_wait(&r, present, 0, RACE_SEQUENCE + 2), PHX_SEEN_DECIDED);
    CHECK_EQ(r.suspected[1], PHX_CAUSE_NONE);
    CHECK_EQ(race_wait(&r, absent, lost, RACE_SEQUENCE), PHX_SEEN_GONE);
    CHECK_EQ(r.fates[PHX_WAIT_ROWS * 2 + 1], word | absent);
    // Whoever sees everything decides by itself, and then gets what was decided before.
    CHECK_EQ(race_wait(&r, absent, 0, RACE_SEQUENCE), PHX_SEEN_ALL);
    CHECK_EQ(phx_fate_decide(&r.worker, PHX_WAIT_ROWS, 1, present), absent);
    // Decided before it began to wait: nothing is looked at any more.
    CHECK_EQ(phx_wait(&r.worker, PHX_WAIT_ROWS, 1, r.words, RACE_WORDS, &sum), PHX_SEEN_GONE);
    CHECK_EQ(race_wait(&r, present, 0, RACE_SEQUENCE), PHX_SEEN_ALL);
    CHECK_EQ(phx_wait(&r.worker, PHX_WAIT_ROWS, 1, r.words, RACE_WORDS, &sum), PHX_SEEN_DECIDED);
}

TEST(wait_decides_what_nobody_decided)
{
    struct race r;
    const uint64_t word = (uint64_t)RACE_OPERATION << 8;
    CHECK_EQ(race_wait(&r, PHX_FATE_OPEN, PHX_CAUSE_TRANSPORT, RACE_SEQUENCE), PHX_SEEN_GONE);
    CHECK_EQ(r.fates[PHX_WAIT_ROWS * 2 + 1], word | PHX_FATE_ABSENT);
    CHECK_EQ(race_wait(&r, PHX_FATE_OPEN, 0, RACE_SEQUENCE + 2), PHX_SEEN_GONE);
    CHECK_EQ(r.suspected[1], PHX_CAUSE_GAVE_UP);
    CHECK_EQ(race_wait(&r, PHX_FATE_OPEN, 0, RACE_SEQUENCE), PHX_SEEN_ALL);
    CHECK_EQ(r.fates[PHX_WAIT_ROWS * 2 + 1], 0); // the caller decides, when it has looked
}

// --- lanes that stay full -----------------------------------------------------------------------

// Lanes of one op: what follows the first waits until that has landed.
static void narrow_lanes(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    __atomic_store_n(&phx_fabric_of(run->world)->post_count_max, 1u, __ATOMIC_RELAXED);
    sg_main(rank, run);
}

static struct sg_run *full_lane(uint64_t heals_after_us)
{
    struct sg_run *run = sg_new();
    run->main = narrow_lanes;
    run->fault_count = 1;
    run->faults[0].kind = PHX_FAULT_LINK_ONE_WAY;
    run->faults[0].rank = 3;
    run->faults[0].peer = 0;
    run->faults[0].duration_ps = heals_after_us * US;
    run->faults[0].when.rank = 3;
    run->faults[0].when.kind = PHX_COMBINE;
    run->faults[0].when.number = 2;
    return run;
}

// Rank 3 is late, and then its lane to rank 0 takes nothing: the worker that also serves rank 2
// gets there after rank 2's deadline. Rank 3 must say that it waits, and for whom.
TEST(wait_a_full_lane_is_told_like_any_other_wait)
{
    struct sg_run *run = full_lane(0);
    run->think_ns[3] = 400000;
    sg_go(run);
    CHECK_EQ(run->ranks[3].causes[0], PHX_CAUSE_TIMEOUT);
    for (uint32_t r = 1; r <= 2; r++)
        CHECK_EQ(masked_by(run, r), 0);
    CHECK(run->ranks[3].wait_ns[0] > 900000); // a wait for rank 0, and charged as one
    CHECK(run->ranks[2].wait_ns[0] > 900000); // who waits for rank 3 meanwhile charges it, too
    sg_free(run);
}

// Rank 0 is late; rank 3 gives it up on its full lane, before rank 0's own deadline. What the lane
// had no room for is made up for: rank 0 learns it as soon as the path takes anything again.
TEST(wait_who_was_given_up_on_a_full_lane_is_told)
{
    struct sg_run *run = full_lane(1200);
    run->think_ns[0] = 600000;
    sg_go(run);
    CHECK_EQ(run->ranks[3].causes[0], PHX_CAUSE_TIMEOUT);
    CHECK_EQ(run->ranks[0].causes[3], PHX_CAUSE_GAVE_UP);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        CHECK_EQ(masked_by(run, r), r % 3 == 0);
    sg_free(run);
}

// --- replays ------------------------------------------------------------------------------------

// In the recorded run rank 0 gave up all others in its first dispatch, which rank 1 saw whole. In
// the replay rank 1 looks when rank 0 is through with all its pairs: it must see the same.
static void replaying_main(struct phx_sim_rank *rank, void *argument)
{
    enum { A = PHX_FATE_ABSENT, P = PHX_FATE_PRESENT };
    static const uint8_t fates[2][3 * SG_RANKS] = {{P, A, A, A, P, A, A, A, P, A, A, A},
                                                   {P, P, A, A, P, P, A, A, A, P, A, A}};
    static const uint8_t masked[2][SG_RANKS] = {{0, 1, 1, 1}, {0, 0, 1, 1}};
    struct sg_run *run = argument;
    uint32_t r = phx_sim_rank_number(rank);
    struct sg_rank *self = &run->ranks[r];
    self->rc = sg_open(run, rank);
    if (r < 2) {
        self->replay = fates[r];
        self->replay_masked = masked[r];
    }
    if (r == 1)
        phx_sim_sleep_ns(rank, 2000000);
    for (uint32_t pair = 0; r == 0 && self->rc == 0 && pair < run->pairs; pair++)
        self->rc = sg_pair(run, rank, pair);
    if (r == 1 && self->rc == 0)
        self->rc = sg_dispatch(self, 0);
    phx_sim_sleep_ns(rank, 5000000); // what is under way is for memory that is still there
    phx_sim_close(rank, self->group);
}

TEST(wait_replays_what_was_seen_of_a_rank_that_then_gave_up_on_us)
{
    struct sg_run *run = sg_new();
    run->timeout_us = PHX_TIMEOUT_NONE;
    run->think_ns[0] = 100000;
    run->main = replaying_main;
    sg_go(run);
    CHECK(run->ranks[0].done_ns[run->pairs - 1] < 2000000);
    CHECK_EQ(run->ranks[1].dispatched[0].counted.words[0], 0x3);
    CHECK_EQ(run->ranks[1].dispatched[0].present.words[0], 0x3);
    CHECK_EQ(run->ranks[1].dispatched[0].masked.words[0], 0xC);
    for (uint32_t pair = 0; pair < run->pairs; pair++) {
        CHECK_EQ(run->ranks[0].dispatched[pair].counted.words[0], 0x1);
        CHECK_EQ(run->ranks[0].dispatched[pair].masked.words[0], 0xE);
        CHECK_EQ(run->ranks[0].combined[pair].masked.words[0], 0xE);
    }
    sg_free(run);
}
