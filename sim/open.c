// sim/open.c: opening a group on a simulated rank.

#include "sim/open.h"

#include "sim/fabric.h"
#include "sim/memory.h"

// Every connection is answered and every op finishes, so waiting by polls ends.
#define PHX_SIM_OPEN_POLL_NS 1000u

static void *sim_alloc(void *context, uint64_t size_bytes)
{
    return phx_sim_alloc(context, size_bytes);
}

int phx_sim_open(struct phx_sim_rank *rank, const struct phx_group_options *options,
                 struct phx_group **group, struct phx_message *message)
{
    struct phx_group_options o = *options;
    struct phx_target target = {phx_sim_transport(rank), phx_sim_executor(rank)};
    o.rank = phx_sim_rank_number(rank);
    o.ranks = phx_world_rank_count(phx_sim_rank_world(rank));
    o.allocator = (struct phx_allocator){sim_alloc, NULL, rank};
    struct phx_group *g;
    int rc = phx_group_create(&o, &target, &g, message);
    if (rc != 0)
        return rc;
    phx_memory_keep_lanes(phx_fabric_memory(phx_fabric_of(phx_sim_rank_world(rank))));
    uint64_t bytes = (uint64_t)o.ranks * phx_group_card_bytes();
    void *cards = phx_sim_alloc(rank, 2 * bytes);
    void *theirs = (uint8_t *)cards + bytes;
    rc = cards == NULL ? PHX_ERR_NO_MEMORY : 0;
    if (rc == 0) {
        phx_group_cards(g, cards);
        rc = phx_sim_exchange(rank, cards, theirs, phx_group_card_bytes());
    }
    if (rc != 0)
        (void)phx_fail(message, rc, "exchanging cards: %s", phx_error_text(rc));
    else
        rc = phx_group_connect(g, theirs, message);
    while (rc == 0 && phx_group_poll(g) > 0)
        phx_sim_sleep_ns(rank, PHX_SIM_OPEN_POLL_NS);
    if (rc != 0) {
        phx_group_close(g);
        return rc;
    }
    *group = g;
    return 0;
}

void phx_sim_close(struct phx_sim_rank *rank, struct phx_group *group)
{
    while (group != NULL && phx_group_pending(group) > 0) {
        (void)phx_group_poll(group);
        phx_sim_sleep_ns(rank, PHX_SIM_OPEN_POLL_NS);
    }
    phx_group_close(group);
}
