// sim/transport_sim.c: struct phx_transport over the simulated fabric, and the fabric's place in
// the world.
//
// A process has one transport. Handles name entries of its rank's table, which only grows: entries
// of dead processes stay, because NVLink stores still reach their memory. A key carries the
// region's number and a nonce that no other region of the run has.
//
// post and poll take memory when more is in flight than ever before; otherwise they don't allocate.

#include "sim/fabric_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/pages.h"

// Of first parts alone.
#define HEADS_BYTES_FIRST (128u << 10)
#define HEADS_BYTES_MOST (32u << 20)
#define EVIDENCE_PS 500000000ull // a robust lock tells a process's death in under a millisecond

struct key { // the opaque 32 bytes
    uint32_t rank;
    uint32_t incarnation;
    uint32_t index;
    uint32_t epoch;
    uint64_t size_bytes;
    uint64_t nonce;
};
static_assert(sizeof(struct key) == sizeof(struct phx_mem_key), "a key is 32 bytes");

static struct phx_sim_transport *self_of(struct phx_transport *t)
{
    return (struct phx_sim_transport *)(void *)t;
}

// --- memory -------------------------------------------------------------------------------------

int phx_sim_mem_check(const struct phx_fabric *f, uint32_t rank, uint32_t incarnation,
                      struct phx_mem mem, bool imported, uint64_t offset_bytes, uint64_t size_bytes)
{
    const struct phx_sim_mem *entry = phx_sim_mem_of(f, rank, mem.index);
    if (entry == NULL)
        return PHX_ERR_PROTECTION;
    if (entry->epoch != mem.epoch || entry->incarnation != incarnation || !entry->live)
        return PHX_ERR_STALE;
    if (entry->imported != imported)
        return PHX_ERR_PROTECTION;
    if (offset_bytes > entry->size_bytes || size_bytes > entry->size_bytes - offset_bytes)
        return PHX_ERR_PROTECTION;
    return 0;
}

static uint64_t heads_bytes(const struct phx_sim_mem *mem)
{
    return (uint64_t)mem->head_parts * mem->head_bytes;
}

uint8_t *phx_sim_mem_at(const struct phx_sim_mem *mem, uint64_t offset_bytes, uint64_t size_bytes)
{
    if (offset_bytes > mem->size_bytes || size_bytes > mem->size_bytes - offset_bytes)
        return NULL;
    if (offset_bytes >= heads_bytes(mem))
        return mem->base + offset_bytes;
    uint8_t *at = mem->head;
    for (; offset_bytes >= mem->head_bytes; offset_bytes -= mem->head_bytes)
        at += mem->head_step;
    return size_bytes <= mem->head_bytes - offset_bytes ? at + offset_bytes : NULL;
}

static bool mem_has(const struct phx_sim_mem *mem, const void *address, uint64_t *offset_bytes)
{
    for (uint32_t i = 0; i < mem->head_parts; i++) {
        uint64_t offset = (uintptr_t)address - (uintptr_t)mem->head - (uint64_t)i * mem->head_step;
        *offset_bytes = (uint64_t)i * mem->head_bytes + offset;
        if (offset < mem->head_bytes)
            return true;
    }
    *offset_bytes = (uintptr_t)address - (uintptr_t)mem->base;
    return *offset_bytes >= heads_bytes(mem) && *offset_bytes < mem->size_bytes;
}

bool phx_sim_mem_find(const struct phx_fabric *f, uint32_t rank, const void *address,
                      uint32_t *writer, uint64_t *offset_bytes)
{
    const struct phx_sim_mem *mem;
    for (uint32_t i = 0; (mem = phx_sim_mem_of(f, rank, i)) != NULL; i++) {
        if (mem->imported || mem->peer == PHX_WRITER_NONE || !mem_has(mem, address, offset_bytes))
            continue;
        *writer = mem->peer;
        return true;
    }
    return false;
}

static bool mems_grow(struct phx_fabric_rank *r)
{
    uint32_t capacity = r->mem_capacity == 0 ? 4 : 2 * r->mem_capacity;
    struct phx_sim_mem *grown = realloc(r->mems, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    r->mems = grown;
    r->mem_capacity = capacity;
    return true;
}

// `peer`: who may write it, or PHX_WRITER_NONE; imported: whose it is.
static struct phx_sim_mem *mem_take(struct phx_sim_transport *t, uint16_t peer, bool imported,
                                    struct phx_mem *mem)
{
    struct phx_fabric *f = t->fabric;
    struct phx_fabric_rank *r = &f->ranks[t->rank];
    uint32_t index = 2u * peer + imported;
    if (peer == PHX_WRITER_NONE || phx_sim_mem_of(f, t->rank, index)->epoch != 0) {
        if (r->mem_count == r->mem_capacity && !mems_grow(r))
            return NULL;
        index = 2 * f->rank_count + r->mem_count++;
    }
    struct phx_sim_mem *entry = phx_sim_mem_of(f, t->rank, index);
    memset(entry, 0, sizeof *entry);
    entry->incarnation = t->incarnation;
    entry->epoch = ++r->mem_epoch;
    entry->live = true;
    entry->peer = peer;
    entry->imported = imported;
    mem->index = index;
    mem->epoch = entry->epoch;
    return entry;
}

static int sim_mem_register(struct phx_transport *transport, void *base, uint64_t size_bytes,
                            uint16_t writer, struct phx_mem *mem, struct phx_mem_key *key)
{
    struct phx_sim_transport *t = self_of(transport);
    struct phx_fabric *f = t->fabric;
    bool written = writer != PHX_WRITER_NONE;
    if (written && writer >= f->rank_count)
        return PHX_ERR_INVALID;
    if (written && ((uintptr_t)base & 7u) != 0)
        return PHX_ERR_INVALID; // signal words would not be aligned
    if (written) {
        int error = phx_memory_add(f->memory, t->rank, base, size_bytes, writer);
        if (error != 0)
            return error;
    }
    struct phx_mem handle;
    struct phx_sim_mem *entry = mem_take(t, writer, false, &handle);
    if (entry == NULL) {
        if (written)
            phx_memory_remove(f->memory, t->rank, base);
        return PHX_ERR_NO_MEMORY;
    }
    entry->base = base;
    entry->size_bytes = size_bytes;
    entry->nonce =
        phx_chance(f->seed, PHX_CHANCE_FAULT, (uint64_t)t->rank << 32 | 0xFFFFFFFFu, entry->epoch);
    if (key != NULL) {
        struct key k = {t->rank,      t->incarnation, handle.index,
                        handle.epoch, size_bytes,     entry->nonce};
        memcpy(key->bytes, &k, sizeof k);
    }
    *mem = handle;
    return 0;
}

static int sim_mem_import(struct phx_transport *transport, struct phx_peer peer,
                          const struct phx_mem_key *key, struct phx_mem *mem)
{
    struct phx_sim_transport *t = self_of(transport);
    struct key k;
    memcpy(&k, key->bytes, sizeof k);
    if (peer.rank >= t->fabric->rank_count || k.rank != peer.rank)
        return PHX_ERR_INVALID;
    if ((k.incarnation & 0xFFFFu) != peer.epoch)
        return PHX_ERR_STALE;
    struct phx_mem handle;
    struct phx_sim_mem *entry = mem_take(t, peer.rank, true, &handle);
    if (entry == NULL)
        return PHX_ERR_NO_MEMORY;
    entry->size_bytes = k.size_bytes;
    entry->nonce = k.nonce;
    entry->remote_index = k.index;
    entry->remote_epoch = k.epoch;
    entry->remote_incarnation = k.incarnation;
    *mem = handle;
    return 0;
}

static void sim_mem_release(struct phx_transport *transport, struct phx_mem mem)
{
    struct phx_sim_transport *t = self_of(transport);
    struct phx_sim_mem *entry = phx_sim_mem_of(t->fabric, t->rank, mem.index);
    if (entry == NULL || entry->epoch != mem.epoch || !entry->live)
        return;
    entry->live = false;
    if (entry->imported || entry->peer == PHX_WRITER_NONE)
        return;
    phx_memory_remove(t->fabric->memory, t->rank, entry->base + heads_bytes(entry));
    for (uint32_t i = 0; i < entry->head_parts; i++)
        phx_memory_remove(t->fabric->memory, t->rank, entry->head + (size_t)i * entry->head_step);
}

// The latest for so many parts, with room for another head.
static struct phx_head_block *head_block_of(const struct phx_fabric *f, uint32_t parts,
                                            uint32_t part_bytes)
{
    struct phx_head_block *b = f->heads;
    while (b != NULL && (b->parts != parts || b->part_bytes - b->used_bytes < part_bytes))
        b = b->next;
    return b;
}

static struct phx_head_block *head_block_make(struct phx_fabric *f, uint32_t parts,
                                              uint32_t part_bytes)
{
    const struct phx_head_block *b = head_block_of(f, parts, 0);
    struct phx_head_block *made = calloc(1, sizeof *made);
    if (made == NULL)
        return NULL;
    uint32_t room = b == NULL ? HEADS_BYTES_FIRST : 2 * b->part_bytes;
    room = room > HEADS_BYTES_MOST ? HEADS_BYTES_MOST : room;
    made->part_bytes = room < part_bytes ? part_bytes : room;
    made->parts = parts;
    made->base = phx_pages_take((size_t)parts * made->part_bytes);
    if (made->base == NULL) {
        free(made);
        return NULL;
    }
    made->next = f->heads;
    f->heads = made;
    return made;
}

// From the system's memory, in huge pages when there are many; each rank's side by side. One is not
// handed out again: a store of an old incarnation that is still under way finds it as it was, as it
// does the rest of a renewed region.
static uint8_t *heads_take(struct phx_fabric *f, uint32_t parts, uint32_t part_bytes,
                           uint32_t *step)
{
    uint32_t room = (part_bytes + 63) / 64 * 64;
    struct phx_head_block *b = head_block_of(f, parts, room);
    if (b == NULL)
        b = head_block_make(f, parts, room);
    if (b == NULL)
        return NULL;
    uint8_t *head = b->base + b->used_bytes;
    b->used_bytes += room;
    *step = b->part_bytes;
    return head;
}

// The checker's regions, of which the transport has registered the memory as one. All or none.
static bool heads_check(struct phx_memory *memory, uint32_t rank, const struct phx_sim_mem *entry,
                        uint8_t *head, uint32_t step, uint32_t parts, uint32_t part_bytes)
{
    uint32_t added = 0;
    while (added < parts &&
           phx_memory_add(memory, rank, head + (size_t)added * step, part_bytes, entry->peer) == 0)
        added++;
    if (added == parts)
        return true;
    while (added > 0)
        phx_memory_remove(memory, rank, head + (size_t)--added * step);
    return false;
}

static int sim_mem_heads(struct phx_transport *transport, struct phx_mem mem, uint32_t part_bytes,
                         uint32_t parts, void **at)
{
    struct phx_sim_transport *t = self_of(transport);
    struct phx_memory *memory = t->fabric->memory;
    struct phx_sim_mem *entry = phx_sim_mem_of(t->fabric, t->rank, mem.index);
    uint64_t bytes = (uint64_t)parts * part_bytes;
    uint32_t step = 0;
    phx_assert(entry != NULL);
    phx_assert(entry->live && entry->epoch == mem.epoch && entry->head_parts == 0);
    if (entry->imported || entry->peer == PHX_WRITER_NONE || bytes >= entry->size_bytes ||
        part_bytes > HEADS_BYTES_MOST)
        return 0;
    uint8_t *head = heads_take(t->fabric, parts, part_bytes, &step);
    if (head == NULL || !heads_check(memory, t->rank, entry, head, step, parts, part_bytes))
        return 0;
    phx_memory_remove(memory, t->rank, entry->base);
    if (phx_memory_add(memory, t->rank, entry->base + bytes, entry->size_bytes - bytes,
                       entry->peer) != 0)
        phx_world_stop(t->fabric->world, PHX_ERR_NO_MEMORY, "no memory for the checker's regions");
    entry->head = head;
    entry->head_bytes = part_bytes;
    entry->head_step = step;
    entry->head_parts = (uint8_t)parts;
    for (uint32_t i = 0; i < parts; i++)
        at[i] = head + (size_t)i * step;
    return 1;
}

static void heads_free(struct phx_fabric *f)
{
    while (f->heads != NULL) {
        struct phx_head_block *b = f->heads;
        f->heads = b->next;
        phx_pages_give(b->base, (size_t)b->parts * b->part_bytes);
        free(b);
    }
}

// --- events -------------------------------------------------------------------------------------

void phx_sim_event_push(struct phx_fabric *f, uint32_t rank, struct phx_event *event)
{
    struct phx_sim_transport *t = f->ranks[rank].transport;
    if (t->event_count == t->event_capacity) {
        uint32_t capacity = t->event_capacity == 0 ? 64 : 2 * t->event_capacity;
        struct phx_event *ring = malloc(capacity * sizeof *ring);
        if (ring == NULL) {
            phx_world_stop(f->world, PHX_ERR_NO_MEMORY, "no memory for a rank's events");
            return;
        }
        for (uint32_t i = 0; i < t->event_count; i++)
            ring[i] = t->events[(t->event_head + i) & (t->event_capacity - 1)];
        free(t->events);
        t->events = ring;
        t->event_capacity = capacity;
        t->event_head = 0;
    }
    event->at_ns = phx_world_rank_clock_ns(f->world, rank);
    t->events[(t->event_head + t->event_count) & (t->event_capacity - 1)] = *event;
    t->event_count++;
    phx_world_events_arrived(f->world, rank);
}

static void push_peer(struct phx_fabric *f, uint32_t rank, uint32_t peer, uint32_t incarnation,
                      int status, uint32_t code)
{
    struct phx_event event;
    memset(&event, 0, sizeof event);
    event.kind = PHX_EVENT_PEER;
    event.peer_state = status == 0 ? PHX_PEER_UP : PHX_PEER_LOST;
    event.peer.rank = (uint16_t)peer;
    event.peer.epoch = (uint16_t)incarnation;
    event.status = status;
    event.backend_code = code;
    if (status != 0)
        phx_outcome_loss_told(f->ranks[rank].transport, peer);
    phx_sim_event_push(f, rank, &event);
}

static uint32_t sim_poll(struct phx_transport *transport, struct phx_event *events,
                         uint32_t capacity)
{
    struct phx_sim_transport *t = self_of(transport);
    uint32_t count = t->event_count < capacity ? t->event_count : capacity;
    for (uint32_t i = 0; i < count; i++)
        events[i] = t->events[(t->event_head + i) & (t->event_capacity - 1)];
    t->event_head = count > 0 ? (t->event_head + count) & (t->event_capacity - 1) : t->event_head;
    t->event_count -= count;
    return count;
}

// --- peers --------------------------------------------------------------------------------------

// The incarnation that a peer's 16-bit epoch means: the current one, or an earlier one.
static uint32_t incarnation_of(const struct phx_fabric *f, struct phx_peer peer)
{
    uint32_t now = f->ranks[peer.rank].incarnation;
    return now - ((now - peer.epoch) & 0xFFFFu);
}

static int sim_peer_connect(struct phx_transport *transport, struct phx_peer peer)
{
    struct phx_sim_transport *t = self_of(transport);
    struct phx_fabric *f = t->fabric;
    if (peer.rank >= f->rank_count)
        return PHX_ERR_INVALID;
    uint32_t index = t->rank * f->rank_count + peer.rank;
    struct phx_connection *c = &f->connections[index];
    phx_queues_make(f, c);
    enum phx_plane plane = phx_network_plane(f->network, t->rank, peer.rank);
    uint64_t at_ps =
        phx_world_time_ps(f->world) + phx_network_preset(f->network, plane)->connect_ps;
    c->incarnation = incarnation_of(f, peer);
    c->attempt++;
    c->state = PHX_CONNECTION_OPENING;
    if (!phx_core_schedule(f->core, at_ps, PHX_NETWORK_CONNECT, index, c->attempt))
        return PHX_ERR_NO_MEMORY;
    return 0;
}

// A queue pair that was made anew waits for nothing of the one before: what is still on the wire
// of that may come later than its own.
static void queue_renew(struct phx_queue *q)
{
    q->state = PHX_QUEUE_READY;
    q->deaf = false;
    q->held = 0;
    q->renewals++;
    q->arrive_ps = 0;
    q->deliver_ps = 0;
    q->finish_ps = 0;
}

static void queues_reset(struct phx_fabric *f, uint32_t connection)
{
    struct phx_connection *c = &f->connections[connection];
    for (uint32_t i = 0; i < f->lanes; i++) {
        struct phx_queue *q = phx_connection_queue(f, c, i);
        phx_queue_flush(f, connection * f->lanes + i, PHX_NO_MESSAGE, 0, 0, PHX_ERR_FLUSHED);
        queue_renew(q);
    }
}

void phx_connection_opened(struct phx_fabric *f, uint32_t connection, uint64_t attempt)
{
    struct phx_connection *c = &f->connections[connection];
    uint32_t rank = connection / f->rank_count;
    uint32_t peer = connection % f->rank_count;
    if (c->attempt != attempt || c->state != PHX_CONNECTION_OPENING || !f->ranks[rank].alive)
        return;
    int status = 0;
    if (f->ranks[peer].incarnation != c->incarnation)
        status = PHX_ERR_STALE;
    else if (!f->ranks[peer].alive)
        status = PHX_ERR_PEER_LOST;
    else if (phx_network_down(f->network, rank, peer) || phx_network_down(f->network, peer, rank))
        status = PHX_ERR_PEER_UNREACHABLE;
    if (status != 0) { // what is outstanding on the connection before ends first
        phx_connection_lose(f, rank, peer, PHX_NO_MESSAGE, status, 0, PHX_ERR_FLUSHED);
        return;
    }
    queues_reset(f, connection);
    c->state = PHX_CONNECTION_UP;
    push_peer(f, rank, peer, c->incarnation, 0, 0);
}

void phx_connection_lose(struct phx_fabric *f, uint32_t rank, uint32_t peer, uint32_t failed,
                         int status, uint32_t code, int rest)
{
    uint32_t connection = rank * f->rank_count + peer;
    struct phx_connection *c = &f->connections[connection];
    if (c->state == PHX_CONNECTION_LOST || c->state == PHX_CONNECTION_NONE)
        return;
    c->state = PHX_CONNECTION_LOST;
    phx_outcome_lost(f->ranks[rank].transport, peer);
    for (uint32_t i = 0; c->has_queues && i < f->lanes; i++) {
        phx_queue_flush(f, connection * f->lanes + i, failed, status, code, rest);
        // Later posts meet the connection's state instead.
        phx_connection_queue(f, c, i)->state = PHX_QUEUE_READY;
    }
    push_peer(f, rank, peer, c->incarnation, status, code);
}

void phx_connection_evidence(struct phx_fabric *f, uint32_t dead, uint64_t incarnation)
{
    for (uint32_t r = 0; r < f->rank_count; r++) {
        struct phx_connection *c = phx_connection_at(f, r, dead);
        if (r == dead || !f->ranks[r].alive || c->incarnation != incarnation ||
            phx_network_plane(f->network, r, dead) != PHX_PLANE_NVLINK)
            continue;
        phx_connection_lose(f, r, dead, PHX_NO_MESSAGE, PHX_ERR_PEER_LOST, 0, PHX_ERR_PEER_LOST);
    }
}

static void sim_peer_fence(struct phx_transport *transport, struct phx_peer peer)
{
    struct phx_sim_transport *t = self_of(transport);
    struct phx_fabric *f = t->fabric;
    if (peer.rank >= f->rank_count)
        return;
    struct phx_connection *c = phx_connection_at(f, t->rank, peer.rank);
    uint32_t incarnation = incarnation_of(f, peer);
    if (c->fenced < incarnation)
        c->fenced = incarnation;
    phx_memory_fence(f->memory, t->rank, peer.rank, incarnation);
    if (c->incarnation == incarnation)
        phx_connection_lose(f, t->rank, peer.rank, PHX_NO_MESSAGE, PHX_ERR_PEER_LOST, 0,
                            PHX_ERR_PEER_LOST);
}

// The lanes go on empty, as queue pairs do that were reset and connected again.
static void sim_peer_flush(struct phx_transport *transport, struct phx_peer peer)
{
    struct phx_sim_transport *t = self_of(transport);
    struct phx_fabric *f = t->fabric;
    if (peer.rank >= f->rank_count)
        return;
    uint32_t index = t->rank * f->rank_count + peer.rank;
    struct phx_connection *c = &f->connections[index];
    if (!c->has_queues || c->incarnation != incarnation_of(f, peer))
        return;
    for (uint32_t lane = 0; lane < f->lanes; lane++) {
        uint32_t i = phx_connection_queue(f, c, lane)->head;
        for (; i != PHX_NO_MESSAGE; i = phx_carried_at(f, i)->next)
            phx_carried_at(f, i)->dropped = true;
    }
    queues_reset(f, index);
}

// --- posting ------------------------------------------------------------------------------------

static uint32_t sim_post(struct phx_transport *transport, const struct phx_op *ops, uint32_t count)
{
    struct phx_sim_transport *t = self_of(transport);
    struct phx_fabric *f = t->fabric;
    uint64_t at_ps = phx_world_time_ps(f->world);
    for (uint32_t i = 0; i < count; i++) {
        if (ops[i].peer.rank < f->rank_count) {
            // A lane's worker posts one op after the other, whatever the order of events at one
            // time: its ops take the port in that order, to different peers too.
            uint64_t *last_ps = &f->lane_posted_ps[(size_t)t->rank * f->lanes + ops[i].lane];
            uint64_t posted_ps = at_ps > *last_ps ? at_ps : *last_ps + 1;
            if (!phx_queue_post(f, t->rank, &ops[i], posted_ps))
                return i;
            *last_ps = posted_ps;
            continue;
        }
        struct phx_event event;
        memset(&event, 0, sizeof event);
        event.kind = PHX_EVENT_OP;
        event.lane = ops[i].lane;
        event.peer = ops[i].peer;
        event.status = PHX_ERR_PEER_UNREACHABLE;
        event.token = ops[i].token;
        phx_sim_event_push(f, t->rank, &event);
    }
    return count;
}

static uint64_t sim_pending(const struct phx_transport *transport, struct phx_peer peer)
{
    const struct phx_sim_transport *t = (const struct phx_sim_transport *)(const void *)transport;
    uint64_t pending = 0;
    if (peer.rank >= t->fabric->rank_count)
        return 0;
    struct phx_connection *c = phx_connection_at(t->fabric, t->rank, peer.rank);
    for (uint32_t lane = 0; c->has_queues && lane < t->fabric->lanes; lane++)
        pending += phx_connection_queue(t->fabric, c, lane)->count;
    return pending;
}

static void sim_close(struct phx_transport *transport)
{
    // The world owns every transport: a message in flight may still report to this one.
    (void)transport;
}

static const struct phx_transport_ops sim_ops = {
    .close = sim_close,
    .mem_register = sim_mem_register,
    .mem_import = sim_mem_import,
    .mem_release = sim_mem_release,
    .mem_heads = sim_mem_heads,
    .peer_connect = sim_peer_connect,
    .peer_fence = sim_peer_fence,
    .peer_flush = sim_peer_flush,
    .post = sim_post,
    .poll = sim_poll,
    .pending = sim_pending,
};

static struct phx_sim_transport *transport_make(struct phx_fabric *f, uint32_t rank,
                                                uint32_t incarnation)
{
    struct phx_sim_transport *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->base.ops = &sim_ops;
    t->base.info.name = "sim";
    t->base.info.rank = (uint16_t)rank;
    t->base.info.incarnation = (uint16_t)incarnation;
    t->base.info.lane_count = (uint16_t)f->lanes;
    t->base.info.post_count_max = f->post_count_max;
    t->fabric = f;
    t->rank = rank;
    t->incarnation = incarnation;
    if (!phx_outcome_attach(t)) {
        free(t);
        return NULL;
    }
    t->next = f->transports;
    f->transports = t;
    f->ranks[rank].transport = t;
    f->ranks[rank].incarnation = incarnation;
    f->ranks[rank].alive = true;
    f->ranks[rank].gpu_dead = false;
    return t;
}

// --- the world's hooks --------------------------------------------------------------------------

static void forget_process(struct phx_fabric *f, uint32_t rank)
{
    for (uint32_t p = 0; p < f->rank_count; p++) {
        struct phx_connection *c = phx_connection_at(f, rank, p);
        c->state = PHX_CONNECTION_NONE;
        c->fenced = 0;
        c->incarnation = 0;
        for (uint32_t i = 0; c->has_queues && i < f->lanes; i++) {
            phx_queue_orphan(f, (rank * f->rank_count + p) * f->lanes + i);
            queue_renew(phx_connection_queue(f, c, i));
        }
    }
}

static struct phx_transport *on_rank_start(void *context, uint32_t rank)
{
    struct phx_fabric *f = context;
    uint32_t incarnation = phx_world_rank_incarnation(f->world, rank);
    if (f->ranks[rank].incarnation == incarnation)
        return &f->ranks[rank].transport->base; // the first, made with the fabric
    forget_process(f, rank);
    phx_memory_restart(f->memory, rank);
    struct phx_sim_transport *t = transport_make(f, rank, incarnation);
    if (t == NULL) {
        phx_world_stop(f->world, PHX_ERR_NO_MEMORY, "no memory for a transport");
        return NULL;
    }
    return &t->base;
}

void phx_fabric_process_dead(struct phx_fabric *fabric, uint32_t rank)
{
    struct phx_fabric_rank *r = &fabric->ranks[rank];
    if (!r->alive)
        return;
    r->alive = false;
    phx_memory_dead(fabric->memory, rank);
    for (uint32_t p = 0; p < fabric->rank_count; p++) {
        struct phx_connection *c = phx_connection_at(fabric, rank, p);
        for (uint32_t i = 0; c->has_queues && i < fabric->lanes; i++)
            phx_queue_orphan(fabric, (rank * fabric->rank_count + p) * fabric->lanes + i);
    }
    if (!phx_core_schedule(fabric->core, phx_core_now_ps(fabric->core) + EVIDENCE_PS,
                           PHX_NETWORK_EVIDENCE, rank, r->incarnation))
        phx_world_stop(fabric->world, PHX_ERR_NO_MEMORY, "no memory for an event of the network");
}

static void on_rank_killed(void *context, uint32_t rank)
{
    phx_fabric_process_dead(context, rank);
}

static void on_rank_paused(void *context, uint32_t rank, bool paused)
{
    if (paused)
        phx_burst_cut_rank(context, rank);
    else if (!phx_fabric_release_held(context, rank))
        phx_world_stop(((struct phx_fabric *)context)->world, PHX_ERR_NO_MEMORY,
                       "no memory for the ops of a resumed rank");
}

static void on_observe(void *context, uint32_t rank, uint32_t worker, const uint64_t *word)
{
    struct phx_fabric *f = context;
    (void)worker;
    phx_memory_observe(f->memory, rank, word);
}

static void on_touch(void *context, uint32_t rank, uint32_t worker, const void *base,
                     uint64_t size_bytes, int is_write)
{
    struct phx_fabric *f = context;
    (void)worker;
    phx_memory_touch(f->memory, rank, base, size_bytes, is_write != 0, phx_world_time_ps(f->world));
}

static void on_phase(void *context, uint32_t rank, uint32_t worker, uint32_t phase, uint64_t number)
{
    struct phx_fabric *f = context;
    (void)worker;
    phx_memory_phase(f->memory, rank, phase, number, phx_world_time_ps(f->world));
}

static bool on_word_name(void *context, uint32_t rank, const uint64_t *word, char *text,
                         size_t text_size)
{
    struct phx_fabric *f = context;
    uint32_t writer;
    uint64_t offset;
    if (!phx_sim_mem_find(f, rank, word, &writer, &offset))
        return false;
    (void)snprintf(text, text_size, "rank %u's region + %llu", writer, (unsigned long long)offset);
    return true;
}

static void fabric_free(struct phx_fabric *f)
{
    size_t pairs = (size_t)f->rank_count * f->rank_count;
    for (uint32_t r = 0; f->ranks != NULL && r < f->rank_count; r++)
        free(f->ranks[r].mems);
    for (struct phx_sim_transport *t = f->transports; t != NULL;) {
        struct phx_sim_transport *next = t->next;
        phx_outcome_free(t);
        free(t->events);
        free(t);
        t = next;
    }
    phx_fabric_free_messages(f);
    heads_free(f);
    phx_network_destroy(f->network);
    phx_memory_destroy(f->memory);
    free(f->lane_posted_ps);
    phx_pages_give(f->queues, pairs * (f->lanes - 1) * sizeof *f->queues);
    phx_pages_give(f->connections, pairs * sizeof *f->connections);
    free(f->ranks);
    free(f);
}

static void on_destroy(void *context)
{
    fabric_free(context);
}

// --- making -------------------------------------------------------------------------------------

static void on_violate(void *context, const struct phx_violation *violation)
{
    phx_world_violate(context, violation);
}

static int parts_make(struct phx_fabric *f, const struct phx_network_options *network,
                      struct phx_message *message)
{
    struct phx_memory_options memory = {
        .ranks = f->rank_count,
        .lanes = f->lanes,
        .check = true,
        .violate = on_violate,
        .context = f->world,
    };
    f->ranks = calloc(f->rank_count, sizeof *f->ranks);
    size_t pairs = (size_t)f->rank_count * f->rank_count;
    f->connections = phx_pages_take(pairs * sizeof *f->connections);
    f->queues = phx_pages_take(pairs * (f->lanes - 1) * sizeof *f->queues);
    f->lane_posted_ps = calloc((size_t)f->rank_count * f->lanes, sizeof *f->lane_posted_ps);
    if (f->ranks == NULL || f->connections == NULL || f->queues == NULL ||
        f->lane_posted_ps == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the connections of %u ranks",
                        f->rank_count);
    int error = phx_network_create(network, &f->network, message);
    if (error == 0)
        error = phx_memory_create(&memory, &f->memory, message);
    for (uint32_t r = 0; error == 0 && r < f->rank_count; r++)
        if (transport_make(f, r, 1) == NULL)
            error =
                phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u transports", f->rank_count);
    return error;
}

static int presets_choose(const struct phx_cluster *cluster, struct phx_network_options *options,
                          struct phx_message *message)
{
    // A plane that no pair of ranks uses may go without a name.
    const struct phx_preset *intra = phx_preset_find("nvlink4");
    const struct phx_preset *inter = phx_preset_find("roce_400g");
    int error = 0;
    if (cluster->intra_node != NULL || cluster->ranks_per_node > 1)
        error = phx_preset_require("intra_node", cluster->intra_node, PHX_PLANE_NVLINK, &intra,
                                   message);
    if (error == 0 && (cluster->inter_node != NULL || cluster->nodes > 1))
        error =
            phx_preset_require("inter_node", cluster->inter_node, PHX_PLANE_NIC, &inter, message);
    if (error == 0) {
        options->intra = *intra;
        options->inter = *inter;
    }
    return error;
}

int phx_network_attach(struct phx_world *world, const struct phx_cluster *cluster,
                       struct phx_message *message)
{
    struct phx_network_options options;
    memset(&options, 0, sizeof options);
    int error = presets_choose(cluster, &options, message);
    if (error != 0)
        return error;
    const struct phx_world_options *w = phx_world_options(world);
    options.seed = w->seed;
    options.ranks = phx_world_rank_count(world);
    options.ranks_per_node = cluster->ranks_per_node;
    // A lane for each worker, and one for the control thread. Events name queues by number.
    const uint64_t queues_max = PHX_OBJECT_MAX + UINT64_C(1);
    uint64_t queues = (uint64_t)options.ranks * options.ranks * (w->workers + 1ull);
    if (queues > queues_max)
        return phx_fail(message, PHX_ERR_INVALID,
                        "workers is %u; with %u ranks the simulator has room for %llu", w->workers,
                        options.ranks,
                        (unsigned long long)(queues_max / options.ranks / options.ranks - 1));
    struct phx_fabric *f = calloc(1, sizeof *f);
    if (f == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the network");
    f->world = world;
    f->core = phx_world_core(world);
    f->rank_count = options.ranks;
    f->lanes = w->workers + 1;
    f->seed = w->seed;
    f->bursts = cluster->bursts != PHX_BURSTS_OFF;
    f->post_count_max = options.intra.post_count_max < options.inter.post_count_max
                            ? options.intra.post_count_max
                            : options.inter.post_count_max;
    error = parts_make(f, &options, message);
    const struct phx_world_hooks hooks = {
        .context = f,
        .rank_start = on_rank_start,
        .rank_killed = on_rank_killed,
        .rank_paused = on_rank_paused,
        .observe = on_observe,
        .touch = on_touch,
        .phase = on_phase,
        .word_name = on_word_name,
        .destroy = on_destroy,
    };
    if (error == 0 && !phx_world_hooks_add(world, &hooks))
        error = phx_fail(message, PHX_ERR_STATE, "the world has no room for the network's hooks");
    if (error != 0) {
        fabric_free(f);
        return error;
    }
    phx_fabric_handle_events(f);
    phx_network_on_fault(f->network, phx_burst_cut_all, phx_nvlink_healed, f);
    phx_world_fabric_set(world, f);
    return 0;
}

// --- fabric.h -----------------------------------------------------------------------------------

struct phx_fabric *phx_fabric_of(const struct phx_world *world)
{
    return phx_world_fabric(world);
}

struct phx_network *phx_fabric_network(struct phx_fabric *fabric)
{
    return fabric->network;
}

struct phx_memory *phx_fabric_memory(struct phx_fabric *fabric)
{
    return fabric->memory;
}

struct phx_transport *phx_fabric_transport(struct phx_fabric *fabric, uint32_t rank)
{
    phx_assert(rank < fabric->rank_count);
    return &fabric->ranks[rank].transport->base;
}

void phx_fabric_bend(struct phx_fabric *fabric, const struct phx_preset *preset)
{
    phx_network_bend(fabric->network, preset);
}

struct phx_fabric_figures phx_fabric_figures(const struct phx_fabric *fabric)
{
    return fabric->figures;
}

void phx_fabric_gpu_dead(struct phx_fabric *fabric, uint32_t rank)
{
    fabric->ranks[rank].gpu_dead = true;
}

void phx_fabric_nic_dead(struct phx_fabric *fabric, uint32_t rank)
{
    const struct phx_link_fault down = {.down = true};
    uint64_t now_ps = phx_core_now_ps(fabric->core);
    phx_network_port_fault(fabric->network, now_ps, PHX_PLANE_NIC, rank, PHX_EGRESS, &down);
    phx_network_port_fault(fabric->network, now_ps, PHX_PLANE_NIC, rank, PHX_INGRESS, &down);
}

void phx_fabric_flip(struct phx_fabric *fabric, uint32_t rank, uint32_t count)
{
    fabric->ranks[rank].flips += count;
}

void phx_fabric_flip_caught(struct phx_fabric *fabric, uint32_t rank, uint32_t count)
{
    fabric->ranks[rank].flips_caught += count;
}

void phx_fabric_on_issue(struct phx_fabric *fabric, phx_fabric_issued_fn *issued, void *context)
{
    fabric->issued = issued;
    fabric->issued_context = context;
}

void phx_fabric_count_issues(struct phx_fabric *fabric, uint32_t rank, bool counts)
{
    phx_assert(!counts || fabric->issued != NULL);
    fabric->ranks[rank].counted = counts;
}

void phx_fabric_trace(struct phx_fabric *fabric, struct phx_trace *trace)
{
    fabric->trace = trace;
}
