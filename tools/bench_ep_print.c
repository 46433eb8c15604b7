// tools/bench_ep_print.c: the figures of phx bench ep on GPUs.

#include <cjson/cJSON.h>
#include <stdlib.h>

#include "tools/bench_ep.h"
#include "tools/bench_stats.h"

// What measured pushes come to: 330 GB/s out of a GPU, and 4 us.
#define LINK_BYTES_PER_US 330e3
#define LINK_US 4.0

struct line { // one figure
    const char *name;
    const char *l2;
    uint32_t span;  // enum phx_bench_span
    uint32_t kinds; // 1: dispatch, 2: combine, 3: both
};

static const struct line LINES[] = {
    {"ep_dispatch_kernel", "warm", PHX_BENCH_DISPATCH, 1},
    {"ep_combine_kernel", "warm", PHX_BENCH_COMBINE, 2},
    {"ep_pair_graph", "warm", PHX_BENCH_PAIR, 3},
    {"ep_dispatch_kernel", "cold", PHX_BENCH_COLD_DISPATCH, 1},
    {"ep_combine_kernel", "cold", PHX_BENCH_COLD_COMBINE, 2},
    {"ep_pair_graph", "cold", PHX_BENCH_COLD_PAIR, 3},
};
#define LINE_COUNT (sizeof LINES / sizeof LINES[0])

static bool is_tolerant(const struct phx_bench_ep *b)
{
    return b->fault_tolerance == PHX_FAULT_TOLERANCE_ON;
}

static double sum_of(const struct line *line, double dispatch, double combine)
{
    return (line->kinds & 1 ? dispatch : 0.0) + (line->kinds & 2 ? combine : 0.0);
}

static double sent_of(const struct line *line, const struct phx_bench_result *r)
{
    return sum_of(line, (double)r->gpu.sent[0], (double)r->gpu.sent[1]);
}
static double push_of(const struct line *line, const struct phx_bench_result *r)
{
    return sum_of(line, r->gpu.push_us[0], r->gpu.push_us[1]);
}
static double formula_of(const struct line *line, const struct phx_bench_result *r)
{
    return sum_of(line, (double)r->gpu.sent[0] / LINK_BYTES_PER_US + LINK_US,
                  (double)r->gpu.sent[1] / LINK_BYTES_PER_US + LINK_US);
}

static struct phx_stats stats_of(const struct phx_bench_ep *b, const struct phx_bench_result *r,
                                 const struct line *line)
{
    double *values = calloc(b->samples, sizeof *values);
    struct phx_stats s = {0};
    if (values == NULL)
        return s;
    for (uint32_t i = 0; i < b->samples; i++)
        values[i] = (double)r->samples[i].ns[line->span];
    s = phx_stats_make(values, b->samples);
    free(values);
    return s;
}

static void print_table(const struct phx_bench_ep *b, const struct phx_bench_result *r, FILE *out)
{
    (void)fprintf(out,
                  "dispatch and combine over cuda: %u ranks of %u blocks, on %s;\n%u tokens a "
                  "rank, hidden %u, %u experts, top-%u, %s dispatch, rows %s, %s layout,\nfault "
                  "tolerance %s; %u samples, us of the slowest rank\n\n",
                  b->ranks, r->gpu.workers, r->gpu.device, b->tokens, b->hidden, b->experts,
                  b->top_k, b->dtype == PHX_BF16 ? "bf16" : "fp8",
                  b->rows == PHX_ROWS_ONCE ? "once" : "per expert",
                  b->layout == PHX_LAYOUT_SLOTS ? "slots" : "compact",
                  is_tolerant(b) ? "on" : "off", b->samples);
    (void)fprintf(out, "%-20s %5s %9s %9s %9s %9s %9s %9s\n", "", "L2", "MB sent", "min", "median",
                  "p99", "push", "link");
    for (size_t i = 0; i < LINE_COUNT; i++) {
        const struct line *line = &LINES[i];
        struct phx_stats s = stats_of(b, r, line);
        (void)fprintf(out, "%-20s %5s %9.3f %9.2f %9.2f %9.2f %9.2f %9.2f\n", line->name, line->l2,
                      sent_of(line, r) / 1e6, s.min / 1e3, s.median / 1e3, s.p99 / 1e3,
                      push_of(line, r), formula_of(line, r));
    }
    (void)fprintf(out,
                  "\npush: the best plain push of as many bytes, in this run; link: 4 us + bytes / "
                  "330 GB/s\nchecked before and after: every row of dispatch bit for bit; combine "
                  "within %.2g of f64 sums\n",
                  r->sum_error);
}

static cJSON *row_of(const struct phx_bench_ep *b, const struct phx_bench_result *r,
                     const struct line *line)
{
    struct phx_stats s = stats_of(b, r, line);
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "name", line->name);
    cJSON_AddNumberToObject(row, "ranks", b->ranks);
    cJSON_AddNumberToObject(row, "tokens", b->tokens);
    cJSON_AddNumberToObject(row, "us", s.median / 1e3);
    cJSON_AddNumberToObject(row, "min_us", s.min / 1e3);
    cJSON_AddNumberToObject(row, "p99_us", s.p99 / 1e3);
    cJSON_AddStringToObject(row, "l2", line->l2);
    cJSON_AddStringToObject(row, "dispatch", b->dtype == PHX_BF16 ? "bf16" : "fp8");
    cJSON_AddStringToObject(row, "rows", b->rows == PHX_ROWS_ONCE ? "once" : "per_expert");
    cJSON_AddStringToObject(row, "layout", b->layout == PHX_LAYOUT_SLOTS ? "slots" : "compact");
    cJSON_AddBoolToObject(row, "fault_tolerance", is_tolerant(b));
    cJSON_AddNumberToObject(row, "experts", b->experts);
    cJSON_AddNumberToObject(row, "bytes", sent_of(line, r));
    cJSON_AddNumberToObject(row, "push_us", push_of(line, r));
    cJSON_AddNumberToObject(row, "link_us", formula_of(line, r));
    return row;
}

static int print_json(const struct phx_bench_ep *b, const struct phx_bench_result *r, FILE *out)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "transport", "cuda");
    cJSON_AddStringToObject(root, "device", r->gpu.device);
    cJSON_AddNumberToObject(root, "ranks", b->ranks);
    cJSON_AddNumberToObject(root, "workers", r->gpu.workers);
    cJSON_AddNumberToObject(root, "hidden", b->hidden);
    cJSON_AddNumberToObject(root, "top_k", b->top_k);
    cJSON_AddNumberToObject(root, "samples", b->samples);
    cJSON_AddNumberToObject(root, "combine_error", r->sum_error);
    cJSON *rows = cJSON_AddArrayToObject(root, "results");
    for (size_t i = 0; i < LINE_COUNT; i++)
        cJSON_AddItemToArray(rows, row_of(b, r, &LINES[i]));
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (text == NULL)
        return PHX_ERR_NO_MEMORY;
    (void)fprintf(out, "%s\n", text);
    cJSON_free(text);
    return 0;
}

int phx_bench_gpu_print(const struct phx_bench_ep *bench, const struct phx_bench_result *result,
                        bool is_json, FILE *out)
{
    if (is_json)
        return print_json(bench, result, out);
    print_table(bench, result, out);
    return 0;
}
