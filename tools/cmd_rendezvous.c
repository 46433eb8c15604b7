// tools/cmd_rendezvous.c: phx rendezvous: serves the bootstrap of one job.

#include <argp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/limits.h"
#include "hw/bootstrap.h"
#include "tools/command.h"

#if PHX_HAVE_SODIUM
#include "hw/bootstrap_internal.h"
#include "hw/rendezvous.h"
#endif

struct rendezvous {
    const char *listen;
    uint64_t ranks;
    bool stays;
};

enum rendezvous_option { OPTION_LISTEN = 'l', OPTION_RANKS = 'n', OPTION_STAY = 256 };

static const struct argp_option OPTIONS[] = {
    {"listen", OPTION_LISTEN, "HOST:PORT", 0,
     "where: [IPv6]:PORT too; *:PORT is every address, port 0 any that is free", 0},
    {"ranks", OPTION_RANKS, "N", 0, "how many ranks the job has", 0},
    {"stay", OPTION_STAY, NULL, 0, "go on when all have left, for ranks that come again", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct rendezvous *r = state->input;
    switch (key) {
    case OPTION_LISTEN:
        r->listen = argument;
        return 0;
    case OPTION_RANKS:
        if (phx_parse_u64(argument, &r->ranks) != 0 || r->ranks < 1 || r->ranks > PHX_RANKS_MAX)
            argp_error(state, "--ranks %s: must be a whole number, 1 to %u", argument,
                       PHX_RANKS_MAX);
        return 0;
    case OPTION_STAY:
        r->stays = true;
        return 0;
    case ARGP_KEY_END:
        if (r->listen == NULL)
            argp_error(state, "where? --listen HOST:PORT");
        if (r->ranks == 0)
            argp_error(state, "how many ranks? --ranks N");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

#if PHX_HAVE_SODIUM

static volatile sig_atomic_t is_stopped;

static void on_signal(int number)
{
    (void)number;
    is_stopped = 1;
}

// Connections that prove nothing hold files, too: as many as this process may have.
static void files_raise(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void print_end(const struct phx_rendezvous_stats *stats)
{
    (void)printf("%" PRIu64 " joined, %" PRIu64 " exchanges; of %" PRIu64 " connections %" PRIu64
                 " refused, %" PRIu64 " rejected, %" PRIu64 " too slow, %" PRIu64 " evicted\n",
                 stats->joined, stats->exchanges, stats->accepted, stats->refused, stats->rejected,
                 stats->expired, stats->evicted);
    if (stats->last_reason != 0)
        (void)printf("the last one refused or rejected: %s\n",
                     phx_wire_reason_text(stats->last_reason));
}

static int serve(const struct rendezvous *r, const char *host, uint16_t port)
{
    uint8_t secret[PHX_BOOTSTRAP_SECRET_MAX];
    struct phx_message message;
    struct phx_rendezvous_server *server = NULL;
    struct phx_rendezvous_options o = {.ranks = (uint32_t)r->ranks, .secret = secret};
    int rc = phx_bootstrap_secret(secret, &o.secret_bytes, &message);
    if (rc == 0)
        rc = phx_rendezvous_server_start(host, port, &o, &server, &message);
    phx_bootstrap_wipe(secret, sizeof secret);
    if (rc != 0) {
        (void)fprintf(stderr, "phx rendezvous: %s\n", message.text);
        return PHX_EXIT_USAGE;
    }
    (void)printf("serving %u ranks at port %u\n", o.ranks, phx_rendezvous_server_port(server));
    (void)fflush(stdout);
    bool is_done = false;
    while (!is_stopped && !(is_done && !r->stays))
        is_done = phx_rendezvous_server_is_done(server, 200);
    struct phx_rendezvous_stats stats = phx_rendezvous_server_stats(server);
    phx_rendezvous_server_stop(server, is_stopped ? 0 : 1000);
    print_end(&stats);
    return is_done ? PHX_EXIT_PASSED : PHX_EXIT_FAILED;
}

static int listen_and_serve(const struct rendezvous *r)
{
    char host[PHX_BOOTSTRAP_HOST_MAX];
    uint16_t port = 0;
    struct phx_message message;
    if (phx_bootstrap_address("--listen", r->listen, host, &port, &message) != 0) {
        (void)fprintf(stderr, "phx rendezvous: %s\n", message.text);
        return PHX_EXIT_USAGE;
    }
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    files_raise();
    return serve(r, host, port);
}

#else

static int listen_and_serve(const struct rendezvous *r)
{
    (void)fprintf(stderr, "phx rendezvous: %s: this build has no libsodium\n", r->listen);
    return PHX_EXIT_USAGE;
}

#endif

int phx_command_rendezvous(int argc, char **argv)
{
    static const struct argp argp = {
        .options = OPTIONS,
        .parser = parse_option,
        .doc = "Serve as the place where the ranks of one job find each other (tcp://HOST:PORT "
               "in PHX_RENDEZVOUS).\vThe secret comes from PHX_SECRET_FILE or PHX_SECRET. It ends "
               "when all ranks had joined and all have left. Exit status: 0 then, 1 when a signal "
               "ended it before, 2 usage or input error, 3 internal error. docs/bootstrap.md says "
               "more.",
    };
    struct rendezvous r = {NULL, 0, false};
    if (argp_parse(&argp, argc, argv, 0, NULL, &r) != 0)
        return PHX_EXIT_INTERNAL;
    return listen_and_serve(&r);
}
