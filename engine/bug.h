// engine/bug.h: mistakes planted on purpose, to see that the checkers and the explorer find them.
//
// Each is one that real engines made, or that a draft of this one did. `if (PHX_BUG(NAME))` stands
// where a person would make it. In ordinary builds PHX_BUG() is 0, and nothing of this is compiled.
// In the libraries of phx-planted (PHX_PLANTED_BUGS = 1) it asks for the one mistake that was
// chosen with --bug. docs/planted-bugs.md says what each breaks and how soon it is found.
//
// Chosen once, before anything runs. Not for GPUs.

#ifndef PHX_ENGINE_BUG_H
#define PHX_ENGINE_BUG_H

#include "engine/error.h"

#ifdef __cplusplus
extern "C" {
#endif

// name in the code, name for people
#define PHX_BUG_LIST(X)                                                                            \
    X(SIGNAL_BEFORE_PAYLOAD, "signal-before-payload")                                              \
    X(COUNTER_FOR_WORD, "counter-for-word")                                                        \
    X(SLOT_WITHOUT_EVIDENCE, "slot-without-evidence")                                              \
    X(PARITY_KEPT_ON_MASK, "parity-kept-on-mask")                                                  \
    X(STALE_KEY_KEPT, "stale-key-kept")                                                            \
    X(LATE_STORE_AFTER_EVICTION, "late-store-after-eviction")                                      \
    X(DEADLINE_PER_RANK, "deadline-per-rank")                                                      \
    X(DEADLINE_CASCADE, "deadline-cascade")                                                        \
    X(TWO_DECISIONS, "two-decisions")                                                              \
    X(FENCE_MISSING, "fence-missing")                                                              \
    X(LOSS_NOT_REPORTED, "loss-not-reported")                                                      \
    X(OLD_BYTES_READ, "old-bytes-read")                                                            \
    X(WORD_UNWRITTEN, "word-unwritten")                                                            \
    X(LANE_MOVED, "lane-moved")                                                                    \
    X(TOKEN_INDEX_SHIFTED, "token-index-shifted")                                                  \
    X(SCALES_CUT_SHORT, "scales-cut-short")                                                        \
    X(MASK_READ_TWICE, "mask-read-twice")                                                          \
    X(TIMEOUT_UNITS, "timeout-units")                                                              \
    X(RECEIVE_TWICE, "receive-twice")                                                              \
    X(WEIGHTS_AFTER_ROUNDING, "weights-after-rounding")                                            \
    X(EXPERTS_UNEVEN, "experts-uneven")                                                            \
    X(ZERO_ROWS_SILENT, "zero-rows-silent")                                                        \
    X(BARRIER_NOT_WAITED, "barrier-not-waited")                                                    \
    X(STATUS_BY_ANY_WORKER, "status-by-any-worker")                                                \
    X(FLUSH_SKIPPED, "flush-skipped")                                                              \
    X(STALE_EVENT_TAKEN, "stale-event-taken")

enum phx_bug {
    PHX_BUG_NONE = 0,
#define PHX_BUG_ENUMERATOR(name, text) PHX_BUG_##name,
    PHX_BUG_LIST(PHX_BUG_ENUMERATOR)
#undef PHX_BUG_ENUMERATOR
        PHX_BUG_END
};

#if defined(PHX_PLANTED_BUGS) && PHX_PLANTED_BUGS

#define PHX_BUG(name) phx_bug_is(PHX_BUG_##name)
int phx_bug_is(enum phx_bug bug);
// PHX_BUG_NONE: no bug has that name.
enum phx_bug phx_bug_find(const char *name);
const char *phx_bug_name(enum phx_bug bug); // NULL: there is no such bug
// From now on this one is in; PHX_BUG_NONE: none is.
int phx_bug_set(enum phx_bug bug);
enum phx_bug phx_bug_chosen(void);

#else

#define PHX_BUG(name) 0
static inline enum phx_bug phx_bug_find(const char *name)
{
    (void)name;
    return PHX_BUG_NONE;
}
static inline const char *phx_bug_name(enum phx_bug bug)
{
    (void)bug;
    return 0;
}
static inline int phx_bug_set(enum phx_bug bug)
{
    return bug == PHX_BUG_NONE ? 0 : PHX_ERR_UNSUPPORTED;
}
static inline enum phx_bug phx_bug_chosen(void)
{
    return PHX_BUG_NONE;
}

#endif

#ifdef __cplusplus
}
#endif

#endif
