// examples/dispatch.c: four simulated ranks send tokens to their experts and get them back; one
// rank is killed in the middle, and the others finish.
//
//     cc -I. examples/dispatch.c ... (the build makes it: build/release/bin/example_dispatch)

#include <stdio.h>
#include <string.h>

#include "sim/open.h"

enum { RANKS = 4, TOKENS = 8, HIDDEN = 256, EXPERTS = 8, TOP_K = 2, LOCAL = EXPERTS / RANKS };

static void program(struct phx_sim_rank *rank, void *unused)
{
    static uint16_t x[RANKS][TOKENS * HIDDEN], y[RANKS][LOCAL * RANKS * TOKENS * HIDDEN];
    static uint16_t out[RANKS][TOKENS * HIDDEN];
    int64_t topk_idx[TOKENS * TOP_K], range[LOCAL * RANKS];
    float weights[TOKENS * TOP_K], loss[TOKENS], lost = 0;
    int32_t count[LOCAL], source_token[LOCAL * RANKS * TOKENS], active[RANKS] = {1, 1, 1, 1};
    struct phx_message error = {""};
    struct phx_group *group = NULL;
    struct phx_handle *handle = NULL;
    struct phx_outcome outcome;
    uint32_t me = phx_sim_rank_number(rank);
    (void)unused;

    struct phx_group_options options;
    phx_group_options_init(&options);
    options.experts = EXPERTS, options.top_k = TOP_K, options.hidden = HIDDEN;
    options.tokens_max = TOKENS, options.dtype = PHX_BF16, options.timeout_us = 1000;
    if (phx_sim_open(rank, &options, &group, &error) != 0 ||
        phx_handle_create(group, &handle, &error) != 0) {
        printf("rank %u: %s\n", me, error.text);
        return;
    }
    for (int i = 0; i < TOKENS * TOP_K; i++) // token t goes to experts t and t + 3, half and half
        topk_idx[i] = (i / TOP_K + 3 * (i % TOP_K)) % EXPERTS, weights[i] = 0.5f;
    for (int i = 0; i < TOKENS * HIDDEN; i++)
        x[me][i] = 0x3F80; // 1.0 in bf16
    if (me == 3)
        phx_world_kill(phx_sim_rank_world(rank), me); // returns on no rank

    struct phx_dispatch_args d = {.size = sizeof d,
                                  .token_count = TOKENS,
                                  .x = x[me],
                                  .topk_idx = topk_idx,
                                  .topk_weights = weights,
                                  .active_ranks = active,
                                  .recv_x = y[me],
                                  .recv_count = count,
                                  .recv_src_info = source_token,
                                  .recv_layout_range = range};
    struct phx_combine_args c = {.size = sizeof c,
                                 .token_count = TOKENS,
                                 .y = y[me],
                                 .topk_idx = topk_idx,
                                 .topk_weights = weights,
                                 .active_ranks = active,
                                 .out = out[me],
                                 .token_loss = loss};
    if (phx_dispatch(group, &d, handle, &outcome, &error) != 0 || // the experts give back what came
        phx_combine(group, &c, handle, &outcome, &error) != 0)
        printf("rank %u: %s\n", me, error.text);
    for (int t = 0; t < TOKENS; t++)
        lost += loss[t];
    printf("rank %u: %d and %d rows came, %u rank masked, %.1f of %d token weights lost\n", me,
           count[0], count[1], outcome.masked_count, (double)lost, TOKENS);
    phx_sim_close(rank, group);
}

int main(void)
{
    struct phx_world_options options = {.seed = 1,
                                        .tie = PHX_TIE_FIFO,
                                        .fibers = PHX_FIBERS,
                                        .workers = 1,
                                        .cluster = {1, RANKS, "nvlink4", "roce_400g"}};
    struct phx_message error = {""};
    struct phx_world *world;
    int rc = phx_world_create(&options, &world, &error);
    if (rc == 0)
        rc = phx_world_run(world, program, NULL, &error);
    if (rc != 0)
        printf("%s\n", error.text);
    phx_world_destroy(rc == 0 ? world : NULL);
    return rc != 0;
}
