// hw/cuda_executor.c: a launch of kernels as engine/executor.h wants it: the control thread waits
// for the kernel, and takes in what the transport reports meanwhile.
//
// Evidence of a peer's death must end waits inside the kernel. It goes over by a copy of eight
// bytes on a stream of its own, into the word that waiting workers look at anyway: tens of
// microseconds, beside the hundreds that the evidence takes. Words in host memory would be there
// sooner, and each look of each worker would cross PCIe for it.

#include <string.h>

#include "engine/assert.h"
#include "hw/clock.h"
#include "hw/cuda_internal.h"

#define SPIN_NS 200000u // then the control thread sleeps between looks
#define LOOK_NS 20000u

void phx_cuda_notify(void *context)
{
    struct phx_cuda *cuda = context;
    __atomic_store_n(&cuda->has_events, true, __ATOMIC_SEQ_CST);
    phx_bell_ring(&cuda->bell);
}

// --- one launch ---------------------------------------------------------------------------------

static const struct phx_op_common *common_of(const struct phx_launch *launch)
{
    return launch->kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
}

static void tell_phase(struct phx_cuda *cuda, const struct phx_launch *launch)
{
    bool is_dispatch = launch->kind == PHX_DISPATCH;
    uint32_t phase = is_dispatch ? PHX_PHASE_DISPATCH_SEND : PHX_PHASE_COMBINE_SEND;
    if ((launch->halves & PHX_HALF_SEND) == 0)
        phase = is_dispatch ? PHX_PHASE_DISPATCH_RECEIVE : PHX_PHASE_COMBINE_RECEIVE;
    if (cuda->options.phase != NULL)
        cuda->options.phase(cuda->options.phase_context, PHX_WORKER_CONTROL, phase,
                            common_of(launch)->sequence);
}

static void take_events(struct phx_cuda *cuda, struct phx_cuda_twin *twin,
                        void (*on_events)(void *context), void *context)
{
    if (__atomic_exchange_n(&cuda->has_events, false, __ATOMIC_SEQ_CST) && on_events != NULL)
        on_events(context);
    (void)phx_cuda_twin_tell(cuda, twin);
}

// Until all that was enqueued is done.
static int wait_done(struct phx_cuda *cuda, struct phx_cuda_twin *twin,
                     void (*on_events)(void *context), void *context)
{
    uint64_t since_ns = phx_clock_ns();
    cudaError_t error;
    while ((error = cudaEventQuery(cuda->done)) == cudaErrorNotReady) {
        take_events(cuda, twin, on_events, context);
        if (phx_clock_ns() - since_ns < SPIN_NS)
            continue;
        uint32_t ticket = phx_bell_arm(&cuda->bell);
        if (!__atomic_load_n(&cuda->has_events, __ATOMIC_SEQ_CST))
            phx_bell_sleep(&cuda->bell, ticket, LOOK_NS);
        phx_bell_disarm(&cuda->bell);
    }
    if (twin->is_telling && error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->side); // or a word comes late into the next operation
    twin->is_telling = false;
    return phx_cuda_check(cuda, error, "a kernel of an operation");
}

static int enqueue(struct phx_cuda *cuda, struct phx_cuda_twin *twin, const struct phx_launch *from)
{
    struct phx_launch launch = *from;
    struct phx_cuda_handle *handle = phx_cuda_handle_of(
        cuda, from->kind == PHX_DISPATCH ? &from->dispatch.handle : &from->combine.handle);
    phx_assert(handle != NULL);
    phx_cuda_launch_fill(twin, handle, &launch);
    int rc = phx_cuda_twin_push(cuda, twin);
    if (rc == 0)
        rc = phx_gpu_launch(&twin->rank->shape, &launch, NULL, cuda->work, &cuda->why);
    if (rc == PHX_ERR_DEVICE_LOST)
        cuda->is_lost = true;
    if (rc == 0)
        rc = phx_cuda_twin_pull(cuda, twin);
    if (rc == 0 && (from->halves & PHX_HALF_RECEIVE) != 0)
        rc = phx_cuda_handle_pull(cuda, handle);
    if (rc == 0)
        rc = phx_cuda_check(cuda, cudaEventRecord(cuda->done, cuda->work), "cudaEventRecord");
    return rc;
}

// For faults: the rank's last put is to be its n-th of this launch.
static void die_begin(const struct phx_cuda *cuda, const struct phx_rank *rank)
{
    rank->state->puts = 0;
    rank->state->die_after_puts = cuda->die_after;
}

static void die_end(struct phx_cuda *cuda, const struct phx_rank *rank)
{
    uint64_t after = cuda->die_after;
    rank->state->die_after_puts = 0;
    cuda->puts = rank->state->puts;
    cuda->die_after = 0;
    if (cuda->puts >= after)
        cuda->died(cuda->died_context);
}

// On the caller's stream. The device numbers for itself; what it drops it counts anew.
static int enqueue_only(struct phx_cuda *cuda, struct phx_cuda_twin *twin,
                        const struct phx_launch *from)
{
    struct phx_launch launch = *from;
    struct phx_cuda_handle *handle = phx_cuda_handle_of(
        cuda, from->kind == PHX_DISPATCH ? &from->dispatch.handle : &from->combine.handle);
    phx_assert(handle != NULL);
    phx_cuda_launch_fill(twin, handle, &launch);
    if (from->kind == PHX_DISPATCH && (from->halves & PHX_HALF_RECEIVE) != 0 &&
        twin->rank->shape.layout == PHX_LAYOUT_COMPACT) {
        uint8_t *dropped =
            twin->device + twin->state_at + offsetof(struct phx_rank_state, rows_dropped);
        int rc = phx_cuda_check(cuda, cudaMemsetAsync(dropped, 0, 8, (cudaStream_t)cuda->stream),
                                "cudaMemsetAsync");
        if (rc != 0)
            return rc;
    }
    return phx_gpu_launch(&twin->rank->shape, &launch, phx_cuda_counters(twin), cuda->stream,
                          &cuda->why);
}

static int executor_run(struct phx_executor *e, phx_body_fn *body, void *argument, uint32_t workers,
                        void (*on_events)(void *context), void *context)
{
    struct phx_cuda *cuda = phx_cuda_of(e);
    const struct phx_launch *launch = argument;
    const struct phx_rank *rank = launch->rank;
    struct phx_cuda_twin *twin = phx_cuda_twin_of(cuda, rank);
    phx_assert(body == phx_kernel_run && workers == rank->shape.workers);
    phx_assert(twin != NULL);
    if (cuda->is_lost)
        return PHX_ERR_DEVICE_LOST;
    if (cuda->is_enqueuing)
        return enqueue_only(cuda, twin, launch);
    tell_phase(cuda, launch);
    bool dies = cuda->die_after != 0 && (launch->halves & PHX_HALF_SEND) != 0;
    if (dies)
        die_begin(cuda, rank);
    int rc = enqueue(cuda, twin, launch);
    if (rc == 0)
        rc = wait_done(cuda, twin, on_events, context);
    if (rc != 0)
        return rc;
    phx_cuda_twin_take(twin);
    if ((launch->halves & PHX_HALF_RECEIVE) != 0)
        phx_cuda_handle_take(
            phx_cuda_handle_of(cuda, launch->kind == PHX_DISPATCH ? &launch->dispatch.handle
                                                                  : &launch->combine.handle),
            rank);
    if (dies)
        die_end(cuda, rank);
    return 0;
}

// --- the control thread's own -------------------------------------------------------------------

static uint64_t executor_now_ns(struct phx_executor *e, uint32_t worker)
{
    (void)e;
    (void)worker;
    return phx_clock_ns();
}

static void executor_park(struct phx_executor *e, uint32_t worker, const uint64_t *words,
                          uint32_t count, uint64_t until_ns)
{
    struct phx_cuda *cuda = phx_cuda_of(e);
    uint64_t now_ns = phx_clock_ns();
    (void)words;
    (void)count;
    phx_assert(worker == PHX_WORKER_CONTROL);
    if (until_ns <= now_ns)
        return;
    uint32_t ticket = phx_bell_arm(&cuda->bell);
    if (!__atomic_load_n(&cuda->has_events, __ATOMIC_SEQ_CST))
        phx_bell_sleep(&cuda->bell, ticket, until_ns - now_ns);
    phx_bell_disarm(&cuda->bell);
}

// A suspicion, or an abort, by any thread: who takes in events carries it over.
static void executor_wake(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    (void)worker;
    (void)word;
    phx_cuda_notify(phx_cuda_of(e));
}

static void executor_charge(struct phx_executor *e, uint32_t worker, struct phx_cost cost)
{
    (void)e;
    (void)worker;
    (void)cost;
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
    const struct phx_cuda_options *o = &phx_cuda_of(e)->options;
    if (o->phase != NULL)
        o->phase(o->phase_context, worker, phase, number);
}

const struct phx_executor_ops phx_cuda_executor_ops = {
    .now_ns = executor_now_ns,
    .park = executor_park,
    .wake = executor_wake,
    .charge = executor_charge,
    .observe = executor_observe,
    .touch = executor_touch,
    .run = executor_run,
    .phase = executor_phase,
};
