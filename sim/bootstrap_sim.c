// sim/bootstrap_sim.c: the all-to-all of cards that ranks open with, as a meeting of all live
// ranks.
//
// The bootstrap is not what is under test, so it is not simulated as messages: ranks meet, the
// cards change hands, and all go on a fixed time later.

#include <string.h>

#include "engine/assert.h"
#include "sim/world_state.h"

#define EXCHANGE_PS 10000000u // 10 us: a few round trips of sockets on a quiet network

static void cards_deal(struct phx_world *world, uint32_t card_bytes)
{
    for (uint32_t to = 0; to < world->rank_count; to++) {
        const struct phx_sim_rank *target = &world->ranks[to];
        if (!target->alive)
            continue;
        for (uint32_t from = 0; from < world->rank_count; from++) {
            const struct phx_sim_rank *source = &world->ranks[from];
            memcpy(target->exchange_theirs + (size_t)from * card_bytes,
                   source->exchange_mine + (size_t)to * card_bytes, card_bytes);
        }
    }
}

// 0, or why the cards cannot be dealt, the same for all.
static int exchange_judge(const struct phx_world *world)
{
    uint32_t card_bytes = 0;
    bool mismatch = false;
    for (uint32_t r = 0; r < world->rank_count; r++) {
        const struct phx_sim_rank *rank = &world->ranks[r];
        if (!rank->exchange_here)
            return PHX_ERR_PEER_LOST;
        mismatch |= r > 0 && rank->exchange_card_bytes != card_bytes;
        card_bytes = rank->exchange_card_bytes;
    }
    return mismatch ? PHX_ERR_MISMATCH : 0;
}

void phx_exchange_progress(struct phx_world *world)
{
    bool anyone = false;
    for (uint32_t r = 0; r < world->rank_count; r++) {
        const struct phx_sim_rank *rank = &world->ranks[r];
        bool will_come = rank->alive && !rank->returned;
        if (will_come && !rank->exchange_here)
            return;
        anyone |= will_come;
    }
    if (!anyone)
        return;
    PHX_SIM_ACQUIRE(world);
    int result = exchange_judge(world);
    if (result == 0)
        cards_deal(world, world->ranks[0].exchange_card_bytes);
    PHX_SIM_RELEASE(world);
    uint64_t end_ps = phx_world_time_ps(world) + EXCHANGE_PS;
    for (uint32_t r = 0; r < world->rank_count; r++) {
        struct phx_sim_rank *rank = &world->ranks[r];
        bool here = rank->exchange_here;
        rank->exchange_here = false;
        if (!here || !rank->alive)
            continue;
        rank->exchange_result = result;
        phx_strand_wake(&rank->strands[0], end_ps);
    }
}

int phx_sim_exchange(struct phx_sim_rank *rank, const void *mine, void *theirs, uint32_t card_bytes)
{
    struct phx_world *world = rank->world;
    struct phx_strand *control = &rank->strands[0];
    phx_assert(world->running == control && !rank->exchange_here);
    phx_strand_settle(control);
    rank->exchange_mine = mine;
    rank->exchange_theirs = theirs;
    rank->exchange_card_bytes = card_bytes;
    rank->exchange_here = true;
    PHX_SIM_RELEASE(world);
    phx_exchange_progress(world);
    phx_strand_block(control, PHX_STRAND_EXCHANGING, true);
    PHX_SIM_ACQUIRE(world);
    return rank->exchange_result;
}
