// kernels/word.h: what a signal word says to an operation that waits for it.

#ifndef PHX_KERNELS_WORD_H
#define PHX_KERNELS_WORD_H

#include "kernels/rank.h"

enum phx_seen {
    PHX_SEEN_NOTHING = 1,
    PHX_SEEN_ALL,    // every word is there; what they cover may be read
    PHX_SEEN_GONE,   // the fate is ABSENT
    PHX_SEEN_DECIDED // another worker saw all, checked it and decided PRESENT
};

// One word, read by an operation of this epoch and sequence.
PHX_BOTH uint32_t phx_word_says(uint64_t word, uint64_t epoch, uint64_t sequence)
{
    if (phx_word_epoch(word) != (epoch & 0xFFFFu))
        return PHX_SEEN_NOTHING; // older, or of a view that is not installed here yet
    uint32_t behind = ((uint32_t)sequence - phx_word_sequence(word)) & 0xFFFFFFu;
    // Planted: a count says that rows are there; of which operation, nobody asks.
    if (PHX_BUG(COUNTER_FOR_WORD) && behind < 0x800000u && phx_word_value(word) > 0 &&
        phx_word_value(word) <= PHX_WORD_VALUE_MAX)
        return PHX_SEEN_ALL;
    if (behind != 0)
        return behind < 0x800000u ? PHX_SEEN_NOTHING : PHX_SEEN_GONE;
    return phx_word_value(word) == PHX_WORD_VALUE_MASKED ? PHX_SEEN_GONE : PHX_SEEN_ALL;
}

// Several words together: all are there, one shows that the source gave up, or neither.
PHX_BOTH uint32_t phx_seen_both(uint32_t one, uint32_t other)
{
    if (one == PHX_SEEN_GONE || other == PHX_SEEN_GONE)
        return PHX_SEEN_GONE;
    return one == PHX_SEEN_NOTHING || other == PHX_SEEN_NOTHING ? PHX_SEEN_NOTHING : PHX_SEEN_ALL;
}

#endif
