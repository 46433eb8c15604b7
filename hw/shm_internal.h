// hw/shm_internal.h: what the parts of the shared memory transport share.
//
//   shm.c           create, close, connect, fence; what is known of each peer
//   shm_post.c      post and poll: the way of a put
//   shm_memory.c    regions and imports: handles and keys
//   shm_files.c     what regions are made of: memory files in place of registered pages. Device
//                   memory is cuda_memory.c
//   shm_pages.c     which pages those files have, and on which memory node
//   shm_service.c   the thread that serves peers, and those that watch them end
//   shm_wire.c      requests and answers on the sockets, with file descriptors
//
// Tables have their full size from the start and entries are published by their epoch, so that
// workers read them without a lock.

#ifndef PHX_HW_SHM_INTERNAL_H
#define PHX_HW_SHM_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "engine/limits.h"
#include "engine/transport_ops.h"
#include "hw/shm.h"
#include "kernels/leaves.h"

#define PHX_SHM_MEMS 16384u    // handles of one process, ever
#define PHX_SHM_POSTS 128u     // ops with an event per (peer, lane) that control has not seen
#define PHX_SHM_ANSWER_MS 2000 // a peer that serves no file for so long is not reachable

// What a process shows to all its peers; they map it read-only.
struct phx_shm_state {
    uint64_t magic;
    uint32_t version;
    uint32_t rank;
    uint32_t incarnation;
    uint32_t ranks;
    uint32_t fenced[PHX_RANKS_MAX];    // incarnations of each peer up to this one write no more
    uint32_t live_epoch[PHX_SHM_MEMS]; // of each handle; 0: released
};
#define PHX_SHM_MAGIC UINT64_C(0x50485853484d3032) // "PHXSHM02"
#define PHX_SHM_VERSION 3u
#define PHX_SHM_PAGE_BYTES 4096u

// What its peers write too. `life[r]` is held by the owner's service thread while it lives and
// waited for by rank r alone: a dead owner's lock wakes one waiter, so each has its own.
struct phx_shm_door {
    _Alignas(64) struct phx_bell bell;
    _Alignas(64) pthread_mutex_t life[PHX_RANKS_MAX];
};

struct phx_shm_mem {
    uint32_t epoch; // 0: never used, or released. Published last
    uint16_t peer;  // registered: who may write, or PHX_WRITER_NONE. Imported: whose it is
    bool imported;
    uint8_t *base; // NULL: an import whose owner was gone
    uint64_t size_bytes;
    uint64_t nonce; // of a registered region
    int file;       // of a registered region; -1: none
    uint64_t file_offset;
    bool is_reserved; // its pages are reserved huge ones
    uint64_t backing;      // the memory's own: what stands behind it
    uint64_t mapped_bytes; // likewise: how much of it
    uint16_t remote_incarnation;
    uint32_t remote_index; // imported: the owner's handle
    uint32_t remote_epoch;
};

enum phx_shm_peer_state { // in this order, never back but to OPEN by a new connection
    PHX_SHM_PEER_NONE = 0,
    PHX_SHM_PEER_UP,
    PHX_SHM_PEER_LOST
};

struct phx_shm_link { // one connection to one incarnation of a peer; kept until close
    struct phx_shm *shm;
    struct phx_shm_link *next;
    uint32_t rank;
    uint32_t incarnation;
    int socket; // stays open while both live
    int pidfd;  // -1: a peer inside this process
    const struct phx_shm_state *page;
    struct phx_shm_door *door;
    pthread_t watcher;
    bool is_watched;
};

struct phx_shm_peer {
    uint32_t state; // enum phx_shm_peer_state
    uint16_t incarnation;
    bool up_due; // an event that poll has to report
    bool lost_due;
    int32_t lost_status;
    uint32_t evidence; // enum phx_shm_evidence
    const struct phx_shm_state *page;
    struct phx_shm_door *door;
};

struct phx_shm_lane {
    uint64_t pushed;          // events ever, by the lane's worker
    uint64_t taken;           // by the control thread
    uint32_t active;          // 1 + the rank that an op goes to right now
    struct phx_event *events; // [capacity]
    uint32_t *posted;         // [ranks] ops with an event, by the worker
    uint32_t *seen;           // [ranks] of them, those that control has looked at
    _Alignas(64) char apart[64];
};

struct phx_shm;
struct phx_shm_answer;

enum phx_shm_memory_kind { PHX_SHM_MEMORY_FILES = 1, PHX_SHM_MEMORY_CUDA };

// What regions are made of. The control thread calls it, under the lock but for map().
struct phx_shm_memory {
    const char *name;   // of the transport that it makes
    uint32_t kind;      // enum phx_shm_memory_kind
    bool makes_memory;  // registered memory is its own: base is NULL before make()
    uint8_t device[16]; // the UUID of the GPU whose memory it is
    void *context;
    // m has peer, base and size_bytes. Gives it a file, if a peer writes it, and a base if it has
    // none; then it is zeroed.
    int (*make)(struct phx_shm *shm, struct phx_shm_mem *m);
    // Memory that nobody else maps in its place, with the same bytes and base, and no file.
    int (*renew)(struct phx_shm *shm, struct phx_shm_mem *m);
    // It is released. May be called again.
    void (*drop)(struct phx_shm *shm, struct phx_shm_mem *m);
    // A peer's file becomes m->base; it is closed afterwards. file -1: the owner is gone, or does
    // not give it: base may stay NULL. A refusal may go to shm->base.said.
    int (*map)(struct phx_shm *shm, struct phx_shm_mem *m, int file,
               const struct phx_shm_answer *answer);
    void (*unmap)(struct phx_shm *shm, struct phx_shm_mem *m);
};
extern const struct phx_shm_memory phx_shm_files;

struct phx_shm {
    struct phx_transport base; // first
    struct phx_shm_options options;
    const struct phx_shm_memory *memory;
    struct phx_shm_state *page;
    struct phx_shm_door *door;
    int page_file;
    int door_file;
    int listener;
    int wakeup; // eventfd of the service thread
    int epoll;
    pthread_t service;
    bool is_served;
    uint32_t stopping;        // 1: close; 2: die
    pthread_mutex_t lock;     // peers, mems' files, nothing that workers need
    struct phx_shm_mem *mems; // [PHX_SHM_MEMS]
    uint32_t mem_count;
    struct phx_shm_peer *peers; // [ranks]
    struct phx_shm_link *links; // all ever made
    struct phx_shm_lane *lanes; // [lanes]
    uint32_t lane_capacity;
    const struct phx_leaves *leaves; // they copy
};

struct phx_shm_key { // the opaque 32 bytes
    uint16_t rank;
    uint16_t incarnation;
    uint16_t writer;
    uint16_t reserved;
    uint32_t index;
    uint32_t epoch;
    uint64_t size_bytes;
    uint64_t nonce;
};
static_assert(sizeof(struct phx_shm_key) == sizeof(struct phx_mem_key), "a key is 32 bytes");

static inline struct phx_shm *phx_shm_of(struct phx_transport *t)
{
    return (struct phx_shm *)(void *)t;
}

// --- shm_wire.c ---------------------------------------------------------------------------------

enum phx_shm_request_kind {
    PHX_SHM_REQUEST_HELLO = 1,
    PHX_SHM_REQUEST_REGION,
    PHX_SHM_REQUEST_CREW // what a crew shares (crew_join.c), at incarnation 0 of its rank 0
};

struct phx_shm_request {
    uint64_t magic;
    uint64_t job;
    uint32_t kind;
    uint32_t rank;        // who asks
    uint32_t incarnation; // of who asks
    uint32_t index;       // REGION
    uint32_t epoch;
    uint32_t reserved;
    uint64_t nonce;
};
struct phx_shm_answer {
    uint64_t magic;
    int32_t error; // 0, or a negative enum phx_error
    uint32_t rank;
    uint32_t incarnation;
    uint32_t file_count;
    uint64_t size_bytes; // REGION
    uint64_t offset_bytes; // of it in the file
    uint64_t mapped_bytes; // REGION: of the memory behind it
    uint32_t memory;       // REGION: enum phx_shm_memory_kind
    uint32_t reserved;
    uint8_t device[16]; // REGION: the UUID of the GPU that holds it
};
// A memory file of this size, sealed against resizing; `flags` beside the usual ones. -1 with
// errno.
int phx_shm_file(const char *name, uint64_t size_bytes, uint32_t flags);
int phx_shm_listen(uint64_t job, uint32_t rank, uint32_t incarnation); // -1 with errno
// Connects, sends, and waits at most PHX_SHM_ANSWER_MS for the answer and up to two files.
// 0 (answer->error may still say no), or a negative enum phx_error. The socket stays open.
int phx_shm_ask(uint32_t rank, uint32_t incarnation, const struct phx_shm_request *request,
                struct phx_shm_answer *answer, int files[2], int *socket);
bool phx_shm_send_answer(int socket, const struct phx_shm_answer *answer, const int *files);

// --- shm_memory.c -------------------------------------------------------------------------------

int phx_shm_mem_register(struct phx_transport *t, void *base, uint64_t size_bytes, uint16_t writer,
                         struct phx_mem *mem, struct phx_mem_key *key);
int phx_shm_mem_import(struct phx_transport *t, struct phx_peer peer, const struct phx_mem_key *key,
                       struct phx_mem *mem);
void phx_shm_mem_release(struct phx_transport *t, struct phx_mem mem);
void *phx_shm_mem_base(struct phx_transport *t, struct phx_mem mem);
// Puts fresh memory in the place of every region that this peer may write.
void phx_shm_retire(struct phx_shm *shm, uint32_t peer);
void phx_shm_mems_free(struct phx_shm *shm);
// The live entry that a handle names; NULL: none.
struct phx_shm_mem *phx_shm_mem_find(const struct phx_shm *shm, struct phx_mem mem);

// --- shm_service.c ------------------------------------------------------------------------------

int phx_shm_service_start(struct phx_shm *shm, struct phx_message *message);
void phx_shm_service_stop(struct phx_shm *shm, bool dies);
// Has the link's peer watched from now on. Under the lock.
int phx_shm_watch(struct phx_shm_link *link);
void phx_shm_watch_stop(struct phx_shm *shm); // all links
// What the peer's lock says of its end, without waiting; `otherwise` if it says nothing.
uint32_t phx_shm_lock_says(struct phx_shm_link *link, uint32_t otherwise);

// --- shm.c --------------------------------------------------------------------------------------

// Something ended this incarnation of the peer: later ops fail, the event is due. Any thread.
void phx_shm_lose(struct phx_shm *shm, uint32_t rank, uint32_t incarnation, uint32_t evidence);
void phx_shm_notify(struct phx_shm *shm);

// --- shm_post.c ---------------------------------------------------------------------------------

uint32_t phx_shm_post(struct phx_transport *t, const struct phx_op *ops, uint32_t count);
uint32_t phx_shm_poll(struct phx_transport *t, struct phx_event *events, uint32_t capacity);
// Control looked at what was posted: lanes have room again.
void phx_shm_progress(struct phx_shm *shm);

#endif
