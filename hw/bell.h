// hw/bell.h: how waiting workers of one process sleep, and how those who change a word wake them.
//
// One bell serves all workers of a rank, and every peer that stores signals there. Nobody is told
// which word changed: sleepers look again. The order that loses no wake-up:
//
//   who waits      add itself to `sleepers`, take the ticket, look at its words, sleep on the
//   ticket who changes    store the word, full fence, look at `sleepers`, ring if there are any
//
// Threads: any, of any process that maps it.

#ifndef PHX_HW_BELL_H
#define PHX_HW_BELL_H

#include <stdint.h>

struct phx_bell {
    uint32_t count;    // the futex
    uint32_t sleepers; // how many sleep or are about to
};

// After the store of the word.
void phx_bell_ring(struct phx_bell *bell);
// Returns the ticket.
uint32_t phx_bell_arm(struct phx_bell *bell);
void phx_bell_disarm(struct phx_bell *bell);
// Sleeps until the bell rings after the ticket was taken, or for at most `ns`, or a moment less.
void phx_bell_sleep(struct phx_bell *bell, uint32_t ticket, uint64_t ns);

#endif
