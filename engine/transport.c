// engine/transport.c: the one wrapper per entry of a transport.
//
// Arguments are asserted on the way in and results on the way out, so that no transport checks its
// callers and no caller checks its transport. Hooks see exactly what passed.

#include "engine/transport.h"

#include <stddef.h>

#include "engine/assert.h"
#include "engine/transport_ops.h"

static int refused(struct phx_transport *t, const char *entry)
{
    t->said.text[0] = '\0';
    if (t->hooks.refuse == NULL)
        return 0;
    int error = t->hooks.refuse(t->hooks.context, entry);
    phx_assert(error <= 0);
    return error;
}

const struct phx_transport_info *phx_transport_info(const struct phx_transport *t)
{
    phx_assert(t != NULL);
    phx_assert(t->info.lane_count > 0);
    phx_assert(t->info.post_count_max > 0);
    return &t->info;
}

const char *phx_transport_said(const struct phx_transport *t)
{
    phx_assert(t != NULL);
    return t->said.text;
}

int phx_mem_register(struct phx_transport *t, void *base, uint64_t size_bytes, uint16_t writer,
                     struct phx_mem *mem, struct phx_mem_key *key)
{
    phx_assert(t != NULL);
    phx_assert((base == NULL) == (t->info.makes_memory != 0));
    phx_assert(size_bytes > 0);
    phx_assert(mem != NULL);
    phx_assert(key != NULL || writer == PHX_WRITER_NONE);
    int error = refused(t, "mem_register");
    if (error == 0)
        error = t->ops->mem_register(t, base, size_bytes, writer, mem, key);
    phx_assert(error <= 0);
    phx_assert(error != 0 || mem->epoch != 0);
    return error;
}

int phx_mem_import(struct phx_transport *t, struct phx_peer peer, const struct phx_mem_key *key,
                   struct phx_mem *mem)
{
    phx_assert(t != NULL);
    phx_assert(key != NULL);
    phx_assert(mem != NULL);
    int error = refused(t, "mem_import");
    if (error == 0)
        error = t->ops->mem_import(t, peer, key, mem);
    phx_assert(error <= 0);
    phx_assert(error != 0 || mem->epoch != 0);
    return error;
}

void phx_mem_release(struct phx_transport *t, struct phx_mem mem)
{
    phx_assert(t != NULL);
    t->ops->mem_release(t, mem);
}

void *phx_mem_base(struct phx_transport *t, struct phx_mem mem)
{
    phx_assert(t != NULL);
    phx_assert(t->info.makes_memory != 0);
    void *base = t->ops->mem_base(t, mem);
    phx_assert(base != NULL);
    return base;
}

int phx_mem_heads(struct phx_transport *t, struct phx_mem mem, uint32_t part_bytes, uint32_t parts,
                  void **at)
{
    phx_assert(t != NULL);
    phx_assert(part_bytes > 0);
    phx_assert(parts > 0 && parts <= PHX_MEM_HEADS_MAX);
    return t->ops->mem_heads != NULL ? t->ops->mem_heads(t, mem, part_bytes, parts, at) : 0;
}

int phx_peer_connect(struct phx_transport *t, struct phx_peer peer)
{
    phx_assert(t != NULL);
    phx_assert(peer.epoch != 0);
    int error = refused(t, "peer_connect");
    if (error == 0)
        error = t->ops->peer_connect(t, peer);
    phx_assert(error <= 0);
    return error;
}

void phx_peer_fence(struct phx_transport *t, struct phx_peer peer)
{
    phx_assert(t != NULL);
    phx_assert(peer.epoch != 0);
    t->ops->peer_fence(t, peer);
}

void phx_peer_flush(struct phx_transport *t, struct phx_peer peer)
{
    phx_assert(t != NULL);
    phx_assert(peer.epoch != 0);
    t->ops->peer_flush(t, peer);
}

static void check_op(const struct phx_transport *t, const struct phx_op *op)
{
    const unsigned known_flags = PHX_OP_SIGNAL | PHX_OP_SILENT;
    phx_assert(op->code == PHX_OP_PUT);
    phx_assert((op->flags & ~known_flags) == 0);
    phx_assert(op->lane < t->info.lane_count);
    phx_assert(op->wire_bytes >= op->size_bytes);
    phx_assert((op->signal_offset & 7u) == 0 || (op->flags & PHX_OP_SIGNAL) == 0);
}

uint32_t phx_post(struct phx_transport *t, const struct phx_op *ops, uint32_t count)
{
    phx_assert(t != NULL);
    phx_assert(ops != NULL || count == 0);
    for (uint32_t i = 0; i < count; i++)
        check_op(t, &ops[i]);
    uint32_t allowed = count;
    if (t->hooks.hold != NULL) {
        uint32_t held = t->hooks.hold(t->hooks.context, ops, count);
        if (held < allowed)
            allowed = held;
    }
    uint32_t taken = allowed > 0 ? t->ops->post(t, ops, allowed) : 0;
    phx_assert(taken <= allowed);
    if (t->hooks.post != NULL)
        for (uint32_t i = 0; i < taken; i++)
            t->hooks.post(t->hooks.context, &ops[i]);
    return taken;
}

static void check_event(const struct phx_transport *t, const struct phx_event *event)
{
    phx_assert(event->reserved == 0);
    phx_assert(event->status <= 0);
    if (event->kind == PHX_EVENT_OP) {
        phx_assert(event->lane < t->info.lane_count);
        return;
    }
    phx_assert(event->kind == PHX_EVENT_PEER);
    phx_assert(event->peer_state == PHX_PEER_UP || event->peer_state == PHX_PEER_LOST);
    phx_assert((event->peer_state == PHX_PEER_UP) == (event->status == 0));
}

uint32_t phx_poll(struct phx_transport *t, struct phx_event *events, uint32_t capacity)
{
    phx_assert(t != NULL);
    phx_assert(events != NULL || capacity == 0);
    uint32_t count = t->ops->poll(t, events, capacity);
    phx_assert(count <= capacity);
    for (uint32_t i = 0; i < count; i++) {
        check_event(t, &events[i]);
        if (t->hooks.event != NULL)
            t->hooks.event(t->hooks.context, &events[i]);
    }
    return count;
}

void phx_transport_close(struct phx_transport *t)
{
    if (t != NULL)
        t->ops->close(t);
}

uint64_t phx_pending(const struct phx_transport *t, struct phx_peer peer)
{
    phx_assert(t != NULL);
    return t->ops->pending(t, peer);
}
