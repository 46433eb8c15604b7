// tests/test_slots.c: a slot, at a peer or in staging, is written again only when nobody can read
// what it held: neither a peer nor a put that is still under way. Rows of another operation would
// come as this one's and no signal would tell.

#include <string.h>

#include "tests/sim_group.h"
#include "tests/test.h"

#define MS_PS UINT64_C(1000000000)
#define MS_NS UINT64_C(1000000)
#define US UINT64_C(1000000) // picoseconds

// --- puts to a rank that was given up -----------------------------------------------------------

// Two ranks. Rank 1 is late by more than D, and meanwhile the link to it goes down, so that rank 0
// gives it up with puts under way and goes on: they must not read what later operations stage. Over
// NVLink they stand still until the link is healed; over RDMA they are sent again after the time
// that the NIC waits for an answer, 67 ms. Either way they would come within rank 1's own D.
enum { PUT_TOKENS = 64, PUT_HIDDEN = 7168, PUT_PAIRS = 4 };

struct put_rank {
    struct phx_group *group;
    struct phx_handle *handle;
    uint16_t *x;
    uint16_t *y;
    uint16_t *out;
    int32_t *src_info;
    struct phx_outcome dispatched[PUT_PAIRS];
    struct phx_outcome combined[PUT_PAIRS];
    uint64_t began_ns[PUT_PAIRS];
    uint64_t done_ns[PUT_PAIRS]; // dispatch
    uint32_t wrong_rows;
    uint32_t wrong_sums;
    uint32_t causes[2];
    int rc;
    struct phx_message message;
};

struct put_run {
    uint32_t nodes;
    uint32_t kind;    // the operation during which the link goes down
    uint32_t down_ms; // and for how long
    struct put_rank ranks[2];
    int64_t topk_idx[PUT_TOKENS];
    float weights[PUT_TOKENS];
};

static int put_open(struct phx_sim_rank *rank, struct put_rank *self)
{
    const uint64_t row_bytes = PUT_HIDDEN * sizeof *self->x;
    struct phx_group_options o;
    phx_group_options_init(&o);
    o.experts = 2;
    o.top_k = 1;
    o.tokens_max = PUT_TOKENS;
    o.hidden = PUT_HIDDEN;
    o.dtype = PHX_BF16;
    o.timeout_us = 50000;
    int rc = phx_sim_open(rank, &o, &self->group, &self->message);
    if (rc == 0)
        rc = phx_handle_create(self->group, &self->handle, &self->message);
    self->x = phx_sim_alloc(rank, PUT_TOKENS * row_bytes);
    self->out = phx_sim_alloc(rank, PUT_TOKENS * row_bytes);
    self->y = phx_sim_alloc(rank, 2 * PUT_TOKENS * row_bytes);
    self->src_info = phx_sim_alloc(rank, 2 * PUT_TOKENS * sizeof *self->src_info);
    CHECK(self->x != NULL && self->out != NULL && self->y != NULL && self->src_info != NULL);
    return rc;
}

static uint32_t wrong_channels(const uint16_t *row, uint16_t expected)
{
    uint32_t wrong = 0;
    for (int i = 0; i < PUT_HIDDEN; i++)
        wrong += row[i] != expected;
    return wrong;
}

static int put_dispatch(struct put_run *run, struct put_rank *self, uint32_t pair)
{
    struct phx_dispatch_args a;
    int32_t count;
    int64_t range[2];
    for (int i = 0; i < PUT_TOKENS * PUT_HIDDEN; i++)
        self->x[i] = sg_value(self->group->rank.rank, pair);
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = PUT_TOKENS;
    a.x = self->x;
    a.topk_idx = run->topk_idx;
    a.topk_weights = run->weights;
    a.recv_x = self->y;
    a.recv_count = &count;
    a.recv_src_info = self->src_info;
    a.recv_layout_range = range;
    int rc = phx_dispatch(self->group, &a, self->handle, &self->dispatched[pair], &self->message);
    for (uint32_t s = 0; rc == 0 && s < 2; s++) {
        int64_t begin = range[s] >> 32;
        int64_t end = begin + (range[s] & 0xFFFFFFFF);
        for (int64_t i = begin; phx_rank_set_has(&self->dispatched[pair].present, s) && i < end;
             i++)
            self->wrong_rows += wrong_channels(self->y + i * PUT_HIDDEN, sg_value(s, pair)) != 0;
    }
    return rc;
}

static int put_combine(struct put_run *run, struct put_rank *self, uint32_t pair)
{
    struct phx_combine_args a;
    float loss[PUT_TOKENS];
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = PUT_TOKENS;
    a.y = self->y;
    a.topk_idx = run->topk_idx;
    a.topk_weights = run->weights;
    a.out = self->out;
    a.token_loss = loss;
    int rc = phx_combine(self->group, &a, self->handle, &self->combined[pair], &self->message);
    for (int t = 0; rc == 0 && t < PUT_TOKENS; t++) {
        uint16_t expected = loss[t] == 0.0f ? sg_value(self->group->rank.rank, pair) : 0;
        self->wrong_sums += wrong_channels(self->out + t * PUT_HIDDEN, expected) != 0;
    }
    return rc;
}

static void put_main(struct phx_sim_rank *rank, void *argument)
{
    struct put_run *run = argument;
    uint32_t me = phx_sim_rank_number(rank);
    struct put_rank *self = &run->ranks[me];
    self->rc = put_open(rank, self);
    for (uint32_t pair = 0; self->rc == 0 && pair < PUT_PAIRS; pair++) {
        bool late = me == 1 && pair == 1;
        if (late && run->kind == PHX_DISPATCH)
            phx_sim_sleep_ns(rank, 55 * MS_NS);
        self->began_ns[pair] = phx_sim_now_ns(rank);
        self->rc = put_dispatch(run, self, pair);
        self->done_ns[pair] = phx_sim_now_ns(rank);
        if (late && run->kind == PHX_COMBINE)
            phx_sim_sleep_ns(rank, 55 * MS_NS);
        if (self->rc == 0)
            self->rc = put_combine(run, self, pair);
    }
    if (self->group != NULL)
        phx_group_suspicions(self->group, self->causes);
    phx_sim_sleep_ns(rank, 400 * MS_NS); // what is under way lands in a group that is still open
    phx_sim_close(rank, self->group);
}

static void put_go(struct put_run *run)
{
    struct phx_world_options o;
    struct phx_world *world;
    struct phx_message m = {""};
    struct phx_fault fault;
    const struct phx_violation *list;
    for (int t = 0; t < PUT_TOKENS; t++) {
        run->topk_idx[t] = t % 2;
        run->weights[t] = 1.0f;
    }
    memset(&o, 0, sizeof o);
    o.seed = 1;
    o.schedule.tie = PHX_TIE_RANDOM;
    o.fibers = PHX_FIBERS;
    o.workers = 1;
    o.cluster = (struct phx_cluster){run->nodes, 2 / run->nodes, "nvlink4", "roce_400g", 0};
    memset(&fault, 0, sizeof fault);
    fault.kind = PHX_FAULT_LINK_DOWN;
    fault.peer = 1;
    fault.duration_ps = run->down_ms * MS_PS;
    fault.when.kind = run->kind;
    fault.when.number = 2;
    CHECK_MSG(phx_world_create(&o, &world, &m) == 0, "%s", m.text);
    CHECK_MSG(phx_fault_install(world, &fault, 1, &m) == 0, "%s", m.text);
    CHECK_MSG(phx_world_run(world, put_main, run, &m) == 0, "%s", m.text);
    CHECK_MSG(phx_world_violations(world, &list) == 0, "%s: %s", list[0].rule, list[0].text);
    phx_world_destroy(world);
    for (uint32_t r = 0; r < 2; r++)
        CHECK_MSG(run->ranks[r].rc == 0, "rank %u: %s", r, run->ranks[r].message.text);
}

static void check_puts(uint32_t nodes, uint32_t kind, uint32_t down_ms)
{
    static struct put_run run; // too large for a fiber's stack, and nobody else's
    memset(&run, 0, sizeof run);
    run.nodes = nodes;
    run.kind = kind;
    run.down_ms = down_ms;
    put_go(&run);
    const struct put_rank *zero = &run.ranks[0];
    const struct put_rank *one = &run.ranks[1];
    for (uint32_t r = 0; r < 2; r++) {
        CHECK_MSG(run.ranks[r].wrong_rows == 0, "%u nodes, kind %u, rank %u: %u rows", nodes, kind,
                  r, run.ranks[r].wrong_rows);
        CHECK_MSG(run.ranks[r].wrong_sums == 0, "%u nodes, kind %u, rank %u: %u sums", nodes, kind,
                  r, run.ranks[r].wrong_sums);
        CHECK_EQ(run.ranks[r].dispatched[0].masked_count, 0);
        CHECK_EQ(run.ranks[r].combined[0].masked_count, 0);
        CHECK_EQ(run.ranks[r].combined[PUT_PAIRS - 1].masked_count, 1);
    }
    // Rank 0 was through before the old puts could go on: it did stage into the slots again.
    CHECK(zero->done_ns[PUT_PAIRS - 1] < zero->began_ns[1] + 60 * MS_NS);
    CHECK_EQ(zero->causes[1], PHX_CAUSE_TIMEOUT);
    // What it posted to say so went over the lanes made anew; if the link was up by then, it came.
    if (nodes == 1 || down_ms < 50)
        CHECK_EQ(one->causes[0], PHX_CAUSE_GAVE_UP);
}

TEST(slots_rows_staged_anew_do_not_leave_as_old_ones_over_rdma)
{
    check_puts(2, PHX_DISPATCH, 10);
    check_puts(2, PHX_DISPATCH, 60);
    check_puts(2, PHX_COMBINE, 10);
    check_puts(2, PHX_COMBINE, 60);
}

TEST(slots_rows_staged_anew_do_not_leave_as_old_ones_over_nvlink)
{
    check_puts(1, PHX_DISPATCH, 60);
    check_puts(1, PHX_COMBINE, 60);
}

// --- across views -------------------------------------------------------------------------------

static int install_next(struct sg_rank *self)
{
    struct phx_view view;
    phx__view_now(self->group, &view);
    view.epoch++;
    return phx__view_install(self->group, &view, &self->message);
}

// Dispatches without combines, each in a view of its own: nothing but the numbers that go on from
// view to view keeps a fast rank from the slots that a slow one still reads.
static void dispatches_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    self->rc = sg_open(run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < run->pairs; pair++) {
        self->rc = install_next(self);
        if (self->rc == 0)
            self->rc = sg_dispatch(self, pair);
    }
    phx_sim_sleep_ns(rank, 20000000); // nobody leaves while others still wait
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

static void check_views(uint32_t nodes, uint32_t workers, uint32_t source, uint32_t target,
                        uint64_t delay_us)
{
    struct sg_run *run = sg_new();
    run->nodes = nodes;
    run->workers = workers;
    run->pairs = SG_PAIRS;
    run->main = dispatches_main;
    run->fault_count = 1;
    run->faults[0].kind = PHX_FAULT_DELAY;
    run->faults[0].rank = source;
    run->faults[0].peer = target;
    run->faults[0].delay_ps = delay_us * US;
    sg_go(run);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        for (uint32_t pair = 0; pair < run->pairs; pair++) {
            const struct phx_outcome *o = &run->ranks[r].dispatched[pair];
            CHECK_MSG(o->masked_count == 0 && o->present.words[0] == 15,
                      "%u nodes, %u -> %u late by %llu us: rank %u, pair %u: causes %u %u %u %u",
                      nodes, source, target, (unsigned long long)delay_us, r, pair,
                      run->ranks[r].causes[0], run->ranks[r].causes[1], run->ranks[r].causes[2],
                      run->ranks[r].causes[3]);
            CHECK_EQ(o->epoch, pair + 2);
            CHECK_EQ(o->number, pair + 1);
        }
    }
    sg_free(run);
}

TEST(slots_of_one_view_are_not_written_in_the_next_while_they_are_read)
{
    for (uint64_t delay_us = 60; delay_us <= 300; delay_us += 60) {
        check_views(1, 1, 2, 1, delay_us);
        check_views(1, 3, 0, 3, delay_us);
        check_views(4, 2, 3, 2, delay_us);
    }
}
