// tools/cmd_shrink.c: phx shrink FAILURE.yaml: the smallest scenario that still breaks its rule.

#include <argp.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bug_option.h"
#include "tools/command.h"
#include "tools/options.h"
#include "tools/shrink.h"

enum shrink_option { OPTION_OUT = 'o', OPTION_BUG = 256, OPTION_HANG, OPTION_TRIALS };

struct shrink {
    const char *path;
    const char *out;
    const char *bug;
    struct phx_shrink shrink;
    double told_ms;
};

static const struct argp_option OPTIONS[] = {
    {"out", OPTION_OUT, "FILE", 0, "where the result goes (default: beside it, as .min.yaml)", 0},
    {"bug", OPTION_BUG, "NAME", 0, "with another planted bug than the file says (phx-planted only)",
     0},
    {"hang", OPTION_HANG, "SECONDS", 0, "a run that takes longer has hung (default 60)", 0},
    {"trials", OPTION_TRIALS, "N", 0, "stop after so many runs", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct shrink *s = state->input;
    switch (key) {
    case OPTION_OUT:
        s->out = argument;
        return 0;
    case OPTION_BUG:
        s->bug = argument;
        return 0;
    case OPTION_HANG:
        s->shrink.hang_seconds =
            (uint32_t)phx_number_or_usage(state, "--hang", argument, 1, 1000000);
        return 0;
    case OPTION_TRIALS:
        s->shrink.trials_max = phx_number_or_usage(state, "--trials", argument, 1, 1000000);
        return 0;
    case ARGP_KEY_ARG:
        if (s->path != NULL)
            argp_error(state, "one failure at a time: %s, then %s", s->path, argument);
        s->path = argument;
        return 0;
    case ARGP_KEY_END:
        if (s->path == NULL)
            argp_error(state, "which failure? phx explore saves them in failures/");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void print_count(FILE *out, uint32_t count, const char *of, const char *behind)
{
    (void)fprintf(out, "%u %s%s%s", count, of, count == 1 ? "" : "s", behind);
}

static void print_size(FILE *out, const struct phx_scenario *s)
{
    print_count(out, s->workload.fault_count, "fault", ", ");
    print_count(out, s->workload.cluster.nodes * s->workload.cluster.ranks_per_node, "rank", ", ");
    print_count(out, s->loads[0].steps * s->loads[0].layers, "pair", " of ");
    print_count(out, s->loads[0].tokens, "token", "");
}

static void show(void *context, const struct phx_shrink *shrink)
{
    struct shrink *s = context;
    if (phx_wall_ms() - s->told_ms < 100 || isatty(STDERR_FILENO) != 1)
        return;
    s->told_ms = phx_wall_ms();
    (void)fprintf(stderr, "\r%" PRIu64 " runs: ", shrink->trials);
    print_size(stderr, shrink->best);
    (void)fprintf(stderr, "\033[K");
    (void)fflush(stderr);
}

// FILE.min.yaml for FILE.yaml.
static int out_path(const struct shrink *s, char *path, size_t size)
{
    size_t length = strlen(s->path);
    if (length > 5 && strcmp(s->path + length - 5, ".yaml") == 0)
        length -= 5;
    int needed = s->out != NULL ? snprintf(path, size, "%s", s->out)
                                : snprintf(path, size, "%.*s.min.yaml", (int)length, s->path);
    return needed < 0 || (size_t)needed >= size ? -1 : 0;
}

static int shrink(struct shrink *s, const struct phx_scenario *scenario)
{
    char path[1024];
    struct phx_message message;
    if (out_path(s, path, sizeof path) != 0) {
        (void)fprintf(stderr, "phx shrink: %s: the path is too long\n", s->path);
        return PHX_EXIT_USAGE;
    }
    s->shrink.progress = show;
    s->shrink.context = s;
    int rc = phx_shrink_run(&s->shrink, scenario, &message);
    if (isatty(STDERR_FILENO) == 1)
        (void)fprintf(stderr, "\r\033[K");
    if (rc != 0) {
        (void)fprintf(stderr, "phx shrink: %s: %s\n", s->path, message.text);
        return rc == PHX_ERR_STATE ? PHX_EXIT_USAGE : PHX_EXIT_INTERNAL;
    }
    rc = phx_scenario_save(s->shrink.best, path, &message);
    if (rc != 0) {
        (void)fprintf(stderr, "phx shrink: %s\n", message.text);
        phx_scenario_free(s->shrink.best);
        return PHX_EXIT_USAGE;
    }
    (void)printf("%s: %s: %s\n", path, s->shrink.rule, s->shrink.trial.text);
    print_size(stdout, scenario);
    (void)printf(" became ");
    print_size(stdout, s->shrink.best);
    (void)printf(", in %" PRIu64 " runs\n", s->shrink.trials);
    (void)printf("repeat: %s replay ", phx_program());
    phx_print_word(stdout, path);
    (void)putchar('\n');
    phx_scenario_free(s->shrink.best);
    return PHX_EXIT_PASSED;
}

int phx_command_shrink(int argc, char **argv)
{
    static const struct argp argp = {
        .options = OPTIONS,
        .parser = parse_option,
        .args_doc = "FAILURE.yaml",
        .doc = "Find the smallest scenario that breaks the same rule as this one: fewer faults, "
               "ranks, steps, tokens, and so on.\vExit status: 0 it was written, 2 usage or input "
               "error, or it breaks no rule, 3 internal error.",
    };
    struct shrink s = {.shrink = {.hang_seconds = 60}};
    if (argp_parse(&argp, argc, argv, 0, NULL, &s) != 0)
        return PHX_EXIT_INTERNAL;
    struct phx_scenario *scenario = NULL;
    int status = phx_failure_load(s.path, &scenario);
    if (status == 0) {
        if (s.bug != NULL)
            (void)snprintf(scenario->run.bug, sizeof scenario->run.bug, "%s", s.bug);
        status = phx_choose_bug("phx shrink", scenario->run.bug);
    }
    if (status == 0)
        status = shrink(&s, scenario);
    phx_scenario_free(scenario);
    return status;
}
