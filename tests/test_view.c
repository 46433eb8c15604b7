// tests/test_view.c: epochs change under a scripted authority: a rank comes back as a new
// incarnation, an evicted one goes on writing, an epoch crosses 16 bits. Stale keys, signals and
// stores change nothing.

#include <string.h>

#include "engine/view.h"
#include "sim/world_internal.h"
#include "tests/sim_group.h"
#include "tests/test.h"

#define US UINT64_C(1000000) // picoseconds

enum { VICTIM = 3, BEFORE = 3, AFTER = 4 };

static struct phx_rank_set members(uint32_t count)
{
    struct phx_rank_set set;
    memset(&set, 0, sizeof set);
    for (uint32_t r = 0; r < count; r++)
        set.words[0] |= UINT64_C(1) << r;
    return set;
}

// --- a rank comes back --------------------------------------------------------------------------

static int exchange_and_admit(struct phx_sim_rank *rank, struct sg_rank *self)
{
    uint32_t bytes = phx_group_card_bytes();
    uint8_t mine[SG_RANKS * 512];
    uint8_t theirs[SG_RANKS * 512];
    phx_group_cards(self->group, mine);
    int rc = phx_sim_exchange(rank, mine, theirs, bytes);
    if (rc != 0)
        return rc;
    rc = phx__view_admit(self->group, VICTIM, theirs + VICTIM * bytes, &self->message);
    while (rc == 0 && phx_group_poll(self->group) > 0)
        phx_sim_sleep_ns(rank, 1000);
    return rc;
}

static void newcomer(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    struct sg_rank *self = &run->ranks[VICTIM];
    struct phx_group_options options;
    struct phx_rank_set all = members(SG_RANKS);
    sg_options(run, &options);
    self->rc = phx_sim_open(rank, &options, &self->group, &self->message);
    if (self->rc == 0)
        self->rc = phx_handle_create(self->group, &self->handle, &self->message);
    if (self->rc == 0)
        self->rc = phx__view_install(self->group, 2, &all, &self->message);
    for (uint32_t pair = BEFORE; self->rc == 0 && pair < BEFORE + AFTER; pair++)
        self->rc = sg_pair(run, rank, pair);
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

static void survivor(struct phx_sim_rank *rank, struct sg_run *run)
{
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    struct phx_rank_set all = members(SG_RANKS);
    phx_sim_sleep_ns(rank, 3000000); // all survivors are through, and what was in flight has landed
    if (phx_sim_rank_number(rank) == 0)
        self->rc = phx_world_restart(run->world, VICTIM, newcomer, run, &self->message);
    if (self->rc == 0)
        self->rc = phx__view_renew(self->group, VICTIM, &self->message);
    if (self->rc == 0)
        self->rc = exchange_and_admit(rank, self);
    if (self->rc == 0)
        self->rc = phx__view_install(self->group, 2, &all, &self->message);
    self->active[VICTIM] = 1; // the user's mask is the user's to lift
    for (uint32_t pair = BEFORE; self->rc == 0 && pair < BEFORE + AFTER; pair++)
        self->rc = sg_pair(run, rank, pair);
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

static void rejoin_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    self->rc = sg_open(run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < BEFORE; pair++)
        self->rc = sg_pair(run, rank, pair);
    if (self->rc == 0)
        survivor(rank, run);
}

static void kill_victim(struct sg_run *run)
{
    run->fault_count = 1;
    run->faults[0].kind = PHX_FAULT_KILL;
    run->faults[0].unit = PHX_UNIT_PROCESS;
    run->faults[0].rank = VICTIM;
    run->faults[0].when.rank = PHX_FAULT_ANY;
    run->faults[0].when.kind = PHX_DISPATCH;
    run->faults[0].when.number = 2;
    run->faults[0].when.after_puts = 4;
}

static void check_rejoin(uint32_t nodes)
{
    struct sg_run *run = sg_new();
    run->nodes = nodes;
    run->main = rejoin_main;
    kill_victim(run);
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        const struct sg_rank *self = &run->ranks[r];
        if (r != VICTIM) {
            CHECK_EQ(self->combined[BEFORE - 1].masked_count, 1);
            CHECK_EQ(self->combined[BEFORE - 1].epoch, 1);
        }
        for (uint32_t pair = BEFORE; pair < BEFORE + AFTER; pair++) {
            for (uint32_t s = 0; s < SG_RANKS; s++)
                CHECK_MSG(self->combined[pair].masked_count == 0, "rank %u, pair %u: rank %u: %s",
                          r, pair, s, phx_cause_text(self->causes[s]));
            CHECK_EQ(self->combined[pair].epoch, 2);
            CHECK_EQ(self->combined[pair].number, pair - BEFORE + 1);
            for (int t = 0; t < SG_TOKENS; t++)
                CHECK(self->loss[pair][t] == 0.0f);
        }
    }
    sg_free(run);
}

TEST(view_a_rank_comes_back_over_nvlink)
{
    check_rejoin(1);
}

TEST(view_a_rank_comes_back_over_rdma)
{
    check_rejoin(4);
}

// --- a zombie -----------------------------------------------------------------------------------

// The victim sleeps for 5 D. The others mask it, fence it and go on in epoch 2. It wakes in the
// middle of its sends of epoch 1: nothing that it stores may change anything (the checkers watch),
// and it must learn that it was given up or end by its own deadline.
static void zombie_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    uint32_t me = phx_sim_rank_number(rank);
    struct sg_rank *self = &run->ranks[me];
    struct phx_rank_set rest = members(VICTIM);
    self->rc = sg_open(run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < BEFORE; pair++)
        self->rc = sg_pair(run, rank, pair);
    if (me != VICTIM && self->rc == 0) {
        self->rc = phx__view_renew(self->group, VICTIM, &self->message);
        if (self->rc == 0)
            self->rc = phx__view_install(self->group, 2, &rest, &self->message);
        phx_sim_sleep_ns(rank, 200000);
        for (uint32_t pair = BEFORE; self->rc == 0 && pair < BEFORE + AFTER; pair++) {
            self->rc = sg_pair(run, rank, pair);
            phx_sim_sleep_ns(rank, 1500000); // until after it woke
        }
    }
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

static void check_zombie(uint32_t nodes)
{
    struct sg_run *run = sg_new();
    run->nodes = nodes;
    run->main = zombie_main;
    run->fault_count = 1;
    run->faults[0].kind = PHX_FAULT_PAUSE;
    run->faults[0].unit = PHX_UNIT_PROCESS;
    run->faults[0].rank = VICTIM;
    run->faults[0].duration_ps = 5000 * US;
    run->faults[0].when.rank = PHX_FAULT_ANY;
    run->faults[0].when.kind = PHX_DISPATCH;
    run->faults[0].when.number = 2;
    run->faults[0].when.after_puts = 4;
    sg_go(run);
    for (uint32_t r = 0; r < VICTIM; r++) {
        for (uint32_t pair = BEFORE; pair < BEFORE + AFTER; pair++) {
            CHECK_EQ(run->ranks[r].combined[pair].masked_count, 1);
            CHECK_EQ(run->ranks[r].combined[pair].epoch, 2);
            for (uint32_t s = 0; s < VICTIM; s++)
                CHECK(phx_rank_set_has(&run->ranks[r].combined[pair].answered, s));
        }
        CHECK_EQ(run->ranks[r].causes[VICTIM], PHX_CAUSE_VIEW);
        CHECK(run->ranks[VICTIM].causes[r] != PHX_CAUSE_NONE);
    }
    sg_free(run);
}

TEST(view_a_zombie_changes_nothing_over_nvlink)
{
    check_zombie(1);
}

TEST(view_a_zombie_changes_nothing_over_rdma)
{
    check_zombie(4);
}

// --- epochs -------------------------------------------------------------------------------------

static void epochs_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    struct phx_rank_set all = members(SG_RANKS);
    self->rc = sg_open(run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < SG_PAIRS; pair++) {
        self->rc = phx__view_install(self->group, 0xFFFA + pair, &all, &self->message);
        if (self->rc == 0)
            self->rc = sg_pair(run, rank, pair);
    }
    phx_sim_close(rank, self->group);
}

// Every pair in an epoch of its own, 0xFFFA to 0x10005; ranks install them at times of their own,
// so words of a newer epoch come early and must be left until that view is installed.
TEST(view_epochs_wrap_at_16_bits)
{
    struct sg_run *run = sg_new();
    run->main = epochs_main;
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        for (uint32_t pair = 0; pair < SG_PAIRS; pair++) {
            CHECK_EQ(run->ranks[r].combined[pair].epoch, 0xFFFA + pair);
            CHECK_EQ(run->ranks[r].combined[pair].masked_count, 0);
        }
    }
    sg_free(run);
}

TEST(view_install_refuses_what_makes_no_sense)
{
    struct phx_group group;
    struct phx_message m = {""};
    struct phx_rank_set none = members(0);
    memset(&group, 0, sizeof group);
    group.rank.shape.ranks = 2;
    group.epoch = 5;
    struct phx_rank_set all = members(2);
    CHECK_EQ(phx__view_install(&group, 5, &all, &m), PHX_ERR_INVALID);
    CHECK_STR_EQ(m.text, "epoch = 5: must be above 5");
    CHECK_EQ(phx__view_install(&group, 6, &none, &m), PHX_ERR_EVICTED);
    CHECK_STR_EQ(m.text, "view 6 excludes this rank");
    CHECK_EQ(phx__view_renew(&group, 0, &m), PHX_ERR_INVALID);
    group.kinds[0].sent = 1;
    CHECK_EQ(phx__view_install(&group, 6, &all, &m), PHX_ERR_STATE);
    CHECK_EQ(group.epoch, 5);
}
