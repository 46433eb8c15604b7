// sim/nvlink.c: stores into a peer GPU's memory, and into one's own.
//
// Stores have no completion, no error and no timeout of their own. To a dead process's memory they
// succeed: the allocation outlives it as long as anyone maps it (measured). To a dead GPU they
// vanish, and only the evidence of the process's death ends their ops. A path that is down holds
// its stores, in order, until it is up. An access outside the region faults at the source and fails
// that op alone. A fence replaces the memory: what comes later lands in memory that nobody reads.

#include "sim/fabric_internal.h"

#include <stdlib.h>

static void stall(struct phx_fabric *f, uint32_t index)
{
    if (f->stalled_count == f->stalled_capacity) {
        uint32_t capacity = f->stalled_capacity == 0 ? 64 : 2 * f->stalled_capacity;
        uint32_t *grown = realloc(f->stalled, capacity * sizeof *grown);
        if (grown == NULL) {
            phx_world_stop(f->world, PHX_ERR_NO_MEMORY, "no memory for stalled stores");
            return;
        }
        f->stalled = grown;
        f->stalled_capacity = capacity;
    }
    f->stalled[f->stalled_count++] = index;
    phx_carried_at(f, index)->pending++; // the list names it
}

void phx_nvlink_healed(void *context)
{
    struct phx_fabric *f = context;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < f->stalled_count; i++) {
        uint32_t index = f->stalled[i];
        struct phx_carried *m = phx_carried_at(f, index);
        if (phx_network_down(f->network, m->source, m->op.peer.rank)) {
            f->stalled[kept++] = index;
            continue;
        }
        struct phx_queue *q = phx_queue_of(f, m);
        uint64_t at_ps = phx_core_now_ps(f->core) + m->flight_ps;
        if (at_ps <= q->deliver_ps)
            at_ps = q->deliver_ps + 1;
        q->deliver_ps = at_ps;
        m->pending--;
        phx_carried_schedule(f, index, at_ps, PHX_NETWORK_DELIVER);
    }
    f->stalled_count = kept;
}

// Stores of one path land in order: those behind one that was held up wait until it has landed.
static void hold(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    struct phx_queue *q = phx_queue_of(f, m);
    struct phx_more *more = phx_more_at(f, index);
    if (more->held != 0)
        return;
    more->held = 1 + q->renewals;
    q->held++;
}

static bool wait_behind_held(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    struct phx_queue *q = phx_queue_of(f, m);
    if (q->held == 0 || phx_more_at(f, index)->held != 0)
        return false;
    hold(f, index);
    uint64_t now_ps = phx_core_now_ps(f->core);
    q->deliver_ps = q->deliver_ps < now_ps ? now_ps : q->deliver_ps + 1;
    phx_carried_schedule(f, index, q->deliver_ps, PHX_NETWORK_DELIVER);
    return true;
}

void phx_nvlink_release(struct phx_fabric *f, uint32_t index)
{
    const struct phx_carried *m = phx_carried_at(f, index);
    struct phx_queue *q = phx_queue_of(f, m);
    if (!m->has_more)
        return;
    struct phx_more *more = phx_more_at(f, index);
    if (more->held == 1 + q->renewals)
        q->held--;
    more->held = 0;
}

static void deliver(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *m = phx_carried_at(f, index);
    bool ended = m->state == PHX_MESSAGE_FINISHED; // flushed, and still on its way
    if (f->ranks[m->op.peer.rank].gpu_dead || f->ranks[m->source].gpu_dead) {
        f->figures.vanished++;
        // A silent op owes nothing. Another waits for the evidence that its peer is gone.
        if (!ended && (m->op.flags & PHX_OP_SILENT) != 0)
            phx_carried_finish(f, index, 0, 0);
        return;
    }
    if (phx_carried_fenced(f, m)) {
        f->figures.fenced++;
        if (!ended)
            phx_carried_acknowledge(f, index, 0, 0);
        return;
    }
    struct phx_place place;
    int error = phx_carried_place(f, m, &place);
    if (error != 0) { // the store faults
        f->figures.refused++;
        if (!ended)
            phx_carried_acknowledge(f, index, error, 0);
        return;
    }
    phx_carried_land(f, m, &place, 0, m->op.size_bytes, true);
    if (!ended)
        phx_carried_acknowledge(f, index, 0, 0);
}

void phx_nvlink_deliver(struct phx_fabric *f, uint32_t index)
{
    struct phx_carried *first = phx_carried_at(f, index);
    if (phx_network_down(f->network, first->source, first->op.peer.rank)) {
        hold(f, index);
        stall(f, index);
        return;
    }
    if (wait_behind_held(f, index))
        return;
    phx_nvlink_release(f, index);
    uint32_t count = phx_burst_count(f, index);
    uint32_t next = first->next; // read ahead: what has landed may be free
    if (count > 0)
        phx_more_at(f, index)->burst.count = 0; // it may be flushed yet, before its error is
                                                // reported: alone
    deliver(f, index);
    for (uint32_t i = 1; i < count; i++) {
        index = next;
        struct phx_carried *m = phx_carried_at(f, index);
        next = m->next;
        m->pending--;
        if (!m->dropped)
            deliver(f, index);
        phx_carried_release(f, index); // if it was flushed on its way
    }
}
