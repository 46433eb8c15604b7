// sim/open.h: opens a group on a simulated rank: create, exchange cards over the simulated
// bootstrap, connect. Memory comes from the rank's simulated memory.

#ifndef PHX_SIM_OPEN_H
#define PHX_SIM_OPEN_H

#include "engine/phalanx.h"
#include "sim/world.h"

// Every rank of the world calls it. options->rank, ranks and allocator are filled from the world.
int phx_sim_open(struct phx_sim_rank *rank, const struct phx_group_options *options,
                 struct phx_group **group, struct phx_message *message);
// Waits until what this rank sent to living ranks has arrived (a bounded time: transports give up
// on the dead), then closes the group. NULL is allowed.
void phx_sim_close(struct phx_sim_rank *rank, struct phx_group *group);

#endif
