// hw/rendezvous.c: connections, the handshake, and who is there. Exchanges: rendezvous_exchange.c.

#include "hw/rendezvous_internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "hw/bootstrap.h"

#define WAITING_DEFAULT 1024u
#define WAITING_MAX 65536u
#define HANDSHAKE_DEFAULT_MS 5000u
#define EXCHANGE_DEFAULT_BYTES (UINT64_C(1) << 30)

// --- lists --------------------------------------------------------------------------------------

static bool is_waiting(const struct phx_conn *c)
{
    return c->state == PHX_CONN_HELLO || c->state == PHX_CONN_JOIN;
}

static void wait_begin(struct phx_rendezvous *r, struct phx_conn *c)
{
    c->previous = r->newest;
    c->next = NULL;
    if (r->newest != NULL)
        r->newest->next = c;
    else
        r->oldest = c;
    r->newest = c;
    r->waiting++;
}

static void wait_end(struct phx_rendezvous *r, struct phx_conn *c)
{
    if (c->previous != NULL)
        c->previous->next = c->next;
    else
        r->oldest = c->next;
    if (c->next != NULL)
        c->next->previous = c->previous;
    else
        r->newest = c->previous;
    c->next = c->previous = NULL;
    r->waiting--;
}

void phx_rendezvous_tell(struct phx_rendezvous *r, struct phx_conn *c)
{
    if (c->is_news)
        return;
    c->is_news = true;
    c->news_next = r->news;
    r->news = c;
}

uint32_t phx_rendezvous_news(struct phx_rendezvous *r)
{
    struct phx_conn *c;
    while ((c = r->news) != NULL) {
        r->news = c->news_next;
        c->is_news = false;
        if (c->state != PHX_CONN_FREE)
            return (uint32_t)(c - r->conns);
    }
    return PHX_RENDEZVOUS_NONE;
}

static struct phx_conn *conn_of(const struct phx_rendezvous *r, uint32_t id)
{
    phx_assert(id < r->conn_count && r->conns[id].state != PHX_CONN_FREE);
    return &r->conns[id];
}

// --- saying something ---------------------------------------------------------------------------

bool phx_rendezvous_say(struct phx_rendezvous *r, struct phx_conn *c, uint16_t type,
                        const uint8_t *body, uint32_t bytes)
{
    uint32_t size = PHX_WIRE_HEADER + bytes + PHX_WIRE_TAG;
    if (c->out_from == c->out_to)
        c->out_from = c->out_to = 0;
    if (size > c->out_bytes - c->out_to && c->out_from > 0) {
        memmove(c->out, c->out + c->out_from, c->out_to - c->out_from);
        c->out_to -= c->out_from;
        c->out_from = 0;
    }
    if (size > c->out_bytes - c->out_to)
        return false;
    c->out_to += phx_wire_seal(&c->session, type, body, bytes, c->out + c->out_to);
    phx_rendezvous_tell(r, c);
    return true;
}

// c says nothing more that counts, and is closed when its output is out.
static void end(struct phx_rendezvous *r, struct phx_conn *c)
{
    if (c->state == PHX_CONN_OVER)
        return;
    uint32_t state = c->state;
    if (is_waiting(c))
        wait_end(r, c);
    c->state = PHX_CONN_OVER;
    phx_rendezvous_tell(r, c);
    if (state != PHX_CONN_MEMBER)
        return;
    uint32_t left = c->out_to - c->out_from;
    if (left > sizeof c->small_out) // a reader that slow has had his chance
        left = 0;
    memcpy(c->small_out, c->out + c->out_from, left);
    c->out_from = 0;
    c->out_to = left;
    c->in = c->small_in; // the member's buffers are the next incarnation's
    c->out = c->small_out;
    c->out_bytes = sizeof c->small_out;
    r->members[c->rank].conn = NULL;
    r->present--;
    phx_exchange_left(r, c->rank);
}

// To someone who has proved nothing: in clear, and nothing but the reason.
static void refuse(struct phx_rendezvous *r, struct phx_conn *c, uint32_t reason)
{
    r->stats.refused++;
    r->stats.last_reason = reason;
    if (c->out_bytes - c->out_to >= PHX_WIRE_HEADER + 4) {
        phx_wire_header_write(c->out + c->out_to, PHX_WIRE_REFUSED, 4);
        phx_wire_put(c->out + c->out_to + PHX_WIRE_HEADER, reason, 4);
        c->out_to += PHX_WIRE_HEADER + 4;
    }
    end(r, c);
}

void phx_rendezvous_reject(struct phx_rendezvous *r, struct phx_conn *c, uint32_t reason,
                           uint32_t detail)
{
    uint8_t body[8];
    phx_wire_put(body, reason, 4);
    phx_wire_put(body + 4, detail, 4);
    r->stats.rejected++;
    r->stats.last_reason = reason;
    (void)phx_rendezvous_say(r, c, PHX_WIRE_REJECTED, body, sizeof body); // without room: the end
    end(r, c);
}

// --- the handshake ------------------------------------------------------------------------------

static void take_hello(struct phx_rendezvous *r, struct phx_conn *c)
{
    if (!phx_wire_hello_check(r->key, c->in)) {
        refuse(r, c, PHX_WIRE_WRONG_SECRET);
        return;
    }
    uint8_t seed[PHX_WIRE_KEY];
    r->options.random(r->options.random_context, seed, sizeof seed);
    phx_wire_session_start(&c->session, seed);
    sodium_memzero(seed, sizeof seed);
    phx_wire_challenge_write(&c->session, c->out + c->out_to);
    if (!phx_wire_session_agree(&c->session, true, r->key, c->in, c->out + c->out_to)) {
        refuse(r, c, PHX_WIRE_MALFORMED); // a public key of low order
        return;
    }
    c->out_to += PHX_WIRE_CHALLENGE_BYTES;
    c->state = PHX_CONN_JOIN;
    phx_rendezvous_tell(r, c);
}

// The connection is a rank from here on: it gets the rank's buffers.
static void seat(struct phx_rendezvous *r, struct phx_conn *c, uint32_t rank)
{
    struct phx_member *m = &r->members[rank];
    wait_end(r, c);
    c->state = PHX_CONN_MEMBER;
    c->rank = rank;
    memcpy(m->out, c->out + c->out_from, c->out_to - c->out_from);
    c->out_to -= c->out_from;
    c->out_from = 0;
    c->in = m->in;
    c->out = m->out;
    c->out_bytes = PHX_RENDEZVOUS_OUT_BYTES;
    m->conn = c;
    m->incarnation++;
    r->present++;
    r->stats.joined++;
    phx_exchange_joined(r, rank);
}

static void take_join(struct phx_rendezvous *r, struct phx_conn *c)
{
    uint8_t body[8];
    uint32_t bytes = 0;
    if (!phx_wire_open(&c->session, c->in, body, &bytes)) {
        refuse(r, c, PHX_WIRE_WRONG_SECRET); // a HELLO that someone overheard ends here
        return;
    }
    uint32_t rank = (uint32_t)phx_wire_get(body, 4);
    uint32_t ranks = (uint32_t)phx_wire_get(body + 4, 4);
    if (ranks != r->options.ranks) {
        phx_rendezvous_reject(r, c, PHX_WIRE_OTHER_RANKS, r->options.ranks);
        return;
    }
    if (rank >= ranks) {
        phx_rendezvous_reject(r, c, PHX_WIRE_RANK_RANGE, rank);
        return;
    }
    if (r->members[rank].conn != NULL) {
        phx_rendezvous_reject(r, c, PHX_WIRE_RANK_TAKEN, rank);
        return;
    }
    seat(r, c, rank);
    uint8_t accepted[16];
    phx_wire_put(accepted, r->job, 8);
    phx_wire_put(accepted + 8, r->members[rank].incarnation, 4);
    phx_wire_put(accepted + 12, r->members[rank].next, 4);
    (void)phx_rendezvous_say(r, c, PHX_WIRE_ACCEPTED, accepted, sizeof accepted);
    if (r->is_open) {
        (void)phx_rendezvous_say(r, c, PHX_WIRE_READY, NULL, 0);
    } else if (r->present == ranks) {
        r->is_open = true;
        for (uint32_t i = 0; i < ranks; i++)
            (void)phx_rendezvous_say(r, r->members[i].conn, PHX_WIRE_READY, NULL, 0);
    }
}

// --- ranks --------------------------------------------------------------------------------------

static void take_query(struct phx_rendezvous *r, struct phx_conn *c)
{
    uint8_t body[2 * PHX_WIRE_RANKS_BYTES];
    memset(body, 0, sizeof body);
    for (uint32_t i = 0; i < r->options.ranks; i++)
        if (r->members[i].conn != NULL)
            phx_wire_add(body, i);
    phx_exchange_status(r, c->rank, body + PHX_WIRE_RANKS_BYTES);
    if (!phx_rendezvous_say(r, c, PHX_WIRE_STATUS, body, sizeof body))
        phx_rendezvous_reject(r, c, PHX_WIRE_NOT_READING, 0);
}

static void take_from_member(struct phx_rendezvous *r, struct phx_conn *c, uint16_t type)
{
    uint32_t bytes = 0;
    uint8_t *body = c->in + PHX_WIRE_HEADER;
    if (!phx_wire_open(&c->session, c->in, body, &bytes)) {
        phx_rendezvous_reject(r, c, PHX_WIRE_OUT_OF_ORDER, 0);
        return;
    }
    switch (type) {
    case PHX_WIRE_DATA:
        if (r->is_open)
            phx_exchange_data(r, c, body, bytes);
        else
            phx_rendezvous_reject(r, c, PHX_WIRE_OUT_OF_ORDER, 0);
        break;
    case PHX_WIRE_QUERY:
        take_query(r, c);
        break;
    case PHX_WIRE_LEAVE:
        end(r, c);
        break;
    default:
        phx_rendezvous_reject(r, c, PHX_WIRE_OUT_OF_ORDER, 0);
    }
}

// Is a message of this type expected from c now? Before its body is taken, so that a connection's
// small buffer is enough.
static bool is_expected(const struct phx_conn *c, uint16_t type)
{
    switch (c->state) {
    case PHX_CONN_HELLO:
        return type == PHX_WIRE_HELLO;
    case PHX_CONN_JOIN:
        return type == PHX_WIRE_JOIN;
    default:
        return type == PHX_WIRE_DATA || type == PHX_WIRE_QUERY || type == PHX_WIRE_LEAVE;
    }
}

static void take_message(struct phx_rendezvous *r, struct phx_conn *c, uint16_t type)
{
    c->in_bytes = 0;
    if (c->state == PHX_CONN_HELLO)
        take_hello(r, c);
    else if (c->state == PHX_CONN_JOIN)
        take_join(r, c);
    else
        take_from_member(r, c, type);
}

// Takes bytes up to the end of a header or of a message; how many.
static size_t take_some(struct phx_rendezvous *r, struct phx_conn *c, const uint8_t *bytes,
                        size_t count)
{
    struct phx_wire_header header = {0, 0, 0};
    uint32_t wanted = PHX_WIRE_HEADER;
    if (c->in_bytes >= PHX_WIRE_HEADER) { // checked when it was complete
        (void)phx_wire_header_read(c->in, &header);
        wanted += header.length;
    }
    size_t taken = wanted - c->in_bytes < count ? wanted - c->in_bytes : count;
    memcpy(c->in + c->in_bytes, bytes, taken);
    c->in_bytes += (uint32_t)taken;
    if (c->in_bytes < wanted)
        return taken;
    if (wanted > PHX_WIRE_HEADER) {
        take_message(r, c, header.type);
        return taken;
    }
    uint32_t reason = phx_wire_header_read(c->in, &header);
    if (reason == 0 && !is_expected(c, header.type))
        reason = c->state == PHX_CONN_MEMBER ? PHX_WIRE_OUT_OF_ORDER : PHX_WIRE_MALFORMED;
    if (reason != 0 && c->state == PHX_CONN_MEMBER)
        phx_rendezvous_reject(r, c, reason, 0);
    else if (reason != 0)
        refuse(r, c, reason);
    return taken;
}

void phx_rendezvous_input(struct phx_rendezvous *r, uint32_t id, const uint8_t *bytes, size_t count)
{
    struct phx_conn *c = conn_of(r, id);
    for (size_t at = 0; at < count && c->state != PHX_CONN_OVER;)
        at += take_some(r, c, bytes + at, count - at);
}

// --- connections --------------------------------------------------------------------------------

uint32_t phx_rendezvous_evict(struct phx_rendezvous *r)
{
    if (r->oldest == NULL)
        return PHX_RENDEZVOUS_NONE;
    uint32_t id = (uint32_t)(r->oldest - r->conns);
    r->stats.evicted++;
    phx_rendezvous_gone(r, id);
    return id;
}

uint32_t phx_rendezvous_accept(struct phx_rendezvous *r, uint64_t now_ms, uint32_t *evicted)
{
    *evicted = PHX_RENDEZVOUS_NONE;
    // Connections that are over but not yet closed hold slots, too: enough of them are there for
    // every rank and waiting_max others.
    if (r->waiting >= r->options.waiting_max || r->free == NULL)
        *evicted = phx_rendezvous_evict(r);
    struct phx_conn *c = r->free;
    if (c == NULL)
        return PHX_RENDEZVOUS_NONE;
    r->free = c->next;
    bool was_news = c->is_news; // of the one before: it may stay in that list
    struct phx_conn *news_next = c->news_next;
    memset(c, 0, sizeof *c);
    c->is_news = was_news;
    c->news_next = news_next;
    c->state = PHX_CONN_HELLO;
    c->until_ms = now_ms + r->options.handshake_ms;
    c->in = c->small_in;
    c->out = c->small_out;
    c->out_bytes = sizeof c->small_out;
    wait_begin(r, c);
    r->stats.accepted++;
    return (uint32_t)(c - r->conns);
}

size_t phx_rendezvous_output(struct phx_rendezvous *r, uint32_t id, const uint8_t **bytes)
{
    struct phx_conn *c = conn_of(r, id);
    if (c->out_from == c->out_to && c->state == PHX_CONN_MEMBER)
        phx_exchange_fill(r, c);
    *bytes = c->out + c->out_from;
    return c->out_to - c->out_from;
}

void phx_rendezvous_sent(struct phx_rendezvous *r, uint32_t id, size_t count)
{
    struct phx_conn *c = conn_of(r, id);
    phx_assert(count <= c->out_to - c->out_from);
    c->out_from += (uint32_t)count;
    if (c->out_from == c->out_to && c->state == PHX_CONN_MEMBER)
        phx_exchange_fill(r, c);
}

bool phx_rendezvous_is_over(const struct phx_rendezvous *r, uint32_t id)
{
    return conn_of(r, id)->state == PHX_CONN_OVER;
}

void phx_rendezvous_gone(struct phx_rendezvous *r, uint32_t id)
{
    struct phx_conn *c = conn_of(r, id);
    end(r, c);
    phx_wire_session_wipe(&c->session);
    c->state = PHX_CONN_FREE;
    c->previous = NULL;
    c->next = r->free;
    r->free = c;
}

uint64_t phx_rendezvous_tick(struct phx_rendezvous *r, uint64_t now_ms)
{
    while (r->oldest != NULL && r->oldest->until_ms <= now_ms) {
        r->stats.expired++;
        end(r, r->oldest);
    }
    return r->oldest != NULL ? r->oldest->until_ms : UINT64_MAX;
}

// --- life ---------------------------------------------------------------------------------------

static void system_random(void *context, void *to, size_t bytes)
{
    (void)context;
    randombytes_buf(to, bytes);
}

static int options_check(const struct phx_rendezvous_options *o, struct phx_message *message)
{
    if (o->ranks < 1 || o->ranks > PHX_RANKS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "ranks is %u; it must be 1 to %u", o->ranks,
                        PHX_RANKS_MAX);
    if (o->secret == NULL || o->secret_bytes < PHX_BOOTSTRAP_SECRET_MIN ||
        o->secret_bytes > PHX_BOOTSTRAP_SECRET_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "the secret has %zu bytes; it must have %u to %u",
                        o->secret == NULL ? 0 : o->secret_bytes, PHX_BOOTSTRAP_SECRET_MIN,
                        PHX_BOOTSTRAP_SECRET_MAX);
    if (o->waiting_max > WAITING_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "waiting_max is %u; it must be at most %u",
                        o->waiting_max, WAITING_MAX);
    return 0;
}

static int memory_make(struct phx_rendezvous *r)
{
    uint32_t ranks = r->options.ranks;
    size_t buffer = PHX_WIRE_MESSAGE_MAX + PHX_RENDEZVOUS_OUT_BYTES;
    // Ranks, those that wait, and as many that are over but still open.
    r->conn_count = 2 * (ranks + r->options.waiting_max);
    r->conns = calloc(r->conn_count, sizeof *r->conns);
    r->members = calloc(ranks, sizeof *r->members);
    r->buffers = calloc(ranks, buffer); // touched when a rank joins
    if (r->conns == NULL || r->members == NULL || r->buffers == NULL)
        return PHX_ERR_NO_MEMORY;
    for (uint32_t i = r->conn_count; i-- > 0;) {
        r->conns[i].next = r->free;
        r->free = &r->conns[i];
    }
    for (uint32_t i = 0; i < ranks; i++) {
        r->members[i].in = r->buffers + i * buffer;
        r->members[i].out = r->members[i].in + PHX_WIRE_MESSAGE_MAX;
    }
    return 0;
}

int phx_rendezvous_create(const struct phx_rendezvous_options *options,
                          struct phx_rendezvous **rendezvous, struct phx_message *message)
{
    int rc = options_check(options, message);
    if (rc != 0)
        return rc;
    if (sodium_init() < 0)
        return phx_fail(message, PHX_ERR_IO, "libsodium found no source of random bytes");
    struct phx_rendezvous *r = calloc(1, sizeof *r);
    if (r == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a rendezvous");
    r->options = *options;
    r->options.secret = NULL;
    if (r->options.waiting_max == 0)
        r->options.waiting_max = WAITING_DEFAULT;
    if (r->options.handshake_ms == 0)
        r->options.handshake_ms = HANDSHAKE_DEFAULT_MS;
    if (r->options.exchange_bytes_max == 0)
        r->options.exchange_bytes_max = EXCHANGE_DEFAULT_BYTES;
    if (r->options.random == NULL)
        r->options.random = system_random;
    rc = memory_make(r);
    if (rc != 0) {
        phx_rendezvous_destroy(r);
        return phx_fail(message, rc, "no memory for a rendezvous of %u ranks", options->ranks);
    }
    phx_wire_secret_key(r->key, options->secret, options->secret_bytes);
    r->options.random(r->options.random_context, &r->job, sizeof r->job);
    *rendezvous = r;
    return 0;
}

void phx_rendezvous_destroy(struct phx_rendezvous *r)
{
    if (r == NULL)
        return;
    for (uint32_t i = 0; r->conns != NULL && i < r->conn_count; i++)
        phx_wire_session_wipe(&r->conns[i].session);
    free(r->exchanges[0].rows);
    free(r->exchanges[1].rows);
    free(r->conns);
    free(r->members);
    free(r->buffers);
    sodium_memzero(r->key, sizeof r->key);
    free(r);
}

uint32_t phx_rendezvous_connections_max(const struct phx_rendezvous *r)
{
    return r->conn_count;
}
uint32_t phx_rendezvous_present(const struct phx_rendezvous *r)
{
    return r->present;
}
bool phx_rendezvous_is_open(const struct phx_rendezvous *r)
{
    return r->is_open;
}

bool phx_rendezvous_is_drained(const struct phx_rendezvous *r)
{
    for (uint32_t i = 0; i < r->options.ranks; i++) {
        const struct phx_member *m = &r->members[i];
        if (m->conn != NULL && (m->is_taking || m->conn->out_from != m->conn->out_to))
            return false;
    }
    return true;
}

const struct phx_rendezvous_stats *phx_rendezvous_stats(const struct phx_rendezvous *r)
{
    return &r->stats;
}
