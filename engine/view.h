// engine/view.h: taking over a new view: which ranks are in, under which epoch.
//
// Membership will decide views; until then a test authority scripts them. Either way the steps are
// these, between operations, with nothing pending, on every member:
//
//   1. phx__view_renew(r)  for each rank that comes (back): what its last incarnation could write
//   is
//                          fenced and retired; the new one gets fresh memory and a fresh key.
//   2. exchange cards      phx_group_cards() here, the newcomer's own group there.
//   3. phx__view_admit(r)  the newcomer's card is checked, its memory imported, its lanes
//   connected;
//                          then phx_group_poll() until it returns 0.
//   4. phx__view_install() the epoch changes: words of the old one no longer match, members are not
//                          suspected, all others are. Operation numbers go on: the evidence that
//                          frees a slot is a peer's signal of the operation before, in whatever
//                          view that ran. A newcomer takes the numbers over.

#ifndef PHX_ENGINE_VIEW_H
#define PHX_ENGINE_VIEW_H

#include "engine/group.h"

struct phx_view {
    uint64_t epoch;
    struct phx_rank_set members;
    uint64_t operations;   // begun by every member, of both kinds
    uint64_t sequences[2]; // of them dispatches, and combines
};

int phx__view_renew(struct phx_group *group, uint32_t rank, struct phx_message *message);
int phx__view_admit(struct phx_group *group, uint32_t rank, const void *card,
                    struct phx_message *message);
// The view that this rank is in, with the numbers it has reached.
void phx__view_now(const struct phx_group *group, struct phx_view *view);
// PHX_ERR_INVALID: the epoch is not above the group's, or the numbers are not those that this rank,
// if it ran anything, has reached. PHX_ERR_EVICTED: this rank is not a member.
int phx__view_install(struct phx_group *group, const struct phx_view *view,
                      struct phx_message *message);

#endif
