// sim/workload_judge.c: faults and what became of the others, expectations, and the summary.
//
// Survivors are the ranks that no kill or hang of the list struck. Each must have finished its
// program. A fault that never struck fails the run: what it was meant to show was not shown.

#include "sim/workload_judge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/fabric.h"
#include "sim/ranks_text.h"

// --- whom faults concern ------------------------------------------------------------------------

static bool is_process_fault(const struct phx_fault *f)
{
    return f->kind == PHX_FAULT_KILL || f->kind == PHX_FAULT_HANG || f->kind == PHX_FAULT_PAUSE ||
           f->kind == PHX_FAULT_SLOW;
}

void phx_judge_names(const struct phx_workload *w, uint32_t rank, bool *is_named, bool *is_struck)
{
    *is_named = false;
    *is_struck = false;
    for (uint32_t i = 0; i < w->fault_count; i++) {
        if (!phx_watch_strikes(w, &w->faults[i], rank))
            continue;
        *is_named = true;
        if (is_process_fault(&w->faults[i]))
            *is_struck = true;
    }
}

// Ranks that a kill or a hang struck while they had something to do.
static void fill_faulted(const struct phx_run *run, const struct phx_summary *s,
                         struct phx_rank_set *faulted)
{
    const struct phx_workload *w = run->workload;
    memset(faulted, 0, sizeof *faulted);
    for (uint32_t i = 0; i < s->strike_count; i++) {
        const struct phx_fault *f = &w->faults[i];
        if ((f->kind != PHX_FAULT_KILL && f->kind != PHX_FAULT_HANG) ||
            s->strikes[i].at_ps == UINT64_MAX)
            continue;
        // Of a host, others may go on that had something to do when the rank named had not.
        for (uint32_t r = 0; r < run->ranks; r++)
            if (phx_watch_strikes(w, f, r) && (s->strikes[i].kind != 0 || !run->rank[r].finished))
                faulted->words[r / 64] |= UINT64_C(1) << (r % 64);
    }
}

// --- strikes ------------------------------------------------------------------------------------

// The first operation that had not ended at `at_ps`: on the struck rank, if its ends were kept,
// else on the last of all ranks.
static uint64_t operation_at(const struct phx_run *run, uint32_t rank, uint64_t at_ps)
{
    const uint64_t *ended =
        run->rank[rank].ended_ps != NULL ? run->rank[rank].ended_ps : run->last_end_ps;
    uint64_t operation = 0;
    while (operation < run->operations && ended[operation] != 0 && ended[operation] <= at_ps)
        operation++;
    return operation;
}

static uint32_t load_of(const struct phx_run *run, uint64_t operation)
{
    uint32_t load = run->workload->load_count - 1;
    while (load > 0 && run->stages[load].first_operation > operation)
        load--;
    return load;
}

static void strike_fill(const struct phx_run *run, uint32_t index, struct phx_strike *strike)
{
    const struct phx_fault *f = &run->workload->faults[index];
    *strike = (struct phx_strike){.fault = index, .within_ps = UINT64_MAX};
    strike->at_ps = run->strikes[index].at_ps;
    if (strike->at_ps == UINT64_MAX)
        return;
    strike->phase = run->strikes[index].phase;
    uint64_t operation = operation_at(run, f->rank, strike->at_ps);
    if (operation == run->operations)
        return; // everything had ended
    strike->load = load_of(run, operation);
    const struct phx_stage *stage = &run->stages[strike->load];
    // With hooks a later operation of one kind may be under way before an earlier one of the other:
    // what the rank itself was in decides.
    uint32_t kind = run->strikes[index].kind;
    uint64_t number = run->strikes[index].number;
    if (kind != 0 && number >= 1 && number <= stage->pairs) {
        uint64_t in = stage->first_operation + 2 * (number - 1) + (kind == PHX_COMBINE);
        const uint64_t *ended = run->rank[f->rank].ended_ps;
        if (ended != NULL && (ended[in] == 0 || ended[in] > strike->at_ps))
            operation = in;
    }
    strike->kind = (operation - stage->first_operation) % 2 == 0 ? PHX_DISPATCH : PHX_COMBINE;
    strike->number = (operation - stage->first_operation) / 2 + 1;
    uint64_t end_ps = run->last_end_ps[operation];
    if (end_ps != 0)
        strike->within_ps = end_ps > strike->at_ps ? end_ps - strike->at_ps : 0;
}

static const char *kind_text(uint32_t kind)
{
    return kind == PHX_DISPATCH ? "dispatch" : "combine";
}

static void strike_check(struct phx_run *run, const struct phx_strike *strike)
{
    const struct phx_fault *f = &run->workload->faults[strike->fault];
    uint64_t limit_ps = run->workload->expect.survivors_finish_within_ps;
    if (strike->kind == 0) {
        if (run->workload->expect.may_miss || f->when.chance_ppm != 0)
            return;
        phx_run_violate(run, "fault-did-not-strike", f->rank, 0, 0,
                        "fault %u of the list (%s, rank %u) struck nothing: %s", strike->fault + 1,
                        phx_fault_kind_name((enum phx_fault_kind)f->kind), f->rank,
                        strike->at_ps == UINT64_MAX ? "its moment did not come"
                                                    : "the workload had ended");
        return;
    }
    if (limit_ps == PHX_EXPECT_NONE)
        return;
    if (strike->within_ps == UINT64_MAX)
        phx_run_violate(run, "expect-finish", f->rank, strike->kind, strike->number,
                        "no survivor finished %s %" PRIu64, kind_text(strike->kind),
                        strike->number);
    else if (strike->within_ps > limit_ps)
        phx_run_violate(run, "expect-finish", f->rank, strike->kind, strike->number,
                        "the last survivor finished %s %" PRIu64 " %.3f us after fault %u; "
                        "at most %.3f us were expected",
                        kind_text(strike->kind), strike->number, (double)strike->within_ps / 1e6,
                        strike->fault + 1, (double)limit_ps / 1e6);
}

// --- expectations -------------------------------------------------------------------------------

static void expected_alive(const struct phx_run *run, const struct phx_rank_set *faulted,
                           struct phx_rank_set *expected)
{
    const struct phx_expectation *e = &run->workload->expect;
    *expected = e->alive_list;
    for (uint32_t r = 0; e->alive != PHX_ALIVE_LIST && r < run->ranks; r++)
        if (e->alive != PHX_ALIVE_ALL_BUT_FAULTED || !phx_rank_set_has(faulted, r))
            expected->words[r / 64] |= UINT64_C(1) << (r % 64);
}

static void check_rank(struct phx_run *run, uint32_t rank, const struct phx_rank_set *expected)
{
    const struct phx_run_rank *mine = &run->rank[rank];
    struct phx_rank_set holds = {{0}};
    for (uint32_t r = 0; r < run->ranks; r++)
        if (mine->active[r] != 0)
            holds.words[r / 64] |= UINT64_C(1) << (r % 64);
    if (memcmp(&holds, expected, sizeof holds) == 0)
        return;
    char have[64];
    char want[64];
    phx_ranks_format(&holds, run->ranks, have, sizeof have);
    phx_ranks_format(expected, run->ranks, want, sizeof want);
    phx_run_violate(run, "expect-alive", rank, 0, 0, "rank %u holds ranks %s active; expected %s",
                    rank, have, want);
}

static void check_ranks(struct phx_run *run, const struct phx_rank_set *faulted)
{
    const struct phx_workload *w = run->workload;
    struct phx_rank_set expected;
    expected_alive(run, faulted, &expected);
    // Without faults nobody may be lost, whether the scenario says so or not.
    bool is_compared = w->expect.alive != PHX_ALIVE_UNCHECKED || w->fault_count == 0;
    for (uint32_t r = 0; r < run->ranks; r++) {
        if (phx_rank_set_has(faulted, r))
            continue;
        if (!run->rank[r].finished && !run->rank[r].failed)
            phx_run_violate(run, "unfinished", r, 0, 0,
                            "rank %u did not finish its program, and no kill or hang struck it", r);
        else if (is_compared && run->rank[r].finished &&
                 (w->expect.alive != PHX_ALIVE_LIST || phx_rank_set_has(&expected, r)))
            check_rank(run, r, &expected);
    }
}

static void check_lost(struct phx_run *run, uint64_t lost)
{
    const struct phx_workload *w = run->workload;
    uint64_t limit = w->fault_count == 0 ? 0 : w->expect.lost_tokens_max;
    if (lost > limit)
        phx_run_violate(run, "expect-lost-tokens", 0, 0, 0,
                        "%" PRIu64 " tokens were lost; at most %" PRIu64 " were expected", lost,
                        limit);
}

// What a rank is accused of without cause is as wrong as what nobody noticed.
static void check_corrupt(struct phx_run *run)
{
    const struct phx_expectation *e = &run->workload->expect;
    char have[64];
    char want[64];
    if (!e->is_corrupt_checked || memcmp(&run->corrupt, &e->corrupt, sizeof e->corrupt) == 0)
        return;
    phx_ranks_format(&run->corrupt, run->ranks, have, sizeof have);
    phx_ranks_format(&e->corrupt, run->ranks, want, sizeof want);
    phx_run_violate(run, "expect-corrupt", 0, 0, 0,
                    "ranks %s were reported as corrupt; expected %s", have, want);
}

// --- the summary --------------------------------------------------------------------------------

#define CHECK_RULES_MAX 6u

struct check_rule { // which violations belong to which line of the summary
    const char *text;
    const char *rules[CHECK_RULES_MAX];
};

enum check_line {
    CHECK_DISPATCH = 0,
    CHECK_COMBINE,
    CHECK_OUTCOME,
    CHECK_READ,
    CHECK_WRITE,
    CHECK_SLOT,
    CHECK_PROGRESS,
    CHECK_FINISH,
    CHECK_ALIVE,
    CHECK_LOST,
    CHECK_STRUCK,
    CHECK_FROZEN,
    CHECK_HEALTHY,
    CHECK_CORRUPT,
    CHECK_HISTORY,
    CHECK_TOLD,
    CHECK_COUNT
};

static const struct check_rule CHECKS[CHECK_COUNT] = {
    [CHECK_DISPATCH] = {"dispatch results equal the plain reference, bit for bit",
                        {"dispatch-result", "not-checked"}},
    [CHECK_COMBINE] = {"combine results and token losses equal the plain reference, bit for bit",
                       {"combine-result"}},
    [CHECK_OUTCOME] = {"each operation has exactly one outcome, in order; masks only grow",
                       {"op-outcome", "operation-error"}},
    [CHECK_READ] = {"no memory is read before a signal covers it",
                    {"unsignalled-read", "unwritten-read"}},
    [CHECK_WRITE] = {"nobody writes a peer's region, and no fenced rank writes at all",
                     {"write-to-peer-region", "fenced-write", "stale-write", "word-on-two-lanes"}},
    [CHECK_SLOT] = {"no slot is reused without evidence", {"slot-reused-without-evidence"}},
    [CHECK_PROGRESS] = {"every survivor finishes",
                        {"progress", "unfinished", "open", "open-peer-lost", "open-peer-stopped",
                         "rank-crashed"}},
    [CHECK_FINISH] = {"survivors finish the struck operation in time", {"expect-finish"}},
    [CHECK_ALIVE] = {"survivors hold the expected ranks active", {"expect-alive"}},
    [CHECK_LOST] = {"no more tokens are lost than expected", {"expect-lost-tokens"}},
    [CHECK_STRUCK] = {"every fault struck", {"fault-did-not-strike"}},
    [CHECK_FROZEN] = {"once faults are frozen, operations end in time and nobody is newly late",
                      {"progress-after-freeze", "masked-after-freeze"}},
    [CHECK_HEALTHY] = {"ranks that no fault touches keep one another", {"healthy-masked"}},
    [CHECK_CORRUPT] = {"exactly the expected sources are reported as corrupt", {"expect-corrupt"}},
    [CHECK_HISTORY] = {"outputs and masks are the recorded run's, bit for bit", {"replay-differs"}},
    [CHECK_TOLD] = {"who is given up learns it, and no end is missed",
                    {"not-told", "death-missed"}},
};

static uint32_t violations_of(const struct phx_summary *s, const struct check_rule *rule)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->violation_count; i++)
        for (uint32_t j = 0; j < CHECK_RULES_MAX && rule->rules[j] != NULL; j++)
            count += strcmp(s->violations[i].rule, rule->rules[j]) == 0;
    return count;
}

static void fill_checks(const struct phx_run *run, struct phx_summary *s, uint32_t survivors)
{
    const struct phx_expectation *e = &run->workload->expect;
    bool is_clean = run->workload->fault_count == 0 && run->options->history == NULL;
    uint64_t counts[CHECK_COUNT] = {
        [CHECK_DISPATCH] = run->dispatches_checked,
        [CHECK_COMBINE] = run->combines_checked,
        [CHECK_OUTCOME] = run->outcomes_checked,
        [CHECK_READ] = run->totals.reads_checked,
        [CHECK_WRITE] = run->totals.writes_checked,
        [CHECK_SLOT] = run->totals.slots_checked,
        [CHECK_PROGRESS] = survivors,
        [CHECK_FINISH] = e->survivors_finish_within_ps != PHX_EXPECT_NONE ? s->strike_count : 0,
        [CHECK_ALIVE] = e->alive != PHX_ALIVE_UNCHECKED || is_clean ? survivors : 0,
        [CHECK_LOST] = e->lost_tokens_max != PHX_EXPECT_NONE || is_clean ? 1 : 0,
        [CHECK_STRUCK] = s->strike_count,
        [CHECK_FROZEN] = run->frozen_checked,
        [CHECK_HEALTHY] = e->is_healthy_stay ? run->suspicions_checked : 0,
        [CHECK_CORRUPT] = e->is_corrupt_checked ? run->suspicions_checked : 0,
        [CHECK_HISTORY] = run->history_checked,
        [CHECK_TOLD] = run->told_checked,
    };
    for (uint32_t i = 0; i < CHECK_COUNT; i++)
        s->checks[s->check_count++] =
            (struct phx_checked){CHECKS[i].text, counts[i], violations_of(s, &CHECKS[i])};
}
static_assert(CHECK_COUNT <= PHX_CHECKS_MAX, "the summary holds every line");

// For every rank that finished and that no fault stopped or slowed. The view of one that was away
// for a while is its own.
static bool is_held(const struct phx_run *run, uint32_t rank, bool is_active)
{
    for (uint32_t other = 0; other < run->ranks; other++)
        if (run->rank[other].finished && !run->rank[other].is_struck &&
            (run->rank[other].active[rank] != 0) != is_active)
            return false;
    return true;
}

static void fill_figures(const struct phx_run *run, struct phx_summary *s)
{
    s->seed = run->options->seed;
    s->trace_hash = run->totals.hash;
    s->events = run->totals.events;
    s->messages = run->totals.messages;
    s->ranks = run->ranks;
    for (uint32_t r = 0; r < run->ranks; r++) {
        const struct phx_run_rank *rank = &run->rank[r];
        s->operations += rank->operations;
        s->lost_tokens += rank->lost_tokens;
        if (rank->finished_ps / 1000 > s->virtual_ns)
            s->virtual_ns = rank->finished_ps / 1000;
        if (rank->finished)
            s->finished.words[r / 64] |= UINT64_C(1) << (r % 64);
        if (is_held(run, r, true))
            s->active.words[r / 64] |= UINT64_C(1) << (r % 64);
        else if (!is_held(run, r, false))
            s->disputed.words[r / 64] |= UINT64_C(1) << (r % 64);
    }
}

static int copy_violations(struct phx_run *run, struct phx_summary *s, struct phx_message *message)
{
    const struct phx_violation *list;
    if (run->world != NULL) {
        s->violations_total = phx_world_violations(run->world, &list);
    } else {
        list = run->violations;
        s->violations_total = run->violation_count;
    }
    s->violation_count = s->violations_total < 64 ? (uint32_t)s->violations_total : 64;
    s->violations = malloc((s->violation_count + 1) * sizeof *s->violations);
    if (s->violations == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the summary");
    memcpy(s->violations, list, s->violation_count * sizeof *s->violations);
    s->is_passed = s->violations_total == 0;
    return 0;
}

int phx_judge(struct phx_run *run, struct phx_summary *summary, struct phx_message *message)
{
    uint32_t faults = run->workload->fault_count;
    struct phx_rank_set faulted;
    fill_figures(run, summary);
    summary->strikes = calloc(faults + 1, sizeof *summary->strikes);
    if (summary->strikes == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the summary");
    summary->strike_count = faults;
    for (uint32_t i = 0; i < faults; i++) {
        strike_fill(run, i, &summary->strikes[i]);
        strike_check(run, &summary->strikes[i]);
    }
    fill_faulted(run, summary, &faulted);
    if (run->options->history == NULL) { // else faults struck that are not in the list
        check_ranks(run, &faulted);
        check_lost(run, summary->lost_tokens);
        check_corrupt(run);
    }
    int rc = copy_violations(run, summary, message);
    if (rc != 0)
        return rc;
    uint32_t survivors = 0;
    for (uint32_t r = 0; r < run->ranks; r++)
        survivors += run->options->history == NULL && !phx_rank_set_has(&faulted, r);
    fill_checks(run, summary, survivors);
    return 0;
}
