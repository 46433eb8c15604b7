// tests/test_capacity.c: the compact output: rows that do not fit, and ranks that receive none.

#include <string.h>

#include "tests/sim_group.h"
#include "tests/test.h"

// --- an output that is too small ----------------------------------------------------------------

enum { SHORT = 1, ROWS_KEPT = 9 };

// Rank 1 has room for ROWS_KEPT of 12 rows in its second dispatch.
static void short_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    uint32_t me = phx_sim_rank_number(rank);
    struct sg_rank *self = &run->ranks[me];
    self->rc = sg_open(run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < run->pairs; pair++) {
        self->rows_max = me == SHORT && pair == 1 ? ROWS_KEPT : SG_ROWS;
        if (me == SHORT && pair == 1)
            memset(self->y, 0xA5, sizeof self->y);
        self->rc = sg_dispatch(self, pair);
        if (me == SHORT && pair == 1) {
            CHECK_EQ(self->rc, PHX_ERR_CAPACITY);
            CHECK_STR_EQ(self->message.text, "recv_rows_max = 9: 3 of 12 rows did not fit");
            for (int i = ROWS_KEPT * SG_HIDDEN; i < SG_ROWS * SG_HIDDEN; i++)
                CHECK_EQ(self->y[i], 0xA5A5);
            self->rc = 0; // what fits is there, and combine says who lost the rest
        }
        if (self->rc == 0)
            self->rc = sg_combine(self, pair);
    }
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

// Rank 1 holds experts 2 (token 2 of each source) and 3 (tokens 0 and 3). Its rows stand by expert,
// source and token, so the three without a place are sources 2 and 3's of expert 3: those of source
// 2 but for its token 0, and both of source 3's.
static void check_short(enum phx_rows_form rows, uint32_t workers)
{
    struct sg_run *run = sg_new();
    run->layout = PHX_LAYOUT_COMPACT;
    run->rows = rows;
    run->workers = workers;
    run->main = short_main;
    sg_go(run);
    const struct phx_outcome *o = &run->ranks[SHORT].dispatched[1];
    CHECK_EQ(o->rows_received, 12);
    CHECK_EQ(o->rows_dropped, 12 - ROWS_KEPT);
    CHECK_EQ(o->present.words[0], 15);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        const struct sg_rank *self = &run->ranks[r];
        CHECK_EQ(phx_rank_set_has(&self->combined[1].answered, SHORT), r < 2);
        for (uint32_t pair = 0; pair < run->pairs; pair++) {
            CHECK_EQ(self->combined[pair].masked_count, 0); // it is small, not dead
            CHECK(r == SHORT || self->dispatched[pair].rows_dropped == 0);
            for (int t = 0; t < SG_TOKENS; t++) {
                bool there = t == 0 || t == 2 || t == 3;
                float expected = pair == 1 && r >= 2 && there ? 0.5f : 0.0f;
                CHECK_MSG(self->loss[pair][t] == expected, "rank %u, pair %u, token %d: %g", r,
                          pair, t, (double)self->loss[pair][t]);
            }
        }
        CHECK_EQ(self->dispatched[2].rows_dropped, 0);
    }
    sg_free(run);
}

TEST(capacity_rows_beyond_the_output_are_lost_at_their_sources)
{
    for (uint32_t workers = 1; workers <= SG_RANKS + 1; workers++) {
        check_short(PHX_ROWS_ONCE, workers);
        check_short(PHX_ROWS_PER_EXPERT, workers);
    }
}

// --- a rank without experts ---------------------------------------------------------------------

enum { FEW_EXPERTS = 3, FEW_TOKENS = 4, FEW_PAIRS = 3 };

struct few_rank {
    struct phx_group *group;
    struct phx_handle *handle;
    uint16_t x[FEW_TOKENS * 128];
    uint16_t out[FEW_TOKENS * 128];
    uint16_t y[SG_RANKS * FEW_TOKENS * 128];
    int32_t count[1];
    int32_t src_info[SG_RANKS * FEW_TOKENS];
    int64_t range[SG_RANKS];
    int64_t offsets[2];
    float loss[FEW_TOKENS];
    uint32_t masked;
    uint32_t lost;
    uint32_t wrong_sums;
    int rc;
    struct phx_message message;
};
struct few_run {
    enum phx_output_layout layout;
    struct few_rank ranks[SG_RANKS];
};

static int few_pair(struct few_rank *self, uint64_t rows_max)
{
    static const int64_t topk_idx[FEW_TOKENS * 2] = {0, 1, 1, 2, 2, 0, 0, -1};
    static const float weights[FEW_TOKENS * 2] = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 1.0f, 1.0f};
    bool has = rows_max > 0;
    struct phx_outcome o;
    struct phx_dispatch_args a;
    struct phx_combine_args c;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = FEW_TOKENS;
    a.x = self->x;
    a.topk_idx = topk_idx;
    a.topk_weights = weights;
    a.recv_x = has ? self->y : NULL;
    a.recv_count = has ? self->count : NULL;
    a.recv_src_info = has ? self->src_info : NULL;
    a.recv_layout_range = has ? self->range : NULL;
    a.recv_offsets = self->offsets;
    a.recv_rows_max = rows_max;
    int rc = phx_dispatch(self->group, &a, self->handle, &o, &self->message);
    if (rc != 0)
        return rc;
    self->masked += o.masked_count;
    if (!has)
        CHECK_EQ(o.rows_received, 0);
    CHECK_EQ(self->offsets[0], 0);
    memset(&c, 0, sizeof c);
    c.size = sizeof c;
    c.token_count = FEW_TOKENS;
    c.y = has ? self->y : NULL;
    c.topk_idx = topk_idx;
    c.topk_weights = weights;
    c.out = self->out;
    c.token_loss = self->loss;
    rc = phx_combine(self->group, &c, self->handle, &o, &self->message);
    if (rc != 0)
        return rc;
    self->masked += o.masked_count;
    for (int i = 0; i < FEW_TOKENS; i++)
        self->lost += self->loss[i] != 0.0f;
    for (int i = 0; i < FEW_TOKENS * 128; i++)
        self->wrong_sums += self->out[i] != 0x3F80;
    return 0;
}

static void few_main(struct phx_sim_rank *rank, void *argument)
{
    struct few_run *run = argument;
    struct few_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    struct phx_group_options o;
    struct phx_size_hint hint;
    phx_group_options_init(&o);
    o.rank = phx_sim_rank_number(rank);
    o.ranks = SG_RANKS;
    o.experts = FEW_EXPERTS;
    o.top_k = 2;
    o.tokens_max = FEW_TOKENS;
    o.hidden = 128;
    o.dtype = PHX_BF16;
    o.layout = run->layout;
    for (int i = 0; i < FEW_TOKENS * 128; i++)
        self->x[i] = 0x3F80;
    self->rc = phx_size_hint(&o, &hint, &self->message);
    CHECK_EQ(hint.experts_local, o.rank < FEW_EXPERTS ? 1 : 0);
    CHECK_EQ(hint.recv_rows_max == 0, o.rank >= FEW_EXPERTS);
    if (self->rc == 0)
        self->rc = phx_sim_open(rank, &o, &self->group, &self->message);
    if (self->rc == 0)
        self->rc = phx_handle_create(self->group, &self->handle, &self->message);
    for (int pair = 0; self->rc == 0 && pair < FEW_PAIRS; pair++)
        self->rc = few_pair(self, hint.recv_rows_max);
    phx_sim_close(rank, self->group);
}

// Rank 3 has no expert: what the hint says is nothing is given as nothing, and it takes part.
static void check_few(enum phx_output_layout layout)
{
    static struct few_run run;
    struct phx_world_options o;
    struct phx_world *world;
    struct phx_message m = {""};
    memset(&run, 0, sizeof run);
    run.layout = layout;
    memset(&o, 0, sizeof o);
    o.seed = 1;
    o.schedule.tie = PHX_TIE_RANDOM;
    o.fibers = PHX_FIBERS;
    o.workers = 1;
    o.cluster = (struct phx_cluster){1, SG_RANKS, "nvlink4", "roce_400g", 0};
    CHECK_MSG(phx_world_create(&o, &world, &m) == 0, "%s", m.text);
    CHECK_MSG(phx_world_run(world, few_main, &run, &m) == 0, "%s", m.text);
    phx_world_destroy(world);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        CHECK_MSG(run.ranks[r].rc == 0, "rank %u: %s", r, run.ranks[r].message.text);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        const struct few_rank *self = &run.ranks[r];
        CHECK_EQ(self->masked, 0);
        CHECK_EQ(self->lost, 0);
        CHECK_EQ(self->wrong_sums, 0);
    }
}

TEST(capacity_a_rank_without_experts_takes_part_in_the_compact_layout)
{
    check_few(PHX_LAYOUT_COMPACT);
}

TEST(capacity_a_rank_without_experts_takes_part_in_the_slots_layout)
{
    check_few(PHX_LAYOUT_SLOTS);
}
