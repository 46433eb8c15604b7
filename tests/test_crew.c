// tests/test_crew.c: rank processes of one host open groups, die without taking others along, and
// leave nothing behind.

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hw/crew.h"
#include "tests/test.h"

enum { RANKS = 4, TOKENS = 16, HIDDEN = 128, EXPERTS = 8, TOP_K = 2, PAIRS = 40 };
enum { LOCAL = EXPERTS / RANKS, ROWS = LOCAL * RANKS * TOKENS };

struct arena {
    uint32_t victim;         // first: the setup. RANKS: nobody
    uint32_t reached[RANKS]; // pairs done
    uint64_t present[RANKS][PAIRS];
    uint32_t lost[RANKS][PAIRS]; // tokens
    int32_t rc[RANKS];
    char why[RANKS][256];
};

struct tensors {
    uint16_t x[TOKENS * HIDDEN], y[ROWS * HIDDEN], out[TOKENS * HIDDEN];
    uint8_t recv_x[ROWS * HIDDEN];
    float scales[ROWS], weights[TOKENS * TOP_K], loss[TOKENS];
    int64_t idx[TOKENS * TOP_K], range[LOCAL * RANKS];
    int32_t count[LOCAL], info[ROWS], active[RANKS];
};

static int pair_run(struct phx_group *group, struct phx_handle *handle, struct tensors *t,
                    struct arena *a, uint32_t rank, uint32_t pair, struct phx_message *why)
{
    struct phx_outcome outcome;
    const struct phx_dispatch_args d = {.size = sizeof d,
                                        .token_count = TOKENS,
                                        .x = t->x,
                                        .topk_idx = t->idx,
                                        .topk_weights = t->weights,
                                        .active_ranks = t->active,
                                        .recv_x = t->recv_x,
                                        .recv_scales = t->scales,
                                        .recv_count = t->count,
                                        .recv_src_info = t->info,
                                        .recv_layout_range = t->range};
    const struct phx_combine_args c = {.size = sizeof c,
                                       .token_count = TOKENS,
                                       .y = t->y,
                                       .topk_idx = t->idx,
                                       .topk_weights = t->weights,
                                       .active_ranks = t->active,
                                       .out = t->out,
                                       .token_loss = t->loss};
    int rc = phx_dispatch(group, &d, handle, &outcome, why);
    a->present[rank][pair] = outcome.present.words[0];
    if (rc == 0)
        rc = phx_combine(group, &c, handle, &outcome, why);
    for (uint32_t i = 0; i < TOKENS; i++)
        a->lost[rank][pair] += t->loss[i] > 0;
    __atomic_store_n(&a->reached[rank], pair + 1, __ATOMIC_RELEASE);
    return rc;
}

static int rank_main(struct phx_crew_rank *self, void *arena)
{
    struct arena *a = arena;
    uint32_t rank = phx_crew_rank_number(self);
    struct tensors *t = calloc(1, sizeof *t);
    struct phx_message why = {""};
    struct phx_group *group = NULL;
    struct phx_handle *handle = NULL;
    struct phx_group_options o;
    phx_group_options_init(&o);
    o.experts = EXPERTS, o.top_k = TOP_K, o.hidden = HIDDEN, o.tokens_max = TOKENS;
    o.workers = 2, o.timeout_us = 20000000;
    for (uint32_t i = 0; i < TOKENS * TOP_K; i++) // a token's experts are on two ranks
        t->idx[i] = (int64_t)((i / TOP_K + (i % TOP_K) * 3) % EXPERTS), t->weights[i] = 0.5f;
    for (uint32_t r = 0; r < RANKS; r++)
        t->active[r] = 1;
    int rc = phx_crew_rank_open(self, &o, &group, &why);
    if (rc == 0)
        rc = phx_handle_create(group, &handle, &why);
    for (uint32_t pair = 0; pair < PAIRS && rc == 0; pair++) {
        if (rank == a->victim && pair == PAIRS / 2)
            (void)raise(SIGKILL);
        rc = pair_run(group, handle, t, a, rank, pair, &why);
    }
    phx_crew_rank_barrier(self);
    if (group != NULL) {
        phx_handle_free(group, handle);
        phx_group_close(group);
    }
    memcpy(a->why[rank], why.text, sizeof why.text);
    a->rc[rank] = rc;
    free(t);
    return rc == 0 ? 0 : 1;
}

static struct phx_crew *crew_open(phx_crew_main *main, uint32_t victim)
{
    const struct phx_crew_options o = {.ranks = RANKS,
                                       .workers = 2,
                                       .spin_us = PHX_CREW_SPIN_AUTO,
                                       .arena_bytes = sizeof(struct arena),
                                       .setup = &victim,
                                       .setup_bytes = sizeof victim,
                                       .main = main};
    struct phx_crew *crew = NULL;
    struct phx_message message = {""};
    CHECK_MSG(phx_crew_start(&o, &crew, &message) == 0, "%s", message.text);
    return crew;
}

static void all_end(struct phx_crew *crew)
{
    for (int i = 0; phx_crew_wait(crew, 10) > 0; i++)
        CHECK_MSG(i < 3000, "the crew does not end");
}

TEST(crew_runs_a_healthy_group)
{
    struct phx_crew *crew = crew_open(rank_main, RANKS);
    all_end(crew);
    const struct arena *a = phx_crew_arena(crew);
    for (uint32_t r = 0; r < RANKS; r++) {
        CHECK_MSG(a->rc[r] == 0, "rank %u: %s", r, a->why[r]);
        CHECK_EQ(phx_crew_status(crew, r).exit, PHX_CREW_EXITED);
        CHECK_EQ(phx_crew_status(crew, r).code, 0);
        CHECK_EQ(a->reached[r], PAIRS);
        for (uint32_t p = 0; p < PAIRS; p++) {
            CHECK_EQ(a->present[r][p], 0xF);
            CHECK_EQ(a->lost[r][p], 0);
        }
    }
    phx_crew_end(crew);
}

TEST(crew_survivors_finish_without_a_killed_rank)
{
    struct phx_crew *crew = crew_open(rank_main, 2);
    all_end(crew);
    const struct arena *a = phx_crew_arena(crew);
    CHECK_EQ(phx_crew_status(crew, 2).exit, PHX_CREW_KILLED);
    CHECK_EQ(phx_crew_status(crew, 2).code, SIGKILL);
    CHECK_EQ(a->reached[2], PAIRS / 2);
    for (uint32_t r = 0; r < RANKS; r++) {
        if (r == 2)
            continue;
        CHECK_MSG(a->rc[r] == 0, "rank %u: %s", r, a->why[r]);
        CHECK_EQ(a->reached[r], PAIRS);
        CHECK_EQ(a->present[r][PAIRS / 2 - 1], 0xF);
        CHECK_EQ(a->present[r][PAIRS / 2], 0xB);
        // 8 tokens of 16 have one of their two experts on rank 2: experts 4 and 5.
        CHECK_EQ(a->lost[r][PAIRS / 2], 8);
    }
    phx_crew_end(crew);
}

// One that stopped, and hangs, and many lines: ended all the same.
static int stopped_main(struct phx_crew_rank *self, void *arena)
{
    (void)arena;
    printf("rank %u stops\n", phx_crew_rank_number(self));
    (void)fflush(stdout);
    (void)raise(SIGSTOP);
    return 0;
}

TEST(crew_end_leaves_no_process)
{
    struct phx_crew *crew = crew_open(stopped_main, RANKS);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(phx_crew_wait(crew, 5), RANKS);
    pid_t pids[RANKS];
    for (uint32_t r = 0; r < RANKS; r++)
        pids[r] = phx_crew_pid(crew, r);
    phx_crew_end(crew);
    for (uint32_t r = 0; r < RANKS; r++)
        CHECK_EQ(kill(pids[r], 0), -1); // reaped: there is no such process
}

// Killed itself, the launcher takes its crew along.
TEST(crew_dies_with_its_launcher)
{
    int pids[2];
    CHECK_EQ(pipe(pids), 0);
    pid_t launcher = fork();
    CHECK(launcher >= 0);
    if (launcher == 0) {
        struct phx_crew *crew = crew_open(stopped_main, RANKS);
        pid_t first = phx_crew_pid(crew, 0);
        if (write(pids[1], &first, sizeof first) == (ssize_t)sizeof first)
            (void)raise(SIGKILL);
        _exit(9);
    }
    pid_t first = 0;
    CHECK_EQ(read(pids[0], &first, sizeof first), (ssize_t)sizeof first);
    int status;
    CHECK_EQ(waitpid(launcher, &status, 0), launcher);
    bool is_gone = false;
    for (int i = 0; i < 500 && !is_gone; i++) {
        const struct timespec moment = {0, 10000000};
        (void)nanosleep(&moment, NULL);
        char path[64];
        char state[256] = "";
        (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)first);
        FILE *file = fopen(path, "r");
        if (file == NULL) {
            is_gone = true;
            break;
        }
        const char *end = fgets(state, sizeof state, file) != NULL ? strrchr(state, ')') : NULL;
        (void)fclose(file);
        is_gone = end != NULL && (end[2] == 'Z' || end[2] == 'X'); // whoever adopted it may reap it
    }
    CHECK(is_gone);
    (void)close(pids[0]);
    (void)close(pids[1]);
}

TEST(crew_refuses_bad_options)
{
    struct phx_message message;
    struct phx_crew *crew = NULL;
    const struct phx_crew_options none = {.ranks = 0, .workers = 1, .main = rank_main};
    CHECK_EQ(phx_crew_start(&none, &crew, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "ranks is 0; it may be 1 to 1024");
    CHECK(crew == NULL);
}
