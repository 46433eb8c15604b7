// tools/cmd_bench.c: phx bench WHAT: figures, as a table and as JSON.

#include <argp.h>
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hw/crew.h"
#include "tools/bench_ep.h"
#include "tools/bench_stats.h"
#include "tools/command.h"
#include "tools/options.h"

enum {
    BENCH_TRANSPORT = 't',
    BENCH_RANKS = 'r',
    BENCH_TOKENS = 'm',
    BENCH_JSON = 'j',
    BENCH_SAMPLES = 'n',
    BENCH_WORKERS = 'w',
    BENCH_HIDDEN = 256,
    BENCH_EXPERTS,
    BENCH_TOP_K,
    BENCH_DISPATCH,
    BENCH_ROWS,
    BENCH_LAYOUT,
    BENCH_SPIN,
    BENCH_SEED,
    BENCH_INTOLERANT,
    BENCH_PER_GPU,
    BENCH_WARMUPS
};

struct bench {
    const char *what;
    const char *transport;
    uint32_t ranks_per_gpu;
    struct phx_bench_ep ep;
    bool is_json;
};

static const struct argp_option OPTIONS[] = {
    {"transport", BENCH_TRANSPORT, "NAME", 0,
     "shm: processes of this host (default); cuda: each on a GPU of its own, over NVLink", 0},
    {"ranks", BENCH_RANKS, "N", 0, "processes (default 2)", 0},
    {"ranks-per-gpu", BENCH_PER_GPU, "N", 0, "cuda: let up to N ranks share a GPU (default 1)", 0},
    {"workers", BENCH_WORKERS, "N", 0,
     "threads of each (default 1); cuda: blocks (default: as many as fit the GPU)", 0},
    {"tokens", BENCH_TOKENS, "N", 0, "per rank (default 128)", 0},
    {"hidden", BENCH_HIDDEN, "N", 0, "channels (default 7168)", 0},
    {"experts", BENCH_EXPERTS, "N", 0, "of all ranks (default 64)", 0},
    {"top-k", BENCH_TOP_K, "N", 0, "experts of a token (default 8)", 0},
    {"dispatch", BENCH_DISPATCH, "TYPE", 0, "fp8 (default) or bf16", 0},
    {"rows", BENCH_ROWS, "FORM", 0, "once (default) or per_expert", 0},
    {"layout", BENCH_LAYOUT, "FORM", 0, "slots (default) or compact", 0},
    {"no-fault-tolerance", BENCH_INTOLERANT, NULL, 0, "operations wait for ever", 0},
    {"spin-us", BENCH_SPIN, "N", 0,
     "how long a wait spins before it sleeps (default: 20, or 0 with more workers than cores)", 0},
    {"samples", BENCH_SAMPLES, "N", 0, "timed repetitions (default 21)", 0},
    {"warmups", BENCH_WARMUPS, "N", 0, "repetitions before them (default 3)", 0},
    {"seed", BENCH_SEED, "N", 0, "of the inputs (default 1)", 0},
    {"json", BENCH_JSON, NULL, 0, "print one JSON object", 0},
    {0},
};

static uint32_t choice(struct argp_state *state, const char *option, const char *text,
                       const char *first, uint32_t first_value, const char *second,
                       uint32_t second_value)
{
    if (strcmp(text, first) == 0)
        return first_value;
    if (strcmp(text, second) != 0)
        argp_error(state, "%s %s: must be %s or %s", option, text, first, second);
    return second_value;
}

static error_t parse_number(int key, char *argument, struct argp_state *state)
{
    struct phx_bench_ep *ep = &((struct bench *)state->input)->ep;
    static const struct {
        int key;
        const char *name;
        uint32_t min;
        uint32_t max;
        size_t at;
    } numbers[] = {
        {BENCH_RANKS, "--ranks", 1, 64, offsetof(struct phx_bench_ep, ranks)},
        {BENCH_WORKERS, "--workers", 1, PHX_WORKERS_MAX, offsetof(struct phx_bench_ep, workers)},
        {BENCH_TOKENS, "--tokens", 1, PHX_TOKENS_MAX, offsetof(struct phx_bench_ep, tokens)},
        {BENCH_HIDDEN, "--hidden", 128, PHX_HIDDEN_MAX, offsetof(struct phx_bench_ep, hidden)},
        {BENCH_EXPERTS, "--experts", 1, PHX_EXPERTS_MAX, offsetof(struct phx_bench_ep, experts)},
        {BENCH_TOP_K, "--top-k", 1, PHX_TOP_K_MAX, offsetof(struct phx_bench_ep, top_k)},
        {BENCH_SPIN, "--spin-us", 0, 1000000, offsetof(struct phx_bench_ep, spin_us)},
        {BENCH_SAMPLES, "--samples", 1, 100000, offsetof(struct phx_bench_ep, samples)},
        {BENCH_WARMUPS, "--warmups", 0, 100000, offsetof(struct phx_bench_ep, warmups)},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i].key != key)
            continue;
        uint32_t *at = (uint32_t *)(void *)((char *)ep + numbers[i].at);
        *at = (uint32_t)phx_number_or_usage(state, numbers[i].name, argument, numbers[i].min,
                                            numbers[i].max);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct bench *b = state->input;
    switch (key) {
    case BENCH_TRANSPORT:
        b->transport = argument;
        return 0;
    case BENCH_DISPATCH:
        b->ep.dtype = (enum phx_dtype)choice(state, "--dispatch", argument, "fp8", PHX_FP8_E4M3,
                                             "bf16", PHX_BF16);
        return 0;
    case BENCH_ROWS:
        b->ep.rows = (enum phx_rows_form)choice(state, "--rows", argument, "once", PHX_ROWS_ONCE,
                                                "per_expert", PHX_ROWS_PER_EXPERT);
        return 0;
    case BENCH_LAYOUT:
        b->ep.layout = (enum phx_output_layout)choice(
            state, "--layout", argument, "slots", PHX_LAYOUT_SLOTS, "compact", PHX_LAYOUT_COMPACT);
        return 0;
    case BENCH_INTOLERANT:
        b->ep.is_tolerant = false;
        return 0;
    case BENCH_PER_GPU:
        b->ranks_per_gpu =
            (uint32_t)phx_number_or_usage(state, "--ranks-per-gpu", argument, 1, 64);
        return 0;
    case BENCH_SEED:
        b->ep.seed = phx_number_or_usage(state, "--seed", argument, 0, UINT64_MAX);
        return 0;
    case BENCH_JSON:
        b->is_json = true;
        return 0;
    case ARGP_KEY_ARG:
        if (b->what != NULL)
            argp_error(state, "one benchmark at a time: %s, then %s", b->what, argument);
        b->what = argument;
        return 0;
    case ARGP_KEY_END:
        if (b->what == NULL || (strcmp(b->what, "ep") != 0 && strcmp(b->what, "signal") != 0))
            argp_error(state, "%s is not a benchmark: ep (dispatch and combine), or signal",
                       b->what != NULL ? b->what : "nothing");
        b->ep.is_cuda = strcmp(b->transport, "cuda") == 0;
        if (!b->ep.is_cuda && strcmp(b->transport, "shm") != 0)
            argp_error(state, "--transport %s: there are shm and cuda", b->transport);
        if (b->ep.is_cuda && strcmp(b->what, "ep") != 0)
            argp_error(state, "%s is timed over shm alone", b->what);
        if (!b->ep.is_cuda && b->ep.workers == 0)
            b->ep.workers = 1;
        return 0;
    default:
        return parse_number(key, argument, state);
    }
}

// --- what was measured --------------------------------------------------------------------------

static struct phx_stats stats_of(const struct bench *b, const struct phx_bench_result *r, size_t at)
{
    double *values = calloc(b->ep.samples, sizeof *values);
    struct phx_stats s = {0};
    if (values == NULL)
        return s;
    for (uint32_t i = 0; i < b->ep.samples; i++)
        values[i] =
            (double)*(const uint64_t *)(const void *)((const char *)&r->samples[i] + at) / 1e3;
    s = phx_stats_make(values, b->ep.samples);
    free(values);
    return s;
}

static struct phx_stats ratio_of(const struct bench *b, const struct phx_bench_result *r)
{
    double *values = calloc(b->ep.samples, sizeof *values);
    struct phx_stats s = {0};
    if (values == NULL)
        return s;
    for (uint32_t i = 0; i < b->ep.samples; i++)
        values[i] = (double)r->samples[i].pair_ns / (double)r->samples[i].floor_ns;
    s = phx_stats_make(values, b->ep.samples);
    free(values);
    return s;
}

struct row {
    const char *name;
    size_t at;
    uint64_t bytes;
};

static void print_table(const struct bench *b, const struct phx_bench_result *r,
                        const struct row *rows, uint32_t count)
{
    const struct phx_bench_ep *e = &b->ep;
    printf(
        "dispatch and combine over %s: %u ranks of %u worker%s; %u tokens a rank, hidden %u,\n"
        "%u experts, top-%u, %s dispatch, rows %s, %s layout, fault tolerance %s; %u samples\n\n",
        b->transport, e->ranks, e->workers, e->workers == 1 ? "" : "s", e->tokens, e->hidden,
        e->experts, e->top_k, e->dtype == PHX_BF16 ? "bf16" : "fp8",
        e->rows == PHX_ROWS_ONCE ? "once" : "per expert",
        e->layout == PHX_LAYOUT_SLOTS ? "slots" : "compact", e->is_tolerant ? "on" : "off",
        e->samples);
    printf("%-12s %10s %10s %10s %10s %10s\n", "", "MB/rank", "min us", "median us", "p99 us",
           "GB/s");
    for (uint32_t i = 0; i < count; i++) {
        struct phx_stats s = stats_of(b, r, rows[i].at);
        printf("%-12s %10.3f %10.1f %10.1f %10.1f %10.2f\n", rows[i].name,
               (double)rows[i].bytes / 1e6, s.min, s.median, s.p99,
               s.median > 0 ? (double)rows[i].bytes / s.median / 1e3 : 0.0);
    }
    struct phx_stats ratio = ratio_of(b, r);
    printf("\npair / floor: median %.2f, 95 %% sure to be at least %.2f\n", ratio.median,
           ratio.median_low);
    printf("checked first: every row of dispatch bit for bit; combine within %.2g of f64 sums\n",
           r->sum_error);
}

static int print_json(const struct bench *b, const struct phx_bench_result *r,
                      const struct row *rows, uint32_t count)
{
    const struct phx_bench_ep *e = &b->ep;
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "transport", b->transport);
    cJSON_AddNumberToObject(root, "ranks", e->ranks);
    cJSON_AddNumberToObject(root, "workers", e->workers);
    cJSON_AddNumberToObject(root, "tokens", e->tokens);
    cJSON_AddNumberToObject(root, "hidden", e->hidden);
    cJSON_AddNumberToObject(root, "experts", e->experts);
    cJSON_AddNumberToObject(root, "top_k", e->top_k);
    cJSON_AddStringToObject(root, "dispatch", e->dtype == PHX_BF16 ? "bf16" : "fp8");
    cJSON_AddStringToObject(root, "rows", e->rows == PHX_ROWS_ONCE ? "once" : "per_expert");
    cJSON_AddBoolToObject(root, "fault_tolerance", e->is_tolerant);
    cJSON_AddNumberToObject(root, "samples", e->samples);
    cJSON *list = cJSON_AddArrayToObject(root, "results");
    for (uint32_t i = 0; i < count; i++) {
        struct phx_stats s = stats_of(b, r, rows[i].at);
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "name", rows[i].name);
        cJSON_AddNumberToObject(one, "bytes", (double)rows[i].bytes);
        cJSON_AddNumberToObject(one, "min_us", s.min);
        cJSON_AddNumberToObject(one, "us", s.median);
        cJSON_AddNumberToObject(one, "p99_us", s.p99);
        cJSON_AddItemToArray(list, one);
    }
    struct phx_stats ratio = ratio_of(b, r);
    cJSON_AddNumberToObject(root, "pair_to_floor", ratio.median);
    cJSON_AddNumberToObject(root, "pair_to_floor_low95", ratio.median_low);
    cJSON_AddNumberToObject(root, "combine_error", r->sum_error);
    char *text = cJSON_Print(root);
    cJSON_Delete(root);
    if (text == NULL)
        return PHX_EXIT_INTERNAL;
    printf("%s\n", text);
    cJSON_free(text);
    return PHX_EXIT_PASSED;
}

static int refuse(const char *what, int rc, const struct phx_message *message)
{
    (void)fprintf(stderr, "phx bench %s: %s\n", what, message->text);
    if (rc == PHX_ERR_CORRUPT)
        return PHX_EXIT_FAILED;
    return rc == PHX_ERR_INVALID || rc == PHX_ERR_UNSUPPORTED ? PHX_EXIT_USAGE : PHX_EXIT_INTERNAL;
}

static int run_ep(struct bench *b)
{
    struct phx_bench_result r;
    struct phx_message message = {""};
    struct phx_gpu_table gpus;
    int rc = b->ep.is_cuda ? phx_cuda_probe(&gpus, &message) : 0;
    if (rc == 0 && b->ep.is_cuda)
        rc = phx_gpus_choose(&gpus, b->ep.ranks, b->ranks_per_gpu, b->ep.devices, &message);
    if (rc == 0)
        rc = phx_bench_ep_run(&b->ep, &r, &message);
    if (rc != 0)
        return refuse("ep", rc, &message);
    if (b->ep.is_cuda) {
        rc = phx_bench_gpu_print(&b->ep, &r, b->is_json, stdout);
        free(r.samples);
        return rc == 0 ? PHX_EXIT_PASSED : PHX_EXIT_INTERNAL;
    }
    uint64_t both = r.bytes.dispatch + r.bytes.combine;
    const struct row rows[] = {
        {"floor", offsetof(struct phx_bench_sample, floor_ns), both},
        {"dispatch", offsetof(struct phx_bench_sample, dispatch_ns), r.bytes.dispatch},
        {"combine", offsetof(struct phx_bench_sample, combine_ns), r.bytes.combine},
        {"pair", offsetof(struct phx_bench_sample, pair_ns), both},
    };
    int status = PHX_EXIT_PASSED;
    if (b->is_json)
        status = print_json(b, &r, rows, 4);
    else
        print_table(b, &r, rows, 4);
    free(r.samples);
    return status;
}

static int run_signal(const struct bench *b)
{
    struct phx_bench_signal r;
    struct phx_message message = {""};
    int rc = phx_bench_signal_run(b->ep.samples, 20000, &r, &message);
    if (rc != 0)
        return refuse("signal", rc, &message);
    if (b->is_json)
        printf("{\"name\": \"signal\", \"ns\": %.1f, \"line_ns\": %.1f, \"ratio\": %.3f}\n",
               r.signal_ns, r.line_ns, r.signal_ns / r.line_ns);
    else
        printf("one signal, one way: %.0f ns; a bare cache line: %.0f ns; ratio %.2f\n",
               r.signal_ns, r.line_ns, r.signal_ns / r.line_ns);
    return PHX_EXIT_PASSED;
}

int phx_command_bench(int argc, char **argv)
{
    static const struct argp argp = {
        .options = OPTIONS,
        .parser = parse_option,
        .args_doc = "ep|signal",
        .doc = "Time dispatch and combine, or a signal, on processes of this host.\v"
               "bench/README.md says what is counted. Exit status: 0 measured, 1 an output was "
               "wrong, 2 usage, 3 internal error.",
    };
    struct bench b = {.transport = "shm",
                      .ranks_per_gpu = 1,
                      .ep = {.ranks = 2,
                             .flush_mib = 256,
                             .spin_us = PHX_CREW_SPIN_AUTO,
                             .tokens = 128,
                             .hidden = 7168,
                             .experts = 64,
                             .top_k = 8,
                             .dtype = PHX_FP8_E4M3,
                             .scales = PHX_SCALE_F32,
                             .rows = PHX_ROWS_ONCE,
                             .layout = PHX_LAYOUT_SLOTS,
                             .is_tolerant = true,
                             .warmups = 3,
                             .samples = 21,
                             .seed = 1}};
    if (argp_parse(&argp, argc, argv, 0, NULL, &b) != 0)
        return PHX_EXIT_INTERNAL;
    return strcmp(b.what, "ep") == 0 ? run_ep(&b) : run_signal(&b);
}
