// tools/explore_faults.c: which faults a drawn run suffers, whom they strike, when, and how long.
//
// Half of the kinds are enabled in a run, so that some kinds meet often and others do not drown
// them. Durations lie around the times that decide something: a retry budget, D/4, D, 2 D.

#include <string.h>

#include "sim/network.h"
#include "tools/explore.h"

enum fault_knob {
    KNOB_COUNT = 1000, // apart from those of explore_draw.c
    KNOB_KINDS,
    KNOB_KIND,
    KNOB_FOCUS,
    KNOB_FOCUS_RANK,
    KNOB_RANK,
    KNOB_PEER,
    KNOB_UNIT,
    KNOB_DURATION,
    KNOB_JITTER,
    KNOB_PERCENT,
    KNOB_PPM,
    KNOB_TIMES,
    KNOB_PERIOD,
    KNOB_DELAY,
    KNOB_OFFSET,
    KNOB_CAUGHT,
    KNOB_SIDE,
    KNOB_WHEN,
    KNOB_AT,
    KNOB_EVENT,
    KNOB_OPERATION,
    KNOB_NUMBER,
    KNOB_PHASE,
    KNOB_PUTS,
    KNOB_WHO,
    KNOB_CHANCE
};

#define US UINT64_C(1000000) // in ps

struct drawing { // of one fault
    uint64_t seed;
    uint64_t which;
    struct phx_scenario *s;
    uint32_t ranks;
    uint64_t pairs;
};

static uint32_t pick(const struct drawing *d, enum fault_knob knob, uint64_t bound)
{
    return (uint32_t)phx_explore_pick(d->seed, knob, d->which, bound);
}

// Of D, of what a link takes to give up, or short; a quarter more or less.
static uint64_t draw_duration(const struct drawing *d, enum fault_knob knob)
{
    uint64_t timeout = d->s->workload.timeout_us * US;
    const uint64_t scales[12] = {5 * US,      20 * US,     60 * US,    timeout / 4,
                                 timeout / 4, timeout / 2, timeout,    timeout,
                                 2 * timeout, 3 * timeout, 67000 * US, 540000 * US};
    uint64_t scale = scales[pick(d, knob, 12)];
    return scale * 3 / 4 +
           phx_explore_pick(d->seed, KNOB_JITTER + 100 * knob, d->which, scale / 2) + 1;
}

// --- when ----------------------------------------------------------------------------------------

static void draw_operation(const struct drawing *d, struct phx_fault_when *when)
{
    when->kind = pick(d, KNOB_OPERATION, 2) == 0 ? PHX_DISPATCH : PHX_COMBINE;
    when->number = 1 + pick(d, KNOB_NUMBER, d->pairs);
    uint32_t first = when->kind == PHX_DISPATCH ? PHX_PHASE_DISPATCH_SEND : PHX_PHASE_COMBINE_SEND;
    switch (pick(d, KNOB_PHASE, 4)) {
    case 0: // its first phase
        break;
    case 1:
        when->phase = first + pick(d, KNOB_PUTS, 3);
        break;
    default:
        when->after_puts = 1 + pick(d, KNOB_PUTS, 3 * (uint64_t)d->ranks);
    }
    if (pick(d, KNOB_WHO, 4) == 0)
        when->rank = (uint32_t)phx_explore_pick(d->seed, KNOB_WHO + 100, d->which, d->ranks);
    static const uint32_t chances[8] = {0, 0, 0, 0, 0, 100000, 300000, 700000};
    when->chance_ppm = chances[pick(d, KNOB_CHANCE, 8)];
    if (when->chance_ppm != 0 && pick(d, KNOB_AT, 2) == 0)
        when->number = 0; // each operation of that kind
}

static void draw_when(const struct drawing *d, struct phx_fault_when *when)
{
    *when = (struct phx_fault_when){.rank = PHX_FAULT_ANY};
    bool has_nics = d->s->workload.cluster.nodes > 1;
    switch (pick(d, KNOB_WHEN, 8)) {
    case 0: // while groups open, or later
    case 1:
        when->at_ps = phx_explore_pick(d->seed, KNOB_AT, d->which,
                                       (has_nics ? 250 : 50) * US + d->pairs * 60 * US);
        break;
    case 2:
        when->event =
            1 + pick(d, KNOB_EVENT, 200 + (uint64_t)d->ranks * d->ranks * (10 + 25 * d->pairs));
        break;
    default:
        draw_operation(d, when);
    }
}

// --- what ----------------------------------------------------------------------------------------

static void draw_link(const struct drawing *d, struct phx_fault *f)
{
    // One path, all paths of the rank, or a port of a unit.
    static const uint32_t units[8] = {0, 0, 0, 0, 0, PHX_UNIT_HOST, PHX_UNIT_GPU, PHX_UNIT_NIC};
    f->unit = units[pick(d, KNOB_UNIT, 8)];
    if (f->unit == 0 && d->ranks > 1 && pick(d, KNOB_PEER, 4) != 0) {
        f->peer = (uint32_t)phx_explore_pick(d->seed, KNOB_PEER + 100, d->which, d->ranks - 1);
        f->peer += f->peer >= f->rank;
    }
}

static void draw_members(const struct drawing *d, struct phx_fault *f)
{
    uint32_t *members = &d->s->members[d->s->member_count];
    for (uint32_t r = 0; r < d->ranks; r++)
        if (phx_explore_pick(d->seed, KNOB_SIDE, d->which * PHX_RANKS_MAX + r, 2) == 0 &&
            f->member_count + 1 < d->ranks)
            members[f->member_count++] = r;
    if (f->member_count == 0)
        members[f->member_count++] = f->rank;
    d->s->member_count += f->member_count;
    f->members = members;
    f->rank = members[0]; // as the reader takes it
}

static uint32_t pick_unit(const struct drawing *d)
{
    static const uint32_t units[8] = {PHX_UNIT_PROCESS, PHX_UNIT_PROCESS, PHX_UNIT_PROCESS,
                                      PHX_UNIT_HOST,    PHX_UNIT_GPU,     PHX_UNIT_GPU,
                                      PHX_UNIT_NIC,     PHX_UNIT_NIC};
    return units[pick(d, KNOB_UNIT, 8)];
}

// What each kind has beside rank, unit and time: the keys of docs/scenarios.md.
static void draw_what(const struct drawing *d, struct phx_fault *f)
{
    static const uint32_t percents[8] = {1, 5, 10, 20, 50, 80, 99, 100};
    static const uint32_t ppms[8] = {1000, 10000, 50000, 100000, 200000, 500000, 900000, 1000000};
    bool lasts = pick(d, KNOB_TIMES, 4) != 0; // else for ever
    uint64_t duration_ps = draw_duration(d, KNOB_DURATION);
    switch (f->kind) {
    case PHX_FAULT_KILL:
    case PHX_FAULT_HANG:
        f->unit = pick_unit(d);
        return;
    case PHX_FAULT_PAUSE:
        f->unit = pick_unit(d);
        f->duration_ps = duration_ps;
        return;
    case PHX_FAULT_SLOW:
        f->unit = PHX_UNIT_PROCESS;
        f->percent = percents[pick(d, KNOB_PERCENT, 8)];
        break;
    case PHX_FAULT_CLOCK_OFFSET: {
        f->unit = PHX_UNIT_PROCESS;
        int64_t ns = (int64_t)(draw_duration(d, KNOB_OFFSET) / 1000);
        f->offset_ns = pick(d, KNOB_OFFSET, 2) == 0 ? ns : -ns;
        return;
    }
    case PHX_FAULT_BIT_FLIP:
        f->unit = PHX_UNIT_PROCESS;
        f->count = 1 + pick(d, KNOB_TIMES, 4);
        f->is_caught = !d->s->workload.row_check || pick(d, KNOB_CAUGHT, 2) == 0;
        return;
    case PHX_FAULT_PARTITION:
        draw_members(d, f);
        break;
    default:
        draw_link(d, f);
    }
    if (f->kind == PHX_FAULT_LINK_FLAP) {
        f->period_ps = draw_duration(d, KNOB_PERIOD) / 2 + 2;
        f->count = 1 + pick(d, KNOB_PPM, 5);
        return;
    }
    if (f->kind == PHX_FAULT_LINK_DEGRADED)
        f->percent = percents[pick(d, KNOB_PERCENT, 8)];
    if (f->kind == PHX_FAULT_LINK_LOSSY || f->kind == PHX_FAULT_DUPLICATE)
        f->ppm = ppms[pick(d, KNOB_PPM, 8)];
    if (f->kind == PHX_FAULT_DELAY)
        f->delay_ps = draw_duration(d, KNOB_DELAY);
    f->duration_ps = lasts ? duration_ps : 0;
}

// The kinds that this run may have: each with chance 1/2; all when none was chosen.
static uint32_t draw_kinds(uint64_t seed, uint32_t ranks, uint32_t *kinds)
{
    uint32_t count = 0;
    for (uint32_t pass = 0; count == 0 && pass < 2; pass++)
        for (uint32_t kind = PHX_FAULT_KILL; kind <= PHX_FAULT_BIT_FLIP; kind++) {
            // A rank that came back could not join the group again.
            if (kind == PHX_FAULT_RESTART || (kind == PHX_FAULT_PARTITION && ranks < 2))
                continue;
            if (pass == 1 || phx_explore_pick(seed, KNOB_KINDS, kind, 2) == 0)
                kinds[count++] = kind;
        }
    return count;
}

void phx_explore_draw_faults(const struct phx_campaign *c, uint64_t seed, struct phx_scenario *s)
{
    static const uint32_t counts[8] = {0, 1, 1, 1, 2, 3, 4, 6};
    struct phx_workload *w = &s->workload;
    struct drawing d = {.seed = seed, .s = s};
    d.ranks = w->cluster.nodes * w->cluster.ranks_per_node;
    d.pairs = 1;
    for (uint32_t i = 0; i < w->load_count; i++) {
        uint64_t pairs = (uint64_t)s->loads[i].steps * s->loads[i].layers;
        d.pairs = pairs > d.pairs ? pairs : d.pairs;
    }
    uint32_t kinds[PHX_FAULT_BIT_FLIP];
    uint32_t kind_count = draw_kinds(seed, d.ranks, kinds);
    uint32_t count = counts[pick(&d, KNOB_COUNT, 8)];
    count = count < c->limits.faults_max ? count : c->limits.faults_max;
    bool is_focused = pick(&d, KNOB_FOCUS, 2) == 0; // all on one rank
    uint32_t focus = pick(&d, KNOB_FOCUS_RANK, d.ranks);
    for (uint32_t i = 0; i < count && w->fault_count < PHX_SCENARIO_FAULTS_MAX; i++) {
        d.which = i;
        struct phx_fault *f = &s->faults[w->fault_count++];
        memset(f, 0, sizeof *f);
        f->kind = kinds[pick(&d, KNOB_KIND, kind_count)];
        f->rank = is_focused ? focus : pick(&d, KNOB_RANK, d.ranks);
        f->peer = PHX_FAULT_ANY;
        draw_what(&d, f);
        draw_when(&d, &f->when);
    }
}
