// engine/group.c: opening a group: options checked, one block of memory carved, regions registered,
// cards compared, peers connected.

#include "engine/group.h"

#include <stdlib.h>
#include <string.h>

const char *phx_version(void)
{
#define PHX_TEXT(x) PHX_TEXT_OF(x)
#define PHX_TEXT_OF(x) #x
    return PHX_TEXT(PHX_VERSION_MAJOR) "." PHX_TEXT(PHX_VERSION_MINOR) "." PHX_TEXT(
        PHX_VERSION_PATCH);
}

void phx_group_options_init(struct phx_group_options *options)
{
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
    options->in_flight = 1;
    options->workers = 1;
    options->dtype = PHX_FP8_E4M3;
    options->scale_format = PHX_SCALE_F32;
    options->rows = PHX_ROWS_ONCE;
    options->layout = PHX_LAYOUT_SLOTS;
    options->check = PHX_CHECK_ROUTES;
    options->division = PHX_BY_PEER;
    options->fault_tolerance = PHX_FAULT_TOLERANCE_ON;
    options->timeout_us = 1000000;
}

// --- options ------------------------------------------------------------------------------------

struct bound {
    const char *name;
    uint64_t value;
    uint64_t least;
    uint64_t most;
};

static int check_bounds(const struct phx_group_options *o, struct phx_message *message)
{
    const struct bound bounds[] = {
        {"ranks", o->ranks, 1, PHX_RANKS_MAX},
        {"rank", o->rank, 0, o->ranks > 0 ? o->ranks - 1 : 0},
        {"experts", o->experts, 1, PHX_EXPERTS_MAX},
        {"top_k", o->top_k, 1, o->experts < PHX_TOP_K_MAX ? o->experts : PHX_TOP_K_MAX},
        {"tokens_max", o->tokens_max, 1, PHX_TOKENS_MAX},
        {"hidden", o->hidden, PHX_HIDDEN_MULTIPLE, PHX_HIDDEN_MAX},
        {"in_flight", o->in_flight, 0, PHX_IN_FLIGHT_MAX},
        {"workers", o->workers, 1, PHX_WORKERS_MAX},
        {"dtype", o->dtype, PHX_BF16, PHX_FP8_E4M3},
        {"rows", o->rows, PHX_ROWS_ONCE, PHX_ROWS_PER_EXPERT},
        {"layout", o->layout, PHX_LAYOUT_SLOTS, PHX_LAYOUT_COMPACT},
        {"check", o->check, PHX_CHECK_ROUTES, PHX_CHECK_ROWS},
        {"division", o->division, PHX_BY_PEER, PHX_BY_TOKEN},
        {"fault_tolerance", o->fault_tolerance, PHX_FAULT_TOLERANCE_ON, PHX_FAULT_TOLERANCE_OFF},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++)
        if (bounds[i].value < bounds[i].least || bounds[i].value > bounds[i].most)
            return phx_fail(message, PHX_ERR_INVALID, "%s = %llu: must be %llu to %llu",
                            bounds[i].name, (unsigned long long)bounds[i].value,
                            (unsigned long long)bounds[i].least,
                            (unsigned long long)bounds[i].most);
    return 0;
}

static int check_options(const struct phx_group_options *o, struct phx_message *message)
{
    if (o->size != sizeof *o)
        return phx_fail(message, PHX_ERR_INVALID,
                        "options.size = %u: must be sizeof(struct phx_group_options) = %zu; "
                        "phx_group_options_init() sets it",
                        o->size, sizeof *o);
    int rc = check_bounds(o, message);
    if (rc != 0)
        return rc;
    if (o->hidden % PHX_HIDDEN_MULTIPLE != 0)
        return phx_fail(message, PHX_ERR_INVALID, "hidden = %u: must be a multiple of %u",
                        o->hidden, PHX_HIDDEN_MULTIPLE);
    if (o->channels != 0 && o->channels != o->hidden && o->channels != PHX_SCALE_GROUP)
        return phx_fail(message, PHX_ERR_INVALID,
                        "channels = %u: must be 0 or hidden (%u), or %u to store one scale group",
                        o->channels, o->hidden, PHX_SCALE_GROUP);
    if (o->dtype == PHX_FP8_E4M3 && o->scale_format != PHX_SCALE_F32 &&
        o->scale_format != PHX_SCALE_UE8M0)
        return phx_fail(
            message, PHX_ERR_INVALID, "scale_format = %u: must be %u (f32) or %u (ue8m0)",
            (unsigned)o->scale_format, (unsigned)PHX_SCALE_F32, (unsigned)PHX_SCALE_UE8M0);
    if (o->timeout_us != PHX_TIMEOUT_NONE &&
        (o->timeout_us < 1 || o->timeout_us > INT64_C(1) << 40))
        return phx_fail(message, PHX_ERR_INVALID,
                        "timeout_us = %lld: must be 1 to 2^40, or PHX_TIMEOUT_NONE (-1)",
                        (long long)o->timeout_us);
    for (uint32_t e = 0; o->expert_map != NULL && e < o->experts; e++)
        if (o->expert_map[e] < 0 || (uint32_t)o->expert_map[e] >= o->ranks)
            return phx_fail(message, PHX_ERR_INVALID,
                            "expert_map[%u] = %d: must be a rank, 0 to %u", e, o->expert_map[e],
                            o->ranks - 1);
    return 0;
}

// Default placement: in order, the first experts % ranks ranks hold one more.
static uint32_t default_rank(uint32_t expert, uint32_t experts, uint32_t ranks)
{
    uint32_t each = experts / ranks;
    uint32_t more = experts % ranks;
    if (PHX_BUG(EXPERTS_UNEVEN)) // planted: blocks of one size, the last rank has what is left
        return expert / (each + (more > 0));
    uint32_t first = more * (each + 1);
    return expert < first ? expert / (each + 1) : more + (expert - first) / each;
}

static uint32_t expert_rank_of(const struct phx_group_options *o, uint32_t expert)
{
    return o->expert_map != NULL ? (uint32_t)o->expert_map[expert]
                                 : default_rank(expert, o->experts, o->ranks);
}

static uint32_t experts_on(const struct phx_group_options *o, uint32_t rank)
{
    if (o->expert_map == NULL)
        return o->experts / o->ranks + (rank < o->experts % o->ranks ? 1 : 0);
    uint32_t count = 0;
    for (uint32_t e = 0; e < o->experts; e++)
        count += o->expert_map[e] == (int32_t)rank;
    return count;
}

int phx__shape_make(const struct phx_group_options *o, struct phx_shape *shape,
                    struct phx_message *message)
{
    int rc = check_options(o, message);
    if (rc != 0)
        return rc;
    memset(shape, 0, sizeof *shape);
    shape->ranks = o->ranks;
    shape->experts = o->experts;
    shape->top_k = o->top_k;
    shape->tokens_max = o->tokens_max;
    shape->hidden = o->hidden;
    shape->channels = o->channels == 0 ? o->hidden : o->channels;
    shape->in_flight = o->in_flight == 0 ? 1 : o->in_flight;
    shape->workers = o->workers;
    shape->dtype = (uint32_t)o->dtype;
    shape->scale_format = (uint32_t)o->scale_format;
    shape->rows = (uint32_t)o->rows;
    shape->layout = (uint32_t)o->layout;
    shape->check = (uint32_t)o->check;
    shape->division = (uint32_t)o->division;
    if (o->expert_map == NULL) {
        shape->experts_local_max = experts_on(o, 0);
    } else {
        for (uint32_t r = 0; r < o->ranks; r++) {
            uint32_t count = experts_on(o, r);
            if (count > shape->experts_local_max)
                shape->experts_local_max = count;
        }
    }
    return 0;
}

// --- memory -------------------------------------------------------------------------------------

// Hands out pieces of one block; with base NULL it only measures.
struct carver {
    uint8_t *base;
    uint64_t used;
};

static void *carve(struct carver *c, uint64_t size_bytes, uint64_t alignment)
{
    c->used = phx_align(c->used, alignment);
    void *piece = c->base != NULL ? c->base + c->used : NULL;
    c->used += size_bytes;
    return piece;
}

// Long regions are whole huge pages, at such addresses, so that a transport may take those.
#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)

static uint64_t region_alignment(const struct phx_shape *s)
{
    return phx_region_bytes(s) >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : 4096;
}
static uint64_t region_room(const struct phx_shape *s)
{
    return phx_align(phx_region_bytes(s), region_alignment(s));
}

// is_lean: the transport makes the regions and the staging memory.
static void carve_group(struct carver *c, struct phx_group *g, const struct phx_shape *s,
                        bool is_lean)
{
    uint64_t ranks = s->ranks;
    g->peers = carve(c, ranks * sizeof *g->peers, 64);
    g->targets = carve(c, ranks * sizeof *g->targets, 64);
    g->regions = carve(c, ranks * sizeof *g->regions, 64);
    g->keys = carve(c, ranks * sizeof *g->keys, 64);
    g->from = carve(c, ranks * sizeof *g->from, 64);
    g->heads = carve(c, phx_slots(s) * ranks * sizeof *g->heads, 64);
    g->to = carve(c, ranks * sizeof *g->to, 64);
    g->peer_answered = carve(c, ranks, 64);
    g->peer_lost = carve(c, ranks, 64);
    g->flushed = carve(c, ranks, 64);
    g->renewed = carve(c, PHX_RENEWED_MAX * sizeof *g->renewed, 64);
    g->experts_of = carve(c, ranks * sizeof *g->experts_of, 64);
    g->expert_rank = carve(c, s->experts * sizeof *g->expert_rank, 64);
    g->expert_local = carve(c, s->experts * sizeof *g->expert_local, 64);
    g->state = carve(c, sizeof *g->state, 64);
    g->rank.suspected = carve(c, ranks * 8, 64);
    g->rank.fates = carve(c, PHX_WAIT_PHASES * ranks * 8, 64);
    g->rank.owed = carve(c, PHX_WAIT_PHASES * ranks * 8, 64);
    if (is_lean)
        return;
    g->rank.tally =
        carve(c, s->division == PHX_BY_TOKEN ? ranks * s->workers * sizeof *g->rank.tally : 0, 64);
    g->rank.stage = carve(c, phx_stage_bytes(s), 4096);
    uint64_t each = region_room(s);
    uint8_t *regions = carve(c, ranks * each, region_alignment(s));
    for (uint32_t r = 0; c->base != NULL && r < s->ranks; r++)
        g->from[r] = regions + r * each;
}

static void carve_handle(struct carver *c, struct phx_handle *h, const struct phx_shape *s)
{
    uint64_t ranks = s->ranks;
    uint64_t local = s->experts_local_max;
    h->view.begin = carve(c, local * ranks * 4, 64);
    h->view.offset = carve(c, (local + 1) * 8, 64);
    h->view.count = carve(c, local * 4, 64);
    h->view.counted = carve(c, ranks * 8, 64);
    h->view.present = carve(c, ranks * 8, 64);
    h->view.sent_rows = carve(c, ranks * 4, 64);
    h->view.route_at = carve(c, ranks * 8, 64);
    h->view.sent_at = carve(c, ranks * 8, 64);
    h->answered = carve(c, ranks * 8, 64);
    h->view.routes = carve(c, ranks * phx_route_stride(s), 4096);
}

static uint8_t *aligned(uint8_t *memory, uint64_t alignment)
{
    return memory + (alignment - (uintptr_t)memory % alignment) % alignment;
}

// What create asks the allocator for: the struct, then the rest.
static uint64_t group_bytes(const struct phx_shape *s, bool is_lean)
{
    struct carver c = {NULL, 0};
    struct phx_group measured;
    carve(&c, sizeof measured, 64);
    carve_group(&c, &measured, s, is_lean);
    // Allocators align to 4096.
    return is_lean ? c.used : c.used + region_alignment(s) - 4096;
}
static uint64_t handle_bytes(const struct phx_shape *s)
{
    struct carver c = {NULL, 0};
    struct phx_handle measured;
    carve(&c, sizeof measured, 64);
    carve_handle(&c, &measured, s);
    return c.used;
}

static void *libc_alloc(void *context, uint64_t size_bytes)
{
    (void)context;
    void *memory = aligned_alloc(4096, phx_align(size_bytes, 4096));
    return memory != NULL ? memset(memory, 0, size_bytes) : NULL;
}
static void libc_free(void *context, void *memory, uint64_t size_bytes)
{
    (void)context;
    (void)size_bytes;
    free(memory);
}

static void release(const struct phx_allocator *a, void *memory, uint64_t size_bytes)
{
    if (memory != NULL && a->free != NULL)
        a->free(a->context, memory, size_bytes);
}

int phx_size_hint(const struct phx_group_options *options, struct phx_size_hint *hint,
                  struct phx_message *message)
{
    struct phx_shape s;
    int rc = phx__shape_make(options, &s, message);
    if (rc != 0)
        return rc;
    uint32_t local = experts_on(options, options->rank);
    uint64_t each = s.layout == PHX_LAYOUT_SLOTS || local < s.top_k ? local : s.top_k;
    hint->region_bytes = phx_region_bytes(&s);
    hint->stage_bytes = phx_stage_bytes(&s);
    hint->handle_bytes = handle_bytes(&s);
    hint->group_bytes = group_bytes(&s, false);
    hint->recv_rows_max = each * s.ranks * s.tokens_max;
    hint->recv_x_bytes = hint->recv_rows_max * phx_payload_bytes(&s, s.channels);
    hint->recv_scale_bytes = hint->recv_rows_max * 4 * phx_scale_words(&s, s.channels);
    hint->experts_local = local;
    return 0;
}

// --- create and connect -------------------------------------------------------------------------

// Where each expert lives, and a hash of it (FNV-1a over the ranks, 64 bits) for the cards.
static void place_experts(struct phx_group *g, const struct phx_group_options *o)
{
    g->map_hash = UINT64_C(0xcbf29ce484222325);
    for (uint32_t e = 0; e < o->experts; e++) {
        uint32_t rank = expert_rank_of(o, e);
        g->expert_rank[e] = (uint16_t)rank;
        g->expert_local[e] = (uint16_t)g->experts_of[rank]++;
        g->map_hash = (g->map_hash ^ rank) * UINT64_C(0x100000001b3);
    }
}

int phx__fail_transport(const struct phx_group *group, int rc, const char *what,
                        struct phx_message *message)
{
    const char *said = phx_transport_said(group->target.transport);
    return phx_fail(message, rc, "%s: %s", what, said[0] != '\0' ? said : phx_error_text(rc));
}

bool phx__makes_memory(const struct phx_group *group)
{
    return phx_transport_info(group->target.transport)->makes_memory != 0;
}

// Few regions have few pages, whether their heads are apart or not.
#define HEADS_RANKS_MIN 16u
static_assert(PHX_SLOTS_MAX <= PHX_MEM_HEADS_MAX, "a place for each slot's head");

void phx__heads_place(struct phx_group *group, uint32_t rank)
{
    const struct phx_shape *s = &group->rank.shape;
    struct phx_transport *t = group->target.transport;
    uint64_t bytes = phx_head_bytes(s);
    void *at[PHX_MEM_HEADS_MAX];
    int apart = phx_near_rows(s) > 0 && s->ranks >= HEADS_RANKS_MIN &&
                phx_mem_heads(t, group->regions[rank], (uint32_t)bytes, phx_slots(s), at);
    for (uint32_t slot = 0; slot < phx_slots(s); slot++)
        group->heads[slot * s->ranks + rank] =
            apart ? (uint8_t *)((uintptr_t)at[slot] - slot * bytes) : group->from[rank];
}

static int register_memory(struct phx_group *g, struct phx_message *message)
{
    struct phx_transport *t = g->target.transport;
    const struct phx_shape *s = &g->rank.shape;
    bool is_made = phx__makes_memory(g);
    struct phx_mem_key unused;
    struct phx_message what;
    int rc = phx_mem_register(t, g->rank.stage, phx_stage_bytes(s), PHX_WRITER_NONE,
                              &g->environment.stage, &unused);
    if (rc == 0 && is_made)
        g->rank.stage = phx_mem_base(t, g->environment.stage);
    for (uint32_t r = 0; rc == 0 && r < s->ranks; r++) {
        rc = phx_mem_register(t, g->from[r], is_made ? phx_region_bytes(s) : region_room(s),
                              (uint16_t)r, &g->regions[r], &g->keys[r]);
        if (rc == 0 && is_made)
            g->from[r] = phx_mem_base(t, g->regions[r]);
        if (rc == 0)
            phx__heads_place(g, r);
    }
    if (rc == 0)
        return 0;
    (void)phx_fail(&what, rc, "registering memory with transport %s", phx_transport_info(t)->name);
    return phx__fail_transport(g, rc, what.text, message);
}

static int open_twin(struct phx_group *g, struct phx_message *message)
{
    struct phx_executor *e = g->target.executor;
    int rc = e->twins != NULL ? e->twins->rank_open(e, &g->rank) : 0;
    if (rc != 0)
        return phx_fail(message, rc, "the workers' memory of a group of this shape: %s",
                        phx_error_text(rc));
    g->has_twin = e->twins != NULL;
    return 0;
}

static void group_wire(struct phx_group *g, const struct phx_group_options *options)
{
    g->epoch = 1;
    g->rank.rank = options->rank;
    g->rank.epoch = 1;
    g->rank.experts_local = g->experts_of[options->rank];
    g->rank.stage_reused = phx_transport_info(g->target.transport)->is_copied_at_post;
    g->rank.expert_rank = g->expert_rank;
    g->rank.expert_local = g->expert_local;
    g->rank.from = g->from;
    g->rank.heads = g->heads;
    g->rank.to = g->to;
    g->rank.state = g->state;
    g->rank.environment = &g->environment;
    g->environment.transport = g->target.transport;
    g->environment.executor = g->target.executor;
    g->environment.leaves = phx_leaves_get();
    g->environment.peers = g->peers;
    g->environment.targets = g->targets;
}

int phx_group_create(const struct phx_group_options *options, const struct phx_target *target,
                     struct phx_group **group, struct phx_message *message)
{
    struct phx_shape s;
    int rc = phx__shape_make(options, &s, message);
    if (rc != 0)
        return rc;
    if (target == NULL || target->transport == NULL || target->executor == NULL)
        return phx_fail(message, PHX_ERR_INVALID, "target: needs a transport and an executor");
    const struct phx_transport_info *info = phx_transport_info(target->transport);
    if (info->lane_count < s.workers)
        return phx_fail(message, PHX_ERR_INVALID,
                        "workers = %u: must be at most %u, the lanes of transport %s", s.workers,
                        info->lane_count, info->name);
    struct phx_allocator allocator = options->allocator;
    if (allocator.alloc == NULL)
        allocator = (struct phx_allocator){libc_alloc, libc_free, NULL};
    bool is_lean = info->makes_memory != 0; // regions are the transport's
    uint64_t bytes = group_bytes(&s, is_lean);
    uint8_t *memory = allocator.alloc(allocator.context, bytes);
    if (memory == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "a group of this shape needs %llu bytes",
                        (unsigned long long)bytes);
    struct carver c = {aligned(memory, is_lean ? 4096 : region_alignment(&s)), 0};
    struct phx_group *g = carve(&c, sizeof *g, 64);
    g->memory = memory;
    g->memory_bytes = bytes;
    g->options = *options;
    g->options.expert_map = NULL;
    g->options.allocator = allocator;
    g->target = *target;
    g->rank.shape = s;
    carve_group(&c, g, &s, is_lean);
    place_experts(g, options);
    group_wire(g, options);
    g->peers[options->rank].rank = (uint16_t)options->rank;
    g->peers[options->rank].epoch = info->incarnation;
    rc = register_memory(g, message);
    if (rc == 0)
        rc = open_twin(g, message);
    if (rc != 0) {
        phx_group_close(g);
        return rc;
    }
    *group = g;
    return 0;
}

void phx_group_cards(const struct phx_group *group, void *cards)
{
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++)
        phx__card_write(group, r, (uint8_t *)cards + (uint64_t)r * phx_group_card_bytes());
}

static void release_targets(struct phx_group *group)
{
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++) {
        if (group->targets[r].epoch != 0)
            phx_mem_release(group->target.transport, group->targets[r]);
        memset(&group->targets[r], 0, sizeof group->targets[r]);
    }
}

int phx__import(struct phx_group *group, uint32_t rank, const struct phx_mem_key *key)
{
    struct phx_transport *t = group->target.transport;
    int rc = phx_mem_import(t, group->peers[rank], key, &group->targets[rank]);
    if (rc == 0 && phx__makes_memory(group))
        group->to[rank] = phx_mem_base(t, group->targets[rank]);
    return rc;
}

int phx_group_connect(struct phx_group *group, const void *cards, struct phx_message *message)
{
    struct phx_transport *t = group->target.transport;
    const uint8_t *card = cards;
    if (group->connected)
        return phx_fail(message, PHX_ERR_STATE, "the group is connected already");
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++) {
        int rc = phx__card_check(group, r, card + (uint64_t)r * phx_group_card_bytes(), message);
        if (rc != 0)
            return rc;
    }
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++) {
        struct phx_mem_key key;
        phx__card_read(card + (uint64_t)r * phx_group_card_bytes(), &group->peers[r], &key);
        int rc = phx__import(group, r, &key);
        if (rc == 0)
            rc = phx_peer_connect(t, group->peers[r]);
        if (rc != 0) {
            struct phx_message what;
            (void)phx_fail(&what, rc, "connecting to rank %u", r);
            (void)phx__fail_transport(group, rc, what.text, message);
            release_targets(group);
            return rc;
        }
    }
    group->unanswered = group->rank.shape.ranks;
    group->connected = true;
    return 0;
}

void phx_group_close(struct phx_group *group)
{
    if (group == NULL)
        return;
    struct phx_transport *t = group->target.transport;
    struct phx_executor *e = group->target.executor;
    if (group->has_twin) // first: no worker runs any more when memory goes
        e->twins->rank_close(e, &group->rank);
    release_targets(group);
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++) {
        if (group->regions[r].epoch != 0)
            phx_mem_release(t, group->regions[r]);
    }
    if (group->environment.stage.epoch != 0)
        phx_mem_release(t, group->environment.stage);
    struct phx_allocator allocator = group->options.allocator;
    for (uint32_t i = 0; i < group->renewed_count; i++)
        release(&allocator, group->renewed[i], phx_region_bytes(&group->rank.shape));
    release(&allocator, group->memory, group->memory_bytes);
}

int phx_handle_create(struct phx_group *group, struct phx_handle **handle,
                      struct phx_message *message)
{
    const struct phx_allocator *a = &group->options.allocator;
    uint64_t bytes = handle_bytes(&group->rank.shape);
    struct carver c = {a->alloc(a->context, bytes), 0};
    if (c.base == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "a handle of this shape needs %llu bytes",
                        (unsigned long long)bytes);
    struct phx_handle *h = carve(&c, sizeof *h, 64);
    h->memory = c.base;
    h->memory_bytes = bytes;
    h->state = PHX_HANDLE_EMPTY;
    carve_handle(&c, h, &group->rank.shape);
    struct phx_executor *e = group->target.executor;
    int rc = e->twins == NULL ? 0 : e->twins->handle_open(e, &group->rank, &h->view, h->answered);
    if (rc != 0) {
        release(a, h->memory, h->memory_bytes);
        return phx_fail(message, rc, "the workers' memory of a handle: %s", phx_error_text(rc));
    }
    *handle = h;
    return 0;
}

void phx_handle_free(struct phx_group *group, struct phx_handle *handle)
{
    struct phx_executor *e = group->target.executor;
    if (handle == NULL)
        return;
    if (e->twins != NULL)
        e->twins->handle_close(e, &group->rank, &handle->view);
    release(&group->options.allocator, handle->memory, handle->memory_bytes);
}

// --- while it lives -----------------------------------------------------------------------------

int phx__group_ready(const struct phx_group *group, struct phx_message *message)
{
    uint32_t lost = __atomic_load_n(&group->lost, __ATOMIC_ACQUIRE);
    if (lost != 0)
        return phx_fail(message, PHX_ERR_PEER_LOST,
                        "rank %u was lost, and this group has no fault tolerance", lost - 1);
    if (__atomic_load_n(&group->state->abort, __ATOMIC_ACQUIRE) != 0)
        return phx_fail(message, PHX_ERR_ABORTED, "the group was aborted");
    if (group->streaming == PHX_STREAMING_ON)
        return phx_fail(message, PHX_ERR_STATE,
                        "the group's operations are enqueued on streams: phx_cuda_end() first");
    if (!group->connected)
        return phx_fail(message, PHX_ERR_STATE,
                        "the group is not connected: call phx_group_connect() first");
    if (group->unanswered > 0)
        return phx_fail(message, PHX_ERR_STATE,
                        "%u peers have not answered yet: call phx_group_poll() until it returns 0",
                        group->unanswered);
    return 0;
}

// An operation that failed, or a peer that was lost, is evidence; the deadline is not waited for.
// Without fault tolerance it ends the group. A rank that can't reach itself goes on without its own
// tokens: it has no deadline for itself.
static void suspect(struct phx_group *group, uint32_t rank)
{
    struct phx_executor *e = group->target.executor;
    uint64_t none = PHX_CAUSE_NONE;
    if (group->options.fault_tolerance == PHX_FAULT_TOLERANCE_OFF) {
        uint32_t nobody = 0; // the first one stays; events of streams come on another thread
        (void)__atomic_compare_exchange_n(&group->lost, &nobody, rank + 1, 0, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE);
        phx_abort(group);
        return;
    }
    if (__atomic_compare_exchange_n(&group->rank.suspected[rank], &none, PHX_CAUSE_TRANSPORT, 0,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        e->ops->wake(e, PHX_WORKER_CONTROL, NULL);
}

static void take_event(struct phx_group *group, const struct phx_event *event)
{
    uint32_t r = event->peer.rank;
    if (r >= group->rank.shape.ranks ||
        (event->peer.epoch != group->peers[r].epoch && !PHX_BUG(STALE_EVENT_TAKEN)))
        return; // of an incarnation that is not in this group
    if (event->kind == PHX_EVENT_PEER && group->connected && !group->peer_answered[r]) {
        group->peer_answered[r] = 1;
        group->unanswered--;
    }
    if (event->kind == PHX_EVENT_PEER && event->peer_state == PHX_PEER_LOST)
        group->peer_lost[r] = 1;
    if (event->kind == PHX_EVENT_PEER ? event->peer_state == PHX_PEER_LOST : event->status < 0)
        suspect(group, r);
}

void phx__group_events(void *context)
{
    struct phx_group *group = context;
    struct phx_event events[32];
    uint32_t count;
    while ((count = phx_poll(group->target.transport, events, 32)) > 0)
        for (uint32_t i = 0; i < count; i++)
            take_event(group, &events[i]);
}

uint32_t phx_group_poll(struct phx_group *group)
{
    if (group->streaming == PHX_STREAMING_OFF) // else another thread takes them in
        phx__group_events(group);
    return group->unanswered;
}

uint64_t phx_group_pending(const struct phx_group *group)
{
    uint64_t pending = 0;
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++)
        if (__atomic_load_n(&group->rank.suspected[r], __ATOMIC_ACQUIRE) == PHX_CAUSE_NONE)
            pending += phx_pending(group->target.transport, group->peers[r]);
    return pending;
}

void phx_abort(struct phx_group *group)
{
    struct phx_executor *e = group->target.executor;
    __atomic_store_n(&group->state->abort, 1, __ATOMIC_RELEASE);
    e->ops->wake(e, PHX_WORKER_CONTROL, NULL);
}

void phx_group_suspicions(const struct phx_group *group, uint32_t *causes)
{
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++)
        causes[r] = (uint32_t)__atomic_load_n(&group->rank.suspected[r], __ATOMIC_ACQUIRE);
}

const char *phx_cause_text(uint32_t cause)
{
    static const char *const texts[] = {"none",
                                        "no signal within the deadline",
                                        "it gave up on this rank",
                                        "the transport lost it",
                                        "a message of it failed its check",
                                        "masked by the user",
                                        "it is outside the view"};
    return cause < sizeof texts / sizeof texts[0] ? texts[cause] : "unknown";
}

uint64_t phx_group_epoch(const struct phx_group *group)
{
    return group->epoch;
}
