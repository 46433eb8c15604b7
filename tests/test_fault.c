// tests/test_fault.c: each fault strikes where, when and for as long as its entry says.
//
// Four ranks on two nodes. Rank 0 writes to all others: its op i (from 1) carries 4096 bytes and
// stores i at the start of the region that it may write there.

#include "sim/fault.h"

#include <string.h>

#include "kernels/layout.h"
#include "sim/fabric.h"
#include "sim/world_internal.h"
#include "tests/test.h"

#define RANKS 4u
#define REGION 16384u
#define US 1000000ull // picoseconds

struct rank_state {
    uint8_t *region[RANKS]; // by writer
    struct phx_mem to[RANKS];
    struct phx_mem source_mem;
    uint8_t *source;
    uint32_t starts; // processes that ran the program
    uint32_t posted;
    struct phx_event events[256];
    uint32_t event_count;
    uint64_t begin_ps; // of the script, virtual
    uint64_t clock_ns[2];
};

struct test {
    struct phx_world *world;
    struct rank_state ranks[RANKS];
    void (*script)(struct test *test, struct phx_sim_rank *rank);
    uint32_t puts; // of rank 0, to each other rank
};

static void poll(struct test *t, struct phx_sim_rank *rank)
{
    struct rank_state *s = &t->ranks[phx_sim_rank_number(rank)];
    s->event_count +=
        phx_poll(phx_sim_transport(rank), s->events + s->event_count, 256 - s->event_count);
}

static void prepare(struct test *t, struct phx_sim_rank *rank)
{
    uint32_t me = phx_sim_rank_number(rank);
    struct rank_state *s = &t->ranks[me];
    struct phx_transport *transport = phx_sim_transport(rank);
    struct phx_mem_key mine[RANKS];
    struct phx_mem_key theirs[RANKS];
    s->source = phx_sim_alloc(rank, REGION);
    memset(s->source, 0x5A, REGION);
    CHECK_EQ(phx_mem_register(transport, s->source, REGION, PHX_WRITER_NONE, &s->source_mem, NULL),
             0);
    for (uint32_t p = 0; p < RANKS; p++) {
        struct phx_mem mem;
        s->region[p] = phx_sim_alloc(rank, REGION);
        CHECK_EQ(phx_mem_register(transport, s->region[p], REGION, (uint16_t)p, &mem, &mine[p]), 0);
    }
    CHECK_EQ(phx_sim_exchange(rank, mine, theirs, sizeof mine[0]), 0);
    for (uint32_t p = 0; p < RANKS; p++) {
        struct phx_peer peer = {(uint16_t)p, 1};
        CHECK_EQ(phx_mem_import(transport, peer, &theirs[p], &s->to[p]), 0);
        CHECK_EQ(phx_peer_connect(transport, peer), 0);
    }
    while (s->event_count < RANKS) {
        phx_sim_sleep_ns(rank, 1000);
        poll(t, rank);
    }
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_EQ(s->events[i].peer_state, PHX_PEER_UP);
    s->event_count = 0;
}

static void program(struct phx_sim_rank *rank, void *argument)
{
    struct test *t = argument;
    struct rank_state *s = &t->ranks[phx_sim_rank_number(rank)];
    s->starts++;
    if (s->starts > 1)
        return; // what was started again has nothing to do here
    prepare(t, rank);
    s->begin_ps = phx_core_now_ps(phx_world_core(t->world));
    t->script(t, rank);
}

static void put(struct test *t, struct phx_sim_rank *rank, uint32_t target, uint32_t value,
                uint32_t token)
{
    struct rank_state *s = &t->ranks[phx_sim_rank_number(rank)];
    struct phx_op op;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.flags = PHX_OP_SIGNAL | PHX_OP_SILENT;
    op.peer = (struct phx_peer){(uint16_t)target, 1};
    op.size_bytes = 4096;
    op.wire_bytes = 4096;
    op.source.mem = s->source_mem;
    // Operations 1 to 3 have a slot each.
    uint32_t number = token >> 28 != 0 ? token & 0xFFFFFFu : 1;
    op.target = (struct phx_span){s->to[target], 4096 * (uint64_t)number};
    op.signal_value = value;
    op.token = token;
    s->posted += phx_post(phx_sim_transport(rank), &op, 1);
}

static uint64_t value_at(const struct test *t, uint32_t target)
{
    return __atomic_load_n((const uint64_t *)(const void *)t->ranks[target].region[0],
                           __ATOMIC_ACQUIRE);
}

static void phase(struct phx_sim_rank *rank, uint32_t which, uint64_t number)
{
    struct phx_executor *e = phx_sim_executor(rank);
    e->ops->phase(e, PHX_WORKER_CONTROL, which, number);
}

static void start(struct test *t, uint64_t seed)
{
    struct phx_world_options options;
    memset(t, 0, sizeof *t);
    memset(&options, 0, sizeof options);
    options.seed = seed;
    options.schedule.tie = PHX_TIE_FIFO;
    options.fibers = PHX_PTHREADS; // there in every build
    options.workers = 1;
    options.cluster = (struct phx_cluster){2, 2, "nvlink4", "roce_400g", 0};
    struct phx_message message;
    CHECK_MSG(phx_world_create(&options, &t->world, &message) == 0, "%s", message.text);
}

static void install(struct test *t, const struct phx_fault *list, uint32_t count)
{
    struct phx_message message;
    CHECK_MSG(phx_fault_install(t->world, list, count, &message) == 0, "%s", message.text);
}

static void run(struct test *t, void (*script)(struct test *, struct phx_sim_rank *))
{
    struct phx_message message;
    t->script = script;
    CHECK_MSG(phx_world_run(t->world, program, t, &message) == 0, "%s", message.text);
    while (phx_core_step(phx_world_core(t->world)))
        continue;
    const struct phx_violation *list = NULL;
    uint32_t count = phx_world_violations(t->world, &list);
    CHECK_MSG(count == 0, "%u violations; the first: %s", count, list[0].text);
}

static struct phx_fault fault(enum phx_fault_kind kind, enum phx_fault_unit unit, uint32_t rank)
{
    struct phx_fault f;
    memset(&f, 0, sizeof f);
    f.kind = kind;
    f.unit = unit;
    f.rank = rank;
    f.peer = PHX_FAULT_ANY;
    f.when.rank = PHX_FAULT_ANY;
    return f;
}

// --- scripts ------------------------------------------------------------------------------------

// Rank 0: dispatches 1, 2 and 3 of 20 puts to each peer, 50 us apart. All stay for 3 ms, polling.
static void three_dispatches(struct test *t, struct phx_sim_rank *rank)
{
    if (phx_sim_rank_number(rank) == 0)
        for (uint32_t n = 1; n <= 3; n++) {
            phase(rank, PHX_PHASE_DISPATCH_SEND, n);
            for (uint32_t i = 0; i < 20; i++)
                for (uint32_t p = 1; p < RANKS; p++)
                    put(t, rank, p, (n - 1) * 20 + i + 1, (uint32_t)PHX_DISPATCH << 28 | n);
            phx_sim_sleep_ns(rank, 50000);
        }
    for (uint32_t i = 0; i < 300; i++) {
        phx_sim_sleep_ns(rank, 10000);
        poll(t, rank);
    }
}

// The same puts without an operation's number, so that slots are not the subject.
static void stream(struct test *t, struct phx_sim_rank *rank)
{
    if (phx_sim_rank_number(rank) == 0)
        for (uint32_t i = 0; i < t->puts; i++) {
            for (uint32_t p = 1; p < RANKS; p++)
                put(t, rank, p, i + 1, 7);
            phx_sim_sleep_ns(rank, 10000);
            poll(t, rank);
        }
    for (uint32_t i = 0; i < 100; i++) {
        phx_sim_sleep_ns(rank, 10000);
        poll(t, rank);
    }
}

static void two_clocks(struct test *t, struct phx_sim_rank *rank)
{
    struct rank_state *s = &t->ranks[phx_sim_rank_number(rank)];
    s->clock_ns[0] = phx_sim_now_ns(rank);
    for (uint32_t i = 0; i < 100; i++)
        phx_sim_sleep_ns(rank, 10000);
    s->clock_ns[1] = phx_sim_now_ns(rank);
}

// --- units and triggers -------------------------------------------------------------------------

TEST(fault_kill_strikes_at_its_time)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 2);
    f.when.at_ps = 777 * US;
    install(&t, &f, 1);
    CHECK(phx_fault_struck_ps(t.world, 0) == UINT64_MAX);
    CHECK(!phx_fault_quiet(t.world));
    run(&t, two_clocks);
    CHECK_EQ(phx_fault_struck_ps(t.world, 0), 777 * US);
    CHECK_EQ(phx_world_rank_died_ps(t.world, 2), 777 * US);
    CHECK(phx_world_rank_alive(t.world, 3));
    CHECK(phx_fault_quiet(t.world));
    phx_world_destroy(t.world);
}

TEST(fault_kill_after_puts_lets_exactly_those_out)
{
    for (uint32_t after = 1; after <= 60; after += 13) {
        struct test t;
        start(&t, after);
        struct phx_fault f = fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 0);
        f.when.kind = PHX_DISPATCH;
        f.when.number = 2;
        f.when.after_puts = after;
        install(&t, &f, 1);
        run(&t, three_dispatches);
        CHECK(!phx_world_rank_alive(t.world, 0));
        // Puts go to ranks 1, 2, 3 in turn; 20 of dispatch 1 went to each.
        uint64_t out = 0;
        for (uint32_t p = 1; p < RANKS; p++) {
            CHECK_EQ(value_at(&t, p), 20 + (after + 3 - p) / 3);
            out += value_at(&t, p) - 20;
        }
        CHECK_EQ(out, after);
        uint32_t kind;
        uint64_t number;
        phx_fault_struck_in(t.world, 0, &kind, &number);
        CHECK_EQ(kind, PHX_DISPATCH);
        CHECK_EQ(number, 2);
        phx_world_destroy(t.world);
    }
}

// What a stopped rank's worker had posted ahead of the clock leaves after the resume, in order.
TEST(fault_pause_after_puts_holds_the_rest)
{
    struct test t;
    start(&t, 3);
    struct phx_fault list[2] = {fault(PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, 0),
                                fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 0)};
    list[0].when.kind = PHX_DISPATCH;
    list[0].when.number = 2;
    list[0].when.after_puts = 9;
    list[0].duration_ps = 400 * US;
    list[1].when = list[0].when;
    list[1].when.after_puts = 12;
    install(&t, list, 2);
    run(&t, three_dispatches);
    for (uint32_t p = 1; p < RANKS; p++)
        CHECK_EQ(value_at(&t, p), 24);
    uint64_t apart_ps = phx_fault_struck_ps(t.world, 1) - phx_fault_struck_ps(t.world, 0);
    CHECK_EQ(apart_ps / US, 400);
    phx_world_destroy(t.world);
}

TEST(fault_strikes_another_rank_when_a_phase_begins)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 3);
    f.when.rank = 0;
    f.when.phase = PHX_PHASE_DISPATCH_SEND;
    f.when.number = 3;
    install(&t, &f, 1);
    run(&t, three_dispatches);
    CHECK_EQ(phx_world_rank_died_ps(t.world, 3), t.ranks[0].begin_ps + 100 * US);
    CHECK_EQ(phx_fault_struck_ps(t.world, 0), t.ranks[0].begin_ps + 100 * US);
    phx_world_destroy(t.world);
}

TEST(fault_host_takes_its_ranks_and_what_was_not_sent)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_KILL, PHX_UNIT_HOST, 1);
    f.when.rank = 0;
    f.when.kind = PHX_DISPATCH;
    f.when.number = 1;
    f.when.after_puts = 60; // all of it is posted; little of it has left the NIC
    install(&t, &f, 1);
    run(&t, three_dispatches);
    CHECK(!phx_world_rank_alive(t.world, 0));
    CHECK(!phx_world_rank_alive(t.world, 1));
    CHECK(phx_world_rank_alive(t.world, 2));
    CHECK(value_at(&t, 2) < 20);
    CHECK(value_at(&t, 3) < 20);
    phx_world_destroy(t.world);
}

TEST(fault_process_death_is_evidence_on_its_host_only)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 1);
    f.when.at_ps = 300 * US;
    install(&t, &f, 1);
    t.puts = 0;
    run(&t, stream);
    CHECK_EQ(t.ranks[0].event_count, 1);
    CHECK_EQ(t.ranks[0].events[0].kind, PHX_EVENT_PEER);
    CHECK_EQ(t.ranks[0].events[0].peer.rank, 1);
    CHECK_EQ(t.ranks[0].events[0].at_ns, 800000); // half a millisecond after
    CHECK_EQ(t.ranks[2].event_count, 0);          // silence, until it has something to send
    CHECK_EQ(t.ranks[3].event_count, 0);
    phx_world_destroy(t.world);
}

TEST(fault_nic_leaves_nvlink_and_the_process_alone)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_KILL, PHX_UNIT_NIC, 0);
    f.when.at_ps = 200 * US;
    install(&t, &f, 1);
    t.puts = 30;
    run(&t, stream);
    CHECK(phx_world_rank_alive(t.world, 0));
    CHECK_EQ(value_at(&t, 1), 30);
    CHECK(value_at(&t, 2) < 30);
    CHECK(value_at(&t, 3) < 30);
    phx_world_destroy(t.world);
}

TEST(fault_gpu_death_ends_the_process_and_its_memory)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_KILL, PHX_UNIT_GPU, 1);
    f.when.at_ps = 200 * US;
    install(&t, &f, 1);
    t.puts = 30;
    run(&t, stream);
    CHECK(!phx_world_rank_alive(t.world, 1));
    CHECK(value_at(&t, 1) < 30);
    CHECK_EQ(value_at(&t, 2), 30);
    CHECK(phx_fabric_figures(phx_fabric_of(t.world)).vanished > 0);
    phx_world_destroy(t.world);
}

TEST(fault_pause_stops_and_resumes)
{
    struct test t;
    start(&t, 1);
    struct phx_fault list[2] = {fault(PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, 1),
                                fault(PHX_FAULT_HANG, PHX_UNIT_PROCESS, 2)};
    list[0].when.at_ps = 500 * US;
    list[0].duration_ps = 5000 * US;
    list[1].when.at_ps = 500 * US;
    install(&t, list, 2);
    run(&t, two_clocks);
    CHECK(t.ranks[0].clock_ns[1] < 1300000);
    CHECK(t.ranks[1].clock_ns[1] >= 5500000);
    CHECK_EQ(t.ranks[2].clock_ns[1], 0); // never came back
    CHECK(phx_world_rank_alive(t.world, 2));
    CHECK(phx_fault_quiet(t.world));
    phx_world_destroy(t.world);
}

TEST(fault_restart_starts_the_next_incarnation)
{
    struct test t;
    start(&t, 1);
    struct phx_fault list[2] = {fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 1),
                                fault(PHX_FAULT_RESTART, PHX_UNIT_PROCESS, 1)};
    list[0].when.at_ps = 300 * US;
    list[1].when.at_ps = 600 * US;
    install(&t, list, 2);
    run(&t, two_clocks);
    CHECK_EQ(t.ranks[1].starts, 2);
    CHECK_EQ(phx_world_rank_incarnation(t.world, 1), 2);
    CHECK(phx_world_rank_alive(t.world, 1));
    phx_world_destroy(t.world);
}

// Rank 0, after rank 2 was started again: its old name and key are stale, its new name is not.
static void after_restart(struct test *t, struct phx_sim_rank *rank)
{
    struct rank_state *s = &t->ranks[phx_sim_rank_number(rank)];
    struct phx_transport *transport = phx_sim_transport(rank);
    for (uint32_t i = 0; i < 100; i++)
        phx_sim_sleep_ns(rank, 10000);
    if (phx_sim_rank_number(rank) != 0)
        return;
    s->event_count = 0;
    CHECK_EQ(phx_peer_connect(transport, (struct phx_peer){2, 1}), 0);
    phx_sim_sleep_ns(rank, 1000000);
    poll(t, rank);
    CHECK_EQ(s->event_count, 1);
    CHECK_EQ(s->events[0].peer_state, PHX_PEER_LOST);
    CHECK_EQ(s->events[0].status, PHX_ERR_STALE);
    CHECK_EQ(phx_peer_connect(transport, (struct phx_peer){2, 2}), 0);
    phx_sim_sleep_ns(rank, 1000000);
    poll(t, rank);
    CHECK_EQ(s->event_count, 2);
    CHECK_EQ(s->events[1].peer_state, PHX_PEER_UP);
    struct phx_op op;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.peer = (struct phx_peer){2, 2};
    op.size_bytes = 64;
    op.wire_bytes = 64;
    op.source.mem = s->source_mem;
    op.target.mem = s->to[2]; // of the first incarnation
    op.token = 5;
    CHECK_EQ(phx_post(transport, &op, 1), 1);
    phx_sim_sleep_ns(rank, 1000000);
    poll(t, rank);
    CHECK_EQ(s->event_count, 3);
    CHECK_EQ(s->events[2].token, 5);
    CHECK_EQ(s->events[2].status, PHX_ERR_STALE);
}

TEST(fault_restart_makes_names_and_keys_stale)
{
    struct test t;
    start(&t, 1);
    struct phx_fault list[2] = {fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 2),
                                fault(PHX_FAULT_RESTART, PHX_UNIT_PROCESS, 2)};
    list[0].when.at_ps = 300 * US;
    list[1].when.at_ps = 600 * US;
    install(&t, list, 2);
    run(&t, after_restart);
    for (uint32_t i = 0; i < 64; i++)
        CHECK_EQ(t.ranks[2].region[0][i], 0);
    phx_world_destroy(t.world);
}

TEST(fault_clock_offset_moves_one_clock)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_CLOCK_OFFSET, 0, 3);
    f.offset_ns = 1000000000;
    f.when.at_ps = 500 * US;
    install(&t, &f, 1);
    run(&t, two_clocks);
    CHECK(t.ranks[3].clock_ns[0] < 1000000);
    CHECK(t.ranks[3].clock_ns[1] - t.ranks[0].clock_ns[1] >= 999000000);
    phx_world_destroy(t.world);
}

// --- links --------------------------------------------------------------------------------------

static void stream_survives(struct test *t, const struct phx_fault *f)
{
    start(t, 9);
    install(t, f, 1);
    t->puts = 40;
    run(t, stream);
    for (uint32_t p = 1; p < RANKS; p++)
        CHECK_EQ(value_at(t, p), 40);
}

TEST(fault_links_delay_and_resend_but_lose_nothing)
{
    const enum phx_fault_kind kinds[] = {
        PHX_FAULT_LINK_DOWN,  PHX_FAULT_LINK_FLAP, PHX_FAULT_LINK_ONE_WAY, PHX_FAULT_LINK_DEGRADED,
        PHX_FAULT_LINK_LOSSY, PHX_FAULT_DELAY,     PHX_FAULT_DUPLICATE};
    for (uint32_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (uint32_t peer = 1; peer <= 3; peer++) { // NVLink, then NIC, then the whole port
            struct test t;
            struct phx_fault f = fault(kinds[i], 0, 0);
            f.peer = peer == 3 ? PHX_FAULT_ANY : peer;
            f.when.at_ps = 200 * US;
            f.duration_ps = 150 * US;
            f.percent = 10;
            f.ppm = 200000;
            f.delay_ps = 3 * US;
            f.period_ps = 20 * US;
            f.count = 5;
            stream_survives(&t, &f);
            struct phx_fabric_figures figures = phx_fabric_figures(phx_fabric_of(t.world));
            CHECK_EQ(figures.in_flight, 0);
            CHECK_EQ(figures.failed, 0);
            CHECK(phx_fault_quiet(t.world));
            bool resends = kinds[i] <= PHX_FAULT_LINK_ONE_WAY || kinds[i] == PHX_FAULT_LINK_LOSSY;
            if (peer >= 2)
                CHECK_MSG((figures.resent > 0) == resends, "%s: %llu messages resent",
                          phx_fault_kind_name(kinds[i]), (unsigned long long)figures.resent);
            phx_world_destroy(t.world);
        }
}

TEST(fault_long_outage_loses_the_peer)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_LINK_DOWN, 0, 0);
    f.peer = 2;
    f.when.at_ps = 200 * US;
    install(&t, &f, 1);
    t.puts = 30;
    run(&t, stream);
    CHECK_EQ(value_at(&t, 1), 30);
    CHECK_EQ(value_at(&t, 3), 30);
    CHECK(value_at(&t, 2) < 30);
    CHECK(phx_fabric_figures(phx_fabric_of(t.world)).failed > 0);
    phx_world_destroy(t.world);
}

TEST(fault_partition_separates_sides)
{
    struct test t;
    const uint32_t members[] = {2, 3};
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_PARTITION, 0, 0);
    f.members = members;
    f.member_count = 2;
    f.when.at_ps = 200 * US;
    install(&t, &f, 1);
    t.puts = 30;
    run(&t, stream);
    CHECK_EQ(value_at(&t, 1), 30);
    CHECK(value_at(&t, 2) < 30);
    CHECK(value_at(&t, 3) < 30);
    phx_world_destroy(t.world);
}

TEST(fault_slow_nic_sends_slowly)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_SLOW, PHX_UNIT_NIC, 0);
    f.percent = 1;
    f.when.at_ps = 0;
    install(&t, &f, 1);
    t.puts = 30;
    run(&t, stream);
    struct phx_flight flight;
    memset(&flight, 0, sizeof flight);
    flight.target = 2;
    flight.size_bytes = 1 << 20;
    phx_network_depart(phx_fabric_network(phx_fabric_of(t.world)), 1ull << 50, &flight);
    CHECK(flight.gone_ps - flight.leave_ps > 2000 * US); // 21 us at full speed
    phx_world_destroy(t.world);
}

TEST(fault_bit_flip_changes_one_bit)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_BIT_FLIP, 0, 0);
    f.when.at_ps = 0;
    f.count = 1;
    install(&t, &f, 1);
    t.puts = 1;
    run(&t, stream);
    uint32_t bits = 0;
    for (uint32_t p = 1; p < RANKS; p++)
        for (uint32_t i = 0; i < 4096; i++)
            bits += (uint32_t)__builtin_popcount((unsigned)(t.ranks[p].region[0][4096 + i] ^ 0x5A));
    CHECK_EQ(bits, 1);
    CHECK_EQ(phx_fabric_figures(phx_fabric_of(t.world)).flips, 1);
    phx_world_destroy(t.world);
}

// --- lists --------------------------------------------------------------------------------------

static void refused(struct phx_fault f, const char *text)
{
    struct test t;
    struct phx_message message;
    start(&t, 1);
    const struct phx_fault list[2] = {fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 0), f};
    CHECK_EQ(phx_fault_install(t.world, list, 2, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, text);
    phx_world_destroy(t.world);
}

TEST(fault_bad_entries_are_named)
{
    struct phx_fault f = fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 4);
    refused(f, "fault 2 (kill): rank is 4; it must be below the number of ranks");
    f = fault((enum phx_fault_kind)99, PHX_UNIT_PROCESS, 1);
    refused(f, "fault 2 (unknown): kind is 99; it is not a fault");
    f = fault(PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, 1);
    refused(f, "fault 2 (pause): duration_ps is 0; it must be above 0: what never resumes is a "
               "hang");
    f = fault(PHX_FAULT_LINK_LOSSY, 0, 1);
    f.ppm = 1000001;
    refused(f, "fault 2 (link lossy): ppm is 1000001; it may be 1 to 1000000");
    f = fault(PHX_FAULT_LINK_DOWN, 0, 1);
    f.peer = 1;
    refused(f, "fault 2 (link down): peer is 1; it must be another rank of the cluster");
    f = fault(PHX_FAULT_KILL, PHX_UNIT_PROCESS, 1);
    f.when.after_puts = 3;
    refused(f, "fault 2 (kill): when.after_puts is 3; it needs the operation's kind and number");
    f = fault(PHX_FAULT_PARTITION, 0, 1);
    refused(f, "fault 2 (partition): member_count is 0; it must leave ranks on both sides");
}

static uint64_t lost_with(bool second)
{
    struct test t;
    start(&t, 5);
    struct phx_fault list[2] = {fault(PHX_FAULT_LINK_LOSSY, 0, 0),
                                fault(PHX_FAULT_SLOW, PHX_UNIT_PROCESS, 3)};
    list[0].peer = 2;
    list[0].ppm = 100000;
    list[1].percent = 50;
    install(&t, list, second ? 2 : 1);
    t.puts = 60;
    run(&t, stream);
    uint64_t lost = phx_fabric_figures(phx_fabric_of(t.world)).packets_lost;
    CHECK(lost > 0);
    phx_world_destroy(t.world);
    return lost;
}

TEST(fault_removing_one_leaves_the_draws_of_others)
{
    CHECK_EQ(lost_with(true), lost_with(false));
}

// --- flips, chances, events ---------------------------------------------------------------------

TEST(fault_caught_flips_cost_time_and_change_nothing)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_BIT_FLIP, 0, 0);
    f.when.at_ps = 0;
    f.count = 12; // four to each peer: over NVLink and over NICs
    f.is_caught = true;
    install(&t, &f, 1);
    t.puts = 30;
    run(&t, stream);
    struct phx_fabric_figures figures = phx_fabric_figures(phx_fabric_of(t.world));
    CHECK_EQ(figures.flips_caught, 12);
    CHECK_EQ(figures.flips, 0);
    CHECK(figures.resent > 0);
    CHECK(figures.packets_lost > 0);
    CHECK_EQ(figures.failed, 0);
    for (uint32_t p = 1; p < RANKS; p++)
        CHECK_EQ(value_at(&t, p), 30);
    phx_world_destroy(t.world);
}

TEST(fault_strikes_by_chance_more_than_once_until_frozen)
{
    uint64_t strikes[3];
    for (uint32_t i = 0; i < 3; i++) {
        struct test t;
        start(&t, 1);
        struct phx_fault f = fault(PHX_FAULT_CLOCK_OFFSET, 0, 1);
        f.when.at_ps = 10 * US;
        f.when.chance_ppm = i == 0 ? 1000000 : 1;
        f.offset_ns = 5;
        install(&t, &f, 1);
        if (i == 2)
            phx_fault_freeze(t.world, 5 * US);
        t.puts = 5;
        run(&t, stream);
        strikes[i] = phx_fault_struck_ps(t.world, 0);
        CHECK(phx_fault_quiet(t.world));
        phx_world_destroy(t.world);
    }
    CHECK_EQ(strikes[0], 10 * US);
    CHECK_EQ(strikes[1], UINT64_MAX);
    CHECK_EQ(strikes[2], UINT64_MAX);
}

TEST(fault_strikes_right_after_an_event)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_CLOCK_OFFSET, 0, 1);
    f.when.event = 40;
    f.offset_ns = 5;
    install(&t, &f, 1);
    t.puts = 5;
    run(&t, stream);
    CHECK(phx_fault_struck_ps(t.world, 0) > 0);
    CHECK(phx_fault_struck_ps(t.world, 0) < phx_core_now_ps(phx_world_core(t.world)));
    phx_world_destroy(t.world);
}

TEST(fault_pause_that_ends_does_not_wake_a_hung_rank)
{
    struct test t;
    start(&t, 1);
    struct phx_fault list[2] = {fault(PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, 0),
                                fault(PHX_FAULT_HANG, PHX_UNIT_PROCESS, 0)};
    list[0].when.at_ps = 200 * US;
    list[0].duration_ps = 100 * US;
    list[1].when.at_ps = 250 * US;
    install(&t, list, 2);
    t.puts = 1000;
    run(&t, stream);
    CHECK(value_at(&t, 1) < 1000);
    phx_world_destroy(t.world);
}

TEST(fault_freeze_heals_what_would_last_longer)
{
    struct test t;
    start(&t, 1);
    struct phx_fault f = fault(PHX_FAULT_LINK_DOWN, 0, 0);
    f.peer = 2;
    f.when.at_ps = 200 * US;
    f.duration_ps = 2000000 * US; // longer than a queue pair tries
    install(&t, &f, 1);
    phx_fault_freeze(t.world, 300 * US);
    t.puts = 30;
    run(&t, stream);
    CHECK_EQ(value_at(&t, 2), 30);
    CHECK_EQ(phx_fabric_figures(phx_fabric_of(t.world)).failed, 0);
    phx_world_destroy(t.world);
}
