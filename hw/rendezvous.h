// hw/rendezvous.h: the rendezvous that serves a job's bootstrap, and a thread that runs one.
//
// phx_rendezvous_* is a state machine without socket, clock or thread: connections come and go,
// bytes go in and out, time is passed in. It allocates at create, and once for each exchange.
// What holds whoever connects, and whatever he sends:
//
// 1. Someone without the secret holds a slot of PHX_WIRE_SMALL_MAX bytes, for handshake_ms at most;
//    when all waiting_max slots are held, a newcomer takes the oldest one's.
// 2. A rank holds two buffers of a message or so, made at create. Output that it does not read
// waits
//    in its own buffer; if it asks for more than that holds, it is dropped.
// 3. What all ranks together give to one exchange is at most exchange_bytes_max; two are held at
//    most.
// 4. Nobody waits for a slow or silent connection, except for the blobs of a rank that lives.
//
// phx_rendezvous_server_* is the thin loop over epoll and sockets.

#ifndef PHX_HW_RENDEZVOUS_H
#define PHX_HW_RENDEZVOUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct phx_rendezvous;

struct phx_rendezvous_options {
    uint32_t ranks;              // 1 to PHX_RANKS_MAX
    const uint8_t *secret;       // borrowed during create
    size_t secret_bytes;         // PHX_BOOTSTRAP_SECRET_MIN to _MAX
    uint32_t waiting_max;        // connections that have proved nothing; 0: 1024
    uint32_t handshake_ms;       // 0: 5000
    uint64_t exchange_bytes_max; // 0: 1 GiB
    // Fills `to` with random bytes; NULL: the system's. A test passes its own.
    void (*random)(void *context, void *to, size_t bytes);
    void *random_context;
};

struct phx_rendezvous_stats {
    uint64_t accepted; // connections
    uint64_t evicted;  // by newer ones
    uint64_t expired;  // did not finish the handshake in time
    uint64_t refused;  // had not proved anything: malformed, another version, another secret
    uint64_t rejected; // knew the secret: rank taken, other sizes, out of order
    uint64_t joined;   // ranks, again after a death included
    uint64_t exchanges;
    uint32_t last_reason; // enum phx_wire_reason of the last refused or rejected; 0: none
};

#define PHX_RENDEZVOUS_NONE UINT32_MAX // no connection

int phx_rendezvous_create(const struct phx_rendezvous_options *options, struct phx_rendezvous **r,
                          struct phx_message *message);
void phx_rendezvous_destroy(struct phx_rendezvous *r);                   // NULL is allowed
uint32_t phx_rendezvous_connections_max(const struct phx_rendezvous *r); // ids are below it

// A connection came; its id. *evicted is one that must be closed at once (its id may be the new
// one's), or PHX_RENDEZVOUS_NONE.
uint32_t phx_rendezvous_accept(struct phx_rendezvous *r, uint64_t now_ms, uint32_t *evicted);
// The oldest connection that has proved nothing, given up because files ran out; or _NONE.
uint32_t phx_rendezvous_evict(struct phx_rendezvous *r);
void phx_rendezvous_input(struct phx_rendezvous *r, uint32_t id, const uint8_t *bytes,
                          size_t count);
// Bytes for connection id; how many, 0: none. They stay until phx_rendezvous_sent().
size_t phx_rendezvous_output(struct phx_rendezvous *r, uint32_t id, const uint8_t **bytes);
void phx_rendezvous_sent(struct phx_rendezvous *r, uint32_t id, size_t count);
// It is to be closed once its output was sent, or could not be at once.
bool phx_rendezvous_is_over(const struct phx_rendezvous *r, uint32_t id);
// The connection is closed; the id is free.
void phx_rendezvous_gone(struct phx_rendezvous *r, uint32_t id);
// The next connection whose output or end is news since it was last returned; or _NONE.
uint32_t phx_rendezvous_news(struct phx_rendezvous *r);
// Ends handshakes that took too long. Returns when to call again; UINT64_MAX: no need.
uint64_t phx_rendezvous_tick(struct phx_rendezvous *r, uint64_t now_ms);

uint32_t phx_rendezvous_present(const struct phx_rendezvous *r); // ranks that are connected
bool phx_rendezvous_is_open(const struct phx_rendezvous *r);     // all ranks had joined
bool phx_rendezvous_is_drained(const struct phx_rendezvous *r);  // all output has been taken
const struct phx_rendezvous_stats *phx_rendezvous_stats(const struct phx_rendezvous *r);

// --- the loop -----------------------------------------------------------------------------------

struct phx_rendezvous_server;

// Listens at host:port ("", "*": every address; port 0: any) and serves in a thread of its own.
int phx_rendezvous_server_start(const char *host, uint16_t port,
                                const struct phx_rendezvous_options *options,
                                struct phx_rendezvous_server **server, struct phx_message *message);
uint16_t phx_rendezvous_server_port(const struct phx_rendezvous_server *server);
// True when all ranks had joined and none is connected any more. Waits for wait_ms at most.
bool phx_rendezvous_server_is_done(struct phx_rendezvous_server *server, uint32_t wait_ms);
struct phx_rendezvous_stats phx_rendezvous_server_stats(struct phx_rendezvous_server *server);
// Lets ranks take what is theirs for drain_ms at most, then closes everything.
void phx_rendezvous_server_stop(struct phx_rendezvous_server *server, uint32_t drain_ms);

#ifdef __cplusplus
}
#endif

#endif
