// sim/fabric_internal.h: what fabric.c, nic.c, nvlink.c and transport_sim.c share.
//
//   fabric.c         messages, their queues, and the events that move them
//   nic.c            what a message meets on a NIC: retries, errors, partial writes
//   nvlink.c         what it meets on NVLink and in the rank's own memory
//   burst.c          stores that travel together
//   transport_sim.c  struct phx_transport: registration, connections, events, the world's hooks
//
// A queue is one (source, target, lane): a queue pair on a NIC, a path of stores on NVLink. Its
// messages stand in a list in the order of posting until they are finished:
//
//     head                      unsent                unposted                tail
//      | sent, delivered, ...    | issued, waiting     | their time is to come |
//
// Messages live in pages and are named by index; one is free again when it is finished and no event
// of the core names it any more.

#ifndef PHX_SIM_FABRIC_INTERNAL_H
#define PHX_SIM_FABRIC_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/assert.h"
#include "engine/transport_ops.h"
#include "sim/fabric.h"
#include "sim/trace.h"
#include "sim/world_internal.h"

#define PHX_NO_MESSAGE UINT32_MAX

enum phx_network_event {
    PHX_NETWORK_ISSUE = PHX_EVENTS_NETWORK, // object: queue
    PHX_NETWORK_ARRIVE,                     // object: message, argument: its attempt
    PHX_NETWORK_DELIVER,                    // the same
    PHX_NETWORK_FINISH,                     // the same: its acknowledgement is back
    PHX_NETWORK_RETRY,                      // object: queue, argument: its timer
    PHX_NETWORK_CONNECT,                    // object: source * ranks + target, argument: attempt
    PHX_NETWORK_EVIDENCE,                   // object: the dead rank, argument: its incarnation
    PHX_NETWORK_EVENT_END
};

enum phx_message_state {
    PHX_MESSAGE_POSTED = 1, // waits: for its time, or for its queue
    PHX_MESSAGE_SENT,
    PHX_MESSAGE_LANDED, // in the target's memory, its acknowledgement is not back
    PHX_MESSAGE_FINISHED
};

struct phx_burst { // kept with its first message; a message alone has count 0
    uint64_t wire_ps;
    uint32_t last;
    uint32_t count; // consecutive ones of the queue
};

// A rank posts all its messages at once, and they wait for its port: of many ranks they are the
// largest part of what is walked. So a message is two cache lines, and what few of them need is
// apart.
struct phx_carried {
    struct phx_op op;
    uint64_t posted_ps;
    uint64_t leave_ps, gone_ps, flight_ps, arrive_ps; // as in struct phx_flight
    uint32_t queue;
    uint32_t next;    // in the queue
    uint32_t ordinal; // on its queue, from 1
    uint32_t attempt; // events of earlier attempts are ignored
    uint16_t source;
    uint16_t source_epoch; // low bits of its incarnation: phx_carried_incarnation()
    uint16_t renewals;     // low bits of its queue's, when it was posted
    uint8_t pending;       // events of the core, and bursts of others, that name it
    uint8_t state : 3;     // enum phx_message_state
    bool listed : 1;       // in its queue
    bool resent : 1;
    bool damaged : 1;  // a bit of it flipped on the wire, where the NIC's check sees it
    bool dropped : 1;  // phx_peer_flush(): what is still on the wire of it never lands
    bool has_more : 1; // some of its struct phx_more may not be zero
};
static_assert(sizeof(struct phx_carried) == 128, "two cache lines");

struct phx_more {
    struct phx_burst burst;
    uint64_t got;      // packets at the target, by bit; only of a message that was sent again
    uint32_t received; // go-back-N: packets before this one are at the target
    int32_t status;    // to finish with
    uint32_t backend_code;
    uint32_t held; // NVLink: 1 + its queue's renewals, when it was held up; 0: it was not
};

enum phx_queue_state {
    PHX_QUEUE_READY = 1,
    PHX_QUEUE_WAITING, // for the retry timer
    PHX_QUEUE_PROBING, // sent its oldest message again, alone
    PHX_QUEUE_ERROR    // flushes
};

struct phx_queue {
    uint32_t head;
    uint32_t tail;
    uint32_t unsent;
    uint32_t unposted;
    uint32_t count; // listed
    uint32_t ordinal;
    uint32_t timer; // the one that counts; earlier ones are ignored
    uint32_t probe; // PROBING: the message
    uint8_t state;  // enum phx_queue_state
    uint8_t retries;
    bool armed;    // an issue event is scheduled
    bool deaf;     // the target refused or missed a message and drops all that follow
    bool walked;   // somebody goes through the list: nothing may leave it
    uint32_t held; // NVLink: messages that a path held up and that have not landed yet
    uint32_t
        renewals;    // times it was made anew; earlier messages hold up nothing, nor land on a NIC
    uint32_t ticket; // of the issue event that counts
    uint32_t burst;  // the latest: its first message, while burst_ps is to come
    uint64_t burst_ps; // when its last was posted
    // A later message never overtakes an earlier one, jitter or not.
    uint64_t arrive_ps;
    uint64_t deliver_ps;
    uint64_t finish_ps;
};

enum phx_connection_state {
    PHX_CONNECTION_NONE = 0,
    PHX_CONNECTION_OPENING,
    PHX_CONNECTION_UP,
    PHX_CONNECTION_LOST
};

struct phx_sim_mem { // one handle of one process
    uint8_t *base;
    uint64_t size_bytes;
    // Where the first head_parts times head_bytes lie, if they are apart: each head_step behind the
    // one before.
    uint8_t *head;
    uint32_t head_bytes;
    uint32_t head_step;
    uint64_t nonce;        // of the key
    uint32_t incarnation;  // of the process that holds it
    uint32_t epoch;        // of the handle; 0: it was never taken
    uint32_t remote_index; // imported
    uint32_t remote_epoch;
    uint32_t remote_incarnation;
    uint16_t peer; // registered: who may write, or PHX_WRITER_NONE. Imported: whose it is
    uint8_t head_parts;
    bool imported : 1;
    bool live : 1;
};
static_assert(sizeof(struct phx_sim_mem) == 64, "a cache line");

// From one rank's process to a peer's incarnation. Among very many ranks a message meets all of it
// on its way, and the connection back when it lands: two records instead of six tables.
struct phx_connection {
    uint32_t incarnation;   // of the peer
    uint32_t attempt;       // of connecting
    uint32_t fenced;        // incarnations of the peer up to this one may not write here
    uint8_t state;          // enum phx_connection_state
    bool has_queues;        // they were used, or are about to be
    struct phx_queue queue; // of lane 0; those of the other lanes are apart
    // The first ever that the peer may write, and the first ever of the peer's.
    struct phx_sim_mem mems[2] __attribute__((aligned(64)));
};
static_assert(sizeof(struct phx_connection) == 256, "four cache lines, two of them handles");

struct phx_head_block { // heads of regions: all first parts one behind the other, then all second
                        // ones
    struct phx_head_block *next;
    uint8_t *base;
    uint32_t parts;
    uint32_t part_bytes; // of all first parts
    uint32_t used_bytes; // of those
};

struct phx_sim_transport {
    struct phx_transport base; // first
    struct phx_fabric *fabric;
    struct phx_outcome *outcome;
    struct phx_sim_transport *next; // of all ever made
    struct phx_event *events;       // ring
    uint32_t rank;
    uint32_t incarnation;
    uint32_t event_head;
    uint32_t event_count;
    uint32_t event_capacity; // power of two
};

struct phx_fabric_rank {
    struct phx_sim_transport *transport; // of the process that lives, or lived last
    struct phx_sim_mem *mems;            // that are not a connection's: phx_sim_mem_of()
    uint32_t mem_count;
    uint32_t mem_capacity;
    uint32_t mem_epoch;
    uint32_t incarnation;
    uint32_t flips;        // payloads still to be damaged, behind every check
    uint32_t flips_caught; // and so that the transport's check sees it
    bool alive;
    bool gpu_dead;
    bool counted; // its puts, by f->issued: each is issued by itself
};

struct phx_fabric {
    struct phx_world *world;
    struct phx_core *core;
    struct phx_network *network;
    struct phx_memory *memory;
    struct phx_trace *trace;
    struct phx_fabric_rank *ranks;
    struct phx_connection *connections; // [ranks][ranks], by source
    struct phx_queue *queues;           // [ranks][ranks][lanes - 1], of all lanes but the first
    uint64_t *lane_posted_ps;           // [ranks][lanes] when an op was posted last
    struct phx_sim_transport *transports;
    struct phx_head_block *heads; // the latest
    struct phx_page *pages;
    uint32_t *stalled; // messages on NVLink paths that are down, in order
    uint32_t stalled_count;
    uint32_t stalled_capacity;
    uint32_t page_count;
    uint32_t page_capacity;
    uint32_t *free; // [free_count], messages given back, the latest last
    uint32_t free_count;
    uint32_t fresh; // the first message that is free in order, and the end of those
    uint32_t fresh_end;
    uint32_t rank_count;
    uint32_t lanes;
    uint32_t post_count_max;
    bool bursts;
    uint64_t seed;
    uint64_t traced;              // messages shown to the trace
    struct phx_fault_set *faults; // fault.c; NULL: none
    phx_fabric_issued_fn *issued;
    void *issued_context;
    struct phx_fabric_figures figures;
};

struct phx_page {
    struct phx_carried *messages; // [PHX_PAGE_MESSAGES]
    struct phx_more *more;        // the same
};

#define PHX_PAGE_MESSAGES 1024u
#define PHX_PAGES_SMALL 16u // the first are taken one by one, the others as many at once

static inline struct phx_carried *phx_carried_at(struct phx_fabric *f, uint32_t index)
{
    return &f->pages[index / PHX_PAGE_MESSAGES].messages[index % PHX_PAGE_MESSAGES];
}
static inline struct phx_more *phx_more_at(struct phx_fabric *f, uint32_t index)
{
    phx_carried_at(f, index)->has_more = true;
    return &f->pages[index / PHX_PAGE_MESSAGES].more[index % PHX_PAGE_MESSAGES];
}
static inline uint32_t phx_burst_count(struct phx_fabric *f, uint32_t index)
{
    return phx_carried_at(f, index)->has_more ? phx_more_at(f, index)->burst.count : 0;
}
// Of the process that posted it: its rank's, or an earlier one that ended not 65536 starts ago.
static inline uint32_t phx_carried_incarnation(const struct phx_fabric *f,
                                               const struct phx_carried *m)
{
    uint32_t now = f->ranks[m->source].incarnation;
    return now - ((now - m->source_epoch) & 0xFFFFu);
}
static inline struct phx_flight phx_carried_flight(const struct phx_carried *m)
{
    return (struct phx_flight){
        .source = m->source,
        .target = m->op.peer.rank,
        .size_bytes = m->op.wire_bytes,
        .who = m->queue,
        .number = (uint64_t)m->ordinal << 8 | (m->attempt & 0xFFu),
        .leave_ps = m->leave_ps,
        .gone_ps = m->gone_ps,
        .flight_ps = m->flight_ps,
        .arrive_ps = m->arrive_ps,
    };
}
static inline void phx_carried_flies(struct phx_carried *m, const struct phx_flight *flight)
{
    m->leave_ps = flight->leave_ps;
    m->gone_ps = flight->gone_ps;
    m->flight_ps = flight->flight_ps;
    m->arrive_ps = flight->arrive_ps;
}
static inline struct phx_connection *phx_connection_at(struct phx_fabric *f, uint32_t source,
                                                       uint32_t target)
{
    return &f->connections[(uint64_t)source * f->rank_count + target];
}
static inline struct phx_queue *phx_connection_queue(struct phx_fabric *f, struct phx_connection *c,
                                                     uint32_t lane)
{
    if (lane == 0)
        return &c->queue;
    return &f->queues[(size_t)(c - f->connections) * (f->lanes - 1) + lane - 1];
}
static inline struct phx_queue *phx_queue_at(struct phx_fabric *f, uint32_t queue)
{
    return phx_connection_queue(f, &f->connections[queue / f->lanes], queue % f->lanes);
}
static inline struct phx_queue *phx_queue_of(struct phx_fabric *f, const struct phx_carried *m)
{
    return phx_connection_queue(f, phx_connection_at(f, m->source, m->op.peer.rank), m->op.lane);
}
// Handle number `index` of a rank, in the order of peers and then of taking; NULL: there is none.
// One of a connection was never taken if its epoch is 0.
static inline struct phx_sim_mem *phx_sim_mem_of(const struct phx_fabric *f, uint32_t rank,
                                                 uint32_t index)
{
    if (index / 2 < f->rank_count)
        return &f->connections[(uint64_t)rank * f->rank_count + index / 2].mems[index % 2];
    index -= 2 * f->rank_count;
    return index < f->ranks[rank].mem_count ? &f->ranks[rank].mems[index] : NULL;
}

// --- fabric.c -----------------------------------------------------------------------------------

void phx_fabric_handle_events(struct phx_fabric *f);
void phx_fabric_free_messages(struct phx_fabric *f);
// Makes the queues of a connection.
void phx_queues_make(struct phx_fabric *f, struct phx_connection *c);
// Appends op to its queue, to be issued at posted_ps. False: the queue is full.
bool phx_queue_post(struct phx_fabric *f, uint32_t source, const struct phx_op *op,
                    uint64_t posted_ps);
// Schedules the issue of what is posted and not issued, if that is not scheduled yet.
void phx_queue_arm(struct phx_fabric *f, uint32_t queue);
// The rank goes on: what its workers had posted ahead of the clock is issued now, in that order.
// False: no memory.
bool phx_fabric_release_held(struct phx_fabric *f, uint32_t rank);
// Sends what is issued and unsent, in order, as far as the queue's state allows.
void phx_queue_send(struct phx_fabric *f, uint32_t queue);
// Everything from message `index` on that was sent counts as unsent again.
void phx_queue_rewind(struct phx_fabric *f, uint32_t queue, uint32_t index);
// Ends every message of the queue: `first` with `status`, the others with `rest`. Those that a
// worker ahead of the clock posted end too: to it they are outstanding.
void phx_queue_flush(struct phx_fabric *f, uint32_t queue, uint32_t first, int status,
                     uint32_t code, int rest);
// Its process died: ends silently what is not on the wire.
void phx_queue_orphan(struct phx_fabric *f, uint32_t queue);
void phx_carried_schedule(struct phx_fabric *f, uint32_t index, uint64_t at_ps,
                          enum phx_network_event type);
// 0, or why the op fails before anything leaves.
int phx_send_check(struct phx_fabric *f, const struct phx_carried *m);
// It leaves, now; the caller schedules its arrival.
void phx_carried_depart(struct phx_fabric *f, uint32_t index);
// Frees it when it is finished and nothing names it any more.
void phx_carried_release(struct phx_fabric *f, uint32_t index);
// True while the process that posted it lives.
bool phx_carried_owned(const struct phx_fabric *f, const struct phx_carried *m);
// Reports the outcome, once; the message stays until no event names it.
void phx_carried_finish(struct phx_fabric *f, uint32_t index, int status, uint32_t code);
// Finishes now when silent, else when the acknowledgement is back.
void phx_carried_acknowledge(struct phx_fabric *f, uint32_t index, int status, uint32_t code);
struct phx_place {       // where a message comes from and where it goes
    const uint8_t *from; // NULL: there is no payload
    uint8_t *payload;
    uint64_t *word; // NULL: it stores none
};
// 0 and the place, or why the target refuses, or PHX_ERR_PROTECTION when the payload's memory was
// released.
int phx_carried_place(struct phx_fabric *f, const struct phx_carried *m, struct phx_place *place);
// True when the target let no message of this source's incarnation in any more.
bool phx_carried_fenced(struct phx_fabric *f, const struct phx_carried *m);
// Copies bytes [begin, end) of the payload; with `signal`, stores the word after them.
void phx_carried_land(struct phx_fabric *f, struct phx_carried *m, const struct phx_place *place,
                      uint64_t begin, uint64_t end, bool signal);

// --- nic.c, nvlink.c ----------------------------------------------------------------------------

void phx_nic_deliver(struct phx_fabric *f, uint32_t index);
void phx_nic_retry(struct phx_fabric *f, uint32_t queue);
// The op was refused before it left: the queue pair goes to error.
void phx_nic_refuse(struct phx_fabric *f, uint32_t index, int status);
void phx_nvlink_deliver(struct phx_fabric *f, uint32_t index);
void phx_nvlink_healed(void *context);
// What is on its way no more holds up nothing.
void phx_nvlink_release(struct phx_fabric *f, uint32_t index);

// --- burst.c ------------------------------------------------------------------------------------

// Issues the first unposted message of the queue, whose time has come, and those that travel with
// it. False: nothing was done, it goes alone.
bool phx_burst_issue(struct phx_fabric *f, uint32_t queue);
// What the queue's bursts hold of a later time than now has not left, and is unposted again.
void phx_burst_cut(struct phx_fabric *f, uint32_t queue);
// Message `index`, which was dropped, is on its way no more; nor is what travels with it.
void phx_burst_drop(struct phx_fabric *f, uint32_t index);
void phx_burst_cut_rank(struct phx_fabric *f, uint32_t rank);
void phx_burst_cut_all(void *fabric);

// --- outcome.c ----------------------------------------------------------------------------------

// Hangs the checker of outcomes on a transport's hooks. False: no memory.
bool phx_outcome_attach(struct phx_sim_transport *transport);
void phx_outcome_free(struct phx_sim_transport *transport);
// An event that reports the peer lost is on its way to whoever polls.
void phx_outcome_loss_told(struct phx_sim_transport *transport, uint32_t peer);
// The peer is lost now: what is posted from now on is not among what ends before that is reported.
void phx_outcome_lost(struct phx_sim_transport *transport, uint32_t peer);

// --- transport_sim.c ----------------------------------------------------------------------------

// 0, or why this process may not use that handle.
int phx_sim_mem_check(const struct phx_fabric *f, uint32_t rank, uint32_t incarnation,
                      struct phx_mem mem, bool imported, uint64_t offset_bytes,
                      uint64_t size_bytes);
// Where size_bytes of registered memory lie; NULL: outside, or not in one piece.
uint8_t *phx_sim_mem_at(const struct phx_sim_mem *mem, uint64_t offset_bytes, uint64_t size_bytes);
// True, with the writer and the offset, if a peer may write the address in this rank's memory.
bool phx_sim_mem_find(const struct phx_fabric *f, uint32_t rank, const void *address,
                      uint32_t *writer, uint64_t *offset_bytes);
void phx_sim_event_push(struct phx_fabric *f, uint32_t rank, struct phx_event *event);
// Ends all ops from rank to peer, then reports the peer lost. Once for an incarnation.
void phx_connection_lose(struct phx_fabric *f, uint32_t rank, uint32_t peer, uint32_t failed,
                         int status, uint32_t code, int rest);
void phx_connection_opened(struct phx_fabric *f, uint32_t connection, uint64_t attempt);
void phx_connection_evidence(struct phx_fabric *f, uint32_t dead, uint64_t incarnation);

#endif
