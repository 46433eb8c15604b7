// engine/operation.c: one dispatch or combine from call to outcome: arguments checked before
// anything changes, a launch filled, workers run, fates read.

#include <string.h>

#include "engine/group.h"

enum { DISPATCH = 0, COMBINE = 1 }; // indices of phx_group.kinds

static struct phx_kind_counts *counts_of(struct phx_group *group, uint32_t kind)
{
    return &group->kinds[kind == PHX_DISPATCH ? DISPATCH : COMBINE];
}

static const char *kind_name(uint32_t kind)
{
    return kind == PHX_DISPATCH ? "dispatch" : "combine";
}

// --- checks -------------------------------------------------------------------------------------

struct pointer {
    const char *name;
    const void *value;
};

static int check_pointers(const struct pointer *pointers, size_t count, struct phx_message *message)
{
    for (size_t i = 0; i < count; i++)
        if (pointers[i].value == NULL)
            return phx_fail(message, PHX_ERR_INVALID, "%s = NULL: must point to memory",
                            pointers[i].name);
    return 0;
}

static int check_timeout(int64_t timeout_us, struct phx_message *message)
{
    if (timeout_us == 0 || timeout_us == PHX_TIMEOUT_NONE ||
        (timeout_us > 0 && timeout_us <= INT64_C(1) << 40))
        return 0;
    return phx_fail(message, PHX_ERR_INVALID,
                    "timeout_us = %lld: must be 1 to 2^40, 0 for the group's, or "
                    "PHX_TIMEOUT_NONE (-1)",
                    (long long)timeout_us);
}

static int check_token_count(const struct phx_shape *s, uint32_t token_count,
                             struct phx_message *message)
{
    if (token_count <= s->tokens_max)
        return 0;
    return phx_fail(message, PHX_ERR_INVALID, "token_count = %u: must be 0 to tokens_max = %u",
                    token_count, s->tokens_max);
}

// The user's tensors lie where the control thread may not read them.
static bool is_elsewhere(const struct phx_group *group)
{
    return group->target.executor->twins != NULL;
}

// Every entry is -1 or an expert, and no token lists one twice. What can't be looked at here is for
// the workers: to them an entry that is no expert is none (kernels/route.h).
static int check_routing(const struct phx_group *group, const int64_t *topk_idx,
                         uint32_t token_count, struct phx_message *message)
{
    const struct phx_shape *s = &group->rank.shape;
    for (uint32_t t = 0; t < token_count && !is_elsewhere(group); t++) {
        const int64_t *list = topk_idx + (uint64_t)t * s->top_k;
        for (uint32_t k = 0; k < s->top_k; k++) {
            if (list[k] < -1 || list[k] >= (int64_t)s->experts)
                return phx_fail(message, PHX_ERR_INVALID,
                                "topk_idx[%u][%u] = %lld: must be an expert, 0 to %u, or -1", t, k,
                                (long long)list[k], s->experts - 1);
            for (uint32_t i = 0; list[k] >= 0 && i < k; i++)
                if (list[i] == list[k])
                    return phx_fail(message, PHX_ERR_INVALID,
                                    "topk_idx[%u][%u] = %lld: the token lists that expert twice", t,
                                    k, (long long)list[k]);
        }
    }
    return 0;
}

static int check_dispatch(const struct phx_group *group, const struct phx_dispatch_args *a,
                          struct phx_message *message)
{
    const struct phx_shape *s = &group->rank.shape;
    if (a == NULL || a->size != sizeof *a)
        return phx_fail(message, PHX_ERR_INVALID,
                        "args.size = %u: must be sizeof(struct phx_dispatch_args) = %zu",
                        a == NULL ? 0 : a->size, sizeof *a);
    const struct pointer inputs[] = {{"x", a->x}, {"topk_idx", a->topk_idx}};
    const struct pointer outputs[] = {{"recv_x", a->recv_x},
                                      {"recv_count", a->recv_count},
                                      {"recv_src_info", a->recv_src_info},
                                      {"recv_layout_range", a->recv_layout_range}};
    bool has_experts = group->rank.experts_local > 0; // else nothing is ever received
    int rc = check_token_count(s, a->token_count, message);
    if (rc == 0 && a->token_count > 0)
        rc = check_pointers(inputs, sizeof inputs / sizeof inputs[0], message);
    if (rc == 0 && has_experts)
        rc = check_pointers(outputs, sizeof outputs / sizeof outputs[0], message);
    if (rc == 0)
        rc = check_timeout(a->timeout_us, message);
    if (rc != 0)
        return rc;
    if (has_experts && s->dtype == PHX_FP8_E4M3 && a->recv_scales == NULL)
        return phx_fail(message, PHX_ERR_INVALID, "recv_scales = NULL: fp8 rows come with scales");
    if (s->rows == PHX_ROWS_ONCE && a->topk_weights == NULL && a->token_count > 0)
        return phx_fail(message, PHX_ERR_INVALID,
                        "topk_weights = NULL: a group opened with rows once sends the weights with "
                        "dispatch; open it with PHX_ROWS_PER_EXPERT to weight at the source");
    if (has_experts && s->layout == PHX_LAYOUT_COMPACT && a->recv_rows_max == 0)
        return phx_fail(message, PHX_ERR_INVALID,
                        "recv_rows_max = 0: the compact layout needs the rows that recv_x holds");
    return check_routing(group, a->topk_idx, a->token_count, message);
}

static int check_combine(const struct phx_group *group, const struct phx_combine_args *a,
                         const struct phx_handle *handle, struct phx_message *message)
{
    if (a == NULL || a->size != sizeof *a)
        return phx_fail(message, PHX_ERR_INVALID,
                        "args.size = %u: must be sizeof(struct phx_combine_args) = %zu",
                        a == NULL ? 0 : a->size, sizeof *a);
    if (a->token_count != handle->token_count)
        return phx_fail(message, PHX_ERR_INVALID,
                        "token_count = %u: the dispatch of this handle had %u", a->token_count,
                        handle->token_count);
    const struct pointer rows = {"y", a->y};
    const struct pointer pointers[] = {
        {"topk_idx", a->topk_idx}, {"topk_weights", a->topk_weights}, {"out", a->out}};
    int rc = 0;
    if (group->rank.experts_local > 0) // else it has no rows to give back
        rc = check_pointers(&rows, 1, message);
    if (rc == 0 && a->token_count > 0)
        rc = check_pointers(pointers, sizeof pointers / sizeof pointers[0], message);
    if (rc == 0)
        rc = check_timeout(a->timeout_us, message);
    if (rc == 0)
        rc = check_routing(group, a->topk_idx, a->token_count, message);
    return rc;
}

// A send half may start: the handle is free for it and the window has room.
static int check_begin(struct phx_group *group, uint32_t kind, const struct phx_handle *handle,
                       struct phx_message *message)
{
    const struct phx_kind_counts *c = counts_of(group, kind);
    int rc = phx__group_ready(group, message);
    if (rc != 0)
        return rc;
    if (handle == NULL)
        return phx_fail(message, PHX_ERR_INVALID, "handle = NULL: phx_handle_create() makes one");
    if (c->sent - c->received >= group->rank.shape.in_flight)
        return phx_fail(message, PHX_ERR_STATE,
                        "%llu %s operations are between halves; this group was opened with "
                        "in_flight = %u",
                        (unsigned long long)(c->sent - c->received), kind_name(kind),
                        group->rank.shape.in_flight);
    if (handle->state == PHX_HANDLE_DISPATCHING || handle->state == PHX_HANDLE_COMBINING)
        return phx_fail(message, PHX_ERR_STATE, "the handle's last operation is between halves");
    if (kind == PHX_COMBINE && handle->state != PHX_HANDLE_FULL)
        return phx_fail(message, PHX_ERR_STATE, "the handle holds no dispatch to combine");
    if (kind == PHX_COMBINE && handle->epoch != group->epoch)
        return phx_fail(message, PHX_ERR_STALE,
                        "the handle's dispatch ran in epoch %llu, the group is in epoch %llu",
                        (unsigned long long)handle->epoch, (unsigned long long)group->epoch);
    return 0;
}

static int check_receive(struct phx_group *group, uint32_t kind, const struct phx_handle *handle,
                         struct phx_message *message)
{
    const struct phx_kind_counts *c = counts_of(group, kind);
    int rc = phx__group_ready(group, message);
    if (rc != 0)
        return rc;
    if (handle == NULL || c->sent == c->received || c->pending[0] != handle)
        return phx_fail(message, PHX_ERR_STATE, "this handle's %s is not the oldest between halves",
                        kind_name(kind));
    return 0;
}

// --- launches -----------------------------------------------------------------------------------

static void fill_common(struct phx_group *group, struct phx_op_common *op, uint32_t kind,
                        int64_t timeout_us, int32_t *active_ranks, int64_t *wait_ns,
                        const uint8_t *replay)
{
    if (timeout_us == 0)
        timeout_us = group->options.timeout_us;
    op->operation = ++group->operations;
    op->sequence = ++counts_of(group, kind)->sent;
    // Planted: the slots do not take turns after an operation that masked somebody.
    for (uint32_t r = 0; PHX_BUG(PARITY_KEPT_ON_MASK) && r < group->rank.shape.ranks; r++)
        if (group->rank.suspected[r] != PHX_CAUSE_NONE && !group->flushed[r] && op->sequence > 1)
            op->sequence = counts_of(group, kind)->sent - 1;
    bool is_tolerant = group->options.fault_tolerance == PHX_FAULT_TOLERANCE_ON;
    op->timeout_ns =
        !is_tolerant || timeout_us == PHX_TIMEOUT_NONE ? UINT64_MAX : (uint64_t)timeout_us * 1000u;
    op->active_ranks = is_tolerant ? active_ranks : NULL;
    op->wait_ns = wait_ns;
    op->replay = replay;
}

static void fill_dispatch(struct phx_group *group, const struct phx_dispatch_args *a,
                          struct phx_handle *handle)
{
    struct phx_launch *launch = &handle->pending;
    struct phx_dispatch_op *op = &launch->dispatch;
    memset(launch, 0, sizeof *launch);
    launch->rank = &group->rank;
    launch->kind = PHX_DISPATCH;
    fill_common(group, &op->common, PHX_DISPATCH, a->timeout_us, a->active_ranks, a->wait_ns,
                a->replay);
    op->x = a->x;
    op->topk_idx = a->topk_idx;
    op->topk_weights = group->rank.shape.rows == PHX_ROWS_ONCE ? a->topk_weights : NULL;
    op->token_count = a->token_count;
    op->recv_x = a->recv_x;
    op->recv_scales = a->recv_scales;
    op->recv_src_info = a->recv_src_info;
    op->recv_count = a->recv_count;
    op->recv_layout_range = a->recv_layout_range;
    op->cumulative_received = a->cumulative_received;
    handle->view.rows_max = a->recv_rows_max;
    handle->view.offset[0] = 0;
    handle->recv_offsets = a->recv_offsets;
    handle->replay_masked = a->replay_masked;
    handle->token_count = a->token_count;
    handle->epoch = group->epoch;
    op->handle = handle->view;
}

static void fill_combine(struct phx_group *group, const struct phx_combine_args *a,
                         struct phx_handle *handle)
{
    struct phx_launch *launch = &handle->pending;
    struct phx_combine_op *op = &launch->combine;
    memset(launch, 0, sizeof *launch);
    launch->rank = &group->rank;
    launch->kind = PHX_COMBINE;
    fill_common(group, &op->common, PHX_COMBINE, a->timeout_us, a->active_ranks, a->wait_ns,
                a->replay);
    handle->replay_masked = a->replay_masked;
    op->y = a->y;
    op->topk_idx = a->topk_idx;
    op->topk_weights = a->topk_weights;
    op->token_count = a->token_count;
    op->renormalise = a->renormalise;
    op->out = a->out;
    op->token_loss = a->token_loss;
    op->answered = handle->answered;
    op->handle = handle->view;
}

static struct phx_op_common *common_of(struct phx_launch *launch)
{
    return launch->kind == PHX_DISPATCH ? &launch->dispatch.common : &launch->combine.common;
}

// What was flushed may have been a word that the peer waits for, of the last operation of either
// kind: it is owed MASKED there. One of several parts is enough.
static void owe_flushed(struct phx_group *group, uint32_t peer, uint32_t kind)
{
    const struct phx_shape *s = &group->rank.shape;
    uint32_t offset = (peer + s->ranks - group->rank.rank) % s->ranks;
    uint64_t dispatch = group->kinds[DISPATCH].sent - (kind == PHX_DISPATCH);
    uint64_t combine = group->kinds[COMBINE].sent - (kind == PHX_COMBINE);
    for (uint32_t p = 0; p < PHX_WAIT_PHASES; p++) {
        uint64_t *owed = &group->rank.owed[p * s->ranks + peer];
        uint64_t sequence = p == PHX_WAIT_COMBINE ? combine : dispatch;
        uint32_t worker = s->workers >= s->ranks ? offset : offset % s->workers;
        if (s->division == PHX_BY_TOKEN) // of rows, one of several parts is enough
            worker = p == PHX_WAIT_COUNTS ? s->workers - 1 - offset % s->workers : 0;
        if (*owed == 0 && sequence > 0)
            *owed = phx_owed_make(sequence, worker);
    }
}

// Staging slots are about to be written again. Puts to a rank that is not suspected have arrived:
// its signals say so. What is still under way to one that is must not read the new rows. Once is
// enough: later on it gets the MASKED value alone, which has no source.
static void flush_suspects(struct phx_group *group, uint32_t kind)
{
    struct phx_transport *t = group->target.transport;
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++) {
        if (group->flushed[r] ||
            __atomic_load_n(&group->rank.suspected[r], __ATOMIC_ACQUIRE) == PHX_CAUSE_NONE)
            continue;
        group->flushed[r] = 1;
        if (PHX_BUG(FLUSH_SKIPPED)) // planted: a put that is still under way reads new rows
            continue;
        if (phx_pending(t, group->peers[r]) > 0) {
            phx_peer_flush(t, group->peers[r]);
            owe_flushed(group, r, kind);
        }
    }
}

// Runs the halves on the workers. The executor hands transport events to the group meanwhile.
static int run(struct phx_group *group, struct phx_handle *handle, uint32_t halves)
{
    struct phx_launch *launch = &handle->pending;
    struct phx_executor *e = group->target.executor;
    struct phx_kind_counts *c = counts_of(group, launch->kind);
    launch->halves = halves;
    common_of(launch)->sent = group->operations;
    common_of(launch)->barriers_before = group->barriers;
    group->barriers += phx_kernel_barriers(&group->rank.shape, launch->kind, halves);
    if (halves & PHX_HALF_SEND)
        c->pending[c->sent - c->received - 1] = handle;
    if (group->streaming == PHX_STREAMING_OFF)
        phx__group_events(group);
    if (halves & PHX_HALF_SEND)
        flush_suspects(group, launch->kind);
    int rc =
        e->ops->run(e, phx_kernel_run, launch, group->rank.shape.workers, phx__group_events, group);
    if (rc != 0) // some workers may not have passed the barriers that were counted
        __atomic_store_n(&group->state->abort, 1, __ATOMIC_RELEASE);
    if (rc == 0 && __atomic_load_n(&group->state->abort, __ATOMIC_ACQUIRE) != 0)
        rc = __atomic_load_n(&group->lost, __ATOMIC_ACQUIRE) != 0 ? PHX_ERR_PEER_LOST
                                                                  : PHX_ERR_ABORTED;
    return rc;
}

// Why it failed: in the device's own words, if it has any.
static const char *why(const struct phx_group *group, int rc)
{
    struct phx_executor *e = group->target.executor;
    const char *said = is_elsewhere(group) ? e->twins->said(e) : "";
    return rc != PHX_ERR_ABORTED && said[0] != '\0' ? said : phx_error_text(rc);
}

// --- outcomes -----------------------------------------------------------------------------------

static void set_add(struct phx_rank_set *set, uint32_t rank)
{
    set->words[rank / 64] |= UINT64_C(1) << (rank % 64);
}

// Into the user's memory.
static void store(const struct phx_group *group, void *to, const void *from, uint64_t size_bytes)
{
    struct phx_executor *e = group->target.executor;
    if (is_elsewhere(group))
        e->twins->store(e, to, from, size_bytes);
    else
        memcpy(to, from, size_bytes);
}

static void read_outcome(struct phx_group *group, const struct phx_handle *handle,
                         struct phx_outcome *o)
{
    const int32_t inactive = 0;
    const struct phx_launch *launch = &handle->pending;
    int32_t *active = launch->kind == PHX_DISPATCH ? launch->dispatch.common.active_ranks
                                                   : launch->combine.common.active_ranks;
    memset(o, 0, sizeof *o);
    o->kind = launch->kind;
    o->number = launch->kind == PHX_DISPATCH ? launch->dispatch.common.sequence
                                             : launch->combine.common.sequence;
    o->epoch = group->epoch;
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++) {
        if (launch->kind == PHX_DISPATCH && phx_counted_is_there(handle->view.counted[r]))
            set_add(&o->counted, r);
        if (launch->kind == PHX_DISPATCH && handle->view.present[r] == PHX_FATE_PRESENT)
            set_add(&o->present, r);
        if (launch->kind == PHX_COMBINE && handle->answered[r] != 0)
            set_add(&o->answered, r);
        if (__atomic_load_n(&group->rank.suspected[r], __ATOMIC_ACQUIRE) == PHX_CAUSE_NONE)
            continue;
        set_add(&o->masked, r);
        o->masked_count++;
        if (active != NULL)
            store(group, &active[r], &inactive, sizeof inactive);
    }
    for (uint32_t e = 0; launch->kind == PHX_DISPATCH && e < group->rank.experts_local; e++)
        o->rows_received += handle->view.count[e];
    o->rows_dropped = group->state->rows_dropped;
}

// Whom a recorded run masked by the end of this operation. Not sooner: they may have seen what it
// sent. Not with the next send: with halves another receive may come before it.
static void take_recorded(struct phx_group *group, const struct phx_handle *handle)
{
    for (uint32_t r = 0; handle->replay_masked != NULL && r < group->rank.shape.ranks; r++) {
        uint64_t none = PHX_CAUSE_NONE;
        if (handle->replay_masked[r] != 0 && r != group->rank.rank)
            (void)__atomic_compare_exchange_n(&group->rank.suspected[r], &none, PHX_CAUSE_USER, 0,
                                              __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
}

// Nothing was lost, and yet a rank is masked: a message of it failed its check.
static int refuse_masked(struct phx_group *group, struct phx_handle *handle,
                         struct phx_message *message)
{
    uint32_t rank = 0;
    while (group->rank.suspected[rank] == PHX_CAUSE_NONE)
        rank++;
    handle->state = PHX_HANDLE_EMPTY;
    phx_abort(group);
    return phx_fail(message, PHX_ERR_CORRUPT, "rank %u: %s; this group has no fault tolerance",
                    rank, phx_cause_text((uint32_t)group->rank.suspected[rank]));
}

// After a receive half: the operation is over, whatever became of it.
static int finish(struct phx_group *group, struct phx_handle *handle, int rc,
                  struct phx_outcome *outcome, struct phx_message *message)
{
    struct phx_executor *e = group->target.executor;
    uint32_t kind = handle->pending.kind;
    struct phx_kind_counts *c = counts_of(group, kind);
    struct phx_outcome o;
    c->received++;
    c->pending[0] = c->pending[1];
    c->pending[1] = NULL;
    handle->state = rc == 0 ? PHX_HANDLE_FULL : PHX_HANDLE_EMPTY;
    if (rc != 0)
        return phx_fail(message, rc, "%s %llu: %s", kind_name(kind),
                        (unsigned long long)c->received, why(group, rc));
    if (group->streaming != PHX_STREAMING_OFF)
        return 0; // nobody knows yet
    take_recorded(group, handle);
    read_outcome(group, handle, &o);
    if (o.masked_count > 0 && group->options.fault_tolerance == PHX_FAULT_TOLERANCE_OFF)
        return refuse_masked(group, handle, message);
    e->ops->phase(e, PHX_WORKER_CONTROL,
                  kind == PHX_DISPATCH ? PHX_PHASE_DISPATCH_DONE : PHX_PHASE_COMBINE_DONE,
                  o.number);
    if (kind == PHX_DISPATCH && handle->recv_offsets != NULL)
        store(group, handle->recv_offsets, handle->view.offset,
              (group->rank.experts_local + 1) * sizeof *handle->recv_offsets);
    if (outcome != NULL)
        *outcome = o;
    if (o.rows_dropped > 0)
        return phx_fail(message, PHX_ERR_CAPACITY,
                        "recv_rows_max = %llu: %llu of %u rows did not fit",
                        (unsigned long long)handle->view.rows_max,
                        (unsigned long long)o.rows_dropped, o.rows_received);
    return 0;
}

// --- the calls ----------------------------------------------------------------------------------

static int begin_dispatch(struct phx_group *group, const struct phx_dispatch_args *args,
                          struct phx_handle *handle, struct phx_message *message)
{
    int rc = check_begin(group, PHX_DISPATCH, handle, message);
    if (rc == 0)
        rc = check_dispatch(group, args, message);
    if (rc == 0)
        fill_dispatch(group, args, handle);
    return rc;
}

static int begin_combine(struct phx_group *group, const struct phx_combine_args *args,
                         struct phx_handle *handle, struct phx_message *message)
{
    int rc = check_begin(group, PHX_COMBINE, handle, message);
    if (rc == 0)
        rc = check_combine(group, args, handle, message);
    if (rc == 0)
        fill_combine(group, args, handle);
    return rc;
}

static int send_half(struct phx_group *group, struct phx_handle *handle, uint32_t state,
                     struct phx_message *message)
{
    int rc = run(group, handle, PHX_HALF_SEND);
    if (rc != 0)
        return phx_fail(message, rc, "%s: %s", kind_name(handle->pending.kind), why(group, rc));
    handle->state = (enum phx_handle_state)state;
    return 0;
}

static int receive_half(struct phx_group *group, uint32_t kind, struct phx_handle *handle,
                        struct phx_outcome *outcome, struct phx_message *message)
{
    int rc = check_receive(group, kind, handle, message);
    if (rc != 0)
        return rc;
    group->state->rows_dropped = 0;
    if (PHX_BUG(RECEIVE_TWICE)) // planted: the hook is called by the user and by the next layer
        (void)run(group, handle, PHX_HALF_RECEIVE);
    return finish(group, handle, run(group, handle, PHX_HALF_RECEIVE), outcome, message);
}

static int whole(struct phx_group *group, struct phx_handle *handle, struct phx_outcome *outcome,
                 struct phx_message *message)
{
    group->state->rows_dropped = 0;
    return finish(group, handle, run(group, handle, PHX_HALF_SEND | PHX_HALF_RECEIVE), outcome,
                  message);
}

// A whole operation needs an empty window: halves finish in the order in which they began.
static int check_whole(struct phx_group *group, uint32_t kind, struct phx_message *message)
{
    const struct phx_kind_counts *c = counts_of(group, kind);
    if (c->sent == c->received)
        return 0;
    return phx_fail(message, PHX_ERR_STATE, "a %s is between halves: receive it first",
                    kind_name(kind));
}

int phx_dispatch(struct phx_group *group, const struct phx_dispatch_args *args,
                 struct phx_handle *handle, struct phx_outcome *outcome,
                 struct phx_message *message)
{
    int rc = check_whole(group, PHX_DISPATCH, message);
    if (rc == 0)
        rc = begin_dispatch(group, args, handle, message);
    return rc != 0 ? rc : whole(group, handle, outcome, message);
}

int phx_dispatch_send(struct phx_group *group, const struct phx_dispatch_args *args,
                      struct phx_handle *handle, struct phx_message *message)
{
    int rc = begin_dispatch(group, args, handle, message);
    return rc != 0 ? rc : send_half(group, handle, PHX_HANDLE_DISPATCHING, message);
}

int phx_dispatch_receive(struct phx_group *group, struct phx_handle *handle,
                         struct phx_outcome *outcome, struct phx_message *message)
{
    return receive_half(group, PHX_DISPATCH, handle, outcome, message);
}

int phx_combine(struct phx_group *group, const struct phx_combine_args *args,
                struct phx_handle *handle, struct phx_outcome *outcome, struct phx_message *message)
{
    int rc = check_whole(group, PHX_COMBINE, message);
    if (rc == 0)
        rc = begin_combine(group, args, handle, message);
    return rc != 0 ? rc : whole(group, handle, outcome, message);
}

int phx_combine_send(struct phx_group *group, const struct phx_combine_args *args,
                     struct phx_handle *handle, struct phx_message *message)
{
    int rc = begin_combine(group, args, handle, message);
    return rc != 0 ? rc : send_half(group, handle, PHX_HANDLE_COMBINING, message);
}

int phx_combine_receive(struct phx_group *group, struct phx_handle *handle,
                        struct phx_outcome *outcome, struct phx_message *message)
{
    return receive_half(group, PHX_COMBINE, handle, outcome, message);
}
