// tools/run.c: starts the ranks' processes, strikes them, waits for those that go on, ends them.

#include "tools/run.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/run_internal.h"

#define TICK_MS 1u
#define LEAVE_MS 5000u // for leaving when all is over
// Beside what operations may take: for starting, and for a machine that has other things to do.
#define LIMIT_NS UINT64_C(20000000000)

static volatile sig_atomic_t is_interrupted;

void phx_live_interrupt(void)
{
    is_interrupted = 1;
}

// --- how it is run ------------------------------------------------------------------------------

static uint32_t ranks_of(const struct phx_workload *w)
{
    return w->cluster.nodes * w->cluster.ranks_per_node;
}

static uint32_t cores(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

static uint32_t workers_chosen(const struct phx_workload *w, const struct phx_live_options *o)
{
    uint32_t most = w->workers > 0 ? w->workers : PHX_WORKLOAD_WORKERS;
    uint32_t fit = cores() / ranks_of(w);
    if (o->workers != 0)
        return o->workers;
    if (o->is_cuda)
        return PHX_LIVE_WORKERS_GPU;
    return fit < 1 ? 1 : (fit < most ? fit : most);
}

static uint32_t slack_chosen(const struct phx_workload *w, const struct phx_live_options *o,
                             uint32_t workers)
{
    if (o->slack != 0)
        return o->slack;
    if (o->is_cuda)
        return o->ranks_per_gpu > 1 ? PHX_LIVE_SLACK_GPU_CROWDED : PHX_LIVE_SLACK_GPU;
    return (uint64_t)ranks_of(w) * workers <= cores() ? 1 : PHX_LIVE_SLACK_CROWDED;
}

int phx_live_check(const struct phx_workload *w, const struct phx_live_options *options,
                   struct phx_message *message)
{
    uint32_t slack = slack_chosen(w, options, workers_chosen(w, options));
    if (ranks_of(w) > PHX_LIVE_RANKS_MAX)
        return phx_fail(message, PHX_ERR_INVALID,
                        "ranks is %u; over %s it may be 1 to %u (--ranks N makes them fewer)",
                        ranks_of(w), options->is_cuda ? "cuda" : "shm", PHX_LIVE_RANKS_MAX);
    if (options->workers > PHX_WORKERS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "workers is %u; it may be 1 to %u",
                        options->workers, PHX_WORKERS_MAX);
    if (slack > PHX_LIVE_SLACK_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "slack is %u; it may be 1 to %u", slack,
                        PHX_LIVE_SLACK_MAX);
    if (w->timeout_us > (UINT64_C(1) << 40) / slack)
        return phx_fail(message, PHX_ERR_INVALID,
                        "slack is %u; a deadline of %" PRIu64 " us times it is above 2^40 us",
                        slack, w->timeout_us);
    return phx_live_faults_check(w, options, message);
}

int phx_live_gpus(const struct phx_workload *w, struct phx_live_options *options,
                  struct phx_message *message)
{
    struct phx_gpu_table table;
    uint32_t per_gpu = options->ranks_per_gpu > 0 ? options->ranks_per_gpu : 1;
    if (ranks_of(w) > PHX_LIVE_RANKS_MAX)
        return 0; // phx_live_check() says so
    int rc = phx_cuda_probe(&table, message);
    if (rc != 0)
        return rc;
    rc = phx_gpus_choose(&table, ranks_of(w), per_gpu, options->devices, message);
    for (uint32_t r = 0; rc == 0 && r < ranks_of(w); r++)
        memcpy(options->uuids[r], table.gpus[options->devices[r]].uuid, sizeof options->uuids[r]);
    return rc;
}

static uint64_t scaled(uint64_t time, uint64_t slack)
{
    uint64_t product;
    if (time == PHX_EXPECT_NONE || __builtin_mul_overflow(time, slack, &product))
        return UINT64_MAX;
    return product;
}

static int workload_scale(struct phx_live *live, const struct phx_workload *w,
                          struct phx_message *message)
{
    uint64_t slack = live->options.slack;
    struct phx_fault *faults = malloc((w->fault_count + 1) * sizeof *faults);
    if (faults == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u faults", w->fault_count);
    for (uint32_t i = 0; i < w->fault_count; i++) {
        faults[i] = w->faults[i];
        faults[i].duration_ps = scaled(faults[i].duration_ps, slack);
        faults[i].when.at_ps = scaled(faults[i].when.at_ps, slack);
    }
    live->workload = *w;
    live->workload.faults = faults;
    live->workload.timeout_us = w->timeout_us * slack;
    live->workload.expect.survivors_finish_within_ps =
        scaled(w->expect.survivors_finish_within_ps, slack);
    return 0;
}

// --- what is wrong ------------------------------------------------------------------------------

static void violated(void *context, const struct phx_violation *violation)
{
    struct phx_live *live = context;
    struct phx_violation v = *violation;
    uint64_t zero_ns = live->zero_ns != 0 ? live->zero_ns : live->launch_ns;
    uint64_t now_ns = v.at_ns != 0 ? v.at_ns : phx_clock_ns();
    v.at_ns = now_ns > zero_ns ? now_ns - zero_ns : 0;
    if (live->violation_count < PHX_LIVE_VIOLATIONS_KEPT)
        live->violations[live->violation_count] = v;
    live->violation_count++;
    live->run.violation_count = live->violation_count;
}

// --- the run ------------------------------------------------------------------------------------

// Without faults all operations together take far less; what takes longer has lost its progress.
static uint64_t limit_ns(const struct phx_live *live)
{
    const struct phx_workload *w = &live->workload;
    uint64_t limit = live->run.operations * 4 * w->timeout_us * 1000 + LIMIT_NS;
    for (uint32_t i = 0; i < w->fault_count; i++)
        limit += w->faults[i].duration_ps / 1000 * 4 + w->faults[i].when.at_ps / 1000;
    return limit;
}

static void take_zero(struct phx_live *live, struct phx_live_arena *a)
{
    uint64_t last_ns = 0;
    for (uint32_t r = 0; live->zero_ns == 0 && r < live->run.ranks; r++) {
        uint64_t ns = __atomic_load_n(&phx_live_seat_of(a, r)->opened_ns, __ATOMIC_ACQUIRE);
        if (ns == 0)
            return;
        last_ns = ns > last_ns ? ns : last_ns;
    }
    if (live->zero_ns == 0)
        live->zero_ns = last_ns;
}

static bool is_done(const struct phx_live *live, struct phx_live_arena *a, uint32_t rank)
{
    return phx_crew_pid(live->crew, rank) == 0 ||
           __atomic_load_n(&phx_live_seat_of(a, rank)->end, __ATOMIC_ACQUIRE) != 0;
}

static uint32_t left(const struct phx_live *live, struct phx_live_arena *a, uint32_t *first)
{
    uint32_t count = 0;
    for (uint32_t r = live->run.ranks; r-- > 0;) {
        if (is_done(live, a, r) || phx_live_is_held(a, r))
            continue;
        *first = r;
        count++;
    }
    return count;
}

// A millisecond, or less if a fault's time comes before.
static void tick(struct phx_live *live, struct phx_live_arena *a)
{
    uint64_t next_ns = phx_live_faults_next_ns(a);
    const struct timespec moment = {0, (long)next_ns};
    if (next_ns < TICK_MS * 1000000u)
        (void)nanosleep(&moment, NULL);
    else
        (void)phx_crew_wait(live->crew, TICK_MS);
}

static int wait_for_all(struct phx_live *live, struct phx_live_arena *a,
                        struct phx_message *message)
{
    uint64_t limit = limit_ns(live);
    uint32_t first = 0;
    while (left(live, a, &first) > 0) {
        tick(live, a);
        if (is_interrupted)
            return phx_fail(message, PHX_ERR_ABORTED, "interrupted");
        take_zero(live, a);
        phx_live_faults_tick(a);
        if (phx_clock_ns() - live->launch_ns <= limit)
            continue;
        const struct phx_live_seat *seat = phx_live_seat_of(a, first);
        phx_run_violate(&live->run, live->zero_ns == 0 ? "open-peer-stopped" : "progress", first,
                        seat->kind, seat->number[seat->kind],
                        "it did not go on for %.1f s, and %u ranks had not ended",
                        (double)limit / 1e9, left(live, a, &first));
        return 0;
    }
    take_zero(live, a);
    return 0;
}

// All have what they wanted, or time is up. Those that a fault holds, or that do not leave, are
// killed: what they left behind is to be looked at, and must not change any more.
static void let_go(struct phx_live *live, struct phx_live_arena *a, bool *is_left)
{
    uint64_t from_ns = phx_clock_ns();
    uint32_t held = 0;
    __atomic_store_n(&a->is_over, 1u, __ATOMIC_RELEASE);
    for (uint32_t r = 0; r < live->run.ranks; r++) {
        pid_t pid = phx_crew_pid(live->crew, r);
        bool is_held = phx_live_is_held(a, r);
        held += pid != 0 && is_held;
        if (pid != 0 && !is_held)
            (void)kill(pid, SIGCONT);
    }
    while (phx_crew_wait(live->crew, TICK_MS) > held && !is_interrupted &&
           phx_clock_ns() - from_ns < LEAVE_MS * UINT64_C(1000000))
        continue;
    for (uint32_t r = 0; r < live->run.ranks; r++)
        is_left[r] = phx_crew_pid(live->crew, r) != 0;
    phx_crew_kill(live->crew);
}

// Whoever ended by a signal that no fault of the list sent.
static void check_ends(struct phx_live *live, struct phx_live_arena *a, const bool *is_left)
{
    for (uint32_t r = 0; r < live->run.ranks; r++) {
        struct phx_crew_status status = phx_crew_status(live->crew, r);
        bool is_meant = is_left[r]; // it was killed just now
        for (uint32_t i = 0; i < live->workload.fault_count; i++)
            is_meant = is_meant || (live->workload.faults[i].kind == PHX_FAULT_KILL &&
                                    live->workload.faults[i].rank == r &&
                                    phx_live_strike_of(a, i)->state == PHX_LIVE_STRUCK);
        if (status.exit == PHX_CREW_KILLED && !(is_meant && status.code == SIGKILL))
            phx_run_violate(&live->run, "rank-crashed", r, 0, 0,
                            "its process was ended by signal %d (%s)", status.code,
                            strsignal(status.code));
        else if (status.exit == PHX_CREW_EXITED && phx_live_seat_of(a, r)->end == 0)
            phx_run_violate(&live->run, "rank-crashed", r, 0, 0,
                            "its process ended before its program, with status %d", status.code);
    }
}

static int crew_run(struct phx_live *live, struct phx_summary *summary, struct phx_history *history,
                    struct phx_message *message)
{
    const struct phx_live_arena front = {.live = live};
    const struct phx_crew_options options = {
        .ranks = live->run.ranks,
        .workers = live->run.workers,
        .spin_us = PHX_CREW_SPIN_AUTO,
        .arena_bytes = live->arena_bytes,
        .setup = &front,
        .setup_bytes = sizeof front,
        .main = phx_live_rank_main,
        .is_quiet = live->options.is_quiet,
        .devices = live->options.is_cuda ? live->options.devices : NULL,
        .uuids = live->options.sees_own ? (const uint8_t(*)[16])live->options.uuids : NULL,
    };
    live->launch_ns = phx_clock_ns();
    int rc = phx_crew_start(&options, &live->crew, message);
    if (rc != 0)
        return rc;
    struct phx_live_arena *a = phx_crew_arena(live->crew);
    rc = wait_for_all(live, a, message);
    if (rc == 0) {
        bool is_left[PHX_LIVE_RANKS_MAX];
        let_go(live, a, is_left);
        check_ends(live, a, is_left);
        rc = phx_live_judge(a, summary, history, message);
    }
    phx_crew_end(live->crew);
    return rc;
}

static void live_free(struct phx_live *live)
{
    phx_run_close(&live->run);
    free((void *)(uintptr_t)live->workload.faults);
    free(live->results_at);
    free(live->pair_bytes);
    free(live->dispatch_bytes);
    free(live->violations);
    free(live);
}

int phx_live_run(const struct phx_workload *w, const struct phx_live_options *options,
                 struct phx_summary *summary, struct phx_history *history,
                 struct phx_message *message)
{
    memset(summary, 0, sizeof *summary);
    memset(history, 0, sizeof *history);
    int rc = phx_live_check(w, options, message);
    if (rc != 0)
        return rc;
    struct phx_live *live = calloc(1, sizeof *live);
    if (live == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the run");
    struct phx_workload_options run_options = {.seed = options->seed};
    live->options = *options;
    live->run.workload = &live->workload;
    live->run.options = &run_options;
    live->run.workers = workers_chosen(w, options);
    live->run.violate = violated;
    live->run.violate_context = live;
    live->options.slack = slack_chosen(w, options, live->run.workers);
    live->results_at = calloc(w->load_count, sizeof *live->results_at);
    live->pair_bytes = calloc(w->load_count, sizeof *live->pair_bytes);
    live->dispatch_bytes = calloc(w->load_count, sizeof *live->dispatch_bytes);
    live->violations = calloc(PHX_LIVE_VIOLATIONS_KEPT, sizeof *live->violations);
    if (live->results_at == NULL || live->pair_bytes == NULL || live->dispatch_bytes == NULL ||
        live->violations == NULL)
        rc = phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the run");
    live->run.violations = live->violations;
    if (rc == 0)
        rc = workload_scale(live, w, message);
    if (rc == 0)
        rc = phx_run_open(&live->run, message);
    if (rc == 0)
        rc = phx_live_layout(live, message);
    if (rc == 0)
        rc = crew_run(live, summary, history, message);
    live_free(live);
    if (rc != 0) {
        phx_summary_free(summary);
        phx_history_free(history);
    }
    return rc;
}
