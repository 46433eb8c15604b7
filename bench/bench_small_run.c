// bench/bench_small_run.c: what a small run takes: the whole phx process, and of a run the part
// that is events.
//
// The process is started anew for each sample, from fork() to its end. The split is taken in this
// process, one run after another: what the run spends on drawing inputs, on its stand-in for
// experts and on comparing results with the reference is measured and taken off. What is left is
// the core, the network, the checkers of memory and outcomes, the engine and the kernels, and
// making the cluster and taking it apart.

#define _GNU_SOURCE // wait4()

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim/workload.h"
#include "tools/scenario.h"

#define SAMPLES 21

struct split {
    double aside_ms;
    double began_ms;
};

static double now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "bench_small_run: %s\n", what);
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const char *what, double samples[SAMPLES])
{
    qsort(samples, SAMPLES, sizeof samples[0], compare);
    printf("%-44s %8.1f %8.1f %8.1f\n", what, samples[0], samples[SAMPLES / 2],
           samples[SAMPLES - 1]);
}

// --- the process ---------------------------------------------------------------------------------

static void process_run(const char *phx, const char *scenario, double *wall_ms, double *cpu_ms)
{
    (void)fflush(stdout); // or the child prints it again
    double began_ms = now_ms();
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stdout) != NULL)
            (void)execl(phx, phx, "sim", scenario, "--json", (char *)NULL);
        _exit(127);
    }
    int status;
    struct rusage usage;
    if (child < 0 || wait4(child, &status, 0, &usage) != child)
        die("no process could be started");
    *wall_ms = now_ms() - began_ms;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        die("phx did not pass; give its path as the second argument");
    *cpu_ms = 1e3 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
              1e-3 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void processes_measure(const char *phx, const char *scenario)
{
    double wall_ms[SAMPLES];
    double cpu_ms[SAMPLES];
    for (int i = -1; i < SAMPLES; i++) { // the first is to warm up
        int at = i < 0 ? 0 : i;
        process_run(phx, scenario, &wall_ms[at], &cpu_ms[at]);
    }
    print("process, wall", wall_ms);
    print("process, processor", cpu_ms);
}

// --- the split -----------------------------------------------------------------------------------

static void on_aside(void *context, bool begins)
{
    struct split *split = context;
    if (begins)
        split->began_ms = now_ms();
    else
        split->aside_ms += now_ms() - split->began_ms;
}

static void runs_measure(const struct phx_scenario *scenario)
{
    double events_ms[SAMPLES];
    double aside_ms[SAMPLES];
    uint64_t events = 0;
    for (int i = -1; i < SAMPLES; i++) {
        int at = i < 0 ? 0 : i;
        struct split split = {0.0, 0.0};
        const struct phx_workload_options options = {
            .seed = 1,
            .schedule.tie = PHX_TIE_FIFO,
            .fibers = PHX_FIBERS,
            .aside = on_aside,
            .aside_context = &split,
        };
        struct phx_summary summary;
        struct phx_message message;
        double began_ms = now_ms();
        if (phx_workload_run(&scenario->workload, &options, &summary, &message) != 0)
            die(message.text);
        events_ms[at] = now_ms() - began_ms - split.aside_ms;
        aside_ms[at] = split.aside_ms;
        events = summary.events;
        if (!summary.is_passed)
            die("the scenario failed");
        phx_summary_free(&summary);
    }
    print("run, events", events_ms);
    print("run, inputs, experts and reference", aside_ms);
    printf("%llu events, %.0f ns each\n", (unsigned long long)events,
           1e6 * events_ms[SAMPLES / 2] / (double)events);
}

// --- main ----------------------------------------------------------------------------------------

// phx beside this program.
static void phx_find(char *path, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", path, size - 1);
    path[length > 0 ? length : 0] = '\0';
    char *name = strrchr(path, '/');
    if (name == NULL || (size_t)(name + 1 - path) + sizeof "phx" > size)
        die("where is phx? Give its path as the second argument");
    memcpy(name + 1, "phx", sizeof "phx");
}

int main(int argc, char **argv)
{
    char beside[4096];
    const char *file = argc > 1 ? argv[1] : "bench/scenarios/small-death.yaml";
    const char *phx = argc > 2 ? argv[2] : beside;
    if (argc <= 2)
        phx_find(beside, sizeof beside);
    const struct phx_scenario_options options = {0};
    struct phx_scenario *scenario = NULL;
    struct phx_diagnosis diagnosis = {{0, 0}, {""}};
    if (phx_scenario_load(file, &options, &scenario, &diagnosis) != 0)
        die(diagnosis.message.text);
    printf("%s, %d samples\n%-44s %8s %8s %8s\n", file, SAMPLES, "ms", "least", "median", "most");
    processes_measure(phx, file);
    runs_measure(scenario);
    phx_scenario_free(scenario);
    return 0;
}
