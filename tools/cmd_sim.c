// tools/cmd_sim.c: phx sim FILE: runs a scenario in virtual time.

#include <argp.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tools/bug_option.h"
#include "tools/command.h"
#include "tools/options.h"
#include "tools/report.h"
#include "tools/svg_picture.h"

enum sim_option {
    OPTION_SEED = 's',
    OPTION_RANKS = 'r',
    OPTION_TRACE = 't',
    OPTION_JSON = 'j',
    OPTION_FIBERS = 256,
    OPTION_TIE,
    OPTION_PCT_DEPTH,
    OPTION_QUANTUM,
    OPTION_BUG,
    OPTION_SVG,
    OPTION_SVG_FROM,
    OPTION_SVG_TO
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
    struct phx_schedule schedule; // as the command line says; zero fields: it does not
    bool has_seed;
    bool is_json;
    const char *bug;
    const char *svg_path; // NULL: no picture
    struct phx_picture_window window;
};

static const struct argp_option OPTIONS[] = {
    {"seed", OPTION_SEED, "N", 0, "decides every delay and draw of the run (default 1)", 0},
    {"ranks", OPTION_RANKS, "N", 0, "scale the cluster to N ranks", 0},
    {"trace", OPTION_TRACE, "OUT.json", 0, "write what happened, for ui.perfetto.dev", 0},
    {"json", OPTION_JSON, NULL, 0, "print one JSON object", 0},
    {"fibers", OPTION_FIBERS, "KIND", 0, FIBERS_HELP, 0},
    {"tie", OPTION_TIE, "KIND", 0,
     "which of two events at the same time comes first: fifo (default), random or pct, by the seed",
     0},
    {"pct-depth", OPTION_PCT_DEPTH, "N", 0, "priorities change N - 1 times (with --tie pct)", 0},
    {"quantum-ns", OPTION_QUANTUM, "N", 0,
     "round times up to multiples of N ns, so that many events share one", 0},
    {"bug", OPTION_BUG, "NAME", 0, "with a planted mistake (phx-planted only)", 0},
    {"svg", OPTION_SVG, "OUT.svg", 0, "draw what happened: a band for each rank, time across", 0},
    {"svg-from-us", OPTION_SVG_FROM, "T", 0,
     "the picture begins there (default: an operation before the first fault)", 0},
    {"svg-to-us", OPTION_SVG_TO, "T", 0,
     "the picture ends there (default: when the survivors got over it)", 0},
    {0},
};

static enum phx_fiber_mode fibers_or_usage(struct argp_state *state, const char *text)
{
    if (strcmp(text, "context") != 0 && strcmp(text, "pthread") != 0)
        argp_error(state, "--fibers %s: must be context or pthread", text);
    return strcmp(text, "context") == 0 ? PHX_FIBERS : PHX_PTHREADS;
}

static error_t parse_schedule(struct sim *sim, int key, const char *argument,
                              struct argp_state *state)
{
    switch (key) {
    case OPTION_SEED:
        sim->run.seed = phx_number_or_usage(state, "--seed", argument, 0, UINT64_MAX);
        sim->has_seed = true;
        return 0;
    case OPTION_TIE:
        sim->schedule.tie = phx_tie_or_usage(state, argument);
        return 0;
    case OPTION_PCT_DEPTH:
        sim->schedule.pct_depth =
            (uint32_t)phx_number_or_usage(state, "--pct-depth", argument, 1, PHX_PCT_DEPTH_MAX);
        return 0;
    case OPTION_QUANTUM:
        sim->schedule.quantum_ps = 1000 * phx_number_or_usage(state, "--quantum-ns", argument, 1,
                                                              PHX_QUANTUM_PS_MAX / 1000);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

#define SVG_US_MAX (UINT64_MAX / 1000000 - 1)

static error_t parse_output(struct sim *sim, int key, char *argument, struct argp_state *state)
{
    switch (key) {
    case OPTION_TRACE:
        sim->run.trace_path = argument;
        return 0;
    case OPTION_JSON:
        sim->is_json = true;
        return 0;
    case OPTION_SVG:
        sim->svg_path = argument;
        return 0;
    case OPTION_SVG_FROM:
        sim->window.from_ps =
            1000000 * phx_number_or_usage(state, "--svg-from-us", argument, 0, SVG_US_MAX);
        return 0;
    case OPTION_SVG_TO:
        sim->window.to_ps =
            1000000 * phx_number_or_usage(state, "--svg-to-us", argument, 1, SVG_US_MAX);
        return 0;
    default:
        return parse_schedule(sim, key, argument, state);
    }
}

static void check_usage(const struct sim *sim, struct argp_state *state)
{
    if (sim->path == NULL)
        argp_error(state, "which scenario? There are some in scenarios/");
    bool has_window = sim->window.from_ps != UINT64_MAX || sim->window.to_ps != UINT64_MAX;
    if (has_window && sim->svg_path == NULL)
        argp_error(state, "--svg-from-us and --svg-to-us choose what --svg OUT.svg draws");
    if (sim->window.from_ps != UINT64_MAX && sim->window.from_ps >= sim->window.to_ps)
        argp_error(state, "--svg-to-us: must be above --svg-from-us");
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct sim *sim = state->input;
    switch (key) {
    case OPTION_RANKS:
        sim->scenario.ranks =
            (uint32_t)phx_number_or_usage(state, "--ranks", argument, 1, PHX_RANKS_MAX);
        return 0;
    case OPTION_FIBERS:
        sim->run.fibers = fibers_or_usage(state, argument);
        return 0;
    case OPTION_BUG:
        sim->bug = argument;
        return 0;
    case ARGP_KEY_ARG:
        if (sim->path != NULL)
            argp_error(state, "one scenario at a time: %s, then %s", sim->path, argument);
        sim->path = argument;
        return 0;
    case ARGP_KEY_END:
        check_usage(sim, state);
        return 0;
    default:
        return parse_output(sim, key, argument, state);
    }
}

// The last line of a failure: what to type to see it again.
static void print_repeat(FILE *out, const struct sim *sim)
{
    (void)fprintf(out, "repeat: %s sim ", phx_program());
    phx_print_word(out, sim->path);
    (void)fprintf(out, " --seed %" PRIu64, sim->run.seed);
    if (sim->scenario.ranks != 0)
        (void)fprintf(out, " --ranks %u", sim->scenario.ranks);
    const struct phx_schedule *schedule = &sim->run.schedule;
    if (schedule->tie == PHX_TIE_RANDOM)
        (void)fprintf(out, " --tie random");
    if (schedule->tie == PHX_TIE_PCT)
        (void)fprintf(out, " --tie pct");
    if (schedule->pct_depth != 0)
        (void)fprintf(out, " --pct-depth %u", schedule->pct_depth);
    if (schedule->quantum_ps != 0 && schedule->quantum_ps % 1000 == 0)
        (void)fprintf(out, " --quantum-ns %" PRIu64, schedule->quantum_ps / 1000);
    if (sim->bug != NULL)
        (void)fprintf(out, " --bug %s", sim->bug);
    (void)fputc('\n', out);
}

// A failure file says how its run went; what the command line says comes before that.
static void take_run(struct sim *sim, const struct phx_scenario_run *run)
{
    struct phx_schedule schedule = run->is_given ? run->schedule : sim->run.schedule;
    if (sim->schedule.tie != 0)
        schedule.tie = sim->schedule.tie;
    if (sim->schedule.pct_depth != 0)
        schedule.pct_depth = sim->schedule.pct_depth;
    if (sim->schedule.quantum_ps != 0)
        schedule.quantum_ps = sim->schedule.quantum_ps;
    sim->run.schedule = schedule;
    if (run->is_given && !sim->has_seed)
        sim->run.seed = run->seed;
    if (sim->bug == NULL && run->bug[0] != '\0')
        sim->bug = run->bug;
}

// False, and a line on stderr, for what no picture can show.
static bool check_picture(const struct sim *sim, const struct phx_scenario *scenario)
{
    const struct phx_cluster *c = &scenario->workload.cluster;
    if (sim->svg_path == NULL || c->nodes * c->ranks_per_node <= PHX_PICTURE_RANKS_MAX)
        return true;
    (void)fprintf(stderr,
                  "phx sim: --svg %s: %u ranks; a picture has room for %u "
                  "(--ranks N makes the cluster smaller, --trace has room for all)\n",
                  sim->svg_path, c->nodes * c->ranks_per_node, PHX_PICTURE_RANKS_MAX);
    return false;
}

// The run, and the picture of it where one was asked for.
static int run_and_draw(const struct sim *sim, const struct phx_scenario *scenario,
                        struct phx_summary *summary, struct phx_message *message)
{
    struct phx_picture picture = {0};
    const struct phx_trace_sink sink = phx_picture_sink(&picture);
    struct phx_workload_options options = sim->run;
    options.sink = sim->svg_path != NULL ? &sink : NULL;
    int rc = phx_workload_run(&scenario->workload, &options, summary, message);
    if (rc == 0 && sim->svg_path != NULL) {
        rc = phx_picture_write(&picture, scenario, summary, &sim->window, sim->svg_path, message);
        if (rc != 0)
            phx_summary_free(summary);
    }
    phx_picture_free(&picture);
    return rc;
}

static int run_scenario(const struct sim *sim, const struct phx_scenario *scenario)
{
    struct phx_summary summary;
    struct phx_message message = {""};
    if (!check_picture(sim, scenario))
        return PHX_EXIT_USAGE;
    int rc = run_and_draw(sim, scenario, &summary, &message);
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
    struct sim sim = {
        .run = {.seed = 1, .schedule.tie = PHX_TIE_FIFO, .fibers = FIBERS_DEFAULT},
        .window = {UINT64_MAX, UINT64_MAX},
    };
    if (argp_parse(&argp, argc, argv, 0, NULL, &sim) != 0)
        return PHX_EXIT_INTERNAL;
    struct phx_scenario *scenario = NULL;
    struct phx_diagnosis diagnosis = {{0, 0}, {""}};
    int rc = phx_scenario_load(sim.path, &sim.scenario, &scenario, &diagnosis);
    if (rc != 0)
        return phx_refuse_file(sim.path, &diagnosis, rc);
    take_run(&sim, &scenario->run);
    int status = phx_choose_bug("phx sim", sim.bug);
    if (status == 0)
        status = run_scenario(&sim, scenario);
    phx_scenario_free(scenario);
    return status;
}
