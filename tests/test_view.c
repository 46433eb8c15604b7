// tests/test_view.c: epochs change under a scripted authority: a rank comes back as a new
// incarnation, an evicted one goes on writing, an epoch crosses 16 bits. Stale keys, signals and
// stores change nothing. Built twice: with 4 ranks, and with 16, whose regions have heads apart
// that are renewed with them.

#include <string.h>

#include "engine/view.h"
#include "kernels/wait.h"
#include "sim/world_internal.h"
#include "tests/sim_group.h"
#include "tests/test.h"

#define US UINT64_C(1000000) // picoseconds

enum { VICTIM = 3, BEFORE = 3, AFTER = 4 };

// Every member that is left has run the same operations, so each makes the same view by itself.
static int install(struct sg_rank *self, uint64_t epoch, struct phx_rank_set members)
{
    struct phx_view view;
    phx__view_now(self->group, &view);
    view.epoch = epoch;
    view.members = members;
    return phx__view_install(self->group, &view, &self->message);
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
    self->rc = sg_open(run, rank);
    if (self->rc == 0)
        self->rc = phx__view_install(self->group, &run->view, &self->message);
    for (uint32_t pair = BEFORE; self->rc == 0 && pair < BEFORE + AFTER; pair++)
        self->rc = sg_pair(run, rank, pair);
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

static void survivor(struct phx_sim_rank *rank, struct sg_run *run)
{
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    phx_sim_sleep_ns(rank, 3000000); // all survivors are through, and what was in flight has landed
    if (phx_sim_rank_number(rank) == 0) {
        phx__view_now(self->group, &run->view); // what a membership would hand to the newcomer
        run->view.epoch = 2;
        run->view.members = sg_members(SG_RANKS);
        self->rc = phx_world_restart(run->world, VICTIM, newcomer, run, &self->message);
    }
    if (self->rc == 0)
        self->rc = phx__view_renew(self->group, VICTIM, &self->message);
    if (self->rc == 0)
        self->rc = exchange_and_admit(rank, self);
    if (self->rc == 0)
        self->rc = install(self, 2, sg_members(SG_RANKS));
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
            CHECK_EQ(self->combined[pair].number, pair + 1);
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

// WAITING is understood between a newcomer and the survivors: the numbers of their operations
// agree. In the second pair after the return rank 1's counts don't reach rank 0, which waits D for
// them and thinks for a while; ranks 2 and 3 wait for rank 0 meanwhile, past their own D.
static void check_late(uint32_t nodes)
{
    struct sg_run *run = sg_new();
    run->nodes = nodes;
    run->main = rejoin_main;
    run->think_ns[0] = 400000;
    kill_victim(run);
    run->fault_count = 2;
    run->faults[1].kind = PHX_FAULT_LINK_ONE_WAY;
    run->faults[1].rank = 1;
    run->faults[1].peer = 0;
    run->faults[1].when.rank = 1;
    run->faults[1].when.kind = PHX_DISPATCH;
    run->faults[1].when.number = BEFORE + 2;
    sg_go(run);
    const uint32_t masked[SG_RANKS] = {1, 1, 0, 0};
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        CHECK_MSG(run->ranks[r].combined[BEFORE + 2].masked_count == masked[r],
                  "rank %u: causes %u %u %u %u", r, run->ranks[r].causes[0],
                  run->ranks[r].causes[1], run->ranks[r].causes[2], run->ranks[r].causes[3]);
    }
    CHECK_EQ(run->ranks[0].causes[1], PHX_CAUSE_TIMEOUT);
    CHECK(run->ranks[1].causes[0] != PHX_CAUSE_NONE);
    CHECK(run->ranks[VICTIM].done_ns[BEFORE + 1] > run->ranks[VICTIM].done_ns[BEFORE] + 1300000);
    sg_free(run);
}

TEST(view_a_newcomer_hears_that_a_survivor_waits)
{
    check_late(1);
    check_late(4);
}

// --- a zombie -----------------------------------------------------------------------------------

static struct phx_rank_set all_but_victim(void)
{
    struct phx_rank_set set = sg_members(SG_RANKS);
    set.words[0] &= ~(UINT64_C(1) << VICTIM);
    return set;
}

// The victim sleeps for 5 D. The others mask it, fence it and go on in epoch 2. It wakes in the
// middle of its sends of epoch 1: nothing that it stores may change anything (the checkers watch),
// and it must learn that it was given up or end by its own deadline.
static void zombie_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    uint32_t me = phx_sim_rank_number(rank);
    struct sg_rank *self = &run->ranks[me];
    self->rc = sg_open(run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < BEFORE; pair++)
        self->rc = sg_pair(run, rank, pair);
    if (me != VICTIM && self->rc == 0) {
        self->rc = phx__view_renew(self->group, VICTIM, &self->message);
        if (self->rc == 0)
            self->rc = install(self, 2, all_but_victim());
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
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        if (r == VICTIM)
            continue;
        for (uint32_t pair = BEFORE; pair < BEFORE + AFTER; pair++) {
            CHECK_EQ(run->ranks[r].combined[pair].masked_count, 1);
            CHECK_EQ(run->ranks[r].combined[pair].epoch, 2);
            for (uint32_t s = 0; s < SG_RANKS; s++)
                CHECK_EQ(phx_rank_set_has(&run->ranks[r].combined[pair].answered, s), s != VICTIM);
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
    self->rc = sg_open(run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < SG_PAIRS; pair++) {
        self->rc = install(self, 0xFFFA + pair, sg_members(SG_RANKS));
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

// Numbers go on across views, and a rank that has run anything takes no others over.
TEST(view_install_refuses_what_makes_no_sense)
{
    struct phx_group group;
    struct phx_message m = {""};
    uint64_t suspected[2] = {0};
    uint64_t owed[2 * PHX_WAIT_PHASES] = {0};
    uint8_t flags[2][2] = {{0}};
    struct phx_view view;
    memset(&group, 0, sizeof group);
    group.rank.shape.ranks = 2;
    group.rank.suspected = suspected;
    group.rank.owed = owed;
    group.flushed = flags[0];
    group.peer_lost = flags[1];
    group.epoch = 5;
    group.operations = 9;
    group.kinds[0].sent = group.kinds[0].received = 5;
    group.kinds[1].sent = group.kinds[1].received = 4;
    phx__view_now(&group, &view);
    CHECK_EQ(view.epoch, 5);
    CHECK_EQ(view.members.words[0], 3);
    CHECK_EQ(view.operations, 9);
    CHECK_EQ(view.sequences[0], 5);
    CHECK_EQ(view.sequences[1], 4);
    CHECK_EQ(phx__view_install(&group, &view, &m), PHX_ERR_INVALID);
    CHECK_STR_EQ(m.text, "epoch = 5: must be above 5");
    view.epoch = 6;
    view.members = sg_members(0);
    CHECK_EQ(phx__view_install(&group, &view, &m), PHX_ERR_EVICTED);
    CHECK_STR_EQ(m.text, "view 6 excludes this rank");
    view.members = sg_members(2);
    view.operations = 10;
    CHECK_EQ(phx__view_install(&group, &view, &m), PHX_ERR_INVALID);
    CHECK_STR_EQ(m.text, "view 6 begins after operation 10, this rank has reached 9");
    view.operations = 9;
    view.sequences[1] = 3;
    CHECK_EQ(phx__view_install(&group, &view, &m), PHX_ERR_INVALID);
    view.sequences[1] = 4;
    group.kinds[0].sent = 6;
    CHECK_EQ(phx__view_install(&group, &view, &m), PHX_ERR_STATE);
    CHECK_EQ(phx__view_renew(&group, 0, &m), PHX_ERR_INVALID);
    CHECK_EQ(group.epoch, 5);
    group.kinds[0].sent = 5;
    CHECK_EQ(phx__view_install(&group, &view, &m), 0);
    CHECK_EQ(group.epoch, 6);
    CHECK_EQ(group.operations, 9);
}

TEST(view_a_newcomer_takes_the_numbers_over)
{
    struct phx_group group;
    struct phx_message m = {""};
    uint64_t suspected[2] = {0};
    uint64_t owed[2 * PHX_WAIT_PHASES] = {0};
    uint8_t flags[2][2] = {{0}};
    struct phx_view view = {7, sg_members(2), 12, {7, 5}};
    memset(&group, 0, sizeof group);
    group.rank.shape.ranks = 2;
    group.rank.suspected = suspected;
    group.rank.owed = owed;
    group.flushed = flags[0];
    group.peer_lost = flags[1];
    group.epoch = 1;
    CHECK_EQ(phx__view_install(&group, &view, &m), 0);
    CHECK_EQ(group.epoch, 7);
    CHECK_EQ(group.operations, 12);
    CHECK_EQ(group.kinds[0].sent, 7);
    CHECK_EQ(group.kinds[0].received, 7);
    CHECK_EQ(group.kinds[1].sent, 5);
    CHECK_EQ(group.kinds[1].received, 5);
}

// Fresh regions are zeros: never a word of a view, whatever its number and those of operations.
TEST(view_memory_that_nobody_wrote_is_no_word)
{
    const uint64_t epochs[] = {1, 0xFFFF, 0x10000, 0x10001, 0x20000, UINT64_C(1) << 40};
    const uint64_t sequences[] = {1, 0x800001, 0x1000000, 0x1800000};
    for (uint32_t i = 0; i < 6; i++)
        for (uint32_t k = 0; k < 4; k++) {
            struct phx_group group;
            uint64_t suspected[2] = {0};
            uint64_t owed[2 * PHX_WAIT_PHASES] = {0};
            uint8_t flags[2][2] = {{0}};
            struct phx_view view = {epochs[i], sg_members(2), 9, {5, 4}};
            memset(&group, 0, sizeof group);
            group.rank.shape.ranks = 2;
            group.rank.suspected = suspected;
            group.rank.owed = owed;
            group.flushed = flags[0];
            group.peer_lost = flags[1];
            CHECK_EQ(phx__view_install(&group, &view, NULL), 0);
            CHECK_EQ(phx_word_says(0, group.rank.epoch, sequences[k]), PHX_SEEN_NOTHING);
        }
}
