// tools/explore_report.c: see the header.

#include "tools/explore_report.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bug_option.h"
#include "tools/command.h"
#include "tools/options.h"

#define LINE_EVERY_MS 10000.0
#define BAR_WIDTH 24u

// --- while it runs -------------------------------------------------------------------------------

void phx_progress_open(struct phx_progress *progress, const struct phx_jobs *jobs,
                       const struct phx_totals *totals)
{
    *progress = (struct phx_progress){
        .jobs = jobs,
        .runs_before = totals->runs,
        .first = totals->next,
        .begun_ms = phx_wall_ms(),
        .line_ms = phx_wall_ms(),
        .is_terminal = isatty(STDERR_FILENO) == 1,
    };
}

// How much of it is done, 0 to 1: by runs, or by time where runs have no end.
static double share_done(const struct phx_progress *p, const struct phx_totals *totals)
{
    const struct phx_jobs *jobs = p->jobs;
    double share = 0;
    if (jobs->end != UINT64_MAX && jobs->end > p->first)
        share = (double)(totals->next - p->first) / (double)(jobs->end - p->first);
    if (jobs->until_wall_ms > 0) {
        double timed = (phx_wall_ms() - p->begun_ms) / (jobs->until_wall_ms - p->begun_ms);
        share = timed > share ? timed : share;
    }
    return share > 1 ? 1 : share;
}

static void print_state(const struct phx_progress *p, const struct phx_totals *totals)
{
    double elapsed_s = (phx_wall_ms() - p->begun_ms) / 1e3;
    double share = share_done(p, totals);
    double rate = elapsed_s > 0 ? (double)(totals->runs - p->runs_before) / elapsed_s : 0;
    (void)fprintf(stderr, "%" PRIu64 " runs", totals->runs);
    if (p->jobs->end != UINT64_MAX)
        (void)fprintf(stderr, " of %" PRIu64, totals->runs + (p->jobs->end - totals->next));
    (void)fprintf(stderr, ", %.0f/s, %" PRIu64 " failed", rate, totals->failed);
    if (share > 0)
        (void)fprintf(stderr, ", %.0f s left", elapsed_s / share - elapsed_s);
}

static void print_bar(const struct phx_progress *p, const struct phx_totals *totals)
{
    uint32_t filled = (uint32_t)(share_done(p, totals) * BAR_WIDTH);
    (void)fprintf(stderr, "\r[");
    for (uint32_t i = 0; i < BAR_WIDTH; i++)
        (void)fputc(i < filled ? '#' : ' ', stderr);
    (void)fprintf(stderr, "] ");
    print_state(p, totals);
    (void)fprintf(stderr, "\033[K");
    (void)fflush(stderr);
}

void phx_progress_show(void *context, const struct phx_totals *totals,
                       const struct phx_trial *failure)
{
    struct phx_progress *p = context;
    if (failure != NULL) {
        char path[1024];
        phx_failure_path(p->jobs, failure->number, path, sizeof path);
        (void)fprintf(stderr, "%s%s: %s: %s\n", p->is_terminal ? "\r\033[K" : "", path,
                      failure->rule, failure->text);
    }
    if (p->is_terminal) {
        print_bar(p, totals);
    } else if (phx_wall_ms() - p->line_ms >= LINE_EVERY_MS) {
        p->line_ms = phx_wall_ms();
        print_state(p, totals);
        (void)fputc('\n', stderr);
    }
}

void phx_progress_close(struct phx_progress *p, const struct phx_totals *totals)
{
    if (!p->is_terminal)
        return;
    print_bar(p, totals);
    (void)fputc('\n', stderr);
}

// --- in the end ----------------------------------------------------------------------------------

void phx_totals_print(FILE *out, const struct phx_jobs *jobs, const struct phx_totals *t)
{
    double seconds = (double)t->wall_ms / 1e3;
    phx_coverage_print(out, &t->coverage);
    (void)fprintf(out,
                  "%" PRIu64 " runs, %" PRIu64 " operations, %" PRIu64 " events in %.1f s "
                  "(%.0f runs/s)\n",
                  t->runs, t->operations, t->events, seconds,
                  seconds > 0 ? (double)t->runs / seconds : 0.0);
    (void)fprintf(out, "campaign hash %016" PRIx64 "\n", t->hash);
    if (t->failed == 0) {
        (void)fprintf(out, "no run failed\n");
        return;
    }
    (void)fprintf(out, "%" PRIu64 " run%s FAILED\n", t->failed, t->failed == 1 ? "" : "s");
    for (uint32_t i = 0; i < t->rule_count; i++) {
        char path[1024];
        phx_failure_path(jobs, t->rules[i].first, path, sizeof path);
        (void)fprintf(out, "  %-28s %8" PRIu64 "   %s\n", t->rules[i].rule, t->rules[i].count,
                      path);
    }
    char path[1024];
    phx_failure_path(jobs, t->rules[0].first, path, sizeof path);
    (void)fprintf(out, "repeat: %s replay ", phx_program());
    phx_print_word(out, path);
    (void)fputc('\n', out);
}

// As digits, because a JSON library's numbers are doubles.
static cJSON *add_u64(cJSON *object, const char *key, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    return cJSON_AddRawToObject(object, key, text);
}

static int add_rules(cJSON *object, const struct phx_jobs *jobs, const struct phx_totals *t)
{
    cJSON *list = cJSON_AddArrayToObject(object, "rules");
    for (uint32_t i = 0; list != NULL && i < t->rule_count; i++) {
        char path[1024];
        phx_failure_path(jobs, t->rules[i].first, path, sizeof path);
        cJSON *rule = cJSON_CreateObject();
        if (rule == NULL || !cJSON_AddItemToArray(list, rule)) {
            cJSON_Delete(rule);
            return -1;
        }
        if (!cJSON_AddStringToObject(rule, "rule", t->rules[i].rule) ||
            !add_u64(rule, "runs", t->rules[i].count) ||
            !cJSON_AddStringToObject(rule, "first", path))
            return -1;
    }
    return list != NULL ? 0 : -1;
}

static int add_coverage(cJSON *object, const struct phx_coverage *coverage)
{
    cJSON *table = cJSON_AddObjectToObject(object, "struck");
    for (uint32_t row = 0; table != NULL && row < phx_coverage_rows(); row++) {
        cJSON *cells = cJSON_AddObjectToObject(table, phx_coverage_row_name(row));
        for (uint32_t column = 0; column < PHX_COLUMNS; column++)
            if (cells == NULL || !add_u64(cells, phx_coverage_column_name((enum phx_column)column),
                                          coverage->counts[row][column]))
                return -1;
    }
    return table != NULL ? 0 : -1;
}

int phx_totals_json(FILE *out, const struct phx_jobs *jobs, const struct phx_totals *t)
{
    char hash[20];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, t->hash);
    cJSON *object = cJSON_CreateObject();
    bool is_good = object != NULL &&
                   cJSON_AddStringToObject(object, "result", t->failed == 0 ? "pass" : "fail") &&
                   add_u64(object, "runs", t->runs) && add_u64(object, "failed", t->failed) &&
                   add_u64(object, "next", t->next) && add_u64(object, "events", t->events) &&
                   add_u64(object, "operations", t->operations) &&
                   cJSON_AddStringToObject(object, "campaign_hash", hash) &&
                   add_rules(object, jobs, t) == 0 && add_coverage(object, &t->coverage) == 0 &&
                   add_u64(object, "wall_ms", t->wall_ms);
    char *text = is_good ? cJSON_PrintUnformatted(object) : NULL;
    cJSON_Delete(object);
    if (text == NULL)
        return PHX_ERR_NO_MEMORY;
    (void)fprintf(out, "%s\n", text);
    free(text);
    return 0;
}
