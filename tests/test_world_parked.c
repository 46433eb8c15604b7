// tests/test_world_parked.c: who is parked, and who is paused, as the world keeps it apart.

#include <string.h>

#include "sim/world_internal.h"
#include "tests/test.h"

#define US UINT64_C(1000)

struct stage {
    struct phx_world *world;
    uint32_t again; // processes of rank 1 that were started anew and have ended
    uint32_t ticks[3];
};

static void world_make(struct stage *stage, uint32_t ranks)
{
    struct phx_message message;
    struct phx_world_options options = {
        .seed = 1,
        .schedule.tie = PHX_TIE_FIFO,
        .fibers = PHX_PTHREADS, // there in every build
        .workers = 1,
        .cluster = {.nodes = 1, .ranks_per_node = ranks},
    };
    memset(stage, 0, sizeof *stage);
    CHECK_MSG(phx_world_create(&options, &stage->world, &message) == 0, "%s", message.text);
}

static void body_parks_for_ever(void *argument, uint32_t worker)
{
    struct phx_sim_rank *rank = argument;
    struct phx_executor *e = phx_sim_executor(rank);
    static uint64_t word;
    e->ops->park(e, worker, &word, 1, PHX_TIME_NEVER);
}
static void main_again(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    phx_sim_sleep_ns(rank, 20 * US);
    stage->again++;
}
// Rank 1 dies with a parked worker and is started again; then what that was parked on changes.
static void main_dies_parked(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    struct phx_message message;
    struct phx_executor *e = phx_sim_executor(rank);
    if (phx_sim_rank_number(rank) == 1) {
        (void)e->ops->run(e, body_parks_for_ever, rank, 1, NULL, NULL);
        return;
    }
    phx_sim_sleep_ns(rank, 10 * US);
    phx_world_kill(stage->world, 1);
    phx_world_word_changed(stage->world, 1, NULL);
    phx_sim_sleep_ns(rank, 10 * US);
    CHECK_EQ(phx_world_restart(stage->world, 1, main_again, stage, &message), 0);
    phx_world_word_changed(stage->world, 1, NULL);
    phx_sim_sleep_ns(rank, 30 * US);
}

TEST(world_parked_a_word_of_the_dead_wakes_no_worker_of_the_next)
{
    struct stage stage;
    struct phx_message message;
    world_make(&stage, 2);
    CHECK_EQ(phx_world_run(stage.world, main_dies_parked, &stage, &message), 0);
    CHECK_EQ(stage.again, 1);
    phx_world_destroy(stage.world);
}

static void main_ticks(struct phx_sim_rank *rank, void *argument)
{
    struct stage *stage = argument;
    uint32_t r = phx_sim_rank_number(rank);
    for (uint32_t i = 0; i < 10; i++) {
        if (r == 0 && i == 3) {
            phx_world_pause(stage->world, 1);
            phx_world_pause(stage->world, 2);
        }
        if (r == 0 && i == 6) {
            phx_world_resume(stage->world, 2);
            CHECK(phx_world_rank_paused(stage->world, 1));
            CHECK(!phx_world_rank_paused(stage->world, 2));
        }
        phx_sim_sleep_ns(rank, 10 * US);
        stage->ticks[r]++;
    }
}

TEST(world_parked_of_two_paused_ranks_one_goes_on)
{
    struct stage stage;
    struct phx_message message;
    world_make(&stage, 3);
    CHECK_EQ(phx_world_run(stage.world, main_ticks, &stage, &message), 0);
    CHECK(phx_world_rank_paused(stage.world, 1) && !phx_world_rank_paused(stage.world, 2));
    CHECK_EQ(stage.ticks[0], 10);
    CHECK(stage.ticks[1] < 5);
    CHECK_EQ(stage.ticks[2], 10);
    phx_world_kill(stage.world, 1);
    CHECK(!phx_world_rank_paused(stage.world, 1));
    phx_world_destroy(stage.world);
}
