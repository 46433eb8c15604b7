// tests/fuzz/fuzz_bootstrap.c: what comes to a rendezvous: strangers with any bytes, and ranks that
// know the secret and still send what they like, in any order, in pieces of any size, and go.
//
// A rendezvous must come through with its books in order, and say nothing to strangers but a reason
// or a public key. At the end, with everybody gone, ranks that behave must be able to meet and to
// exchange.

#include "tests/bootstrap_peer.h"
#include "tests/fuzz/fuzz.h"

#define RANKS 3u
#define PEERS 6u
#define COMMANDS 64

struct meeting {
    struct fuzz_input in;
    struct phx_rendezvous *r;
    uint64_t counter;
    uint64_t now_ms;
    bool is_here[PEERS];
    uint16_t said[PEERS]; // the last message to each
    struct peer peers[PEERS];
};

static struct meeting *m;

// Ids are the rendezvous's own; what it evicts is gone.
static void forget(uint32_t id)
{
    for (uint32_t i = 0; i < PEERS; i++)
        if (m->peers[i].id == id)
            m->is_here[i] = false;
}

static void come(uint32_t i)
{
    uint32_t evicted;
    uint32_t id = phx_rendezvous_accept(m->r, m->now_ms, &evicted);
    if (evicted != PHX_RENDEZVOUS_NONE)
        forget(evicted);
    if (id == PHX_RENDEZVOUS_NONE)
        return;
    peer_start(&m->peers[i], m->r, id, (uint8_t)(i + 1));
    m->is_here[i] = true;
}

static void take_all(uint32_t i)
{
    uint8_t body[PHX_WIRE_MESSAGE_MAX];
    uint32_t bytes;
    bool was_agreed = m->peers[i].is_agreed;
    for (uint16_t type; (type = peer_take(&m->peers[i], body, &bytes)) != 0; m->said[i] = type)
        FUZZ_CHECK(was_agreed || type == PHX_WIRE_CHALLENGE || type == PHX_WIRE_REFUSED,
                   "a stranger was sent a message of type %u", type);
}

static void send_raw(uint32_t i)
{
    uint8_t bytes[64];
    uint32_t count = fuzz_below(&m->in, sizeof bytes + 1);
    fuzz_bytes(&m->in, bytes, count);
    peer_send(&m->peers[i], bytes, count);
}

// A whole message of any type, in clear, with a body of a length that may be wrong.
static void send_message(uint32_t i)
{
    uint8_t bytes[PHX_WIRE_HEADER + 128];
    memset(bytes, 0, sizeof bytes);
    phx_wire_put(bytes, PHX_WIRE_MAGIC, 4);
    phx_wire_put(bytes + 4, PHX_WIRE_VERSION, 2);
    phx_wire_put(bytes + 6, fuzz_below(&m->in, PHX_WIRE_TYPES + 1), 2);
    uint32_t length = fuzz_below(&m->in, 129);
    phx_wire_put(bytes + 8, length, 4);
    fuzz_bytes(&m->in, bytes + PHX_WIRE_HEADER, fuzz_below(&m->in, 16));
    peer_send(&m->peers[i], bytes, PHX_WIRE_HEADER + length);
}

// A HELLO that is good but for one byte, in two pieces.
static void send_hello(uint32_t i)
{
    struct peer *p = &m->peers[i];
    uint8_t hello[PHX_WIRE_HELLO_BYTES];
    memcpy(hello, p->hello, sizeof hello);
    uint8_t flip = fuzz_below(&m->in, 4) == 0 ? fuzz_u8(&m->in) : 0;
    hello[fuzz_below(&m->in, sizeof hello)] ^= flip;
    uint32_t cut = fuzz_below(&m->in, sizeof hello);
    peer_send(p, hello, cut);
    peer_send(p, hello + cut, sizeof hello - cut);
    take_all(i);
}

static void send_data(uint32_t i)
{
    static const uint8_t zeros[PHX_WIRE_PIECE_MAX];
    static const uint32_t blobs[] = {
        0, 1, 7, 3000, PHX_BOOTSTRAP_BLOB_MAX, PHX_BOOTSTRAP_BLOB_MAX + 1};
    uint32_t number = fuzz_below(&m->in, 6);
    uint32_t blob = blobs[fuzz_below(&m->in, 6)];
    uint64_t offset = fuzz_below(&m->in, 4) == 0 ? fuzz_u64(&m->in) : 0;
    uint32_t how = fuzz_below(&m->in, 4);
    uint32_t row = blob * RANKS < PHX_WIRE_PIECE_MAX ? blob * RANKS : PHX_WIRE_PIECE_MAX;
    uint32_t size = how == 0 ? fuzz_u16(&m->in) % (PHX_WIRE_PIECE_MAX + 1) : row;
    peer_data(&m->peers[i], number, blob, offset, zeros, size);
    for (uint64_t at = size; how == 1 && at < (uint64_t)blob * RANKS; at += row) { // all of it
        uint64_t left = (uint64_t)blob * RANKS - at;
        peer_data(&m->peers[i], number, blob, at, zeros, left < row ? (uint32_t)left : row);
    }
}

// Something that is sealed as it should be, if there are keys.
static void send_sealed(uint32_t i)
{
    struct peer *p = &m->peers[i];
    uint8_t body[PHX_WIRE_BODY_MAX];
    memset(body, 0, sizeof body);
    switch (fuzz_below(&m->in, 6)) {
    case 0: {
        uint32_t rank = fuzz_below(&m->in, RANKS + 1);
        uint32_t ranks = RANKS + (fuzz_below(&m->in, 16) == 0);
        peer_join(p, rank, ranks);
        break;
    }
    case 1:
        send_data(i);
        break;
    case 2:
        for (uint32_t times = fuzz_below(&m->in, 8); times-- > 0;)
            peer_seal(p, PHX_WIRE_QUERY, NULL, 0);
        break;
    case 3:
        peer_seal(p, PHX_WIRE_LEAVE, NULL, 0);
        break;
    case 4: // the counter skips: a message that was left out
        p->session.sent += fuzz_below(&m->in, 2);
        peer_seal(p, PHX_WIRE_QUERY, NULL, 0);
        break;
    default: { // small, of any type that a body of its size may have
        static const struct {
            uint16_t type;
            uint32_t bytes;
        } bodies[] = {{PHX_WIRE_ACCEPTED, 16}, {PHX_WIRE_REJECTED, 8},
                      {PHX_WIRE_READY, 0},     {PHX_WIRE_RESULT, 8 + PHX_WIRE_RANKS_BYTES},
                      {PHX_WIRE_JOIN, 8},      {PHX_WIRE_STATUS, 2 * PHX_WIRE_RANKS_BYTES}};
        uint32_t which = fuzz_below(&m->in, 6);
        fuzz_bytes(&m->in, body, 16);
        peer_seal(p, bodies[which].type, body, bodies[which].bytes);
    }
    }
}

static void command(void)
{
    uint32_t what = fuzz_u8(&m->in);
    uint32_t i = what / 8 % PEERS;
    if (!m->is_here[i]) {
        come(i);
        return;
    }
    switch (what % 8) {
    case 0:
        send_raw(i);
        break;
    case 1:
        send_message(i);
        break;
    case 2:
        send_hello(i);
        break;
    case 3:
    case 4:
        send_sealed(i);
        break;
    case 5:
        take_all(i);
        break;
    case 6:
        phx_rendezvous_gone(m->r, m->peers[i].id);
        m->is_here[i] = false;
        break;
    default:
        m->now_ms += fuzz_u8(&m->in) * 8u;
        (void)phx_rendezvous_tick(m->r, m->now_ms);
    }
}

// What is news is somebody who is here; who is over has a reason, or left.
static void news_take(void)
{
    for (uint32_t id; (id = phx_rendezvous_news(m->r)) != PHX_RENDEZVOUS_NONE;) {
        uint32_t holders = 0;
        for (uint32_t i = 0; i < PEERS; i++)
            holders += m->is_here[i] && m->peers[i].id == id;
        FUZZ_CHECK(holders == 1, "connection %u is news and has %u ends", id, holders);
        if (!phx_rendezvous_is_over(m->r, id))
            continue;
        for (uint32_t i = 0; i < PEERS; i++)
            if (m->is_here[i] && m->peers[i].id == id)
                take_all(i);
        phx_rendezvous_gone(m->r, id);
        forget(id);
    }
    FUZZ_CHECK(phx_rendezvous_present(m->r) <= RANKS, "%u ranks of %u",
               phx_rendezvous_present(m->r), RANKS);
}

// All ranks come and behave; the number of their next exchange.
static uint32_t meet(void)
{
    uint8_t body[PHX_WIRE_MESSAGE_MAX];
    uint32_t bytes;
    uint32_t number = 0;
    for (uint32_t i = 0; i < RANKS; i++) {
        come(i);
        struct peer *p = &m->peers[i];
        peer_hello(p);
        FUZZ_CHECK(peer_take(p, body, &bytes) == PHX_WIRE_CHALLENGE, "no challenge");
        peer_join(p, i, RANKS);
        FUZZ_CHECK(peer_take(p, body, &bytes) == PHX_WIRE_ACCEPTED, "rank %u did not get in", i);
        number = (uint32_t)phx_wire_get(body + 12, 4);
    }
    for (uint32_t i = 0; i < RANKS; i++)
        FUZZ_CHECK(peer_take(&m->peers[i], body, &bytes) == PHX_WIRE_READY, "not open");
    return number;
}

// Everybody goes; then ranks that behave come and exchange.
static void behave(void)
{
    static const uint8_t row[RANKS] = {4, 5, 6};
    uint8_t body[PHX_WIRE_MESSAGE_MAX];
    uint32_t bytes;
    for (uint32_t i = 0; i < PEERS; i++)
        if (m->is_here[i])
            phx_rendezvous_gone(m->r, m->peers[i].id);
    FUZZ_CHECK(phx_rendezvous_present(m->r) == 0, "ghosts");
    uint32_t number = meet();
    for (uint32_t i = 0; i < RANKS; i++)
        peer_data(&m->peers[i], number, 1, 0, row, RANKS);
    for (uint32_t i = 0; i < RANKS; i++) {
        struct peer *p = &m->peers[i];
        FUZZ_CHECK(peer_take(p, body, &bytes) == PHX_WIRE_RESULT, "no result");
        FUZZ_CHECK(peer_take(p, body, &bytes) == PHX_WIRE_DATA, "no column");
        for (uint32_t k = 0; k < RANKS; k++)
            FUZZ_CHECK(body[PHX_WIRE_DATA_HEAD + k] == row[i], "a wrong column");
    }
    FUZZ_CHECK(phx_rendezvous_is_drained(m->r), "not drained");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    m = fuzz_alloc(sizeof *m);
    m->in = fuzz_input_make(data, size);
    m->r = peer_rendezvous(RANKS, 1 + fuzz_below(&m->in, 3), &m->counter);
    if (fuzz_below(&m->in, 2) == 1) // half of all inputs start with the ranks there
        (void)meet();
    for (int i = 0; i < COMMANDS && fuzz_left(&m->in) > 0; i++) {
        command();
        news_take();
    }
    behave();
    phx_rendezvous_destroy(m->r);
    free(m);
    return 0;
}
