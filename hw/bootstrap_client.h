// hw/bootstrap_client.h: a rank's end of the bootstrap over sockets: the handshake, waiting for the
// others, exchanges. The bytes come and go through two functions, so that a test can be the other
// end; hw/bootstrap_tcp.c gives it a socket.

#ifndef PHX_HW_BOOTSTRAP_CLIENT_H
#define PHX_HW_BOOTSTRAP_CLIENT_H

#include "engine/error.h"
#include "hw/bootstrap_wire.h"

struct phx_client_link {
    void *context;
    // All of bytes: 0, PHX_ERR_TIMEOUT, or PHX_ERR_PEER_UNREACHABLE when the other end is gone.
    int (*send)(void *context, const uint8_t *bytes, uint32_t count, uint64_t until_ms);
    // Some bytes: how many, or as above.
    int (*receive)(void *context, uint8_t *bytes, uint32_t count, uint64_t until_ms);
};

struct phx_client {
    struct phx_client_link link;
    struct phx_wire_session session;
    uint32_t rank;
    uint32_t ranks;
    uint64_t job;
    uint32_t incarnation;
    uint32_t next; // the number of its first exchange
    uint32_t in_bytes;
    uint8_t in[PHX_WIRE_MESSAGE_MAX];
    uint8_t out[PHX_WIRE_MESSAGE_MAX];
};

// From HELLO to ACCEPTED. PHX_ERR_PEER_UNREACHABLE and PHX_ERR_TIMEOUT: worth another connection.
int phx_client_handshake(struct phx_client *c, const uint8_t key[PHX_WIRE_KEY],
                         const uint8_t seed[PHX_WIRE_KEY], uint64_t until_ms,
                         struct phx_message *message);
// All ranks have joined. PHX_ERR_TIMEOUT names those that have not; it may come ask_ms late.
int phx_client_ready(struct phx_client *c, uint64_t until_ms, uint32_t ask_ms,
                     struct phx_message *message);
// set: whose blobs came.
int phx_client_exchange(struct phx_client *c, uint32_t number, const void *mine, void *theirs,
                        uint32_t bytes, uint8_t set[PHX_WIRE_RANKS_BYTES], uint64_t until_ms,
                        uint32_t ask_ms, struct phx_message *message);
void phx_client_leave(struct phx_client *c, uint64_t until_ms);

#endif
