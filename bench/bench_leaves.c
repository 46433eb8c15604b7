// bench/bench_leaves.c: how fast each set of leaves is on this processor, one thread.
//
//   bench_leaves [--json] [CHANNELS]     7168 channels by default; a multiple of 128, at most 16384
//
// Each figure is the best of eleven runs over rows that fit in the second-level cache: bytes read
// plus written per second. Compare sets with each other; absolute rates are of this machine alone.

#define _POSIX_C_SOURCE 200809L // clock_gettime

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/limits.h"
#include "kernels/leaves.h"

enum { ROWS = 8, REPEATS = 11, PASSES = 40 };

struct rows {
    _Alignas(64) uint16_t x[ROWS][PHX_HIDDEN_MAX];
    _Alignas(64) uint16_t out[ROWS][PHX_HIDDEN_MAX];
    _Alignas(64) uint8_t q[ROWS][PHX_HIDDEN_MAX];
    float scale[ROWS][PHX_HIDDEN_MAX / PHX_SCALE_GROUP];
    uint8_t exponent[ROWS][PHX_HIDDEN_MAX / PHX_SCALE_GROUP];
    const uint16_t *list[ROWS];
    float weights[ROWS];
};
static struct rows m;

enum leaf {
    QUANTISE_F32 = 1,
    QUANTISE_UE8M0,
    DEQUANTISE_F32,
    DEQUANTISE_UE8M0,
    COPY,
    STREAM,
    SUM_8,
    END
};

static const char *leaf_name(enum leaf leaf)
{
    static const char *const names[] = {"quantise_f32",     "quantise_ue8m0", "dequantise_f32",
                                        "dequantise_ue8m0", "copy",           "stream",
                                        "sum_rows of 8"};
    return names[leaf - 1];
}

// Runs the leaf over every row once and returns the bytes that it read and wrote.
static uint64_t leaf_run(const struct phx_leaves *set, enum leaf leaf, uint32_t channels)
{
    uint64_t groups = channels / PHX_SCALE_GROUP;
    if (leaf == SUM_8) {
        set->sum_rows(m.out[0], m.list, m.weights, ROWS, 1.0f, channels);
        return 2ull * channels * (ROWS + 1);
    }
    for (uint32_t r = 0; r < ROWS; r++) {
        switch (leaf) {
        case QUANTISE_F32:
            set->quantise_f32(m.x[r], channels, m.q[r], m.scale[r]);
            break;
        case QUANTISE_UE8M0:
            set->quantise_ue8m0(m.x[r], channels, m.q[r], m.exponent[r]);
            break;
        case DEQUANTISE_F32:
            set->dequantise_f32(m.q[r], m.scale[r], channels, m.out[r]);
            break;
        case DEQUANTISE_UE8M0:
            set->dequantise_ue8m0(m.q[r], m.exponent[r], channels, m.out[r]);
            break;
        case STREAM:
            set->stream(m.out[r], m.x[r], 2ull * channels);
            break;
        default:
            set->copy(m.out[r], m.x[r], 2ull * channels);
        }
    }
    if (leaf == COPY || leaf == STREAM)
        return 4ull * channels * ROWS;
    uint64_t scale_bytes = leaf == QUANTISE_F32 || leaf == DEQUANTISE_F32 ? 4 : 1;
    return ROWS * (3ull * channels + groups * scale_bytes);
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double leaf_rate(const struct phx_leaves *set, enum leaf leaf, uint32_t channels)
{
    double best = 0;
    for (int i = 0; i < REPEATS; i++) {
        uint64_t bytes = 0;
        double begin = now_s();
        for (int pass = 0; pass < PASSES; pass++)
            bytes += leaf_run(set, leaf, channels);
        double rate = (double)bytes / (now_s() - begin);
        best = rate > best ? rate : best;
    }
    return best;
}

static void rows_fill(void)
{
    uint64_t state = 1;
    for (uint32_t r = 0; r < ROWS; r++) {
        for (uint32_t c = 0; c < PHX_HIDDEN_MAX; c++) {
            state = state * 6364136223846793005ull + 1442695040888963407ull;
            m.x[r][c] = (uint16_t)((state >> 48 & 0x807Fu) | (0x3C00u + ((state >> 40 & 15) << 7)));
        }
        m.list[r] = m.x[r];
        m.weights[r] = 1.0f / (float)(r + 1);
    }
}

int main(int argc, char **argv)
{
    int json = argc >= 2 && strcmp(argv[1], "--json") == 0;
    unsigned long channels = argc > 1 + json ? strtoul(argv[1 + json], NULL, 10) : 7168;
    if (argc > 2 + json || channels == 0 || channels > PHX_HIDDEN_MAX ||
        channels % PHX_HIDDEN_MULTIPLE != 0) {
        fprintf(stderr, "usage: %s [--json] [CHANNELS]   (a multiple of %u, at most %u)\n", argv[0],
                PHX_HIDDEN_MULTIPLE, PHX_HIDDEN_MAX);
        return 2;
    }
    rows_fill();
    if (json)
        printf("{\"channels\": %lu, \"bytes_per_s\": {", channels);
    else
        printf("%lu channels, GB/s\n", channels);
    for (uint32_t s = 0; s < PHX_LEAVES_SETS; s++) {
        const struct phx_leaves *set = phx_leaves_set(s);
        if (set == NULL)
            continue;
        if (json)
            printf("%s\"%s\": {", s > 0 ? ", " : "", set->name);
        for (enum leaf leaf = QUANTISE_F32; leaf < END; leaf++) {
            double rate = leaf_rate(set, leaf, (uint32_t)channels);
            if (json)
                printf("%s\"%s\": %.0f", leaf > QUANTISE_F32 ? ", " : "", leaf_name(leaf), rate);
            else
                printf("  %-9s %-17s %7.2f\n", set->name, leaf_name(leaf), rate * 1e-9);
        }
        if (json)
            printf("}");
    }
    if (json)
        printf("}}\n");
    return 0;
}
