// sim/workload_watch.c: what a scenario expects of every operation while the run goes on: whom a
// rank may suspect, and how long an operation may take once faults are frozen.

#include <inttypes.h>

#include "kernels/rank.h"
#include "sim/network.h"
#include "sim/workload_internal.h"
#include "sim/world_internal.h"

static bool is_member(const struct phx_fault *f, uint32_t rank)
{
    for (uint32_t i = 0; i < f->member_count; i++)
        if (f->members[i] == rank)
            return true;
    return false;
}

bool phx_watch_strikes(const struct phx_workload *w, const struct phx_fault *f, uint32_t rank)
{
    if (f->unit == PHX_UNIT_HOST)
        return rank / w->cluster.ranks_per_node == f->rank / w->cluster.ranks_per_node;
    return rank == f->rank;
}

static bool is_link(const struct phx_fault *f)
{
    return (f->kind >= PHX_FAULT_LINK_DOWN && f->kind <= PHX_FAULT_LINK_LOSSY) ||
           f->kind == PHX_FAULT_DELAY || f->kind == PHX_FAULT_DUPLICATE;
}

// True for what goes on when faults are frozen and is felt on the rank's paths. What stops a
// process for a while is not among it: its peers learn of it once.
static bool is_lasting(const struct phx_fault *f)
{
    if (f->duration_ps != 0 || f->kind == PHX_FAULT_LINK_FLAP)
        return false;
    return is_link(f) || f->kind == PHX_FAULT_PARTITION || f->kind == PHX_FAULT_SLOW ||
           f->kind == PHX_FAULT_KILL || f->kind == PHX_FAULT_HANG ||
           (f->unit == PHX_UNIT_NIC && f->kind <= PHX_FAULT_SLOW);
}

// True when a fault of the list concerns one of two ranks, or the path between them.
static bool is_touched(const struct phx_workload *w, uint32_t a, uint32_t b, bool only_lasting)
{
    for (uint32_t i = 0; i < w->fault_count; i++) {
        const struct phx_fault *f = &w->faults[i];
        bool is_hit;
        if (only_lasting && !is_lasting(f))
            continue;
        if (f->kind == PHX_FAULT_PARTITION)
            is_hit = is_member(f, a) != is_member(f, b);
        else if (is_link(f) && f->unit == 0 && f->peer != PHX_FAULT_ANY)
            is_hit = (f->rank == a && f->peer == b) || (f->rank == b && f->peer == a);
        else
            is_hit = phx_watch_strikes(w, f, a) || phx_watch_strikes(w, f, b);
        if (is_hit)
            return true;
    }
    return false;
}

// True when packets go on being lost somewhere: a lane that waits for its retry timer again and
// again delays what a rank says of its own lateness, to others that no fault touches.
static bool is_restless(const struct phx_workload *w)
{
    for (uint32_t i = 0; i < w->fault_count; i++)
        if (w->faults[i].kind == PHX_FAULT_LINK_LOSSY && is_lasting(&w->faults[i]))
            return true;
    return false;
}

static bool is_slowed(const struct phx_workload *w, uint32_t rank)
{
    for (uint32_t i = 0; i < w->fault_count; i++)
        if (w->faults[i].kind == PHX_FAULT_SLOW && is_lasting(&w->faults[i]) &&
            phx_watch_strikes(w, &w->faults[i], rank))
            return true;
    return false;
}

// When the faults before the freeze are over for the lanes too: what a queue pair lost is sent
// again when its timer ends, and that may be longer than a deadline.
static uint64_t settled_ps(const struct phx_workload *w)
{
    const struct phx_preset *nic =
        w->cluster.inter_node != NULL ? phx_preset_find(w->cluster.inter_node) : NULL;
    return w->freeze_ps + (w->cluster.nodes > 1 && nic != NULL ? nic->ack_timeout_ps : 0);
}

void phx_watch_begin(struct phx_run *run, uint32_t rank, uint64_t operation, bool is_first)
{
    struct phx_run_rank *mine = &run->rank[rank];
    if (run->workload->freeze_ps == 0)
        return;
    mine->call_ps = phx_world_time_ps(run->world);
    // What struck before the freeze may still be found out in two more operations.
    if (is_first && (mine->call_ps < settled_ps(run->workload) || mine->begun_frozen++ < 2))
        mine->tolerated[operation & 1] = operation + 1;
}

static void check_time(struct phx_run *run, uint32_t rank, uint32_t kind, uint64_t number)
{
    const struct phx_workload *w = run->workload;
    const struct phx_run_rank *mine = &run->rank[rank];
    uint64_t now_ps = phx_world_time_ps(run->world);
    uint64_t limit_ps = w->expect.progress_within_ps;
    if (limit_ps == 0)
        limit_ps = phx_workload_progress_ps(w);
    if (w->freeze_ps == 0 || now_ps < w->freeze_ps || is_slowed(w, rank))
        return;
    uint64_t from_ps = mine->call_ps > w->freeze_ps ? mine->call_ps : w->freeze_ps;
    run->frozen_checked++;
    if (now_ps - from_ps > limit_ps)
        phx_run_violate(run, "progress-after-freeze", rank, kind, number,
                        "it took %.3f us although no fault struck any more; at most %.3f us were "
                        "expected",
                        (double)(now_ps - from_ps) / 1e6, (double)limit_ps / 1e6);
}

void phx_watch_suspect(struct phx_run *run, uint32_t rank, uint32_t other, uint32_t cause,
                       uint32_t kind, uint64_t number, bool is_tolerated)
{
    const struct phx_workload *w = run->workload;
    if (cause == PHX_CAUSE_CORRUPT)
        run->corrupt.words[other / 64] |= UINT64_C(1) << (other % 64);
    if (w->expect.is_healthy_stay && !is_touched(w, rank, other, false))
        phx_run_violate(run, "healthy-masked", rank, kind, number,
                        "rank %u masked rank %u (%s), and no fault touches either of them or the "
                        "path between them",
                        rank, other, phx_cause_text(cause));
    if (w->freeze_ps != 0 && cause == PHX_CAUSE_TIMEOUT && !is_tolerated &&
        !is_touched(w, rank, other, true) && !is_restless(w))
        phx_run_violate(run, "masked-after-freeze", rank, kind, number,
                        "rank %u masked rank %u for being late, long after the last fault", rank,
                        other);
}

void phx_watch_end(struct phx_run *run, uint32_t rank, const struct phx_group *group,
                   uint64_t operation, uint32_t kind, uint64_t number)
{
    const struct phx_expectation *e = &run->workload->expect;
    struct phx_run_rank *mine = &run->rank[rank];
    uint32_t causes[PHX_RANKS_MAX];
    if (run->workload->freeze_ps == 0 && !e->is_healthy_stay && !e->is_corrupt_checked)
        return;
    check_time(run, rank, kind, number);
    phx_group_suspicions(group, causes);
    run->suspicions_checked++;
    for (uint32_t r = 0; r < run->ranks; r++) {
        if (causes[r] == PHX_CAUSE_NONE || phx_rank_set_has(&mine->suspected, r))
            continue;
        mine->suspected.words[r / 64] |= UINT64_C(1) << (r % 64);
        phx_watch_suspect(run, rank, r, causes[r], kind, number,
                          operation < mine->tolerated[operation & 1]);
    }
}
