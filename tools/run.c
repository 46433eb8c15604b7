// tools/run.c: starts the ranks' processes, strikes them, waits for those that go on, ends them.

#include "tools/run.h"

#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/run_internal.h"

#define TICK_MS 1u
#define LEAVE_MS 5000u // for leaving when all is over

static volatile sig_atomic_t is_interrupted;

void phx_live_interrupt(void)
{
    is_interrupted = 1;
}

// --- the run ------------------------------------------------------------------------------------

static bool is_done(const struct phx_live *live, uint32_t rank)
{
    return phx_crew_pid(live->crew, rank) == 0 ||
           __atomic_load_n(&phx_live_seat_of(live, rank)->end, __ATOMIC_ACQUIRE) != 0;
}

static uint32_t left(const struct phx_live *live, uint32_t *first)
{
    uint32_t count = 0;
    for (uint32_t r = live->run.ranks; r-- > 0;) {
        if (is_done(live, r) || phx_live_is_held(live, r))
            continue;
        *first = r;
        count++;
    }
    return count;
}

// A millisecond, or less if a fault's time comes before.
static void tick(struct phx_live *live)
{
    uint64_t next_ns = phx_live_faults_next_ns(live);
    const struct timespec moment = {0, (long)next_ns};
    if (next_ns < TICK_MS * 1000000u)
        (void)nanosleep(&moment, NULL);
    else
        (void)phx_crew_wait(live->crew, TICK_MS);
}

static int wait_for_all(struct phx_live *live, struct phx_message *message)
{
    uint64_t limit = phx_live_limit_ns(live);
    uint32_t first = 0;
    while (left(live, &first) > 0) {
        tick(live);
        if (is_interrupted)
            return phx_fail(message, PHX_ERR_ABORTED, "interrupted");
        phx_live_take_zero(live);
        phx_live_faults_tick(live);
        if (phx_clock_ns() - live->launch_ns <= limit)
            continue;
        const struct phx_live_seat *seat = phx_live_seat_of(live, first);
        phx_run_violate(&live->run, live->zero_ns == 0 ? "open-peer-stopped" : "progress", first,
                        seat->kind, seat->number[seat->kind],
                        "it did not go on for %.1f s, and %u ranks had not ended",
                        (double)limit / 1e9, left(live, &first));
        return 0;
    }
    phx_live_take_zero(live);
    return 0;
}

// All have what they wanted, or time is up. Those that a fault holds, or that do not leave, are
// killed: what they left behind is to be looked at, and must not change any more.
static void let_go(struct phx_live *live, bool *is_left)
{
    uint64_t from_ns = phx_clock_ns();
    uint32_t held = 0;
    __atomic_store_n(&phx_live_front_of(live)->is_over, 1u, __ATOMIC_RELEASE);
    for (uint32_t r = 0; r < live->run.ranks; r++) {
        pid_t pid = phx_crew_pid(live->crew, r);
        bool is_held = phx_live_is_held(live, r);
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
static void check_ends(struct phx_live *live, const bool *is_left)
{
    for (uint32_t r = 0; r < live->run.ranks; r++) {
        struct phx_crew_status status = phx_crew_status(live->crew, r);
        bool is_meant = is_left[r]; // it was killed just now
        for (uint32_t i = 0; i < live->workload.fault_count; i++)
            is_meant = is_meant || (live->workload.faults[i].kind == PHX_FAULT_KILL &&
                                    live->workload.faults[i].rank == r &&
                                    phx_live_strike_of(live, i)->state == PHX_LIVE_STRUCK);
        if (status.exit == PHX_CREW_KILLED && !(is_meant && status.code == SIGKILL))
            phx_run_violate(&live->run, "rank-crashed", r, 0, 0,
                            "its process was ended by signal %d (%s)", status.code,
                            strsignal(status.code));
        else if (status.exit == PHX_CREW_EXITED && phx_live_seat_of(live, r)->end == 0)
            phx_run_violate(&live->run, "rank-crashed", r, 0, 0,
                            "its process ended before its program, with status %d", status.code);
    }
}

static int crew_run(struct phx_live *live, struct phx_summary *summary, struct phx_history *history,
                    struct phx_message *message)
{
    const struct phx_live_front front = {.live = live};
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
    live->arena = phx_crew_arena(live->crew);
    rc = wait_for_all(live, message);
    if (rc == 0) {
        bool is_left[PHX_LIVE_RANKS_MAX];
        let_go(live, is_left);
        check_ends(live, is_left);
        rc = phx_live_judge(live, summary, history, message);
    }
    phx_crew_end(live->crew);
    return rc;
}

int phx_live_run(const struct phx_workload *w, const struct phx_live_options *options,
                 struct phx_summary *summary, struct phx_history *history,
                 struct phx_message *message)
{
    struct phx_live *live = NULL;
    memset(summary, 0, sizeof *summary);
    memset(history, 0, sizeof *history);
    int rc = phx_live_open(w, options, &live, message);
    if (rc == 0)
        rc = crew_run(live, summary, history, message);
    phx_live_close(live);
    if (rc != 0) {
        phx_summary_free(summary);
        phx_history_free(history);
    }
    return rc;
}
