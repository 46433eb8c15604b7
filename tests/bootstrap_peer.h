// tests/bootstrap_peer.h: a rank's end of a connection to a rendezvous that is called directly, for
// tests and the fuzz target. It sends what a test wants, good or bad.

#ifndef PHX_TESTS_BOOTSTRAP_PEER_H
#define PHX_TESTS_BOOTSTRAP_PEER_H

#include "hw/bootstrap.h"
#include "hw/bootstrap_wire.h"
#include "hw/rendezvous.h"

#define PEER_HELD_MAX 65536u

struct peer {
    struct phx_rendezvous *r;
    uint32_t id;
    bool is_agreed; // the session has keys
    bool is_lost;   // something did not open: what follows is not looked at
    struct phx_wire_session session;
    uint8_t key[PHX_WIRE_KEY];
    uint8_t hello[PHX_WIRE_HELLO_BYTES];
    uint32_t held; // bytes of output that are no whole message yet
    uint8_t in[PEER_HELD_MAX];
};

extern const uint8_t PEER_SECRET[32];

// The same bytes in every run: for phx_rendezvous_options.random; context is a uint64_t counter.
void peer_random(void *counter, void *to, size_t bytes);
// A rendezvous with PEER_SECRET and peer_random(counter); ends the program if it can't be made.
struct phx_rendezvous *peer_rendezvous(uint32_t ranks, uint32_t waiting_max, uint64_t *counter);

void peer_start(struct peer *p, struct phx_rendezvous *r, uint32_t id, uint8_t seed);
void peer_send(struct peer *p, const uint8_t *bytes, size_t count); // as they are
void peer_hello(struct peer *p);
// Takes the output, a whole message if there is one: its type, 0 without. A sealed body is opened
// into body[PHX_WIRE_MESSAGE_MAX], *bytes its size.
uint16_t peer_take(struct peer *p, uint8_t *body, uint32_t *bytes);
void peer_seal(struct peer *p, uint16_t type, const uint8_t *body, uint32_t bytes);
void peer_join(struct peer *p, uint32_t rank, uint32_t ranks);
void peer_data(struct peer *p, uint32_t number, uint32_t blob, uint64_t offset, const void *piece,
               uint32_t bytes);
// HELLO to ACCEPTED. The type of the last answer.
uint16_t peer_enter(struct peer *p, struct phx_rendezvous *r, uint32_t id, uint32_t rank,
                    uint32_t ranks);

#endif
