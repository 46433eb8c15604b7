// tools/explore_systematic.c: one fault of each kind right after every event of a small run.
//
// Three ranks, two pairs, on NVLink and on a network; first with first-in-first-out ties, then with
// random ones, then with PCT. The seed of a set never changes, so that a run is that of no fault up
// to the event at which it strikes. With a file, its cluster and loads are taken instead, made
// smaller where they exceed the limits.

#include <stdio.h>
#include <string.h>

#include "tools/explore.h"

#define US UINT64_C(1000000) // in ps
#define TIMEOUT_US 1000u
#define SEED 1u
#define TIES 3u
#define VICTIM 1u

struct variant {
    uint32_t kind;
    uint32_t unit;
    uint32_t quarters; // duration in D/4; 0: for ever
    uint32_t amount;   // percent, ppm or count
    bool has_peer;     // the path to the next rank alone
};

static const struct variant VARIANTS[] = {
    {PHX_FAULT_KILL, PHX_UNIT_PROCESS, 0, 0, false},
    {PHX_FAULT_KILL, PHX_UNIT_HOST, 0, 0, false},
    {PHX_FAULT_KILL, PHX_UNIT_GPU, 0, 0, false},
    {PHX_FAULT_KILL, PHX_UNIT_NIC, 0, 0, false},
    {PHX_FAULT_HANG, PHX_UNIT_PROCESS, 0, 0, false},
    {PHX_FAULT_HANG, PHX_UNIT_HOST, 0, 0, false},
    {PHX_FAULT_HANG, PHX_UNIT_GPU, 0, 0, false},
    {PHX_FAULT_HANG, PHX_UNIT_NIC, 0, 0, false},
    {PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, 1, 0, false},
    {PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, 5, 0, false},
    {PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, 10, 0, false},
    {PHX_FAULT_PAUSE, PHX_UNIT_HOST, 5, 0, false},
    {PHX_FAULT_PAUSE, PHX_UNIT_GPU, 5, 0, false},
    {PHX_FAULT_PAUSE, PHX_UNIT_NIC, 5, 0, false},
    {PHX_FAULT_SLOW, PHX_UNIT_PROCESS, 0, 5, false},
    {PHX_FAULT_LINK_DOWN, 0, 0, 0, true},
    {PHX_FAULT_LINK_DOWN, 0, 2, 0, true},
    {PHX_FAULT_LINK_DOWN, 0, 6, 0, false},
    {PHX_FAULT_LINK_DOWN, PHX_UNIT_NIC, 6, 0, false},
    {PHX_FAULT_LINK_DOWN, PHX_UNIT_GPU, 6, 0, false},
    {PHX_FAULT_LINK_DOWN, PHX_UNIT_HOST, 6, 0, false},
    {PHX_FAULT_LINK_FLAP, 0, 1, 4, true},
    {PHX_FAULT_LINK_ONE_WAY, 0, 0, 0, true},
    {PHX_FAULT_LINK_ONE_WAY, 0, 6, 0, true},
    {PHX_FAULT_LINK_DEGRADED, 0, 0, 1, true},
    {PHX_FAULT_LINK_LOSSY, 0, 0, 300000, true},
    {PHX_FAULT_PARTITION, 0, 0, 0, false},
    {PHX_FAULT_PARTITION, 0, 6, 0, false},
    {PHX_FAULT_DELAY, 0, 2, 0, true},
    {PHX_FAULT_DUPLICATE, 0, 0, 1000000, true},
    {PHX_FAULT_CLOCK_OFFSET, PHX_UNIT_PROCESS, 6, 0, false},
    {PHX_FAULT_BIT_FLIP, PHX_UNIT_PROCESS, 0, 1, false},
};
#define VARIANT_COUNT (sizeof VARIANTS / sizeof VARIANTS[0])

static void own_shape(struct phx_scenario *s, uint32_t set)
{
    s->workload.cluster = (struct phx_cluster){
        .nodes = set < TIES ? 3 : 1,
        .ranks_per_node = set < TIES ? 1 : 3,
        .intra_node = "nvlink4",
        .inter_node = "roce_400g",
    };
    s->workload.load_count = 1;
    s->workload.timeout_us = TIMEOUT_US;
    s->workload.workers = 2;
    s->loads[0] = (struct phx_moe_load){
        .steps = 2,
        .layers = 1,
        .tokens = 4,
        .hidden = PHX_HIDDEN_MULTIPLE,
        .experts = 6,
        .top_k = 2,
        .dtype = PHX_FP8_E4M3,
        .scales = PHX_SCALE_F32,
        .rows = PHX_ROWS_ONCE,
        .layout = PHX_LAYOUT_SLOTS,
        .routing = PHX_ROUTING_UNIFORM,
    };
}

static uint32_t at_most(uint32_t value, uint32_t bound)
{
    return value < bound ? value : bound;
}

static void base_shape(const struct phx_campaign *c, struct phx_scenario *s)
{
    struct phx_cluster *cluster = &s->workload.cluster;
    phx_scenario_copy(s, c->bases[0]);
    s->workload.fault_count = 0;
    s->member_count = 0;
    cluster->ranks_per_node = at_most(cluster->ranks_per_node, c->limits.ranks_max);
    cluster->nodes = at_most(cluster->nodes, c->limits.ranks_max / cluster->ranks_per_node);
    for (uint32_t i = 0; i < s->workload.load_count; i++) {
        struct phx_moe_load *load = &s->loads[i];
        load->layers = at_most(load->layers, c->limits.pairs_max);
        load->steps = at_most(load->steps, c->limits.pairs_max / load->layers);
        load->tokens = at_most(load->tokens, c->limits.tokens_max);
    }
}

static void fault_fill(struct phx_scenario *s, const struct variant *v, uint64_t event)
{
    struct phx_fault *f = &s->faults[0];
    uint32_t ranks = s->workload.cluster.nodes * s->workload.cluster.ranks_per_node;
    uint64_t duration_ps = v->quarters * s->workload.timeout_us * US / 4;
    uint32_t victim = ranks > VICTIM ? VICTIM : 0;
    memset(f, 0, sizeof *f);
    s->workload.fault_count = 1;
    *f = (struct phx_fault){
        .kind = v->kind,
        .unit = v->unit,
        .rank = victim,
        .peer = v->has_peer && ranks > 1 ? (victim + 1) % ranks : PHX_FAULT_ANY,
        .when = {.rank = PHX_FAULT_ANY, .event = event},
    };
    switch (v->kind) {
    case PHX_FAULT_SLOW:
    case PHX_FAULT_LINK_DEGRADED:
        f->percent = v->amount;
        break;
    case PHX_FAULT_LINK_LOSSY:
    case PHX_FAULT_DUPLICATE:
        f->ppm = v->amount;
        break;
    case PHX_FAULT_LINK_FLAP:
        f->count = v->amount;
        f->period_ps = duration_ps;
        return;
    case PHX_FAULT_DELAY:
        f->delay_ps = duration_ps;
        return;
    case PHX_FAULT_CLOCK_OFFSET:
        f->offset_ns = (int64_t)(duration_ps / 1000);
        return;
    case PHX_FAULT_BIT_FLIP:
        f->count = v->amount;
        f->is_caught = true;
        return;
    case PHX_FAULT_PARTITION:
        s->members[0] = victim;
        s->member_count = 1;
        f->members = s->members;
        f->member_count = 1;
        break;
    default:
        break;
    }
    f->duration_ps = duration_ps;
}

static uint32_t set_count(const struct phx_campaign *c)
{
    return c->base_count > 0 ? TIES : PHX_SYSTEMATIC_SETS;
}

static void set_draw(const struct phx_campaign *c, uint32_t set, struct phx_scenario *s)
{
    memset(s, 0, sizeof *s);
    s->workload.loads = s->loads;
    s->workload.faults = s->faults;
    if (c->base_count > 0)
        base_shape(c, s);
    else
        own_shape(s, set);
    s->workload.expect = (struct phx_expectation){
        .survivors_finish_within_ps = PHX_EXPECT_NONE,
        .lost_tokens_max = PHX_EXPECT_NONE,
    };
    memset(&s->run, 0, sizeof s->run);
    s->run.is_given = true;
    s->run.seed = SEED;
    s->run.schedule.tie = (enum phx_tie)(PHX_TIE_FIFO + set % TIES);
    if (s->run.schedule.tie != PHX_TIE_FIFO)
        s->run.schedule.quantum_ps = 200000; // so that there are ties
    if (s->run.schedule.tie == PHX_TIE_PCT)
        s->run.schedule.pct_events = 1000;
    (void)snprintf(s->run.bug, sizeof s->run.bug, "%s", c->bug);
}

int phx_systematic_open(struct phx_campaign *c, struct phx_message *message)
{
    static struct phx_scenario s; // large
    c->count = 0;
    for (uint32_t set = 0; set < set_count(c); set++) {
        struct phx_trial trial;
        set_draw(c, set, &s);
        (void)snprintf(s.name, sizeof s.name, "set %u without a fault", set);
        s.workload.expect.alive = PHX_ALIVE_ALL;
        phx_trial_run(&s, &trial);
        if (trial.verdict != PHX_VERDICT_PASSED)
            return phx_fail(message, PHX_ERR_STATE, "the run without a fault already fails: %s: %s",
                            trial.rule, trial.text);
        c->systematic_events[set] = trial.events;
        c->count += VARIANT_COUNT * trial.events;
    }
    return 0;
}

void phx_systematic_draw(const struct phx_campaign *c, uint64_t number, struct phx_scenario *s)
{
    uint32_t set = 0;
    while (number >= VARIANT_COUNT * c->systematic_events[set])
        number -= VARIANT_COUNT * c->systematic_events[set++];
    const struct variant *v = &VARIANTS[number % VARIANT_COUNT];
    uint64_t event = 1 + number / VARIANT_COUNT;
    set_draw(c, set, s);
    fault_fill(s, v, event);
    s->workload.expect.is_healthy_stay = phx_explore_is_confined(&s->workload.faults[0]);
    (void)snprintf(s->name, sizeof s->name, "%s right after event %llu",
                   phx_fault_kind_name((enum phx_fault_kind)v->kind), (unsigned long long)event);
}
