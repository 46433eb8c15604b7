// sim/memory_bytes.c: payload and signals, as a rank's workers see them.

#include "sim/memory_bytes.h"

#include <string.h>

void phx_bytes_land(void *to, const void *from, uint64_t size_bytes)
{
    memmove(to, from, size_bytes); // a rank may send itself its own region, a little further on
}

void phx_bytes_signal(uint64_t *word, uint64_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
