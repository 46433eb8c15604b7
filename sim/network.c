// sim/network.c: ports as two free times each, faults as intervals in which a link was not itself.
//
// A link here is anything that a fault can strike: an egress or ingress port, an ordered path, or
// the boundary of a partition. Each remembers its fault in force and its last outage, so that a
// message that was in flight when it began, or even ended, can still be judged packet by packet.

#include "sim/network.h"

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "engine/limits.h"
#include "sim/core.h"

struct link {
    struct phx_link_fault fault;
    uint64_t down_ps;  // the last outage, [down_ps, up_ps); both 0: none yet
    uint64_t up_ps;    // UINT64_MAX while it lasts
    uint64_t clean_ps; // faulty until then; UINT64_MAX while a fault is in force
};

struct port {
    struct link link[2]; // by direction
};

struct path {
    uint64_t key; // source << 32 | target; ascending
    struct link link;
};

#define PLANES 4u // values of enum phx_plane, and 0

struct wire { // a time on the wire, kept: messages of one size come in rows, and it takes divisions
    uint64_t size_bytes;
    uint64_t ps; // 0: none is kept
};

struct phx_network {
    struct phx_network_options options;
    struct phx_preset local;
    uint32_t *node; // [ranks]
    struct wire wire[PLANES];
    struct port *ports[2]; // NVLink, NIC: [ranks]
    uint64_t *free_ps[2];  // the same, [ranks][directions]: all that an undisturbed message asks
    struct path *paths;
    uint32_t path_count;
    uint32_t path_capacity;
    uint8_t *side; // [ranks] of the partition, in force or last
    struct link boundary;
    uint32_t faulty;   // links with a fault in force
    uint64_t clean_ps; // no link was faulty after this; meaningful while faulty is 0
    phx_network_fault_fn *changes;
    phx_network_fault_fn *healed;
    void *fault_context;
};

int phx_network_create(const struct phx_network_options *options, struct phx_network **network,
                       struct phx_message *message)
{
    if (options->ranks < 1 || options->ranks > PHX_RANKS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "ranks is %u; it may be 1 to %u", options->ranks,
                        PHX_RANKS_MAX);
    if (options->ranks_per_node < 1 || options->ranks_per_node > options->ranks)
        return phx_fail(message, PHX_ERR_INVALID, "ranks_per_node is %u; it may be 1 to %u",
                        options->ranks_per_node, options->ranks);
    struct phx_network *n = calloc(1, sizeof *n);
    if (n == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the network");
    n->options = *options;
    // A store to one's own memory: no port, no flight, and the order of HBM bandwidth.
    n->local.name = "local";
    n->local.source = "the order of a GPU's own memory bandwidth";
    n->local.plane = PHX_PLANE_LOCAL;
    n->local.mtu_bytes = 4096;
    n->local.post_count_max = options->intra.post_count_max;
    n->local.bytes_per_us = 1500000;
    n->local.message_ps = 1000;
    n->node = calloc(options->ranks, sizeof *n->node);
    n->ports[0] = calloc(options->ranks, sizeof(struct port));
    n->ports[1] = calloc(options->ranks, sizeof(struct port));
    n->free_ps[0] = calloc(2 * (size_t)options->ranks, sizeof(uint64_t));
    n->free_ps[1] = calloc(2 * (size_t)options->ranks, sizeof(uint64_t));
    n->side = calloc(options->ranks, 1);
    if (n->node == NULL || n->ports[0] == NULL || n->ports[1] == NULL || n->free_ps[0] == NULL ||
        n->free_ps[1] == NULL || n->side == NULL) {
        phx_network_destroy(n);
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the ports of %u ranks",
                        options->ranks);
    }
    for (uint32_t r = 0; r < options->ranks; r++)
        n->node[r] = r / options->ranks_per_node;
    *network = n;
    return 0;
}

void phx_network_destroy(struct phx_network *network)
{
    if (network == NULL)
        return;
    free(network->node);
    free(network->ports[0]);
    free(network->ports[1]);
    free(network->free_ps[0]);
    free(network->free_ps[1]);
    free(network->paths);
    free(network->side);
    free(network);
}

void phx_network_on_fault(struct phx_network *network, phx_network_fault_fn *changes,
                          phx_network_fault_fn *healed, void *context)
{
    network->changes = changes;
    network->healed = healed;
    network->fault_context = context;
}

enum phx_plane phx_network_plane(const struct phx_network *network, uint32_t source,
                                 uint32_t target)
{
    if (source == target)
        return PHX_PLANE_LOCAL;
    return network->node[source] == network->node[target] ? PHX_PLANE_NVLINK : PHX_PLANE_NIC;
}

const struct phx_preset *phx_network_preset(const struct phx_network *network, enum phx_plane plane)
{
    if (plane == PHX_PLANE_LOCAL)
        return &network->local;
    return plane == PHX_PLANE_NVLINK ? &network->options.intra : &network->options.inter;
}

void phx_network_bend(struct phx_network *network, const struct phx_preset *preset)
{
    phx_assert(preset->plane == PHX_PLANE_NVLINK || preset->plane == PHX_PLANE_NIC);
    phx_assert(preset->bytes_per_us > 0);
    phx_assert(preset->mtu_bytes > 0);
    if (preset->plane == PHX_PLANE_NVLINK)
        network->options.intra = *preset;
    else
        network->options.inter = *preset;
    network->wire[preset->plane].ps = 0;
}

static uint64_t packets_of(const struct phx_preset *preset, uint64_t size_bytes)
{
    return size_bytes == 0 ? 1 : (size_bytes + preset->mtu_bytes - 1) / preset->mtu_bytes;
}

uint64_t phx_network_wire_ps(const struct phx_preset *preset, uint64_t size_bytes)
{
    uint64_t bytes = size_bytes + packets_of(preset, size_bytes) * preset->packet_overhead_bytes;
    return preset->message_ps + bytes * 1000000 / preset->bytes_per_us;
}

static uint64_t wire_ps_of(struct phx_network *n, enum phx_plane plane, uint64_t size_bytes)
{
    struct wire *wire = &n->wire[plane];
    if (wire->ps == 0 || wire->size_bytes != size_bytes) {
        wire->size_bytes = size_bytes;
        wire->ps = phx_network_wire_ps(phx_network_preset(n, plane), size_bytes);
    }
    return wire->ps;
}

// --- a message's way ----------------------------------------------------------------------------

static struct port *port_of(const struct phx_network *n, enum phx_plane plane, uint32_t rank)
{
    phx_assert(rank < n->options.ranks);
    return &n->ports[plane == PHX_PLANE_NIC][rank];
}

static uint64_t *free_ps_of(const struct phx_network *n, enum phx_plane plane, uint32_t rank,
                            enum phx_direction direction)
{
    phx_assert(rank < n->options.ranks);
    return &n->free_ps[plane == PHX_PLANE_NIC][2 * (size_t)rank + (direction == PHX_INGRESS)];
}

static struct path *path_find(const struct phx_network *n, uint32_t source, uint32_t target)
{
    uint64_t key = (uint64_t)source << 32 | target;
    uint32_t low = 0;
    uint32_t high = n->path_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (n->paths[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n->path_count && n->paths[low].key == key ? &n->paths[low] : NULL;
}

// The links of a way: source's egress, the path, the boundary, target's ingress. NULL: not there.
#define LINKS 4u
static void links_of(const struct phx_network *n, uint32_t source, uint32_t target,
                     const struct link *links[LINKS])
{
    enum phx_plane plane = phx_network_plane(n, source, target);
    memset(links, 0, LINKS * sizeof links[0]);
    if (plane == PHX_PLANE_LOCAL)
        return;
    links[0] = &port_of(n, plane, source)->link[0];
    const struct path *path = path_find(n, source, target);
    links[1] = path != NULL ? &path->link : NULL;
    links[2] = n->side[source] != n->side[target] ? &n->boundary : NULL;
    links[3] = &port_of(n, plane, target)->link[1];
}

static uint64_t slowed(const struct phx_network *n, uint32_t source, uint32_t target,
                       uint64_t wire_ps)
{
    if (n->faulty == 0)
        return wire_ps;
    const struct link *links[LINKS];
    links_of(n, source, target, links);
    uint32_t percent = 100;
    for (uint32_t i = 0; i < LINKS; i++)
        if (links[i] != NULL && links[i]->fault.rate_percent != 0 &&
            links[i]->fault.rate_percent < percent)
            percent = links[i]->fault.rate_percent;
    return wire_ps * 100 / percent;
}

static uint64_t delayed(const struct phx_network *n, uint32_t source, uint32_t target)
{
    if (n->faulty == 0)
        return 0;
    const struct link *links[LINKS];
    links_of(n, source, target, links);
    uint64_t delay_ps = 0;
    for (uint32_t i = 0; i < LINKS; i++)
        if (links[i] != NULL)
            delay_ps += links[i]->fault.delay_ps;
    return delay_ps;
}

void phx_network_depart(struct phx_network *network, uint64_t now_ps, struct phx_flight *flight)
{
    enum phx_plane plane = phx_network_plane(network, flight->source, flight->target);
    const struct phx_preset *preset = phx_network_preset(network, plane);
    uint64_t wire_ps = wire_ps_of(network, plane, flight->size_bytes);
    wire_ps = slowed(network, flight->source, flight->target, wire_ps);
    uint64_t leave_ps = now_ps;
    if (plane != PHX_PLANE_LOCAL) {
        uint64_t *free_ps = free_ps_of(network, plane, flight->source, PHX_EGRESS);
        if (*free_ps > leave_ps)
            leave_ps = *free_ps;
        *free_ps = leave_ps + wire_ps;
    }
    flight->leave_ps = leave_ps;
    flight->gone_ps = leave_ps + wire_ps;
    flight->flight_ps = preset->flight_ps + delayed(network, flight->source, flight->target);
    if (preset->jitter_ps > 0)
        flight->flight_ps += phx_chance_below(preset->jitter_ps, network->options.seed,
                                              PHX_CHANCE_JITTER, flight->who, flight->number);
    flight->arrive_ps = leave_ps + flight->flight_ps;
}

uint64_t phx_network_arrive(struct phx_network *network, uint64_t now_ps, struct phx_flight *flight)
{
    enum phx_plane plane = phx_network_plane(network, flight->source, flight->target);
    uint64_t last_ps = flight->gone_ps + (flight->arrive_ps - flight->leave_ps);
    if (plane == PHX_PLANE_LOCAL)
        return last_ps;
    uint64_t *free_ps = free_ps_of(network, plane, flight->target, PHX_INGRESS);
    uint64_t begin_ps = *free_ps > now_ps ? *free_ps : now_ps;
    // The port is taken for its own rate only: behind a slower source, others fit in between.
    *free_ps = begin_ps + wire_ps_of(network, plane, flight->size_bytes);
    return *free_ps > last_ps ? *free_ps : last_ps;
}

void phx_network_follow(struct phx_network *network, uint64_t at_ps,
                        const struct phx_flight *before, struct phx_flight *flight)
{
    enum phx_plane plane = phx_network_plane(network, flight->source, flight->target);
    uint64_t wire_ps = wire_ps_of(network, plane, flight->size_bytes);
    uint64_t leave_ps = at_ps;
    if (plane != PHX_PLANE_LOCAL) {
        uint64_t *free_ps = free_ps_of(network, plane, flight->source, PHX_EGRESS);
        if (*free_ps > leave_ps)
            leave_ps = *free_ps;
        *free_ps += wire_ps; // from where the one before left it: what is idle stays for others
    }
    flight->leave_ps = leave_ps;
    flight->gone_ps = leave_ps + wire_ps;
    flight->flight_ps = before->flight_ps;
    flight->arrive_ps = leave_ps + flight->flight_ps;
    if (flight->arrive_ps < before->arrive_ps)
        flight->arrive_ps = before->arrive_ps;
}

void phx_network_recall(struct phx_network *network, struct phx_flight *flight)
{
    enum phx_plane plane = phx_network_plane(network, flight->source, flight->target);
    if (plane != PHX_PLANE_LOCAL)
        *free_ps_of(network, plane, flight->source, PHX_EGRESS) -=
            flight->gone_ps - flight->leave_ps;
    flight->leave_ps = 0;
    flight->gone_ps = 0;
}

uint64_t phx_network_arrive_burst(struct phx_network *network, const struct phx_flight *first,
                                  const struct phx_flight *last, uint64_t wire_ps)
{
    enum phx_plane plane = phx_network_plane(network, last->source, last->target);
    uint64_t last_ps = last->gone_ps + (last->arrive_ps - last->leave_ps);
    if (plane == PHX_PLANE_LOCAL)
        return last_ps;
    uint64_t *free_ps = free_ps_of(network, plane, last->target, PHX_INGRESS);
    uint64_t begin_ps = *free_ps > first->arrive_ps ? *free_ps : first->arrive_ps;
    *free_ps = begin_ps + wire_ps;
    return *free_ps > last_ps ? *free_ps : last_ps;
}

// --- faults -------------------------------------------------------------------------------------

static bool fault_is_zero(const struct phx_link_fault *fault)
{
    return !fault->down && fault->loss_ppm == 0 && fault->duplicate_ppm == 0 &&
           (fault->rate_percent == 0 || fault->rate_percent == 100) && fault->delay_ps == 0;
}

static void link_set(struct phx_network *n, uint64_t now_ps, struct link *link,
                     const struct phx_link_fault *fault)
{
    bool was_zero = fault_is_zero(&link->fault);
    bool is_zero = fault_is_zero(fault);
    if (n->changes != NULL && !(was_zero && is_zero))
        n->changes(n->fault_context);
    if (fault->down && !link->fault.down) {
        link->down_ps = now_ps;
        link->up_ps = UINT64_MAX;
    }
    bool healed = link->fault.down && !fault->down;
    if (healed)
        link->up_ps = now_ps;
    link->fault = *fault;
    if (!is_zero)
        link->clean_ps = UINT64_MAX;
    else if (!was_zero)
        link->clean_ps = now_ps;
    if (was_zero && !is_zero)
        n->faulty++;
    if (!was_zero && is_zero) {
        n->faulty--;
        n->clean_ps = now_ps;
    }
    if (healed && n->healed != NULL)
        n->healed(n->fault_context);
}

static struct path *path_add(struct phx_network *n, uint32_t source, uint32_t target)
{
    if (n->path_count == n->path_capacity) {
        uint32_t capacity = n->path_capacity == 0 ? 16 : 2 * n->path_capacity;
        struct path *grown = realloc(n->paths, capacity * sizeof *grown);
        if (grown == NULL)
            return NULL;
        n->paths = grown;
        n->path_capacity = capacity;
    }
    uint64_t key = (uint64_t)source << 32 | target;
    uint32_t at = n->path_count;
    for (; at > 0 && n->paths[at - 1].key > key; at--)
        n->paths[at] = n->paths[at - 1];
    memset(&n->paths[at], 0, sizeof n->paths[at]);
    n->paths[at].key = key;
    n->path_count++;
    return &n->paths[at];
}

bool phx_network_path_fault(struct phx_network *network, uint64_t now_ps, uint32_t source,
                            uint32_t target, const struct phx_link_fault *fault)
{
    phx_assert(source < network->options.ranks);
    phx_assert(target < network->options.ranks);
    struct path *path = path_find(network, source, target);
    if (path == NULL) {
        if (fault_is_zero(fault))
            return true;
        path = path_add(network, source, target);
        if (path == NULL)
            return false;
    }
    link_set(network, now_ps, &path->link, fault);
    return true;
}

void phx_network_port_fault(struct phx_network *network, uint64_t now_ps, enum phx_plane plane,
                            uint32_t rank, enum phx_direction direction,
                            const struct phx_link_fault *fault)
{
    phx_assert(plane == PHX_PLANE_NVLINK || plane == PHX_PLANE_NIC);
    struct port *port = port_of(network, plane, rank);
    link_set(network, now_ps, &port->link[direction == PHX_INGRESS], fault);
}

void phx_network_partition(struct phx_network *network, uint64_t now_ps, const uint8_t *side)
{
    struct phx_link_fault fault = {0};
    if (side != NULL) {
        memcpy(network->side, side, network->options.ranks);
        fault.down = true;
    }
    // The sides stay after healing, so that what was in flight is still judged by them.
    link_set(network, now_ps, &network->boundary, &fault);
}

bool phx_network_clean(const struct phx_network *network, uint32_t source, uint32_t target,
                       uint64_t since_ps)
{
    if (network->faulty == 0 && network->clean_ps <= since_ps)
        return true;
    const struct link *links[LINKS];
    links_of(network, source, target, links);
    for (uint32_t i = 0; i < LINKS; i++)
        if (links[i] != NULL && links[i]->clean_ps > since_ps)
            return false;
    return true;
}

bool phx_network_down(const struct phx_network *network, uint32_t source, uint32_t target)
{
    if (network->faulty == 0)
        return false;
    const struct link *links[LINKS];
    links_of(network, source, target, links);
    for (uint32_t i = 0; i < LINKS; i++)
        if (links[i] != NULL && links[i]->fault.down)
            return true;
    return false;
}

uint32_t phx_network_packets(const struct phx_network *network, const struct phx_flight *flight)
{
    enum phx_plane plane = phx_network_plane(network, flight->source, flight->target);
    return (uint32_t)packets_of(phx_network_preset(network, plane), flight->size_bytes);
}

// A different draw for each link, message, attempt and packet, and none that others share.
static bool struck(const struct phx_network *n, const struct phx_flight *flight, uint32_t link,
                   uint32_t index, uint32_t ppm)
{
    if (ppm == 0)
        return false;
    uint64_t who = flight->who << 2 | link;
    uint64_t number = flight->number << 20 ^ index;
    return phx_chance_below(1000000, n->options.seed, PHX_CHANCE_LOSS, who, number) < ppm;
}

bool phx_network_packet_lost(const struct phx_network *network, const struct phx_flight *flight,
                             uint32_t index)
{
    uint32_t packets = phx_network_packets(network, flight);
    uint64_t sent_ps = flight->gone_ps - flight->leave_ps;
    uint64_t leave_ps = flight->leave_ps + sent_ps / packets * index;
    uint64_t arrive_ps = leave_ps + flight->flight_ps;
    const struct link *links[LINKS];
    links_of(network, flight->source, flight->target, links);
    for (uint32_t i = 0; i < LINKS; i++) {
        if (links[i] == NULL)
            continue;
        if (leave_ps < links[i]->up_ps && arrive_ps >= links[i]->down_ps && links[i]->up_ps != 0)
            return true;
        if (struck(network, flight, i, index, links[i]->fault.loss_ppm))
            return true;
    }
    return false;
}

bool phx_network_duplicated(const struct phx_network *network, const struct phx_flight *flight)
{
    if (network->faulty == 0)
        return false;
    const struct link *links[LINKS];
    links_of(network, flight->source, flight->target, links);
    for (uint32_t i = 0; i < LINKS; i++)
        if (links[i] != NULL && struck(network, flight, i, 0xFFFFF, links[i]->fault.duplicate_ppm))
            return true;
    return false;
}
