// tests/test_wait.c: who is waited for, who is masked, and who is not: deadlines, WAITING, pauses,
// ranks that give up on each other, and words across both wraps.

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
