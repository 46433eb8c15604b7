// sim/fault_internal.h: what the checker of a list of faults shares with what strikes.

#ifndef PHX_SIM_FAULT_INTERNAL_H
#define PHX_SIM_FAULT_INTERNAL_H

#include "sim/fault.h"

#define PHX_FAULT_KINDS 16u // of operations: enum phx_kind is below

// True for what befalls a port or a path, not the rank.
bool phx_fault_is_link(const struct phx_fault *fault);
// 0, or PHX_ERR_INVALID for the first entry that cannot be.
int phx_fault_list_check(const struct phx_fault *list, uint32_t count, uint32_t ranks,
                         struct phx_message *message);

#endif
