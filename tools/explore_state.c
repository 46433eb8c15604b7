// tools/explore_state.c: what a campaign has done, and that as a file that it can go on from.
//
// Lines of a word and its numbers, so that a person can read it:
//
//   phx-explore-state 1
//   campaign 5f3c...   next 4097   runs 4096 ...
//   rule progress 3 1201          name, runs, the first
//   struck 0 1 512                row, column, runs

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/explore_jobs.h"

#define FORMAT "phx-explore-state 1"

// --- totals --------------------------------------------------------------------------------------

static void rule_add(struct phx_totals *totals, const struct phx_trial *trial)
{
    uint32_t i = 0;
    while (i < totals->rule_count && strcmp(totals->rules[i].rule, trial->rule) != 0)
        i++;
    if (i == PHX_RULES_MAX)
        return;
    if (i == totals->rule_count) {
        totals->rule_count++;
        (void)snprintf(totals->rules[i].rule, sizeof totals->rules[i].rule, "%s", trial->rule);
        totals->rules[i].first = trial->number;
    }
    totals->rules[i].count++;
}

void phx_totals_add(struct phx_totals *totals, const struct phx_trial *trial)
{
    totals->next = trial->number + 1;
    totals->runs++;
    totals->events += trial->events;
    totals->operations += trial->operations;
    totals->hash += phx_chance_at(phx_chance_at(trial->number, trial->verdict), trial->trace_hash);
    phx_coverage_add(&totals->coverage, &trial->coverage);
    if (trial->verdict == PHX_VERDICT_PASSED)
        return;
    totals->failed++;
    rule_add(totals, trial);
}

// --- the state -----------------------------------------------------------------------------------

static uint64_t mix_bytes(uint64_t sum, const char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = phx_chance_at(sum, (unsigned char)bytes[i]);
    return sum;
}

int phx_campaign_signature(const struct phx_campaign *c, uint64_t *signature,
                           struct phx_message *message)
{
    uint64_t sum = 1;
    const uint64_t words[] = {c->limits.ranks_max,  c->limits.tokens_max,  c->limits.pairs_max,
                              c->limits.faults_max, c->keeps_expectations, c->is_systematic,
                              c->base_count};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        sum = phx_chance_at(sum, words[i]);
    sum = mix_bytes(sum, c->bug, strlen(c->bug));
    for (uint32_t i = 0; i < c->base_count; i++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        int rc = out == NULL ? PHX_ERR_NO_MEMORY : phx_scenario_write(out, c->bases[i]);
        if (out != NULL && fclose(out) != 0 && rc == 0)
            rc = PHX_ERR_NO_MEMORY;
        if (rc == 0)
            sum = mix_bytes(sum, text, size);
        free(text);
        if (rc != 0)
            return phx_fail(message, rc, "no memory for a scenario's text");
    }
    *signature = sum;
    return 0;
}

static void write_lines(FILE *out, uint64_t signature, const struct phx_totals *t)
{
    (void)fprintf(out, FORMAT "\ncampaign %016" PRIx64 "\nnext %" PRIu64 "\nruns %" PRIu64 "\n",
                  signature, t->next, t->runs);
    (void)fprintf(out, "failed %" PRIu64 "\nevents %" PRIu64 "\noperations %" PRIu64 "\n",
                  t->failed, t->events, t->operations);
    (void)fprintf(out, "hash %016" PRIx64 "\nwall_ms %" PRIu64 "\n", t->hash, t->wall_ms);
    for (uint32_t i = 0; i < t->rule_count; i++)
        (void)fprintf(out, "rule %s %" PRIu64 " %" PRIu64 "\n", t->rules[i].rule, t->rules[i].count,
                      t->rules[i].first);
    for (uint32_t row = 0; row < phx_coverage_rows(); row++)
        for (uint32_t column = 0; column < PHX_COLUMNS; column++)
            if (t->coverage.counts[row][column] > 0)
                (void)fprintf(out, "struck %u %u %" PRIu64 "\n", row, column,
                              t->coverage.counts[row][column]);
    (void)fprintf(out, "end\n");
}

int phx_state_write(const char *path, uint64_t signature, const struct phx_totals *totals,
                    struct phx_message *message)
{
    char temporary[1100];
    int length = snprintf(temporary, sizeof temporary, "%s.new", path);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return phx_fail(message, PHX_ERR_IO, "%s: the path is too long", path);
    FILE *out = fopen(temporary, "w");
    if (out == NULL)
        return phx_fail(message, PHX_ERR_IO, "%s: %s", temporary, strerror(errno));
    write_lines(out, signature, totals);
    if (fclose(out) != 0 || rename(temporary, path) != 0) {
        int error = errno;
        (void)unlink(temporary);
        return phx_fail(message, PHX_ERR_IO, "%s: %s", path, strerror(error));
    }
    return 0;
}

static bool read_line(const char *line, uint64_t *signature, struct phx_totals *t)
{
    struct phx_rule_count rule = {.count = 0};
    uint64_t count;
    uint32_t row;
    uint32_t column;
    if (sscanf(line, "campaign %" SCNx64, signature) == 1 ||
        sscanf(line, "next %" SCNu64, &t->next) == 1 ||
        sscanf(line, "runs %" SCNu64, &t->runs) == 1 ||
        sscanf(line, "failed %" SCNu64, &t->failed) == 1 ||
        sscanf(line, "events %" SCNu64, &t->events) == 1 ||
        sscanf(line, "operations %" SCNu64, &t->operations) == 1 ||
        sscanf(line, "hash %" SCNx64, &t->hash) == 1 ||
        sscanf(line, "wall_ms %" SCNu64, &t->wall_ms) == 1)
        return true;
    if (sscanf(line, "rule %47s %" SCNu64 " %" SCNu64, rule.rule, &rule.count, &rule.first) == 3 &&
        t->rule_count < PHX_RULES_MAX) {
        t->rules[t->rule_count++] = rule;
        return true;
    }
    if (sscanf(line, "struck %u %u %" SCNu64, &row, &column, &count) == 3 &&
        row < phx_coverage_rows() && column < PHX_COLUMNS) {
        t->coverage.counts[row][column] = count;
        return true;
    }
    return false;
}

int phx_state_read(const char *path, uint64_t signature, struct phx_totals *totals,
                   bool *is_missing, struct phx_message *message)
{
    struct phx_totals *t = calloc(1, sizeof *t);
    FILE *in = t != NULL ? fopen(path, "r") : NULL;
    *is_missing = in == NULL && errno == ENOENT;
    if (in == NULL) {
        free(t);
        return phx_fail(message, PHX_ERR_IO, "%s: %s", path, strerror(errno));
    }
    char line[256];
    uint64_t theirs = 0;
    bool is_first = true;
    bool is_whole = false;
    bool is_good = true;
    while (is_good && !is_whole && fgets(line, sizeof line, in) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        is_whole = strcmp(line, "end") == 0;
        is_good = is_first ? strcmp(line, FORMAT) == 0 : is_whole || read_line(line, &theirs, t);
        is_first = false;
    }
    (void)fclose(in);
    int rc = 0;
    if (!is_good || !is_whole)
        rc = phx_fail(message, PHX_ERR_INVALID, "%s is no state of a campaign: '%.60s'", path,
                      is_first ? "" : line);
    else if (theirs != signature)
        rc =
            phx_fail(message, PHX_ERR_MISMATCH,
                     "%s is the state of another campaign: other limits, files, bug or mode", path);
    else
        *totals = *t;
    free(t);
    return rc;
}
