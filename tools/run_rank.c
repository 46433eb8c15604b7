// tools/run_rank.c: the process of one rank: sim/workload_program.h over shared memory.
//
// What it gets is stored before the next operation begins, so that others can only have seen what
// the launcher will see too, whenever this process ends.

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernels/rank.h"
#include "sim/workload_program.h"
#include "tools/run_internal.h"

#define COUNTED 8u // operations of one kind whose puts are counted at a time

struct counter {
    uint64_t number;
    uint32_t puts;
};

struct host { // the program's surroundings
    struct phx_live *live;
    struct phx_live_seat *seat;
    struct phx_crew_rank *self;
    uint32_t rank;
    uint64_t call_ns; // when the call under way began
    struct phx_oracle_source source;
    uint16_t *x; // of `source`
    int64_t *topk_idx;
    float *topk_weights;
    struct phx_cuda *cuda; // NULL: not on a GPU
    int32_t *active;       // [ranks] the seat's, or where the GPU reaches it
    uint32_t dying_kind;   // on a GPU: the operation that ends at a put
    uint64_t dying_number;
    uint32_t dying_puts;
    // Told by workers.
    pthread_mutex_t lock;
    bool counts_puts;
    struct counter counters[3][COUNTED]; // [enum phx_kind]
};

static void sleep_ns(uint64_t ns)
{
    const struct timespec moment = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    (void)nanosleep(&moment, NULL);
}

// --- what the program asks for -------------------------------------------------------------------

static void *host_alloc(void *context, uint64_t size_bytes)
{
    const struct host *h = context; // until the process ends
    if (h->cuda != NULL)
        return phx_cuda_host_alloc(size_bytes);
    void *memory = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

static int host_open(void *context, const struct phx_group_options *options,
                     struct phx_group **group, struct phx_message *message)
{
    return phx_crew_rank_open(((struct host *)context)->self, options, group, message);
}

static void host_opened(void *context)
{
    const struct host *h = context;
    __atomic_store_n(&h->seat->opened_ns, phx_clock_ns(), __ATOMIC_RELEASE);
}

static const struct phx_oracle_source *host_inputs(void *context, struct phx_stage *stage,
                                                   uint64_t pair)
{
    struct host *h = context;
    const struct phx_shape *s = &stage->shape;
    uint64_t tokens = s->tokens_max;
    free(h->x);
    free(h->topk_idx);
    free(h->topk_weights);
    h->x = malloc(tokens * s->channels * sizeof *h->x);
    h->topk_idx = malloc(tokens * s->top_k * sizeof *h->topk_idx);
    h->topk_weights = malloc(tokens * s->top_k * sizeof *h->topk_weights);
    if (h->x == NULL || h->topk_idx == NULL || h->topk_weights == NULL)
        return NULL;
    phx_router_draw(stage->router, pair, h->rank, s->channels, h->x, h->topk_idx, h->topk_weights);
    h->source = (struct phx_oracle_source){
        .tokens = stage->moe->tokens,
        .x = h->x,
        .topk_idx = h->topk_idx,
        .topk_weights = h->topk_weights,
    };
    return &h->source;
}

static void host_compute(void *context, uint64_t for_ns)
{
    (void)context;
    sleep_ns(for_ns);
}

static void host_call_begins(void *context, uint64_t operation, bool is_first)
{
    struct host *h = context;
    h->call_ns = phx_clock_ns();
    if (!is_first)
        return;
    phx_live_record_of(h->live, h->rank, operation)->begin_ns = h->call_ns;
    __atomic_store_n(&h->seat->begun, h->seat->begun + 1, __ATOMIC_RELEASE);
}

static void host_call_ended(void *context, const struct phx_group *group, uint64_t operation,
                            uint32_t kind, uint64_t number)
{
    struct host *h = context;
    struct phx_live_record *record = phx_live_record_of(h->live, h->rank, operation);
    uint32_t causes[PHX_RANKS_MAX];
    uint64_t took_ns = phx_clock_ns() - h->call_ns;
    if (took_ns > record->longest_ns)
        record->longest_ns = took_ns;
    if (h->active != h->seat->active)
        memcpy(h->seat->active, h->active, h->live->run.ranks * sizeof *h->active);
    phx_group_suspicions(group, causes);
    for (uint32_t r = 0; r < h->live->run.ranks; r++) {
        struct phx_live_suspicion *s = &h->seat->suspicions[r];
        if (causes[r] != PHX_CAUSE_NONE && s->cause == PHX_CAUSE_NONE)
            *s = (struct phx_live_suspicion){causes[r], kind, number, operation};
    }
}

static void operation_ended(struct host *h, uint64_t operation, const struct phx_outcome *outcome)
{
    struct phx_live_record *record = phx_live_record_of(h->live, h->rank, operation);
    record->outcome = *outcome;
    __atomic_store_n(&record->is_ended, 1u, __ATOMIC_RELEASE);
}

static uint32_t load_of(const struct host *h, const struct phx_stage *stage)
{
    return (uint32_t)(stage - h->live->run.stages);
}

static void host_dispatched(void *context, struct phx_stage *stage, uint64_t pair,
                            const struct phx_dispatch_result *result)
{
    struct host *h = context;
    struct phx_live_results kept;
    uint64_t operation = stage->first_operation + 2 * pair;
    phx_live_record_of(h->live, h->rank, operation)->end_ns = phx_clock_ns();
    phx_live_results(h->live, load_of(h, stage), h->rank, pair, &kept);
    phx_live_keep_dispatch(stage, &result->output, &kept.received);
    operation_ended(h, operation, result->outcome);
}

static void host_combined(void *context, struct phx_stage *stage, uint64_t pair,
                          const struct phx_combine_result *result)
{
    struct host *h = context;
    struct phx_live_results kept;
    uint64_t tokens = stage->moe->tokens;
    uint64_t operation = stage->first_operation + 2 * pair + 1;
    phx_live_record_of(h->live, h->rank, operation)->end_ns = phx_clock_ns();
    phx_live_results(h->live, load_of(h, stage), h->rank, pair, &kept);
    memcpy(kept.out, result->out, tokens * stage->shape.channels * sizeof *kept.out);
    memcpy(kept.token_loss, result->token_loss, tokens * sizeof *kept.token_loss);
    operation_ended(h, operation, result->outcome);
}

static void host_violate(void *context, const char *rule, uint32_t kind, uint64_t number,
                         const char *text)
{
    struct host *h = context;
    if (h->seat->violation_count < PHX_LIVE_VIOLATIONS) {
        struct phx_live_reported *v = &h->seat->violations[h->seat->violation_count];
        *v = (struct phx_live_reported){.kind = kind, .number = number, .at_ns = phx_clock_ns()};
        (void)snprintf(v->rule, sizeof v->rule, "%s", rule);
        (void)snprintf(v->text, sizeof v->text, "%s", text);
    }
    __atomic_store_n(&h->seat->violation_count, h->seat->violation_count + 1, __ATOMIC_RELEASE);
}

static void host_leave(void *context, uint32_t end)
{
    struct host *h = context;
    h->seat->ended_ns = phx_clock_ns();
    __atomic_store_n(&h->seat->end, end, __ATOMIC_RELEASE);
    // Who leaves takes its memory along, which others still store into or read from.
    h->live->leave(h->live, h->live->leave_context);
}

// The launcher looks after the others.
static void leave_when_told(struct phx_live *live, void *context)
{
    (void)context;
    while (!__atomic_load_n(&phx_live_front_of(live)->is_over, __ATOMIC_ACQUIRE))
        sleep_ns(500000);
}

static const struct phx_program_ops HOST = {
    .alloc = host_alloc,
    .open = host_open,
    .opened = host_opened,
    .inputs = host_inputs,
    .compute = host_compute,
    .call_begins = host_call_begins,
    .call_ended = host_call_ended,
    .dispatched = host_dispatched,
    .combined = host_combined,
    .violate = host_violate,
    .leave = host_leave,
};

// --- what faults wait for ------------------------------------------------------------------------

static uint32_t kind_of_phase(uint32_t phase)
{
    return phase >= PHX_PHASE_DISPATCH_SEND && phase <= PHX_PHASE_DISPATCH_DONE ? PHX_DISPATCH
                                                                                : PHX_COMBINE;
}

static void gpu_died(void *context)
{
    struct host *h = context;
    pthread_mutex_lock(&h->lock);
    phx_live_on_put(h->live, h->rank, h->dying_kind, h->dying_number, h->dying_puts);
    pthread_mutex_unlock(&h->lock);
}

// The launch that comes next ends at a put, if a fault says so.
static void gpu_arm(struct host *h, uint32_t kind, uint64_t number)
{
    h->dying_puts = phx_live_puts_of(h->live->run.workload, h->rank, kind, number);
    h->dying_kind = kind;
    h->dying_number = number;
    if (h->dying_puts != 0)
        phx_cuda_die_after(h->cuda, h->dying_puts, gpu_died, h);
}

static void on_phase(void *context, uint32_t worker, uint32_t phase, uint64_t number)
{
    struct host *h = context;
    uint32_t kind = kind_of_phase(phase);
    pthread_mutex_lock(&h->lock);
    bool begins = h->seat->number[kind] != number;
    __atomic_store_n(&h->seat->kind, kind, __ATOMIC_RELAXED);
    __atomic_store_n(&h->seat->number[kind], number, __ATOMIC_RELAXED);
    if (worker == 0 || worker == PHX_WORKER_CONTROL)
        __atomic_store_n(&h->seat->phase, phase, __ATOMIC_RELAXED);
    phx_live_on_phase(h->live, h->rank, kind, phase, number, begins);
    pthread_mutex_unlock(&h->lock);
    if (h->cuda != NULL && (phase == PHX_PHASE_DISPATCH_SEND || phase == PHX_PHASE_COMBINE_SEND))
        gpu_arm(h, kind, number);
}

static void on_post(void *context, const struct phx_op *op)
{
    struct host *h = context;
    uint32_t kind = op->token >> 28;
    uint64_t number = op->token & 0xFFFFFFu;
    (void)__atomic_add_fetch(&h->seat->posts, 1, __ATOMIC_RELAXED);
    if (!h->counts_puts || (kind != PHX_DISPATCH && kind != PHX_COMBINE))
        return;
    pthread_mutex_lock(&h->lock);
    struct counter *c = &h->counters[kind][number % COUNTED];
    if (c->number != number)
        *c = (struct counter){.number = number};
    c->puts++;
    // While this thread makes the fault, no other one of the rank's gets beyond a put of its own.
    phx_live_on_put(h->live, h->rank, kind, number, c->puts);
    pthread_mutex_unlock(&h->lock);
}

static void on_event(void *context, const struct phx_event *event)
{
    const struct host *h = context;
    (void)event;
    (void)__atomic_add_fetch(&h->seat->events, 1, __ATOMIC_RELAXED);
}

static bool active_make(struct host *h)
{
    uint32_t ranks = h->live->run.ranks;
    for (uint32_t r = 0; r < ranks; r++)
        h->seat->active[r] = 1;
    h->active = h->seat->active;
    if (h->cuda != NULL)
        h->active = phx_cuda_host_alloc(ranks * sizeof *h->active);
    for (uint32_t r = 0; h->active != NULL && r < ranks; r++)
        h->active[r] = 1;
    return h->active != NULL;
}

int phx_live_rank_run(struct phx_live *live, struct phx_crew_rank *self)
{
    struct host h = {
        .live = live,
        .self = self,
        .rank = phx_crew_rank_number(self),
        .cuda = phx_crew_rank_cuda(self),
    };
    h.seat = phx_live_seat_of(live, h.rank);
    h.counts_puts = phx_live_counts_puts(live->run.workload, h.rank);
    if (!active_make(&h) || pthread_mutex_init(&h.lock, NULL) != 0)
        return 1;
    __atomic_store_n(&h.seat->pid, getpid(), __ATOMIC_RELEASE);
    phx_crew_rank_on_ops(self, on_post, on_event, &h);
    phx_crew_rank_on_phase(self, on_phase, &h);
    const struct phx_program program = {
        .ops = &HOST,
        .context = &h,
        .run = &live->run,
        .rank = h.rank,
        .active = h.active,
        .begins_max = UINT64_MAX,
    };
    uint32_t end = phx_program_run(&program);
    if (h.seat->end == 0) // it could not even begin
        __atomic_store_n(&h.seat->end, end, __ATOMIC_RELEASE);
    (void)pthread_mutex_destroy(&h.lock);
    free(h.x);
    free(h.topk_idx);
    free(h.topk_weights);
    return end == PHX_PROGRAM_DONE ? 0 : 1;
}

int phx_live_rank_main(struct phx_crew_rank *self, void *arena)
{
    struct phx_live *live = ((struct phx_live_front *)arena)->live; // this process's copy
    live->arena = arena;
    live->leave = leave_when_told;
    return phx_live_rank_run(live, self);
}
