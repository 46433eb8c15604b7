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

static struct record *record_schedule(uint64_t seed, const struct phx_schedule *schedule)
{
    struct record *record = calloc(1, sizeof *record);
    CHECK(record != NULL);
    record->core = phx_core_create(seed, schedule);
    CHECK(record->core != NULL);
    phx_core_handle(record->core, 1, keep, record);
    return record;
}

static struct record *record_make(uint64_t seed, enum phx_tie tie)
{
    const struct phx_schedule schedule = {.tie = tie};
    return record_schedule(seed, &schedule);
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

// --- what comes soon -----------------------------------------------------------------------------

enum { MANY = 100000, FEW = 1000 };

struct hints {
    struct phx_core *core;
    uint64_t range_ps;
    uint32_t scheduled, taken;
    uint8_t stage[MANY]; // told of an event last
    bool is_taken[MANY];
    uint32_t told_at[MANY]; // events taken by then
    uint32_t count[PHX_SOON_NEXT + 1];
    uint64_t ahead; // events between the first telling of one and its being taken, of all
};

static void soon(void *context, uint32_t type, uint32_t object, enum phx_soon soon)
{
    struct hints *h = context;
    CHECK_EQ(type, 1);
    CHECK(object < MANY);
    CHECK_EQ(soon, h->stage[object] + 1u); // one after the other, each once
    CHECK(soon != PHX_SOON_FAR || !h->is_taken[object]);
    h->stage[object] = (uint8_t)soon;
    h->count[soon]++;
    if (soon == PHX_SOON_FAR)
        h->told_at[object] = h->taken;
}

static void schedule_one(struct hints *h, uint64_t from_ps)
{
    uint32_t i = h->scheduled++;
    uint64_t at_ps = from_ps + phx_chance_below(h->range_ps, 3, PHX_CHANCE_ORDER, 2, i);
    CHECK(phx_core_schedule(h->core, at_ps, 1, i, 0));
}

static void take(void *context, const struct phx_event_record *event)
{
    struct hints *h = context;
    h->is_taken[event->object] = true;
    h->ahead += h->stage[event->object] > 0 ? h->taken - h->told_at[event->object] : 0;
    h->taken++;
    if (h->scheduled < MANY)
        schedule_one(h, event->time_ps);
}

// Takes MANY events, of which `at_once` pend, within range_ps, with hints or not. Their hash.
static uint64_t hinted_run(struct hints *h, uint32_t at_once, uint64_t range_ps, bool is_hinted)
{
    memset(h, 0, sizeof *h);
    h->core = phx_core_create(3, NULL);
    h->range_ps = range_ps;
    CHECK(h->core != NULL);
    phx_core_handle(h->core, 1, take, h);
    if (is_hinted)
        phx_core_soon(h->core, soon, h);
    while (h->scheduled < at_once)
        schedule_one(h, 1000000);
    while (phx_core_step(h->core))
        continue;
    CHECK_EQ(h->taken, MANY);
    uint64_t hash = phx_core_hash(h->core);
    phx_core_destroy(h->core);
    return hash;
}

// Of most of many events, in stages, and in time; the run is the same with hints and without.
TEST(core_tells_of_many_events_as_they_come_near)
{
    const struct {
        uint32_t at_once;
        uint64_t range_ps;
        uint64_t ahead_min, ahead_max; // on average
    } cases[] = {
        {MANY, 256000, 50, 500},       // a hundred events in a list of 256 ps
        {MANY, 25600000, 15, 40},      // one
        {MANY / 10, 2560000, 15, 100}, // a few, and others come in
    };
    struct hints *h = calloc(1, sizeof *h);
    CHECK(h != NULL);
    for (uint32_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t plain = hinted_run(h, cases[i].at_once, cases[i].range_ps, false);
        CHECK_EQ(h->count[PHX_SOON_FAR], 0);
        CHECK_EQ(hinted_run(h, cases[i].at_once, cases[i].range_ps, true), plain);
        for (uint32_t soon = PHX_SOON_FAR; soon <= PHX_SOON_NEXT; soon++)
            CHECK_MSG(h->count[soon] > MANY / 10 * 9, "case %u: stage %u of %u events", i, soon,
                      h->count[soon]);
        uint64_t ahead = h->ahead / h->count[PHX_SOON_FAR];
        CHECK_MSG(ahead >= cases[i].ahead_min && ahead <= cases[i].ahead_max,
                  "case %u: %llu events ahead", i, (unsigned long long)ahead);
    }
    free(h);
}

TEST(core_tells_nothing_of_few_events)
{
    struct hints *h = calloc(1, sizeof *h);
    CHECK(h != NULL);
    (void)hinted_run(h, FEW, 2560, true);
    for (uint32_t soon = PHX_SOON_FAR; soon <= PHX_SOON_NEXT; soon++)
        CHECK_EQ(h->count[soon], 0);
    free(h);
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
static void queue_against_array(enum phx_tie tie_kind, uint64_t range_ps)
{
    bool random_ties = tie_kind == PHX_TIE_RANDOM;
    struct phx_queue queue;
    struct phx_queue_item *model = calloc(KEPT, sizeof *model);
    uint32_t count = 0;
    uint64_t now = 0;
    uint64_t key = 0;
    CHECK(model != NULL && phx_queue_init(&queue, tie_kind, 9));
    for (uint64_t step = 0; step < 6000; step++) {
        bool push =
            count == 0 || (count < 200 && phx_chance_below(2, 9, PHX_CHANCE_FAULT, 0, step));
        if (push) {
            uint64_t delay = phx_chance_below(range_ps, 9, PHX_CHANCE_FAULT, 1, step);
            key++;
            struct phx_queue_item item = {.time_ps = now + delay,
                                          .key = key << 6,
                                          .argument = random_ties,
                                          .actor = UINT32_MAX - (uint32_t)key}; // everyone one
            CHECK(phx_queue_push(&queue, &item));
            model[count++] = item;
            continue;
        }
        struct phx_queue_item item;
        uint64_t tie;
        qsort(model, count, sizeof *model, record_before);
        CHECK(phx_queue_pop(&queue, &item, &tie));
        CHECK_EQ(item.actor, UINT32_MAX - (item.key >> 6));
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

// As many lists as can be had from times that are pushed in order, with an event each.
TEST(core_queue_has_room_for_an_event_in_every_list)
{
    struct phx_queue queue;
    uint64_t key = 0;
    CHECK(phx_queue_init(&queue, PHX_TIE_FIFO, 9));
    for (uint32_t level = 0; level < PHX_QUEUE_LEVELS; level++) {
        for (uint64_t i = level == 0 ? 0 : 1; i < PHX_QUEUE_SLOTS; i++) {
            struct phx_queue_item item = {.time_ps = i << 8 * level, .key = ++key << 6};
            CHECK(phx_queue_push(&queue, &item));
        }
    }
    for (uint64_t i = 1; i <= key; i++) {
        struct phx_queue_item item;
        uint64_t tie;
        CHECK(phx_queue_pop(&queue, &item, &tie));
        CHECK_EQ(item.key, i << 6);
    }
    CHECK_EQ(queue.count, 0);
    phx_queue_free(&queue);
}

// What lists leave behind is used again: many more events than blocks go by.
TEST(core_queue_uses_blocks_again)
{
    struct phx_queue queue;
    struct phx_queue_item item = {.time_ps = 0};
    uint64_t tie;
    CHECK(phx_queue_init(&queue, PHX_TIE_FIFO, 9));
    for (uint32_t round = 0; round < 1000; round++) {
        uint64_t base_ps = item.time_ps;
        for (uint32_t i = 0; i < 4 * PHX_QUEUE_BLOCK; i++) {
            item = (struct phx_queue_item){.time_ps = base_ps + 1 + i / 40 * 5000, .key = i << 6};
            CHECK(phx_queue_push(&queue, &item));
        }
        while (phx_queue_pop(&queue, &item, &tie))
            continue;
    }
    CHECK(queue.used <= 16 * PHX_QUEUE_BLOCK);
    phx_queue_free(&queue);
}

// All at one time, in numbers around those at which the heap of ties grows.
TEST(core_queue_has_room_for_every_tie)
{
    for (uint32_t count = 500; count <= 1100; count++) {
        struct phx_queue queue;
        struct phx_queue_item item;
        uint64_t tie;
        uint64_t before = 0;
        CHECK(phx_queue_init(&queue, PHX_TIE_RANDOM, 9));
        for (uint32_t i = 1; i <= count; i++) {
            item = (struct phx_queue_item){.time_ps = 7, .key = (uint64_t)i << 6, .actor = i};
            CHECK(phx_queue_push(&queue, &item));
        }
        for (uint32_t i = 0; i < count; i++) {
            CHECK(phx_queue_pop(&queue, &item, &tie));
            CHECK(tie >= before);
            before = tie;
        }
        CHECK(!phx_queue_pop(&queue, &item, &tie));
        phx_queue_free(&queue);
    }
}

TEST(core_queue_agrees_with_a_sorted_array)
{
    for (uint64_t range_ps = 1; range_ps < UINT64_C(1) << 40; range_ps *= 37) {
        queue_against_array(PHX_TIE_FIFO, range_ps);
        queue_against_array(PHX_TIE_RANDOM, range_ps);
    }
}

// --- ties, actors, quanta
// -------------------------------------------------------------------------

#define ACTORS 20u
#define PER_ACTOR 40u

// Each actor has events at a few times; each event's argument counts the actor's.
static struct record *actors_run(uint64_t seed, const struct phx_schedule *schedule)
{
    struct record *record = record_schedule(seed, schedule);
    for (uint32_t i = 0; i < PER_ACTOR; i++)
        for (uint32_t a = 0; a < ACTORS; a++)
            CHECK(phx_core_schedule_as(record->core, 1000 + i / 10 * 500 + (a * 7 + i) % 100, 1,
                                       i * ACTORS + a, i, a));
    drain(record);
    CHECK_EQ(record->count, ACTORS * PER_ACTOR);
    return record;
}

// How many of the events stand elsewhere in the two.
static uint32_t differs(const struct record *a, const struct record *b)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->count; i++)
        count += a->kept[i].object != b->kept[i].object;
    return count;
}

TEST(core_never_lets_an_actor_overtake_itself)
{
    for (enum phx_tie tie = PHX_TIE_FIFO; tie <= PHX_TIE_PCT; tie++) {
        for (uint64_t seed = 1; seed <= 20; seed++) {
            const struct phx_schedule schedule = {
                .tie = tie, .pct_depth = 10, .pct_events = 800, .quantum_ps = 100};
            struct record *record = actors_run(seed, &schedule);
            uint64_t next[ACTORS] = {0};
            for (uint32_t i = 0; i < record->count; i++) {
                const struct phx_event_record *e = &record->kept[i];
                // Not rounded times may differ, but within one rounded time the order is that of
                // scheduling; and blocks of ten do not share a time.
                CHECK_EQ(e->argument / 10, next[e->object % ACTORS] / 10);
                CHECK(i == 0 || e->time_ps >= record->kept[i - 1].time_ps);
                next[e->object % ACTORS]++;
            }
            record_free(record);
        }
    }
}

TEST(core_keeps_an_actors_order_at_one_time)
{
    for (enum phx_tie tie = PHX_TIE_FIFO; tie <= PHX_TIE_PCT; tie++) {
        uint32_t switches = 0;
        for (uint64_t seed = 1; seed <= 10; seed++) {
            const struct phx_schedule schedule = {.tie = tie, .pct_depth = 8, .pct_events = 500};
            struct record *record = record_schedule(seed, &schedule);
            uint64_t next[5] = {0};
            for (uint32_t i = 0; i < 500; i++)
                CHECK(phx_core_schedule_as(record->core, 77, 1, i, i / 5, i % 5));
            drain(record);
            for (uint32_t i = 0; i < 500; i++) {
                uint32_t actor = record->kept[i].object % 5;
                CHECK_EQ(record->kept[i].argument, next[actor]++);
                switches += i > 0 && record->kept[i - 1].object % 5 != actor;
            }
            record_free(record);
        }
        // FIFO takes turns; PCT goes on with one actor until it falls or has no more.
        CHECK_MSG(tie == PHX_TIE_PCT ? switches >= 10 * 4 && switches <= 10 * 11
                                     : switches > 10 * 15,
                  "%u switches of actor with ties %d", switches, (int)tie);
    }
}

TEST(core_ties_of_a_seed_are_the_same_again_and_differ_between_kinds)
{
    struct record *kinds[3];
    for (enum phx_tie tie = PHX_TIE_FIFO; tie <= PHX_TIE_PCT; tie++) {
        const struct phx_schedule schedule = {.tie = tie, .pct_events = 600, .quantum_ps = 500};
        struct record *record = actors_run(3, &schedule);
        struct record *again = actors_run(3, &schedule);
        struct record *other = actors_run(4, &schedule);
        CHECK_EQ(differs(record, again), 0);
        CHECK_EQ(phx_core_hash(record->core), phx_core_hash(again->core));
        if (tie == PHX_TIE_FIFO)
            CHECK_EQ(differs(record, other), 0);
        else
            CHECK_MSG(differs(record, other) > 500, "another seed moved only %u",
                      differs(record, other));
        kinds[tie - PHX_TIE_FIFO] = record;
        record_free(again);
        record_free(other);
    }
    CHECK(differs(kinds[0], kinds[1]) > 500 && differs(kinds[0], kinds[2]) > 500 &&
          differs(kinds[1], kinds[2]) > 500);
    for (uint32_t i = 0; i < 3; i++)
        record_free(kinds[i]);
}

TEST(core_pct_lowers_an_actor_at_a_drawn_event)
{
    // Depth 1 draws no event: the order of actors is that of their priorities throughout.
    for (uint32_t depth = 1; depth <= 2; depth++) {
        uint32_t fell = 0;
        for (uint64_t seed = 1; seed <= 10; seed++) {
            const struct phx_schedule schedule = {
                .tie = PHX_TIE_PCT, .pct_depth = depth, .pct_events = 90};
            struct record *record = record_schedule(seed, &schedule);
            for (uint32_t i = 0; i < 100; i++)
                CHECK(phx_core_schedule_as(record->core, i, 1, i % 2, i, i % 2));
            for (uint32_t i = 0; i < 100; i++)
                CHECK(phx_core_schedule_as(record->core, 500, 1, i % 2, i, i % 2));
            drain(record);
            uint32_t first = record->kept[100].object;
            for (uint32_t i = 100; i < 200; i++)
                fell += (record->kept[i].object == first) != (i < 150);
            // Each event after the fall has a priority above all that did not fall.
            uint64_t top = UINT64_C(1) << 63;
            for (uint32_t i = 100; i < 200; i++)
                CHECK(depth == 2 || record->kept[i].tie < top);
            CHECK_EQ(depth == 2, record->kept[199].tie >= top);
            record_free(record);
        }
        CHECK_EQ(fell, 0); // no change strikes after event 90
    }
}

TEST(core_rounds_times_up_to_the_quantum)
{
    const struct phx_schedule schedule = {.quantum_ps = 1000};
    struct record *record = record_schedule(1, &schedule);
    const uint64_t times[] = {0, 1, 999, 1000, 1001, UINT64_MAX - 10};
    const uint64_t rounded[] = {0, 1000, 1000, 1000, 2000, UINT64_MAX - 10};
    for (uint32_t i = 0; i < 6; i++)
        CHECK(phx_core_schedule(record->core, times[i], 1, i, 0));
    drain(record);
    for (uint32_t i = 0; i < 6; i++) {
        CHECK_EQ(record->kept[i].object, i);
        CHECK_EQ(record->kept[i].time_ps, rounded[i]);
    }
    record_free(record);
}

TEST(core_dispatches_right_after_an_event)
{
    struct record *record = record_make(1, PHX_TIE_FIFO);
    CHECK(phx_core_at_event(record->core, 7, 1, 107, 0));
    CHECK(phx_core_at_event(record->core, 3, 1, 103, 0));
    CHECK(phx_core_at_event(record->core, 7, 1, 207, 0));  // after the other one
    CHECK(phx_core_at_event(record->core, 30, 1, 130, 0)); // never comes
    for (uint32_t i = 1; i <= 10; i++)
        CHECK(phx_core_schedule(record->core, 10 * i, 1, i, 0));
    drain(record);
    const uint32_t order[] = {1, 2, 3, 103, 4, 5, 6, 7, 107, 207, 8, 9, 10};
    CHECK_EQ(record->count, 13);
    for (uint32_t i = 0; i < 13; i++)
        CHECK_EQ(record->kept[i].object, order[i]);
    CHECK_EQ(record->kept[3].time_ps, 30);
    CHECK_EQ(phx_core_events(record->core), 10);          // they have no numbers of their own
    CHECK(phx_core_at_event(record->core, 2, 1, 102, 0)); // late: next
    CHECK(phx_core_step(record->core));
    CHECK_EQ(record->kept[13].object, 102);
    CHECK(!phx_core_step(record->core));
    record_free(record);
}

TEST(core_names_the_field_of_a_schedule_that_it_refuses)
{
    struct phx_message message;
    const struct phx_schedule tie = {.tie = (enum phx_tie)9};
    const struct phx_schedule depth = {.pct_depth = PHX_PCT_DEPTH_MAX + 1};
    const struct phx_schedule quantum = {.quantum_ps = PHX_QUANTUM_PS_MAX + 1};
    const struct phx_schedule plain = {.tie = (enum phx_tie)0};
    CHECK_EQ(phx_schedule_check(&plain, &message), 0);
    CHECK_EQ(phx_schedule_check(&tie, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "tie is 9; it may be 0 to 3 (PHX_TIE_PCT)");
    CHECK_EQ(phx_schedule_check(&depth, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "pct_depth is 65; it may be 0 to 64");
    CHECK_EQ(phx_schedule_check(&quantum, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "quantum_ps is 1000000000001; it may be 0 to 1000000000000");
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
