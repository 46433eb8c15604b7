// tests/test_network.c: times of ports, links and presets, against arithmetic and against hardware.

#include "sim/network.h"

#include <string.h>

#include "sim/fabric_internal.h"
#include "sim/world_internal.h"
#include "tests/test.h"

static struct phx_network *make(uint32_t ranks, uint32_t per_node, uint64_t jitter_ps)
{
    struct phx_network_options options;
    memset(&options, 0, sizeof options);
    options.seed = 1;
    options.ranks = ranks;
    options.ranks_per_node = per_node;
    options.intra = *phx_preset_find("nvlink4");
    options.inter = *phx_preset_find("ib_400g");
    options.intra.jitter_ps = jitter_ps;
    options.inter.jitter_ps = jitter_ps;
    struct phx_network *network = NULL;
    struct phx_message message;
    CHECK_MSG(phx_network_create(&options, &network, &message) == 0, "%s", message.text);
    return network;
}

static struct phx_flight flight_of(uint32_t source, uint32_t target, uint64_t size_bytes)
{
    struct phx_flight flight;
    memset(&flight, 0, sizeof flight);
    flight.source = source;
    flight.target = target;
    flight.size_bytes = size_bytes;
    return flight;
}

// When a message that leaves now is delivered, nobody else being on the way.
static uint64_t deliver(struct phx_network *network, uint64_t now_ps, struct phx_flight *flight)
{
    phx_network_depart(network, now_ps, flight);
    return phx_network_arrive(network, flight->arrive_ps, flight);
}

TEST(network_presets_have_names_and_sources)
{
    uint32_t count = 0;
    for (; phx_preset_at(count) != NULL; count++) {
        const struct phx_preset *preset = phx_preset_at(count);
        CHECK(phx_preset_find(preset->name) == preset);
        CHECK(strlen(preset->source) > 20);
        CHECK(preset->bytes_per_us > 0);
        CHECK(preset->mtu_bytes > 0);
        CHECK(preset->post_count_max > 0);
        CHECK(preset->plane == PHX_PLANE_NVLINK || preset->ack_timeout_ps > 0);
    }
    CHECK_EQ(count, 5);
    CHECK(phx_preset_find("token_ring") == NULL);
}

TEST(network_unknown_preset_is_refused_with_the_list)
{
    const struct phx_preset *preset = NULL;
    struct phx_message message;
    CHECK_EQ(phx_preset_require("inter_node", "nvlink4", PHX_PLANE_NIC, &preset, &message),
             PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "inter_node is \"nvlink4\"; it may be one of: roce_400g, ib_400g, "
                               "roce_200g, ethernet_25g");
    CHECK_EQ(phx_preset_require("intra_node", NULL, PHX_PLANE_NVLINK, &preset, &message),
             PHX_ERR_INVALID);
    CHECK(preset == NULL);
}

TEST(network_lone_message_takes_flight_and_size)
{
    struct phx_network *network = make(4, 2, 0);
    const struct phx_preset *nvlink = phx_preset_find("nvlink4");
    const struct phx_preset *nic = phx_preset_find("ib_400g");
    struct phx_flight flight = flight_of(0, 1, 333000);
    CHECK_EQ(deliver(network, 5000, &flight), 5000 + 660000 + 1000000 + nvlink->message_ps);
    // 10 packets of 4096, and their headers, at 50 bytes a nanosecond.
    flight = flight_of(0, 2, 40960);
    CHECK_EQ(deliver(network, 0, &flight),
             nic->flight_ps + nic->message_ps + (40960 + 10 * 42) * 1000 / 50);
    CHECK_EQ(phx_network_plane(network, 1, 1), PHX_PLANE_LOCAL);
    CHECK_EQ(phx_network_plane(network, 2, 3), PHX_PLANE_NVLINK);
    CHECK_EQ(phx_network_plane(network, 1, 2), PHX_PLANE_NIC);
    phx_network_destroy(network);
}

TEST(network_ports_serve_one_message_at_a_time)
{
    struct phx_network *network = make(4, 4, 0);
    uint64_t wire_ps = phx_network_wire_ps(phx_preset_find("nvlink4"), 333000);
    struct phx_flight a = flight_of(0, 1, 333000);
    struct phx_flight b = flight_of(0, 2, 333000);
    struct phx_flight c = flight_of(3, 1, 333000);
    phx_network_depart(network, 0, &a);
    phx_network_depart(network, 0, &b); // the same egress: behind a
    phx_network_depart(network, 10, &c);
    CHECK_EQ(a.leave_ps, 0);
    CHECK_EQ(b.leave_ps, wire_ps);
    CHECK_EQ(c.leave_ps, 10);
    CHECK_EQ(phx_network_arrive(network, a.arrive_ps, &a), 660000 + wire_ps);
    CHECK_EQ(phx_network_arrive(network, c.arrive_ps, &c), 660000 + 2 * wire_ps); // behind a
    CHECK_EQ(phx_network_arrive(network, b.arrive_ps, &b), 660000 + 2 * wire_ps);
    // NICs have ports of their own.
    phx_network_destroy(network);
}

// Four of a burst, posted back to back or with gaps: the last is in when it would be alone, and the
// ports have given the time of four messages, no more and no less.
TEST(network_bursts_take_the_port_time_of_their_messages)
{
    uint64_t wire_ps = phx_network_wire_ps(phx_preset_find("nvlink4"), 33300);
    for (uint32_t gaps = 0; gaps < 2; gaps++) {
        struct phx_network *network = make(4, 4, 0);
        uint64_t step_ps = gaps * 3 * wire_ps;
        struct phx_flight burst[4];
        for (uint32_t i = 0; i < 4; i++) {
            burst[i] = flight_of(0, 1, 33300);
            if (i == 0)
                phx_network_depart(network, 0, &burst[0]);
            else
                phx_network_follow(network, i * step_ps, &burst[i - 1], &burst[i]);
            CHECK_EQ(burst[i].leave_ps, i * (gaps ? step_ps : wire_ps));
        }
        uint64_t end_ps = phx_network_arrive_burst(network, &burst[0], &burst[3], 4 * wire_ps);
        CHECK_EQ(end_ps, burst[3].leave_ps + 660000 + wire_ps);
        // Another of the same source, and one to the same target, come behind the bytes alone.
        struct phx_flight next = flight_of(0, 2, 33300);
        phx_network_depart(network, 0, &next);
        CHECK_EQ(next.leave_ps, 4 * wire_ps);
        struct phx_flight other = flight_of(3, 1, 33300);
        phx_network_depart(network, 0, &other);
        CHECK_EQ(phx_network_arrive(network, 660000, &other), 660000 + 5 * wire_ps);
        // What is taken back frees the egress.
        phx_network_recall(network, &burst[3]);
        CHECK_EQ(burst[3].gone_ps, 0);
        next = flight_of(0, 2, 33300);
        phx_network_depart(network, 0, &next);
        CHECK_EQ(next.leave_ps, 4 * wire_ps);
        phx_network_destroy(network);
    }
}

TEST(network_degraded_and_delayed_paths_are_slower)
{
    struct phx_network *network = make(2, 1, 0);
    struct phx_flight clean = flight_of(0, 1, 1 << 20);
    uint64_t before_ps = deliver(network, 0, &clean);
    uint64_t wire_ps = clean.gone_ps - clean.leave_ps;
    const struct phx_link_fault fault = {.rate_percent = 25, .delay_ps = 7000};
    CHECK(phx_network_path_fault(network, 1000000000, 0, 1, &fault));
    struct phx_flight slow = flight_of(0, 1, 1 << 20);
    CHECK_EQ(deliver(network, 1000000000, &slow), 1000000000 + before_ps + 3 * wire_ps + 7000);
    struct phx_flight back = flight_of(1, 0, 1 << 20);
    CHECK_EQ(deliver(network, 2000000000, &back), 2000000000 + before_ps);
    CHECK(!phx_network_clean(network, 0, 1, 0));
    CHECK(phx_network_clean(network, 1, 0, 0));
    const struct phx_link_fault none = {0};
    CHECK(phx_network_path_fault(network, 3000000000, 0, 1, &none));
    CHECK(phx_network_clean(network, 0, 1, 3000000000));
    CHECK(!phx_network_clean(network, 0, 1, 2999999999)); // a message of then was touched
    phx_network_destroy(network);
}

TEST(network_outage_loses_exactly_the_packets_it_meets)
{
    struct phx_network *network = make(2, 1, 0);
    struct phx_flight flight = flight_of(0, 1, 100 * 4096);
    phx_network_depart(network, 0, &flight);
    uint64_t packet_ps = flight.gone_ps / 100;
    // The path goes down as the first byte of packet 50 leaves; what is on it is lost too.
    const struct phx_link_fault down = {.down = true};
    const struct phx_link_fault up = {0};
    CHECK(phx_network_path_fault(network, 50 * packet_ps, 0, 1, &down));
    CHECK(phx_network_path_fault(network, 70 * packet_ps, 0, 1, &up));
    uint64_t on_the_way = flight.flight_ps / packet_ps;
    for (uint32_t i = 0; i < 100; i++) {
        bool lost = i + on_the_way >= 49 && i < 70;
        bool edge = i + on_the_way == 49 || i + on_the_way == 48 || i == 70 || i == 69;
        CHECK_MSG(edge || phx_network_packet_lost(network, &flight, i) == lost, "packet %u", i);
    }
    CHECK_EQ(phx_network_packets(network, &flight), 100);
    phx_network_destroy(network);
}

TEST(network_loss_is_drawn_by_message_and_packet)
{
    struct phx_network *network = make(2, 1, 0);
    const struct phx_link_fault lossy = {.loss_ppm = 100000};
    CHECK(phx_network_path_fault(network, 0, 0, 1, &lossy));
    uint32_t lost = 0;
    struct phx_flight flight = flight_of(0, 1, 64 * 4096);
    for (uint64_t number = 0; number < 200; number++) {
        flight.number = number;
        phx_network_depart(network, 0, &flight);
        for (uint32_t i = 0; i < 64; i++) {
            bool was = phx_network_packet_lost(network, &flight, i);
            CHECK(was == phx_network_packet_lost(network, &flight, i)); // a function, not a stream
            lost += was;
        }
    }
    CHECK_MSG(lost > 1100 && lost < 1460, "%u of 12800 packets lost at a tenth", lost);
    phx_network_destroy(network);
}

TEST(network_partition_cuts_between_sides_only)
{
    struct phx_network *network = make(4, 1, 0);
    const uint8_t side[4] = {0, 0, 1, 1};
    phx_network_partition(network, 10, side);
    CHECK(phx_network_down(network, 0, 2));
    CHECK(phx_network_down(network, 3, 1));
    CHECK(!phx_network_down(network, 0, 1));
    CHECK(!phx_network_down(network, 3, 2));
    phx_network_partition(network, 20, NULL);
    CHECK(!phx_network_down(network, 0, 2));
    CHECK(!phx_network_clean(network, 0, 2, 15));
    CHECK(phx_network_clean(network, 0, 1, 0));
    phx_network_destroy(network);
}

// --- against hardware ---------------------------------------------------------------------------

#define RANKS 8u

static struct phx_world *cluster(uint32_t workers)
{
    struct phx_world_options options;
    memset(&options, 0, sizeof options);
    options.seed = 3;
    options.schedule.tie = PHX_TIE_RANDOM;
    options.fibers = PHX_PTHREADS; // there in every build; no program runs here
    options.workers = workers;
    options.cluster = (struct phx_cluster){1, RANKS, "nvlink4", NULL, 0};
    struct phx_world *world = NULL;
    struct phx_message message;
    CHECK_MSG(phx_world_create(&options, &world, &message) == 0, "%s", message.text);
    return world;
}

// Every rank sends bytes / 7 to each other rank in `pieces`, of which one small part is stored and
// all is charged. Returns the virtual time until the last byte is there.
static uint64_t push_all_ps(uint64_t bytes, uint32_t pieces)
{
    struct phx_world *world = cluster(1);
    struct phx_core *core = phx_world_core(world);
    struct phx_fabric *fabric = phx_fabric_of(world);
    struct phx_mem source[RANKS];
    struct phx_mem target[RANKS][RANKS];
    for (uint32_t r = 0; r < RANKS; r++) {
        struct phx_transport *t = phx_fabric_transport(fabric, r);
        void *base = phx_sim_alloc(phx_world_rank(world, r), 4096);
        CHECK_EQ(phx_mem_register(t, base, 4096, PHX_WRITER_NONE, &source[r], NULL), 0);
        for (uint32_t p = 0; p < RANKS; p++) {
            struct phx_mem mem;
            struct phx_mem_key key;
            base = phx_sim_alloc(phx_world_rank(world, r), 4096);
            CHECK_EQ(phx_mem_register(t, base, 4096, (uint16_t)p, &mem, &key), 0);
            CHECK_EQ(phx_mem_import(phx_fabric_transport(fabric, p),
                                    (struct phx_peer){(uint16_t)r, 1}, &key, &target[p][r]),
                     0);
            CHECK_EQ(phx_peer_connect(t, (struct phx_peer){(uint16_t)p, 1}), 0);
        }
    }
    while (phx_core_step(core))
        continue;
    uint64_t begin_ps = phx_core_now_ps(core);
    for (uint32_t i = 0; i < pieces; i++)
        for (uint32_t offset = 1; offset < RANKS; offset++)
            for (uint32_t r = 0; r < RANKS; r++) {
                uint32_t p = (r + offset) % RANKS;
                struct phx_op op;
                memset(&op, 0, sizeof op);
                op.code = PHX_OP_PUT;
                op.flags = PHX_OP_SILENT;
                op.peer = (struct phx_peer){(uint16_t)p, 1};
                op.size_bytes = 128;
                op.wire_bytes = (uint32_t)(bytes / 7 / pieces);
                op.source.mem = source[r];
                op.target.mem = target[r][p];
                CHECK_EQ(phx_post(phx_fabric_transport(fabric, r), &op, 1), 1);
            }
    while (phx_core_step(core))
        continue;
    uint64_t end_ps = phx_core_now_ps(core);
    CHECK_EQ(phx_fabric_figures(fabric).in_flight, 0);
    phx_world_destroy(world);
    return end_ps - begin_ps;
}

// bench: 8x H200, an all-to-all push by a plain kernel; 3.3 us of it are the operation's own cost,
// which the executor's run charges.
TEST(network_nvlink4_push_is_within_a_tenth_of_the_hardware)
{
    static const struct {
        uint64_t bytes;
        uint64_t measured_ns;
    } rows[] = {
        {1000000, 6900},   {4350000, 17900},   {6600000, 22800},   {8400000, 28700},
        {12900000, 42500}, {32000000, 100000}, {64000000, 196000},
    };
    const uint64_t operation_ns = 3300;
    for (uint32_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (uint32_t pieces = 1; pieces <= 64; pieces *= 8) {
            uint64_t got_ns = push_all_ps(rows[i].bytes, pieces) / 1000 + operation_ns;
            uint64_t want_ns = rows[i].measured_ns;
            CHECK_MSG(got_ns * 10 >= want_ns * 9 && got_ns * 10 <= want_ns * 11,
                      "%llu bytes in %u pieces took %llu ns; measured %llu ns",
                      (unsigned long long)rows[i].bytes, pieces, (unsigned long long)got_ns,
                      (unsigned long long)want_ns);
        }
}

static int posted_to(struct phx_fabric *f, struct phx_mem source, struct phx_mem target)
{
    struct phx_op op;
    struct phx_event event;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.peer = (struct phx_peer){1, 1};
    op.size_bytes = op.wire_bytes = 8;
    op.source.mem = source;
    op.target.mem = target;
    CHECK_EQ(phx_post(phx_fabric_transport(f, 0), &op, 1), 1);
    while (phx_core_step(f->core))
        continue;
    event.status = 1;
    while (phx_poll(phx_fabric_transport(f, 0), &event, 1) > 0)
        continue;
    return event.status;
}

TEST(network_knows_a_handle_that_was_never_taken)
{
    struct phx_world *world = cluster(1);
    struct phx_fabric *f = phx_fabric_of(world);
    struct phx_transport *t = phx_fabric_transport(f, 0);
    struct phx_mem source, target, mem, second;
    struct phx_mem_key key;
    uint8_t *a = phx_sim_alloc(phx_world_rank(world, 0), 4096);
    uint8_t *b = phx_sim_alloc(phx_world_rank(world, 1), 8192);
    CHECK_EQ(phx_peer_connect(t, (struct phx_peer){1, 1}), 0);
    while (phx_core_step(f->core))
        continue;
    CHECK_EQ(phx_mem_register(t, a, 4096, PHX_WRITER_NONE, &source, NULL), 0);
    CHECK_EQ(phx_mem_register(phx_fabric_transport(f, 1), b, 4096, 0, &mem, &key), 0);
    CHECK_EQ(phx_mem_import(t, (struct phx_peer){1, 1}, &key, &target), 0);
    CHECK_EQ(posted_to(f, source, target), 0);
    CHECK_EQ(posted_to(f, source, (struct phx_mem){.index = 4, .epoch = 0}), PHX_ERR_STALE);
    CHECK_EQ(posted_to(f, source, (struct phx_mem){.index = 1000, .epoch = 1}), PHX_ERR_PROTECTION);
    CHECK_EQ(posted_to(f, source, (struct phx_mem){.index = UINT32_MAX, .epoch = 1}),
             PHX_ERR_PROTECTION);
    phx_mem_release(t, (struct phx_mem){.index = 1000, .epoch = 1});
    // The peer's second region, and one whose key names what is not there.
    CHECK_EQ(phx_mem_register(phx_fabric_transport(f, 1), b + 4096, 4096, 0, &mem, &key), 0);
    CHECK_EQ(phx_mem_import(t, (struct phx_peer){1, 1}, &key, &second), 0);
    CHECK_EQ(posted_to(f, source, second), 0);
    CHECK(mem.index >= 2 * RANKS && second.index >= 2 * RANKS);
    uint32_t writer;
    uint64_t offset;
    CHECK(phx_sim_mem_find(f, 1, b + 4096 + 8, &writer, &offset) && writer == 0 && offset == 8);
    // Its heads lie apart now: an address in one is an offset in the region, and those that the
    // region would have there are not.
    void *heads[2] = {NULL, NULL};
    CHECK_EQ(phx_mem_heads(phx_fabric_transport(f, 1), mem, 256, 2, heads), 1);
    for (uint32_t i = 0; i < 2; i++) {
        const uint8_t *head = heads[i];
        CHECK(phx_sim_mem_find(f, 1, head + 255, &writer, &offset) && offset == 256 * i + 255);
        CHECK(!phx_sim_mem_find(f, 1, b + 4096 + 256 * i, &writer, &offset));
    }
    CHECK(phx_sim_mem_find(f, 1, b + 4096 + 512, &writer, &offset) && offset == 512);
    uint32_t index = 5000;
    memcpy(key.bytes + 8, &index, sizeof index);
    CHECK_EQ(phx_mem_import(t, (struct phx_peer){1, 1}, &key, &second), 0);
    CHECK_EQ(posted_to(f, source, second), PHX_ERR_PROTECTION);
    CHECK_EQ(posted_to(f, source, target), 0);
    phx_world_destroy(world);
}
