// hw/bootstrap.c: the calls of hw/bootstrap.h: arguments, and which of tcp:// and file:// it is.

#include "hw/bootstrap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "hw/bootstrap_internal.h"

#if PHX_HAVE_SODIUM
#include <sodium.h>
#endif

static bool is_tcp(const char *url)
{
    return strncmp(url, "tcp://", strlen("tcp://")) == 0;
}
static bool is_file(const char *url)
{
    return strncmp(url, "file://", strlen("file://")) == 0;
}

static int options_check(const struct phx_bootstrap_options *o, struct phx_message *message)
{
    if (o->url == NULL || (!is_tcp(o->url) && !is_file(o->url)))
        return phx_fail(message, PHX_ERR_INVALID,
                        "url is %.120s; it must be tcp://HOST:PORT or file://DIRECTORY",
                        o->url != NULL ? o->url : "NULL");
    if (strlen(o->url) >= PHX_BOOTSTRAP_URL_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "url has %zu characters; it may have %u",
                        strlen(o->url), PHX_BOOTSTRAP_URL_MAX - 1);
    if (o->ranks < 1 || o->ranks > PHX_RANKS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "ranks is %u; it must be 1 to %u", o->ranks,
                        PHX_RANKS_MAX);
    if (o->rank >= o->ranks)
        return phx_fail(message, PHX_ERR_INVALID, "rank is %u; it must be below ranks, %u", o->rank,
                        o->ranks);
    if (o->secret == NULL || o->secret_bytes < PHX_BOOTSTRAP_SECRET_MIN ||
        o->secret_bytes > PHX_BOOTSTRAP_SECRET_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "the secret has %zu bytes; it must have %u to %u",
                        o->secret != NULL ? o->secret_bytes : 0, PHX_BOOTSTRAP_SECRET_MIN,
                        PHX_BOOTSTRAP_SECRET_MAX);
    if (o->serve && !is_tcp(o->url))
        return phx_fail(message, PHX_ERR_INVALID, "serve is set, but nobody serves %.120s", o->url);
    return 0;
}

#if PHX_HAVE_SODIUM

bool phx_bootstrap_is_built(void)
{
    return true;
}

int phx_bootstrap_join(const struct phx_bootstrap_options *o, struct phx_bootstrap **bootstrap,
                       struct phx_message *message)
{
    int rc = options_check(o, message);
    if (rc != 0)
        return rc;
    if (sodium_init() < 0)
        return phx_fail(message, PHX_ERR_IO, "libsodium found no source of random bytes");
    struct phx_bootstrap *b = calloc(1, sizeof *b);
    if (b == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a bootstrap");
    b->rank = o->rank;
    b->ranks = o->ranks;
    b->timeout_ms = o->timeout_ms != 0 ? o->timeout_ms : PHX_BOOTSTRAP_TIMEOUT_MS;
    rc = is_tcp(o->url) ? phx_bootstrap_tcp_join(b, o, message)
                        : phx_bootstrap_file_join(b, o, message);
    if (rc != 0) {
        free(b);
        return rc;
    }
    *bootstrap = b;
    return 0;
}

static int exchange(struct phx_bootstrap *b, const void *mine, void *theirs, uint32_t bytes,
                    struct phx_rank_set *present, struct phx_message *message)
{
    static_assert(PHX_WIRE_RANKS_BYTES * 8 == PHX_RANKS_MAX, "sets on the wire hold every rank");
    uint8_t set[PHX_WIRE_RANKS_BYTES];
    memset(set, 0, sizeof set);
    int rc = b->tcp != NULL ? phx_bootstrap_tcp_exchange(b, mine, theirs, bytes, set, message)
                            : phx_bootstrap_file_exchange(b, mine, theirs, bytes, set, message);
    if (rc != 0) {
        b->broken = rc;
        return rc;
    }
    b->next++;
    bool is_all = true;
    for (uint32_t i = 0; i < b->ranks; i++)
        is_all = is_all && phx_wire_has(set, i);
    if (present == NULL && !is_all) {
        char names[128];
        phx_bootstrap_name_missing(names, sizeof names, set, b->ranks);
        return phx_fail(message, PHX_ERR_PEER_LOST, "gone before exchange %u: %s", b->next - 1,
                        names);
    }
    if (present != NULL) {
        memset(present, 0, sizeof *present);
        for (uint32_t i = 0; i < b->ranks; i++)
            if (phx_wire_has(set, i))
                present->words[i / 64] |= UINT64_C(1) << (i % 64);
    }
    return 0;
}

void phx_bootstrap_leave(struct phx_bootstrap *b)
{
    if (b == NULL)
        return;
    if (b->tcp != NULL)
        phx_bootstrap_tcp_leave(b);
    else
        phx_bootstrap_file_leave(b);
    free(b);
}

#else // without libsodium nothing is joined, so that nothing of the rest is ever called

bool phx_bootstrap_is_built(void)
{
    return false;
}

int phx_bootstrap_join(const struct phx_bootstrap_options *o, struct phx_bootstrap **bootstrap,
                       struct phx_message *message)
{
    (void)bootstrap;
    int rc = options_check(o, message);
    return rc != 0 ? rc
                   : phx_fail(message, PHX_ERR_UNSUPPORTED,
                              "this build has no libsodium, so it can't join %.120s", o->url);
}

static int exchange(struct phx_bootstrap *b, const void *mine, void *theirs, uint32_t bytes,
                    struct phx_rank_set *present, struct phx_message *message)
{
    (void)b, (void)mine, (void)theirs, (void)bytes, (void)present;
    return phx_fail(message, PHX_ERR_UNSUPPORTED, "this build has no libsodium");
}

void phx_bootstrap_leave(struct phx_bootstrap *b)
{
    phx_assert(b == NULL);
}

#endif

uint64_t phx_bootstrap_job(const struct phx_bootstrap *b)
{
    return b->job;
}

uint32_t phx_bootstrap_incarnation(const struct phx_bootstrap *b)
{
    return b->incarnation;
}

int phx_bootstrap_exchange(struct phx_bootstrap *b, const void *mine, void *theirs, uint32_t bytes,
                           struct phx_rank_set *present, struct phx_message *message)
{
    if (bytes > PHX_BOOTSTRAP_BLOB_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "bytes is %u; a blob may have %u", bytes,
                        PHX_BOOTSTRAP_BLOB_MAX);
    if (bytes > 0 && (mine == NULL || theirs == NULL))
        return phx_fail(message, PHX_ERR_INVALID, "%s is NULL", mine == NULL ? "mine" : "theirs");
    if (b->broken != 0)
        return phx_fail(message, PHX_ERR_STATE, "this bootstrap has failed before: %s",
                        phx_error_text(b->broken));
    return exchange(b, mine, theirs, bytes, present, message);
}

int phx_bootstrap_barrier(struct phx_bootstrap *b, struct phx_message *message)
{
    struct phx_rank_set present; // who is gone is no error of a barrier
    return phx_bootstrap_exchange(b, NULL, NULL, 0, &present, message);
}

// --- text ---------------------------------------------------------------------------------------

void phx_bootstrap_name_missing(char *text, size_t bytes, const uint8_t set[PHX_WIRE_RANKS_BYTES],
                                uint32_t ranks)
{
    enum { NAMED_MAX = 8 };
    uint32_t missing = 0;
    for (uint32_t i = 0; i < ranks; i++)
        missing += !phx_wire_has(set, i);
    uint32_t named = missing > NAMED_MAX ? NAMED_MAX - 1 : missing; // "and 1 more" names nobody
    uint32_t done = 0;
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < ranks && done < named; i++) {
        if (phx_wire_has(set, i))
            continue;
        const char *before = done == 0 ? (missing == 1 ? "rank " : "ranks ")
                             : done + 1 == named && named == missing ? " and "
                                                                     : ", ";
        int wrote = snprintf(text + used, bytes - used, "%s%u", before, i);
        phx_assert(wrote > 0 && (size_t)wrote < bytes - used);
        used += (size_t)wrote;
        done++;
    }
    if (named < missing)
        (void)snprintf(text + used, bytes - used, " and %u more", missing - named);
}

int phx_bootstrap_address(const char *what, const char *text, char host[PHX_BOOTSTRAP_HOST_MAX],
                          uint16_t *port, struct phx_message *message)
{
    const char *colon = strrchr(text, ':');
    const char *from = text;
    const char *to = colon;
    if (colon != NULL && text[0] == '[' && colon > text && colon[-1] == ']') {
        from = text + 1;
        to = colon - 1;
    } else if (colon != NULL && memchr(text, ':', (size_t)(colon - text)) != NULL) {
        return phx_fail(message, PHX_ERR_INVALID,
                        "%s is %.120s; an IPv6 address stands in brackets: [::1]:PORT", what, text);
    }
    if (colon == NULL || (size_t)(to - from) >= PHX_BOOTSTRAP_HOST_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "%s is %.120s; it must be HOST:PORT", what, text);
    uint32_t number = 0;
    const char *digit = colon + 1;
    for (; *digit >= '0' && *digit <= '9' && number <= UINT16_MAX; digit++)
        number = number * 10 + (uint32_t)(*digit - '0');
    if (digit == colon + 1 || *digit != '\0' || number > UINT16_MAX)
        return phx_fail(message, PHX_ERR_INVALID,
                        "%s is %.120s; the port must be a number, 0 to %u", what, text, UINT16_MAX);
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = '\0';
    *port = (uint16_t)number;
    return 0;
}
