// tools/main.c: phx COMMAND: finds the command and hands over.

#include <argp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/phalanx.h"
#include "tools/command.h"
#include "tools/fields.h"

struct command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv); // NULL: not built
    const char *missing;               // the part that it waits for
};

static const struct command COMMANDS[] = {
    {"sim", "run a scenario in virtual time", phx_command_sim, NULL},
    {"run", "run a scenario with real processes and real faults", phx_command_run, NULL},
    {"explore", "run many seeds with drawn faults", phx_command_explore, NULL},
    {"replay", "replay a saved failure from its list of faults", phx_command_replay, NULL},
    {"shrink", "find the smallest scenario that still fails", phx_command_shrink, NULL},
    {"bench", "measure, as a table and as JSON", phx_command_bench, NULL},
    {"rendezvous", "serve as the place where ranks of a job meet", phx_command_rendezvous, NULL},
    {"info", "say what this machine and this build can do", phx_command_info, NULL},
};
#define COMMAND_COUNT (sizeof COMMANDS / sizeof COMMANDS[0])

static struct timespec started;

double phx_wall_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - started.tv_sec) * 1e3 +
           (double)(now.tv_nsec - started.tv_nsec) / 1e6;
}

static char *help_text(int key, const char *text, void *input)
{
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC)
        return (char *)(uintptr_t)text;
    size_t size = 4096;
    char *list = malloc(size);
    if (list == NULL)
        return NULL;
    size_t used = (size_t)snprintf(list, size, "Commands:\n");
    for (size_t i = 0; i < COMMAND_COUNT && used < size; i++)
        used += (size_t)snprintf(list + used, size - used, "  %-10s %s%s\n", COMMANDS[i].name,
                                 COMMANDS[i].summary, COMMANDS[i].run ? "" : " (not built yet)");
    if (used < size)
        (void)snprintf(list + used, size - used,
                       "\n'phx COMMAND --help' says more. Exit status: 0 passed, 1 the scenario "
                       "failed, 2 usage or input error, 3 internal error.");
    return list;
}

static int unknown_command(const char *name)
{
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = COMMANDS[i].name;
    const char *nearest = phx_nearest(name, names, COMMAND_COUNT);
    struct phx_excerpt text = phx_excerpt_make(name);
    if (nearest != NULL)
        (void)fprintf(stderr, "phx: '%s' is not a command; did you mean '%s'?\n", text.text,
                      nearest);
    else
        (void)fprintf(stderr, "phx: '%s' is not a command; 'phx --help' lists them\n", text.text);
    return PHX_EXIT_USAGE;
}

static int run_command(int argc, char **argv)
{
    const struct command *command = NULL;
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(argv[0], COMMANDS[i].name) == 0)
            command = &COMMANDS[i];
    if (command == NULL)
        return unknown_command(argv[0]);
    if (command->run == NULL) {
        (void)fprintf(stderr, "phx %s: not built yet: it needs %s\n", command->name,
                      command->missing);
        return PHX_EXIT_USAGE;
    }
    char name[32];
    (void)snprintf(name, sizeof name, "phx %s", command->name);
    argv[0] = name;
    int status = command->run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        (void)fprintf(stderr, "%s: the output could not be written: %s\n", name, strerror(errno));
        return PHX_EXIT_INTERNAL;
    }
    return status;
}

struct chosen {
    int argc;
    char **argv;
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct chosen *chosen = state->input;
    (void)argument;
    switch (key) {
    case ARGP_KEY_ARG: // the command; what follows is its own
        chosen->argc = state->argc - state->next + 1;
        chosen->argv = &state->argv[state->next - 1];
        state->next = state->argc;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_state_help(state, stderr, ARGP_HELP_USAGE | ARGP_HELP_DOC | ARGP_HELP_EXIT_ERR);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    (void)clock_gettime(CLOCK_MONOTONIC, &started);
    static const struct argp argp = {
        .parser = parse_option,
        .args_doc = "COMMAND [ARGUMENT...]",
        .doc = "Phalanx: fault-tolerant dispatch and combine for mixture-of-experts inference.\v",
        .help_filter = help_text,
    };
    char version[64];
    (void)snprintf(version, sizeof version, "phx %s", phx_version());
    argp_program_version = version;
    argp_err_exit_status = PHX_EXIT_USAGE;
    struct chosen chosen = {0, NULL};
    error_t error = argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &chosen);
    if (error != 0) {
        (void)fprintf(stderr, "phx: %s\n", strerror(error));
        return PHX_EXIT_INTERNAL;
    }
    return run_command(chosen.argc, chosen.argv);
}
