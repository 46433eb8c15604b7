// engine/transport.h: moves bytes between ranks and reports what became of them.
//
// Every transport implements engine/transport_ops.h; nothing above this file knows which one it
// holds. tests/conformance holds all of them to these rules:
//
//   1. Every op that phx_post() accepts yields exactly one PHX_EVENT_OP, even if its peer dies;
//      an op with PHX_OP_SILENT yields one only when it fails.
//   2. A lane is an ordered path to each peer. The signal of an op becomes visible after the
//   payload
//      of that op and of all earlier ops on the same (peer, lane), and signals on one (peer, lane)
//      become visible in the order in which they were posted. Payload bytes have no order among
//      themselves; there is no order between lanes.
//   3. Status 0: the source is reusable and the payload has reached the peer's memory. Status < 0:
//      nothing is known of the payload; it may have landed, or may still land, until the target
//      fences this peer.
//   4. A target reads a payload only after it has read, with acquire, a signal that follows it.
//   5. PHX_PEER_LOST follows the events of all ops then outstanding to that peer; later ops to that
//      incarnation only fail. It is evidence, not a verdict: membership judges.
//   6. A signal is a 64-bit store into 8-byte aligned memory of the target region. Nothing is
//   added.
//   7. An access outside the region, with a key of an earlier incarnation, or to released memory
//      changes nothing at the target and fails as PHX_ERR_PROTECTION or PHX_ERR_STALE.
//
// Threads: a lane belongs to one worker, which alone posts on it; different lanes may be posted on
// at the same time. Everything else belongs to the rank's control thread.
// Memory: post and poll never allocate. Errors: int functions return 0 or a negative enum phx_error
// and write outputs only on 0.

#ifndef PHX_ENGINE_TRANSPORT_H
#define PHX_ENGINE_TRANSPORT_H

#include <assert.h>
#include <stdint.h>

#include "engine/error.h"
#include "engine/handle.h"

#ifdef __cplusplus
extern "C" {
#endif

struct phx_transport;

enum phx_op_code { PHX_OP_PUT = 1 };
enum phx_op_flag {
    PHX_OP_SIGNAL = 1, // store signal_value at signal_offset of the target region
    PHX_OP_SILENT = 2  // no event on success
};
enum phx_event_kind { PHX_EVENT_OP = 1, PHX_EVENT_PEER };
enum phx_peer_state { PHX_PEER_UP = 1, PHX_PEER_LOST };

struct phx_op {    // one cache line; kernels on a GPU read the same layout
    uint8_t code;  // enum phx_op_code
    uint8_t flags; // enum phx_op_flag
    uint16_t lane; // below lane_count
    struct phx_peer peer;
    uint32_t size_bytes; // payload; 0 to signal alone
    uint32_t
        wire_bytes; // what the wire is charged for; at least size_bytes, more with thin payloads
    struct phx_span source; // registered memory of this rank
    struct phx_span target; // imported memory of the peer
    uint64_t signal_value;
    uint32_t signal_offset; // into target.mem, 8-byte aligned
    uint32_t token;         // handed back in the event
};
static_assert(sizeof(struct phx_op) == 64, "one cache line; kernels read the same layout");

struct phx_event {
    uint8_t kind;       // enum phx_event_kind
    uint8_t peer_state; // PEER: enum phx_peer_state
    uint16_t lane;      // OP: as posted
    struct phx_peer peer;
    int32_t status;        // OP: 0 or a negative enum phx_error. PEER: why it was lost
    uint32_t backend_code; // for logs alone, such as an ibv_wc_status
    uint32_t token;        // OP: as posted
    uint32_t reserved;     // zero, so that traces compare byte for byte
    uint64_t at_ns;        // on this transport's clock
};

struct phx_transport_info { // fixed at open
    const char *name;       // "sim", "shm", "verbs", "ibgda"
    uint16_t rank;          // of the owner
    uint16_t incarnation;   // of the owner: the epoch in its struct phx_peer, from 1
    uint16_t lane_count;
    uint16_t is_copied_at_post; // not 0: the source of an op is reusable once phx_post() took it
    uint32_t post_count_max;    // ops in flight per (peer, lane) before phx_post() says "full"
    uint32_t makes_memory;      // not 0: registered memory is the transport's own (phx_mem_base())
};

const struct phx_transport_info *phx_transport_info(const struct phx_transport *t);
// Why the last register, import or connect failed, if there is more to say than its error; else "".
const char *phx_transport_said(const struct phx_transport *t);

// Registers base[0..size_bytes) for local use as a source and for remote writes by peer `writer`
// alone (every region has one writer; PHX_WRITER_NONE: a source only). The memory is borrowed until
// phx_mem_release(); the key goes to the writer over the bootstrap. A transport that makes_memory
// is given base NULL: it makes zeroed memory where the rank's workers reach it (on a GPU), and
// phx_mem_base() says where.
#define PHX_WRITER_NONE 0xFFFFu
int phx_mem_register(struct phx_transport *t, void *base, uint64_t size_bytes, uint16_t writer,
                     struct phx_mem *mem, struct phx_mem_key *key);
// A rank is its own peer too: it registers, imports, connects and posts to itself like to any
// other. Makes a peer's registered memory a possible target of ops.
int phx_mem_import(struct phx_transport *t, struct phx_peer peer, const struct phx_mem_key *key,
                   struct phx_mem *mem);
// Idempotent. Ops in flight that still name it fail as PHX_ERR_PROTECTION or PHX_ERR_STALE.
void phx_mem_release(struct phx_transport *t, struct phx_mem mem);
// Where the rank's workers find registered memory, or store into an imported one. Only of a
// transport that makes_memory; stays the same until the release.
void *phx_mem_base(struct phx_transport *t, struct phx_mem mem);
// Moves the first `parts` times part_bytes of registered memory, which nobody has used yet, to
// where the transport keeps the first parts of all regions side by side, and the second ones, and
// so on, and says where each lies in at[parts]: what is written often of very many regions is then
// in few pages, and what one operation writes is not among what the next one does. Returns 0: they
// stay. To its writer a region is one range as before, but what reaches from one part into another
// fails as PHX_ERR_PROTECTION. parts: 1 to PHX_MEM_HEADS_MAX.
#define PHX_MEM_HEADS_MAX 4u
int phx_mem_heads(struct phx_transport *t, struct phx_mem mem, uint32_t part_bytes, uint32_t parts,
                  void **at);

// Begins connecting every lane to a peer; the answer comes as PHX_EVENT_PEER, up or lost.
int phx_peer_connect(struct phx_transport *t, struct phx_peer peer);
// On return, nothing that this incarnation of the peer sent can write here any more, and our ops to
// it are on their way to fail as PHX_ERR_PEER_LOST. Idempotent.
void phx_peer_fence(struct phx_transport *t, struct phx_peer peer);

// Ops to this peer that have not finished fail as PHX_ERR_FLUSHED. On return none of them reads its
// source any more; some may have landed. Later ops start on lanes made anew. Idempotent.
void phx_peer_flush(struct phx_transport *t, struct phx_peer peer);

// Takes a prefix of ops and returns its length; less than count means that a lane's queue is full.
// There is no other failure: a bad peer or region shows in that op's event.
uint32_t phx_post(struct phx_transport *t, const struct phx_op *ops, uint32_t count);
// Moves up to capacity events out, oldest first, and returns how many. Never waits.
uint32_t phx_poll(struct phx_transport *t, struct phx_event *events, uint32_t capacity);

// How many ops to this peer were accepted and have not finished. Who releases memory or leaves
// waits for 0 first: what is in flight then fails.
uint64_t phx_pending(const struct phx_transport *t, struct phx_peer peer);

void phx_transport_close(struct phx_transport *t); // NULL is allowed

#ifdef __cplusplus
}
#endif

#endif
