// hw/crew_join.c: becoming a rank of a crew whose processes another launcher started.
//
//   1. All tell each other, by the bootstrap, where they are and how large the shared memory is.
//   2. Rank 0, which has made it, hands it to each over a socket: the file has no name.
//   3. Each takes the lock of its seat, and they meet once more.
//
// From then on nobody needs the bootstrap, and no rank another: the memory lives while any rank
// has it mapped, and a lock is given up by the kernel when its rank's process ends.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/assert.h"
#include "hw/clock.h"
#include "hw/crew_internal.h"
#include "hw/shm_internal.h"

#define REQUEST_MS 1000u  // for saying what it wants, once connected
#define RETRY_NS 10000000 // between two attempts to get the memory

struct meeting { // what a rank tells all others
    char boot[40];
    uint64_t network; // namespace: abstract sockets are seen within it alone
    uint64_t bytes;   // of the memory
    uint64_t nonce;   // rank 0's: who asks for the memory says it
    int32_t error;    // rank 0's: why there is none
    uint32_t version;
};
#define MEETING_VERSION 1u

struct joining {
    const struct phx_crew_options *options;
    struct phx_bootstrap *b;
    struct phx_message *message;
    uint64_t until_ns;
    uint32_t rank;
    uint64_t bytes; // of the memory
    uint64_t nonce;
    int file;     // -1: not yet
    int listener; // rank 0's
    bool has_life;
    struct phx_crew_shared *shared;
};

// --- rank 0 makes the memory --------------------------------------------------------------------

static bool map(struct joining *j)
{
    void *shared =
        mmap(NULL, j->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, j->file, 0);
    j->shared = shared != MAP_FAILED ? shared : NULL;
    return j->shared != NULL;
}

static int locks_init(const struct joining *j)
{
    pthread_mutexattr_t a;
    int rc = pthread_mutexattr_init(&a);
    if (rc != 0)
        return rc;
    (void)pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    for (uint32_t r = 0; rc == 0 && r < j->options->ranks; r++)
        rc = pthread_mutex_init(&j->shared->ranks[r].life, &a);
    (void)pthread_mutexattr_destroy(&a);
    return rc;
}

static int memory_make(struct joining *j)
{
    uint64_t job = phx_bootstrap_job(j->b);
    j->file = phx_shm_file("phx-crew", j->bytes, 0);
    j->listener = phx_shm_listen(job, 0, 0); // transports' incarnations begin at 1
    if (j->file < 0 || j->listener < 0 || !map(j) ||
        getrandom(&j->nonce, sizeof j->nonce, 0) != (ssize_t)sizeof j->nonce)
        return phx_fail(j->message, PHX_ERR_IO, "%llu bytes for %u ranks to share: %s",
                        (unsigned long long)j->bytes, j->options->ranks, strerror(errno));
    j->shared->job = job;
    j->shared->arena_at = phx_crew_head_bytes(j->options->ranks);
    int rc = locks_init(j);
    if (rc != 0)
        return phx_fail(j->message, PHX_ERR_NO_MEMORY, "locks of %u ranks: %s", j->options->ranks,
                        strerror(rc));
    if (j->options->setup_bytes > 0)
        memcpy((uint8_t *)j->shared + j->shared->arena_at, j->options->setup,
               j->options->setup_bytes);
    return 0;
}

// --- all tell each other ------------------------------------------------------------------------

static void meeting_fill(const struct joining *j, int error, struct meeting *m)
{
    struct stat network = {0};
    memset(m, 0, sizeof *m);
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        (void)!read(file, m->boot, sizeof m->boot - 1);
        (void)close(file);
    }
    (void)stat("/proc/self/ns/net", &network);
    m->network = network.st_ino;
    m->bytes = j->bytes;
    m->nonce = j->nonce;
    m->error = error;
    m->version = MEETING_VERSION;
}

static int meetings_check(struct joining *j, const struct meeting *all)
{
    for (uint32_t r = 0; r < j->options->ranks; r++) {
        if (all[r].version != MEETING_VERSION || all[r].bytes != all[0].bytes)
            return phx_fail(j->message, PHX_ERR_MISMATCH,
                            "rank %u shares %llu bytes, rank 0 %llu: they run other programs, or "
                            "with other options",
                            r, (unsigned long long)all[r].bytes, (unsigned long long)all[0].bytes);
        if (memcmp(all[r].boot, all[0].boot, sizeof all[r].boot) != 0 ||
            all[r].network != all[0].network)
            return phx_fail(j->message, PHX_ERR_MISMATCH,
                            "rank %u is on another host than rank 0, or in another network "
                            "namespace; shared memory is for the ranks of one",
                            r);
    }
    if (all[0].error != 0 && j->rank != 0)
        return phx_fail(j->message, PHX_ERR_IO, "rank 0 could not make what the ranks share: %s",
                        phx_error_text(all[0].error));
    j->nonce = all[0].nonce;
    return all[0].error;
}

static int meet(struct joining *j, int error)
{
    uint32_t ranks = j->options->ranks;
    struct meeting *mine = calloc(2 * (size_t)ranks, sizeof *mine);
    if (mine == NULL)
        return phx_fail(j->message, PHX_ERR_NO_MEMORY, "no memory to meet %u ranks", ranks);
    for (uint32_t r = 0; r < ranks; r++)
        meeting_fill(j, error, &mine[r]);
    int rc = phx_bootstrap_exchange(j->b, mine, mine + ranks, sizeof *mine, NULL, j->message);
    if (rc == 0)
        rc = meetings_check(j, mine + ranks);
    free(mine);
    return rc;
}

// --- the memory goes round ----------------------------------------------------------------------

static int left_ms(const struct joining *j)
{
    uint64_t now_ns = phx_clock_ns();
    return now_ns < j->until_ns ? (int)((j->until_ns - now_ns) / 1000000) + 1 : 0;
}

// Which rank it handed the memory to; 0: to none, it was somebody else.
static uint32_t hand_to(const struct joining *j, int socket)
{
    struct phx_shm_request q;
    struct ucred who;
    socklen_t size = sizeof who;
    struct pollfd ready = {.fd = socket, .events = POLLIN};
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.uid != geteuid() ||
        poll(&ready, 1, (int)REQUEST_MS) != 1 ||
        recv(socket, &q, sizeof q, MSG_DONTWAIT | MSG_TRUNC) != (ssize_t)sizeof q ||
        q.magic != PHX_SHM_MAGIC || q.job != j->shared->job || q.kind != PHX_SHM_REQUEST_CREW ||
        q.nonce != j->nonce || q.rank == 0 || q.rank >= j->options->ranks)
        return 0;
    const struct phx_shm_answer a = {
        .magic = PHX_SHM_MAGIC, .file_count = 1, .size_bytes = j->bytes};
    return phx_shm_send_answer(socket, &a, &j->file) ? q.rank : 0;
}

static int hand_round(const struct joining *j)
{
    bool has[PHX_RANKS_MAX] = {true}; // rank 0
    uint32_t missing = j->options->ranks - 1;
    struct pollfd ready = {.fd = j->listener, .events = POLLIN};
    while (missing > 0) {
        int count = poll(&ready, 1, left_ms(j));
        if (count < 0 && errno == EINTR)
            continue;
        if (count != 1)
            break;
        int socket = accept4(j->listener, NULL, NULL, SOCK_CLOEXEC);
        if (socket < 0)
            continue;
        uint32_t rank = hand_to(j, socket);
        (void)close(socket);
        missing -= !has[rank];
        has[rank] = true;
    }
    for (uint32_t r = 0; missing > 0 && r < j->options->ranks; r++)
        if (!has[r])
            return phx_fail(j->message, PHX_ERR_TIMEOUT,
                            "rank %u did not come for the memory that the ranks share", r);
    return 0;
}

static int memory_get(struct joining *j)
{
    const struct phx_shm_request request = {.magic = PHX_SHM_MAGIC,
                                            .job = phx_bootstrap_job(j->b),
                                            .kind = PHX_SHM_REQUEST_CREW,
                                            .rank = j->rank,
                                            .nonce = j->nonce};
    const struct timespec moment = {0, RETRY_NS};
    struct phx_shm_answer answer = {0};
    struct stat status;
    int files[2] = {-1, -1};
    int socket = -1;
    int rc;
    while ((rc = phx_shm_ask(0, 0, &request, &answer, files, &socket)) != 0 && left_ms(j) > 0)
        (void)nanosleep(&moment, NULL);
    if (rc != 0)
        return phx_fail(j->message, PHX_ERR_PEER_LOST,
                        "rank 0 did not hand over the memory that the ranks share");
    (void)close(socket);
    j->file = files[0];
    if (answer.file_count != 1 || fstat(j->file, &status) != 0 ||
        (uint64_t)status.st_size != j->bytes || !map(j))
        return phx_fail(j->message, PHX_ERR_IO, "the memory that rank 0 handed over can't be used");
    return 0;
}

// --- join and leave -----------------------------------------------------------------------------

static int come_together(struct joining *j)
{
    int error = j->rank == 0 ? memory_make(j) : 0;
    int rc = meet(j, error); // in any case: the others wait for it
    if (rc == 0)
        rc = j->rank == 0 ? hand_round(j) : memory_get(j);
    j->has_life = rc == 0 && pthread_mutex_trylock(&j->shared->ranks[j->rank].life) == 0;
    if (rc == 0 && !j->has_life)
        rc = phx_fail(j->message, PHX_ERR_STATE, "another process is rank %u", j->rank);
    // Whoever comes out of this has its lock, and so has everybody else.
    return rc != 0 ? rc : phx_bootstrap_exchange(j->b, NULL, NULL, 0, NULL, j->message);
}

static void files_close(const struct joining *j)
{
    if (j->file >= 0)
        (void)close(j->file); // the mapping keeps it
    if (j->listener >= 0)
        (void)close(j->listener);
}

int phx_crew_join(const struct phx_crew_options *options, uint32_t rank, uint32_t timeout_ms,
                  struct phx_bootstrap *b, struct phx_crew_rank **out, struct phx_message *message)
{
    struct joining j = {
        .options = options, .b = b, .message = message, .rank = rank, .file = -1, .listener = -1};
    int rc = phx_crew_options_check(options, message);
    if (rc != 0)
        return rc;
    struct phx_crew_rank *self = calloc(1, sizeof *self);
    if (self == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a rank");
    timeout_ms = timeout_ms != 0 ? timeout_ms : PHX_BOOTSTRAP_TIMEOUT_MS;
    j.bytes = phx_crew_head_bytes(options->ranks) + options->arena_bytes;
    j.until_ns = phx_clock_ns() + timeout_ms * UINT64_C(1000000);
    rc = come_together(&j);
    files_close(&j);
    self->shared = j.shared;
    self->shared_bytes = j.bytes;
    self->has_life = j.has_life;
    self->patience_ns = timeout_ms * UINT64_C(1000000);
    self->rank = rank;
    if (rc == 0) {
        struct phx_crew_options mine = *options;
        mine.spin_us = phx_crew_spin_us(options);
        rc = phx_crew_rank_make(self, &mine, j.shared, rank, phx_bootstrap_incarnation(b), message);
    }
    if (rc != 0) {
        phx_crew_leave(self);
        return rc;
    }
    *out = self;
    return 0;
}

void phx_crew_leave(struct phx_crew_rank *self)
{
    if (self == NULL)
        return;
    phx_crew_rank_close(self);
    if (self->has_life)
        (void)pthread_mutex_unlock(&self->shared->ranks[self->rank].life);
    if (self->shared != NULL)
        (void)munmap(self->shared, self->shared_bytes);
    free(self);
}
