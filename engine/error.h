// engine/error.h: every error, once: code, text, and scope (who has to act).
//
// Functions return 0 or a negative enum phx_error, and write their outputs only on 0. The scope is
// the range: call -1..-19 (the caller), op -20..-39 (whoever started that operation), peer -40..-59
// (membership), device -60..-79 (the transport drops its lanes), group -80..-99 (the application).

#ifndef PHX_ENGINE_ERROR_H
#define PHX_ENGINE_ERROR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PHX_ERRORS(X)                                                                              \
    X(INVALID, -1, "invalid argument")                                                             \
    X(UNSUPPORTED, -2, "not supported by this build or target")                                    \
    X(NO_MEMORY, -3, "out of memory")                                                              \
    X(STATE, -4, "call not allowed in this state")                                                 \
    X(MISMATCH, -5, "ranks disagree on a parameter")                                               \
    X(IO, -6, "input or output failed")                                                            \
    X(STALE, -20, "stale epoch, key or incarnation")                                               \
    X(CANCELLED, -21, "cancelled")                                                                 \
    X(TIMEOUT, -22, "timed out")                                                                   \
    X(CAPACITY, -23, "more rows arrived than the output holds")                                    \
    X(PROTECTION, -24, "remote access outside a region or with a wrong key")                       \
    X(FLUSHED, -25, "flushed after an earlier failure on the same lane")                           \
    X(CORRUPT, -26, "a message failed its check")                                                  \
    X(PEER_LOST, -40, "peer lost")                                                                 \
    X(PEER_UNREACHABLE, -41, "peer unreachable")                                                   \
    X(DEVICE_LOST, -60, "device lost")                                                             \
    X(ABORTED, -80, "group aborted")                                                               \
    X(EVICTED, -81, "this rank was excluded from the group")                                       \
    X(NO_QUORUM, -82, "no quorum")                                                                 \
    X(TORN, -83, "in-place operation torn by a failure")

enum phx_error {
    PHX_OK = 0,
#define PHX_ERROR_ENUM(name, code, text) PHX_ERR_##name = code,
    PHX_ERRORS(PHX_ERROR_ENUM)
#undef PHX_ERROR_ENUM
};

enum phx_error_scope {
    PHX_SCOPE_CALL = 1,
    PHX_SCOPE_OP,
    PHX_SCOPE_PEER,
    PHX_SCOPE_DEVICE,
    PHX_SCOPE_GROUP
};

// The text of a code; "unknown error" for a code that is not in the list. Never NULL.
const char *phx_error_text(int code);
// The name without its prefix ("INVALID"); "UNKNOWN" for a code that is not in the list.
const char *phx_error_name(int code);
// The scope of a negative code; 0 for PHX_OK and for codes outside every range.
enum phx_error_scope phx_error_scope(int code);

// A message for a person: which argument, its value, its bound. Filled by calls that take one.
struct phx_message {
    char text[256];
};
// Formats into m (NULL is allowed) and returns code, so that a check is one line.
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int phx_fail(struct phx_message *m, int code, const char *format, ...);

#ifdef __cplusplus
}
#endif

#endif
