// tests/test_transport_sim.c: the simulated transport keeps engine/transport.h, over NVLink, RoCE
// and InfiniBand, and has the errors that the hardware has.

#include <string.h>

#include "engine/transport_ops.h"
#include "sim/fabric_internal.h"
#include "sim/world_internal.h"
#include "tests/conformance.h"
#include "tests/test.h"

// --- fixtures without programs: the test drives the core itself ---------------------------------

static struct phx_world *world_make(uint32_t nodes, uint32_t per_node, const char *inter,
                                    enum phx_tie tie)
{
    struct phx_world_options options;
    memset(&options, 0, sizeof options);
    options.seed = 42;
    options.schedule.tie = tie;
    options.fibers = PHX_PTHREADS; // there in every build; no program runs here
    options.workers = 3;
    options.cluster.nodes = nodes;
    options.cluster.ranks_per_node = per_node;
    options.cluster.intra_node = "nvlink4";
    options.cluster.inter_node = inter;
    struct phx_world *world = NULL;
    struct phx_message message;
    CHECK_MSG(phx_world_create(&options, &world, &message) == 0, "%s", message.text);
    return world;
}

static bool fixture_step(void *context)
{
    return phx_core_step(phx_world_core(context));
}

static void *fixture_memory(void *context, uint32_t endpoint, uint64_t size_bytes)
{
    return phx_sim_alloc(phx_world_rank(context, endpoint), size_bytes);
}

static void fixture_kill(void *context, uint32_t endpoint)
{
    phx_fabric_process_dead(phx_fabric_of(context), endpoint);
}

static void no_violation(struct phx_world *world)
{
    const struct phx_violation *list = NULL;
    uint32_t count = phx_world_violations(world, &list);
    CHECK_MSG(count == 0, "%u violations; the first: %s: %s", count, list[0].rule, list[0].text);
}

static void fixture_close(void *context)
{
    while (phx_core_step(phx_world_core(context)))
        continue;
    phx_fabric_check_outcomes(phx_fabric_of(context));
    no_violation(context);
    phx_world_destroy(context);
}

static void fixture_make(struct phx_conformance *fixture, struct phx_world *world)
{
    fixture->context = world;
    fixture->step = fixture_step;
    fixture->memory = fixture_memory;
    fixture->kill = fixture_kill;
    fixture->close = fixture_close;
    for (uint32_t i = 0; i < PHX_CONFORMANCE_ENDPOINTS; i++) {
        fixture->transport[i] = phx_fabric_transport(phx_fabric_of(world), i);
        fixture->peer[i] = (struct phx_peer){(uint16_t)i, 1};
    }
}

static void make_nvlink(struct phx_conformance *fixture)
{
    fixture_make(fixture, world_make(1, PHX_CONFORMANCE_ENDPOINTS, NULL, PHX_TIE_FIFO));
}
static void make_nvlink_random(struct phx_conformance *fixture)
{
    fixture_make(fixture, world_make(1, PHX_CONFORMANCE_ENDPOINTS, NULL, PHX_TIE_RANDOM));
}
static void make_roce(struct phx_conformance *fixture)
{
    fixture_make(fixture, world_make(PHX_CONFORMANCE_ENDPOINTS, 1, "roce_400g", PHX_TIE_FIFO));
}
static void make_ib_random(struct phx_conformance *fixture)
{
    fixture_make(fixture, world_make(PHX_CONFORMANCE_ENDPOINTS, 1, "ib_400g", PHX_TIE_RANDOM));
}

PHX_CONFORMANCE_TESTS(nvlink, make_nvlink)
PHX_CONFORMANCE_TESTS(nvlink_random, make_nvlink_random)
PHX_CONFORMANCE_TESTS(roce, make_roce)
PHX_CONFORMANCE_TESTS(ib_random, make_ib_random)

// --- what hardware does -------------------------------------------------------------------------

#define SIZE ((uint64_t)1 << 20)

struct pair { // rank 0 writes at rank 1
    struct phx_world *world;
    struct phx_fabric *fabric;
    struct phx_core *core;
    struct phx_network *network;
    struct phx_transport *from;
    struct phx_transport *to;
    uint8_t *source;
    uint8_t *target;
    struct phx_mem source_mem;
    struct phx_mem target_mem; // at rank 1
    struct phx_mem imported;
};

static void drain(struct pair *p)
{
    while (phx_core_step(p->core))
        continue;
}

static uint64_t now_us(const struct pair *p)
{
    return phx_core_now_ps(p->core) / 1000000;
}

static struct pair pair_make(struct phx_world *world)
{
    struct pair p;
    memset(&p, 0, sizeof p);
    p.world = world;
    p.fabric = phx_fabric_of(world);
    p.core = phx_world_core(world);
    p.network = phx_fabric_network(p.fabric);
    p.from = phx_fabric_transport(p.fabric, 0);
    p.to = phx_fabric_transport(p.fabric, 1);
    p.source = phx_sim_alloc(phx_world_rank(world, 0), SIZE);
    p.target = phx_sim_alloc(phx_world_rank(world, 1), SIZE);
    CHECK(p.source != NULL && p.target != NULL);
    for (uint64_t i = 0; i < SIZE; i++)
        p.source[i] = (uint8_t)(1 + i % 251);
    struct phx_mem_key key;
    CHECK_EQ(phx_mem_register(p.from, p.source, SIZE, PHX_WRITER_NONE, &p.source_mem, NULL), 0);
    CHECK_EQ(phx_mem_register(p.to, p.target, SIZE, 0, &p.target_mem, &key), 0);
    CHECK_EQ(phx_mem_import(p.from, (struct phx_peer){1, 1}, &key, &p.imported), 0);
    CHECK_EQ(phx_peer_connect(p.from, (struct phx_peer){1, 1}), 0);
    drain(&p);
    struct phx_event event;
    CHECK_EQ(phx_poll(p.from, &event, 1), 1);
    CHECK_EQ(event.peer_state, PHX_PEER_UP);
    return p;
}

static void pair_close(struct pair *p)
{
    drain(p);
    phx_fabric_check_outcomes(p->fabric);
    no_violation(p->world);
    phx_world_destroy(p->world);
}

// Offsets are the same at both ends. The word is the last of the region.
static void put(struct pair *p, uint16_t lane, uint32_t size_bytes, uint64_t offset, uint64_t value,
                unsigned flags, uint32_t token)
{
    struct phx_op op;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.flags = (uint8_t)(flags | (value != 0 ? PHX_OP_SIGNAL : 0));
    op.lane = lane;
    op.peer = (struct phx_peer){1, 1};
    op.size_bytes = size_bytes;
    op.wire_bytes = size_bytes != 0 ? size_bytes : 8;
    op.source = (struct phx_span){p->source_mem, offset};
    op.target = (struct phx_span){p->imported, offset};
    op.signal_value = value;
    op.signal_offset = (uint32_t)SIZE - 8;
    op.token = token;
    CHECK_EQ(phx_post(p->from, &op, 1), 1);
}

static uint64_t value_at(const struct pair *p)
{
    uint64_t value;
    memcpy(&value, p->target + SIZE - 8, sizeof value);
    return value;
}

static void down(struct pair *p, bool is_down)
{
    const struct phx_link_fault fault = {.down = is_down};
    uint64_t now_ps = phx_core_now_ps(p->core);
    CHECK(phx_network_path_fault(p->network, now_ps, 0, 1, &fault));
    CHECK(phx_network_path_fault(p->network, now_ps, 1, 0, &fault));
}

static void cut(void *context, const struct phx_event_record *event)
{
    down(context, event->object != 0);
}

TEST(transport_sim_heads_stay_where_there_are_none_to_move)
{
    struct pair p = pair_make(world_make(1, 2, NULL, PHX_TIE_FIFO));
    void *heads[2] = {NULL, NULL};
    CHECK_EQ(phx_mem_heads(p.to, p.target_mem, SIZE / 2, 2, heads), 0); // nothing would be left
    CHECK_EQ(phx_mem_heads(p.from, p.source_mem, 256, 2, heads), 0);    // nobody writes there
    CHECK_EQ(phx_mem_heads(p.from, p.imported, 256, 2, heads), 0);      // it is the peer's
    CHECK(heads[0] == NULL && heads[1] == NULL);
    pair_close(&p);
}

// The heads of a region lie elsewhere: offsets stay, and nothing reaches from one part into
// another.
TEST(transport_sim_heads_of_a_region_may_lie_apart)
{
    static const uint32_t part = 2048;
    struct pair p = pair_make(world_make(1, 2, NULL, PHX_TIE_FIFO));
    struct phx_event event;
    void *heads[2] = {NULL, NULL};
    CHECK_EQ(phx_mem_heads(p.to, p.target_mem, part, 2, heads), 1);
    const uint8_t *first = heads[0];
    const uint8_t *second = heads[1];
    CHECK(first != p.target && second >= first + part);
    put(&p, 0, 256, part - 256, 1, PHX_OP_SILENT, 1);
    put(&p, 0, 256, part, 2, PHX_OP_SILENT, 2);
    put(&p, 0, 256, 2 * part - 256, 3, PHX_OP_SILENT, 3);
    put(&p, 0, 256, 2 * part, 4, PHX_OP_SILENT, 4);
    drain(&p);
    CHECK_EQ(phx_poll(p.from, &event, 1), 0);
    CHECK_MEM_EQ(first + part - 256, p.source + part - 256, 256);
    CHECK_MEM_EQ(second, p.source + part, 256);
    CHECK_MEM_EQ(second + part - 256, p.source + 2 * part - 256, 256);
    CHECK_MEM_EQ(p.target + 2 * part, p.source + 2 * part, 256);
    CHECK_EQ(p.target[part], 0);
    CHECK_EQ(p.target[2 * part - 1], 0);
    CHECK_EQ(value_at(&p), 4);
    for (uint32_t i = 1; i <= 2; i++) {
        put(&p, 0, 256, i * part - 128, 4 + i, 0, 4 + i);
        drain(&p);
        CHECK_EQ(phx_poll(p.from, &event, 1), 1);
        CHECK_EQ(event.status, PHX_ERR_PROTECTION);
        CHECK_EQ(value_at(&p), 4);
    }
    // The checker keeps the writer of each part, until all of them are released.
    struct phx_memory *checker = p.fabric->memory;
    CHECK(phx_memory_checks(checker));
    CHECK_EQ(phx_memory_add(checker, 1, heads[0], part, 0), PHX_ERR_INVALID);
    CHECK_EQ(phx_memory_add(checker, 1, heads[1], part, 0), PHX_ERR_INVALID);
    CHECK_EQ(phx_memory_add(checker, 1, p.target + 2 * part, 64, 0), PHX_ERR_INVALID);
    phx_mem_release(p.to, p.target_mem);
    CHECK_EQ(phx_memory_add(checker, 1, heads[0], part, 0), 0);
    CHECK_EQ(phx_memory_add(checker, 1, heads[1], part, 0), 0);
    CHECK_EQ(phx_memory_add(checker, 1, p.target, SIZE, 0), 0);
    pair_close(&p);
}

TEST(transport_sim_message_costs_three_or_four_events)
{
    static const char *const inter[] = {NULL, "roce_400g"};
    for (uint32_t i = 0; i < 2; i++) {
        struct pair p = pair_make(i == 0 ? world_make(1, 2, NULL, PHX_TIE_FIFO)
                                         : world_make(2, 1, inter[i], PHX_TIE_FIFO));
        uint64_t before = phx_core_events(p.core);
        put(&p, 0, 512 * 1024, 0, 1, PHX_OP_SILENT, 1); // 128 packets
        drain(&p);
        CHECK_EQ(phx_core_events(p.core) - before, 3);
        before = phx_core_events(p.core);
        put(&p, 0, 512 * 1024, 0, 2, 0, 2);
        drain(&p);
        CHECK_EQ(phx_core_events(p.core) - before, 4);
        pair_close(&p);
    }
}

TEST(transport_sim_retries_end_after_their_budget)
{
    struct pair p = pair_make(world_make(2, 1, "roce_400g", PHX_TIE_FIFO));
    const struct phx_preset *preset = phx_preset_find("roce_400g");
    phx_fabric_process_dead(p.fabric, 1);
    uint64_t begin_us = now_us(&p);
    for (uint32_t i = 0; i < 4; i++)
        put(&p, 0, 4096, 0, i + 1, PHX_OP_SILENT, i);
    put(&p, 1, 4096, 0, 9, 0, 9);
    drain(&p);
    uint64_t budget_us = preset->ack_timeout_ps * (preset->retry_count + 1) / 1000000;
    CHECK(now_us(&p) - begin_us >= budget_us);
    CHECK(now_us(&p) - begin_us < budget_us + 100);
    struct phx_event events[8];
    CHECK_EQ(phx_poll(p.from, events, 8), 6);
    CHECK_EQ(events[0].token, 0);
    CHECK_EQ(events[0].status, PHX_ERR_PEER_LOST);
    CHECK_EQ(events[0].backend_code, 12);
    for (uint32_t i = 1; i < 5; i++) {
        CHECK_EQ(events[i].status, PHX_ERR_FLUSHED);
        CHECK_EQ(events[i].backend_code, 5);
    }
    CHECK_EQ(events[5].kind, PHX_EVENT_PEER);
    pair_close(&p);
}

TEST(transport_sim_short_outage_is_only_a_delay)
{
    static const char *const presets[] = {"roce_400g", "ib_400g"};
    for (uint32_t i = 0; i < 2; i++) {
        struct pair p = pair_make(world_make(2, 1, presets[i], PHX_TIE_RANDOM));
        for (uint32_t n = 0; n < 30; n++)
            put(&p, 0, 32768, 32768 * (n % 30), n + 1, 0, n);
        phx_core_handle(p.core, PHX_EVENTS_TEST, cut, &p);
        uint64_t now_ps = phx_core_now_ps(p.core);
        CHECK(phx_core_schedule(p.core, now_ps + 10000000, PHX_EVENTS_TEST, 1, 0));
        CHECK(phx_core_schedule(p.core, now_ps + 100000000000, PHX_EVENTS_TEST, 0, 0));
        drain(&p);
        CHECK_EQ(value_at(&p), 30);
        CHECK_MEM_EQ(p.target, p.source, 30 * 32768);
        struct phx_event events[40];
        CHECK_EQ(phx_poll(p.from, events, 40), 30);
        for (uint32_t n = 0; n < 30; n++) {
            CHECK_EQ(events[n].token, n); // completions in order
            CHECK_EQ(events[n].status, 0);
        }
        CHECK(phx_fabric_figures(p.fabric).resent > 0);
        pair_close(&p);
    }
}

// The link goes down under a large write and stays down: some of it is there, its signal is not.
TEST(transport_sim_broken_write_leaves_a_part)
{
    struct pair p = pair_make(world_make(2, 1, "ib_400g", PHX_TIE_FIFO));
    const uint32_t size = 512 * 1024;
    put(&p, 0, size, 0, 7, 0, 1);
    phx_core_handle(p.core, PHX_EVENTS_TEST, cut, &p);
    // The first byte is 1.3 us away, the last 10.6 us behind it.
    CHECK(phx_core_schedule(p.core, phx_core_now_ps(p.core) + 6000000, PHX_EVENTS_TEST, 1, 0));
    drain(&p);
    CHECK_EQ(value_at(&p), 0);
    uint64_t landed = 0;
    while (landed < size && p.target[landed] == p.source[landed])
        landed++;
    CHECK(landed > 0);
    CHECK(landed < size);
    CHECK_EQ(landed % 4096, 0); // packets, in order: go-back-N
    for (uint64_t i = landed; i < size; i++)
        CHECK(p.target[i] == 0);
    struct phx_event events[2];
    CHECK_EQ(phx_poll(p.from, events, 2), 2);
    CHECK_EQ(events[0].status, PHX_ERR_PEER_LOST);
    pair_close(&p);
}

TEST(transport_sim_lossy_link_keeps_order)
{
    static const char *const presets[] = {"roce_400g", "ib_400g"};
    for (uint32_t i = 0; i < 2; i++) {
        struct pair p = pair_make(world_make(2, 1, presets[i], PHX_TIE_RANDOM));
        const struct phx_link_fault lossy = {.loss_ppm = 100000, .duplicate_ppm = 100000};
        CHECK(phx_network_path_fault(p.network, phx_core_now_ps(p.core), 0, 1, &lossy));
        CHECK(phx_network_path_fault(p.network, phx_core_now_ps(p.core), 1, 0, &lossy));
        for (uint32_t n = 0; n < 50; n++)
            put(&p, (uint16_t)(n % 2), 20000, 20000 * n, n + 1, n % 3 == 0 ? 0 : PHX_OP_SILENT, n);
        drain(&p);
        CHECK_MEM_EQ(p.target, p.source, 50 * 20000);
        struct phx_event events[80];
        CHECK_EQ(phx_poll(p.from, events, 80), 17);
        for (uint32_t n = 0; n < 17; n++)
            CHECK_EQ(events[n].status, 0);
        struct phx_fabric_figures figures = phx_fabric_figures(p.fabric);
        CHECK(figures.packets_lost > 20);
        CHECK(figures.resent > 20);
        CHECK(figures.duplicates > 0);
        CHECK_EQ(figures.in_flight, 0);
        pair_close(&p);
    }
}

// Flight times that differ by more than messages take: nothing overtakes on a lane all the same.
TEST(transport_sim_jitter_reorders_no_lane)
{
    static const char *const inter[] = {NULL, "ib_400g"};
    for (uint32_t i = 0; i < 2; i++) {
        struct pair p = pair_make(i == 0 ? world_make(1, 2, NULL, PHX_TIE_RANDOM)
                                         : world_make(2, 1, inter[i], PHX_TIE_RANDOM));
        struct phx_preset wild = *phx_preset_find(i == 0 ? "nvlink4" : "ib_400g");
        wild.jitter_ps = 20000000;
        phx_fabric_bend(p.fabric, &wild);
        const struct phx_link_fault slow = {.rate_percent = 10}; // tails come late, too
        CHECK(phx_network_path_fault(p.network, phx_core_now_ps(p.core), 0, 1, &slow));
        for (uint32_t n = 0; n < 60; n++) // large and small in turn
            put(&p, 0, n % 2 == 0 ? 16384 : 64, 16384 * n, n + 1, 0, n);
        uint64_t last = 0;
        while (phx_core_step(p.core)) {
            uint64_t seen = value_at(&p);
            CHECK(seen >= last);
            for (uint64_t n = last; n < seen; n++)
                CHECK_MEM_EQ(p.target + 16384 * n, p.source + 16384 * n, n % 2 == 0 ? 16384 : 64);
            last = seen;
        }
        CHECK_EQ(last, 60);
        struct phx_event events[64];
        CHECK_EQ(phx_poll(p.from, events, 64), 60);
        for (uint32_t n = 0; n < 60; n++)
            CHECK_EQ(events[n].token, n);
        pair_close(&p);
    }
}

// What the target's NIC refuses, it refuses with all that follows on that queue pair.
TEST(transport_sim_nothing_lands_behind_a_refusal)
{
    struct pair p = pair_make(world_make(2, 1, "roce_400g", PHX_TIE_FIFO));
    struct phx_op bad;
    memset(&bad, 0, sizeof bad);
    bad.code = PHX_OP_PUT;
    bad.peer = (struct phx_peer){1, 1};
    bad.size_bytes = 64;
    bad.wire_bytes = 64;
    bad.source.mem = p.source_mem;
    bad.target = (struct phx_span){p.imported, SIZE - 32};
    bad.token = 1;
    put(&p, 0, 64, 0, 1, 0, 0);
    CHECK_EQ(phx_post(p.from, &bad, 1), 1);
    for (uint32_t n = 2; n < 6; n++)
        put(&p, 0, 64, 64 * n, n, 0, n);
    drain(&p);
    CHECK_EQ(value_at(&p), 1);
    for (uint32_t n = 128; n < 384; n++)
        CHECK_EQ(p.target[n], 0);
    struct phx_event events[8];
    CHECK_EQ(phx_poll(p.from, events, 8), 6);
    CHECK_EQ(events[0].status, 0);
    CHECK_EQ(events[1].status, PHX_ERR_PROTECTION);
    CHECK_EQ(events[1].backend_code, 10);
    for (uint32_t n = 2; n < 6; n++)
        CHECK_EQ(events[n].status, PHX_ERR_FLUSHED);
    pair_close(&p);
}

TEST(transport_sim_refusal_breaks_the_queue_pair_alone)
{
    struct pair p = pair_make(world_make(2, 1, "roce_400g", PHX_TIE_FIFO));
    put(&p, 0, 64, 0, 1, 0, 1);
    put(&p, 0, 64, SIZE - 32, 2, PHX_OP_SILENT, 2); // source and target both out of bounds
    put(&p, 0, 64, 0, 3, PHX_OP_SILENT, 3);
    put(&p, 1, 64, 64, 4, 0, 4);
    drain(&p);
    struct phx_event events[8];
    uint32_t count = phx_poll(p.from, events, 8);
    CHECK_EQ(count, 4);
    for (uint32_t i = 0; i < count; i++) {
        int expected = events[i].token == 2   ? PHX_ERR_PROTECTION
                       : events[i].token == 4 ? 0
                                              : PHX_ERR_FLUSHED;
        CHECK_EQ(events[i].status, expected);
    }
    put(&p, 0, 64, 0, 5, 0, 5);
    drain(&p);
    CHECK_EQ(phx_poll(p.from, events, 8), 1);
    CHECK_EQ(events[0].status, PHX_ERR_FLUSHED);
    CHECK_EQ(phx_peer_connect(p.from, (struct phx_peer){1, 1}), 0); // heals it
    drain(&p);
    CHECK_EQ(phx_poll(p.from, events, 8), 1);
    put(&p, 0, 64, 0, 6, 0, 6);
    drain(&p);
    CHECK_EQ(phx_poll(p.from, events, 8), 1);
    CHECK_EQ(events[0].status, 0);
    CHECK_EQ(value_at(&p), 6);
    pair_close(&p);
}

// A connection that is made anew takes the place of the one before. When nobody answers, the op
// that has left on that one ends first.
static void check_failed_reconnection(struct pair *p, unsigned flags, uint16_t epoch, int status)
{
    const struct phx_peer peer = {1, epoch};
    struct phx_event events[4];
    put(p, 0, 4096, 0, 1, flags, 1);
    (void)phx_core_step(p->core); // issued
    CHECK_EQ(phx_peer_connect(p->from, peer), 0);
    drain(p);
    CHECK_EQ(phx_pending(p->from, peer), 0);
    CHECK_EQ(phx_poll(p->from, events, 4), 2);
    CHECK_EQ(events[0].kind, PHX_EVENT_OP);
    CHECK_EQ(events[0].token, 1);
    CHECK_EQ(events[0].status, PHX_ERR_FLUSHED);
    CHECK_EQ(events[1].kind, PHX_EVENT_PEER);
    CHECK_EQ(events[1].peer_state, PHX_PEER_LOST);
    CHECK_EQ(events[1].peer.epoch, epoch);
    CHECK_EQ(events[1].status, status);
    pair_close(p);
}

TEST(transport_sim_failed_reconnection_over_a_nic_ends_what_was_outstanding)
{
    struct pair p = pair_make(world_make(2, 1, "roce_400g", PHX_TIE_FIFO));
    phx_fabric_process_dead(p.fabric, 1);
    check_failed_reconnection(&p, 0, 1, PHX_ERR_PEER_LOST);

    p = pair_make(world_make(2, 1, "roce_400g", PHX_TIE_FIFO));
    phx_fabric_process_dead(p.fabric, 1);
    check_failed_reconnection(&p, 0, 9, PHX_ERR_STALE);

    p = pair_make(world_make(2, 1, "roce_400g", PHX_TIE_FIFO));
    down(&p, true);
    check_failed_reconnection(&p, PHX_OP_SILENT, 1, PHX_ERR_PEER_UNREACHABLE);
}

TEST(transport_sim_failed_reconnection_over_nvlink_ends_what_was_outstanding)
{
    struct pair p = pair_make(world_make(1, 2, NULL, PHX_TIE_FIFO));
    phx_fabric_gpu_dead(p.fabric, 1); // the store vanishes
    check_failed_reconnection(&p, 0, 9, PHX_ERR_STALE);

    p = pair_make(world_make(1, 2, NULL, PHX_TIE_FIFO));
    down(&p, true); // the path holds it up
    check_failed_reconnection(&p, PHX_OP_SILENT, 1, PHX_ERR_PEER_UNREACHABLE);
}

TEST(transport_sim_stores_outlive_a_process_but_not_its_gpu)
{
    struct pair p = pair_make(world_make(1, 2, NULL, PHX_TIE_FIFO));
    phx_fabric_process_dead(p.fabric, 1);
    put(&p, 0, 4096, 0, 5, PHX_OP_SILENT, 1);
    uint64_t begin_us = now_us(&p);
    drain(&p);
    CHECK_EQ(value_at(&p), 5);
    CHECK_MEM_EQ(p.target, p.source, 4096);
    struct phx_event event;
    CHECK_EQ(phx_poll(p.from, &event, 1), 1); // the evidence, after half a millisecond
    CHECK_EQ(event.kind, PHX_EVENT_PEER);
    CHECK_EQ(event.status, PHX_ERR_PEER_LOST);
    CHECK_EQ(now_us(&p) - begin_us, 500);
    pair_close(&p);

    p = pair_make(world_make(1, 2, NULL, PHX_TIE_FIFO));
    phx_fabric_gpu_dead(p.fabric, 1);
    put(&p, 0, 4096, 0, 5, PHX_OP_SILENT, 1);
    put(&p, 0, 4096, 0, 6, 0, 2);
    drain(&p);
    CHECK_EQ(phx_poll(p.from, &event, 1), 0); // no error, no completion, no timeout
    CHECK_EQ(value_at(&p), 0);
    phx_fabric_process_dead(p.fabric, 1);
    drain(&p);
    CHECK_EQ(phx_poll(p.from, &event, 1), 1);
    CHECK_EQ(event.token, 2);
    CHECK_EQ(event.status, PHX_ERR_PEER_LOST);
    CHECK_EQ(phx_fabric_figures(p.fabric).vanished, 2);
    pair_close(&p);
}

TEST(transport_sim_nvlink_outage_holds_stores_in_order)
{
    struct pair p = pair_make(world_make(1, 2, NULL, PHX_TIE_RANDOM));
    down(&p, true);
    for (uint32_t i = 0; i < 20; i++)
        put(&p, 0, 1024, 1024 * i, i + 1, 0, i);
    drain(&p);
    CHECK_EQ(value_at(&p), 0);
    down(&p, false);
    for (uint32_t i = 20; i < 25; i++)
        put(&p, 0, 1024, 1024 * i, i + 1, 0, i);
    uint64_t last = 0;
    while (phx_core_step(p.core)) {
        CHECK(value_at(&p) >= last);
        last = value_at(&p);
        CHECK_MEM_EQ(p.target, p.source, 1024 * last);
    }
    CHECK_EQ(last, 25);
    pair_close(&p);
}

TEST(transport_sim_death_lets_issued_messages_land)
{
    static const char *const inter[] = {NULL, "roce_400g"};
    for (uint32_t i = 0; i < 2; i++) {
        struct pair p = pair_make(i == 0 ? world_make(1, 2, NULL, PHX_TIE_FIFO)
                                         : world_make(2, 1, inter[i], PHX_TIE_FIFO));
        put(&p, 0, 65536, 0, 1, PHX_OP_SILENT, 1);
        (void)phx_core_step(p.core); // issued
        put(&p, 0, 65536, 0, 2, PHX_OP_SILENT, 2);
        phx_fabric_process_dead(p.fabric, 0);
        drain(&p);
        CHECK_EQ(value_at(&p), 1);
        CHECK_MEM_EQ(p.target, p.source, 65536);
        CHECK_EQ(phx_fabric_figures(p.fabric).in_flight, 0);
        pair_close(&p);
    }
}

static uint64_t hash_of_run(enum phx_tie tie, uint8_t first_byte)
{
    struct pair p = pair_make(world_make(2, 1, "roce_400g", tie));
    const struct phx_link_fault lossy = {.loss_ppm = 20000};
    CHECK(phx_network_path_fault(p.network, phx_core_now_ps(p.core), 0, 1, &lossy));
    p.source[0] = first_byte;
    for (uint32_t n = 0; n < 50; n++)
        put(&p, (uint16_t)(n % 4), 20000, 0, n + 1, PHX_OP_SILENT, n);
    drain(&p);
    uint64_t hash = phx_core_hash(p.core);
    pair_close(&p);
    return hash;
}

TEST(transport_sim_refuses_more_queues_than_events_can_name)
{
    struct phx_world_options options;
    memset(&options, 0, sizeof options);
    options.fibers = PHX_PTHREADS;
    options.workers = 2048; // and a control thread's lane, for each of 1024 * 1024 pairs
    options.cluster.nodes = 128;
    options.cluster.ranks_per_node = 8;
    options.cluster.intra_node = "nvlink4";
    options.cluster.inter_node = "roce_400g";
    struct phx_world *world = NULL;
    struct phx_message message;
    CHECK_EQ(phx_world_create(&options, &world, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "workers is 2048; with 1024 ranks the simulator has room for 2047");
}

static void nothing(void *context, const struct phx_event_record *event)
{
    (void)context, (void)event;
}

// Among so many events what comes soon is fetched, and of such a store there is nothing to fetch.
TEST(transport_sim_many_events_and_a_store_outside_its_region)
{
    enum { EVENTS = 40000, APART_PS = 100, STORES = 20 };
    struct pair p = pair_make(world_make(1, 2, NULL, PHX_TIE_FIFO));
    uint64_t now_ps = phx_core_now_ps(p.core);
    phx_core_handle(p.core, 63, nothing, NULL);
    for (uint32_t i = 0; i < EVENTS; i++)
        CHECK(phx_core_schedule(p.core, now_ps + (uint64_t)APART_PS * i, 63, i, 0));
    for (uint32_t i = 0; i < STORES; i++) {
        struct phx_op op;
        memset(&op, 0, sizeof op);
        op.code = PHX_OP_PUT;
        op.lane = 1;
        op.peer = (struct phx_peer){1, 1};
        op.size_bytes = op.wire_bytes = 256;
        op.source.mem = p.source_mem;
        op.target.mem = p.imported;
        op.target.offset_bytes = i == STORES / 2 ? SIZE - 128 : 256 * i;
        CHECK_EQ(phx_post(p.from, &op, 1), 1);
    }
    drain(&p);
    CHECK(phx_core_now_ps(p.core) >= now_ps + (uint64_t)APART_PS * (EVENTS - 1));
    pair_close(&p);
}

// Messages given back are taken again the latest first. Once very many were under way and all have
// ended, they are taken in order again, from the first.
TEST(transport_sim_very_many_messages_are_taken_in_order_again)
{
    enum { RANKS = 5, LANES = 4, ROUNDS = 2, EACH = 800 }; // 80,000 at once
    struct phx_world *world = world_make(1, RANKS, NULL, PHX_TIE_FIFO);
    struct phx_fabric *f = phx_fabric_of(world);
    uint64_t *words[RANKS][RANKS];
    struct phx_mem keys[RANKS][RANKS];
    for (uint32_t r = 0; r < RANKS; r++)
        for (uint32_t s = 0; s < RANKS; s++) {
            struct phx_mem mem;
            struct phx_mem_key key;
            words[r][s] = phx_sim_alloc(phx_world_rank(world, r), 64);
            CHECK_EQ(phx_mem_register(phx_fabric_transport(f, r), words[r][s], 64, (uint16_t)s,
                                      &mem, &key),
                     0);
            CHECK_EQ(phx_mem_import(phx_fabric_transport(f, s), (struct phx_peer){(uint16_t)r, 1},
                                    &key, &keys[s][r]),
                     0);
            CHECK_EQ(
                phx_peer_connect(phx_fabric_transport(f, s), (struct phx_peer){(uint16_t)r, 1}), 0);
        }
    while (phx_core_step(phx_world_core(world)))
        continue;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        for (uint32_t i = 0; i < RANKS * RANKS * LANES * EACH; i++) {
            uint32_t s = i % RANKS, r = i / RANKS % RANKS;
            struct phx_op op;
            memset(&op, 0, sizeof op);
            op.code = PHX_OP_PUT;
            op.flags = PHX_OP_SIGNAL | PHX_OP_SILENT;
            op.lane = (uint16_t)(i / RANKS / RANKS % LANES);
            op.peer = (struct phx_peer){(uint16_t)r, 1};
            op.wire_bytes = 8;
            op.target.mem = keys[s][r];
            op.signal_offset = 8u * op.lane;
            op.signal_value = round * EACH + i / (RANKS * RANKS * LANES);
            CHECK_EQ(phx_post(phx_fabric_transport(f, s), &op, 1), 1);
        }
        CHECK_EQ(f->fresh, RANKS * RANKS * LANES * EACH); // in order, none twice
        while (phx_core_step(phx_world_core(world)))
            continue;
        CHECK_EQ(phx_fabric_figures(f).delivered, round * RANKS * RANKS * LANES * EACH);
        CHECK_EQ(f->fresh, 0);
        for (uint32_t i = 0; i < RANKS * RANKS * LANES; i++)
            CHECK_EQ(words[i % RANKS][i / RANKS % RANKS][i / RANKS / RANKS],
                     round * EACH + EACH - 1);
    }
    fixture_close(world);
}

TEST(transport_sim_same_seed_gives_the_same_hash)
{
    if (!phx_core_has_hash())
        SKIP("this build has no xxHash");
    CHECK(hash_of_run(PHX_TIE_RANDOM, 1) == hash_of_run(PHX_TIE_RANDOM, 1));
    CHECK(hash_of_run(PHX_TIE_RANDOM, 1) != hash_of_run(PHX_TIE_RANDOM, 2)); // bytes count
}
