// hw/rendezvous_server.c: the loop that gives the rendezvous its sockets, in a thread of its own.
//
// Every connection gets one read and a few writes a turn, however much it has or wants.

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <linux/sockios.h>

#include "engine/assert.h"
#include "hw/bootstrap_internal.h"
#include "hw/rendezvous.h"

#define EVENTS 64
#define READ_BYTES 32768u
#define WRITES_A_TURN 8
#define ACCEPTS_A_TURN 64
#define PAUSE_MS 50u // of accepting, when files ran out
#define DRAIN_LOOK_MS 2u
#define ID_LISTENER UINT32_MAX
#define ID_WAKEUP (UINT32_MAX - 1u)

struct phx_rendezvous_server {
    struct phx_rendezvous *r;
    int epoll;
    int listener;
    int wakeup;
    uint16_t port;
    bool has_thread;
    pthread_t thread;
    uint64_t paused_until_ms; // 0: accepting
    int *files;               // [connections_max] -1: none
    bool *is_writing;         // [connections_max] waits for room in the socket
    uint8_t *bytes;           // [READ_BYTES]

    pthread_mutex_t lock; // of what follows
    pthread_cond_t changed;
    bool is_done;
    bool must_stop;
    uint64_t stop_ms; // at the latest
    struct phx_rendezvous_stats stats;
};

uint64_t phx_bootstrap_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

void phx_bootstrap_socket_tune(int file)
{
    // A host that lost its power says no goodbye: it is noticed within about 10 seconds.
    static const struct {
        int level;
        int name;
        int value;
    } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},  {IPPROTO_TCP, TCP_NODELAY, 1},
                   {IPPROTO_TCP, TCP_KEEPIDLE, 4}, {IPPROTO_TCP, TCP_KEEPINTVL, 2},
                   {IPPROTO_TCP, TCP_KEEPCNT, 3},  {IPPROTO_TCP, TCP_USER_TIMEOUT, 10000}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        (void)setsockopt(file, options[i].level, options[i].name, &options[i].value,
                         sizeof options[i].value);
}

// --- connections --------------------------------------------------------------------------------

static int watch(const struct phx_rendezvous_server *s, int how, int file, uint32_t id,
                 uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u32 = id};
    return epoll_ctl(s->epoll, how, file, &e);
}

static void file_close(struct phx_rendezvous_server *s, uint32_t id)
{
    (void)shutdown(s->files[id], SHUT_WR); // what was written goes before the end
    (void)close(s->files[id]);
    s->files[id] = -1;
    s->is_writing[id] = false;
}

static void conn_close(struct phx_rendezvous_server *s, uint32_t id)
{
    file_close(s, id);
    phx_rendezvous_gone(s->r, id);
}

static void conn_write(struct phx_rendezvous_server *s, uint32_t id)
{
    bool is_blocked = false;
    const uint8_t *bytes;
    size_t count = phx_rendezvous_output(s->r, id, &bytes);
    for (int turn = 0; count > 0 && turn < WRITES_A_TURN; turn++) {
        ssize_t sent = send(s->files[id], bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            conn_close(s, id);
            return;
        }
        is_blocked = sent < 0;
        if (is_blocked)
            break;
        phx_rendezvous_sent(s->r, id, (size_t)sent);
        count = phx_rendezvous_output(s->r, id, &bytes);
    }
    if (phx_rendezvous_is_over(s->r, id) && (count == 0 || is_blocked)) {
        conn_close(s, id);
        return;
    }
    if ((count > 0) == s->is_writing[id])
        return;
    s->is_writing[id] = count > 0;
    (void)watch(s, EPOLL_CTL_MOD, s->files[id], id, count > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void conn_read(struct phx_rendezvous_server *s, uint32_t id)
{
    ssize_t got = recv(s->files[id], s->bytes, READ_BYTES, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0)
        conn_close(s, id);
    else
        phx_rendezvous_input(s->r, id, s->bytes, (size_t)got);
}

static void accept_pause(struct phx_rendezvous_server *s, uint64_t until_ms)
{
    s->paused_until_ms = until_ms;
    (void)watch(s, EPOLL_CTL_MOD, s->listener, ID_LISTENER, until_ms == 0 ? EPOLLIN : 0);
}

static void accept_some(struct phx_rendezvous_server *s, uint64_t now_ms)
{
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        int file = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (file < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS)) {
            uint32_t evicted = phx_rendezvous_evict(s->r);
            if (evicted != PHX_RENDEZVOUS_NONE)
                file_close(s, evicted);
            else
                accept_pause(s, now_ms + PAUSE_MS);
            return;
        }
        if (file < 0)
            return;
        uint32_t evicted;
        uint32_t id = phx_rendezvous_accept(s->r, now_ms, &evicted);
        if (evicted != PHX_RENDEZVOUS_NONE)
            file_close(s, evicted);
        if (id == PHX_RENDEZVOUS_NONE) {
            (void)close(file);
            return;
        }
        phx_bootstrap_socket_tune(file);
        s->files[id] = file;
        if (watch(s, EPOLL_CTL_ADD, file, id, EPOLLIN) != 0)
            conn_close(s, id);
    }
}

// --- the loop -----------------------------------------------------------------------------------

static bool is_all_received(const struct phx_rendezvous_server *s)
{
    if (!phx_rendezvous_is_drained(s->r))
        return false;
    for (uint32_t id = 0; id < phx_rendezvous_connections_max(s->r); id++) {
        int queued = 0;
        if (s->files[id] >= 0 && ioctl(s->files[id], SIOCOUTQ, &queued) == 0 && queued > 0)
            return false;
    }
    return true;
}

// False: the loop is to end. *wait_ms: how long it may sleep.
static bool publish(struct phx_rendezvous_server *s, uint64_t now_ms, uint64_t *wait_ms)
{
    bool is_empty = phx_rendezvous_is_open(s->r) && phx_rendezvous_present(s->r) == 0;
    pthread_mutex_lock(&s->lock);
    s->stats = *phx_rendezvous_stats(s->r);
    if (is_empty != s->is_done) {
        s->is_done = is_empty;
        (void)pthread_cond_broadcast(&s->changed);
    }
    bool must_stop = s->must_stop;
    uint64_t stop_ms = s->stop_ms;
    pthread_mutex_unlock(&s->lock);
    if (!must_stop)
        return true;
    if (*wait_ms > DRAIN_LOOK_MS)
        *wait_ms = DRAIN_LOOK_MS;
    return now_ms < stop_ms && !is_all_received(s);
}

static void turn(struct phx_rendezvous_server *s, const struct epoll_event *events, int count,
                 uint64_t now_ms)
{
    if (s->paused_until_ms != 0 && now_ms >= s->paused_until_ms)
        accept_pause(s, 0);
    for (int i = 0; i < count; i++) {
        uint32_t id = events[i].data.u32;
        if (id == ID_LISTENER) {
            accept_some(s, now_ms);
        } else if (id == ID_WAKEUP) {
            uint64_t value;
            (void)!read(s->wakeup, &value, sizeof value);
        } else {
            // An event of a connection that ended in this turn may meet its successor: both calls
            // then find nothing to do.
            if (s->files[id] >= 0 && (events[i].events & ~(uint32_t)EPOLLOUT) != 0)
                conn_read(s, id);
            if (s->files[id] >= 0 && (events[i].events & EPOLLOUT) != 0)
                conn_write(s, id);
        }
    }
}

static void *serve(void *argument)
{
    struct phx_rendezvous_server *s = argument;
    struct epoll_event events[EVENTS];
    uint64_t wait_ms = 0;
    for (;;) {
        int count = epoll_wait(s->epoll, events, EVENTS, wait_ms > 1000 ? 1000 : (int)wait_ms);
        uint64_t now_ms = phx_bootstrap_now_ms();
        turn(s, events, count > 0 ? count : 0, now_ms);
        uint64_t next_ms = phx_rendezvous_tick(s->r, now_ms);
        for (uint32_t id; (id = phx_rendezvous_news(s->r)) != PHX_RENDEZVOUS_NONE;)
            if (s->files[id] >= 0)
                conn_write(s, id);
        if (s->paused_until_ms != 0 && s->paused_until_ms < next_ms)
            next_ms = s->paused_until_ms;
        wait_ms = next_ms > now_ms ? next_ms - now_ms : 0;
        if (!publish(s, now_ms, &wait_ms))
            return NULL;
    }
}

// --- starting and stopping ----------------------------------------------------------------------

static int listen_at(const struct addrinfo *a)
{
    int file = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int yes = 1;
    int no = 0;
    if (file < 0)
        return -1;
    (void)setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (a->ai_family == AF_INET6) // every address includes those of IPv4
        (void)setsockopt(file, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
    if (bind(file, a->ai_addr, a->ai_addrlen) == 0 && listen(file, SOMAXCONN) == 0)
        return file;
    int error = errno;
    (void)close(file);
    errno = error;
    return -1;
}

static int listener_open(const char *host, uint16_t port, int *file, struct phx_message *message)
{
    bool is_any = host[0] == '\0' || strcmp(host, "*") == 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[8];
    (void)snprintf(service, sizeof service, "%u", port);
    int rc = getaddrinfo(is_any ? NULL : host, service, &hints, &list);
    if (rc != 0)
        return phx_fail(message, PHX_ERR_INVALID, "host %.80s: %s", host, gai_strerror(rc));
    *file = -1;
    errno = EADDRNOTAVAIL;
    // Of "every address", IPv6 first: it takes connections of both.
    for (int pass = 0; pass < 2 && *file < 0; pass++)
        for (const struct addrinfo *a = list; a != NULL && *file < 0; a = a->ai_next)
            if (!is_any || (a->ai_family == AF_INET6) == (pass == 0))
                *file = listen_at(a);
    freeaddrinfo(list);
    if (*file < 0)
        return phx_fail(message, PHX_ERR_IO, "can't listen at %.80s port %u: %s",
                        is_any ? "every address," : host, port, strerror(errno));
    return 0;
}

static uint16_t port_of(int listener)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    if (getsockname(listener, (struct sockaddr *)&at, &size) != 0)
        return 0;
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

// Strangers may hold half of the files that this process may have, so that it has some itself.
static uint32_t waiting_choose(const struct phx_rendezvous_options *options)
{
    struct rlimit limit;
    if (options->waiting_max != 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return options->waiting_max;
    uint64_t half = limit.rlim_cur > options->ranks ? (limit.rlim_cur - options->ranks) / 2 : 0;
    return half > 1024 ? 1024 : half < 16 ? 16 : (uint32_t)half;
}

static void server_free(struct phx_rendezvous_server *s)
{
    for (uint32_t id = 0; s->files != NULL && id < phx_rendezvous_connections_max(s->r); id++)
        if (s->files[id] >= 0)
            file_close(s, id);
    int files[] = {s->listener, s->epoll, s->wakeup};
    for (size_t i = 0; i < 3; i++)
        if (files[i] >= 0)
            (void)close(files[i]);
    phx_rendezvous_destroy(s->r);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s->files);
    free(s->is_writing);
    free(s->bytes);
    free(s);
}

static int server_prepare(struct phx_rendezvous_server *s, struct phx_message *message)
{
    uint32_t count = phx_rendezvous_connections_max(s->r);
    s->files = malloc(count * sizeof *s->files);
    s->is_writing = calloc(count, sizeof *s->is_writing);
    s->bytes = malloc(READ_BYTES);
    if (s->files == NULL || s->is_writing == NULL || s->bytes == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u connections", count);
    for (uint32_t i = 0; i < count; i++)
        s->files[i] = -1;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->wakeup = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epoll < 0 || s->wakeup < 0 ||
        watch(s, EPOLL_CTL_ADD, s->listener, ID_LISTENER, EPOLLIN) != 0 ||
        watch(s, EPOLL_CTL_ADD, s->wakeup, ID_WAKEUP, EPOLLIN) != 0)
        return phx_fail(message, PHX_ERR_IO, "the rendezvous can't wait for events: %s",
                        strerror(errno));
    sigset_t all; // signals are for the program's own threads
    sigset_t before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&s->thread, NULL, serve, s);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return phx_fail(message, PHX_ERR_IO, "pthread_create: %s", strerror(rc));
    s->has_thread = true;
    return 0;
}

int phx_rendezvous_server_start(const char *host, uint16_t port,
                                const struct phx_rendezvous_options *options,
                                struct phx_rendezvous_server **server, struct phx_message *message)
{
    struct phx_rendezvous_server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a rendezvous");
    s->listener = s->epoll = s->wakeup = -1;
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&s->lock, NULL);
    (void)pthread_cond_init(&s->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    struct phx_rendezvous_options chosen = *options;
    chosen.waiting_max = waiting_choose(options);
    int rc = phx_rendezvous_create(&chosen, &s->r, message);
    if (rc == 0)
        rc = listener_open(host, port, &s->listener, message);
    if (rc == 0)
        rc = server_prepare(s, message);
    if (rc != 0) {
        server_free(s);
        return rc;
    }
    s->port = port_of(s->listener);
    *server = s;
    return 0;
}

uint16_t phx_rendezvous_server_port(const struct phx_rendezvous_server *s)
{
    return s->port;
}

bool phx_rendezvous_server_is_done(struct phx_rendezvous_server *s, uint32_t wait_ms)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&s->lock);
    while (!s->is_done && pthread_cond_timedwait(&s->changed, &s->lock, &until) == 0)
        continue;
    bool is_done = s->is_done;
    pthread_mutex_unlock(&s->lock);
    return is_done;
}

struct phx_rendezvous_stats phx_rendezvous_server_stats(struct phx_rendezvous_server *s)
{
    pthread_mutex_lock(&s->lock);
    struct phx_rendezvous_stats stats = s->stats;
    pthread_mutex_unlock(&s->lock);
    return stats;
}

void phx_rendezvous_server_stop(struct phx_rendezvous_server *s, uint32_t drain_ms)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->must_stop = true;
    s->stop_ms = phx_bootstrap_now_ms() + drain_ms;
    pthread_mutex_unlock(&s->lock);
    uint64_t one = 1;
    (void)!write(s->wakeup, &one, sizeof one);
    if (s->has_thread)
        (void)pthread_join(s->thread, NULL);
    server_free(s);
}
