// tools/cmd_explore.c: phx explore [FILE|DIR...]: many runs with drawn faults.

#include <argp.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tools/bug_option.h"
#include "tools/command.h"
#include "tools/directory.h"
#include "tools/options.h"
#include "tools/explore_jobs.h"
#include "tools/explore_report.h"

#define BASES_MAX 512u
#define HANG_SECONDS 60u
#define SEEDS_DEFAULT 1000u

enum explore_option {
    OPTION_SEEDS = 's',
    OPTION_JOBS = 'j',
    OPTION_FIRST = 256,
    OPTION_UNTIL,
    OPTION_FOR,
    OPTION_RESUME,
    OPTION_OUT,
    OPTION_SYSTEMATIC,
    OPTION_KEEP,
    OPTION_RANKS_MAX,
    OPTION_TOKENS_MAX,
    OPTION_PAIRS_MAX,
    OPTION_FAULTS_MAX,
    OPTION_FAILURES_MAX,
    OPTION_HANG,
    OPTION_BUG,
    OPTION_TIE,
    OPTION_JSON
};

struct explore {
    struct phx_campaign campaign;
    struct phx_jobs jobs;
    struct phx_scenario *bases[BASES_MAX];
    const char *paths[BASES_MAX];
    uint32_t path_count;
    const char *bug;
    uint64_t seeds; // 0: not given
    uint64_t first;
    uint64_t for_seconds;
    bool is_json;
};

static const struct argp_option OPTIONS[] = {
    {"seeds", OPTION_SEEDS, "N", 0, "how many runs (default 1000; without end if a time is given)",
     0},
    {"first", OPTION_FIRST, "N", 0, "the first seed (default 1)", 0},
    {"jobs", OPTION_JOBS, "J", 0, "processes (default: one per core)", 0},
    {"for", OPTION_FOR, "SECONDS", 0, "stop after this time", 0},
    {"until", OPTION_UNTIL, "TIME", 0, "stop at HH:MM, or at YYYY-MM-DDTHH:MM, local time", 0},
    {"resume", OPTION_RESUME, "STATE", 0,
     "keep what was done in this file, and go on from it where it exists", 0},
    {"out", OPTION_OUT, "DIR", 0, "where failing runs are saved (default: failures)", 0},
    {"systematic", OPTION_SYSTEMATIC, NULL, 0,
     "one fault of each kind right after every event of a small run", 0},
    {"keep-expectations", OPTION_KEEP, NULL, 0,
     "keep the faults of FILE and what it expects; without this, expectations are those that hold "
     "whatever the faults do",
     0},
    {"ranks-max", OPTION_RANKS_MAX, "N", 0, "at most so many ranks (default 16; systematic: 3)", 0},
    {"tokens-max", OPTION_TOKENS_MAX, "N", 0, "tokens per rank (default 16)", 0},
    {"pairs-max", OPTION_PAIRS_MAX, "N", 0,
     "dispatches, each with its combine (default 8; systematic: 2)", 0},
    {"faults-max", OPTION_FAULTS_MAX, "N", 0, "drawn faults of a run (default 6)", 0},
    {"failures-max", OPTION_FAILURES_MAX, "N", 0,
     "stop after so many failing runs; each process ends the 16 that it has begun", 0},
    {"hang", OPTION_HANG, "SECONDS", 0, "a run that takes longer has hung (default 60)", 0},
    {"tie", OPTION_TIE, "KIND", 0, "fifo, random or pct in every run (default: drawn for each)", 0},
    {"bug", OPTION_BUG, "NAME", 0, "with a planted bug (phx-planted only)", 0},
    {"json", OPTION_JSON, NULL, 0, "print one JSON object at the end", 0},
    {0},
};

// As phx_wall_ms() tells it. A time of day that has passed is tomorrow's.
static double until_or_usage(struct argp_state *state, const char *text)
{
    time_t now = time(NULL);
    struct tm tm;
    struct tm day;
    (void)localtime_r(&now, &tm);
    day = tm;
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M", &tm);
    if (rest == NULL) {
        tm = day;
        rest = strptime(text, "%H:%M", &tm);
        tm.tm_sec = 0;
        tm.tm_isdst = -1;
        if (rest != NULL && mktime(&tm) <= now)
            tm.tm_mday++;
    }
    tm.tm_sec = 0;
    tm.tm_isdst = -1;
    time_t then = mktime(&tm);
    if (rest == NULL || *rest != '\0' || then == (time_t)-1 || then <= now)
        argp_error(state, "--until %s: must be a time to come, HH:MM or YYYY-MM-DDTHH:MM", text);
    return phx_wall_ms() + 1e3 * difftime(then, now);
}

static error_t parse_limit(int key, char *argument, struct argp_state *state,
                           struct phx_explore_limits *limits)
{
    switch (key) {
    case OPTION_RANKS_MAX:
        limits->ranks_max = (uint32_t)phx_number_or_usage(state, "--ranks-max", argument, 1, 1024);
        return 0;
    case OPTION_TOKENS_MAX:
        limits->tokens_max =
            (uint32_t)phx_number_or_usage(state, "--tokens-max", argument, 0, 65536);
        return 0;
    case OPTION_PAIRS_MAX:
        limits->pairs_max = (uint32_t)phx_number_or_usage(state, "--pairs-max", argument, 1, 4096);
        return 0;
    case OPTION_FAULTS_MAX:
        limits->faults_max = (uint32_t)phx_number_or_usage(state, "--faults-max", argument, 0,
                                                           PHX_EXPLORE_FAULTS_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_more(int key, char *argument, struct argp_state *state)
{
    struct explore *e = state->input;
    switch (key) {
    case OPTION_OUT:
        e->jobs.directory = argument;
        return 0;
    case OPTION_SYSTEMATIC:
        e->campaign.is_systematic = true;
        return 0;
    case OPTION_KEEP:
        e->campaign.keeps_expectations = true;
        return 0;
    case OPTION_FAILURES_MAX:
        e->jobs.failures_max =
            phx_number_or_usage(state, "--failures-max", argument, 1, UINT64_MAX);
        return 0;
    case OPTION_HANG:
        e->jobs.hang_seconds = (uint32_t)phx_number_or_usage(state, "--hang", argument, 1, 1000000);
        return 0;
    case OPTION_TIE:
        e->campaign.tie = phx_tie_or_usage(state, argument);
        return 0;
    case OPTION_BUG:
        e->bug = argument;
        return 0;
    case OPTION_JSON:
        e->is_json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (e->path_count == BASES_MAX)
            argp_error(state, "at most %u files and directories", BASES_MAX);
        e->paths[e->path_count++] = argument;
        return 0;
    default:
        return parse_limit(key, argument, state, &e->campaign.limits);
    }
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct explore *e = state->input;
    switch (key) {
    case OPTION_SEEDS:
        e->seeds = phx_number_or_usage(state, "--seeds", argument, 1, UINT64_MAX / 2);
        return 0;
    case OPTION_FIRST:
        e->first = phx_number_or_usage(state, "--first", argument, 0, UINT64_MAX / 2);
        return 0;
    case OPTION_JOBS:
        e->jobs.jobs = (uint32_t)phx_number_or_usage(state, "--jobs", argument, 1, PHX_JOBS_MAX);
        return 0;
    case OPTION_FOR:
        e->for_seconds = phx_number_or_usage(state, "--for", argument, 1, UINT32_MAX);
        return 0;
    case OPTION_UNTIL:
        e->jobs.until_wall_ms = until_or_usage(state, argument);
        return 0;
    case OPTION_RESUME:
        e->jobs.state_path = argument;
        return 0;
    case ARGP_KEY_END:
        if (e->campaign.keeps_expectations && (e->path_count == 0 || e->campaign.is_systematic))
            argp_error(state, "--keep-expectations needs files, and is not for --systematic");
        if (e->campaign.is_systematic && e->path_count > 1)
            argp_error(state, "--systematic takes one file, or none");
        return 0;
    default:
        return parse_more(key, argument, state);
    }
}

// --- bases ---------------------------------------------------------------------------------------

static int base_add(struct explore *e, const char *path)
{
    struct phx_scenario_options options = {.ranks = 0};
    struct phx_diagnosis d = {{0, 0}, {""}};
    if (e->campaign.base_count == BASES_MAX) {
        (void)fprintf(stderr, "phx explore: %s: more than %u scenarios\n", path, BASES_MAX);
        return PHX_EXIT_USAGE;
    }
    struct phx_scenario **base = &e->bases[e->campaign.base_count];
    int rc = phx_scenario_load(path, &options, base, &d);
    if (rc != 0)
        return phx_refuse_file(path, &d, rc);
    e->campaign.base_count++;
    return 0;
}

static int is_scenario(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return length > 5 && strcmp(entry->d_name + length - 5, ".yaml") == 0;
}

static int bases_of_directory(struct explore *e, const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_scenario, alphasort); // sorted: the order is drawn from
    if (count <= 0)
        (void)fprintf(stderr, "phx explore: %s: no scenarios (*.yaml)%s%s\n", path,
                      count < 0 ? ": " : "", count < 0 ? strerror(errno) : "");
    int status = count <= 0 ? PHX_EXIT_USAGE : 0;
    for (int i = 0; i < count; i++) {
        char file[2048];
        int length = snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        if (status == 0 && (length < 0 || (size_t)length >= sizeof file)) {
            (void)fprintf(stderr, "phx explore: %s: the path is too long\n", path);
            status = PHX_EXIT_USAGE;
        }
        if (status == 0)
            status = base_add(e, file);
        free(entries[i]);
    }
    free(entries);
    return status;
}

static int bases_load(struct explore *e)
{
    int status = 0;
    for (uint32_t i = 0; status == 0 && i < e->path_count; i++) {
        struct stat info;
        if (stat(e->paths[i], &info) == 0 && S_ISDIR(info.st_mode))
            status = bases_of_directory(e, e->paths[i]);
        else
            status = base_add(e, e->paths[i]);
    }
    e->campaign.bases = e->bases;
    return status;
}

// --- the campaign --------------------------------------------------------------------------------

static void limits_fill(struct phx_campaign *c)
{
    struct phx_explore_limits *l = &c->limits;
    if (l->ranks_max == 0)
        l->ranks_max = c->is_systematic ? 3 : 16;
    if (l->pairs_max == 0)
        l->pairs_max = c->is_systematic ? 2 : 8;
    if (l->tokens_max == UINT32_MAX)
        l->tokens_max = c->is_systematic ? 4 : 16;
    if (l->faults_max == UINT32_MAX)
        l->faults_max = 6;
}

static int say(const struct phx_message *message, int status)
{
    (void)fprintf(stderr, "phx explore: %s\n", message->text);
    return status;
}

// Where to begin and to end. 0, or how to exit.
static int range_fill(struct explore *e, struct phx_totals *totals)
{
    struct phx_message message;
    if (e->campaign.is_systematic && phx_systematic_open(&e->campaign, &message) != 0)
        return say(&message, PHX_EXIT_FAILED);
    if (phx_campaign_signature(&e->campaign, &e->jobs.signature, &message) != 0)
        return say(&message, PHX_EXIT_INTERNAL);
    bool is_timed = e->for_seconds > 0 || e->jobs.until_wall_ms > 0;
    uint64_t first = e->campaign.is_systematic && e->first == 1 ? 0 : e->first;
    uint64_t seeds = e->seeds > 0 ? e->seeds : SEEDS_DEFAULT;
    e->jobs.end = e->seeds == 0 && is_timed ? UINT64_MAX : first + seeds;
    if (e->campaign.is_systematic && (e->seeds == 0 || e->jobs.end > e->campaign.count))
        e->jobs.end = e->campaign.count;
    if (e->for_seconds > 0)
        e->jobs.until_wall_ms = phx_wall_ms() + 1e3 * (double)e->for_seconds;
    totals->next = first;
    if (e->jobs.state_path == NULL)
        return 0;
    bool is_missing = false;
    int rc = phx_state_read(e->jobs.state_path, e->jobs.signature, totals, &is_missing, &message);
    return rc == 0 || is_missing ? 0 : say(&message, PHX_EXIT_USAGE);
}

// Before hours are spent on runs whose failures could not be kept.
static int directory_ready(const struct explore *e)
{
    int error = phx_directory_check(e->jobs.directory);
    if (error == 0)
        return 0;
    (void)fprintf(stderr, "phx explore: failing runs could not be saved in \"%s\" (--out): %s\n",
                  e->jobs.directory, strerror(error));
    return PHX_EXIT_USAGE;
}

static int campaign_run(struct explore *e)
{
    struct phx_totals *totals = calloc(1, sizeof *totals);
    struct phx_message message;
    if (totals == NULL)
        return PHX_EXIT_INTERNAL;
    int status = directory_ready(e);
    if (status == 0)
        status = range_fill(e, totals);
    if (status == 0) {
        struct phx_progress progress;
        phx_progress_open(&progress, &e->jobs, totals);
        e->jobs.progress = phx_progress_show;
        e->jobs.context = &progress;
        int rc = phx_jobs_run(&e->jobs, totals, &message);
        phx_progress_close(&progress, totals);
        if (rc != 0)
            status = say(&message, PHX_EXIT_INTERNAL);
    }
    if (status == 0) {
        bool is_good = totals->failed == 0 && phx_coverage_contradictions(&totals->coverage) == 0;
        status = is_good ? PHX_EXIT_PASSED : PHX_EXIT_FAILED;
        if (!e->is_json)
            phx_totals_print(stdout, &e->jobs, totals);
        else if (phx_totals_json(stdout, &e->jobs, totals) != 0)
            status = PHX_EXIT_INTERNAL;
    }
    free(totals);
    return status;
}

int phx_command_explore(int argc, char **argv)
{
    static const struct argp argp = {
        .options = OPTIONS,
        .parser = parse_option,
        .args_doc = "[FILE|DIR...]",
        .doc = "Run many seeds with drawn faults, ties and sizes, and save each run that breaks a "
               "rule.\vWith files, their clusters, workloads and faults are what is drawn upon. "
               "docs/exploring.md says more. Exit status: 0 nothing failed, 1 some run did, 2 "
               "usage or input error, 3 internal error.",
    };
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    static struct explore e; // large
    e.jobs.jobs = cores < 1 ? 1 : cores > (long)PHX_JOBS_MAX ? PHX_JOBS_MAX : (uint32_t)cores;
    e.jobs.hang_seconds = HANG_SECONDS;
    e.jobs.directory = "failures";
    e.first = 1;
    e.campaign.limits = (struct phx_explore_limits){0, UINT32_MAX, 0, UINT32_MAX};
    if (argp_parse(&argp, argc, argv, 0, NULL, &e) != 0)
        return PHX_EXIT_INTERNAL;
    e.jobs.campaign = &e.campaign;
    limits_fill(&e.campaign);
    int status = phx_choose_bug("phx explore", e.bug);
    if (status == 0)
        status = bases_load(&e);
    if (status == 0 && e.bug != NULL)
        (void)snprintf(e.campaign.bug, sizeof e.campaign.bug, "%s", e.bug);
    if (status == 0)
        status = campaign_run(&e);
    for (uint32_t i = 0; i < e.campaign.base_count; i++)
        phx_scenario_free(e.bases[i]);
    return status;
}
