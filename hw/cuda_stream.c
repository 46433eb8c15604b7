// hw/cuda_stream.c: engine/phalanx_cuda.h: the same operations, enqueued on the caller's stream.
//
// The engine checks, numbers and fills as ever; only the executor's run() enqueues and returns, and
// the device counts for itself. A thread of the group's own takes in what the transport reports,
// and carries it over.

#include <string.h>

#include "engine/assert.h"
#include "engine/group.h"
#include "engine/phalanx_cuda.h"
#include "hw/cuda_internal.h"
#include "hw/cuda_outcome.h"

#define PUMP_LOOK_NS 100000000u // it is rung when there is something

// --- begin and end ------------------------------------------------------------------------------

static struct phx_cuda *cuda_of(const struct phx_group *group)
{
    struct phx_executor *e = group->target.executor;
    return e->twins == &phx_cuda_twin_ops ? phx_cuda_of(e) : NULL;
}

// Deaths of peers, and aborts, while the control thread is elsewhere.
static void *pump_main(void *argument)
{
    struct phx_cuda_pump *pump = argument;
    struct phx_cuda *cuda = pump->cuda;
    (void)cudaSetDevice((int)cuda->options.device);
    while (!__atomic_load_n(&pump->is_stopping, __ATOMIC_SEQ_CST)) {
        if (__atomic_exchange_n(&cuda->has_events, false, __ATOMIC_SEQ_CST))
            phx__group_events(pump->group);
        (void)phx_cuda_twin_tell(cuda, pump->twin);
        uint32_t ticket = phx_bell_arm(&cuda->bell);
        if (!__atomic_load_n(&cuda->has_events, __ATOMIC_SEQ_CST) &&
            !__atomic_load_n(&pump->is_stopping, __ATOMIC_SEQ_CST))
            phx_bell_sleep(&cuda->bell, ticket, PUMP_LOOK_NS);
        phx_bell_disarm(&cuda->bell);
    }
    return NULL;
}

static void pump_stop(struct phx_cuda *cuda, struct phx_cuda_pump *pump)
{
    __atomic_store_n(&pump->is_stopping, true, __ATOMIC_SEQ_CST);
    phx_bell_ring(&cuda->bell);
    (void)pthread_join(pump->thread, NULL);
    pump->group = NULL;
}

static int pump_start(struct phx_cuda *cuda, struct phx_group *group, struct phx_cuda_twin *twin)
{
    struct phx_cuda_pump *pump = &cuda->pump;
    *pump = (struct phx_cuda_pump){.cuda = cuda, .group = group, .twin = twin};
    if (pthread_create(&pump->thread, NULL, pump_main, pump) == 0)
        return 0;
    pump->group = NULL;
    return PHX_ERR_NO_MEMORY;
}

static int check_quiet(const struct phx_group *group, const char *what, struct phx_message *message)
{
    for (uint32_t k = 0; k < 2; k++)
        if (group->kinds[k].sent != group->kinds[k].received)
            return phx_fail(message, PHX_ERR_STATE, "%s: an operation is between halves", what);
    return 0;
}

// The group, and its numbers, to the device.
static int push(struct phx_cuda *cuda, const struct phx_group *group, struct phx_cuda_twin *twin)
{
    struct phx_gpu_counters counters = {.operations = group->operations,
                                        .barriers = group->barriers};
    for (uint32_t k = 0; k < 2; k++) {
        counters.sent[k] = group->kinds[k].sent;
        counters.received[k] = group->kinds[k].received;
    }
    int rc = phx_cuda_twin_push(cuda, twin);
    cudaError_t error = cudaSuccess;
    if (rc == 0)
        error = cudaMemcpyAsync(phx_cuda_counters(twin), &counters, sizeof counters,
                                cudaMemcpyHostToDevice, cuda->work);
    if (rc == 0 && error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->work);
    return rc != 0 ? rc : phx_cuda_check(cuda, error, "copying a group's numbers to the GPU");
}

static int pull(struct phx_cuda *cuda, struct phx_group *group, struct phx_cuda_twin *twin)
{
    struct phx_gpu_counters counters;
    int rc = phx_cuda_check(cuda, cudaDeviceSynchronize(), "operations on streams");
    if (rc == 0)
        rc = phx_cuda_twin_pull(cuda, twin);
    cudaError_t error = cudaSuccess;
    if (rc == 0)
        error = cudaMemcpyAsync(&counters, phx_cuda_counters(twin), sizeof counters,
                                cudaMemcpyDeviceToHost, cuda->work);
    if (rc == 0 && error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->work);
    if (rc == 0)
        rc = phx_cuda_check(cuda, error, "copying a group's numbers from the GPU");
    if (rc != 0)
        return rc;
    phx_cuda_twin_take(twin);
    group->operations = counters.operations;
    group->barriers = counters.barriers;
    for (uint32_t k = 0; k < 2; k++) {
        group->kinds[k].sent = counters.sent[k];
        group->kinds[k].received = counters.received[k];
    }
    return 0;
}

int phx_cuda_begin(struct phx_group *group, struct phx_message *message)
{
    struct phx_cuda *cuda = cuda_of(group);
    if (cuda == NULL)
        return phx_fail(message, PHX_ERR_UNSUPPORTED,
                        "operations on streams: this group's target, %s, is no GPU",
                        phx_transport_info(group->target.transport)->name);
    int rc = phx__group_ready(group, message);
    if (rc == 0)
        rc = check_quiet(group, "phx_cuda_begin", message);
    if (rc == 0 && cuda->pump.group != NULL)
        rc = phx_fail(message, PHX_ERR_STATE,
                      "another group of this rank enqueues its operations on streams");
    if (rc != 0)
        return rc;
    struct phx_cuda_twin *twin = phx_cuda_twin_of(cuda, &group->rank);
    phx__group_events(group);
    rc = push(cuda, group, twin);
    if (rc != 0)
        return phx_fail(message, rc, "phx_cuda_begin: %s", cuda->why.text);
    group->streaming = PHX_STREAMING_ON;
    rc = pump_start(cuda, group, twin);
    if (rc != 0) {
        group->streaming = PHX_STREAMING_OFF;
        return phx_fail(message, rc, "phx_cuda_begin: no memory for a thread");
    }
    return 0;
}

int phx_cuda_end(struct phx_group *group, struct phx_message *message)
{
    struct phx_cuda *cuda = cuda_of(group);
    if (cuda == NULL || group->streaming != PHX_STREAMING_ON)
        return phx_fail(message, PHX_ERR_STATE, "phx_cuda_end: phx_cuda_begin() was not called");
    int rc = check_quiet(group, "phx_cuda_end", message);
    if (rc != 0)
        return rc;
    struct phx_cuda_twin *twin = cuda->pump.twin;
    rc = pull(cuda, group, twin); // the pump goes on: what still runs may wait for a dead peer
    pump_stop(cuda, &cuda->pump);
    group->streaming = PHX_STREAMING_OFF;
    return rc == 0 ? 0 : phx_fail(message, rc, "phx_cuda_end: %s", cuda->why.text);
}

void phx_cuda_stream_close(struct phx_cuda *cuda, const struct phx_cuda_twin *twin)
{
    if (cuda->pump.group == NULL || cuda->pump.twin != twin)
        return;
    __atomic_store_n(&twin->rank->state->abort, 1, __ATOMIC_RELEASE);
    phx_cuda_notify(cuda);
    (void)cudaDeviceSynchronize(); // the pump carries the abort over meanwhile
    pump_stop(cuda, &cuda->pump);
}

// --- operations ---------------------------------------------------------------------------------

static int enter(struct phx_group *group, void *stream, struct phx_message *message)
{
    struct phx_cuda *cuda = cuda_of(group);
    if (cuda == NULL || group->streaming != PHX_STREAMING_ON)
        return phx_fail(message, PHX_ERR_STATE,
                        "an operation on a stream: call phx_cuda_begin() first");
    cuda->stream = stream;
    cuda->is_enqueuing = true;
    group->streaming = PHX_STREAMING_ENQUEUE;
    return 0;
}

static void leave(struct phx_group *group)
{
    cuda_of(group)->is_enqueuing = false;
    group->streaming = PHX_STREAMING_ON;
}

// Behind a receive half.
static int tell_outcome(struct phx_group *group, const struct phx_handle *handle,
                        struct phx_outcome *outcome, void *stream, struct phx_message *message)
{
    struct phx_cuda *cuda = cuda_of(group);
    const struct phx_cuda_twin *twin = cuda->pump.twin;
    struct phx_launch launch = handle->pending;
    bool is_dispatch = launch.kind == PHX_DISPATCH;
    int64_t *offsets = is_dispatch ? handle->recv_offsets : NULL;
    if (outcome == NULL && offsets == NULL)
        return 0;
    phx_cuda_launch_fill(twin, phx_cuda_handle_of(cuda, &handle->view), &launch);
    const struct phx_cuda_outcome_work work = {
        .rank = launch.rank,
        .view = is_dispatch ? launch.dispatch.handle : launch.combine.handle,
        .answered = launch.combine.answered,
        .counters = phx_cuda_counters(twin),
        .outcome = outcome,
        .active_ranks = is_dispatch ? launch.dispatch.common.active_ranks
                                    : launch.combine.common.active_ranks,
        .recv_offsets = offsets,
        .epoch = group->epoch,
        .kind = launch.kind,
    };
    return phx_cuda_outcome_launch(&work, stream, message);
}

int phx_cuda_dispatch(struct phx_group *group, const struct phx_dispatch_args *args,
                      struct phx_handle *handle, struct phx_outcome *outcome, void *stream,
                      struct phx_message *message)
{
    int rc = enter(group, stream, message);
    if (rc != 0)
        return rc;
    rc = phx_dispatch(group, args, handle, NULL, message);
    leave(group);
    return rc != 0 ? rc : tell_outcome(group, handle, outcome, stream, message);
}

int phx_cuda_dispatch_send(struct phx_group *group, const struct phx_dispatch_args *args,
                           struct phx_handle *handle, void *stream, struct phx_message *message)
{
    int rc = enter(group, stream, message);
    if (rc != 0)
        return rc;
    rc = phx_dispatch_send(group, args, handle, message);
    leave(group);
    return rc;
}

int phx_cuda_dispatch_receive(struct phx_group *group, struct phx_handle *handle,
                              struct phx_outcome *outcome, void *stream,
                              struct phx_message *message)
{
    int rc = enter(group, stream, message);
    if (rc != 0)
        return rc;
    rc = phx_dispatch_receive(group, handle, NULL, message);
    leave(group);
    return rc != 0 ? rc : tell_outcome(group, handle, outcome, stream, message);
}

int phx_cuda_combine(struct phx_group *group, const struct phx_combine_args *args,
                     struct phx_handle *handle, struct phx_outcome *outcome, void *stream,
                     struct phx_message *message)
{
    int rc = enter(group, stream, message);
    if (rc != 0)
        return rc;
    rc = phx_combine(group, args, handle, NULL, message);
    leave(group);
    return rc != 0 ? rc : tell_outcome(group, handle, outcome, stream, message);
}

int phx_cuda_combine_send(struct phx_group *group, const struct phx_combine_args *args,
                          struct phx_handle *handle, void *stream, struct phx_message *message)
{
    int rc = enter(group, stream, message);
    if (rc != 0)
        return rc;
    rc = phx_combine_send(group, args, handle, message);
    leave(group);
    return rc;
}

int phx_cuda_combine_receive(struct phx_group *group, struct phx_handle *handle,
                             struct phx_outcome *outcome, void *stream,
                             struct phx_message *message)
{
    int rc = enter(group, stream, message);
    if (rc != 0)
        return rc;
    rc = phx_combine_receive(group, handle, NULL, message);
    leave(group);
    return rc != 0 ? rc : tell_outcome(group, handle, outcome, stream, message);
}
