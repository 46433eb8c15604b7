// sim/chance.c: counter-based chance: every draw is a pure function of what it is for.
//
// There is no generator state, so that taking one draw away leaves all others as they were. Each
// argument is absorbed by a bijective 64-bit finaliser (two rounds of multiply and xor-shift),
// which is enough to keep neighbouring counters apart; nothing here is meant to resist an
// adversary.

#include "sim/core.h"

#include <assert.h>

static uint64_t scramble(uint64_t x)
{
    x ^= x >> 30;
    x *= UINT64_C(0xBF58476D1CE4E5B9);
    x ^= x >> 27;
    x *= UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

uint64_t phx_chance(uint64_t seed, enum phx_purpose purpose, uint64_t who, uint64_t number)
{
    const uint64_t step =
        UINT64_C(0x9E3779B97F4A7C15); // odd, about 2^64 divided by the golden ratio
    uint64_t x = scramble(seed + step * ((uint64_t)purpose + 1));
    x = scramble(x + step * (who + 1));
    return scramble(x + step * (number + 1));
}

__extension__ typedef unsigned __int128 wide;

uint64_t phx_chance_below(uint64_t bound, uint64_t seed, enum phx_purpose purpose, uint64_t who,
                          uint64_t number)
{
    assert(bound >= 1);
    return (uint64_t)((wide)phx_chance(seed, purpose, who, number) * bound >> 64);
}
