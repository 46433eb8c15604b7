// sim/fault.c: faults wait for their moment, strike, and may heal.
//
// Everything strikes from an event handler, never from inside a rank's fiber: a trigger that a
// fiber meets schedules the strike at that fiber's time. What a port or a path suffers is computed
// anew from all faults in force whenever one of them strikes or heals, so that they overlap as they
// would.

#include "sim/fault.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/layout.h"
#include "sim/fabric_internal.h"
#include "sim/fault_internal.h"

enum fault_event {
    FAULT_STRIKE = PHX_EVENTS_FAULT, // object: index in the list
    FAULT_HEAL,
    FAULT_TOGGLE, // of a flapping link, argument: how often it toggled
    FAULT_FREEZE  // no fault strikes any more, and what was to heal heals
};

// Argument of FAULT_STRIKE.
#define STRIKE_ASKED 0u // its moment has come: chance decides
#define STRIKE_DRAWN 1u // chance has decided

#define COUNTED 8u // operations of one kind whose puts are counted at a time

struct entry {
    struct phx_fault fault;
    uint64_t struck_ps;   // first; UINT64_MAX: not yet
    uint64_t number;      // of the operation that it struck then
    uint32_t phase;       // that the rank's first worker was in then
    uint64_t occurrences; // how often its moment came, with a chance
    uint32_t kind;
    bool armed;   // waits for its trigger
    bool pending; // a strike is scheduled
    bool in_force;
    bool flap_up; // a flapping link, between two outages
    bool ends;    // a heal or a toggle is scheduled
};

struct counter {
    uint32_t sequence;
    uint32_t puts;
};

struct progress {  // of one rank
    uint32_t kind; // of the operation that it entered last
    uint64_t number[PHX_FAULT_KINDS];
    struct counter counters[PHX_FAULT_KINDS][COUNTED];
};

struct phx_fault_set {
    struct phx_world *world;
    struct phx_fabric *fabric;
    struct phx_core *core;
    struct entry *entries;
    uint32_t count;
    uint32_t *members;         // of all partitions, copied
    struct progress *progress; // [ranks]
    bool is_frozen;
};

static const char *const kind_names[] = {
    [PHX_FAULT_KILL] = "kill",
    [PHX_FAULT_HANG] = "hang",
    [PHX_FAULT_PAUSE] = "pause",
    [PHX_FAULT_SLOW] = "slow",
    [PHX_FAULT_RESTART] = "restart",
    [PHX_FAULT_LINK_DOWN] = "link down",
    [PHX_FAULT_LINK_FLAP] = "link flap",
    [PHX_FAULT_LINK_ONE_WAY] = "link one way",
    [PHX_FAULT_LINK_DEGRADED] = "link degraded",
    [PHX_FAULT_LINK_LOSSY] = "link lossy",
    [PHX_FAULT_PARTITION] = "partition",
    [PHX_FAULT_DELAY] = "delay",
    [PHX_FAULT_DUPLICATE] = "duplicate",
    [PHX_FAULT_CLOCK_OFFSET] = "clock offset",
    [PHX_FAULT_BIT_FLIP] = "bit flip",
};

const char *phx_fault_kind_name(enum phx_fault_kind kind)
{
    return kind >= PHX_FAULT_KILL && kind <= PHX_FAULT_BIT_FLIP ? kind_names[kind] : NULL;
}

// --- what a port or a path suffers --------------------------------------------------------------

bool phx_fault_is_link(const struct phx_fault *f)
{
    return (f->kind >= PHX_FAULT_LINK_DOWN && f->kind <= PHX_FAULT_LINK_LOSSY) ||
           f->kind == PHX_FAULT_DELAY || f->kind == PHX_FAULT_DUPLICATE;
}

// Processes of the node share its fate when the unit is the host.
static bool unit_covers(const struct phx_fault_set *s, const struct phx_fault *f, uint32_t rank)
{
    if (f->unit == PHX_UNIT_HOST)
        return phx_world_node(s->world, f->rank) == phx_world_node(s->world, rank);
    return f->rank == rank;
}

// True when the fault is one of the port as a whole: of a unit, or of a link without a peer.
static bool strikes_port(const struct phx_fault_set *s, const struct phx_fault *f,
                         enum phx_plane plane, uint32_t rank)
{
    if (!unit_covers(s, f, rank))
        return false;
    if (phx_fault_is_link(f)) {
        if (f->unit == 0 && f->peer != PHX_FAULT_ANY)
            return false;
        return plane == PHX_PLANE_NIC ? f->unit != PHX_UNIT_GPU : f->unit != PHX_UNIT_NIC;
    }
    bool nic = f->unit == PHX_UNIT_NIC || (f->unit == PHX_UNIT_HOST && f->kind == PHX_FAULT_KILL);
    return plane == PHX_PLANE_NIC && nic && f->kind <= PHX_FAULT_SLOW;
}

static void add(struct phx_link_fault *sum, const struct entry *e)
{
    const struct phx_fault *f = &e->fault;
    switch (f->kind) {
    case PHX_FAULT_LINK_LOSSY:
        sum->loss_ppm = f->ppm > sum->loss_ppm ? f->ppm : sum->loss_ppm;
        break;
    case PHX_FAULT_DUPLICATE:
        sum->duplicate_ppm = f->ppm > sum->duplicate_ppm ? f->ppm : sum->duplicate_ppm;
        break;
    case PHX_FAULT_DELAY:
        sum->delay_ps += f->delay_ps;
        break;
    case PHX_FAULT_LINK_DEGRADED:
    case PHX_FAULT_SLOW:
        if (sum->rate_percent == 0 || f->percent < sum->rate_percent)
            sum->rate_percent = f->percent;
        break;
    default: // everything else that reaches a port or a path takes it down
        sum->down = sum->down || !e->flap_up;
    }
}

static void refresh_port(struct phx_fault_set *s, enum phx_plane plane, uint32_t rank)
{
    struct phx_link_fault sum[2] = {{0}, {0}};
    for (uint32_t i = 0; i < s->count; i++) {
        const struct entry *e = &s->entries[i];
        if (!e->in_force || !strikes_port(s, &e->fault, plane, rank))
            continue;
        add(&sum[0], e);
        if (e->fault.kind != PHX_FAULT_LINK_ONE_WAY)
            add(&sum[1], e);
    }
    struct phx_network *n = phx_fabric_network(s->fabric);
    uint64_t now_ps = phx_core_now_ps(s->core);
    phx_network_port_fault(n, now_ps, plane, rank, PHX_EGRESS, &sum[0]);
    // What a delay or a duplicate does is done once on a way, at its egress.
    sum[1].delay_ps = 0;
    sum[1].duplicate_ppm = 0;
    phx_network_port_fault(n, now_ps, plane, rank, PHX_INGRESS, &sum[1]);
}

static void refresh_path(struct phx_fault_set *s, uint32_t source, uint32_t target)
{
    struct phx_link_fault sum = {0};
    for (uint32_t i = 0; i < s->count; i++) {
        const struct entry *e = &s->entries[i];
        const struct phx_fault *f = &e->fault;
        if (!e->in_force || !phx_fault_is_link(f) || f->unit != 0 || f->peer == PHX_FAULT_ANY)
            continue;
        bool there = f->rank == source && f->peer == target;
        bool back = f->rank == target && f->peer == source && f->kind != PHX_FAULT_LINK_ONE_WAY;
        if (there || back)
            add(&sum, e);
    }
    if (!phx_network_path_fault(phx_fabric_network(s->fabric), phx_core_now_ps(s->core), source,
                                target, &sum))
        phx_world_stop(s->world, PHX_ERR_NO_MEMORY, "no memory for a fault on a path");
}

static void refresh_partition(struct phx_fault_set *s)
{
    uint8_t side[PHX_RANKS_MAX];
    bool any = false;
    memset(side, 0, sizeof side);
    for (uint32_t i = 0; i < s->count; i++) {
        const struct phx_fault *f = &s->entries[i].fault;
        if (!s->entries[i].in_force || f->kind != PHX_FAULT_PARTITION)
            continue;
        any = true;
        // Partitions in force together cut along all their lines: 8 of them fit.
        for (uint32_t m = 0; m < f->member_count; m++)
            side[f->members[m]] = (uint8_t)(side[f->members[m]] ^ (1u << (i & 7)));
    }
    phx_network_partition(phx_fabric_network(s->fabric), phx_core_now_ps(s->core),
                          any ? side : NULL);
}

static void refresh(struct phx_fault_set *s, const struct phx_fault *f)
{
    if (f->kind == PHX_FAULT_PARTITION) {
        refresh_partition(s);
        return;
    }
    if (phx_fault_is_link(f) && f->unit == 0 && f->peer != PHX_FAULT_ANY) {
        refresh_path(s, f->rank, f->peer);
        refresh_path(s, f->peer, f->rank);
        return;
    }
    for (uint32_t r = 0; r < phx_world_rank_count(s->world); r++) {
        if (strikes_port(s, f, PHX_PLANE_NIC, r))
            refresh_port(s, PHX_PLANE_NIC, r);
        if (strikes_port(s, f, PHX_PLANE_NVLINK, r))
            refresh_port(s, PHX_PLANE_NVLINK, r);
    }
}

// --- striking and healing -----------------------------------------------------------------------

// Whether a fault in force stops the rank, and at which percent of its speed those in force leave
// it: what one of several ends, the others go on doing.
static bool is_stopped(const struct phx_fault_set *s, uint32_t rank)
{
    for (uint32_t i = 0; i < s->count; i++) {
        const struct phx_fault *f = &s->entries[i].fault;
        if (s->entries[i].in_force && (f->kind == PHX_FAULT_HANG || f->kind == PHX_FAULT_PAUSE) &&
            f->unit != PHX_UNIT_NIC && unit_covers(s, f, rank))
            return true;
    }
    return false;
}

static uint32_t speed_percent(const struct phx_fault_set *s, uint32_t rank)
{
    uint32_t percent = 100;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct phx_fault *f = &s->entries[i].fault;
        if (s->entries[i].in_force && f->kind == PHX_FAULT_SLOW && f->unit != PHX_UNIT_NIC &&
            f->percent < percent && unit_covers(s, f, rank))
            percent = f->percent;
    }
    return percent;
}

static void strike_rank(struct phx_fault_set *s, const struct phx_fault *f, uint32_t rank,
                        bool healing)
{
    bool hardware = f->unit == PHX_UNIT_HOST || f->unit == PHX_UNIT_GPU;
    switch (f->kind) {
    case PHX_FAULT_KILL:
        if (hardware)
            phx_fabric_gpu_dead(s->fabric, rank);
        phx_world_kill(s->world, rank);
        break;
    case PHX_FAULT_HANG:
    case PHX_FAULT_PAUSE:
        if (!healing)
            phx_world_pause(s->world, rank);
        else if (!is_stopped(s, rank))
            phx_world_resume(s->world, rank);
        break;
    case PHX_FAULT_SLOW:
        phx_world_slow(s->world, rank, speed_percent(s, rank));
        break;
    case PHX_FAULT_CLOCK_OFFSET:
        phx_world_clock_offset(s->world, rank, healing ? 0 : f->offset_ns);
        break;
    default:
        break;
    }
}

static void restart(struct phx_fault_set *s, uint32_t rank)
{
    phx_rank_main *main = NULL;
    void *argument = NULL;
    struct phx_message why;
    phx_world_program(s->world, &main, &argument);
    int error = phx_world_restart(s->world, rank, main, argument, &why);
    if (error == PHX_ERR_NO_MEMORY)
        phx_world_stop(s->world, error, why.text);
}

static void apply(struct phx_fault_set *s, struct entry *e, bool healing)
{
    const struct phx_fault *f = &e->fault;
    e->in_force = !healing;
    // Links before processes, so that what a dying host had not sent is lost.
    if (phx_fault_is_link(f) || f->kind == PHX_FAULT_PARTITION || f->unit == PHX_UNIT_NIC ||
        (f->unit == PHX_UNIT_HOST && f->kind == PHX_FAULT_KILL))
        refresh(s, f);
    if (phx_fault_is_link(f) || f->kind == PHX_FAULT_PARTITION || f->unit == PHX_UNIT_NIC)
        return;
    if (f->kind == PHX_FAULT_BIT_FLIP) {
        uint32_t count = f->count != 0 ? f->count : 1;
        if (!healing && f->is_caught)
            phx_fabric_flip_caught(s->fabric, f->rank, count);
        else if (!healing)
            phx_fabric_flip(s->fabric, f->rank, count);
        return;
    }
    if (f->kind == PHX_FAULT_RESTART) {
        if (!healing)
            restart(s, f->rank);
        return;
    }
    for (uint32_t r = 0; r < phx_world_rank_count(s->world); r++)
        if (unit_covers(s, f, r))
            strike_rank(s, f, r, healing);
}

static void later(struct phx_fault_set *s, uint64_t at_ps, enum fault_event type, uint32_t index,
                  uint64_t argument)
{
    if (!phx_core_schedule_as(s->core, at_ps, type, index, argument, PHX_ACTOR_FAULTS + index))
        phx_world_stop(s->world, PHX_ERR_NO_MEMORY, "no memory for a fault");
}

static void mark(struct phx_fault_set *s, const struct entry *e, bool healing)
{
    static const char *const units[] = {"", "process", "host", "gpu", "nic"};
    const struct phx_fault *f = &e->fault;
    char text[96];
    if (s->fabric->trace == NULL)
        return;
    if (f->peer != PHX_FAULT_ANY && phx_fault_is_link(f) && f->unit == 0)
        snprintf(text, sizeof text, "rank %u, peer %u", f->rank, f->peer);
    else
        snprintf(text, sizeof text, "rank %u%s%s", f->rank, f->unit != 0 ? ", its " : "",
                 units[f->unit]);
    char name[48];
    snprintf(name, sizeof name, "%s%s", healing ? "end of " : "", kind_names[f->kind]);
    phx_trace_mark(s->fabric->trace, f->rank, phx_core_now_ps(s->core), name, text);
}

// True when the fault strikes more than once: each time its moment comes, by chance, unless what it
// did lasts.
static bool strikes_again(const struct entry *e)
{
    const struct phx_fault *f = &e->fault;
    bool is_once = f->when.kind == 0 && f->when.phase == 0; // a time or an event comes once
    bool ends =
        f->kind == PHX_FAULT_BIT_FLIP || f->kind == PHX_FAULT_LINK_FLAP || f->duration_ps != 0;
    return f->when.chance_ppm != 0 && !is_once && ends;
}

static uint32_t kind_of_phase(uint32_t phase)
{
    if (phase >= PHX_PHASE_DISPATCH_SEND && phase <= PHX_PHASE_DISPATCH_DONE)
        return PHX_DISPATCH;
    return phase >= PHX_PHASE_COMBINE_SEND && phase <= PHX_PHASE_COMBINE_DONE ? PHX_COMBINE : 0;
}

// That the rank's first worker entered last; or that its control fiber did, when it took that
// operation's outcome.
static uint32_t phase_of(const struct phx_world *world, uint32_t rank)
{
    uint32_t phase;
    uint32_t done;
    uint64_t number;
    uint64_t done_number;
    phx_world_worker_phase(world, rank, 0, &phase, &number);
    phx_world_worker_phase(world, rank, PHX_WORKER_CONTROL, &done, &done_number);
    return done_number == number && kind_of_phase(done) == kind_of_phase(phase) ? done : phase;
}

static void strike(struct phx_fault_set *s, uint32_t index)
{
    struct entry *e = &s->entries[index];
    uint64_t now_ps = phx_core_now_ps(s->core);
    const struct progress *p = &s->progress[e->fault.rank];
    e->pending = false;
    e->armed = strikes_again(e);
    if (e->struck_ps == UINT64_MAX) {
        e->struck_ps = now_ps;
        e->kind = e->fault.when.kind != 0 ? e->fault.when.kind : p->kind;
        e->number = e->fault.when.number != 0 ? e->fault.when.number : p->number[e->kind];
        e->phase = phase_of(s->world, e->fault.rank);
    }
    mark(s, e, false);
    bool flaps = e->fault.kind == PHX_FAULT_LINK_FLAP;
    bool lasts = e->fault.duration_ps == 0;
    e->ends = flaps || !lasts;
    e->flap_up = false;
    if (flaps)
        later(s, now_ps + e->fault.period_ps / 2, FAULT_TOGGLE, index, 1);
    else if (!lasts)
        later(s, now_ps + e->fault.duration_ps, FAULT_HEAL, index, 0);
    apply(s, e, false);
}

static void heal(struct phx_fault_set *s, struct entry *e)
{
    e->ends = false;
    apply(s, e, true);
    mark(s, e, true);
}

static uint32_t trigger_rank(const struct phx_fault *f)
{
    return f->when.rank == PHX_FAULT_ANY ? f->rank : f->when.rank;
}

// A rank's puts are counted only while a fault waits for their number: it costs them their bursts.
static void count_issues(struct phx_fault_set *s)
{
    for (uint32_t r = 0; r < phx_world_rank_count(s->world); r++) {
        bool counts = false;
        for (uint32_t i = 0; i < s->count; i++)
            counts = counts || (s->entries[i].armed && s->entries[i].fault.when.after_puts != 0 &&
                                trigger_rank(&s->entries[i].fault) == r);
        phx_fabric_count_issues(s->fabric, r, counts);
    }
}

static void freeze(struct phx_fault_set *s)
{
    s->is_frozen = true;
    for (uint32_t i = 0; i < s->count; i++) {
        s->entries[i].armed = false;
        if (s->entries[i].ends)
            heal(s, &s->entries[i]);
    }
    for (uint32_t r = 0; r < phx_world_rank_count(s->world); r++)
        s->fabric->ranks[r].flips = s->fabric->ranks[r].flips_caught = 0;
    count_issues(s);
}

// The entry's moment has come: whether it strikes, this time.
static bool is_drawn(struct phx_fault_set *s, uint32_t index)
{
    struct entry *e = &s->entries[index];
    uint32_t chance_ppm = e->fault.when.chance_ppm;
    if (chance_ppm == 0)
        return true;
    uint64_t drawn =
        phx_chance_below(1000000, s->fabric->seed, PHX_CHANCE_FAULT, index, e->occurrences++);
    bool is_once = e->fault.when.kind == 0 && e->fault.when.phase == 0;
    e->armed = !is_once;
    return drawn < chance_ppm && !e->pending && !(e->in_force && e->ends);
}

static void on_event(void *context, const struct phx_event_record *event)
{
    struct phx_fault_set *s = context;
    uint32_t index = event->object;
    if (event->type == FAULT_FREEZE) {
        freeze(s);
        return;
    }
    struct entry *e = &s->entries[index];
    if (event->type == FAULT_STRIKE) {
        e->pending = false;
        if (!s->is_frozen && (event->argument == STRIKE_DRAWN || is_drawn(s, index)))
            strike(s, index);
        return;
    }
    if (!e->ends)
        return; // healed already, when faults were frozen
    if (event->type == FAULT_TOGGLE && event->argument < 2ull * e->fault.count - 1) {
        e->flap_up = !e->flap_up;
        refresh(s, &e->fault);
        later(s, event->time_ps + e->fault.period_ps / 2, FAULT_TOGGLE, index, event->argument + 1);
        return;
    }
    heal(s, e);
}

// --- triggers -----------------------------------------------------------------------------------

static void on_phase(void *context, uint32_t rank, uint32_t worker, uint32_t phase, uint64_t number)
{
    struct phx_fault_set *s = context;
    (void)worker;
    uint32_t kind = kind_of_phase(phase);
    struct progress *p = &s->progress[rank];
    bool begins = kind != 0 && p->number[kind] != number;
    if (kind != 0) {
        p->kind = kind;
        p->number[kind] = number;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        struct entry *e = &s->entries[i];
        const struct phx_fault_when *w = &e->fault.when;
        if (!e->armed || trigger_rank(&e->fault) != rank || w->after_puts != 0 ||
            (w->number != 0 && w->number != number))
            continue;
        bool hit = w->phase != 0 ? w->phase == phase : (w->kind != 0 && w->kind == kind && begins);
        if (!hit || !is_drawn(s, i))
            continue;
        e->armed = strikes_again(e);
        e->pending = true;
        later(s, phx_world_time_ps(s->world), FAULT_STRIKE, i, STRIKE_DRAWN);
    }
}

static void on_issue(void *context, uint32_t rank, uint32_t token, uint64_t at_ps)
{
    struct phx_fault_set *s = context;
    (void)at_ps;
    uint32_t kind = token >> 28;
    uint32_t sequence = token & 0xFFFFFFu;
    struct counter *c = &s->progress[rank].counters[kind][sequence % COUNTED];
    if (c->sequence != sequence) {
        c->sequence = sequence;
        c->puts = 0;
    }
    c->puts++;
    for (uint32_t i = 0; i < s->count; i++) {
        const struct entry *e = &s->entries[i];
        const struct phx_fault_when *w = &e->fault.when;
        if (e->armed && w->after_puts != 0 && w->after_puts == c->puts && w->kind == kind &&
            (w->number == 0 || (w->number & 0xFFFFFFu) == sequence) &&
            trigger_rank(&e->fault) == rank && is_drawn(s, i)) {
            strike(s, i);
            count_issues(s);
        }
    }
}

// --- installing ---------------------------------------------------------------------------------

static void set_free(struct phx_fault_set *s)
{
    free(s->entries);
    free(s->members);
    free(s->progress);
    free(s);
}

static void on_destroy(void *context)
{
    set_free(context);
}

static bool set_copy(struct phx_fault_set *s, const struct phx_fault *list, uint32_t count)
{
    size_t members = 0;
    for (uint32_t i = 0; i < count; i++)
        members += list[i].kind == PHX_FAULT_PARTITION ? list[i].member_count : 0;
    s->entries = calloc(count + 1, sizeof *s->entries);
    s->members = calloc(members + 1, sizeof *s->members);
    s->progress = calloc(phx_world_rank_count(s->world), sizeof *s->progress);
    if (s->entries == NULL || s->members == NULL || s->progress == NULL)
        return false;
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct entry *e = &s->entries[i];
        e->fault = list[i];
        e->struck_ps = UINT64_MAX;
        e->armed = true;
        if (list[i].kind != PHX_FAULT_PARTITION)
            continue;
        memcpy(s->members + used, list[i].members, list[i].member_count * sizeof *s->members);
        e->fault.members = s->members + used;
        used += list[i].member_count;
    }
    s->count = count;
    return true;
}

int phx_fault_install(struct phx_world *world, const struct phx_fault *list, uint32_t count,
                      struct phx_message *message)
{
    struct phx_fabric *fabric = phx_fabric_of(world);
    if (fabric == NULL)
        return phx_fail(message, PHX_ERR_STATE, "faults need a cluster with a network");
    if (fabric->faults != NULL)
        return phx_fail(message, PHX_ERR_STATE, "faults are installed once");
    int error = phx_fault_list_check(list, count, phx_world_rank_count(world), message);
    if (error != 0)
        return error;
    struct phx_fault_set *s = calloc(1, sizeof *s);
    if (s == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for faults");
    s->world = world;
    s->fabric = fabric;
    s->core = phx_world_core(world);
    const struct phx_world_hooks hooks = {.context = s, .phase = on_phase, .destroy = on_destroy};
    if (!set_copy(s, list, count)) {
        set_free(s);
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u faults", count);
    }
    if (!phx_world_hooks_add(world, &hooks)) {
        set_free(s);
        return phx_fail(message, PHX_ERR_STATE, "the world has no room for the faults' hooks");
    }
    fabric->faults = s;
    for (uint32_t type = FAULT_STRIKE; type <= FAULT_FREEZE; type++)
        phx_core_handle(s->core, type, on_event, s);
    bool counts = false;
    for (uint32_t i = 0; i < count; i++) {
        const struct phx_fault_when *w = &list[i].when;
        counts = counts || w->after_puts != 0;
        if (w->event != 0) {
            if (!phx_core_at_event(s->core, w->event, FAULT_STRIKE, i, STRIKE_ASKED))
                phx_world_stop(world, PHX_ERR_NO_MEMORY, "no memory for a fault");
        } else if (w->kind == 0 && w->phase == 0) {
            later(s, w->at_ps, FAULT_STRIKE, i, STRIKE_ASKED);
        }
    }
    if (counts) {
        phx_fabric_on_issue(fabric, on_issue, s);
        count_issues(s);
    }
    return 0;
}

void phx_fault_freeze(struct phx_world *world, uint64_t at_ps)
{
    struct phx_fault_set *s = phx_fabric_of(world)->faults;
    phx_assert(s != NULL);
    later(s, at_ps, FAULT_FREEZE, 0, 0);
}

// --- looking ------------------------------------------------------------------------------------

uint64_t phx_fault_struck_ps(const struct phx_world *world, uint32_t index)
{
    const struct phx_fault_set *s = phx_fabric_of(world)->faults;
    phx_assert(s != NULL);
    phx_assert(index < s->count);
    return s->entries[index].struck_ps;
}

void phx_fault_struck_in(const struct phx_world *world, uint32_t index, uint32_t *kind,
                         uint64_t *number)
{
    const struct phx_fault_set *s = phx_fabric_of(world)->faults;
    phx_assert(s != NULL);
    phx_assert(index < s->count);
    *kind = s->entries[index].kind;
    *number = s->entries[index].number;
}

uint32_t phx_fault_struck_phase(const struct phx_world *world, uint32_t index)
{
    const struct phx_fault_set *s = phx_fabric_of(world)->faults;
    phx_assert(s != NULL);
    phx_assert(index < s->count);
    return s->entries[index].phase;
}

bool phx_fault_quiet(const struct phx_world *world)
{
    const struct phx_fabric *fabric = phx_fabric_of(world);
    if (fabric == NULL || fabric->faults == NULL)
        return true;
    for (uint32_t i = 0; i < fabric->faults->count; i++) {
        const struct entry *e = &fabric->faults->entries[i];
        if (e->armed || e->pending || e->ends)
            return false;
    }
    return true;
}
