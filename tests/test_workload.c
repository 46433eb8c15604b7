// tests/test_workload.c: a workload passes when all is well, and each checker can fail.

#include "tests/test.h"

#include <string.h>

#include "sim/workload.h"

static struct phx_moe_load small_load(void)
{
    return (struct phx_moe_load){
        .steps = 3,
        .layers = 1,
        .tokens = 8,
        .hidden = 256,
        .experts = 8,
        .top_k = 3,
        .dtype = PHX_FP8_E4M3,
        .scales = PHX_SCALE_F32,
        .rows = PHX_ROWS_ONCE,
        .layout = PHX_LAYOUT_SLOTS,
        .routing = PHX_ROUTING_UNIFORM,
    };
}

static struct phx_fault kill_of(uint32_t rank)
{
    return (struct phx_fault){
        .kind = PHX_FAULT_KILL,
        .unit = PHX_UNIT_PROCESS,
        .rank = rank,
        .peer = PHX_FAULT_ANY,
        .when = {.rank = PHX_FAULT_ANY, .kind = PHX_DISPATCH, .number = 2, .after_puts = 1},
    };
}

static struct phx_workload workload_of(const struct phx_moe_load *load,
                                       const struct phx_fault *fault)
{
    return (struct phx_workload){
        .cluster = {.nodes = 1,
                    .ranks_per_node = 4,
                    .intra_node = "nvlink4",
                    .inter_node = "roce_400g"},
        .loads = load,
        .load_count = 1,
        .timeout_us = 1000,
        .faults = fault,
        .fault_count = fault != NULL ? 1 : 0,
        .expect = {.survivors_finish_within_ps = PHX_EXPECT_NONE,
                   .lost_tokens_max = PHX_EXPECT_NONE},
    };
}

static void run(const struct phx_workload *w, struct phx_summary *summary)
{
    // Pthreads: there in every build.
    struct phx_workload_options options = {
        .seed = 1, .schedule.tie = PHX_TIE_FIFO, .fibers = PHX_PTHREADS, .trace_path = NULL};
    struct phx_message message = {""};
    int rc = phx_workload_run(w, &options, summary, &message);
    CHECK_MSG(rc == 0, "%s", message.text);
}

// Runs it and checks that this rule, and no other, was broken.
static void check_breaks(const struct phx_workload *w, const char *rule)
{
    struct phx_summary s;
    run(w, &s);
    CHECK(!s.is_passed);
    CHECK(s.violation_count > 0);
    for (uint32_t i = 0; i < s.violation_count; i++)
        CHECK_STR_EQ(s.violations[i].rule, rule);
    uint32_t marked = 0;
    for (uint32_t i = 0; i < s.check_count; i++)
        marked += s.checks[i].violations;
    CHECK_EQ(marked, s.violation_count); // the summary's line fails, too
    phx_summary_free(&s);
}

TEST(workload_passes_in_every_form)
{
    for (uint32_t form = 0; form < 32; form++) {
        struct phx_moe_load load = small_load();
        load.dtype = form & 1 ? PHX_BF16 : PHX_FP8_E4M3;
        load.scales = form & 2 ? PHX_SCALE_UE8M0 : PHX_SCALE_F32;
        load.rows = form & 4 ? PHX_ROWS_PER_EXPERT : PHX_ROWS_ONCE;
        load.layout = form & 8 ? PHX_LAYOUT_COMPACT : PHX_LAYOUT_SLOTS;
        load.hooks = (form & 16) != 0;
        load.experts = 8 + form % 3; // with ranks that hold one more, too
        struct phx_workload w = workload_of(&load, NULL);
        w.is_full = form % 2 == 0;
        w.workers = 1 + form % 5;
        struct phx_summary s;
        run(&w, &s);
        CHECK_MSG(s.is_passed, "form %u: %s", form,
                  s.violation_count > 0 ? s.violations[0].text : "");
        CHECK_EQ(s.operations, 4 * 3 * 2);
        CHECK_EQ(s.lost_tokens, 0);
        CHECK_EQ(s.checks[0].count, 4 * 3);
        CHECK_EQ(s.checks[1].count, 4 * 3);
        phx_summary_free(&s);
    }
}

TEST(workload_survives_a_death)
{
    struct phx_moe_load load = small_load();
    struct phx_fault kill = kill_of(2);
    struct phx_workload w = workload_of(&load, &kill);
    struct phx_summary s;
    w.expect.alive = PHX_ALIVE_ALL_BUT_FAULTED;
    w.expect.survivors_finish_within_ps = UINT64_C(5000000000);
    run(&w, &s);
    CHECK_MSG(s.is_passed, "%s", s.violation_count > 0 ? s.violations[0].text : "");
    CHECK_EQ(s.strike_count, 1);
    CHECK_EQ(s.strikes[0].kind, PHX_DISPATCH);
    CHECK_EQ(s.strikes[0].number, 2);
    CHECK(s.strikes[0].within_ps > 0);
    CHECK(s.lost_tokens > 0);
    CHECK_EQ(s.finished.words[0], 0xB);
    CHECK_EQ(s.active.words[0], 0xB);
    phx_summary_free(&s);
}

TEST(workload_expectations_can_fail)
{
    struct phx_moe_load load = small_load();
    struct phx_fault kill = kill_of(2);
    struct phx_workload w = workload_of(&load, &kill);
    w.expect.alive = PHX_ALIVE_ALL;
    check_breaks(&w, "expect-alive");
    w = workload_of(&load, &kill);
    w.expect.survivors_finish_within_ps = 1;
    check_breaks(&w, "expect-finish");
    w = workload_of(&load, &kill);
    w.expect.lost_tokens_max = 0;
    check_breaks(&w, "expect-lost-tokens");
    kill.when.after_puts = 1000000;
    check_breaks(&w, "fault-did-not-strike");
}

TEST(workload_refuses_a_rank_that_dies_before_groups_open)
{
    struct phx_moe_load load = small_load();
    struct phx_fault kill = kill_of(2);
    struct phx_workload w = workload_of(&load, &kill);
    kill.when = (struct phx_fault_when){.rank = PHX_FAULT_ANY};
    check_breaks(&w, "open-peer-lost");
}

TEST(workload_says_which_stop_held_up_the_opening)
{
    struct phx_moe_load load = small_load();
    struct phx_fault hang = kill_of(2);
    struct phx_workload w = workload_of(&load, &hang);
    hang.kind = PHX_FAULT_HANG;
    hang.when = (struct phx_fault_when){.rank = PHX_FAULT_ANY};
    check_breaks(&w, "open-peer-stopped");
}

TEST(workload_finds_flipped_bits)
{
    struct phx_moe_load load = small_load();
    struct phx_fault flip = kill_of(2);
    struct phx_workload w = workload_of(&load, &flip);
    uint64_t found = 0;
    // What a flip hits decides who finds it: a route message has a check of its own, and costs its
    // source the group; a row has none, and only the comparison with the reference finds it.
    for (uint64_t at_ns = 20000; at_ns < 60000; at_ns += 1000) {
        struct phx_summary s;
        flip.kind = PHX_FAULT_BIT_FLIP;
        flip.count = 1;
        flip.when = (struct phx_fault_when){.at_ps = at_ns * 1000};
        run(&w, &s);
        for (uint32_t i = 0; i < s.violation_count; i++)
            found += strcmp(s.violations[i].rule, "dispatch-result") == 0 ||
                     strcmp(s.violations[i].rule, "combine-result") == 0;
        phx_summary_free(&s);
    }
    CHECK(found > 0);
}

TEST(workload_repeats)
{
    struct phx_moe_load load = small_load();
    struct phx_fault kill = kill_of(1);
    struct phx_workload w = workload_of(&load, &kill);
    struct phx_summary a;
    struct phx_summary b;
    run(&w, &a);
    run(&w, &b);
    CHECK_EQ(a.trace_hash, b.trace_hash);
    CHECK_EQ(a.events, b.events);
    CHECK_EQ(a.virtual_ns, b.virtual_ns);
    phx_summary_free(&a);
    phx_summary_free(&b);
}
