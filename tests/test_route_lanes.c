// tests/test_route_lanes.c: building and checking route messages by the lanes of a GPU's block
// (route_cuda.h), held to the serial forms: the same bytes, and the same yes or no for what was
// built and for what was damaged.

#include <stdbool.h>
#include <stdlib.h>

#include "tests/lanes.h"

#include "kernels/route.h"
#include "sim/core.h"
#include "sim/fiber.h"
#include "tests/test.h"

__attribute__((aligned(128))) uint8_t phx_chip_memory[PHX_CHIP_BYTES];
struct lane_index lane_indices[PHX_LANES];
uint32_t lane_running;
uint32_t lane_values[PHX_LANES];
uint32_t warp_values[PHX_LANES];

// --- a block ------------------------------------------------------------------------------------

struct block {
    struct phx_fibers *fibers;
    void (*body)(void *argument);
    void *argument;
    uint64_t draws;
    uint32_t seed;
};
static struct block block;

static uint32_t draw(uint32_t below)
{
    return (uint32_t)phx_chance_below(below, block.seed, PHX_CHANCE_ROUTING, 1, block.draws++);
}

enum lane_at { AT_WARP, AT_BLOCK, AT_END }; // where a lane waits
#define WARPS (PHX_LANES / PHX_WARP)
static uint32_t lane_at[PHX_LANES]; // one for each; which runs and where it waits orders nothing
static char warp_order[WARPS];      // to ThreadSanitizer

static void runs(uint32_t lane)
{
    __atomic_store_n(&lane_running, lane, __ATOMIC_RELAXED);
}
static void waits(uint32_t lane, enum lane_at at)
{
    __atomic_store_n(&lane_at[lane], (uint32_t)at, __ATOMIC_RELAXED);
}
static enum lane_at where(uint32_t lane)
{
    return (enum lane_at)__atomic_load_n(&lane_at[lane], __ATOMIC_RELAXED);
}
static void meet(enum lane_at at, void *order)
{
    uint32_t lane = threadIdx.x;
    waits(lane, at);
    PHX_SIM_RELEASE(order);
    phx_fiber_yield(block.fibers);
    PHX_SIM_ACQUIRE(order);
    runs(lane);
}
void lanes_meet(void)
{
    meet(AT_BLOCK, &block);
}
void warp_meets(void)
{
    meet(AT_WARP, &warp_order[threadIdx.x / PHX_WARP]);
}

static void lane_main(void *argument)
{
    uint32_t lane = (uint32_t)(uintptr_t)argument;
    PHX_SIM_ACQUIRE(&block);
    runs(lane);
    block.body(block.argument);
    waits(lane, AT_END);
    PHX_SIM_RELEASE(&block);
}

// Every lane of a warp once, in a drawn order: from one on, up or down. Returns where all wait
// then.
static enum lane_at warp_step(struct phx_fiber **lanes, uint32_t warp)
{
    uint32_t first = draw(PHX_WARP);
    uint32_t step = draw(2) ? 1 : PHX_WARP - 1;
    for (uint32_t i = 0, at = first; i < PHX_WARP; i++, at = (at + step) % PHX_WARP)
        phx_fiber_resume(lanes[warp * PHX_WARP + at]);
    for (uint32_t i = 0; i < PHX_WARP; i++)
        CHECK_EQ(where(warp * PHX_WARP + i), where(warp * PHX_WARP));
    return where(warp * PHX_WARP);
}

// Until all meet, or have ended: warps in a drawn order, each as far as it is let.
static enum lane_at block_step(struct phx_fiber **lanes)
{
    enum lane_at at[WARPS] = {AT_WARP};
    uint32_t left = WARPS; // warps that do not wait for others yet
    while (left > 0) {
        uint32_t warp = draw(WARPS);
        if (at[warp] != AT_WARP)
            continue;
        do
            at[warp] = warp_step(lanes, warp);
        while (at[warp] == AT_WARP && draw(4) != 0);
        left -= at[warp] != AT_WARP;
    }
    for (uint32_t warp = 0; warp < WARPS; warp++)
        CHECK_EQ(at[warp], at[0]);
    return at[0];
}

static void block_run(void (*body)(void *), void *argument)
{
    struct phx_fiber *lanes[PHX_LANES];
    block.body = body;
    block.argument = argument;
    for (uint32_t i = 0; i < PHX_LANES; i++) {
        lane_indices[i].x = i;
        lanes[i] = phx_fiber_create(block.fibers, lane_main, (void *)(uintptr_t)i);
        CHECK(lanes[i] != NULL);
    }
    PHX_SIM_RELEASE(&block);
    while (block_step(lanes) != AT_END) {
        PHX_SIM_ACQUIRE(&block);
        PHX_SIM_RELEASE(&block);
    }
    PHX_SIM_ACQUIRE(&block);
    for (uint32_t i = 0; i < PHX_LANES; i++)
        phx_fiber_destroy(lanes[i]);
}

// --- a case -------------------------------------------------------------------------------------

#define GUARD 64u // bytes behind what a message may take

struct lanes_case {
    struct phx_rank rank;
    struct phx_worker worker;
    struct phx_dispatch_op op;
    uint32_t peer;
    uint32_t token;
    uint8_t *serial; // stages
    uint8_t *parallel;
    uint8_t *built; // by lanes
    uint8_t *wanted;
    uint8_t *kept; // a copy that is checked, and another
    uint8_t *copy;
    uint8_t *region;
    uint8_t *pieces; // the same as it goes between GPUs, if work is divided by token
    uint64_t bytes;  // of the message
    uint32_t *scratch;
    uint64_t row_count; // as in the signal
    int fetched;
    int holds;
};

static uint32_t one_of(const uint32_t *values, uint32_t count)
{
    return values[draw(count)];
}

static struct phx_shape shape_drawn(void)
{
    static const uint32_t ranks[] = {1, 2, 3, 5, 70};
    static const uint32_t tokens[] = {1, 2, 33, 129, 256, 257, 300};
    static const uint32_t experts[] = {1, 2, 31, 256, 257, 600};
    struct phx_shape s;
    memset(&s, 0, sizeof s);
    s.ranks = one_of(ranks, 5);
    s.tokens_max = one_of(tokens, 7);
    s.experts_local_max = one_of(experts, 6);
    s.experts = s.ranks * s.experts_local_max;
    s.top_k = 1 + draw(draw(2) ? PHX_TOP_K_MAX : 9);
    s.top_k = s.top_k < s.experts ? s.top_k : s.experts;
    s.workers = 1;
    s.in_flight = 1;
    s.division = draw(2) ? PHX_BY_TOKEN : PHX_BY_PEER;
    s.channels = s.hidden = 128;
    s.dtype = PHX_BF16;
    s.rows = PHX_ROWS_ONCE;
    s.layout = PHX_LAYOUT_SLOTS;
    s.check = PHX_CHECK_ROUTES;
    return s;
}

static void *taken(uint64_t bytes)
{
    void *memory = calloc(1, bytes + 1);
    CHECK(memory != NULL);
    return memory;
}

// Mostly experts from a few, some of none, some out of range, and so some twice.
static void routing_draw(const struct phx_shape *s, int64_t *idx, float *weights)
{
    uint32_t kind = draw(4);
    uint32_t spread = kind == 0 ? 1 + draw(s->experts) : s->experts;
    for (uint32_t i = 0; i < s->tokens_max * s->top_k; i++) {
        idx[i] = draw(spread);
        if (kind == 1 && draw(3) == 0)
            idx[i] = -1;
        if (kind == 2 && draw(9) == 0)
            idx[i] = (int64_t)s->experts + draw(9);
        weights[i] = (float)draw(1000);
    }
}

static struct lanes_case *case_drawn(void)
{
    struct lanes_case *c = taken(sizeof *c);
    struct phx_shape s = shape_drawn();
    uint64_t stride = phx_route_stride(&s);
    uint16_t *expert_rank = taken(s.experts * sizeof *expert_rank);
    uint16_t *expert_local = taken(s.experts * sizeof *expert_local);
    int64_t *idx = taken((uint64_t)s.tokens_max * s.top_k * sizeof *idx);
    float *weights = taken((uint64_t)s.tokens_max * s.top_k * sizeof *weights);
    for (uint32_t e = 0; e < s.experts; e++) {
        expert_rank[e] = (uint16_t)(e % s.ranks);
        expert_local[e] = (uint16_t)(e / s.ranks);
    }
    routing_draw(&s, idx, weights);
    c->rank.shape = s;
    c->rank.rank = draw(s.ranks);
    c->rank.experts_local = draw(3) ? s.experts_local_max : draw(s.experts_local_max + 1);
    c->rank.expert_rank = expert_rank;
    c->rank.expert_local = expert_local;
    c->worker.rank = &c->rank;
    c->worker.count = 1;
    c->worker.lanes = PHX_LANES;
    c->op.topk_idx = idx;
    c->op.topk_weights = draw(3) ? weights : NULL;
    c->op.token_count = draw(5) ? s.tokens_max : draw(s.tokens_max + 1);
    c->op.handle.sent_at = taken(s.ranks * sizeof(uint64_t));
    c->op.handle.sent_rows = taken(s.ranks * sizeof(uint32_t));
    c->serial = taken(4 * stride * s.ranks);
    c->parallel = taken(4 * stride * s.ranks);
    c->kept = taken(stride + GUARD);
    c->copy = taken(stride + GUARD);
    c->region = taken(stride);
    c->pieces = taken(phx_route_room_max(&s));
    c->scratch = taken((uint64_t)s.experts_local_max * s.ranks * sizeof(uint32_t));
    if (c->op.topk_weights == NULL)
        free(weights);
    return c;
}

static void case_free(struct lanes_case *c)
{
    free((void *)(uintptr_t)c->rank.expert_rank);
    free((void *)(uintptr_t)c->rank.expert_local);
    free((void *)(uintptr_t)c->op.topk_idx);
    free((void *)(uintptr_t)c->op.topk_weights);
    free(c->op.handle.sent_at);
    free(c->op.handle.sent_rows);
    free(c->serial);
    free(c->parallel);
    free(c->kept);
    free(c->copy);
    free(c->region);
    free(c->pieces);
    free(c->scratch);
    free(c);
}

#define SEQUENCE 77u

// --- building -----------------------------------------------------------------------------------

static void build_body(void *argument)
{
    struct lanes_case *c = argument;
    struct phx_worker w = c->worker;
    uint8_t *message = phx_route_message(&w, &c->op, c->peer);
    const struct phx_route_header *h = phx_route_header(message);
    uint64_t bytes = phx_route_bytes(&c->rank.shape, h->row_count, h->entry_count);
    if (phx_is_by_token(&c->rank.shape)) // as it leaves
        phx_pieces_put(&w, c->pieces, message, (uint32_t)bytes,
                       phx_piece_tag(c->rank.epoch, SEQUENCE));
    if (phx_lane(&w) == 0)
        c->built = message;
}

// A token's routing, too, has a form for lanes.
static void token_body(void *argument)
{
    struct lanes_case *c = argument;
    struct phx_worker w = c->worker;
    phx_token_load(&w, c->op.topk_idx, c->op.topk_weights, c->token);
}
static void check_token(struct lanes_case *c)
{
    const struct phx_shape *s = &c->rank.shape;
    const struct phx_token *t = &phx_chip()->token;
    c->token = draw(s->tokens_max);
    memset(phx_chip_memory, 0xA5, sizeof phx_chip_memory);
    block_run(token_body, c);
    for (uint32_t k = 0; k < s->top_k; k++) {
        int64_t expert = phx_topk_expert(s, c->op.topk_idx, c->token, k);
        CHECK_EQ(t->peer[k], expert < 0 ? PHX_NO_PEER : c->rank.expert_rank[expert]);
        CHECK_EQ(t->flag[k], 1);
        if (c->op.topk_weights != NULL)
            CHECK(t->weight[k] == c->op.topk_weights[(uint64_t)c->token * s->top_k + k]);
    }
}

static void build_both(struct lanes_case *c)
{
    c->rank.stage = c->serial;
    phx_routes_build_serially(&c->worker, &c->op);
    c->wanted = phx_route_staged(&c->worker, &c->op, c->peer);
    uint32_t rows = c->op.handle.sent_rows[c->peer];
    memset(phx_chip_memory, 0xA5, sizeof phx_chip_memory); // a block finds anything there
    c->rank.stage = c->parallel;
    block_run(build_body, c);
    const struct phx_route_header *h = phx_route_header(c->wanted);
    uint64_t bytes = phx_route_bytes(&c->rank.shape, h->row_count, h->entry_count);
    CHECK_MEM_EQ(c->built, c->wanted, bytes);
    CHECK_EQ(c->op.handle.sent_rows[c->peer], rows);
    const struct phx_piece *piece = (const struct phx_piece *)(const void *)c->pieces;
    const uint32_t *words = (const uint32_t *)(const void *)c->wanted;
    for (uint32_t i = 0; phx_is_by_token(&c->rank.shape) && i < bytes / 4; i++)
        CHECK_EQ(piece[i / PHX_PIECE_WORDS].word[i % PHX_PIECE_WORDS], words[i]);
}

// --- checking -----------------------------------------------------------------------------------

static void put_body(void *argument)
{
    struct lanes_case *c = argument;
    phx_pieces_put(&c->worker, c->pieces, c->region, (uint32_t)c->bytes,
                   phx_piece_tag(c->rank.epoch, SEQUENCE));
}

static void check_body(void *argument)
{
    struct lanes_case *c = argument;
    struct phx_worker w = c->worker;
    const uint8_t *from = phx_is_by_token(&c->rank.shape) ? c->pieces : c->region;
    phx_route_desk(&w, c->kept);
    int bytes = phx_route_fetch(&w, c->kept, c->copy, from, c->row_count, SEQUENCE);
    int holds = bytes > 0 ? phx_route_check(&w, c->kept, c->scratch) : 0;
    if (phx_lane(&w) == 0) {
        c->fetched = bytes;
        c->holds = holds;
    }
}

// What phx_route_fetch() has to say: -1 only if the message tells that it is longer than what came
// of it, and no longer than it may be.
static int fetched_of(const struct lanes_case *c, bool header)
{
    const struct phx_shape *s = &c->rank.shape;
    const struct phx_route_header *h = phx_route_header(c->region);
    uint32_t rows = (uint32_t)c->row_count;
    uint64_t most = phx_pieces_bytes(phx_route_bytes(s, rows, rows * phx_route_row_entries_max(s)));
    uint64_t told = phx_pieces_bytes(phx_route_bytes(s, h->row_count, h->entry_count));
    told = told < most ? told : most;
    if (phx_is_by_token(s) && told > phx_pieces_bytes(c->bytes))
        return -1;
    return header ? (int)phx_route_bytes(s, h->row_count, h->entry_count) : 0;
}

static uint32_t written_behind(const uint8_t *memory, uint64_t from, uint64_t to)
{
    uint32_t written = 0;
    for (uint64_t i = from; i < to; i++)
        written += memory[i] != 0xEE;
    return written;
}

// Both forms on what lies in the region. Returns their answer.
static bool check_both(struct lanes_case *c)
{
    const struct phx_shape *s = &c->rank.shape;
    const struct phx_route_header *h = phx_route_header(c->region);
    bool header = phx_route_header_ok(s, h, c->row_count);
    bool serial = header && phx_route_ok(s, c->rank.experts_local, c->region, c->scratch, s->ranks);
    memset(phx_chip_memory, 0xA5, sizeof phx_chip_memory);
    memset(c->kept, 0xEE, phx_route_stride(s) + GUARD);
    memset(c->copy, 0xEE, phx_route_stride(s) + GUARD);
    memset(c->pieces, 0x5A, phx_route_room_max(s));
    if (phx_is_by_token(s))
        block_run(put_body, c);
    block_run(check_body, c);
    CHECK_EQ(c->fetched, fetched_of(c, header));
    if (c->fetched > 0)
        CHECK_MEM_EQ(c->copy, c->region, (uint32_t)c->fetched);
    CHECK_EQ(c->holds, serial && c->fetched > 0);
    uint64_t most = phx_route_bytes(s, (uint32_t)c->row_count,
                                    (uint32_t)c->row_count * phx_route_row_entries_max(s));
    CHECK_EQ(written_behind(c->kept, most, phx_route_stride(s) + GUARD), 0);
    CHECK_EQ(written_behind(c->copy, most, phx_route_stride(s) + GUARD), 0);
    return serial;
}

// A piece of another operation, or of none, in place of one of this: the message is not there.
static void check_missing(struct lanes_case *c)
{
    if (!phx_is_by_token(&c->rank.shape))
        return;
    uint32_t piece = draw((uint32_t)(phx_pieces_bytes(c->bytes) / 16));
    struct phx_piece *missing = (struct phx_piece *)(void *)c->pieces + piece;
    uint32_t tag = missing->tag;
    missing->tag = draw(2) ? phx_piece_tag(c->rank.epoch + draw(2), SEQUENCE - 1 - draw(3)) : 0;
    block_run(check_body, c);
    CHECK_EQ(c->fetched, -1);
    missing->tag = tag;
    block_run(check_body, c);
    CHECK_EQ(c->fetched, (int)c->bytes);
}

// An entry takes the expert and the place of the one before it, and the counts agree.
static void entry_twice(const struct phx_shape *s, uint8_t *message, uint32_t row_count,
                        uint32_t entry_count)
{
    struct phx_route_entry *entry = phx_route_entries(s, message, row_count);
    uint32_t *counts = phx_route_counts(message);
    if (entry_count < 2)
        return;
    entry += entry_count - 1 - draw(entry_count > 8 ? 8 : entry_count - 1);
    counts[entry->expert % s->experts_local_max]--;
    counts[entry[-1].expert % s->experts_local_max]++;
    entry->expert = entry[-1].expert;
    entry->index = entry[-1].index;
}

// The first entry of a row names the row before, of which it would be the next.
static void entry_of_row_before(const struct phx_shape *s, uint8_t *message, uint32_t row_count)
{
    if (row_count < 2)
        return;
    uint32_t row = 1 + draw(row_count - 1);
    uint32_t at = phx_route_rows(s, message)[row].entry_begin;
    struct phx_route_entry *entry = phx_route_entries(s, message, row_count) + at;
    entry->row = (uint16_t)(row - 1);
    if (entry[-1].k + 1u < s->top_k)
        entry->k = (uint16_t)(entry[-1].k + 1);
}

// An entry stands for the k of the one before it.
static void k_again(const struct phx_shape *s, uint8_t *message, uint32_t row_count,
                    uint32_t entry_count)
{
    struct phx_route_entry *entry = phx_route_entries(s, message, row_count);
    if (entry_count < 2)
        return;
    entry += 1 + draw(entry_count - 1);
    entry->k = entry[-1].k;
}

// One number of a message changes.
static void damage(const struct phx_shape *s, uint8_t *message, uint32_t row_count,
                   uint32_t entry_count)
{
    static const uint32_t odd[] = {0, 1, 255, 256, 257, 65535, 0x80000000u, 0xFFFFFF00u, ~0u};
    struct phx_route_row *row = phx_route_rows(s, message) + draw(row_count);
    struct phx_route_entry *entry = phx_route_entries(s, message, row_count) + draw(entry_count);
    uint32_t value = draw(3) ? one_of(odd, 9) : draw(300);
    switch (draw(8)) {
    case 0:
        row->entry_begin = value;
        break;
    case 1:
        row->entry_begin += draw(3) - 1;
        break;
    case 2:
        row->token = value;
        break;
    case 3:
        entry->index = (uint16_t)(entry->index + draw(3) - 1);
        break;
    case 4:
        entry->row = (uint16_t)(draw(2) ? value : entry->row + draw(3) - 1);
        break;
    case 5:
        entry->expert = (uint16_t)value;
        break;
    case 6:
        entry->k = (uint16_t)draw(40);
        break;
    default:
        phx_route_counts(message)[draw(s->experts_local_max)] += draw(3) - 1;
        break;
    }
}

static void region_damage(struct lanes_case *c)
{
    const struct phx_shape *s = &c->rank.shape;
    struct phx_route_header *h = phx_route_header(c->region);
    uint32_t kind = draw(6);
    if (kind == 0)
        entry_twice(s, c->region, h->row_count, h->entry_count);
    else if (kind == 1)
        entry_of_row_before(s, c->region, h->row_count);
    else if (kind == 2)
        k_again(s, c->region, h->row_count, h->entry_count);
    else
        for (uint32_t i = draw(3); h->row_count > 0 && i < 3; i++)
            damage(s, c->region, h->row_count, h->entry_count);
    uint64_t bytes = phx_route_bytes(s, h->row_count, h->entry_count);
    if (draw(6) == 0)
        c->region[draw((uint32_t)bytes)] ^=
            (uint8_t)(1u << draw(8)); // and its check is not renewed
    else
        h->check = phx_route_check_sum(c->region, bytes);
}

#if defined(PHX_TSAN) && PHX_TSAN
#define CASES 12u // each takes a second
#else
#define CASES 150u
#endif

// --- tests --------------------------------------------------------------------------------------

struct answers {
    uint32_t yes;
    uint32_t no;
};

static void case_run(struct answers *answers)
{
    struct lanes_case *c = case_drawn();
    const struct phx_shape *s = &c->rank.shape;
    uint64_t stride = phx_route_stride(s);
    check_token(c);
    c->peer = draw(s->ranks);
    build_both(c);
    const struct phx_route_header *h = phx_route_header(c->wanted);
    for (uint32_t i = 0; i < 4; i++) {
        c->row_count = h->row_count;
        c->bytes = phx_route_bytes(s, h->row_count, h->entry_count);
        memset(c->region, 0x5A, stride);
        memcpy(c->region, c->wanted, c->bytes);
        if (i > 0)
            region_damage(c);
        bool holds = check_both(c);
        if (i == 0)
            check_missing(c);
        answers->yes += holds;
        answers->no += !holds;
    }
    case_free(c);
}

TEST(route_lanes_give_what_one_thread_gives)
{
    struct phx_message message = {""};
    struct answers answers = {0, 0};
    enum phx_fiber_mode mode = PHX_PTHREADS;
    if (phx_fibers_create(PHX_FIBERS, &block.fibers, &message) == 0)
        mode = PHX_FIBERS;
    else
        CHECK_EQ(phx_fibers_create(mode, &block.fibers, &message), 0);
    for (block.seed = 1; block.seed <= (mode == PHX_FIBERS ? CASES : 4u); block.seed++)
        case_run(&answers);
    CHECK(answers.yes > 0);
    CHECK(answers.no > answers.yes);
    phx_fibers_destroy(block.fibers);
}
