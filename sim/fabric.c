// sim/fabric.c: the life of a message.
//
//     post -> [issue] -> depart -> [head arrival] -> [delivery] -> (silent: done) | [finish]
//
// Brackets are events of the core. A post happens at its worker's time, which may be ahead of
// the core's; the issue event brings it to its place in the order of all issues. What a
// delivery means is decided by the plane: nic.c or nvlink.c. Stores that may travel together share
// these events (burst.c).

#include "sim/fabric_internal.h"

#include <stdlib.h>
#include <string.h>

#include "sim/pages.h"

#define FETCH_BYTES_MAX 256u
#define TAKEN_AHEAD 4u      // messages are fetched as many posts before they are taken
#define POSTED_AHEAD 4u     // connections
#define ORDERED_FROM 65536u // messages: fewer are near enough, whatever their order

// --- messages -----------------------------------------------------------------------------------

static uint32_t pages_together(uint32_t page)
{
    return page < PHX_PAGES_SMALL ? 1 : PHX_PAGES_SMALL;
}

// To the second level: what the next twenty events need, told of in four steps, is more than the
// first holds beside what the events themselves use.
PHX_FETCHES void fetch(const void *at, size_t size_bytes)
{
    if (at == NULL)
        return;
    for (size_t i = 0; i < size_bytes; i += 64)
        __builtin_prefetch((const uint8_t *)at + i, 0, 2);
}

static bool pages_grow(struct phx_fabric *f)
{
    uint32_t count = pages_together(f->page_count);
    if (f->page_count + count > f->page_capacity) {
        uint32_t capacity = f->page_capacity == 0 ? PHX_PAGES_SMALL : 2 * f->page_capacity;
        struct phx_page *pages = realloc(f->pages, capacity * sizeof *pages);
        if (pages == NULL)
            return false;
        f->pages = pages;
        f->page_capacity = capacity;
    }
    size_t messages_max = (size_t)(f->page_count + count) * PHX_PAGE_MESSAGES;
    uint32_t *given_back = realloc(f->free, messages_max * sizeof *given_back);
    if (given_back == NULL)
        return false;
    f->free = given_back;
    struct phx_carried *messages = phx_pages_take(count * PHX_PAGE_MESSAGES * sizeof *messages);
    struct phx_more *more = phx_pages_take(count * PHX_PAGE_MESSAGES * sizeof *more);
    if (messages == NULL || more == NULL) {
        phx_pages_give(messages, count * PHX_PAGE_MESSAGES * sizeof *messages);
        phx_pages_give(more, count * PHX_PAGE_MESSAGES * sizeof *more);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t at = (size_t)i * PHX_PAGE_MESSAGES;
        f->pages[f->page_count + i] = (struct phx_page){messages + at, more + at};
    }
    f->fresh_end = (f->page_count + count) * PHX_PAGE_MESSAGES;
    f->page_count += count;
    return true;
}

static uint32_t carried_take(struct phx_fabric *f)
{
    uint32_t index;
    if (f->free_count == 0) {
        if (f->fresh == f->fresh_end && !pages_grow(f))
            return PHX_NO_MESSAGE;
        index = f->fresh++;
        if (index + TAKEN_AHEAD < f->fresh_end)
            fetch(phx_carried_at(f, index + TAKEN_AHEAD), sizeof(struct phx_carried));
    } else {
        index = f->free[--f->free_count];
        if (f->free_count >= TAKEN_AHEAD)
            fetch(phx_carried_at(f, f->free[f->free_count - TAKEN_AHEAD]),
                  sizeof(struct phx_carried));
    }
    struct phx_carried *m = phx_carried_at(f, index);
    // Not when it is released: who gave it back may still write down what became of it.
    if (m->has_more)
        memset(phx_more_at(f, index), 0, sizeof(struct phx_more));
    memset((uint8_t *)m + sizeof m->op, 0, sizeof *m - sizeof m->op); // the op is copied into it
    m->next = PHX_NO_MESSAGE;
    f->figures.in_flight++;
    return index;
}

void phx_carried_release(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    if (m->state != PHX_MESSAGE_FINISHED || m->pending > 0 || m->listed)
        return;
    m->state = 0;
    f->free[f->free_count++] = index;
    if (--f->figures.in_flight == 0 && f->fresh > ORDERED_FROM)
        f->free_count = f->fresh = 0; // all are free: again side by side, in order
}

void phx_fabric_free_messages(struct phx_fabric *f)
{
    for (uint32_t i = 0; i < f->page_count; i += pages_together(i)) {
        size_t count = (size_t)pages_together(i) * PHX_PAGE_MESSAGES;
        phx_pages_give(f->pages[i].messages, count * sizeof(struct phx_carried));
        phx_pages_give(f->pages[i].more, count * sizeof(struct phx_more));
    }
    free(f->pages);
    free(f->free);
    free(f->stalled);
}

void phx_carried_schedule(struct phx_fabric *f, uint32_t index, uint64_t at_ps,
                          enum phx_network_event type)
{
    struct phx_carried *m = phx_carried_at(f, index);
    m->pending++;
    if (!phx_core_schedule_as(f->core, at_ps, type, index, m->attempt, m->queue))
        phx_world_stop(f->world, PHX_ERR_NO_MEMORY, "no memory for an event of the network");
}

// --- queues -------------------------------------------------------------------------------------

void phx_queues_make(struct phx_fabric *f, struct phx_connection *c)
{
    if (c->has_queues)
        return;
    c->has_queues = true;
    for (uint32_t i = 0; i < f->lanes; i++) {
        struct phx_queue *q = phx_connection_queue(f, c, i);
        q->head = q->tail = q->unsent = q->unposted = PHX_NO_MESSAGE;
        q->state = PHX_QUEUE_READY;
    }
}

// Takes finished messages off the front.
static void queue_retire(struct phx_fabric *f, struct phx_queue *q)
{
    while (q->head != PHX_NO_MESSAGE && !q->walked) {
        uint32_t index = q->head;
        struct phx_carried *m = phx_carried_at(f, index);
        if (m->state != PHX_MESSAGE_FINISHED || q->unposted == index)
            return; // what was flushed before its time still counts as issued then
        if (q->unsent == index)
            q->unsent = m->next;
        q->head = m->next;
        if (q->head == PHX_NO_MESSAGE)
            q->tail = PHX_NO_MESSAGE;
        q->count--;
        m->listed = false;
        phx_carried_release(f, index);
    }
}

void phx_queue_arm(struct phx_fabric *f, uint32_t queue)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    if (q->armed || q->unposted == PHX_NO_MESSAGE)
        return;
    q->armed = true;
    if (!phx_core_schedule(f->core, phx_carried_at(f, q->unposted)->posted_ps, PHX_NETWORK_ISSUE,
                           queue, q->ticket))
        phx_world_stop(f->world, PHX_ERR_NO_MEMORY, "no memory for an event of the network");
}

// Peers are mostly posted to in the order of their numbers.
PHX_FETCHES void fetch_posted(struct phx_fabric *f, uint32_t connection)
{
    if (connection + POSTED_AHEAD >= f->rank_count * f->rank_count)
        return;
    const struct phx_connection *next = &f->connections[connection + POSTED_AHEAD / 2];
    if (next->has_queues && next->queue.tail != PHX_NO_MESSAGE)
        fetch(&phx_carried_at(f, next->queue.tail)->posted_ps, 1);
    fetch(next + POSTED_AHEAD / 2, offsetof(struct phx_connection, mems));
}

bool phx_queue_post(struct phx_fabric *f, uint32_t source, const struct phx_op *op,
                    uint64_t posted_ps)
{
    uint32_t connection = source * f->rank_count + op->peer.rank;
    struct phx_connection *c = &f->connections[connection];
    fetch_posted(f, connection);
    phx_queues_make(f, c);
    struct phx_queue *q = phx_connection_queue(f, c, op->lane);
    if (q->count >= f->post_count_max)
        return false;
    uint32_t index = carried_take(f);
    if (index == PHX_NO_MESSAGE) {
        phx_world_stop(f->world, PHX_ERR_NO_MEMORY, "no memory for a message");
        return false;
    }
    struct phx_carried *m = phx_carried_at(f, index);
    m->op = *op;
    m->queue = connection * f->lanes + op->lane;
    m->source = (uint16_t)source;
    m->source_epoch = (uint16_t)f->ranks[source].incarnation;
    m->ordinal = ++q->ordinal;
    m->renewals = (uint16_t)q->renewals;
    m->posted_ps = posted_ps;
    m->state = PHX_MESSAGE_POSTED;
    m->listed = true;
    if (q->tail != PHX_NO_MESSAGE) {
        struct phx_carried *last = phx_carried_at(f, q->tail);
        last->next = index;
        if (m->posted_ps < last->posted_ps)
            m->posted_ps = last->posted_ps;
    } else {
        q->head = index;
    }
    q->tail = index;
    q->count++;
    if (q->unposted == PHX_NO_MESSAGE)
        q->unposted = index;
    f->figures.messages++;
    PHX_SIM_RELEASE(m);
    if (!q->armed)
        phx_queue_arm(f, m->queue);
    return true;
}

int phx_send_check(struct phx_fabric *f, const struct phx_carried *m)
{
    const struct phx_connection *c = phx_connection_at(f, m->source, m->op.peer.rank);
    if (m->op.peer.epoch != (c->incarnation & 0xFFFFu) && c->state != PHX_CONNECTION_NONE)
        return PHX_ERR_STALE;
    if (c->state == PHX_CONNECTION_LOST)
        return PHX_ERR_PEER_LOST;
    if (c->state != PHX_CONNECTION_UP)
        return PHX_ERR_PEER_UNREACHABLE;
    if (phx_queue_of(f, m)->state == PHX_QUEUE_ERROR)
        return PHX_ERR_FLUSHED;
    int error = 0;
    uint32_t incarnation = phx_carried_incarnation(f, m);
    if (m->op.size_bytes > 0)
        error = phx_sim_mem_check(f, m->source, incarnation, m->op.source.mem, false,
                                  m->op.source.offset_bytes, m->op.size_bytes);
    if (error == 0)
        error = phx_sim_mem_check(f, m->source, incarnation, m->op.target.mem, true, 0, 0);
    if (error != 0)
        return error;
    const struct phx_sim_mem *key = phx_sim_mem_of(f, m->source, m->op.target.mem.index);
    if (key->peer != m->op.peer.rank)
        return PHX_ERR_PROTECTION;
    return key->remote_incarnation != c->incarnation ? PHX_ERR_STALE : 0;
}

static void flip_caught(struct phx_fabric *f, struct phx_carried *m)
{
    struct phx_fabric_rank *source = &f->ranks[m->source];
    if (source->flips_caught == 0 || m->op.size_bytes == 0 || m->source == m->op.peer.rank ||
        m->resent)
        return;
    source->flips_caught--;
    f->figures.flips_caught++;
    if (phx_network_plane(f->network, m->source, m->op.peer.rank) == PHX_PLANE_NIC)
        m->damaged = true;
    else
        m->arrive_ps += 2 * m->flight_ps;
}

void phx_carried_depart(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    struct phx_queue *q = phx_queue_of(f, m);
    m->state = PHX_MESSAGE_SENT;
    struct phx_flight flight = phx_carried_flight(m);
    phx_network_depart(f->network, phx_core_now_ps(f->core), &flight);
    phx_carried_flies(m, &flight);
    flip_caught(f, m);
    if (m->arrive_ps <= q->arrive_ps)
        m->arrive_ps = q->arrive_ps + 1;
    q->arrive_ps = m->arrive_ps;
    if (m->resent)
        f->figures.resent++;
    else
        f->figures.bytes += m->op.wire_bytes;
}

static void send_one(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    int error = phx_send_check(f, m);
    if (error != 0) {
        if (phx_network_plane(f->network, m->source, m->op.peer.rank) == PHX_PLANE_NIC &&
            (error == PHX_ERR_PROTECTION || error == PHX_ERR_STALE))
            phx_nic_refuse(f, index, error);
        else
            phx_carried_finish(f, index, error, 0);
        return;
    }
    phx_carried_depart(f, index);
    phx_carried_schedule(f, index, m->arrive_ps, PHX_NETWORK_ARRIVE);
}

void phx_queue_send(struct phx_fabric *f, uint32_t queue)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    while (q->unsent != PHX_NO_MESSAGE && q->unsent != q->unposted) {
        if (q->state == PHX_QUEUE_WAITING ||
            (q->state == PHX_QUEUE_PROBING && q->unsent != q->probe))
            return;
        uint32_t index = q->unsent;
        struct phx_carried *m = phx_carried_at(f, index);
        q->unsent = m->next;
        if (m->state == PHX_MESSAGE_POSTED)
            send_one(f, index);
    }
}

void phx_queue_rewind(struct phx_fabric *f, uint32_t queue, uint32_t index)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    uint32_t stop = q->unsent;
    q->unsent = index;
    for (uint32_t i = index; i != stop && i != PHX_NO_MESSAGE; i = phx_carried_at(f, i)->next) {
        struct phx_carried *m = phx_carried_at(f, i);
        if (m->state == PHX_MESSAGE_FINISHED)
            continue;
        m->attempt++;
        m->resent = true;
        if (m->state == PHX_MESSAGE_SENT)
            m->state = PHX_MESSAGE_POSTED;
    }
}

void phx_queue_flush(struct phx_fabric *f, uint32_t queue, uint32_t first, int status,
                     uint32_t code, int rest)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    const uint32_t flushed_code = 5; // as IBV_WC_WR_FLUSH_ERR, for logs
    phx_burst_cut(f, queue);
    // Ending one would release it, and with it those behind it that had ended before.
    q->walked = true;
    for (uint32_t i = q->head; i != PHX_NO_MESSAGE; i = phx_carried_at(f, i)->next)
        if (phx_carried_at(f, i)->state != PHX_MESSAGE_FINISHED)
            phx_carried_finish(f, i, i == first ? status : rest, i == first ? code : flushed_code);
    q->walked = false;
    queue_retire(f, q);
    q->timer++;
    q->retries = 0;
}

bool phx_carried_owned(const struct phx_fabric *f, const struct phx_carried *m)
{
    const struct phx_fabric_rank *source = &f->ranks[m->source];
    return source->alive && (uint16_t)source->incarnation == m->source_epoch;
}

// The process died: what it had not issued, or what waited to be sent again, never will be.
// What is on the wire goes on.
void phx_queue_orphan(struct phx_fabric *f, uint32_t queue)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    phx_burst_cut(f, queue);
    for (uint32_t i = q->head; i != PHX_NO_MESSAGE; i = phx_carried_at(f, i)->next) {
        struct phx_carried *m = phx_carried_at(f, i);
        if (m->state == PHX_MESSAGE_POSTED)
            m->state = PHX_MESSAGE_FINISHED;
    }
    q->unposted = PHX_NO_MESSAGE;
    q->unsent = PHX_NO_MESSAGE;
    q->state = PHX_QUEUE_READY;
    q->retries = 0;
    q->timer++;
    queue_retire(f, q);
}

static void issue(struct phx_fabric *f, uint32_t queue, uint64_t ticket)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    uint64_t now_ps = phx_core_now_ps(f->core);
    if (ticket != q->ticket)
        return;
    q->armed = false;
    if (q->unposted != PHX_NO_MESSAGE &&
        phx_world_rank_paused(f->world, phx_carried_at(f, q->unposted)->source))
        return; // its worker ran ahead of the clock and was stopped before it got there
    while (q->unposted != PHX_NO_MESSAGE) {
        uint32_t index = q->unposted;
        struct phx_carried *m = phx_carried_at(f, index);
        if (m->posted_ps > now_ps)
            break;
        if (!phx_carried_owned(f, m)) {
            phx_queue_orphan(f, queue);
            break;
        }
        if (phx_burst_issue(f, queue))
            continue;
        uint32_t rank = m->source;
        uint32_t token = m->op.token;
        bool counts = m->op.code == PHX_OP_PUT;
        q->unposted = m->next;
        if (q->unsent == PHX_NO_MESSAGE)
            q->unsent = index;
        phx_queue_send(f, queue);
        queue_retire(f, q);
        // After it left: a rank that a fault kills at its 40th put has issued 40.
        if (counts && f->ranks[rank].counted)
            f->issued(f->issued_context, rank, token, now_ps);
        if (phx_world_rank_paused(f->world, rank))
            return;
    }
    phx_queue_arm(f, queue);
}

struct held { // an op that its rank had posted when it was stopped
    uint64_t posted_ps;
    uint32_t queue;
    uint32_t ordinal;
    uint32_t index;
};

static int held_compare(const void *a, const void *b)
{
    const struct held *x = a;
    const struct held *y = b;
    if (x->posted_ps != y->posted_ps)
        return x->posted_ps < y->posted_ps ? -1 : 1;
    if (x->queue != y->queue)
        return x->queue < y->queue ? -1 : 1;
    return x->ordinal < y->ordinal ? -1 : x->ordinal > y->ordinal;
}

// Ops of the rank that should have been issued by now, into list; their number when list is NULL.
static size_t held_list(struct phx_fabric *f, uint32_t rank, struct held *list)
{
    uint64_t now_ps = phx_core_now_ps(f->core);
    uint32_t first = rank * f->rank_count * f->lanes;
    size_t count = 0;
    for (uint32_t i = 0; i < f->rank_count * f->lanes; i++) {
        if (!f->connections[(first + i) / f->lanes].has_queues)
            continue;
        uint32_t m = phx_queue_at(f, first + i)->unposted;
        for (; m != PHX_NO_MESSAGE && phx_carried_at(f, m)->posted_ps <= now_ps;
             m = phx_carried_at(f, m)->next) {
            const struct phx_carried *c = phx_carried_at(f, m);
            if (list != NULL)
                list[count] = (struct held){c->posted_ps, first + i, c->ordinal, m};
            count++;
        }
    }
    return count;
}

bool phx_fabric_release_held(struct phx_fabric *f, uint32_t rank)
{
    size_t count = held_list(f, rank, NULL);
    struct held *list = calloc(count + 1, sizeof *list);
    if (list == NULL)
        return false;
    (void)held_list(f, rank, list);
    qsort(list, count, sizeof *list, held_compare);
    // One after the other, whatever the order of events at one time.
    for (size_t i = 0; i < count; i++)
        phx_carried_at(f, list[i].index)->posted_ps = phx_core_now_ps(f->core) + i;
    for (uint32_t i = 0; i < f->rank_count * f->lanes; i++) {
        uint32_t queue = rank * f->rank_count * f->lanes + i;
        if (f->connections[queue / f->lanes].has_queues)
            phx_queue_arm(f, queue);
    }
    free(list);
    return true;
}

// --- outcomes -----------------------------------------------------------------------------------

// Where the payload and the word go; `from` is the caller's.
static int target_place(struct phx_fabric *f, const struct phx_carried *m, struct phx_place *place)
{
    const struct phx_sim_mem *key = phx_sim_mem_of(f, m->source, m->op.target.mem.index);
    if (!key->live)
        return PHX_ERR_STALE; // released by the source while the op was in flight
    const struct phx_sim_mem *region = phx_sim_mem_of(f, m->op.peer.rank, key->remote_index);
    if (region == NULL)
        return PHX_ERR_PROTECTION;
    if (region->imported || region->nonce != key->nonce || region->epoch != key->remote_epoch)
        return PHX_ERR_STALE;
    if (!region->live || region->peer != m->source)
        return PHX_ERR_PROTECTION;
    place->payload = phx_sim_mem_at(region, m->op.target.offset_bytes, m->op.size_bytes);
    place->word = NULL;
    if (place->payload == NULL)
        return PHX_ERR_PROTECTION;
    if ((m->op.flags & PHX_OP_SIGNAL) != 0)
        place->word = (uint64_t *)(void *)phx_sim_mem_at(region, m->op.signal_offset, 8);
    if ((m->op.flags & PHX_OP_SIGNAL) != 0 && place->word == NULL)
        return PHX_ERR_PROTECTION;
    return 0;
}

static void trace_put(struct phx_fabric *f, const struct phx_carried *m, int status)
{
    struct phx_trace_message t;
    struct phx_place place;
    memset(&t, 0, sizeof t);
    bool lands = status == 0 && target_place(f, m, &place) == 0;
    t.source = m->source;
    t.target = m->op.peer.rank;
    t.lane = m->op.lane;
    t.token = m->op.token;
    t.serial = ++f->traced;
    t.size_bytes = m->op.wire_bytes;
    t.issue_ps = m->posted_ps;
    bool left = m->gone_ps != 0;
    t.leave_ps = left ? m->leave_ps : m->posted_ps;
    // A rank's stores to itself pass no port, so they would overlap on their queue's line.
    bool local = m->source == m->op.peer.rank;
    t.gone_ps = left && !local ? m->gone_ps : t.leave_ps;
    t.end_ps = phx_core_now_ps(f->core);
    t.word = lands ? place.word : NULL;
    t.value = m->op.signal_value;
    t.outcome = status == 0 ? "delivered" : phx_error_name(status);
    phx_trace_put(f->trace, &t);
}

void phx_carried_finish(struct phx_fabric *f, uint32_t index, int status, uint32_t code)
{
    struct phx_carried *m = phx_carried_at(f, index);
    phx_assert(m->state != PHX_MESSAGE_FINISHED);
    bool was_landed = m->state == PHX_MESSAGE_LANDED;
    m->state = PHX_MESSAGE_FINISHED;
    if (status != 0)
        f->figures.failed++;
    if (f->trace != NULL && !was_landed)
        trace_put(f, m, status);
    bool reported = status != 0 || (m->op.flags & PHX_OP_SILENT) == 0;
    if (reported && phx_carried_owned(f, m)) {
        struct phx_event event;
        memset(&event, 0, sizeof event);
        event.kind = PHX_EVENT_OP;
        event.lane = m->op.lane;
        event.peer = m->op.peer;
        event.status = status;
        event.backend_code = code;
        event.token = m->op.token;
        phx_sim_event_push(f, m->source, &event);
    }
    if (m->listed)
        queue_retire(f, phx_queue_of(f, m));
    else
        phx_carried_release(f, index);
}

void phx_carried_acknowledge(struct phx_fabric *f, uint32_t index, int status, uint32_t code)
{
    struct phx_carried *m = phx_carried_at(f, index);
    if (status == 0) {
        if (f->trace != NULL && m->state == PHX_MESSAGE_SENT)
            trace_put(f, m, 0);
        m->state = PHX_MESSAGE_LANDED;
        if ((m->op.flags & PHX_OP_SILENT) != 0) { // phx_carried_finish() has nothing to report
            m->state = PHX_MESSAGE_FINISHED;
            if (m->listed)
                queue_retire(f, phx_queue_of(f, m));
            else
                phx_carried_release(f, index);
            return;
        }
    }
    struct phx_queue *q = phx_queue_of(f, m);
    uint64_t at_ps = phx_core_now_ps(f->core) + m->flight_ps;
    if (at_ps <= q->finish_ps)
        at_ps = q->finish_ps + 1;
    q->finish_ps = at_ps;
    struct phx_more *more = phx_more_at(f, index);
    more->status = status;
    more->backend_code = code;
    phx_carried_schedule(f, index, at_ps, PHX_NETWORK_FINISH);
}

// --- landing ------------------------------------------------------------------------------------

int phx_carried_place(struct phx_fabric *f, const struct phx_carried *m, struct phx_place *place)
{
    int error = target_place(f, m, place);
    place->from = NULL;
    if (error != 0 || m->op.size_bytes == 0)
        return error;
    if (phx_sim_mem_check(f, m->source, phx_carried_incarnation(f, m), m->op.source.mem, false,
                          m->op.source.offset_bytes, m->op.size_bytes) != 0)
        return PHX_ERR_PROTECTION;
    place->from = phx_sim_mem_at(phx_sim_mem_of(f, m->source, m->op.source.mem.index),
                                 m->op.source.offset_bytes, m->op.size_bytes);
    return place->from != NULL ? 0 : PHX_ERR_PROTECTION;
}

bool phx_carried_fenced(struct phx_fabric *f, const struct phx_carried *m)
{
    return phx_connection_at(f, m->op.peer.rank, m->source)->fenced >=
           phx_carried_incarnation(f, m);
}

static void flip(struct phx_fabric *f, struct phx_carried *m, uint8_t *to, uint64_t size_bytes)
{
    struct phx_fabric_rank *source = &f->ranks[m->source];
    if (source->flips == 0 || size_bytes == 0 || m->source == m->op.peer.rank)
        return; // what a rank sends itself crosses no wire
    source->flips--;
    f->figures.flips++;
    uint64_t bit =
        phx_chance_below(8 * size_bytes, f->seed, PHX_CHANCE_CORRUPT, m->queue, m->ordinal);
    to[bit / 8] = (uint8_t)(to[bit / 8] ^ (1u << bit % 8));
}

void phx_carried_land(struct phx_fabric *f, struct phx_carried *m, const struct phx_place *place,
                      uint64_t begin, uint64_t end, bool signal)
{
    PHX_SIM_ACQUIRE(m);
    struct phx_landing l;
    memset(&l, 0, sizeof l);
    l.source = m->source;
    l.source_epoch = phx_carried_incarnation(f, m);
    l.target = m->op.peer.rank;
    l.lane = m->op.lane;
    l.ordinal = m->ordinal;
    l.token = m->op.token;
    l.at_ps = phx_core_now_ps(f->core);
    uint64_t hash = 0;
    if (end > begin) {
        phx_assert(place->from != NULL);
        l.from = place->from + begin;
        l.to = place->payload + begin;
        l.size_bytes = end - begin;
        hash = phx_memory_land(f->memory, &l);
        flip(f, m, l.to, l.size_bytes);
    }
    if (signal && place->word != NULL) {
        phx_memory_signal(f->memory, &l, place->word, m->op.signal_value);
        hash ^= m->op.signal_value * 0x9E3779B97F4A7C15ull;
        if (f->ranks[m->op.peer.rank].alive)
            phx_world_word_changed(f->world, m->op.peer.rank, place->word);
    }
    phx_core_fold(f->core, hash);
    if (signal)
        f->figures.delivered++;
}

// --- events -------------------------------------------------------------------------------------

static void arrive(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    struct phx_queue *q = phx_queue_of(f, m);
    struct phx_flight flight = phx_carried_flight(m);
    uint64_t end_ps;
    if (phx_burst_count(f, index) == 0) {
        end_ps = phx_network_arrive(f->network, phx_core_now_ps(f->core), &flight);
    } else {
        const struct phx_burst *burst = &phx_more_at(f, index)->burst;
        struct phx_flight last = phx_carried_flight(phx_carried_at(f, burst->last));
        end_ps = phx_network_arrive_burst(f->network, &flight, &last, burst->wire_ps);
    }
    if (end_ps <= q->deliver_ps)
        end_ps = q->deliver_ps + 1;
    q->deliver_ps = end_ps;
    phx_carried_schedule(f, index, end_ps, PHX_NETWORK_DELIVER);
}

static void on_message(void *context, const struct phx_event_record *event)
{
    struct phx_fabric *f = context;
    uint32_t index = event->object;
    struct phx_carried *m = phx_carried_at(f, index);
    phx_assert(m->pending > 0);
    m->pending--;
    if (m->attempt != event->argument || m->dropped) {
        if (m->attempt == event->argument) {
            phx_burst_drop(f, index);
            phx_nvlink_release(f, index);
        }
        phx_carried_release(f, index); // of an attempt that was given up
        return;
    }
    if (event->type == PHX_NETWORK_ARRIVE) {
        arrive(f, index);
        return;
    }
    if (event->type == PHX_NETWORK_DELIVER) {
        if (phx_network_plane(f->network, m->source, m->op.peer.rank) == PHX_PLANE_NIC)
            phx_nic_deliver(f, index);
        else
            phx_nvlink_deliver(f, index);
    } else if (m->state != PHX_MESSAGE_FINISHED) {
        const struct phx_more *more = phx_more_at(f, index);
        if (more->status != 0 &&
            phx_network_plane(f->network, m->source, m->op.peer.rank) == PHX_PLANE_NIC)
            phx_nic_refuse(f, index, more->status);
        else
            phx_carried_finish(f, index, more->status, more->backend_code);
        return;
    }
    phx_carried_release(f, index);
}

static void on_queue(void *context, const struct phx_event_record *event)
{
    struct phx_fabric *f = context;
    if (event->type == PHX_NETWORK_ISSUE)
        issue(f, event->object, event->argument);
    else if (phx_queue_at(f, event->object)->timer == event->argument)
        phx_nic_retry(f, event->object);
}

static void on_rank(void *context, const struct phx_event_record *event)
{
    struct phx_fabric *f = context;
    if (event->type == PHX_NETWORK_CONNECT)
        phx_connection_opened(f, event->object, event->argument);
    else
        phx_connection_evidence(f, event->object, event->argument);
}

// --- fetching ahead -----------------------------------------------------------------------------
// Among very many messages each that an event meets is a miss of the caches, and leads to others:
// queue -> message -> key -> region -> memory.

static const struct phx_sim_mem *region_of(const struct phx_fabric *f, const struct phx_carried *m)
{
    const struct phx_sim_mem *key = phx_sim_mem_of(f, m->source, m->op.target.mem.index);
    return key != NULL ? phx_sim_mem_of(f, m->op.peer.rank, key->remote_index) : NULL;
}

// The one behind it, which is looked at when it leaves the queue or is issued.
PHX_FETCHES void fetch_next(struct phx_fabric *f, const struct phx_carried *m)
{
    if (m->next < f->fresh)
        fetch(&phx_carried_at(f, m->next)->posted_ps, 1);
}

PHX_FETCHES void fetch_issue(struct phx_fabric *f, uint32_t queue, enum phx_soon soon)
{
    const struct phx_connection *c = &f->connections[queue / f->lanes];
    const struct phx_queue *q = phx_queue_at(f, queue);
    if (soon == PHX_SOON_FAR) {
        fetch(c, offsetof(struct phx_connection, mems));
        if (q != &c->queue)
            fetch(q, sizeof *q);
        return;
    }
    if (q->unposted == PHX_NO_MESSAGE)
        return;
    const struct phx_carried *m = phx_carried_at(f, q->unposted);
    if (soon == PHX_SOON_NEAR) {
        fetch(m, sizeof *m);
        fetch(&c->mems[1], 1);
    } else if (soon == PHX_SOON_NEARER) {
        fetch(phx_sim_mem_of(f, m->source, m->op.source.mem.index), 1);
        if (q->head != q->unposted) // it may be retired
            fetch(&phx_carried_at(f, q->head)->posted_ps, 1);
        fetch_next(f, m);
    }
}

PHX_FETCHES void fetch_landing(struct phx_fabric *f, const struct phx_carried *m,
                               enum phx_soon soon)
{
    if (soon == PHX_SOON_NEAR) {
        const struct phx_connection *back = phx_connection_at(f, m->op.peer.rank, m->source);
        fetch(back, 1);
        fetch(&back->mems[0], 1);
        fetch(phx_sim_mem_of(f, m->source, m->op.target.mem.index), 1);
        fetch(phx_sim_mem_of(f, m->source, m->op.source.mem.index), 1);
        return;
    }
    if (soon == PHX_SOON_NEARER) {
        fetch_next(f, m);
        return;
    }
    const struct phx_sim_mem *region = region_of(f, m);
    if (region == NULL)
        return;
    size_t size = m->op.size_bytes < FETCH_BYTES_MAX ? m->op.size_bytes : FETCH_BYTES_MAX;
    fetch(phx_sim_mem_at(region, m->op.target.offset_bytes, size), size);
    fetch(phx_sim_mem_at(region, m->op.signal_offset, 8), 1);
    const struct phx_sim_mem *source = phx_sim_mem_of(f, m->source, m->op.source.mem.index);
    if (size > 0 && source != NULL)
        fetch(phx_sim_mem_at(source, m->op.source.offset_bytes, size), size);
}

// What is told of may be past by now, and its message another's: then other memory is fetched.
static void on_soon(void *context, uint32_t type, uint32_t object, enum phx_soon soon)
{
    struct phx_fabric *f = context;
    if (type == PHX_NETWORK_ISSUE)
        fetch_issue(f, object, soon);
    if (type != PHX_NETWORK_ARRIVE && type != PHX_NETWORK_DELIVER)
        return;
    const struct phx_carried *m = phx_carried_at(f, object);
    if (soon == PHX_SOON_FAR) {
        fetch(m, sizeof *m);
        return;
    }
    if (soon == PHX_SOON_NEAR) {
        const struct phx_connection *c = phx_connection_at(f, m->source, m->op.peer.rank);
        fetch(c, offsetof(struct phx_connection, mems));
        if (m->op.lane > 0)
            fetch(phx_queue_of(f, m), sizeof(struct phx_queue));
    }
    if (type == PHX_NETWORK_DELIVER)
        fetch_landing(f, m, soon);
}

void phx_fabric_handle_events(struct phx_fabric *f)
{
    phx_core_soon(f->core, on_soon, f);
    phx_core_handle(f->core, PHX_NETWORK_ISSUE, on_queue, f);
    phx_core_handle(f->core, PHX_NETWORK_ARRIVE, on_message, f);
    phx_core_handle(f->core, PHX_NETWORK_DELIVER, on_message, f);
    phx_core_handle(f->core, PHX_NETWORK_FINISH, on_message, f);
    phx_core_handle(f->core, PHX_NETWORK_RETRY, on_queue, f);
    phx_core_handle(f->core, PHX_NETWORK_CONNECT, on_rank, f);
    phx_core_handle(f->core, PHX_NETWORK_EVIDENCE, on_rank, f);
}
