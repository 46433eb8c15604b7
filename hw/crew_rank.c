// hw/crew_rank.c: inside a process of a crew: its transport, its workers, its groups.

#include "hw/crew_internal.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/transport_ops.h"
#include "hw/clock.h"

#define LOOK_NS 10000000u // ends of ranks ring no bell

static void on_phase(void *context, uint32_t worker, uint32_t phase, uint64_t number)
{
    const struct phx_crew_rank *self = context;
    if (self->phase != NULL)
        self->phase(self->phase_context, worker, phase, number);
}

static int cuda_make(struct phx_crew_rank *self, const struct phx_crew_options *options,
                     uint32_t incarnation, struct phx_message *message)
{
    uint32_t device = options->devices[self->rank];
    if (options->uuids != NULL) { // before the first call of CUDA's in this process
        char uuid[PHX_GPU_UUID_TEXT];
        phx_gpu_uuid_text(options->uuids[self->rank], uuid);
        (void)setenv("CUDA_VISIBLE_DEVICES", uuid, 1);
        device = 0;
    }
    const struct phx_cuda_options o = {.job = self->shared->job,
                                       .rank = self->rank,
                                       .ranks = options->ranks,
                                       .incarnation = incarnation,
                                       .device = device,
                                       .phase = on_phase,
                                       .phase_context = self};
    return phx_cuda_create(&o, &self->cuda, message);
}

int phx_crew_rank_make(struct phx_crew_rank *self, const struct phx_crew_options *options,
                       struct phx_crew_shared *shared, uint32_t rank, uint32_t incarnation,
                       struct phx_message *message)
{
    self->shared = shared;
    self->rank = rank;
    self->ranks = options->ranks;
    if (options->devices != NULL)
        return cuda_make(self, options, incarnation, message);
    const struct phx_host_executor_options eo = {.workers = options->workers,
                                                 .spin_us = options->spin_us,
                                                 .phase = on_phase,
                                                 .phase_context = self};
    int rc = phx_host_executor_create(&eo, &self->executor, message);
    if (rc != 0)
        return rc;
    const struct phx_shm_options so = {.job = shared->job,
                                       .rank = rank,
                                       .ranks = options->ranks,
                                       .incarnation = incarnation,
                                       .lanes = options->workers,
                                       .notify = phx_host_executor_notify,
                                       .notify_context = self->executor};
    rc = phx_shm_create(&so, &self->shm, message);
    if (rc == 0)
        phx_host_executor_sleep_on(self->executor, phx_shm_bell(self->shm));
    return rc;
}

void phx_crew_rank_close(struct phx_crew_rank *self)
{
    if (self->shm != NULL)
        phx_transport_close(phx_shm_transport(self->shm));
    phx_host_executor_destroy(self->executor);
    phx_cuda_destroy(self->cuda);
}

// --- waiting for each other ---------------------------------------------------------------------

// The kernel gives the lock of a rank that joined up when its process ends, however it does.
bool phx_crew_rank_is_gone(const struct phx_crew_rank *self, uint32_t rank)
{
    struct phx_crew_seat *seat = &self->shared->ranks[rank];
    if (__atomic_load_n(&seat->is_gone, __ATOMIC_ACQUIRE) != 0)
        return true;
    if (self->shared_bytes == 0 || rank == self->rank)
        return false;
    int rc = pthread_mutex_trylock(&seat->life);
    if (rc == EOWNERDEAD)
        (void)pthread_mutex_consistent(&seat->life);
    if (rc != 0 && rc != EOWNERDEAD)
        return false;
    (void)pthread_mutex_unlock(&seat->life);
    __atomic_store_n(&seat->is_gone, 1u, __ATOMIC_RELEASE);
    return true;
}

// Until every rank that is not gone has come to `target` on the counter at `offset` of its seat, or
// patience ends. Returns how many have not come.
static uint32_t await(struct phx_crew_rank *self, size_t offset, uint32_t target)
{
    struct phx_crew_shared *shared = self->shared;
    uint64_t from_ns = phx_clock_ns();
    for (;;) {
        uint32_t ticket = phx_bell_arm(&shared->bell);
        uint32_t gone = 0;
        uint32_t missing = 0;
        for (uint32_t r = 0; r < self->ranks; r++) {
            const char *seat = (const char *)&shared->ranks[r];
            const uint32_t *counter = (const uint32_t *)(const void *)(seat + offset);
            // Gone first: what it did before it went is then seen.
            bool is_gone = phx_crew_rank_is_gone(self, r);
            bool is_there = __atomic_load_n(counter, __ATOMIC_ACQUIRE) >= target;
            gone += is_gone && !is_there;
            missing += !is_gone && !is_there;
        }
        if (missing > 0)
            phx_bell_sleep(&shared->bell, ticket, LOOK_NS);
        phx_bell_disarm(&shared->bell);
        if (missing == 0)
            return gone;
        if (self->patience_ns != 0 && phx_clock_ns() - from_ns > self->patience_ns)
            return gone + missing;
    }
}

static uint32_t come_to(struct phx_crew_rank *self, uint32_t *counter)
{
    uint32_t target = *counter + 1;
    __atomic_store_n(counter, target, __ATOMIC_RELEASE);
    phx_bell_ring(&self->shared->bell);
    return target;
}

void phx_crew_rank_barrier(struct phx_crew_rank *self)
{
    uint32_t target = come_to(self, &self->shared->ranks[self->rank].barriers);
    (void)await(self, offsetof(struct phx_crew_seat, barriers), target);
}

// --- groups -------------------------------------------------------------------------------------

static uint8_t *card_at(const struct phx_crew_rank *self, uint32_t from, uint32_t to)
{
    uint8_t *cards = (uint8_t *)&self->shared->ranks[self->ranks];
    return cards + ((uint64_t)from * self->ranks + to) * phx_group_card_bytes();
}

static int connect_group(struct phx_crew_rank *self, struct phx_group *group,
                         struct phx_message *message)
{
    struct phx_crew_seat *seat = &self->shared->ranks[self->rank];
    uint32_t bytes = phx_group_card_bytes();
    // Everybody has read the cards of the group before.
    (void)await(self, offsetof(struct phx_crew_seat, taken), seat->shown);
    phx_group_cards(group, card_at(self, self->rank, 0));
    uint32_t target = come_to(self, &seat->shown);
    if (await(self, offsetof(struct phx_crew_seat, shown), target) > 0)
        return phx_fail(message, PHX_ERR_PEER_LOST,
                        "a rank ended, or came to a stop, before it showed its card");
    uint8_t *theirs = malloc((size_t)self->ranks * bytes);
    if (theirs == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the cards of %u ranks",
                        self->ranks);
    for (uint32_t r = 0; r < self->ranks; r++)
        memcpy(theirs + (size_t)r * bytes, card_at(self, r, self->rank), bytes);
    (void)come_to(self, &seat->taken);
    int rc = phx_group_connect(group, theirs, message);
    free(theirs);
    const struct timespec moment = {0, 20000};
    while (rc == 0 && phx_group_poll(group) > 0)
        (void)nanosleep(&moment, NULL);
    return rc;
}

int phx_crew_rank_open(struct phx_crew_rank *self, const struct phx_group_options *options,
                       struct phx_group **group, struct phx_message *message)
{
    struct phx_group_options o = *options;
    struct phx_target target = phx_crew_rank_target(self);
    struct phx_group *g = NULL;
    o.rank = self->rank;
    o.ranks = self->ranks;
    int rc = phx_group_create(&o, &target, &g, message);
    if (rc == 0)
        rc = connect_group(self, g, message);
    if (rc != 0) {
        phx_group_close(g);
        return rc;
    }
    *group = g;
    return 0;
}

// --- queries ------------------------------------------------------------------------------------

uint32_t phx_crew_rank_number(const struct phx_crew_rank *self)
{
    return self->rank;
}

void *phx_crew_rank_arena(const struct phx_crew_rank *self)
{
    return (uint8_t *)self->shared + self->shared->arena_at;
}

struct phx_shm *phx_crew_rank_shm(struct phx_crew_rank *self)
{
    return self->cuda != NULL ? phx_cuda_shm(self->cuda) : self->shm;
}

struct phx_cuda *phx_crew_rank_cuda(struct phx_crew_rank *self)
{
    return self->cuda;
}

struct phx_target phx_crew_rank_target(struct phx_crew_rank *self)
{
    if (self->cuda != NULL)
        return phx_cuda_target(self->cuda);
    return (struct phx_target){phx_shm_transport(self->shm), phx_host_executor_of(self->executor)};
}

void phx_crew_rank_on_ops(struct phx_crew_rank *self,
                          void (*post)(void *context, const struct phx_op *op),
                          void (*event)(void *context, const struct phx_event *event),
                          void *context)
{
    phx_shm_transport(phx_crew_rank_shm(self))->hooks =
        (struct phx_transport_hooks){.context = context, .post = post, .event = event};
}

void phx_crew_rank_on_phase(struct phx_crew_rank *self,
                            void (*phase)(void *context, uint32_t worker, uint32_t phase,
                                          uint64_t number),
                            void *context)
{
    self->phase = phase;
    self->phase_context = context;
}
