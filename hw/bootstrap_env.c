// hw/bootstrap_env.c: what launchers say in environment variables, and the secret.

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hw/bootstrap.h"

// A variable that is empty counts as unset: launchers clear them so.
static const char *variable(const char *name)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static int number(const char *name, uint32_t least, uint32_t most, uint32_t *value,
                  struct phx_message *message)
{
    const char *text = variable(name);
    uint64_t sum = 0;
    const char *digit = text;
    for (; *digit >= '0' && *digit <= '9' && sum <= most; digit++)
        sum = sum * 10 + (uint64_t)(*digit - '0');
    if (digit == text || *digit != '\0' || sum < least || sum > most)
        return phx_fail(message, PHX_ERR_INVALID, "%s is \"%.60s\"; it must be %u to %u", name,
                        text, least, most);
    *value = (uint32_t)sum;
    return 0;
}

// --- who we are ---------------------------------------------------------------------------------

struct names { // of one launcher
    const char *rank;
    const char *ranks;
};
static const struct names NAMES[] = {
    {"PHX_RANK", "PHX_RANKS"},                        // said on purpose: overrides the others
    {"RANK", "WORLD_SIZE"},                           // torchrun
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}, // mpirun of Open MPI
};
#define NAMES_COUNT (sizeof NAMES / sizeof NAMES[0])

// *is_said: whether both are there.
static int rank_read(const struct names *n, bool *is_said, uint32_t *rank, uint32_t *ranks,
                     struct phx_message *message)
{
    bool has_rank = variable(n->rank) != NULL;
    bool has_ranks = variable(n->ranks) != NULL;
    *is_said = has_rank && has_ranks;
    if (has_rank != has_ranks)
        return phx_fail(message, PHX_ERR_INVALID, "%s is set, but %s is not",
                        has_rank ? n->rank : n->ranks, has_rank ? n->ranks : n->rank);
    if (!*is_said)
        return 0;
    int rc = number(n->ranks, 1, PHX_RANKS_MAX, ranks, message);
    return rc != 0 ? rc : number(n->rank, 0, *ranks - 1, rank, message);
}

static int rank_find(struct phx_bootstrap_options *o, struct phx_message *message)
{
    const struct names *found = NULL;
    for (size_t i = 0; i < NAMES_COUNT; i++) {
        uint32_t rank = 0;
        uint32_t ranks = 0;
        bool is_said = false;
        int rc = rank_read(&NAMES[i], &is_said, &rank, &ranks, message);
        if (rc != 0)
            return rc;
        if (!is_said)
            continue;
        if (found != NULL && (rank != o->rank || ranks != o->ranks))
            return phx_fail(message, PHX_ERR_MISMATCH,
                            "%s and %s say rank %u of %u, but %s and %s say rank %u of %u; set "
                            "PHX_RANK and PHX_RANKS",
                            found->rank, found->ranks, o->rank, o->ranks, NAMES[i].rank,
                            NAMES[i].ranks, rank, ranks);
        found = &NAMES[i];
        o->rank = rank;
        o->ranks = ranks;
        if (i == 0)
            return 0;
    }
    if (found == NULL)
        return phx_fail(message, PHX_ERR_INVALID,
                        "nothing says which rank this is: neither PHX_RANK and PHX_RANKS, nor RANK "
                        "and WORLD_SIZE, nor OMPI_COMM_WORLD_RANK and OMPI_COMM_WORLD_SIZE");
    return 0;
}

const char *phx_bootstrap_env_launched(void)
{
    for (size_t i = 0; i < NAMES_COUNT; i++) {
        if (variable(NAMES[i].rank) != NULL)
            return NAMES[i].rank;
        if (variable(NAMES[i].ranks) != NULL)
            return NAMES[i].ranks;
    }
    return NULL;
}

// --- where the others are -----------------------------------------------------------------------

static int url_find(struct phx_bootstrap_env *env, struct phx_bootstrap_options *o,
                    struct phx_message *message)
{
    const char *url = variable("PHX_RENDEZVOUS");
    const char *host = variable("MASTER_ADDR");
    const char *port = variable("MASTER_PORT");
    int size;
    if (url != NULL) {
        size = snprintf(env->url, sizeof env->url, "%s", url);
    } else if (host != NULL && port != NULL) {
        // The port itself is torch's: its own store listens there, in the launcher or in rank 0.
        uint32_t master = 0;
        int rc = number("MASTER_PORT", 1, UINT16_MAX - 1, &master, message);
        if (rc != 0)
            return rc;
        bool is_ipv6 = strchr(host, ':') != NULL;
        size = snprintf(env->url, sizeof env->url, "tcp://%s%s%s:%u", is_ipv6 ? "[" : "", host,
                        is_ipv6 ? "]" : "", master + 1);
        o->serve = o->rank == 0;
    } else if (host != NULL || port != NULL) {
        return phx_fail(message, PHX_ERR_INVALID, "%s is set, but %s is not",
                        host != NULL ? "MASTER_ADDR" : "MASTER_PORT",
                        host != NULL ? "MASTER_PORT" : "MASTER_ADDR");
    } else {
        return phx_fail(message, PHX_ERR_INVALID,
                        "nothing says where the ranks meet: neither PHX_RENDEZVOUS "
                        "(tcp://HOST:PORT or file://DIRECTORY), nor MASTER_ADDR and MASTER_PORT");
    }
    if (size < 0 || (size_t)size >= sizeof env->url)
        return phx_fail(message, PHX_ERR_INVALID, "%s is too long; a url may have %u characters",
                        url != NULL ? "PHX_RENDEZVOUS" : "MASTER_ADDR", PHX_BOOTSTRAP_URL_MAX - 1);
    o->url = env->url;
    return 0;
}

static int serve_find(struct phx_bootstrap_options *o, struct phx_message *message)
{
    const char *text = variable("PHX_SERVE_RANK");
    if (text == NULL)
        return 0;
    if (strcmp(text, "none") == 0) {
        o->serve = false;
        return 0;
    }
    uint32_t rank = 0;
    int rc = number("PHX_SERVE_RANK", 0, o->ranks - 1, &rank, message);
    if (rc == 0)
        o->serve = rank == o->rank;
    return rc;
}

// --- the secret ---------------------------------------------------------------------------------

static int secret_check(const char *name, size_t size, struct phx_message *message)
{
    if (size < PHX_BOOTSTRAP_SECRET_MIN || size > PHX_BOOTSTRAP_SECRET_MAX)
        return phx_fail(message, PHX_ERR_INVALID,
                        "%s holds a secret of %s%zu bytes; it must have %u to %u", name,
                        size > PHX_BOOTSTRAP_SECRET_MAX ? "at least " : "", size,
                        PHX_BOOTSTRAP_SECRET_MIN, PHX_BOOTSTRAP_SECRET_MAX);
    return 0;
}

static int file_check(int file, const char *path, struct phx_message *message)
{
    struct stat status;
    if (fstat(file, &status) != 0)
        return phx_fail(message, PHX_ERR_IO, "PHX_SECRET_FILE %.120s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return phx_fail(message, PHX_ERR_INVALID, "PHX_SECRET_FILE %.120s is not a file", path);
    if (status.st_uid != geteuid() && status.st_uid != 0)
        return phx_fail(message, PHX_ERR_PROTECTION,
                        "PHX_SECRET_FILE %.120s belongs to user %u; it must be this user's or "
                        "root's",
                        path, (unsigned)status.st_uid);
    if ((status.st_mode & 077) != 0)
        return phx_fail(message, PHX_ERR_PROTECTION,
                        "PHX_SECRET_FILE %.120s has mode %03o: others may read or write it; chmod "
                        "600",
                        path, (unsigned)status.st_mode & 0777u);
    return 0;
}

static int secret_read(const char *path, uint8_t *secret, size_t *bytes,
                       struct phx_message *message)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file < 0)
        return phx_fail(message, PHX_ERR_IO, "PHX_SECRET_FILE %.120s: %s", path, strerror(errno));
    uint8_t text[PHX_BOOTSTRAP_SECRET_MAX + 2]; // with a line's end
    size_t size = 0;
    int rc = file_check(file, path, message);
    for (ssize_t got = 1; rc == 0 && got != 0 && size < sizeof text;) {
        got = read(file, text + size, sizeof text - size);
        if (got > 0)
            size += (size_t)got;
        else if (got < 0 && errno != EINTR)
            rc = phx_fail(message, PHX_ERR_IO, "PHX_SECRET_FILE %.120s: %s", path, strerror(errno));
    }
    (void)close(file);
    if (size > 0 && text[size - 1] == '\n')
        size--;
    if (rc == 0)
        rc = secret_check("PHX_SECRET_FILE", size, message);
    if (rc == 0) {
        memcpy(secret, text, size);
        *bytes = size;
    }
    phx_bootstrap_wipe(text, sizeof text);
    return rc;
}

int phx_bootstrap_secret(uint8_t *secret, size_t *bytes, struct phx_message *message)
{
    const char *path = variable("PHX_SECRET_FILE");
    const char *text = variable("PHX_SECRET");
    if (path != NULL && text != NULL)
        return phx_fail(message, PHX_ERR_INVALID,
                        "PHX_SECRET_FILE and PHX_SECRET are both set; one of them is the secret");
    if (path != NULL)
        return secret_read(path, secret, bytes, message);
    if (text == NULL)
        return phx_fail(message, PHX_ERR_INVALID,
                        "there is no secret: set PHX_SECRET_FILE (a file that only its owner may "
                        "read) or PHX_SECRET");
    int rc = secret_check("PHX_SECRET", strlen(text), message);
    if (rc == 0) {
        *bytes = strlen(text);
        memcpy(secret, text, *bytes);
    }
    return rc;
}

void phx_bootstrap_wipe(void *secret, size_t bytes)
{
    explicit_bzero(secret, bytes);
}

int phx_bootstrap_env(struct phx_bootstrap_env *env, struct phx_bootstrap_options *options,
                      struct phx_message *message)
{
    struct phx_bootstrap_options o;
    memset(&o, 0, sizeof o);
    memset(env, 0, sizeof *env);
    int rc = rank_find(&o, message);
    if (rc == 0)
        rc = url_find(env, &o, message);
    if (rc == 0)
        rc = serve_find(&o, message);
    if (rc == 0 && variable("PHX_TIMEOUT_MS") != NULL)
        rc = number("PHX_TIMEOUT_MS", 1, UINT32_MAX, &o.timeout_ms, message);
    if (rc == 0)
        rc = phx_bootstrap_secret(env->secret, &o.secret_bytes, message);
    if (rc != 0)
        return rc;
    o.secret = env->secret;
    *options = o;
    return 0;
}
