// tests/test_scenario_write.c: what is written reads back as the same scenario, whatever it holds.

#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/network.h"
#include "tools/scenario.h"

static struct phx_scenario *parse(const char *text, const char *directory)
{
    const struct phx_scenario_options options = {.directory = directory};
    struct phx_scenario *s = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    int rc = phx_scenario_parse(text, strlen(text), &options, &s, &d);
    CHECK_MSG(rc == 0, "%u:%u: %s in\n%s", d.place.line, d.place.column, d.message.text, text);
    return s;
}

static char *written(const struct phx_scenario *s)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out != NULL);
    CHECK_EQ(phx_scenario_write(out, s), 0);
    CHECK_EQ(fclose(out), 0);
    return text;
}

// --- equality, field by field -------------------------------------------------------------------

#define SAME(member) CHECK_MSG(a->member == b->member, #member " differs in\n%s", text)

static void same_load(const struct phx_moe_load *a, const struct phx_moe_load *b, const char *text)
{
    SAME(steps);
    SAME(layers);
    SAME(tokens);
    SAME(hidden);
    SAME(experts);
    SAME(top_k);
    SAME(dtype);
    SAME(scales);
    SAME(rows);
    SAME(layout);
    SAME(routing);
    SAME(zipf_millionths);
    SAME(trace_rows);
    SAME(hooks);
    SAME(renormalise);
    if (a->trace_rows > 0)
        CHECK_MEM_EQ(a->trace, b->trace, a->trace_rows * a->top_k * sizeof *a->trace);
}

static void same_fault(const struct phx_fault *a, const struct phx_fault *b, const char *text)
{
    SAME(kind);
    SAME(unit);
    SAME(rank);
    SAME(peer);
    SAME(duration_ps);
    SAME(delay_ps);
    SAME(period_ps);
    SAME(offset_ns);
    SAME(percent);
    SAME(ppm);
    SAME(count);
    SAME(member_count);
    SAME(is_caught);
    SAME(when.at_ps);
    SAME(when.rank);
    SAME(when.kind);
    SAME(when.phase);
    SAME(when.number);
    SAME(when.after_puts);
    SAME(when.chance_ppm);
    SAME(when.event);
    for (uint32_t i = 0; i < a->member_count; i++)
        SAME(members[i]);
}

static void same_expectations(const struct phx_workload *a, const struct phx_workload *b,
                              const char *text)
{
    SAME(freeze_ps);
    SAME(expect.survivors_finish_within_ps);
    SAME(expect.lost_tokens_max);
    SAME(expect.alive);
    SAME(expect.progress_within_ps);
    SAME(expect.is_healthy_stay);
    SAME(expect.may_miss);
    SAME(expect.is_corrupt_checked);
    CHECK_MEM_EQ(&a->expect.alive_list, &b->expect.alive_list, sizeof a->expect.alive_list);
    CHECK_MEM_EQ(&a->expect.corrupt, &b->expect.corrupt, sizeof a->expect.corrupt);
}

static void same_run(const struct phx_scenario_run *a, const struct phx_scenario_run *b,
                     const char *text)
{
    SAME(is_given);
    SAME(seed);
    SAME(schedule.tie);
    SAME(schedule.pct_depth);
    SAME(schedule.pct_events);
    SAME(schedule.quantum_ps);
    SAME(trace_hash);
    CHECK_STR_EQ(a->bug, b->bug);
    CHECK_STR_EQ(a->rule, b->rule);
}

static void same_scenario(const struct phx_scenario *left, const struct phx_scenario *right,
                          const char *text)
{
    const struct phx_workload *a = &left->workload;
    const struct phx_workload *b = &right->workload;
    CHECK_STR_EQ(left->name, right->name);
    SAME(cluster.nodes);
    SAME(cluster.ranks_per_node);
    CHECK_STR_EQ(a->cluster.intra_node, b->cluster.intra_node);
    CHECK_STR_EQ(a->cluster.inter_node, b->cluster.inter_node);
    SAME(timeout_us);
    SAME(is_full);
    SAME(row_check);
    SAME(is_by_token);
    SAME(workers);
    SAME(load_count);
    SAME(fault_count);
    for (uint32_t i = 0; i < a->load_count && i < b->load_count; i++)
        same_load(&a->loads[i], &b->loads[i], text);
    for (uint32_t i = 0; i < a->fault_count && i < b->fault_count; i++)
        same_fault(&a->faults[i], &b->faults[i], text);
    same_expectations(a, b, text);
    same_run(&left->run, &right->run, text);
}

static void round_trip(const struct phx_scenario *s)
{
    char *text = written(s);
    struct phx_scenario *again = parse(text, NULL);
    char *twice = written(again);
    same_scenario(s, again, text);
    CHECK_STR_EQ(text, twice);
    phx_scenario_free(again);
    free(text);
    free(twice);
}

// --- drawn scenarios ----------------------------------------------------------------------------

struct dice {
    uint64_t seed;
    uint64_t number;
};

static uint32_t below(struct dice *d, uint32_t bound)
{
    return (uint32_t)phx_chance_below(bound, d->seed, PHX_CHANCE_FAULT, 0, d->number++);
}

static uint64_t wide(struct dice *d, uint64_t bound)
{
    return phx_chance_below(bound, d->seed, PHX_CHANCE_FAULT, 1, d->number++);
}

static void draw_load(struct dice *d, struct phx_moe_load *load)
{
    *load = (struct phx_moe_load){
        .steps = 1 + below(d, 5),
        .layers = 1 + below(d, 5),
        .tokens = below(d, 20),
        .hidden = 128 * (1 + below(d, 20)),
        .top_k = 1 + below(d, 4),
        .experts = 4 + below(d, 30),
        .dtype = below(d, 2) ? PHX_FP8_E4M3 : PHX_BF16,
        .scales = PHX_SCALE_F32,
        .rows = below(d, 2) ? PHX_ROWS_ONCE : PHX_ROWS_PER_EXPERT,
        .layout = below(d, 2) ? PHX_LAYOUT_SLOTS : PHX_LAYOUT_COMPACT,
        .routing = PHX_ROUTING_UNIFORM + below(d, 3),
        .hooks = below(d, 2),
        .renormalise = below(d, 2),
    };
    if (load->dtype == PHX_FP8_E4M3 && below(d, 2))
        load->scales = PHX_SCALE_UE8M0;
    if (load->routing == PHX_ROUTING_ZIPF)
        load->zipf_millionths = below(d, 8000001);
}

// Every kind has those fields alone that its keys in a file give it.
static void draw_kind(struct dice *d, struct phx_scenario *s, uint32_t ranks, struct phx_fault *f)
{
    f->kind = PHX_FAULT_KILL + below(d, PHX_FAULT_BIT_FLIP);
    while (f->kind == PHX_FAULT_RESTART)
        f->kind = PHX_FAULT_KILL + below(d, PHX_FAULT_BIT_FLIP);
    bool is_unit = f->kind <= PHX_FAULT_PAUSE;
    bool is_link = (f->kind >= PHX_FAULT_LINK_DOWN && f->kind <= PHX_FAULT_LINK_LOSSY) ||
                   f->kind == PHX_FAULT_DELAY || f->kind == PHX_FAULT_DUPLICATE;
    f->unit = is_unit ? PHX_UNIT_PROCESS + below(d, 4) : is_link ? 0 : PHX_UNIT_PROCESS;
    f->peer = PHX_FAULT_ANY;
    f->rank = below(d, ranks);
    if (f->kind == PHX_FAULT_PARTITION)
        f->unit = 0;
    if (is_link && below(d, 2))
        f->peer = (f->rank + 1) % ranks;
    else if (is_link && below(d, 2))
        f->unit = PHX_UNIT_HOST + below(d, 3);
    bool lasts = f->kind <= PHX_FAULT_HANG || f->kind == PHX_FAULT_LINK_FLAP ||
                 f->kind >= PHX_FAULT_CLOCK_OFFSET;
    if (f->kind == PHX_FAULT_PAUSE || (!lasts && below(d, 2)))
        f->duration_ps = 1 + wide(d, 1000000000);
    if (f->kind == PHX_FAULT_SLOW || f->kind == PHX_FAULT_LINK_DEGRADED)
        f->percent = 1 + below(d, 100);
    if (f->kind == PHX_FAULT_LINK_LOSSY || f->kind == PHX_FAULT_DUPLICATE)
        f->ppm = 1 + below(d, 1000000);
    if (f->kind == PHX_FAULT_LINK_FLAP)
        f->period_ps = 2 + wide(d, 1000000000);
    if (f->kind == PHX_FAULT_LINK_FLAP || f->kind == PHX_FAULT_BIT_FLIP)
        f->count = 1 + below(d, 100);
    if (f->kind == PHX_FAULT_DELAY)
        f->delay_ps = 1 + wide(d, 1000000000);
    if (f->kind == PHX_FAULT_CLOCK_OFFSET)
        f->offset_ns = (int64_t)wide(d, 2000000000) - 1000000000;
    f->is_caught = f->kind == PHX_FAULT_BIT_FLIP && below(d, 2);
    if (f->kind != PHX_FAULT_PARTITION)
        return;
    f->members = &s->members[s->member_count];
    for (uint32_t r = 0; r < ranks; r++)
        if (below(d, 2) && f->member_count + 1 < ranks)
            s->members[s->member_count + f->member_count++] = r;
    if (f->member_count == 0)
        s->members[s->member_count + f->member_count++] = ranks - 1;
    s->member_count += f->member_count;
    f->rank = f->members[0];
}

static void draw_when(struct dice *d, uint32_t ranks, struct phx_fault_when *when)
{
    if (below(d, 3) == 0)
        when->chance_ppm = 1 + below(d, 1000000);
    if (below(d, 4) == 0) {
        when->at_ps = wide(d, 1000000000000);
        return;
    }
    when->rank = PHX_FAULT_ANY;
    if (below(d, 3) == 0) {
        when->event = 1 + wide(d, UINT64_C(1) << 48);
        return;
    }
    when->kind = below(d, 2) ? PHX_DISPATCH : PHX_COMBINE;
    when->number = when->chance_ppm != 0 && below(d, 2) ? 0 : 1;
    if (below(d, 2))
        when->rank = below(d, ranks);
    if (below(d, 2))
        when->after_puts = below(d, 1000);
    else if (below(d, 2))
        when->phase =
            (when->kind == PHX_DISPATCH ? PHX_PHASE_DISPATCH_SEND : PHX_PHASE_COMBINE_SEND) +
            below(d, 3);
}

static void draw_expectations(struct dice *d, uint32_t ranks, struct phx_workload *w)
{
    struct phx_expectation *e = &w->expect;
    if (below(d, 2))
        e->survivors_finish_within_ps = wide(d, 1000000000000);
    if (below(d, 2))
        e->lost_tokens_max = wide(d, 1000000);
    e->alive = below(d, 4);
    for (uint32_t r = 0; r < ranks && e->alive == PHX_ALIVE_LIST; r++)
        if (below(d, 2))
            e->alive_list.words[0] |= UINT64_C(1) << r;
    if (below(d, 2))
        w->freeze_ps = UINT64_C(1000000000001) + wide(d, 1000000000000);
    if (w->freeze_ps != 0 && below(d, 2))
        e->progress_within_ps = 1 + wide(d, 1000000000000);
    e->is_healthy_stay = below(d, 2);
    e->may_miss = below(d, 2);
    e->is_corrupt_checked = below(d, 2);
    if (e->is_corrupt_checked && below(d, 2))
        e->corrupt.words[0] |= UINT64_C(1) << below(d, ranks);
}

static void draw_run(struct dice *d, struct phx_scenario_run *run)
{
    run->is_given = true;
    run->seed = below(d, 2) ? UINT64_MAX : wide(d, 1000);
    run->schedule.tie = (enum phx_tie)below(d, 4); // 0: as the program likes
    if (below(d, 2))
        run->schedule.pct_depth = 1 + below(d, PHX_PCT_DEPTH_MAX);
    if (below(d, 2))
        run->schedule.pct_events = 1 + wide(d, UINT64_MAX);
    if (below(d, 2))
        run->schedule.quantum_ps = wide(d, PHX_QUANTUM_PS_MAX);
    if (below(d, 2))
        (void)snprintf(run->bug, sizeof run->bug, "a-bug-of-31-bytes-at-most-%05u", below(d, 99));
    if (below(d, 2))
        (void)snprintf(run->rule, sizeof run->rule, "unsignalled-read");
    if (below(d, 2))
        run->trace_hash = wide(d, UINT64_MAX);
}

static void draw_name(struct dice *d, char *name)
{
    static const char *const pieces[] = {"a rank",   " ",      "\"",       "\\",     ": #",
                                         "\n",       "\t",     "\x7f",     "'",      "\u00e9",
                                         "\u2028",   "\u4e2d", "{[,]}",    "\ufeff", "-",
                                         "\xc2\x85", "0x10",   "&*!|>%@`", "null",   "\U0001F600"};
    name[0] = '\0';
    for (uint32_t count = 1 + below(d, 6); count > 0; count--)
        strcat(name, pieces[below(d, sizeof pieces / sizeof pieces[0])]);
}

TEST(scenario_reads_back_what_it_wrote)
{
    struct phx_scenario *base = parse("cluster: {nodes: 1, ranks_per_node: 1}\n"
                                      "workload: [{moe: {tokens: 1, hidden: 128, experts: 1, "
                                      "top_k: 1}}]\n",
                                      NULL);
    struct phx_scenario *s = malloc(sizeof *s);
    CHECK(s != NULL);
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct dice d = {.seed = seed};
        memcpy(s, base, sizeof *s);
        struct phx_workload *w = &s->workload;
        w->loads = s->loads;
        w->faults = s->faults;
        if (below(&d, 4) != 0)
            draw_name(&d, s->name);
        w->cluster.nodes = 1 + below(&d, 4);
        w->cluster.ranks_per_node = 2 + below(&d, 7);
        if (below(&d, 2))
            w->cluster.inter_node = "ethernet_25g";
        uint32_t ranks = w->cluster.nodes * w->cluster.ranks_per_node;
        w->timeout_us = 1 + wide(&d, UINT64_C(1) << 40);
        w->is_full = below(&d, 2);
        w->row_check = below(&d, 2);
        w->is_by_token = below(&d, 2);
        w->workers = below(&d, 65);
        w->load_count = 1 + below(&d, 3);
        for (uint32_t i = 0; i < w->load_count; i++)
            draw_load(&d, &s->loads[i]);
        w->fault_count = below(&d, 6);
        memset(s->faults, 0, sizeof s->faults[0] * 6);
        for (uint32_t i = 0; i < w->fault_count; i++) {
            draw_kind(&d, s, ranks, &s->faults[i]);
            draw_when(&d, ranks, &s->faults[i].when);
        }
        draw_expectations(&d, ranks, w);
        if (below(&d, 2))
            draw_run(&d, &s->run);
        round_trip(s);
    }
    free(s);
    phx_scenario_free(base);
}

TEST(scenario_writes_the_shortest_form)
{
    struct phx_scenario *s = parse(
        "cluster: {ranks_per_node: 4, nodes: 2, inter_node: roce_400g}\n"
        "workload: [{moe: {steps: 1, tokens: 8, hidden: 256, experts: 16, top_k: 4, dispatch: "
        "fp8, routing: {zipf: 1.10}}}]\n"
        "faults:\n"
        "  - {kill: {rank: last, unit: process}, when: {operation: combine, phase: done, number: "
        "1}}\n"
        "  - {bit_flip: {rank: first, count: 2, caught: true}, when: {operation: dispatch, "
        "after_puts: 3}, chance_ppm: 250000}\n"
        "expect: {frozen_after_us: 900.5, every_fault_strikes: true, corrupt: []}\n"
        "run: {seed: 7, tie: pct, trace_hash: 00000000000000ff, rule: progress}\n",
        NULL);
    char *text = written(s);
    CHECK_STR_EQ(text,
                 "cluster: {nodes: 2, ranks_per_node: 4}\n"
                 "workload:\n"
                 "  - moe: {tokens: 8, hidden: 256, experts: 16, top_k: 4, routing: {zipf: 1.1}}\n"
                 "faults:\n"
                 "  - {kill: {rank: 7}, when: {operation: combine, number: 1, phase: done}}\n"
                 "  - {bit_flip: {rank: 0, count: 2, caught: true}, when: {operation: dispatch, "
                 "after_puts: 3}, chance_ppm: 250000}\n"
                 "expect:\n"
                 "  frozen_after_us: 900.5\n"
                 "  corrupt: []\n"
                 "run:\n"
                 "  seed: 7\n"
                 "  tie: pct\n"
                 "  rule: progress\n"
                 "  trace_hash: 00000000000000ff\n");
    free(text);
    phx_scenario_free(s);
}

TEST(scenario_writes_a_routing_trace_by_its_absolute_path)
{
    struct phx_scenario *s = parse("cluster: {nodes: 1, ranks_per_node: 4}\n"
                                   "workload: [{moe: {tokens: 8, hidden: 256, experts: 64, top_k: "
                                   "8, routing: {npy: routing/skewed-64-experts.npy}}}]\n",
                                   "scenarios");
    CHECK_EQ(s->loads[0].routing, PHX_ROUTING_TRACE);
    CHECK(s->loads[0].trace_rows > 0);
    CHECK_EQ(s->trace_paths[0][0], '/');
    round_trip(s); // reads it from another directory
    phx_scenario_free(s);
}
