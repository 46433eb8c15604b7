// tools/explore_draw.c: everything of a run but its faults, drawn from its number.
//
// Every knob is drawn anew for each run, so that runs differ in what they have at all (swarm
// testing) and not just in degree. A draw is keyed by its knob: a new knob leaves the others as
// they were. Small values are frequent, because most mistakes show in small runs and those are
// fast.

#include <stdio.h>
#include <string.h>

#include "sim/network.h"
#include "tools/explore.h"

enum knob {
    KNOB_RANKS_CLASS = 1,
    KNOB_RANKS,
    KNOB_NODES,
    KNOB_INTRA,
    KNOB_INTER,
    KNOB_TIMEOUT,
    KNOB_WORKERS,
    KNOB_FULL,
    KNOB_ROW_CHECK,
    KNOB_LOADS,
    KNOB_PAIRS,
    KNOB_LAYERS,
    KNOB_TOKENS_CLASS,
    KNOB_TOKENS,
    KNOB_HIDDEN,
    KNOB_EXPERTS_CLASS,
    KNOB_EXPERTS,
    KNOB_TOP_K,
    KNOB_DTYPE,
    KNOB_SCALES,
    KNOB_ROWS,
    KNOB_LAYOUT,
    KNOB_ROUTING,
    KNOB_ZIPF,
    KNOB_HOOKS,
    KNOB_RENORMALISE,
    KNOB_TIE,
    KNOB_PCT_DEPTH,
    KNOB_PCT_EVENTS,
    KNOB_QUANTUM,
    KNOB_FREEZE,
    KNOB_FREEZE_AT,
    KNOB_BASE,
    KNOB_BASE_FAULTS,
    KNOB_BASE_LOADS,
    KNOB_DIVISION
};

#define US UINT64_C(1000000) // in ps
// Below this a rank without a fault of its own may be late, and is masked: nothing is promised.
#define TIMEOUT_SURE_US 1000u

uint64_t phx_explore_pick(uint64_t seed, uint32_t knob, uint64_t which, uint64_t bound)
{
    return phx_chance_below(bound, seed, PHX_CHANCE_EXPLORE, knob, which);
}

static uint32_t pick(uint64_t seed, enum knob knob, uint64_t bound)
{
    return (uint32_t)phx_explore_pick(seed, knob, 0, bound);
}

static uint32_t at_most(uint32_t value, uint32_t bound)
{
    return value < bound ? value : bound;
}

// --- the cluster ---------------------------------------------------------------------------------

static const char *preset_pick(uint64_t seed, enum knob knob, enum phx_plane plane)
{
    uint32_t count = 0;
    for (uint32_t i = 0; phx_preset_at(i) != NULL; i++)
        count += phx_preset_at(i)->plane == plane;
    uint32_t chosen = pick(seed, knob, count);
    for (uint32_t i = 0;; i++)
        if (phx_preset_at(i)->plane == plane && chosen-- == 0)
            return phx_preset_at(i)->name;
}

static void draw_cluster(uint64_t seed, const struct phx_explore_limits *limits,
                         struct phx_cluster *cluster)
{
    static const uint32_t tops[8] = {3, 4, 4, 4, 6, 6, 8, 16};
    uint32_t top = at_most(tops[pick(seed, KNOB_RANKS_CLASS, 8)], limits->ranks_max);
    uint32_t ranks = top < 2 ? 1 : 2 + pick(seed, KNOB_RANKS, top - 1);
    uint32_t shapes = 0;
    for (uint32_t nodes = 1; nodes <= ranks; nodes++)
        shapes += ranks % nodes == 0;
    uint32_t chosen = pick(seed, KNOB_NODES, shapes);
    for (uint32_t nodes = 1; nodes <= ranks; nodes++)
        if (ranks % nodes == 0 && chosen-- == 0)
            *cluster = (struct phx_cluster){.nodes = nodes, .ranks_per_node = ranks / nodes};
    cluster->intra_node = preset_pick(seed, KNOB_INTRA, PHX_PLANE_NVLINK);
    cluster->inter_node = preset_pick(seed, KNOB_INTER, PHX_PLANE_NIC);
}

static uint32_t ranks_of(const struct phx_scenario *s)
{
    return s->workload.cluster.nodes * s->workload.cluster.ranks_per_node;
}

// --- loads ---------------------------------------------------------------------------------------

static void draw_load(const struct phx_campaign *c, uint64_t seed, uint32_t index, uint32_t ranks,
                      uint32_t pairs_max, struct phx_moe_load *load)
{
#define PICK(knob, bound) (uint32_t) phx_explore_pick(seed, (knob), index, (bound))
    uint32_t pairs = 1 + PICK(KNOB_PAIRS, pairs_max);
    uint32_t layers = pairs > 1 && PICK(KNOB_LAYERS, 4) == 0 ? 2 : 1;
    static const uint32_t tokens[4] = {2, 4, 8, 16};
    uint32_t tokens_max = at_most(tokens[PICK(KNOB_TOKENS_CLASS, 4)], c->limits.tokens_max);
    static const uint32_t experts[4] = {1, 1, 2, 4}; // most per rank
    uint32_t experts_max = experts[PICK(KNOB_EXPERTS_CLASS, 4)] * ranks;
    static const uint64_t zipf[4] = {0, 500000, 1100000, 3000000};
    static const uint32_t hidden[8] = {1, 1, 1, 2, 2, 3, 4, 4};
    *load = (struct phx_moe_load){
        .steps = pairs / layers,
        .layers = layers,
        .tokens = PICK(KNOB_TOKENS, tokens_max + 1),
        .hidden = PHX_HIDDEN_MULTIPLE * hidden[PICK(KNOB_HIDDEN, 8)],
        .experts = 1 + PICK(KNOB_EXPERTS, experts_max),
        .dtype = PICK(KNOB_DTYPE, 2) == 0 ? PHX_FP8_E4M3 : PHX_BF16,
        .scales = PHX_SCALE_F32,
        .rows = PICK(KNOB_ROWS, 3) == 0 ? PHX_ROWS_PER_EXPERT : PHX_ROWS_ONCE,
        .layout = PICK(KNOB_LAYOUT, 2) == 0 ? PHX_LAYOUT_COMPACT : PHX_LAYOUT_SLOTS,
        .routing = PHX_ROUTING_UNIFORM + PICK(KNOB_ROUTING, 3),
        .hooks = PICK(KNOB_HOOKS, 3) == 0,
        .renormalise = PICK(KNOB_RENORMALISE, 4) == 0,
    };
    load->top_k = 1 + PICK(KNOB_TOP_K, at_most(load->experts, 8));
    if (load->dtype == PHX_FP8_E4M3 && PICK(KNOB_SCALES, 2) == 0)
        load->scales = PHX_SCALE_UE8M0;
    if (load->routing == PHX_ROUTING_ZIPF)
        load->zipf_millionths = zipf[PICK(KNOB_ZIPF, 4)];
#undef PICK
}

static void draw_loads(const struct phx_campaign *c, uint64_t seed, struct phx_scenario *s)
{
    uint32_t pairs_max = c->limits.pairs_max;
    uint32_t loads = pairs_max >= 2 && pick(seed, KNOB_LOADS, 8) == 0 ? 2 : 1;
    s->workload.load_count = loads;
    for (uint32_t i = 0; i < loads; i++)
        draw_load(c, seed, i, ranks_of(s), pairs_max / loads, &s->loads[i]);
}

// --- bases ---------------------------------------------------------------------------------------

// The base's cluster, made smaller where it is too large; its nodes keep their shape if they can.
static void scale_cluster(const struct phx_campaign *c, struct phx_cluster *cluster)
{
    uint32_t most = c->limits.ranks_max;
    cluster->ranks_per_node = at_most(cluster->ranks_per_node, most);
    if (cluster->nodes > 1 && cluster->ranks_per_node > 1 && cluster->ranks_per_node > most / 2)
        cluster->ranks_per_node = most / 2 > 0 ? most / 2 : 1; // so that there are two nodes
    uint32_t nodes = most / cluster->ranks_per_node;
    cluster->nodes = at_most(cluster->nodes, nodes > 0 ? nodes : 1);
}

static void scale_load(const struct phx_campaign *c, uint64_t seed, uint32_t index,
                       struct phx_moe_load *load)
{
    uint64_t pairs = (uint64_t)load->steps * load->layers;
    if (pairs > c->limits.pairs_max) {
        load->layers = at_most(load->layers, c->limits.pairs_max);
        load->steps = c->limits.pairs_max / load->layers;
    }
    uint32_t tokens = at_most(load->tokens, c->limits.tokens_max);
    load->tokens =
        tokens > 0 ? 1 + (uint32_t)phx_explore_pick(seed, KNOB_TOKENS, index, tokens) : 0;
    load->hidden = at_most(load->hidden, 4 * PHX_HIDDEN_MULTIPLE);
    load->experts = at_most(load->experts, 4 * c->limits.ranks_max);
    load->top_k = at_most(load->top_k, load->experts);
}

static bool fault_fits(const struct phx_fault *f, uint32_t ranks, uint64_t pairs)
{
    if (f->rank >= ranks || (f->peer != PHX_FAULT_ANY && f->peer >= ranks) ||
        (f->when.rank != PHX_FAULT_ANY && f->when.rank >= ranks) || f->when.number > pairs)
        return false;
    for (uint32_t i = 0; i < f->member_count; i++)
        if (f->members[i] >= ranks)
            return false;
    return f->kind != PHX_FAULT_PARTITION || f->member_count < ranks;
}

static uint64_t pairs_of(const struct phx_scenario *s)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < s->workload.load_count; i++) {
        uint64_t pairs = (uint64_t)s->loads[i].steps * s->loads[i].layers;
        most = pairs > most ? pairs : most;
    }
    return most;
}

static void keep_faults(struct phx_scenario *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->workload.fault_count; i++)
        if (fault_fits(&s->faults[i], ranks_of(s), pairs_of(s)))
            s->faults[kept++] = s->faults[i];
    s->workload.fault_count = kept;
}

static const struct phx_expectation NO_EXPECTATION = {
    .survivors_finish_within_ps = PHX_EXPECT_NONE,
    .lost_tokens_max = PHX_EXPECT_NONE,
};

static void take_base(const struct phx_campaign *c, uint64_t seed, struct phx_scenario *s)
{
    phx_scenario_copy(s, c->bases[pick(seed, KNOB_BASE, c->base_count)]);
    scale_cluster(c, &s->workload.cluster);
    if (pick(seed, KNOB_BASE_LOADS, 4) != 0 || c->keeps_expectations) {
        for (uint32_t i = 0; i < s->workload.load_count; i++)
            scale_load(c, seed, i, &s->loads[i]);
    } else {
        draw_loads(c, seed, s);
    }
    if (pick(seed, KNOB_BASE_FAULTS, 2) == 0 || c->keeps_expectations)
        keep_faults(s);
    else
        s->workload.fault_count = 0;
    if (!c->keeps_expectations) {
        s->workload.expect = NO_EXPECTATION;
        s->workload.freeze_ps = 0;
    }
}

// --- the run -------------------------------------------------------------------------------------

static void draw_schedule(uint64_t seed, uint32_t tie, struct phx_schedule *schedule)
{
    static const uint64_t quanta_ps[8] = {0, 0, 0, 0, 1000, 20000, 200000, 1000000};
    static const uint64_t events[4] = {300, 1000, 3000, 10000};
    *schedule = (struct phx_schedule){
        .tie = (enum phx_tie)(tie != 0 ? tie : PHX_TIE_FIFO + pick(seed, KNOB_TIE, 3)),
        .quantum_ps = quanta_ps[pick(seed, KNOB_QUANTUM, 8)],
    };
    if (schedule->tie != PHX_TIE_PCT)
        return;
    schedule->pct_depth = 1 + pick(seed, KNOB_PCT_DEPTH, 5);
    schedule->pct_events = events[pick(seed, KNOB_PCT_EVENTS, 4)];
}

// True for a fault that comes once: it stops or slows a rank, or cuts a path for a while. What
// delays single messages again and again (a lane that waits for its retry timer, and then again)
// may delay what a rank says of its own lateness, too.
bool phx_explore_is_confined(const struct phx_fault *f)
{
    if (f->kind == PHX_FAULT_LINK_FLAP)
        return f->count == 1;
    return f->kind != PHX_FAULT_LINK_LOSSY && f->kind != PHX_FAULT_BIT_FLIP;
}

// What holds whatever the faults do. Two phases: safety throughout, and progress after a freeze.
static void draw_expectations(uint64_t seed, struct phx_scenario *s)
{
    struct phx_workload *w = &s->workload;
    if (w->fault_count == 0) {
        w->expect.alive = PHX_ALIVE_ALL;
        w->expect.lost_tokens_max = 0;
        return;
    }
    if (w->timeout_us < TIMEOUT_SURE_US)
        return;
    // One fault alone: after two, a rank can be late by more than a deadline, and then by another.
    // One load: who is late in a group says so there, and not in the next load's.
    w->expect.is_healthy_stay =
        w->fault_count == 1 && w->load_count == 1 && phx_explore_is_confined(&w->faults[0]);
    if (pick(seed, KNOB_FREEZE, 2) != 0)
        return;
    w->freeze_ps = 50 * US + phx_explore_pick(seed, KNOB_FREEZE_AT, 0,
                                              pairs_of(s) * 60 * US + 2 * w->timeout_us * US);
    for (uint32_t i = 0; i < w->fault_count; i++) // none may be planned for later
        if (w->faults[i].when.at_ps >= w->freeze_ps)
            w->freeze_ps = w->faults[i].when.at_ps + 1;
}

static void draw_rest(const struct phx_campaign *c, uint64_t seed, struct phx_scenario *s)
{
    static const uint32_t timeouts_us[16] = {1000, 1000, 1000, 1000, 1000, 2000,  2000,  5000,
                                             5000, 100,  200,  300,  500,  50000, 20000, 1000000};
    static const uint32_t workers[8] = {1, 1, 2, 2, 3, 4, 4, 8};
    struct phx_workload *w = &s->workload;
    w->timeout_us = timeouts_us[pick(seed, KNOB_TIMEOUT, 16)];
    w->workers = workers[pick(seed, KNOB_WORKERS, 8)];
    w->is_full = pick(seed, KNOB_FULL, 8) == 0;
    w->row_check = pick(seed, KNOB_ROW_CHECK, 2) == 0;
    w->is_by_token = pick(seed, KNOB_DIVISION, 3) == 0;
    for (uint32_t i = 0; i < w->fault_count; i++) // a base's, meant for the first, a route message
        if (w->faults[i].kind == PHX_FAULT_BIT_FLIP && !w->faults[i].is_caught)
            w->is_by_token = false;
    phx_explore_draw_faults(c, seed, s);
    // Without a fault nobody may be lost, so nobody may be hurried either.
    if (w->fault_count == 0 && w->timeout_us < TIMEOUT_SURE_US)
        w->timeout_us = 10 * TIMEOUT_SURE_US;
}

void phx_explore_draw(const struct phx_campaign *c, uint64_t number, struct phx_scenario *s)
{
    if (c->is_systematic) {
        phx_systematic_draw(c, number, s);
        return;
    }
    memset(s, 0, sizeof *s);
    s->workload.loads = s->loads;
    s->workload.faults = s->faults;
    s->workload.expect = NO_EXPECTATION;
    if (c->base_count > 0) {
        take_base(c, number, s);
    } else {
        draw_cluster(number, &c->limits, &s->workload.cluster);
        draw_loads(c, number, s);
    }
    (void)snprintf(s->name, sizeof s->name, "drawn from seed %llu", (unsigned long long)number);
    draw_rest(c, number, s);
    if (!c->keeps_expectations)
        draw_expectations(number, s);
    memset(&s->run, 0, sizeof s->run);
    s->run.is_given = true;
    s->run.seed = number;
    draw_schedule(number, c->tie, &s->run.schedule);
    (void)snprintf(s->run.bug, sizeof s->run.bug, "%s", c->bug);
}

void phx_scenario_copy(struct phx_scenario *to, const struct phx_scenario *from)
{
    *to = *from;
    to->workload.loads = to->loads;
    to->workload.faults = to->faults;
    for (uint32_t i = 0; i < to->workload.fault_count; i++)
        if (from->faults[i].members != NULL)
            to->faults[i].members = to->members + (from->faults[i].members - from->members);
}
