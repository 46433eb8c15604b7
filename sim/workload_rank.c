// sim/workload_rank.c: the program of a rank on a simulated rank: virtual time, and the comparison
// with the oracle as it goes.

#include <stdarg.h>
#include <stdio.h>

#include "sim/history.h"
#include "sim/open.h"
#include "sim/workload_program.h"
#include "sim/world_internal.h"

#define ARRIVAL_POLL_NS 1000u

struct host { // the program's surroundings
    struct phx_run *run;
    struct phx_sim_rank *sim;
    uint32_t rank;
};

void phx_run_violate(struct phx_run *run, const char *rule, uint32_t rank, uint32_t kind,
                     uint64_t number, const char *format, ...)
{
    struct phx_violation v = {
        .rule = rule,
        .rank = rank,
        .kind = kind,
        .number = number,
        .at_ns = run->world != NULL ? phx_world_time_ps(run->world) / 1000 : 0,
    };
    va_list args;
    va_start(args, format);
    (void)vsnprintf(v.text, sizeof v.text, format, args);
    va_end(args);
    if (run->world != NULL)
        phx_world_violate(run->world, &v);
    else
        run->violate(run->violate_context, &v);
}

// --- what the program asks for -------------------------------------------------------------------

static void *host_alloc(void *context, uint64_t size_bytes)
{
    return phx_sim_alloc(((struct host *)context)->sim, size_bytes);
}

static int host_open(void *context, const struct phx_group_options *options,
                     struct phx_group **group, struct phx_message *message)
{
    return phx_sim_open(((struct host *)context)->sim, options, group, message);
}

static void host_opened(void *context)
{
    const struct host *h = context;
    uint64_t now_ps = phx_world_time_ps(h->run->world);
    h->run->rank[h->rank].is_open = true;
    if (now_ps > h->run->open_ps)
        h->run->open_ps = now_ps;
}

static const struct phx_oracle_source *host_inputs(void *context, struct phx_stage *stage,
                                                   uint64_t pair)
{
    const struct phx_inputs *in = phx_stage_inputs(stage, pair);
    return in != NULL ? &in->sources[((struct host *)context)->rank] : NULL;
}

static void host_compute(void *context, uint64_t for_ns)
{
    phx_sim_sleep_ns(((struct host *)context)->sim, for_ns);
}

static void host_aside(void *context, bool begins)
{
    const struct phx_workload_options *o = ((struct host *)context)->run->options;
    if (o->aside != NULL)
        o->aside(o->aside_context, begins);
}

static void host_call_begins(void *context, uint64_t operation, bool is_first)
{
    const struct host *h = context;
    phx_watch_begin(h->run, h->rank, operation, is_first);
}

static void host_call_ended(void *context, const struct phx_group *group, uint64_t operation,
                            uint32_t kind, uint64_t number)
{
    const struct host *h = context;
    phx_watch_end(h->run, h->rank, group, operation, kind, number);
}

static void host_violate(void *context, const char *rule, uint32_t kind, uint64_t number,
                         const char *text)
{
    const struct host *h = context;
    phx_run_violate(h->run, rule, h->rank, kind, number, "%s", text);
}

static void operation_ended(const struct host *h, uint64_t operation)
{
    struct phx_run *run = h->run;
    struct phx_run_rank *mine = &run->rank[h->rank];
    uint64_t now_ps = phx_world_time_ps(run->world);
    run->outcomes_checked++;
    mine->operations++;
    if (mine->ended_ps != NULL)
        mine->ended_ps[operation] = now_ps;
    if (!mine->is_struck && now_ps > run->last_end_ps[operation])
        run->last_end_ps[operation] = now_ps;
}

// --- a recorded run again ------------------------------------------------------------------------

static const uint8_t *host_replay(void *context, uint64_t operation)
{
    const struct host *h = context;
    const struct phx_history *history = h->run->options->history;
    return history != NULL ? phx_history_replay(history, h->rank, operation) : NULL;
}

static const uint8_t *host_replay_masked(void *context, uint64_t operation)
{
    const struct host *h = context;
    const struct phx_history *history = h->run->options->history;
    return history != NULL ? phx_history_masked(history, h->rank, operation) : NULL;
}

// Before it masked a rank for being late, a real rank waited for a deadline, and what it had sent
// there arrived. Here that takes no time, and what is still under way to a masked rank would be
// flushed, although it was received.
static void let_arrive(const struct host *h, const struct phx_rank_set *masked)
{
    const struct phx_transport *t = phx_sim_transport(h->sim);
    for (uint32_t r = 0; r < h->run->ranks; r++)
        while (phx_rank_set_has(masked, r) &&
               phx_pending(t, (struct phx_peer){.rank = (uint16_t)r}) > 0)
            phx_sim_sleep_ns(h->sim, ARRIVAL_POLL_NS);
}

// Outputs and masks must be the recorded ones.
static void history_check(const struct host *h, uint64_t operation, uint32_t kind, uint64_t pair,
                          const struct phx_outcome *outcome, uint64_t hash)
{
    const struct phx_history_operation *at =
        phx_history_at(h->run->options->history, h->rank, operation);
    if (at->hash == 0)
        return; // it was struck in it
    h->run->history_checked++;
    if (at->hash != hash)
        phx_run_violate(h->run, "replay-differs", h->rank, kind, pair + 1,
                        "its outputs hash to %016llx, and to %016llx in the recorded run",
                        (unsigned long long)hash, (unsigned long long)at->hash);
    for (uint32_t r = 0; r < h->run->ranks; r++)
        if (phx_rank_set_has(&at->masked, r) != phx_rank_set_has(&outcome->masked, r))
            phx_run_violate(h->run, "replay-differs", h->rank, kind, pair + 1,
                            "rank %u is %smasked after it, unlike in the recorded run", r,
                            phx_rank_set_has(&outcome->masked, r) ? "" : "not ");
    let_arrive(h, &at->masked);
}

// --- results ------------------------------------------------------------------------------------

static void host_dispatched(void *context, struct phx_stage *stage, uint64_t pair,
                            const struct phx_dispatch_result *result)
{
    const struct host *h = context;
    uint64_t operation = stage->first_operation + 2 * pair;
    operation_ended(h, operation);
    phx_check_dispatch(h->run, stage, h->rank, pair, result);
    if (h->run->options->history != NULL)
        history_check(h, operation, PHX_DISPATCH, pair, result->outcome,
                      phx_history_hash_dispatch(stage, result));
}

static void host_combined(void *context, struct phx_stage *stage, uint64_t pair,
                          const struct phx_combine_result *result)
{
    const struct host *h = context;
    uint64_t operation = stage->first_operation + 2 * pair + 1;
    operation_ended(h, operation);
    phx_check_combine(h->run, stage, h->rank, pair, result);
    if (h->run->options->history != NULL)
        history_check(h, operation, PHX_COMBINE, pair, result->outcome,
                      phx_history_hash_combine(stage, result));
    for (uint32_t t = 0; t < stage->moe->tokens; t++)
        h->run->rank[h->rank].lost_tokens += result->token_loss[t] > 0.0f;
    phx_check_done(h->run, stage, h->rank, pair);
}

// In a replay nobody has a deadline, and a rank that stops early must not take away what the others
// still wait for.
static void leave_together(const struct host *h)
{
    struct phx_run *run = h->run;
    run->rank[h->rank].has_left = true;
    for (uint32_t r = 0; r < run->ranks; r++)
        while (!run->rank[r].has_left && !run->rank[r].failed)
            phx_sim_sleep_ns(h->sim, run->workload->timeout_us * 1000 + ARRIVAL_POLL_NS);
}

static void host_leave(void *context, uint32_t end)
{
    const struct host *h = context;
    struct phx_run_rank *mine = &h->run->rank[h->rank];
    mine->finished = end == PHX_PROGRAM_DONE;
    mine->failed = end == PHX_PROGRAM_FAILED;
    mine->finished_ps = phx_world_time_ps(h->run->world);
    if (h->run->options->history != NULL)
        leave_together(h);
    // Closing waits for nothing, and takes back the memory from which the last rows may still be on
    // their way. Whoever waits for them gives up after two deadlines at most.
    phx_sim_sleep_ns(h->sim, 2 * h->run->workload->timeout_us * 1000);
}

static const struct phx_program_ops HOST = {
    .alloc = host_alloc,
    .open = host_open,
    .opened = host_opened,
    .inputs = host_inputs,
    .replay = host_replay,
    .replay_masked = host_replay_masked,
    .compute = host_compute,
    .aside = host_aside,
    .call_begins = host_call_begins,
    .call_ended = host_call_ended,
    .dispatched = host_dispatched,
    .combined = host_combined,
    .violate = host_violate,
    .leave = host_leave,
};

void phx_run_rank_main(struct phx_sim_rank *sim_rank, void *argument)
{
    struct phx_run *run = argument;
    const struct phx_history *history = run->options->history;
    struct host host = {run, sim_rank, phx_sim_rank_number(sim_rank)};
    struct phx_program program = {
        .ops = &HOST,
        .context = &host,
        .run = run,
        .rank = host.rank,
        .active = run->rank[host.rank].active,
        .begins_max = history != NULL ? history->begun[host.rank] : UINT64_MAX,
    };
    if (phx_program_run(&program) == PHX_PROGRAM_FAILED)
        run->rank[host.rank].failed = true;
}
