// bench/bench_scale.c: what a dispatch costs the simulator as ranks are added.
//
// The whole engine: ranks open a group, and each dispatches 128 tokens to 8 experts each, drawn
// evenly, with thin payloads, one worker a rank, 8 ranks a node. Messages are counted by the
// network: rows, route messages and words. The simulator may take time that grows with
// messages * log(messages), so the last columns should not grow: of wall time, of processor time
// for machines that do other things, and of wall time for the dispatches behind the first, the
// least of them. The first touches memory that the process has not had yet, which a machine may
// give slowly (a virtual one has to be given it itself); those behind it show the simulator's work.
//
//   bench_scale [--check | --no-check] [RANKS...]      default: 64 and 256, and 1024 without checks
//   bench_scale --floor [RANKS...]                     default: 64, 256 and 1024
//
// The floor (scale_floor.h) is a bare loop over as many messages, once with a page for each pair of
// ranks and once with 2 KiB for each in huge pages: what of the growth is the machine's memory.
//
// Each count of ranks runs in a process of its own, so that its peak memory is its own. The memory
// checker is on up to 256 ranks, unless said otherwise.

#define _POSIX_C_SOURCE 200809L

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/scale_floor.h"
#include "sim/fabric.h"
#include "sim/open.h"
#include "sim/world_internal.h"

enum { TOKENS = 128, TOP_K = 8, HIDDEN = 7168, STORED = 128, EXPERTS = 1024 };
enum { ROUNDS = 4 };               // dispatches
enum { REGION_BYTES = 33 * 4096 }; // of a pair, in such a group

struct scale {
    struct phx_world *world;
    uint32_t ranks;
    uint32_t arrived;  // ranks whose group is open
    uint32_t finished; // dispatches, of all ranks
    uint64_t rows;     // received by all
    // When the group was open and when all had ended each dispatch.
    struct moment {
        double wall_s, cpu_s;
        uint64_t virtual_ps, messages, events;
    } moments[1 + ROUNDS];
};

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
static double seconds(void)
{
    return seconds_of(CLOCK_MONOTONIC);
}

static void die(const char *why)
{
    (void)fprintf(stderr, "bench_scale: %s\n", why);
    exit(1);
}

static struct moment moment_now(const struct scale *s)
{
    const struct phx_core *core = phx_world_core(s->world);
    return (struct moment){seconds(), seconds_of(CLOCK_PROCESS_CPUTIME_ID), phx_core_now_ps(core),
                           phx_fabric_figures(phx_fabric_of(s->world)).messages,
                           phx_core_events(core)};
}

static void open_group(struct scale *s, struct phx_sim_rank *rank, struct phx_group **group,
                       struct phx_handle **handle)
{
    struct phx_group_options o;
    struct phx_message message = {""};
    phx_group_options_init(&o);
    o.experts = EXPERTS;
    o.top_k = TOP_K;
    o.tokens_max = TOKENS;
    o.hidden = HIDDEN;
    o.channels = STORED;
    o.dtype = PHX_FP8_E4M3;
    o.workers = 1;
    o.layout = PHX_LAYOUT_COMPACT;
    o.timeout_us = 100000;
    if (phx_sim_open(rank, &o, group, &message) != 0 ||
        phx_handle_create(*group, handle, &message) != 0)
        die(message.text);
    // The figures of opening are not the dispatch's.
    if (++s->arrived == s->ranks)
        s->moments[0] = moment_now(s);
    while (s->arrived < s->ranks)
        phx_sim_sleep_ns(rank, 1000);
}

static void draw(uint32_t rank, uint16_t *x, int64_t *topk, float *weights)
{
    for (uint32_t i = 0; i < TOKENS * STORED; i++)
        x[i] = (uint16_t)(0x3F80 + rank % 64);
    for (uint32_t t = 0; t < TOKENS; t++)
        for (uint32_t k = 0; k < TOP_K; k++) {
            bool again = true;
            for (uint32_t draw = 0; again; draw++) {
                uint64_t at = ((uint64_t)rank * TOKENS + t) * TOP_K + k;
                int64_t expert =
                    (int64_t)phx_chance_below(EXPERTS, 1, PHX_CHANCE_ROUTING, at, draw);
                again = false;
                for (uint32_t i = 0; i < k; i++)
                    again |= topk[t * TOP_K + i] == expert;
                topk[t * TOP_K + k] = expert;
            }
            weights[t * TOP_K + k] = 0.125f;
        }
}

static void rank_main(struct phx_sim_rank *rank, void *argument)
{
    struct scale *s = argument;
    struct phx_group *group = NULL;
    struct phx_handle *handle = NULL;
    struct phx_outcome outcome;
    struct phx_message message = {""};
    struct phx_dispatch_args a;
    uint32_t me = phx_sim_rank_number(rank);
    uint32_t local = EXPERTS / s->ranks;
    uint64_t rows = 4u * TOKENS * TOP_K; // enough for even routing
    memset(&a, 0, sizeof a);
    uint16_t *x = phx_sim_alloc(rank, sizeof *x * TOKENS * STORED);
    int64_t *topk = phx_sim_alloc(rank, sizeof *topk * TOKENS * TOP_K);
    float *weights = phx_sim_alloc(rank, sizeof *weights * TOKENS * TOP_K);
    a.recv_x = phx_sim_alloc(rank, rows * STORED);
    a.recv_scales = phx_sim_alloc(rank, rows * sizeof(float));
    a.recv_count = phx_sim_alloc(rank, local * sizeof(int32_t));
    a.recv_src_info = phx_sim_alloc(rank, rows * sizeof(int32_t));
    a.recv_layout_range = phx_sim_alloc(rank, (uint64_t)local * s->ranks * sizeof(int64_t));
    if (x == NULL || topk == NULL || weights == NULL || a.recv_x == NULL || a.recv_scales == NULL ||
        a.recv_count == NULL || a.recv_src_info == NULL || a.recv_layout_range == NULL)
        die("no memory for a rank's arrays");
    draw(me, x, topk, weights);
    open_group(s, rank, &group, &handle);
    a.size = sizeof a;
    a.token_count = TOKENS;
    a.x = x;
    a.topk_idx = topk;
    a.topk_weights = weights;
    a.recv_rows_max = rows;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        if (phx_dispatch(group, &a, handle, &outcome, &message) != 0)
            die(message.text);
        if (outcome.masked_count != 0)
            die("a rank was masked");
        s->rows += outcome.rows_received;
        if (++s->finished == round * s->ranks)
            s->moments[round] = moment_now(s);
        while (s->finished < round * s->ranks)
            phx_sim_sleep_ns(rank, 1000);
    }
    phx_handle_free(group, handle);
    phx_sim_close(rank, group);
}

static double ns_of(double seconds, uint64_t messages)
{
    return seconds * 1e9 / ((double)messages * log2((double)messages));
}

static void print_row(const struct scale *s, bool check, double begin)
{
    const struct moment *m = s->moments;
    struct rusage usage;
    uint64_t messages = m[1].messages - m[0].messages;
    double again = INFINITY; // ns for m log m
    for (uint32_t i = 2; i <= ROUNDS; i++)
        again =
            fmin(again, ns_of(m[i].wall_s - m[i - 1].wall_s, m[i].messages - m[i - 1].messages));
    double wall = m[1].wall_s - m[0].wall_s;
    double cpu = m[1].cpu_s - m[0].cpu_s;
    (void)getrusage(RUSAGE_SELF, &usage);
    printf("%6u %8s %9llu %10llu %10.1f %9.3f %9.3f %9.3f %9.0f %9.1f %9.1f %9.1f\n", s->ranks,
           check ? "yes" : "no", (unsigned long long)messages,
           (unsigned long long)(m[1].events - m[0].events),
           (double)(m[1].virtual_ps - m[0].virtual_ps) / 1e6, m[0].wall_s - begin, wall, cpu,
           (double)usage.ru_maxrss / 1024, ns_of(wall, messages), ns_of(cpu, messages), again);
    (void)fflush(stdout);
}

static void run_one(uint32_t ranks, bool check)
{
    struct scale s = {.ranks = ranks};
    struct phx_world_options o;
    struct phx_message message = {""};
    const struct phx_violation *list = NULL;
    memset(&o, 0, sizeof o);
    o.seed = 1;
    o.fibers = PHX_FIBERS;
    o.workers = 1;
    o.cluster.nodes = ranks / 8;
    o.cluster.ranks_per_node = 8;
    o.cluster.intra_node = "nvlink4";
    o.cluster.inter_node = "roce_400g";
    double begin = seconds();
    if (phx_world_create(&o, &s.world, &message) != 0)
        die(message.text);
    phx_memory_check(phx_fabric_memory(phx_fabric_of(s.world)), check);
    if (phx_world_run(s.world, rank_main, &s, &message) != 0)
        die(message.text);
    if (phx_world_violations(s.world, &list) != 0)
        die(list[0].text);
    if (s.rows != (uint64_t)ROUNDS * ranks * TOKENS * TOP_K)
        die("rows are missing");
    print_row(&s, check, begin);
    phx_world_destroy(s.world);
}

static void run_floor(uint32_t ranks, bool is_huge)
{
    struct scale_floor f = {ranks, TOKENS * TOP_K, 192, REGION_BYTES, is_huge};
    struct rusage usage;
    if (is_huge) // room for all of its rows, to the next power of two
        f.pair_bytes = ranks >= 1024 ? 2048 : ranks >= 256 ? 4096 : 16384;
    double begin = seconds();
    uint64_t messages = scale_floor_run(&f);
    double wall = seconds() - begin;
    (void)getrusage(RUSAGE_SELF, &usage);
    if (messages == 0)
        die("no memory for the floor");
    printf("%6u %8s %9llu %9.3f %9.0f %9.1f\n", ranks, is_huge ? "yes" : "no",
           (unsigned long long)messages, wall, (double)usage.ru_maxrss / 1024,
           ns_of(wall, messages));
}

enum what { RUN, RUN_CHECKED, FLOOR, FLOOR_HUGE };

static int run_apart(uint32_t ranks, enum what what)
{
    int status = 0;
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (what == FLOOR || what == FLOOR_HUGE)
            run_floor(ranks, what == FLOOR_HUGE);
        else
            run_one(ranks, what == RUN_CHECKED);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("no process could be started");
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

static int run_ranks(uint32_t ranks, const char *how)
{
    if (how != NULL && strcmp(how, "--floor") == 0)
        return run_apart(ranks, FLOOR) | run_apart(ranks, FLOOR_HUGE);
    bool check = how != NULL ? strcmp(how, "--check") == 0 : ranks <= 256;
    return run_apart(ranks, check ? RUN_CHECKED : RUN);
}

static void print_head(bool is_floor)
{
    printf("dispatch of %d tokens to %d of %d experts, thin\n", TOKENS, TOP_K, EXPERTS);
    if (is_floor)
        printf("%6s %8s %9s %9s %9s %9s\n", "ranks", "huge", "messages", "wall s", "peak MiB",
               "ns/mlogm");
    else
        printf("%6s %8s %9s %10s %10s %9s %9s %9s %9s %9s %9s %9s\n", "ranks", "checked",
               "messages", "events", "virtual us", "open s", "wall s", "cpu s", "peak MiB",
               "ns/mlogm", "cpu ns", "again ns");
}

// 0: it is none that can be run, and why was said.
static uint32_t ranks_of(const char *text)
{
    char *end;
    unsigned long ranks = strtoul(text, &end, 10);
    if (end != text && *end == '\0' && ranks >= 8 && ranks <= PHX_RANKS_MAX && EXPERTS % ranks == 0)
        return (uint32_t)ranks;
    (void)fprintf(stderr, "bench_scale: RANKS is \"%s\"; it may be a power of two from 8 to 1024\n",
                  text);
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const usual[] = {"64", "256", "1024"};
    const char *how = argc > 1 && argv[1][0] == '-' ? argv[1] : NULL;
    const char *const *list = (const char *const *)argv + (how != NULL ? 2 : 1);
    int count = argc - (how != NULL ? 2 : 1);
    bool is_floor = how != NULL && strcmp(how, "--floor") == 0;
    int failed = 0;
    if (how != NULL && !is_floor && strcmp(how, "--check") != 0 && strcmp(how, "--no-check") != 0) {
        (void)fprintf(stderr,
                      "bench_scale: there is no option %s\n"
                      "usage: bench_scale [--check | --no-check | --floor] [RANKS...]\n",
                      how);
        return 2;
    }
    if (count == 0) {
        list = usual;
        count = 3;
    }
    for (int i = 0; i < count; i++)
        if (ranks_of(list[i]) == 0)
            return 2;
    print_head(is_floor);
    for (int i = 0; i < count; i++)
        failed |= run_ranks(ranks_of(list[i]), how);
    return failed;
}
