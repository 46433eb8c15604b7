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
    o->hidden = SG_HIDDEN;
    o->dtype = PHX_BF16;
    o->workers = run->workers;
    o->timeout_us = run->timeout_us;
}

static void fill(struct sg_rank *self)
{
    for (int i = 0; i < SG_TOKENS * SG_HIDDEN; i++)
        self->x[i] = 0x3F80; // 1.0
    for (int t = 0; t < SG_TOKENS; t++) {
        for (int k = 0; k < SG_TOP_K; k++) {
            self->topk_idx[t * SG_TOP_K + k] = (t + 3 * k) % SG_EXPERTS;
            self->weights[t * SG_TOP_K + k] = 0.5f;
        }
    }
    for (int r = 0; r < SG_RANKS; r++)
        self->active[r] = 1;
}

static int dispatch(struct sg_rank *self, uint32_t pair)
{
    struct phx_dispatch_args a;
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
    a.wait_ns = self->wait_ns;
    return phx_dispatch(self->group, &a, self->handle, &self->dispatched[pair], &self->message);
}

static int combine(struct sg_rank *self, uint32_t pair)
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
    return phx_combine(self->group, &a, self->handle, &self->combined[pair], &self->message);
}

int sg_pair(struct sg_run *run, struct phx_sim_rank *rank, uint32_t pair)
{
    struct sg_rank *self = &run->ranks[phx_sim_rank_number(rank)];
    int rc = dispatch(self, pair);
    if (rc == 0 && run->think_ns[phx_sim_rank_number(rank)] > 0)
        phx_sim_sleep_ns(rank, run->think_ns[phx_sim_rank_number(rank)]);
    if (rc == 0)
        rc = combine(self, pair);
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
    o.tie = PHX_TIE_RANDOM;
    o.fibers = PHX_FIBERS;
    o.workers = run->workers;
    o.cluster = (struct phx_cluster){run->nodes, SG_RANKS / run->nodes, "nvlink4", "roce_400g"};
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
}
