// tools/cmd_sim.c: phx sim FILE: runs a scenario in virtual time.

#include <argp.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/command.h"
#include "tools/report.h"

enum sim_option {
    OPTION_SEED = 's',
    OPTION_RANKS = 'r',
    OPTION_TRACE = 't',
    OPTION_JSON = 'j',
    OPTION_FIBERS = 256,
    OPTION_TIE
};

#if PHX_HAVE_BOOST_CONTEXT
#define FIBERS_DEFAULT PHX_FIBERS
#define FIBERS_HELP                                                                                \
    "context (default): all in one thread; pthread: a thread each, for gdb; same "                 \
    "trace hash"
#else
#define FIBERS_DEFAULT PHX_PTHREADS
#define FIBERS_HELP                                                                                \
    "pthread: a thread each; context is missing, because this build has no Boost.Context"
#endif

struct sim {
    const char *path;
    struct phx_scenario_options scenario;
    struct phx_workload_options run;
    bool is_json;
};

static const struct argp_option OPTIONS[] = {
    {"seed", OPTION_SEED, "N", 0, "decides every delay and draw of the run (default 1)", 0},
    {"ranks", OPTION_RANKS, "N", 0, "scale the cluster to N ranks", 0},
    {"trace", OPTION_TRACE, "OUT.json", 0, "write what happened, for ui.perfetto.dev", 0},
    {"json", OPTION_JSON, NULL, 0, "print one JSON object", 0},
    {"fibers", OPTION_FIBERS, "KIND", 0, FIBERS_HELP, 0},
    {"tie", OPTION_TIE, "KIND", 0,
     "which of two events at the same time comes first: fifo (default) or random, by the seed", 0},
    {0},
};

static uint64_t number_or_usage(struct argp_state *state, const char *option, const char *text,
                                uint64_t min, uint64_t max)
{
    uint64_t value = 0;
    if (phx_parse_u64(text, &value) != 0 || value < min || value > max)
        argp_error(state, "%s %s: must be a whole number, %" PRIu64 " to %" PRIu64, option, text,
                   min, max); // does not return
    return value;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct sim *sim = state->input;
    switch (key) {
    case OPTION_SEED:
        sim->run.seed = number_or_usage(state, "--seed", argument, 0, UINT64_MAX);
        return 0;
    case OPTION_RANKS:
        sim->scenario.ranks =
            (uint32_t)number_or_usage(state, "--ranks", argument, 1, PHX_RANKS_MAX);
        return 0;
    case OPTION_TRACE:
        sim->run.trace_path = argument;
        return 0;
    case OPTION_JSON:
        sim->is_json = true;
        return 0;
    case OPTION_FIBERS:
        if (strcmp(argument, "context") == 0)
            sim->run.fibers = PHX_FIBERS;
        else if (strcmp(argument, "pthread") == 0)
            sim->run.fibers = PHX_PTHREADS;
        else
            argp_error(state, "--fibers %s: must be context or pthread", argument);
        return 0;
    case OPTION_TIE:
        if (strcmp(argument, "fifo") == 0)
            sim->run.schedule.tie = PHX_TIE_FIFO;
        else if (strcmp(argument, "random") == 0)
            sim->run.schedule.tie = PHX_TIE_RANDOM;
        else
            argp_error(state, "--tie %s: must be fifo or random", argument);
        return 0;
    case ARGP_KEY_ARG:
        if (sim->path != NULL)
            argp_error(state, "one scenario at a time: %s, then %s", sim->path, argument);
        sim->path = argument;
        return 0;
    case ARGP_KEY_END:
        if (sim->path == NULL)
            argp_error(state, "which scenario? There are some in scenarios/");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static int refuse_input(const char *path, const struct phx_diagnosis *d, int rc)
{
    if (d->place.line > 0)
        (void)fprintf(stderr, "%s:%u:%u: %s\n", path, d->place.line, d->place.column,
                      d->message.text);
    else
        (void)fprintf(stderr, "%s: %s\n", path, d->message.text);
    return rc == PHX_ERR_NO_MEMORY ? PHX_EXIT_INTERNAL : PHX_EXIT_USAGE;
}

// In single quotes, for a shell, where it needs them.
static void print_word(FILE *out, const char *word)
{
    const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:=@%";
    if (word[0] != '\0' && strspn(word, plain) == strlen(word)) {
        (void)fputs(word, out);
        return;
    }
    (void)fputc('\'', out);
    for (; *word != '\0'; word++) {
        if (*word == '\'')
            (void)fputs("'\\''", out);
        else
            (void)fputc(*word, out);
    }
    (void)fputc('\'', out);
}

// The last line of a failure: what to type to see it again.
static void print_repeat(FILE *out, const struct sim *sim)
{
    (void)fprintf(out, "repeat: phx sim ");
    print_word(out, sim->path);
    (void)fprintf(out, " --seed %" PRIu64, sim->run.seed);
    if (sim->scenario.ranks != 0)
        (void)fprintf(out, " --ranks %u", sim->scenario.ranks);
    if (sim->run.schedule.tie == PHX_TIE_RANDOM)
        (void)fprintf(out, " --tie random");
    (void)fputc('\n', out);
}

static int run_scenario(const struct sim *sim, const struct phx_scenario *scenario)
{
    struct phx_summary summary;
    struct phx_message message = {""};
    int rc = phx_workload_run(&scenario->workload, &sim->run, &summary, &message);
    if (rc != 0) {
        (void)fprintf(stderr, "phx sim: %s: %s\n", sim->path, message.text);
        // A value or a file that the caller named, or a mode that this build lacks: usage.
        return rc == PHX_ERR_INVALID || rc == PHX_ERR_IO || rc == PHX_ERR_UNSUPPORTED
                   ? PHX_EXIT_USAGE
                   : PHX_EXIT_INTERNAL;
    }
    int status = summary.is_passed ? PHX_EXIT_PASSED : PHX_EXIT_FAILED;
    if (!sim->is_json) {
        phx_report_text(stdout, scenario, &summary, phx_wall_ms());
    } else if (phx_report_json(stdout, &summary, phx_wall_ms()) != 0) {
        (void)fprintf(stderr, "phx sim: no memory for the report\n");
        status = PHX_EXIT_INTERNAL;
    }
    if (status == PHX_EXIT_FAILED) // --json keeps stdout to its one object
        print_repeat(sim->is_json ? stderr : stdout, sim);
    phx_summary_free(&summary);
    return status;
}

int phx_command_sim(int argc, char **argv)
{
    static const struct argp argp = {
        .options = OPTIONS,
        .parser = parse_option,
        .args_doc = "FILE",
        .doc = "Run a scenario in virtual time.\vdocs/scenarios.md describes the file. "
               "Exit status: 0 passed, 1 the scenario failed, 2 usage or input error, "
               "3 internal error.",
    };
    struct sim sim = {.run = {.seed = 1, .schedule.tie = PHX_TIE_FIFO, .fibers = FIBERS_DEFAULT}};
    if (argp_parse(&argp, argc, argv, 0, NULL, &sim) != 0)
        return PHX_EXIT_INTERNAL;
    struct phx_scenario *scenario = NULL;
    struct phx_diagnosis diagnosis = {{0, 0}, {""}};
    int rc = phx_scenario_load(sim.path, &sim.scenario, &scenario, &diagnosis);
    if (rc != 0)
        return refuse_input(sim.path, &diagnosis, rc);
    int status = run_scenario(&sim, scenario);
    phx_scenario_free(scenario);
    return status;
}
