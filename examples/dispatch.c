// examples/dispatch.c: four simulated ranks send tokens to their experts and get them back. Rank 3
// is killed first; the others finish without it and say what it cost.

#include <stdio.h>

#include "sim/open.h"

enum { RANKS = 4, TOKENS = 8, HIDDEN = 256, EXPERTS = 8, TOP_K = 2, LOCAL = EXPERTS / RANKS };

struct buffers { // one rank's tensors; shapes as engine/phalanx.h says
    uint16_t x[TOKENS * HIDDEN], y[LOCAL * RANKS * TOKENS * HIDDEN], out[TOKENS * HIDDEN];
    int64_t topk_idx[TOKENS * TOP_K], range[LOCAL * RANKS];
    float weights[TOKENS * TOP_K], loss[TOKENS];
    int32_t count[LOCAL], source_token[LOCAL * RANKS * TOKENS], active[RANKS];
};

static void program(struct phx_sim_rank *rank, void *all)
{
    struct buffers *b = (struct buffers *)all + phx_sim_rank_number(rank);
    struct phx_message error = {""};
    struct phx_group_options o;
    struct phx_group *group = NULL;
    struct phx_handle *handle = NULL;
    struct phx_outcome outcome = {0};
    phx_group_options_init(&o);
    o.experts = EXPERTS, o.top_k = TOP_K, o.hidden = HIDDEN, o.tokens_max = TOKENS;
    o.dtype = PHX_BF16, o.timeout_us = 1000;
    int rc = phx_sim_open(rank, &o, &group, &error);
    if (rc == 0)
        rc = phx_handle_create(group, &handle, &error);
    for (int i = 0; i < TOKENS * TOP_K; i++) // token t goes to experts t and t + 3, half and half
        b->topk_idx[i] = (i / TOP_K + 3 * (i % TOP_K)) % EXPERTS, b->weights[i] = 0.5f;
    for (int i = 0; i < RANKS; i++)
        b->active[i] = 1;
    if (phx_sim_rank_number(rank) == 3)
        phx_world_kill(phx_sim_rank_world(rank), 3); // does not return

    struct phx_dispatch_args d = {sizeof d, TOKENS, b->x, b->topk_idx, b->weights, b->active};
    d.recv_x = b->y, d.recv_count = b->count, d.recv_src_info = b->source_token;
    d.recv_layout_range = b->range;
    struct phx_combine_args c = {sizeof c, TOKENS, b->y, b->topk_idx, b->weights, b->active};
    c.out = b->out, c.token_loss = b->loss;
    if (rc == 0)
        rc = phx_dispatch(group, &d, handle, NULL, &error);
    if (rc == 0) // these experts give back what came
        rc = phx_combine(group, &c, handle, &outcome, &error);
    float lost = 0;
    for (int t = 0; t < TOKENS; t++)
        lost += b->loss[t];
    printf("rank %u: %s; %d + %d rows came, %u rank masked, weight lost: %.1f of %d\n",
           phx_sim_rank_number(rank), rc == 0 ? "done" : error.text, b->count[0], b->count[1],
           outcome.masked_count, (double)lost, TOKENS);
    phx_sim_close(rank, group);
}

int main(void)
{
    static struct buffers buffers[RANKS];
    struct phx_world_options o = {
        .seed = 1, .schedule.tie = PHX_TIE_FIFO, .fibers = PHX_FIBERS, .workers = 1};
    struct phx_message error = {""};
    struct phx_world *world = NULL;
    o.cluster = (struct phx_cluster){.nodes = 1, .ranks_per_node = RANKS, .intra_node = "nvlink4"};
    int rc = phx_world_create(&o, &world, &error);
    if (rc == 0)
        rc = phx_world_run(world, program, buffers, &error);
    if (rc != 0)
        printf("%s\n", error.text);
    phx_world_destroy(world);
    return rc != 0;
}
