// tools/run_faults.c: faults made for real: which ones, when, and by whom.
//
// A fault that waits for a put or a phase is made by the thread that comes to it: it signals the
// process that is to be struck, most often its own. One that waits for a time, and what ends or
// goes on, is the launcher's. Where the launcher is another one, each rank kills itself, by a
// thread that looks whether it should; and nobody could make a stopped one go on.
//
//   kill    SIGKILL
//   hang    SIGSTOP, until the others are done
//   pause   SIGSTOP, and SIGCONT when it has been stopped for so long
//   slow    SIGSTOP and SIGCONT by turns, so that it runs for its share of each period
//
// A GPU's puts are its kernel's, so there the kernel ends at the put, as if the process had died,
// and the control thread makes the fault when it sees that. A signal stops the process alone: a
// kernel that was launched runs on.

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/run_internal.h"

#define SLOW_PERIOD_NS 20000000u
#define SLOW_STEP_NS 1000000u // the launcher looks so often

// --- what can be made ---------------------------------------------------------------------------

static const char *why_not(const struct phx_fault *f)
{
    if (f->kind == PHX_FAULT_RESTART)
        return "a process that comes back needs a membership to come back to";
    if (f->kind >= PHX_FAULT_LINK_DOWN && f->kind <= PHX_FAULT_DUPLICATE)
        return "memory has no link that could fail";
    if (f->kind == PHX_FAULT_CLOCK_OFFSET)
        return "processes of one host have one clock";
    if (f->kind == PHX_FAULT_BIT_FLIP)
        return "nothing is in flight that could flip";
    if (f->unit == PHX_UNIT_HOST)
        return "all ranks and the launcher are on one host";
    if (f->unit == PHX_UNIT_GPU)
        return "ranks have no GPU";
    if (f->unit == PHX_UNIT_NIC)
        return "ranks have no NIC";
    if (f->when.event != 0)
        return "'after_event' counts events of the simulator";
    return NULL;
}

static const char *why_not_on_gpu(const struct phx_fault *f, bool has_hooks)
{
    bool is_receive = f->when.phase == PHX_PHASE_DISPATCH_RECEIVE ||
                      f->when.phase == PHX_PHASE_COMBINE_RECEIVE;
    if (f->unit == PHX_UNIT_GPU)
        return "nothing short of a reset stops a GPU, and others use it";
    if (is_receive && !has_hooks)
        return "a kernel goes from sending to receiving without telling; with hooks they are two";
    if (f->when.after_puts == 0)
        return NULL;
    if (f->kind != PHX_FAULT_KILL && f->kind != PHX_FAULT_HANG)
        return "a kernel that stopped at a put can't go on from there";
    if (f->when.rank != PHX_FAULT_ANY && f->when.rank != f->rank)
        return "a kernel stops at a put for its own rank's fault alone";
    return NULL;
}

static bool has_hooks(const struct phx_workload *w)
{
    bool has = true;
    for (uint32_t i = 0; i < w->load_count; i++)
        has = has && w->loads[i].hooks;
    return has;
}

static const char *why_not_joined(const struct phx_fault *f)
{
    if (f->kind == PHX_FAULT_HANG || f->kind == PHX_FAULT_PAUSE || f->kind == PHX_FAULT_SLOW)
        return "only a launcher of ours could let it go on, or end it (--alone starts the ranks "
               "here)";
    return NULL;
}

int phx_live_faults_check(const struct phx_workload *w, const struct phx_live_options *options,
                          struct phx_message *message)
{
    const char *over = options->is_cuda ? "cuda" : "shm";
    for (uint32_t i = 0; i < w->fault_count; i++) {
        const struct phx_fault *f = &w->faults[i];
        const char *why = options->is_cuda ? why_not_on_gpu(f, has_hooks(w)) : NULL;
        if (why == NULL)
            why = why_not(f);
        if (why == NULL && f->when.chance_ppm != 0)
            why = "faults by chance come in the simulator alone";
        if (why == NULL && options->is_joined)
            why = why_not_joined(f);
        if (why != NULL)
            return phx_fail(message, PHX_ERR_UNSUPPORTED,
                            "fault %u of the list (%s, rank %u) can't be made for real over %s: "
                            "%s",
                            i + 1, phx_fault_kind_name((enum phx_fault_kind)f->kind), f->rank, over,
                            why);
    }
    if (w->freeze_ps != 0)
        return phx_fail(message, PHX_ERR_UNSUPPORTED,
                        "expect: frozen_after_us is held in the simulator alone, not over %s",
                        over);
    return 0;
}

// --- strikes ------------------------------------------------------------------------------------

static uint32_t trigger_rank(const struct phx_fault *f)
{
    return f->when.rank == PHX_FAULT_ANY ? f->rank : f->when.rank;
}

static int signal_of(const struct phx_fault *f)
{
    return f->kind == PHX_FAULT_KILL ? SIGKILL : SIGSTOP;
}

static bool claim(struct phx_live_strike *s)
{
    uint32_t none = 0;
    return __atomic_compare_exchange_n(&s->state, &none, PHX_LIVE_CLAIMED, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

// Once. `self`: the rank of this process, or PHX_RANKS_MAX in the launcher.
static void strike(const struct phx_live *live, uint32_t index, uint32_t self, uint32_t kind,
                   uint64_t number)
{
    const struct phx_fault *f = &live->run.workload->faults[index];
    struct phx_live_strike *s = phx_live_strike_of(live, index);
    struct phx_live_seat *seat = phx_live_seat_of(live, f->rank);
    pid_t pid = __atomic_load_n(&seat->pid, __ATOMIC_ACQUIRE);
    if (pid == 0 || __atomic_load_n(&seat->end, __ATOMIC_ACQUIRE) != 0 || !claim(s))
        return; // there is nothing to strike
    if (self != f->rank) {
        kind = __atomic_load_n(&seat->kind, __ATOMIC_RELAXED);
        number = __atomic_load_n(&seat->number[kind], __ATOMIC_RELAXED);
    }
    s->kind = kind;
    s->number = number;
    s->phase = __atomic_load_n(&seat->phase, __ATOMIC_RELAXED);
    s->at_ns = phx_clock_ns();
    __atomic_store_n(&s->state, PHX_LIVE_STRUCK, __ATOMIC_RELEASE);
    if (f->kind == PHX_FAULT_SLOW)
        return; // the launcher does it
    if (live->options.is_joined && self != f->rank)
        return; // its keeper does it: its number may be another process's here
    if (self == f->rank)
        (void)raise(signal_of(f)); // to this thread: it goes no further
    else
        (void)kill(pid, signal_of(f));
}

bool phx_live_counts_puts(const struct phx_workload *w, uint32_t rank)
{
    for (uint32_t i = 0; i < w->fault_count; i++)
        if (w->faults[i].when.after_puts != 0 && trigger_rank(&w->faults[i]) == rank)
            return true;
    return false;
}

void phx_live_on_put(const struct phx_live *live, uint32_t rank, uint32_t kind, uint64_t number,
                     uint32_t puts)
{
    const struct phx_workload *w = live->run.workload;
    for (uint32_t i = 0; i < w->fault_count; i++) {
        const struct phx_fault_when *when = &w->faults[i].when;
        if (when->after_puts != 0 && when->after_puts == puts && when->kind == kind &&
            (when->number == 0 || when->number == number) && trigger_rank(&w->faults[i]) == rank)
            strike(live, i, rank, kind, number);
    }
}

uint32_t phx_live_puts_of(const struct phx_workload *w, uint32_t rank, uint32_t kind,
                          uint64_t number)
{
    for (uint32_t i = 0; i < w->fault_count; i++) {
        const struct phx_fault_when *when = &w->faults[i].when;
        if (when->after_puts != 0 && when->kind == kind &&
            (when->number == 0 || when->number == number) && trigger_rank(&w->faults[i]) == rank)
            return when->after_puts;
    }
    return 0;
}

void phx_live_on_phase(const struct phx_live *live, uint32_t rank, uint32_t kind, uint32_t phase,
                       uint64_t number, bool begins)
{
    const struct phx_workload *w = live->run.workload;
    for (uint32_t i = 0; i < w->fault_count; i++) {
        const struct phx_fault_when *when = &w->faults[i].when;
        if (trigger_rank(&w->faults[i]) != rank || when->after_puts != 0 ||
            (when->number != 0 && when->number != number))
            continue;
        if (when->phase != 0 ? when->phase == phase : (when->kind == kind && begins))
            strike(live, i, rank, kind, number);
    }
}

// --- the launcher's part ------------------------------------------------------------------------

// 'T' while the process is stopped; 0: it is gone.
static char state_of(pid_t pid)
{
    char path[64];
    char text[512] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 0;
    size_t size = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    const char *end = strrchr(text, ')'); // after the program's name, whatever it is
    return end != NULL && end[1] == ' ' ? end[2] : 0;
}

// When it is to run again it may not even have stopped yet, so what it does is looked at.
static void resume(pid_t pid)
{
    if (state_of(pid) == 'T')
        (void)kill(pid, SIGCONT);
}

static void slow_tick(const struct phx_fault *f, pid_t pid, uint64_t since_ns)
{
    uint64_t period_ns = SLOW_PERIOD_NS;
    if (f->percent * (period_ns / 100) < SLOW_STEP_NS)
        period_ns = SLOW_STEP_NS / (f->percent > 0 ? f->percent : 1) * 100;
    bool runs = since_ns % period_ns < period_ns / 100 * f->percent;
    char state = state_of(pid);
    if (state != 0 && runs == (state == 'T'))
        (void)kill(pid, runs ? SIGCONT : SIGSTOP);
}

static bool is_timed(const struct phx_fault *f)
{
    return f->when.kind == 0 && f->when.phase == 0;
}

uint64_t phx_live_faults_next_ns(const struct phx_live *live)
{
    uint64_t now_ns = phx_clock_ns();
    uint64_t next_ns = UINT64_MAX;
    for (uint32_t i = 0; live->zero_ns != 0 && i < live->run.workload->fault_count; i++) {
        const struct phx_fault *f = &live->run.workload->faults[i];
        uint64_t at_ns = live->zero_ns + f->when.at_ps / 1000;
        if (is_timed(f) && phx_live_strike_of(live, i)->state == 0 && at_ns > now_ns &&
            at_ns - now_ns < next_ns)
            next_ns = at_ns - now_ns;
    }
    return next_ns;
}

void phx_live_faults_tick(const struct phx_live *live)
{
    const struct phx_workload *w = live->run.workload;
    uint64_t now_ns = phx_clock_ns();
    for (uint32_t i = 0; i < w->fault_count; i++) {
        const struct phx_fault *f = &w->faults[i];
        const struct phx_live_strike *s = phx_live_strike_of(live, i);
        if (is_timed(f) && live->zero_ns != 0 && s->state == 0 &&
            now_ns - live->zero_ns >= f->when.at_ps / 1000)
            strike(live, i, PHX_RANKS_MAX, 0, 0);
        if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) != PHX_LIVE_STRUCK || now_ns < s->at_ns)
            continue;
        pid_t pid = phx_crew_pid(live->crew, f->rank); // 0 once it was reaped
        bool is_over = f->duration_ps != 0 && now_ns - s->at_ns >= f->duration_ps / 1000;
        if (pid == 0 || f->kind == PHX_FAULT_KILL || f->kind == PHX_FAULT_HANG)
            continue;
        if (is_over && !phx_live_is_held(live, f->rank))
            resume(pid);
        else if (f->kind == PHX_FAULT_SLOW)
            slow_tick(f, pid, now_ns - s->at_ns);
    }
}

bool phx_live_needs_keeper(const struct phx_workload *w, uint32_t rank)
{
    for (uint32_t i = 0; i < w->fault_count; i++)
        if (w->faults[i].rank == rank &&
            (is_timed(&w->faults[i]) || trigger_rank(&w->faults[i]) != rank))
            return true;
    return false;
}

void phx_live_faults_keep(const struct phx_live *live, uint32_t rank)
{
    uint64_t now_ns = phx_clock_ns();
    for (uint32_t i = 0; i < live->run.workload->fault_count; i++) {
        const struct phx_fault *f = &live->run.workload->faults[i];
        const struct phx_live_strike *s = phx_live_strike_of(live, i);
        if (f->rank != rank)
            continue;
        if (is_timed(f) && live->zero_ns != 0 &&
            __atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == 0 &&
            now_ns - live->zero_ns >= f->when.at_ps / 1000)
            strike(live, i, PHX_RANKS_MAX, 0, 0);
        if (__atomic_load_n(&s->state, __ATOMIC_ACQUIRE) == PHX_LIVE_STRUCK)
            (void)raise(signal_of(f));
    }
}

bool phx_live_is_held(const struct phx_live *live, uint32_t rank)
{
    const struct phx_workload *w = live->run.workload;
    for (uint32_t i = 0; i < w->fault_count; i++)
        if (w->faults[i].kind == PHX_FAULT_HANG && w->faults[i].rank == rank &&
            __atomic_load_n(&phx_live_strike_of(live, i)->state, __ATOMIC_ACQUIRE) ==
                PHX_LIVE_STRUCK)
            return true;
    return false;
}
