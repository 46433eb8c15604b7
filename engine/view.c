// engine/view.c: the steps of a view change on one rank; see view.h for their order.

#include "engine/view.h"

#include <string.h>

static int check_quiet(const struct phx_group *group, const char *what, struct phx_message *message)
{
    if (group->streaming != PHX_STREAMING_OFF)
        return phx_fail(message, PHX_ERR_STATE, "%s: operations are enqueued on streams", what);
    for (uint32_t k = 0; k < 2; k++)
        if (group->kinds[k].sent != group->kinds[k].received)
            return phx_fail(message, PHX_ERR_STATE, "%s: an operation is between halves", what);
    return 0;
}

static int check_rank(const struct phx_group *group, uint32_t rank, struct phx_message *message)
{
    if (rank >= group->rank.shape.ranks || rank == group->rank.rank)
        return phx_fail(message, PHX_ERR_INVALID, "rank = %u: must be another rank, below %u", rank,
                        group->rank.shape.ranks);
    return 0;
}

// The old region stays allocated with the group: a store of the old incarnation that is still under
// way, over a transport that can't revoke, lands where nobody looks.
int phx__view_renew(struct phx_group *group, uint32_t rank, struct phx_message *message)
{
    struct phx_transport *t = group->target.transport;
    const struct phx_allocator *a = &group->options.allocator;
    struct phx_mem region;
    struct phx_mem_key key;
    int rc = check_rank(group, rank, message);
    if (rc == 0)
        rc = check_quiet(group, "renewing a region", message);
    if (rc != 0)
        return rc;
    // Planted: the newcomer gets the memory that its last incarnation may still write.
    if (PHX_BUG(LATE_STORE_AFTER_EVICTION))
        return 0;
    if (group->renewed_count >= PHX_RENEWED_MAX)
        return phx_fail(message, PHX_ERR_STATE, "rank %u: %u regions were renewed, the most", rank,
                        PHX_RENEWED_MAX);
    uint64_t bytes = phx_region_bytes(&group->rank.shape);
    bool is_made = phx__makes_memory(group);
    uint8_t *memory = is_made ? NULL : a->alloc(a->context, bytes);
    if (memory == NULL && !is_made)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "a region of this shape needs %llu bytes",
                        (unsigned long long)bytes);
    rc = phx_mem_register(t, memory, bytes, (uint16_t)rank, &region, &key);
    if (rc != 0) {
        if (a->free != NULL && !is_made)
            a->free(a->context, memory, bytes);
        return phx_fail(message, rc, "registering rank %u's region: %s", rank, phx_error_text(rc));
    }
    phx_peer_fence(t, group->peers[rank]);
    phx_mem_release(t, group->regions[rank]);
    group->renewed[group->renewed_count++] = memory; // NULL: the transport's
    group->from[rank] = is_made ? phx_mem_base(t, region) : memory;
    group->regions[rank] = region;
    group->keys[rank] = key;
    phx__heads_place(group, rank);
    return 0;
}

int phx__view_admit(struct phx_group *group, uint32_t rank, const void *card,
                    struct phx_message *message)
{
    struct phx_transport *t = group->target.transport;
    struct phx_mem_key key;
    int rc = check_rank(group, rank, message);
    if (rc == 0)
        rc = phx__card_check(group, rank, card, message);
    if (rc != 0)
        return rc;
    phx__card_read(card, &group->peers[rank], &key);
    group->peer_lost[rank] = 0;
    // Planted: the key of the last incarnation is kept for the next.
    if (!PHX_BUG(STALE_KEY_KEPT) || group->targets[rank].epoch == 0) {
        if (group->targets[rank].epoch != 0)
            phx_mem_release(t, group->targets[rank]);
        memset(&group->targets[rank], 0, sizeof group->targets[rank]);
        rc = phx__import(group, rank, &key);
    }
    if (rc == 0)
        rc = phx_peer_connect(t, group->peers[rank]);
    if (rc != 0)
        return phx_fail(message, rc, "connecting to rank %u: %s", rank, phx_error_text(rc));
    if (group->peer_answered[rank]) {
        group->peer_answered[rank] = 0;
        group->unanswered++;
    }
    return 0;
}

void phx__view_now(const struct phx_group *group, struct phx_view *view)
{
    memset(view, 0, sizeof *view);
    view->epoch = group->epoch;
    view->operations = group->operations;
    for (uint32_t k = 0; k < 2; k++)
        view->sequences[k] = group->kinds[k].sent;
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++)
        if (__atomic_load_n(&group->rank.suspected[r], __ATOMIC_ACQUIRE) != PHX_CAUSE_VIEW)
            view->members.words[r / 64] |= UINT64_C(1) << (r % 64);
}

static int check_numbers(const struct phx_group *group, const struct phx_view *view,
                         struct phx_message *message)
{
    if (group->operations == 0 ||
        (group->operations == view->operations && group->kinds[0].sent == view->sequences[0] &&
         group->kinds[1].sent == view->sequences[1]))
        return 0;
    return phx_fail(message, PHX_ERR_INVALID,
                    "view %llu begins after operation %llu, this rank has reached %llu",
                    (unsigned long long)view->epoch, (unsigned long long)view->operations,
                    (unsigned long long)group->operations);
}

int phx__view_install(struct phx_group *group, const struct phx_view *view,
                      struct phx_message *message)
{
    int rc = check_quiet(group, "installing a view", message);
    if (rc != 0)
        return rc;
    if (view->epoch <= group->epoch)
        return phx_fail(message, PHX_ERR_INVALID, "epoch = %llu: must be above %llu",
                        (unsigned long long)view->epoch, (unsigned long long)group->epoch);
    if (!phx_rank_set_has(&view->members, group->rank.rank))
        return phx_fail(message, PHX_ERR_EVICTED, "view %llu excludes this rank",
                        (unsigned long long)view->epoch);
    rc = check_numbers(group, view, message);
    if (rc != 0)
        return rc;
    group->epoch = view->epoch;
    // In words epochs go round from 1: memory that nobody has written is a word of no view.
    group->rank.epoch = (uint32_t)((view->epoch - 1) % 0xFFFFu) + 1;
    group->operations = view->operations;
    for (uint32_t k = 0; k < 2; k++)
        group->kinds[k].sent = group->kinds[k].received = view->sequences[k];
    for (uint32_t r = 0; r < group->rank.shape.ranks; r++) {
        uint64_t cause = group->peer_lost[r] ? PHX_CAUSE_TRANSPORT : PHX_CAUSE_NONE;
        if (!phx_rank_set_has(&view->members, r))
            cause = PHX_CAUSE_VIEW;
        __atomic_store_n(&group->rank.suspected[r], cause, __ATOMIC_RELEASE);
        for (uint32_t p = 0; p < PHX_WAIT_PHASES; p++) // words of the old epoch say nothing now
            group->rank.owed[p * group->rank.shape.ranks + r] = 0;
        if (cause == PHX_CAUSE_NONE)
            group->flushed[r] = 0;
    }
    return 0;
}
