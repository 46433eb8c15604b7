// kernels/check.h: the check that a wire row carries in groups opened with PHX_CHECK_ROWS.
//
//   check = mix(key, 0) + sum of mix(word[i], i + 1)   modulo 2^64, over the 8-byte words before it
//   key   = kind << 60 | (sequence mod 2^24) << 32 | token, or combine's slot
//   mix(word, place): word ^ place * PHX_CHECK_STEP, then twice (fold the high half down, multiply
//                     by an odd number), then fold once more
//
// Words are little-endian, what lies between a row's scales and its check is zero. The sum has no
// order, so that lanes share the work. mix() is a bijection of the word, so a row in which one word
// differs, by one bit or by many, never passes; several words together pass once in 2^64. The key
// tells a row of another operation, or of another slot, that stands where this one should.

#ifndef PHX_KERNELS_CHECK_H
#define PHX_KERNELS_CHECK_H

#include "kernels/macros.h"

#define PHX_CHECK_STEP UINT64_C(0x9E3779B97F4A7C15)
// Below 2^32, so that a product takes two 32-bit multiplications where there is none of 64 bits.
#define PHX_CHECK_FACTOR_1 UINT64_C(0xCC9E2D51)
#define PHX_CHECK_FACTOR_2 UINT64_C(0x85EBCA6B)

PHX_BOTH uint64_t phx_check_mix(uint64_t word, uint64_t place)
{
    uint64_t h = word ^ place * PHX_CHECK_STEP;
    h = (h ^ h >> 32) * PHX_CHECK_FACTOR_1;
    h = (h ^ h >> 29) * PHX_CHECK_FACTOR_2;
    return h ^ h >> 32;
}

PHX_BOTH uint64_t phx_check_key(uint32_t kind, uint64_t sequence, uint64_t slot)
{
    return phx_check_mix((uint64_t)kind << 60 | (sequence & 0xFFFFFFu) << 32 | slot, 0);
}

#endif
