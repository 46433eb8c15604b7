// tools/bench_report.c: what phx bench ep found, as a table and as JSON.

#include "tools/bench_report.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/bench_stats.h"
#include "tools/command.h"

struct row {
    const char *name;
    enum phx_bench_span span;
    uint64_t bytes;
};

// The rows of the table. Returns how many.
static uint32_t rows_of(const struct phx_bench_ep *b, const struct phx_bench_result *r,
                        struct row rows[PHX_BENCH_SPANS])
{
    bool is_on = b->fault_tolerance == PHX_FAULT_TOLERANCE_ON;
    uint64_t both = r->bytes.dispatch + r->bytes.combine;
    rows[0] = (struct row){"floor", PHX_BENCH_FLOOR, both};
    rows[1] = (struct row){"dispatch", PHX_BENCH_DISPATCH, r->bytes.dispatch};
    rows[2] = (struct row){"combine", PHX_BENCH_COMBINE, r->bytes.combine};
    rows[3] = (struct row){"pair", PHX_BENCH_PAIR, both};
    rows[4] = (struct row){is_on ? "pair, ft off" : "pair, ft on", PHX_BENCH_OTHER, both};
    return b->is_compared ? 5 : 4;
}

// Microseconds.
static struct phx_stats span_stats(const struct phx_bench_ep *b, const struct phx_bench_result *r,
                                   enum phx_bench_span span)
{
    double *values = calloc(b->samples, sizeof *values);
    struct phx_stats s = {0};
    if (values == NULL)
        return s;
    for (uint32_t i = 0; i < b->samples; i++)
        values[i] = (double)r->samples[i].ns[span] / 1e3;
    s = phx_stats_make(values, b->samples);
    free(values);
    return s;
}

// Of the ratios of single samples.
static struct phx_stats ratio_stats(const struct phx_bench_ep *b, const struct phx_bench_result *r,
                                    enum phx_bench_span over, enum phx_bench_span under)
{
    double *values = calloc(b->samples, sizeof *values);
    struct phx_stats s = {0};
    if (values == NULL)
        return s;
    for (uint32_t i = 0; i < b->samples; i++)
        values[i] = r->samples[i].ns[under] == 0
                        ? 0
                        : (double)r->samples[i].ns[over] / (double)r->samples[i].ns[under];
    s = phx_stats_make(values, b->samples);
    free(values);
    return s;
}

// Fault tolerance on over off, whichever was the group's own: of each sample, two pairs of either.
static struct phx_stats compared(const struct phx_bench_ep *b, const struct phx_bench_result *r)
{
    double *values = calloc(b->samples, sizeof *values);
    struct phx_stats s = {0};
    if (values == NULL)
        return s;
    for (uint32_t i = 0; i < b->samples; i++) {
        const uint64_t *ns = r->samples[i].ns;
        double own = (double)(ns[PHX_BENCH_PAIR] + ns[PHX_BENCH_PAIR_AGAIN]);
        double other = (double)(ns[PHX_BENCH_OTHER] + ns[PHX_BENCH_OTHER_AGAIN]);
        values[i] = b->fault_tolerance == PHX_FAULT_TOLERANCE_ON ? own / other : other / own;
    }
    s = phx_stats_make(values, b->samples);
    free(values);
    return s;
}

static const char *transport_name(const struct phx_bench_ep *b)
{
    return b->transport == PHX_BENCH_SIM ? "sim" : "shm";
}

static void print_head(const struct phx_bench_ep *e)
{
    printf("dispatch and combine over %s: %u ranks of %u worker%s; %u tokens a rank, hidden %u,\n"
           "%u experts, top-%u, %s dispatch, rows %s, %s layout, fault tolerance %s; %u samples\n",
           transport_name(e), e->ranks, e->workers, e->workers == 1 ? "" : "s", e->tokens,
           e->hidden, e->experts, e->top_k, e->dtype == PHX_BF16 ? "bf16" : "fp8",
           e->rows == PHX_ROWS_ONCE ? "once" : "per expert",
           e->layout == PHX_LAYOUT_SLOTS ? "slots" : "compact",
           e->fault_tolerance == PHX_FAULT_TOLERANCE_ON ? "on" : "off", e->samples);
    if (e->transport == PHX_BENCH_SIM)
        printf("%u node%s of %u, %s in a node, %s between; virtual time; a sample is a seed, from "
               "%llu\n",
               e->cluster.nodes, e->cluster.nodes == 1 ? "" : "s", e->cluster.ranks_per_node,
               e->cluster.intra_node, e->cluster.inter_node, (unsigned long long)e->seed);
    printf("\n");
}

static void print_bound(double low, int digits)
{
    if (isnan(low))
        printf("too few samples for a bound\n");
    else
        printf("95 %% sure to be at least %.*f\n", digits, low);
}

void phx_bench_print_table(const struct phx_bench_ep *b, const struct phx_bench_result *r)
{
    struct row rows[PHX_BENCH_SPANS];
    uint32_t count = rows_of(b, r, rows);
    print_head(b);
    printf("%-12s %10s %10s %10s %10s %10s\n", "", "MB/rank", "min us", "median us", "p99 us",
           "GB/s");
    for (uint32_t i = 0; i < count; i++) {
        struct phx_stats s = span_stats(b, r, rows[i].span);
        printf("%-12s %10.3f %10.1f %10.1f %10.1f %10.2f\n", rows[i].name,
               (double)rows[i].bytes / 1e6, s.min, s.median, s.p99,
               s.median > 0 ? (double)rows[i].bytes / s.median / 1e3 : 0.0);
    }
    struct phx_stats ratio = ratio_stats(b, r, PHX_BENCH_PAIR, PHX_BENCH_FLOOR);
    printf("\npair / floor: median %.2f, ", ratio.median);
    print_bound(ratio.median_low, 2);
    if (b->is_compared) {
        struct phx_stats c = compared(b, r);
        printf("fault tolerance on / off: median %.4f, ", c.median);
        print_bound(c.median_low, 4);
    }
    if (b->transport == PHX_BENCH_SHM)
        printf("regions: %.1f MB, of them in reserved huge pages %.1f; under transparent ones, "
               "mapped by any rank, %.1f\n",
               (double)r->pages.region_bytes / 1e6, (double)r->pages.reserved_bytes / 1e6,
               (double)r->pages.transparent_bytes / 1e6);
    printf("checked first: every row of dispatch bit for bit; combine within %.2g of f64 sums\n",
           r->sum_error);
}

static void add_setup(cJSON *root, const struct phx_bench_ep *e)
{
    cJSON_AddStringToObject(root, "transport", transport_name(e));
    cJSON_AddBoolToObject(root, "virtual_time", e->transport == PHX_BENCH_SIM);
    cJSON_AddStringToObject(root, "floor", e->transport == PHX_BENCH_SIM ? "links" : "memcpy");
    if (e->transport == PHX_BENCH_SIM) {
        cJSON_AddNumberToObject(root, "nodes", e->cluster.nodes);
        cJSON_AddStringToObject(root, "intra_node", e->cluster.intra_node);
        cJSON_AddStringToObject(root, "inter_node", e->cluster.inter_node);
    }
    cJSON_AddNumberToObject(root, "ranks", e->ranks);
    cJSON_AddNumberToObject(root, "workers", e->workers);
    cJSON_AddNumberToObject(root, "tokens", e->tokens);
    cJSON_AddNumberToObject(root, "hidden", e->hidden);
    cJSON_AddNumberToObject(root, "experts", e->experts);
    cJSON_AddNumberToObject(root, "top_k", e->top_k);
    cJSON_AddStringToObject(root, "dispatch", e->dtype == PHX_BF16 ? "bf16" : "fp8");
    cJSON_AddStringToObject(root, "rows", e->rows == PHX_ROWS_ONCE ? "once" : "per_expert");
    cJSON_AddBoolToObject(root, "fault_tolerance", e->fault_tolerance == PHX_FAULT_TOLERANCE_ON);
    cJSON_AddNumberToObject(root, "seed", (double)e->seed);
    cJSON_AddNumberToObject(root, "samples", e->samples);
}

// null where there are too few samples.
static void add_bound(cJSON *root, const char *name, double low)
{
    if (isnan(low))
        cJSON_AddNullToObject(root, name);
    else
        cJSON_AddNumberToObject(root, name, low);
}

int phx_bench_print_json(const struct phx_bench_ep *b, const struct phx_bench_result *r)
{
    struct row rows[PHX_BENCH_SPANS];
    uint32_t count = rows_of(b, r, rows);
    cJSON *root = cJSON_CreateObject();
    add_setup(root, b);
    cJSON *list = cJSON_AddArrayToObject(root, "results");
    for (uint32_t i = 0; i < count; i++) {
        struct phx_stats s = span_stats(b, r, rows[i].span);
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", rows[i].name);
        cJSON_AddNumberToObject(one, "bytes", (double)rows[i].bytes);
        cJSON_AddNumberToObject(one, "min_us", s.min);
        cJSON_AddNumberToObject(one, "us", s.median);
        cJSON_AddNumberToObject(one, "p99_us", s.p99);
        cJSON_AddItemToArray(list, one);
    }
    struct phx_stats ratio = ratio_stats(b, r, PHX_BENCH_PAIR, PHX_BENCH_FLOOR);
    cJSON_AddNumberToObject(root, "pair_to_floor", ratio.median);
    add_bound(root, "pair_to_floor_low95", ratio.median_low);
    if (b->is_compared) {
        struct phx_stats c = compared(b, r);
        cJSON_AddNumberToObject(root, "fault_tolerance_on_to_off", c.median);
        add_bound(root, "fault_tolerance_on_to_off_low95", c.median_low);
    }
    if (b->transport == PHX_BENCH_SHM) {
        cJSON_AddNumberToObject(root, "region_bytes", (double)r->pages.region_bytes);
        cJSON_AddNumberToObject(root, "reserved_bytes", (double)r->pages.reserved_bytes);
        cJSON_AddNumberToObject(root, "transparent_bytes", (double)r->pages.transparent_bytes);
    }
    cJSON_AddNumberToObject(root, "combine_error", r->sum_error);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL)
        return PHX_EXIT_INTERNAL;
    printf("%s\n", text);
    cJSON_free(text);
    return PHX_EXIT_PASSED;
}
