// hw/shm_service.c: the thread that serves peers, and those that notice their end.
//
// The service thread holds this process's life locks, answers requests for files, and watches the
// connections and pidfds of connected peers. A watcher thread for each peer waits for that peer's
// lock: the kernel hands it over in the first steps of a process's end, before it takes down
// memory, files and the process itself. Neither ever waits for a peer's answer.

#include "hw/shm_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/assert.h"

#define ACCEPTED_MAX 8192u
#define WATCH_TURN_NS 100000000 // how often a watcher looks whether it should stop

enum source { // of an epoll event, in the high half of its data
    SOURCE_WAKEUP = 1,
    SOURCE_LISTENER,
    SOURCE_ACCEPTED, // low half: the socket
    SOURCE_LINK,     // low half: the socket of a link
    SOURCE_PIDFD     // low half: the pidfd of a link
};

static uint64_t epoll_data(enum source source, int file)
{
    return (uint64_t)source << 32 | (uint32_t)file;
}

static int epoll_watch(const struct phx_shm *shm, enum source source, int file, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u64 = epoll_data(source, file)};
    return epoll_ctl(shm->epoll, EPOLL_CTL_ADD, file, &e);
}

// --- answering ----------------------------------------------------------------------------------

static void answer_region(struct phx_shm *shm, const struct phx_shm_request *q,
                          struct phx_shm_answer *a, int files[2])
{
    const struct phx_mem mem = {q->index, q->epoch};
    const struct phx_shm_mem *m = phx_shm_mem_find(shm, mem);
    if (m == NULL || m->nonce != q->nonce || m->file < 0) {
        a->error = PHX_ERR_STALE;
    } else if (m->imported || m->peer != q->rank || shm->page->fenced[q->rank] >= q->incarnation) {
        a->error = PHX_ERR_PROTECTION;
    } else {
        a->size_bytes = m->size_bytes;
        a->offset_bytes = m->file_offset;
        a->mapped_bytes = m->mapped_bytes;
        a->memory = shm->memory->kind;
        memcpy(a->device, shm->memory->device, sizeof a->device);
        a->file_count = 1;
        files[0] = m->file;
    }
}

// False: the connection is dropped.
static bool answer(struct phx_shm *shm, int socket)
{
    struct phx_shm_request q;
    char beyond;
    struct iovec parts[2] = {{&q, sizeof q}, {&beyond, 1}}; // a longer message shows
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t got = recvmsg(socket, &message, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got != (ssize_t)sizeof q || q.magic != PHX_SHM_MAGIC || q.job != shm->options.job ||
        q.rank >= shm->options.ranks || q.incarnation == 0)
        return false;
    struct phx_shm_answer a = {
        .magic = PHX_SHM_MAGIC, .rank = shm->options.rank, .incarnation = shm->options.incarnation};
    int files[2] = {-1, -1};
    bool is_sent;
    pthread_mutex_lock(&shm->lock);
    if (q.kind == PHX_SHM_REQUEST_HELLO) {
        a.file_count = 2;
        files[0] = shm->page_file;
        files[1] = shm->door_file;
    } else if (q.kind == PHX_SHM_REQUEST_REGION) {
        answer_region(shm, &q, &a, files);
    } else {
        a.error = PHX_ERR_INVALID;
    }
    is_sent = phx_shm_send_answer(socket, &a, files); // under the lock: the file stays open
    pthread_mutex_unlock(&shm->lock);
    return is_sent;
}

static void accept_all(struct phx_shm *shm, uint32_t *accepted)
{
    for (;;) {
        int s = accept4(shm->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (s < 0)
            return;
        struct ucred who;
        socklen_t size = sizeof who;
        if (*accepted >= ACCEPTED_MAX || getsockopt(s, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 ||
            who.uid != geteuid() ||
            epoll_watch(shm, SOURCE_ACCEPTED, s, EPOLLIN | EPOLLRDHUP) != 0) {
            (void)close(s);
            continue;
        }
        (*accepted)++;
    }
}

// --- ends ---------------------------------------------------------------------------------------

uint32_t phx_shm_lock_says(struct phx_shm_link *link, uint32_t otherwise)
{
    pthread_mutex_t *life = &link->door->life[link->shm->options.rank];
    int rc = pthread_mutex_trylock(life);
    if (rc == EBUSY)
        return otherwise;
    if (rc == EOWNERDEAD)
        (void)pthread_mutex_consistent(life);
    if (rc == 0 || rc == EOWNERDEAD)
        (void)pthread_mutex_unlock(life);
    return rc == 0 ? PHX_SHM_EVIDENCE_LEFT : PHX_SHM_EVIDENCE_LOCK;
}

static void link_ended(struct phx_shm *shm, enum source source, int file)
{
    struct phx_shm_link *link;
    (void)epoll_ctl(shm->epoll, EPOLL_CTL_DEL, file, NULL);
    pthread_mutex_lock(&shm->lock);
    for (link = shm->links; link != NULL; link = link->next)
        if ((source == SOURCE_LINK ? link->socket : link->pidfd) == file)
            break;
    pthread_mutex_unlock(&shm->lock);
    if (link == NULL)
        return;
    uint32_t evidence = source == SOURCE_LINK ? PHX_SHM_EVIDENCE_SOCKET : PHX_SHM_EVIDENCE_PIDFD;
    phx_shm_lose(shm, link->rank, link->incarnation, phx_shm_lock_says(link, evidence));
}

static void on_event(struct phx_shm *shm, const struct epoll_event *e, uint32_t *accepted)
{
    enum source source = (enum source)(e->data.u64 >> 32);
    int file = (int)(uint32_t)e->data.u64;
    switch (source) {
    case SOURCE_LISTENER:
        accept_all(shm, accepted);
        break;
    case SOURCE_ACCEPTED:
        if ((e->events & EPOLLIN) != 0 && answer(shm, file))
            break;
        (void)close(file); // leaves the epoll set with it
        (*accepted)--;
        break;
    case SOURCE_LINK:
    case SOURCE_PIDFD:
        link_ended(shm, source, file);
        break;
    default:
        break;
    }
}

// --- the threads --------------------------------------------------------------------------------

static void locks_release(struct phx_shm *shm)
{
    for (uint32_t r = 0; r < shm->options.ranks; r++)
        (void)pthread_mutex_unlock(&shm->door->life[r]);
}

static void *service_main(void *argument)
{
    struct phx_shm *shm = argument;
    uint32_t accepted = 0;
    for (uint32_t r = 0; r < shm->options.ranks; r++)
        phx_assert(pthread_mutex_lock(&shm->door->life[r]) == 0);
    __atomic_store_n(&shm->is_served, true, __ATOMIC_RELEASE);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(shm->epoll, events, 64, -1);
        uint32_t stopping = __atomic_load_n(&shm->stopping, __ATOMIC_ACQUIRE);
        if (stopping == 1)
            locks_release(shm);
        if (stopping != 0)
            return NULL; // with its locks, as a process that is killed: the kernel gives them up
        for (int i = 0; i < count; i++)
            on_event(shm, &events[i], &accepted);
    }
}

static void *watch_main(void *argument)
{
    struct phx_shm_link *link = argument;
    pthread_mutex_t *life = &link->door->life[link->shm->options.rank];
    int rc = ETIMEDOUT;
    while (rc == ETIMEDOUT && __atomic_load_n(&link->shm->stopping, __ATOMIC_ACQUIRE) == 0) {
        struct timespec until;
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WATCH_TURN_NS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        rc = pthread_mutex_clocklock(life, CLOCK_MONOTONIC, &until);
    }
    if (rc == EOWNERDEAD)
        (void)pthread_mutex_consistent(life);
    if (rc == 0 || rc == EOWNERDEAD)
        (void)pthread_mutex_unlock(life);
    if (rc != ETIMEDOUT)
        phx_shm_lose(link->shm, link->rank, link->incarnation,
                     rc == 0 ? PHX_SHM_EVIDENCE_LEFT : PHX_SHM_EVIDENCE_LOCK);
    return NULL;
}

#if defined(PHX_TSAN)
// ThreadSanitizer does not follow pthread_mutex_clocklock(), so that watchers seem to unlock what
// they never locked.
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "mutex:watch_main\n";
}
#endif

static int door_init(struct phx_shm_door *door, uint32_t ranks)
{
    pthread_mutexattr_t a;
    int rc = pthread_mutexattr_init(&a);
    if (rc != 0)
        return rc;
    (void)pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    (void)pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    for (uint32_t r = 0; rc == 0 && r < ranks; r++)
        rc = pthread_mutex_init(&door->life[r], &a);
    (void)pthread_mutexattr_destroy(&a);
    return rc;
}

int phx_shm_service_start(struct phx_shm *shm, struct phx_message *message)
{
    const char *what = "epoll_create1";
    shm->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (shm->epoll >= 0) {
        what = "eventfd";
        shm->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    if (shm->wakeup >= 0) {
        what = "listening on the socket of this rank";
        shm->listener =
            phx_shm_listen(shm->options.job, shm->options.rank, shm->options.incarnation);
    }
    if (shm->listener < 0 || epoll_watch(shm, SOURCE_WAKEUP, shm->wakeup, EPOLLIN) != 0 ||
        epoll_watch(shm, SOURCE_LISTENER, shm->listener, EPOLLIN) != 0)
        return phx_fail(message, PHX_ERR_IO, "shared memory of rank %u: %s: %s", shm->options.rank,
                        what, strerror(errno));
    int rc = door_init(shm->door, shm->options.ranks);
    if (rc == 0)
        rc = pthread_create(&shm->service, NULL, service_main, shm);
    if (rc != 0)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "shared memory of rank %u: its thread: %s",
                        shm->options.rank, strerror(rc));
    while (!__atomic_load_n(&shm->is_served, __ATOMIC_ACQUIRE))
        (void)sched_yield(); // until it holds its locks: who waits for them must not get them
    return 0;
}

void phx_shm_service_stop(struct phx_shm *shm, bool dies)
{
    if (!shm->is_served)
        return;
    const uint64_t one = 1;
    __atomic_store_n(&shm->stopping, dies ? 2u : 1u, __ATOMIC_RELEASE);
    ssize_t wrote = write(shm->wakeup, &one, sizeof one);
    phx_assert(wrote == (ssize_t)sizeof one);
    (void)pthread_join(shm->service, NULL);
    shm->is_served = false;
}

int phx_shm_watch(struct phx_shm_link *link)
{
    struct phx_shm *shm = link->shm;
    if (epoll_watch(shm, SOURCE_LINK, link->socket, EPOLLRDHUP) != 0 ||
        (link->pidfd >= 0 && epoll_watch(shm, SOURCE_PIDFD, link->pidfd, EPOLLIN) != 0))
        return PHX_ERR_IO;
    pthread_attr_t a;
    (void)pthread_attr_init(&a);
    (void)pthread_attr_setstacksize(&a, 64 * 1024);
    int rc = pthread_create(&link->watcher, &a, watch_main, link);
    (void)pthread_attr_destroy(&a);
    link->is_watched = rc == 0;
    return rc == 0 ? 0 : PHX_ERR_NO_MEMORY;
}

void phx_shm_watch_stop(struct phx_shm *shm)
{
    for (struct phx_shm_link *link = shm->links; link != NULL; link = link->next)
        if (link->is_watched)
            (void)pthread_join(link->watcher, NULL);
}
