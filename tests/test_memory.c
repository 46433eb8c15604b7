// tests/test_memory.c: the shadow checker finds each kind of wrong access, and only those.

#include "sim/memory.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/layout.h"
#include "tests/test.h"

#define SIZE 8192u
#define WORD 8184u // offset of the signal word

struct found {
    uint32_t count;
    struct phx_violation last;
};

static struct found found;

static void note(void *context, const struct phx_violation *violation)
{
    (void)context;
    found.count++;
    found.last = *violation;
}

static struct phx_memory *make(bool check)
{
    struct phx_memory_options options = {
        .ranks = 4, .lanes = 3, .check = check, .violate = note, .context = NULL};
    struct phx_memory *memory = NULL;
    struct phx_message message;
    CHECK_EQ(phx_memory_create(&options, &memory, &message), 0);
    memset(&found, 0, sizeof found);
    return memory;
}

// Rank 0's region that rank 1 writes.
static _Alignas(64) uint8_t region[SIZE];
static uint8_t payload[SIZE];

static struct phx_memory *make_region(void)
{
    struct phx_memory *memory = make(true);
    memset(region, 0, sizeof region);
    for (uint32_t i = 0; i < SIZE; i++)
        payload[i] = (uint8_t)(i * 13 + 5);
    CHECK_EQ(phx_memory_add(memory, 0, region, SIZE, 1), 0);
    return memory;
}

static struct phx_landing landing(uint32_t lane, uint32_t ordinal, uint64_t offset,
                                  uint64_t size_bytes)
{
    struct phx_landing l;
    memset(&l, 0, sizeof l);
    l.source = 1;
    l.source_epoch = 1;
    l.lane = lane;
    l.ordinal = ordinal;
    l.from = payload;
    l.to = region + offset;
    l.size_bytes = size_bytes;
    return l;
}

static void land(struct phx_memory *memory, uint32_t lane, uint32_t ordinal, uint64_t offset,
                 uint64_t size_bytes)
{
    struct phx_landing l = landing(lane, ordinal, offset, size_bytes);
    (void)phx_memory_land(memory, &l);
}

static uint64_t *word_of(uint32_t index)
{
    return (uint64_t *)(void *)(region + WORD - 8 * (uint64_t)index);
}

static void signal(struct phx_memory *memory, uint32_t lane, uint32_t ordinal, uint32_t word)
{
    struct phx_landing l = landing(lane, ordinal, 0, 0);
    phx_memory_signal(memory, &l, word_of(word), ordinal);
}

static void read(struct phx_memory *memory, uint64_t offset, uint64_t size_bytes)
{
    phx_memory_touch(memory, 0, region + offset, size_bytes, false, 7000000);
}

TEST(memory_payload_and_word_arrive)
{
    struct phx_memory *memory = make_region();
    land(memory, 0, 1, 100, 1000);
    signal(memory, 0, 1, 0);
    CHECK_MEM_EQ(region + 100, payload, 1000);
    CHECK_EQ(*word_of(0), 1);
    CHECK_EQ(region[99], 0);
    CHECK_EQ(region[1100], 0);
    CHECK_EQ(phx_memory_figures(memory).landed_bytes, 1000);
    struct phx_landing a = landing(0, 2, 0, 64);
    struct phx_landing b = landing(0, 3, 0, 64);
    uint64_t hash = phx_memory_land(memory, &a);
    CHECK(hash == phx_memory_land(memory, &b)); // of the bytes alone
    payload[63] ^= 1;
    CHECK(hash != phx_memory_land(memory, &b));
    phx_memory_destroy(memory);
}

TEST(memory_read_after_its_signal_is_fine)
{
    struct phx_memory *memory = make_region();
    land(memory, 0, 1, 0, 256);
    land(memory, 0, 2, 256, 256);
    signal(memory, 0, 2, 0);
    phx_memory_observe(memory, 0, word_of(0));
    read(memory, 0, 512); // the signal covers the earlier message too
    CHECK_EQ(found.count, 0);
    phx_memory_destroy(memory);
}

TEST(memory_read_before_its_signal_is_found)
{
    struct phx_memory *memory = make_region();
    land(memory, 0, 1, 0, 256);
    signal(memory, 0, 1, 0);
    read(memory, 128, 64); // stored, but nobody looked
    CHECK_EQ(found.count, 1);
    CHECK_STR_EQ(found.last.rule, "unsignalled-read");
    CHECK_EQ(found.last.rank, 0);
    CHECK_EQ(found.last.at_ns, 7000);
    phx_memory_observe(memory, 0, word_of(0));
    read(memory, 128, 64);
    CHECK_EQ(found.count, 1);
    land(memory, 0, 2, 128, 64); // again, by a message that is not signalled yet
    read(memory, 64, 64);
    CHECK_EQ(found.count, 1);
    read(memory, 64, 65);
    CHECK_EQ(found.count, 2);
    phx_memory_destroy(memory);
}

TEST(memory_signal_of_another_lane_covers_nothing)
{
    struct phx_memory *memory = make_region();
    land(memory, 0, 1, 0, 64);
    signal(memory, 1, 9, 0);
    phx_memory_observe(memory, 0, word_of(0));
    read(memory, 0, 64);
    CHECK_EQ(found.count, 1);
    CHECK_STR_EQ(found.last.rule, "unsignalled-read");
    phx_memory_destroy(memory);
}

TEST(memory_unwritten_read_is_found_except_of_words)
{
    struct phx_memory *memory = make_region();
    read(memory, 4096, 64);
    CHECK_EQ(found.count, 1);
    CHECK_STR_EQ(found.last.rule, "unwritten-read");
    signal(memory, 0, 1, 2);
    read(memory, WORD - 16, 8); // a leaf may read words as bytes
    CHECK_EQ(found.count, 1);
    phx_memory_touch(memory, 0, payload, 64, false, 0); // its own memory
    phx_memory_touch(memory, 1, region, 64, false, 0);  // not rank 1's table
    CHECK_EQ(found.count, 1);
    phx_memory_destroy(memory);
}

TEST(memory_write_to_a_peers_region_is_found)
{
    struct phx_memory *memory = make_region();
    phx_memory_touch(memory, 0, region + 64, 8, true, 0);
    CHECK_EQ(found.count, 1);
    CHECK_STR_EQ(found.last.rule, "write-to-peer-region");
    phx_memory_destroy(memory);
}

static void land_for(struct phx_memory *memory, uint32_t ordinal, uint32_t kind, uint32_t sequence,
                     uint64_t at_ps)
{
    struct phx_landing l = landing(0, ordinal, 0, 256);
    l.token = kind << 28 | sequence;
    l.at_ps = at_ps;
    (void)phx_memory_land(memory, &l);
}

TEST(memory_slot_reuse_needs_the_receivers_completion)
{
    struct phx_memory *memory = make_region();
    land_for(memory, 1, PHX_DISPATCH, 1, 100);
    land_for(memory, 2, PHX_DISPATCH, 1, 150); // the same operation
    land_for(memory, 3, PHX_COMBINE, 9, 200);  // another kind has its own slots
    land_for(memory, 4, PHX_DISPATCH, 1, 250);
    CHECK_EQ(found.count, 0);
    phx_memory_phase(memory, 0, PHX_PHASE_DISPATCH_RECEIVE, 1, 300);
    land_for(memory, 5, PHX_DISPATCH, 3, 400);
    CHECK(found.count > 0);
    CHECK_STR_EQ(found.last.rule, "slot-reused-without-evidence");
    CHECK_EQ(found.last.kind, PHX_DISPATCH);
    CHECK_EQ(found.last.number, 1);
    found.count = 0;
    phx_memory_phase(memory, 0, PHX_PHASE_DISPATCH_DONE, 3, 1000);
    land_for(memory, 6, PHX_DISPATCH, 5, 999); // the completion lies ahead in virtual time
    CHECK(found.count > 0);
    found.count = 0;
    phx_memory_phase(memory, 0, PHX_PHASE_DISPATCH_DONE, 5, 2000);
    land_for(memory, 7, PHX_DISPATCH, 7, 2000);
    CHECK_EQ(found.count, 0);
    // Nobody reads a dead rank's memory.
    phx_memory_dead(memory, 0);
    land_for(memory, 8, PHX_DISPATCH, 9, 2100);
    CHECK_EQ(found.count, 0);
    phx_memory_destroy(memory);
}

TEST(memory_sequences_wrap)
{
    struct phx_memory *memory = make_region();
    land_for(memory, 1, PHX_DISPATCH, 0xFFFFFE, 100);
    phx_memory_phase(memory, 0, PHX_PHASE_DISPATCH_DONE, 0x1FFFFFE, 200);
    land_for(memory, 2, PHX_DISPATCH, 0, 300);
    CHECK_EQ(found.count, 0);
    land_for(memory, 3, PHX_DISPATCH, 2, 400);
    CHECK(found.count > 0);
    phx_memory_destroy(memory);
}

TEST(memory_ordinals_wrap)
{
    struct phx_memory *memory = make_region();
    const uint32_t last = (1u << 23) - 1;
    for (uint32_t ordinal = 3000000; ordinal < last; ordinal += 3000000) {
        signal(memory, 0, ordinal, 0); // no lane is ever half of all numbers behind
        phx_memory_observe(memory, 0, word_of(0));
    }
    land(memory, 0, last, 0, 64);
    signal(memory, 0, last, 0);
    phx_memory_observe(memory, 0, word_of(0));
    land(memory, 0, last + 1, 64, 64);
    read(memory, 0, 64);
    CHECK_EQ(found.count, 0);
    read(memory, 64, 64);
    CHECK_EQ(found.count, 1);
    signal(memory, 0, last + 1, 0);
    phx_memory_observe(memory, 0, word_of(0));
    read(memory, 0, 128);
    CHECK_EQ(found.count, 1);
    phx_memory_destroy(memory);
}

TEST(memory_fenced_write_is_found)
{
    struct phx_memory *memory = make_region();
    phx_memory_fence(memory, 0, 1, 1);
    struct phx_landing l = landing(0, 1, 0, 64);
    l.source_epoch = 2; // the next incarnation is another writer
    (void)phx_memory_land(memory, &l);
    CHECK_EQ(found.count, 0);
    land(memory, 0, 2, 0, 64);
    CHECK_EQ(found.count, 1);
    CHECK_STR_EQ(found.last.rule, "fenced-write");
    signal(memory, 0, 3, 0);
    CHECK_EQ(found.count, 2);
    phx_memory_destroy(memory);
}

TEST(memory_new_incarnation_starts_unobserved)
{
    struct phx_memory *memory = make_region();
    land(memory, 0, 40, 0, 64);
    signal(memory, 0, 40, 0);
    phx_memory_observe(memory, 0, word_of(0));
    struct phx_landing l = landing(0, 1, 128, 64);
    l.source_epoch = 2;
    (void)phx_memory_land(memory, &l);
    read(memory, 128, 64);
    CHECK_EQ(found.count, 1);
    CHECK_STR_EQ(found.last.rule, "unsignalled-read");
    phx_memory_destroy(memory);
}

TEST(memory_regions_do_not_overlap)
{
    struct phx_memory *memory = make_region();
    CHECK_EQ(phx_memory_add(memory, 0, region + 4096, 4096, 2), PHX_ERR_INVALID);
    CHECK_EQ(phx_memory_add(memory, 0, region, SIZE, 2), PHX_ERR_INVALID);
    phx_memory_remove(memory, 0, region);
    CHECK_EQ(phx_memory_add(memory, 0, region + 4096, 4096, 2), 0);
    CHECK_EQ(phx_memory_add(memory, 0, region, 4096, 3), 0);
    CHECK_EQ(phx_memory_add(memory, 0, region, 64, 9), PHX_ERR_INVALID); // no such rank
    phx_memory_destroy(memory);
}

// Where a region was found before says nothing once others lie there.
TEST(memory_a_span_is_of_the_region_that_is_there_now)
{
    struct phx_memory *memory = make_region();
    land(memory, 0, 1, 0, 64);
    signal(memory, 0, 1, 0);
    phx_memory_observe(memory, 0, word_of(0));
    read(memory, 0, 64);
    phx_memory_touch(memory, 0, payload, 64, false, 0); // its own memory
    CHECK_EQ(found.count, 0);
    phx_memory_remove(memory, 0, region);
    read(memory, 0, 64); // nobody's now
    CHECK_EQ(found.count, 0);
    CHECK_EQ(phx_memory_add(memory, 0, region + 4096, 4096, 2), 0);
    CHECK_EQ(phx_memory_add(memory, 0, region, 64, 3), 0);
    read(memory, 64, 64); // between them
    CHECK_EQ(found.count, 0);
    read(memory, 0, 64);
    CHECK_EQ(found.count, 1);
    CHECK(strstr(found.last.text, "rank 3") != NULL);
    read(memory, 4096, 64);
    CHECK_EQ(found.count, 2);
    CHECK(strstr(found.last.text, "rank 2") != NULL);
    phx_memory_destroy(memory);
}

TEST(memory_unchecked_only_copies)
{
    struct phx_memory *memory = make(false);
    CHECK(!phx_memory_checks(memory));
    memset(region, 0, sizeof region);
    CHECK_EQ(phx_memory_add(memory, 0, region, SIZE, 1), 0);
    land(memory, 0, 1, 0, 64);
    signal(memory, 0, 1, 0);
    read(memory, 0, 128);
    CHECK_EQ(found.count, 0);
    CHECK_MEM_EQ(region, payload, 64);
    CHECK_EQ(*word_of(0), 1);
    CHECK_EQ(phx_memory_figures(memory).touches, 0);
    phx_memory_destroy(memory);
}

TEST(memory_a_word_keeps_to_one_lane)
{
    struct phx_memory *memory = make_region();
    signal(memory, 1, 1, 0);
    signal(memory, 2, 1, 0); // a transport may
    signal(memory, 1, 2, 0);
    phx_memory_keep_lanes(memory);
    signal(memory, 2, 1, 1); // another word
    signal(memory, 1, 2, 0);
    CHECK_EQ(found.count, 0);
    signal(memory, 2, 2, 0);
    CHECK_EQ(found.count, 1);
    CHECK_STR_EQ(found.last.rule, "word-on-two-lanes");
    CHECK_EQ(found.last.rank, 0);
    struct phx_landing next = landing(0, 1, 0, 0); // the next incarnation begins anew
    next.source_epoch = 2;
    phx_memory_signal(memory, &next, word_of(0), 1);
    CHECK_EQ(found.count, 1);
    phx_memory_remove(memory, 0, region); // and so does memory that is another region now
    CHECK_EQ(phx_memory_add(memory, 0, region, SIZE, 1), 0);
    next.lane = 2;
    phx_memory_signal(memory, &next, word_of(0), 2);
    CHECK_EQ(found.count, 1);
    phx_memory_destroy(memory);
}

TEST(memory_an_older_incarnation_writes_nothing_after_a_later_one)
{
    struct phx_memory *memory = make_region();
    land(memory, 0, 1, 0, 64);
    struct phx_landing next = landing(0, 1, 64, 64);
    next.source_epoch = 2;
    (void)phx_memory_land(memory, &next);
    CHECK_EQ(found.count, 0);
    land(memory, 0, 2, 128, 64); // was under way when its process ended
    CHECK_EQ(found.count, 1);
    CHECK_STR_EQ(found.last.rule, "stale-write");
    phx_memory_destroy(memory);
}
