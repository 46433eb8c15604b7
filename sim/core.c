// sim/core.c: takes events off the queue, folds them into the hash, hands them to their handlers.

#include "sim/core.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/queue.h"

#if !defined(PHX_HAVE_XXHASH)
#if defined(__has_include)
#if __has_include(<xxhash.h>)
#define PHX_HAVE_XXHASH 1
#endif
#endif
#endif
#if !defined(PHX_HAVE_XXHASH)
#define PHX_HAVE_XXHASH 0
#endif

#if PHX_HAVE_XXHASH
#define XXH_INLINE_ALL
// Warnings of this project do not bind a system header that is inlined here.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <xxhash.h>
#pragma GCC diagnostic pop
#endif

#define EVENT_TYPES 64u
#define FOLD_WORDS 5u
#define PENDING_WORDS (16u * FOLD_WORDS) // hashed at once: the hash costs less per byte that way

struct phx_core {
    struct phx_queue queue;
    uint64_t now_ps;
    uint64_t sequence; // of the latest event scheduled, from 1
    uint64_t events;
    struct {
        phx_core_handler *handler;
        void *context;
    } handlers[EVENT_TYPES];
    uint64_t hash; // of all full blocks
    uint32_t pending_count;
    uint64_t pending[PENDING_WORDS]; // little endian in memory
};

struct phx_core *phx_core_create(uint64_t seed, enum phx_tie tie)
{
    assert(tie == PHX_TIE_FIFO || tie == PHX_TIE_RANDOM);
    struct phx_core *core = calloc(1, sizeof *core);
    if (core == NULL)
        return NULL;
    core->hash = seed;
    if (!phx_queue_init(&core->queue, tie == PHX_TIE_RANDOM, seed)) {
        free(core);
        return NULL;
    }
    return core;
}

void phx_core_destroy(struct phx_core *core)
{
    if (core == NULL)
        return;
    phx_queue_free(&core->queue);
    free(core);
}

void phx_core_handle(struct phx_core *core, uint32_t type, phx_core_handler *handler, void *context)
{
    assert(type < EVENT_TYPES && handler != NULL);
    core->handlers[type].handler = handler;
    core->handlers[type].context = context;
}

bool phx_core_schedule(struct phx_core *core, uint64_t time_ps, uint32_t type, uint32_t object,
                       uint64_t argument)
{
    assert(type < EVENT_TYPES && core->handlers[type].handler != NULL);
    struct phx_queue_item item = {
        .time_ps = time_ps > core->now_ps ? time_ps : core->now_ps,
        .key = (core->sequence + 1) << 6 | type,
        .argument = argument,
        .object = object,
    };
    if (!phx_queue_push(&core->queue, &item))
        return false;
    core->sequence++;
    return true;
}

// --- the hash ------------------------------------------------------------------------------------

#if PHX_HAVE_XXHASH
static uint64_t words_hash(const uint64_t *words, uint32_t count, uint64_t seed)
{
    return XXH3_64bits_withSeed(words, count * sizeof words[0], seed);
}

static void fold(struct phx_core *core, const uint64_t *words, uint32_t count)
{
    if (core->pending_count + count > PENDING_WORDS) {
        core->hash = words_hash(core->pending, core->pending_count, core->hash);
        core->pending_count = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        core->pending[core->pending_count++] = __builtin_bswap64(words[i]);
#else
        core->pending[core->pending_count++] = words[i];
#endif
    }
}

uint64_t phx_core_hash(const struct phx_core *core)
{
    return words_hash(core->pending, core->pending_count, core->hash);
}
#else
static void fold(struct phx_core *core, const uint64_t *words, uint32_t count)
{
    (void)core, (void)words, (void)count;
}

uint64_t phx_core_hash(const struct phx_core *core)
{
    (void)core;
    return 0;
}
#endif

bool phx_core_has_hash(void)
{
    return PHX_HAVE_XXHASH;
}

void phx_core_fold(struct phx_core *core, uint64_t value)
{
    fold(core, &value, 1);
}

// --- dispatch ------------------------------------------------------------------------------------

bool phx_core_step(struct phx_core *core)
{
    struct phx_queue_item item;
    uint64_t tie;
    if (!phx_queue_pop(&core->queue, &item, &tie))
        return false;
    assert(item.time_ps >= core->now_ps);
    core->now_ps = item.time_ps;
    core->events++;
    struct phx_event_record event = {
        .time_ps = item.time_ps,
        .tie = tie,
        .sequence = item.key >> 6,
        .type = (uint32_t)item.key & (EVENT_TYPES - 1),
        .object = item.object,
        .argument = item.argument,
    };
    const uint64_t words[FOLD_WORDS] = {event.time_ps, event.tie, event.sequence,
                                        (uint64_t)event.type << 32 | event.object, event.argument};
    fold(core, words, FOLD_WORDS);
    core->handlers[event.type].handler(core->handlers[event.type].context, &event);
    return true;
}

uint64_t phx_core_now_ps(const struct phx_core *core)
{
    return core->now_ps;
}

uint64_t phx_core_pending(const struct phx_core *core)
{
    return core->queue.count;
}

uint64_t phx_core_events(const struct phx_core *core)
{
    return core->events;
}
