// tests/test_explore.c: drawn runs are legal and a function of their number; a campaign adds up;
// shrinking finds what is needed.

#define _POSIX_C_SOURCE 200809L // open_memstream()

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "tools/explore_jobs.h"
#include "tools/shrink.h"

static struct phx_campaign campaign_of(uint32_t ranks_max)
{
    return (struct phx_campaign){
        .limits = {.ranks_max = ranks_max, .tokens_max = 16, .pairs_max = 8, .faults_max = 6}};
}

static char *text_of(const struct phx_scenario *s, size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);
    CHECK(out != NULL);
    CHECK_EQ(phx_scenario_write(out, s), 0);
    CHECK_EQ(fclose(out), 0);
    return text;
}

// The text of run `number`, which the reader must accept and read as the same text.
static char *drawn_text(const struct phx_campaign *c, uint64_t number)
{
    static struct phx_scenario s;
    size_t size = 0;
    size_t again_size = 0;
    phx_explore_draw(c, number, &s);
    char *text = text_of(&s, &size);
    struct phx_scenario_options options = {.ranks = 0};
    struct phx_scenario *read = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    int rc = phx_scenario_parse(text, size, &options, &read, &d);
    CHECK_MSG(rc == 0, "run %llu is refused at %u:%u: %s\n%s", (unsigned long long)number,
              d.place.line, d.place.column, d.message.text, text);
    char *again = text_of(read, &again_size);
    CHECK_STR_EQ(again, text);
    free(again);
    phx_scenario_free(read);
    return text;
}

TEST(explore_draws_what_the_reader_accepts)
{
    for (uint32_t ranks_max = 1; ranks_max <= 16; ranks_max *= 4) {
        struct phx_campaign c = campaign_of(ranks_max);
        for (uint64_t number = 0; number < 3400; number++)
            free(drawn_text(&c, number));
    }
}

TEST(explore_draws_by_number_alone)
{
    struct phx_campaign c = campaign_of(16);
    for (uint64_t number = 1; number < 200; number++) {
        char *first = drawn_text(&c, number);
        char *other = drawn_text(&c, number + 1);
        char *again = drawn_text(&c, number);
        CHECK_STR_EQ(first, again);
        CHECK(strcmp(first, other) != 0);
        free(first);
        free(other);
        free(again);
    }
}

TEST(explore_keeps_within_its_limits)
{
    static struct phx_scenario s;
    struct phx_campaign c = {
        .limits = {.ranks_max = 5, .tokens_max = 3, .pairs_max = 2, .faults_max = 1}};
    uint32_t most[4] = {0};
    for (uint64_t number = 1; number < 2000; number++) {
        phx_explore_draw(&c, number, &s);
        const struct phx_cluster *cluster = &s.workload.cluster;
        uint32_t pairs = 0;
        for (uint32_t i = 0; i < s.workload.load_count; i++)
            pairs += s.loads[i].steps * s.loads[i].layers;
        const uint32_t is[4] = {cluster->nodes * cluster->ranks_per_node, s.loads[0].tokens, pairs,
                                s.workload.fault_count};
        for (uint32_t i = 0; i < 4; i++)
            most[i] = is[i] > most[i] ? is[i] : most[i];
    }
    CHECK_EQ(most[0], 5); // reached, and not passed
    CHECK_EQ(most[1], 3);
    CHECK_EQ(most[2], 2);
    CHECK_EQ(most[3], 1);
}

TEST(explore_draws_every_kind_of_fault_for_every_cell)
{
    static struct phx_scenario s;
    struct phx_campaign c = campaign_of(16);
    uint64_t seen[PHX_COVERAGE_ROWS_MAX] = {0};
    for (uint64_t number = 1; number < 3000; number++) {
        phx_explore_draw(&c, number, &s);
        for (uint32_t i = 0; i < s.workload.fault_count; i++) {
            uint32_t row = phx_coverage_row_of(&s.faults[i]);
            CHECK(row < phx_coverage_rows());
            seen[row]++;
        }
    }
    for (uint32_t row = 0; row < phx_coverage_rows(); row++)
        CHECK_MSG((seen[row] == 0) == (phx_coverage_reason(row, PHX_COLUMN_OPENING) != NULL),
                  "%s was drawn %llu times", phx_coverage_row_name(row),
                  (unsigned long long)seen[row]);
}

TEST(explore_tells_a_reason_that_is_wrong)
{
    struct phx_coverage coverage = {{{0}}};
    CHECK_EQ(phx_coverage_contradictions(&coverage), 0);
    const struct phx_fault restart = {.kind = PHX_FAULT_RESTART, .unit = PHX_UNIT_PROCESS};
    coverage.counts[phx_coverage_row_of(&restart)][PHX_COLUMN_BETWEEN] = 1;
    CHECK_EQ(phx_coverage_contradictions(&coverage), 1);
}

TEST(explore_runs_are_the_same_again)
{
    static struct phx_scenario s;
    struct phx_campaign c = campaign_of(6);
    for (uint64_t number = 1; number < 60; number++) {
        struct phx_trial here = {.number = number};
        struct phx_trial apart = {.number = number};
        phx_explore_draw(&c, number, &s);
        phx_trial_run(&s, &here);
        phx_trial_run_apart(&s, 60, &apart);
        CHECK_EQ(here.verdict, apart.verdict);
        CHECK_EQ(here.trace_hash, apart.trace_hash);
        CHECK_EQ(here.events, apart.events);
    }
}

TEST(explore_totals_do_not_depend_on_order_but_on_every_run)
{
    struct phx_trial a = {.number = 1, .trace_hash = 7, .verdict = PHX_VERDICT_PASSED};
    struct phx_trial b = {.number = 2, .trace_hash = 9, .verdict = PHX_VERDICT_FAILED};
    (void)snprintf(b.rule, sizeof b.rule, "progress");
    static struct phx_totals ab;
    static struct phx_totals ba;
    phx_totals_add(&ab, &a);
    phx_totals_add(&ab, &b);
    phx_totals_add(&ba, &b);
    phx_totals_add(&ba, &a);
    CHECK_EQ(ab.hash, ba.hash);
    CHECK_EQ(ab.failed, 1);
    CHECK_EQ(ab.rules[0].first, 2);
    static struct phx_totals other;
    a.trace_hash = 8;
    phx_totals_add(&other, &a);
    phx_totals_add(&other, &b);
    CHECK(other.hash != ab.hash);
}

// --- shrinking -----------------------------------------------------------------------------------

// Wrong on purpose: everyone is expected to live, and ranks 2 and 5 are killed among other faults.
static const char *const TWELVE =
    "cluster: {nodes: 2, ranks_per_node: 4}\n"
    "workers: 2\n"
    "workload:\n"
    "  - moe: {steps: 4, tokens: 8, hidden: 256, experts: 16, top_k: 4, hooks: true}\n"
    "timeout_us: 1000\n"
    "faults:\n"
    "  - {link_down: {rank: 0, peer: 1, for_us: 20}, when: {operation: dispatch, number: 1}}\n"
    "  - {delay: {rank: 1, delay_us: 5, for_us: 20}, when: {operation: dispatch, number: 1}}\n"
    "  - {slow: {rank: 3, percent: 80}, when: {operation: dispatch, number: 1}}\n"
    "  - {pause: {rank: 4, for_us: 20}, when: {operation: combine, number: 1}}\n"
    "  - {duplicate: {rank: 6, ppm: 1000}, when: {operation: combine, number: 1}}\n"
    "  - {kill: {rank: 2}, when: {operation: dispatch, number: 2, after_puts: 3}}\n"
    "  - {link_degraded: {rank: 0, percent: 80}, when: {operation: combine, number: 1}}\n"
    "  - {clock_offset: {rank: 7, offset_us: 3}, when: {operation: combine, number: 1}}\n"
    "  - {pause: {rank: 1, for_us: 10}, when: {operation: combine, number: 2}}\n"
    "  - {slow: {rank: 6, percent: 90}, when: {operation: combine, number: 1}}\n"
    "  - {kill: {rank: 5}, when: {operation: combine, number: 3}}\n"
    "  - {delay: {rank: 3, delay_us: 2, for_us: 9}, when: {operation: combine, number: 2}}\n"
    "expect: {alive: all}\n";

TEST(shrink_finds_the_fault_that_is_needed_and_the_same_bytes_twice)
{
    struct phx_scenario_options options = {.ranks = 0};
    struct phx_diagnosis d = {{0, 0}, {""}};
    struct phx_message message;
    char *texts[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct phx_scenario *s = NULL;
        size_t size = 0;
        CHECK_EQ(phx_scenario_parse(TWELVE, strlen(TWELVE), &options, &s, &d), 0);
        struct phx_shrink shrink = {.hang_seconds = 60};
        CHECK_EQ(phx_shrink_run(&shrink, s, &message), 0);
        CHECK_STR_EQ(shrink.rule, "expect-alive");
        const struct phx_workload *w = &shrink.best->workload;
        CHECK_EQ(w->fault_count, 1);
        CHECK(w->cluster.nodes * w->cluster.ranks_per_node <= 2);
        CHECK_EQ(w->loads[0].steps, 1);
        CHECK(w->loads[0].tokens <= 1);
        CHECK_EQ(shrink.best->run.trace_hash, shrink.trial.trace_hash);
        texts[i] = text_of(shrink.best, &size);
        phx_scenario_free(shrink.best);
        phx_scenario_free(s);
    }
    CHECK_STR_EQ(texts[0], texts[1]);
    free(texts[0]);
    free(texts[1]);
}

TEST(shrink_refuses_what_breaks_no_rule)
{
    static const char *const clean = "cluster: {nodes: 1, ranks_per_node: 2}\n"
                                     "workload:\n"
                                     "  - moe: {tokens: 1, hidden: 128, experts: 2, top_k: 1}\n";
    struct phx_scenario_options options = {.ranks = 0};
    struct phx_diagnosis d = {{0, 0}, {""}};
    struct phx_message message;
    struct phx_scenario *s = NULL;
    CHECK_EQ(phx_scenario_parse(clean, strlen(clean), &options, &s, &d), 0);
    struct phx_shrink shrink = {.hang_seconds = 60};
    CHECK_EQ(phx_shrink_run(&shrink, s, &message), PHX_ERR_STATE);
    CHECK_STR_EQ(message.text, "it breaks no rule");
    phx_scenario_free(s);
}
