// kernels/leaves_host.h: leaves that the compiler and the C library do best, the same in every
// table of a host.

#ifndef PHX_KERNELS_LEAVES_HOST_H
#define PHX_KERNELS_LEAVES_HOST_H

#include <stdint.h>
#include <string.h>

// The C library already picks the widest moves for this processor; there is nothing to add.
static inline void phx_host_copy(void *target, const void *source, uint64_t size_bytes)
{
    if (size_bytes > 0) // memcpy wants valid pointers even for nothing
        memcpy(target, source, size_bytes);
}

static inline void phx_host_zero(void *target, uint64_t size_bytes)
{
    if (size_bytes > 0)
        memset(target, 0, size_bytes);
}

// target[i * stride] = source[i]; stride in words.
static inline void phx_host_scatter_u32(uint32_t *target, uint64_t stride, const uint32_t *source,
                                        uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        target[i * stride] = source[i];
}

#endif
