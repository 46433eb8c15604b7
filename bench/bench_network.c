// bench/bench_network.c: what a message costs the simulator, and how close nvlink4 is to hardware.
//
// First table: one all-to-all of 14 KiB a pair (what the network is charged; 128 bytes are moved),
// each message with a signal, memory checked and not; post to last delivery, without set-up. Second
// table: each of 8 ranks pushes bytes / 7 to each other, beside the times measured on 8x H200.

#define _POSIX_C_SOURCE 199309L // clock_gettime()

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "sim/fabric.h"
#include "sim/world_internal.h"

#define SLOT 192u // of one writer: 128 bytes of payload and a word
#define ROUNDS 3

static double seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void die(const char *why)
{
    (void)fprintf(stderr, "bench_network: %s\n", why);
    exit(1);
}

struct cluster {
    struct phx_world *world;
    struct phx_core *core;
    struct phx_fabric *fabric;
    uint32_t ranks;
    struct phx_mem *source; // [ranks]
    struct phx_mem *target; // [ranks][ranks], by source
};

static void drain(const struct cluster *c)
{
    while (phx_core_step(c->core))
        continue;
}

static void connect(struct cluster *c, uint32_t rank, uint8_t *base)
{
    struct phx_transport *t = phx_fabric_transport(c->fabric, rank);
    if (phx_mem_register(t, base + c->ranks * SLOT, 4096, PHX_WRITER_NONE, &c->source[rank], NULL))
        die("a source could not be registered");
    for (uint32_t p = 0; p < c->ranks; p++) {
        struct phx_mem mem;
        struct phx_mem_key key;
        struct phx_peer me = {(uint16_t)rank, 1};
        struct phx_peer peer = {(uint16_t)p, 1};
        if (phx_mem_register(t, base + p * SLOT, SLOT, (uint16_t)p, &mem, &key) != 0 ||
            phx_mem_import(phx_fabric_transport(c->fabric, p), me, &key,
                           &c->target[p * c->ranks + rank]) != 0 ||
            phx_peer_connect(t, peer) != 0)
            die("ranks could not be connected");
    }
}

static struct cluster cluster_open(uint32_t nodes, uint32_t per_node, bool check)
{
    struct cluster c;
    struct phx_world_options options;
    struct phx_message message = {""};
    memset(&options, 0, sizeof options);
    options.seed = 1;
    options.schedule.tie = PHX_TIE_FIFO;
    options.fibers = PHX_PTHREADS; // no program runs here
    options.workers = 1;
    options.cluster = (struct phx_cluster){nodes, per_node, "nvlink4", "roce_400g", 0};
    if (phx_world_create(&options, &c.world, &message) != 0)
        die(message.text);
    c.core = phx_world_core(c.world);
    c.fabric = phx_fabric_of(c.world);
    c.ranks = nodes * per_node;
    c.source = calloc(c.ranks, sizeof *c.source);
    c.target = calloc((size_t)c.ranks * c.ranks, sizeof *c.target);
    phx_memory_check(phx_fabric_memory(c.fabric), check);
    for (uint32_t r = 0; r < c.ranks; r++) {
        uint8_t *base = phx_sim_alloc(phx_world_rank(c.world, r), c.ranks * SLOT + 4096);
        if (base == NULL || c.source == NULL || c.target == NULL)
            die("no memory");
        connect(&c, r, base);
    }
    drain(&c);
    return c;
}

static void cluster_close(struct cluster *c)
{
    phx_world_destroy(c->world);
    free(c->source);
    free(c->target);
}

// Every rank sends `wire_bytes` to each other, in rotation. Returns the virtual time it took.
static uint64_t push_all_ps(struct cluster *c, uint32_t wire_bytes)
{
    uint64_t begin_ps = phx_core_now_ps(c->core);
    for (uint32_t offset = 1; offset < c->ranks; offset++)
        for (uint32_t r = 0; r < c->ranks; r++) {
            uint32_t p = (r + offset) % c->ranks;
            struct phx_op op;
            memset(&op, 0, sizeof op);
            op.code = PHX_OP_PUT;
            op.flags = PHX_OP_SILENT | PHX_OP_SIGNAL;
            op.peer = (struct phx_peer){(uint16_t)p, 1};
            op.size_bytes = 128;
            op.wire_bytes = wire_bytes;
            op.source.mem = c->source[r];
            op.target.mem = c->target[r * c->ranks + p];
            op.signal_offset = 128;
            op.signal_value = 1;
            if (phx_post(phx_fabric_transport(c->fabric, r), &op, 1) != 1)
                die("a lane was full");
        }
    drain(c);
    return phx_core_now_ps(c->core) - begin_ps;
}

struct row {
    uint32_t ranks;
    bool check;
    uint64_t messages;
    uint64_t events;
    double seconds;
    uint64_t virtual_ns;
    long peak_kib;
};

static struct row measure(uint32_t nodes, uint32_t per_node, bool check)
{
    struct row row = {.ranks = nodes * per_node, .check = check};
    struct cluster c = cluster_open(nodes, per_node, check);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t events = phx_core_events(c.core);
        double begin = seconds();
        uint64_t virtual_ps = push_all_ps(&c, 14336);
        double took = seconds() - begin;
        row.events = phx_core_events(c.core) - events;
        if (round == 0 || took < row.seconds)
            row.seconds = took;
        row.virtual_ns = virtual_ps / 1000;
    }
    row.messages = (uint64_t)row.ranks * (row.ranks - 1);
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    row.peak_kib = usage.ru_maxrss;
    cluster_close(&c);
    return row;
}

static const struct {
    uint64_t bytes;
    double us; // measured on 8x H200
} hardware[] = {
    {1000000, 6.9},   {4350000, 17.9},   {6600000, 22.8},   {8400000, 28.7},
    {12900000, 42.5}, {32000000, 100.0}, {64000000, 196.0},
};
#define HARDWARE (sizeof hardware / sizeof hardware[0])

static double push_us(uint64_t bytes)
{
    struct cluster c = cluster_open(1, 8, true);
    uint64_t ps = push_all_ps(&c, (uint32_t)(bytes / 7));
    cluster_close(&c);
    return (double)ps / 1e6 + 3.3; // the cost of an operation, charged by the executor's run
}

static void print_table(const struct row *rows, uint32_t count)
{
    printf("all-to-all, 14 KiB a pair, one signal each; best of %d\n", ROUNDS);
    printf("%6s %8s %9s %9s %10s %12s %12s %10s\n", "ranks", "checked", "messages", "events", "ms",
           "messages/s", "events/s", "peak MiB");
    for (uint32_t i = 0; i < count; i++)
        printf("%6u %8s %9llu %9llu %10.2f %12.0f %12.0f %10.0f\n", rows[i].ranks,
               rows[i].check ? "yes" : "no", (unsigned long long)rows[i].messages,
               (unsigned long long)rows[i].events, rows[i].seconds * 1e3,
               (double)rows[i].messages / rows[i].seconds, (double)rows[i].events / rows[i].seconds,
               (double)rows[i].peak_kib / 1024);
    printf("\nnvlink4, 8 ranks, bytes / 7 to each other\n");
    printf("%12s %12s %12s %8s\n", "bytes", "measured us", "simulated us", "error");
    for (uint32_t i = 0; i < HARDWARE; i++) {
        double us = push_us(hardware[i].bytes);
        printf("%12llu %12.1f %12.1f %7.1f%%\n", (unsigned long long)hardware[i].bytes,
               hardware[i].us, us, (us / hardware[i].us - 1) * 100);
    }
}

static void print_json(const struct row *rows, uint32_t count)
{
    printf("{\"all_to_all\":[");
    for (uint32_t i = 0; i < count; i++)
        printf("%s{\"ranks\":%u,\"checked\":%s,\"messages\":%llu,\"events\":%llu,\"seconds\":%.6f,"
               "\"virtual_ns\":%llu,\"peak_kib\":%ld}",
               i > 0 ? "," : "", rows[i].ranks, rows[i].check ? "true" : "false",
               (unsigned long long)rows[i].messages, (unsigned long long)rows[i].events,
               rows[i].seconds, (unsigned long long)rows[i].virtual_ns, rows[i].peak_kib);
    printf("],\"nvlink4\":[");
    for (uint32_t i = 0; i < HARDWARE; i++)
        printf("%s{\"bytes\":%llu,\"measured_us\":%.1f,\"simulated_us\":%.2f}", i > 0 ? "," : "",
               (unsigned long long)hardware[i].bytes, hardware[i].us, push_us(hardware[i].bytes));
    printf("]}\n");
}

int main(int argc, char **argv)
{
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json) {
        (void)fprintf(stderr, "usage: bench_network [--json]\n");
        return 2;
    }
    static const uint32_t nodes[] = {1, 8, 32, 64};
    struct row rows[8];
    uint32_t count = 0;
    for (uint32_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        rows[count++] = measure(nodes[i], 8, false);
        rows[count++] = measure(nodes[i], 8, true);
    }
    if (json)
        print_json(rows, count);
    else
        print_table(rows, count);
    return 0;
}
