// tests/sim_group.c: see the header.

#include "tests/sim_group.h"

#include <stdlib.h>
#include <string.h>

#include "tests/test.h"

struct sg_run *sg_new(void)
{
    struct sg_run *run = calloc(1, sizeof *run);
    CHECK(run != NULL);
    run->nodes = 1;
    run->pairs = 4;
    run->timeout_us = 1000;
    run->workers = 2;
    run->layout = PHX_LAYOUT_SLOTS;
    run->rows = PHX_ROWS_ONCE;
    run->check = PHX_CHECK_ROUTES;
    run->fault_tolerance = PHX_FAULT_TOLERANCE_ON;
    return run;
}

void sg_free(struct sg_run *run)
{
    free(run);
}

void sg_options(const struct sg_run *run, struct phx_group_options *o)
{
    phx_group_options_init(o);
    o->experts = SG_EXPERTS;
    o->top_k = SG_TOP_K;
    o->tokens_max = SG_TOKENS;
    o->hidden = run->wire_hidden != 0 ? run->wire_hidden : SG_HIDDEN;
    o->channels = SG_HIDDEN;
    o->dtype = PHX_BF16;
    o->workers = run->workers;
    o->timeout_us = run->timeout_us;
    o->layout = run->layout;
    o->rows = run->rows;
    o->check = run->check;
    o->fault_tolerance = run->fault_tolerance;
}

struct phx_rank_set sg_members(uint32_t count)
{
    struct phx_rank_set set;
    memset(&set, 0, sizeof set);
    for (uint32_t r = 0; r < count; r++)
        set.words[0] |= UINT64_C(1) << r;
    return set;
}

static void fill(struct sg_rank *self)
{
    for (int t = 0; t < SG_TOKENS; t++) {
        for (int k = 0; k < SG_TOP_K; k++) {
            self->topk_idx[t * SG_TOP_K + k] = (t + 3 * k) % SG_EXPERTS;
            self->weights[t * SG_TOP_K + k] = 0.5f;
        }
    }
    for (int r = 0; r < SG_RANKS; r++)
        self->active[r] = 1;
}

// 1.0 and a little more: 7 bits of fraction hold 32 pairs of 4 ranks.
uint16_t sg_value(uint32_t rank, uint32_t pair)
{
    return (uint16_t)(0x3F80 + rank * 32 + pair % 32);
}

static int row_holds(const uint16_t *row, uint16_t value)
{
    for (int i = 0; i < SG_HIDDEN; i++)
        if (row[i] != value)
            return 0;
    return 1;
}

// Rows of sources whose rows came, as far as they fit.
static void check_rows(struct sg_rank *self, uint32_t pair)
{
    const struct phx_outcome *o = &self->dispatched[pair];
    uint32_t layout = self->group->rank.shape.layout;
    for (uint32_t i = 0; i < SG_EXPERTS; i++) {
        uint32_t expert = i / SG_RANKS;
        uint32_t source = i % SG_RANKS;
        uint64_t at = layout == PHX_LAYOUT_COMPACT ? (uint64_t)self->offsets[expert]
                                                   : (uint64_t)expert * SG_RANKS * SG_TOKENS;
        uint64_t begin = at + (uint64_t)(self->range[i] >> 32);
        uint64_t end = begin + (uint64_t)(self->range[i] & 0xFFFFFFFF);
        if (end > self->rows_max)
            end = self->rows_max;
        for (uint64_t row = begin; phx_rank_set_has(&o->present, source) && row < end; row++)
            self->wrong_rows += !row_holds(self->y + row * SG_HIDDEN, sg_value(source, pair));
    }
}

// Experts give back what they got, so a token's sum is its value times what was not lost of its
// weights: 1, 1/2 (one binary place less) or 0.
static void check_sums(struct sg_rank *self, uint32_t pair)
{
    uint16_t whole = sg_value(self->group->rank.rank, pair);
    for (int t = 0; t < SG_TOKENS; t++) {
        float lost = self->loss[pair][t];
        uint16_t expected = lost == 0.0f ? whole : lost == 0.5f ? (uint16_t)(whole - 0x80) : 0;
        self->wrong_sums += !row_holds(self->out + t * SG_HIDDEN, expected);
    }
}

int sg_dispatch(struct sg_rank *self, uint32_t pair)
{
    struct phx_dispatch_args a;
    for (int i = 0; i < SG_TOKENS * SG_HIDDEN; i++)
        self->x[i] = sg_value(self->group->rank.rank, pair);
    if (self->rows_max == 0)
        self->rows_max = SG_ROWS;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = SG_TOKENS;
    a.x = self->x;
    a.topk_idx = self->topk_idx;
    a.topk_weights = self->weights;
    a.active_ranks = self->active;
    a.recv_x = self->y;
    a.recv_count = self->count;
    a.recv_src_info = self->src_info;
    a.recv_layout_range = self->range;
    a.recv_offsets = self->offsets;
    a.recv_rows_max = self->rows_max;
    a.wait_ns = self->wait_ns;
    a.replay = self->replay;
    a.replay_masked = self->replay_masked;
    int rc = phx_dispatch(self->group, &a, self->handle, &self->dispatched[pair], &self->message);
    if (rc == 0 || rc == PHX_ERR_CAPACITY)
        check_rows(self, pair);
    return rc;
}

int sg_combine(struct sg_rank *self, uint32_t pair)
{
    struct phx_combine_args a;
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = SG_TOKENS;
    a.y = self->y;
    a.topk_idx = self->topk_idx;
    a.topk_weights = self->weights;
    a.active_ranks = self->active;
    a.out = self->out;
    a.token_loss = self->loss[pair];
    a.wait_ns = self->wait_ns;
    a.replay = self->replay != NULL ? self->replay + PHX_WAIT_COMBINE * SG_RANKS : NULL;
    a.replay_masked = self->replay_masked;
    int rc = phx_combine(self->group, &a, self->handle, &self->combined[pair], &self->message);
    if (rc == 0)
        check_sums(self, pair);
    return rc;
}

int sg_pair(struct sg_run *run, struct phx_sim_rank *rank, uint32_t pair)
{
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    int rc = sg_dispatch(self, pair);
    if (rc == 0 && run->think_ns[phx_sim_rank_number(rank)] > 0)
        phx_sim_sleep_ns(rank, run->think_ns[phx_sim_rank_number(rank)]);
    if (rc == 0)
        rc = sg_combine(self, pair);
    self->done_ns[pair] = phx_sim_now_ns(rank);
    return rc;
}

int sg_open(struct sg_run *run, struct phx_sim_rank *rank)
{
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    struct phx_group_options options;
    sg_options(run, &options);
    fill(self);
    int rc = phx_sim_open(rank, &options, &self->group, &self->message);
    return rc != 0 ? rc : phx_handle_create(self->group, &self->handle, &self->message);
}

void sg_main(struct phx_sim_rank *rank, void *argument)
{
    struct sg_run *run = argument;
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    self->rc = sg_open(run, rank);
    if (self->rc == 0 && run->opened != NULL)
        run->opened(rank, self);
    for (uint32_t pair = 0; self->rc == 0 && pair < run->pairs; pair++)
        self->rc = sg_pair(run, rank, pair);
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

void sg_go(struct sg_run *run)
{
    struct phx_world_options o;
    const struct phx_violation *list;
    memset(&o, 0, sizeof o);
    o.seed = 1;
    o.schedule.tie = PHX_TIE_RANDOM;
    o.fibers = PHX_FIBERS;
    o.workers = run->workers;
    o.cluster = (struct phx_cluster){run->nodes, SG_RANKS / run->nodes, "nvlink4", "roce_400g", 0};
    CHECK_MSG(phx_world_create(&o, &run->world, &run->message) == 0, "%s", run->message.text);
    CHECK_MSG(phx_fault_install(run->world, run->faults, run->fault_count, &run->message) == 0,
              "%s", run->message.text);
    run->rc =
        phx_world_run(run->world, run->main != NULL ? run->main : sg_main, run, &run->message);
    CHECK_MSG(run->rc == 0, "%s", run->message.text);
    run->violations = phx_world_violations(run->world, &list);
    CHECK_MSG(run->violations == 0, "%s: %s", list[0].rule, list[0].text);
    phx_world_destroy(run->world);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        CHECK_MSG(run->ranks[r].rc == 0, "rank %u: %s", r, run->ranks[r].message.text);
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        CHECK_MSG(run->ranks[r].wrong_rows == 0, "rank %u: %u rows", r, run->ranks[r].wrong_rows);
        CHECK_MSG(run->ranks[r].wrong_sums == 0, "rank %u: %u sums", r, run->ranks[r].wrong_sums);
    }
}
