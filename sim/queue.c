// sim/queue.c: the radix queue that queue.h draws.

#define _GNU_SOURCE // mremap()

#include "sim/queue.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "sim/core.h"

#define CAPACITY_FIRST 8192u // cells: no page of them is there before it is used
#define CAPACITY_MAX (1u << 31)
#define TIED_FIRST 512u
#define HUGE_BYTES_MIN (4u << 20)
#define MANY 1024u    // events that pend
#define SHORT_MAX 12u // events in a list that is searched rather than dealt out
#define AHEAD_LEVEL 1u
#define AHEAD 20u   // events from the first telling to the event
#define STAGE 5u    // events from one telling to the next
#define CATCH_UP 3u // events told of with one that is taken, where the lead is lost
#define NO_TYPE UINT32_MAX

static const struct phx_queue_list list_empty = {0, PHX_QUEUE_EMPTY, UINT64_MAX};

// Doubles an array. Mapped rather than from malloc(): it grows while any fiber runs, by moving
// pages, and ThreadSanitizer, which watches malloc() in every build, has no part in it. NULL: no
// memory, and *capacity stays.
static void *array_double(void *array, uint32_t *capacity, uint32_t first, size_t size_bytes)
{
    uint32_t count = *capacity == 0 ? first : *capacity * 2;
    void *grown = array == NULL
                      ? mmap(NULL, count * size_bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                      : mremap(array, *capacity * size_bytes, count * size_bytes, MREMAP_MAYMOVE);
    if (grown == MAP_FAILED)
        return NULL;
    if (count * size_bytes >= HUGE_BYTES_MIN)
        (void)madvise(grown, count * size_bytes, MADV_HUGEPAGE); // a wish; small pages do as well
    *capacity = count;
    return grown;
}

// Blocks that `count` events may take at worst, block 0 among them: no list has one without an
// event, and of each list the first and the last block may hold a single one.
static uint64_t blocks_max(uint64_t count)
{
    const uint64_t lists = (uint64_t)PHX_QUEUE_LEVELS * PHX_QUEUE_SLOTS;
    uint64_t full = count / (PHX_QUEUE_BLOCK - 1) + 2 * lists;
    return 1 + (count < full ? count : full);
}

// Room for one more, wherever those that pend may be moved: so a pop cannot fail.
static bool room_make(struct phx_queue *queue)
{
    while (queue->tie != PHX_TIE_FIFO && queue->tied_capacity <= queue->count) {
        void *tied =
            array_double(queue->tied, &queue->tied_capacity, TIED_FIRST, sizeof queue->tied[0]);
        if (tied == NULL)
            return false;
        queue->tied = tied;
    }
    while (queue->capacity / PHX_QUEUE_BLOCK < blocks_max(queue->count + 1)) {
        void *cells = NULL;
        if (queue->capacity < CAPACITY_MAX)
            cells = array_double(queue->cells, &queue->capacity, CAPACITY_FIRST,
                                 sizeof queue->cells[0]);
        if (cells == NULL)
            return false;
        queue->cells = cells;
    }
    return true;
}

static uint32_t block_take(struct phx_queue *queue)
{
    uint32_t block = queue->free;
    if (block != 0) {
        queue->free = queue->cells[block].next;
        return block;
    }
    block = queue->used;
    assert(block + PHX_QUEUE_BLOCK <= queue->capacity); // room_make()
    queue->used += PHX_QUEUE_BLOCK;
    return block;
}

static void block_give(struct phx_queue *queue, uint32_t cell)
{
    uint32_t block = cell & ~(PHX_QUEUE_BLOCK - 1);
    queue->cells[block].next = queue->free;
    queue->free = block;
}

bool phx_queue_init(struct phx_queue *queue, enum phx_tie tie, uint64_t seed)
{
    memset(queue, 0, sizeof *queue);
    queue->tie = tie;
    queue->seed = seed;
    queue->used = PHX_QUEUE_BLOCK;
    for (uint32_t i = 0; i < PHX_QUEUE_TOLD; i++)
        queue->ahead.types[i] = NO_TYPE;
    for (uint32_t level = 0; level < PHX_QUEUE_LEVELS; level++)
        for (uint32_t slot = 0; slot < PHX_QUEUE_SLOTS; slot++)
            queue->lists[level][slot] = list_empty;
    if (room_make(queue))
        return true;
    phx_queue_free(queue);
    return false;
}

void phx_queue_free(struct phx_queue *queue)
{
    if (queue->cells != NULL)
        munmap(queue->cells, queue->capacity * sizeof queue->cells[0]);
    if (queue->tied != NULL)
        munmap(queue->tied, queue->tied_capacity * sizeof queue->tied[0]);
    memset(queue, 0, sizeof *queue);
}

struct phx_queue_place { // of a list
    uint32_t level, slot;
};

// --- lists ---------------------------------------------------------------------------------------

static bool list_is_empty(const struct phx_queue_list *list)
{
    return list->last == PHX_QUEUE_EMPTY;
}

// The cell behind one that is not its list's last.
static uint32_t cell_after(const struct phx_queue *queue, uint32_t cell)
{
    uint32_t next = cell + 1;
    return next % PHX_QUEUE_BLOCK != 0 ? next
                                       : queue->cells[cell - cell % PHX_QUEUE_BLOCK].next + 1;
}

// Behind the last of a list whose last block is full, or that has none.
static uint32_t list_extend(struct phx_queue *queue, struct phx_queue_list *list)
{
    uint32_t block = block_take(queue);
    if (list_is_empty(list))
        list->first = block + 1;
    else
        queue->cells[list->last - list->last % PHX_QUEUE_BLOCK].next = block;
    return block + 1;
}

static void list_append(struct phx_queue *queue, const struct phx_queue_item *item)
{
    uint64_t differs = item->time_ps ^ queue->anchor_ps;
    uint32_t level = differs == 0 ? 0 : (63u - (uint32_t)__builtin_clzll(differs)) / 8;
    uint32_t slot = (uint32_t)(item->time_ps >> (8 * level)) & (PHX_QUEUE_SLOTS - 1);
    struct phx_queue_list *list = &queue->lists[level][slot];
    uint32_t cell = list->last + 1;
    if (cell % PHX_QUEUE_BLOCK == 0)
        cell = list_extend(queue, list);
    list->last = cell;
    if (item->time_ps < list->earliest_ps)
        list->earliest_ps = item->time_ps;
    queue->cells[cell].item = *item;
    queue->bits[level][slot / 64] |= UINT64_C(1) << (slot % 64);
    queue->words[level] = (uint8_t)(queue->words[level] | 1u << (slot / 64));
    queue->levels |= 1u << level;
}

// Takes the first of a list that is not empty.
static void list_take(struct phx_queue *queue, struct phx_queue_list *list,
                      struct phx_queue_item *item)
{
    uint32_t cell = list->first;
    *item = queue->cells[cell].item;
    if (cell == list->last) {
        block_give(queue, cell);
        *list = list_empty;
        return;
    }
    list->first = cell_after(queue, cell);
    if (list->first / PHX_QUEUE_BLOCK != cell / PHX_QUEUE_BLOCK)
        block_give(queue, cell);
}

// The list was emptied.
static void list_close(struct phx_queue *queue, uint32_t level, uint32_t slot)
{
    queue->lists[level][slot] = list_empty;
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

// The lists of 256 ps behind that of the latest event are walked ahead of their events' being
// taken. Within a list they stand in any order, which matters little. Those of one time each are
// not walked: their events were told of before their list was dealt out, or came in just now.
//
// Where a list has many events, the walk ends up about a list ahead: what it told of in the list
// that is entered counts no more. That is meant. A list is dealt out by time when it is entered, so
// each of its events may be next, and must have been told of by then.

static void tell(const struct phx_queue *queue, uint32_t step, enum phx_soon soon)
{
    const struct phx_queue_ahead *a = &queue->ahead;
    uint32_t at = step % PHX_QUEUE_TOLD;
    if (a->types[at] != NO_TYPE)
        queue->soon(queue->soon_context, a->types[at], a->objects[at], soon);
}

// Goes on to the next event; false: there is none.
static bool ahead_next(struct phx_queue *queue)
{
    struct phx_queue_ahead *a = &queue->ahead;
    const struct phx_queue_list *lists = queue->lists[AHEAD_LEVEL];
    if (a->cell != 0 && a->cell != lists[a->slot].last) {
        a->cell = cell_after(queue, a->cell);
        return true;
    }
    for (uint32_t from = a->cell == 0 ? a->slot : a->slot + 1; from < PHX_QUEUE_SLOTS;
         from = (from / 64 + 1) * 64) {
        uint64_t bits = queue->bits[AHEAD_LEVEL][from / 64] >> from % 64;
        if (bits == 0)
            continue;
        a->slot = from + (uint32_t)__builtin_ctzll(bits);
        a->cell = lists[a->slot].first;
        return true;
    }
    return false;
}

// Tells of one more event, and again of those before it; false: there is none.
static bool ahead_step(struct phx_queue *queue)
{
    struct phx_queue_ahead *a = &queue->ahead;
    bool is_there = ahead_next(queue);
    uint32_t at = a->count % PHX_QUEUE_TOLD;
    a->types[at] = NO_TYPE;
    if (is_there) {
        struct phx_queue_item *item = &queue->cells[a->cell].item;
        a->types[at] = (uint32_t)item->key & 63u;
        a->objects[at] = item->object;
        a->lead++;
        item->is_told = true;
    }
    for (uint32_t soon = PHX_SOON_FAR; soon <= PHX_SOON_NEXT; soon++)
        tell(queue, a->count - (soon - PHX_SOON_FAR) * STAGE, (enum phx_soon)soon);
    a->count++;
    return is_there;
}

// An event of this time was taken.
static void look_ahead(struct phx_queue *queue, uint64_t time_ps)
{
    struct phx_queue_ahead *a = &queue->ahead;
    uint64_t window = time_ps >> 16;
    uint32_t slot = (uint32_t)(time_ps >> 8) & (PHX_QUEUE_SLOTS - 1);
    if (window != a->window || a->slot <= slot) {
        a->window = window;
        a->slot = slot + 1;
        a->cell = 0;
        a->lead = 0;
    }
    for (uint32_t i = 0; i < CATCH_UP && a->lead < AHEAD; i++)
        if (!ahead_step(queue))
            return;
}

// The block behind that of a cell, all of it; of a list's last block, any.
PHX_FETCHES void fetch_behind(const struct phx_queue *queue, uint32_t cell)
{
    const union phx_queue_cell *block = &queue->cells[cell - cell % PHX_QUEUE_BLOCK];
    const uint8_t *behind = (const uint8_t *)&queue->cells[block->next % queue->capacity];
    for (size_t i = 0; i < PHX_QUEUE_BLOCK * sizeof *block; i += 64)
        __builtin_prefetch(behind + i);
}

// Makes the earliest time of this list the anchor and deals its events out to lower levels.
static void list_deal(struct phx_queue *queue, uint32_t level, uint32_t slot)
{
    struct phx_queue_list list = queue->lists[level][slot];
    queue->anchor_ps = list.earliest_ps;
    list_close(queue, level, slot);
    while (!list_is_empty(&list)) {
        struct phx_queue_item item;
        if (list.first % PHX_QUEUE_BLOCK == 1)
            fetch_behind(queue, list.first);
        list_take(queue, &list, &item);
        list_append(queue, &item);
    }
}

// --- events of the current time, by tie ----------------------------------------------------------

static bool tied_before(const struct phx_queue_tied *a, const struct phx_queue_tied *b)
{
    return a->tie != b->tie ? a->tie < b->tie : a->item.key < b->item.key;
}

static uint64_t tie_random(const struct phx_queue *queue, uint64_t key, uint32_t actor)
{
    uint64_t tie = phx_chance(queue->seed, PHX_CHANCE_TIE, 0, key >> 6);
    // Not before an event of the same actor that still pends; among equals the key decides.
    for (uint32_t i = 0; i < queue->tied_count; i++)
        if (queue->tied[i].item.actor == actor && queue->tied[i].tie > tie)
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

static void tied_push(struct phx_queue *queue, const struct phx_queue_item *item)
{
    assert(queue->tied_count < queue->tied_capacity);
    uint64_t tie = queue->tie == PHX_TIE_PCT ? tie_pct(queue, item->actor)
                                             : tie_random(queue, item->key, item->actor);
    tied_insert(queue, &(struct phx_queue_tied){tie, *item});
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
        if (entry.item.actor == actor)
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
    struct phx_queue_list list = queue->lists[at.level][at.slot];
    list_close(queue, at.level, at.slot);
    while (!list_is_empty(&list)) {
        struct phx_queue_item item;
        list_take(queue, &list, &item);
        tied_push(queue, &item);
    }
}

// --- the queue -----------------------------------------------------------------------------------

bool phx_queue_push(struct phx_queue *queue, const struct phx_queue_item *item)
{
    assert(item->time_ps >= queue->base_ps);
    if (!room_make(queue))
        return false;
    if (queue->tied_count > 0 && item->time_ps == queue->base_ps)
        tied_push(queue, item);
    else
        list_append(queue, item);
    queue->count++;
    return true;
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
        queue->anchor_ps = queue->cells[list->first].item.time_ps;
    else
        list_deal(queue, at.level, at.slot);
    queue->base_ps = queue->anchor_ps;
    if (!list_is_empty(list))
        return at;
    return (struct phx_queue_place){0, (uint32_t)queue->base_ps & (PHX_QUEUE_SLOTS - 1)};
}

// Moves the first of the earliest events of a list to its front, to be taken; the others keep their
// order. False for a list that is not short.
static bool earliest_to_front(struct phx_queue *queue, struct phx_queue_list *list)
{
    union phx_queue_cell *cells = queue->cells;
    uint32_t found = list->first;
    uint32_t count = 1;
    uint64_t other_ps = UINT64_MAX; // the earliest of the others
    for (uint32_t i = list->first; i != list->last; count++) {
        if (count == SHORT_MAX)
            return false;
        i = cell_after(queue, i);
        uint64_t time_ps = cells[i].item.time_ps;
        bool is_earlier = time_ps < cells[found].item.time_ps;
        uint64_t later_ps = is_earlier ? cells[found].item.time_ps : time_ps;
        other_ps = later_ps < other_ps ? later_ps : other_ps;
        found = is_earlier ? i : found;
    }
    list->earliest_ps = other_ps;
    struct phx_queue_item carried = cells[list->first].item;
    for (uint32_t i = list->first; i != found;) {
        i = cell_after(queue, i);
        struct phx_queue_item item = cells[i].item;
        cells[i].item = carried;
        carried = item;
    }
    cells[list->first].item = carried;
    return true;
}

// Takes the earliest event out of its list.
static void earliest_take(struct phx_queue *queue, struct phx_queue_item *item)
{
    struct phx_queue_place at = lowest_list(queue);
    if (at.level > 0 && !earliest_to_front(queue, &queue->lists[at.level][at.slot])) {
        list_deal(queue, at.level, at.slot);
        at = (struct phx_queue_place){0, (uint32_t)queue->anchor_ps & (PHX_QUEUE_SLOTS - 1)};
    }
    struct phx_queue_list *list = &queue->lists[at.level][at.slot];
    list_take(queue, list, item);
    queue->base_ps = item->time_ps;
    if (list_is_empty(list)) {
        queue->anchor_ps = queue->base_ps;
        list_close(queue, at.level, at.slot);
    }
    queue->ahead.lead -= item->is_told && queue->ahead.lead > 0;
    if (queue->count > MANY && queue->soon != NULL)
        look_ahead(queue, queue->base_ps);
}

bool phx_queue_pop(struct phx_queue *queue, struct phx_queue_item *item, uint64_t *tie)
{
    *tie = 0;
    if (queue->count == 0)
        return false;
    queue->count--;
    if (queue->tie == PHX_TIE_FIFO) {
        earliest_take(queue, item);
        return true;
    }
    if (queue->tied_count == 0)
        tied_take_list(queue, earliest_list(queue));
    struct phx_queue_tied top = tied_pop(queue);
    *tie = top.tie;
    *item = top.item;
    return true;
}
