// tools/shrink.c: delta debugging over faults, and the passes over everything else.

#include "tools/shrink.h"

#include <stdlib.h>
#include <string.h>

// Draws change with the shape, so that what failed under one seed may need another one.
#define SEEDS_TRIED 4u

// --- one candidate -------------------------------------------------------------------------------

// As the file would read. NULL: no memory.
static char *text_of(const struct phx_scenario *s, size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);
    if (out == NULL)
        return NULL;
    int rc = phx_scenario_write(out, s);
    if (fclose(out) == 0 && rc == 0)
        return text;
    free(text);
    return NULL;
}

// What is tried is what would be saved. NULL: the reader refuses it; or it reads as the best does,
// and trying it would never end.
static struct phx_scenario *reread(const struct phx_scenario *s, const struct phx_scenario *best)
{
    size_t size = 0;
    size_t best_size = 0;
    struct phx_scenario *read = NULL;
    struct phx_scenario_options options = {.ranks = 0};
    struct phx_diagnosis d;
    char *text = text_of(s, &size);
    char *best_text = best != NULL ? text_of(best, &best_size) : NULL;
    bool is_other = best_text == NULL || size != best_size ||
                    (text != NULL && memcmp(text, best_text, size) != 0);
    if (text != NULL && is_other && phx_scenario_parse(text, size, &options, &read, &d) != 0)
        read = NULL;
    free(text);
    free(best_text);
    return read;
}

static bool breaks_rule(struct phx_shrink *shrink, const struct phx_scenario *s,
                        struct phx_trial *trial)
{
    memset(trial, 0, sizeof *trial);
    phx_trial_run_apart(s, shrink->hang_seconds, trial);
    shrink->trials++;
    if (shrink->progress != NULL)
        shrink->progress(shrink->context, shrink);
    return trial->verdict != PHX_VERDICT_PASSED && trial->verdict != PHX_VERDICT_REFUSED &&
           strcmp(trial->rule, shrink->rule) == 0;
}

static bool is_spent(const struct phx_shrink *shrink)
{
    return shrink->trials_max != 0 && shrink->trials >= shrink->trials_max;
}

// Makes the candidate the best if it breaks the rule under its own seed or one of the first few.
static bool try_candidate(struct phx_shrink *shrink, const struct phx_scenario *candidate,
                          uint32_t seeds)
{
    struct phx_scenario *s = is_spent(shrink) ? NULL : reread(candidate, shrink->best);
    bool is_kept = false;
    for (uint32_t i = 0; s != NULL && !is_kept && i < seeds; i++) {
        struct phx_trial trial;
        if (i > 0 && candidate->run.seed == i)
            continue;
        s->run.seed = i == 0 ? candidate->run.seed : i;
        is_kept = breaks_rule(shrink, s, &trial);
        if (is_kept)
            shrink->trial = trial;
    }
    if (is_kept) {
        phx_scenario_free(shrink->best);
        shrink->best = s;
    } else {
        phx_scenario_free(s);
    }
    return is_kept;
}

// --- faults --------------------------------------------------------------------------------------

// The best without faults [first, first + count).
static void without(const struct phx_scenario *best, uint32_t first, uint32_t count,
                    struct phx_scenario *candidate)
{
    phx_scenario_copy(candidate, best);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < best->workload.fault_count; i++)
        if (i < first || i >= first + count)
            candidate->faults[kept++] = candidate->faults[i];
    candidate->workload.fault_count = kept;
}

// Takes out ever smaller pieces until no single fault can go.
static bool shrink_faults(struct phx_shrink *shrink, struct phx_scenario *candidate)
{
    bool is_less = false;
    uint32_t piece = shrink->best->workload.fault_count;
    while (piece > 0 && !is_spent(shrink)) {
        bool went = false;
        for (uint32_t first = 0; first < shrink->best->workload.fault_count;) {
            without(shrink->best, first, piece, candidate);
            if (try_candidate(shrink, candidate, piece > 1 ? 1 : SEEDS_TRIED))
                went = true; // what follows has moved here
            else
                first += piece;
        }
        is_less = is_less || went;
        if (!went || piece > shrink->best->workload.fault_count)
            piece /= 2;
    }
    return is_less;
}

// --- everything else -----------------------------------------------------------------------------

static bool shrink_by(struct phx_shrink *shrink, phx_shrink_edit *edit,
                      struct phx_scenario *candidate)
{
    bool is_less = false;
    for (uint32_t step = 0; !is_spent(shrink); step++) {
        phx_scenario_copy(candidate, shrink->best);
        if (!edit(candidate, step))
            return is_less;
        if (try_candidate(shrink, candidate, SEEDS_TRIED)) {
            is_less = true;
            step = UINT32_MAX; // from the start, on what is left
        }
    }
    return is_less;
}

// Says what it shows, for whoever finds the file among others.
static void name_fill(struct phx_scenario *s, const char *rule)
{
    size_t used = (size_t)snprintf(s->name, sizeof s->name, "%s", rule);
    for (uint32_t i = 0; i < s->workload.fault_count && used < sizeof s->name; i++) {
        const struct phx_fault *f = &s->faults[i];
        int more = snprintf(s->name + used, sizeof s->name - used, "%s%s of rank %u",
                            i == 0 ? " after " : ", ",
                            phx_fault_kind_name((enum phx_fault_kind)f->kind), f->rank);
        used += more > 0 ? (size_t)more : 0;
    }
    if (s->workload.fault_count == 0 && used < sizeof s->name)
        (void)snprintf(s->name + used, sizeof s->name - used, " without a fault");
}

static int shrink_open(struct phx_shrink *shrink, const struct phx_scenario *scenario,
                       struct phx_message *message)
{
    shrink->trials = 0;
    shrink->best = reread(scenario, NULL);
    if (shrink->best == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the scenario");
    // What it breaks now is what counts, should that have changed since it was saved.
    (void)snprintf(shrink->rule, sizeof shrink->rule, "%s", scenario->run.rule);
    if (breaks_rule(shrink, shrink->best, &shrink->trial))
        return 0;
    if (shrink->trial.verdict == PHX_VERDICT_PASSED ||
        shrink->trial.verdict == PHX_VERDICT_REFUSED) {
        phx_scenario_free(shrink->best);
        shrink->best = NULL;
        return phx_fail(message, PHX_ERR_STATE, "it breaks no rule%s%s",
                        shrink->trial.text[0] != '\0' ? ": " : "", shrink->trial.text);
    }
    memcpy(shrink->rule, shrink->trial.rule, sizeof shrink->rule);
    return 0;
}

int phx_shrink_run(struct phx_shrink *shrink, const struct phx_scenario *scenario,
                   struct phx_message *message)
{
    struct phx_scenario *candidate = malloc(sizeof *candidate);
    if (candidate == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a scenario");
    int rc = shrink_open(shrink, scenario, message);
    for (bool is_less = rc == 0; is_less && !is_spent(shrink);) {
        is_less = shrink_faults(shrink, candidate);
        for (uint32_t i = 0; PHX_SHRINK_EDITS[i] != NULL; i++)
            is_less = shrink_by(shrink, PHX_SHRINK_EDITS[i], candidate) || is_less;
    }
    free(candidate);
    if (rc != 0)
        return rc;
    name_fill(shrink->best, shrink->rule);
    memcpy(shrink->best->run.rule, shrink->rule, sizeof shrink->rule);
    shrink->best->run.trace_hash = shrink->trial.trace_hash;
    shrink->best->run.is_given = true;
    return 0;
}
