// tests/test_fiber.c: both kinds of fiber take turns alike and leave nothing behind.

#include <string.h>

#include "sim/fiber.h"
#include "sim/sanitizer.h"
#include "tests/test.h"

struct turns {
    struct phx_fibers *fibers;
    char log[64];
    size_t length;
};

struct walker {
    struct turns *turns;
    char name;
    uint32_t steps;
};

static void say(struct turns *turns, char what)
{
    PHX_SIM_ACQUIRE(turns);
    CHECK(turns->length + 1 < sizeof turns->log);
    turns->log[turns->length++] = what;
    PHX_SIM_RELEASE(turns);
}

static void walk(void *argument)
{
    struct walker *walker = argument;
    for (uint32_t i = 0; i < walker->steps; i++) {
        say(walker->turns, walker->name);
        phx_fiber_yield(walker->turns->fibers);
    }
    say(walker->turns, '.');
}

// False: this build has no such fibers.
static bool turns_open(struct turns *turns, enum phx_fiber_mode mode)
{
    struct phx_message message;
    memset(turns, 0, sizeof *turns);
    int error = phx_fibers_create(mode, &turns->fibers, &message);
    if (error == PHX_ERR_UNSUPPORTED && mode == PHX_FIBERS) {
        CHECK(strstr(message.text, "Boost.Context") != NULL);
        return false;
    }
    CHECK_EQ(error, 0);
    return true;
}

static void take_turns(enum phx_fiber_mode mode)
{
    struct turns turns;
    if (!turns_open(&turns, mode))
        SKIP("this build has no Boost.Context");
    struct walker a = {&turns, 'a', 3}, b = {&turns, 'b', 1};
    struct phx_fiber *first = phx_fiber_create(turns.fibers, walk, &a);
    struct phx_fiber *second = phx_fiber_create(turns.fibers, walk, &b);
    CHECK(first != NULL && second != NULL);
    CHECK_EQ(phx_fibers_alive(turns.fibers), 2);
    phx_fiber_resume(second);
    phx_fiber_resume(first);
    phx_fiber_resume(first);
    phx_fiber_resume(second);
    CHECK(phx_fiber_done(second) && !phx_fiber_done(first));
    phx_fiber_resume(first);
    phx_fiber_resume(first);
    CHECK(phx_fiber_done(first));
    phx_fiber_destroy(first);
    phx_fiber_destroy(second);
    CHECK_STR_EQ(turns.log, "baa.a.");
    phx_fibers_destroy(turns.fibers);
}

TEST(fiber_contexts_take_turns)
{
    take_turns(PHX_FIBERS);
}

TEST(fiber_pthreads_take_turns)
{
    take_turns(PHX_PTHREADS);
}

static void be_destroyed_where_they_stand(enum phx_fiber_mode mode)
{
    struct turns turns;
    if (!turns_open(&turns, mode))
        SKIP("this build has no Boost.Context");
    for (uint32_t round = 0; round < 40; round++) {
        struct walker walker = {&turns, 'x', 9};
        struct phx_fiber *halfway = phx_fiber_create(turns.fibers, walk, &walker);
        struct phx_fiber *never_run = phx_fiber_create(turns.fibers, walk, &walker);
        CHECK(halfway != NULL && never_run != NULL);
        phx_fiber_resume(halfway);
        phx_fiber_destroy(halfway);
        phx_fiber_destroy(never_run);
    }
    CHECK_EQ(turns.length, 40);
    CHECK_EQ(phx_fibers_alive(turns.fibers), 0);
    phx_fibers_destroy(turns.fibers);
}

TEST(fiber_contexts_may_be_destroyed_where_they_stand)
{
    be_destroyed_where_they_stand(PHX_FIBERS);
}

TEST(fiber_pthreads_may_be_destroyed_where_they_stand)
{
    be_destroyed_where_they_stand(PHX_PTHREADS);
}

struct deep {
    struct phx_fibers *fibers;
    double sum;
    uint32_t bytes_used;
};

static double descend(struct deep *deep, uint32_t depth)
{
    volatile char frame[1024];
    memset((char *)(uintptr_t)frame, (int)depth, sizeof frame);
    deep->bytes_used += (uint32_t)sizeof frame;
    if (depth == 0) {
        phx_fiber_yield(deep->fibers);
        return 1.0 / 3.0;
    }
    double below = descend(deep, depth - 1);
    CHECK_EQ((unsigned char)frame[17], depth & 0xFF);
    return below + 1.0 / (double)depth;
}

static void go_deep(void *argument)
{
    struct deep *deep = argument;
    deep->sum = descend(deep, 30);
}

// Half of a stack is used and floating point survives the switches; sanitizers have larger frames.
TEST(fiber_stacks_hold_deep_calls_and_floating_point)
{
    for (int mode = PHX_FIBERS; mode <= PHX_PTHREADS; mode++) {
        struct turns turns;
        if (!turns_open(&turns, (enum phx_fiber_mode)mode))
            continue;
        struct deep one = {turns.fibers, 0, 0}, two = {turns.fibers, 0, 0};
        struct phx_fiber *first = phx_fiber_create(turns.fibers, go_deep, &one);
        struct phx_fiber *second = phx_fiber_create(turns.fibers, go_deep, &two);
        CHECK(first != NULL && second != NULL);
        phx_fiber_resume(first);
        phx_fiber_resume(second);
        phx_fiber_resume(first);
        phx_fiber_resume(second);
        CHECK(phx_fiber_done(first) && phx_fiber_done(second));
        phx_fiber_destroy(first);
        phx_fiber_destroy(second);
        CHECK(one.sum > 4.3 && one.sum < 4.4);
        CHECK_MEM_EQ(&one.sum, &two.sum, sizeof one.sum);
        phx_fibers_destroy(turns.fibers);
    }
}

TEST(fiber_mode_out_of_range_is_refused)
{
    struct phx_fibers *fibers = NULL;
    struct phx_message message;
    CHECK_EQ(phx_fibers_create((enum phx_fiber_mode)9, &fibers, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "fibers is 9; it may be PHX_FIBERS (1) or PHX_PTHREADS (2)");
    CHECK(fibers == NULL);
}
