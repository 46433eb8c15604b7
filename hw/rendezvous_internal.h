// hw/rendezvous_internal.h: the state machine's own state. Only rendezvous*.c include it.

#ifndef PHX_HW_RENDEZVOUS_INTERNAL_H
#define PHX_HW_RENDEZVOUS_INTERNAL_H

#include "engine/limits.h"
#include "hw/bootstrap_wire.h"
#include "hw/rendezvous.h"

// Room behind a DATA message for everything else that a rank may be owed at once.
#define PHX_RENDEZVOUS_OUT_BYTES (PHX_WIRE_MESSAGE_MAX + 2048u)

//     accept          a good HELLO         a good JOIN            LEAVE, or a fault
//   -----------> HELLO ---------> JOIN -------------------> MEMBER ---------------> OVER
//                  |                |                                                ^
//                  +----------------+--- anything else, or too late -----------------+
enum phx_conn_state {
    PHX_CONN_FREE = 0,
    PHX_CONN_HELLO,
    PHX_CONN_JOIN,
    PHX_CONN_MEMBER,
    PHX_CONN_OVER
};

struct phx_conn {
    uint32_t state; // enum phx_conn_state
    uint32_t rank;  // of a member
    uint64_t until_ms;
    // Of connections that have proved nothing, by age; of free ones, `next` alone.
    struct phx_conn *next;
    struct phx_conn *previous;
    struct phx_conn *news_next;
    bool is_news;
    uint32_t in_bytes; // of the message that is coming
    uint32_t out_from; // output is out[out_from, out_to)
    uint32_t out_to;
    uint8_t *in;  // small_in, or a member's own
    uint8_t *out; // small_out, or a member's own
    uint32_t out_bytes;
    struct phx_wire_session session;
    uint8_t small_in[PHX_WIRE_SMALL_MAX];
    uint8_t small_out[PHX_WIRE_CHALLENGE_BYTES + 2 * PHX_WIRE_SMALL_MAX];
};

struct phx_member {        // a rank number
    struct phx_conn *conn; // NULL: not connected
    uint32_t incarnation;
    uint32_t next;  // the number of its next exchange, from 1
    uint64_t given; // bytes of its row of exchange `next` that came
    uint64_t taken; // bytes of the column of exchange `next` that went out
    bool is_taking; // RESULT went out, and the column goes
    uint8_t *in;    // [PHX_WIRE_MESSAGE_MAX]
    uint8_t *out;   // [PHX_RENDEZVOUS_OUT_BYTES]
};

// One exchange; number n is in exchanges[n % 2]. A rank gives to n + 1 when it has taken n, so n is
// complete, and n - 1 is taken by all who live, before anyone gives to n + 1.
struct phx_exchange {
    uint32_t number; // 0: none
    uint32_t bytes;  // of a blob
    bool is_decided;
    uint32_t takers;                       // decided: ranks that have not taken their columns
    uint8_t awaited[PHX_WIRE_RANKS_BYTES]; // ranks whose rows it waits for, or has
    uint8_t given[PHX_WIRE_RANKS_BYTES];   // ranks whose rows are complete
    uint8_t *rows;                         // [ranks][ranks][bytes], as given
};

struct phx_rendezvous {
    struct phx_rendezvous_options options;
    struct phx_rendezvous_stats stats;
    uint8_t key[PHX_WIRE_KEY];
    uint64_t job;
    bool is_open;
    uint32_t present;
    uint32_t begun; // the highest number of an exchange that a rank gave to
    uint32_t conn_count;
    struct phx_conn *conns;  // [conn_count]
    struct phx_conn *free;   // a stack
    struct phx_conn *oldest; // that have proved nothing
    struct phx_conn *newest;
    uint32_t waiting;           // of them
    struct phx_conn *news;      // a stack
    struct phx_member *members; // [ranks]
    uint8_t *buffers;           // of members
    struct phx_exchange exchanges[2];
    uint8_t piece[PHX_WIRE_BODY_MAX];
};

// rendezvous.c
// Seals a message into the output. False: there is no room.
bool phx_rendezvous_say(struct phx_rendezvous *r, struct phx_conn *c, uint16_t type,
                        const uint8_t *body, uint32_t bytes);
void phx_rendezvous_reject(struct phx_rendezvous *r, struct phx_conn *c, uint32_t reason,
                           uint32_t detail);
void phx_rendezvous_tell(struct phx_rendezvous *r, struct phx_conn *c); // c is news

// rendezvous_exchange.c
void phx_exchange_joined(struct phx_rendezvous *r, uint32_t rank);
void phx_exchange_left(struct phx_rendezvous *r, uint32_t rank);
void phx_exchange_data(struct phx_rendezvous *r, struct phx_conn *c, const uint8_t *body,
                       uint32_t bytes);
void phx_exchange_fill(struct phx_rendezvous *r,
                       struct phx_conn *c); // its output, if there is room
// The set of ranks whose rows of the exchange that this member is in are complete.
void phx_exchange_status(const struct phx_rendezvous *r, uint32_t rank,
                         uint8_t set[PHX_WIRE_RANKS_BYTES]);

#endif
