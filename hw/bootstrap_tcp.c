// hw/bootstrap_tcp.c: tcp://: finding the rendezvous, and the socket to it.

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hw/bootstrap_client.h"
#include "hw/bootstrap_internal.h"
#include "hw/rendezvous.h"

#define RETRY_MS_MIN 10u
#define RETRY_MS_MAX 500u
#define HANDSHAKE_MS 5000u // of one connection, before another is tried

struct phx_bootstrap_tcp {
    int file;
    struct phx_client client;
    struct phx_rendezvous_server *server; // NULL: another process serves
};

// --- the socket ---------------------------------------------------------------------------------

// 0 when the socket is ready, else PHX_ERR_TIMEOUT.
static int wait_for(int file, short events, uint64_t until_ms)
{
    for (;;) {
        uint64_t now_ms = phx_bootstrap_now_ms();
        if (now_ms >= until_ms)
            return PHX_ERR_TIMEOUT;
        uint64_t left = until_ms - now_ms;
        struct pollfd p = {.fd = file, .events = events};
        if (poll(&p, 1, left > 1000 ? 1000 : (int)left) > 0)
            return 0;
    }
}

static int socket_send(void *context, const uint8_t *bytes, uint32_t count, uint64_t until_ms)
{
    const struct phx_bootstrap_tcp *t = context;
    while (count > 0) {
        ssize_t sent = send(t->file, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return PHX_ERR_PEER_UNREACHABLE;
        if (sent < 0) {
            int rc = wait_for(t->file, POLLOUT, until_ms);
            if (rc != 0)
                return rc;
            continue;
        }
        bytes += sent;
        count -= (uint32_t)sent;
    }
    return 0;
}

static int socket_receive(void *context, uint8_t *bytes, uint32_t count, uint64_t until_ms)
{
    const struct phx_bootstrap_tcp *t = context;
    for (;;) {
        ssize_t got = recv(t->file, bytes, count, MSG_DONTWAIT);
        if (got > 0)
            return (int)got;
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            return PHX_ERR_PEER_UNREACHABLE;
        int rc = wait_for(t->file, POLLIN, until_ms);
        if (rc != 0)
            return rc;
    }
}

// A connected socket, or -1 with errno.
static int connect_one(const struct addrinfo *a, uint64_t until_ms)
{
    int file = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (file < 0)
        return -1;
    int error = 0;
    socklen_t size = sizeof error;
    if (connect(file, a->ai_addr, a->ai_addrlen) != 0) {
        error = errno;
        if (error == EINPROGRESS) {
            error = ETIMEDOUT;
            if (wait_for(file, POLLOUT, until_ms) == 0)
                (void)getsockopt(file, SOL_SOCKET, SO_ERROR, &error, &size);
        }
    }
    if (error == 0)
        return file;
    (void)close(file);
    errno = error;
    return -1;
}

static int connect_any(const char *host, uint16_t port, uint64_t until_ms,
                       struct phx_message *message)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    char service[8];
    (void)snprintf(service, sizeof service, "%u", port);
    int rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0) {
        (void)phx_fail(message, 0, "host %.80s: %s", host, gai_strerror(rc));
        return -1;
    }
    int file = -1;
    for (const struct addrinfo *a = list; a != NULL && file < 0; a = a->ai_next)
        file = connect_one(a, until_ms);
    if (file < 0)
        (void)phx_fail(message, 0, "%s", strerror(errno));
    freeaddrinfo(list);
    return file;
}

// --- joining ------------------------------------------------------------------------------------

static bool is_worth_retrying(int rc)
{
    return rc == PHX_ERR_TIMEOUT || rc == PHX_ERR_PEER_UNREACHABLE;
}

// One connection and its handshake.
static int try_once(struct phx_bootstrap_tcp *t, const char *host, uint16_t port,
                    const uint8_t key[PHX_WIRE_KEY], uint64_t until_ms, struct phx_message *why)
{
    t->file = connect_any(host, port, until_ms, why);
    if (t->file < 0)
        return PHX_ERR_PEER_UNREACHABLE;
    phx_bootstrap_socket_tune(t->file);
    uint8_t seed[PHX_WIRE_KEY];
    randombytes_buf(seed, sizeof seed);
    int rc = phx_client_handshake(&t->client, key, seed, until_ms, why);
    sodium_memzero(seed, sizeof seed);
    if (rc != 0) {
        (void)close(t->file);
        t->file = -1;
    }
    return rc;
}

static int find(struct phx_bootstrap_tcp *t, const char *host, uint16_t port,
                const uint8_t key[PHX_WIRE_KEY], uint64_t until_ms, struct phx_message *message)
{
    uint32_t pause_ms = RETRY_MS_MIN;
    for (;;) {
        struct phx_message why = {"it did not answer"};
        uint64_t now_ms = phx_bootstrap_now_ms();
        uint64_t try_ms = now_ms + HANDSHAKE_MS < until_ms ? now_ms + HANDSHAKE_MS : until_ms;
        int rc = try_once(t, host, port, key, try_ms, &why);
        if (rc == 0)
            return 0;
        if (!is_worth_retrying(rc))
            return phx_fail(message, rc, "%s", why.text);
        now_ms = phx_bootstrap_now_ms();
        if (now_ms + pause_ms >= until_ms)
            return phx_fail(message, PHX_ERR_TIMEOUT, "no rendezvous at %.80s port %u: %.120s",
                            host, port, why.text);
        struct timespec pause = {0, (long)pause_ms * 1000000};
        (void)nanosleep(&pause, NULL);
        pause_ms = pause_ms * 2 < RETRY_MS_MAX ? pause_ms * 2 : RETRY_MS_MAX;
    }
}

// Others may reach this host by another address than its name has here, so a rank serves at every
// address, unless the job stays on this host.
static const char *serve_at(const char *host)
{
    bool is_loopback =
        strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0;
    return is_loopback ? host : "*";
}

static int serve(struct phx_bootstrap_tcp *t, const struct phx_bootstrap_options *o,
                 const char *host, uint16_t port, struct phx_message *message)
{
    struct phx_rendezvous_options r = {
        .ranks = o->ranks, .secret = o->secret, .secret_bytes = o->secret_bytes};
    return phx_rendezvous_server_start(serve_at(host), port, &r, &t->server, message);
}

int phx_bootstrap_tcp_join(struct phx_bootstrap *b, const struct phx_bootstrap_options *o,
                           struct phx_message *message)
{
    char host[PHX_BOOTSTRAP_HOST_MAX];
    uint16_t port = 0;
    int rc = phx_bootstrap_address("url", o->url + strlen("tcp://"), host, &port, message);
    if (rc != 0)
        return rc;
    if (port == 0 || host[0] == '\0' || strcmp(host, "*") == 0)
        return phx_fail(message, PHX_ERR_INVALID,
                        "url is %.120s; it must name a host and a port, 1 to 65535", o->url);
    struct phx_bootstrap_tcp *t = calloc(1, sizeof *t);
    if (t == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a connection");
    t->file = -1;
    t->client.link = (struct phx_client_link){t, socket_send, socket_receive};
    t->client.rank = o->rank;
    t->client.ranks = o->ranks;
    b->tcp = t;
    uint64_t until_ms = phx_bootstrap_now_ms() + b->timeout_ms;
    uint8_t key[PHX_WIRE_KEY];
    phx_wire_secret_key(key, o->secret, o->secret_bytes);
    rc = o->serve ? serve(t, o, host, port, message) : 0;
    if (rc == 0)
        rc = find(t, host, port, key, until_ms, message);
    sodium_memzero(key, sizeof key);
    if (rc == 0) {
        rc = phx_client_ready(&t->client, until_ms, PHX_BOOTSTRAP_ASK_MS, message);
        if (rc == PHX_ERR_PEER_UNREACHABLE)
            rc = phx_fail(message, PHX_ERR_PEER_LOST,
                          "the rendezvous at %.80s port %u ended before all ranks had joined", host,
                          port);
    }
    if (rc != 0) {
        b->broken = rc;
        phx_bootstrap_tcp_leave(b);
        return rc;
    }
    b->job = t->client.job;
    b->incarnation = t->client.incarnation;
    b->next = t->client.next;
    return 0;
}

int phx_bootstrap_tcp_exchange(struct phx_bootstrap *b, const void *mine, void *theirs,
                               uint32_t bytes, uint8_t set[PHX_WIRE_RANKS_BYTES],
                               struct phx_message *message)
{
    return phx_client_exchange(&b->tcp->client, b->next, mine, theirs, bytes, set,
                               phx_bootstrap_now_ms() + b->timeout_ms, PHX_BOOTSTRAP_ASK_MS,
                               message);
}

void phx_bootstrap_tcp_leave(struct phx_bootstrap *b)
{
    struct phx_bootstrap_tcp *t = b->tcp;
    if (t->file >= 0) {
        if (b->broken == 0)
            phx_client_leave(&t->client, phx_bootstrap_now_ms() + PHX_BOOTSTRAP_ASK_MS);
        (void)close(t->file);
    }
    phx_rendezvous_server_stop(t->server, b->broken == 0 ? b->timeout_ms : 0);
    sodium_memzero(t, sizeof *t);
    free(t);
    b->tcp = NULL;
}
