// sim/burst.c: stores of one lane to one peer that travel together.
//
// A worker posts the rows of a peer one after another, often ahead of the clock, and signals with
// the last of them. Nobody may read a row before that signal, so when the rows land in between is
// nobody's to see: the first and those behind it, up to the one that carries a signal or wants its
// completion, are issued in one event, and arrive and land in one each. Ports are charged as for
// messages of their own.
//
// Only stores in memory do this, on NVLink and to the rank itself, of a rank whose puts no fault
// counts or damages on the wire, and while nothing is wrong on their path. When something comes
// between, a death, a pause, a flush or a fault on a link, those that were posted for a later time
// have not left: they are taken back, and go their own way at their own time or never. Those that
// have left land together, and each is judged for itself (nvlink.c).

#include "sim/fabric_internal.h"

#define BURST_PS 2000000u       // from the first to the last, in posting
#define BURST_MESSAGES_MAX 256u // lanes hold more, so that senders need not wait for a whole burst

static bool ends_burst(const struct phx_carried *m)
{
    return (m->op.flags & PHX_OP_SIGNAL) != 0 || (m->op.flags & PHX_OP_SILENT) == 0;
}

static bool may_begin(struct phx_fabric *f, const struct phx_carried *m)
{
    return f->bursts && m->state == PHX_MESSAGE_POSTED && m->next != PHX_NO_MESSAGE &&
           !ends_burst(m) && !f->ranks[m->source].counted &&
           f->ranks[m->source].flips_caught == 0 && // each takes its own
           phx_network_plane(f->network, m->source, m->op.peer.rank) != PHX_PLANE_NIC &&
           phx_network_clean(f->network, m->source, m->op.peer.rank, phx_core_now_ps(f->core)) &&
           phx_send_check(f, m) == 0;
}

static bool is_same(struct phx_mem a, struct phx_mem b)
{
    return a.index == b.index && a.epoch == b.epoch;
}

// phx_send_check() of one behind another that passed it just now. Of the same memory, only the part
// that is read is its own.
static bool may_follow(struct phx_fabric *f, const struct phx_carried *before,
                       const struct phx_carried *m)
{
    const struct phx_op *op = &m->op;
    if (op->peer.epoch != before->op.peer.epoch ||
        !is_same(op->target.mem, before->op.target.mem) || op->size_bytes == 0 ||
        before->op.size_bytes == 0 || !is_same(op->source.mem, before->op.source.mem))
        return phx_send_check(f, m) == 0;
    uint64_t size_bytes = phx_sim_mem_of(f, m->source, op->source.mem.index)->size_bytes;
    return op->source.offset_bytes <= size_bytes &&
           op->size_bytes <= size_bytes - op->source.offset_bytes;
}

// Message `index`, behind those of the burst, unless it has to go alone.
static bool join(struct phx_fabric *f, struct phx_burst *burst, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    const struct phx_carried *before = phx_carried_at(f, burst->last);
    uint64_t now_ps = phx_core_now_ps(f->core);
    if (m->state != PHX_MESSAGE_POSTED || m->posted_ps > now_ps + BURST_PS ||
        burst->count == BURST_MESSAGES_MAX || !may_follow(f, before, m))
        return false;
    m->state = PHX_MESSAGE_SENT;
    m->pending++; // the burst names it
    uint64_t at_ps = m->posted_ps > now_ps ? m->posted_ps : now_ps;
    struct phx_flight ahead = phx_carried_flight(before);
    struct phx_flight flight = phx_carried_flight(m);
    phx_network_follow(f->network, at_ps, &ahead, &flight);
    phx_carried_flies(m, &flight);
    f->figures.bytes += m->op.wire_bytes;
    burst->last = index;
    burst->count++;
    burst->wire_ps += m->gone_ps - m->leave_ps;
    return true;
}

bool phx_burst_issue(struct phx_fabric *f, uint32_t queue)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    uint32_t index = q->unposted;
    struct phx_carried *first = phx_carried_at(f, index);
    if (!may_begin(f, first))
        return false;
    phx_carried_depart(f, index);
    struct phx_burst *burst = &phx_more_at(f, index)->burst;
    *burst = (struct phx_burst){first->gone_ps - first->leave_ps, index, 1};
    uint32_t next = first->next;
    while (next != PHX_NO_MESSAGE && join(f, burst, next)) {
        const struct phx_carried *m = phx_carried_at(f, next);
        next = ends_burst(m) ? PHX_NO_MESSAGE : m->next;
    }
    const struct phx_carried *last = phx_carried_at(f, burst->last);
    q->unposted = last->next;
    q->unsent = last->next;
    q->burst = index;
    q->burst_ps = last->posted_ps;
    q->arrive_ps = last->arrive_ps;
    phx_carried_schedule(f, index, last->arrive_ps, PHX_NETWORK_ARRIVE);
    return true;
}

void phx_burst_cut(struct phx_fabric *f, uint32_t queue)
{
    struct phx_queue *q = phx_queue_at(f, queue);
    uint64_t now_ps = phx_core_now_ps(f->core);
    if (q->burst_ps <= now_ps)
        return; // all of it has left
    // It lands later than its last was posted, so it is still there.
    uint32_t index = q->burst;
    struct phx_carried *first = phx_carried_at(f, index);
    struct phx_burst *burst = &phx_more_at(f, index)->burst;
    uint32_t count = burst->count;
    bool cut = false;
    burst->count = 0;
    burst->wire_ps = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct phx_carried *m = phx_carried_at(f, index);
        if (m->posted_ps <= now_ps) {
            burst->count++;
            burst->last = index;
            burst->wire_ps += m->gone_ps - m->leave_ps;
        } else {
            q->unposted = cut ? q->unposted : index;
            cut = true;
            phx_assert(m->state == PHX_MESSAGE_SENT && m->listed);
            m->state = PHX_MESSAGE_POSTED;
            m->pending--;
            struct phx_flight flight = phx_carried_flight(m);
            phx_network_recall(f->network, &flight);
            phx_carried_flies(m, &flight);
            f->figures.bytes -= m->op.wire_bytes;
        }
        index = m->next;
    }
    phx_assert(burst->count > 0);
    q->unsent = q->unposted;
    q->burst_ps = now_ps;
    // The rest arrives with its own last. What was scheduled for all of it counts no more.
    const struct phx_carried *last = phx_carried_at(f, burst->last);
    q->arrive_ps = last->arrive_ps;
    first->attempt++;
    phx_carried_schedule(f, q->burst, last->arrive_ps, PHX_NETWORK_ARRIVE);
    q->ticket++;
    q->armed = false;
    phx_queue_arm(f, queue);
}

void phx_burst_drop(struct phx_fabric *f, uint32_t index)
{
    uint32_t next = phx_carried_at(f, index)->next;
    uint32_t count = phx_burst_count(f, index);
    for (uint32_t i = 1; i < count; i++) {
        struct phx_carried *m = phx_carried_at(f, next);
        uint32_t dropped = next;
        next = m->next;
        m->pending--;
        phx_carried_release(f, dropped);
    }
}

void phx_burst_cut_rank(struct phx_fabric *f, uint32_t rank)
{
    for (uint32_t p = 0; p < f->rank_count; p++) {
        uint32_t connection = rank * f->rank_count + p;
        if (phx_network_plane(f->network, rank, p) == PHX_PLANE_NIC)
            continue;
        for (uint32_t i = 0; f->connections[connection].has_queues && i < f->lanes; i++)
            phx_burst_cut(f, connection * f->lanes + i);
    }
}

void phx_burst_cut_all(void *context)
{
    struct phx_fabric *f = context;
    for (uint32_t r = 0; f->bursts && r < f->rank_count; r++)
        if (f->ranks[r].alive)
            phx_burst_cut_rank(f, r);
}
