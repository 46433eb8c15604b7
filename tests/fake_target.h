// tests/fake_target.h: a target for one rank alone, without threads or time: puts to itself land at
// once, workers run one after another, a park moves the clock to its end. For tests of the engine
// and of kernel pieces that need no second rank. With more than one worker per rank a barrier would
// never end, so groups over it have one.

#ifndef PHX_TESTS_FAKE_TARGET_H
#define PHX_TESTS_FAKE_TARGET_H

#include "engine/phalanx.h"

struct fake_target;

// This rank is `rank`. Puts to others are counted and lost.
struct fake_target *fake_target_open(uint16_t rank);
void fake_target_close(struct fake_target *fake);
struct phx_target fake_target_of(struct fake_target *fake);
uint64_t fake_target_puts(const struct fake_target *fake);       // to other ranks, lost
uint64_t fake_target_registered(const struct fake_target *fake); // regions and imports alive

#endif
