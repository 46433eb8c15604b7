// tests/conformance.c: each rule of engine/transport.h, provoked and watched from outside.

#include "tests/conformance.h"

#include <stdlib.h>
#include <string.h>

#include "tests/test.h"

#define ENDPOINTS PHX_CONFORMANCE_ENDPOINTS
#define REGION PHX_CONFORMANCE_REGION
#define EVENTS_MAX 8192u
#define WORDS 4096u // bytes at the start of a region that hold signal words, not payload

struct bench { // a fixture with its regions
    struct phx_conformance fixture;
    uint8_t *region[ENDPOINTS][ENDPOINTS]; // [owner][writer]
    struct phx_mem registered[ENDPOINTS][ENDPOINTS];
    struct phx_mem_key key[ENDPOINTS][ENDPOINTS];
    struct phx_mem imported[ENDPOINTS][ENDPOINTS]; // [writer][owner]
    uint8_t *source[ENDPOINTS];
    struct phx_mem source_mem[ENDPOINTS];
};

struct tally { // of one endpoint's events
    uint32_t count;
    struct phx_event events[EVENTS_MAX];
};

static void settle(struct bench *b)
{
    while (b->fixture.step(b->fixture.context))
        continue;
}

static void drain(struct bench *b, uint32_t endpoint, struct tally *tally)
{
    uint32_t got;
    do {
        CHECK(tally->count < EVENTS_MAX);
        got = phx_poll(b->fixture.transport[endpoint], tally->events + tally->count,
                       EVENTS_MAX - tally->count);
        tally->count += got;
    } while (got > 0);
}

static uint32_t tally_ops(const struct tally *tally, uint32_t token)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < tally->count; i++)
        count += tally->events[i].kind == PHX_EVENT_OP && tally->events[i].token == token;
    return count;
}

static const struct phx_event *tally_find(const struct tally *tally, uint32_t token)
{
    for (uint32_t i = 0; i < tally->count; i++)
        if (tally->events[i].kind == PHX_EVENT_OP && tally->events[i].token == token)
            return &tally->events[i];
    return NULL;
}

static struct tally *tally_new(void)
{
    struct tally *tally = calloc(1, sizeof *tally);
    CHECK(tally != NULL);
    return tally;
}

static void connect_all(struct bench *b)
{
    struct phx_conformance *f = &b->fixture;
    for (uint32_t i = 0; i < ENDPOINTS; i++)
        for (uint32_t j = 0; j < ENDPOINTS; j++)
            CHECK_EQ(phx_peer_connect(f->transport[i], f->peer[j]), 0);
    settle(b);
    struct tally *tally = tally_new();
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        tally->count = 0;
        drain(b, i, tally);
        CHECK_EQ(tally->count, ENDPOINTS);
        for (uint32_t e = 0; e < tally->count; e++) {
            CHECK_EQ(tally->events[e].kind, PHX_EVENT_PEER);
            CHECK_EQ(tally->events[e].peer_state, PHX_PEER_UP);
        }
    }
    free(tally);
}

static struct bench *bench_open(phx_conformance_maker *maker, bool connected)
{
    struct bench *b = calloc(1, sizeof *b);
    CHECK(b != NULL);
    maker(&b->fixture);
    struct phx_conformance *f = &b->fixture;
    for (uint32_t i = 0; i < ENDPOINTS; i++) {
        b->source[i] = f->memory(f->context, i, REGION);
        CHECK(b->source[i] != NULL);
        CHECK_EQ(phx_mem_register(f->transport[i], b->source[i], REGION, PHX_WRITER_NONE,
                                  &b->source_mem[i], NULL),
                 0);
        for (uint32_t j = 0; j < ENDPOINTS; j++) {
            b->region[i][j] = f->memory(f->context, i, REGION);
            CHECK(b->region[i][j] != NULL);
            CHECK_EQ(phx_mem_register(f->transport[i], b->region[i][j], REGION, f->peer[j].rank,
                                      &b->registered[i][j], &b->key[i][j]),
                     0);
        }
    }
    for (uint32_t i = 0; i < ENDPOINTS; i++)
        for (uint32_t j = 0; j < ENDPOINTS; j++)
            CHECK_EQ(phx_mem_import(f->transport[j], f->peer[i], &b->key[i][j], &b->imported[j][i]),
                     0);
    if (connected)
        connect_all(b);
    return b;
}

static void bench_close(struct bench *b)
{
    b->fixture.close(b->fixture.context);
    free(b);
}

// A put of size_bytes from the start of the source to target_offset, with a signal if value is not
// 0.
static struct phx_op put(const struct bench *b, uint32_t from, uint32_t to, uint32_t size_bytes,
                         uint64_t target_offset, uint64_t value, uint32_t token)
{
    struct phx_op op;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.flags = value != 0 ? PHX_OP_SIGNAL : 0;
    op.peer = b->fixture.peer[to];
    op.size_bytes = size_bytes;
    op.wire_bytes = size_bytes != 0 ? size_bytes : 8;
    op.source.mem = b->source_mem[from];
    op.target.mem = b->imported[from][to];
    op.target.offset_bytes = target_offset;
    op.signal_value = value;
    op.token = token;
    return op;
}

static void post(struct bench *b, uint32_t from, const struct phx_op *op)
{
    CHECK_EQ(phx_post(b->fixture.transport[from], op, 1), 1);
}

static uint64_t word(const uint8_t *base, uint64_t offset)
{
    return __atomic_load_n((const uint64_t *)(const void *)(base + offset), __ATOMIC_ACQUIRE);
}

static void fill(uint8_t *bytes, uint32_t size_bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < size_bytes; i++)
        bytes[i] = (uint8_t)(seed * 31 + i * 7 + 1);
}

static void check_zero(const uint8_t *bytes, uint64_t size_bytes)
{
    for (uint64_t i = 0; i < size_bytes; i++)
        CHECK_MSG(bytes[i] == 0, "byte %llu is %u", (unsigned long long)i, bytes[i]);
}

// --- rule 1: one outcome ------------------------------------------------------------------------

void phx_conformance_one_event_per_op(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    struct tally *tally = tally_new();
    const uint32_t count = 60;
    fill(b->source[0], 4096, 1);
    for (uint32_t i = 0; i < count; i++) {
        struct phx_op op = put(b, 0, 1 + i % 2, i % 3 == 0 ? 0 : 64 * i, WORDS, i + 1, 100 + i);
        op.lane = (uint16_t)(i % phx_transport_info(b->fixture.transport[0])->lane_count);
        post(b, 0, &op);
    }
    settle(b);
    drain(b, 0, tally);
    CHECK_EQ(tally->count, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct phx_event *e = tally_find(tally, 100 + i);
        CHECK(e != NULL);
        CHECK_EQ(tally_ops(tally, 100 + i), 1);
        CHECK_EQ(e->status, 0);
        CHECK_EQ(e->peer.rank, b->fixture.peer[1 + i % 2].rank);
        CHECK_EQ(e->lane, i % phx_transport_info(b->fixture.transport[0])->lane_count);
        CHECK_EQ(e->reserved, 0);
    }
    free(tally);
    bench_close(b);
}

void phx_conformance_silent_until_failure(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    struct tally *tally = tally_new();
    for (uint32_t i = 0; i < 10; i++) {
        struct phx_op op = put(b, 0, 1, 256, WORDS + 256 * i, i + 1, i);
        op.flags |= PHX_OP_SILENT;
        post(b, 0, &op);
    }
    settle(b);
    drain(b, 0, tally);
    CHECK_EQ(tally->count, 0);
    CHECK_EQ(word(b->region[1][0], 0), 10);
    struct phx_op bad = put(b, 0, 1, 256, REGION, 1, 77);
    bad.flags |= PHX_OP_SILENT;
    post(b, 0, &bad);
    settle(b);
    drain(b, 0, tally);
    CHECK_EQ(tally_ops(tally, 77), 1);
    CHECK(tally_find(tally, 77)->status < 0);
    free(tally);
    bench_close(b);
}

// Ops to a peer that dies while they are under way, and after.
void phx_conformance_one_event_when_peer_dies(phx_conformance_maker *maker)
{
    for (uint32_t steps = 0; steps < 12; steps++) {
        struct bench *b = bench_open(maker, true);
        struct tally *tally = tally_new();
        for (uint32_t i = 0; i < 20; i++) {
            struct phx_op op = put(b, 0, 1, 2048, WORDS + 2048 * (i % 8), i + 1, i);
            op.lane = (uint16_t)(i % phx_transport_info(b->fixture.transport[0])->lane_count);
            post(b, 0, &op);
        }
        for (uint32_t i = 0; i < steps * 5; i++)
            (void)b->fixture.step(b->fixture.context);
        b->fixture.kill(b->fixture.context, 1);
        for (uint32_t i = 20; i < 24; i++) {
            struct phx_op op = put(b, 0, 1, 2048, WORDS, i + 1, i);
            post(b, 0, &op);
        }
        settle(b);
        drain(b, 0, tally);
        for (uint32_t i = 0; i < 24; i++)
            CHECK_EQ(tally_ops(tally, i), 1);
        // Another peer is none the worse.
        struct phx_op op = put(b, 0, 2, 64, WORDS, 5, 50);
        post(b, 0, &op);
        settle(b);
        drain(b, 0, tally);
        CHECK_EQ(tally_ops(tally, 50), 1);
        CHECK_EQ(tally_find(tally, 50)->status, 0);
        free(tally);
        bench_close(b);
    }
}

// --- rules 2 and 4: order -----------------------------------------------------------------------

static void check_prefix(const struct bench *b, const uint8_t *region, uint64_t seen)
{
    // Op i (from 1) carries 1024 bytes at WORDS + 1024 * (i - 1) and stores i.
    for (uint64_t i = 0; i < seen; i++)
        CHECK_MEM_EQ(region + WORDS + 1024 * i, b->source[0] + 1024 * i, 1024);
}

void phx_conformance_signal_follows_payload(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    const uint32_t count = 40;
    fill(b->source[0], count * 1024, 3);
    for (uint32_t i = 0; i < count; i++) {
        // Every third op has no signal of its own: the next one covers it.
        struct phx_op op = put(b, 0, 1, 1024, WORDS + 1024 * i, i % 3 == 2 ? 0 : i + 1, i);
        op.source.offset_bytes = 1024 * i;
        post(b, 0, &op);
    }
    uint64_t last = 0;
    bool more = true;
    while (more) {
        more = b->fixture.step(b->fixture.context);
        uint64_t seen = word(b->region[1][0], 0);
        CHECK_MSG(seen >= last, "the signal went from %llu to %llu", (unsigned long long)last,
                  (unsigned long long)seen);
        if (seen != last)
            check_prefix(b, b->region[1][0], seen);
        last = seen;
    }
    CHECK_EQ(last, count);
    bench_close(b);
}

void phx_conformance_lanes_are_independent(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    uint32_t lanes = phx_transport_info(b->fixture.transport[0])->lane_count;
    if (lanes > 8)
        lanes = 8;
    fill(b->source[0], 512, 9);
    for (uint32_t i = 0; i < 24; i++)
        for (uint32_t lane = 0; lane < lanes; lane++) {
            struct phx_op op = put(b, 0, 1, 512, WORDS + 512 * lane, i + 1, i);
            op.lane = (uint16_t)lane;
            op.signal_offset = 8 * lane;
            post(b, 0, &op);
        }
    uint64_t last[8] = {0};
    bool more = true;
    while (more) {
        more = b->fixture.step(b->fixture.context);
        for (uint32_t lane = 0; lane < lanes; lane++) {
            uint64_t seen = word(b->region[1][0], 8 * (uint64_t)lane);
            CHECK(seen >= last[lane]);
            if (seen != 0)
                CHECK_MEM_EQ(b->region[1][0] + WORDS + 512 * lane, b->source[0], 512);
            last[lane] = seen;
        }
    }
    for (uint32_t lane = 0; lane < lanes; lane++)
        CHECK_EQ(last[lane], 24);
    bench_close(b);
}

// --- rule 3: what success means -----------------------------------------------------------------

void phx_conformance_success_means_landed(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    struct tally *tally = tally_new();
    uint8_t expected[3000];
    fill(b->source[0], sizeof expected, 11);
    memcpy(expected, b->source[0], sizeof expected);
    struct phx_op op = put(b, 0, 1, sizeof expected, WORDS + 8, 0, 1);
    post(b, 0, &op);
    while (tally->count == 0 && b->fixture.step(b->fixture.context))
        drain(b, 0, tally);
    drain(b, 0, tally);
    CHECK_EQ(tally->count, 1);
    CHECK_EQ(tally->events[0].status, 0);
    memset(b->source[0], 0xEE, sizeof expected); // ours again
    CHECK_MEM_EQ(b->region[1][0] + WORDS + 8, expected, sizeof expected);
    settle(b);
    CHECK_MEM_EQ(b->region[1][0] + WORDS + 8, expected, sizeof expected);
    check_zero(b->region[1][0], WORDS + 8);
    check_zero(b->region[1][0] + WORDS + 8 + sizeof expected, REGION - WORDS - 8 - sizeof expected);
    free(tally);
    bench_close(b);
}

// A transport that says so has read a source when it took the op; with others it stays as it is
// until the op is over.
void phx_conformance_source_is_reusable(phx_conformance_maker *maker)
{
    enum { ROW = 5000, ROWS = 8 };
    struct bench *b = bench_open(maker, true);
    bool is_copied = phx_transport_info(b->fixture.transport[0])->is_copied_at_post != 0;
    static uint8_t expected[ROW];
    for (uint32_t i = 0; i < ROWS; i++) {
        struct phx_op op = put(b, 0, 1, ROW, WORDS + i * (uint64_t)ROW, i + 1, i);
        fill(b->source[0], ROW, i);
        post(b, 0, &op);
        if (!is_copied)
            settle(b);
        memset(b->source[0], 0xEE, ROW);
    }
    settle(b);
    for (uint32_t i = 0; i < ROWS; i++) {
        fill(expected, ROW, i);
        CHECK_MEM_EQ(b->region[1][0] + WORDS + i * (uint64_t)ROW, expected, ROW);
    }
    CHECK_EQ(word(b->region[1][0], 0), ROWS);
    bench_close(b);
}

// --- rule 5: the loss of a peer -----------------------------------------------------------------

void phx_conformance_lost_follows_events(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    struct tally *tally = tally_new();
    b->fixture.kill(b->fixture.context, 1);
    for (uint32_t i = 0; i < 8; i++) {
        struct phx_op op = put(b, 0, 1, 128, WORDS, i + 1, i);
        op.lane = (uint16_t)(i % phx_transport_info(b->fixture.transport[0])->lane_count);
        post(b, 0, &op);
    }
    settle(b);
    drain(b, 0, tally);
    CHECK_EQ(tally->count, 9);
    const struct phx_event *lost = &tally->events[8];
    CHECK_EQ(lost->kind, PHX_EVENT_PEER);
    CHECK_EQ(lost->peer_state, PHX_PEER_LOST);
    CHECK(lost->status < 0);
    CHECK_EQ(lost->peer.rank, b->fixture.peer[1].rank);
    CHECK_EQ(lost->peer.epoch, b->fixture.peer[1].epoch);
    struct phx_op op = put(b, 0, 1, 128, WORDS, 1, 60);
    post(b, 0, &op);
    op = put(b, 0, 1, 128, WORDS, 1, 61);
    op.flags |= PHX_OP_SILENT;
    post(b, 0, &op);
    settle(b);
    drain(b, 0, tally);
    CHECK_EQ(tally->count, 11); // two failures, and no second loss
    CHECK_EQ(tally_find(tally, 60)->status, PHX_ERR_PEER_LOST);
    CHECK_EQ(tally_find(tally, 61)->status, PHX_ERR_PEER_LOST);
    free(tally);
    bench_close(b);
}

// --- rule 6: signals ----------------------------------------------------------------------------

void phx_conformance_signal_is_stored(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    const uint64_t values[] = {5, 5, 0xFFFFFFFFFFFFFFFFull, 3, 0x8000000000000001ull};
    for (uint32_t i = 0; i < 5; i++) {
        struct phx_op op = put(b, 0, 1, 0, 0, values[i], i);
        op.signal_offset = REGION - 8;
        post(b, 0, &op);
        settle(b);
        CHECK(word(b->region[1][0], REGION - 8) == values[i]);
    }
    struct phx_op zero = put(b, 0, 1, 0, 0, 1, 9);
    zero.signal_value = 0;
    zero.signal_offset = REGION - 8;
    post(b, 0, &zero);
    settle(b);
    check_zero(b->region[1][0], REGION);
    bench_close(b);
}

// --- rule 7: protection -------------------------------------------------------------------------

// Posts op alone, expects it to fail as one of the two, and nothing to have changed at `region`.
static void refused(struct bench *b, uint32_t from, const struct phx_op *op, const uint8_t *region)
{
    struct tally *tally = tally_new();
    post(b, from, op);
    settle(b);
    drain(b, from, tally);
    CHECK_EQ(tally_ops(tally, op->token), 1);
    int status = tally_find(tally, op->token)->status;
    CHECK_MSG(status == PHX_ERR_PROTECTION || status == PHX_ERR_STALE, "status is %s",
              phx_error_name(status));
    check_zero(region, REGION);
    free(tally);
}

void phx_conformance_bounds_are_kept(phx_conformance_maker *maker)
{
    const struct {
        uint32_t size_bytes;
        uint64_t source, target;
        uint32_t signal;
    } cases[] = {
        {64, 0, REGION - 63, 0},
        {64, 0, REGION, 0},
        {64, 0, UINT64_MAX - 31, 0},
        {0, 0, 0, REGION},
        {64, 0, 0, REGION},
        {64, REGION - 63, WORDS, 0},
        {64, UINT64_MAX - 7, WORDS, 0},
    };
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench *b = bench_open(maker, true);
        fill(b->source[0], 64, 2);
        struct phx_op op = put(b, 0, 1, cases[i].size_bytes, cases[i].target, 7, 40 + i);
        op.source.offset_bytes = cases[i].source;
        op.signal_offset = cases[i].signal;
        refused(b, 0, &op, b->region[1][0]);
        bench_close(b);
    }
}

void phx_conformance_one_writer_per_region(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    // Endpoint 2 got hold of the key of the region that 0 may write at 1.
    struct phx_mem stolen;
    CHECK_EQ(phx_mem_import(b->fixture.transport[2], b->fixture.peer[1], &b->key[1][0], &stolen),
             0);
    struct phx_op op = put(b, 2, 1, 64, WORDS, 7, 1);
    op.target.mem = stolen;
    fill(b->source[2], 64, 2);
    refused(b, 2, &op, b->region[1][0]);
    bench_close(b);
}

void phx_conformance_released_memory_is_refused(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    fill(b->source[0], 64, 2);
    phx_mem_release(b->fixture.transport[1], b->registered[1][0]);
    phx_mem_release(b->fixture.transport[1], b->registered[1][0]); // idempotent
    struct phx_op op = put(b, 0, 1, 64, WORDS, 7, 1);
    refused(b, 0, &op, b->region[1][0]);
    bench_close(b);
}

void phx_conformance_released_source_is_refused(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    fill(b->source[0], 64, 2);
    phx_mem_release(b->fixture.transport[0], b->source_mem[0]);
    struct phx_op op = put(b, 0, 1, 64, WORDS, 7, 1);
    refused(b, 0, &op, b->region[1][0]);
    bench_close(b);
}

// A key that is not the region's: as after a restart, or garbage.
void phx_conformance_stale_key_is_refused(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    struct phx_peer older = b->fixture.peer[1];
    older.epoch = (uint16_t)(older.epoch + 1);
    struct phx_mem mem;
    int error = phx_mem_import(b->fixture.transport[0], older, &b->key[1][0], &mem);
    CHECK(error == 0 || error == PHX_ERR_STALE);
    // Registered again: same place, another key.
    phx_mem_release(b->fixture.transport[1], b->registered[1][0]);
    struct phx_mem_key fresh;
    CHECK_EQ(phx_mem_register(b->fixture.transport[1], b->region[1][0], REGION,
                              b->fixture.peer[0].rank, &b->registered[1][0], &fresh),
             0);
    struct phx_op op = put(b, 0, 1, 64, WORDS, 7, 1);
    fill(b->source[0], 64, 2);
    refused(b, 0, &op, b->region[1][0]);
    bench_close(b);
}

// --- posting, fencing, connecting ---------------------------------------------------------------

void phx_conformance_full_lane_says_so(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    struct tally *tally = tally_new();
    uint32_t most = phx_transport_info(b->fixture.transport[0])->post_count_max;
    CHECK(most >= 1);
    CHECK(most < EVENTS_MAX / 2);
    struct phx_op *ops = calloc(most + 10, sizeof *ops);
    CHECK(ops != NULL);
    for (uint32_t i = 0; i < most + 10; i++)
        ops[i] = put(b, 0, 1, 0, 0, i + 1, i);
    uint32_t taken = phx_post(b->fixture.transport[0], ops, most + 10);
    CHECK_EQ(taken, most);
    CHECK_EQ(phx_post(b->fixture.transport[0], ops + taken, 1), 0);
    // Another lane to the same peer, and the same lane to another, have room.
    struct phx_op other = put(b, 0, 2, 0, 0, 1, 9000);
    post(b, 0, &other);
    settle(b);
    CHECK_EQ(phx_post(b->fixture.transport[0], ops + taken, 10), 10);
    settle(b);
    drain(b, 0, tally);
    CHECK_EQ(tally->count, most + 11);
    for (uint32_t i = 0; i < most + 10; i++)
        CHECK_EQ(tally_ops(tally, i), 1);
    CHECK_EQ(word(b->region[1][0], 0), most + 10);
    free(ops);
    free(tally);
    bench_close(b);
}

void phx_conformance_fence_keeps_out(phx_conformance_maker *maker)
{
    for (uint32_t steps = 0; steps < 8; steps++) {
        struct bench *b = bench_open(maker, true);
        struct tally *tally = tally_new();
        fill(b->source[0], 4096, 4);
        for (uint32_t i = 0; i < 10; i++) {
            struct phx_op out = put(b, 1, 0, 64, WORDS, i + 1, 10 + i);
            struct phx_op in = put(b, 0, 1, 4096, WORDS + 4096 * i, i + 1, i);
            post(b, 0, &in);
            post(b, 1, &out);
        }
        for (uint32_t i = 0; i < 5 * steps; i++)
            (void)b->fixture.step(b->fixture.context);
        phx_peer_fence(b->fixture.transport[1], b->fixture.peer[0]);
        phx_peer_fence(b->fixture.transport[1], b->fixture.peer[0]); // idempotent
        uint8_t *before = malloc(REGION);
        CHECK(before != NULL);
        memcpy(before, b->region[1][0], REGION);
        struct phx_op later = put(b, 1, 0, 64, WORDS, 1, 70);
        post(b, 1, &later);
        settle(b);
        CHECK_MEM_EQ(b->region[1][0], before, REGION);
        // What 1 had posted to 0 has one outcome each, and what it posts now fails.
        drain(b, 1, tally);
        for (uint32_t i = 0; i < 10; i++)
            CHECK_EQ(tally_ops(tally, 10 + i), 1);
        CHECK_EQ(tally_ops(tally, 70), 1);
        CHECK_EQ(tally_find(tally, 70)->status, PHX_ERR_PEER_LOST);
        free(before);
        free(tally);
        bench_close(b);
    }
}

void phx_conformance_unconnected_peer_fails(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, false);
    struct tally *tally = tally_new();
    struct phx_op op = put(b, 0, 1, 64, WORDS, 7, 1);
    post(b, 0, &op);
    op.token = 2;
    op.peer.rank = 999; // nobody
    post(b, 0, &op);
    settle(b);
    drain(b, 0, tally);
    CHECK_EQ(tally->count, 2);
    CHECK_EQ(tally_find(tally, 1)->status, PHX_ERR_PEER_UNREACHABLE);
    CHECK_EQ(tally_find(tally, 2)->status, PHX_ERR_PEER_UNREACHABLE);
    check_zero(b->region[1][0], REGION);
    connect_all(b);
    op = put(b, 0, 1, 64, WORDS, 7, 3);
    post(b, 0, &op);
    settle(b);
    drain(b, 0, tally);
    CHECK_EQ(tally_find(tally, 3)->status, 0);
    CHECK_EQ(word(b->region[1][0], 0), 7);
    free(tally);
    bench_close(b);
}

void phx_conformance_reaches_itself(phx_conformance_maker *maker)
{
    struct bench *b = bench_open(maker, true);
    struct tally *tally = tally_new();
    fill(b->source[2], 700, 8);
    struct phx_op op = put(b, 2, 2, 700, WORDS, 12, 4);
    post(b, 2, &op);
    settle(b);
    drain(b, 2, tally);
    CHECK_EQ(tally->count, 1);
    CHECK_EQ(tally->events[0].status, 0);
    CHECK_EQ(word(b->region[2][2], 0), 12);
    CHECK_MEM_EQ(b->region[2][2] + WORDS, b->source[2], 700);
    free(tally);
    bench_close(b);
}
