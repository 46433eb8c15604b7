// tests/test_shm_group.c: ranks as threads over shared memory and pthread workers give, bit for
// bit, what the same ranks give in the simulator; and a rank that ends costs its own tokens alone.

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/phalanx.h"
#include "hw/executor_host.h"
#include "hw/shm.h"
#include "sim/open.h"
#include "tests/test.h"

enum { RANKS = 4, TOKENS = 24, HIDDEN = 256, EXPERTS = 10, TOP_K = 3, WORKERS = 3, PAIRS = 6 };
enum { LOCAL_MAX = (EXPERTS + RANKS - 1) / RANKS, ROWS = LOCAL_MAX * RANKS * TOKENS };

struct pair { // what one dispatch and combine gave a rank
    uint8_t recv_x[ROWS * HIDDEN];
    float recv_scales[ROWS * (HIDDEN / 128)];
    int32_t count[LOCAL_MAX];
    int32_t src_info[ROWS];
    int64_t range[LOCAL_MAX * RANKS];
    uint16_t out[TOKENS * HIDDEN];
    float loss[TOKENS];
    struct phx_rank_set present;
    struct phx_rank_set answered;
};

struct rank {
    struct run *run;
    uint32_t number;
    int rc;
    struct phx_message message;
    struct pair pairs[PAIRS];
    uint16_t x[TOKENS * HIDDEN];
    uint16_t y[ROWS * HIDDEN];
    int64_t topk_idx[TOKENS * TOP_K];
    float weights[TOKENS * TOP_K];
    int32_t active[RANKS];
    struct phx_group *group;
    struct phx_handle *handle;
};

struct run {
    uint64_t job;
    uint32_t victim; // RANKS: nobody. Ends after pair 2
    enum phx_division division;
    uint8_t *cards; // [RANKS][RANKS][card]
    pthread_barrier_t all;
    pthread_barrier_t survivors;
    struct rank ranks[RANKS];
};

// --- the program of a rank, whatever carries it -------------------------------------------------

static void options_of(const struct rank *self, struct phx_group_options *o)
{
    phx_group_options_init(o);
    o->rank = self->number;
    o->ranks = RANKS;
    o->experts = EXPERTS;
    o->top_k = TOP_K;
    o->hidden = HIDDEN;
    o->tokens_max = TOKENS;
    o->workers = WORKERS;
    o->division = self->run->division;
    o->timeout_us = 20000000; // nobody is late here: a loaded machine must not look like a death
}

static void inputs_of(struct rank *self, uint32_t pair)
{
    for (uint32_t t = 0; t < TOKENS; t++) {
        for (uint32_t k = 0; k < TOP_K; k++) {
            uint32_t expert = (t * 7 + k * 3 + self->number + pair) % EXPERTS;
            bool is_absent = (t + k + pair) % 11 == 0;
            self->topk_idx[t * TOP_K + k] = is_absent ? -1 : (int64_t)expert;
            self->weights[t * TOP_K + k] = 0.125f * (float)(1 + (t + k) % 5);
        }
        for (uint32_t c = 0; c < HIDDEN; c++) // bf16 between about 0.25 and 8, of both signs
            self->x[t * HIDDEN + c] =
                (uint16_t)(0x3E80 + (t * 31 + c * 17 + pair * 5) % 0x280 + 0x8000 * ((t + c) % 2));
    }
}

// Stand-ins for experts: the row's first bytes, as bf16 of a sane size.
static void experts_of(struct rank *self, const struct pair *p)
{
    for (uint32_t r = 0; r < ROWS; r++)
        for (uint32_t c = 0; c < HIDDEN; c++)
            self->y[r * HIDDEN + c] = (uint16_t)(0x3F00 + p->recv_x[r * HIDDEN + c]);
}

static int pair_run(struct rank *self, uint32_t pair)
{
    struct pair *p = &self->pairs[pair];
    struct phx_outcome outcome;
    inputs_of(self, pair);
    struct phx_dispatch_args d;
    memset(&d, 0, sizeof d);
    d.size = sizeof d;
    d.token_count = TOKENS;
    d.x = self->x;
    d.topk_idx = self->topk_idx;
    d.topk_weights = self->weights;
    d.active_ranks = self->active;
    d.recv_x = p->recv_x;
    d.recv_scales = p->recv_scales;
    d.recv_count = p->count;
    d.recv_src_info = p->src_info;
    d.recv_layout_range = p->range;
    int rc = phx_dispatch(self->group, &d, self->handle, &outcome, &self->message);
    if (rc != 0)
        return rc;
    p->present = outcome.present;
    experts_of(self, p);
    struct phx_combine_args c;
    memset(&c, 0, sizeof c);
    c.size = sizeof c;
    c.token_count = TOKENS;
    c.y = self->y;
    c.topk_idx = self->topk_idx;
    c.topk_weights = self->weights;
    c.active_ranks = self->active;
    c.out = p->out;
    c.token_loss = p->loss;
    rc = phx_combine(self->group, &c, self->handle, &outcome, &self->message);
    p->answered = outcome.answered;
    return rc;
}

static void begin(struct rank *self)
{
    for (uint32_t r = 0; r < RANKS; r++)
        self->active[r] = 1;
}

// --- in the simulator ---------------------------------------------------------------------------

static void sim_main(struct phx_sim_rank *sim, void *argument)
{
    struct run *run = argument;
    struct rank *self = &run->ranks[phx_sim_rank_number(sim)];
    struct phx_group_options o;
    self->number = phx_sim_rank_number(sim);
    options_of(self, &o);
    begin(self);
    self->rc = phx_sim_open(sim, &o, &self->group, &self->message);
    if (self->rc == 0)
        self->rc = phx_handle_create(self->group, &self->handle, &self->message);
    for (uint32_t pair = 0; pair < PAIRS && self->rc == 0; pair++) {
        if (pair == 3 && run->victim == self->number)
            phx_world_kill(phx_sim_rank_world(sim), self->number); // does not return
        self->rc = pair_run(self, pair);
    }
    phx_sim_sleep_ns(sim, 50000000); // who returns counts as lost to those who still wait
    phx_sim_close(sim, self->group);
}

static struct run *run_new(uint32_t victim, enum phx_division division)
{
    struct run *run = calloc(1, sizeof *run);
    CHECK(run != NULL);
    run->victim = victim;
    run->division = division;
    for (uint32_t r = 0; r < RANKS; r++) {
        run->ranks[r].run = run;
        run->ranks[r].number = r;
    }
    return run;
}

static struct run *simulate(uint32_t victim, enum phx_division division)
{
    struct run *run = run_new(victim, division);
    struct phx_world_options o;
    struct phx_world *world = NULL;
    struct phx_message message = {""};
    memset(&o, 0, sizeof o);
    o.seed = 5;
    o.schedule.tie = PHX_TIE_FIFO;
    o.fibers = PHX_PTHREADS;
    o.workers = WORKERS;
    o.cluster.nodes = 1;
    o.cluster.ranks_per_node = RANKS;
    o.cluster.intra_node = "nvlink4";
    CHECK_MSG(phx_world_create(&o, &world, &message) == 0, "%s", message.text);
    CHECK_MSG(phx_world_run(world, sim_main, run, &message) == 0, "%s", message.text);
    phx_world_destroy(world);
    return run;
}

// --- over shared memory -------------------------------------------------------------------------

static int group_open(struct rank *self, const struct phx_target *target)
{
    struct run *run = self->run;
    uint32_t bytes = phx_group_card_bytes();
    struct phx_group_options o;
    options_of(self, &o);
    int rc = phx_group_create(&o, target, &self->group, &self->message);
    if (rc == 0)
        phx_group_cards(self->group, run->cards + (uint64_t)self->number * RANKS * bytes);
    (void)pthread_barrier_wait(&run->all);
    uint8_t *theirs = calloc(RANKS, bytes);
    CHECK(theirs != NULL);
    for (uint32_t r = 0; r < RANKS; r++)
        memcpy(theirs + r * bytes, run->cards + (r * RANKS + self->number) * (uint64_t)bytes,
               bytes);
    if (rc == 0)
        rc = phx_group_connect(self->group, theirs, &self->message);
    free(theirs);
    while (rc == 0 && phx_group_poll(self->group) > 0)
        (void)usleep(100);
    if (rc == 0)
        rc = phx_handle_create(self->group, &self->handle, &self->message);
    (void)pthread_barrier_wait(&run->all);
    return rc;
}

static void target_open(struct rank *self, struct phx_shm **shm, struct phx_host_executor **x)
{
    const struct phx_host_executor_options eo = {.workers = WORKERS, .spin_us = 5};
    CHECK_EQ(phx_host_executor_create(&eo, x, &self->message), 0);
    const struct phx_shm_options so = {.job = self->run->job,
                                       .rank = self->number,
                                       .ranks = RANKS,
                                       .incarnation = 1,
                                       .lanes = WORKERS,
                                       .notify = phx_host_executor_notify,
                                       .notify_context = *x};
    CHECK_EQ(phx_shm_create(&so, shm, &self->message), 0);
    phx_host_executor_sleep_on(*x, phx_shm_bell(*shm));
}

static void *shm_main(void *argument)
{
    struct rank *self = argument;
    struct run *run = self->run;
    struct phx_shm *shm = NULL;
    struct phx_host_executor *x = NULL;
    target_open(self, &shm, &x);
    const struct phx_target target = {phx_shm_transport(shm), phx_host_executor_of(x)};
    begin(self);
    self->rc = group_open(self, &target);
    bool is_dead = false;
    for (uint32_t pair = 0; pair < PAIRS && self->rc == 0 && !is_dead; pair++) {
        is_dead = pair == 3 && run->victim == self->number;
        if (is_dead)
            phx_shm_die(shm);
        else
            self->rc = pair_run(self, pair);
    }
    if (!is_dead)
        (void)pthread_barrier_wait(&run->survivors);
    if (self->group != NULL) {
        phx_handle_free(self->group, self->handle);
        phx_group_close(self->group);
    }
    phx_transport_close(phx_shm_transport(shm));
    phx_host_executor_destroy(x);
    return NULL;
}

static struct run *run_for_real(uint32_t victim, enum phx_division division)
{
    static uint32_t jobs;
    struct run *run = run_new(victim, division);
    pthread_t threads[RANKS];
    run->job = (uint64_t)getpid() << 20 | ++jobs;
    run->cards = calloc((uint64_t)RANKS * RANKS, phx_group_card_bytes());
    CHECK(run->cards != NULL);
    CHECK_EQ(pthread_barrier_init(&run->all, NULL, RANKS), 0);
    CHECK_EQ(pthread_barrier_init(&run->survivors, NULL, victim < RANKS ? RANKS - 1 : RANKS), 0);
    for (uint32_t r = 0; r < RANKS; r++)
        CHECK_EQ(pthread_create(&threads[r], NULL, shm_main, &run->ranks[r]), 0);
    for (uint32_t r = 0; r < RANKS; r++)
        CHECK_EQ(pthread_join(threads[r], NULL), 0);
    free(run->cards);
    return run;
}

// --- what must hold -----------------------------------------------------------------------------

static void compare(const struct run *a, const struct run *b, uint32_t rank)
{
    const struct rank *x = &a->ranks[rank];
    const struct rank *y = &b->ranks[rank];
    CHECK_MSG(x->rc == 0, "rank %u in the simulator: %s", rank, x->message.text);
    CHECK_MSG(y->rc == 0, "rank %u over shared memory: %s", rank, y->message.text);
    for (uint32_t pair = 0; pair < PAIRS; pair++)
        CHECK_MSG(memcmp(&x->pairs[pair], &y->pairs[pair], sizeof x->pairs[pair]) == 0,
                  "rank %u, pair %u differs", rank, pair);
}

// However workers share what they send, the bytes are the same.
static void all_alive(enum phx_division division)
{
    struct run *simulated = simulate(RANKS, PHX_BY_PEER);
    struct run *real = run_for_real(RANKS, division);
    for (uint32_t r = 0; r < RANKS; r++) {
        compare(simulated, real, r);
        CHECK_EQ(real->ranks[r].pairs[PAIRS - 1].present.words[0], 0xF);
    }
    free(simulated);
    free(real);
}

static void one_dies(enum phx_division division)
{
    struct run *simulated = simulate(2, PHX_BY_PEER);
    struct run *real = run_for_real(2, division);
    for (uint32_t r = 0; r < RANKS; r++) {
        if (r == 2)
            continue;
        compare(simulated, real, r);
        CHECK_EQ(real->ranks[r].pairs[3].present.words[0], 0xB);
        CHECK_EQ(real->ranks[r].active[2], 0);
        float lost = 0;
        for (uint32_t t = 0; t < TOKENS; t++)
            lost += real->ranks[r].pairs[3].loss[t];
        CHECK(lost > 0);
    }
    free(simulated);
    free(real);
}

TEST(shm_group_gives_the_simulators_bytes)
{
    all_alive(PHX_BY_PEER);
}

TEST(shm_group_divided_by_token_gives_the_simulators_bytes)
{
    all_alive(PHX_BY_TOKEN);
}

TEST(shm_group_goes_on_without_a_dead_rank)
{
    one_dies(PHX_BY_PEER);
}

TEST(shm_group_divided_by_token_goes_on_without_a_dead_rank)
{
    one_dies(PHX_BY_TOKEN);
}
