// tests/test_group.c: opening, and what bad input gets: a code, a message that names the argument,
// its value and its bound, and nothing changed.

#include <stdlib.h>
#include <string.h>

#include "engine/transport_ops.h"
#include "engine/view.h"
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
    o.fault_tolerance = (enum phx_fault_tolerance)0;
    refused(&o, "fault_tolerance = 0: must be 1 to 2");
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

// Counts what is asked for, and hands it out.
struct counting {
    uint64_t size_bytes; // of the last request
    uint32_t count;
    uint32_t live;
};
static void *counting_alloc(void *context, uint64_t size_bytes)
{
    struct counting *c = context;
    void *memory = aligned_alloc(4096, (size_t)((size_bytes + 4095) / 4096 * 4096));
    CHECK(memory != NULL);
    c->size_bytes = size_bytes;
    c->count++;
    c->live++;
    return memset(memory, 0, (size_t)size_bytes);
}
static void counting_free(void *context, void *memory, uint64_t size_bytes)
{
    struct counting *c = context;
    CHECK(size_bytes > 0);
    c->live--;
    free(memory);
}

static void check_hint(const struct phx_group_options *options)
{
    struct counting counting = {0, 0, 0};
    struct phx_group_options o = *options;
    struct phx_size_hint hint;
    struct fake_target *fake = fake_target_open((uint16_t)o.rank);
    struct phx_group *group;
    struct phx_handle *handle;
    struct phx_message m = {""};
    o.allocator = (struct phx_allocator){counting_alloc, counting_free, &counting};
    CHECK_MSG(phx_size_hint(&o, &hint, &m) == 0, "%s", m.text);
    open_one(&o, fake, &group);
    CHECK_EQ(counting.count, 1);
    CHECK_MSG(counting.size_bytes == hint.group_bytes,
              "%u ranks, %u experts, %u tokens, %u workers: asked for %llu, the hint said %llu",
              o.ranks, o.experts, o.tokens_max, o.workers, (unsigned long long)counting.size_bytes,
              (unsigned long long)hint.group_bytes);
    CHECK_EQ(phx_handle_create(group, &handle, &m), 0);
    CHECK_EQ(counting.count, 2);
    CHECK_MSG(counting.size_bytes == hint.handle_bytes,
              "%u ranks, %u experts, %u tokens: asked for %llu, the hint said %llu", o.ranks,
              o.experts, o.tokens_max, (unsigned long long)counting.size_bytes,
              (unsigned long long)hint.handle_bytes);
    phx_handle_free(group, handle);
    phx_group_close(group);
    CHECK_EQ(counting.live, 0);
    fake_target_close(fake);
}

TEST(group_size_hint_says_what_is_asked_for)
{
    struct phx_group_options o = small_options();
    for (o.ranks = 1; o.ranks <= 64; o.ranks *= 2)
        for (o.experts = 4; o.experts <= 700; o.experts = o.experts * 3 + 1)
            for (o.tokens_max = 1; o.tokens_max <= 16; o.tokens_max *= 4)
                check_hint(&o);
    o = small_options();
    for (o.experts = 2; o.experts < 200; o.experts++)
        check_hint(&o);
    o = small_options();
    for (o.workers = 1; o.workers <= 9; o.workers++)
        check_hint(&o);
    o = small_options();
    o.dtype = PHX_FP8_E4M3;
    check_hint(&o);
    o.scale_format = PHX_SCALE_UE8M0;
    o.rows = PHX_ROWS_PER_EXPERT;
    o.in_flight = 2;
    o.layout = PHX_LAYOUT_COMPACT;
    check_hint(&o);
    o.check = PHX_CHECK_ROWS;
    check_hint(&o);
}

// --- cards --------------------------------------------------------------------------------------

// Rank 0 opens with small options, rank 1 with these: rank 0's connect refuses with this text.
static void check_mismatch(const struct phx_group_options *twin, const char *text)
{
    struct fixture f;
    uint8_t cards[1024];
    struct phx_group_options o = small_options();
    memset(&f, 0, sizeof f);
    f.target = fake_target_open(0);
    f.twin_target = fake_target_open(1);
    open_one(&o, f.target, &f.group);
    o = *twin;
    o.rank = 1;
    open_one(&o, f.twin_target, &f.twin);
    cards_for(&f, cards);
    CHECK_EQ(phx_group_connect(f.group, cards, &f.message), PHX_ERR_MISMATCH);
    CHECK_STR_EQ(f.message.text, text);
    close_pair(&f);
}

TEST(group_names_the_rank_and_the_field_that_differ)
{
    struct phx_group_options o = small_options();
    o.top_k = 3;
    check_mismatch(&o, "rank 1 opened with top_k = 3, this rank (0) with 2");
}

TEST(group_compares_what_is_checked)
{
    struct phx_group_options o = small_options();
    o.check = PHX_CHECK_ROWS;
    check_mismatch(&o, "rank 1 opened with check = 2, this rank (0) with 1");
}

TEST(group_compares_fault_tolerance)
{
    struct phx_group_options o = small_options();
    o.fault_tolerance = PHX_FAULT_TOLERANCE_OFF;
    check_mismatch(&o, "rank 1 opened with fault_tolerance = 2, this rank (0) with 1");
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

// --- a rank without experts ---------------------------------------------------------------------

// One expert, on rank 0 of two. The rank under test is rank 1, or (holds) rank 0.
static int compact_dispatch(uint16_t rank, bool outputs, struct phx_message *m)
{
    struct fixture f;
    struct phx_handle *handle;
    struct buffers *b = calloc(1, sizeof *b);
    struct phx_outcome o;
    struct phx_group_options options = small_options();
    CHECK(b != NULL);
    memset(&f, 0, sizeof f);
    options.experts = 1;
    options.top_k = 1;
    options.layout = PHX_LAYOUT_COMPACT;
    options.rank = rank;
    f.target = fake_target_open(rank);
    f.twin_target = fake_target_open((uint16_t)(1 - rank));
    open_one(&options, f.target, rank == 0 ? &f.group : &f.twin);
    options.rank = 1u - rank;
    open_one(&options, f.twin_target, rank == 0 ? &f.twin : &f.group);
    struct phx_group *group = rank == 0 ? f.group : f.twin;
    uint32_t bytes = phx_group_card_bytes();
    uint8_t own[512];
    uint8_t twin[512];
    uint8_t cards[512];
    CHECK(bytes <= 256);
    phx_group_cards(f.group, own);
    phx_group_cards(f.twin, twin);
    memcpy(cards, own + rank * bytes, bytes);
    memcpy(cards + bytes, twin + rank * bytes, bytes);
    CHECK_MSG(phx_group_connect(group, cards, m) == 0, "%s", m->text);
    CHECK_EQ(phx_group_poll(group), 0);
    CHECK_EQ(phx_handle_create(group, &handle, NULL), 0);
    struct phx_dispatch_args a = dispatch_args(b);
    for (int t = 0; t < 4; t++)
        b->topk_idx[t] = 0;
    if (!outputs) {
        a.recv_x = NULL;
        a.recv_count = NULL;
        a.recv_src_info = NULL;
        a.recv_layout_range = NULL;
    }
    int rc = phx_dispatch(group, &a, handle, &o, m);
    CHECK(rc != 0 || (o.rows_received == 0 && o.masked_count == 1));
    phx_handle_free(group, handle);
    close_pair(&f);
    free(b);
    return rc;
}

TEST(group_compact_output_may_be_none_where_no_expert_is)
{
    struct phx_message m = {""};
    CHECK_MSG(compact_dispatch(1, false, &m) == 0, "%s", m.text);
    CHECK_MSG(compact_dispatch(1, true, &m) == 0, "%s", m.text);
    CHECK_EQ(compact_dispatch(0, false, &m), PHX_ERR_INVALID);
    CHECK_STR_EQ(m.text, "recv_x = NULL: must point to memory");
    CHECK_EQ(compact_dispatch(0, true, &m), PHX_ERR_INVALID);
    CHECK_STR_EQ(m.text, "recv_rows_max = 0: the compact layout needs the rows that recv_x holds");
}

// --- a handle of an older view ------------------------------------------------------------------

TEST(group_combine_refuses_a_handle_of_an_older_epoch)
{
    struct call c;
    struct phx_view view;
    struct phx_combine_args a;
    call_open(&c);
    CHECK_EQ(phx_dispatch(c.f.group, &c.args, c.handle, NULL, &c.f.message), 0);
    phx__view_now(c.f.group, &view);
    CHECK_EQ(view.operations, 1);
    view.epoch = 2;
    CHECK_MSG(phx__view_install(c.f.group, &view, &c.f.message) == 0, "%s", c.f.message.text);
    CHECK_EQ(phx_group_epoch(c.f.group), 2);
    memset(&a, 0, sizeof a);
    a.size = sizeof a;
    a.token_count = 4;
    a.y = c.b->recv_x;
    a.topk_idx = c.b->topk_idx;
    a.topk_weights = c.b->weights;
    a.out = c.b->out;
    a.token_loss = c.b->loss;
    struct buffers before = *c.b;
    uint64_t puts = fake_target_puts(c.f.target);
    CHECK_EQ(phx_combine(c.f.group, &a, c.handle, NULL, &c.f.message), PHX_ERR_STALE);
    CHECK_STR_EQ(c.f.message.text, "the handle's dispatch ran in epoch 1, the group is in epoch 2");
    CHECK_MEM_EQ(&before, c.b, sizeof before);
    CHECK_EQ(fake_target_puts(c.f.target), puts);
    // Nothing was begun: numbers go on where they were, and the handle serves the next dispatch.
    struct phx_outcome o;
    CHECK_EQ(phx_dispatch(c.f.group, &c.args, c.handle, &o, &c.f.message), 0);
    CHECK_EQ(o.number, 2);
    CHECK_EQ(o.epoch, 2);
    CHECK_EQ(phx_combine(c.f.group, &a, c.handle, &o, &c.f.message), 0);
    CHECK_EQ(o.number, 1);
    call_close(&c);
}

// --- abort --------------------------------------------------------------------------------------

// A group of four ranks and two workers over the fake target, whose worker 0 runs first and alone:
// it aborts the group as it enters the dispatch, so that it finds its first barrier without worker
// 1, which has not staged its half of the rows.
enum { ABORT_RANKS = 4, ABORT_WORKERS = 2 };

struct aborting {
    struct phx_executor_ops ops;
    struct phx_group *group;
    struct phx_target target;
    uint32_t rows;          // row puts
    uint32_t rows_unstaged; // of them with another content than this operation's
};
static struct aborting aborting; // hooks of an executor have no context

static void abort_phase(struct phx_executor *e, uint32_t worker, uint32_t phase, uint64_t number)
{
    (void)e;
    (void)number;
    if (phase == PHX_PHASE_DISPATCH_SEND && worker == 0)
        phx_abort(aborting.group);
}

static void abort_post(void *context, const struct phx_op *op)
{
    const struct phx_rank *rank = &((struct phx_group *)context)->rank;
    uint64_t rows_at = phx_stage_row_offset(&rank->shape, 0, 0);
    uint16_t first;
    if (op->size_bytes == 0 || op->source.offset_bytes < rows_at)
        return; // a signal, or counts
    memcpy(&first, rank->stage + op->source.offset_bytes, sizeof first);
    aborting.rows++;
    aborting.rows_unstaged += first != 0x3F80;
}

static void open_aborting(struct fake_target **fakes, struct phx_group **groups)
{
    uint8_t all[ABORT_RANKS][ABORT_RANKS * 256];
    uint8_t cards[ABORT_RANKS * 256];
    struct phx_group_options o = small_options();
    struct phx_message m = {""};
    uint32_t bytes = phx_group_card_bytes();
    CHECK(bytes <= 256);
    o.ranks = ABORT_RANKS;
    o.workers = ABORT_WORKERS;
    for (o.rank = 0; o.rank < ABORT_RANKS; o.rank++) {
        fakes[o.rank] = fake_target_open((uint16_t)o.rank);
        open_one(&o, fakes[o.rank], &groups[o.rank]);
        phx_group_cards(groups[o.rank], all[o.rank]);
        memcpy(cards + o.rank * bytes, all[o.rank], bytes);
    }
    aborting.group = groups[0];
    aborting.target = fake_target_of(fakes[0]);
    aborting.ops = *aborting.target.executor->ops;
    aborting.ops.phase = abort_phase;
    aborting.target.executor->ops = &aborting.ops;
    aborting.target.transport->hooks.post = abort_post;
    aborting.target.transport->hooks.context = groups[0];
    CHECK_MSG(phx_group_connect(groups[0], cards, &m) == 0, "%s", m.text);
    CHECK_EQ(phx_group_poll(groups[0]), 0);
}

TEST(group_abort_sends_no_row_that_is_not_staged)
{
    struct fake_target *fakes[ABORT_RANKS];
    struct phx_group *groups[ABORT_RANKS];
    struct phx_handle *handle;
    struct phx_message m = {""};
    struct buffers *b = calloc(1, sizeof *b);
    CHECK(b != NULL);
    memset(&aborting, 0, sizeof aborting);
    open_aborting(fakes, groups);
    CHECK_EQ(phx_handle_create(groups[0], &handle, NULL), 0);
    struct phx_dispatch_args a = dispatch_args(b);
    int32_t active[ABORT_RANKS] = {1, 1, 1, 1};
    int64_t range[ABORT_RANKS];
    a.active_ranks = active;
    a.recv_layout_range = range;
    for (int i = 0; i < 4 * 256; i++)
        b->x[i] = 0x3F80;
    for (int t = 0; t < 4; t++) { // one expert a rank: every token goes to two of them
        b->topk_idx[2 * t] = t;
        b->topk_idx[2 * t + 1] = (t + 1) % 4;
    }
    CHECK_EQ(phx_dispatch(groups[0], &a, handle, NULL, &m), PHX_ERR_ABORTED);
    CHECK_MSG(strncmp(m.text, "dispatch 1: ", 12) == 0, "%s", m.text);
    CHECK_EQ(aborting.rows_unstaged, 0);
    CHECK(aborting.rows <= 4); // worker 0 none; worker 1, behind all staging, two each to two ranks
    // Later calls say it too, and begin nothing.
    uint64_t puts = fake_target_puts(fakes[0]);
    CHECK_EQ(phx_dispatch(groups[0], &a, handle, NULL, &m), PHX_ERR_ABORTED);
    CHECK_STR_EQ(m.text, "the group was aborted");
    CHECK_EQ(fake_target_puts(fakes[0]), puts);
    phx_handle_free(groups[0], handle);
    for (int r = 0; r < ABORT_RANKS; r++) {
        phx_group_close(groups[r]);
        CHECK_EQ(fake_target_registered(fakes[r]), 0);
        fake_target_close(fakes[r]);
    }
    free(b);
}
