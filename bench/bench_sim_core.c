// bench/bench_sim_core.c: what an event costs: queue, hash, handler and, in the last rows, a
// fiber's turn.
//
// Hold model: every event that is dispatched schedules one other a random delay later, so that the
// number pending stays what it is. Delays are uniform in 1 to 2 us of virtual time, about what lies
// between a store and its arrival. Best of three runs of one million events after a warm-up.

#define _POSIX_C_SOURCE 199309L // clock_gettime()

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/core.h"
#include "sim/fiber.h"

#define EVENTS 1000000u
#define ROUNDS 3
#define DELAY_PS 2000000u

struct hold {
    struct phx_core *core;
    struct phx_fibers *fibers;
    struct phx_fiber *fiber; // NULL: the handler alone
    uint64_t number;
};

struct row {
    const char *what;
    uint64_t pending;
    double per_second; // events, or switches
    double ns;         // for one
};

static double seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void die(const char *why)
{
    (void)fprintf(stderr, "bench_sim_core: %s\n", why);
    exit(1);
}

static void hold_push(struct hold *hold)
{
    uint64_t number = ++hold->number;
    uint64_t delay = 1 + phx_chance_below(DELAY_PS, 1, PHX_CHANCE_JITTER, 0, number);
    if (!phx_core_schedule(hold->core, phx_core_now_ps(hold->core) + delay, 1, (uint32_t)number,
                           number))
        die("no memory for an event");
}

static void hold_fiber(void *argument)
{
    struct hold *hold = argument;
    for (;;) {
        hold_push(hold);
        phx_fiber_yield(hold->fibers);
    }
}

static void on_hold(void *context, const struct phx_event_record *event)
{
    struct hold *hold = context;
    (void)event;
    if (hold->fiber != NULL)
        phx_fiber_resume(hold->fiber);
    else
        hold_push(hold);
}

static double events_per_second(struct hold *hold)
{
    double best = 0;
    for (int round = 0; round <= ROUNDS; round++) {
        double begin = seconds();
        for (uint32_t i = 0; i < EVENTS; i++)
            (void)phx_core_step(hold->core);
        double rate = EVENTS / (seconds() - begin);
        if (round > 0 && rate > best) // the first is the warm-up
            best = rate;
    }
    return best;
}

static struct row measure_hold(const char *what, uint64_t pending, enum phx_tie tie,
                               enum phx_fiber_mode mode)
{
    const struct phx_schedule schedule = {.tie = tie};
    struct hold hold = {.core = phx_core_create(1, &schedule)};
    if (hold.core == NULL)
        die("no memory for a core");
    phx_core_handle(hold.core, 1, on_hold, &hold);
    for (uint64_t i = 0; i < pending; i++)
        hold_push(&hold);
    if (mode != 0) {
        if (phx_fibers_create(mode, &hold.fibers, NULL) != 0)
            die("no fibers of this kind");
        hold.fiber = phx_fiber_create(hold.fibers, hold_fiber, &hold);
        if (hold.fiber == NULL)
            die("no memory for a fiber");
    }
    struct row row = {.what = what, .pending = pending, .per_second = events_per_second(&hold)};
    row.ns = 1e9 / row.per_second;
    if (hold.fiber != NULL)
        phx_fiber_destroy(hold.fiber);
    phx_fibers_destroy(hold.fibers);
    phx_core_destroy(hold.core);
    return row;
}

static void switch_fiber(void *argument)
{
    for (;;)
        phx_fiber_yield(argument);
}

static struct row measure_switch(const char *what, enum phx_fiber_mode mode, uint32_t turns)
{
    struct phx_fibers *fibers;
    if (phx_fibers_create(mode, &fibers, NULL) != 0)
        die("no fibers of this kind");
    struct phx_fiber *fiber = phx_fiber_create(fibers, switch_fiber, fibers);
    if (fiber == NULL)
        die("no memory for a fiber");
    double best = 0;
    for (int round = 0; round <= ROUNDS; round++) {
        double begin = seconds();
        for (uint32_t i = 0; i < turns; i++)
            phx_fiber_resume(fiber);
        double rate = 2.0 * turns / (seconds() - begin); // into the fiber, and back
        if (round > 0 && rate > best)
            best = rate;
    }
    phx_fiber_destroy(fiber);
    phx_fibers_destroy(fibers);
    return (struct row){.what = what, .per_second = best, .ns = 1e9 / best};
}

static void print_table(const struct row *rows, uint32_t count)
{
    (void)printf("%-34s %10s %14s %8s\n", "what", "pending", "a second", "ns");
    for (uint32_t i = 0; i < count; i++)
        (void)printf("%-34s %10llu %14.0f %8.1f\n", rows[i].what,
                     (unsigned long long)rows[i].pending, rows[i].per_second, rows[i].ns);
}

static void print_json(const struct row *rows, uint32_t count)
{
    (void)printf("{\"bench\": \"sim_core\", \"hash\": %s, \"rows\": [",
                 phx_core_has_hash() ? "true" : "false");
    for (uint32_t i = 0; i < count; i++)
        (void)printf("%s{\"what\": \"%s\", \"pending\": %llu, \"per_second\": %.0f, \"ns\": %.2f}",
                     i == 0 ? "" : ", ", rows[i].what, (unsigned long long)rows[i].pending,
                     rows[i].per_second, rows[i].ns);
    (void)printf("]}\n");
}

int main(int argc, char **argv)
{
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json) {
        (void)fprintf(stderr, "usage: bench_sim_core [--json]\n");
        return 2;
    }
    struct phx_fibers *fibers = NULL;
    bool contexts = phx_fibers_create(PHX_FIBERS, &fibers, NULL) == 0;
    phx_fibers_destroy(fibers);
    struct row rows[16];
    uint32_t count = 0;
    for (uint64_t pending = 4096; pending <= 262144; pending *= 64) {
        rows[count++] = measure_hold("queue and hash, fifo", pending, PHX_TIE_FIFO, 0);
        rows[count++] = measure_hold("queue and hash, random ties", pending, PHX_TIE_RANDOM, 0);
        if (contexts)
            rows[count++] =
                measure_hold("queue, hash and a fiber's turn", pending, PHX_TIE_FIFO, PHX_FIBERS);
    }
    if (contexts)
        rows[count++] = measure_switch("one switch, contexts", PHX_FIBERS, 5000000);
    rows[count++] = measure_switch("one switch, pthreads", PHX_PTHREADS, 20000);
    if (json)
        print_json(rows, count);
    else
        print_table(rows, count);
    return 0;
}
