// sim/pages.h: zeroed memory for the simulator's own tables, straight from the system.
//
// Tables that grow with the square of the ranks are walked in no order, so that most steps miss the
// processor's caches and its translations: large ones lie in huge pages where the system has them.
// A page that nobody writes costs nothing.

#ifndef PHX_SIM_PAGES_H
#define PHX_SIM_PAGES_H

#include <stddef.h>

void *phx_pages_take(size_t size_bytes); // NULL: no memory, or no bytes
void phx_pages_give(void *pages, size_t size_bytes);

#endif
