// tests/test_group.c: opening, and what bad input gets: a code, a message that names the argument,
// its value and its bound, and nothing changed.

#include <stdlib.h>
#include <string.h>

#include "engine/phalanx.h"
#include "kernels/rank.h"
#include "tests/fake_target.h"
#include "tests/test.h"

static struct phx_group_options small_options(void)
{
    struct phx_group_options o;
    phx_group_options_init(&o);
    o.rank = 0;
    o.ranks = 2;
    o.experts = 4;
    o.top_k = 2;
    o.tokens_max = 4;
    o.hidden = 256;
    o.dtype = PHX_BF16;
    o.timeout_us = 100;
    return o;
}

// One rank of two: opened over the fake target, connected to a twin whose cards it gets.
struct fixture {
    struct fake_target *target;
    struct fake_target *twin_target;
    struct phx_group *group;
    struct phx_group *twin;
    struct phx_message message;
};

static void open_one(struct phx_group_options *o, struct fake_target *fake,
                     struct phx_group **group)
{
    struct phx_target target = fake_target_of(fake);
    struct phx_message m = {""};
    CHECK_MSG(phx_group_create(o, &target, group, &m) == 0, "%s", m.text);
}

static void open_pair(struct fixture *f)
{
    struct phx_group_options o = small_options();
    memset(f, 0, sizeof *f);
    f->target = fake_target_open(0);
    f->twin_target = fake_target_open(1);
    open_one(&o, f->target, &f->group);
    o.rank = 1;
    open_one(&o, f->twin_target, &f->twin);
}

static void cards_for(struct fixture *f, uint8_t *cards)
{
    uint32_t bytes = phx_group_card_bytes();
    uint8_t all[2][2][512];
    CHECK(bytes <= 256);
    phx_group_cards(f->group, all[0]);
    phx_group_cards(f->twin, all[1]);
    memcpy(cards, (uint8_t *)all[0], bytes);         // from rank 0 for rank 0
    memcpy(cards + bytes, (uint8_t *)all[1], bytes); // from rank 1 for rank 0
}

static void close_pair(struct fixture *f)
{
    phx_group_close(f->group);
    phx_group_close(f->twin);
    CHECK_EQ(fake_target_registered(f->target), 0);
    CHECK_EQ(fake_target_registered(f->twin_target), 0);
    fake_target_close(f->target);
    fake_target_close(f->twin_target);
}

static void connect_pair(struct fixture *f)
{
    uint8_t cards[1024];
    cards_for(f, cards);
    CHECK_MSG(phx_group_connect(f->group, cards, &f->message) == 0, "%s", f->message.text);
    CHECK_EQ(phx_group_poll(f->group), 0);
}

// --- options ------------------------------------------------------------------------------------

static void refused(const struct phx_group_options *o, const char *text)
{
    struct phx_size_hint hint;
    struct phx_message m = {""};
    memset(&hint, 0x5A, sizeof hint);
    CHECK_EQ(phx_size_hint(o, &hint, &m), PHX_ERR_INVALID);
    CHECK_STR_EQ(m.text, text);
    for (size_t i = 0; i < sizeof hint; i++)
        CHECK_EQ(((uint8_t *)&hint)[i], 0x5A);
}

TEST(group_refuses_options_out_of_range)
{
    struct phx_group_options o = small_options();
    o.ranks = 1025;
    refused(&o, "ranks = 1025: must be 1 to 1024");
    o = small_options();
    o.rank = 2;
    refused(&o, "rank = 2: must be 0 to 1");
    o = small_options();
    o.experts = 0;
    refused(&o, "experts = 0: must be 1 to 65536");
    o = small_options();
    o.top_k = 5; // only four experts
    refused(&o, "top_k = 5: must be 1 to 4");
    o = small_options();
    o.hidden = 16512;
    refused(&o, "hidden = 16512: must be 128 to 16384");
    o = small_options();
    o.hidden = 200;
    refused(&o, "hidden = 200: must be a multiple of 128");
    o = small_options();
    o.channels = 192;
    refused(&o, "channels = 192: must be 0 or hidden (256), or 128 to store one scale group");
    o = small_options();
    o.timeout_us = 0;
    refused(&o, "timeout_us = 0: must be 1 to 2^40, or PHX_TIMEOUT_NONE (-1)");
    o = small_options();
    o.in_flight = 3;
    refused(&o, "in_flight = 3: must be 0 to 2");
    o = small_options();
    o.workers = 0;
    refused(&o, "workers = 0: must be 1 to 4096");
    o = small_options();
    o.dtype = (enum phx_dtype)9;
    refused(&o, "dtype = 9: must be 1 to 2");
    o = small_options();
    o.dtype = PHX_FP8_E4M3;
    o.scale_format = (enum phx_scale_format)0;
    refused(&o, "scale_format = 0: must be 1 (f32) or 2 (ue8m0)");
}

TEST(group_refuses_a_bad_expert_map)
{
    struct phx_group_options o = small_options();
    const int32_t map[] = {0, 1, 2, 0};
    o.expert_map = map;
    refused(&o, "expert_map[2] = 2: must be a rank, 0 to 1");
}

TEST(group_refuses_an_unset_size)
{
    struct phx_group_options o = small_options();
    struct phx_size_hint hint;
    o.size = 8;
    CHECK_EQ(phx_size_hint(&o, &hint, NULL), PHX_ERR_INVALID);
}

TEST(group_spreads_experts_that_do_not_divide)
{
    struct phx_group_options o = small_options();
    struct phx_size_hint hint;
    o.ranks = 3;
    o.experts = 8; // 3, 3, 2
    const uint32_t expected[] = {3, 3, 2};
    for (uint32_t r = 0; r < 3; r++) {
        o.rank = r;
        CHECK_EQ(phx_size_hint(&o, &hint, NULL), 0);
        CHECK_EQ(hint.experts_local, expected[r]);
    }
}

static void *no_alloc(void *context, uint64_t size_bytes)
{
    (void)context;
    (void)size_bytes;
    return NULL;
}

TEST(group_without_memory_says_how_much)
{
    struct phx_group_options o = small_options();
    struct fake_target *fake = fake_target_open(0);
    struct phx_target target = fake_target_of(fake);
    struct phx_group *group = (struct phx_group *)(void *)&o;
    struct phx_message m = {""};
    o.allocator.alloc = no_alloc;
    CHECK_EQ(phx_group_create(&o, &target, &group, &m), PHX_ERR_NO_MEMORY);
    CHECK(strncmp(m.text, "a group of this shape needs ", 28) == 0);
    CHECK(group == (struct phx_group *)(void *)&o); // untouched
    fake_target_close(fake);
}

// --- cards --------------------------------------------------------------------------------------

TEST(group_names_the_rank_and_the_field_that_differ)
{
    struct fixture f;
    uint8_t cards[1024];
    struct phx_group_options o = small_options();
    memset(&f, 0, sizeof f);
    f.target = fake_target_open(0);
    f.twin_target = fake_target_open(1);
    open_one(&o, f.target, &f.group);
    o.rank = 1;
    o.top_k = 3;
    open_one(&o, f.twin_target, &f.twin);
    cards_for(&f, cards);
    CHECK_EQ(phx_group_connect(f.group, cards, &f.message), PHX_ERR_MISMATCH);
    CHECK_STR_EQ(f.message.text, "rank 1 opened with top_k = 3, this rank (0) with 2");
    close_pair(&f);
}

TEST(group_compares_expert_maps)
{
    struct fixture f;
    uint8_t cards[1024];
    struct phx_group_options o = small_options();
    const int32_t map[] = {0, 1, 1, 0};
    memset(&f, 0, sizeof f);
    f.target = fake_target_open(0);
    f.twin_target = fake_target_open(1);
    open_one(&o, f.target, &f.group);
    o.rank = 1;
    o.expert_map = map;
    open_one(&o, f.twin_target, &f.twin);
    cards_for(&f, cards);
    CHECK_EQ(phx_group_connect(f.group, cards, &f.message), PHX_ERR_MISMATCH);
    CHECK(strstr(f.message.text, "expert_map") != NULL);
    close_pair(&f);
}

TEST(group_refuses_cards_that_are_none)
{
    struct fixture f;
    uint8_t cards[1024];
    open_pair(&f);
    cards_for(&f, cards);
    cards[phx_group_card_bytes()] ^= 1;
    CHECK_EQ(phx_group_connect(f.group, cards, &f.message), PHX_ERR_CORRUPT);
    CHECK_STR_EQ(f.message.text, "the card from rank 1 is not one of Phalanx's");
    close_pair(&f);
}

// --- calls --------------------------------------------------------------------------------------

struct buffers {
    uint16_t x[4 * 256];
    int64_t topk_idx[4 * 2];
    float weights[4 * 2];
    uint16_t recv_x[2 * 2 * 4 * 256];
    int32_t recv_count[2];
    int32_t recv_src_info[2 * 2 * 4];
    int64_t recv_layout_range[2 * 2];
    int32_t active[2];
    uint16_t out[4 * 256];
    float loss[4];
};

static struct phx_dispatch_args dispatch_args(struct buffers *b)
{
    struct phx_dispatch_args a;
    memset(b, 0, sizeof *b);
    memset(&a, 0, sizeof a);
    for (int t = 0; t < 4; t++) {
        b->topk_idx[2 * t] = t % 4;
        b->topk_idx[2 * t + 1] = -1;
        b->weights[2 * t] = 0.5f;
    }
    b->active[0] = b->active[1] = 1;
    a.size = sizeof a;
    a.token_count = 4;
    a.x = b->x;
    a.topk_idx = b->topk_idx;
    a.topk_weights = b->weights;
    a.active_ranks = b->active;
    a.recv_x = b->recv_x;
    a.recv_count = b->recv_count;
    a.recv_src_info = b->recv_src_info;
    a.recv_layout_range = b->recv_layout_range;
    return a;
}

struct call {
    struct fixture f;
    struct phx_handle *handle;
    struct buffers *b;
    struct phx_dispatch_args args;
};

static void call_open(struct call *c)
{
    open_pair(&c->f);
    connect_pair(&c->f);
    CHECK_EQ(phx_handle_create(c->f.group, &c->handle, NULL), 0);
    c->b = calloc(1, sizeof *c->b);
    CHECK(c->b != NULL);
    c->args = dispatch_args(c->b);
}
static void call_close(struct call *c)
{
    phx_handle_free(c->f.group, c->handle);
    free(c->b);
    close_pair(&c->f);
}
static void call_refused(struct call *c, int code, const char *text)
{
    struct buffers before = *c->b;
    uint64_t puts = fake_target_puts(c->f.target);
    CHECK_EQ(phx_dispatch(c->f.group, &c->args, c->handle, NULL, &c->f.message), code);
    CHECK_STR_EQ(c->f.message.text, text);
    CHECK_MEM_EQ(&before, c->b, sizeof before);
    CHECK_EQ(fake_target_puts(c->f.target), puts);
    c->args = dispatch_args(c->b);
}

TEST(group_dispatch_refuses_bad_arguments_and_changes_nothing)
{
    struct call c;
    call_open(&c);
    c.args.token_count = 5;
    call_refused(&c, PHX_ERR_INVALID, "token_count = 5: must be 0 to tokens_max = 4");
    c.args.x = NULL;
    call_refused(&c, PHX_ERR_INVALID, "x = NULL: must point to memory");
    c.args.recv_count = NULL;
    call_refused(&c, PHX_ERR_INVALID, "recv_count = NULL: must point to memory");
    c.args.timeout_us = -2;
    call_refused(&c, PHX_ERR_INVALID,
                 "timeout_us = -2: must be 1 to 2^40, 0 for the group's, or "
                 "PHX_TIMEOUT_NONE (-1)");
    c.b->topk_idx[3] = 4;
    call_refused(&c, PHX_ERR_INVALID, "topk_idx[1][1] = 4: must be an expert, 0 to 3, or -1");
    c.b->topk_idx[1] = 0;
    call_refused(&c, PHX_ERR_INVALID, "topk_idx[0][1] = 0: the token lists that expert twice");
    c.args.topk_weights = NULL;
    CHECK_EQ(phx_dispatch(c.f.group, &c.args, c.handle, NULL, &c.f.message), PHX_ERR_INVALID);
    CHECK(strncmp(c.f.message.text, "topk_weights = NULL", 19) == 0);
    call_close(&c);
}

TEST(group_combine_needs_a_dispatch)
{
    struct call c;
    struct phx_combine_args a;
    call_open(&c);
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    CHECK_EQ(phx_combine(c.f.group, &a, c.handle, NULL, &c.f.message), PHX_ERR_STATE);
    CHECK_STR_EQ(c.f.message.text, "the handle holds no dispatch to combine");
    call_close(&c);
}

TEST(group_halves_come_in_order)
{
    struct call c;
    struct phx_handle *second;
    call_open(&c);
    CHECK_EQ(phx_handle_create(c.f.group, &second, NULL), 0);
    CHECK_EQ(phx_dispatch_receive(c.f.group, c.handle, NULL, NULL), PHX_ERR_STATE);
    CHECK_EQ(phx_dispatch_send(c.f.group, &c.args, c.handle, NULL), 0);
    CHECK_EQ(phx_dispatch_send(c.f.group, &c.args, second, NULL), PHX_ERR_STATE); // in_flight 1
    CHECK_EQ(phx_dispatch(c.f.group, &c.args, second, NULL, NULL), PHX_ERR_STATE);
    CHECK_EQ(phx_dispatch_receive(c.f.group, second, NULL, NULL), PHX_ERR_STATE);
    CHECK_EQ(phx_dispatch_receive(c.f.group, c.handle, NULL, NULL), 0);
    phx_handle_free(c.f.group, second);
    call_close(&c);
}

TEST(group_that_is_not_connected_starts_nothing)
{
    struct call c;
    open_pair(&c.f);
    CHECK_EQ(phx_handle_create(c.f.group, &c.handle, NULL), 0);
    c.b = calloc(1, sizeof *c.b);
    CHECK(c.b != NULL);
    c.args = dispatch_args(c.b);
    call_refused(&c, PHX_ERR_STATE, "the group is not connected: call phx_group_connect() first");
    call_close(&c);
}

// Rank 1 never answers: the deadline passes, its tokens are lost, rank 0's own come back.
TEST(group_alone_completes_at_the_deadline)
{
    struct call c;
    struct phx_outcome o;
    struct phx_combine_args a;
    uint32_t causes[2];
    call_open(&c);
    for (int i = 0; i < 4 * 256; i++)
        c.b->x[i] = 0x3F80; // 1.0
    CHECK_MSG(phx_dispatch(c.f.group, &c.args, c.handle, &o, &c.f.message) == 0, "%s",
              c.f.message.text);
    CHECK_EQ(o.masked_count, 1);
    CHECK(phx_rank_set_has(&o.masked, 1));
    CHECK(phx_rank_set_has(&o.counted, 0) && !phx_rank_set_has(&o.counted, 1));
    CHECK_EQ(c.b->active[1], 0);
    CHECK_EQ(c.b->recv_count[0], 1); // its own token 0 to its expert 0
    CHECK_EQ(c.b->recv_count[1], 1);
    phx_group_suspicions(c.f.group, causes);
    CHECK_EQ(causes[1], PHX_CAUSE_TIMEOUT);
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = 4;
    a.y = c.b->recv_x;
    a.topk_idx = c.b->topk_idx;
    a.topk_weights = c.b->weights;
    a.out = c.b->out;
    a.token_loss = c.b->loss;
    CHECK_EQ(phx_combine(c.f.group, &a, c.handle, &o, &c.f.message), 0);
    CHECK_EQ(c.b->out[0], 0x3F00); // 0.5 * 1.0
    CHECK_EQ(c.b->out[2 * 256], 0);
    CHECK(c.b->loss[0] == 0.0f && c.b->loss[1] == 0.0f);
    CHECK(c.b->loss[2] == 0.5f && c.b->loss[3] == 0.5f);
    call_close(&c);
}

TEST(group_aborted_says_so)
{
    struct call c;
    call_open(&c);
    phx_abort(c.f.group);
    call_refused(&c, PHX_ERR_ABORTED, "the group was aborted");
    call_close(&c);
}
