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
#define PCT_DEPTH_DEFAULT 3u
#define PCT_EVENTS_DEFAULT 10000u
#define FOLD_WORDS 5u
#define PENDING_WORDS (16u * FOLD_WORDS) // hashed at once: the hash costs less per byte that way

struct at_event {
    uint64_t number;
    uint64_t argument;
    uint32_t type;
    uint32_t object;
};

struct phx_core {
    struct phx_queue queue;
    uint64_t now_ps;
    uint64_t quantum_ps;
    uint64_t at_next;           // number of the first of at_events that pends; UINT64_MAX: none
    struct at_event *at_events; // [at_count], by number; at_done of them were dispatched
    uint32_t at_count, at_done;
    uint32_t pct_count; // of changes that pend, by event number, last first
    struct pct_change {
        uint64_t number;
        uint32_t rank;
    } pct[PHX_PCT_DEPTH_MAX];
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

int phx_schedule_check(const struct phx_schedule *schedule, struct phx_message *message)
{
    if ((int)schedule->tie < 0 || schedule->tie > PHX_TIE_PCT)
        return phx_fail(message, PHX_ERR_INVALID, "tie is %d; it may be 0 to %d (PHX_TIE_PCT)",
                        (int)schedule->tie, (int)PHX_TIE_PCT);
    if (schedule->pct_depth > PHX_PCT_DEPTH_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "pct_depth is %u; it may be 0 to %u",
                        schedule->pct_depth, PHX_PCT_DEPTH_MAX);
    if (schedule->quantum_ps > PHX_QUANTUM_PS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "quantum_ps is %llu; it may be 0 to %llu",
                        (unsigned long long)schedule->quantum_ps,
                        (unsigned long long)PHX_QUANTUM_PS_MAX);
    return 0;
}

// Which actor falls at which event: drawn once, sorted so that the next is the last.
static void pct_draw(struct phx_core *core, uint64_t seed, const struct phx_schedule *schedule)
{
    uint32_t depth = schedule->pct_depth != 0 ? schedule->pct_depth : PCT_DEPTH_DEFAULT;
    uint64_t events = schedule->pct_events != 0 ? schedule->pct_events : PCT_EVENTS_DEFAULT;
    for (uint32_t i = 0; i + 1 < depth; i++) {
        struct pct_change change = {1 + phx_chance_below(events, seed, PHX_CHANCE_TIE, 0, i),
                                    depth - i};
        uint32_t at = core->pct_count++;
        for (; at > 0 && core->pct[at - 1].number < change.number; at--)
            core->pct[at] = core->pct[at - 1];
        core->pct[at] = change;
    }
}

struct phx_core *phx_core_create(uint64_t seed, const struct phx_schedule *schedule)
{
    static const struct phx_schedule plain = {.tie = PHX_TIE_FIFO};
    schedule = schedule != NULL ? schedule : &plain;
    assert(phx_schedule_check(schedule, NULL) == 0);
    enum phx_tie tie = schedule->tie != 0 ? schedule->tie : PHX_TIE_FIFO;
    struct phx_core *core = calloc(1, sizeof *core);
    if (core == NULL)
        return NULL;
    core->hash = seed;
    core->quantum_ps = schedule->quantum_ps;
    core->at_next = UINT64_MAX;
    if (tie == PHX_TIE_PCT)
        pct_draw(core, seed, schedule);
    if (!phx_queue_init(&core->queue, tie, seed)) {
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
    free(core->at_events);
    free(core);
}

void phx_core_handle(struct phx_core *core, uint32_t type, phx_core_handler *handler, void *context)
{
    assert(type < EVENT_TYPES && handler != NULL);
    core->handlers[type].handler = handler;
    core->handlers[type].context = context;
}

void phx_core_soon(struct phx_core *core, phx_core_soon_fn *soon, void *context)
{
    core->queue.soon = soon;
    core->queue.soon_context = context;
}

bool phx_core_schedule(struct phx_core *core, uint64_t time_ps, uint32_t type, uint32_t object,
                       uint64_t argument)
{
    return phx_core_schedule_as(core, time_ps, type, object, argument, object);
}

// Up to a multiple, as far as there is one.
static uint64_t rounded(uint64_t time_ps, uint64_t quantum_ps)
{
    uint64_t over = time_ps % quantum_ps;
    return over == 0 || time_ps > UINT64_MAX - quantum_ps ? time_ps : time_ps - over + quantum_ps;
}

bool phx_core_schedule_as(struct phx_core *core, uint64_t time_ps, uint32_t type, uint32_t object,
                          uint64_t argument, uint32_t actor)
{
    assert(type < EVENT_TYPES && core->handlers[type].handler != NULL);
    assert(object <= PHX_OBJECT_MAX);
    if (core->quantum_ps > 1)
        time_ps = rounded(time_ps, core->quantum_ps);
    struct phx_queue_item item = {
        .time_ps = time_ps > core->now_ps ? time_ps : core->now_ps,
        .key = (core->sequence + 1) << 6 | type,
        .argument = argument,
        .actor = actor,
        .object = object & PHX_OBJECT_MAX,
    };
    if (!phx_queue_push(&core->queue, &item))
        return false;
    core->sequence++;
    return true;
}

bool phx_core_at_event(struct phx_core *core, uint64_t number, uint32_t type, uint32_t object,
                       uint64_t argument)
{
    assert(type < EVENT_TYPES && core->handlers[type].handler != NULL && number > 0);
    struct at_event *list =
        realloc(core->at_events, (core->at_count + 1u) * sizeof core->at_events[0]);
    if (list == NULL)
        return false;
    core->at_events = list;
    uint32_t at = core->at_count++;
    for (; at > core->at_done && list[at - 1].number > number; at--)
        list[at] = list[at - 1];
    list[at] = (struct at_event){number, argument, type, object};
    core->at_next = list[core->at_done].number;
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

static void dispatch(struct phx_core *core, const struct phx_event_record *event)
{
    const uint64_t words[FOLD_WORDS] = {event->time_ps, event->tie, event->sequence,
                                        (uint64_t)event->type << 32 | event->object,
                                        event->argument};
    fold(core, words, FOLD_WORDS);
    core->handlers[event->type].handler(core->handlers[event->type].context, event);
}

static void dispatch_at_event(struct phx_core *core)
{
    struct at_event at = core->at_events[core->at_done++];
    core->at_next =
        core->at_done < core->at_count ? core->at_events[core->at_done].number : UINT64_MAX;
    struct phx_event_record event = {
        .time_ps = core->now_ps,
        .type = at.type,
        .object = at.object,
        .argument = at.argument,
    };
    dispatch(core, &event);
}

bool phx_core_step(struct phx_core *core)
{
    struct phx_queue_item item;
    uint64_t tie;
    if (core->at_next <= core->events) {
        dispatch_at_event(core);
        return true;
    }
    if (!phx_queue_pop(&core->queue, &item, &tie))
        return false;
    assert(item.time_ps >= core->now_ps);
    core->now_ps = item.time_ps;
    core->events++;
    // The event itself was chosen; what its actor does next is what the others now overtake.
    while (core->pct_count > 0 && core->pct[core->pct_count - 1].number == core->events)
        phx_queue_lower(&core->queue, item.actor, core->pct[--core->pct_count].rank);
    struct phx_event_record event = {
        .time_ps = item.time_ps,
        .tie = tie,
        .sequence = item.key >> 6,
        .type = (uint32_t)item.key & (EVENT_TYPES - 1),
        .object = item.object,
        .argument = item.argument,
    };
    dispatch(core, &event);
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
