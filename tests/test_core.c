// tests/test_core.c: the event core: order, ties, the hash, chance.

#include <stdlib.h>
#include <string.h>

#include "sim/core.h"
#include "sim/queue.h"
#include "tests/test.h"

#define KEPT 8192

struct record {
    struct phx_core *core;
    struct phx_event_record kept[KEPT];
    uint32_t count;
    uint32_t more; // events that a handler goes on to schedule, each at a chance of times
    uint64_t range_ps;
};

static void keep(void *context, const struct phx_event_record *event)
{
    struct record *record = context;
    CHECK(record->count < KEPT);
    record->kept[record->count++] = *event;
    if (record->more == 0)
        return;
    record->more--;
    uint64_t delay = phx_chance_below(record->range_ps, 5, PHX_CHANCE_ORDER, 1, record->more);
    CHECK(phx_core_schedule(record->core, event->time_ps + delay, 1, event->object + 1, 0));
}

static struct record *record_make(uint64_t seed, enum phx_tie tie)
{
    struct record *record = calloc(1, sizeof *record);
    CHECK(record != NULL);
    record->core = phx_core_create(seed, tie);
    CHECK(record->core != NULL);
    phx_core_handle(record->core, 1, keep, record);
    return record;
}

static void record_free(struct record *record)
{
    phx_core_destroy(record->core);
    free(record);
}

static void drain(struct record *record)
{
    while (phx_core_step(record->core))
        continue;
}

TEST(core_dispatches_in_order_of_time)
{
    struct record *record = record_make(1, PHX_TIE_FIFO);
    const uint64_t times[] = {7, 3, UINT64_C(1) << 40, 0, 300, 65536, 255, 256, 257, 3};
    const uint64_t sorted[] = {0, 3, 3, 7, 255, 256, 257, 300, 65536, UINT64_C(1) << 40};
    for (uint32_t i = 0; i < 10; i++)
        CHECK(phx_core_schedule(record->core, times[i], 1, i, 0));
    CHECK_EQ(phx_core_pending(record->core), 10);
    drain(record);
    CHECK_EQ(record->count, 10);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQ(record->kept[i].time_ps, sorted[i]);
    CHECK_EQ(phx_core_now_ps(record->core), UINT64_C(1) << 40);
    CHECK_EQ(phx_core_events(record->core), 10);
    CHECK_EQ(phx_core_pending(record->core), 0);
    record_free(record);
}

TEST(core_keeps_equal_times_first_in_first_out)
{
    struct record *record = record_make(1, PHX_TIE_FIFO);
    for (uint32_t i = 0; i < 1000; i++)
        CHECK(phx_core_schedule(record->core, 70000 + i % 3 * 300, 1, i, 0));
    drain(record);
    for (uint32_t i = 1; i < record->count; i++) {
        const struct phx_event_record *a = &record->kept[i - 1], *b = &record->kept[i];
        CHECK(a->time_ps < b->time_ps || (a->time_ps == b->time_ps && a->sequence < b->sequence));
        CHECK_EQ(b->tie, 0);
    }
    record_free(record);
}

TEST(core_orders_equal_times_by_seeded_tie)
{
    struct record *record = record_make(3, PHX_TIE_RANDOM);
    struct record *other = record_make(4, PHX_TIE_RANDOM);
    uint32_t against_order = 0;
    uint32_t moved = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        CHECK(phx_core_schedule(record->core, 5000 + i % 2, 1, i, 0));
        CHECK(phx_core_schedule(other->core, 5000 + i % 2, 1, i, 0));
    }
    drain(record);
    drain(other);
    CHECK_EQ(record->count, 1000);
    for (uint32_t i = 1; i < record->count; i++) {
        const struct phx_event_record *a = &record->kept[i - 1], *b = &record->kept[i];
        CHECK(a->time_ps < b->time_ps || (a->time_ps == b->time_ps && a->tie < b->tie));
        against_order += a->time_ps == b->time_ps && a->sequence > b->sequence;
        moved += record->kept[i].object != other->kept[i].object;
    }
    CHECK_MSG(against_order > 300 && against_order < 700, "%u of 1000 against order",
              against_order);
    CHECK_MSG(moved > 900, "another seed moved only %u of 1000", moved);
    record_free(record);
    record_free(other);
}

static int record_before(const void *left, const void *right)
{
    const struct phx_queue_item *a = left, *b = right;
    uint64_t tie_a = phx_chance(9, PHX_CHANCE_TIE, 0, a->key >> 6);
    uint64_t tie_b = phx_chance(9, PHX_CHANCE_TIE, 0, b->key >> 6);
    if (a->time_ps != b->time_ps)
        return a->time_ps < b->time_ps ? -1 : 1;
    if (a->argument != 0 && tie_a != tie_b) // argument: ties are random
        return tie_a < tie_b ? -1 : 1;
    return a->key < b->key ? -1 : 1;
}

// Pushes and pops at random; a sorted array says what should have come.
static void queue_against_array(bool random_ties, uint64_t range_ps)
{
    struct phx_queue queue;
    struct phx_queue_item *model = calloc(KEPT, sizeof *model);
    uint32_t count = 0;
    uint64_t now = 0;
    uint64_t key = 0;
    CHECK(model != NULL && phx_queue_init(&queue, random_ties, 9));
    for (uint64_t step = 0; step < 6000; step++) {
        bool push =
            count == 0 || (count < 200 && phx_chance_below(2, 9, PHX_CHANCE_FAULT, 0, step));
        if (push) {
            uint64_t delay = phx_chance_below(range_ps, 9, PHX_CHANCE_FAULT, 1, step);
            struct phx_queue_item item = {
                .time_ps = now + delay, .key = ++key << 6, .argument = random_ties};
            CHECK(phx_queue_push(&queue, &item));
            model[count++] = item;
            continue;
        }
        struct phx_queue_item item;
        uint64_t tie;
        qsort(model, count, sizeof *model, record_before);
        CHECK(phx_queue_pop(&queue, &item, &tie));
        CHECK_EQ(item.time_ps, model[0].time_ps);
        CHECK_EQ(item.key, model[0].key);
        CHECK_EQ(tie, random_ties ? phx_chance(9, PHX_CHANCE_TIE, 0, item.key >> 6) : 0);
        now = item.time_ps;
        memmove(model, model + 1, --count * sizeof *model);
    }
    CHECK_EQ(queue.count, count);
    phx_queue_free(&queue);
    free(model);
}

TEST(core_queue_agrees_with_a_sorted_array)
{
    for (uint64_t range_ps = 1; range_ps < UINT64_C(1) << 40; range_ps *= 37) {
        queue_against_array(false, range_ps);
        queue_against_array(true, range_ps);
    }
}

TEST(core_takes_the_past_for_now)
{
    struct record *record = record_make(1, PHX_TIE_FIFO);
    CHECK(phx_core_schedule(record->core, 500, 1, 0, 0));
    CHECK(phx_core_step(record->core));
    CHECK(phx_core_schedule(record->core, 100, 1, 1, 0));
    CHECK(phx_core_step(record->core));
    CHECK_EQ(record->kept[1].time_ps, 500);
    CHECK(!phx_core_step(record->core));
    record_free(record);
}

static uint64_t run_hash(uint64_t seed, enum phx_tie tie, uint64_t change)
{
    struct record *record = record_make(seed, tie);
    record->more = 2000;
    record->range_ps = 100000;
    for (uint32_t i = 0; i < 50; i++)
        CHECK(phx_core_schedule(record->core, i % 7 * 1000, 1, i, i == 30 ? change : 0));
    drain(record);
    uint64_t hash = phx_core_hash(record->core);
    CHECK_EQ(hash, phx_core_hash(record->core)); // asking changes nothing
    phx_core_fold(record->core, 1);
    if (phx_core_has_hash())
        CHECK(hash != phx_core_hash(record->core));
    record_free(record);
    return hash;
}

TEST(core_hash_is_a_function_of_the_run)
{
    if (!phx_core_has_hash())
        SKIP("this build has no xxHash");
    CHECK_EQ(run_hash(1, PHX_TIE_FIFO, 0), run_hash(1, PHX_TIE_FIFO, 0));
    CHECK_EQ(run_hash(1, PHX_TIE_RANDOM, 0), run_hash(1, PHX_TIE_RANDOM, 0));
    CHECK(run_hash(1, PHX_TIE_FIFO, 0) != run_hash(2, PHX_TIE_FIFO, 0));
    CHECK(run_hash(1, PHX_TIE_FIFO, 0) != run_hash(1, PHX_TIE_RANDOM, 0));
    CHECK(run_hash(1, PHX_TIE_FIFO, 0) != run_hash(1, PHX_TIE_FIFO, 1));
    // The same on every compiler, level and byte order.
    CHECK_EQ(run_hash(1, PHX_TIE_FIFO, 0), INT64_C(0x20aad7273674bb59));
}

TEST(core_chance_is_even_and_depends_on_all_it_is_given)
{
    uint32_t buckets[16] = {0};
    for (uint64_t i = 0; i < 16000; i++)
        buckets[phx_chance_below(16, 1, PHX_CHANCE_LOSS, 3, i)]++;
    for (uint32_t i = 0; i < 16; i++)
        CHECK_MSG(buckets[i] > 880 && buckets[i] < 1120, "%u of 1000 in bucket %u", buckets[i], i);
    uint64_t base = phx_chance(1, PHX_CHANCE_LOSS, 3, 4);
    CHECK_EQ(base, phx_chance(1, PHX_CHANCE_LOSS, 3, 4));
    CHECK(base != phx_chance(2, PHX_CHANCE_LOSS, 3, 4));
    CHECK(base != phx_chance(1, PHX_CHANCE_ORDER, 3, 4));
    CHECK(base != phx_chance(1, PHX_CHANCE_LOSS, 4, 4));
    CHECK(base != phx_chance(1, PHX_CHANCE_LOSS, 3, 5));
    CHECK(base != phx_chance(1, PHX_CHANCE_LOSS, 4, 3));
    CHECK_EQ(phx_chance_below(1, 1, PHX_CHANCE_LOSS, 3, 4), 0);
}
