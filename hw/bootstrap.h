// hw/bootstrap.h: how the ranks of a job find each other: who is there, the job's number, and
// all-to-alls of small blobs (cards, keys, addresses) before there is a transport.
//
//     tcp://HOST:PORT   a rendezvous serves there: `phx rendezvous`, or a rank with `serve`
//     file://DIRECTORY  ranks of one host, by files; nobody serves
//
// 1. Ranks prove to each other that they hold the job's secret; nobody else is told anything. What
//    goes over a socket is encrypted. The secret is never printed.
// 2. Join, exchange and barrier are collective: every rank calls the same ones in the same order.
//    Each waits for at most timeout_ms (and one second more, to ask who is missing).
// 3. Once all ranks have joined, a rank that ends takes no other along: its blobs are zeros, and
//    whoever calls is told. A rank number whose process is gone may join again, with the next
//    incarnation; it takes part from the first exchange that begins after its join.
// 4. Once exchanges are over, nobody needs the rendezvous: if it dies, what ranks already have
//    stays good. Lost are later exchanges and barriers (PHX_ERR_PEER_LOST) and joining again.
//
// One thread at a time per struct phx_bootstrap. docs/bootstrap.md has the protocol.

#ifndef PHX_HW_BOOTSTRAP_H
#define PHX_HW_BOOTSTRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/phalanx.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PHX_BOOTSTRAP_URL_MAX 256u
#define PHX_BOOTSTRAP_SECRET_MIN 16u
#define PHX_BOOTSTRAP_SECRET_MAX 256u
#define PHX_BOOTSTRAP_BLOB_MAX 65536u
#define PHX_BOOTSTRAP_TIMEOUT_MS 60000u // where options say 0

struct phx_bootstrap_options {
    const char *url;
    uint32_t rank;
    uint32_t ranks;        // 1 to PHX_RANKS_MAX
    const uint8_t *secret; // random bytes or text, the same on all ranks; borrowed during join
    size_t secret_bytes;   // PHX_BOOTSTRAP_SECRET_MIN to _MAX
    uint32_t timeout_ms;   // 0: PHX_BOOTSTRAP_TIMEOUT_MS
    bool serve;            // tcp: this process also serves the rendezvous, in a thread
};

struct phx_bootstrap;

// What phx_bootstrap_env() found; the options that it fills point in here.
struct phx_bootstrap_env {
    char url[PHX_BOOTSTRAP_URL_MAX];
    uint8_t secret[PHX_BOOTSTRAP_SECRET_MAX];
};
// Reads rank, ranks, url, secret, timeout and serve from the environment. PHX_* come first, then
// what torchrun sets, then what Open MPI's mpirun sets; docs/bootstrap.md lists them. A variable
// that is missing, malformed or in conflict is named; the secret's text never is.
int phx_bootstrap_env(struct phx_bootstrap_env *env, struct phx_bootstrap_options *options,
                      struct phx_message *message);
// The first variable that is set of those that say which rank this is, and of how many; NULL: no
// launcher seems to have started this process.
const char *phx_bootstrap_env_launched(void);
// The secret alone, from PHX_SECRET_FILE or PHX_SECRET, into secret[PHX_BOOTSTRAP_SECRET_MAX].
int phx_bootstrap_secret(uint8_t *secret, size_t *secret_bytes, struct phx_message *message);
void phx_bootstrap_wipe(void *secret, size_t bytes); // zeroes; no compiler leaves it out

// True if this build has libsodium; without it phx_bootstrap_join() returns PHX_ERR_UNSUPPORTED.
bool phx_bootstrap_is_built(void);

// Returns when all ranks have joined. PHX_ERR_TIMEOUT names the ranks that are missing,
// PHX_ERR_STATE a rank number that is taken by a living process, PHX_ERR_MISMATCH another number of
// ranks, PHX_ERR_PROTECTION another secret.
int phx_bootstrap_join(const struct phx_bootstrap_options *options, struct phx_bootstrap **b,
                       struct phx_message *message);

uint64_t phx_bootstrap_job(const struct phx_bootstrap *b);         // random, the same on all ranks
uint32_t phx_bootstrap_incarnation(const struct phx_bootstrap *b); // of this rank number, from 1

// mine, theirs: [ranks][bytes]; blob i of mine goes to rank i, blob i of theirs came from rank i.
// bytes: the same on all ranks, 0 to PHX_BOOTSTRAP_BLOB_MAX. present: the ranks whose blobs came;
// those of the others are zeros. With present NULL a missing rank is PHX_ERR_PEER_LOST, by name.
// After an error `theirs` is unspecified, and only phx_bootstrap_leave() may follow, unless it was
// PHX_ERR_INVALID or PHX_ERR_PEER_LOST for a missing rank.
int phx_bootstrap_exchange(struct phx_bootstrap *b, const void *mine, void *theirs, uint32_t bytes,
                           struct phx_rank_set *present, struct phx_message *message);
// An exchange of nothing: all ranks that live have come here. Ranks that are gone are no error.
int phx_bootstrap_barrier(struct phx_bootstrap *b, struct phx_message *message);

// A rank that serves first lets the others have what is theirs of exchanges that are over, for at
// most timeout_ms. NULL is allowed.
void phx_bootstrap_leave(struct phx_bootstrap *b);

#ifdef __cplusplus
}
#endif

#endif
