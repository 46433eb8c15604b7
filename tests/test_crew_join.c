// tests/test_crew_join.c: processes that no launcher of ours started become a crew: they meet by a
// bootstrap and share memory that survives each of them.

#include "tests/test.h"

#if PHX_HAVE_SODIUM

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hw/crew.h"

enum { RANKS = 4, ARENA = 8192, PATIENCE_MS = 60000, WORKERS = 2 };

struct found { // what a rank's process found, for the test to look at
    int rc;
    uint32_t value;
    char why[256];
};

typedef uint32_t rank_program(struct phx_crew_rank *self, struct found *found);

static const uint8_t SECRET[] = "twenty-four test letters";
static struct found *found; // [RANKS], shared
static char directory[64];
static char url[128];

static void world_open(void)
{
    found = mmap(NULL, RANKS * sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                 -1, 0);
    CHECK(found != MAP_FAILED);
    (void)snprintf(directory, sizeof directory, "/tmp/phx-test-XXXXXX");
    CHECK(mkdtemp(directory) != NULL);
    (void)snprintf(url, sizeof url, "file://%s/meet", directory);
}

// The last that leaves the bootstrap leaves nothing there.
static void world_close(void)
{
    CHECK_EQ(rmdir(directory), 0);
    CHECK_EQ(munmap(found, RANKS * sizeof *found), 0);
}

static _Noreturn void rank_main(uint32_t rank, uint64_t arena_bytes, rank_program *program)
{
    struct phx_message message = {""};
    struct phx_crew_rank *self = NULL;
    struct phx_bootstrap *b = NULL;
    const struct phx_bootstrap_options meet = {.url = url,
                                               .rank = rank,
                                               .ranks = RANKS,
                                               .secret = SECRET,
                                               .secret_bytes = sizeof SECRET,
                                               .timeout_ms = PATIENCE_MS};
    const struct phx_crew_options o = {.ranks = RANKS,
                                       .workers = WORKERS,
                                       .spin_us = PHX_CREW_SPIN_AUTO,
                                       .arena_bytes = arena_bytes};
    int rc = phx_bootstrap_join(&meet, &b, &message);
    if (rc == 0 && program != NULL)
        rc = phx_crew_join(&o, rank, PATIENCE_MS, b, &self, &message);
    phx_bootstrap_leave(b);
    found[rank].rc = rc;
    memcpy(found[rank].why, message.text, sizeof message.text);
    if (rc == 0 && program != NULL)
        found[rank].value = program(self, &found[rank]);
    phx_crew_leave(self);
    _exit(0);
}

// Each a process that shares nothing with the others but what this test looks at.
static void ranks_run(rank_program *const programs[RANKS], const uint64_t arena_bytes[RANKS])
{
    pid_t pids[RANKS];
    for (uint32_t r = 0; r < RANKS; r++) {
        pids[r] = fork();
        CHECK(pids[r] >= 0);
        if (pids[r] == 0)
            rank_main(r, arena_bytes[r], programs[r]);
    }
    for (uint32_t r = 0; r < RANKS; r++)
        CHECK_EQ(waitpid(pids[r], NULL, 0), pids[r]);
}

static const uint64_t ALIKE[RANKS] = {ARENA, ARENA, ARENA, ARENA};

static bool comes_to_be_gone(const struct phx_crew_rank *self, uint32_t rank)
{
    const struct timespec moment = {0, 1000000};
    for (int i = 0; i < PATIENCE_MS && !phx_crew_rank_is_gone(self, rank); i++)
        (void)nanosleep(&moment, NULL);
    return phx_crew_rank_is_gone(self, rank);
}

static int group_open(struct phx_crew_rank *self, struct phx_message *message)
{
    struct phx_group *group = NULL;
    struct phx_group_options o;
    phx_group_options_init(&o);
    o.experts = 8, o.top_k = 2, o.hidden = 128, o.tokens_max = 16, o.workers = WORKERS;
    int rc = phx_crew_rank_open(self, &o, &group, message);
    phx_crew_rank_barrier(self); // nobody closes what others still open
    phx_group_close(group);
    return rc;
}

// --- a crew -------------------------------------------------------------------------------------

static uint32_t write_and_add(struct phx_crew_rank *self, struct found *mine)
{
    uint32_t *arena = phx_crew_rank_arena(self);
    struct phx_message message = {""};
    uint32_t sum = 0;
    arena[phx_crew_rank_number(self)] = 1u << phx_crew_rank_number(self);
    phx_crew_rank_barrier(self);
    for (uint32_t r = 0; r < RANKS; r++)
        sum += arena[r] + 16 * phx_crew_rank_is_gone(self, r);
    mine->rc = group_open(self, &message);
    memcpy(mine->why, message.text, sizeof message.text);
    return sum;
}

TEST(joined_ranks_share_memory_and_open_groups)
{
    rank_program *const programs[RANKS] = {write_and_add, write_and_add, write_and_add,
                                           write_and_add};
    world_open();
    ranks_run(programs, ALIKE);
    for (uint32_t r = 0; r < RANKS; r++) {
        CHECK_MSG(found[r].rc == 0, "rank %u: %s", r, found[r].why);
        CHECK_EQ(found[r].value, 0xF);
    }
    world_close();
}

static uint32_t write_and_die(struct phx_crew_rank *self, struct found *mine)
{
    uint32_t *arena = phx_crew_rank_arena(self);
    (void)mine;
    __atomic_store_n(&arena[0], 42u, __ATOMIC_RELEASE);
    (void)raise(SIGKILL);
    return 0;
}

static uint32_t see_the_first_die(struct phx_crew_rank *self, struct found *mine)
{
    const uint32_t *arena = phx_crew_rank_arena(self);
    struct phx_message message = {""};
    if (!comes_to_be_gone(self, 0))
        return 0;
    phx_crew_rank_barrier(self); // of those that live
    mine->rc = group_open(self, &message);
    return __atomic_load_n(&arena[0], __ATOMIC_ACQUIRE);
}

// It made the memory, and what it left there stays.
TEST(joined_rank_that_is_killed_is_gone_and_its_memory_is_not)
{
    rank_program *const programs[RANKS] = {write_and_die, see_the_first_die, see_the_first_die,
                                           see_the_first_die};
    world_open();
    ranks_run(programs, ALIKE);
    for (uint32_t r = 1; r < RANKS; r++) {
        CHECK_EQ(found[r].value, 42);
        CHECK_EQ(found[r].rc, PHX_ERR_PEER_LOST); // of the group that it was to open with them
    }
    world_close();
}

static uint32_t leave(struct phx_crew_rank *self, struct found *mine)
{
    (void)self, (void)mine;
    return 7;
}

static uint32_t see_the_last_leave(struct phx_crew_rank *self, struct found *mine)
{
    (void)mine;
    return comes_to_be_gone(self, RANKS - 1) ? 8 : 0;
}

TEST(joined_rank_that_leaves_is_gone)
{
    rank_program *const programs[RANKS] = {see_the_last_leave, see_the_last_leave,
                                           see_the_last_leave, leave};
    world_open();
    ranks_run(programs, ALIKE);
    for (uint32_t r = 0; r < RANKS; r++) {
        CHECK_MSG(found[r].rc == 0, "rank %u: %s", r, found[r].why);
        CHECK_EQ(found[r].value, r == RANKS - 1 ? 7 : 8);
    }
    world_close();
}

// --- what does not become one -------------------------------------------------------------------

TEST(joined_ranks_that_share_other_sizes_are_named)
{
    rank_program *const programs[RANKS] = {leave, leave, leave, leave};
    const uint64_t sizes[RANKS] = {ARENA, ARENA, ARENA + 4096, ARENA};
    world_open();
    ranks_run(programs, sizes);
    for (uint32_t r = 0; r < RANKS; r++) {
        CHECK_EQ(found[r].rc, PHX_ERR_MISMATCH);
        CHECK_MSG(strstr(found[r].why, "rank 2 shares ") != NULL, "%s", found[r].why);
    }
    world_close();
}

TEST(joined_ranks_name_one_that_ends_before)
{
    rank_program *const programs[RANKS] = {leave, NULL, leave, leave};
    world_open();
    ranks_run(programs, ALIKE);
    for (uint32_t r = 0; r < RANKS; r++) {
        if (r == 1)
            continue;
        CHECK_EQ(found[r].rc, PHX_ERR_PEER_LOST);
        CHECK_MSG(strstr(found[r].why, "rank 1") != NULL, "%s", found[r].why);
    }
    world_close();
}

#else

TEST(needs_libsodium)
{
    SKIP("this build has no libsodium");
}

#endif
