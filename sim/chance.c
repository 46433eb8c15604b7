// sim/chance.c: counter-based chance: every draw is a pure function of what it is for.
//
// There is no generator state, so that taking one draw away leaves all others as they were. Each
// argument is absorbed by a bijective 64-bit finaliser (phx_chance_at(): two rounds of multiply and
// xor-shift, on steps of about 2^64 divided by the golden ratio), which is enough to keep
// neighbouring counters apart; nothing here is meant to resist an adversary.

#include "sim/core.h"

#include <assert.h>

// Absorbing `value` into what was absorbed before is what the last step does with its number.
uint64_t phx_chance_who(uint64_t seed, enum phx_purpose purpose, uint64_t who)
{
    return phx_chance_at(phx_chance_at(seed, (uint64_t)purpose), who);
}

uint64_t phx_chance(uint64_t seed, enum phx_purpose purpose, uint64_t who, uint64_t number)
{
    return phx_chance_at(phx_chance_who(seed, purpose, who), number);
}

__extension__ typedef unsigned __int128 wide;

uint64_t phx_chance_below(uint64_t bound, uint64_t seed, enum phx_purpose purpose, uint64_t who,
                          uint64_t number)
{
    assert(bound >= 1);
    return (uint64_t)((wide)phx_chance(seed, purpose, who, number) * bound >> 64);
}
