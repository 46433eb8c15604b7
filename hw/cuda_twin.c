// hw/cuda_twin.c: groups and handles once more in device memory, for kernels.
//
// A twin is one block, so that it goes over in one copy each way. What the engine holds is in the
// lead between operations; while a kernel runs, the device is, but for suspicions and the abort,
// which only ever grow: they go over while it runs, and are merged afterwards.

#include <stdlib.h>
#include <string.h>

#include "hw/cuda_internal.h"

// --- blocks -------------------------------------------------------------------------------------

static uint64_t place(uint64_t *used, uint64_t bytes)
{
    uint64_t at = *used;
    *used = (at + bytes + 127) / 128 * 128;
    return at;
}

static int block_make(struct phx_cuda *cuda, uint8_t **device, uint64_t bytes, uint8_t **pinned,
                      uint64_t pinned_bytes)
{
    cudaError_t error = cudaMalloc((void **)device, bytes);
    if (error == cudaSuccess)
        error = cudaMallocHost((void **)pinned, pinned_bytes);
    if (error == cudaSuccess)
        error = cudaMemsetAsync(*device, 0, bytes, cuda->work);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->work);
    if (error == cudaSuccess)
        memset(*pinned, 0, pinned_bytes);
    if (error == cudaErrorMemoryAllocation)
        return PHX_ERR_NO_MEMORY;
    return phx_cuda_check(cuda, error, "making memory for kernels");
}

static void block_free(uint8_t *device, uint8_t *pinned)
{
    if (device != NULL)
        (void)cudaFree(device);
    if (pinned != NULL)
        (void)cudaFreeHost(pinned);
}

// --- groups -------------------------------------------------------------------------------------

static void twin_lay_out(struct phx_cuda_twin *twin)
{
    const struct phx_shape *s = &twin->rank->shape;
    uint64_t ranks = s->ranks;
    uint64_t used = 0;
    (void)place(&used, sizeof(struct phx_rank));
    twin->expert_rank_at = place(&used, s->experts * sizeof(uint16_t));
    twin->expert_local_at = place(&used, s->experts * sizeof(uint16_t));
    twin->from_at = place(&used, ranks * sizeof(uint8_t *));
    twin->to_at = place(&used, ranks * sizeof(uint8_t *));
    twin->changing_at = used;
    twin->state_at = place(&used, sizeof(struct phx_rank_state));
    twin->suspected_at = place(&used, ranks * 8);
    twin->fates_at = place(&used, PHX_WAIT_PHASES * ranks * 8);
    twin->owed_at = place(&used, PHX_WAIT_PHASES * ranks * 8);
    twin->bytes = used;
    twin->counters_at = place(&used, sizeof(struct phx_gpu_counters)); // the device's alone
}

static void twin_free(struct phx_cuda_twin *twin)
{
    block_free(twin->device, twin->pinned);
    if (twin->told != NULL)
        (void)cudaFreeHost(twin->told);
    free(twin);
}

static int rank_open(struct phx_executor *e, const struct phx_rank *rank)
{
    struct phx_cuda *cuda = phx_cuda_of(e);
    struct phx_cuda_twin *twin = calloc(1, sizeof *twin);
    if (twin == NULL)
        return PHX_ERR_NO_MEMORY;
    twin->rank = rank;
    twin_lay_out(twin);
    uint64_t bytes = twin->counters_at + sizeof(struct phx_gpu_counters);
    int rc = block_make(cuda, &twin->device, bytes, &twin->pinned, twin->bytes);
    if (rc == 0 &&
        cudaMallocHost((void **)&twin->told, (rank->shape.ranks + 1) * 8ull) != cudaSuccess)
        rc = PHX_ERR_NO_MEMORY;
    if (rc != 0) {
        twin_free(twin);
        return rc;
    }
    twin->next = cuda->twins;
    cuda->twins = twin;
    return 0;
}

static void rank_close(struct phx_executor *e, const struct phx_rank *rank)
{
    struct phx_cuda *cuda = phx_cuda_of(e);
    for (struct phx_cuda_twin **at = &cuda->twins; *at != NULL; at = &(*at)->next) {
        struct phx_cuda_twin *twin = *at;
        if (twin->rank != rank)
            continue;
        phx_cuda_stream_close(cuda, twin);
        (void)cudaDeviceSynchronize(); // a caller's stream may still run its kernels
        *at = twin->next;
        twin_free(twin);
        return;
    }
}

struct phx_cuda_twin *phx_cuda_twin_of(const struct phx_cuda *cuda, const struct phx_rank *rank)
{
    struct phx_cuda_twin *twin = cuda->twins;
    while (twin != NULL && twin->rank != rank)
        twin = twin->next;
    return twin;
}

// What kernels only read, with addresses of the device; false: it has not changed.
static bool constant_fill(struct phx_cuda_twin *twin)
{
    const struct phx_rank *rank = twin->rank;
    const struct phx_shape *s = &rank->shape;
    struct phx_rank device = *rank;
    uint8_t *to = twin->device;
    device.expert_rank = (const uint16_t *)(void *)(to + twin->expert_rank_at);
    device.expert_local = (const uint16_t *)(void *)(to + twin->expert_local_at);
    device.from = (uint8_t *const *)(void *)(to + twin->from_at);
    device.to = (uint8_t *const *)(void *)(to + twin->to_at);
    device.state = (struct phx_rank_state *)(void *)(to + twin->state_at);
    device.suspected = (uint64_t *)(void *)(to + twin->suspected_at);
    device.fates = (uint64_t *)(void *)(to + twin->fates_at);
    device.owed = (uint64_t *)(void *)(to + twin->owed_at);
    device.heads = NULL; // of C targets, and the next two
    device.tally = NULL;
    device.environment = NULL;
    const struct {
        uint64_t at;
        const void *from;
        uint64_t bytes;
    } parts[] = {{0, &device, sizeof device},
                 {twin->expert_rank_at, rank->expert_rank, s->experts * sizeof(uint16_t)},
                 {twin->expert_local_at, rank->expert_local, s->experts * sizeof(uint16_t)},
                 {twin->from_at, rank->from, s->ranks * sizeof(uint8_t *)},
                 {twin->to_at, rank->to, s->ranks * sizeof(uint8_t *)}};
    bool is_new = !twin->is_current;
    for (uint32_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (memcmp(twin->pinned + parts[i].at, parts[i].from, parts[i].bytes) == 0)
            continue;
        memcpy(twin->pinned + parts[i].at, parts[i].from, parts[i].bytes);
        is_new = true;
    }
    return is_new;
}

int phx_cuda_twin_push(struct phx_cuda *cuda, struct phx_cuda_twin *twin)
{
    const struct phx_rank *rank = twin->rank;
    uint64_t ranks = rank->shape.ranks;
    uint64_t from = constant_fill(twin) ? 0 : twin->changing_at;
    memcpy(twin->pinned + twin->state_at, rank->state, sizeof *rank->state);
    for (uint64_t r = 0; r < ranks; r++)
        twin->told[r] = __atomic_load_n(&rank->suspected[r], __ATOMIC_ACQUIRE);
    twin->told[ranks] = __atomic_load_n(&rank->state->abort, __ATOMIC_ACQUIRE);
    memcpy(twin->pinned + twin->suspected_at, twin->told, ranks * 8);
    memcpy(twin->pinned + twin->fates_at, rank->fates, PHX_WAIT_PHASES * ranks * 8);
    memcpy(twin->pinned + twin->owed_at, rank->owed, PHX_WAIT_PHASES * ranks * 8);
    int rc = phx_cuda_check(cuda,
                            cudaMemcpyAsync(twin->device + from, twin->pinned + from,
                                            twin->bytes - from, cudaMemcpyHostToDevice, cuda->work),
                            "copying a group to the GPU");
    // What is told from now on must not be overwritten by what was copied before it.
    if (rc == 0)
        rc = phx_cuda_check(cuda, cudaEventRecord(cuda->pushed, cuda->work), "cudaEventRecord");
    if (rc == 0)
        rc = phx_cuda_check(cuda, cudaStreamWaitEvent(cuda->side, cuda->pushed, 0),
                            "cudaStreamWaitEvent");
    twin->is_current = rc == 0;
    return rc;
}

int phx_cuda_twin_pull(struct phx_cuda *cuda, struct phx_cuda_twin *twin)
{
    uint64_t from = twin->changing_at;
    return phx_cuda_check(cuda,
                          cudaMemcpyAsync(twin->pinned + from, twin->device + from,
                                          twin->bytes - from, cudaMemcpyDeviceToHost, cuda->work),
                          "copying a group from the GPU");
}

void phx_cuda_twin_take(struct phx_cuda_twin *twin)
{
    const struct phx_rank *rank = twin->rank;
    uint64_t ranks = rank->shape.ranks;
    const uint64_t *suspected = (const uint64_t *)(const void *)(twin->pinned + twin->suspected_at);
    struct phx_rank_state state;
    memcpy(&state, twin->pinned + twin->state_at, sizeof state);
    uint64_t abort = __atomic_load_n(&rank->state->abort, __ATOMIC_ACQUIRE);
    state.abort |= abort;
    rank->state->barrier_arrived = state.barrier_arrived;
    rank->state->blocked_on = state.blocked_on;
    rank->state->rows_dropped = state.rows_dropped;
    rank->state->puts = state.puts;
    if (state.abort != 0)
        __atomic_store_n(&rank->state->abort, state.abort, __ATOMIC_RELEASE);
    for (uint64_t r = 0; r < ranks; r++) {
        uint64_t none = PHX_CAUSE_NONE; // what was known here first is kept
        if (suspected[r] != PHX_CAUSE_NONE)
            (void)__atomic_compare_exchange_n(&rank->suspected[r], &none, suspected[r], false,
                                              __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    memcpy(rank->fates, twin->pinned + twin->fates_at, PHX_WAIT_PHASES * ranks * 8);
    memcpy(rank->owed, twin->pinned + twin->owed_at, PHX_WAIT_PHASES * ranks * 8);
}

// One word, behind the back of a kernel that polls it.
static cudaError_t tell(struct phx_cuda *cuda, uint8_t *to, uint64_t *word, uint64_t value,
                        bool *is_telling)
{
    if (*word == value)
        return cudaSuccess;
    *word = value;
    *is_telling = true;
    return cudaMemcpyAsync(to, word, 8, cudaMemcpyHostToDevice, cuda->side);
}

int phx_cuda_twin_tell(struct phx_cuda *cuda, struct phx_cuda_twin *twin)
{
    const struct phx_rank *rank = twin->rank;
    uint32_t ranks = rank->shape.ranks;
    cudaError_t error = cudaSuccess;
    for (uint32_t r = 0; error == cudaSuccess && r < ranks; r++) {
        uint64_t cause = __atomic_load_n(&rank->suspected[r], __ATOMIC_ACQUIRE);
        if (cause != PHX_CAUSE_NONE)
            error = tell(cuda, twin->device + twin->suspected_at + 8ull * r, &twin->told[r], cause,
                         &twin->is_telling);
    }
    uint64_t abort = __atomic_load_n(&rank->state->abort, __ATOMIC_ACQUIRE);
    if (error == cudaSuccess && abort != 0)
        error = tell(cuda, twin->device + twin->state_at + offsetof(struct phx_rank_state, abort),
                     &twin->told[ranks], abort, &twin->is_telling);
    return phx_cuda_check(cuda, error, "telling a kernel of a loss");
}

// --- handles ------------------------------------------------------------------------------------

static void handle_lay_out(struct phx_cuda_handle *h, const struct phx_shape *s)
{
    uint64_t ranks = s->ranks;
    uint64_t local = s->experts_local_max;
    uint64_t used = 0;
    h->offset_at = place(&used, (local + 1) * 8);
    h->count_at = place(&used, local * 4);
    h->counted_at = place(&used, ranks * 8);
    h->present_at = place(&used, ranks * 8);
    h->answered_at = place(&used, ranks * 8);
    h->read_bytes = used;
    h->begin_at = place(&used, local * ranks * 4);
    h->sent_rows_at = place(&used, ranks * 4);
    h->route_at_at = place(&used, ranks * 8);
    h->sent_at_at = place(&used, ranks * 8);
    h->routes_at = used;
}

static int handle_open(struct phx_executor *e, const struct phx_rank *rank,
                       const struct phx_handle_view *view, uint64_t *answered)
{
    struct phx_cuda *cuda = phx_cuda_of(e);
    struct phx_cuda_handle *h = calloc(1, sizeof *h);
    if (h == NULL)
        return PHX_ERR_NO_MEMORY;
    h->view = view;
    h->answered = answered;
    handle_lay_out(h, &rank->shape);
    uint64_t bytes = h->routes_at + rank->shape.ranks * phx_route_stride(&rank->shape);
    int rc = block_make(cuda, &h->device, bytes, &h->pinned, h->read_bytes);
    if (rc != 0) {
        block_free(h->device, h->pinned);
        free(h);
        return rc;
    }
    h->next = cuda->handles;
    cuda->handles = h;
    return 0;
}

static void handle_close(struct phx_executor *e, const struct phx_rank *rank,
                         const struct phx_handle_view *view)
{
    struct phx_cuda *cuda = phx_cuda_of(e);
    (void)rank;
    for (struct phx_cuda_handle **at = &cuda->handles; *at != NULL; at = &(*at)->next) {
        struct phx_cuda_handle *h = *at;
        if (h->view != view)
            continue;
        (void)cudaDeviceSynchronize();
        *at = h->next;
        block_free(h->device, h->pinned);
        free(h);
        return;
    }
}

struct phx_cuda_handle *phx_cuda_handle_of(const struct phx_cuda *cuda,
                                           const struct phx_handle_view *view)
{
    struct phx_cuda_handle *h = cuda->handles;
    while (h != NULL && h->view->routes != view->routes)
        h = h->next;
    return h;
}

int phx_cuda_handle_pull(struct phx_cuda *cuda, struct phx_cuda_handle *handle)
{
    return phx_cuda_check(cuda,
                          cudaMemcpyAsync(handle->pinned, handle->device, handle->read_bytes,
                                          cudaMemcpyDeviceToHost, cuda->work),
                          "copying a handle from the GPU");
}

void phx_cuda_handle_take(struct phx_cuda_handle *handle, const struct phx_rank *rank)
{
    const struct phx_shape *s = &rank->shape;
    const struct phx_handle_view *view = handle->view;
    const uint8_t *from = handle->pinned;
    memcpy(view->offset, from + handle->offset_at, (s->experts_local_max + 1) * 8ull);
    memcpy(view->count, from + handle->count_at, s->experts_local_max * 4ull);
    memcpy(view->counted, from + handle->counted_at, s->ranks * 8ull);
    memcpy(view->present, from + handle->present_at, s->ranks * 8ull);
    memcpy(handle->answered, from + handle->answered_at, s->ranks * 8ull);
}

// --- launches -----------------------------------------------------------------------------------

// A pointer that is added there has to get an address of the device here, and in constant_fill().
static_assert(sizeof(struct phx_handle_view) == 10 * sizeof(void *), "see above");
static_assert(sizeof(struct phx_rank) - offsetof(struct phx_rank, expert_rank) ==
                  12 * sizeof(void *),
              "see above");

static void view_fill(const struct phx_cuda_handle *h, struct phx_handle_view *view)
{
    uint8_t *device = h->device;
    view->routes = device + h->routes_at;
    view->begin = (uint32_t *)(void *)(device + h->begin_at);
    view->offset = (int64_t *)(void *)(device + h->offset_at);
    view->count = (uint32_t *)(void *)(device + h->count_at);
    view->counted = (uint64_t *)(void *)(device + h->counted_at);
    view->present = (uint64_t *)(void *)(device + h->present_at);
    view->sent_rows = (uint32_t *)(void *)(device + h->sent_rows_at);
    view->route_at = (uint64_t *)(void *)(device + h->route_at_at);
    view->sent_at = (uint64_t *)(void *)(device + h->sent_at_at);
}

void phx_cuda_launch_fill(const struct phx_cuda_twin *twin, const struct phx_cuda_handle *handle,
                          struct phx_launch *launch)
{
    launch->rank = (const struct phx_rank *)(void *)twin->device;
    if (launch->kind == PHX_DISPATCH) {
        view_fill(handle, &launch->dispatch.handle);
    } else {
        view_fill(handle, &launch->combine.handle);
        launch->combine.answered = (uint64_t *)(void *)(handle->device + handle->answered_at);
    }
}

// --- the user's tensors -------------------------------------------------------------------------

static void store(struct phx_executor *e, void *to, const void *from, uint64_t size_bytes)
{
    struct phx_cuda *cuda = phx_cuda_of(e);
    cudaError_t error = cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDefault, cuda->work);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->work);
    (void)phx_cuda_check(cuda, error, "storing into a tensor");
}

static const char *said(struct phx_executor *e)
{
    return phx_cuda_of(e)->why.text;
}

const struct phx_twin_ops phx_cuda_twin_ops = {
    .rank_open = rank_open,
    .rank_close = rank_close,
    .handle_open = handle_open,
    .handle_close = handle_close,
    .store = store,
    .said = said,
};
