// tests/test_run_history.c: a recorded run reads back as it was written, and any bytes are refused
// or read.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/core.h"
#include "tests/test.h"
#include "tools/run_history.h"

enum { RANKS = 11, PAIRS = 3, OPERATIONS = 2 * PAIRS };

static struct phx_scenario *scenario_make(void)
{
    static const char text[] = "name: a test\n"
                               "cluster: {nodes: 1, ranks_per_node: 11, intra_node: nvlink4}\n"
                               "workload:\n"
                               "  - moe: {steps: 3, tokens: 2, hidden: 128, experts: 11, "
                               "top_k: 2}\n";
    const struct phx_scenario_options options = {0};
    struct phx_scenario *s = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    int rc = phx_scenario_parse(text, sizeof text - 1, &options, &s, &d);
    CHECK_MSG(rc == 0, "%s", d.message.text);
    return s;
}

static uint64_t draw(uint64_t seed, uint64_t number, uint64_t bound)
{
    return phx_chance_below(bound, seed, PHX_CHANCE_EXPLORE, 1, number);
}

static void history_draw(struct phx_history *h, uint64_t seed)
{
    uint64_t n = 0;
    struct phx_message message;
    CHECK_EQ(phx_history_open(h, RANKS, OPERATIONS, &message), 0);
    for (uint32_t r = 0; r < RANKS; r++) {
        h->begun[r] = draw(seed, n++, OPERATIONS + 1);
        for (uint64_t o = 0; o < h->begun[r]; o++) {
            struct phx_history_operation *at = phx_history_at(h, r, o);
            uint64_t bits = 1 + draw(seed, n++, 50);
            at->begin_ns = 1 + draw(seed, n++, UINT64_C(1) << bits);
            if (o + 1 == h->begun[r] && draw(seed, n++, 2) == 0)
                continue; // struck in it
            at->end_ns = at->begin_ns + draw(seed, n++, 1000000);
            at->hash = 1 + draw(seed, n++, UINT64_MAX - 1);
            at->first.words[0] = draw(seed, n++, 1u << RANKS);
            at->second.words[0] = o % 2 == 0 ? draw(seed, n++, 1u << RANKS) : 0;
            at->masked.words[0] = draw(seed, n++, 1u << RANKS) & ~(UINT64_C(1) << r);
        }
    }
}

static char *written(const struct phx_scenario *s, const struct phx_history *h, size_t *size)
{
    char path[] = "/tmp/phx-history-XXXXXX";
    struct phx_message message = {""};
    int file = mkstemp(path);
    CHECK(file >= 0);
    CHECK_MSG(phx_history_write(path, s, 42, h, &message) == 0, "%s", message.text);
    CHECK(phx_history_is(path));
    char *bytes = malloc(1u << 20);
    ssize_t got = read(file, bytes, 1u << 20);
    CHECK(got > 0);
    *size = (size_t)got;
    (void)close(file);
    (void)unlink(path);
    return bytes;
}

TEST(run_history_reads_back_what_was_written)
{
    struct phx_scenario *s = scenario_make();
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct phx_history h;
        struct phx_history back;
        struct phx_scenario *other = NULL;
        struct phx_message message = {""};
        size_t size;
        history_draw(&h, seed);
        char *bytes = written(s, &h, &size);
        int rc = phx_history_parse(bytes, size, &other, &back, &message);
        CHECK_MSG(rc == 0, "seed %llu: %s", (unsigned long long)seed, message.text);
        CHECK_EQ(other->run.seed, 42);
        CHECK_EQ(phx_history_hash(&back), phx_history_hash(&h));
        CHECK_EQ(memcmp(back.list, h.list, RANKS * OPERATIONS * sizeof *h.list), 0);
        CHECK_EQ(memcmp(back.begun, h.begun, RANKS * sizeof *h.begun), 0);
        phx_scenario_free(other);
        phx_history_free(&back);
        phx_history_free(&h);
        free(bytes);
    }
    phx_scenario_free(s);
}

// As the writer makes it, so that what is behind the check is reached.
static void check_renew(uint8_t *bytes, size_t size)
{
    uint64_t check = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < size - 8; i++)
        check = (check ^ bytes[i]) * UINT64_C(0x100000001B3);
    for (uint32_t i = 0; i < 8; i++)
        bytes[size - 8 + i] = (uint8_t)(check >> 8 * i);
}

static bool is_taken(const void *bytes, size_t size)
{
    struct phx_history h;
    struct phx_scenario *s = NULL;
    struct phx_message message = {""};
    int rc = phx_history_parse(bytes, size, &s, &h, &message);
    CHECK(rc == 0 || message.text[0] != '\0');
    if (rc != 0)
        return false;
    phx_scenario_free(s);
    phx_history_free(&h);
    return true;
}

TEST(run_history_refuses_what_was_cut_off_or_changed)
{
    struct phx_scenario *s = scenario_make();
    struct phx_history h;
    size_t size;
    history_draw(&h, 1);
    char *bytes = written(s, &h, &size);
    CHECK(is_taken(bytes, size));
    for (size_t cut = 0; cut < size; cut++) {
        CHECK(!is_taken(bytes, cut));
        if (cut < 32)
            continue;
        char *copy = malloc(cut);
        memcpy(copy, bytes, cut);
        check_renew((uint8_t *)copy, cut);
        CHECK(!is_taken(copy, cut));
        free(copy);
    }
    for (size_t at = 0; at < size; at++) {
        bytes[at] ^= 4;
        CHECK_MSG(!is_taken(bytes, size), "byte %zu", at);
        bytes[at] ^= 4;
    }
    phx_history_free(&h);
    phx_scenario_free(s);
    free(bytes);
}

TEST(run_history_takes_any_bytes_behind_its_check)
{
    struct phx_scenario *s = scenario_make();
    struct phx_history h;
    size_t size;
    uint32_t taken = 0;
    history_draw(&h, 2);
    char *bytes = written(s, &h, &size);
    char *copy = malloc(size);
    for (uint64_t i = 0; i < 3000; i++) {
        memcpy(copy, bytes, size);
        for (uint64_t k = 0; k <= draw(i, 0, 3); k++) // most often behind the scenario
            copy[size - 9 - draw(i, 2 * k + 1, draw(i, 99, 4) == 0 ? size - 9 : 250)] =
                (char)draw(i, 2 * k + 2, 256);
        check_renew((uint8_t *)copy, size);
        taken += is_taken(copy, size);
    }
    CHECK(taken > 0 && taken < 3000); // some harmless, some not
    free(copy);
    free(bytes);
    phx_history_free(&h);
    phx_scenario_free(s);
}
