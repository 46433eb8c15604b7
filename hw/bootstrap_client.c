// hw/bootstrap_client.c: a rank's end. Nothing that the other end sends is believed before its
// header is in bounds and its body opens.

#include "hw/bootstrap_client.h"

#include <string.h>

#include "hw/bootstrap_internal.h"

// --- messages -----------------------------------------------------------------------------------

static int reason_code(uint32_t reason)
{
    switch (reason) {
    case PHX_WIRE_WRONG_SECRET:
        return PHX_ERR_PROTECTION;
    case PHX_WIRE_OTHER_VERSION:
        return PHX_ERR_UNSUPPORTED;
    case PHX_WIRE_RANK_TAKEN:
        return PHX_ERR_STATE;
    case PHX_WIRE_RANK_RANGE:
        return PHX_ERR_INVALID;
    case PHX_WIRE_OTHER_RANKS:
    case PHX_WIRE_OTHER_BYTES:
        return PHX_ERR_MISMATCH;
    case PHX_WIRE_TOO_MUCH:
        return PHX_ERR_NO_MEMORY;
    default:
        return PHX_ERR_CORRUPT;
    }
}

static int refused(const struct phx_client *c, const uint8_t *body, bool is_sealed,
                   struct phx_message *message)
{
    uint32_t reason = (uint32_t)phx_wire_get(body, 4);
    uint32_t detail = is_sealed ? (uint32_t)phx_wire_get(body + 4, 4) : 0;
    int code = reason_code(reason);
    const char *text = phx_wire_reason_text(reason);
    switch (is_sealed ? reason : 0) {
    case PHX_WIRE_OTHER_RANKS:
        return phx_fail(message, code, "the rendezvous is for %u ranks; rank %u has %u", detail,
                        c->rank, c->ranks);
    case PHX_WIRE_OTHER_BYTES:
        return phx_fail(message, code,
                        "the rendezvous refused rank %u: %s, which exchange %u bytes", c->rank,
                        text, detail);
    case PHX_WIRE_TOO_MUCH:
        return phx_fail(message, code, "the rendezvous refused rank %u: %s, %u MiB", c->rank, text,
                        detail);
    default:
        return phx_fail(message, code, "the rendezvous refused rank %u: %s", c->rank, text);
    }
}

// The next whole message lies in c->in afterwards.
static int message_receive(struct phx_client *c, struct phx_wire_header *header, uint64_t until_ms,
                           struct phx_message *message)
{
    for (;;) {
        uint32_t wanted = PHX_WIRE_HEADER;
        if (c->in_bytes >= PHX_WIRE_HEADER) {
            uint32_t reason = phx_wire_header_read(c->in, header);
            if (reason != 0)
                return phx_fail(message, PHX_ERR_CORRUPT, "what answers is no rendezvous: %s",
                                phx_wire_reason_text(reason));
            wanted += header->length;
        }
        if (c->in_bytes == wanted && wanted > PHX_WIRE_HEADER) {
            c->in_bytes = 0;
            return 0;
        }
        int got =
            c->link.receive(c->link.context, c->in + c->in_bytes, wanted - c->in_bytes, until_ms);
        if (got < 0)
            return phx_fail(message, got, "the rendezvous %s",
                            got == PHX_ERR_TIMEOUT ? "did not answer in time" : "is gone");
        c->in_bytes += (uint32_t)got;
    }
}

// The next message, opened: its body and size. A REJECTED is its error.
static int sealed_receive(struct phx_client *c, uint16_t *type, const uint8_t **body,
                          uint32_t *bytes, uint64_t until_ms, struct phx_message *message)
{
    struct phx_wire_header header = {0, 0, 0};
    int rc = message_receive(c, &header, until_ms, message);
    if (rc != 0)
        return rc;
    if (!phx_wire_open(&c->session, c->in, c->in + PHX_WIRE_HEADER, bytes))
        return phx_fail(message, PHX_ERR_CORRUPT,
                        "a message of the rendezvous is forged, repeated or out of order");
    *body = c->in + PHX_WIRE_HEADER;
    *type = header.type;
    return *type == PHX_WIRE_REJECTED ? refused(c, *body, true, message) : 0;
}

static int unexpected(uint16_t type, struct phx_message *message)
{
    return phx_fail(message, PHX_ERR_CORRUPT,
                    "the rendezvous sent a message of type %u where none belongs", type);
}

// --- joining ------------------------------------------------------------------------------------

static int challenge_take(struct phx_client *c, const uint8_t key[PHX_WIRE_KEY],
                          const uint8_t hello[PHX_WIRE_HELLO_BYTES], uint64_t until_ms,
                          struct phx_message *message)
{
    struct phx_wire_header header = {0, 0, 0};
    int rc = message_receive(c, &header, until_ms, message);
    if (rc != 0)
        return rc;
    if (header.type == PHX_WIRE_REFUSED)
        return refused(c, c->in + PHX_WIRE_HEADER, false, message);
    if (header.type != PHX_WIRE_CHALLENGE)
        return unexpected(header.type, message);
    if (!phx_wire_session_agree(&c->session, false, key, hello, c->in))
        return phx_fail(message, PHX_ERR_CORRUPT, "the rendezvous's public key is worthless");
    return 0;
}

static int accepted_take(struct phx_client *c, uint64_t until_ms, struct phx_message *message)
{
    struct phx_wire_header header = {0, 0, 0};
    uint32_t bytes = 0;
    int rc = message_receive(c, &header, until_ms, message);
    if (rc != 0)
        return rc;
    const uint8_t *body = c->in + PHX_WIRE_HEADER;
    if (header.type == PHX_WIRE_REFUSED)
        return refused(c, body, false, message);
    if (!phx_wire_open(&c->session, c->in, c->in + PHX_WIRE_HEADER, &bytes))
        return phx_fail(message, PHX_ERR_PROTECTION,
                        "what answers as rendezvous has not proved that it knows the secret");
    if (header.type == PHX_WIRE_REJECTED)
        return refused(c, body, true, message);
    if (header.type != PHX_WIRE_ACCEPTED)
        return unexpected(header.type, message);
    c->job = phx_wire_get(body, 8);
    c->incarnation = (uint32_t)phx_wire_get(body + 8, 4);
    c->next = (uint32_t)phx_wire_get(body + 12, 4);
    return 0;
}

int phx_client_handshake(struct phx_client *c, const uint8_t key[PHX_WIRE_KEY],
                         const uint8_t seed[PHX_WIRE_KEY], uint64_t until_ms,
                         struct phx_message *message)
{
    uint8_t hello[PHX_WIRE_HELLO_BYTES];
    uint8_t join[8];
    c->in_bytes = 0;
    phx_wire_session_start(&c->session, seed);
    phx_wire_hello_write(&c->session, key, hello);
    int rc = c->link.send(c->link.context, hello, sizeof hello, until_ms);
    if (rc != 0)
        return phx_fail(message, rc, "the rendezvous did not take a HELLO");
    rc = challenge_take(c, key, hello, until_ms, message);
    if (rc != 0)
        return rc;
    phx_wire_put(join, c->rank, 4);
    phx_wire_put(join + 4, c->ranks, 4);
    uint32_t size = phx_wire_seal(&c->session, PHX_WIRE_JOIN, join, sizeof join, c->out);
    rc = c->link.send(c->link.context, c->out, size, until_ms);
    if (rc != 0)
        return phx_fail(message, rc, "the rendezvous did not take a JOIN");
    return accepted_take(c, until_ms, message);
}

static int query_send(struct phx_client *c, uint64_t until_ms, struct phx_message *message)
{
    uint32_t size = phx_wire_seal(&c->session, PHX_WIRE_QUERY, NULL, 0, c->out);
    int rc = c->link.send(c->link.context, c->out, size, until_ms);
    return rc == 0 ? 0 : phx_fail(message, rc, "the rendezvous did not answer in time");
}

int phx_client_ready(struct phx_client *c, uint64_t until_ms, uint32_t ask_ms,
                     struct phx_message *message)
{
    bool has_asked = false;
    for (;;) {
        uint16_t type = 0;
        const uint8_t *body = NULL;
        uint32_t bytes = 0;
        int rc = sealed_receive(c, &type, &body, &bytes, until_ms, message);
        if (rc == PHX_ERR_TIMEOUT && !has_asked) {
            has_asked = true;
            until_ms += ask_ms;
            rc = query_send(c, until_ms, message);
            if (rc == 0)
                continue;
        }
        if (rc != 0)
            return rc;
        if (type == PHX_WIRE_READY)
            return 0;
        if (type != PHX_WIRE_STATUS || !has_asked)
            return unexpected(type, message);
        char names[128];
        phx_bootstrap_name_missing(names, sizeof names, body, c->ranks);
        return phx_fail(message, PHX_ERR_TIMEOUT, "not joined in time: %s", names);
    }
}

// --- exchanges ----------------------------------------------------------------------------------

struct column { // of an exchange, as it comes
    uint32_t number;
    uint32_t bytes;
    uint8_t *theirs;
    uint64_t taken;
    uint64_t size;
    bool has_result;
};

static int row_send(struct phx_client *c, const struct column *column, const uint8_t *mine,
                    uint64_t until_ms)
{
    uint8_t body[PHX_WIRE_BODY_MAX];
    uint64_t at = 0;
    int rc;
    do {
        uint64_t left = column->size - at;
        uint32_t piece = left < PHX_WIRE_PIECE_MAX ? (uint32_t)left : PHX_WIRE_PIECE_MAX;
        phx_wire_put(body, column->number, 4);
        phx_wire_put(body + 4, column->bytes, 4);
        phx_wire_put(body + 8, at, 8);
        if (piece > 0)
            memcpy(body + PHX_WIRE_DATA_HEAD, mine + at, piece);
        uint32_t size =
            phx_wire_seal(&c->session, PHX_WIRE_DATA, body, PHX_WIRE_DATA_HEAD + piece, c->out);
        rc = c->link.send(c->link.context, c->out, size, until_ms);
        at += piece;
    } while (rc == 0 && at < column->size);
    return rc;
}

static int column_take(struct column *column, const uint8_t *body, uint32_t bytes,
                       struct phx_message *message)
{
    uint32_t piece = bytes - PHX_WIRE_DATA_HEAD;
    if (!column->has_result || phx_wire_get(body, 4) != column->number ||
        phx_wire_get(body + 4, 4) != column->bytes || phx_wire_get(body + 8, 8) != column->taken ||
        piece == 0 || piece > column->size - column->taken)
        return phx_fail(message, PHX_ERR_CORRUPT,
                        "the rendezvous sent a piece that does not belong into exchange %u",
                        column->number);
    memcpy(column->theirs + column->taken, body + PHX_WIRE_DATA_HEAD, piece);
    column->taken += piece;
    return 0;
}

static int result_take(struct column *column, const uint8_t *body,
                       uint8_t set[PHX_WIRE_RANKS_BYTES], struct phx_message *message)
{
    if (column->has_result || phx_wire_get(body, 4) != column->number ||
        phx_wire_get(body + 4, 4) != column->bytes)
        return phx_fail(message, PHX_ERR_CORRUPT,
                        "the rendezvous sent a result that is not of exchange %u", column->number);
    memcpy(set, body + 8, PHX_WIRE_RANKS_BYTES);
    column->has_result = true;
    return 0;
}

static int exchange_late(const struct phx_client *c, const struct column *column,
                         const uint8_t *status, struct phx_message *message)
{
    uint8_t set[PHX_WIRE_RANKS_BYTES];
    char names[128];
    for (uint32_t i = 0; i < sizeof set; i++) // those that are connected and have not given
        set[i] = (uint8_t)(status[PHX_WIRE_RANKS_BYTES + i] | ~status[i]);
    phx_bootstrap_name_missing(names, sizeof names, set, c->ranks);
    return phx_fail(message, PHX_ERR_TIMEOUT, "exchange %u still waits for %s", column->number,
                    names[0] != '\0' ? names : "the rendezvous");
}

int phx_client_exchange(struct phx_client *c, uint32_t number, const void *mine, void *theirs,
                        uint32_t bytes, uint8_t set[PHX_WIRE_RANKS_BYTES], uint64_t until_ms,
                        uint32_t ask_ms, struct phx_message *message)
{
    struct column column = {number, bytes, theirs, 0, (uint64_t)bytes * c->ranks, false};
    int rc = row_send(c, &column, mine, until_ms);
    if (rc == PHX_ERR_TIMEOUT)
        return phx_fail(message, rc, "the rendezvous does not take exchange %u", number);
    // Otherwise go on and read: if the other end is gone, it may have said why.
    for (bool has_asked = false; !column.has_result || column.taken < column.size;) {
        uint16_t type = 0;
        const uint8_t *body = NULL;
        uint32_t size = 0;
        rc = sealed_receive(c, &type, &body, &size, until_ms, message);
        if (rc == PHX_ERR_TIMEOUT && !has_asked) {
            has_asked = true;
            until_ms += ask_ms;
            rc = query_send(c, until_ms, message);
            if (rc == 0)
                continue;
        }
        if (rc == PHX_ERR_PEER_UNREACHABLE)
            return phx_fail(message, PHX_ERR_PEER_LOST,
                            "the rendezvous is gone, and exchange %u with it", number);
        if (rc != 0)
            return rc;
        if (type == PHX_WIRE_STATUS && has_asked)
            return exchange_late(c, &column, body, message);
        if (type != PHX_WIRE_RESULT && type != PHX_WIRE_DATA)
            return unexpected(type, message);
        rc = type == PHX_WIRE_RESULT ? result_take(&column, body, set, message)
                                     : column_take(&column, body, size, message);
        if (rc != 0)
            return rc;
    }
    return 0;
}

void phx_client_leave(struct phx_client *c, uint64_t until_ms)
{
    uint32_t size = phx_wire_seal(&c->session, PHX_WIRE_LEAVE, NULL, 0, c->out);
    (void)c->link.send(c->link.context, c->out, size, until_ms);
    phx_wire_session_wipe(&c->session);
}
