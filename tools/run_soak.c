// tools/run_soak.c: many rounds of phx run: what was struck, what was missed, how long it took.

#include "tools/run_soak.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim/core.h"

#define CHECK_DEADLINES 3u // that a pause lasts

enum draw { DRAW_RANK = 1, DRAW_MOMENT };

struct soak {
    const struct phx_workload *workload;
    const struct phx_live_options *live;
    const struct phx_soak_options *options;
    uint64_t length_ns;  // of a round without faults, from the last group's opening
    uint64_t *within_ns; // [rounds] of `struck` rounds: to the end of the struck operation
    uint64_t *open_ns;   // [rounds]
    uint32_t rounds;     // done
    uint32_t struck;
    uint32_t slack;
    uint32_t failed;      // rounds
    uint64_t missed;      // ends that a survivor did not notice
    uint64_t wrong;       // results that the oracle does not give
    uint64_t not_told;    // zombies that did not learn it
    uint64_t others;      // violations of other rules
    uint64_t stall_ns;    // the longest
    uint64_t lost_tokens; // each of them accounted for
    uint64_t results;     // compared
};

static uint64_t draw(const struct soak *s, enum draw what, uint64_t bound)
{
    return phx_chance_below(bound, s->live->seed, PHX_CHANCE_EXPLORE, what, s->rounds);
}

static void violation_count(struct soak *s, const struct phx_violation *v)
{
    if (strcmp(v->rule, "death-missed") == 0)
        s->missed++;
    else if (strcmp(v->rule, "dispatch-result") == 0 || strcmp(v->rule, "combine-result") == 0)
        s->wrong++;
    else if (strcmp(v->rule, "not-told") == 0)
        s->not_told++;
    else
        s->others++;
}

static void take(struct soak *s, const struct phx_summary *summary)
{
    s->failed += !summary->is_passed;
    for (uint32_t i = 0; i < summary->violation_count; i++) {
        const struct phx_violation *v = &summary->violations[i];
        violation_count(s, v);
        (void)fprintf(stderr, "round %u: %s: rank %u: %s\n", s->rounds + 1, v->rule, v->rank,
                      v->text);
    }
    for (uint32_t i = 0; i < summary->strike_count; i++) {
        const struct phx_strike *strike = &summary->strikes[i];
        if (strike->kind == 0 || strike->within_ps == UINT64_MAX || i > 0)
            continue;
        s->within_ns[s->struck++] = strike->within_ps / 1000;
    }
    s->open_ns[s->rounds] = summary->live.open_ns;
    s->slack = summary->live.slack;
    s->lost_tokens += summary->lost_tokens;
    s->results += summary->operations;
    if (summary->live.longest_ns > s->stall_ns)
        s->stall_ns = summary->live.longest_ns;
}

// `fault`: NULL for a round as the scenario has it, or for the one without faults.
static int round_run(struct soak *s, const struct phx_fault *fault, bool is_clean,
                     struct phx_summary *summary, struct phx_message *message)
{
    struct phx_workload w = *s->workload;
    struct phx_live_options live = *s->live;
    struct phx_history history;
    live.seed += s->rounds;
    if (is_clean || fault != NULL) {
        w.faults = fault;
        w.fault_count = fault != NULL;
        w.expect = (struct phx_expectation){
            .survivors_finish_within_ps = PHX_EXPECT_NONE,
            .lost_tokens_max = PHX_EXPECT_NONE,
            .is_healthy_stay = fault != NULL,
            .may_miss = true,
        };
    }
    int rc = phx_live_run(&w, &live, summary, &history, message);
    if (rc == 0)
        phx_history_free(&history);
    return rc;
}

static int rounds_run(struct soak *s, struct phx_message *message)
{
    const struct phx_soak_options *o = s->options;
    struct phx_summary summary;
    uint32_t ranks = s->workload->cluster.nodes * s->workload->cluster.ranks_per_node;
    int rc = 0;
    if (o->kind != 0) {
        rc = round_run(s, NULL, true, &summary, message);
        if (rc != 0)
            return rc;
        s->length_ns = summary.virtual_ns;
        s->slack = summary.live.slack;
        phx_summary_free(&summary);
    }
    for (; rc == 0 && s->rounds < o->rounds; s->rounds++) {
        struct phx_fault fault = {
            .kind = o->kind,
            .unit = PHX_UNIT_PROCESS,
            .peer = PHX_FAULT_ANY,
            .when.rank = PHX_FAULT_ANY,
        };
        if (o->kind != 0) {
            fault.rank = (uint32_t)draw(s, DRAW_RANK, ranks);
            fault.when.at_ps = draw(s, DRAW_MOMENT, s->length_ns + 1) * 1000 / s->slack;
        }
        if (o->kind == PHX_FAULT_PAUSE)
            fault.duration_ps = CHECK_DEADLINES * s->workload->timeout_us * 1000000;
        rc = round_run(s, o->kind != 0 ? &fault : NULL, false, &summary, message);
        if (rc != 0)
            return rc;
        take(s, &summary);
        phx_summary_free(&summary);
        if (o->has_progress && (s->rounds + 1) % 50 == 0)
            (void)fprintf(stderr, "%u of %u rounds, %u failed\n", s->rounds + 1, o->rounds,
                          s->failed);
    }
    return rc;
}

// --- what it came to ----------------------------------------------------------------------------

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

// Nearest rank: the smallest that `percent` of them do not exceed.
static double at_percent(const uint64_t *sorted, uint32_t count, uint32_t percent)
{
    uint64_t place = ((uint64_t)count * percent + 99) / 100;
    return count == 0 ? 0 : (double)sorted[place > 0 ? place - 1 : 0] / 1e6;
}

static void print(const struct soak *s, FILE *out)
{
    const char *format =
        s->options->is_json
            ? "{\"result\":\"%s\",\"rounds\":%u,\"failed\":%u,\"slack\":%u,\"struck\":%u,"
              "\"missed\":%" PRIu64 ",\"wrong_results\":%" PRIu64 ",\"not_told\":%" PRIu64
              ",\"other_violations\":%" PRIu64 ",\"results_compared\":%" PRIu64
              ",\"lost_tokens\":%" PRIu64 ",\"finish_ms_median\":%.3f,\"finish_ms_p99\":%.3f,"
              "\"finish_ms_max\":%.3f,\"longest_stall_ms\":%.3f,\"open_ms_median\":%.3f,"
              "\"open_ms_max\":%.3f}\n"
            : "result     %s\n"
              "rounds     %u, %u failed; slack %u\n"
              "struck     %u in an operation; the others had done it all, or came too early\n"
              "missed     %" PRIu64 " ends of ranks; %" PRIu64 " wrong results; %" PRIu64
              " zombies not told; %" PRIu64 " other violations\n"
              "compared   %" PRIu64 " results with the oracle, bit for bit; %" PRIu64
              " tokens lost, each accounted for\n"
              "finish     median %.3f ms, p99 %.3f ms, longest %.3f ms from the fault to the end "
              "of the struck operation on the last survivor\n"
              "stall      %.3f ms, the longest call of a rank that no fault held up\n"
              "open       median %.3f ms, longest %.3f ms from launch to the last rank's first "
              "operation\n";
    (void)fprintf(out, format, s->failed == 0 ? "pass" : "fail", s->rounds, s->failed, s->slack,
                  s->struck, s->missed, s->wrong, s->not_told, s->others, s->results,
                  s->lost_tokens, at_percent(s->within_ns, s->struck, 50),
                  at_percent(s->within_ns, s->struck, 99), at_percent(s->within_ns, s->struck, 100),
                  (double)s->stall_ns / 1e6, at_percent(s->open_ns, s->rounds, 50),
                  at_percent(s->open_ns, s->rounds, 100));
}

int phx_soak_run(const struct phx_workload *w, const struct phx_live_options *live,
                 const struct phx_soak_options *options, FILE *out, struct phx_message *message)
{
    struct soak s = {.workload = w, .live = live, .options = options};
    s.within_ns = calloc(options->rounds, sizeof *s.within_ns);
    s.open_ns = calloc(options->rounds, sizeof *s.open_ns);
    int rc = s.within_ns != NULL && s.open_ns != NULL
                 ? rounds_run(&s, message)
                 : phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the figures of %u rounds",
                            options->rounds);
    if (rc == 0 || (rc == PHX_ERR_ABORTED && s.rounds > 0)) {
        qsort(s.within_ns, s.struck, sizeof *s.within_ns, by_size);
        qsort(s.open_ns, s.rounds, sizeof *s.open_ns, by_size);
        print(&s, out);
    }
    free(s.within_ns);
    free(s.open_ns);
    return rc != 0 ? rc : (s.failed == 0 ? 0 : 1);
}
