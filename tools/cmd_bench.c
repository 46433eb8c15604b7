// tools/cmd_bench.c: phx bench WHAT: figures, as a table and as JSON.

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hw/crew.h"
#include "sim/network.h"
#include "tools/bench_ep.h"
#include "tools/bench_report.h"
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
    BENCH_TOLERANCE,
    BENCH_PER_GPU,
    BENCH_COMPARE,
    BENCH_NODES,
    BENCH_INTRA,
    BENCH_INTER,
    BENCH_WARMUPS
};

struct bench {
    const char *what;
    struct phx_bench_ep ep;
    bool is_json;
    const char *of_ep; // an option that was given and that signal has no use for; NULL: none
};

static const struct argp_option OPTIONS[] = {
    {"transport", BENCH_TRANSPORT, "NAME", 0,
     "shm: processes of this host (default); sim: simulated ranks, in virtual time; cuda: a "
     "process for each GPU of this host, over NVLink",
     0},
    {"ranks-per-gpu", BENCH_PER_GPU, "N", 0, "cuda: let up to N ranks share a GPU (default 1)", 0},
    {"ranks", BENCH_RANKS, "N", 0, "(default 2)", 0},
    {"workers", BENCH_WORKERS, "N", 0,
     "threads of each (default 1); cuda: blocks (default: as many as a GPU holds)", 0},
    {"tokens", BENCH_TOKENS, "N", 0, "per rank (default 128)", 0},
    {"hidden", BENCH_HIDDEN, "N", 0, "channels (default 7168)", 0},
    {"experts", BENCH_EXPERTS, "N", 0, "of all ranks (default 64)", 0},
    {"top-k", BENCH_TOP_K, "N", 0, "experts of a token (default 8)", 0},
    {"dispatch", BENCH_DISPATCH, "TYPE", 0, "fp8 (default) or bf16", 0},
    {"rows", BENCH_ROWS, "FORM", 0, "once (default) or per_expert", 0},
    {"layout", BENCH_LAYOUT, "FORM", 0, "slots (default) or compact", 0},
    {"fault-tolerance", BENCH_TOLERANCE, "on|off", 0, "of the group (default on)", 0},
    {"compare", BENCH_COMPARE, "fault_tolerance", 0,
     "with a second pair in each sample, with the other setting", 0},
    {"nodes", BENCH_NODES, "N", 0, "sim: that the ranks are spread over (default 1)", 0},
    {"intra-node", BENCH_INTRA, "LINK", 0, "sim: preset in a node (default nvlink4)", 0},
    {"inter-node", BENCH_INTER, "LINK", 0, "sim: preset between nodes (default roce_400g)", 0},
    {"spin-us", BENCH_SPIN, "N", 0,
     "shm: how long a wait spins before it sleeps (default 20; 0 with more workers than cores)", 0},
    {"samples", BENCH_SAMPLES, "N", 0, "timed repetitions (default 21)", 0},
    {"warmups", BENCH_WARMUPS, "N", 0, "repetitions before them (default 3)", 0},
    {"seed", BENCH_SEED, "N", 0, "of the inputs (default 1); sim: of the first sample", 0},
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

static enum phx_bench_transport transport_of(struct argp_state *state, const char *text)
{
    if (strcmp(text, "shm") != 0 && strcmp(text, "sim") != 0 && strcmp(text, "cuda") != 0)
        argp_error(state, "--transport %s: %sthere are shm, sim and cuda", text,
                   strcmp(text, "verbs") == 0 ? "RDMA verbs are not written yet; " : "");
    return strcmp(text, "cuda") == 0  ? PHX_BENCH_CUDA
           : strcmp(text, "sim") == 0 ? PHX_BENCH_SIM
                                      : PHX_BENCH_SHM;
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
        {BENCH_RANKS, "--ranks", 1, PHX_RANKS_MAX, offsetof(struct phx_bench_ep, ranks)},
        {BENCH_WORKERS, "--workers", 1, PHX_WORKERS_MAX, offsetof(struct phx_bench_ep, workers)},
        {BENCH_PER_GPU, "--ranks-per-gpu", 1, 64, offsetof(struct phx_bench_ep, ranks_per_gpu)},
        {BENCH_TOKENS, "--tokens", 1, PHX_TOKENS_MAX, offsetof(struct phx_bench_ep, tokens)},
        {BENCH_HIDDEN, "--hidden", 128, PHX_HIDDEN_MAX, offsetof(struct phx_bench_ep, hidden)},
        {BENCH_EXPERTS, "--experts", 1, PHX_EXPERTS_MAX, offsetof(struct phx_bench_ep, experts)},
        {BENCH_TOP_K, "--top-k", 1, PHX_TOP_K_MAX, offsetof(struct phx_bench_ep, top_k)},
        {BENCH_SPIN, "--spin-us", 0, 1000000, offsetof(struct phx_bench_ep, spin_us)},
        {BENCH_SAMPLES, "--samples", 1, 100000, offsetof(struct phx_bench_ep, samples)},
        {BENCH_NODES, "--nodes", 1, PHX_RANKS_MAX, offsetof(struct phx_bench_ep, cluster.nodes)},
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

static void check_all(struct bench *b, struct argp_state *state)
{
    struct phx_bench_ep *ep = &b->ep;
    struct phx_cluster *c = &ep->cluster;
    const struct phx_preset *preset;
    struct phx_message m;
    if (b->what == NULL || (strcmp(b->what, "ep") != 0 && strcmp(b->what, "signal") != 0))
        argp_error(state, "which benchmark? %s%sthere are ep (dispatch and combine) and signal",
                   b->what != NULL ? b->what : "", b->what != NULL ? " is none; " : "");
    else if (ep->transport != PHX_BENCH_SHM && strcmp(b->what, "signal") == 0)
        argp_error(state, "signal is timed on processes of this host alone");
    else if (b->of_ep != NULL && strcmp(b->what, "signal") == 0)
        argp_error(state, "--%s: of ep alone; signal takes --samples and --json", b->of_ep);
    else if (ep->transport == PHX_BENCH_CUDA && ep->is_compared)
        argp_error(state, "--compare: over cuda, run it with each --fault-tolerance");
    else if (ep->transport != PHX_BENCH_CUDA && ep->ranks_per_gpu != 0)
        argp_error(state, "--ranks-per-gpu: of cuda alone");
    else if (ep->transport == PHX_BENCH_CUDA && c->nodes != 1)
        argp_error(state, "--nodes %u: of the simulator alone; cuda is one host", c->nodes);
    else if (ep->transport == PHX_BENCH_SHM && ep->ranks > 64)
        argp_error(state, "--ranks %u: shm may have 1 to 64", ep->ranks);
    else if (ep->transport == PHX_BENCH_SHM && c->nodes != 1)
        argp_error(state, "--nodes %u: of the simulator alone; shm is one host", c->nodes);
    else if (ep->ranks % c->nodes != 0)
        argp_error(state, "--ranks %u: must be a multiple of --nodes, %u", ep->ranks, c->nodes);
    else if (phx_preset_require("--intra-node", c->intra_node, PHX_PLANE_NVLINK, &preset, &m) ||
             phx_preset_require("--inter-node", c->inter_node, PHX_PLANE_NIC, &preset, &m))
        argp_error(state, "%s", m.text);
    c->ranks_per_node = ep->ranks / c->nodes;
    if (ep->workers == 0 && ep->transport != PHX_BENCH_CUDA)
        ep->workers = 1;
    if (ep->ranks_per_gpu == 0)
        ep->ranks_per_gpu = 1;
}

static void note_of_ep(struct bench *b, int key)
{
    if (key == BENCH_SAMPLES || key == BENCH_JSON || key == BENCH_TRANSPORT)
        return;
    for (const struct argp_option *o = OPTIONS; o->name != NULL; o++)
        if (o->key == key)
            b->of_ep = o->name;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct bench *b = state->input;
    note_of_ep(b, key);
    switch (key) {
    case BENCH_TRANSPORT:
        b->ep.transport = transport_of(state, argument);
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
    case BENCH_TOLERANCE:
        b->ep.fault_tolerance = (enum phx_fault_tolerance)choice(
            state, "--fault-tolerance", argument, "on", PHX_FAULT_TOLERANCE_ON, "off",
            PHX_FAULT_TOLERANCE_OFF);
        return 0;
    case BENCH_COMPARE:
        if (strcmp(argument, "fault_tolerance") != 0)
            argp_error(state, "--compare %s: must be fault_tolerance", argument);
        b->ep.is_compared = true;
        return 0;
    case BENCH_INTRA:
        b->ep.cluster.intra_node = argument;
        return 0;
    case BENCH_INTER:
        b->ep.cluster.inter_node = argument;
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
        check_all(b, state);
        return 0;
    default:
        return parse_number(key, argument, state);
    }
}

// --- running ------------------------------------------------------------------------------------

static int refuse(const char *what, int rc, const struct phx_message *message)
{
    (void)fprintf(stderr, "phx bench %s: %s\n", what, message->text);
    if (rc == PHX_ERR_CORRUPT)
        return PHX_EXIT_FAILED;
    return rc == PHX_ERR_INVALID || rc == PHX_ERR_UNSUPPORTED ? PHX_EXIT_USAGE : PHX_EXIT_INTERNAL;
}

static int run_ep(const struct bench *b)
{
    struct phx_bench_result r;
    struct phx_message message = {""};
    int rc = phx_bench_ep_run(&b->ep, &r, &message);
    if (rc != 0)
        return refuse("ep", rc, &message);
    int status = PHX_EXIT_PASSED;
    if (b->ep.transport == PHX_BENCH_CUDA)
        status = phx_bench_gpu_print(&b->ep, &r, b->is_json, stdout) == 0 ? PHX_EXIT_PASSED
                                                                          : PHX_EXIT_INTERNAL;
    else if (b->is_json)
        status = phx_bench_print_json(&b->ep, &r);
    else
        phx_bench_print_table(&b->ep, &r);
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
        .doc = "Time dispatch and combine, or a signal, on processes of this host; or dispatch and "
               "combine in the simulator.\v"
               "bench/README.md says what is counted. Exit status: 0 measured, 1 an output was "
               "wrong, 2 usage, 3 internal error.",
    };
    struct bench b = {.ep = {.transport = PHX_BENCH_SHM,
                             .cluster = {1, 2, "nvlink4", "roce_400g", PHX_BURSTS_ON},
                             .ranks = 2,
                             .spin_us = PHX_CREW_SPIN_AUTO,
                             .tokens = 128,
                             .hidden = 7168,
                             .experts = 64,
                             .top_k = 8,
                             .dtype = PHX_FP8_E4M3,
                             .scales = PHX_SCALE_F32,
                             .rows = PHX_ROWS_ONCE,
                             .layout = PHX_LAYOUT_SLOTS,
                             .fault_tolerance = PHX_FAULT_TOLERANCE_ON,
                             .warmups = 3,
                             .samples = 21,
                             .seed = 1}};
    if (argp_parse(&argp, argc, argv, 0, NULL, &b) != 0)
        return PHX_EXIT_INTERNAL;
    return strcmp(b.what, "ep") == 0 ? run_ep(&b) : run_signal(&b);
}
