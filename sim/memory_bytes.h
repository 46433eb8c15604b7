// sim/memory_bytes.h: the two ways in which a message changes a rank's memory.
//
// They have a file of their own because it alone of sim/ is instrumented for ThreadSanitizer: what
// lands here is what a rank's workers race on. All bookkeeping around it is not.

#ifndef PHX_SIM_MEMORY_BYTES_H
#define PHX_SIM_MEMORY_BYTES_H

#include <stdint.h>

void phx_bytes_land(void *to, const void *from, uint64_t size_bytes);
void phx_bytes_signal(uint64_t *word, uint64_t value); // with release

#endif
