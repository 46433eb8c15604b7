// tests/test_executor_host.c: pthread workers wait as the design says: a short spin, none when
// workers outnumber cores, then sleep; and no change of a word is slept through.

#include <pthread.h>
#include <sched.h>

#include "hw/executor_host.h"
#include "tests/test.h"

#define FAR_NS UINT64_C(20000000000) // a wait that takes as long has slept through its word

static struct phx_executor *executor_open(uint32_t workers, uint32_t spin_us,
                                          struct phx_host_executor **x)
{
    const struct phx_host_executor_options o = {.workers = workers, .spin_us = spin_us};
    struct phx_message message = {""};
    CHECK_MSG(phx_host_executor_create(&o, x, &message) == 0, "%s", message.text);
    return phx_host_executor_of(*x);
}

TEST(executor_host_spins_20_us_and_not_at_all_with_more_workers_than_cores)
{
    uint32_t cores = phx_host_cores();
    CHECK(cores >= 1);
    CHECK_EQ(phx_host_spin_us(1), 20);
    CHECK_EQ(phx_host_spin_us(cores), 20);
    CHECK_EQ(phx_host_spin_us(cores + 1), 0);
    CHECK_EQ(phx_host_spin_us(64 * cores), 0);
}

// --- a wait that nothing ends -------------------------------------------------------------------

struct quiet {
    struct phx_executor *e;
    uint64_t for_ns;
    uint64_t word;
    uint32_t parks;
};

static void quiet_body(void *argument, uint32_t worker)
{
    struct quiet *q = argument;
    uint64_t until_ns = q->e->ops->now_ns(q->e, worker) + q->for_ns;
    while (q->e->ops->now_ns(q->e, worker) < until_ns) {
        q->e->ops->park(q->e, worker, &q->word, 1, until_ns);
        q->parks++;
    }
}

static uint32_t quiet_parks(uint32_t spin_us)
{
    struct phx_host_executor *x;
    struct quiet q = {.e = executor_open(1, spin_us, &x), .for_ns = 50000000};
    CHECK_EQ(q.e->ops->run(q.e, quiet_body, &q, 1, NULL, NULL), 0);
    phx_host_executor_destroy(x);
    return q.parks;
}

// A park returns early only while it spins, and once to look again; then it sleeps to its end. The
// clock that it sleeps on may end a moment early, for another round.
TEST(executor_host_sleeps_at_once_without_a_spin)
{
    CHECK(quiet_parks(0) <= 8);
}

TEST(executor_host_sleeps_after_its_spin)
{
    uint32_t parks = quiet_parks(PHX_HOST_SPIN_US);
    CHECK(parks >= 2);
    // 50 ms of spinning would be a hundred thousand.
    CHECK_MSG(parks < 2000, "%u parks", parks);
}

// --- words that change --------------------------------------------------------------------------

struct talk {
    struct phx_executor *e;
    uint32_t rounds;
    uint64_t to;   // stored by the other thread
    uint64_t from; // stored by the worker
    uint32_t slept_through;
};

static void talk_body(void *argument, uint32_t worker)
{
    struct talk *t = argument;
    for (uint64_t i = 1; i <= t->rounds; i++) {
        uint64_t until_ns = t->e->ops->now_ns(t->e, worker) + FAR_NS;
        while (__atomic_load_n(&t->to, __ATOMIC_ACQUIRE) != i) {
            if (t->e->ops->now_ns(t->e, worker) >= until_ns) {
                t->slept_through++;
                break;
            }
            t->e->ops->park(t->e, worker, &t->to, 1, until_ns);
        }
        __atomic_store_n(&t->from, i, __ATOMIC_RELEASE);
    }
}

static void *talk_other(void *argument)
{
    struct talk *t = argument;
    for (uint64_t i = 1; i <= t->rounds; i++) {
        __atomic_store_n(&t->to, i, __ATOMIC_RELEASE);
        t->e->ops->wake(t->e, PHX_WORKER_CONTROL, NULL);
        while (__atomic_load_n(&t->from, __ATOMIC_ACQUIRE) != i)
            sched_yield();
    }
    return NULL;
}

static void check_talk(uint32_t spin_us)
{
    struct phx_host_executor *x;
    struct talk t = {.e = executor_open(1, spin_us, &x), .rounds = 5000};
    pthread_t other;
    CHECK_EQ(pthread_create(&other, NULL, talk_other, &t), 0);
    CHECK_EQ(t.e->ops->run(t.e, talk_body, &t, 1, NULL, NULL), 0);
    CHECK_EQ(pthread_join(other, NULL), 0);
    CHECK_EQ(t.slept_through, 0);
    phx_host_executor_destroy(x);
}

TEST(executor_host_sleeps_through_no_change)
{
    check_talk(0);
    check_talk(1);
    check_talk(PHX_HOST_SPIN_US);
}
