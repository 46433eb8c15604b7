// tests/fuzz/fuzz_words.c: reading signal words, over any history and across both wraps.
//
// Epochs and numbers here have 64 bits, words have 16 and 24 of them. As long as a word is less
// than 2^23 operations and 2^15 views away, the reader must see what the whole numbers say.

#include <stdbool.h>

#include "kernels/wait.h"
#include "tests/fake_target.h"
#include "tests/fuzz/fuzz.h"

#define RANKS 5u
#define WORDS 6u

struct written { // who wrote a word, in whole numbers
    uint64_t epoch;
    uint64_t number;
    uint32_t value;
};

static int64_t far(struct fuzz_input *in, int64_t most) // -most to most, often near
{
    uint8_t how = fuzz_u8(in);
    if (how < 160)
        return (int64_t)(how % 7) - 3;
    if (how < 200)
        return how % 2 == 0 ? most : -most;
    return (int64_t)(fuzz_u32(in) % (2 * (uint64_t)most + 1)) - most;
}

static uint64_t whole(struct fuzz_input *in, uint32_t bits) // from 1, often near a wrap
{
    uint64_t wraps = 1 + fuzz_below(in, 4);
    return (wraps << bits) + (uint64_t)far(in, INT64_C(1) << (bits - 1));
}

static struct written draw(struct fuzz_input *in, uint64_t epoch, uint64_t number)
{
    static const uint32_t values[] = {0,
                                      1,
                                      PHX_WORD_VALUE_MASKED,
                                      PHX_WORD_VALUE_MAX,
                                      PHX_WORD_VALUE_WAITING,
                                      PHX_WORD_VALUE_WAITING + 1};
    struct written w;
    uint8_t how = fuzz_u8(in);
    w.epoch = epoch + (how < 128 ? 0 : (uint64_t)far(in, (1 << 15) - 1));
    w.number = number + (uint64_t)far(in, (1 << 23) - 1);
    how = fuzz_u8(in);
    w.value =
        how < 192 ? values[how % (sizeof values / sizeof values[0])] : fuzz_u32(in) & 0xFFFFFF;
    return w;
}

static uint64_t in_words(uint64_t epoch) // as phx__view_install() puts it
{
    return (epoch - 1) % 0xFFFF + 1;
}

static uint32_t expect(const struct written *w, uint64_t epoch, uint64_t number)
{
    if (w->epoch != epoch || w->number < number)
        return PHX_SEEN_NOTHING;
    if (w->number > number || w->value == PHX_WORD_VALUE_MASKED)
        return PHX_SEEN_GONE;
    return PHX_SEEN_ALL;
}

static void check_words(const struct phx_worker *w, struct fuzz_input *in, uint64_t epoch)
{
    uint64_t words[WORDS];
    uint64_t sum = 0;
    uint64_t plain_sum = 0;
    uint32_t count = 1 + fuzz_below(in, WORDS);
    uint32_t expected = PHX_SEEN_ALL;
    for (uint32_t i = 0; i < count; i++) {
        struct written by = draw(in, epoch, w->op->sequence);
        words[i] = phx_word_make(in_words(by.epoch), by.number, by.value);
        uint32_t one = expect(&by, epoch, w->op->sequence);
        uint32_t seen = phx_word_says(words[i], w->rank->epoch, w->op->sequence);
        FUZZ_CHECK(seen == one,
                   "epoch %llu, number %llu, value %06x, read in %llu, %llu: %u not %u",
                   (unsigned long long)by.epoch, (unsigned long long)by.number, by.value,
                   (unsigned long long)epoch, (unsigned long long)w->op->sequence, seen, one);
        // One that gave up decides; then one that is not there yet.
        if (one == PHX_SEEN_GONE || expected == PHX_SEEN_GONE)
            expected = PHX_SEEN_GONE;
        else if (one == PHX_SEEN_NOTHING)
            expected = PHX_SEEN_NOTHING;
        plain_sum += by.value;
    }
    FUZZ_CHECK(phx_look(w, NULL, NULL, 0, words, count, &sum) == expected, "%u words", count);
    FUZZ_CHECK(expected != PHX_SEEN_ALL || sum == plain_sum, "%llu", (unsigned long long)sum);
}

static void check_status(const struct phx_worker *w, struct fuzz_input *in, uint64_t epoch)
{
    const struct phx_shape *s = &w->rank->shape;
    struct written by = draw(in, epoch, w->op->operation);
    uint64_t word = phx_word_make(in_words(by.epoch), by.number, by.value);
    int64_t expected = -1;
    memcpy(w->rank->from[1] + phx_status_word_offset(s), &word, sizeof word);
    bool is_held = by.value >= PHX_WORD_VALUE_HELD && by.value < PHX_WORD_VALUE_HELD + RANKS;
    bool is_waiting =
        by.value >= PHX_WORD_VALUE_WAITING && by.value < PHX_WORD_VALUE_WAITING + RANKS;
    // What it has sent is not late because it waits; what it has not all sent is.
    if (by.epoch == epoch && by.number <= w->op->operation &&
        w->op->operation - by.number <= 2 * s->in_flight - 1 &&
        (is_held || (is_waiting && by.number < w->op->operation)))
        expected = by.value - (is_held ? PHX_WORD_VALUE_HELD : PHX_WORD_VALUE_WAITING);
    int64_t seen = phx_waiting_on(w, 1);
    FUZZ_CHECK(seen == expected, "epoch %llu, operation %llu, value %06x: %lld, not %lld",
               (unsigned long long)by.epoch, (unsigned long long)by.number, by.value,
               (long long)seen, (long long)expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = fuzz_input_make(data, size);
    struct fake_target *fake = fake_target_open(0);
    struct phx_environment environment;
    struct phx_rank rank;
    struct phx_op_common op;
    struct phx_worker w;
    uint8_t *from[RANKS] = {NULL};
    memset(&environment, 0, sizeof environment);
    memset(&rank, 0, sizeof rank);
    memset(&op, 0, sizeof op);
    memset(&w, 0, sizeof w);
    rank.shape.ranks = RANKS;
    rank.shape.workers = 1 + fuzz_below(&in, 11);
    rank.shape.in_flight = 1 + fuzz_below(&in, 2);
    uint64_t epoch = whole(&in, 16);
    rank.epoch = (uint32_t)in_words(epoch);
    op.sequence = whole(&in, 24);
    op.operation = whole(&in, 24);
    from[1] = fuzz_alloc(phx_heads_bytes(&rank.shape));
    rank.from = from;
    environment.executor = fake_target_of(fake).executor;
    rank.environment = &environment;
    w.rank = &rank;
    w.count = 1;
    w.op = &op;
    FUZZ_CHECK(phx_word_says(0, rank.epoch, op.sequence) == PHX_SEEN_NOTHING,
               "memory that nobody wrote is a word");
    for (int round = 0; round < 8 && fuzz_left(&in) > 0; round++) {
        check_words(&w, &in, epoch);
        check_status(&w, &in, epoch);
    }
    free(from[1]);
    fake_target_close(fake);
    return 0;
}
