// tests/golden/sweep.c: sweeps all 2^32 f32 inputs on this processor.
//
//   sweep --print [THREADS]   writes sweep_hashes.h to standard output
//   sweep --check [THREADS]   recomputes every hash, through the scalar conversions and those of
//                             every set of leaves that runs here, and exits 1 if one differs from
//                             sweep_hashes.h
//
// It takes half a minute of one core; test_numerics recomputes only chosen blocks.

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/leaves.h"
#include "tests/golden/sweep_cpu.h"
#include "tests/golden/sweep_hashes.h"

#define COLUMNS (PHX_SWEEP_END - PHX_SWEEP_BF16)
#define THREADS_MAX 64

static uint64_t scalar[PHX_SWEEP_BLOCKS][COLUMNS];
static uint64_t vector[PHX_SWEEP_VECTORS][PHX_SWEEP_BLOCKS][2];
static atomic_uint block_next;
static struct phx_sweep_vectors vectors[PHX_SWEEP_VECTORS];
static bool want_vector[PHX_SWEEP_VECTORS];

static void *sweep_blocks(void *unused)
{
    (void)unused;
    for (;;) {
        uint32_t block = atomic_fetch_add(&block_next, 1);
        if (block >= PHX_SWEEP_BLOCKS)
            return NULL;
        for (uint32_t c = 0; c < COLUMNS; c++)
            scalar[block][c] = phx_sweep_block(PHX_SWEEP_BF16 + c, block);
        for (uint32_t i = 0; i < 2 * PHX_SWEEP_VECTORS; i++)
            if (want_vector[i / 2])
                vector[i / 2][block][i % 2] =
                    phx_sweep_block_vector(&vectors[i / 2], PHX_SWEEP_BF16 + i % 2, block);
    }
}

static void sweep_all(uint32_t threads)
{
    pthread_t handles[THREADS_MAX];
    uint32_t started = 0;
    while (started + 1 < threads &&
           pthread_create(&handles[started], NULL, sweep_blocks, NULL) == 0)
        started++;
    sweep_blocks(NULL);
    for (uint32_t i = 0; i < started; i++)
        pthread_join(handles[i], NULL);
}

static void print_header(void)
{
    printf("// tests/golden/sweep_hashes.h: the hashes of sweep.h, by block: bf16, e4m3, ue8m0, "
           "scale.\n"
           "//\n"
           "// Written by sweep.c (sweep --print); the GPU's must be the same (tests/gpu/sweep.cu)."
           "\n\n"
           "#ifndef PHX_TESTS_GOLDEN_SWEEP_HASHES_H\n"
           "#define PHX_TESTS_GOLDEN_SWEEP_HASHES_H\n\n"
           "#include <stdint.h>\n\n"
           "static const uint64_t phx_sweep_hashes[256][4] = {\n");
    for (uint32_t b = 0; b < PHX_SWEEP_BLOCKS; b++)
        printf("    {0x%016" PRIx64 ", 0x%016" PRIx64 ", 0x%016" PRIx64 ", 0x%016" PRIx64 "},\n",
               scalar[b][0], scalar[b][1], scalar[b][2], scalar[b][3]);
    printf("};\n\n#endif\n");
}

static int check_one(const char *how, uint32_t block, uint32_t column, uint64_t got)
{
    uint64_t expected = phx_sweep_hashes[block][column];
    if (got == expected)
        return 0;
    printf("%s %s, block 0x%02x: hash 0x%016" PRIx64 ", expected 0x%016" PRIx64 "\n", how,
           phx_sweep_name(PHX_SWEEP_BF16 + column), block, got, expected);
    return 1;
}

static int check_all(void)
{
    int wrong = 0;
    for (uint32_t b = 0; b < PHX_SWEEP_BLOCKS; b++) {
        for (uint32_t c = 0; c < COLUMNS; c++)
            wrong += check_one("scalar", b, c, scalar[b][c]);
        for (uint32_t i = 0; i < 2 * PHX_SWEEP_VECTORS; i++)
            if (want_vector[i / 2])
                wrong += check_one(vectors[i / 2].name, b, i % 2, vector[i / 2][b][i % 2]);
    }
    printf("%s: %d hashes differ; scalar conversions", wrong == 0 ? "PASS" : "FAIL", wrong);
    for (uint32_t i = 0; i < PHX_SWEEP_VECTORS; i++)
        if (want_vector[i])
            printf(", %s", vectors[i].name);
    printf("\n");
    return wrong == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    int print = argc >= 2 && strcmp(argv[1], "--print") == 0;
    int check = argc >= 2 && strcmp(argv[1], "--check") == 0;
    long threads = argc >= 3 ? strtol(argv[2], NULL, 10) : 2;
    if (!(print || check) || argc > 3 || threads < 1 || threads > THREADS_MAX) {
        fprintf(stderr, "usage: %s --print|--check [THREADS]   (1 to %d threads, 2 by default)\n",
                argv[0], THREADS_MAX);
        return 2;
    }
    for (uint32_t i = 0; i < PHX_SWEEP_VECTORS; i++)
        want_vector[i] = phx_sweep_vectors_get(i, &vectors[i]) && check;
    sweep_all((uint32_t)threads);
    if (check)
        return check_all();
    print_header();
    return 0;
}
