// tests/fuzz/fuzz_bootstrap_client.c: what a rank is told by a rendezvous that sends what it likes:
// raw bytes, or messages that are sealed as they should be, in pieces of any size.
//
// The rank must return: 0 with bytes in bounds, or an error of those that the calls name. Without
// the secret nobody gets it as far as a job number.

#include "engine/error.h"
#include "hw/bootstrap_client.h"
#include "tests/bootstrap_peer.h"
#include "tests/fuzz/fuzz.h"

#define RANKS 3u
#define BLOB 700u
#define QUEUE 65536u

struct server {
    struct fuzz_input in;
    bool is_agreed;
    bool knows_secret;
    struct phx_wire_session session;
    uint8_t key[PHX_WIRE_KEY];
    uint32_t heard; // bytes of the HELLO
    uint8_t hello[PHX_WIRE_HELLO_BYTES];
    uint32_t from;
    uint32_t to;
    uint8_t queue[QUEUE];
};

static void queue_add(struct server *s, const uint8_t *bytes, uint32_t count)
{
    if (count > QUEUE - s->to)
        return;
    memcpy(s->queue + s->to, bytes, count);
    s->to += count;
}

static int server_hears(void *context, const uint8_t *bytes, uint32_t count, uint64_t until_ms)
{
    struct server *s = context;
    (void)until_ms;
    for (uint32_t i = 0; i < count && s->heard < PHX_WIRE_HELLO_BYTES; i++)
        s->hello[s->heard++] = bytes[i];
    return fuzz_below(&s->in, 64) == 63 ? PHX_ERR_PEER_UNREACHABLE : 0;
}

static void say_challenge(struct server *s)
{
    uint8_t challenge[PHX_WIRE_CHALLENGE_BYTES];
    uint8_t seed[PHX_WIRE_KEY];
    memset(seed, 0x5e, sizeof seed);
    phx_wire_session_start(&s->session, seed);
    phx_wire_challenge_write(&s->session, challenge);
    s->is_agreed = phx_wire_session_agree(&s->session, true, s->key, s->hello, challenge);
    queue_add(s, challenge, sizeof challenge);
}

static void say_sealed(struct server *s)
{
    static const struct {
        uint16_t type;
        uint32_t bytes;
    } bodies[] = {{PHX_WIRE_ACCEPTED, 16},
                  {PHX_WIRE_READY, 0},
                  {PHX_WIRE_RESULT, 8 + PHX_WIRE_RANKS_BYTES},
                  {PHX_WIRE_DATA, PHX_WIRE_DATA_HEAD + RANKS * BLOB},
                  {PHX_WIRE_STATUS, 2 * PHX_WIRE_RANKS_BYTES},
                  {PHX_WIRE_REJECTED, 8},
                  {PHX_WIRE_QUERY, 0},
                  {PHX_WIRE_DATA, PHX_WIRE_DATA_HEAD}};
    uint8_t body[PHX_WIRE_BODY_MAX];
    uint8_t message[PHX_WIRE_MESSAGE_MAX];
    uint32_t which = fuzz_below(&s->in, 8);
    uint32_t bytes = bodies[which].bytes;
    memset(body, 0, sizeof body);
    if (bodies[which].type == PHX_WIRE_DATA) {
        uint32_t shape = fuzz_below(&s->in, 4);
        phx_wire_put(body, 1, 4);
        phx_wire_put(body + 4, BLOB, 4);
        if (shape == 0)
            bytes = PHX_WIRE_DATA_HEAD + fuzz_u16(&s->in) % (PHX_WIRE_PIECE_MAX + 1);
        if (shape <= 1)
            phx_wire_put(body + 8, fuzz_u16(&s->in), 8);
        if (shape == 2)
            fuzz_bytes(&s->in, body, PHX_WIRE_DATA_HEAD);
    } else if (bodies[which].type == PHX_WIRE_RESULT && fuzz_below(&s->in, 4) != 0) {
        phx_wire_put(body, 1, 4);
        phx_wire_put(body + 4, BLOB, 4);
        body[8] = fuzz_u8(&s->in);
    } else {
        fuzz_bytes(&s->in, body, bytes < 24 ? bytes : 24);
    }
    queue_add(s, message, phx_wire_seal(&s->session, bodies[which].type, body, bytes, message));
}

static void say_raw(struct server *s)
{
    uint8_t bytes[96];
    uint32_t count = fuzz_below(&s->in, sizeof bytes);
    fuzz_bytes(&s->in, bytes, count);
    if (fuzz_below(&s->in, 2) == 0 && count >= PHX_WIRE_HEADER) {
        phx_wire_put(bytes, PHX_WIRE_MAGIC, 4);
        phx_wire_put(bytes + 4, PHX_WIRE_VERSION, 2);
        phx_wire_put(bytes + 12, 0, 4);
    }
    queue_add(s, bytes, count);
}

static int server_says(void *context, uint8_t *bytes, uint32_t count, uint64_t until_ms)
{
    struct server *s = context;
    (void)until_ms;
    while (s->from == s->to) {
        s->from = s->to = 0;
        if (fuzz_left(&s->in) == 0)
            return PHX_ERR_PEER_UNREACHABLE;
        switch (fuzz_below(&s->in, 8)) {
        case 0:
            say_raw(s);
            break;
        case 1:
            return PHX_ERR_TIMEOUT;
        case 2:
        case 3:
            if (!s->is_agreed) {
                say_challenge(s);
                break;
            }
            // fallthrough
        default:
            if (s->is_agreed)
                say_sealed(s);
            else
                say_raw(s);
        }
    }
    uint32_t piece = 1 + fuzz_below(&s->in, 256) * 64;
    uint32_t left = s->to - s->from;
    uint32_t size = piece < left ? piece : left;
    size = size < count ? size : count;
    memcpy(bytes, s->queue + s->from, size);
    s->from += size;
    return (int)size;
}

static void check_code(int rc, const struct phx_message *message)
{
    static const int codes[] = {0,
                                PHX_ERR_TIMEOUT,
                                PHX_ERR_PEER_UNREACHABLE,
                                PHX_ERR_PEER_LOST,
                                PHX_ERR_CORRUPT,
                                PHX_ERR_PROTECTION,
                                PHX_ERR_STATE,
                                PHX_ERR_INVALID,
                                PHX_ERR_MISMATCH,
                                PHX_ERR_NO_MEMORY,
                                PHX_ERR_UNSUPPORTED};
    bool is_known = false;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        is_known = is_known || codes[i] == rc;
    FUZZ_CHECK(is_known, "code %d", rc);
    FUZZ_CHECK(rc == 0 || message->text[0] != '\0', "code %d without a word", rc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct server *s = fuzz_alloc(sizeof *s);
    struct phx_client *c = fuzz_alloc(sizeof *c);
    uint8_t *mine = fuzz_alloc((size_t)RANKS * BLOB);
    uint8_t *theirs = fuzz_alloc((size_t)RANKS * BLOB); // ASan sees its end
    uint8_t set[PHX_WIRE_RANKS_BYTES] = {0};
    uint8_t key[PHX_WIRE_KEY];
    uint8_t seed[PHX_WIRE_KEY];
    struct phx_message message = {""};
    memset(seed, 0x11, sizeof seed);
    phx_wire_secret_key(key, PEER_SECRET, sizeof PEER_SECRET);
    s->in = fuzz_input_make(data, size);
    s->knows_secret = fuzz_below(&s->in, 8) != 0;
    memcpy(s->key, key, sizeof key);
    s->key[0] ^= s->knows_secret ? 0 : 1;
    c->link = (struct phx_client_link){s, server_hears, server_says};
    c->rank = 1;
    c->ranks = RANKS;
    int rc = phx_client_handshake(c, key, seed, 1, &message);
    check_code(rc, &message);
    FUZZ_CHECK(rc != 0 || s->knows_secret, "a stranger passed for a rendezvous");
    if (rc == 0)
        rc = phx_client_ready(c, 1, 1, &message);
    check_code(rc, &message);
    for (uint32_t number = 1; rc == 0 && number < 3; number++) {
        rc = phx_client_exchange(c, number, mine, theirs, number == 1 ? BLOB : 0, set, 1, 1,
                                 &message);
        check_code(rc, &message);
    }
    if (rc == 0)
        phx_client_leave(c, 1);
    free(theirs);
    free(mine);
    free(c);
    free(s);
    return 0;
}
