// engine/limits.h: every maximum, and the relations between them.
//
// A limit stands here because a format has that many bits or a fixed array has that many elements;
// exceeding one is an error that names the argument, its value and the limit. Never a crash.

#ifndef PHX_ENGINE_LIMITS_H
#define PHX_ENGINE_LIMITS_H

#include <assert.h>

#define PHX_RANKS_MAX 1024u
#define PHX_TOP_K_MAX 32u
#define PHX_HIDDEN_MAX 16384u
#define PHX_HIDDEN_MULTIPLE 128u // one scale group
#define PHX_EXPERTS_MAX 65536u
#define PHX_TOKENS_MAX 65536u // per rank and operation
#define PHX_WORKERS_MAX 4096u // per rank
#define PHX_IN_FLIGHT_MAX 2u  // W: operations of one kind begun and not finished (hook mode)
#define PHX_SLOTS_MAX (2u * PHX_IN_FLIGHT_MAX)
#define PHX_SCALE_GROUP 128u  // channels that share one fp8 scale
#define PHX_RENEWED_MAX 4096u // times that ranks may come back into one group

// Signal words: epoch:16 | sequence:24 | value:24. The top values are reserved.
#define PHX_WORD_VALUE_BITS 24u
#define PHX_WORD_SEQUENCE_BITS 24u
#define PHX_WORD_EPOCH_BITS 16u
#define PHX_WORD_VALUE_MASKED 0xFFFFFFu  // "I have masked you"
#define PHX_WORD_VALUE_WAITING 0xFFF000u // + rank: "I am blocked on that rank"
#define PHX_WORD_VALUE_HELD 0xFFF800u    // + rank: the same, "and have not sent all"
#define PHX_WORD_VALUE_MAX 0xFFEFFFu     // largest plain value

static_assert(PHX_WORD_VALUE_BITS + PHX_WORD_SEQUENCE_BITS + PHX_WORD_EPOCH_BITS == 64,
              "a signal word is 64 bits");
static_assert(PHX_WORD_VALUE_WAITING + PHX_RANKS_MAX <= PHX_WORD_VALUE_HELD &&
                  PHX_WORD_VALUE_HELD + PHX_RANKS_MAX < PHX_WORD_VALUE_MASKED,
              "WAITING plus any rank stays below MASKED");
static_assert(PHX_HIDDEN_MAX % PHX_HIDDEN_MULTIPLE == 0, "the largest hidden size is legal");
static_assert(PHX_TOKENS_MAX * PHX_TOP_K_MAX <= PHX_WORD_VALUE_MAX,
              "a row count fits in a signal word, rows per expert included");
static_assert(PHX_SLOTS_MAX *
                      (8ull * (1 + 2 * PHX_WORKERS_MAX) +
                       (4ull * PHX_EXPERTS_MAX + (8ull + 12ull * PHX_TOP_K_MAX) * PHX_TOKENS_MAX) *
                           4 / 3 +
                       4 * 4096) <
                  1ull << 32,
              "words and routes (as pieces: 4/3) stand before all but a few rows: offsets fit in "
              "the 32 bits of struct phx_op");

#endif
