// bench/scale_floor.c: a bare loop over as many messages as a dispatch has, that knows no protocol.
//
// Every rank posts a record to each peer, for a route message, and one for each row. The records
// are read in the order in which ports would take them, one of each rank in turn: bytes are copied
// from the source's staging memory to the pair's, and a word is stored. Then every rank reads the
// words of all its sources and takes the rows to its output: the way of bytes and of pending
// messages through the machine's memory.

#define _DEFAULT_SOURCE // MAP_ANONYMOUS

#include "bench/scale_floor.h"

#include <string.h>
#include <sys/mman.h>

#include "engine/limits.h"
#include "sim/core.h"
#include "sim/pages.h"

enum { ROUTE_BYTES = 64, ROUTE_AT = 128, ROWS_AT = 256, STAGED_ROWS = 128, ROWS_MAX = 4096 };

struct record {
    uint64_t from; // in staging memory
    uint64_t to;   // in the pairs' memory
    uint64_t word; // stored at the pair's beginning
    uint32_t size_bytes;
    uint32_t next; // a record that pends has links, too
};

struct memory {
    struct record *records; // [ranks][count_max]
    uint32_t *counts;       // [ranks] of records
    uint8_t *staged;        // [ranks][STAGED_ROWS]
    uint8_t *pairs;         // [target][source]
    uint8_t *out;           // [ranks][ROWS_MAX]
};

static uint32_t count_max(const struct scale_floor *f)
{
    return 2 * f->ranks + f->rows;
}
static uint64_t pair_at(const struct scale_floor *f, uint32_t source, uint32_t target)
{
    return ((uint64_t)target * f->ranks + source) * f->pair_bytes;
}

static void post(const struct scale_floor *f, struct memory *m, uint32_t rank)
{
    uint32_t rows[PHX_RANKS_MAX] = {0};
    uint64_t staged = (uint64_t)rank * STAGED_ROWS * f->row_bytes;
    struct record *r = m->records + (uint64_t)rank * count_max(f);
    memset(m->staged + staged, (int)(rank % 64 + 1), (uint64_t)STAGED_ROWS * f->row_bytes);
    for (uint32_t i = 0; i < f->rows; i++)
        rows[phx_chance_below(f->ranks, 1, PHX_CHANCE_ROUTING, rank, i)]++;
    for (uint32_t i = 0; i < f->ranks; i++) {
        uint64_t at = pair_at(f, rank, (rank + i) % f->ranks);
        *r++ = (struct record){staged, at + ROUTE_AT, 1, ROUTE_BYTES, 0};
    }
    for (uint32_t i = 0; i < f->ranks; i++) {
        uint32_t peer = (rank + i) % f->ranks;
        uint64_t to = pair_at(f, rank, peer);
        if (rows[peer] == 0)
            *r++ = (struct record){staged, to, 0, 0, 0};
        for (uint32_t k = 0; k < rows[peer]; k++) {
            uint64_t from = staged + (uint64_t)(i + k) % STAGED_ROWS * f->row_bytes;
            uint64_t place = to + ROWS_AT + (uint64_t)k * f->row_bytes;
            *r++ = (struct record){from, place, k + 1, f->row_bytes, 0};
        }
    }
    m->counts[rank] = (uint32_t)(r - (m->records + (uint64_t)rank * count_max(f)));
}

static uint64_t deliver(const struct scale_floor *f, struct memory *m)
{
    uint64_t delivered = 0;
    for (uint32_t i = 0; i < count_max(f); i++)
        for (uint32_t rank = 0; rank < f->ranks; rank++) {
            const struct record *r = m->records + (uint64_t)rank * count_max(f) + i;
            if (i >= m->counts[rank])
                continue;
            memcpy(m->pairs + r->to, m->staged + r->from, r->size_bytes);
            *(uint64_t *)(void *)(m->pairs + r->to - r->to % f->pair_bytes) = r->word;
            delivered++;
        }
    return delivered;
}

static void receive(const struct scale_floor *f, struct memory *m, uint32_t rank)
{
    uint8_t *out = m->out + (uint64_t)rank * ROWS_MAX * f->row_bytes;
    for (uint32_t i = 0; i < f->ranks; i++) {
        const uint8_t *pair = m->pairs + pair_at(f, (rank + i) % f->ranks, rank);
        uint64_t rows = *(const uint64_t *)(const void *)pair;
        memcpy(out, pair + ROUTE_AT, ROUTE_BYTES);
        for (uint64_t k = 0; k < rows; k++, out += f->row_bytes)
            memcpy(out, pair + ROWS_AT + k * f->row_bytes, f->row_bytes);
    }
}

uint64_t scale_floor_run(const struct scale_floor *f)
{
    uint64_t ranks = f->ranks;
    uint64_t pairs_bytes = ranks * ranks * f->pair_bytes;
    struct memory m = {
        .records = phx_pages_take(ranks * count_max(f) * sizeof(struct record)),
        .counts = phx_pages_take(ranks * sizeof(uint32_t)),
        .staged = phx_pages_take(ranks * STAGED_ROWS * f->row_bytes),
        .pairs = f->is_huge ? phx_pages_take(pairs_bytes)
                            : mmap(NULL, pairs_bytes, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
        .out = phx_pages_take(ranks * ROWS_MAX * f->row_bytes),
    };
    if (!m.records || !m.counts || !m.staged || !m.pairs || m.pairs == MAP_FAILED || !m.out)
        return 0;
    for (uint32_t r = 0; r < f->ranks; r++)
        post(f, &m, r);
    uint64_t delivered = deliver(f, &m);
    for (uint32_t r = 0; r < f->ranks; r++)
        receive(f, &m, r);
    return delivered;
}
