// sim/fault.h: a list of faults, as data: what breaks, where, when, and for how long.
//
// Four units fail apart:
//   process  the rank's program stops; its GPU's memory and its NIC stay. Messages issued before it
//            died are delivered; NVLink stores to it still land; RDMA peers get no answer.
//   host     every process of the node, their GPUs and NICs: what had not left the NIC is lost.
//   gpu      its memory answers no more (NVLink stores vanish, RDMA writes are refused) and its
//            process dies of it.
//   nic      no packet in or out; the process and NVLink live on.
//
// A fault strikes at a virtual time, right after an event of the run, or when a rank reaches a
// point of its program: its `after_puts`th put of an operation was issued (0: the operation's first
// phase begins), or it enters a phase. With a chance it strikes each time its moment comes, or does
// not, as drawn by (seed, its place in the list, how often its moment came before). The same list
// gives the same run; removing the last fault leaves the chance draws of the others alone.

#ifndef PHX_SIM_FAULT_H
#define PHX_SIM_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "sim/world.h"

enum phx_fault_kind {
    PHX_FAULT_KILL = 1,
    PHX_FAULT_HANG,          // process, host, gpu: stops for ever, alive; nic: as down
    PHX_FAULT_PAUSE,         // stops for duration_ps, then resumes
    PHX_FAULT_SLOW,          // percent of full speed, for duration_ps (0: for ever)
    PHX_FAULT_RESTART,       // a killed process comes back: the next incarnation
    PHX_FAULT_LINK_DOWN,     // for duration_ps (0: for ever)
    PHX_FAULT_LINK_FLAP,     // down for period_ps / 2, up for period_ps / 2, count times
    PHX_FAULT_LINK_ONE_WAY,  // rank -> peer down, the other direction not
    PHX_FAULT_LINK_DEGRADED, // percent of the rate
    PHX_FAULT_LINK_LOSSY,    // ppm of packets are lost
    PHX_FAULT_PARTITION,     // `members` on one side, all others on the other
    PHX_FAULT_DELAY,         // delay_ps more flight
    PHX_FAULT_DUPLICATE,     // ppm of messages are delivered twice
    PHX_FAULT_CLOCK_OFFSET,  // offset_ns is added to the rank's clock
    PHX_FAULT_BIT_FLIP       // one bit of each of the rank's next `count` payloads; is_caught
};
const char *
phx_fault_kind_name(enum phx_fault_kind kind); // "kill", "link down"...; NULL: no such kind

enum phx_fault_unit { PHX_UNIT_PROCESS = 1, PHX_UNIT_HOST, PHX_UNIT_GPU, PHX_UNIT_NIC };

#define PHX_FAULT_ANY 0xFFFFFFFFu

struct phx_fault_when {  // all zero: at time 0
    uint64_t at_ps;      // used when kind is 0 and phase is 0
    uint32_t rank;       // whose progress triggers; PHX_FAULT_ANY: the struck rank's
    uint32_t kind;       // enum phx_kind of the operation
    uint32_t phase;      // enum phx_phase: on entering it; `kind` is then implied
    uint64_t number;     // of the operation, from 1 per kind; 0: every one, with chance_ppm (else
                         // the first that comes)
    uint32_t after_puts; // that many puts of that operation were issued by the rank
    uint32_t chance_ppm; // 0: always. Else it strikes each time with this chance, and can strike
                         // again once it has healed
    uint64_t event;      // not 0: right after that many events of the run were dispatched
};

struct phx_fault {
    uint32_t kind; // enum phx_fault_kind
    uint32_t unit; // enum phx_fault_unit; 0: process, or for links every path between rank and peer
    uint32_t rank; // whom it strikes
    uint32_t peer; // link faults: the other end; PHX_FAULT_ANY: all paths of the rank's port
    uint64_t duration_ps; // 0: for ever
    uint64_t delay_ps;
    uint64_t period_ps;
    int64_t offset_ns;
    uint32_t percent;
    uint32_t ppm;
    uint32_t count;
    const uint32_t *members; // partition: [member_count], borrowed until the world is destroyed
    uint32_t member_count;
    bool is_caught; // bit flip: the transport's check sees it, and the payload is sent again (NIC)
                    // or repeated by the link (NVLink). Else it arrives, behind the check
    struct phx_fault_when when;
};

// Arms the list; once per world, before phx_world_run(). The list is copied. PHX_ERR_INVALID names
// the entry (from 1), the field, its value and its bound.
int phx_fault_install(struct phx_world *world, const struct phx_fault *list, uint32_t count,
                      struct phx_message *message);
// Once, after installing: from at_ps on nothing strikes, and what was to heal later has healed.
// What is for ever stays.
void phx_fault_freeze(struct phx_world *world, uint64_t at_ps);
// When list[index] first struck, virtual; UINT64_MAX: not yet.
uint64_t phx_fault_struck_ps(const struct phx_world *world, uint32_t index);
// The operation that list[index] struck: kind and number that the rank was in; 0: none.
void phx_fault_struck_in(const struct phx_world *world, uint32_t index, uint32_t *kind,
                         uint64_t *number);
// The phase (enum phx_phase) that the rank's first worker had entered last; 0: none.
uint32_t phx_fault_struck_phase(const struct phx_world *world, uint32_t index);
// True once nothing that was armed can strike or heal any more, for checks of progress.
bool phx_fault_quiet(const struct phx_world *world);

#endif
