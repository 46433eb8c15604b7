// tests/test.h: all that a test includes.
//
//     TEST(layout_regions_do_not_overlap)
//     {
//         CHECK_EQ(phx_slots(&shape), 2);
//     }
//
// A failing check prints where, what and both values, and ends that test; the runner then prints
// the one line that repeats it. Runners: Criterion, or tests/runner_mini.c (PHX_TEST_MINI), which
// needs nothing and is what ThreadSanitizer, valgrind and GPU machines use. Both take the name of a
// test, or a pattern with * and ?, as their only plain argument, and exit 0 (passed), 1 (failed) or
// 77 (all skipped).
//
// Checks may stand in helper functions. On another thread or fiber than the test's own, where a
// test can't be unwound, a failing check ends the whole program after its message.

#ifndef PHX_TESTS_TEST_H
#define PHX_TESTS_TEST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PHX_TEST_PRINTF(text, first) __attribute__((format(printf, text, first), noreturn))
#define PHX_TEST_NORETURN __attribute__((noreturn))
#else
#define PHX_TEST_PRINTF(text, first)
#define PHX_TEST_NORETURN
#endif

struct phx_test_place {
    const char *file;
    int line;
};

// Each ends the running test. They are not for use by name; the macros below call them.
PHX_TEST_PRINTF(2, 3)
void phx_test_fail(struct phx_test_place place, const char *format, ...);
PHX_TEST_NORETURN
void phx_test_skip(struct phx_test_place place, const char *reason);

// Each returns when the check holds.
void phx_test_eq(struct phx_test_place place, const char *a_text, const char *b_text, intmax_t a,
                 intmax_t b);
void phx_test_str_eq(struct phx_test_place place, const char *a_text, const char *b_text,
                     const char *a, const char *b);
void phx_test_mem_eq(struct phx_test_place place, const char *a_text, const char *b_text,
                     const void *a, const void *b, size_t size_bytes);

#ifdef __cplusplus
}
#define PHX_TEST_HERE                                                                              \
    phx_test_place                                                                                 \
    {                                                                                              \
        __FILE__, __LINE__                                                                         \
    }
#else
#define PHX_TEST_HERE ((struct phx_test_place){__FILE__, __LINE__})
#endif

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            phx_test_fail(PHX_TEST_HERE, "CHECK(%s)", #condition);                                 \
    } while (0)
// CHECK_MSG(condition, "rank %u", rank): the message stands beside the condition.
#define CHECK_MSG(condition, ...)                                                                  \
    do {                                                                                           \
        if (!(condition))                                                                          \
            phx_test_fail(PHX_TEST_HERE, "CHECK_MSG(" #condition "): " __VA_ARGS__);               \
    } while (0)
// Integers of any type, compared as intmax_t; printed in decimal and hexadecimal.
#define CHECK_EQ(a, b) phx_test_eq(PHX_TEST_HERE, #a, #b, (intmax_t)(a), (intmax_t)(b))
#define CHECK_STR_EQ(a, b) phx_test_str_eq(PHX_TEST_HERE, #a, #b, (a), (b))
// Prints the first offset at which they differ, and the bytes around it.
#define CHECK_MEM_EQ(a, b, size_bytes)                                                             \
    phx_test_mem_eq(PHX_TEST_HERE, #a, #b, (a), (b), (size_t)(size_bytes))
// Ends the test as skipped; say what is missing: SKIP("this processor has no AVX2").
#define SKIP(reason) phx_test_skip(PHX_TEST_HERE, (reason))

#if defined(PHX_TEST_MINI)

struct phx_test_entry {
    const char *suite;
    const char *name;
    void (*run)(void);
    struct phx_test_entry *next;
};
#ifdef __cplusplus
extern "C"
#endif
    void
    phx_test_register(struct phx_test_entry *entry);

#define PHX_TEST_STRING_(text) #text
#define PHX_TEST_STRING(text) PHX_TEST_STRING_(text)
#define TEST(test_name)                                                                            \
    static void phx_test_##test_name(void);                                                        \
    __attribute__((constructor)) static void phx_register_##test_name(void)                        \
    {                                                                                              \
        static struct phx_test_entry entry = {PHX_TEST_STRING(PHX_TEST_SUITE), #test_name,         \
                                              phx_test_##test_name, NULL};                         \
        phx_test_register(&entry);                                                                 \
    }                                                                                              \
    static void phx_test_##test_name(void)

#else

#include <criterion/criterion.h>

void phx_test_begin(void); // notes the stack that a failing check may unwind

#define PHX_TEST_IN(suite, test_name) Test(suite, test_name)
#define TEST(test_name)                                                                            \
    static void phx_test_##test_name(void);                                                        \
    PHX_TEST_IN(PHX_TEST_SUITE, test_name)                                                         \
    {                                                                                              \
        phx_test_begin();                                                                          \
        phx_test_##test_name();                                                                    \
    }                                                                                              \
    static void phx_test_##test_name(void)

#endif

#endif
