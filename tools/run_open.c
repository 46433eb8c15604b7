// tools/run_open.c: what each process of a run has of its own: the workload with its times
// multiplied, how many workers run it, the oracle's view of it, and what was found wrong.

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/run_internal.h"

// Beside what operations may take: for starting, and for a machine that has other things to do.
#define LIMIT_NS UINT64_C(20000000000)

// --- how it is run ------------------------------------------------------------------------------

static uint32_t ranks_of(const struct phx_workload *w)
{
    return w->cluster.nodes * w->cluster.ranks_per_node;
}

static uint32_t cores(void)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

uint32_t phx_live_workers(const struct phx_workload *w, const struct phx_live_options *o)
{
    uint32_t most = w->workers > 0 ? w->workers : PHX_WORKLOAD_WORKERS;
    uint32_t fit = cores() / ranks_of(w);
    if (o->workers != 0)
        return o->workers;
    if (o->is_cuda)
        return PHX_LIVE_WORKERS_GPU;
    return fit < 1 ? 1 : (fit < most ? fit : most);
}

static uint32_t slack_chosen(const struct phx_workload *w, const struct phx_live_options *o,
                             uint32_t workers)
{
    if (o->slack != 0)
        return o->slack;
    if (o->is_cuda)
        return o->ranks_per_gpu > 1 ? PHX_LIVE_SLACK_GPU_CROWDED : PHX_LIVE_SLACK_GPU;
    return (uint64_t)ranks_of(w) * workers <= cores() ? 1 : PHX_LIVE_SLACK_CROWDED;
}

int phx_live_check(const struct phx_workload *w, const struct phx_live_options *options,
                   struct phx_message *message)
{
    uint32_t slack = slack_chosen(w, options, phx_live_workers(w, options));
    if (ranks_of(w) > PHX_LIVE_RANKS_MAX)
        return phx_fail(message, PHX_ERR_INVALID,
                        "ranks is %u; over %s it may be 1 to %u (--ranks N makes them fewer)",
                        ranks_of(w), options->is_cuda ? "cuda" : "shm", PHX_LIVE_RANKS_MAX);
    if (options->workers > PHX_WORKERS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "workers is %u; it may be 1 to %u",
                        options->workers, PHX_WORKERS_MAX);
    if (slack > PHX_LIVE_SLACK_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "slack is %u; it may be 1 to %u", slack,
                        PHX_LIVE_SLACK_MAX);
    if (w->timeout_us > (UINT64_C(1) << 40) / slack)
        return phx_fail(message, PHX_ERR_INVALID,
                        "slack is %u; a deadline of %" PRIu64 " us times it is above 2^40 us",
                        slack, w->timeout_us);
    if (options->is_joined && options->is_cuda)
        return phx_fail(message, PHX_ERR_UNSUPPORTED,
                        "over cuda phx run starts the ranks itself (--alone)");
    return phx_live_faults_check(w, options, message);
}

int phx_live_gpus(const struct phx_workload *w, struct phx_live_options *options,
                  struct phx_message *message)
{
    struct phx_gpu_table table;
    uint32_t per_gpu = options->ranks_per_gpu > 0 ? options->ranks_per_gpu : 1;
    int rc = phx_cuda_probe(&table, message);
    if (rc == 0)
        rc = phx_gpus_choose(&table, ranks_of(w), per_gpu, options->devices, message);
    for (uint32_t r = 0; rc == 0 && r < ranks_of(w); r++)
        memcpy(options->uuids[r], table.gpus[options->devices[r]].uuid, sizeof options->uuids[r]);
    return rc;
}

static uint64_t scaled(uint64_t time, uint64_t slack)
{
    uint64_t product;
    if (time == PHX_EXPECT_NONE || __builtin_mul_overflow(time, slack, &product))
        return UINT64_MAX;
    return product;
}

static int workload_scale(struct phx_live *live, const struct phx_workload *w,
                          struct phx_message *message)
{
    uint64_t slack = live->options.slack;
    struct phx_fault *faults = malloc((w->fault_count + 1) * sizeof *faults);
    if (faults == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u faults", w->fault_count);
    for (uint32_t i = 0; i < w->fault_count; i++) {
        faults[i] = w->faults[i];
        faults[i].duration_ps = scaled(faults[i].duration_ps, slack);
        faults[i].when.at_ps = scaled(faults[i].when.at_ps, slack);
    }
    live->workload = *w;
    live->workload.faults = faults;
    live->workload.timeout_us = w->timeout_us * slack;
    live->workload.expect.survivors_finish_within_ps =
        scaled(w->expect.survivors_finish_within_ps, slack);
    return 0;
}

// --- what is wrong ------------------------------------------------------------------------------

static void violated(void *context, const struct phx_violation *violation)
{
    struct phx_live *live = context;
    struct phx_violation v = *violation;
    uint64_t zero_ns = live->zero_ns != 0 ? live->zero_ns : live->launch_ns;
    uint64_t now_ns = v.at_ns != 0 ? v.at_ns : phx_clock_ns();
    v.at_ns = now_ns > zero_ns ? now_ns - zero_ns : 0;
    if (live->violation_count < PHX_LIVE_VIOLATIONS_KEPT)
        live->violations[live->violation_count] = v;
    live->violation_count++;
    live->run.violation_count = live->violation_count;
}

// --- open and close -----------------------------------------------------------------------------

uint64_t phx_live_limit_ns(const struct phx_live *live)
{
    const struct phx_workload *w = &live->workload;
    uint64_t limit = live->run.operations * 4 * w->timeout_us * 1000 + LIMIT_NS;
    for (uint32_t i = 0; i < w->fault_count; i++)
        limit += w->faults[i].duration_ps / 1000 * 4 + w->faults[i].when.at_ps / 1000;
    return limit;
}

void phx_live_take_zero(struct phx_live *live)
{
    uint64_t last_ns = 0;
    for (uint32_t r = 0; live->zero_ns == 0 && r < live->run.ranks; r++) {
        uint64_t ns = __atomic_load_n(&phx_live_seat_of(live, r)->opened_ns, __ATOMIC_ACQUIRE);
        if (ns == 0)
            return;
        last_ns = ns > last_ns ? ns : last_ns;
    }
    if (live->zero_ns == 0)
        live->zero_ns = last_ns;
}

static int tables_make(struct phx_live *live, const struct phx_workload *w,
                       struct phx_message *message)
{
    live->results_at = calloc(w->load_count, sizeof *live->results_at);
    live->pair_bytes = calloc(w->load_count, sizeof *live->pair_bytes);
    live->dispatch_bytes = calloc(w->load_count, sizeof *live->dispatch_bytes);
    live->violations = calloc(PHX_LIVE_VIOLATIONS_KEPT, sizeof *live->violations);
    if (live->results_at == NULL || live->pair_bytes == NULL || live->dispatch_bytes == NULL ||
        live->violations == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the run");
    live->run.violations = live->violations;
    return 0;
}

int phx_live_open(const struct phx_workload *w, const struct phx_live_options *options,
                  struct phx_live **out, struct phx_message *message)
{
    int rc = phx_live_check(w, options, message);
    if (rc != 0)
        return rc;
    struct phx_live *live = calloc(1, sizeof *live);
    if (live == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the run");
    live->options = *options;
    live->run_options.seed = options->seed;
    live->run.workload = &live->workload;
    live->run.options = &live->run_options;
    live->run.workers = phx_live_workers(w, options);
    live->run.violate = violated;
    live->run.violate_context = live;
    live->options.slack = slack_chosen(w, options, live->run.workers);
    rc = tables_make(live, w, message);
    if (rc == 0)
        rc = workload_scale(live, w, message);
    if (rc == 0)
        rc = phx_run_open(&live->run, message);
    if (rc == 0)
        rc = phx_live_layout(live, message);
    if (rc != 0) {
        phx_live_close(live);
        return rc;
    }
    *out = live;
    return 0;
}

void phx_live_close(struct phx_live *live)
{
    if (live == NULL)
        return;
    phx_run_close(&live->run);
    free((void *)(uintptr_t)live->workload.faults);
    free(live->results_at);
    free(live->pair_bytes);
    free(live->dispatch_bytes);
    free(live->violations);
    free(live);
}
