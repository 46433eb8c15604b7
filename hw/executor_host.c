// hw/executor_host.c: launches, waiting, and the clock of pthread workers.

#include "hw/executor_host.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/assert.h"
#include "engine/limits.h"
#include "hw/clock.h"

struct worker {
    struct phx_host_executor *executor;
    uint32_t index;
    bool is_armed;      // counted among the bell's sleepers
    uint32_t ticket;    // when armed
    uint64_t spin_ns;   // since when it waits without a break
    uint64_t parked_ns; // when it parked last; 0: it worked since
    pthread_t thread;
    _Alignas(64) char apart[64];
};

struct phx_host_executor {
    struct phx_executor base; // first
    struct phx_host_executor_options options;
    uint64_t spin_ns;
    struct phx_bell own_bell;
    struct phx_bell *bell;
    struct worker *workers; // [options.workers]
    uint32_t started;       // threads
    bool is_stopping;
    // A launch.
    struct phx_bell launch; // rung when there is one, or the end
    uint64_t launches;
    phx_body_fn *body;
    void *argument;
    uint32_t count; // workers of this launch
    _Alignas(64) uint32_t left;
    bool has_events;
    struct phx_bell control; // the control thread sleeps on it
};

static struct phx_host_executor *self_of(struct phx_executor *e)
{
    return (struct phx_host_executor *)(void *)e;
}

static uint64_t executor_now_ns(struct phx_executor *e, uint32_t worker)
{
    (void)e;
    (void)worker;
    return phx_clock_ns();
}

static void pause_a_little(void)
{
    for (uint32_t i = 0; i < 8; i++)
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#else
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

// --- waiting ------------------------------------------------------------------------------------

static void disarm(struct worker *w)
{
    if (!w->is_armed)
        return;
    w->is_armed = false;
    phx_bell_disarm(w->executor->bell);
}

static void executor_park(struct phx_executor *e, uint32_t worker, const uint64_t *words,
                          uint32_t count, uint64_t until_ns)
{
    struct phx_host_executor *x = self_of(e);
    uint64_t now_ns = phx_clock_ns();
    (void)words;
    (void)count;
    if (until_ns <= now_ns)
        return;
    if (worker == PHX_WORKER_CONTROL) {
        uint32_t ticket = phx_bell_arm(&x->control);
        if (!__atomic_load_n(&x->has_events, __ATOMIC_SEQ_CST))
            phx_bell_sleep(&x->control, ticket, until_ns - now_ns);
        phx_bell_disarm(&x->control);
        return;
    }
    struct worker *w = &x->workers[worker];
    if (w->parked_ns == 0)
        w->spin_ns = now_ns;
    w->parked_ns = now_ns;
    if (now_ns - w->spin_ns < x->spin_ns) {
        pause_a_little();
        return;
    }
    if (!w->is_armed) {
        w->ticket = phx_bell_arm(x->bell);
        w->is_armed = true;
        return; // to look once more
    }
    phx_bell_sleep(x->bell, w->ticket, until_ns - now_ns);
    disarm(w);
}

static void executor_wake(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    (void)worker;
    (void)word;
    phx_bell_ring(self_of(e)->bell);
}

// --- work ---------------------------------------------------------------------------------------

// Whoever does some work waits no more: its next wait spins again.
static void executor_charge(struct phx_executor *e, uint32_t worker, struct phx_cost cost)
{
    struct phx_host_executor *x = self_of(e);
    (void)cost;
    if (worker == PHX_WORKER_CONTROL)
        return;
    x->workers[worker].parked_ns = 0;
    disarm(&x->workers[worker]);
}

static void executor_observe(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    (void)e;
    (void)worker;
    (void)word;
}

static void executor_touch(struct phx_executor *e, uint32_t worker, const void *base,
                           uint64_t size_bytes, int is_write)
{
    (void)e;
    (void)worker;
    (void)base;
    (void)size_bytes;
    (void)is_write;
}

static void executor_phase(struct phx_executor *e, uint32_t worker, uint32_t phase, uint64_t number)
{
    const struct phx_host_executor_options *o = &self_of(e)->options;
    if (o->phase != NULL)
        o->phase(o->phase_context, worker, phase, number);
}

// --- launches -----------------------------------------------------------------------------------

static void body_run(struct worker *w)
{
    struct phx_host_executor *x = w->executor;
    w->parked_ns = 0;
    if (w->index < x->count)
        x->body(x->argument, w->index);
    disarm(w);
    if (__atomic_sub_fetch(&x->left, 1, __ATOMIC_ACQ_REL) == 0)
        phx_bell_ring(&x->control);
}

static void *worker_main(void *argument)
{
    struct worker *w = argument;
    struct phx_host_executor *x = w->executor;
    uint64_t done = 0;
    for (;;) {
        uint64_t since_ns = phx_clock_ns();
        uint64_t launches;
        while ((launches = __atomic_load_n(&x->launches, __ATOMIC_ACQUIRE)) == done) {
            if (__atomic_load_n(&x->is_stopping, __ATOMIC_ACQUIRE))
                return NULL;
            if (phx_clock_ns() - since_ns < x->spin_ns) {
                pause_a_little();
                continue;
            }
            uint32_t ticket = phx_bell_arm(&x->launch);
            if (__atomic_load_n(&x->launches, __ATOMIC_SEQ_CST) == done &&
                !__atomic_load_n(&x->is_stopping, __ATOMIC_SEQ_CST))
                phx_bell_sleep(&x->launch, ticket, UINT64_MAX);
            phx_bell_disarm(&x->launch);
        }
        done = launches;
        body_run(w);
    }
}

static void events_take(struct phx_host_executor *x, void (*on_events)(void *context),
                        void *context)
{
    if (__atomic_exchange_n(&x->has_events, false, __ATOMIC_SEQ_CST) && on_events != NULL)
        on_events(context);
}

static int executor_run(struct phx_executor *e, phx_body_fn *body, void *argument, uint32_t workers,
                        void (*on_events)(void *context), void *context)
{
    struct phx_host_executor *x = self_of(e);
    phx_assert(workers >= 1 && workers <= x->options.workers);
    phx_assert(__atomic_load_n(&x->left, __ATOMIC_ACQUIRE) == 0);
    x->body = body;
    x->argument = argument;
    x->count = workers;
    // All of them, so that none is still looking at this launch when the next one is made.
    __atomic_store_n(&x->left, x->options.workers, __ATOMIC_RELEASE);
    __atomic_store_n(&x->launches, x->launches + 1, __ATOMIC_RELEASE);
    phx_bell_ring(&x->launch);
    uint64_t since_ns = phx_clock_ns();
    while (__atomic_load_n(&x->left, __ATOMIC_ACQUIRE) != 0) {
        events_take(x, on_events, context);
        if (phx_clock_ns() - since_ns < x->spin_ns) {
            pause_a_little();
            continue;
        }
        uint32_t ticket = phx_bell_arm(&x->control);
        if (__atomic_load_n(&x->left, __ATOMIC_SEQ_CST) != 0 &&
            !__atomic_load_n(&x->has_events, __ATOMIC_SEQ_CST))
            phx_bell_sleep(&x->control, ticket, UINT64_MAX);
        phx_bell_disarm(&x->control);
    }
    events_take(x, on_events, context);
    return 0;
}

void phx_host_executor_notify(void *executor)
{
    struct phx_host_executor *x = executor;
    __atomic_store_n(&x->has_events, true, __ATOMIC_SEQ_CST);
    phx_bell_ring(&x->control);
}

// --- cores --------------------------------------------------------------------------------------

uint32_t phx_host_cores(void)
{
    cpu_set_t set;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return (uint32_t)CPU_COUNT(&set);
    return cores > 0 ? (uint32_t)cores : 1; // more cores than a set has room for
}

uint32_t phx_host_spin_us(uint32_t workers)
{
    return workers > phx_host_cores() ? 0 : PHX_HOST_SPIN_US;
}

// --- create and destroy -------------------------------------------------------------------------

static const struct phx_executor_ops OPS = {
    .now_ns = executor_now_ns,
    .park = executor_park,
    .wake = executor_wake,
    .charge = executor_charge,
    .observe = executor_observe,
    .touch = executor_touch,
    .run = executor_run,
    .phase = executor_phase,
};

int phx_host_executor_create(const struct phx_host_executor_options *options,
                             struct phx_host_executor **executor, struct phx_message *message)
{
    if (options->workers < 1 || options->workers > PHX_WORKERS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "workers is %u; it may be 1 to %u",
                        options->workers, PHX_WORKERS_MAX);
    struct phx_host_executor *x = aligned_alloc(64, (sizeof *x + 63) / 64 * 64);
    struct worker *workers = aligned_alloc(64, options->workers * sizeof *workers);
    if (x == NULL || workers == NULL) {
        free(x);
        free(workers);
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u workers", options->workers);
    }
    memset(x, 0, sizeof *x);
    memset(workers, 0, options->workers * sizeof *workers);
    x->base.ops = &OPS;
    x->options = *options;
    x->spin_ns = (uint64_t)options->spin_us * 1000;
    x->bell = &x->own_bell;
    x->workers = workers;
    for (uint32_t i = 0; i < options->workers; i++) {
        workers[i].executor = x;
        workers[i].index = i;
        int rc = pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]);
        if (rc != 0) {
            phx_host_executor_destroy(x);
            return phx_fail(message, PHX_ERR_NO_MEMORY, "the thread of worker %u of %u: %s", i,
                            options->workers, strerror(rc));
        }
        x->started++;
    }
    *executor = x;
    return 0;
}

struct phx_executor *phx_host_executor_of(struct phx_host_executor *executor)
{
    return &executor->base;
}

void phx_host_executor_sleep_on(struct phx_host_executor *executor, struct phx_bell *bell)
{
    executor->bell = bell;
}

void phx_host_executor_destroy(struct phx_host_executor *executor)
{
    if (executor == NULL)
        return;
    __atomic_store_n(&executor->is_stopping, true, __ATOMIC_SEQ_CST);
    phx_bell_ring(&executor->launch);
    for (uint32_t i = 0; i < executor->started; i++)
        (void)pthread_join(executor->workers[i].thread, NULL);
    free(executor->workers);
    free(executor);
}
