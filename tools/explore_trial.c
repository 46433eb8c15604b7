// tools/explore_trial.c: one run of a scenario, here or in a process of its own, and its failure
// as a file.
//
// Everything that a checker says is a failure, but for what is_excused() names.

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/explore.h"
#include "tools/options.h"

// Not failures of a drawn run: a fault whose moment did not come; and groups that cannot open
// because a rank died or stopped before they were (opening has no deadline yet).
static bool is_excused(const char *rule)
{
    static const char *const excused[] = {"fault-did-not-strike", "open-peer-lost",
                                          "open-peer-stopped"};
    for (size_t i = 0; i < sizeof excused / sizeof excused[0]; i++)
        if (strcmp(rule, excused[i]) == 0)
            return true;
    return false;
}

#if PHX_HAVE_BOOST_CONTEXT
#define FIBERS PHX_FIBERS
#else
#define FIBERS PHX_PTHREADS
#endif

static void judge(struct phx_trial *trial, const struct phx_summary *summary)
{
    trial->verdict = PHX_VERDICT_PASSED;
    for (uint32_t i = 0; i < summary->violation_count; i++) {
        const struct phx_violation *v = &summary->violations[i];
        if (is_excused(v->rule))
            continue;
        if (trial->verdict == PHX_VERDICT_PASSED) {
            (void)snprintf(trial->rule, sizeof trial->rule, "%s", v->rule);
            (void)snprintf(trial->text, sizeof trial->text, "%s", v->text);
        }
        trial->verdict = PHX_VERDICT_FAILED;
        trial->violations++;
    }
}

void phx_trial_run(const struct phx_scenario *s, struct phx_trial *trial)
{
    struct phx_workload_options options = {
        .seed = s->run.seed,
        .schedule = s->run.schedule,
        .fibers = FIBERS,
    };
    struct phx_summary summary;
    struct phx_message message;
    uint64_t number = trial->number;
    memset(trial, 0, sizeof *trial);
    trial->number = number;
    int rc = phx_workload_run(&s->workload, &options, &summary, &message);
    if (rc != 0) {
        trial->verdict = PHX_VERDICT_REFUSED;
        (void)snprintf(trial->rule, sizeof trial->rule, "refused");
        (void)snprintf(trial->text, sizeof trial->text, "%s", message.text);
        return;
    }
    trial->trace_hash = summary.trace_hash;
    trial->events = summary.events;
    trial->operations = summary.operations;
    trial->ranks = summary.ranks;
    for (uint32_t i = 0; i < summary.strike_count; i++)
        if (summary.strikes[i].at_ps != UINT64_MAX)
            trial->struck[i / 64] |= UINT64_C(1) << (i % 64);
    phx_coverage_mark(&trial->coverage, s, &summary);
    judge(trial, &summary);
    phx_summary_free(&summary);
}

void phx_trial_drop_unstruck(struct phx_scenario *s, const struct phx_trial *trial)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->workload.fault_count; i++)
        if ((trial->struck[i / 64] >> (i % 64) & 1) != 0)
            s->faults[kept++] = s->faults[i];
    s->workload.fault_count = kept;
}

// --- apart ---------------------------------------------------------------------------------------

// 0: all of it; else the pipe ended, or there was nothing for so long.
static int read_all(int fd, void *buffer, size_t size, int milliseconds, bool *is_late)
{
    size_t got = 0;
    while (got < size) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, milliseconds);
        if (ready < 0 && errno == EINTR)
            continue;
        *is_late = ready == 0;
        if (ready <= 0)
            return -1;
        ssize_t n = read(fd, (char *)buffer + got, size - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        got += (size_t)n;
    }
    return 0;
}

static void refuse(struct phx_trial *trial, const char *what)
{
    uint64_t number = trial->number;
    memset(trial, 0, sizeof *trial);
    trial->number = number;
    trial->verdict = PHX_VERDICT_REFUSED;
    (void)snprintf(trial->rule, sizeof trial->rule, "refused");
    (void)snprintf(trial->text, sizeof trial->text, "%s: %s", what, strerror(errno));
}

void phx_trial_crashed(struct phx_trial *trial, int wait_status, bool is_late)
{
    uint64_t number = trial->number;
    memset(trial, 0, sizeof *trial);
    trial->number = number;
    trial->verdict = is_late ? PHX_VERDICT_HUNG : PHX_VERDICT_CRASHED;
    (void)snprintf(trial->rule, sizeof trial->rule, is_late ? "hang" : "crash");
    if (is_late)
        (void)snprintf(trial->text, sizeof trial->text, "the process did not end and was killed");
    else if (WIFSIGNALED(wait_status))
        (void)snprintf(trial->text, sizeof trial->text, "the process died: %s",
                       strsignal(WTERMSIG(wait_status)));
    else
        (void)snprintf(trial->text, sizeof trial->text, "the process exited with %d",
                       WEXITSTATUS(wait_status));
}

void phx_trial_run_apart(const struct phx_scenario *s, uint32_t hang_seconds,
                         struct phx_trial *trial)
{
    int ends[2];
    if (pipe(ends) != 0) {
        refuse(trial, "a pipe");
        return;
    }
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        (void)close(ends[0]);
        phx_trial_run(s, trial);
        ssize_t written = write(ends[1], trial, sizeof *trial); // below PIPE_BUF: whole
        _exit(written == (ssize_t)sizeof *trial ? 0 : 1);
    }
    (void)close(ends[1]);
    if (child < 0) {
        refuse(trial, "a process");
        (void)close(ends[0]);
        return;
    }
    bool is_late = false;
    struct phx_trial result;
    int rc = read_all(ends[0], &result, sizeof result, (int)hang_seconds * 1000, &is_late);
    (void)close(ends[0]);
    if (rc != 0)
        (void)kill(child, SIGKILL);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    if (rc == 0)
        *trial = result;
    else
        phx_trial_crashed(trial, status, is_late);
}

// --- saving --------------------------------------------------------------------------------------

int phx_scenario_save(const struct phx_scenario *s, const char *path, struct phx_message *message)
{
    char temporary[1100];
    int length = snprintf(temporary, sizeof temporary, "%s.new", path);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return phx_fail(message, PHX_ERR_IO, "%s: the path is too long", path);
    FILE *out = fopen(temporary, "w");
    if (out == NULL)
        return phx_fail(message, PHX_ERR_IO, "%s: %s", temporary, strerror(errno));
    int rc = phx_scenario_write(out, s);
    if (fclose(out) != 0 || rc != 0 || rename(temporary, path) != 0) {
        int error = errno;
        (void)unlink(temporary);
        return phx_fail(message, PHX_ERR_IO, "%s: %s", path, strerror(error));
    }
    return 0;
}

int phx_failure_save(const struct phx_scenario *s, const struct phx_trial *trial, const char *path,
                     struct phx_message *message)
{
    struct phx_scenario *saved = malloc(sizeof *saved);
    if (saved == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory to save %s", path);
    phx_scenario_copy(saved, s);
    struct phx_trial shown = *trial;
    if (trial->verdict == PHX_VERDICT_FAILED) {
        phx_trial_drop_unstruck(saved, trial);
        // A fault that waits is an event or two: without them the run may go another way.
        phx_trial_run(saved, &shown);
        if (shown.verdict != trial->verdict || strcmp(shown.rule, trial->rule) != 0) {
            phx_scenario_copy(saved, s);
            shown = *trial;
        }
    }
    (void)snprintf(saved->run.rule, sizeof saved->run.rule, "%s", shown.rule);
    saved->run.trace_hash = shown.trace_hash;
    int rc = phx_scenario_save(saved, path, message);
    free(saved);
    return rc;
}

int phx_failure_load(const char *path, struct phx_scenario **s)
{
    struct phx_scenario_options options = {.ranks = 0};
    struct phx_diagnosis d = {{0, 0}, {""}};
    int rc = phx_scenario_load(path, &options, s, &d);
    if (rc == 0) {
        if (!(*s)->run.is_given)
            (*s)->run.seed = 1;
        return 0;
    }
    *s = NULL;
    return phx_refuse_file(path, &d, rc);
}
