// tools/run_check.c: what the ranks left behind, compared with the oracle and judged as a simulated
// run is.

#include <stdlib.h>
#include <string.h>

#include "kernels/rank.h"
#include "sim/workload_judge.h"
#include "sim/workload_program.h"
#include "tools/run_internal.h"

struct judge {
    struct phx_live *live;
    struct phx_run *run;
};

// Since all groups were open.
static uint64_t since_ns(const struct judge *j, uint64_t at_ns)
{
    uint64_t zero_ns = j->live->zero_ns != 0 ? j->live->zero_ns : j->live->launch_ns;
    return at_ns > zero_ns ? at_ns - zero_ns : 0;
}
static uint64_t since_ps(const struct judge *j, uint64_t at_ns)
{
    uint64_t ps;
    return __builtin_mul_overflow(since_ns(j, at_ns), 1000, &ps) ? UINT64_MAX - 1 : ps;
}

static const struct phx_live_record *ended(const struct judge *j, uint32_t rank, uint64_t operation)
{
    const struct phx_live_record *record = phx_live_record_of(j->live, rank, operation);
    return __atomic_load_n(&record->is_ended, __ATOMIC_ACQUIRE) != 0 ? record : NULL;
}

// --- what each rank came to ---------------------------------------------------------------------

// Names of rules live in the program: a rank's text is no name in the process that reports it.
static void pass_on(const struct judge *j, uint32_t rank, const struct phx_live_reported *from)
{
    static const char *const rules[] = {"open-peer-lost", "open", "operation-error", "op-outcome",
                                        "not-checked"};
    struct phx_violation v = {.rule = "rank-reported",
                              .rank = rank,
                              .kind = from->kind,
                              .number = from->number,
                              .at_ns = from->at_ns};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (strcmp(rules[i], from->rule) == 0)
            v.rule = rules[i];
    memcpy(v.text, from->text, sizeof v.text);
    j->run->violate(j->run->violate_context, &v);
}

static void take_rank(const struct judge *j, uint32_t rank)
{
    struct phx_run *run = j->run;
    struct phx_run_rank *mine = &run->rank[rank];
    const struct phx_live_seat *seat = phx_live_seat_of(j->live, rank);
    mine->is_open = seat->opened_ns != 0;
    mine->finished = seat->end == PHX_PROGRAM_DONE;
    mine->failed = seat->end == PHX_PROGRAM_FAILED;
    mine->finished_ps = mine->finished ? since_ps(j, seat->ended_ns) : 0;
    for (uint32_t r = 0; r < run->ranks; r++)
        mine->active[r] = seat->active[r];
    for (uint64_t o = 0; o < run->operations; o++) {
        const struct phx_live_record *record = ended(j, rank, o);
        if (record == NULL)
            continue;
        uint64_t end_ps = since_ps(j, record->end_ns);
        mine->operations++;
        run->outcomes_checked++;
        if (mine->ended_ps != NULL)
            mine->ended_ps[o] = end_ps;
        if (!mine->is_struck && end_ps > run->last_end_ps[o])
            run->last_end_ps[o] = end_ps;
    }
    uint32_t kept =
        seat->violation_count < PHX_LIVE_VIOLATIONS ? seat->violation_count : PHX_LIVE_VIOLATIONS;
    for (uint32_t i = 0; i < kept; i++)
        pass_on(j, rank, &seat->violations[i]);
    run->totals.messages += seat->posts;
    run->totals.events += seat->events;
}

static void take_strikes(const struct judge *j)
{
    for (uint32_t i = 0; i < j->run->workload->fault_count; i++) {
        const struct phx_live_strike *from = phx_live_strike_of(j->live, i);
        struct phx_run_strike *to = &j->run->strikes[i];
        to->at_ps = from->state == PHX_LIVE_STRUCK ? since_ps(j, from->at_ns) : UINT64_MAX;
        to->kind = from->kind;
        to->phase = from->phase;
        to->number = from->number;
    }
}

// --- results ------------------------------------------------------------------------------------

static void operation_keep(const struct judge *j, struct phx_history *history, uint32_t rank,
                           uint64_t operation, uint64_t hash)
{
    const struct phx_live_record *record = phx_live_record_of(j->live, rank, operation);
    const struct phx_outcome *o = &record->outcome;
    struct phx_history_operation *at = phx_history_at(history, rank, operation);
    at->hash = hash;
    at->end_ns = since_ns(j, record->end_ns);
    at->first = o->kind == PHX_DISPATCH ? o->counted : o->answered;
    at->second = o->present;
    at->masked = o->masked;
}

static void pair_check(const struct judge *j, struct phx_history *history, uint32_t load,
                       uint64_t pair)
{
    struct phx_run *run = j->run;
    struct phx_stage *stage = &run->stages[load];
    uint64_t operation = stage->first_operation + 2 * pair;
    struct phx_live_results kept;
    for (uint32_t r = 0; r < run->ranks; r++) { // all of them, for what they counted
        const struct phx_live_record *record = ended(j, r, operation);
        if (record == NULL)
            continue;
        phx_live_results(j->live, load, r, pair, &kept);
        struct phx_dispatch_result result = {&record->outcome, kept.received};
        phx_check_dispatch(run, stage, r, pair, &result);
        operation_keep(j, history, r, operation, phx_history_hash_dispatch(stage, &result));
    }
    for (uint32_t r = 0; r < run->ranks; r++) {
        const struct phx_live_record *record = ended(j, r, operation + 1);
        if (record == NULL)
            continue;
        phx_live_results(j->live, load, r, pair, &kept);
        struct phx_combine_result result = {&record->outcome, kept.out, kept.token_loss};
        phx_check_combine(run, stage, r, pair, &result);
        operation_keep(j, history, r, operation + 1, phx_history_hash_combine(stage, &result));
        for (uint32_t t = 0; t < stage->moe->tokens; t++)
            run->rank[r].lost_tokens += kept.token_loss[t] > 0.0f;
    }
    free(stage->counted[pair]);
    stage->counted[pair] = NULL;
}

static int results_check(const struct judge *j, struct phx_history *history,
                         struct phx_message *message)
{
    struct phx_run *run = j->run;
    int rc = phx_history_open(history, run->ranks, run->operations, message);
    for (uint32_t r = 0; rc == 0 && r < run->ranks; r++) {
        history->begun[r] = phx_live_seat_of(j->live, r)->begun;
        for (uint64_t o = 0; o < run->operations; o++)
            phx_history_at(history, r, o)->begin_ns =
                since_ns(j, phx_live_record_of(j->live, r, o)->begin_ns);
    }
    for (uint32_t load = 0; rc == 0 && load < run->workload->load_count; load++)
        for (uint64_t pair = 0; pair < run->stages[load].pairs; pair++)
            pair_check(j, history, load, pair);
    if (rc == 0)
        phx_history_fates(history);
    return rc;
}

// --- whom ranks suspect -------------------------------------------------------------------------

static void suspicions_check(const struct judge *j)
{
    for (uint32_t r = 0; r < j->run->ranks; r++) {
        const struct phx_live_seat *seat = phx_live_seat_of(j->live, r);
        j->run->suspicions_checked += j->run->rank[r].operations;
        for (uint32_t other = 0; other < j->run->ranks; other++) {
            const struct phx_live_suspicion *s = &seat->suspicions[other];
            if (s->cause != PHX_CAUSE_NONE)
                phx_watch_suspect(j->run, r, other, s->cause, s->kind, s->number, true);
        }
    }
}

// The load's first operation after the one in which nobody can be told any more: a rank that masks
// another says so with the operations that it begins afterwards.
static bool is_told(const struct judge *j, uint32_t by, uint32_t whom)
{
    const struct phx_run *run = j->run;
    uint32_t load = run->workload->load_count - 1;
    uint64_t apart = run->stages[load].moe->hooks ? 4 : 1;
    if (run->operations - run->stages[load].first_operation <= apart)
        return false;
    const struct phx_live_record *record = ended(j, by, run->operations - 1 - apart);
    return record != NULL && phx_rank_set_has(&record->outcome.masked, whom) &&
           run->operations - 1 - apart >= run->stages[load].first_operation;
}

// Whoever was given up and goes on must know it at its end: of everyone who said so in time.
static void told_check(const struct judge *j)
{
    const struct phx_run *run = j->run;
    for (uint32_t r = 0; r < run->ranks; r++) {
        for (uint32_t by = 0; by < run->ranks; by++) {
            if (by == r || !run->rank[r].finished || !run->rank[by].finished || !is_told(j, by, r))
                continue;
            j->run->told_checked++;
            if (run->rank[r].active[by] != 0)
                phx_run_violate(j->run, "not-told", r, 0, 0,
                                "rank %u gave it up, and it still holds that rank active at its "
                                "end",
                                by);
        }
    }
}

// Whoever did not even begin the last operation can't have answered in it: all others must know.
static void deaths_check(const struct judge *j)
{
    const struct phx_run *run = j->run;
    for (uint32_t r = 0; r < run->ranks; r++) {
        if (phx_live_seat_of(j->live, r)->begun == run->operations || run->rank[r].failed)
            continue;
        for (uint32_t by = 0; by < run->ranks; by++) {
            if (by == r || !run->rank[by].finished)
                continue;
            j->run->told_checked++;
            if (run->rank[by].active[r] != 0)
                phx_run_violate(j->run, "death-missed", by, 0, 0,
                                "rank %u began %llu of %llu operations, and rank %u still holds "
                                "it active",
                                r, (unsigned long long)phx_live_seat_of(j->live, r)->begun,
                                (unsigned long long)run->operations, by);
        }
    }
}

// --- the summary --------------------------------------------------------------------------------

static void live_fill(const struct judge *j, struct phx_summary_live *l)
{
    uint64_t first_ns = 0;
    l->transport = j->live->options.is_cuda ? "cuda" : "shm";
    l->workers = j->run->workers;
    l->slack = j->live->options.slack;
    for (uint32_t r = 0; r < j->run->ranks; r++) {
        uint64_t begin_ns = phx_live_record_of(j->live, r, 0)->begin_ns;
        first_ns = begin_ns > first_ns ? begin_ns : first_ns;
        for (uint64_t o = 0; !j->run->rank[r].is_struck && o < j->run->operations; o++) {
            const struct phx_live_record *record = ended(j, r, o);
            if (record != NULL && record->longest_ns > l->longest_ns)
                l->longest_ns = record->longest_ns;
        }
    }
    l->open_ns = first_ns > j->live->launch_ns ? first_ns - j->live->launch_ns : 0;
    for (uint32_t r = 0; r < j->run->ranks; r++)
        for (uint32_t o = 0; o < j->run->ranks; o++)
            if (j->run->rank[r].is_struck && j->run->rank[r].finished &&
                j->run->rank[r].active[o] == 0)
                l->away.words[r / 64] |= UINT64_C(1) << (r % 64);
}

int phx_live_judge(struct phx_live *live, struct phx_summary *summary,
                   struct phx_history *history, struct phx_message *message)
{
    const struct judge j = {live, &live->run};
    for (uint32_t r = 0; r < j.run->ranks; r++)
        take_rank(&j, r);
    take_strikes(&j);
    int rc = results_check(&j, history, message);
    if (rc != 0)
        return rc;
    suspicions_check(&j);
    told_check(&j);
    deaths_check(&j);
    j.run->totals.hash = phx_history_hash(history);
    rc = phx_judge(j.run, summary, message);
    if (rc == 0)
        live_fill(&j, &summary->live);
    return rc;
}
