// tools/cmd_run.c: phx run FILE: runs a scenario on real processes, with faults made for real.

#include <argp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bug_option.h"
#include "tools/command.h"
#include "tools/launched.h"
#include "tools/options.h"
#include "tools/report.h"
#include "tools/run.h"
#include "tools/run_history.h"
#include "tools/run_soak.h"

#define ROUNDS_MAX 1000000u

enum run_option {
    OPTION_TRANSPORT = 't',
    OPTION_SEED = 's',
    OPTION_RANKS = 'r',
    OPTION_WORKERS = 'w',
    OPTION_JSON = 'j',
    OPTION_SLACK = 256,
    OPTION_PER_GPU,
    OPTION_OWN_GPU,
    OPTION_RECORD,
    OPTION_ROUNDS,
    OPTION_KILL,
    OPTION_PAUSE,
    OPTION_BUG,
    OPTION_JOIN,
    OPTION_ALONE,
    OPTION_RENDEZVOUS
};

struct run {
    const char *path;
    const char *transport;
    const char *record; // NULL: nowhere
    const char *bug;
    struct phx_scenario_options scenario;
    struct phx_live_options live;
    struct phx_soak_options soak; // rounds 0: one run, with its report
    struct phx_launched_options launch;
    struct phx_launched launched;
    bool has_seed;
    bool is_json;
};

static const struct argp_option OPTIONS[] = {
    {"transport", OPTION_TRANSPORT, "NAME", 0,
     "shm: processes of this host (default); cuda: each on a GPU of its own, over NVLink", 0},
    {"ranks-per-gpu", OPTION_PER_GPU, "N", 0, "cuda: let up to N ranks share a GPU (default 1)", 0},
    {"own-gpu-only", OPTION_OWN_GPU, NULL, 0,
     "cuda: each process sees its own GPU alone (CUDA_VISIBLE_DEVICES)", 0},
    {"seed", OPTION_SEED, "N", 0, "decides the inputs (default 1)", 0},
    {"ranks", OPTION_RANKS, "N", 0, "scale the cluster to N ranks", 0},
    {"workers", OPTION_WORKERS, "N", 0,
     "threads of each rank (default: as many as fit the cores, 1 to 4; cuda: thread blocks, 32)",
     0},
    {"slack", OPTION_SLACK, "N", 0,
     "multiply deadlines, durations and times of the file (default 1; 100 when workers "
     "outnumber the cores; cuda: 20, or 2000 when ranks share a GPU)",
     0},
    {"json", OPTION_JSON, NULL, 0, "print one JSON object", 0},
    {"record", OPTION_RECORD, "OUT", 0, "write what happened, for phx replay", 0},
    {"rounds", OPTION_ROUNDS, "N", 0, "run it N times, and print figures of all of them", 0},
    {"kill-random", OPTION_KILL, NULL, 0,
     "each round with a SIGKILL at a random moment, instead of the file's faults", 0},
    {"pause-random", OPTION_PAUSE, NULL, 0,
     "each round with a SIGSTOP at a random moment, for three deadlines", 0},
    {"join", OPTION_JOIN, NULL, 0,
     "be one rank of those that a launcher started: which one, and where they meet, is in the "
     "environment (default, if it is)",
     0},
    {"rendezvous", OPTION_RENDEZVOUS, "URL", 0,
     "tcp://HOST:PORT or file://DIRECTORY, where the ranks meet; implies --join", 0},
    {"alone", OPTION_ALONE, NULL, 0, "start all ranks here, whatever the environment says", 0},
    {"bug", OPTION_BUG, "NAME", 0, "with a planted mistake (phx-planted only)", 0},
    {0},
};

static error_t parse_number(struct run *run, int key, const char *text, struct argp_state *state)
{
    switch (key) {
    case OPTION_SEED:
        run->live.seed = phx_number_or_usage(state, "--seed", text, 0, UINT64_MAX);
        run->has_seed = true;
        return 0;
    case OPTION_RANKS:
        run->scenario.ranks =
            (uint32_t)phx_number_or_usage(state, "--ranks", text, 1, PHX_RANKS_MAX);
        return 0;
    case OPTION_WORKERS:
        run->live.workers =
            (uint32_t)phx_number_or_usage(state, "--workers", text, 1, PHX_WORKERS_MAX);
        return 0;
    case OPTION_SLACK:
        run->live.slack =
            (uint32_t)phx_number_or_usage(state, "--slack", text, 1, PHX_LIVE_SLACK_MAX);
        return 0;
    case OPTION_PER_GPU:
        run->live.ranks_per_gpu =
            (uint32_t)phx_number_or_usage(state, "--ranks-per-gpu", text, 1, PHX_LIVE_RANKS_MAX);
        return 0;
    case OPTION_ROUNDS:
        run->soak.rounds = (uint32_t)phx_number_or_usage(state, "--rounds", text, 1, ROUNDS_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void check_usage(const struct run *run, struct argp_state *state)
{
    if (run->path == NULL)
        argp_error(state, "which scenario? There are some in scenarios/");
    if (run->soak.kind != 0 && run->soak.rounds == 0)
        argp_error(state, "--kill-random and --pause-random need --rounds N");
    if (run->soak.rounds != 0 && run->record != NULL)
        argp_error(state, "--record writes down one run; --rounds makes many");
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct run *run = state->input;
    switch (key) {
    case OPTION_TRANSPORT:
        run->transport = argument;
        return 0;
    case OPTION_JSON:
        run->is_json = true;
        return 0;
    case OPTION_OWN_GPU:
        run->live.sees_own = true;
        return 0;
    case OPTION_RECORD:
        run->record = argument;
        return 0;
    case OPTION_KILL:
    case OPTION_PAUSE:
        if (run->soak.kind != 0)
            argp_error(state, "one of --kill-random and --pause-random");
        run->soak.kind = key == OPTION_KILL ? PHX_FAULT_KILL : PHX_FAULT_PAUSE;
        return 0;
    case OPTION_JOIN:
        run->launch.joins = true;
        return 0;
    case OPTION_ALONE:
        run->launch.is_alone = true;
        return 0;
    case OPTION_RENDEZVOUS:
        run->launch.rendezvous = argument;
        return 0;
    case OPTION_BUG:
        run->bug = argument;
        return 0;
    case ARGP_KEY_ARG:
        if (run->path != NULL)
            argp_error(state, "one scenario at a time: %s, then %s", run->path, argument);
        run->path = argument;
        return 0;
    case ARGP_KEY_END:
        check_usage(run, state);
        return 0;
    default:
        return parse_number(run, key, argument, state);
    }
}

// --- being interrupted --------------------------------------------------------------------------

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
    phx_live_interrupt();
}

// Its ranks are ended first; then it ends as it was told to.
static void signals_catch(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        (void)sigaction(numbers[i], &action, NULL);
}

static void signal_pass_on(void)
{
    if (caught == 0)
        return;
    (void)fflush(NULL);
    (void)signal(caught, SIG_DFL);
    (void)raise(caught);
}

// --- runs ---------------------------------------------------------------------------------------

static int refuse(const struct run *run, int rc, const struct phx_message *message)
{
    (void)fprintf(stderr, "phx run: ");
    if (run->launched.is_joined)
        (void)fprintf(stderr, "rank %u of %u: ", run->launched.world.rank,
                      run->launched.world.ranks);
    (void)fprintf(stderr, "%s: %s\n", run->path, message->text);
    signal_pass_on();
    switch (rc) {
    case PHX_ERR_INVALID:
    case PHX_ERR_IO:
    case PHX_ERR_UNSUPPORTED:
    case PHX_ERR_PROTECTION:
    case PHX_ERR_MISMATCH:
        return PHX_EXIT_USAGE;
    default:
        return PHX_EXIT_INTERNAL;
    }
}

static int run_rounds(const struct run *run, const struct phx_workload *w)
{
    struct phx_message message = {""};
    struct phx_soak_options options = run->soak;
    options.is_json = run->is_json;
    options.has_progress = !run->is_json;
    int rc = phx_soak_run(w, &run->live, &options, stdout, &message);
    if (rc < 0)
        return refuse(run, rc, &message);
    return rc == 0 ? PHX_EXIT_PASSED : PHX_EXIT_FAILED;
}

static void print_repeat(const struct run *run, const struct phx_summary *s)
{
    FILE *out = run->is_json ? stderr : stdout;
    (void)fprintf(out, "repeat: %s run ", phx_program());
    phx_print_word(out, run->path);
    if (run->live.is_cuda)
        (void)fprintf(out, " --transport cuda");
    (void)fprintf(out, " --seed %" PRIu64 " --workers %u --slack %u", s->seed, s->live.workers,
                  s->live.slack);
    if (run->record == NULL)
        (void)fprintf(out, " --record OUT, and %s replay OUT", phx_program());
    (void)fputc('\n', out);
}

static int report(const struct run *run, const struct phx_scenario *scenario,
                  const struct phx_summary *summary, const struct phx_history *history)
{
    struct phx_message message = {""};
    int status = summary->is_passed ? PHX_EXIT_PASSED : PHX_EXIT_FAILED;
    if (!run->is_json) {
        phx_report_text(stdout, scenario, summary, phx_wall_ms());
    } else if (phx_report_json(stdout, summary, phx_wall_ms()) != 0) {
        (void)fprintf(stderr, "phx run: no memory for the report\n");
        status = PHX_EXIT_INTERNAL;
    }
    if (status == PHX_EXIT_FAILED)
        print_repeat(run, summary);
    if (run->record == NULL)
        return status;
    int rc = phx_history_write(run->record, scenario, summary->seed, history, &message);
    return rc != 0 ? refuse(run, rc, &message) : status;
}

static int run_once(const struct run *run, const struct phx_scenario *scenario)
{
    struct phx_summary summary;
    struct phx_history history;
    struct phx_message message = {""};
    int rc = phx_live_run(&scenario->workload, &run->live, &summary, &history, &message);
    if (rc != 0)
        return refuse(run, rc, &message);
    int status = report(run, scenario, &summary, &history);
    phx_summary_free(&summary);
    phx_history_free(&history);
    return status;
}

// One rank of it: who compared everything reports, and all end alike.
static int run_joined(struct run *run, const struct phx_scenario *scenario)
{
    struct phx_summary summary;
    struct phx_history history;
    struct phx_live_part part;
    struct phx_message message = {""};
    uint64_t digest = phx_launched_digest(scenario);
    int rc = phx_live_join(&scenario->workload, &run->live, &run->launched.world, digest, &part,
                           &summary, &history, &message);
    phx_bootstrap_wipe(run->launched.env.secret, sizeof run->launched.env.secret);
    if (rc != 0)
        return refuse(run, rc, &message);
    if (!part.reports)
        return part.is_passed ? PHX_EXIT_PASSED : PHX_EXIT_FAILED;
    int status = report(run, scenario, &summary, &history);
    phx_summary_free(&summary);
    phx_history_free(&history);
    return status;
}

static int run_scenario(struct run *run, const struct phx_scenario *scenario)
{
    struct phx_message message = {""};
    run->live.is_cuda = strcmp(run->transport, "cuda") == 0;
    if (!run->live.is_cuda && strcmp(run->transport, "shm") != 0) {
        const char *why = strcmp(run->transport, "verbs") == 0 ? "RDMA verbs are not written yet; "
                          : strcmp(run->transport, "sim") == 0 ? "that is phx sim; "
                                                               : "";
        (void)fprintf(stderr, "phx run: --transport %s: %sthere are shm and cuda\n", run->transport,
                      why);
        return PHX_EXIT_USAGE;
    }
    if (!run->live.is_cuda && (run->live.ranks_per_gpu != 0 || run->live.sees_own)) {
        (void)fprintf(stderr, "phx run: --%s: only with --transport cuda\n",
                      run->live.sees_own ? "own-gpu-only" : "ranks-per-gpu");
        return PHX_EXIT_USAGE;
    }
    if (scenario->run.is_given && !run->has_seed)
        run->live.seed = scenario->run.seed;
    struct phx_workload w = scenario->workload;
    if (run->soak.kind != 0)
        w.fault_count = 0;
    int rc = phx_live_check(&w, &run->live, &message);
    if (rc == 0 && run->live.is_cuda)
        rc = phx_live_gpus(&w, &run->live, &message);
    if (rc != 0)
        return refuse(run, rc, &message);
    if (run->launched.is_joined)
        return run_joined(run, scenario); // signals are its launcher's to send
    signals_catch();
    return run->soak.rounds != 0 ? run_rounds(run, &scenario->workload) : run_once(run, scenario);
}

// Who starts the ranks, and how many.
static int launch_find(struct run *run)
{
    struct phx_message message = {""};
    int rc = phx_launched_find(&run->launch, &run->launched, &message);
    if (rc == 0)
        rc = phx_launched_ranks(&run->launched, &run->scenario.ranks, &message);
    if (rc == 0 && run->launched.is_joined && run->soak.rounds != 0)
        rc = phx_fail(&message, PHX_ERR_INVALID,
                      "--rounds starts ranks of its own; this is rank %u of %u that were started "
                      "(--alone starts them here)",
                      run->launched.world.rank, run->launched.world.ranks);
    run->live.is_joined = run->launched.is_joined;
    return rc != 0 ? refuse(run, rc, &message) : 0;
}

int phx_command_run(int argc, char **argv)
{
    static const struct argp argp = {
        .options = OPTIONS,
        .parser = parse_option,
        .args_doc = "FILE",
        .doc = "Run a scenario with a process for each rank, and make its faults for real: SIGKILL "
               "and SIGSTOP at the put, the phase or the time that the file names. Started by "
               "torchrun or mpirun it is one rank of theirs.\v"
               "docs/running.md says what can be made for real. Exit status: 0 passed, 1 the "
               "scenario failed, 2 usage or input error, 3 internal error.",
    };
    struct run run = {.transport = "shm", .live.seed = 1};
    if (argp_parse(&argp, argc, argv, 0, NULL, &run) != 0)
        return PHX_EXIT_INTERNAL;
    int status = launch_find(&run);
    if (status != 0)
        return status;
    struct phx_scenario *scenario = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    int rc = phx_scenario_load(run.path, &run.scenario, &scenario, &d);
    if (rc != 0)
        return phx_refuse_file(run.path, &d, rc);
    status = phx_choose_bug("phx run", run.bug != NULL ? run.bug : scenario->run.bug);
    if (status == 0)
        status = run_scenario(&run, scenario);
    phx_scenario_free(scenario);
    return status;
}
