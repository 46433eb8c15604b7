// hw/rendezvous_exchange.c: all-to-alls of blobs, as the rendezvous holds them.
//
//     rank 0's row:  [to 0][to 1][to 2]     a row comes from its rank in pieces, from the front;
//     rank 1's row:  [to 0][to 1][to 2]     with all rows, each rank is sent its column.
//     rank 2's row:  [to 0][to 1][to 2]
//
// An exchange waits for the ranks that were connected when the first byte of it came, as long as
// they stay connected. What the others should have given is zeros.

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "hw/bootstrap.h"
#include "hw/rendezvous_internal.h"

static struct phx_exchange *exchange_at(struct phx_rendezvous *r, uint32_t number)
{
    return &r->exchanges[number % 2];
}

static uint64_t row_bytes(const struct phx_rendezvous *r, const struct phx_exchange *e)
{
    return (uint64_t)e->bytes * r->options.ranks;
}

static void taker_done(struct phx_exchange *e)
{
    phx_assert(e->is_decided && e->takers > 0);
    if (--e->takers > 0)
        return;
    free(e->rows);
    memset(e, 0, sizeof *e);
}

// --- deciding -----------------------------------------------------------------------------------

static void column_done(struct phx_rendezvous *r, struct phx_member *m)
{
    uint32_t number = m->next++;
    m->is_taking = false;
    m->given = m->taken = 0;
    taker_done(exchange_at(r, number));
}

static void tell_result(struct phx_rendezvous *r, struct phx_exchange *e)
{
    uint8_t body[8 + PHX_WIRE_RANKS_BYTES];
    uint64_t row = row_bytes(r, e);
    phx_wire_put(body, e->number, 4);
    phx_wire_put(body + 4, e->bytes, 4);
    memcpy(body + 8, e->given, sizeof e->given);
    e->takers++; // so that it outlasts this loop
    for (uint32_t i = 0; i < r->options.ranks; i++) {
        struct phx_member *m = &r->members[i];
        if (!m->is_taking || m->next != e->number)
            continue;
        if (!phx_rendezvous_say(r, m->conn, PHX_WIRE_RESULT, body, sizeof body))
            phx_rendezvous_reject(r, m->conn, PHX_WIRE_NOT_READING, 0);
        else if (row == 0)
            column_done(r, m);
    }
    taker_done(e);
}

// Every row that is awaited has come: the exchange is decided.
static void look(struct phx_rendezvous *r, struct phx_exchange *e)
{
    if (e->number == 0 || e->is_decided)
        return;
    for (uint32_t i = 0; i < sizeof e->awaited; i++)
        if ((e->awaited[i] & ~e->given[i]) != 0)
            return;
    e->is_decided = true;
    r->stats.exchanges++;
    uint64_t row = row_bytes(r, e);
    for (uint32_t i = 0; i < r->options.ranks; i++) {
        struct phx_member *m = &r->members[i];
        if (!phx_wire_has(e->given, i)) { // of a row that broke off, nothing is told
            if (row > 0)
                memset(e->rows + i * row, 0, row);
        } else if (m->conn != NULL && m->next == e->number) {
            m->is_taking = true;
            e->takers++;
        }
    }
    if (e->takers == 0) { // all who gave are gone
        e->takers = 1;
        taker_done(e);
        return;
    }
    tell_result(r, e);
}

// --- ranks come and go --------------------------------------------------------------------------

void phx_exchange_joined(struct phx_rendezvous *r, uint32_t rank)
{
    struct phx_member *m = &r->members[rank];
    m->next = r->begun + 1;
    m->given = m->taken = 0;
    m->is_taking = false;
}

void phx_exchange_left(struct phx_rendezvous *r, uint32_t rank)
{
    struct phx_member *m = &r->members[rank];
    if (m->is_taking) {
        m->is_taking = false;
        taker_done(exchange_at(r, m->next));
    }
    for (uint32_t i = 0; i < 2; i++) {
        struct phx_exchange *e = &r->exchanges[i];
        e->awaited[rank / 8] = (uint8_t)(e->awaited[rank / 8] & ~(1u << (rank % 8)));
        look(r, e);
    }
}

void phx_exchange_status(const struct phx_rendezvous *r, uint32_t rank,
                         uint8_t set[PHX_WIRE_RANKS_BYTES])
{
    const struct phx_exchange *e = &r->exchanges[r->members[rank].next % 2];
    memset(set, 0, PHX_WIRE_RANKS_BYTES);
    if (e->number == r->members[rank].next)
        memcpy(set, e->given, PHX_WIRE_RANKS_BYTES);
}

// --- rows in ------------------------------------------------------------------------------------

// 0, or the reason why there can be no such exchange.
static uint32_t begin(struct phx_rendezvous *r, uint32_t number, uint32_t bytes)
{
    struct phx_exchange *e = exchange_at(r, number);
    phx_assert(e->number == 0 && number == r->begun + 1);
    uint64_t all = (uint64_t)bytes * r->options.ranks * r->options.ranks;
    if (all > r->options.exchange_bytes_max)
        return PHX_WIRE_TOO_MUCH;
    if (all > 0 && (e->rows = calloc(1, (size_t)all)) == NULL)
        return PHX_WIRE_TOO_MUCH;
    e->number = r->begun = number;
    e->bytes = bytes;
    for (uint32_t i = 0; i < r->options.ranks; i++)
        if (r->members[i].conn != NULL)
            phx_wire_add(e->awaited, i);
    return 0;
}

void phx_exchange_data(struct phx_rendezvous *r, struct phx_conn *c, const uint8_t *body,
                       uint32_t bytes)
{
    struct phx_member *m = &r->members[c->rank];
    uint32_t number = (uint32_t)phx_wire_get(body, 4);
    uint32_t blob = (uint32_t)phx_wire_get(body + 4, 4);
    uint64_t offset = phx_wire_get(body + 8, 8);
    uint32_t piece = bytes - PHX_WIRE_DATA_HEAD;
    struct phx_exchange *e = exchange_at(r, number);
    bool is_begun = e->number == number;
    if (number != m->next || m->is_taking || (is_begun && phx_wire_has(e->given, c->rank)) ||
        blob > PHX_BOOTSTRAP_BLOB_MAX || offset != m->given) {
        phx_rendezvous_reject(r, c, PHX_WIRE_OUT_OF_ORDER, number);
        return;
    }
    uint32_t reason = is_begun ? 0 : begin(r, number, blob);
    if (reason != 0) {
        phx_rendezvous_reject(r, c, reason, (uint32_t)(r->options.exchange_bytes_max >> 20));
        return;
    }
    if (blob != e->bytes) {
        phx_rendezvous_reject(r, c, PHX_WIRE_OTHER_BYTES, e->bytes);
        return;
    }
    uint64_t row = row_bytes(r, e);
    if (piece > row - m->given || (piece == 0 && row > 0)) {
        phx_rendezvous_reject(r, c, PHX_WIRE_OUT_OF_ORDER, number);
        return;
    }
    if (piece > 0)
        memcpy(e->rows + c->rank * row + m->given, body + PHX_WIRE_DATA_HEAD, piece);
    m->given += piece;
    if (m->given == row) {
        phx_wire_add(e->given, c->rank);
        look(r, e);
    }
}

// --- columns out --------------------------------------------------------------------------------

// The next piece of m's column, behind its head in r->piece; its size.
static uint32_t gather(struct phx_rendezvous *r, const struct phx_exchange *e,
                       const struct phx_member *m)
{
    uint64_t row = row_bytes(r, e);
    uint64_t mine = (uint64_t)(m - r->members) * e->bytes; // where a row has what is for m
    uint64_t left = row - m->taken;
    uint32_t size = left < PHX_WIRE_PIECE_MAX ? (uint32_t)left : PHX_WIRE_PIECE_MAX;
    for (uint32_t done = 0; done < size;) {
        uint64_t at = m->taken + done;
        uint64_t in_blob = at % e->bytes;
        uint64_t rest = e->bytes - in_blob;
        uint32_t count = rest < size - done ? (uint32_t)rest : size - done;
        memcpy(r->piece + PHX_WIRE_DATA_HEAD + done, e->rows + at / e->bytes * row + mine + in_blob,
               count);
        done += count;
    }
    return size;
}

void phx_exchange_fill(struct phx_rendezvous *r, struct phx_conn *c)
{
    struct phx_member *m = &r->members[c->rank];
    if (!m->is_taking)
        return;
    const struct phx_exchange *e = exchange_at(r, m->next);
    phx_assert(e->is_decided && e->number == m->next);
    uint32_t size = gather(r, e, m);
    phx_wire_put(r->piece, e->number, 4);
    phx_wire_put(r->piece + 4, e->bytes, 4);
    phx_wire_put(r->piece + 8, m->taken, 8);
    if (!phx_rendezvous_say(r, c, PHX_WIRE_DATA, r->piece, PHX_WIRE_DATA_HEAD + size))
        return; // when there is room
    m->taken += size;
    if (m->taken == row_bytes(r, e))
        column_done(r, m);
}
