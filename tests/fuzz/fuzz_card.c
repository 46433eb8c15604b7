// tests/fuzz/fuzz_card.c: what ranks show each other at open: cards and the keys in them.
//
// Four ranks open a group, one perhaps with other parameters; one rank gets cards with bytes
// changed. A card that is not from that rank, or whose parameters differ, must be refused with its
// error, and the true cards must then still be taken. A forged key may be refused, or its ops fail:
// then operations go on as with a dead peer, and nobody's results are wrong.

#include "tests/fuzz/fuzz.h"
#include "tests/sim_group.h"

#define KEY_BYTES 32u
#define HEAD_BYTES 8u // magic, rank, incarnation
#define PATCHES 12u

struct patch {
    uint32_t card;
    uint32_t at;
    uint8_t flip;
};
struct card_case {
    struct sg_run run;
    uint32_t victim;
    uint32_t odd; // the rank that opens with another parameter; SG_RANKS: none
    uint32_t parameter;
    struct patch patches[PATCHES];
    uint32_t patch_count;
};

static void bend(const struct card_case *c, struct phx_group_options *o)
{
    switch (c->parameter) {
    case 0:
        o->tokens_max++;
        break;
    case 1:
        o->hidden = 256;
        break;
    case 2:
        o->in_flight = 2;
        break;
    case 3:
        o->layout = PHX_LAYOUT_COMPACT;
        break;
    case 4:
        o->rows = PHX_ROWS_PER_EXPERT;
        break;
    case 5:
        o->dtype = PHX_FP8_E4M3;
        break;
    case 6:
        o->experts++;
        break;
    case 7:
        o->check = PHX_CHECK_ROWS;
        break;
    default:
        o->top_k--;
        break;
    }
}

// What the victim must say to these cards; 1: anything that is no success of a bad head.
static int expect(const uint8_t *cards, const uint8_t *mine, uint32_t size)
{
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        const uint8_t *card = cards + (size_t)r * size;
        uint16_t rank;
        uint16_t incarnation;
        memcpy(&rank, card + 4, sizeof rank);
        memcpy(&incarnation, card + 6, sizeof incarnation);
        if (memcmp(card, mine, 4) != 0 || rank != r || incarnation == 0)
            return PHX_ERR_CORRUPT;
        if (memcmp(card + HEAD_BYTES, mine + HEAD_BYTES, size - HEAD_BYTES - KEY_BYTES) != 0)
            return PHX_ERR_MISMATCH;
    }
    return 0;
}

static void apply(const struct card_case *c, uint8_t *cards, uint32_t size)
{
    for (uint32_t i = 0; i < c->patch_count; i++)
        cards[(size_t)c->patches[i].card * size + c->patches[i].at % size] ^= c->patches[i].flip;
}

static int connect_forged(const struct card_case *c, struct sg_rank *self, const uint8_t *mine,
                          const uint8_t *theirs, uint32_t size)
{
    struct phx_message message;
    uint8_t *forged = fuzz_alloc((size_t)SG_RANKS * size);
    memcpy(forged, theirs, (size_t)SG_RANKS * size);
    apply(c, forged, size);
    int expected = expect(forged, mine, size);
    memset(&message, 0, sizeof message);
    int rc = phx_group_connect(self->group, forged, &message);
    if (expected != 0)
        FUZZ_CHECK(rc == expected, "%d, not %d: %s", rc, expected, message.text);
    else if (memcmp(forged, theirs, (size_t)SG_RANKS * size) == 0)
        FUZZ_CHECK(rc == 0, "true cards: %s", message.text);
    FUZZ_CHECK(rc == 0 || message.text[0] != 0, "refused without a word");
    free(forged);
    return rc;
}

static int open_group(struct card_case *c, struct phx_sim_rank *rank, struct sg_rank *self)
{
    struct phx_group_options o;
    struct phx_target target = {phx_sim_transport(rank), phx_sim_executor(rank)};
    uint32_t me = phx_sim_rank_number(rank);
    uint32_t size = phx_group_card_bytes();
    sg_options(&c->run, &o);
    o.rank = me;
    o.ranks = SG_RANKS;
    if (me == c->odd)
        bend(c, &o);
    int rc = phx_group_create(&o, &target, &self->group, &self->message);
    FUZZ_CHECK(rc == 0, "%s", self->message.text);
    uint8_t *cards = phx_sim_alloc(rank, 2 * (uint64_t)SG_RANKS * size);
    uint8_t *theirs = cards + (size_t)SG_RANKS * size;
    phx_group_cards(self->group, cards);
    rc = phx_sim_exchange(rank, cards, theirs, size);
    FUZZ_CHECK(rc == 0, "the exchange: %d", rc);
    if (me == c->victim)
        rc = connect_forged(c, self, cards, theirs, size);
    if (me != c->victim || rc != 0) {
        rc = phx_group_connect(self->group, theirs, &self->message);
        FUZZ_CHECK(rc == (c->odd < SG_RANKS ? PHX_ERR_MISMATCH : 0), "true cards: %d", rc);
    }
    for (int i = 0; rc == 0 && phx_group_poll(self->group) > 0; i++) {
        FUZZ_CHECK(i < 100000, "a peer never answers");
        phx_sim_sleep_ns(rank, 1000);
    }
    return rc;
}

static void rank_main(struct phx_sim_rank *rank, void *argument)
{
    struct card_case *c = argument;
    struct sg_rank *self = &c->run.ranks[phx_sim_rank_number(rank)];
    for (int t = 0; t < SG_TOKENS * SG_TOP_K; t++) {
        self->topk_idx[t] = (t / SG_TOP_K + 3 * (t % SG_TOP_K)) % SG_EXPERTS;
        self->weights[t] = 0.5f;
    }
    for (int r = 0; r < SG_RANKS; r++)
        self->active[r] = 1;
    self->rc = open_group(c, rank, self);
    if (self->rc == 0) {
        self->rc = phx_handle_create(self->group, &self->handle, &self->message);
        for (uint32_t pair = 0; pair < c->run.pairs && self->rc == 0; pair++)
            self->rc = sg_pair(&c->run, rank, pair);
        FUZZ_CHECK(self->rc == 0, "%s", self->message.text);
    }
    phx_handle_free(self->group, self->handle);
    phx_sim_close(rank, self->group);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = fuzz_input_make(data, size);
    struct card_case *c = fuzz_alloc(sizeof *c);
    struct phx_world_options o;
    const struct phx_violation *list = NULL;
    struct phx_message message;
    struct phx_world *world;
    memset(&o, 0, sizeof o);
    uint8_t how = fuzz_u8(&in);
    struct sg_run *usual = sg_new();
    c->run = *usual;
    sg_free(usual);
    c->run.pairs = 2;
    c->run.timeout_us = 200;
    c->victim = how % SG_RANKS;
    c->odd = how / 4 % 8 == 7 ? how / 32 % SG_RANKS : SG_RANKS;
    c->parameter = c->odd < SG_RANKS ? fuzz_below(&in, 9) : 0;
    while (c->patch_count < PATCHES && fuzz_left(&in) > 0) {
        struct patch *p = &c->patches[c->patch_count++];
        p->card = fuzz_below(&in, SG_RANKS);
        p->at = fuzz_u8(&in);
        p->flip = fuzz_u8(&in);
    }
    o.seed = 1;
    o.fibers = PHX_FIBERS;
    o.workers = c->run.workers;
    o.cluster.nodes = how % 2 == 0 ? 1 : 2;
    o.cluster.ranks_per_node = SG_RANKS / o.cluster.nodes;
    o.cluster.intra_node = "nvlink4";
    o.cluster.inter_node = "roce_400g";
    FUZZ_CHECK(phx_world_create(&o, &world, &message) == 0, "%s", message.text);
    FUZZ_CHECK(phx_world_run(world, rank_main, c, &message) == 0, "%s", message.text);
    FUZZ_CHECK(phx_world_violations(world, &list) == 0, "%s: %s", list[0].rule, list[0].text);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        FUZZ_CHECK(c->run.ranks[r].wrong_rows == 0 && c->run.ranks[r].wrong_sums == 0,
                   "rank %u: %u rows, %u sums", r, c->run.ranks[r].wrong_rows,
                   c->run.ranks[r].wrong_sums);
    phx_world_destroy(world);
    free(c);
    return 0;
}
