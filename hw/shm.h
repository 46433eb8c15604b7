// hw/shm.h: engine/transport.h between processes of one host, over shared memory.
//
// A put is a copy into the peer's region by the worker that posts it; a signal is a release store.
// There is nothing in flight: an op has its outcome when phx_post() returns.
//
// Every region that a peer may write is a memory file (memfd) of its own, mapped in place of the
// registered pages and passed over a socket to that one peer. So a fence, or a release, needs no
// answer from the peer, stopped or not: the owner puts fresh memory in the region's place, and what
// a zombie still stores lands in pages that nobody reads. Nothing has a name in the file system:
// after kill -9 nothing is left.
//
// A peer's end is noticed in three ways; the first one decides, and the event's backend_code names
// it (enum phx_shm_evidence). Its robust lock is proof that the process is ending: its other
// threads (and, for ten milliseconds, a GPU's kernels) may still store. Its pidfd is proof that it
// is gone. A closed connection alone is suspicion.
//
// Threads: the rules of engine/transport.h. One thread of its own serves memory files to peers and
// one for each connected peer waits for its lock.

#ifndef PHX_HW_SHM_H
#define PHX_HW_SHM_H

#include <stdint.h>

#include "engine/transport.h"
#include "hw/bell.h"

#ifdef __cplusplus
extern "C" {
#endif

struct phx_shm;
struct phx_shm_memory; // hw/shm_internal.h

struct phx_shm_options {
    uint64_t job; // the same on all ranks of a job and on no other job: names the sockets
    uint32_t rank;
    uint32_t ranks;       // 1 to PHX_RANKS_MAX
    uint32_t incarnation; // of this process, from 1
    uint32_t lanes;       // 1 to PHX_WORKERS_MAX
    // Called by any thread when phx_poll() has something new. NULL: none.
    void (*notify)(void *context);
    void *notify_context;
    // What regions are made of. NULL: memory files. Borrowed until the transport closes.
    const struct phx_shm_memory *memory;
};

enum phx_shm_evidence {
    PHX_SHM_EVIDENCE_NONE = 0,
    PHX_SHM_EVIDENCE_LOCK,   // the kernel gave up its lock: proof that it is ending
    PHX_SHM_EVIDENCE_PIDFD,  // the process ended: proof that it is gone
    PHX_SHM_EVIDENCE_SOCKET, // its connection closed: suspicion
    PHX_SHM_EVIDENCE_LEFT,   // it closed its transport
    PHX_SHM_EVIDENCE_REFUSED // it did not answer, or answered for another job or incarnation
};
const char *phx_shm_evidence_text(uint32_t evidence);

// Peers can reach this process once it returned 0. PHX_ERR_INVALID names the option; PHX_ERR_IO the
// system call that failed.
int phx_shm_create(const struct phx_shm_options *options, struct phx_shm **shm,
                   struct phx_message *message);
struct phx_transport *phx_shm_transport(struct phx_shm *shm); // closing it frees the phx_shm

// What peers ring when they stored a signal here; the executor's workers sleep on it.
struct phx_bell *phx_shm_bell(struct phx_shm *shm);

// What lies under this process's regions: the rest are ordinary pages.
struct phx_shm_pages_count {
    uint64_t region_bytes;
    uint64_t reserved_bytes;    // reserved huge pages (hugetlb)
    uint64_t transparent_bytes; // transparent huge pages that are mapped now, imports included
};
void phx_shm_pages_count(struct phx_shm *shm, struct phx_shm_pages_count *count);

// The calls of a process that is gone: what a test uses to let an endpoint die inside a living
// process. Its threads end without releasing locks or closing in order.
void phx_shm_die(struct phx_shm *shm);

#ifdef __cplusplus
}
#endif

#endif
