// tests/bootstrap_peer.c

#include "tests/bootstrap_peer.h"

#if PHX_HAVE_SODIUM

#include <stdlib.h>
#include <string.h>

const uint8_t PEER_SECRET[32] = "a secret that is only for tests";

void peer_random(void *counter, void *to, size_t bytes)
{
    uint64_t *at = counter;
    uint8_t *out = to;
    for (size_t i = 0; i < bytes; i++) {
        *at = *at * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(*at >> 56);
    }
}

struct phx_rendezvous *peer_rendezvous(uint32_t ranks, uint32_t waiting_max, uint64_t *counter)
{
    struct phx_rendezvous_options o = {.ranks = ranks,
                                       .secret = PEER_SECRET,
                                       .secret_bytes = sizeof PEER_SECRET,
                                       .waiting_max = waiting_max,
                                       .handshake_ms = 1000,
                                       .exchange_bytes_max = 1u << 20,
                                       .random = peer_random,
                                       .random_context = counter};
    struct phx_rendezvous *r = NULL;
    if (phx_rendezvous_create(&o, &r, NULL) != 0)
        abort();
    return r;
}

void peer_start(struct peer *p, struct phx_rendezvous *r, uint32_t id, uint8_t seed)
{
    uint8_t bytes[PHX_WIRE_KEY];
    memset(p, 0, sizeof *p);
    memset(bytes, seed, sizeof bytes);
    p->r = r;
    p->id = id;
    phx_wire_secret_key(p->key, PEER_SECRET, sizeof PEER_SECRET);
    phx_wire_session_start(&p->session, bytes);
    phx_wire_hello_write(&p->session, p->key, p->hello);
}

void peer_send(struct peer *p, const uint8_t *bytes, size_t count)
{
    phx_rendezvous_input(p->r, p->id, bytes, count);
}

void peer_hello(struct peer *p)
{
    peer_send(p, p->hello, sizeof p->hello);
}

static void output_take(struct peer *p)
{
    const uint8_t *bytes;
    size_t count;
    while ((count = phx_rendezvous_output(p->r, p->id, &bytes)) > 0) {
        if (count > PEER_HELD_MAX - p->held)
            count = PEER_HELD_MAX - p->held;
        if (count == 0)
            return;
        memcpy(p->in + p->held, bytes, count);
        p->held += (uint32_t)count;
        phx_rendezvous_sent(p->r, p->id, count);
    }
}

uint16_t peer_take(struct peer *p, uint8_t *body, uint32_t *bytes)
{
    struct phx_wire_header header = {0, 0, 0};
    output_take(p);
    *bytes = 0;
    if (p->held < PHX_WIRE_HEADER || p->is_lost)
        return 0;
    if (phx_wire_header_read(p->in, &header) != 0)
        abort(); // a rendezvous writes good headers
    uint32_t size = PHX_WIRE_HEADER + header.length;
    if (p->held < size)
        return 0;
    if (header.type == PHX_WIRE_CHALLENGE) {
        p->is_agreed = phx_wire_session_agree(&p->session, false, p->key, p->hello, p->in);
    } else if (header.type == PHX_WIRE_REFUSED) {
        memcpy(body, p->in + PHX_WIRE_HEADER, header.length);
        *bytes = header.length;
    } else if (!p->is_agreed || !phx_wire_open(&p->session, p->in, body, bytes)) {
        p->is_lost = true;
        return 0;
    }
    p->held -= size;
    memmove(p->in, p->in + size, p->held);
    return header.type;
}

void peer_seal(struct peer *p, uint16_t type, const uint8_t *body, uint32_t bytes)
{
    uint8_t message[PHX_WIRE_MESSAGE_MAX];
    peer_send(p, message, phx_wire_seal(&p->session, type, body, bytes, message));
}

void peer_join(struct peer *p, uint32_t rank, uint32_t ranks)
{
    uint8_t body[8];
    phx_wire_put(body, rank, 4);
    phx_wire_put(body + 4, ranks, 4);
    peer_seal(p, PHX_WIRE_JOIN, body, sizeof body);
}

void peer_data(struct peer *p, uint32_t number, uint32_t blob, uint64_t offset, const void *piece,
               uint32_t bytes)
{
    uint8_t body[PHX_WIRE_BODY_MAX];
    phx_wire_put(body, number, 4);
    phx_wire_put(body + 4, blob, 4);
    phx_wire_put(body + 8, offset, 8);
    if (bytes > 0)
        memcpy(body + PHX_WIRE_DATA_HEAD, piece, bytes);
    peer_seal(p, PHX_WIRE_DATA, body, PHX_WIRE_DATA_HEAD + bytes);
}

uint16_t peer_enter(struct peer *p, struct phx_rendezvous *r, uint32_t id, uint32_t rank,
                    uint32_t ranks)
{
    uint8_t body[PHX_WIRE_MESSAGE_MAX];
    uint32_t bytes;
    peer_start(p, r, id, (uint8_t)(rank + 1));
    peer_hello(p);
    uint16_t type = peer_take(p, body, &bytes);
    if (type != PHX_WIRE_CHALLENGE)
        return type;
    peer_join(p, rank, ranks);
    return peer_take(p, body, &bytes);
}

#endif
