// sim/queue.c: the radix queue that queue.h draws.

#define _GNU_SOURCE // mremap()

#include "sim/queue.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "sim/core.h"

#define CAPACITY_FIRST 512u
#define CAPACITY_MAX (1u << 31)
#define HUGE_BYTES_MIN (4u << 20)
#define FAR_LEVEL 2u      // a list there is the next 65536 ps
#define NEAR_LEVEL 1u     // 256 ps
#define NEAR_SLOTS_MAX 8u // of lists that may be empty
#define MANY 16384u       // events that pend
#define SHORT_MAX 12u     // events in a list that is searched rather than dealt out

// Mapped rather than from malloc(): an array grows while any fiber runs, by moving pages, and
// ThreadSanitizer, which watches malloc() in every build, has no part in it. NULL: no memory.
static void *array_grow(void *array, size_t count_before, size_t count, size_t size_bytes)
{
    void *grown = array == NULL ? mmap(NULL, count * size_bytes, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                                : mremap(array, count_before * size_bytes, count * size_bytes,
                                         MREMAP_MAYMOVE);
    if (grown == MAP_FAILED)
        return NULL;
    if (count * size_bytes >= HUGE_BYTES_MIN)
        (void)madvise(grown, count * size_bytes, MADV_HUGEPAGE); // a wish; small pages do as well
    return grown;
}

static bool items_grow(struct phx_queue *queue)
{
    if (queue->capacity >= CAPACITY_MAX)
        return false;
    uint32_t capacity = queue->capacity == 0 ? CAPACITY_FIRST : queue->capacity * 2;
    // All pending events may have one time; room for that is made here, so that a pop cannot fail.
    if (queue->tie != PHX_TIE_FIFO) {
        uint32_t *actors =
            array_grow(queue->actors, queue->actor_capacity, capacity, sizeof actors[0]);
        if (actors == NULL)
            return false;
        queue->actors = actors;
        queue->actor_capacity = capacity;
        struct phx_queue_tied *tied =
            array_grow(queue->tied, queue->tied_capacity, capacity, sizeof tied[0]);
        if (tied == NULL)
            return false;
        queue->tied = tied;
        queue->tied_capacity = capacity;
    }
    struct phx_queue_item *items =
        array_grow(queue->items, queue->capacity, capacity, sizeof items[0]);
    if (items == NULL)
        return false;
    queue->items = items;
    queue->capacity = capacity;
    return true;
}

static uint32_t item_take(struct phx_queue *queue)
{
    uint32_t index = queue->free;
    if (index != 0) {
        queue->free = queue->items[index].next;
        return index;
    }
    if (queue->used + 1 >= queue->capacity && !items_grow(queue))
        return 0;
    return ++queue->used;
}

static void item_give(struct phx_queue *queue, uint32_t index)
{
    queue->items[index].next = queue->free;
    queue->free = index;
}

bool phx_queue_init(struct phx_queue *queue, enum phx_tie tie, uint64_t seed)
{
    memset(queue, 0, sizeof *queue);
    queue->tie = tie;
    queue->seed = seed;
    if (items_grow(queue))
        return true;
    phx_queue_free(queue);
    return false;
}

void phx_queue_free(struct phx_queue *queue)
{
    if (queue->items != NULL)
        munmap(queue->items, queue->capacity * sizeof queue->items[0]);
    if (queue->tied != NULL)
        munmap(queue->tied, queue->tied_capacity * sizeof queue->tied[0]);
    if (queue->actors != NULL)
        munmap(queue->actors, queue->actor_capacity * sizeof queue->actors[0]);
    memset(queue, 0, sizeof *queue);
}

struct phx_queue_place { // of a list
    uint32_t level, slot;
};

// --- lists ---------------------------------------------------------------------------------------

static void list_append(struct phx_queue *queue, uint32_t index)
{
    struct phx_queue_item *item = &queue->items[index];
    uint64_t differs = item->time_ps ^ queue->anchor_ps;
    uint32_t level = differs == 0 ? 0 : (63u - (uint32_t)__builtin_clzll(differs)) / 8;
    uint32_t slot = (uint32_t)(item->time_ps >> (8 * level)) & (PHX_QUEUE_SLOTS - 1);
    struct phx_queue_list *list = &queue->lists[level][slot];
    item->next = 0;
    // Whether the list is empty is hard to predict, so nothing branches on it.
    uint32_t *link = list->first == 0 ? &list->first : &queue->items[list->last].next;
    *link = index;
    list->last = index;
    queue->bits[level][slot / 64] |= UINT64_C(1) << (slot % 64);
    queue->words[level] = (uint8_t)(queue->words[level] | 1u << (slot / 64));
    queue->levels |= 1u << level;
}

// The list was emptied.
static void list_close(struct phx_queue *queue, uint32_t level, uint32_t slot)
{
    queue->lists[level][slot] = (struct phx_queue_list){0, 0};
    uint64_t bits = queue->bits[level][slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    uint32_t words = queue->words[level] & ~((uint32_t)(bits == 0) << (slot / 64));
    queue->words[level] = (uint8_t)words;
    queue->levels &= ~((uint32_t)(words == 0) << level);
}

static uint32_t slot_lowest(const struct phx_queue *queue, uint32_t level)
{
    assert(queue->words[level] != 0); // a level in use has a list in use
    uint32_t i = (uint32_t)__builtin_ctz(queue->words[level]);
    return 64 * i + (uint32_t)__builtin_ctzll(queue->bits[level][i]);
}

// --- what comes soon -----------------------------------------------------------------------------

static void tell(const struct phx_queue *queue, uint32_t index, enum phx_soon soon)
{
    const struct phx_queue_item *item = &queue->items[index];
    queue->soon(queue->soon_context, (uint32_t)item->key & 63u, item->object, soon);
}

// Tells of one more item of the list that will be dealt out next. Items of a list lie anywhere, so
// that a walk along it waits for each; this one takes a step with each event.
static void look_far(struct phx_queue *queue)
{
    uint32_t next = 0;
    if (queue->ahead != 0) {
        next = queue->items[queue->ahead].next;
    } else if (queue->words[FAR_LEVEL] != 0) {
        queue->ahead_slot = slot_lowest(queue, FAR_LEVEL);
        next = queue->lists[FAR_LEVEL][queue->ahead_slot].first;
    }
    if (next == 0)
        return;
    queue->ahead = next;
    __builtin_prefetch(&queue->items[queue->items[next].next]);
    tell(queue, next, PHX_SOON_FAR);
}

// Tells of the items of a list that is next, and of the list behind it.
static void look_near(struct phx_queue *queue, struct phx_queue_place at)
{
    const struct phx_queue_list *list = &queue->lists[at.level][at.slot];
    uint64_t near = queue->items[list->first].time_ps / PHX_QUEUE_SLOTS;
    if (at.level != NEAR_LEVEL || near == queue->near)
        return;
    queue->near = near;
    for (uint32_t i = list->first; i != 0; i = queue->items[i].next)
        tell(queue, i, PHX_SOON_NEARER);
    uint32_t slot = at.slot + 1;
    for (uint32_t end = slot + NEAR_SLOTS_MAX; slot < end && slot < PHX_QUEUE_SLOTS; slot++)
        if (queue->lists[NEAR_LEVEL][slot].first != 0)
            break;
    if (slot >= PHX_QUEUE_SLOTS)
        return;
    for (uint32_t i = queue->lists[NEAR_LEVEL][slot].first; i != 0; i = queue->items[i].next)
        tell(queue, i, PHX_SOON_NEAR);
}

// Makes the earliest time of this list the anchor and deals its events out to lower levels.
static void list_deal(struct phx_queue *queue, uint32_t level, uint32_t slot)
{
    uint32_t first = queue->lists[level][slot].first;
    uint64_t earliest = UINT64_MAX;
    bool tells = level == FAR_LEVEL && queue->soon != NULL;
    bool is_new = queue->ahead == 0 || queue->ahead_slot != slot; // not told of yet
    for (uint32_t i = first; i != 0; i = queue->items[i].next) {
        if (queue->items[i].time_ps < earliest)
            earliest = queue->items[i].time_ps;
        if (tells && is_new)
            tell(queue, i, PHX_SOON_FAR);
        is_new = is_new || i == queue->ahead;
    }
    if (level == FAR_LEVEL)
        queue->ahead = 0;
    list_close(queue, level, slot);
    queue->anchor_ps = earliest;
    uint32_t next = 0;
    for (uint32_t i = first; i != 0; i = next) {
        next = queue->items[i].next;
        list_append(queue, i);
    }
}

// --- events of the current time, by tie ----------------------------------------------------------

static bool tied_before(const struct phx_queue_tied *a, const struct phx_queue_tied *b)
{
    return a->tie != b->tie ? a->tie < b->tie : a->key < b->key;
}

static uint64_t tie_random(const struct phx_queue *queue, uint64_t key, uint32_t actor)
{
    uint64_t tie = phx_chance(queue->seed, PHX_CHANCE_TIE, 0, key >> 6);
    // Not before an event of the same actor that still pends; among equals the key decides.
    for (uint32_t i = 0; i < queue->tied_count; i++)
        if (queue->tied[i].actor == actor && queue->tied[i].tie > tie)
            tie = queue->tied[i].tie;
    return tie;
}

// All of an actor's events have one tie at a time, so that the key orders them.
static uint64_t tie_pct(const struct phx_queue *queue, uint32_t actor)
{
    for (uint32_t i = queue->lowered_count; i > 0; i--)
        if (queue->lowered[i - 1].actor == actor)
            return (UINT64_C(1) << 63) + queue->lowered[i - 1].rank;
    return phx_chance(queue->seed, PHX_CHANCE_TIE, 1 + (uint64_t)actor, 0) >> 1;
}

static void tied_insert(struct phx_queue *queue, const struct phx_queue_tied *entry)
{
    uint32_t at = queue->tied_count++;
    while (at > 0 && tied_before(entry, &queue->tied[(at - 1) / 2])) {
        queue->tied[at] = queue->tied[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    queue->tied[at] = *entry;
}

static void tied_push(struct phx_queue *queue, uint32_t index)
{
    assert(queue->tied_count < queue->capacity);
    uint64_t key = queue->items[index].key;
    uint32_t actor = queue->actors[index];
    uint64_t tie =
        queue->tie == PHX_TIE_PCT ? tie_pct(queue, actor) : tie_random(queue, key, actor);
    tied_insert(queue, &(struct phx_queue_tied){tie, key, index, actor});
}

void phx_queue_lower(struct phx_queue *queue, uint32_t actor, uint32_t rank)
{
    assert(queue->tie == PHX_TIE_PCT && rank < PHX_PCT_DEPTH_MAX);
    assert(queue->lowered_count < PHX_PCT_DEPTH_MAX);
    queue->lowered[queue->lowered_count++] = (struct phx_queue_lowered){actor, rank};
    // The heap is made anew: the first i entries of the array are one already.
    uint32_t count = queue->tied_count;
    queue->tied_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct phx_queue_tied entry = queue->tied[i];
        if (entry.actor == actor)
            entry.tie = tie_pct(queue, actor);
        tied_insert(queue, &entry);
    }
}

static struct phx_queue_tied tied_pop(struct phx_queue *queue)
{
    struct phx_queue_tied top = queue->tied[0];
    struct phx_queue_tied entry = queue->tied[--queue->tied_count];
    uint32_t at = 0;
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= queue->tied_count)
            break;
        if (child + 1 < queue->tied_count &&
            tied_before(&queue->tied[child + 1], &queue->tied[child]))
            child++;
        if (!tied_before(&queue->tied[child], &entry))
            break;
        queue->tied[at] = queue->tied[child];
        at = child;
    }
    queue->tied[at] = entry;
    return top;
}

static void tied_take_list(struct phx_queue *queue, struct phx_queue_place at)
{
    for (uint32_t i = queue->lists[at.level][at.slot].first; i != 0; i = queue->items[i].next)
        tied_push(queue, i);
    list_close(queue, at.level, at.slot);
}

// --- the queue -----------------------------------------------------------------------------------

bool phx_queue_push(struct phx_queue *queue, const struct phx_queue_item *item, uint32_t actor)
{
    assert(item->time_ps >= queue->base_ps);
    uint32_t index = item_take(queue);
    if (index == 0)
        return false;
    queue->items[index] = *item;
    if (queue->tie != PHX_TIE_FIFO)
        queue->actors[index] = actor;
    if (queue->tied_count > 0 && item->time_ps == queue->base_ps)
        tied_push(queue, index);
    else
        list_append(queue, index);
    queue->count++;
    return true;
}

static void item_pop(struct phx_queue *queue, uint32_t index, struct phx_queue_item *item)
{
    *item = queue->items[index];
    item_give(queue, index);
    queue->count--;
}

static struct phx_queue_place lowest_list(const struct phx_queue *queue)
{
    uint32_t level = (uint32_t)__builtin_ctz(queue->levels);
    return (struct phx_queue_place){level, slot_lowest(queue, level)};
}

// Makes the earliest list one of a single time.
static struct phx_queue_place earliest_list(struct phx_queue *queue)
{
    struct phx_queue_place at = lowest_list(queue);
    const struct phx_queue_list *list = &queue->lists[at.level][at.slot];
    if (at.level == 0 || list->first == list->last)
        queue->anchor_ps = queue->items[list->first].time_ps;
    else
        list_deal(queue, at.level, at.slot);
    queue->base_ps = queue->anchor_ps;
    if (list->first != 0)
        return at;
    return (struct phx_queue_place){0, (uint32_t)queue->base_ps & (PHX_QUEUE_SLOTS - 1)};
}

// The first of the earliest events of a list, and the one before it in the list; 0: it is the
// list's first. False for a list that is not short.
static bool earliest_find(const struct phx_queue *queue, uint32_t first, uint32_t *found,
                          uint32_t *before)
{
    const struct phx_queue_item *items = queue->items;
    uint32_t count = 1;
    *found = first;
    *before = 0;
    for (uint32_t i = first, next = items[i].next; next != 0; i = next, next = items[i].next) {
        bool is_earlier = items[next].time_ps < items[*found].time_ps;
        *before = is_earlier ? i : *before;
        *found = is_earlier ? next : *found;
        if (++count > SHORT_MAX)
            return false;
    }
    return true;
}

// Takes the earliest event out of its list.
static uint32_t earliest_take(struct phx_queue *queue)
{
    struct phx_queue_place at = lowest_list(queue);
    struct phx_queue_list *list = &queue->lists[at.level][at.slot];
    uint32_t found = list->first;
    uint32_t before = 0;
    bool tells = queue->count > MANY && queue->soon != NULL;
    if (tells) {
        look_far(queue);
        look_near(queue, at);
    }
    if (at.level > 0 && !earliest_find(queue, list->first, &found, &before)) {
        list_deal(queue, at.level, at.slot);
        at = (struct phx_queue_place){0, (uint32_t)queue->anchor_ps & (PHX_QUEUE_SLOTS - 1)};
        list = &queue->lists[0][at.slot];
        found = list->first;
        before = 0;
    }
    queue->base_ps = queue->items[found].time_ps;
    if (found == queue->ahead)
        queue->ahead = 0; // it may be of a list that is too short to be dealt
    if (tells && queue->items[found].next != 0)
        tell(queue, queue->items[found].next, PHX_SOON_NEXT);
    if (list->first == list->last) {
        queue->anchor_ps = queue->base_ps;
        list_close(queue, at.level, at.slot);
        return found;
    }
    *(before == 0 ? &list->first : &queue->items[before].next) = queue->items[found].next;
    list->last = list->last == found ? before : list->last;
    return found;
}

bool phx_queue_pop(struct phx_queue *queue, struct phx_queue_item *item, uint64_t *tie,
                   uint32_t *actor)
{
    *tie = 0;
    *actor = 0;
    if (queue->count == 0)
        return false;
    if (queue->tie == PHX_TIE_FIFO) {
        item_pop(queue, earliest_take(queue), item);
        return true;
    }
    if (queue->tied_count == 0)
        tied_take_list(queue, earliest_list(queue));
    struct phx_queue_tied top = tied_pop(queue);
    *tie = top.tie;
    *actor = top.actor;
    item_pop(queue, top.item, item);
    return true;
}
