// sim/network.h: how long bytes take: ports, links, presets, and what faults do to both.
//
// Model. Every GPU has an NVLink port and every rank a NIC port, each with an egress and an ingress
// that serve one message at a time at the preset's rate. A message takes the source's egress in the
// order of issue, flies, and takes the target's ingress in the order of arrival. It is cut through:
// without contention it is delivered at start + flight + size / rate. Nothing is reserved ahead of
// time but the egress for the later messages of a burst, so the order in which ports are taken is
// the order of virtual time.
//
// Cost: three events for a silent message (issue, head arrival, delivery), four with a completion,
// whatever its packet count; a burst of stores costs as much as one of them (burst.c). Packets
// exist only for a message that a fault touches.
//
// This file knows no operation, region or rank program: fabric.h builds queue pairs, NVLink stores
// and the transport on it. Threads: the simulator's one. Memory: allocated at create; setters of
// faults may allocate.

#ifndef PHX_SIM_NETWORK_H
#define PHX_SIM_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"

enum phx_plane { PHX_PLANE_LOCAL = 1, PHX_PLANE_NVLINK, PHX_PLANE_NIC };

struct phx_preset {
    const char *name;
    const char *source; // where the figures come from, one sentence
    enum phx_plane plane;
    uint32_t mtu_bytes;             // payload of a packet
    uint32_t packet_overhead_bytes; // headers, trailer and gap, charged per packet
    uint32_t retry_count;           // retransmissions after the first attempt
    uint32_t post_count_max;        // ops in flight per (peer, lane)
    bool selective;                 // packets after a lost one are kept, not dropped (go-back-N)
    uint64_t bytes_per_us;          // of a port, each way
    uint64_t flight_ps;             // the last hop included
    uint64_t jitter_ps;             // added to flight, uniform below this, per message
    uint64_t message_ps;            // port time of a message beside its bytes
    uint64_t ack_timeout_ps; // T: silence after which everything unacknowledged is sent again
    uint64_t connect_ps;     // to bring a lane up
};

// By name; NULL for a name that is not in the list.
const struct phx_preset *phx_preset_find(const char *name);
const struct phx_preset *phx_preset_at(uint32_t index); // NULL past the end
// Fails with PHX_ERR_INVALID and a message that lists the presets of that plane.
int phx_preset_require(const char *argument, const char *name, enum phx_plane plane,
                       const struct phx_preset **preset, struct phx_message *message);

struct phx_network;

struct phx_network_options {
    uint64_t seed;
    uint32_t ranks;
    uint32_t ranks_per_node;
    struct phx_preset intra; // copied, so that a test can bend a preset
    struct phx_preset inter;
};

int phx_network_create(const struct phx_network_options *options, struct phx_network **network,
                       struct phx_message *message);
void phx_network_destroy(struct phx_network *network); // NULL is allowed

enum phx_plane phx_network_plane(const struct phx_network *network, uint32_t source,
                                 uint32_t target);
const struct phx_preset *phx_network_preset(const struct phx_network *network,
                                            enum phx_plane plane);
// Replaces the preset of its plane, for tests.
void phx_network_bend(struct phx_network *network, const struct phx_preset *preset);
// Port time of a message of this size on an undisturbed port.
uint64_t phx_network_wire_ps(const struct phx_preset *preset, uint64_t size_bytes);

// --- a message's way ----------------------------------------------------------------------------

struct phx_flight {
    uint32_t source;
    uint32_t target;
    uint64_t size_bytes;
    uint64_t who;       // of phx_chance(): names the ordered path of the message
    uint64_t number;    // of phx_chance(): the message's number on that path, attempts included
    uint64_t leave_ps;  // first byte leaves the source (out)
    uint64_t gone_ps;   // last byte has left (out)
    uint64_t flight_ps; // (out)
    uint64_t arrive_ps; // head at the target's ingress (out)
};

// Takes the source's egress, now or when it is free.
void phx_network_depart(struct phx_network *network, uint64_t now_ps, struct phx_flight *flight);
// Takes the target's ingress at flight->arrive_ps; returns when the last byte is in.
uint64_t phx_network_arrive(struct phx_network *network, uint64_t now_ps,
                            struct phx_flight *flight);

// Bursts: messages of one way that depart at once although the later ones are posted later, and
// arrive at once, with the head of the last. Ports are charged the same time as for messages of
// their own; of idle time between two of a burst others may take theirs.

// The next of a burst, posted at at_ps, maybe ahead of the clock, behind `before`.
void phx_network_follow(struct phx_network *network, uint64_t at_ps,
                        const struct phx_flight *before, struct phx_flight *flight);
// It does not leave after all: the egress is free that much earlier.
void phx_network_recall(struct phx_network *network, struct phx_flight *flight);
// As phx_network_arrive(), for the burst from `first` to `last`, of wire_ps in all.
uint64_t phx_network_arrive_burst(struct phx_network *network, const struct phx_flight *first,
                                  const struct phx_flight *last, uint64_t wire_ps);

// --- faults -------------------------------------------------------------------------------------
// --------------------------------------------------------------------------------------- A path is
// an ordered pair of ranks. What strikes a port strikes every path through it.

struct phx_link_fault { // zero: nothing wrong
    bool down;
    uint32_t loss_ppm;      // of packets
    uint32_t duplicate_ppm; // of messages
    uint32_t rate_percent;  // of the preset's; 0 means 100
    uint64_t delay_ps;      // more flight
};
enum phx_direction { PHX_EGRESS = 1, PHX_INGRESS };

// `changes` is called before a fault comes into force or ends, so that what has departed ahead of
// the clock is judged by it; `healed` after something was healed, so that stalled stores go on.
typedef void phx_network_fault_fn(void *context);
void phx_network_on_fault(struct phx_network *network, phx_network_fault_fn *changes,
                          phx_network_fault_fn *healed, void *context);

// The fault on one path, one direction; `fault` zero heals it. False: no memory.
bool phx_network_path_fault(struct phx_network *network, uint64_t now_ps, uint32_t source,
                            uint32_t target, const struct phx_link_fault *fault);
// The fault on a port. Ports of GPUs are of PHX_PLANE_NVLINK, those of NICs of PHX_PLANE_NIC.
void phx_network_port_fault(struct phx_network *network, uint64_t now_ps, enum phx_plane plane,
                            uint32_t rank, enum phx_direction direction,
                            const struct phx_link_fault *fault);

// Paths between ranks of different sides are down; NULL heals. side: [ranks], copied.
void phx_network_partition(struct phx_network *network, uint64_t now_ps, const uint8_t *side);

// True unless some fault was in force on the path at some time in [since_ps, now_ps].
bool phx_network_clean(const struct phx_network *network, uint32_t source, uint32_t target,
                       uint64_t since_ps);
// True when something is down on the path now.
bool phx_network_down(const struct phx_network *network, uint32_t source, uint32_t target);
uint32_t phx_network_packets(const struct phx_network *network, const struct phx_flight *flight);
// True when packet `index` of the message, which left and arrived when the flight says, got lost.
bool phx_network_packet_lost(const struct phx_network *network, const struct phx_flight *flight,
                             uint32_t index);
// True when the fabric delivers this message twice.
bool phx_network_duplicated(const struct phx_network *network, const struct phx_flight *flight);

#endif
