// tools/run_join.c: one rank of a run whose processes another launcher started.
//
// The ranks share what they would share with a launcher of ours, made by rank 0 and mapped by all,
// so that nothing of it dies with any of them. At the end each waits for all others to be at
// theirs, or gone; then the lowest that lives compares everything, and leaves its verdict to them.

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/run_internal.h"

#define LOOK_NS 500000u  // how often a rank looks after the others, and its keeper after it
#define ALARM_S 120u     // beyond the limit of the run: for comparing. Then the kernel ends it

struct joined {
    struct phx_live *live;
    struct phx_crew_rank *self;
    uint32_t rank;
    struct phx_live_part *part;
    struct phx_summary *summary;
    struct phx_history *history;
    struct phx_message *message;
    int rc;
    pthread_t keeper;
    bool has_keeper;
    uint32_t is_ending; // the keeper may go
};

static void look_again(void)
{
    const struct timespec moment = {0, LOOK_NS};
    (void)nanosleep(&moment, NULL);
}

// --- agreeing -----------------------------------------------------------------------------------

struct terms { // of the run, as one rank has them
    uint64_t digest;
    uint64_t seed;
    uint32_t workers; // 0: as many as fit
    uint32_t slack;   // likewise
    uint32_t fit;     // so many fit where this rank may run
    uint32_t version;
};
#define TERMS_VERSION 1u

// A launcher may have given each rank cores of its own.
static uint32_t cores_allowed(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return count > 0 ? (uint32_t)count : UINT32_MAX;
}

static int terms_differ(uint32_t rank, const struct terms *theirs, const struct terms *mine,
                        struct phx_message *message)
{
    const struct {
        const char *what;
        bool differs;
    } terms[] = {
        {"version", theirs->version != mine->version},
        {"scenario", theirs->digest != mine->digest},
        {"seed", theirs->seed != mine->seed},
        {"workers", theirs->workers != mine->workers},
        {"slack", theirs->slack != mine->slack},
    };
    for (size_t i = 0; i < sizeof terms / sizeof terms[0]; i++)
        if (terms[i].differs)
            return phx_fail(message, PHX_ERR_MISMATCH, "rank %u was started with another %s", rank,
                            terms[i].what);
    return 0;
}

// Leaves in *options how many workers each rank has.
static int agree(const struct phx_workload *w, struct phx_live_options *options,
                 struct phx_bootstrap *b, const struct phx_bootstrap_options *world,
                 uint64_t digest, struct phx_message *message)
{
    uint32_t fit = phx_live_workers(w, options);
    uint32_t allowed = cores_allowed();
    struct terms mine = {
        .digest = digest,
        .seed = options->seed,
        .workers = options->workers,
        .slack = options->slack,
        .fit = options->workers == 0 && fit > allowed ? allowed : fit,
        .version = TERMS_VERSION,
    };
    struct terms *all = calloc(2 * (size_t)world->ranks, sizeof *all);
    if (all == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory to agree with %u ranks",
                        world->ranks);
    for (uint32_t r = 0; r < world->ranks; r++)
        all[r] = mine;
    const struct terms *theirs = all + world->ranks;
    int rc = phx_bootstrap_exchange(b, all, all + world->ranks, sizeof mine, NULL, message);
    options->workers = mine.fit;
    for (uint32_t r = 0; rc == 0 && r < world->ranks; r++) {
        rc = terms_differ(r, &theirs[r], &mine, message);
        if (theirs[r].fit < options->workers)
            options->workers = theirs[r].fit;
    }
    free(all);
    return rc;
}

// --- the keeper ---------------------------------------------------------------------------------

static void *keeper_main(void *context)
{
    const struct joined *j = context;
    while (!__atomic_load_n(&j->is_ending, __ATOMIC_ACQUIRE)) {
        phx_live_take_zero(j->live);
        phx_live_faults_keep(j->live, j->rank);
        look_again();
    }
    return NULL;
}

static int keeper_start(struct joined *j)
{
    if (!phx_live_needs_keeper(&j->live->workload, j->rank))
        return 0;
    j->has_keeper = pthread_create(&j->keeper, NULL, keeper_main, j) == 0;
    return j->has_keeper ? 0 : phx_fail(j->message, PHX_ERR_NO_MEMORY, "no thread for faults");
}

static void keeper_stop(struct joined *j)
{
    __atomic_store_n(&j->is_ending, 1u, __ATOMIC_RELEASE);
    if (j->has_keeper)
        (void)pthread_join(j->keeper, NULL);
    if (j->has_keeper)
        phx_live_faults_keep(j->live, j->rank); // what came between its last look and now
    j->has_keeper = false;
}

// --- the end ------------------------------------------------------------------------------------

static bool is_gone(const struct joined *j, uint32_t rank)
{
    return phx_crew_rank_is_gone(j->self, rank);
}

static bool has_ended(const struct joined *j, uint32_t rank)
{
    return __atomic_load_n(&phx_live_seat_of(j->live, rank)->end, __ATOMIC_ACQUIRE) != 0;
}

static bool is_struck(const struct phx_live *live, uint32_t rank)
{
    for (uint32_t i = 0; i < live->workload.fault_count; i++)
        if (live->workload.faults[i].kind == PHX_FAULT_KILL &&
            live->workload.faults[i].rank == rank &&
            __atomic_load_n(&phx_live_strike_of(live, i)->state, __ATOMIC_ACQUIRE) ==
                PHX_LIVE_STRUCK)
            return true;
    return false;
}

static void check_ends(const struct joined *j)
{
    struct phx_run *run = &j->live->run;
    for (uint32_t r = 0; r < run->ranks; r++) {
        const struct phx_live_seat *seat = phx_live_seat_of(j->live, r);
        uint32_t kind = __atomic_load_n(&seat->kind, __ATOMIC_RELAXED);
        uint64_t number = __atomic_load_n(&seat->number[kind], __ATOMIC_RELAXED);
        if (is_gone(j, r) && !is_struck(j->live, r))
            phx_run_violate(run, "rank-crashed", r, kind, number,
                            "its process ended, and no fault of the list ended it");
        else if (!is_gone(j, r) && !has_ended(j, r))
            phx_run_violate(run, j->live->zero_ns == 0 ? "open-peer-stopped" : "progress", r, kind,
                            number, "it did not go on for %.1f s, and lives",
                            (double)phx_live_limit_ns(j->live) / 1e9);
    }
}

static void judge(struct joined *j)
{
    struct phx_live *live = j->live;
    for (uint32_t r = 0; r < live->run.ranks; r++) {
        uint64_t ns = phx_live_seat_of(live, r)->launched_ns;
        if (ns != 0 && ns < live->launch_ns)
            live->launch_ns = ns;
    }
    phx_live_take_zero(live);
    check_ends(j);
    j->rc = phx_live_judge(live, j->summary, j->history, j->message);
    uint32_t verdict = j->rc != 0                ? PHX_LIVE_NOT_JUDGED
                       : j->summary->is_passed ? PHX_LIVE_PASSED
                                                 : PHX_LIVE_FAILED;
    j->part->reports = true;
    __atomic_store_n(&phx_live_front_of(live)->verdict, verdict, __ATOMIC_RELEASE);
}

// Everybody is at the end, or will not come there; and nobody that lives is lower or has begun.
static bool is_mine_to_judge(const struct joined *j)
{
    bool is_late = phx_clock_ns() - j->live->launch_ns > phx_live_limit_ns(j->live);
    for (uint32_t r = 0; r < j->live->run.ranks; r++) {
        bool gone = is_gone(j, r);
        if (!gone && !has_ended(j, r) && !is_late)
            return false;
        if (!gone && has_ended(j, r) && r < j->rank)
            return false;
    }
    uint32_t *reporter = &phx_live_front_of(j->live)->reporter;
    uint32_t before = __atomic_load_n(reporter, __ATOMIC_ACQUIRE);
    if (before != 0 && !is_gone(j, before - 1))
        return false;
    return __atomic_compare_exchange_n(reporter, &before, j->rank + 1, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

static uint32_t verdict_of(const struct joined *j)
{
    return __atomic_load_n(&phx_live_front_of(j->live)->verdict, __ATOMIC_ACQUIRE);
}

// This rank is at its end; its groups are open until it returns, for those that are not.
static void end_together(struct phx_live *live, void *context)
{
    struct joined *j = context;
    (void)live;
    keeper_stop(j); // faults strike who runs
    while (verdict_of(j) == 0) {
        if (is_mine_to_judge(j))
            judge(j);
        else
            look_again();
    }
    j->part->is_passed = verdict_of(j) == PHX_LIVE_PASSED;
    if (verdict_of(j) == PHX_LIVE_NOT_JUDGED && !j->part->reports)
        j->rc = phx_fail(j->message, PHX_ERR_PEER_LOST, "rank %u could not compare what ranks got",
                         phx_live_front_of(j->live)->reporter - 1);
}

// --- the run ------------------------------------------------------------------------------------

static int rank_run(struct joined *j)
{
    struct phx_live *live = j->live;
    struct phx_live_seat *seat = phx_live_seat_of(live, j->rank);
    seat->launched_ns = live->launch_ns;
    live->leave = end_together;
    live->leave_context = j;
    int rc = keeper_start(j);
    if (rc != 0)
        return rc;
    (void)phx_live_rank_run(live, j->self);
    if (verdict_of(j) == 0) // it could not even begin
        end_together(live, j);
    return j->rc;
}

static int crew_join(struct joined *j, const struct phx_bootstrap_options *world,
                     struct phx_bootstrap *b)
{
    const struct phx_crew_options options = {
        .ranks = j->live->run.ranks,
        .workers = j->live->run.workers,
        .spin_us = j->live->run.workers > cores_allowed() ? 0 : PHX_CREW_SPIN_AUTO,
        .arena_bytes = j->live->arena_bytes,
    };
    int rc = phx_crew_join(&options, world->rank, world->timeout_ms, b, &j->self, j->message);
    if (rc == 0)
        j->live->arena = phx_crew_rank_arena(j->self);
    return rc;
}

// Until all are there and share memory. The bootstrap has no more to do then.
static int meet(struct joined *j, const struct phx_workload *w, struct phx_live_options *options,
                const struct phx_bootstrap_options *world, uint64_t digest)
{
    struct phx_bootstrap *b = NULL;
    uint64_t launch_ns = phx_clock_ns();
    uint32_t ranks = w->cluster.nodes * w->cluster.ranks_per_node;
    int rc = phx_live_check(w, options, j->message);
    if (rc == 0 && ranks != world->ranks)
        rc = phx_fail(j->message, PHX_ERR_INVALID, "the scenario has %u ranks; %u were started",
                      ranks, world->ranks);
    if (rc == 0)
        rc = phx_bootstrap_join(world, &b, j->message);
    if (rc == 0)
        rc = agree(w, options, b, world, digest, j->message);
    if (rc == 0)
        rc = phx_live_open(w, options, &j->live, j->message);
    if (rc == 0)
        j->live->launch_ns = launch_ns;
    if (rc == 0)
        rc = crew_join(j, world, b);
    phx_bootstrap_leave(b);
    return rc;
}

int phx_live_join(const struct phx_workload *w, const struct phx_live_options *options,
                  const struct phx_bootstrap_options *world, uint64_t digest,
                  struct phx_live_part *part, struct phx_summary *summary,
                  struct phx_history *history, struct phx_message *message)
{
    struct phx_live_options agreed = *options;
    struct joined j = {
        .rank = world->rank,
        .part = part,
        .summary = summary,
        .history = history,
        .message = message,
    };
    agreed.is_joined = true;
    memset(part, 0, sizeof *part);
    memset(summary, 0, sizeof *summary);
    memset(history, 0, sizeof *history);
    int rc = meet(&j, w, &agreed, world, digest);
    if (rc == 0) {
        // What loses all progress must not stay: there is no launcher of ours to end it.
        (void)alarm((unsigned)(phx_live_limit_ns(j.live) / 1000000000u) + ALARM_S);
        rc = rank_run(&j);
        (void)alarm(0);
    }
    phx_crew_leave(j.self);
    phx_live_close(j.live);
    if (rc != 0) {
        phx_summary_free(summary);
        phx_history_free(history);
    }
    return rc;
}
