// engine/card.c: what ranks show each other at open, so that none runs with another's parameters.
//
// A card carries every parameter that must agree, by name, so that a mismatch is reported as the
// rank and the field, and the key of the one region that its receiver may write.

#include <stdio.h>
#include <string.h>

#include "engine/group.h"

#define PHX_CARD_MAGIC 0x50485831u // "PHX1"
#define PHX_CARD_FIELDS 17u

struct phx_card {
    uint32_t magic;
    uint16_t rank;
    uint16_t incarnation;
    uint64_t fields[PHX_CARD_FIELDS];
    struct phx_mem_key key;
};
static_assert(sizeof(struct phx_card) == 8 + 8 * PHX_CARD_FIELDS + 32, "no padding on the wire");

static const char *const field_names[PHX_CARD_FIELDS] = {
    "ranks",     "experts",  "top_k",           "tokens_max",   "hidden", "channels",
    "in_flight", "workers",  "dtype",           "scale_format", "rows",   "layout",
    "check",     "division", "fault_tolerance", "expert_map",   "version"};

static void fields_of(const struct phx_group *group, uint64_t fields[PHX_CARD_FIELDS])
{
    const struct phx_shape *s = &group->rank.shape;
    const uint64_t values[PHX_CARD_FIELDS] = {s->ranks,
                                              s->experts,
                                              s->top_k,
                                              s->tokens_max,
                                              s->hidden,
                                              s->channels,
                                              s->in_flight,
                                              s->workers,
                                              s->dtype,
                                              s->dtype == PHX_FP8_E4M3 ? s->scale_format : 0,
                                              s->rows,
                                              s->layout,
                                              s->check,
                                              s->division,
                                              group->options.fault_tolerance,
                                              group->map_hash,
                                              PHX_VERSION_MAJOR << 16 | PHX_VERSION_MINOR};
    memcpy(fields, values, sizeof values);
}

uint32_t phx_group_card_bytes(void)
{
    return sizeof(struct phx_card);
}

void phx__card_write(const struct phx_group *group, uint32_t peer, void *card)
{
    struct phx_card c;
    memset(&c, 0, sizeof c);
    c.magic = PHX_CARD_MAGIC;
    c.rank = (uint16_t)group->rank.rank;
    c.incarnation = group->peers[group->rank.rank].epoch;
    fields_of(group, c.fields);
    c.key = group->keys[peer];
    memcpy(card, &c, sizeof c);
}

int phx__card_check(const struct phx_group *group, uint32_t peer, const void *card,
                    struct phx_message *message)
{
    struct phx_card c;
    uint64_t ours[PHX_CARD_FIELDS];
    memcpy(&c, card, sizeof c);
    if (c.magic != PHX_CARD_MAGIC || c.rank != peer || c.incarnation == 0)
        return phx_fail(message, PHX_ERR_CORRUPT, "the card from rank %u is not one of Phalanx's",
                        peer);
    fields_of(group, ours);
    for (uint32_t i = 0; i < PHX_CARD_FIELDS; i++)
        if (c.fields[i] != ours[i])
            return phx_fail(message, PHX_ERR_MISMATCH,
                            "rank %u opened with %s = %llu, this rank (%u) with %llu", peer,
                            field_names[i], (unsigned long long)c.fields[i], group->rank.rank,
                            (unsigned long long)ours[i]);
    return 0;
}

void phx__card_read(const void *card, struct phx_peer *peer, struct phx_mem_key *key)
{
    struct phx_card c;
    memcpy(&c, card, sizeof c);
    peer->rank = c.rank;
    peer->epoch = c.incarnation;
    *key = c.key;
}
