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
//   4. phx__view_install() the epoch changes: words of the old one no longer match, sequences start
//                          again, members are not suspected, all others are.

#ifndef PHX_ENGINE_VIEW_H
#define PHX_ENGINE_VIEW_H

#include "engine/group.h"

int phx__view_renew(struct phx_group *group, uint32_t rank, struct phx_message *message);
int phx__view_admit(struct phx_group *group, uint32_t rank, const void *card,
                    struct phx_message *message);
// epoch: larger than the group's, except for a newcomer's first (1, which every group opens with).
int phx__view_install(struct phx_group *group, uint64_t epoch, const struct phx_rank_set *members,
                      struct phx_message *message);

#endif
