// Planted: two workers of one simulated rank write one variable without order. They never run at
// the same time, yet the race must show.

#include "tests/test.h"

#include "sim/world.h"

static long shared;

static void body(void *argument, uint32_t worker)
{
    (void)argument, (void)worker;
    for (int i = 0; i < 100; i++)
        shared++;
}

static void rank_main(struct phx_sim_rank *rank, void *argument)
{
    struct phx_executor *e = phx_sim_executor(rank);
    (void)argument;
    CHECK_EQ(e->ops->run(e, body, NULL, 2, NULL, NULL), 0);
}

TEST(selfcheck_workers_race)
{
    struct phx_world *world;
    struct phx_world_options options = {
        .seed = 1,
        .schedule.tie = PHX_TIE_FIFO,
        .fibers = PHX_FIBERS,
        .workers = 2,
        .cluster = {.nodes = 1, .ranks_per_node = 1},
    };
    CHECK_EQ(phx_world_create(&options, &world, NULL), 0);
    CHECK_EQ(phx_world_run(world, rank_main, NULL, NULL), 0);
    phx_world_destroy(world);
    CHECK_EQ(shared, 200);
}
