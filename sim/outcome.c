// sim/outcome.c: the checker of rules 1 and 5 of engine/transport.h, from outside the transport.
//
// It sits in the hooks of the transport's wrappers and sees what a caller sees. Per (peer, lane) it
// keeps the tokens of ops that owe an event, in order, and counts the silent ones. Violations:
//
//   op-outcome   an event that no op owes, a second one for an op, an op without any, or a peer
//                reported lost while ops to it had no event yet

#include "sim/fabric_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct owed {         // of one (peer, lane)
    uint32_t *tokens; // ring
    uint32_t head;
    uint32_t count;
    uint32_t capacity;    // power of two
    uint64_t posted;      // that owe an event
    uint64_t posted_lost; // of them, before the peer was lost
    uint64_t failed;      // silent ones that had their event
};

struct phx_outcome {
    struct phx_sim_transport *transport;
    struct owed **peers; // [ranks]; NULL until an op there owed, or had, an event
    uint64_t *silent;    // [ranks][lanes] posted: nearly all are, so that this much is side by side
    uint32_t *losses;    // [ranks] reported, and not polled yet
};

static void violate(const struct phx_outcome *o, uint32_t peer, uint32_t token, const char *what)
{
    struct phx_world *world = o->transport->fabric->world;
    struct phx_violation v;
    memset(&v, 0, sizeof v);
    v.rule = "op-outcome";
    v.rank = o->transport->rank;
    v.kind = token >> 28;
    v.number = token & 0xFFFFFFu;
    v.at_ns = phx_world_time_ps(world) / 1000;
    snprintf(v.text, sizeof v.text, "rank %u's op to rank %u with token %u %s", v.rank, peer, token,
             what);
    phx_world_violate(world, &v);
}

static struct owed *owed_to(struct phx_outcome *o, uint32_t peer, uint32_t lane)
{
    const struct phx_fabric *f = o->transport->fabric;
    if (o->peers[peer] == NULL)
        o->peers[peer] = calloc(f->lanes, sizeof **o->peers);
    phx_assert(o->peers[peer] != NULL);
    return &o->peers[peer][lane];
}

static uint64_t *silent_to(const struct phx_outcome *o, uint32_t peer, uint32_t lane)
{
    return &o->silent[(size_t)peer * o->transport->fabric->lanes + lane];
}

static void owe(struct owed *owed, uint32_t token)
{
    if (owed->count == owed->capacity) {
        uint32_t capacity = owed->capacity == 0 ? 16 : 2 * owed->capacity;
        uint32_t *ring = malloc(capacity * sizeof *ring);
        phx_assert(ring != NULL);
        for (uint32_t i = 0; i < owed->count; i++)
            ring[i] = owed->tokens[(owed->head + i) & (owed->capacity - 1)];
        free(owed->tokens);
        owed->tokens = ring;
        owed->capacity = capacity;
        owed->head = 0;
    }
    owed->tokens[(owed->head + owed->count) & (owed->capacity - 1)] = token;
    owed->count++;
    owed->posted++;
}

// Ops of one lane may end out of order (a store that faults, say), so all that are owed are
// searched.
static bool settle(struct owed *owed, uint32_t token)
{
    for (uint32_t i = 0; i < owed->count; i++) {
        if (owed->tokens[(owed->head + i) & (owed->capacity - 1)] != token)
            continue;
        for (; i > 0; i--)
            owed->tokens[(owed->head + i) & (owed->capacity - 1)] =
                owed->tokens[(owed->head + i - 1) & (owed->capacity - 1)];
        owed->head = (owed->head + 1) & (owed->capacity - 1);
        owed->count--;
        return true;
    }
    return false;
}

static void on_post(void *context, const struct phx_op *op)
{
    struct phx_outcome *o = context;
    if (op->peer.rank >= o->transport->fabric->rank_count)
        return; // refused at once; nobody's lane
    if ((op->flags & PHX_OP_SILENT) != 0)
        ++*silent_to(o, op->peer.rank, op->lane);
    else
        owe(owed_to(o, op->peer.rank, op->lane), op->token);
}

static void on_lost(struct phx_outcome *o, uint32_t peer)
{
    // The rank may have been lost again before this was polled; posted_lost then is of the last.
    if (o->losses[peer] > 0 && --o->losses[peer] > 0)
        return;
    for (uint32_t lane = 0; o->peers[peer] != NULL && lane < o->transport->fabric->lanes; lane++) {
        const struct owed *owed = &o->peers[peer][lane];
        if (owed->count > owed->posted - owed->posted_lost)
            violate(o, peer, owed->tokens[owed->head],
                    "had no event when that rank was reported lost");
    }
}

void phx_outcome_loss_told(struct phx_sim_transport *transport, uint32_t peer)
{
    transport->outcome->losses[peer]++;
}

void phx_outcome_lost(struct phx_sim_transport *transport, uint32_t peer)
{
    struct owed *lanes = transport->outcome->peers[peer];
    for (uint32_t lane = 0; lanes != NULL && lane < transport->fabric->lanes; lane++)
        lanes[lane].posted_lost = lanes[lane].posted;
}

static void on_event(void *context, const struct phx_event *event)
{
    struct phx_outcome *o = context;
    uint32_t peer = event->peer.rank;
    if (peer >= o->transport->fabric->rank_count)
        return;
    if (event->kind == PHX_EVENT_PEER) {
        if (event->peer_state == PHX_PEER_LOST)
            on_lost(o, peer);
        return;
    }
    struct owed *owed = owed_to(o, peer, event->lane);
    if (settle(owed, event->token))
        return;
    if (event->status < 0 && owed->failed < *silent_to(o, peer, event->lane)) {
        owed->failed++;
        return;
    }
    violate(o, peer, event->token, "had an event that it does not owe");
}

bool phx_outcome_attach(struct phx_sim_transport *transport)
{
    struct phx_outcome *o = calloc(1, sizeof *o);
    if (o == NULL)
        return false;
    o->transport = transport;
    o->peers = calloc(transport->fabric->rank_count, sizeof(struct owed *));
    o->silent =
        calloc((size_t)transport->fabric->rank_count * transport->fabric->lanes, sizeof *o->silent);
    o->losses = calloc(transport->fabric->rank_count, sizeof *o->losses);
    if (o->peers == NULL || o->silent == NULL || o->losses == NULL) {
        free(o->losses);
        free(o->silent);
        free(o->peers);
        free(o);
        return false;
    }
    transport->outcome = o;
    transport->base.hooks.context = o;
    transport->base.hooks.post = on_post;
    transport->base.hooks.event = on_event;
    return true;
}

void phx_outcome_free(struct phx_sim_transport *transport)
{
    struct phx_outcome *o = transport->outcome;
    if (o == NULL)
        return;
    for (uint32_t p = 0; p < transport->fabric->rank_count; p++) {
        for (uint32_t i = 0; o->peers[p] != NULL && i < transport->fabric->lanes; i++)
            free(o->peers[p][i].tokens);
        free(o->peers[p]);
    }
    free(o->losses);
    free(o->silent);
    free(o->peers);
    free(o);
}

static void check_transport(struct phx_sim_transport *t)
{
    const struct phx_fabric *f = t->fabric;
    struct phx_event event;
    while (phx_poll(&t->base, &event, 1) > 0)
        continue; // what nobody polled still counts
    for (uint32_t p = 0; p < f->rank_count; p++)
        for (uint32_t lane = 0; t->outcome->peers[p] != NULL && lane < f->lanes; lane++) {
            const struct owed *owed = &t->outcome->peers[p][lane];
            if (owed->count > 0)
                violate(t->outcome, p, owed->tokens[owed->head], "never had an event");
        }
}

void phx_fabric_check_outcomes(struct phx_fabric *fabric)
{
    if (fabric->stalled_count > 0)
        return;        // a path that is down for good holds its stores for good
    bool held = false; // a rank that hangs keeps what it had posted ahead of the clock
    for (uint32_t r = 0; r < fabric->rank_count; r++) {
        bool paused = phx_world_rank_paused(fabric->world, r);
        held = held || paused;
        if (fabric->ranks[r].alive && !paused)
            check_transport(fabric->ranks[r].transport);
    }
    if (fabric->figures.in_flight == 0 || held)
        return;
    struct phx_violation v;
    memset(&v, 0, sizeof v);
    v.rule = "op-outcome";
    v.at_ns = phx_world_time_ps(fabric->world) / 1000;
    snprintf(v.text, sizeof v.text, "%llu messages are left when nothing moves any more",
             (unsigned long long)fabric->figures.in_flight);
    phx_world_violate(fabric->world, &v);
}
