// tests/fuzz/fuzz_route.c: phx_route_take() over any bytes that a peer could have left in its
// region, of any shape, also when the peer writes on while it is read.
//
// The message is raw, or built as a sender builds it and then damaged, with or without a check sum
// that fits. What is accepted must be what a second, plain reading accepts, no more and no less.
// Region and handle have exactly their sizes, so that the sanitizer sees the byte behind.

#include "kernels/route.h"
#include "tests/fake_target.h"
#include "tests/fuzz/fuzz.h"

#define RANKS 3u

struct route_case {
    struct phx_executor executor; // first: handed to the kernel
    struct phx_executor_ops ops;
    struct phx_shape shape;
    uint32_t local; // experts of this rank
    uint64_t sequence;
    uint64_t row_count;
    uint8_t *message; // in the source's region
    uint32_t touches;
    int is_written_on; // the source writes at the second look
    uint32_t late_at;
    uint8_t late_value;
};

static void on_touch(struct phx_executor *e, uint32_t worker, const void *base, uint64_t size_bytes,
                     int is_write)
{
    struct route_case *c = (struct route_case *)(void *)e;
    (void)worker;
    FUZZ_CHECK(is_write == 0, "the region is the peer's");
    FUZZ_CHECK(base == c->message && size_bytes <= phx_route_stride(&c->shape),
               "%llu bytes are read of a message of at most %llu", (unsigned long long)size_bytes,
               (unsigned long long)phx_route_stride(&c->shape));
    if (++c->touches == 2 && c->is_written_on)
        c->message[c->late_at % phx_route_stride(&c->shape)] ^= c->late_value;
}

static void shape_draw(struct fuzz_input *in, struct route_case *c)
{
    struct phx_shape *s = &c->shape;
    s->ranks = RANKS;
    s->experts_local_max = 1 + fuzz_below(in, 9);
    s->experts = s->experts_local_max * RANKS;
    c->local = 1 + fuzz_below(in, s->experts_local_max);
    s->top_k = 1 + fuzz_below(in, s->experts < PHX_TOP_K_MAX ? s->experts : PHX_TOP_K_MAX);
    s->tokens_max = 1 + fuzz_below(in, 24);
    s->hidden = s->channels = 128;
    s->in_flight = 1 + fuzz_below(in, 2);
    s->workers = 1;
    s->dtype = PHX_BF16;
    s->rows = PHX_ROWS_ONCE;
    s->layout = PHX_LAYOUT_SLOTS;
    c->sequence = 1 + fuzz_u8(in);
}

// As phx_routes_build() does: tokens in order, and a token's experts in order of k.
static void build(struct fuzz_input *in, struct route_case *c)
{
    const struct phx_shape *s = &c->shape;
    phx_route_begin(s, c->message, s->tokens_max);
    for (uint32_t t = 0; t < s->tokens_max; t++) {
        uint32_t used = 0;
        for (uint32_t k = 0; k < s->top_k && k < 4; k++) {
            uint32_t draw = fuzz_u8(in);
            uint32_t expert = draw % c->local;
            if (draw >= 128 || (used >> expert & 1) != 0)
                continue;
            used |= 1u << expert;
            phx_route_append(s, c->message, t, expert, k, 0.25f);
        }
    }
    phx_route_finish(s, c->message);
}

static void damage(struct fuzz_input *in, struct route_case *c)
{
    for (uint32_t count = fuzz_below(in, 6); count > 0; count--) {
        uint32_t at = fuzz_u16(in) % (uint32_t)phx_route_stride(&c->shape);
        c->message[at] = (uint8_t)(c->message[at] ^ fuzz_u8(in));
    }
}

static void seal(struct route_case *c) // a forger knows the check sum
{
    struct phx_route_header *h = phx_route_header(c->message);
    if (h->row_count > c->shape.tokens_max ||
        phx_route_bytes(&c->shape, h->row_count, h->entry_count) > phx_route_stride(&c->shape))
        return;
    h->head_check = phx_route_head_check(&c->shape, h->row_count, h->entry_count);
    h->check =
        phx_route_check_sum(c->message, phx_route_bytes(&c->shape, h->row_count, h->entry_count));
}

static uint32_t u32_at(const uint8_t *bytes, uint64_t at)
{
    uint32_t value;
    memcpy(&value, bytes + at, sizeof value);
    return value;
}
static uint32_t u16_at(const uint8_t *bytes, uint64_t at)
{
    uint16_t value;
    memcpy(&value, bytes + at, sizeof value);
    return value;
}

// Entries [begin, end) of one row: they name it, k ascends, no expert comes twice, places are the
// next of their expert.
static int plain_entries_ok(const struct route_case *c, const uint8_t *m, uint64_t row,
                            uint64_t begin, uint64_t end, uint64_t entries_at, uint32_t *next)
{
    int64_t k_before = -1;
    uint32_t seen = 0; // experts
    for (uint64_t i = begin; i < end; i++) {
        uint64_t at = entries_at + 12 * i;
        uint32_t expert = u16_at(m, at + 8);
        uint32_t k = u16_at(m, at + 10);
        if (expert >= c->local || k >= c->shape.top_k || k <= k_before)
            return 0;
        if (u16_at(m, at) != next[expert]++ || u16_at(m, at + 2) != row ||
            (seen >> expert & 1) != 0)
            return 0;
        seen |= 1u << expert;
        k_before = k;
    }
    return 1;
}

static uint32_t plain_mix(uint32_t word, uint32_t place)
{
    uint32_t h = word ^ place * 0x9E3779B1u;
    h = (h ^ h >> 16) * 0x85EBCA6Bu;
    h = (h ^ h >> 13) * 0xC2B2AE35u;
    return h ^ h >> 16;
}
static uint32_t plain_head_check(const struct phx_shape *s, const uint8_t *m)
{
    return plain_mix(u32_at(m, 0), 1) + plain_mix(u32_at(m, 4), 2) +
           plain_mix(s->experts_local_max, 3);
}

// The format of layout.h, read plainly out of `m`, which holds stride bytes.
static int plain_ok(const struct route_case *c, const uint8_t *m)
{
    const struct phx_shape *s = &c->shape;
    uint32_t next[16] = {0};
    uint64_t rows = u32_at(m, 0);
    uint64_t entries = u32_at(m, 4);
    uint64_t rows_at = (16 + 4 * (uint64_t)s->experts_local_max + 15) / 16 * 16;
    int64_t token_before = -1;
    if (rows != c->row_count || rows > s->tokens_max || u32_at(m, 8) != plain_head_check(s, m))
        return 0;
    uint64_t most = s->top_k < s->experts_local_max ? s->top_k : s->experts_local_max;
    if (entries < rows || entries > rows * most)
        return 0;
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t at = rows_at + 8 * r;
        uint64_t begin = u32_at(m, at + 4);
        uint64_t end = r + 1 < rows ? u32_at(m, at + 12) : entries;
        if (u32_at(m, at) >= s->tokens_max || (int64_t)u32_at(m, at) <= token_before)
            return 0;
        if ((r == 0 && begin != 0) || begin >= end || end > entries || end - begin > most)
            return 0;
        token_before = u32_at(m, at);
        if (!plain_entries_ok(c, m, r, begin, end, rows_at + 8 * rows, next))
            return 0;
    }
    for (uint32_t e = 0; e < s->experts_local_max; e++)
        if (u32_at(m, 16 + 4 * (uint64_t)e) != (e < c->local ? next[e] : 0) ||
            next[e] > s->tokens_max)
            return 0;
    return u32_at(m, 12) == phx_route_check_sum(m, rows_at + 8 * rows + 12 * entries);
}

static void take(struct route_case *c, struct fake_target *fake)
{
    const struct phx_shape *s = &c->shape;
    const uint32_t source = 1;
    uint64_t stride = phx_route_stride(s);
    struct phx_environment environment;
    struct phx_rank rank;
    struct phx_worker w;
    struct phx_dispatch_op op;
    uint8_t *from[RANKS] = {NULL};
    uint8_t *heads[PHX_MEM_HEADS_MAX * RANKS];
    memset(&environment, 0, sizeof environment);
    memset(&rank, 0, sizeof rank);
    memset(&w, 0, sizeof w);
    memset(&op, 0, sizeof op);
    c->ops = *fake_target_of(fake).executor->ops;
    c->ops.touch = on_touch;
    c->executor.ops = &c->ops;
    environment.executor = &c->executor;
    environment.leaves = phx_leaves_get();
    // Only the message of the region exists; the address of the rest is never used.
    uint64_t offset = phx_route_offset(s, c->sequence, c->row_count);
    from[source] = (uint8_t *)((uintptr_t)c->message - offset);
    rank.shape = *s;
    rank.experts_local = c->local;
    rank.from = from;
    for (uint32_t i = 0; i < PHX_MEM_HEADS_MAX * RANKS; i++)
        heads[i] = from[i % RANKS];
    rank.heads = heads;
    rank.environment = &environment;
    w.rank = &rank;
    w.count = 1;
    op.common.sequence = c->sequence;
    op.handle.routes = fuzz_alloc(RANKS * stride);
    op.handle.begin = fuzz_alloc(sizeof(uint32_t) * s->experts_local_max * RANKS);
    int expected = plain_ok(c, c->message);
    uint8_t *desk = phx_route_desk(&w, op.handle.routes + source * stride);
    int ok = phx_route_take(&w, &op, source, c->row_count, source * stride, desk) != 0;
    if (!c->is_written_on)
        FUZZ_CHECK(ok == expected, "accepted: %d; read plainly: %d", ok, expected);
    FUZZ_CHECK(!ok || plain_ok(c, op.handle.routes + source * stride),
               "the copy that was accepted is not one");
    for (uint64_t i = 0; i < stride; i++)
        FUZZ_CHECK(op.handle.routes[i] == 0 && op.handle.routes[2 * stride + i] == 0,
                   "another source's message was written");
    for (uint32_t e = 0; e < s->experts_local_max * RANKS; e++)
        FUZZ_CHECK(e % RANKS == source || op.handle.begin[e] == 0,
                   "another source's scratch was written");
    free(op.handle.routes);
    free(op.handle.begin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = fuzz_input_make(data, size);
    struct route_case c;
    memset(&c, 0, sizeof c);
    shape_draw(&in, &c);
    c.message = fuzz_alloc(phx_route_stride(&c.shape));
    uint32_t how = fuzz_u8(&in);
    c.is_written_on = (how & 8) != 0;
    c.late_at = c.is_written_on ? fuzz_u16(&in) : 0;
    c.late_value = c.is_written_on ? fuzz_u8(&in) : 0;
    c.row_count = (how & 4) != 0 ? fuzz_u32(&in) & 0xFFFFFF : 0;
    if ((how & 1) != 0) {
        build(&in, &c);
        damage(&in, &c);
    } else {
        fuzz_bytes(&in, c.message, phx_route_stride(&c.shape));
    }
    if ((how & 2) != 0)
        seal(&c);
    if ((how & 4) == 0)
        c.row_count = phx_route_header(c.message)->row_count;
    struct fake_target *fake = fake_target_open(0);
    take(&c, fake);
    fake_target_close(fake);
    free(c.message);
    return 0;
}
