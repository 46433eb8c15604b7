// bench/bench_alltoall.c: one all-to-all on the simulated network, to stand beside other simulators
// (bench/simgrid/run): one process, one operation, RANKS nodes of one rank each.
//
// The network is a star of 400 Gb/s links, 2 us from end to end, without framing, jitter or a cost
// per message: what SimGrid's flat platform is. Every rank posts a put to each other, in rotation,
// with a signal behind it; the memory checker is on. Wall time of the operation is from the first
// post to the last delivery.

#define _GNU_SOURCE // wait4()

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim/fabric.h"
#include "sim/world_internal.h"

#define THIN 128u // bytes of a message that are stored when not all are
#define BYTES 14336u

static double seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void die(const char *why)
{
    (void)fprintf(stderr, "bench_alltoall: %s\n", why);
    exit(1);
}

struct run {
    struct phx_world *world;
    struct phx_fabric *fabric;
    uint32_t ranks;
    uint32_t stored; // bytes of a message
    uint32_t slot;   // of one writer: the message and a word
    struct phx_mem *source;
    struct phx_mem *target; // [ranks][ranks], by source
    uint64_t **words;       // [ranks] the first of a rank's words
};

static void drain(const struct run *r)
{
    while (phx_core_step(phx_world_core(r->world)))
        continue;
}

static void flat(struct phx_fabric *fabric)
{
    struct phx_preset preset = *phx_network_preset(phx_fabric_network(fabric), PHX_PLANE_NIC);
    preset.packet_overhead_bytes = 0;
    preset.flight_ps = 2000000;
    preset.jitter_ps = 0;
    preset.message_ps = 0;
    phx_fabric_bend(fabric, &preset);
}

static void open_rank(struct run *r, uint32_t rank)
{
    struct phx_transport *t = phx_fabric_transport(r->fabric, rank);
    uint64_t inbox = (uint64_t)r->ranks * r->slot;
    uint8_t *base = phx_sim_alloc(phx_world_rank(r->world, rank), inbox + r->stored);
    if (base == NULL)
        die("no memory for a rank");
    r->words[rank] = (uint64_t *)(void *)(base + r->stored);
    memset(base + inbox, (int)rank + 1, r->stored);
    if (phx_mem_register(t, base + inbox, r->stored, PHX_WRITER_NONE, &r->source[rank], NULL) != 0)
        die("a source could not be registered");
    for (uint32_t p = 0; p < r->ranks; p++) {
        struct phx_mem mem;
        struct phx_mem_key key;
        struct phx_peer me = {(uint16_t)rank, 1};
        struct phx_peer peer = {(uint16_t)p, 1};
        if (phx_mem_register(t, base + (uint64_t)p * r->slot, r->slot, (uint16_t)p, &mem, &key) !=
                0 ||
            phx_mem_import(phx_fabric_transport(r->fabric, p), me, &key,
                           &r->target[(size_t)p * r->ranks + rank]) != 0 ||
            phx_peer_connect(t, peer) != 0)
            die("ranks could not be connected");
    }
}

static void open_all(struct run *r)
{
    struct phx_world_options options;
    struct phx_message message = {""};
    memset(&options, 0, sizeof options);
    options.seed = 1;
    options.fibers = PHX_PTHREADS; // no program runs here
    options.workers = 1;
    options.cluster.nodes = r->ranks;
    options.cluster.ranks_per_node = 1;
    options.cluster.intra_node = "nvlink4";
    options.cluster.inter_node = "roce_400g";
    if (phx_world_create(&options, &r->world, &message) != 0)
        die(message.text);
    r->fabric = phx_fabric_of(r->world);
    r->source = calloc(r->ranks, sizeof *r->source);
    r->target = calloc((size_t)r->ranks * r->ranks, sizeof *r->target);
    r->words = calloc(r->ranks, sizeof(uint64_t *));
    if (r->source == NULL || r->target == NULL || r->words == NULL)
        die("no memory");
    flat(r->fabric);
    for (uint32_t rank = 0; rank < r->ranks; rank++)
        open_rank(r, rank);
    drain(r);
}

static void exchange(struct run *r)
{
    for (uint32_t offset = 1; offset < r->ranks; offset++)
        for (uint32_t rank = 0; rank < r->ranks; rank++) {
            uint32_t p = (rank + offset) % r->ranks;
            struct phx_op op;
            memset(&op, 0, sizeof op);
            op.code = PHX_OP_PUT;
            op.flags = PHX_OP_SILENT | PHX_OP_SIGNAL;
            op.peer = (struct phx_peer){(uint16_t)p, 1};
            op.size_bytes = r->stored;
            op.wire_bytes = BYTES;
            op.source.mem = r->source[rank];
            op.target.mem = r->target[(size_t)rank * r->ranks + p];
            op.signal_offset = r->stored;
            op.signal_value = rank + 1;
            if (phx_post(phx_fabric_transport(r->fabric, rank), &op, 1) != 1)
                die("a lane was full");
        }
    drain(r);
}

static void check(const struct run *r) // what came is what was sent
{
    for (uint32_t rank = 0; rank < r->ranks; rank++)
        for (uint32_t p = 0; p < r->ranks; p++) {
            const uint8_t *word = (const uint8_t *)r->words[rank] + (uint64_t)p * r->slot;
            uint64_t value;
            memcpy(&value, word, sizeof value);
            if (p != rank && (value != p + 1 || word[-1] != (uint8_t)(p + 1)))
                die("a message did not come");
        }
}

static int run_once(uint32_t ranks, bool is_full)
{
    struct run r = {.ranks = ranks};
    r.stored = is_full ? BYTES : THIN;
    r.slot = r.stored + 64;
    double begin = seconds();
    open_all(&r);
    double opened = seconds();
    uint64_t begin_ps = phx_core_now_ps(phx_world_core(r.world));
    uint64_t events = phx_core_events(phx_world_core(r.world));
    exchange(&r);
    double ended = seconds();
    check(&r);
    printf("ranks %u\nmessages %llu\nevents %llu\n", ranks, (unsigned long long)ranks * (ranks - 1),
           (unsigned long long)(phx_core_events(phx_world_core(r.world)) - events));
    printf("open_ms %.2f\noperation_ms %.2f\nsimulated_us %.3f\n", (opened - begin) * 1e3,
           (ended - opened) * 1e3,
           (double)(phx_core_now_ps(phx_world_core(r.world)) - begin_ps) / 1e6);
    phx_world_destroy(r.world);
    free(r.source);
    free(r.target);
    free(r.words);
    return 0;
}

// Wall time and peak memory of another program and all that it starts.
static int measure(char **command)
{
    double begin = seconds();
    pid_t child = fork();
    if (child == 0) {
        (void)execv(command[0], command);
        perror(command[0]);
        _exit(127);
    }
    int status = 0;
    struct rusage usage;
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        die("no process could be started");
    double wall = seconds() - begin;
    (void)getrusage(RUSAGE_CHILDREN, &usage); // grandchildren too
    printf("wall_s %.4f\npeak_kib %ld\n", wall, usage.ru_maxrss);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--measure") == 0)
        return measure(argv + 2);
    char *end = NULL;
    unsigned long ranks = argc > 1 ? strtoul(argv[1], &end, 10) : 0;
    bool is_full = argc == 3 && strcmp(argv[2], "--full") == 0;
    if (ranks < 2 || ranks > 1024 || *end != '\0' || argc > 3 || (argc == 3 && !is_full)) {
        (void)fprintf(stderr, "usage: bench_alltoall RANKS(2..1024) [--full]\n"
                              "       bench_alltoall --measure PROGRAM ARGUMENT...\n");
        return 2;
    }
    return run_once((uint32_t)ranks, is_full);
}
