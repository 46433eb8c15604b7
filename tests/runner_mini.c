// tests/runner_mini.c: runs the tests of one program, in order, in its own process.
//
// For ThreadSanitizer, valgrind and machines without Criterion. A failing check unwinds to the
// runner by longjmp, which is only sound on the stack that called setjmp; on any other stack the
// program ends there, and says that the remaining tests did not run.

#define _POSIX_C_SOURCE 200809L

#include "tests/test.h"

#include <fnmatch.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_SKIPPED = 77, STACK_SPAN_MAX = 4 << 20 };

static struct phx_test_entry *first_test;
static struct phx_test_entry **last_link = &first_test;
static const struct phx_test_entry *running;
static const char *program;
static pthread_t runner_thread;
static uintptr_t runner_stack;
static jmp_buf end_of_test;
static char crash_line[1024];

enum outcome { PASSED = 1, FAILED, SKIPPED };

void phx_test_register(struct phx_test_entry *entry)
{
    *last_link = entry;
    last_link = &entry->next;
}

// Whether the caller runs on the stack, and so in the thread, that test_run() called setjmp on.
static int on_runner_stack(void)
{
    uintptr_t address = (uintptr_t)__builtin_frame_address(0);
    return pthread_equal(pthread_self(), runner_thread) && address <= runner_stack &&
           runner_stack - address < STACK_SPAN_MAX;
}

static void repeat_print(void)
{
    printf("repeat: %s %s\n", program, running != NULL ? running->name : "");
}

// A crash takes the program with it; only write() is safe here.
static void crash_report(int signal_number)
{
    (void)!write(STDOUT_FILENO, crash_line, strlen(crash_line));
    (void)raise(signal_number); // SA_RESETHAND restored the default: this ends the program
}

static void crash_handlers_install(void)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = crash_report;
    action.sa_flags = (int)(SA_RESETHAND | SA_NODEFER);
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGABRT, &action, NULL); // a failed assert
#if !defined(PHX_ASAN) && !defined(PHX_TSAN) // they report these signals themselves
    (void)sigaction(SIGSEGV, &action, NULL);
    (void)sigaction(SIGBUS, &action, NULL);
    (void)sigaction(SIGILL, &action, NULL);
    (void)sigaction(SIGFPE, &action, NULL);
#endif
}

PHX_TEST_NORETURN
static void test_end(enum outcome outcome)
{
    (void)fflush(stdout);
    if (on_runner_stack())
        longjmp(end_of_test, (int)outcome);
    if (outcome == FAILED)
        repeat_print();
    printf("ended on another stack than the test's: the remaining tests did not run\n");
    (void)fflush(stdout);
    _exit(1);
}

void phx_test_fail(struct phx_test_place place, const char *format, ...)
{
    va_list args;
    printf("%s:%d: ", place.file, place.line);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    printf("\n");
    test_end(FAILED);
}

void phx_test_skip(struct phx_test_place place, const char *reason)
{
    (void)place;
    printf("SKIP %s: %s\n", running != NULL ? running->name : "", reason);
    test_end(SKIPPED);
}

static enum outcome test_run(const struct phx_test_entry *test)
{
    runner_stack = (uintptr_t)__builtin_frame_address(0);
    running = test;
    (void)snprintf(crash_line, sizeof crash_line, "CRASH %s/%s\nrepeat: %s %s\n", test->suite,
                   test->name, program, test->name);
    (void)fflush(stdout);
    int ended = setjmp(end_of_test);
    if (ended == 0) {
        test->run();
        return PASSED;
    }
    return (enum outcome)ended;
}

static double seconds_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int usage(void)
{
    fprintf(stderr,
            "usage: %s [-l] [NAME]\n"
            "  NAME  a test, or a pattern with * and ?; all of them without it\n"
            "  -l    list the tests\n",
            program);
    return 2;
}

int main(int argc, char **argv)
{
    static const char *const words[] = {"", "ok  ", "FAIL", "skip"};
    const char *pattern = "*";
    unsigned counts[4] = {0};
    int list = 0;

    program = argv[0];
    runner_thread = pthread_self();
    crash_handlers_install();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-l") == 0)
            list = 1;
        else if (argv[i][0] == '-')
            return usage();
        else
            pattern = argv[i];
    }
    for (const struct phx_test_entry *test = first_test; test != NULL; test = test->next) {
        if (fnmatch(pattern, test->name, 0) != 0)
            continue;
        if (list) {
            printf("%s\n", test->name);
            continue;
        }
        double began = seconds_now();
        enum outcome outcome = test_run(test);
        counts[outcome]++;
        printf("%s %s/%s (%.3f s)\n", words[outcome], test->suite, test->name,
               seconds_now() - began);
        if (outcome == FAILED)
            repeat_print();
        (void)fflush(stdout);
    }
    if (list)
        return 0;
    printf("%u passed, %u failed, %u skipped\n", counts[PASSED], counts[FAILED], counts[SKIPPED]);
    if (counts[PASSED] + counts[FAILED] + counts[SKIPPED] == 0) {
        fprintf(stderr, "%s: no test is called %s\n", program, pattern);
        return 2;
    }
    if (counts[FAILED] > 0)
        return 1;
    return counts[PASSED] == 0 ? EXIT_SKIPPED : 0;
}
