// tests/fuzz/fuzz_wire.c: one of four ranks writes what it likes into its regions at the others:
// words, route messages, rows and raw bytes, at any time, while the others dispatch and combine.
//
// The others must come through: every call returns 0 with a legal outcome, none of them masks
// another, what they exchange among themselves is right to the bit, and nothing is written past an
// output's end. One that says WAITING as it likes, to some and at other times to others, holds them
// up by up to 2D each, and they may lose patience with one another; then what they do exchange must
// be right. The memory checker is off: it would report the forger, not us.

#include "kernels/wait.h"
#include "kernels/route.h"
#include "sim/fabric.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim_group.h"

#define FORGER 3u
#define ROWS_AN_EXPERT (SG_RANKS * SG_TOKENS)
#define LOCAL (SG_EXPERTS / SG_RANKS)
#define SCRATCH 4096u // of one command: a put is read from there long after it was posted
#define COMMANDS 48u

struct wire_case {
    struct sg_run run; // first: sg_pair() and others take it
    struct fuzz_input in;
    struct phx_mem scratch;
    uint8_t *base;     // [COMMANDS][SCRATCH] the forger's
    uint8_t *bytes;    // of this command
    uint32_t finished; // of the others
    int says_waiting;  // the forger stored WAITING or HELD somewhere, or anything as its status
};

// --- the forger ---------------------------------------------------------------------------------

static void put(struct wire_case *c, struct phx_sim_rank *rank, uint32_t victim, uint64_t offset,
                uint32_t size, uint64_t word_at, uint64_t word)
{
    struct phx_group *g = c->run.ranks[FORGER].group;
    struct phx_op op;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.flags = PHX_OP_SILENT;
    op.lane = (uint16_t)fuzz_below(&c->in, phx_transport_info(phx_sim_transport(rank))->lane_count);
    op.peer = g->peers[victim];
    op.size_bytes = op.wire_bytes = size;
    op.source.mem = c->scratch;
    op.source.offset_bytes = (uint64_t)(c->bytes - c->base);
    op.target.mem = g->targets[victim];
    op.target.offset_bytes = offset;
    op.token = phx_token_tag(PHX_DISPATCH, 1);
    uint64_t status_at = phx_status_word_offset(&g->rank.shape);
    c->says_waiting |= offset < status_at + 8 && offset + size > status_at;
    c->says_waiting |= word_at != UINT64_MAX && word_at + 8 > status_at && word_at < status_at + 8;
    if (word_at != UINT64_MAX) {
        op.flags |= PHX_OP_SIGNAL;
        op.signal_offset = (uint32_t)word_at;
        op.signal_value = word;
    }
    (void)phx_post(phx_sim_transport(rank), &op, 1);
}

static uint32_t build_route(struct wire_case *c, const struct phx_shape *s)
{
    uint8_t *m = c->bytes;
    uint8_t how = fuzz_u8(&c->in);
    memset(m, 0, phx_route_stride(s));
    phx_route_begin(s, m, s->tokens_max);
    for (uint32_t t = 0; t < s->tokens_max; t++)
        for (uint32_t k = 0; k < s->top_k; k++)
            if ((how >> (t + k) % 8 & 1) != 0)
                phx_route_append(s, m, t, k % LOCAL, k, 0.5f);
    phx_route_finish(s, m);
    struct phx_route_header *h = phx_route_header(m);
    uint32_t rows = h->row_count;
    uint64_t bytes = phx_route_bytes(s, h->row_count, h->entry_count);
    for (uint32_t flips = fuzz_below(&c->in, 4); flips > 0; flips--) {
        uint32_t at = fuzz_u16(&c->in) % (uint32_t)bytes;
        m[at] = (uint8_t)(m[at] ^ fuzz_u8(&c->in));
    }
    if (how >= 128 && h->row_count <= s->tokens_max &&
        phx_route_bytes(s, h->row_count, h->entry_count) <= SCRATCH)
        h->check = phx_route_check_sum(m, phx_route_bytes(s, h->row_count, h->entry_count));
    return rows;
}

static uint32_t value_draw(struct wire_case *c, uint32_t likely)
{
    uint8_t how = fuzz_u8(&c->in);
    if (how < 128)
        return likely;
    if (how < 160)
        return PHX_WORD_VALUE_MASKED;
    if (how < 192)
        return PHX_WORD_VALUE_WAITING + how % (SG_RANKS + 1);
    return how < 224 ? how % 16u : fuzz_u32(&c->in) & 0xFFFFFF;
}

static void forge(struct wire_case *c, struct phx_sim_rank *rank)
{
    const struct phx_shape *s = &c->run.ranks[FORGER].group->rank.shape;
    uint8_t how = fuzz_u8(&c->in);
    uint32_t victim = how % FORGER;
    uint64_t number = 1 + fuzz_below(&c->in, 8); // near the operations that run
    uint64_t epoch = how >= 248 ? fuzz_u16(&c->in) : 1;
    uint32_t size = 0;
    switch (how / 4 % 8) {
    case 0:
        phx_sim_sleep_ns(rank, 1000 * (uint64_t)fuzz_u8(&c->in));
        break;
    case 1: // a route message and its word
    case 2: {
        uint32_t rows = build_route(c, s);
        uint64_t room = phx_route_is_near(s, rows) ? phx_near_route_bytes(s) : phx_route_stride(s);
        put(c, rank, victim, phx_route_offset(s, number, rows), (uint32_t)room,
            phx_counts_word_offset(s, number), phx_word_make(epoch, number, value_draw(c, rows)));
        break;
    }
    case 3: // rows and their word
        memset(c->bytes, fuzz_u8(&c->in), SCRATCH);
        put(c, rank, victim, phx_dispatch_row_offset(s, number, 0),
            (uint32_t)(s->tokens_max * phx_dispatch_row_stride(s)),
            phx_rows_word_offset(s, number, 0),
            phx_word_make(epoch, number, value_draw(c, SG_TOKENS)));
        break;
    case 4: // an answer
        memset(c->bytes, fuzz_u8(&c->in), SCRATCH);
        put(c, rank, victim, phx_combine_row_offset(s, number, 0),
            (uint32_t)(s->tokens_max * phx_combine_row_bytes(s->channels)),
            phx_combine_word_offset(s, number, 0),
            phx_word_make(epoch, number, value_draw(c, fuzz_below(&c->in, SG_TOKENS))));
        break;
    case 5: // "I am waiting"
        put(c, rank, victim, 0, 0, phx_status_word_offset(s),
            phx_word_make(epoch, number, value_draw(c, PHX_WORD_VALUE_WAITING + how % 3)));
        break;
    case 6: // a bare word anywhere among the words
        put(c, rank, victim, 0, 0, 8 * (fuzz_u8(&c->in) % (phx_heads_bytes(s) / 8)),
            how < 128 ? phx_word_make(epoch, number, value_draw(c, 0)) : fuzz_u64(&c->in));
        break;
    default: // any bytes anywhere, past the end too
        size = 1 + fuzz_below(&c->in, 64);
        fuzz_bytes(&c->in, c->bytes, size);
        put(c, rank, victim, fuzz_u32(&c->in) % (phx_region_bytes(s) + 64), size, UINT64_MAX, 0);
        break;
    }
}

static void forger_main(struct wire_case *c, struct phx_sim_rank *rank)
{
    struct sg_rank *self = &c->run.ranks[FORGER];
    uint32_t honest = fuzz_below(&c->in, 3);
    c->base = phx_sim_alloc(rank, COMMANDS * SCRATCH);
    FUZZ_CHECK(phx_mem_register(phx_sim_transport(rank), c->base, COMMANDS * SCRATCH,
                                PHX_WRITER_NONE, &c->scratch, NULL) == 0,
               "scratch");
    for (uint32_t pair = 0; pair < honest; pair++)
        (void)sg_pair(&c->run, rank, pair);
    for (uint32_t i = 0; i < COMMANDS && fuzz_left(&c->in) > 0; i++) {
        c->bytes = c->base + i * SCRATCH;
        forge(c, rank);
        phx_sim_sleep_ns(rank, 500);
    }
    phx_sim_sleep_ns(rank, 100000); // what was put is still read from here
    phx_sim_close(rank, self->group);
}

// --- the others ---------------------------------------------------------------------------------

static void check_sets(const struct wire_case *c, uint32_t me, const struct phx_outcome *o,
                       const char *what)
{
    int is_dispatch = o->kind == PHX_DISPATCH;
    for (uint32_t r = 0; r < FORGER && !c->says_waiting; r++) {
        FUZZ_CHECK(!phx_rank_set_has(&o->masked, r), "rank %u masked rank %u in %s", me, r, what);
        FUZZ_CHECK(!is_dispatch ||
                       (phx_rank_set_has(&o->counted, r) && phx_rank_set_has(&o->present, r)),
                   "rank %u misses rank %u in %s", me, r, what);
        FUZZ_CHECK(is_dispatch || phx_rank_set_has(&o->answered, r),
                   "rank %u has no answer of rank %u", me, r);
    }
    FUZZ_CHECK(!phx_rank_set_has(&o->present, FORGER) || phx_rank_set_has(&o->counted, FORGER),
               "rows came without counts");
    FUZZ_CHECK(o->masked_count <= 1 || c->says_waiting, "%u are masked", o->masked_count);
}

static void check_layout(const struct sg_rank *self, uint32_t me, uint32_t pair)
{
    const struct phx_outcome *o = &self->dispatched[pair];
    uint32_t total = 0;
    for (uint32_t e = 0; e < LOCAL; e++) {
        uint32_t count = 0;
        FUZZ_CHECK(self->count[e] >= 0 && self->count[e] <= (int32_t)ROWS_AN_EXPERT,
                   "expert %u has %d rows", e, self->count[e]);
        for (uint32_t r = 0; r < SG_RANKS; r++) {
            uint64_t range = (uint64_t)self->range[e * SG_RANKS + r];
            FUZZ_CHECK((uint32_t)range <= SG_TOKENS, "rank %u sent %u rows", r, (uint32_t)range);
            FUZZ_CHECK((uint32_t)range == 0 || range >> 32 == count, "a gap before rank %u", r);
            for (uint32_t i = 0; i < (uint32_t)range; i++) {
                uint64_t row = (uint64_t)e * ROWS_AN_EXPERT + (range >> 32) + i;
                FUZZ_CHECK(self->src_info[row] >= 0 && self->src_info[row] < SG_TOKENS,
                           "a token numbered %d", self->src_info[row]);
                int is_right = r != FORGER && phx_rank_set_has(&o->present, r);
                for (uint32_t x = 0; is_right && x < SG_HIDDEN; x++)
                    FUZZ_CHECK(self->y[row * SG_HIDDEN + x] == sg_value(r, pair),
                               "rank %u, pair %u: a row of rank %u is wrong", me, pair, r);
            }
            count += (uint32_t)range;
        }
        FUZZ_CHECK(count == (uint32_t)self->count[e], "%u rows, not %d", count, self->count[e]);
        total += count;
    }
    FUZZ_CHECK(total == o->rows_received, "%u rows, %u counted", total, o->rows_received);
}

// Tokens that have no expert at the forger.
static void check_sums(const struct wire_case *c, const struct sg_rank *self, uint32_t me,
                       uint32_t pair)
{
    for (uint32_t t = 0; t < SG_TOKENS; t++) {
        uint32_t with = 0;
        for (uint32_t k = 0; k < SG_TOP_K; k++)
            with += self->topk_idx[t * SG_TOP_K + k] / LOCAL == FORGER;
        float loss = self->loss[pair][t];
        if (c->says_waiting)
            with = SG_TOP_K;
        FUZZ_CHECK(loss >= 0 && loss <= 0.5f * (float)with, "token %u lost %f", t, (double)loss);
        for (uint32_t x = 0; loss == 0 && with == 0 && x < SG_HIDDEN; x++)
            FUZZ_CHECK(self->out[t * SG_HIDDEN + x] == sg_value(me, pair),
                       "rank %u, pair %u: token %u is wrong", me, pair, t);
    }
}

static void rank_main(struct phx_sim_rank *rank, void *argument)
{
    struct wire_case *c = argument;
    uint32_t me = phx_sim_rank_number(rank);
    struct sg_rank *self = &c->run.ranks[me];
    self->rc = sg_open(&c->run, rank);
    FUZZ_CHECK(self->rc == 0, "%s", self->message.text);
    if (me == FORGER) {
        forger_main(c, rank);
        return;
    }
    for (uint32_t pair = 0; pair < c->run.pairs; pair++) {
        self->rc = sg_dispatch(self, pair);
        FUZZ_CHECK(self->rc == 0, "rank %u: %s", me, self->message.text);
        check_sets(c, me, &self->dispatched[pair], "dispatch");
        check_layout(self, me, pair);
        self->rc = sg_combine(self, pair);
        FUZZ_CHECK(self->rc == 0, "rank %u: %s", me, self->message.text);
        check_sets(c, me, &self->combined[pair], "combine");
        check_sums(c, self, me, pair);
    }
    c->finished++;
    while (c->finished < FORGER) // who leaves is lost to those that still wait for the forger
        phx_sim_sleep_ns(rank, 1000);
    phx_sim_close(rank, self->group);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_case *c = fuzz_alloc(sizeof *c);
    struct phx_world_options o;
    struct phx_world *world;
    struct phx_message message;
    c->in = fuzz_input_make(data, size);
    memset(&o, 0, sizeof o);
    uint8_t how = fuzz_u8(&c->in);
    struct sg_run *usual = sg_new();
    c->run = *usual;
    sg_free(usual);
    c->run.pairs = 4;
    c->run.timeout_us = 200;
    c->run.workers = how % 2 == 0 ? 2 : SG_RANKS;
    c->run.check = how / 4 % 2 == 0 ? PHX_CHECK_ROUTES : PHX_CHECK_ROWS;
    o.seed = how;
    o.schedule.tie = PHX_TIE_RANDOM;
    o.fibers = PHX_FIBERS;
    o.workers = c->run.workers;
    o.cluster.nodes = how / 2 % 2 == 0 ? 1 : 2;
    o.cluster.ranks_per_node = SG_RANKS / o.cluster.nodes;
    o.cluster.intra_node = "nvlink4";
    o.cluster.inter_node = "roce_400g";
    FUZZ_CHECK(phx_world_create(&o, &world, &message) == 0, "%s", message.text);
    phx_memory_check(phx_fabric_memory(phx_fabric_of(world)), false);
    FUZZ_CHECK(phx_world_run(world, rank_main, c, &message) == 0, "%s", message.text);
    phx_world_destroy(world);
    free(c);
    return 0;
}
