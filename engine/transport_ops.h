// engine/transport_ops.h: what a transport fills in. Only transports and transport.c include it.
//
// transport.c holds the one wrapper per entry. It asserts the arguments and the results and is
// where traces are taken and tests inject faults, so that no transport does any of the three.

#ifndef PHX_ENGINE_TRANSPORT_OPS_H
#define PHX_ENGINE_TRANSPORT_OPS_H

#include "engine/transport.h"

struct phx_transport_ops { // no entry but the last two may be NULL
    void (*close)(struct phx_transport *t);
    int (*mem_register)(struct phx_transport *t, void *base, uint64_t size_bytes, uint16_t writer,
                        struct phx_mem *mem, struct phx_mem_key *key);
    int (*mem_import)(struct phx_transport *t, struct phx_peer peer, const struct phx_mem_key *key,
                      struct phx_mem *mem);
    void (*mem_release)(struct phx_transport *t, struct phx_mem mem);
    int (*peer_connect)(struct phx_transport *t, struct phx_peer peer);
    void (*peer_fence)(struct phx_transport *t, struct phx_peer peer);
    void (*peer_flush)(struct phx_transport *t, struct phx_peer peer);
    uint32_t (*post)(struct phx_transport *t, const struct phx_op *ops, uint32_t count);
    uint32_t (*poll)(struct phx_transport *t, struct phx_event *events, uint32_t capacity);
    uint64_t (*pending)(const struct phx_transport *t, struct phx_peer peer);
    void *(*mem_base)(struct phx_transport *t, struct phx_mem mem); // with info.makes_memory
    int (*mem_heads)(struct phx_transport *t, struct phx_mem mem, uint32_t part_bytes,
                     uint32_t parts, void **at); // or NULL
};

// Called by the wrappers, in this order of use: `refuse` may fail a control call before the
// transport sees it (returns 0 to let it pass, else the error to return); `hold` caps how many ops
// a post may take; `post` and `event` see what passed. Any entry may be NULL.
struct phx_transport_hooks {
    void *context;
    int (*refuse)(void *context, const char *entry);
    uint32_t (*hold)(void *context, const struct phx_op *ops, uint32_t count);
    void (*post)(void *context, const struct phx_op *op);
    void (*event)(void *context, const struct phx_event *event);
};

struct phx_transport { // the first member of each transport's own struct
    const struct phx_transport_ops *ops;
    struct phx_transport_info info;
    struct phx_transport_hooks hooks; // zero: no hooks
    struct phx_message said;          // by the last control call; see phx_transport_said()
};

#endif
