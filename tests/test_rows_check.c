// tests/test_rows_check.c: a bit that flips behind the transport's check, wherever it does: with
// checked rows its source is masked as corrupt by the rank that it came to, by no other, and costs
// the weights of those two alone; with checked routes a row passes, and only the reference sees it.

#include <string.h>

#include "kernels/seal.h"
#include "sim/workload.h"
#include "tests/sim_group.h"
#include "tests/test.h"

enum { SOURCE = 2 };

static struct phx_fault flip_of_source(void)
{
    struct phx_fault f;
    memset(&f, 0, sizeof f);
    f.kind = PHX_FAULT_BIT_FLIP;
    f.rank = SOURCE;
    f.peer = PHX_FAULT_ANY;
    f.count = 1;
    f.when.rank = SOURCE;
    return f;
}

// Rows take their time, so that most of an operation is rows.
static struct phx_fault slow_port(void)
{
    struct phx_fault f;
    memset(&f, 0, sizeof f);
    f.kind = PHX_FAULT_LINK_DEGRADED;
    f.rank = SOURCE;
    f.peer = PHX_FAULT_ANY;
    f.percent = 5;
    return f;
}

// What rank `r` must have lost of token t, when it and `other` no longer hear each other.
static float loss_at(const struct sg_rank *self, int t, uint32_t other)
{
    float loss = 0.0f;
    for (int k = 0; k < SG_TOP_K; k++)
        if ((uint32_t)self->topk_idx[t * SG_TOP_K + k] / (SG_EXPERTS / SG_RANKS) == other)
            loss += 0.5f;
    return loss;
}

// The one rank that holds SOURCE to be corrupt; -1: nobody does, and nobody masked anybody.
static int64_t receiver_of(const struct sg_run *run)
{
    int64_t receiver = -1;
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        for (uint32_t other = 0; other < SG_RANKS; other++) {
            if (run->ranks[r].causes[other] != PHX_CAUSE_CORRUPT)
                continue;
            CHECK_EQ(other, SOURCE);
            CHECK_EQ(receiver, -1);
            receiver = r;
        }
    }
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        for (uint32_t other = 0; other < SG_RANKS; other++) {
            uint32_t cause = PHX_CAUSE_NONE;
            if (r == receiver && other == SOURCE)
                cause = PHX_CAUSE_CORRUPT;
            // Of a hit in the last combine it never hears.
            if (r == SOURCE && other == receiver && run->ranks[r].causes[other] != 0)
                cause = PHX_CAUSE_GAVE_UP;
            CHECK_EQ(run->ranks[r].causes[other], cause);
        }
    }
    return receiver;
}

enum hit { NOTHING = 1, ROUTE, DISPATCH_ROW, COMBINE_ROW, HITS };

// What was hit, by what the receiver missed first, and in which pair.
static enum hit hit_of(const struct sg_rank *self, uint32_t pairs, uint32_t *pair)
{
    for (*pair = 0; *pair < pairs; (*pair)++) {
        if (!phx_rank_set_has(&self->dispatched[*pair].counted, SOURCE))
            return ROUTE;
        if (!phx_rank_set_has(&self->dispatched[*pair].present, SOURCE))
            return DISPATCH_ROW;
        if (!phx_rank_set_has(&self->combined[*pair].answered, SOURCE))
            return COMBINE_ROW;
    }
    return NOTHING;
}

static void losses_check(const struct sg_run *run, uint32_t receiver, uint32_t hit_pair,
                         enum hit hit)
{
    for (uint32_t pair = 0; pair < run->pairs; pair++) {
        for (uint32_t r = 0; r < SG_RANKS; r++) {
            uint32_t from = SG_PAIRS; // the pair from which on it hears no more of `other`
            uint32_t other = r == receiver ? SOURCE : receiver;
            if (r == receiver)
                from = hit_pair;
            if (r == SOURCE) // of a combine that was hit it has its own share back
                from = hit_pair + (hit == COMBINE_ROW);
            for (int t = 0; t < SG_TOKENS; t++)
                CHECK(run->ranks[r].loss[pair][t] ==
                      (pair < from ? 0.0f : loss_at(&run->ranks[r], t, other)));
        }
    }
}

static struct sg_run *run_of(uint32_t form)
{
    struct sg_run *run = sg_new();
    run->check = PHX_CHECK_ROWS;
    run->wire_hidden = 7168;
    run->workers = form & 1 ? 8 : 2; // 8: two parts for each peer
    run->rows = form & 2 ? PHX_ROWS_PER_EXPERT : PHX_ROWS_ONCE;
    run->layout = form & 4 ? PHX_LAYOUT_COMPACT : PHX_LAYOUT_SLOTS;
    run->nodes = form & 8 ? 2 : 1;
    run->faults[0] = slow_port();
    run->fault_count = 1;
    return run;
}

static enum hit flip_at_time(uint64_t at_ns, uint32_t form)
{
    enum hit hit = NOTHING;
    struct sg_run *run = run_of(form);
    run->faults[1] = flip_of_source();
    run->faults[1].when.at_ps = at_ns * 1000;
    run->fault_count = 2;
    sg_go(run); // no row of a source that is present is wrong, and no sum
    int64_t receiver = receiver_of(run);
    if (receiver >= 0) {
        uint32_t pair;
        hit = hit_of(&run->ranks[receiver], run->pairs, &pair);
        CHECK(hit != NOTHING);
        losses_check(run, (uint32_t)receiver, pair, hit);
    }
    sg_free(run);
    return hit;
}

TEST(rows_check_a_flip_masks_its_source_where_it_came_and_nowhere_else)
{
    for (uint32_t form = 0; form < 16; form++) {
        uint32_t hits[HITS] = {0};
        struct sg_run *run = run_of(form);
        sg_go(run);
        uint64_t begin_ns = run->ranks[SOURCE].done_ns[0];
        uint64_t end_ns = run->ranks[SOURCE].done_ns[1];
        CHECK_EQ(receiver_of(run), -1);
        sg_free(run);
        for (uint64_t i = 0; i < 40; i++)
            hits[flip_at_time(begin_ns + (end_ns - begin_ns) * i / 40, form)]++;
        CHECK_MSG(hits[DISPATCH_ROW] > 0, "form %u", form);
        CHECK_MSG(hits[COMBINE_ROW] > 0, "form %u", form);
    }
}

// --- the key ------------------------------------------------------------------------------------

static void charge(struct phx_executor *e, uint32_t worker, struct phx_cost cost)
{
    (void)e, (void)worker, (void)cost;
}
static void touch(struct phx_executor *e, uint32_t worker, const void *base, uint64_t size_bytes,
                  int is_write)
{
    (void)e, (void)worker, (void)base, (void)size_bytes, (void)is_write;
}

// A whole row that belongs elsewhere: of another operation, kind or slot.
TEST(rows_check_a_row_of_another_place_does_not_hold)
{
    const struct phx_executor_ops ops = {.charge = charge, .touch = touch};
    struct phx_executor executor = {.ops = &ops};
    struct phx_environment environment = {.executor = &executor, .leaves = phx_leaves_get()};
    struct phx_rank rank;
    struct phx_worker w;
    _Alignas(16) uint8_t row[160];
    const uint64_t bytes = 132; // 128 e4m3 and an f32 scale: padding follows
    memset(&rank, 0, sizeof rank);
    memset(&w, 0, sizeof w);
    memset(row, 0xA5, sizeof row); // the padding, too
    rank.environment = &environment;
    rank.shape.hidden = rank.shape.channels = 128;
    rank.shape.check = PHX_CHECK_ROWS;
    w.rank = &rank;
    phx_row_seal(&w, row, bytes, phx_check_key(PHX_DISPATCH, 5, 3));
    CHECK_EQ(phx_wire_bytes(&rank.shape, bytes), 144);
    CHECK(phx_row_holds(&w, row, bytes, phx_check_key(PHX_DISPATCH, 5, 3)));
    CHECK(!phx_row_holds(&w, row, bytes, phx_check_key(PHX_DISPATCH, 3, 3)));
    CHECK(!phx_row_holds(&w, row, bytes, phx_check_key(PHX_DISPATCH, 5, 4)));
    CHECK(!phx_row_holds(&w, row, bytes, phx_check_key(PHX_COMBINE, 5, 3)));
    for (uint32_t bit = 0; bit < 8 * 144; bit++) { // padding and check included
        row[bit / 8] = (uint8_t)(row[bit / 8] ^ 1u << bit % 8);
        CHECK(!phx_row_holds(&w, row, bytes, phx_check_key(PHX_DISPATCH, 5, 3)));
        row[bit / 8] = (uint8_t)(row[bit / 8] ^ 1u << bit % 8);
    }
    memset(row, 0, sizeof row); // memory that nobody wrote
    CHECK(!phx_row_holds(&w, row, bytes, phx_check_key(PHX_DISPATCH, 5, 3)));
}

// --- against the plain reference ----------------------------------------------------------------

static uint32_t rules_broken(uint64_t at_ns, uint32_t form, bool row_check, const char *rule)
{
    struct phx_moe_load load;
    struct phx_fault faults[2] = {slow_port(), flip_of_source()};
    struct phx_workload w;
    struct phx_summary s;
    struct phx_message message = {""};
    const struct phx_workload_options options = {.seed = 5 + form, .fibers = PHX_PTHREADS};
    memset(&load, 0, sizeof load);
    memset(&w, 0, sizeof w);
    load = (struct phx_moe_load){.steps = 3,
                                 .layers = 1,
                                 .tokens = 8,
                                 .hidden = form & 1 ? 256 : 7168,
                                 .experts = 8,
                                 .top_k = 3};
    load.dtype = form & 1 ? PHX_BF16 : PHX_FP8_E4M3;
    load.scales = form & 2 ? PHX_SCALE_UE8M0 : PHX_SCALE_F32;
    load.rows = form & 4 ? PHX_ROWS_PER_EXPERT : PHX_ROWS_ONCE;
    load.layout = PHX_LAYOUT_SLOTS;
    load.hooks = form & 8;
    load.routing = PHX_ROUTING_UNIFORM;
    faults[1].when.at_ps = at_ns * 1000;
    w.cluster = (struct phx_cluster){
        .nodes = 2, .ranks_per_node = 2, .intra_node = "nvlink4", .inter_node = "roce_400g"};
    w.loads = &load;
    w.load_count = 1;
    w.timeout_us = 1000;
    w.is_full = form & 1;
    w.row_check = row_check;
    w.faults = faults;
    w.fault_count = 2;
    w.expect.is_corrupt_checked = row_check;
    w.expect.corrupt.words[0] = 1u << SOURCE;
    w.expect.survivors_finish_within_ps = PHX_EXPECT_NONE;
    w.expect.lost_tokens_max = PHX_EXPECT_NONE;
    int rc = phx_workload_run(&w, &options, &s, &message);
    CHECK_MSG(rc == 0, "%s", message.text);
    uint32_t broken = 0;
    for (uint32_t i = 0; i < s.violation_count; i++)
        broken += rule == NULL || strcmp(s.violations[i].rule, rule) == 0;
    phx_summary_free(&s);
    return broken;
}

TEST(rows_check_results_are_the_references_whatever_flips)
{
    for (uint32_t form = 0; form < 16; form++) {
        uint64_t end_ns = form & 1 ? 130000 : 350000; // fewer channels: it is over sooner
        for (uint64_t at_ns = 40000; at_ns < end_ns; at_ns += end_ns / 13)
            CHECK_EQ(rules_broken(at_ns, form, true, NULL), 0);
    }
}

// The other half of the claim: without the check those very flips are in the results.
TEST(rows_check_is_what_keeps_flips_out_of_results)
{
    uint32_t dispatches = 0;
    uint32_t combines = 0;
    for (uint64_t at_ns = 40000; at_ns < 400000; at_ns += 9000) {
        dispatches += rules_broken(at_ns, 0, false, "dispatch-result");
        combines += rules_broken(at_ns, 0, false, "combine-result");
    }
    CHECK(dispatches > 0);
    CHECK(combines > 0);
}
