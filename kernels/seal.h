// kernels/seal.h: wire rows get their check at the sender, and are held to it at the receiver.
//
// Only in groups opened with PHX_CHECK_ROWS; in the others a row is payload and scales, and none of
// this runs.

#ifndef PHX_KERNELS_SEAL_H
#define PHX_KERNELS_SEAL_H

#include "kernels/check.h"
#include "kernels/device.h"

// Puts the check behind `row_bytes` of staged row. Nothing more may be stored into it.
PHX_COLD void phx_row_seal_apart(struct phx_worker *w, uint8_t *row, uint64_t row_bytes,
                                 uint64_t key)
{
    uint64_t check_at = phx_check_offset(row_bytes);
    for (uint64_t i = row_bytes; i < check_at; i += 4)
        phx_store_u32(w, (uint32_t *)(void *)(row + i), 0);
    uint64_t sum = phx_check_sum(w, row, check_at);
    phx_store_u64(w, (uint64_t *)(void *)(row + check_at), key + sum);
}

PHX_FN void phx_row_seal(struct phx_worker *w, uint8_t *row, uint64_t row_bytes, uint64_t key)
{
    PHX_ASIDE_BEGIN(w);
    phx_row_seal_apart(aside, row, row_bytes, key);
    PHX_ASIDE_END(w);
}

PHX_COLD int phx_row_holds_apart(struct phx_worker *w, const uint8_t *row, uint64_t row_bytes,
                                 uint64_t key)
{
    uint64_t check_at = phx_check_offset(row_bytes);
    uint64_t sum = phx_check_sum(w, row, check_at);
    return phx_row_load(w, (const uint64_t *)(const void *)(row + check_at)) == key + sum;
}
PHX_FN int phx_row_holds(struct phx_worker *w, const uint8_t *row, uint64_t row_bytes, uint64_t key)
{
    PHX_ASIDE_BEGIN(w);
    int holds = phx_row_holds_apart(aside, row, row_bytes, key);
    PHX_ASIDE_END(w);
    return holds;
}

#endif
