// hw/crew.c: starting rank processes, passing on their output, noticing their end.

#include "hw/crew_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/assert.h"
#include "hw/clock.h"

#define LINE_BYTES 4096u

struct stream { // what one rank prints on stdout or stderr
    int from;
    int to;
    uint32_t used;
    char line[LINE_BYTES];
};

struct phx_crew {
    struct phx_crew_options options;
    struct phx_crew_shared *shared;
    uint64_t shared_bytes;
    pid_t *pids;                      // [ranks] 0: reaped
    struct phx_crew_status *statuses; // [ranks]
    struct stream *streams;           // [ranks][2]
    uint32_t running;
};

// --- output -------------------------------------------------------------------------------------

static void write_all(int to, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t wrote = write(to, bytes, size);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return; // nobody reads any more
        bytes += wrote;
        size -= (size_t)wrote;
    }
}

static void line_pass(const struct phx_crew *crew, uint32_t rank, struct stream *s, uint32_t size)
{
    char prefix[24];
    int length = crew->options.is_quiet ? 0 : snprintf(prefix, sizeof prefix, "rank %u: ", rank);
    write_all(s->to, prefix, (size_t)length);
    write_all(s->to, s->line, size);
    if (size == 0 || s->line[size - 1] != '\n')
        write_all(s->to, "\n", 1);
    memmove(s->line, s->line + size, s->used - size);
    s->used -= size;
}

// Whole lines as they come; a longer one in pieces. False: the stream has ended.
static bool stream_pass(const struct phx_crew *crew, uint32_t rank, struct stream *s)
{
    ssize_t got = read(s->from, s->line + s->used, LINE_BYTES - s->used);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    s->used += (uint32_t)got;
    const char *end;
    while (s->used > 0 && (end = memchr(s->line, '\n', s->used)) != NULL)
        line_pass(crew, rank, s, (uint32_t)(end - s->line) + 1);
    if (s->used == LINE_BYTES || (got == 0 && s->used > 0))
        line_pass(crew, rank, s, s->used);
    return got > 0;
}

static void stream_close(struct stream *s)
{
    if (s->from >= 0)
        (void)close(s->from);
    s->from = -1;
}

// --- ends ---------------------------------------------------------------------------------------

static void reap(struct phx_crew *crew, int flags)
{
    for (uint32_t r = 0; r < crew->options.ranks; r++) {
        int status;
        if (crew->pids[r] == 0 || waitpid(crew->pids[r], &status, flags) != crew->pids[r])
            continue;
        crew->pids[r] = 0;
        crew->running--;
        struct phx_crew_status *s = &crew->statuses[r];
        s->exit = WIFEXITED(status) ? PHX_CREW_EXITED : PHX_CREW_KILLED;
        s->code = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
        s->at_ns = phx_clock_ns();
        __atomic_store_n(&crew->shared->ranks[r].is_gone, 1u, __ATOMIC_RELEASE);
    }
}

uint32_t phx_crew_wait(struct phx_crew *crew, uint32_t ms)
{
    uint32_t streams = 2 * crew->options.ranks;
    struct pollfd *ready = calloc(streams, sizeof *ready);
    if (ready == NULL) {
        reap(crew, WNOHANG);
        return crew->running;
    }
    for (uint32_t i = 0; i < streams; i++)
        ready[i] = (struct pollfd){.fd = crew->streams[i].from, .events = POLLIN};
    if (poll(ready, streams, (int)ms) > 0)
        for (uint32_t i = 0; i < streams; i++)
            if (ready[i].revents != 0 && !stream_pass(crew, i / 2, &crew->streams[i]))
                stream_close(&crew->streams[i]);
    free(ready);
    reap(crew, WNOHANG);
    return crew->running;
}

void phx_crew_kill(struct phx_crew *crew)
{
    for (uint32_t r = 0; r < crew->options.ranks; r++)
        if (crew->pids[r] != 0)
            (void)kill(crew->pids[r], SIGKILL); // a stopped one too
    reap(crew, 0);
}

void phx_crew_end(struct phx_crew *crew)
{
    if (crew == NULL)
        return;
    if (crew->pids != NULL && crew->statuses != NULL)
        phx_crew_kill(crew);
    for (uint32_t i = 0; crew->streams != NULL && i < 2 * crew->options.ranks; i++) {
        while (crew->streams[i].from >= 0 && stream_pass(crew, i / 2, &crew->streams[i]))
            continue;
        stream_close(&crew->streams[i]);
    }
    if (crew->shared != NULL)
        (void)munmap(crew->shared, crew->shared_bytes);
    free(crew->pids);
    free(crew->statuses);
    free(crew->streams);
    free(crew);
}

// --- starting -----------------------------------------------------------------------------------

uint32_t phx_crew_spin_us(const struct phx_crew_options *o)
{
    return o->spin_us != PHX_CREW_SPIN_AUTO ? o->spin_us : phx_host_spin_us(o->ranks * o->workers);
}

uint64_t phx_crew_head_bytes(uint32_t ranks)
{
    uint64_t cards = (uint64_t)ranks * ranks * phx_group_card_bytes();
    return (sizeof(struct phx_crew_shared) + ranks * sizeof(struct phx_crew_seat) + cards + 4095) /
           4096 * 4096;
}

static _Noreturn void child_main(struct phx_crew *crew, uint32_t rank, int out, int err,
                                 pid_t launcher)
{
    // Whatever ends the launcher ends this process; and if it has ended already, so does this.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != launcher)
        _exit(PHX_CREW_STATUS_SETUP);
    (void)signal(SIGINT, SIG_IGN); // the launcher's to handle
    if (!crew->options.is_quiet) {
        (void)dup2(out, STDOUT_FILENO);
        (void)dup2(err, STDERR_FILENO);
    }
    struct phx_crew_rank self = {0};
    struct phx_message message = {""};
    int status = PHX_CREW_STATUS_SETUP;
    if (phx_crew_rank_make(&self, &crew->options, crew->shared, rank, 1, &message) != 0)
        (void)fprintf(stderr, "%s\n", message.text);
    else
        status = crew->options.main(&self, phx_crew_arena(crew));
    phx_crew_rank_close(&self);
    (void)fflush(NULL);
    _exit(status);
}

static int rank_start(struct phx_crew *crew, uint32_t rank)
{
    int out[2] = {-1, -1};
    int err[2] = {-1, -1};
    if (!crew->options.is_quiet && (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0))
        return PHX_ERR_IO;
    pid_t launcher = getpid();
    (void)fflush(NULL); // or the child prints it too
    pid_t pid = fork();
    if (pid == 0)
        child_main(crew, rank, out[1], err[1], launcher);
    const int ends[4] = {out[0], err[0], out[1], err[1]};
    for (uint32_t i = 0; i < 4; i++) {
        bool is_kept = i < 2 && pid > 0;
        if (ends[i] >= 0 && is_kept)
            (void)fcntl(ends[i], F_SETFL, O_NONBLOCK);
        else if (ends[i] >= 0)
            (void)close(ends[i]);
    }
    if (pid < 0)
        return PHX_ERR_IO;
    crew->streams[2 * rank].from = out[0];
    crew->streams[2 * rank + 1].from = err[0];
    crew->pids[rank] = pid;
    crew->running++;
    return 0;
}

static int crew_make(struct phx_crew *crew, struct phx_message *message)
{
    const struct phx_crew_options *o = &crew->options;
    uint64_t ranks = o->ranks;
    uint64_t head = phx_crew_head_bytes(o->ranks);
    crew->shared_bytes = head + o->arena_bytes;
    void *shared = mmap(NULL, crew->shared_bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    crew->pids = calloc(ranks, sizeof *crew->pids);
    crew->statuses = calloc(ranks, sizeof *crew->statuses);
    crew->streams = calloc(2 * ranks, sizeof *crew->streams);
    if (shared == MAP_FAILED || crew->pids == NULL || crew->statuses == NULL ||
        crew->streams == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u ranks and an arena of %llu",
                        o->ranks, (unsigned long long)o->arena_bytes);
    for (uint32_t i = 0; i < 2 * ranks; i++) {
        crew->streams[i].from = -1;
        crew->streams[i].to = i % 2 == 0 ? STDOUT_FILENO : STDERR_FILENO;
    }
    crew->shared = shared;
    crew->shared->arena_at = head;
    crew->options.spin_us = phx_crew_spin_us(o);
    if (o->setup_bytes > 0)
        memcpy(phx_crew_arena(crew), o->setup, o->setup_bytes);
    if (getrandom(&crew->shared->job, sizeof crew->shared->job, 0) !=
        (ssize_t)sizeof crew->shared->job)
        return phx_fail(message, PHX_ERR_IO, "getrandom: %s", strerror(errno));
    return 0;
}

int phx_crew_options_check(const struct phx_crew_options *options, struct phx_message *message)
{
    if (options->ranks < 1 || options->ranks > PHX_RANKS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "ranks is %u; it may be 1 to %u", options->ranks,
                        PHX_RANKS_MAX);
    if (options->workers < 1 || options->workers > PHX_WORKERS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "workers is %u; it may be 1 to %u",
                        options->workers, PHX_WORKERS_MAX);
    phx_assert(options->setup_bytes <= options->arena_bytes);
    return 0;
}

int phx_crew_start(const struct phx_crew_options *options, struct phx_crew **out,
                   struct phx_message *message)
{
    int rc = phx_crew_options_check(options, message);
    if (rc != 0)
        return rc;
    struct phx_crew *crew = calloc(1, sizeof *crew);
    if (crew == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a crew");
    crew->options = *options;
    rc = crew_make(crew, message);
    for (uint32_t r = 0; rc == 0 && r < options->ranks; r++)
        if ((rc = rank_start(crew, r)) != 0)
            (void)phx_fail(message, rc, "starting rank %u: %s", r, strerror(errno));
    if (rc != 0) {
        phx_crew_end(crew);
        return rc;
    }
    *out = crew;
    return 0;
}

void *phx_crew_arena(struct phx_crew *crew)
{
    return (uint8_t *)crew->shared + crew->shared->arena_at;
}

pid_t phx_crew_pid(const struct phx_crew *crew, uint32_t rank)
{
    return crew->pids[rank];
}

struct phx_crew_status phx_crew_status(const struct phx_crew *crew, uint32_t rank)
{
    return crew->statuses[rank];
}
