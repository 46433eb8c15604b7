// sim/memory.c: shadows, one 64-bit entry for each granule:
//
//     lane + 1 : 13 | ordinal : 23 | kind : 4 | sequence : 24          0: never written
//
// The source is not stored: a region has one writer. Ordinals and sequences are compared modulo
// their widths, as signal words are. Signal words are few, so they live in a hash table by address,
// which is only ever looked up: its order reaches nothing.

#define _DEFAULT_SOURCE // MAP_ANONYMOUS, MAP_NORESERVE

#include "sim/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/assert.h"
#include "engine/limits.h"
#include "kernels/layout.h"
#include "sim/memory_bytes.h"

#define GRANULE 64u
#define KINDS 16u
#define RECENT 16u // a power of two
#define ORDINAL_BITS 23u
#define LANES_MAX 8191u
#define ARENA_BYTES ((size_t)64 << 20) // of address space, a piece; pages come as they are written

struct region {
    uint8_t *base;
    uint64_t size_bytes;
    uint64_t *shadow;
    uint32_t writer;
};

struct arena { // shadows of one rank, one behind the other
    struct arena *next;
    uint8_t *base;
    size_t size_bytes;
    size_t used_bytes;
};

struct word {
    const uint64_t *address; // NULL: free
    uint32_t source;
    uint32_t source_epoch;
    uint32_t lane;
    uint32_t ordinal; // 0: nobody stored it since its region was added
};

struct source {
    uint32_t epoch;     // of the incarnation whose messages landed last
    uint32_t fenced;    // this incarnation and earlier ones; 0: none
    uint32_t *observed; // [lanes] ordinal whose signal was seen
};

struct done {
    uint64_t number;
    uint64_t at_ps;
};

struct rank {
    struct region *regions; // ascending by base
    uint32_t region_count;
    uint32_t region_capacity;
    uint32_t recent[RECENT]; // regions found lately, by the address' page
    uintptr_t begin, end;    // no region lies outside
    bool dead;
    struct source *sources; // [ranks]; NULL until the first region
    struct word *words;
    uint32_t word_count;
    uint32_t word_capacity; // power of two
    struct arena *arena;
    struct done done[KINDS];
    // Operations of each group count from 1. What groups that are over completed at the most: a
    // peer that still runs one of them has its evidence from there.
    struct done over[KINDS];
};

struct phx_memory {
    struct phx_memory_options options;
    struct rank *ranks;
    struct phx_memory_figures figures;
    bool keeps_lanes; // a word is stored on one lane alone
};

int phx_memory_create(const struct phx_memory_options *options, struct phx_memory **memory,
                      struct phx_message *message)
{
    if (options->lanes < 1 || options->lanes > LANES_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "lanes is %u; the checker knows 1 to %u",
                        options->lanes, LANES_MAX);
    struct phx_memory *m = calloc(1, sizeof *m);
    struct rank *ranks = calloc(options->ranks, sizeof *ranks);
    if (m == NULL || ranks == NULL) {
        free(m);
        free(ranks);
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the checker of %u ranks",
                        options->ranks);
    }
    m->options = *options;
    m->ranks = ranks;
    *memory = m;
    return 0;
}

static void rank_clear(struct phx_memory *m, struct rank *r)
{
    for (struct arena *a = r->arena; a != NULL;) {
        struct arena *next = a->next;
        munmap(a->base, a->size_bytes);
        free(a);
        a = next;
    }
    for (uint32_t i = 0; r->sources != NULL && i < m->options.ranks; i++)
        free(r->sources[i].observed);
    free(r->sources);
    free(r->regions);
    free(r->words);
}

void phx_memory_destroy(struct phx_memory *memory)
{
    if (memory == NULL)
        return;
    for (uint32_t i = 0; i < memory->options.ranks; i++)
        rank_clear(memory, &memory->ranks[i]);
    free(memory->ranks);
    free(memory);
}

void phx_memory_check(struct phx_memory *memory, bool check)
{
    for (uint32_t i = 0; i < memory->options.ranks; i++)
        phx_assert(memory->ranks[i].region_count == 0);
    memory->options.check = check;
}

void phx_memory_keep_lanes(struct phx_memory *memory)
{
    memory->keeps_lanes = true;
}

bool phx_memory_checks(const struct phx_memory *memory)
{
    return memory->options.check;
}

struct phx_memory_figures phx_memory_figures(const struct phx_memory *memory)
{
    return memory->figures;
}

// --- entries ------------------------------------------------------------------------------------

static uint64_t entry_make(uint32_t lane, uint32_t ordinal, uint32_t token)
{
    uint64_t kind = token >> 28;
    return (uint64_t)(lane + 1) << 51 | (uint64_t)(ordinal & ((1u << ORDINAL_BITS) - 1)) << 28 |
           kind << 24 | (token & 0xFFFFFFu);
}
static uint32_t entry_lane(uint64_t entry)
{
    return (uint32_t)(entry >> 51) - 1;
}
static uint32_t entry_ordinal(uint64_t entry)
{
    return (uint32_t)(entry >> 28) & ((1u << ORDINAL_BITS) - 1);
}
static uint32_t entry_kind(uint64_t entry)
{
    return (uint32_t)(entry >> 24) & 15u;
}
static uint32_t entry_sequence(uint64_t entry)
{
    return (uint32_t)entry & 0xFFFFFFu;
}

// a - b as a signed number of `bits` bits: below zero when a is the older.
static int32_t distance(uint32_t a, uint32_t b, uint32_t bits)
{
    return (int32_t)((a - b) << (32 - bits)) >> (32 - bits);
}

static void violate(const struct phx_memory *m, const char *rule, uint32_t rank, uint64_t entry,
                    uint64_t at_ps, const char *text)
{
    if (m->options.violate == NULL)
        return;
    struct phx_violation v;
    memset(&v, 0, sizeof v);
    v.rule = rule;
    v.rank = rank;
    v.kind = entry_kind(entry);
    v.number = entry_sequence(entry);
    v.at_ns = at_ps / 1000;
    snprintf(v.text, sizeof v.text, "%s", text);
    m->options.violate(m->options.context, &v);
}

// --- regions ------------------------------------------------------------------------------------

// The index of the first region that ends after `address`.
static uint32_t region_search(const struct rank *r, uintptr_t address)
{
    uint32_t low = 0;
    uint32_t high = r->region_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct region *region = &r->regions[middle];
        if ((uintptr_t)region->base + region->size_bytes <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct region *region_find(struct rank *r, const void *pointer)
{
    uintptr_t address = (uintptr_t)pointer;
    if (address - r->begin >= r->end - r->begin)
        return NULL;
    uint32_t *recent = &r->recent[address / 4096 % RECENT];
    if (*recent < r->region_count) {
        struct region *region = &r->regions[*recent];
        if (address - (uintptr_t)region->base < region->size_bytes)
            return region;
    }
    uint32_t i = region_search(r, address);
    if (i == r->region_count || (uintptr_t)r->regions[i].base > address)
        return NULL;
    *recent = i;
    return &r->regions[i];
}

static uint64_t *shadow_take(struct phx_memory *m, struct rank *r, size_t size_bytes)
{
    struct arena *a = r->arena;
    if (a == NULL || a->size_bytes - a->used_bytes < size_bytes) {
        size_t piece = size_bytes > ARENA_BYTES ? (size_bytes + 4095) / 4096 * 4096 : ARENA_BYTES;
        a = malloc(sizeof *a);
        if (a == NULL)
            return NULL;
        a->base = mmap(NULL, piece, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (a->base == MAP_FAILED) {
            free(a);
            return NULL;
        }
        a->size_bytes = piece;
        a->used_bytes = 0;
        a->next = r->arena;
        r->arena = a;
        m->figures.shadow_bytes += piece;
    }
    uint64_t *shadow = (uint64_t *)(void *)(a->base + a->used_bytes);
    a->used_bytes += size_bytes;
    return shadow;
}

static bool regions_grow(struct rank *r)
{
    if (r->region_count < r->region_capacity)
        return true;
    uint32_t capacity = r->region_capacity == 0 ? 16 : 2 * r->region_capacity;
    struct region *grown = realloc(r->regions, capacity * sizeof *grown);
    if (grown == NULL)
        return false;
    r->regions = grown;
    r->region_capacity = capacity;
    return true;
}

static void bounds_set(struct rank *r)
{
    r->begin = 0;
    r->end = 0;
    if (r->region_count == 0)
        return;
    const struct region *last = &r->regions[r->region_count - 1];
    r->begin = (uintptr_t)r->regions[0].base;
    r->end = (uintptr_t)last->base + last->size_bytes;
}

static bool source_prepare(struct phx_memory *m, struct rank *r, uint32_t source)
{
    if (r->sources == NULL)
        r->sources = calloc(m->options.ranks, sizeof *r->sources);
    if (r->sources == NULL)
        return false;
    struct source *s = &r->sources[source];
    if (s->observed == NULL)
        s->observed = calloc(m->options.lanes, sizeof *s->observed);
    return s->observed != NULL;
}

int phx_memory_add(struct phx_memory *memory, uint32_t rank, void *base, uint64_t size_bytes,
                   uint32_t writer)
{
    if (!memory->options.check)
        return 0;
    phx_assert(rank < memory->options.ranks);
    if (writer >= memory->options.ranks)
        return PHX_ERR_INVALID;
    struct rank *r = &memory->ranks[rank];
    uint64_t granules = (size_bytes + GRANULE - 1) / GRANULE + 1; // one more: base may be unaligned
    if (!regions_grow(r) || !source_prepare(memory, r, writer))
        return PHX_ERR_NO_MEMORY;
    uint32_t at = region_search(r, (uintptr_t)base);
    if (at < r->region_count && (uintptr_t)r->regions[at].base < (uintptr_t)base + size_bytes)
        return PHX_ERR_INVALID; // two writers for one byte
    uint64_t *shadow = shadow_take(memory, r, granules * sizeof(uint64_t));
    if (shadow == NULL)
        return PHX_ERR_NO_MEMORY;
    memmove(&r->regions[at + 1], &r->regions[at], (r->region_count - at) * sizeof r->regions[0]);
    r->regions[at] =
        (struct region){.base = base, .size_bytes = size_bytes, .shadow = shadow, .writer = writer};
    r->region_count++;
    bounds_set(r);
    for (uint32_t i = 0; i < r->word_capacity; i++) // memory that was another region before
        if ((uintptr_t)r->words[i].address - (uintptr_t)base < size_bytes)
            r->words[i].ordinal = 0;
    return 0;
}

void phx_memory_remove(struct phx_memory *memory, uint32_t rank, const void *base)
{
    if (!memory->options.check)
        return;
    struct rank *r = &memory->ranks[rank];
    uint32_t at = region_search(r, (uintptr_t)base);
    if (at == r->region_count || r->regions[at].base != base)
        return;
    memmove(&r->regions[at], &r->regions[at + 1],
            (r->region_count - at - 1) * sizeof r->regions[0]);
    r->region_count--;
    bounds_set(r);
}

void phx_memory_fence(struct phx_memory *memory, uint32_t rank, uint32_t writer,
                      uint32_t writer_epoch)
{
    struct rank *r = &memory->ranks[rank];
    if (memory->options.check && r->sources != NULL && r->sources[writer].fenced < writer_epoch)
        r->sources[writer].fenced = writer_epoch;
}

void phx_memory_dead(struct phx_memory *memory, uint32_t rank)
{
    memory->ranks[rank].dead = true;
}

void phx_memory_restart(struct phx_memory *memory, uint32_t rank)
{
    struct rank *r = &memory->ranks[rank];
    r->dead = false;
    memset(r->done, 0, sizeof r->done);
    memset(r->over, 0, sizeof r->over);
    for (uint32_t i = 0; r->sources != NULL && i < memory->options.ranks; i++) {
        struct source *s = &r->sources[i];
        s->fenced = 0;
        if (s->observed != NULL)
            memset(s->observed, 0, memory->options.lanes * sizeof *s->observed);
    }
}

// --- words --------------------------------------------------------------------------------------

static uint32_t word_slot(const struct rank *r, const uint64_t *address)
{
    uint64_t hash = (uint64_t)(uintptr_t)address * 0x9E3779B97F4A7C15ull;
    uint32_t slot = (uint32_t)(hash >> 32) & (r->word_capacity - 1);
    while (r->words[slot].address != NULL && r->words[slot].address != address)
        slot = (slot + 1) & (r->word_capacity - 1);
    return slot;
}

static struct word *word_find(const struct rank *r, const uint64_t *address)
{
    if (r->word_capacity == 0)
        return NULL;
    struct word *word = &r->words[word_slot(r, address)];
    return word->address != NULL ? word : NULL;
}

static struct word *word_add(struct rank *r, const uint64_t *address)
{
    struct word *found = word_find(r, address);
    if (found != NULL)
        return found;
    if (2 * (r->word_count + 1) > r->word_capacity) {
        struct word *old = r->words;
        uint32_t old_capacity = r->word_capacity;
        uint32_t capacity = old_capacity == 0 ? 64 : 2 * old_capacity;
        struct word *words = calloc(capacity, sizeof *words);
        if (words == NULL)
            return NULL;
        r->words = words;
        r->word_capacity = capacity;
        for (uint32_t i = 0; i < old_capacity; i++)
            if (old[i].address != NULL)
                r->words[word_slot(r, old[i].address)] = old[i];
        free(old);
    }
    struct word *word = &r->words[word_slot(r, address)];
    word->address = address;
    r->word_count++;
    return word;
}

// --- what the transport tells -------------------------------------------------------------------

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0x9FB21C651E98DF25ull;
    return hash ^ hash >> 35;
}

static uint64_t bytes_hash(const uint8_t *bytes, uint64_t size_bytes)
{
    uint64_t hash[4] = {size_bytes, 1, 2, 3};
    uint64_t i = 0;
    for (; i + 32 <= size_bytes; i += 32) {
        uint64_t word[4];
        memcpy(word, bytes + i, sizeof word);
        for (uint32_t j = 0; j < 4; j++)
            hash[j] = mix(hash[j], word[j]);
    }
    for (; i < size_bytes; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, size_bytes - i < 8 ? size_bytes - i : 8);
        hash[0] = mix(hash[0], word);
    }
    return mix(mix(hash[0], hash[1]), mix(hash[2], hash[3]));
}

// True when the receiver may still need what an older operation put there.
static bool reused(const struct rank *r, uint64_t old, uint64_t entry, uint64_t at_ps)
{
    uint32_t kind = entry_kind(entry);
    if (old == 0 || kind == 0 || entry_kind(old) != kind || r->dead)
        return false;
    if (distance(entry_sequence(entry), entry_sequence(old), 24) <= 0)
        return false;
    const struct done *done = &r->done[kind];
    int32_t ahead = distance((uint32_t)done->number & 0xFFFFFFu, entry_sequence(old), 24);
    uint64_t over = r->over[kind].number;
    if (done->number == 0 || ahead < 0)
        return over == 0 || distance((uint32_t)over & 0xFFFFFFu, entry_sequence(old), 24) < 0;
    return ahead == 0 && at_ps < done->at_ps;
}

// Reports are apart, so that what hardly ever happens costs the common way nothing.
__attribute__((noinline, cold)) static void violate_reuse(const struct phx_memory *m,
                                                          const struct phx_landing *l, uint64_t old,
                                                          uint64_t offset)
{
    char text[160];
    snprintf(text, sizeof text,
             "rank %u's payload of operation %u landed on that of operation %u, which rank %u has "
             "not completed (region + %llu)",
             l->source, l->token & 0xFFFFFFu, entry_sequence(old), l->target,
             (unsigned long long)offset);
    violate(m, "slot-reused-without-evidence", l->target, old, l->at_ps, text);
}

static void mark(struct phx_memory *m, const struct phx_landing *l)
{
    struct rank *r = &m->ranks[l->target];
    struct region *region = region_find(r, l->to);
    if (region == NULL)
        return; // a target that is registered for nobody; the transport refuses those
    uint64_t entry = entry_make(l->lane, l->ordinal, l->token);
    uint64_t offset = (uint64_t)(l->to - region->base);
    uint64_t first = offset / GRANULE;
    uint64_t last = (offset + l->size_bytes - 1) / GRANULE;
    phx_assert(offset + l->size_bytes <= region->size_bytes);
    uint64_t *shadow = region->shadow;
    uint64_t fine = 0; // an older entry that may be replaced; neighbours mostly hold the same one
    for (uint64_t i = first; i <= last; i++) {
        uint64_t old = shadow[i];
        shadow[i] = entry;
        if (old == fine)
            continue;
        if (reused(r, old, entry, l->at_ps))
            violate_reuse(m, l, old, i * GRANULE);
        else
            fine = old;
    }
}

// What is not from the incarnation that wrote last, or is from one that was fenced.
__attribute__((noinline, cold)) static void admit_other(struct phx_memory *m, struct source *s,
                                                        const struct phx_landing *l)
{
    if (s->fenced >= l->source_epoch) {
        char text[160];
        snprintf(text, sizeof text,
                 "a message of rank %u's incarnation %u reached rank %u, which "
                 "had fenced it",
                 l->source, l->source_epoch, l->target);
        violate(m, "fenced-write", l->target, entry_make(l->lane, l->ordinal, l->token), l->at_ps,
                text);
    }
    if (s->epoch > l->source_epoch && s->fenced < l->source_epoch) {
        char text[160];
        snprintf(text, sizeof text,
                 "a message of rank %u's incarnation %u reached rank %u after one of incarnation "
                 "%u: two of them write one region",
                 l->source, l->source_epoch, l->target, s->epoch);
        violate(m, "stale-write", l->target, entry_make(l->lane, l->ordinal, l->token), l->at_ps,
                text);
        return;
    }
    if (s->epoch != l->source_epoch) {
        // A new process counts its messages from 1 again.
        s->epoch = l->source_epoch;
        if (s->observed != NULL)
            memset(s->observed, 0, m->options.lanes * sizeof *s->observed);
    }
}

// Everything that reaches a rank's memory passes here.
static void admit(struct phx_memory *m, const struct phx_landing *l)
{
    struct rank *r = &m->ranks[l->target];
    if (r->sources == NULL)
        return;
    struct source *s = &r->sources[l->source];
    if (s->epoch != l->source_epoch || s->fenced >= l->source_epoch)
        admit_other(m, s, l);
}

uint64_t phx_memory_land(struct phx_memory *memory, const struct phx_landing *landing)
{
    phx_assert(landing->target < memory->options.ranks);
    phx_assert(landing->lane < memory->options.lanes);
    if (landing->size_bytes == 0)
        return 0;
    if (memory->options.check) {
        admit(memory, landing);
        mark(memory, landing);
    }
    phx_bytes_land(landing->to, landing->from, landing->size_bytes);
    memory->figures.landed++;
    memory->figures.landed_bytes += landing->size_bytes;
    return bytes_hash(landing->to, landing->size_bytes);
}

// A word has one ordered path: on two, an older store may come last.
static void check_path(const struct phx_memory *m, const struct phx_landing *l,
                       const struct word *before)
{
    if (!m->keeps_lanes || before->ordinal == 0 || before->lane == l->lane ||
        before->source != l->source || before->source_epoch != l->source_epoch)
        return;
    char text[160];
    snprintf(text, sizeof text,
             "rank %u stored a word of rank %u on lane %u that came on lane %u before; nothing "
             "orders the two",
             l->source, l->target, l->lane, before->lane);
    violate(m, "word-on-two-lanes", l->target, entry_make(l->lane, l->ordinal, l->token), l->at_ps,
            text);
}

void phx_memory_signal(struct phx_memory *memory, const struct phx_landing *landing, uint64_t *word,
                       uint64_t value)
{
    phx_assert(((uintptr_t)word & 7u) == 0);
    if (memory->options.check) {
        admit(memory, landing);
        struct word *entry = word_add(&memory->ranks[landing->target], word);
        phx_assert(entry != NULL); // no memory: the checker would report what is not so
        check_path(memory, landing, entry);
        entry->source = landing->source;
        entry->source_epoch = landing->source_epoch;
        entry->lane = landing->lane;
        entry->ordinal = landing->ordinal;
    }
    phx_bytes_signal(word, value);
}

// --- what workers tell --------------------------------------------------------------------------

void phx_memory_observe(struct phx_memory *memory, uint32_t rank, const uint64_t *word)
{
    if (!memory->options.check)
        return;
    struct rank *r = &memory->ranks[rank];
    const struct word *entry = word_find(r, word);
    if (entry == NULL || r->sources[entry->source].observed == NULL)
        return;
    uint32_t *observed = &r->sources[entry->source].observed[entry->lane];
    if (distance(entry->ordinal, *observed, ORDINAL_BITS) > 0)
        *observed = entry->ordinal;
}

static bool holds_word(const struct rank *r, const struct region *region, uint64_t granule)
{
    const uint8_t *base = region->base + granule * GRANULE;
    for (uint32_t i = 0; i < GRANULE; i += 8)
        if (word_find(r, (const uint64_t *)(const void *)(base + i)) != NULL)
            return true;
    return false;
}

// Asked where the entry does not say that the granule may be read. Returns false, and reports, if
// it may not.
__attribute__((noinline)) static bool readable(struct phx_memory *m, uint32_t rank,
                                               const struct region *region, uint64_t granule,
                                               uint64_t at_ps)
{
    struct rank *r = &m->ranks[rank];
    uint64_t entry = region->shadow[granule];
    char text[160];
    if (entry == 0) {
        if (holds_word(r, region, granule))
            return true;
        snprintf(text, sizeof text, "rank %u read what rank %u never wrote (region + %llu)", rank,
                 region->writer, (unsigned long long)(granule * GRANULE));
        violate(m, "unwritten-read", rank, entry, at_ps, text);
        return false;
    }
    uint32_t seen = r->sources[region->writer].observed[entry_lane(entry)];
    if (distance(seen, entry_ordinal(entry), ORDINAL_BITS) >= 0)
        return true;
    snprintf(text, sizeof text,
             "rank %u read message %u of rank %u's lane %u before any signal that follows it; it "
             "had seen %u (region + %llu)",
             rank, entry_ordinal(entry), region->writer, entry_lane(entry), seen,
             (unsigned long long)(granule * GRANULE));
    violate(m, "unsignalled-read", rank, entry, at_ps, text);
    return false;
}

__attribute__((noinline, cold)) static void violate_write(const struct phx_memory *m, uint32_t rank,
                                                          const struct region *region,
                                                          uint64_t offset, uint64_t at_ps)
{
    char text[160];
    snprintf(text, sizeof text, "rank %u wrote memory that rank %u alone may write (region + %llu)",
             rank, region->writer, (unsigned long long)offset);
    violate(m, "write-to-peer-region", rank, 0, at_ps, text);
}

void phx_memory_touch(struct phx_memory *memory, uint32_t rank, const void *base,
                      uint64_t size_bytes, bool is_write, uint64_t at_ps)
{
    if (!memory->options.check || size_bytes == 0)
        return;
    struct rank *r = &memory->ranks[rank];
    const struct region *region = region_find(r, base);
    if (region == NULL)
        return; // the rank's own memory
    memory->figures.touches++;
    uint64_t offset = (uint64_t)((const uint8_t *)base - region->base);
    uint64_t end = offset + size_bytes;
    if (end > region->size_bytes)
        end = region->size_bytes;
    if (is_write) {
        if (region->writer != rank)
            violate_write(memory, rank, region, offset, at_ps);
        return;
    }
    const uint32_t *observed = r->sources[region->writer].observed;
    const uint64_t *shadow = region->shadow;
    uint64_t first = offset / GRANULE;
    uint64_t last = (end - 1) / GRANULE;
    uint64_t fine = 0; // an entry that may be read; neighbours mostly hold the same one
    uint64_t i = first;
    for (; i <= last; i++) {
        uint64_t entry = shadow[i];
        if (entry != 0 && (entry == fine || distance(observed[entry_lane(entry)],
                                                     entry_ordinal(entry), ORDINAL_BITS) >= 0))
            fine = entry;
        else if (!readable(memory, rank, region, i, at_ps))
            break;
    }
    memory->figures.granules += (i <= last ? i : last) - first + 1;
}

void phx_memory_phase(struct phx_memory *memory, uint32_t rank, uint32_t phase, uint64_t number,
                      uint64_t at_ps)
{
    uint32_t kind = phase == PHX_PHASE_DISPATCH_DONE  ? PHX_DISPATCH
                    : phase == PHX_PHASE_COMBINE_DONE ? PHX_COMBINE
                                                      : 0;
    struct done *done = &memory->ranks[rank].done[kind];
    if (kind == 0 || done->number == number)
        return; // the first worker to say so counts
    struct done *over = &memory->ranks[rank].over[kind];
    if (number < done->number && over->number < done->number)
        *over = *done; // another group
    done->number = number;
    done->at_ps = at_ps;
}
