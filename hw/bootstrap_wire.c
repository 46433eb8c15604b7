// hw/bootstrap_wire.c: headers, the handshake's keys, sealed bodies.

#include "hw/bootstrap_wire.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "engine/assert.h"

// What each hash is for, so that none can stand for another.
#define LABEL_BYTES 16
static const char LABEL_SECRET[LABEL_BYTES] = "phx secret 1";
static const char LABEL_HELLO[LABEL_BYTES] = "phx hello 1";
static const char LABEL_TO_SERVER[LABEL_BYTES] = "phx to server 1";
static const char LABEL_TO_RANK[LABEL_BYTES] = "phx to rank 1";

struct bound { // of a body on the wire
    uint32_t least;
    uint32_t most;
};
#define EXACTLY(bytes)                                                                             \
    {                                                                                              \
        (bytes), (bytes)                                                                           \
    }
static const struct bound BOUNDS[PHX_WIRE_TYPES] = {
    [PHX_WIRE_HELLO] = EXACTLY(2 * PHX_WIRE_KEY),
    [PHX_WIRE_CHALLENGE] = EXACTLY(PHX_WIRE_KEY),
    [PHX_WIRE_REFUSED] = EXACTLY(4),
    [PHX_WIRE_JOIN] = EXACTLY(8 + PHX_WIRE_TAG),
    [PHX_WIRE_ACCEPTED] = EXACTLY(16 + PHX_WIRE_TAG),
    [PHX_WIRE_REJECTED] = EXACTLY(8 + PHX_WIRE_TAG),
    [PHX_WIRE_READY] = EXACTLY(PHX_WIRE_TAG),
    [PHX_WIRE_DATA] = {PHX_WIRE_DATA_HEAD + PHX_WIRE_TAG, PHX_WIRE_BODY_MAX + PHX_WIRE_TAG},
    [PHX_WIRE_RESULT] = EXACTLY(8 + PHX_WIRE_RANKS_BYTES + PHX_WIRE_TAG),
    [PHX_WIRE_QUERY] = EXACTLY(PHX_WIRE_TAG),
    [PHX_WIRE_STATUS] = EXACTLY(2 * PHX_WIRE_RANKS_BYTES + PHX_WIRE_TAG),
    [PHX_WIRE_LEAVE] = EXACTLY(PHX_WIRE_TAG),
};

const char *phx_wire_reason_text(uint32_t reason)
{
    static const char *const texts[PHX_WIRE_REASONS] = {
        [PHX_WIRE_MALFORMED] = "not a message of the bootstrap",
        [PHX_WIRE_OTHER_VERSION] = "another version of the protocol",
        [PHX_WIRE_WRONG_SECRET] = "another secret",
        [PHX_WIRE_RANK_TAKEN] = "this rank number is taken by a living process",
        [PHX_WIRE_RANK_RANGE] = "this rank number is outside the job",
        [PHX_WIRE_OTHER_RANKS] = "another number of ranks",
        [PHX_WIRE_OTHER_BYTES] = "another size of blobs than the other ranks",
        [PHX_WIRE_TOO_MUCH] = "more bytes in one exchange than the rendezvous holds",
        [PHX_WIRE_OUT_OF_ORDER] = "a message out of its order",
        [PHX_WIRE_NOT_READING] = "answers were not read",
    };
    if (reason == 0 || reason >= PHX_WIRE_REASONS)
        return "an unknown reason";
    return texts[reason];
}

uint32_t phx_wire_header_read(const uint8_t bytes[PHX_WIRE_HEADER], struct phx_wire_header *header)
{
    if (phx_wire_get(bytes, 4) != PHX_WIRE_MAGIC)
        return PHX_WIRE_MALFORMED;
    header->version = (uint16_t)phx_wire_get(bytes + 4, 2);
    header->type = (uint16_t)phx_wire_get(bytes + 6, 2);
    header->length = (uint32_t)phx_wire_get(bytes + 8, 4);
    if (header->version != PHX_WIRE_VERSION)
        return PHX_WIRE_OTHER_VERSION;
    if (header->type == 0 || header->type >= PHX_WIRE_TYPES || phx_wire_get(bytes + 12, 4) != 0)
        return PHX_WIRE_MALFORMED;
    const struct bound *bound = &BOUNDS[header->type];
    if (header->length < bound->least || header->length > bound->most)
        return PHX_WIRE_MALFORMED;
    return 0;
}

void phx_wire_header_write(uint8_t bytes[PHX_WIRE_HEADER], uint16_t type, uint32_t length)
{
    phx_assert(type > 0 && type < PHX_WIRE_TYPES);
    phx_assert(length >= BOUNDS[type].least && length <= BOUNDS[type].most);
    phx_wire_put(bytes, PHX_WIRE_MAGIC, 4);
    phx_wire_put(bytes + 4, PHX_WIRE_VERSION, 2);
    phx_wire_put(bytes + 6, type, 2);
    phx_wire_put(bytes + 8, length, 4);
    phx_wire_put(bytes + 12, 0, 4);
}

// --- keys ---------------------------------------------------------------------------------------

void phx_wire_secret_key(uint8_t key[PHX_WIRE_KEY], const uint8_t *secret, size_t secret_bytes)
{
    crypto_generichash_state hash;
    (void)crypto_generichash_init(&hash, NULL, 0, PHX_WIRE_KEY);
    (void)crypto_generichash_update(&hash, (const uint8_t *)LABEL_SECRET, LABEL_BYTES);
    (void)crypto_generichash_update(&hash, secret, secret_bytes);
    (void)crypto_generichash_final(&hash, key, PHX_WIRE_KEY);
    sodium_memzero(&hash, sizeof hash);
}

void phx_wire_session_start(struct phx_wire_session *s, const uint8_t seed[PHX_WIRE_KEY])
{
    static_assert(crypto_kx_SEEDBYTES == PHX_WIRE_KEY, "seeds are keys");
    static_assert(crypto_kx_PUBLICKEYBYTES == PHX_WIRE_KEY, "public keys are keys");
    static_assert(crypto_kx_SECRETKEYBYTES == PHX_WIRE_KEY, "secret keys are keys");
    memset(s, 0, sizeof *s);
    (void)crypto_kx_seed_keypair(s->own_public, s->own_secret, seed);
}

void phx_wire_session_wipe(struct phx_wire_session *s)
{
    sodium_memzero(s, sizeof *s);
}

static void hello_tag(const uint8_t key[PHX_WIRE_KEY], const uint8_t hello[PHX_WIRE_HELLO_BYTES],
                      uint8_t tag[PHX_WIRE_KEY])
{
    crypto_generichash_state hash;
    (void)crypto_generichash_init(&hash, key, PHX_WIRE_KEY, PHX_WIRE_KEY);
    (void)crypto_generichash_update(&hash, (const uint8_t *)LABEL_HELLO, LABEL_BYTES);
    (void)crypto_generichash_update(&hash, hello, PHX_WIRE_HEADER + PHX_WIRE_KEY);
    (void)crypto_generichash_final(&hash, tag, PHX_WIRE_KEY);
}

void phx_wire_hello_write(const struct phx_wire_session *s, const uint8_t key[PHX_WIRE_KEY],
                          uint8_t hello[PHX_WIRE_HELLO_BYTES])
{
    phx_wire_header_write(hello, PHX_WIRE_HELLO, PHX_WIRE_HELLO_BYTES - PHX_WIRE_HEADER);
    memcpy(hello + PHX_WIRE_HEADER, s->own_public, PHX_WIRE_KEY);
    hello_tag(key, hello, hello + PHX_WIRE_HEADER + PHX_WIRE_KEY);
}

bool phx_wire_hello_check(const uint8_t key[PHX_WIRE_KEY],
                          const uint8_t hello[PHX_WIRE_HELLO_BYTES])
{
    uint8_t tag[PHX_WIRE_KEY];
    hello_tag(key, hello, tag);
    return sodium_memcmp(tag, hello + PHX_WIRE_HEADER + PHX_WIRE_KEY, PHX_WIRE_KEY) == 0;
}

void phx_wire_challenge_write(const struct phx_wire_session *s,
                              uint8_t challenge[PHX_WIRE_CHALLENGE_BYTES])
{
    phx_wire_header_write(challenge, PHX_WIRE_CHALLENGE, PHX_WIRE_KEY);
    memcpy(challenge + PHX_WIRE_HEADER, s->own_public, PHX_WIRE_KEY);
}

static void direction_key(uint8_t out[PHX_WIRE_KEY], const uint8_t key[PHX_WIRE_KEY],
                          const char label[LABEL_BYTES], const uint8_t shared[PHX_WIRE_KEY],
                          const uint8_t hello[PHX_WIRE_HELLO_BYTES],
                          const uint8_t challenge[PHX_WIRE_CHALLENGE_BYTES])
{
    crypto_generichash_state hash;
    (void)crypto_generichash_init(&hash, key, PHX_WIRE_KEY, PHX_WIRE_KEY);
    (void)crypto_generichash_update(&hash, (const uint8_t *)label, LABEL_BYTES);
    (void)crypto_generichash_update(&hash, shared, PHX_WIRE_KEY);
    (void)crypto_generichash_update(&hash, hello, PHX_WIRE_HELLO_BYTES);
    (void)crypto_generichash_update(&hash, challenge, PHX_WIRE_CHALLENGE_BYTES);
    (void)crypto_generichash_final(&hash, out, PHX_WIRE_KEY);
    sodium_memzero(&hash, sizeof hash);
}

bool phx_wire_session_agree(struct phx_wire_session *s, bool is_server,
                            const uint8_t key[PHX_WIRE_KEY],
                            const uint8_t hello[PHX_WIRE_HELLO_BYTES],
                            const uint8_t challenge[PHX_WIRE_CHALLENGE_BYTES])
{
    static_assert(crypto_kx_SESSIONKEYBYTES == PHX_WIRE_KEY, "session keys are keys");
    uint8_t to_me[PHX_WIRE_KEY];
    uint8_t from_me[PHX_WIRE_KEY];
    const uint8_t *other = (is_server ? hello : challenge) + PHX_WIRE_HEADER;
    int rc =
        is_server
            ? crypto_kx_server_session_keys(to_me, from_me, s->own_public, s->own_secret, other)
            : crypto_kx_client_session_keys(to_me, from_me, s->own_public, s->own_secret, other);
    sodium_memzero(s->own_secret, sizeof s->own_secret);
    if (rc != 0)
        return false;
    direction_key(s->receive_key, key, is_server ? LABEL_TO_SERVER : LABEL_TO_RANK, to_me, hello,
                  challenge);
    direction_key(s->send_key, key, is_server ? LABEL_TO_RANK : LABEL_TO_SERVER, from_me, hello,
                  challenge);
    sodium_memzero(to_me, sizeof to_me);
    sodium_memzero(from_me, sizeof from_me);
    return true;
}

// --- sealed bodies ------------------------------------------------------------------------------

static void nonce_of(uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES], uint64_t number)
{
    memset(nonce, 0, crypto_aead_xchacha20poly1305_ietf_NPUBBYTES);
    phx_wire_put(nonce, number, 8);
}

uint32_t phx_wire_seal(struct phx_wire_session *s, uint16_t type, const uint8_t *body,
                       uint32_t bytes, uint8_t *message)
{
    static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == PHX_WIRE_TAG, "tags");
    static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == PHX_WIRE_KEY, "keys");
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    nonce_of(nonce, s->sent++);
    phx_wire_header_write(message, type, bytes + PHX_WIRE_TAG);
    unsigned long long size = 0;
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt(message + PHX_WIRE_HEADER, &size, body, bytes,
                                                     message, PHX_WIRE_HEADER, NULL, nonce,
                                                     s->send_key);
    phx_assert(size == bytes + PHX_WIRE_TAG);
    return PHX_WIRE_HEADER + bytes + PHX_WIRE_TAG;
}

bool phx_wire_open(struct phx_wire_session *s, const uint8_t *message, uint8_t *body,
                   uint32_t *bytes)
{
    uint32_t length = (uint32_t)phx_wire_get(message + 8, 4);
    if (length < PHX_WIRE_TAG)
        return false;
    uint8_t nonce[crypto_aead_xchacha20poly1305_ietf_NPUBBYTES];
    nonce_of(nonce, s->received);
    unsigned long long size = 0;
    if (crypto_aead_xchacha20poly1305_ietf_decrypt(body, &size, NULL, message + PHX_WIRE_HEADER,
                                                   length, message, PHX_WIRE_HEADER, nonce,
                                                   s->receive_key) != 0)
        return false;
    s->received++;
    *bytes = (uint32_t)size;
    return true;
}
