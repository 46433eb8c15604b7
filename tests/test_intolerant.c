// tests/test_intolerant.c: groups without fault tolerance: nobody is masked or waited for with a
// deadline, and the loss of a rank ends the group.

#include <string.h>

#include "tests/sim_group.h"
#include "tests/test.h"

#define US 1000000ull // ps
#define VICTIM 2u

TEST(intolerant_group_gives_what_a_tolerant_one_gives)
{
    struct sg_run *run = sg_new();
    run->fault_tolerance = PHX_FAULT_TOLERANCE_OFF;
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        for (uint32_t pair = 0; pair < run->pairs; pair++) {
            CHECK_EQ(run->ranks[r].dispatched[pair].masked_count, 0);
            CHECK_EQ(run->ranks[r].combined[pair].answered.words[0], (1u << SG_RANKS) - 1);
        }
    sg_free(run);
}

static void pause_victim(struct sg_run *run, uint64_t deadlines)
{
    run->faults[0].kind = PHX_FAULT_PAUSE;
    run->faults[0].unit = PHX_UNIT_PROCESS;
    run->faults[0].rank = VICTIM;
    run->faults[0].duration_ps = deadlines * (uint64_t)run->timeout_us * US;
    run->faults[0].when.rank = PHX_FAULT_ANY;
    run->faults[0].when.kind = PHX_DISPATCH;
    run->faults[0].when.number = 2;
    run->faults[0].when.after_puts = 3;
    run->fault_count = 1;
}

TEST(intolerant_group_waits_past_every_deadline)
{
    struct sg_run *run = sg_new();
    run->fault_tolerance = PHX_FAULT_TOLERANCE_OFF;
    pause_victim(run, 7);
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        CHECK_EQ(run->ranks[r].combined[run->pairs - 1].masked_count, 0);
        CHECK_EQ(run->ranks[r].causes[VICTIM], PHX_CAUSE_NONE);
    }
    sg_free(run);
}

static void clear_active(struct phx_sim_rank *rank, struct sg_rank *self)
{
    if (phx_sim_rank_number(rank) == 0)
        self->active[1] = 0;
}

TEST(intolerant_group_masks_nobody_for_the_user)
{
    struct sg_run *run = sg_new();
    run->fault_tolerance = PHX_FAULT_TOLERANCE_OFF;
    run->opened = clear_active;
    sg_go(run);
    CHECK_EQ(run->ranks[0].causes[1], PHX_CAUSE_NONE);
    CHECK_EQ(run->ranks[1].causes[0], PHX_CAUSE_NONE);
    CHECK_EQ(run->ranks[0].combined[run->pairs - 1].masked_count, 0);
    sg_free(run);
}

// --- a rank is lost -----------------------------------------------------------------------------

struct lost {
    int rc[SG_PAIRS];
    int after; // of one more call
    struct phx_message message;
};
static struct lost seen[SG_RANKS];

static void lost_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    uint32_t r = phx_sim_rank_number(rank);
    struct sg_rank *self = &run->ranks[r];
    CHECK_EQ(sg_open(run, rank), 0);
    for (uint32_t pair = 0; pair < run->pairs; pair++)
        if ((seen[r].rc[pair] = sg_pair(run, rank, pair)) != 0)
            break;
    seen[r].after = sg_dispatch(self, 0);
    seen[r].message = self->message;
    phx_sim_close(rank, self->group);
}

TEST(intolerant_group_fails_once_a_rank_is_lost)
{
    struct sg_run *run = sg_new();
    memset(seen, 0, sizeof seen);
    run->fault_tolerance = PHX_FAULT_TOLERANCE_OFF;
    run->main = lost_main;
    pause_victim(run, 0);
    run->faults[0].kind = PHX_FAULT_KILL;
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        if (r == VICTIM)
            continue;
        CHECK_EQ(seen[r].rc[0], 0);
        CHECK_EQ(seen[r].rc[1], PHX_ERR_PEER_LOST); // the pair that was struck
        CHECK_EQ(seen[r].after, PHX_ERR_PEER_LOST);
        CHECK_STR_EQ(seen[r].message.text,
                     "rank 2 was lost, and this group has no fault tolerance");
    }
    sg_free(run);
}

// --- a payload is corrupt -----------------------------------------------------------------------

// The first payload of a dispatch is a route message; who receives it says so and ends. The others
// lose that rank.
TEST(intolerant_group_refuses_what_is_corrupt)
{
    struct sg_run *run = sg_new();
    uint32_t corrupt = 0;
    memset(seen, 0, sizeof seen);
    run->fault_tolerance = PHX_FAULT_TOLERANCE_OFF;
    run->main = lost_main;
    pause_victim(run, 0);
    run->faults[0].kind = PHX_FAULT_BIT_FLIP;
    run->faults[0].count = 1;
    run->faults[0].when.after_puts = 0;
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        CHECK_EQ(seen[r].rc[0], 0);
        if (seen[r].rc[1] != PHX_ERR_CORRUPT)
            continue;
        corrupt++;
        CHECK_EQ(seen[r].after, PHX_ERR_ABORTED);
    }
    CHECK_EQ(corrupt, 1);
    sg_free(run);
}
