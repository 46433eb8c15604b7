// tests/fuzz/fuzz.h: what every fuzz target includes.
//
// A target is one function over arbitrary bytes. It is linked with libFuzzer (preset `fuzz`) to
// look for inputs, and in every build with replay.c, which runs the inputs that were kept
// (corpus/NAME). It may end in three ways: return 0, a sanitizer's report, or a FUZZ_CHECK that
// does not hold.

#ifndef PHX_TESTS_FUZZ_FUZZ_H
#define PHX_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Ends the process; libFuzzer and replay.c then name the input.
#define FUZZ_CHECK(condition, ...)                                                                 \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: FUZZ_CHECK(%s): ", __FILE__, __LINE__, #condition);      \
            (void)fprintf(stderr, __VA_ARGS__);                                                    \
            (void)fprintf(stderr, "\n");                                                           \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

// The input, taken from the front. Past its end everything is zero, so that every input is one.
struct fuzz_input {
    const uint8_t *data;
    size_t size;
    size_t at;
};

static inline struct fuzz_input fuzz_input_make(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size, 0};
    return in;
}
static inline size_t fuzz_left(const struct fuzz_input *in)
{
    return in->size - in->at;
}
static inline void fuzz_bytes(struct fuzz_input *in, void *to, size_t size)
{
    size_t taken = size < fuzz_left(in) ? size : fuzz_left(in);
    memset(to, 0, size);
    if (taken > 0)
        memcpy(to, in->data + in->at, taken);
    in->at += taken;
}
static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
    uint8_t value;
    fuzz_bytes(in, &value, sizeof value);
    return value;
}
static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
    uint16_t value;
    fuzz_bytes(in, &value, sizeof value);
    return value;
}
static inline uint32_t fuzz_u32(struct fuzz_input *in)
{
    uint32_t value;
    fuzz_bytes(in, &value, sizeof value);
    return value;
}
static inline uint64_t fuzz_u64(struct fuzz_input *in)
{
    uint64_t value;
    fuzz_bytes(in, &value, sizeof value);
    return value;
}
// One byte decides; bound is at most 256.
static inline uint32_t fuzz_below(struct fuzz_input *in, uint32_t bound)
{
    return fuzz_u8(in) % bound;
}

static inline void *
fuzz_alloc(size_t size) // zeroed; of exactly this size, so that ASan sees its end
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (memory == NULL)
        abort();
    return memory;
}

#endif
