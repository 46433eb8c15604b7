// sim/workload.c: makes the cluster, runs the ranks, and judges how it ended.

#include "sim/workload.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "sim/fabric.h"
#include "sim/trace.h"
#include "sim/workload_internal.h"
#include "sim/workload_judge.h"
#include "sim/world_internal.h"

// --- sizes --------------------------------------------------------------------------------------

static uint64_t add(uint64_t a, uint64_t b)
{
    uint64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}
static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint32_t rank_count(const struct phx_workload *w)
{
    return w->cluster.nodes * w->cluster.ranks_per_node;
}

int phx_workload_bytes(const struct phx_workload *w, uint64_t *bytes, struct phx_message *message)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < w->load_count; i++) {
        const struct phx_moe_load *moe = &w->loads[i];
        struct phx_group_options o;
        struct phx_size_hint hint;
        phx_group_options_init(&o);
        o.ranks = rank_count(w);
        o.experts = moe->experts;
        o.top_k = moe->top_k;
        o.tokens_max = moe->tokens > 0 ? moe->tokens : 1;
        o.hidden = moe->hidden;
        o.channels = w->is_full ? 0 : PHX_SCALE_GROUP;
        o.in_flight = moe->hooks ? 2 : 1;
        o.workers = w->workers > 0 ? w->workers : PHX_WORKLOAD_WORKERS;
        o.dtype = (enum phx_dtype)moe->dtype;
        o.scale_format = (enum phx_scale_format)moe->scales;
        o.rows = (enum phx_rows_form)moe->rows;
        o.layout = (enum phx_output_layout)moe->layout;
        o.check = w->row_check ? PHX_CHECK_ROWS : PHX_CHECK_ROUTES;
        o.division = w->is_by_token ? PHX_BY_TOKEN : PHX_BY_PEER;
        int rc = phx_size_hint(&o, &hint, message);
        if (rc != 0)
            return rc;
        uint64_t channels = w->is_full ? moe->hidden : PHX_SCALE_GROUP;
        uint64_t batch = add(add(hint.recv_x_bytes, hint.recv_scale_bytes),
                             multiply(hint.recv_rows_max, 4 + 2 * channels)); // src_info, y
        batch = add(batch, multiply(o.tokens_max, 4 * channels + 16 * (uint64_t)o.top_k));
        batch = add(batch, hint.handle_bytes);
        uint64_t rank = add(hint.group_bytes, multiply(batch, o.in_flight));
        rank = add(rank, multiply(o.tokens_max, 4 * channels * PHX_INPUTS_KEPT)); // the checker's
        total = add(total, multiply(rank, o.ranks));
    }
    *bytes = total;
    return 0;
}

// --- the run ------------------------------------------------------------------------------------

static int ranks_alloc(struct phx_run *run, struct phx_message *message)
{
    uint32_t loads = run->workload->load_count;
    uint32_t ranks = run->ranks;
    run->rank = calloc(ranks, sizeof *run->rank);
    run->last_end_ps = calloc(run->operations, sizeof *run->last_end_ps);
    run->strikes = calloc(run->workload->fault_count + 1, sizeof *run->strikes);
    bool is_ok = run->rank != NULL && run->last_end_ps != NULL && run->strikes != NULL;
    for (uint32_t r = 0; is_ok && r < ranks; r++) {
        struct phx_run_rank *rank = &run->rank[r];
        rank->active = malloc(ranks * sizeof *rank->active);
        rank->pairs_done = calloc(loads, sizeof *rank->pairs_done);
        bool is_named = false;
        phx_judge_names(run->workload, r, &is_named, &rank->is_struck);
        if (is_named)
            rank->ended_ps = calloc(run->operations, sizeof *rank->ended_ps);
        is_ok = rank->active != NULL && rank->pairs_done != NULL &&
                (rank->ended_ps != NULL || !is_named);
        for (uint32_t i = 0; is_ok && i < ranks; i++)
            rank->active[i] = 1;
    }
    return is_ok ? 0
                 : phx_fail(message, PHX_ERR_NO_MEMORY,
                            "no memory to follow %u ranks through "
                            "%" PRIu64 " operations",
                            ranks, run->operations);
}

int phx_run_open(struct phx_run *run, struct phx_message *message)
{
    const struct phx_workload *w = run->workload;
    run->ranks = rank_count(w);
    if (run->workers == 0)
        run->workers = w->workers > 0 ? w->workers : PHX_WORKLOAD_WORKERS;
    run->stages = calloc(w->load_count, sizeof *run->stages);
    if (run->stages == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %u loads", w->load_count);
    for (uint32_t i = 0; i < w->load_count; i++) {
        int rc = phx_stage_open(&run->stages[i], run, i, message);
        if (rc != 0)
            return rc;
        run->stages[i].first_operation = run->operations;
        run->operations += 2 * run->stages[i].pairs;
    }
    return ranks_alloc(run, message);
}

void phx_run_close(struct phx_run *run)
{
    for (uint32_t i = 0; run->stages != NULL && i < run->workload->load_count; i++)
        phx_stage_close(&run->stages[i]);
    for (uint32_t r = 0; run->rank != NULL && r < run->ranks; r++) {
        free(run->rank[r].active);
        free(run->rank[r].ended_ps);
        free(run->rank[r].pairs_done);
    }
    free(run->stages);
    free(run->rank);
    free(run->last_end_ps);
    free(run->strikes);
}

uint64_t phx_workload_progress_ps(const struct phx_workload *w)
{
    return add(multiply(w->timeout_us, 4 * UINT64_C(1000000)), UINT64_C(10000000000));
}

// Far above what any run needs, so that reaching it means that progress is lost: every operation
// may take two deadlines, a pause may hold everyone up, and a second is for everything else.
static uint64_t time_limit_ps(const struct phx_run *run)
{
    const struct phx_workload *w = run->workload;
    uint64_t limit = multiply(multiply(run->operations, 4 * w->timeout_us), 1000000);
    limit = add(limit, UINT64_C(1000000000000));
    for (uint32_t i = 0; i < w->fault_count; i++) {
        limit = add(limit, multiply(w->faults[i].duration_ps, 4));
        limit = add(limit, w->faults[i].when.at_ps);
    }
    return limit;
}

static int world_open(struct phx_run *run, struct phx_message *message)
{
    const struct phx_workload_options *o = run->options;
    struct phx_world_options options = {
        .seed = o->seed,
        .schedule = o->schedule,
        .fibers = o->fibers,
        .workers = run->workers,
        .cluster = run->workload->cluster,
        .time_limit_ps = time_limit_ps(run),
    };
    int rc = phx_world_create(&options, &run->world, message);
    if (rc == 0)
        rc = phx_fault_install(run->world, run->workload->faults, run->workload->fault_count,
                               message);
    if (rc == 0 && run->workload->freeze_ps != 0)
        phx_fault_freeze(run->world, run->workload->freeze_ps);
    return rc;
}

// Opening has no deadline: for a rank that stopped for good before its groups were open, the others
// wait in the bootstrap for ever.
static bool is_opening_held(const struct phx_run *run)
{
    bool is_held = false;
    for (uint32_t r = 0; r < run->ranks; r++) {
        if (run->rank[r].is_open)
            return false;
        is_held = is_held || phx_world_rank_paused(run->world, r);
    }
    return is_held;
}

static int run_world(struct phx_run *run, struct phx_message *message)
{
    struct phx_message ending = {""};
    int rc = phx_world_run(run->world, phx_run_rank_main, run, &ending);
    for (uint32_t i = 0; i < run->workload->fault_count; i++) {
        struct phx_run_strike *s = &run->strikes[i]; // later ones struck nobody
        s->at_ps = phx_fault_struck_ps(run->world, i);
        s->phase = phx_fault_struck_phase(run->world, i);
        phx_fault_struck_in(run->world, i, &s->kind, &s->number);
    }
    if (rc == PHX_ERR_TIMEOUT) {
        // The scenario's failure, not ours.
        bool is_held = is_opening_held(run);
        phx_run_violate(run, is_held ? "open-peer-stopped" : "progress", 0, 0, 0, "%s",
                        ending.text);
        for (uint32_t r = 0; is_held && r < run->ranks; r++)
            run->rank[r].failed = true; // which this violation explains
        return 0;
    }
    if (rc != 0)
        return phx_fail(message, rc, "%s", ending.text);
    if (!phx_world_drain(run->world))
        return phx_fail(message, PHX_ERR_NO_MEMORY, "the simulator stopped while it drained");
    phx_fabric_check_outcomes(phx_fabric_of(run->world));
    return 0;
}

static void fill_totals(struct phx_run *run)
{
    const struct phx_core *core = phx_world_core(run->world);
    struct phx_fabric *fabric = phx_fabric_of(run->world);
    const struct phx_memory *memory = phx_fabric_memory(fabric);
    struct phx_memory_figures figures = phx_memory_figures(memory);
    bool is_checked = phx_memory_checks(memory);
    run->totals = (struct phx_run_totals){
        .hash = phx_core_hash(core),
        .events = phx_core_events(core),
        .messages = phx_fabric_figures(fabric).messages,
        .reads_checked = is_checked ? figures.touches : 0,
        .writes_checked = is_checked ? figures.touches + figures.landed : 0,
        .slots_checked = is_checked ? figures.landed : 0,
    };
}

int phx_workload_run(const struct phx_workload *w, const struct phx_workload_options *options,
                     struct phx_summary *summary, struct phx_message *message)
{
    struct phx_run run = {.workload = w, .options = options};
    struct phx_trace *trace = NULL;
    memset(summary, 0, sizeof *summary);
    int rc = phx_run_open(&run, message);
    if (rc == 0)
        rc = world_open(&run, message);
    if (rc == 0 && (options->trace_path != NULL || options->sink != NULL))
        rc = phx_trace_open(run.world, options->trace_path, options->sink, &trace, message);
    for (uint32_t r = 0; trace != NULL && r < run.ranks; r++)
        phx_trace_watch(trace, r, run.rank[r].active);
    if (rc == 0)
        rc = run_world(&run, message);
    if (rc == 0) {
        fill_totals(&run);
        rc = phx_judge(&run, summary, message);
    }
    int closed = phx_trace_close(trace, rc == 0 ? message : NULL);
    phx_world_destroy(run.world);
    phx_run_close(&run);
    if (rc == 0)
        rc = closed;
    if (rc != 0)
        phx_summary_free(summary);
    return rc;
}
