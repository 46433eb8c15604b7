// tools/explore_jobs.c: hands out numbers of runs to processes and takes what they found.
//
// A process runs many numbers, one after the other; nothing stays between them but what the
// allocator keeps. When it dies, or does not end a run in time, that is the finding of that run;
// another process takes the rest of its numbers.

#include "tools/explore_jobs.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tools/command.h"
#include "tools/directory.h"

#define CHUNK 16u
#define STATE_EVERY_MS 5000.0
#define PROGRESS_EVERY_MS 200

struct chunk { // numbers that one process was given
    struct chunk *next;
    uint64_t first;
    uint32_t count;
    uint32_t done;
    struct phx_trial trials[CHUNK];
};

struct order { // what a process is told
    uint64_t first;
    uint64_t count;
};

struct worker {
    pid_t pid;
    int orders;  // written by us
    int reports; // read by us
    struct chunk *chunk;
    double since_ms; // when its current run began
};

struct crew {
    const struct phx_jobs *jobs;
    struct phx_totals *totals;
    struct worker workers[PHX_JOBS_MAX];
    struct chunk *oldest; // in order of `first`
    struct chunk *newest;
    uint64_t given;  // numbers below it were given out
    uint64_t failed; // found, folded or not
    double begun_ms;
    uint64_t wall_before_ms;
    double state_ms; // when the state was written last
};

static volatile sig_atomic_t is_interrupted;

static void on_signal(int number)
{
    (void)number;
    is_interrupted = 1;
}

void phx_failure_path(const struct phx_jobs *jobs, uint64_t number, char *path, size_t size)
{
    (void)snprintf(path, size, "%s/%s-%" PRIu64 ".yaml", jobs->directory,
                   jobs->campaign->is_systematic ? "place" : "seed", number);
}

// --- totals --------------------------------------------------------------------------------------

static void fold_chunks(struct crew *crew)
{
    while (crew->oldest != NULL && crew->oldest->done == crew->oldest->count) {
        struct chunk *chunk = crew->oldest;
        for (uint32_t i = 0; i < chunk->count; i++)
            phx_totals_add(crew->totals, &chunk->trials[i]);
        crew->oldest = chunk->next;
        if (crew->oldest == NULL)
            crew->newest = NULL;
        free(chunk);
    }
    crew->totals->wall_ms = crew->wall_before_ms + (uint64_t)(phx_wall_ms() - crew->begun_ms);
}

// --- in a worker's process -----------------------------------------------------------------------

static int failure_file(const struct phx_jobs *jobs, const struct phx_scenario *s,
                        const struct phx_trial *trial)
{
    char path[1024];
    struct phx_message message;
    (void)phx_directory_make(jobs->directory); // without it saving fails, and says why
    phx_failure_path(jobs, trial->number, path, sizeof path);
    int rc = phx_failure_save(s, trial, path, &message);
    if (rc != 0)
        (void)fprintf(stderr, "phx explore: the failure could not be saved: %s\n", message.text);
    return rc;
}

static void work(const struct phx_jobs *jobs, int orders, int reports)
{
    static struct phx_scenario s; // large
    struct order order;
    while (read(orders, &order, sizeof order) == (ssize_t)sizeof order) {
        for (uint64_t i = 0; i < order.count; i++) {
            struct phx_trial trial = {.number = order.first + i};
            phx_explore_draw(jobs->campaign, trial.number, &s);
            phx_trial_run(&s, &trial);
            if (trial.verdict != PHX_VERDICT_PASSED)
                (void)failure_file(jobs, &s, &trial);
            if (write(reports, &trial, sizeof trial) != (ssize_t)sizeof trial)
                return; // nobody listens
        }
    }
}

// --- workers -------------------------------------------------------------------------------------

static int worker_start(struct crew *crew, struct worker *worker, struct phx_message *message)
{
    int orders[2];
    int reports[2];
    if (pipe(orders) != 0)
        return phx_fail(message, PHX_ERR_IO, "a pipe: %s", strerror(errno));
    if (pipe(reports) != 0) {
        int error = errno;
        (void)close(orders[0]);
        (void)close(orders[1]);
        return phx_fail(message, PHX_ERR_IO, "a pipe: %s", strerror(error));
    }
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        // An interrupt is the campaign's: it lets every run end.
        (void)signal(SIGINT, SIG_IGN);
        (void)signal(SIGTERM, SIG_DFL);
        for (uint32_t i = 0; i < crew->jobs->jobs; i++)
            if (crew->workers[i].pid > 0) {
                (void)close(crew->workers[i].orders);
                (void)close(crew->workers[i].reports);
            }
        (void)close(orders[1]);
        (void)close(reports[0]);
        work(crew->jobs, orders[0], reports[1]);
        _exit(0);
    }
    (void)close(orders[0]);
    (void)close(reports[1]);
    if (pid < 0) {
        (void)close(orders[1]);
        (void)close(reports[0]);
        return phx_fail(message, PHX_ERR_IO, "a process: %s", strerror(errno));
    }
    *worker = (struct worker){pid, orders[1], reports[0], worker->chunk, phx_wall_ms()};
    return 0;
}

// Its end, as waitpid() tells it.
static int worker_end(struct worker *worker)
{
    int status = 0;
    (void)close(worker->orders);
    (void)close(worker->reports);
    while (waitpid(worker->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    worker->pid = 0;
    return status;
}

// Tells the worker the numbers of its chunk that are not done. A worker that is gone is found out
// when it is listened to.
static void worker_order(struct worker *worker)
{
    const struct chunk *chunk = worker->chunk;
    struct order order = {chunk->first + chunk->done, chunk->count - chunk->done};
    worker->since_ms = phx_wall_ms();
    if (order.count > 0 && write(worker->orders, &order, sizeof order) < 0)
        return;
}

static bool is_over(const struct crew *crew)
{
    const struct phx_jobs *jobs = crew->jobs;
    return is_interrupted != 0 || crew->given >= jobs->end ||
           (jobs->until_wall_ms > 0 && phx_wall_ms() >= jobs->until_wall_ms) ||
           (jobs->failures_max > 0 && crew->failed >= jobs->failures_max);
}

static int worker_feed(struct crew *crew, struct worker *worker, struct phx_message *message)
{
    worker->chunk = NULL;
    if (is_over(crew))
        return 0;
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a list of runs");
    uint64_t left = crew->jobs->end - crew->given;
    chunk->first = crew->given;
    chunk->count = left < CHUNK ? (uint32_t)left : CHUNK;
    crew->given += chunk->count;
    *(crew->newest != NULL ? &crew->newest->next : &crew->oldest) = chunk;
    crew->newest = chunk;
    worker->chunk = chunk;
    worker_order(worker);
    return 0;
}

// --- what comes back -----------------------------------------------------------------------------

static int trial_take(struct crew *crew, struct worker *worker, const struct phx_trial *trial,
                      struct phx_message *message)
{
    struct chunk *chunk = worker->chunk;
    chunk->trials[chunk->done++] = *trial;
    worker->since_ms = phx_wall_ms();
    if (trial->verdict != PHX_VERDICT_PASSED) {
        crew->failed++;
        crew->jobs->progress(crew->jobs->context, crew->totals, trial);
    }
    if (chunk->done < chunk->count)
        return 0;
    fold_chunks(crew);
    return worker_feed(crew, worker, message);
}

// The process died in a run, or was too long at it.
static int worker_lost(struct crew *crew, struct worker *worker, bool is_late,
                       struct phx_message *message)
{
    static struct phx_scenario s; // large
    struct phx_trial trial = {.number = worker->chunk->first + worker->chunk->done};
    if (is_late)
        (void)kill(worker->pid, SIGKILL);
    phx_trial_crashed(&trial, worker_end(worker), is_late);
    phx_explore_draw(crew->jobs->campaign, trial.number, &s);
    (void)failure_file(crew->jobs, &s, &trial);
    int rc = worker_start(crew, worker, message);
    if (rc != 0)
        return rc;
    struct chunk *chunk = worker->chunk;
    rc = trial_take(crew, worker, &trial, message);
    if (rc == 0 && worker->chunk == chunk)
        worker_order(worker); // the rest of them
    return rc;
}

static int worker_listen(struct crew *crew, struct worker *worker, struct phx_message *message)
{
    struct phx_trial trial;
    ssize_t size = read(worker->reports, &trial, sizeof trial); // written whole
    if (size < 0 && errno == EINTR)
        return 0;
    if (size == (ssize_t)sizeof trial)
        return trial_take(crew, worker, &trial, message);
    return worker_lost(crew, worker, false, message);
}

static_assert(sizeof(struct phx_trial) <= 4096, "a pipe takes a report whole");

static int listen_once(struct crew *crew, struct phx_message *message)
{
    struct pollfd ends[PHX_JOBS_MAX];
    uint32_t of[PHX_JOBS_MAX];
    nfds_t count = 0;
    for (uint32_t i = 0; i < crew->jobs->jobs; i++) {
        if (crew->workers[i].chunk == NULL)
            continue;
        of[count] = i;
        ends[count++] = (struct pollfd){.fd = crew->workers[i].reports, .events = POLLIN};
    }
    int ready = poll(ends, count, PROGRESS_EVERY_MS);
    int rc = ready < 0 && errno != EINTR
                 ? phx_fail(message, PHX_ERR_IO, "waiting for processes: %s", strerror(errno))
                 : 0;
    for (nfds_t i = 0; rc == 0 && i < count; i++) {
        struct worker *worker = &crew->workers[of[i]];
        double late_ms = phx_wall_ms() - worker->since_ms;
        if (ready > 0 && ends[i].revents != 0)
            rc = worker_listen(crew, worker, message);
        else if (late_ms > 1000.0 * crew->jobs->hang_seconds)
            rc = worker_lost(crew, worker, true, message);
    }
    return rc;
}

// --- the campaign --------------------------------------------------------------------------------

static bool is_working(const struct crew *crew)
{
    for (uint32_t i = 0; i < crew->jobs->jobs; i++)
        if (crew->workers[i].chunk != NULL)
            return true;
    return false;
}

static int state_keep(struct crew *crew, bool is_last, struct phx_message *message)
{
    if (crew->jobs->state_path == NULL ||
        (!is_last && phx_wall_ms() - crew->state_ms < STATE_EVERY_MS))
        return 0;
    crew->state_ms = phx_wall_ms();
    return phx_state_write(crew->jobs->state_path, crew->jobs->signature, crew->totals, message);
}

static int crew_run(struct crew *crew, struct phx_message *message)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < crew->jobs->jobs; i++) {
        rc = worker_start(crew, &crew->workers[i], message);
        if (rc == 0)
            rc = worker_feed(crew, &crew->workers[i], message);
    }
    double told_ms = 0;
    while (rc == 0 && is_working(crew)) {
        rc = listen_once(crew, message);
        if (rc == 0)
            rc = state_keep(crew, false, message);
        if (phx_wall_ms() - told_ms < PROGRESS_EVERY_MS)
            continue;
        told_ms = phx_wall_ms();
        crew->jobs->progress(crew->jobs->context, crew->totals, NULL);
    }
    fold_chunks(crew);
    int kept = state_keep(crew, true, rc == 0 ? message : NULL);
    return rc == 0 ? kept : rc;
}

int phx_jobs_run(const struct phx_jobs *jobs, struct phx_totals *totals,
                 struct phx_message *message)
{
    struct crew *crew = calloc(1, sizeof *crew);
    if (crew == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u processes", jobs->jobs);
    crew->jobs = jobs;
    crew->totals = totals;
    crew->given = totals->next;
    crew->failed = totals->failed;
    crew->begun_ms = phx_wall_ms();
    crew->wall_before_ms = totals->wall_ms;
    crew->state_ms = crew->begun_ms;
    struct sigaction action = {.sa_handler = on_signal};
    struct sigaction ignored = {.sa_handler = SIG_IGN};
    struct sigaction before[3];
    (void)sigaction(SIGINT, &action, &before[0]);
    (void)sigaction(SIGTERM, &action, &before[1]);
    (void)sigaction(SIGPIPE, &ignored, &before[2]); // a process that died is found by listening
    is_interrupted = 0;
    int rc = crew_run(crew, message);
    for (uint32_t i = 0; i < jobs->jobs; i++)
        if (crew->workers[i].pid > 0)
            (void)worker_end(&crew->workers[i]);
    (void)sigaction(SIGINT, &before[0], NULL);
    (void)sigaction(SIGTERM, &before[1], NULL);
    (void)sigaction(SIGPIPE, &before[2], NULL);
    while (crew->oldest != NULL) {
        struct chunk *chunk = crew->oldest;
        crew->oldest = chunk->next;
        free(chunk);
    }
    free(crew);
    return rc;
}
