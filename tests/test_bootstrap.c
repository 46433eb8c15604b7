// tests/test_bootstrap.c: ranks as threads or processes find each other over loopback and by files.

#include "tests/test.h"

#if PHX_HAVE_SODIUM

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hw/bootstrap.h"
#include "hw/bootstrap_wire.h"
#include "hw/rendezvous.h"

enum { RANKS = 4, PATIENCE_MS = 60000 };

static const uint8_t SECRET[] = "twenty-four test letters";

struct rank {
    struct phx_bootstrap_options options;
    pthread_t thread;
    int rc;
    struct phx_message message;
    struct phx_bootstrap *b;
};
static char url[PHX_BOOTSTRAP_URL_MAX];

static struct phx_bootstrap_options options_of(uint32_t rank, uint32_t ranks)
{
    struct phx_bootstrap_options o = {.url = url,
                                      .rank = rank,
                                      .ranks = ranks,
                                      .secret = SECRET,
                                      .secret_bytes = sizeof SECRET,
                                      .timeout_ms = PATIENCE_MS};
    return o;
}

static void *join(void *argument)
{
    struct rank *r = argument;
    r->rc = phx_bootstrap_join(&r->options, &r->b, &r->message);
    return NULL;
}

static void all_join(struct rank ranks[RANKS])
{
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_EQ(pthread_create(&ranks[i].thread, NULL, join, &ranks[i]), 0);
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_EQ(pthread_join(ranks[i].thread, NULL), 0);
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_MSG(ranks[i].rc == 0, "rank %u: %s", i, ranks[i].message.text);
    for (uint32_t i = 0; i < RANKS; i++) {
        CHECK(phx_bootstrap_job(ranks[i].b) == phx_bootstrap_job(ranks[0].b));
        CHECK_EQ(phx_bootstrap_incarnation(ranks[i].b), 1);
    }
}

static void ranks_make(struct rank ranks[RANKS])
{
    memset(ranks, 0, RANKS * sizeof *ranks);
    for (uint32_t i = 0; i < RANKS; i++)
        ranks[i].options = options_of(i, RANKS);
}

// --- exchanges, the same over both --------------------------------------------------------------

struct deal {
    struct rank *rank;
    uint32_t bytes;
    uint32_t round;
    uint32_t gone; // RANKS: nobody
    bool wants_all;
    pthread_t thread;
    int rc;
    struct phx_message message;
};

static uint8_t letter(uint32_t from, uint32_t to, uint32_t round, uint32_t at)
{
    return (uint8_t)(from * 71 + to * 13 + round * 5 + at * 3 + at / 251 + 1);
}

static void *deal(void *argument)
{
    struct deal *d = argument;
    uint32_t me = d->rank->options.rank;
    size_t size = (size_t)RANKS * d->bytes + 1;
    uint8_t *mine = malloc(size);
    uint8_t *theirs = malloc(size);
    struct phx_rank_set present;
    CHECK(mine != NULL && theirs != NULL);
    memset(theirs, 0xcd, size);
    for (uint32_t i = 0; i < RANKS; i++)
        for (uint32_t k = 0; k < d->bytes; k++)
            mine[i * d->bytes + k] = letter(me, i, d->round, k);
    d->rc = phx_bootstrap_exchange(d->rank->b, mine, theirs, d->bytes,
                                   d->wants_all ? NULL : &present, &d->message);
    for (uint32_t i = 0; d->rc == 0 && i < RANKS; i++) {
        if (!d->wants_all)
            CHECK_EQ(phx_rank_set_has(&present, i), i != d->gone);
        for (uint32_t k = 0; k < d->bytes; k++)
            CHECK_EQ(theirs[i * d->bytes + k], i == d->gone ? 0 : letter(i, me, d->round, k));
    }
    CHECK_EQ(theirs[size - 1], 0xcd);
    free(mine);
    free(theirs);
    return NULL;
}

static void deals_run(struct rank ranks[RANKS], struct deal deals[RANKS], uint32_t bytes,
                      uint32_t round, uint32_t gone, bool wants_all)
{
    for (uint32_t i = 0; i < RANKS; i++) {
        deals[i] = (struct deal){.rank = &ranks[i],
                                 .bytes = bytes,
                                 .round = round,
                                 .gone = gone,
                                 .wants_all = wants_all};
        if (i != gone)
            CHECK_EQ(pthread_create(&deals[i].thread, NULL, deal, &deals[i]), 0);
    }
    for (uint32_t i = 0; i < RANKS; i++)
        if (i != gone)
            CHECK_EQ(pthread_join(deals[i].thread, NULL), 0);
}

// The whole life of a job; what it leaves is for the caller to look at.
static void life(struct rank ranks[RANKS])
{
    static const uint32_t sizes[] = {0, 1, 24, 5000, PHX_BOOTSTRAP_BLOB_MAX};
    struct deal deals[RANKS];
    all_join(ranks);
    for (uint32_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        deals_run(ranks, deals, sizes[s], s, RANKS, s % 2 == 0);
        for (uint32_t i = 0; i < RANKS; i++)
            CHECK_MSG(deals[i].rc == 0, "rank %u: %s", i, deals[i].message.text);
    }
    phx_bootstrap_leave(ranks[2].b);
    deals_run(ranks, deals, 24, 9, 2, false);
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_MSG(i == 2 || deals[i].rc == 0, "rank %u: %s", i, deals[i].message.text);
    deals_run(ranks, deals, 24, 10, 2, true);
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK(i == 2 || deals[i].rc == PHX_ERR_PEER_LOST);
    CHECK_STR_EQ(deals[0].message.text, "gone before exchange 7: rank 2");

    join(&ranks[2]); // its number may come again
    CHECK_MSG(ranks[2].rc == 0, "%s", ranks[2].message.text);
    CHECK_EQ(phx_bootstrap_incarnation(ranks[2].b), 2);
    CHECK(phx_bootstrap_job(ranks[2].b) == phx_bootstrap_job(ranks[0].b));
    deals_run(ranks, deals, 24, 11, RANKS, true);
    for (uint32_t i = 0; i < RANKS; i++)
        CHECK_MSG(deals[i].rc == 0, "rank %u: %s", i, deals[i].message.text);
    for (uint32_t i = RANKS; i-- > 0;)
        phx_bootstrap_leave(ranks[i].b);
}

// --- tcp ----------------------------------------------------------------------------------------

static struct phx_rendezvous_server *server_start(uint32_t ranks, uint32_t waiting_max)
{
    struct phx_rendezvous_options o = {.ranks = ranks,
                                       .secret = SECRET,
                                       .secret_bytes = sizeof SECRET,
                                       .waiting_max = waiting_max,
                                       .handshake_ms = PATIENCE_MS};
    struct phx_rendezvous_server *s = NULL;
    struct phx_message message;
    int rc = phx_rendezvous_server_start("127.0.0.1", 0, &o, &s, &message);
    CHECK_MSG(rc == 0, "%s", message.text);
    (void)snprintf(url, sizeof url, "tcp://127.0.0.1:%u", phx_rendezvous_server_port(s));
    return s;
}

TEST(four_ranks_join_and_exchange_over_tcp)
{
    struct rank ranks[RANKS];
    struct phx_rendezvous_server *s = server_start(RANKS, 0);
    ranks_make(ranks);
    life(ranks);
    CHECK(phx_rendezvous_server_is_done(s, PATIENCE_MS));
    phx_rendezvous_server_stop(s, 0);
}

TEST(a_rank_may_serve)
{
    struct rank ranks[RANKS];
    struct phx_rendezvous_server *s = server_start(RANKS, 0); // for a port that is free
    phx_rendezvous_server_stop(s, 0);
    ranks_make(ranks);
    ranks[0].options.serve = true;
    life(ranks);
}

static void *deal_and_leave(void *argument)
{
    struct deal *d = argument;
    (void)deal(d);
    phx_bootstrap_leave(d->rank->b);
    return NULL;
}

// Whoever is first through leaves at once, the one that serves included.
TEST(a_serving_rank_that_leaves_first_costs_the_others_nothing)
{
    for (uint32_t round = 0; round < 20; round++) {
        struct rank ranks[RANKS];
        struct deal deals[RANKS];
        struct phx_rendezvous_server *s = server_start(RANKS, 0);
        phx_rendezvous_server_stop(s, 0);
        ranks_make(ranks);
        ranks[0].options.serve = true;
        all_join(ranks);
        for (uint32_t i = 0; i < RANKS; i++) {
            deals[i] = (struct deal){.rank = &ranks[i],
                                     .bytes = PHX_BOOTSTRAP_BLOB_MAX,
                                     .round = round,
                                     .gone = RANKS,
                                     .wants_all = true};
            CHECK_EQ(pthread_create(&deals[i].thread, NULL, deal_and_leave, &deals[i]), 0);
        }
        for (uint32_t i = 0; i < RANKS; i++)
            CHECK_EQ(pthread_join(deals[i].thread, NULL), 0);
        for (uint32_t i = 0; i < RANKS; i++)
            CHECK_MSG(deals[i].rc == 0, "rank %u: %s", i, deals[i].message.text);
    }
}

TEST(another_secret_is_refused_by_name)
{
    struct phx_rendezvous_server *s = server_start(RANKS, 0);
    struct rank r = {.options = options_of(1, RANKS)};
    r.options.secret = (const uint8_t *)"sixteen letters.";
    r.options.secret_bytes = 16;
    join(&r);
    CHECK_EQ(r.rc, PHX_ERR_PROTECTION);
    CHECK_STR_EQ(r.message.text, "the rendezvous refused rank 1: another secret");
    phx_rendezvous_server_stop(s, 0);
}

TEST(a_rank_that_lives_keeps_its_number)
{
    struct phx_rendezvous_server *s = server_start(1, 0);
    struct rank r = {.options = options_of(0, 1)};
    struct rank twin = {.options = options_of(0, 1)};
    struct rank stranger = {.options = options_of(0, 3)};
    join(&r);
    CHECK_EQ(r.rc, 0);
    join(&twin);
    CHECK_EQ(twin.rc, PHX_ERR_STATE);
    CHECK(strstr(twin.message.text, "rank 0") != NULL);
    CHECK(strstr(twin.message.text, "taken by a living process") != NULL);
    join(&stranger);
    CHECK_EQ(stranger.rc, PHX_ERR_MISMATCH);
    CHECK_STR_EQ(stranger.message.text, "the rendezvous is for 1 ranks; rank 0 has 3");
    CHECK_EQ(phx_bootstrap_barrier(r.b, NULL), 0);
    phx_bootstrap_leave(r.b);
    phx_rendezvous_server_stop(s, 0);
}

TEST(ranks_that_do_not_come_are_named)
{
    struct phx_rendezvous_server *s = server_start(RANKS, 0);
    struct rank r = {.options = options_of(1, RANKS)};
    r.options.timeout_ms = 300;
    join(&r);
    CHECK_EQ(r.rc, PHX_ERR_TIMEOUT);
    CHECK_STR_EQ(r.message.text, "not joined in time: ranks 0, 2 and 3");
    phx_rendezvous_server_stop(s, 0);
    join(&r); // and now there is not even a rendezvous
    CHECK_EQ(r.rc, PHX_ERR_TIMEOUT);
    CHECK(strstr(r.message.text, "no rendezvous at 127.0.0.1") != NULL);
}

TEST(a_rank_that_does_not_give_is_named)
{
    struct rank ranks[RANKS];
    struct phx_rendezvous_server *s = server_start(RANKS, 0);
    uint8_t row[RANKS] = {0};
    ranks_make(ranks);
    ranks[1].options.timeout_ms = 3000;
    all_join(ranks);
    struct phx_message message;
    phx_bootstrap_leave(ranks[2].b); // nobody waits for it
    CHECK_EQ(phx_bootstrap_exchange(ranks[1].b, row, row, 1, NULL, &message), PHX_ERR_TIMEOUT);
    CHECK_STR_EQ(message.text, "exchange 1 still waits for ranks 0 and 3");
    CHECK_EQ(phx_bootstrap_barrier(ranks[1].b, &message), PHX_ERR_STATE);
    for (uint32_t i = 0; i < RANKS; i++)
        if (i != 2)
            phx_bootstrap_leave(ranks[i].b);
    phx_rendezvous_server_stop(s, 0);
}

TEST(ranks_that_joined_survive_the_rendezvous)
{
    struct rank ranks[RANKS];
    struct phx_rendezvous_server *s = server_start(RANKS, 0);
    struct phx_message message;
    ranks_make(ranks);
    all_join(ranks);
    uint64_t job = phx_bootstrap_job(ranks[1].b);
    phx_rendezvous_server_stop(s, 0);
    CHECK_EQ(phx_bootstrap_barrier(ranks[1].b, &message), PHX_ERR_PEER_LOST);
    CHECK_STR_EQ(message.text, "the rendezvous is gone, and exchange 1 with it");
    CHECK(phx_bootstrap_job(ranks[1].b) == job);
    for (uint32_t i = 0; i < RANKS; i++)
        phx_bootstrap_leave(ranks[i].b);
}

// In a child process: rank 0 serves, joins, says so, and is killed.
static pid_t server_rank_fork(int *said)
{
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct rank r = {.options = options_of(0, 2)};
        r.options.serve = true;
        join(&r);
        (void)!write(ends[1], r.rc == 0 ? "y" : "n", 1);
        for (;;)
            (void)pause();
    }
    (void)close(ends[1]);
    *said = ends[0];
    return child;
}

TEST(a_serving_rank_that_is_killed_costs_only_what_comes_later)
{
    struct phx_rendezvous_server *s = server_start(1, 0);
    phx_rendezvous_server_stop(s, 0);
    int said;
    char answer = 'n';
    struct phx_message message;
    pid_t child = server_rank_fork(&said);
    struct rank r = {.options = options_of(1, 2)};
    join(&r);
    CHECK_MSG(r.rc == 0, "%s", r.message.text);
    CHECK_EQ(read(said, &answer, 1), 1);
    CHECK_EQ(answer, 'y');
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    CHECK_EQ(phx_bootstrap_incarnation(r.b), 1);
    CHECK_EQ(phx_bootstrap_barrier(r.b, &message), PHX_ERR_PEER_LOST);
    phx_bootstrap_leave(r.b);
    (void)close(said);
}

// --- a thousand strangers -----------------------------------------------------------------------

enum { STRANGERS = 1000 };

static int stranger_connect(uint16_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(file >= 0);
    CHECK_EQ(connect(file, (const struct sockaddr *)&at, sizeof at), 0);
    return file;
}

// Some say nothing, some a part of a HELLO, some another protocol, some a header with no end.
static void stranger_say(int file, int kind)
{
    static const char http[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    uint8_t header[PHX_WIRE_HEADER];
    phx_wire_header_write(header, PHX_WIRE_HELLO, 2 * PHX_WIRE_KEY);
    if (kind == 1)
        (void)!send(file, header, sizeof header, MSG_NOSIGNAL);
    else if (kind == 2)
        (void)!send(file, http, sizeof http, MSG_NOSIGNAL);
    else if (kind == 3) {
        phx_wire_put(header + 8, UINT32_MAX, 4);
        (void)!send(file, header, sizeof header, MSG_NOSIGNAL);
    } else if (kind == 4)
        (void)!send(file, header, 7, MSG_NOSIGNAL);
}

static void among_strangers(uint32_t waiting_max, bool are_silent)
{
    static int files[STRANGERS];
    struct rank ranks[RANKS];
    struct phx_rendezvous_server *s = server_start(RANKS, waiting_max);
    for (int i = 0; i < STRANGERS; i++) {
        files[i] = stranger_connect(phx_rendezvous_server_port(s));
        stranger_say(files[i], are_silent ? 0 : i % 5);
    }
    ranks_make(ranks);
    life(ranks);
    struct phx_rendezvous_stats stats = phx_rendezvous_server_stats(s);
    CHECK(stats.accepted >= STRANGERS + RANKS + 1);
    if (are_silent && waiting_max >= STRANGERS + RANKS) {
        CHECK_EQ(stats.evicted, 0); // they were all there, all the time
        for (int i = 0; i < STRANGERS; i++) {
            char nothing;
            CHECK_EQ(recv(files[i], &nothing, 1, MSG_DONTWAIT), -1);
            CHECK(errno == EAGAIN);
        }
    }
    for (int i = 0; i < STRANGERS; i++)
        (void)close(files[i]);
    phx_rendezvous_server_stop(s, 0);
}

TEST(four_ranks_join_undisturbed_among_a_thousand_strangers)
{
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < 2 * STRANGERS + 200)
        SKIP("this machine allows a process too few files for 1000 connections and their ends");
    if (limit.rlim_cur < 2 * STRANGERS + 200)
        limit.rlim_cur = 2 * STRANGERS + 200;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    among_strangers(1024, true);
    among_strangers(1024, false);
    among_strangers(64, false); // most are evicted
}

// --- file ---------------------------------------------------------------------------------------

static char top[32];

static void top_make(void)
{
    (void)snprintf(top, sizeof top, "/tmp/phx-bootstrap-XXXXXX");
    CHECK(mkdtemp(top) != NULL);
    (void)snprintf(url, sizeof url, "file://%s/job", top);
}
static const char *directory(void)
{
    return url + strlen("file://");
}
static bool is_there(void)
{
    return access(directory(), F_OK) == 0;
}

TEST(four_ranks_join_and_exchange_by_files_and_leave_nothing)
{
    struct rank ranks[RANKS];
    top_make();
    ranks_make(ranks);
    life(ranks);
    CHECK(!is_there());
    life((ranks_make(ranks), ranks)); // and once more at the same place
    CHECK(!is_there());
    CHECK_EQ(rmdir(top), 0);
}

TEST(ranks_by_files_are_refused_by_name)
{
    top_make();
    struct rank r = {.options = options_of(0, 1)};
    struct rank twin = r;
    struct rank stranger = {.options = options_of(1, 3)};
    join(&r);
    CHECK_EQ(r.rc, 0);
    join(&twin);
    CHECK_EQ(twin.rc, PHX_ERR_STATE);
    CHECK_STR_EQ(twin.message.text, "rank 0 is taken by a living process");
    join(&stranger);
    CHECK_EQ(stranger.rc, PHX_ERR_MISMATCH);
    stranger.options = options_of(0, 1);
    stranger.options.secret = (const uint8_t *)"sixteen letters.";
    stranger.options.secret_bytes = 16;
    join(&stranger);
    CHECK_EQ(stranger.rc, PHX_ERR_PROTECTION);
    CHECK_EQ(phx_bootstrap_barrier(r.b, NULL), 0);
    phx_bootstrap_leave(r.b);
    CHECK(!is_there());

    CHECK_EQ(mkdir(directory(), 0755), 0); // others may look into it
    CHECK_EQ(chmod(directory(), 0755), 0);
    join(&r);
    CHECK_EQ(r.rc, PHX_ERR_PROTECTION);
    CHECK_EQ(rmdir(directory()), 0);
    r.options.ranks = 3;
    r.options.timeout_ms = 100;
    join(&r);
    CHECK_EQ(r.rc, PHX_ERR_TIMEOUT);
    CHECK_STR_EQ(r.message.text, "not joined in time: ranks 1 and 2");
    CHECK(!is_there());
    CHECK_EQ(rmdir(top), 0);
}

// As one does that is about to join: it has its file, and has not said yet which exchange is its
// first. If the others began theirs now, it would take part one later.
TEST(a_rank_that_is_still_joining_by_files_holds_the_others)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    struct rank r = {.options = options_of(0, 2)};
    char path[PHX_BOOTSTRAP_URL_MAX + 16];
    int lock = -1;
    top_make();
    r.options.url = url;
    r.options.timeout_ms = 500;
    CHECK_EQ(pthread_create(&r.thread, NULL, join, &r), 0);
    (void)snprintf(path, sizeof path, "%s/rank-0", directory());
    while (access(path, F_OK) != 0)
        (void)sched_yield();
    (void)snprintf(path, sizeof path, "%s/lock", directory());
    while (lock < 0 || fcntl(lock, F_OFD_SETLK, &whole) != 0)
        lock = lock < 0 ? open(path, O_RDWR | O_CLOEXEC) : lock; // it has its file, and lets go
    (void)snprintf(path, sizeof path, "%s/rank-1", directory());
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQ(fcntl(file, F_OFD_SETLK, &whole), 0);
    CHECK_EQ(pthread_join(r.thread, NULL), 0);
    CHECK_EQ(r.rc, PHX_ERR_TIMEOUT);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(close(file), 0);
    CHECK_EQ(close(lock), 0);
    join(&r); // alone, it cleans up
    CHECK_EQ(r.rc, PHX_ERR_TIMEOUT);
    CHECK(!is_there());
    CHECK_EQ(rmdir(top), 0);
}

TEST(a_forged_row_is_refused)
{
    top_make();
    struct rank ranks[RANKS];
    struct phx_message message;
    uint8_t row[RANKS] = {0};
    char path[PHX_BOOTSTRAP_URL_MAX + 16];
    ranks_make(ranks);
    all_join(ranks);
    (void)snprintf(path, sizeof path, "%s/row-1-3", directory());
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    CHECK(fputs("PHXB\1", f) >= 0);
    CHECK_EQ(fclose(f), 0);
    CHECK_EQ(phx_bootstrap_exchange(ranks[1].b, row, row, 1, NULL, &message), PHX_ERR_CORRUPT);
    CHECK(strstr(message.text, "row-1-3 is not what rank 3 wrote") != NULL);
    for (uint32_t i = 0; i < RANKS; i++)
        phx_bootstrap_leave(ranks[i].b);
    CHECK(!is_there());
    CHECK_EQ(rmdir(top), 0);
}

TEST(a_killed_rank_leaves_its_directory_and_the_next_job_cleans_it)
{
    top_make();
    int ends[2];
    char answer = 'n';
    CHECK_EQ(pipe(ends), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct rank r = {.options = options_of(0, 1)};
        uint8_t row = 7;
        join(&r);
        bool is_good = r.rc == 0 && phx_bootstrap_exchange(r.b, &row, &row, 1, NULL, NULL) == 0;
        (void)!write(ends[1], is_good ? "y" : "n", 1);
        for (;;)
            (void)pause();
    }
    CHECK_EQ(read(ends[0], &answer, 1), 1);
    CHECK_EQ(answer, 'y');
    CHECK_EQ(kill(child, SIGKILL), 0);
    CHECK_EQ(waitpid(child, NULL, 0), child);
    (void)close(ends[0]);
    (void)close(ends[1]);
    CHECK(is_there());
    struct rank ranks[RANKS];
    ranks_make(ranks); // another job, of another size, in its place
    life(ranks);
    CHECK(!is_there());
    CHECK_EQ(rmdir(top), 0); // and nothing beside it
}

// --- arguments ----------------------------------------------------------------------------------

TEST(bad_arguments_are_named_and_change_nothing)
{
    static const struct {
        const char *url;
        uint32_t rank;
        uint32_t ranks;
        size_t secret_bytes;
        const char *says;
    } cases[] = {
        {NULL, 0, 1, 16, "url is NULL"},
        {"http://x:1", 0, 1, 16, "url is http://x:1"},
        {"tcp://x", 0, 1, 16, "HOST:PORT"},
        {"tcp://x:70000", 0, 1, 16, "the port must be a number"},
        {"tcp://x:1x", 0, 1, 16, "the port must be a number"},
        {"tcp://:5", 0, 1, 16, "must name a host"},
        {"tcp://x:0", 0, 1, 16, "must name a host and a port"},
        {"tcp://::1:5", 0, 1, 16, "brackets"},
        {"file://", 0, 1, 16, "must name a directory"},
        {"tcp://x:1", 1, 1, 16, "rank is 1"},
        {"tcp://x:1", 0, 0, 16, "ranks is 0"},
        {"tcp://x:1", 0, PHX_RANKS_MAX + 1, 16, "ranks is 1025"},
        {"tcp://x:1", 0, 1, 15, "the secret has 15 bytes"},
        {"tcp://x:1", 0, 1, PHX_BOOTSTRAP_SECRET_MAX + 1, "the secret has 257 bytes"},
    };
    static const uint8_t secret[PHX_BOOTSTRAP_SECRET_MAX + 1];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct phx_bootstrap_options o = {.url = cases[i].url,
                                          .rank = cases[i].rank,
                                          .ranks = cases[i].ranks,
                                          .secret = secret,
                                          .secret_bytes = cases[i].secret_bytes};
        struct phx_message message = {""};
        struct phx_bootstrap *b = NULL;
        CHECK_EQ(phx_bootstrap_join(&o, &b, &message), PHX_ERR_INVALID);
        CHECK_MSG(strstr(message.text, cases[i].says) != NULL, "case %zu: %s", i, message.text);
        CHECK(b == NULL);
    }
}

#else
TEST(needs_libsodium)
{
    SKIP("this build has no libsodium");
}
#endif
