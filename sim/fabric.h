// sim/fabric.h: everything that carries bytes in one simulated world: queue pairs, NVLink stores,
// regions and keys, and one struct phx_transport per rank process.
//
// phx_network_attach() (world_internal.h) makes it; this is what tests, faults, traces and
// summaries ask of it beside engine/transport.h.

#ifndef PHX_SIM_FABRIC_H
#define PHX_SIM_FABRIC_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/memory.h"
#include "sim/network.h"
#include "sim/world.h"

struct phx_fabric;

// The fabric of a world; NULL when its cluster named no preset.
struct phx_fabric *phx_fabric_of(const struct phx_world *world);
struct phx_network *phx_fabric_network(struct phx_fabric *fabric);
struct phx_memory *phx_fabric_memory(struct phx_fabric *fabric);
// The transport of the process that lives, or lived last; from the world's creation on.
struct phx_transport *phx_fabric_transport(struct phx_fabric *fabric, uint32_t rank);
// Before the run: presets bent by a test. Lanes and everything else stay.
void phx_fabric_bend(struct phx_fabric *fabric, const struct phx_preset *preset);

struct phx_fabric_figures {
    uint64_t messages; // accepted
    uint64_t delivered;
    uint64_t bytes;  // charged to the wire, first attempts
    uint64_t resent; // messages sent again
    uint64_t packets_lost;
    uint64_t duplicates;   // dropped by packet number
    uint64_t fenced;       // dropped because the target had fenced the source
    uint64_t refused;      // key, bounds, incarnation, released memory
    uint64_t vanished;     // stores to a dead GPU
    uint64_t failed;       // ops that ended with an error
    uint64_t flips;        // behind every check
    uint64_t flips_caught; // by the transport's
    uint64_t in_flight;    // messages not finished
};
struct phx_fabric_figures phx_fabric_figures(const struct phx_fabric *fabric);
// After phx_world_drain(): violations for ops without an outcome (rule "op-outcome", which is
// watched through the run as well) and for messages that are left.
void phx_fabric_check_outcomes(struct phx_fabric *fabric);

// --- what faults do -----------------------------------------------------------------------------

// The process is gone. The world tells when it kills one; tests without programs call it
// themselves.
void phx_fabric_process_dead(struct phx_fabric *fabric, uint32_t rank);
// The unit's hardware stops now; the caller kills the process itself.
void phx_fabric_gpu_dead(struct phx_fabric *fabric, uint32_t rank);
void phx_fabric_nic_dead(struct phx_fabric *fabric, uint32_t rank);
// One bit in each of the rank's next `count` payloads, undetected by the link's own checks.
void phx_fabric_flip(struct phx_fabric *fabric, uint32_t rank, uint32_t count);
// The same where the transport's check sees it: a NIC drops the packet, and it is sent again; an
// NVLink repeats it, a round trip later.
void phx_fabric_flip_caught(struct phx_fabric *fabric, uint32_t rank, uint32_t count);

// Called as each put of a rank that is counted is issued, in the order of issue; faults count them.
// Puts of such a rank travel in no burst, so that a fault can strike between any two.
typedef void phx_fabric_issued_fn(void *context, uint32_t rank, uint32_t token, uint64_t at_ps);
void phx_fabric_on_issue(struct phx_fabric *fabric, phx_fabric_issued_fn *issued, void *context);
void phx_fabric_count_issues(struct phx_fabric *fabric, uint32_t rank, bool counts);

struct phx_trace;
void phx_fabric_trace(struct phx_fabric *fabric, struct phx_trace *trace); // NULL: none

#endif
