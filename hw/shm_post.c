// hw/shm_post.c: the way of a put: checks, copy, signal, bell; and the events that come of it.
//
// A lane's events stand in a ring of its own that its worker fills and the control thread empties.
// PHX_PEER_LOST is told after the events of all ops that were under way when the loss was noticed:
// poll tells it only once it has emptied every lane and no worker is inside an op to that peer.

#include "hw/shm_internal.h"

#include <string.h>

#include "hw/clock.h"

// --- one op -------------------------------------------------------------------------------------

struct way { // where an op goes
    const uint8_t *from;
    uint8_t *to;
    uint64_t *word;
    struct phx_shm_door *door;
};

static int find_source(const struct phx_shm *shm, const struct phx_op *op, struct way *way)
{
    way->from = NULL;
    if (op->size_bytes == 0)
        return 0;
    const struct phx_shm_mem *m = phx_shm_mem_find(shm, op->source.mem);
    if (m == NULL)
        return PHX_ERR_STALE;
    uint64_t offset = op->source.offset_bytes;
    if (m->imported || offset > m->size_bytes || op->size_bytes > m->size_bytes - offset)
        return PHX_ERR_PROTECTION;
    way->from = m->base + offset;
    return 0;
}

static int find_target(const struct phx_shm *shm, const struct phx_op *op,
                       const struct phx_shm_peer *peer, struct way *way)
{
    const struct phx_shm_mem *m = phx_shm_mem_find(shm, op->target.mem);
    if (m == NULL)
        return PHX_ERR_STALE;
    if (!m->imported || m->peer != op->peer.rank || m->base == NULL)
        return PHX_ERR_PROTECTION;
    if (shm->memory->kind != PHX_SHM_MEMORY_FILES)
        return PHX_ERR_UNSUPPORTED; // a GPU's memory, which its kernels store to
    if (m->remote_incarnation != peer->incarnation)
        return PHX_ERR_STALE;
    const struct phx_shm_state *page = peer->page;
    if (__atomic_load_n(&page->live_epoch[m->remote_index], __ATOMIC_ACQUIRE) != m->remote_epoch ||
        __atomic_load_n(&page->fenced[shm->options.rank], __ATOMIC_ACQUIRE) >=
            shm->options.incarnation)
        return PHX_ERR_STALE; // the owner released it, or shut this process out
    uint64_t offset = op->target.offset_bytes;
    if (offset > m->size_bytes || op->size_bytes > m->size_bytes - offset)
        return PHX_ERR_PROTECTION;
    way->to = m->base + offset;
    way->word = NULL;
    if ((op->flags & PHX_OP_SIGNAL) != 0) {
        if (op->signal_offset > m->size_bytes - 8)
            return PHX_ERR_PROTECTION;
        way->word = (uint64_t *)(void *)(m->base + op->signal_offset);
    }
    way->door = peer->door;
    return 0;
}

static int find_way(const struct phx_shm *shm, const struct phx_op *op, struct way *way)
{
    if (op->peer.rank >= shm->options.ranks)
        return PHX_ERR_PEER_UNREACHABLE;
    const struct phx_shm_peer *peer = &shm->peers[op->peer.rank];
    uint32_t state = __atomic_load_n(&peer->state, __ATOMIC_ACQUIRE);
    if (state == PHX_SHM_PEER_NONE)
        return PHX_ERR_PEER_UNREACHABLE;
    if (op->peer.epoch != peer->incarnation)
        return PHX_ERR_STALE;
    if (state == PHX_SHM_PEER_LOST)
        return PHX_ERR_PEER_LOST;
    int error = find_source(shm, op, way);
    return error != 0 ? error : find_target(shm, op, peer, way);
}

static int carry_out(const struct phx_shm *shm, const struct phx_op *op)
{
    struct way way;
    int error = find_way(shm, op, &way);
    if (error != 0)
        return error;
    if (op->size_bytes > 0)
        shm->leaves->stream(way.to, way.from, op->size_bytes); // another core reads it
    if (way.word != NULL) {
        shm->leaves->settle(); // this lane's rows before their signal
        __atomic_store_n(way.word, op->signal_value, __ATOMIC_RELEASE);
        phx_bell_ring(&way.door->bell);
    }
    return 0;
}

// --- posting ------------------------------------------------------------------------------------

static bool has_room(const struct phx_shm *shm, const struct phx_shm_lane *lane,
                     const struct phx_op *op)
{
    if (lane->pushed - __atomic_load_n(&lane->taken, __ATOMIC_ACQUIRE) == shm->lane_capacity)
        return false;
    uint32_t rank = op->peer.rank;
    return rank >= shm->options.ranks ||
           lane->posted[rank] - __atomic_load_n(&lane->seen[rank], __ATOMIC_ACQUIRE) <
               PHX_SHM_POSTS;
}

static void push(struct phx_shm *shm, struct phx_shm_lane *lane, const struct phx_op *op,
                 int status)
{
    struct phx_event *e = &lane->events[lane->pushed % shm->lane_capacity];
    memset(e, 0, sizeof *e);
    e->kind = PHX_EVENT_OP;
    e->lane = op->lane;
    e->peer = op->peer;
    e->status = status;
    e->token = op->token;
    e->at_ns = phx_clock_ns();
    if (op->peer.rank < shm->options.ranks)
        __atomic_store_n(&lane->posted[op->peer.rank], lane->posted[op->peer.rank] + 1,
                         __ATOMIC_RELEASE);
    __atomic_store_n(&lane->pushed, lane->pushed + 1, __ATOMIC_RELEASE);
}

uint32_t phx_shm_post(struct phx_transport *t, const struct phx_op *ops, uint32_t count)
{
    struct phx_shm *shm = phx_shm_of(t);
    uint32_t taken = 0;
    bool is_told = false;
    for (; taken < count; taken++) {
        const struct phx_op *op = &ops[taken];
        struct phx_shm_lane *lane = &shm->lanes[op->lane];
        if (!has_room(shm, lane, op))
            break; // also for a silent op: it might fail
        // A full barrier, so that whoever notices a loss after this sees the op under way.
        (void)__atomic_exchange_n(&lane->active, 1u + op->peer.rank, __ATOMIC_SEQ_CST);
        int status = carry_out(shm, op);
        if (status != 0 || (op->flags & PHX_OP_SILENT) == 0) {
            shm->leaves->settle(); // success says that it has landed
            push(shm, lane, op, status);
            is_told = true;
        }
        __atomic_store_n(&lane->active, 0, __ATOMIC_RELEASE);
    }
    if (is_told)
        phx_shm_notify(shm);
    return taken;
}

// --- polling ------------------------------------------------------------------------------------

void phx_shm_progress(struct phx_shm *shm)
{
    for (uint32_t i = 0; i < shm->options.lanes; i++) {
        struct phx_shm_lane *lane = &shm->lanes[i];
        for (uint32_t r = 0; r < shm->options.ranks; r++)
            __atomic_store_n(&lane->seen[r], __atomic_load_n(&lane->posted[r], __ATOMIC_ACQUIRE),
                             __ATOMIC_RELEASE);
    }
}

// The lane whose next event is the oldest; NULL: none has any.
static struct phx_shm_lane *oldest(struct phx_shm *shm)
{
    struct phx_shm_lane *best = NULL;
    uint64_t best_ns = 0;
    for (uint32_t i = 0; i < shm->options.lanes; i++) {
        struct phx_shm_lane *lane = &shm->lanes[i];
        if (__atomic_load_n(&lane->pushed, __ATOMIC_ACQUIRE) == lane->taken)
            continue;
        uint64_t at_ns = lane->events[lane->taken % shm->lane_capacity].at_ns;
        if (best == NULL || at_ns < best_ns) {
            best = lane;
            best_ns = at_ns;
        }
    }
    return best;
}

static bool is_active(const struct phx_shm *shm, uint32_t rank)
{
    for (uint32_t i = 0; i < shm->options.lanes; i++)
        if (__atomic_load_n(&shm->lanes[i].active, __ATOMIC_SEQ_CST) == 1u + rank)
            return true;
    return false;
}

static void tell(struct phx_event *e, const struct phx_shm_peer *peer, uint32_t rank, bool is_up)
{
    memset(e, 0, sizeof *e);
    e->kind = PHX_EVENT_PEER;
    e->peer_state = is_up ? PHX_PEER_UP : PHX_PEER_LOST;
    e->peer.rank = (uint16_t)rank;
    e->peer.epoch = peer->incarnation;
    e->status = is_up ? 0 : peer->lost_status;
    e->backend_code = is_up ? 0 : peer->evidence;
    e->at_ns = phx_clock_ns();
}

// Losses that the lanes can't follow any more: noticed before the lanes were emptied.
static uint32_t peers_poll(struct phx_shm *shm, const bool *is_due, struct phx_event *events,
                           uint32_t capacity)
{
    uint32_t count = 0;
    pthread_mutex_lock(&shm->lock);
    for (uint32_t r = 0; r < shm->options.ranks && count < capacity; r++) {
        struct phx_shm_peer *peer = &shm->peers[r];
        if (peer->up_due) {
            tell(&events[count++], peer, r, true);
            peer->up_due = false;
        }
        if (!peer->lost_due || count == capacity)
            continue;
        if (is_due[r]) {
            tell(&events[count++], peer, r, false);
            peer->lost_due = false;
        }
    }
    pthread_mutex_unlock(&shm->lock);
    return count;
}

uint32_t phx_shm_poll(struct phx_transport *t, struct phx_event *events, uint32_t capacity)
{
    struct phx_shm *shm = phx_shm_of(t);
    bool is_due[PHX_RANKS_MAX];
    bool is_late = false;
    pthread_mutex_lock(&shm->lock);
    for (uint32_t r = 0; r < shm->options.ranks; r++) {
        is_due[r] = shm->peers[r].lost_due && !is_active(shm, r);
        is_late |= shm->peers[r].lost_due && !is_due[r];
    }
    pthread_mutex_unlock(&shm->lock);
    uint32_t count = 0;
    struct phx_shm_lane *lane;
    phx_shm_progress(shm);
    while (count < capacity && (lane = oldest(shm)) != NULL) {
        events[count++] = lane->events[lane->taken % shm->lane_capacity];
        __atomic_store_n(&lane->taken, lane->taken + 1, __ATOMIC_RELEASE);
    }
    if (count < capacity)
        count += peers_poll(shm, is_due, events + count, capacity - count);
    if (is_late)
        phx_shm_notify(shm); // look again: a worker is inside an op to a lost peer
    return count;
}
