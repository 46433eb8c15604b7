// kernels/device_environment.h: what device_c.h needs of a rank beside struct phx_rank: its
// transport, executor and leaves. Filled by engine/group.c.

#ifndef PHX_KERNELS_DEVICE_ENVIRONMENT_H
#define PHX_KERNELS_DEVICE_ENVIRONMENT_H

#include "engine/executor.h"
#include "engine/transport.h"
#include "kernels/leaves.h"

struct phx_environment {
    struct phx_transport *transport;
    struct phx_executor *executor;
    const struct phx_leaves *leaves;
    const struct phx_peer *peers;  // [ranks]
    const struct phx_mem *targets; // [ranks] our region at each peer, imported
    struct phx_mem stage;          // our staging memory, registered
};

#endif
