// tools/cmd_replay.c: phx replay FAILURE.yaml: runs a saved failure again, as its file says.

#include <argp.h>
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bug_option.h"
#include "tools/command.h"
#include "tools/explore.h"
#include "tools/options.h"
#include "tools/run_history.h"
#include "tools/run_replay.h"

enum replay_option { OPTION_JSON = 'j', OPTION_BUG = 256, OPTION_HANG };

struct replay {
    const char *path;
    const char *bug;
    uint32_t hang_seconds;
    bool is_json;
};

static const struct argp_option OPTIONS[] = {
    {"json", OPTION_JSON, NULL, 0, "print one JSON object", 0},
    {"bug", OPTION_BUG, "NAME", 0, "with another planted bug than the file says (phx-planted only)",
     0},
    {"hang", OPTION_HANG, "SECONDS", 0, "kill it when it takes longer (default 60)", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct replay *r = state->input;
    switch (key) {
    case OPTION_JSON:
        r->is_json = true;
        return 0;
    case OPTION_BUG:
        r->bug = argument;
        return 0;
    case OPTION_HANG:
        r->hang_seconds = (uint32_t)phx_number_or_usage(state, "--hang", argument, 1, 1000000);
        return 0;
    case ARGP_KEY_ARG:
        if (r->path != NULL)
            argp_error(state, "one failure at a time: %s, then %s", r->path, argument);
        r->path = argument;
        return 0;
    case ARGP_KEY_END:
        if (r->path == NULL)
            argp_error(state, "which failure? phx explore saves them in failures/");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const char *verdict_text(uint32_t verdict)
{
    return verdict == PHX_VERDICT_PASSED ? "pass" : "fail";
}

static int print_json(const struct phx_scenario *s, const struct phx_trial *trial)
{
    char hash[20];
    char saved[20];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, trial->trace_hash);
    (void)snprintf(saved, sizeof saved, "%016" PRIx64, s->run.trace_hash);
    cJSON *object = cJSON_CreateObject();
    bool is_good = object != NULL &&
                   cJSON_AddStringToObject(object, "result", verdict_text(trial->verdict)) &&
                   cJSON_AddStringToObject(object, "rule", trial->rule) &&
                   cJSON_AddStringToObject(object, "text", trial->text) &&
                   cJSON_AddStringToObject(object, "trace_hash", hash) &&
                   cJSON_AddStringToObject(object, "saved_rule", s->run.rule) &&
                   cJSON_AddStringToObject(object, "saved_trace_hash", saved);
    char *text = is_good ? cJSON_PrintUnformatted(object) : NULL;
    cJSON_Delete(object);
    if (text == NULL)
        return PHX_EXIT_INTERNAL;
    (void)printf("%s\n", text);
    free(text);
    return 0;
}

static void print_text(const struct replay *r, const struct phx_scenario *s,
                       const struct phx_trial *trial)
{
    bool is_same = strcmp(trial->rule, s->run.rule) == 0;
    if (trial->verdict == PHX_VERDICT_PASSED)
        (void)printf("%s: passed%s%s\n", r->path,
                     s->run.rule[0] != '\0' ? "; it was saved for " : "", s->run.rule);
    else
        (void)printf("%s: %s%s: %s\n", r->path, trial->rule,
                     is_same                  ? ", as saved"
                     : s->run.rule[0] != '\0' ? ", which is not what it was saved for"
                                              : "",
                     trial->text);
    if (trial->trace_hash == 0)
        return;
    (void)printf("trace hash %016" PRIx64, trial->trace_hash);
    if (s->run.trace_hash != 0)
        (void)printf(trial->trace_hash == s->run.trace_hash ? ", as saved" : ", saved %016" PRIx64,
                     s->run.trace_hash);
    (void)printf("\n");
}

static int replay(const struct replay *r, const struct phx_scenario *s)
{
    struct phx_trial trial;
    memset(&trial, 0, sizeof trial);
    phx_trial_run_apart(s, r->hang_seconds, &trial);
    if (trial.verdict == PHX_VERDICT_REFUSED) {
        (void)fprintf(stderr, "phx replay: %s: %s\n", r->path, trial.text);
        return PHX_EXIT_USAGE;
    }
    if (r->is_json) {
        if (print_json(s, &trial) != 0)
            return PHX_EXIT_INTERNAL;
    } else {
        print_text(r, s, &trial);
    }
    return trial.verdict == PHX_VERDICT_PASSED ? PHX_EXIT_PASSED : PHX_EXIT_FAILED;
}

int phx_command_replay(int argc, char **argv)
{
    static const struct argp argp = {
        .options = OPTIONS,
        .parser = parse_option,
        .args_doc = "FAILURE.yaml",
        .doc = "Run a saved failure again: its faults, its seed and its order of events, as the "
               "file says.\v'phx sim FILE --trace OUT.json' shows what happened in it. Exit "
               "status: 0 it passed, 1 it failed, 2 usage or input error, 3 internal error.",
    };
    struct replay r = {.hang_seconds = 60};
    if (argp_parse(&argp, argc, argv, 0, NULL, &r) != 0)
        return PHX_EXIT_INTERNAL;
    if (phx_history_is(r.path))
        return phx_replay_history(r.path, r.is_json);
    struct phx_scenario *s = NULL;
    int status = phx_failure_load(r.path, &s);
    if (status == 0)
        status = phx_choose_bug("phx replay", r.bug != NULL ? r.bug : s->run.bug);
    if (status == 0)
        status = replay(&r, s);
    phx_scenario_free(s);
    return status;
}
