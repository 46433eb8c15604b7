// tests/test_bootstrap_rendezvous.c: the rendezvous as a state machine: who gets in, what happens
// to bytes that are wrong, and exchanges. No socket, no clock.

#include "tests/test.h"

#if PHX_HAVE_SODIUM

#include <stdlib.h>
#include <string.h>

#include "tests/bootstrap_peer.h"

enum { RANKS = 4 };

struct meeting {
    uint64_t counter;
    struct phx_rendezvous *r;
    struct peer ranks[RANKS];
};
static struct meeting m; // large, and zero at the start of each test

static uint8_t body[PHX_WIRE_MESSAGE_MAX];
static uint32_t bytes;

static uint32_t arrive(void)
{
    uint32_t evicted;
    uint32_t id = phx_rendezvous_accept(m.r, 0, &evicted);
    CHECK_EQ(evicted, PHX_RENDEZVOUS_NONE);
    return id;
}

static void meeting_make(void)
{
    memset(&m, 0, sizeof m);
    m.r = peer_rendezvous(RANKS, 16, &m.counter);
}

static void meeting_join(void)
{
    meeting_make();
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_EQ(peer_enter(&m.ranks[i], m.r, arrive(), i, RANKS), PHX_WIRE_ACCEPTED);
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_EQ(peer_take(&m.ranks[i], body, &bytes), PHX_WIRE_READY);
}

static uint32_t reason_of_end(struct peer *p, uint16_t type)
{
    CHECK_EQ(peer_take(p, body, &bytes), type);
    CHECK(phx_rendezvous_is_over(m.r, p->id));
    return (uint32_t)phx_wire_get(body, 4);
}

// --- the handshake ------------------------------------------------------------------------------

TEST(a_wrong_secret_gets_a_reason_and_nothing_else)
{
    struct peer p;
    meeting_make();
    peer_start(&p, m.r, arrive(), 9);
    phx_wire_secret_key(p.key, (const uint8_t *)"another secret!!", 16);
    phx_wire_hello_write(&p.session, p.key, p.hello);
    uint64_t drawn = m.counter;
    peer_hello(&p);
    CHECK_EQ(m.counter, drawn); // no key was made for it
    const uint8_t *out;
    CHECK_EQ(phx_rendezvous_output(m.r, p.id, &out), PHX_WIRE_HEADER + 4);
    CHECK_EQ(reason_of_end(&p, PHX_WIRE_REFUSED), PHX_WIRE_WRONG_SECRET);
    phx_rendezvous_destroy(m.r);
}

TEST(a_replayed_handshake_is_refused_at_its_second_message)
{
    struct peer p;
    struct peer thief;
    uint8_t join[PHX_WIRE_SMALL_MAX];
    meeting_make();
    peer_start(&p, m.r, arrive(), 9);
    peer_hello(&p);
    CHECK_EQ(peer_take(&p, body, &bytes), PHX_WIRE_CHALLENGE);
    uint8_t text[8] = {1, 0, 0, 0, RANKS, 0, 0, 0};
    uint32_t size = phx_wire_seal(&p.session, PHX_WIRE_JOIN, text, sizeof text, join);
    peer_send(&p, join, size);
    CHECK_EQ(peer_take(&p, body, &bytes), PHX_WIRE_ACCEPTED);
    phx_rendezvous_gone(m.r, p.id);

    peer_start(&thief, m.r, arrive(), 9);
    peer_send(&thief, p.hello, sizeof p.hello);
    CHECK_EQ(peer_take(&thief, body, &bytes), PHX_WIRE_CHALLENGE);
    peer_send(&thief, join, size);
    CHECK_EQ(reason_of_end(&thief, PHX_WIRE_REFUSED), PHX_WIRE_WRONG_SECRET);
    CHECK_EQ(phx_rendezvous_present(m.r), 0);
    phx_rendezvous_destroy(m.r);
}

TEST(a_reflected_message_does_not_open)
{
    struct peer p;
    uint8_t accepted[PHX_WIRE_MESSAGE_MAX];
    const uint8_t *out;
    meeting_make();
    peer_start(&p, m.r, arrive(), 9);
    peer_hello(&p);
    CHECK_EQ(peer_take(&p, body, &bytes), PHX_WIRE_CHALLENGE);
    peer_join(&p, 0, RANKS);
    size_t count = phx_rendezvous_output(m.r, p.id, &out);
    memcpy(accepted, out, count);
    phx_rendezvous_sent(m.r, p.id, count);
    phx_wire_put(accepted + 6, PHX_WIRE_QUERY, 2); // any type that ranks may send
    phx_wire_put(accepted + 8, PHX_WIRE_TAG, 4);
    peer_send(&p, accepted, PHX_WIRE_HEADER + PHX_WIRE_TAG);
    CHECK(phx_rendezvous_is_over(m.r, p.id));
    phx_rendezvous_destroy(m.r);
}

TEST(every_truncated_handshake_waits_and_then_expires)
{
    for (uint32_t size = 0; size < PHX_WIRE_HELLO_BYTES; size++) {
        struct peer p;
        meeting_make();
        peer_start(&p, m.r, arrive(), 9);
        peer_send(&p, p.hello, size);
        CHECK_EQ(peer_take(&p, body, &bytes), 0);
        CHECK(!phx_rendezvous_is_over(m.r, p.id));
        CHECK_EQ(phx_rendezvous_tick(m.r, 999), 1000);
        CHECK(!phx_rendezvous_is_over(m.r, p.id));
        CHECK_EQ(phx_rendezvous_tick(m.r, 1000), UINT64_MAX);
        CHECK(phx_rendezvous_is_over(m.r, p.id));
        phx_rendezvous_destroy(m.r);
    }
}

TEST(every_flipped_bit_of_a_handshake_is_refused)
{
    for (uint32_t bit = 0; bit < 8 * PHX_WIRE_HELLO_BYTES; bit++) {
        struct peer p;
        meeting_make();
        peer_start(&p, m.r, arrive(), 9);
        p.hello[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        peer_hello(&p);
        CHECK_MSG(phx_rendezvous_is_over(m.r, p.id), "bit %u", bit);
        phx_rendezvous_destroy(m.r);
    }
    for (uint32_t bit = 0; bit < 8 * (PHX_WIRE_HEADER + 8 + PHX_WIRE_TAG); bit++) {
        struct peer p;
        uint8_t join[PHX_WIRE_SMALL_MAX];
        uint8_t text[8] = {1, 0, 0, 0, RANKS, 0, 0, 0};
        meeting_make();
        peer_start(&p, m.r, arrive(), 9);
        peer_hello(&p);
        CHECK_EQ(peer_take(&p, body, &bytes), PHX_WIRE_CHALLENGE);
        uint32_t size = phx_wire_seal(&p.session, PHX_WIRE_JOIN, text, sizeof text, join);
        join[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        peer_send(&p, join, size);
        CHECK_MSG(phx_rendezvous_is_over(m.r, p.id), "bit %u of JOIN", bit);
        CHECK_EQ(phx_rendezvous_present(m.r), 0);
        phx_rendezvous_destroy(m.r);
    }
}

TEST(oversized_and_unknown_messages_are_refused_by_their_header)
{
    static const struct {
        uint16_t version;
        uint16_t type;
        uint32_t length;
        uint32_t reason;
    } cases[] = {
        {PHX_WIRE_VERSION, PHX_WIRE_HELLO, 65, PHX_WIRE_MALFORMED},
        {PHX_WIRE_VERSION, PHX_WIRE_HELLO, 63, PHX_WIRE_MALFORMED},
        {PHX_WIRE_VERSION, PHX_WIRE_HELLO, UINT32_MAX, PHX_WIRE_MALFORMED},
        {PHX_WIRE_VERSION, PHX_WIRE_DATA, PHX_WIRE_BODY_MAX, PHX_WIRE_MALFORMED},
        {PHX_WIRE_VERSION, PHX_WIRE_JOIN, 24, PHX_WIRE_MALFORMED},
        {PHX_WIRE_VERSION, 0, 64, PHX_WIRE_MALFORMED},
        {PHX_WIRE_VERSION, PHX_WIRE_TYPES, 64, PHX_WIRE_MALFORMED},
        {PHX_WIRE_VERSION + 1, PHX_WIRE_HELLO, 64, PHX_WIRE_OTHER_VERSION},
        {0, PHX_WIRE_HELLO, 64, PHX_WIRE_OTHER_VERSION},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct peer p;
        meeting_make();
        peer_start(&p, m.r, arrive(), 9);
        phx_wire_put(p.hello + 4, cases[i].version, 2);
        phx_wire_put(p.hello + 6, cases[i].type, 2);
        phx_wire_put(p.hello + 8, cases[i].length, 4);
        peer_send(&p, p.hello, PHX_WIRE_HEADER); // its body is never waited for
        CHECK_MSG(phx_rendezvous_is_over(m.r, p.id), "case %zu", i);
        CHECK_EQ(reason_of_end(&p, PHX_WIRE_REFUSED), cases[i].reason);
        phx_rendezvous_destroy(m.r);
    }
}

TEST(a_handshake_out_of_order_is_refused)
{
    struct peer p;
    meeting_make();
    peer_start(&p, m.r, arrive(), 9); // HELLO twice
    peer_hello(&p);
    peer_hello(&p);
    CHECK(phx_rendezvous_is_over(m.r, p.id));
    peer_start(&p, m.r, arrive(), 9); // JOIN first
    peer_join(&p, 0, RANKS);
    CHECK_EQ(reason_of_end(&p, PHX_WIRE_REFUSED), PHX_WIRE_MALFORMED);
    CHECK_EQ(peer_enter(&m.ranks[0], m.r, arrive(), 0, RANKS), PHX_WIRE_ACCEPTED);
    peer_join(&m.ranks[0], 1, RANKS); // JOIN twice
    CHECK_EQ(reason_of_end(&m.ranks[0], PHX_WIRE_REJECTED), PHX_WIRE_OUT_OF_ORDER);
    phx_rendezvous_destroy(m.r);
}

TEST(sealed_messages_that_repeat_or_change_places_are_rejected)
{
    uint8_t first[64];
    uint8_t second[64];
    for (int is_swapped = 0; is_swapped < 2; is_swapped++) {
        meeting_join();
        struct peer *p = &m.ranks[0];
        uint32_t size = phx_wire_seal(&p->session, PHX_WIRE_QUERY, NULL, 0, first);
        (void)phx_wire_seal(&p->session, PHX_WIRE_QUERY, NULL, 0, second);
        peer_send(p, is_swapped ? second : first, size);
        if (!is_swapped) {
            CHECK_EQ(peer_take(p, body, &bytes), PHX_WIRE_STATUS);
            peer_send(p, first, size);
        }
        CHECK_EQ(reason_of_end(p, PHX_WIRE_REJECTED), PHX_WIRE_OUT_OF_ORDER);
        CHECK_EQ(phx_rendezvous_present(m.r), RANKS - 1);
        phx_rendezvous_destroy(m.r);
    }
}

// --- who is there -------------------------------------------------------------------------------

TEST(a_rank_number_is_given_once_and_again_after_its_end)
{
    struct peer twin;
    meeting_join();
    CHECK_EQ(peer_enter(&twin, m.r, arrive(), 2, RANKS), PHX_WIRE_REJECTED);
    CHECK_EQ(phx_rendezvous_stats(m.r)->last_reason, PHX_WIRE_RANK_TAKEN);
    phx_rendezvous_gone(m.r, m.ranks[2].id);
    peer_start(&twin, m.r, arrive(), 7);
    peer_hello(&twin);
    CHECK_EQ(peer_take(&twin, body, &bytes), PHX_WIRE_CHALLENGE);
    peer_join(&twin, 2, RANKS);
    CHECK_EQ(peer_take(&twin, body, &bytes), PHX_WIRE_ACCEPTED);
    CHECK_EQ(phx_wire_get(body + 8, 4), 2); // the incarnation
    CHECK_EQ(peer_take(&twin, body, &bytes), PHX_WIRE_READY);
    phx_rendezvous_destroy(m.r);
}

TEST(ranks_outside_the_job_and_other_sizes_are_rejected_by_name)
{
    struct peer p;
    meeting_make();
    CHECK_EQ(peer_enter(&p, m.r, arrive(), 4, RANKS), PHX_WIRE_REJECTED);
    CHECK_EQ(phx_rendezvous_stats(m.r)->last_reason, PHX_WIRE_RANK_RANGE);
    CHECK_EQ(peer_enter(&p, m.r, arrive(), 0, 5), PHX_WIRE_REJECTED);
    CHECK_EQ(phx_rendezvous_stats(m.r)->last_reason, PHX_WIRE_OTHER_RANKS);
    phx_rendezvous_destroy(m.r);
}

TEST(the_oldest_silent_connection_gives_way_and_ranks_stay)
{
    meeting_join();
    uint32_t evicted;
    uint32_t first = arrive();
    for (int i = 0; i < 15; i++)
        (void)arrive();
    for (int i = 0; i < 100; i++) {
        uint32_t id = phx_rendezvous_accept(m.r, 0, &evicted);
        CHECK(evicted != PHX_RENDEZVOUS_NONE);
        CHECK_EQ(id, evicted);
        if (i == 0)
            CHECK_EQ(evicted, first);
    }
    CHECK_EQ(phx_rendezvous_stats(m.r)->evicted, 100);
    CHECK_EQ(phx_rendezvous_present(m.r), RANKS);
    peer_seal(&m.ranks[3], PHX_WIRE_QUERY, NULL, 0);
    CHECK_EQ(peer_take(&m.ranks[3], body, &bytes), PHX_WIRE_STATUS);
    phx_rendezvous_destroy(m.r);
}

TEST(a_rank_that_asks_and_never_reads_is_dropped)
{
    meeting_join();
    for (int i = 0; i < 1000 && !phx_rendezvous_is_over(m.r, m.ranks[1].id); i++)
        peer_seal(&m.ranks[1], PHX_WIRE_QUERY, NULL, 0);
    CHECK(phx_rendezvous_is_over(m.r, m.ranks[1].id));
    CHECK_EQ(phx_rendezvous_stats(m.r)->last_reason, PHX_WIRE_NOT_READING);
    CHECK_EQ(phx_rendezvous_present(m.r), RANKS - 1);
    phx_rendezvous_destroy(m.r);
}

// --- exchanges ----------------------------------------------------------------------------------

static void give(uint32_t rank, uint32_t number, uint32_t blob)
{
    static uint8_t row[RANKS * 64];
    for (uint32_t i = 0; i < RANKS * blob; i++)
        row[i] = (uint8_t)(rank * 64 + i / blob * 16 + number);
    peer_data(&m.ranks[rank], number, blob, 0, row, RANKS * blob);
}

static void take(uint32_t rank, uint32_t number, uint32_t blob, uint32_t missing)
{
    CHECK_EQ(peer_take(&m.ranks[rank], body, &bytes), PHX_WIRE_RESULT);
    CHECK_EQ(phx_wire_get(body, 4), number);
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_EQ(phx_wire_has(body + 8, i), i != missing);
    CHECK_EQ(peer_take(&m.ranks[rank], body, &bytes), PHX_WIRE_DATA);
    CHECK_EQ(bytes, PHX_WIRE_DATA_HEAD + RANKS * blob);
    for (uint32_t i = 0; i < RANKS * blob; i++)
        CHECK_EQ(body[PHX_WIRE_DATA_HEAD + i],
                 i / blob == missing ? 0 : (uint8_t)(i / blob * 64 + rank * 16 + number));
}

TEST(an_exchange_gives_each_rank_its_column)
{
    meeting_join();
    for (uint32_t number = 1; number < 4; number++) {
        for (uint32_t i = 0; i < RANKS; i++)
            give(i, number, 5);
        for (uint32_t i = 0; i < RANKS; i++)
            take(i, number, 5, RANKS);
    }
    CHECK(phx_rendezvous_is_drained(m.r));
    phx_rendezvous_destroy(m.r);
}

TEST(a_rank_that_ends_before_or_amid_its_row_gives_zeros)
{
    for (uint32_t sent = 0; sent < 3; sent++) {
        meeting_join();
        static const uint8_t some[10] = {0xee, 0xee, 0xee, 0xee, 0xee};
        give(0, 1, 5);
        if (sent > 0)
            peer_data(&m.ranks[1], 1, 5, 0, some, sent * 5);
        give(2, 1, 5);
        give(3, 1, 5);
        CHECK_EQ(peer_take(&m.ranks[0], body, &bytes), 0);
        phx_rendezvous_gone(m.r, m.ranks[1].id);
        take(0, 1, 5, 1);
        take(2, 1, 5, 1);
        take(3, 1, 5, 1);
        phx_rendezvous_destroy(m.r);
    }
}

TEST(a_rank_that_ends_after_its_row_counts)
{
    meeting_join();
    give(1, 1, 5);
    phx_rendezvous_gone(m.r, m.ranks[1].id);
    give(0, 1, 5);
    give(2, 1, 5);
    give(3, 1, 5);
    take(0, 1, 5, RANKS);
    phx_rendezvous_gone(m.r, m.ranks[2].id); // and one before it took its column
    take(3, 1, 5, RANKS);
    give(0, 2, 5);
    give(3, 2, 5);
    CHECK_EQ(peer_take(&m.ranks[0], body, &bytes), PHX_WIRE_RESULT);
    CHECK_EQ(body[8], 1u << 0 | 1u << 3);
    phx_rendezvous_destroy(m.r);
}

TEST(a_newcomer_takes_part_from_the_next_exchange_on)
{
    meeting_join();
    give(0, 1, 5);
    phx_rendezvous_gone(m.r, m.ranks[1].id);
    CHECK_EQ(peer_enter(&m.ranks[1], m.r, arrive(), 1, RANKS), PHX_WIRE_ACCEPTED);
    CHECK_EQ(peer_take(&m.ranks[1], body, &bytes), PHX_WIRE_READY);
    give(2, 1, 5);
    give(3, 1, 5);
    take(0, 1, 5, 1);
    take(2, 1, 5, 1);
    take(3, 1, 5, 1);
    for (uint32_t i = 0; i < RANKS; i++)
        give(i, 2, 5);
    take(1, 2, 5, RANKS);
    phx_rendezvous_destroy(m.r);
}

TEST(pieces_that_do_not_fit_are_rejected)
{
    static const uint8_t some[64];
    static const struct {
        uint32_t number;
        uint32_t blob;
        uint64_t offset;
        uint32_t bytes;
        uint32_t reason;
    } cases[] = {
        {2, 5, 0, 20, PHX_WIRE_OUT_OF_ORDER},         {0, 5, 0, 20, PHX_WIRE_OUT_OF_ORDER},
        {1, 5, 1, 19, PHX_WIRE_OUT_OF_ORDER},         {1, 5, 0, 21, PHX_WIRE_OUT_OF_ORDER},
        {1, 5, 0, 0, PHX_WIRE_OUT_OF_ORDER},          {1, 65537, 0, 20, PHX_WIRE_OUT_OF_ORDER},
        {1, 5, UINT64_MAX, 1, PHX_WIRE_OUT_OF_ORDER}, {1, 6, 0, 24, PHX_WIRE_OTHER_BYTES},
        {1, 0, 0, 0, PHX_WIRE_OTHER_BYTES},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        meeting_join();
        give(0, 1, 5);
        peer_data(&m.ranks[1], cases[i].number, cases[i].blob, cases[i].offset, some,
                  cases[i].bytes);
        CHECK_EQ(reason_of_end(&m.ranks[1], PHX_WIRE_REJECTED), cases[i].reason);
        give(2, 1, 5);
        give(3, 1, 5);
        take(0, 1, 5, 1);
        phx_rendezvous_destroy(m.r);
    }
}

TEST(an_exchange_that_is_too_large_is_rejected_by_name)
{
    static const uint8_t some[1];
    uint64_t counter = 0;
    memset(&m, 0, sizeof m);
    m.r = peer_rendezvous(8, 0, &counter); // 8 * 8 * 64 KiB is above its MiB
    struct peer *ranks = calloc(8, sizeof *ranks);
    CHECK(ranks != NULL);
    for (uint32_t i = 0; i < 8; i++)
        CHECK_EQ(peer_enter(&ranks[i], m.r, arrive(), i, 8), PHX_WIRE_ACCEPTED);
    CHECK_EQ(peer_take(&ranks[0], body, &bytes), PHX_WIRE_READY);
    peer_data(&ranks[0], 1, 65536, 0, some, 1);
    CHECK_EQ(reason_of_end(&ranks[0], PHX_WIRE_REJECTED), PHX_WIRE_TOO_MUCH);
    phx_rendezvous_destroy(m.r);
    free(ranks);
}

#else
TEST(needs_libsodium)
{
    SKIP("this build has no libsodium");
}
#endif
