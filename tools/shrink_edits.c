// tools/shrink_edits.c: what can be less, one edit each, in the order of their worth.
//
// An edit offers candidates that are less than its scenario, the least first. Offering what is not
// less would never end.

#include <string.h>

#include "tools/shrink.h"

#define US UINT64_C(1000000) // in ps

static uint32_t ranks_of(const struct phx_scenario *s)
{
    return s->workload.cluster.nodes * s->workload.cluster.ranks_per_node;
}

// The step-th of `tried` that is below *value, in their order.
static bool set_less(uint32_t *value, const uint32_t *tried, uint32_t count, uint32_t step)
{
    for (uint32_t i = 0; i < count; i++) {
        if (tried[i] >= *value || step-- > 0)
            continue;
        *value = tried[i];
        return true;
    }
    return false;
}

static const uint32_t SMALL[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 64, 256, 1024};
#define SMALL_COUNT ((uint32_t)(sizeof SMALL / sizeof SMALL[0]))

static bool less_from(uint32_t *value, uint32_t least, uint32_t step)
{
    uint32_t skipped = 0;
    while (SMALL[skipped] < least)
        skipped++;
    return set_less(value, SMALL + skipped, SMALL_COUNT - skipped, step);
}

// --- ranks ---------------------------------------------------------------------------------------

static void mark_named(const struct phx_scenario *s, uint8_t *named)
{
    for (uint32_t i = 0; i < s->workload.fault_count; i++) {
        const struct phx_fault *f = &s->faults[i];
        named[f->rank] = 1;
        if (f->peer != PHX_FAULT_ANY)
            named[f->peer] = 1;
        if (f->when.rank != PHX_FAULT_ANY)
            named[f->when.rank] = 1;
    }
}

// Where each rank goes: those that faults name move together at the start, the others are left
// out; or nobody moves. What lies beyond the cluster then is put on its last rank.
static void map_ranks(const struct phx_scenario *s, bool moves, uint32_t ranks, uint32_t *map)
{
    uint8_t named[PHX_RANKS_MAX] = {0};
    mark_named(s, named);
    uint32_t next = 0;
    for (uint32_t r = 0; r < PHX_RANKS_MAX; r++) {
        uint32_t place = r;
        if (moves)
            place = named[r] != 0 ? next++ : next;
        map[r] = place < ranks ? place : ranks - 1;
    }
}

static void map_members(struct phx_scenario *s, struct phx_fault *f, const uint32_t *map,
                        uint32_t ranks)
{
    uint32_t *members = s->members + (f->members - s->members);
    uint8_t seen[PHX_RANKS_MAX] = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; i < f->member_count; i++) {
        uint32_t rank = map[members[i]];
        if (seen[rank] == 0 && count + 1 < ranks)
            members[count++] = rank;
        seen[rank] = 1;
    }
    f->member_count = count;
    f->rank = count > 0 ? members[0] : f->rank;
}

static void scale(struct phx_scenario *s, uint32_t nodes, uint32_t per_node, bool moves)
{
    uint32_t map[PHX_RANKS_MAX];
    uint32_t ranks = nodes * per_node;
    map_ranks(s, moves, ranks, map);
    s->workload.cluster.nodes = nodes;
    s->workload.cluster.ranks_per_node = per_node;
    for (uint32_t i = 0; i < s->workload.fault_count; i++) {
        struct phx_fault *f = &s->faults[i];
        f->rank = map[f->rank];
        if (f->peer != PHX_FAULT_ANY)
            f->peer = map[f->peer];
        if (f->when.rank != PHX_FAULT_ANY)
            f->when.rank = map[f->when.rank];
        if (f->kind == PHX_FAULT_PARTITION)
            map_members(s, f, map, ranks);
    }
    struct phx_rank_set *alive = &s->workload.expect.alive_list;
    for (uint32_t r = ranks; r < PHX_RANKS_MAX; r++)
        alive->words[r / 64] &= ~(UINT64_C(1) << (r % 64));
}

// Every shape with fewer ranks, the smallest first, each with its ranks moved together and not.
static bool edit_ranks(struct phx_scenario *s, uint32_t step)
{
    const struct phx_cluster *c = &s->workload.cluster;
    for (uint32_t ranks = 1; ranks < ranks_of(s) && ranks <= 32; ranks++)
        for (uint32_t nodes = 1; nodes <= ranks && nodes <= c->nodes; nodes++) {
            if (ranks % nodes != 0 || ranks / nodes > c->ranks_per_node)
                continue;
            if (step < 2) {
                scale(s, nodes, ranks / nodes, step == 0);
                return true;
            }
            step -= 2;
        }
    return false;
}

// --- loads ---------------------------------------------------------------------------------------

static bool edit_loads(struct phx_scenario *s, uint32_t step)
{
    if (s->workload.load_count < 2 || step >= s->workload.load_count)
        return false;
    for (uint32_t i = step; i + 1 < s->workload.load_count; i++) {
        s->loads[i] = s->loads[i + 1];
        memcpy(s->trace_paths[i], s->trace_paths[i + 1], sizeof s->trace_paths[i]);
        s->traces[i] = s->traces[i + 1];
    }
    s->workload.load_count--;
    return true;
}

static uint64_t pairs_of(const struct phx_scenario *s)
{
    uint64_t most = 1;
    for (uint32_t i = 0; i < s->workload.load_count; i++) {
        uint64_t pairs = (uint64_t)s->loads[i].steps * s->loads[i].layers;
        most = pairs > most ? pairs : most;
    }
    return most;
}

// Faults on operations that are not there any more strike as many earlier as there are fewer, or
// the last one.
static void pull_numbers(struct phx_scenario *s, uint64_t pairs_before, bool is_shifted)
{
    uint64_t pairs = pairs_of(s);
    uint64_t fewer = pairs_before > pairs ? pairs_before - pairs : 0;
    for (uint32_t i = 0; i < s->workload.fault_count; i++) {
        uint64_t *number = &s->faults[i].when.number;
        if (*number > fewer && is_shifted)
            *number -= fewer;
        if (*number > pairs)
            *number = pairs;
    }
}

static bool edit_steps(struct phx_scenario *s, uint32_t step)
{
    uint64_t before = pairs_of(s);
    uint32_t most = 0;
    for (uint32_t i = 0; i < s->workload.load_count; i++)
        most = s->loads[i].steps > most ? s->loads[i].steps : most;
    if (!less_from(&most, 1, step / 2))
        return false;
    for (uint32_t i = 0; i < s->workload.load_count; i++)
        s->loads[i].steps = s->loads[i].steps < most ? s->loads[i].steps : most;
    pull_numbers(s, before, step % 2 == 0);
    return true;
}

// An edit of one number of each load at once: the largest is what becomes less.
#define EDIT_OF_LOADS(name, member, least)                                                         \
    static bool name(struct phx_scenario *s, uint32_t step)                                        \
    {                                                                                              \
        uint64_t before = pairs_of(s);                                                             \
        uint32_t most = 0;                                                                         \
        for (uint32_t i = 0; i < s->workload.load_count; i++)                                      \
            most = s->loads[i].member > most ? s->loads[i].member : most;                          \
        if (!less_from(&most, (least), step))                                                      \
            return false;                                                                          \
        for (uint32_t i = 0; i < s->workload.load_count; i++)                                      \
            s->loads[i].member = s->loads[i].member < most ? s->loads[i].member : most;            \
        pull_numbers(s, before, true);                                                             \
        return true;                                                                               \
    }
EDIT_OF_LOADS(edit_layers, layers, 1)
EDIT_OF_LOADS(edit_tokens, tokens, 0)
EDIT_OF_LOADS(edit_top_k, top_k, 1)
EDIT_OF_LOADS(edit_experts, experts, 1)

static bool edit_hidden(struct phx_scenario *s, uint32_t step)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < s->workload.load_count; i++)
        most = s->loads[i].hidden / 128 > most ? s->loads[i].hidden / 128 : most;
    if (!less_from(&most, 1, step))
        return false;
    for (uint32_t i = 0; i < s->workload.load_count; i++)
        s->loads[i].hidden = s->loads[i].hidden < 128 * most ? s->loads[i].hidden : 128 * most;
    return true;
}

static bool edit_workers(struct phx_scenario *s, uint32_t step)
{
    if (s->workload.workers == 0)
        s->workload.workers = PHX_WORKLOAD_WORKERS;
    return less_from(&s->workload.workers, 1, step);
}

// --- switches, back to what they are when nobody says
// ---------------------------------------------

#define SWITCHES 7u

static bool load_switch(struct phx_moe_load *load, uint32_t which)
{
    static const struct phx_moe_load usual = {
        .dtype = PHX_FP8_E4M3,
        .scales = PHX_SCALE_F32,
        .rows = PHX_ROWS_ONCE,
        .layout = PHX_LAYOUT_SLOTS,
        .routing = PHX_ROUTING_UNIFORM,
    };
    const struct phx_moe_load before = *load;
    switch (which) {
    case 0:
        load->hooks = false;
        return before.hooks;
    case 1:
        load->renormalise = false;
        return before.renormalise;
    case 2:
        load->rows = usual.rows;
        return before.rows != usual.rows;
    case 3:
        load->layout = usual.layout;
        return before.layout != usual.layout;
    case 4:
        load->scales = usual.scales;
        return before.scales != usual.scales;
    case 5:
        load->dtype = usual.dtype;
        return before.dtype != usual.dtype;
    default:
        load->routing = usual.routing;
        load->zipf_millionths = 0;
        load->trace = NULL;
        load->trace_rows = 0;
        return before.routing != usual.routing;
    }
}

static bool edit_switches(struct phx_scenario *s, uint32_t step)
{
    for (uint32_t load = 0; load < s->workload.load_count; load++)
        for (uint32_t which = 0; which < SWITCHES; which++) {
            struct phx_moe_load changed = s->loads[load];
            if (!load_switch(&changed, which) || step-- > 0)
                continue;
            s->loads[load] = changed;
            return true;
        }
    return false;
}

// --- the run and what it expects -----------------------------------------------------------------

static bool run_switch(struct phx_scenario *s, uint32_t which)
{
    struct phx_workload *w = &s->workload;
    struct phx_schedule *schedule = &s->run.schedule;
    const struct phx_workload before = *w;
    const struct phx_schedule schedule_before = *schedule;
    switch (which) {
    case 0:
        *schedule = (struct phx_schedule){.tie = PHX_TIE_FIFO};
        return (schedule_before.tie != PHX_TIE_FIFO && schedule_before.tie != 0) ||
               schedule_before.quantum_ps != 0;
    case 1:
        schedule->quantum_ps = 0;
        return schedule_before.quantum_ps != 0;
    case 2:
        schedule->pct_depth = 2;
        return schedule_before.tie == PHX_TIE_PCT && schedule_before.pct_depth > 2;
    case 3:
        w->is_full = false;
        return before.is_full;
    case 4:
        w->row_check = false;
        return before.row_check;
    case 5:
        w->freeze_ps = 0;
        w->expect.progress_within_ps = 0;
        return before.freeze_ps != 0;
    case 6:
        w->expect.is_healthy_stay = false;
        return before.expect.is_healthy_stay;
    case 7:
        w->expect.alive = PHX_ALIVE_UNCHECKED;
        memset(&w->expect.alive_list, 0, sizeof w->expect.alive_list);
        return before.expect.alive != PHX_ALIVE_UNCHECKED;
    case 8:
        w->expect.lost_tokens_max = PHX_EXPECT_NONE;
        return before.expect.lost_tokens_max != PHX_EXPECT_NONE;
    case 9:
        w->expect.survivors_finish_within_ps = PHX_EXPECT_NONE;
        return before.expect.survivors_finish_within_ps != PHX_EXPECT_NONE;
    case 10:
        w->cluster.inter_node = "roce_400g";
        return strcmp(before.cluster.inter_node, "roce_400g") != 0;
    case 11:
        w->timeout_us = 1000;
        return before.timeout_us != 1000 && before.timeout_us != 0;
    case 12:
        w->is_by_token = false;
        return before.is_by_token;
    default:
        return false;
    }
}

#define RUN_SWITCHES 13u

static bool edit_run(struct phx_scenario *s, uint32_t step)
{
    static struct phx_scenario changed; // large
    for (uint32_t which = 0; which < RUN_SWITCHES; which++) {
        phx_scenario_copy(&changed, s);
        if (!run_switch(&changed, which) || step-- > 0)
            continue;
        phx_scenario_copy(s, &changed);
        return true;
    }
    return false;
}

// --- what a fault says ---------------------------------------------------------------------------

#define FAULT_SWITCHES 9u

static bool fault_switch(struct phx_fault *f, uint32_t which, uint64_t timeout_ps)
{
    const struct phx_fault before = *f;
    switch (which) {
    case 0:
        f->when.chance_ppm = 0;
        f->when.number = before.when.number != 0 ? before.when.number : 1;
        return before.when.chance_ppm != 0;
    case 1:
        f->when.rank = PHX_FAULT_ANY;
        return before.when.rank != PHX_FAULT_ANY;
    case 2:
        f->when.after_puts = 0;
        return before.when.after_puts != 0;
    case 3:
        f->when.after_puts /= 2;
        return before.when.after_puts > 1;
    case 4:
        f->when.number = before.when.number > 1 ? before.when.number - 1 : before.when.number;
        return before.when.number > 1;
    case 5:
        f->count = 1;
        return before.count > 1;
    case 6:
        f->unit = PHX_UNIT_PROCESS;
        return before.kind <= PHX_FAULT_PAUSE && before.unit != PHX_UNIT_PROCESS;
    case 7: // a round duration reads better
        f->duration_ps = before.duration_ps / timeout_ps * timeout_ps;
        return before.duration_ps % timeout_ps != 0 && f->duration_ps > 0;
    default:
        f->when.at_ps = before.when.at_ps / US * US;
        return before.when.at_ps % US != 0;
    }
}

static bool edit_faults(struct phx_scenario *s, uint32_t step)
{
    uint64_t timeout_ps = s->workload.timeout_us * US;
    for (uint32_t i = 0; i < s->workload.fault_count; i++)
        for (uint32_t which = 0; which < FAULT_SWITCHES; which++) {
            struct phx_fault changed = s->faults[i];
            if (!fault_switch(&changed, which, timeout_ps) || step-- > 0)
                continue;
            s->faults[i] = changed;
            return true;
        }
    return false;
}

phx_shrink_edit *const PHX_SHRINK_EDITS[] = {
    edit_ranks,   edit_loads,  edit_steps, edit_tokens,   edit_workers, edit_layers, edit_top_k,
    edit_experts, edit_hidden, edit_run,   edit_switches, edit_faults,  NULL,
};
