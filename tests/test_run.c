// tests/test_run.c: scenarios on real processes: faults strike where they should, what ranks leave
// behind is compared, and the simulator repeats what was recorded.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/workload.h"
#include "tests/test.h"
#include "tools/run.h"
#include "tools/run_history.h"
#include "tools/run_soak.h"

#if PHX_HAVE_BOOST_CONTEXT
#define FIBERS PHX_FIBERS
#else
#define FIBERS PHX_PTHREADS
#endif

// Slack makes the deadline 1 s where it must pass, and else 10 s: other programs may hold up a
// healthy rank for longer than 200 ms, and are no reason to give it up.
enum { RANKS = 4, PAIRS = 6, DEADLINE_US = 200000, SLACK_SHORT = 5, SLACK_LONG = 50 };

static const char SCENARIO[] = "name: a test\n"
                               "cluster: {nodes: 1, ranks_per_node: 4, intra_node: nvlink4}\n"
                               "workload:\n"
                               "  - moe: {steps: 3, layers: 2, tokens: 12, hidden: 256, experts: "
                               "10, top_k: 3%s}\n"
                               "timeout_us: 200000\n"
                               "faults: [%s]\n"
                               "expect: {%s}\n";

static struct phx_scenario *scenario_of(const char *moe, const char *faults, const char *expect)
{
    char text[1024];
    const struct phx_scenario_options options = {0};
    struct phx_scenario *s = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    (void)snprintf(text, sizeof text, SCENARIO, moe, faults, expect);
    int rc = phx_scenario_parse(text, strlen(text), &options, &s, &d);
    CHECK_MSG(rc == 0, "%u: %s", d.place.line, d.message.text);
    return s;
}

static void run(const struct phx_scenario *s, uint32_t slack, struct phx_summary *summary,
                struct phx_history *h)
{
    const struct phx_live_options options = {.seed = 7, .workers = 2, .slack = slack};
    struct phx_message message = {""};
    int rc = phx_live_run(&s->workload, &options, summary, h, &message);
    CHECK_MSG(rc == 0, "%s", message.text);
    for (uint32_t i = 0; i < summary->violation_count; i++)
        CHECK_MSG(false, "%s: rank %u: %s", summary->violations[i].rule,
                  summary->violations[i].rank, summary->violations[i].text);
    CHECK(summary->is_passed);
}

static void replay(const struct phx_scenario *s, const struct phx_history *h,
                   struct phx_summary *summary)
{
    const struct phx_workload_options options = {
        .seed = 7, .schedule.tie = PHX_TIE_FIFO, .fibers = FIBERS, .history = h};
    struct phx_workload w = s->workload;
    struct phx_message message = {""};
    w.fault_count = 0;
    w.expect = (struct phx_expectation){.survivors_finish_within_ps = PHX_EXPECT_NONE,
                                        .lost_tokens_max = PHX_EXPECT_NONE};
    CHECK_MSG(phx_workload_run(&w, &options, summary, &message) == 0, "%s", message.text);
}

static void replays(const struct phx_scenario *s, const struct phx_history *h)
{
    struct phx_summary summary;
    replay(s, h, &summary);
    CHECK_MSG(summary.is_passed, "%s", summary.violations[0].text);
    phx_summary_free(&summary);
}

TEST(run_compares_a_healthy_run_and_the_simulator_repeats_it)
{
    const char *const forms[] = {", layout: compact", ", dispatch: bf16, rows: per_expert",
                                 ", hooks: true"};
    for (uint32_t i = 0; i < 3; i++) {
        struct phx_scenario *s = scenario_of(forms[i], "", "");
        struct phx_summary summary;
        struct phx_history h;
        run(s, SLACK_LONG, &summary, &h);
        CHECK_EQ(summary.operations, 2 * PAIRS * RANKS);
        CHECK_EQ(summary.lost_tokens, 0);
        CHECK_EQ(summary.active.words[0], 0xF);
        CHECK_EQ(summary.live.slack, SLACK_LONG);
        for (uint32_t r = 0; r < RANKS; r++)
            CHECK_EQ(h.begun[r], 2 * PAIRS);
        replays(s, &h);
        phx_summary_free(&summary);
        phx_history_free(&h);
        phx_scenario_free(s);
    }
}

TEST(run_kills_a_rank_at_its_put_and_the_others_go_on)
{
    struct phx_scenario *s =
        scenario_of("", "{kill: {rank: 2}, when: {operation: dispatch, number: 3, after_puts: 4}}",
                    "alive: all_but_faulted, healthy_stay: true");
    struct phx_summary summary;
    struct phx_history h;
    run(s, SLACK_LONG, &summary, &h);
    CHECK_EQ(summary.finished.words[0], 0xB);
    CHECK_EQ(summary.active.words[0], 0xB);
    CHECK_EQ(summary.strikes[0].kind, PHX_DISPATCH);
    CHECK_EQ(summary.strikes[0].number, 3);
    CHECK(summary.lost_tokens > 0);
    CHECK_EQ(h.begun[2], 5); // two pairs, and the dispatch that it was struck in
    CHECK(phx_history_at(&h, 2, 3)->hash != 0);
    CHECK_EQ(phx_history_at(&h, 2, 4)->hash, 0);
    replays(s, &h);
    // A hash that is not the recorded one is noticed, and so is a mask.
    struct phx_summary wrong;
    phx_history_at(&h, 1, 6)->hash ^= 1;
    replay(s, &h, &wrong);
    CHECK_EQ(wrong.violation_count, 1);
    CHECK_STR_EQ(wrong.violations[0].rule, "replay-differs");
    CHECK_EQ(wrong.violations[0].rank, 1);
    CHECK_EQ(wrong.violations[0].number, 4);
    phx_summary_free(&wrong);
    phx_history_at(&h, 1, 6)->hash ^= 1;
    phx_history_at(&h, 1, 7)->first.words[0] &= ~UINT64_C(8); // rank 3 did not answer, it says now
    phx_history_fates(&h);
    replay(s, &h, &wrong);
    CHECK(!wrong.is_passed);
    phx_summary_free(&wrong);
    phx_summary_free(&summary);
    phx_history_free(&h);
    phx_scenario_free(s);
}

TEST(run_kills_a_rank_between_its_phases)
{
    struct phx_scenario *s =
        scenario_of("", "{kill: {rank: 0}, when: {operation: dispatch, number: 2, phase: done}}",
                    "alive: all_but_faulted");
    struct phx_summary summary;
    struct phx_history h;
    run(s, SLACK_LONG, &summary, &h);
    CHECK_EQ(summary.active.words[0], 0xE);
    CHECK_EQ(h.begun[0], 3);
    phx_summary_free(&summary);
    phx_history_free(&h);
    phx_scenario_free(s);
}

TEST(run_stops_a_rank_past_the_deadline_and_it_learns_that_it_is_out)
{
    struct phx_scenario *s =
        scenario_of("", "{pause: {rank: 1, for_us: 700000}, when: {operation: combine, number: 2}}",
                    "alive: [0, 2, 3], healthy_stay: true");
    struct phx_summary summary;
    struct phx_history h;
    run(s, SLACK_SHORT, &summary, &h);
    CHECK_EQ(summary.finished.words[0], 0xF);
    CHECK_EQ(summary.active.words[0], 0xD);
    CHECK_EQ(summary.live.away.words[0], 0x2);
    CHECK(summary.live.longest_ns >= DEADLINE_US * SLACK_SHORT * UINT64_C(1000));
    CHECK_EQ(phx_history_at(&h, 1, 2 * PAIRS - 1)->masked.words[0], 0xD);
    replays(s, &h);
    phx_summary_free(&summary);
    phx_history_free(&h);
    phx_scenario_free(s);
}

TEST(run_goes_on_without_a_rank_that_hangs)
{
    struct phx_scenario *s = scenario_of(
        "", "{hang: {rank: 3}, when: {operation: dispatch, number: 5}}", "alive: all_but_faulted");
    struct phx_summary summary;
    struct phx_history h;
    run(s, SLACK_SHORT, &summary, &h);
    CHECK_EQ(summary.finished.words[0], 0x7);
    phx_summary_free(&summary);
    phx_history_free(&h);
    phx_scenario_free(s);
}

// With hooks a rank is masked between two receives, with nothing sent in between, and ranks that
// stop leave operations half done. Who is masked, and when, is chance here; the simulator must
// repeat it, whatever it was.
static void hooked_replays(const char *moe, const char *fault, bool is_by_token)
{
    struct phx_scenario *s = scenario_of(moe, fault, "");
    struct phx_summary summary;
    struct phx_history h;
    bool is_masked = false;
    s->workload.is_by_token = is_by_token;
    run(s, SLACK_SHORT, &summary, &h);
    for (uint32_t i = 0; i < RANKS * 2 * PAIRS; i++)
        is_masked = is_masked || h.list[i].masked.words[0] != 0;
    CHECK(is_masked);
    replays(s, &h);
    phx_summary_free(&summary);
    phx_history_free(&h);
    phx_scenario_free(s);
}

TEST(run_with_hooks_is_repeated_when_a_rank_hangs)
{
    hooked_replays(", hooks: true, layout: compact",
                   "{hang: {rank: 3}, when: {operation: combine, number: 3, after_puts: 2}}",
                   false);
}

TEST(run_with_hooks_is_repeated_when_a_rank_pauses)
{
    hooked_replays(", hooks: true, layout: compact, rows: per_expert",
                   "{pause: {rank: 1, for_us: 500000}, when: {operation: combine, number: 3, "
                   "after_puts: 2}}",
                   true);
}

TEST(run_with_hooks_is_repeated_when_a_rank_is_killed)
{
    hooked_replays(", hooks: true, rows: per_expert, dispatch: bf16",
                   "{kill: {rank: 0}, when: {operation: dispatch, number: 4, phase: receive}}",
                   true);
}

TEST(run_notices_what_the_scenario_does_not_expect)
{
    struct phx_scenario *s =
        scenario_of("", "{kill: {rank: 2}, when: {operation: combine, number: 3, after_puts: 1}}",
                    "alive: all, lost_tokens_at_most: 0");
    const struct phx_live_options options = {.seed = 7, .workers = 1, .slack = SLACK_LONG};
    struct phx_message message = {""};
    struct phx_summary summary;
    struct phx_history h;
    CHECK_EQ(phx_live_run(&s->workload, &options, &summary, &h, &message), 0);
    CHECK(!summary.is_passed);
    bool is_alive = false;
    bool is_lost = false;
    for (uint32_t i = 0; i < summary.violation_count; i++) {
        is_alive = is_alive || strcmp(summary.violations[i].rule, "expect-alive") == 0;
        is_lost = is_lost || strcmp(summary.violations[i].rule, "expect-lost-tokens") == 0;
    }
    CHECK(is_alive);
    CHECK(is_lost);
    phx_summary_free(&summary);
    phx_history_free(&h);
    phx_scenario_free(s);
}

static void refused(struct phx_fault fault, const char *why)
{
    struct phx_scenario *s = scenario_of("", "", "");
    const struct phx_live_options options = {.slack = SLACK_LONG};
    struct phx_message message = {""};
    s->workload.faults = &fault;
    s->workload.fault_count = 1;
    CHECK_EQ(phx_live_check(&s->workload, &options, &message), PHX_ERR_UNSUPPORTED);
    CHECK_MSG(strstr(message.text, why) != NULL, "%s", message.text);
    CHECK_MSG(strstr(message.text, "shm") != NULL, "%s", message.text);
    phx_scenario_free(s);
}

TEST(run_refuses_by_name_what_it_cannot_make)
{
    for (uint32_t kind = PHX_FAULT_LINK_DOWN; kind <= PHX_FAULT_DUPLICATE; kind++)
        refused((struct phx_fault){.kind = kind}, "no link");
    refused((struct phx_fault){.kind = PHX_FAULT_RESTART}, "membership");
    refused((struct phx_fault){.kind = PHX_FAULT_CLOCK_OFFSET}, "clock");
    refused((struct phx_fault){.kind = PHX_FAULT_BIT_FLIP}, "bit flip, rank 0");
    refused((struct phx_fault){.kind = PHX_FAULT_KILL, .unit = PHX_UNIT_HOST}, "one host");
    refused((struct phx_fault){.kind = PHX_FAULT_HANG, .unit = PHX_UNIT_GPU}, "no GPU");
    refused((struct phx_fault){.kind = PHX_FAULT_SLOW, .unit = PHX_UNIT_NIC}, "no NIC");
    refused((struct phx_fault){.kind = PHX_FAULT_KILL, .when.event = 5}, "event");
    refused((struct phx_fault){.kind = PHX_FAULT_PAUSE, .when.chance_ppm = 5}, "chance");
}

// Who stops can't go on by itself, and a launcher that is not ours would not see to it.
TEST(run_refuses_stops_of_ranks_that_another_launcher_started)
{
    const uint32_t kinds[] = {PHX_FAULT_HANG, PHX_FAULT_PAUSE, PHX_FAULT_SLOW, PHX_FAULT_KILL};
    const struct phx_live_options options = {.slack = SLACK_LONG, .is_joined = true};
    struct phx_message message = {""};
    for (uint32_t i = 0; i < 4; i++) {
        struct phx_scenario *s = scenario_of("", "", "");
        const struct phx_fault fault = {.kind = kinds[i], .percent = 50, .when.at_ps = 1000};
        bool is_kill = kinds[i] == PHX_FAULT_KILL;
        s->workload.faults = &fault;
        s->workload.fault_count = 1;
        CHECK_EQ(phx_live_check(&s->workload, &options, &message),
                 is_kill ? 0 : PHX_ERR_UNSUPPORTED);
        CHECK_MSG(strstr(message.text, "only a launcher of ours") != NULL, "%s", message.text);
        phx_scenario_free(s);
    }
}

TEST(run_refuses_what_is_too_large)
{
    struct phx_scenario *s = scenario_of("", "", "");
    struct phx_live_options options = {.slack = PHX_LIVE_SLACK_MAX + 1};
    struct phx_message message = {""};
    struct phx_summary summary;
    struct phx_history h;
    CHECK_EQ(phx_live_check(&s->workload, &options, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "slack is 1000001; it may be 1 to 1000000");
    options.slack = 1;
    s->workload.cluster.ranks_per_node = 65;
    CHECK_EQ(phx_live_check(&s->workload, &options, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text,
                 "ranks is 65; over shm it may be 1 to 64 (--ranks N makes them fewer)");
    s->workload.cluster.ranks_per_node = 4;
    s->loads[0].steps = 400000; // 16 TiB of results
    CHECK_EQ(phx_live_run(&s->workload, &options, &summary, &h, &message), PHX_ERR_INVALID);
    CHECK_MSG(strstr(message.text, "fewer steps") != NULL, "%s", message.text);
    phx_scenario_free(s);
}

TEST(run_counts_what_rounds_of_random_kills_break)
{
    struct phx_scenario *s = scenario_of("", "", "");
    const struct phx_live_options live = {.seed = 11, .workers = 1, .slack = SLACK_LONG};
    const struct phx_soak_options options = {.rounds = 4, .kind = PHX_FAULT_KILL, .is_json = true};
    struct phx_message message = {""};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    CHECK(out != NULL);
    CHECK_EQ(phx_soak_run(&s->workload, &live, &options, out, &message), 0);
    CHECK_EQ(fclose(out), 0);
    CHECK_MSG(strstr(text, "\"result\":\"pass\",\"rounds\":4,\"failed\":0") != NULL, "%s", text);
    CHECK_MSG(strstr(text, "\"missed\":0,\"wrong_results\":0") != NULL, "%s", text);
    free(text);
    phx_scenario_free(s);
}
