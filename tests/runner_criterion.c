// tests/runner_criterion.c: the same command line, repeat line and exit codes as runner_mini.c,
// with each test in a process of its own.

#define _POSIX_C_SOURCE 200809L

#include "tests/test.h"

#include <criterion/criterion.h>
#include <criterion/event.h>
#include <criterion/hooks.h>
#include <criterion/options.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, STACK_SPAN_MAX = 4 << 20, TEXT_SIZE = 1024 };

static const char *program = "";
static unsigned tests_passed;
static unsigned tests_failed;
static unsigned tests_skipped;
static uintptr_t test_stack; // in the test's process

void phx_test_begin(void)
{
    test_stack = (uintptr_t)__builtin_frame_address(0);
}

// Whether the caller runs on the stack that Criterion can unwind: the test's own.
static int on_test_stack(void)
{
    uintptr_t address = (uintptr_t)__builtin_frame_address(0);
    return address <= test_stack && test_stack - address < STACK_SPAN_MAX;
}

void phx_test_fail(struct phx_test_place place, const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (on_test_stack()) {
        struct criterion_assert_stats failed = {
            .message = text, .passed = false, .line = (unsigned)place.line, .file = place.file};
        criterion_send_assert(&failed);
        criterion_abort_test();
    }
    fprintf(stderr, "%s:%d: %s\nended on another stack than the test's\n", place.file, place.line,
            text);
    _exit(1);
}

void phx_test_skip(struct phx_test_place place, const char *reason)
{
    fprintf(stderr, "%s:%d: SKIP: %s\n", place.file, place.line, reason);
    if (on_test_stack())
        criterion_skip_test("%s", reason);
    fprintf(stderr, "skipped on another stack than the test's\n");
    _exit(1);
}

// A crashed test gets this report instead of POST_TEST.
ReportHook(TEST_CRASH)(struct criterion_test_stats *stats)
{
    tests_failed++;
    fprintf(stderr, "repeat: %s %s\n", program, stats->test->name);
}

ReportHook(POST_TEST)(struct criterion_test_stats *stats)
{
    if (stats->test_status == CR_STATUS_SKIPPED) {
        tests_skipped++;
        return;
    }
    if (stats->test_status == CR_STATUS_PASSED && !stats->timed_out) {
        tests_passed++;
        return;
    }
    tests_failed++;
    fprintf(stderr, "repeat: %s %s\n", program, stats->test->name);
}

int main(int argc, char **argv)
{
    char filter[TEXT_SIZE];
    program = argv[0];
    struct criterion_test_set *tests = criterion_initialize();
    criterion_options.jobs = 1; // ctest runs programs in parallel
    if (argc == 2 && argv[1][0] != '-') {
        (void)snprintf(filter, sizeof filter, "*/%s", argv[1]);
        criterion_options.pattern = filter;
    } else if (!criterion_handle_args(argc, argv, true)) {
        criterion_finalize(tests);
        return 0;
    }
    int passed = criterion_run_all_tests(tests);
    criterion_finalize(tests);
    if (tests_passed + tests_failed + tests_skipped == 0) {
        fprintf(stderr, "%s: no test is called %s\n", program, argc > 1 ? argv[1] : "");
        return 2;
    }
    if (!passed || tests_failed > 0)
        return 1;
    return tests_passed == 0 ? EXIT_SKIPPED : 0;
}
