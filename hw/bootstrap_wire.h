// hw/bootstrap_wire.h: the messages of the bootstrap over sockets, and the session that carries
// them. No socket, no clock: bytes in, bytes out, the same code at both ends.
//
//     rank -> HELLO      its one-time public key, and a keyed hash of it: proof of the secret
//          <- CHALLENGE  the rendezvous's one-time public key; nothing else
//     rank -> JOIN       from here on every body is sealed with the session's keys
//          <- ACCEPTED, then READY once all ranks are there; or REJECTED
//     rank -> DATA...    its row of an exchange, from the front, in pieces
//          <- RESULT, DATA...
//     rank -> QUERY      who is missing?
//          <- STATUS
//     rank -> LEAVE
//     REFUSED goes to whoever has not proved anything, in clear: one number.
//
// Session keys: X25519 of the one-time keys (crypto_kx), then BLAKE2b keyed with the secret over
// both and the transcript. Bodies: XChaCha20-Poly1305, the header as associated data, the nonce a
// counter for each direction: a message that is repeated, reordered or left out does not open.

#ifndef PHX_HW_BOOTSTRAP_WIRE_H
#define PHX_HW_BOOTSTRAP_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PHX_WIRE_MAGIC 0x42584850u // "PHXB"
#define PHX_WIRE_VERSION 1u
#define PHX_WIRE_HEADER 16u
#define PHX_WIRE_KEY 32u
#define PHX_WIRE_TAG 16u          // of a sealed body
#define PHX_WIRE_PIECE_MAX 16384u // of a DATA message
#define PHX_WIRE_DATA_HEAD 16u
#define PHX_WIRE_BODY_MAX (PHX_WIRE_DATA_HEAD + PHX_WIRE_PIECE_MAX)               // unsealed
#define PHX_WIRE_MESSAGE_MAX (PHX_WIRE_HEADER + PHX_WIRE_BODY_MAX + PHX_WIRE_TAG) // any message
#define PHX_WIRE_SMALL_MAX 96u    // any message that comes from a rank before it is accepted
#define PHX_WIRE_RANKS_BYTES 128u // a set of ranks: bit r % 8 of byte r / 8

enum phx_wire_type {
    PHX_WIRE_HELLO = 1,
    PHX_WIRE_CHALLENGE,
    PHX_WIRE_REFUSED,
    PHX_WIRE_JOIN,
    PHX_WIRE_ACCEPTED,
    PHX_WIRE_REJECTED,
    PHX_WIRE_READY,
    PHX_WIRE_DATA,
    PHX_WIRE_RESULT,
    PHX_WIRE_QUERY,
    PHX_WIRE_STATUS,
    PHX_WIRE_LEAVE,
    PHX_WIRE_TYPES // one past the last
};

enum phx_wire_reason { // of REFUSED and REJECTED
    PHX_WIRE_MALFORMED = 1,
    PHX_WIRE_OTHER_VERSION,
    PHX_WIRE_WRONG_SECRET,
    PHX_WIRE_RANK_TAKEN,
    PHX_WIRE_RANK_RANGE,
    PHX_WIRE_OTHER_RANKS, // detail: the rendezvous's number of ranks
    PHX_WIRE_OTHER_BYTES, // detail: what the exchange's other ranks give
    PHX_WIRE_TOO_MUCH,    // detail: MiB that the rendezvous holds at most
    PHX_WIRE_OUT_OF_ORDER,
    PHX_WIRE_NOT_READING,
    PHX_WIRE_REASONS // one past the last
};
const char *phx_wire_reason_text(uint32_t reason); // never NULL

struct phx_wire_header {
    uint16_t version;
    uint16_t type;
    uint32_t length; // of the body as it is on the wire
};
// 0, or why these bytes are no header of this protocol (enum phx_wire_reason). Bodies are bounded
// by type, so that length can be trusted afterwards.
uint32_t phx_wire_header_read(const uint8_t bytes[PHX_WIRE_HEADER], struct phx_wire_header *header);
void phx_wire_header_write(uint8_t bytes[PHX_WIRE_HEADER], uint16_t type, uint32_t length);

// Numbers on the wire are little-endian.
static inline void phx_wire_put(uint8_t *to, uint64_t value, uint32_t bytes)
{
    for (uint32_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}
static inline uint64_t phx_wire_get(const uint8_t *from, uint32_t bytes)
{
    uint64_t value = 0;
    for (uint32_t i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}
static inline bool phx_wire_has(const uint8_t set[PHX_WIRE_RANKS_BYTES], uint32_t rank)
{
    return (set[rank / 8] >> (rank % 8) & 1) != 0;
}
static inline void phx_wire_add(uint8_t set[PHX_WIRE_RANKS_BYTES], uint32_t rank)
{
    set[rank / 8] = (uint8_t)(set[rank / 8] | 1u << (rank % 8));
}

// The key that all ranks derive from the secret. `secret` may be forgotten afterwards.
void phx_wire_secret_key(uint8_t key[PHX_WIRE_KEY], const uint8_t *secret, size_t secret_bytes);

struct phx_wire_session {
    uint8_t own_public[PHX_WIRE_KEY];
    uint8_t own_secret[PHX_WIRE_KEY];
    uint8_t send_key[PHX_WIRE_KEY];
    uint8_t receive_key[PHX_WIRE_KEY];
    uint64_t sent;
    uint64_t received;
};

#define PHX_WIRE_HELLO_BYTES (PHX_WIRE_HEADER + 2 * PHX_WIRE_KEY)
#define PHX_WIRE_CHALLENGE_BYTES (PHX_WIRE_HEADER + PHX_WIRE_KEY)

// Both ends start with a fresh seed of PHX_WIRE_KEY random bytes, used for nothing else.
void phx_wire_session_start(struct phx_wire_session *s, const uint8_t seed[PHX_WIRE_KEY]);
void phx_wire_session_wipe(struct phx_wire_session *s);
void phx_wire_hello_write(const struct phx_wire_session *s, const uint8_t key[PHX_WIRE_KEY],
                          uint8_t hello[PHX_WIRE_HELLO_BYTES]);
// False: whoever wrote this does not hold the secret. Costs one hash and no memory.
bool phx_wire_hello_check(const uint8_t key[PHX_WIRE_KEY],
                          const uint8_t hello[PHX_WIRE_HELLO_BYTES]);
void phx_wire_challenge_write(const struct phx_wire_session *s,
                              uint8_t challenge[PHX_WIRE_CHALLENGE_BYTES]);
// Makes the session's keys of both messages. False: the other's public key is worthless.
bool phx_wire_session_agree(struct phx_wire_session *s, bool is_server,
                            const uint8_t key[PHX_WIRE_KEY],
                            const uint8_t hello[PHX_WIRE_HELLO_BYTES],
                            const uint8_t challenge[PHX_WIRE_CHALLENGE_BYTES]);

// Writes header and sealed body; returns their size, PHX_WIRE_HEADER + bytes + PHX_WIRE_TAG.
uint32_t phx_wire_seal(struct phx_wire_session *s, uint16_t type, const uint8_t *body,
                       uint32_t bytes, uint8_t *message);
// message: header and body. Opens into body (header.length - PHX_WIRE_TAG bytes; body may be
// message + PHX_WIRE_HEADER). False: not sealed by the other end as its next message.
bool phx_wire_open(struct phx_wire_session *s, const uint8_t *message, uint8_t *body,
                   uint32_t *bytes);

#endif
