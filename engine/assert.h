// engine/assert.h: programmer errors stop the program, in every build.
//
// Operating errors are returned (error.h). Nothing that came from a peer or a user's file asserts.

#ifndef PHX_ENGINE_ASSERT_H
#define PHX_ENGINE_ASSERT_H

#ifdef __cplusplus
extern "C" {
#endif

#define phx_assert(condition)                                                                      \
    ((condition) ? (void)0 : phx_assert_failed(#condition, __FILE__, __LINE__))

#if defined(__GNUC__)
__attribute__((noreturn, cold))
#endif
void phx_assert_failed(const char *condition, const char *file, int line);

#ifdef __cplusplus
}
#endif

#endif
