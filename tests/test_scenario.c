// tests/test_scenario.c: what the scenario reader takes, and what it says to everything else.

#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/fields.h"
#include "tools/scenario.h"

#define CLUSTER "cluster: {nodes: 2, ranks_per_node: 4}\n"
#define MOE "tokens: 8, hidden: 256, experts: 16, top_k: 4"
#define WORKLOAD "workload:\n  - moe: {" MOE "}\n"
#define BASE CLUSTER WORKLOAD

static struct phx_scenario *read_ok(const char *text, uint32_t ranks)
{
    struct phx_scenario_options options = {.ranks = ranks};
    struct phx_scenario *s = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    int rc = phx_scenario_parse(text, strlen(text), &options, &s, &d);
    CHECK_MSG(rc == 0, "%u:%u: %s", d.place.line, d.place.column, d.message.text);
    return s;
}

// "line:column: message" of a text that must be refused.
static const char *refusal(const char *text, uint32_t ranks)
{
    static char answer[512];
    struct phx_scenario_options options = {.ranks = ranks};
    struct phx_scenario *s = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    int rc = phx_scenario_parse(text, strlen(text), &options, &s, &d);
    CHECK_MSG(rc != 0, "taken: %s", text);
    CHECK(s == NULL);
    (void)snprintf(answer, sizeof answer, "%u:%u: %s", d.place.line, d.place.column,
                   d.message.text);
    return answer;
}

TEST(scenario_reads_the_designs_file)
{
    const struct phx_scenario_options options = {0};
    struct phx_scenario *s = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    int rc = phx_scenario_load("scenarios/rank-killed-mid-dispatch.yaml", &options, &s, &d);
    CHECK_MSG(rc == 0, "%u:%u: %s", d.place.line, d.place.column, d.message.text);
    const struct phx_workload *w = &s->workload;
    CHECK_STR_EQ(s->name, "a rank is killed in the middle of a dispatch");
    CHECK_EQ(w->cluster.nodes, 2);
    CHECK_EQ(w->cluster.ranks_per_node, 4);
    CHECK_STR_EQ(w->cluster.intra_node, "nvlink4");
    CHECK_STR_EQ(w->cluster.inter_node, "roce_400g");
    CHECK_EQ(w->load_count, 1);
    CHECK_EQ(w->loads[0].steps, 4);
    CHECK_EQ(w->loads[0].layers, 2);
    CHECK_EQ(w->loads[0].tokens, 64);
    CHECK_EQ(w->loads[0].hidden, 7168);
    CHECK_EQ(w->loads[0].experts, 64);
    CHECK_EQ(w->loads[0].top_k, 8);
    CHECK_EQ(w->loads[0].dtype, PHX_FP8_E4M3);
    CHECK_EQ(w->loads[0].routing, PHX_ROUTING_ZIPF);
    CHECK_EQ(w->loads[0].zipf_millionths, 1100000);
    CHECK_EQ(w->timeout_us, 1000);
    CHECK_EQ(w->fault_count, 1);
    CHECK_EQ(w->faults[0].kind, PHX_FAULT_KILL);
    CHECK_EQ(w->faults[0].unit, PHX_UNIT_PROCESS);
    CHECK_EQ(w->faults[0].rank, 3);
    CHECK_EQ(w->faults[0].when.kind, PHX_DISPATCH);
    CHECK_EQ(w->faults[0].when.number, 5);
    CHECK_EQ(w->faults[0].when.after_puts, 40);
    CHECK_EQ(w->faults[0].when.rank, PHX_FAULT_ANY);
    CHECK_EQ(w->expect.survivors_finish_within_ps, INT64_C(5000000000));
    CHECK_EQ(w->expect.alive, PHX_ALIVE_ALL_BUT_FAULTED);
    phx_scenario_free(s);
}

TEST(scenario_fills_in_defaults)
{
    struct phx_scenario *s = read_ok(BASE, 0);
    CHECK_EQ(s->workload.loads[0].steps, 1);
    CHECK_EQ(s->workload.loads[0].rows, PHX_ROWS_ONCE);
    CHECK_EQ(s->workload.loads[0].routing, PHX_ROUTING_UNIFORM);
    CHECK_EQ(s->workload.timeout_us, 1000000);
    CHECK_EQ(s->workload.is_full, false);
    CHECK_EQ(s->workload.fault_count, 0);
    phx_scenario_free(s);
}

TEST(scenario_reads_every_kind_of_fault)
{
    struct phx_scenario *s = read_ok(
        BASE
        "faults:\n"
        "  - {kill: {rank: first}, at_us: 0}\n"
        "  - {hang: {rank: last, unit: gpu}, at_us: 1.5}\n"
        "  - {pause: {rank: 1, for_us: 20}, when: {operation: combine, number: 1, phase: "
        "receive}}\n"
        "  - {slow: {rank: 1, percent: 10}, at_us: 3}\n"
        "  - {link_down: {rank: 1, peer: 5, for_us: 2}, at_us: 3}\n"
        "  - {link_flap: {rank: 1, unit: nic, period_us: 4, count: 3}, at_us: 3}\n"
        "  - {link_one_way: {rank: 1, peer: 2}, at_us: 3}\n"
        "  - {link_degraded: {rank: 1, percent: 25}, at_us: 3}\n"
        "  - {link_lossy: {rank: 1, loss_ppm: 1000}, at_us: 3}\n"
        "  - {partition: {ranks: [0, 1, last]}, at_us: 3}\n"
        "  - {delay: {rank: 1, peer: 5, delay_us: 0.25}, at_us: 3}\n"
        "  - {duplicate: {rank: 1, ppm: 5}, at_us: 3}\n"
        "  - {clock_offset: {rank: 1, offset_us: -2.5}, at_us: 3}\n"
        "  - {bit_flip: {rank: 1, count: 1}, when: {operation: dispatch, number: 1, rank: 2}}\n",
        0);
    const struct phx_fault *f = s->workload.faults;
    CHECK_EQ(s->workload.fault_count, 14);
    CHECK_EQ(f[0].rank, 0);
    CHECK_EQ(f[1].rank, 7);
    CHECK_EQ(f[1].unit, PHX_UNIT_GPU);
    CHECK_EQ(f[1].when.at_ps, 1500000);
    CHECK_EQ(f[2].duration_ps, 20000000);
    CHECK_EQ(f[2].when.phase, PHX_PHASE_COMBINE_RECEIVE);
    CHECK_EQ(f[3].percent, 10);
    CHECK_EQ(f[4].peer, 5);
    CHECK_EQ(f[5].period_ps, 4000000);
    CHECK_EQ(f[5].count, 3);
    CHECK_EQ(f[5].peer, PHX_FAULT_ANY);
    CHECK_EQ(f[8].ppm, 1000);
    CHECK_EQ(f[9].member_count, 3);
    CHECK_EQ(f[9].members[2], 7);
    CHECK_EQ(f[10].delay_ps, 250000);
    CHECK_EQ(f[12].offset_ns, -2500);
    CHECK_EQ(f[13].when.rank, 2);
    phx_scenario_free(s);
}

TEST(scenario_scales_to_ranks)
{
    struct phx_scenario *s = read_ok(BASE, 32);
    CHECK_EQ(s->workload.cluster.nodes, 8);
    CHECK_EQ(s->workload.cluster.ranks_per_node, 4);
    phx_scenario_free(s);
    s = read_ok(BASE, 2);
    CHECK_EQ(s->workload.cluster.nodes, 1);
    CHECK_EQ(s->workload.cluster.ranks_per_node, 2);
    phx_scenario_free(s);
    CHECK_STR_EQ(refusal(BASE, 6), "1:10: 6 ranks do not fill nodes of 4: ask for a multiple of 4");
    CHECK_STR_EQ(refusal(BASE "faults: [{kill: {rank: 3}, at_us: 0}]\n", 2),
                 "4:24: '3' is not a rank of this cluster: 0 to 1, first or last");
}

TEST(scenario_names_unknown_keys_and_the_nearest_known_one)
{
    CHECK_STR_EQ(refusal(CLUSTER "workload:\n  - moe: {tokns: 8}\n", 0),
                 "3:11: 'tokns' is not a key of 'moe'; did you mean 'tokens'?");
    CHECK_STR_EQ(refusal(BASE "Faults: []\n", 0),
                 "4:1: 'Faults' is not a key of 'scenario'; did you mean 'faults'?");
    CHECK_STR_EQ(refusal(BASE "faults: [{kil: {rank: 3}, at_us: 0}]\n", 0),
                 "4:11: 'kil' is not a key of 'fault'; did you mean 'kill'?");
    CHECK_STR_EQ(refusal("cluster: {nodes: 1, ranks_per_node: 1, x: 2}\n" WORKLOAD, 0),
                 "1:40: 'x' is not a key of 'cluster'; its keys are nodes, ranks_per_node, "
                 "intra_node, inter_node");
}

TEST(scenario_names_wrong_values_and_their_bounds)
{
    CHECK_STR_EQ(refusal("cluster: {nodes: two, ranks_per_node: 4}\n" WORKLOAD, 0),
                 "1:18: 'nodes' is 'two'; it must be a whole number, 1 to 1024");
    CHECK_STR_EQ(refusal("cluster: {nodes: 0, ranks_per_node: 4}\n" WORKLOAD, 0),
                 "1:18: 'nodes' is '0'; it must be a whole number, 1 to 1024");
    CHECK_STR_EQ(refusal("cluster: {nodes: 1.5, ranks_per_node: 4}\n" WORKLOAD, 0),
                 "1:18: 'nodes' is '1.5'; it must be a whole number, 1 to 1024");
    CHECK_STR_EQ(refusal("cluster: {nodes: '2', ranks_per_node: 4}\n" WORKLOAD, 0),
                 "1:18: 'nodes' is '2'; it must be a whole number, 1 to 1024");
    CHECK_STR_EQ(refusal("cluster: {nodes: 99999999999999999999, ranks_per_node: 4}\n" WORKLOAD, 0),
                 "1:18: 'nodes' is '99999999999999999999'; it must be a whole number, 1 to 1024");
    CHECK_STR_EQ(refusal("cluster: {nodes: [1], ranks_per_node: 4}\n" WORKLOAD, 0),
                 "1:18: 'nodes' is a list; it must be a whole number, 1 to 1024");
    CHECK_STR_EQ(refusal("cluster: {nodes: , ranks_per_node: 4}\n" WORKLOAD, 0),
                 "1:18: 'nodes' has no value; it must be a whole number, 1 to 1024");
    CHECK_STR_EQ(refusal("cluster: {nodes: 1024, ranks_per_node: 2}\n" WORKLOAD, 0),
                 "1:10: 1024 nodes of 2 ranks are 2048 ranks; at most 1024 are supported");
    CHECK_STR_EQ(refusal(CLUSTER "workload: [{moe: {" MOE ", dispatch: fp16}}]\n", 0),
                 "2:76: 'dispatch' is 'fp16'; it must be one of fp8, bf16; did you mean 'bf16'?");
    CHECK_STR_EQ(refusal(CLUSTER "workload: [{moe: {" MOE ", hooks: yes}}]\n", 0),
                 "2:73: 'hooks' is 'yes'; it must be one of true, false");
}

TEST(scenario_refuses_what_cannot_be)
{
    CHECK_STR_EQ(
        refusal(CLUSTER "workload: [{moe: {tokens: 8, hidden: 200, experts: 16, top_k: 4}}]\n", 0),
        "2:38: 'hidden' is 200; it must be a multiple of 128");
    CHECK_STR_EQ(
        refusal(CLUSTER "workload: [{moe: {tokens: 8, hidden: 256, experts: 2, top_k: 4}}]\n", 0),
        "2:62: 'top_k' is 4, but a token can't go to more than the 2 experts");
    CHECK_STR_EQ(refusal(CLUSTER "workload: [{moe: {" MOE ", dispatch: bf16, scales: f32}}]\n", 0),
                 "2:82: 'scales' belongs to dispatch: fp8; bf16 rows have none");
    CHECK_STR_EQ(
        refusal(CLUSTER "workload: [{moe: {" MOE ", steps: 100000, layers: 11}}]\n", 0),
        "2:18: 'steps' times 'layers' is 1100000; at most 1048576 of each operation are run");
    CHECK_STR_EQ(refusal(CLUSTER "workload: []\n", 0),
                 "2:11: 'workload' is empty; it needs an entry such as '- moe: {...}'");
    CHECK_STR_EQ(refusal(BASE "faults: [{kill: {rank: 8}, at_us: 0}]\n", 0),
                 "4:24: '8' is not a rank of this cluster: 0 to 7, first or last");
    CHECK_STR_EQ(
        refusal(BASE "faults: [{kill: {rank: 1}, when: {operation: dispatch, number: 2}}]\n", 0),
        "4:64: 'number' is 2, but the workload has 1 of each operation");
    CHECK_STR_EQ(refusal(BASE "faults: [{kill: {rank: 1}}]\n", 0),
                 "4:10: a fault needs a time: 'at_us: 100', or 'when: {operation: dispatch, "
                 "number: 1}'");
    CHECK_STR_EQ(refusal(BASE "faults: [{at_us: 1}]\n", 0),
                 "4:10: a fault without a kind, such as 'kill: {rank: 3}'");
    CHECK_STR_EQ(refusal(BASE "faults: [{link_down: {rank: 1, peer: 1}, at_us: 1}]\n", 0),
                 "4:38: 'peer' is rank 1, and so is 'rank'; a link has two ends");
    CHECK_STR_EQ(
        refusal(BASE "faults: [{link_down: {rank: 1, peer: 2, unit: nic}, at_us: 1}]\n", 0),
        "4:32: 'link_down' has both 'peer', for one link, and 'unit', for all of a port's; it "
        "takes "
        "one of them");
    CHECK_STR_EQ(
        refusal("cluster: {nodes: 1, ranks_per_node: 1, intra_node: roce_400g}\n" WORKLOAD, 0),
        "1:52: 'intra_node' is 'roce_400g'; it must be one of nvlink4");
    CHECK_STR_EQ(
        refusal("cluster: {nodes: 1, ranks_per_node: 1, inter_node: roce400g}\n" WORKLOAD, 0),
        "1:52: 'inter_node' is 'roce400g'; it must be one of roce_400g, ib_400g, roce_200g, "
        "ethernet_25g; did you mean 'roce_400g'?");
    CHECK_STR_EQ(refusal(BASE "faults: [{restart: {rank: 1}, at_us: 1}]\n", 0),
                 "4:11: 'restart' needs membership, which is not built yet: a rank that came back "
                 "could not join the group again");
    CHECK_STR_EQ(refusal(BASE "faults: [{partition: {ranks: []}, at_us: 1}]\n", 0),
                 "4:30: 'ranks' names 0 of 8 ranks; one side of a partition is 1 to 7");
    CHECK_STR_EQ(refusal(BASE "expect: {alive: [1, 1]}\n", 0), "4:21: rank 1 is in 'alive' twice");
}

TEST(scenario_refuses_a_full_payload_that_is_too_large)
{
    const char *text = CLUSTER "workload: [{moe: {tokens: 4096, hidden: 7168, experts: 64, "
                               "top_k: 8}}]\npayload: full\n";
    const char *answer = refusal(text, 0);
    CHECK_MSG(strncmp(answer, "3:10: payload: full would store ", 32) == 0, "%s", answer);
    CHECK_MSG(strstr(answer, "GiB; at most 4 GiB are allowed") != NULL, "%s", answer);
}

TEST(scenario_refuses_what_is_no_scenario)
{
    CHECK_STR_EQ(refusal("", 0), "1:1: the file is empty");
    CHECK_STR_EQ(refusal("# a comment alone\n", 0), "1:1: the file is empty");
    CHECK_STR_EQ(refusal("hello\n", 0),
                 "1:1: 'scenario' is 'hello'; it must be a map of 'key: value' lines");
    CHECK_STR_EQ(refusal("name: x\n", 0), "1:1: 'scenario' lacks the key 'cluster'");
    CHECK_STR_EQ(refusal("name: x\nname: y\n", 0),
                 "2:1: 'name' is here twice; the first is on line 1");
    CHECK_STR_EQ(refusal("---\na: 1\n---\nb: 2\n", 0),
                 "3:1: a second document begins here; a file holds one");
    CHECK_STR_EQ(refusal("a: &x 1\nb: *x\n", 0), "1:4: anchors and tags are not supported");
    CHECK_STR_EQ(refusal("[a, b]: 1\n", 0), "1:1: a key must be a plain word, not a list");
    const char *answer = refusal("cluster: {nodes: 1\n", 0);
    CHECK_MSG(strstr(answer, "not YAML: ") != NULL, "%s", answer);
    answer = refusal("a: \xff\xfe\n", 0);
    CHECK_MSG(strncmp(answer, "1:4: not YAML: ", 15) == 0, "%s", answer);
}

TEST(scenario_bounds_depth_keys_and_size)
{
    char deep[64];
    memset(deep, '[', 40);
    memcpy(deep + 40, "\n", 2);
    CHECK_STR_EQ(refusal(deep, 0), "1:17: nested more than 16 deep");

    static char text[1 << 21];
    size_t used = 0;
    for (int i = 0; i < 70; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "key%d: 1\n", i);
    CHECK_STR_EQ(refusal(text, 0), "65:1: more than 64 keys in one map");

    memset(text, ' ', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK_STR_EQ(refusal(text, 0), "0:0: the file has 2097151 bytes; at most 1048576 are read");

    used = (size_t)snprintf(text, sizeof text, "a: [");
    while (used < 200000)
        used += (size_t)snprintf(text + used, sizeof text - used, "1,");
    (void)snprintf(text + used, sizeof text - used, "]\n");
    const char *answer = refusal(text, 0);
    CHECK_MSG(strstr(answer, "more than 65536 values in one file") != NULL, "%s", answer);
}

TEST(scenario_survives_every_prefix_and_flipped_byte)
{
    static const char text[] =
        "name: x\n" CLUSTER "workload:\n  - moe: {" MOE ", routing: {zipf: 1.1}}\n"
        "faults:\n  - {kill: {rank: 3}, when: {operation: dispatch, number: 1, after_puts: 4}}\n"
        "expect: {survivors_finish_within_us: 5000, alive: [first, 2]}\n";
    const struct phx_scenario_options options = {0};
    char bytes[sizeof text];
    uint32_t taken = 0;
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (uint32_t bit = 0; bit < 9; bit++) { // eight flips, and the prefix
            struct phx_scenario *s = NULL;
            struct phx_diagnosis d = {{0, 0}, {""}};
            memcpy(bytes, text, sizeof text);
            if (bit < 8)
                bytes[i] = (char)(bytes[i] ^ (1 << bit));
            int rc = phx_scenario_parse(bytes, bit < 8 ? sizeof text - 1 : i, &options, &s, &d);
            CHECK((rc == 0) == (s != NULL));
            CHECK(rc == 0 || d.message.text[0] != '\0');
            taken += rc == 0;
            phx_scenario_free(s);
        }
    }
    CHECK(taken > 0); // a flipped digit is often a digit
}

TEST(nearest_word_is_a_slip_of_the_pen)
{
    const char *known[] = {"tokens", "top_k", "hidden"};
    CHECK_STR_EQ(phx_nearest("tokesn", known, 3), "tokens");
    CHECK_STR_EQ(phx_nearest("HIDDEN", known, 3), "hidden");
    CHECK_STR_EQ(phx_nearest("topk", known, 3), "top_k");
    CHECK(phx_nearest("bananas", known, 3) == NULL);
    CHECK(phx_nearest("", known, 3) == NULL);
}

// --- chances, events, frozen faults, traces, runs -----------------------------------------------

TEST(scenario_reads_chances_events_and_expectations)
{
    struct phx_scenario *s = read_ok(
        BASE "check: rows\n"
             "faults:\n"
             "  - {pause: {rank: 1, for_us: 2}, when: {operation: dispatch}, chance_ppm: 5}\n"
             "  - {kill: {rank: 2}, when: {event: 4000000000000}}\n"
             "  - {bit_flip: {rank: 1, count: 1, caught: true}, at_us: 3, chance_ppm: 1000000}\n"
             "expect: {frozen_after_us: 3.5, progress_within_us: 9, healthy_stay: true, corrupt: "
             "[last], every_fault_strikes: false}\n"
             "run: {seed: 18446744073709551615, tie: pct, trace_hash: 1da0142c326ed961}\n",
        0);
    const struct phx_workload *w = &s->workload;
    CHECK_EQ(w->row_check, true);
    CHECK_EQ(w->faults[0].when.chance_ppm, 5);
    CHECK_EQ(w->faults[0].when.number, 0);
    CHECK_EQ(w->faults[1].when.event, UINT64_C(4000000000000));
    CHECK_EQ(w->faults[2].is_caught, true);
    CHECK_EQ(w->faults[2].when.chance_ppm, 1000000);
    CHECK_EQ(w->freeze_ps, 3500000);
    CHECK_EQ(w->expect.progress_within_ps, 9000000);
    CHECK_EQ(w->expect.is_healthy_stay, true);
    CHECK_EQ(w->expect.is_corrupt_checked, true);
    CHECK(phx_rank_set_has(&w->expect.corrupt, 7));
    CHECK_EQ(w->expect.may_miss, true);
    CHECK_EQ(s->run.seed, UINT64_MAX);
    CHECK_EQ(s->run.schedule.tie, PHX_TIE_PCT);
    CHECK_EQ(s->run.trace_hash, UINT64_C(0x1da0142c326ed961));
    phx_scenario_free(s);
}

TEST(scenario_refuses_moments_that_are_none)
{
    CHECK_STR_EQ(refusal(BASE "faults: [{kill: {rank: 1}, when: {operation: dispatch}}]\n", 0),
                 "4:34: 'when' lacks the key 'number'; without it a fault may strike in each "
                 "operation, and needs a 'chance_ppm' for it");
    CHECK_STR_EQ(refusal(BASE "faults: [{kill: {rank: 1}, when: {number: 1}}]\n", 0),
                 "4:34: 'when' lacks the key 'operation'");
    CHECK_STR_EQ(refusal(BASE "faults: [{kill: {rank: 1}, when: {event: 5, number: 1}}]\n", 0),
                 "4:35: 'event' is a moment of its own; 'when' takes no other key beside it");
    CHECK_STR_EQ(refusal(BASE "faults: [{kill: {rank: 1}, at_us: 1, chance_ppm: 0}]\n", 0),
                 "4:50: 'chance_ppm' is '0'; it must be a whole number, 1 to 1000000");
    CHECK_STR_EQ(
        refusal(BASE "faults: [{kill: {rank: 1}, at_us: 9}]\nexpect: {frozen_after_us: 9}\n", 0),
        "5:27: 'frozen_after_us' is 9, but fault 1 of the list strikes no earlier");
    CHECK_STR_EQ(refusal(BASE "expect: {progress_within_us: 9}\n", 0),
                 "4:10: 'progress_within_us' counts from 'frozen_after_us', which is missing");
    CHECK_STR_EQ(refusal(BASE "run: {tie: fifo}\n", 0), "4:6: 'run' lacks the key 'seed'");
    CHECK_STR_EQ(refusal(BASE "run: {seed: 1, trace_hash: 12}\n", 0),
                 "4:28: 'trace_hash' must be 16 hexadecimal digits, in small letters");
}

TEST(scenario_refuses_routing_traces_that_do_not_fit)
{
    CHECK_STR_EQ(refusal(CLUSTER "workload: [{moe: {" MOE ", routing: {npy: none.npy}}}]\n", 0),
                 "2:81: 'npy': there is no file none.npy");
    CHECK_STR_EQ(
        refusal(CLUSTER "workload: [{moe: {tokens: 8, hidden: 256, experts: 63, top_k: 8, routing: "
                        "{npy: scenarios/routing/skewed-64-experts.npy}}}]\n",
                0),
        "2:81: scenarios/routing/skewed-64-experts.npy: [49, 5] is 63; it must be -1 to 62");
    CHECK_STR_EQ(
        refusal(CLUSTER "workload: [{moe: {tokens: 8, hidden: 256, experts: 64, top_k: 4, routing: "
                        "{npy: scenarios/routing/skewed-64-experts.npy}}}]\n",
                0),
        "2:81: scenarios/routing/skewed-64-experts.npy: 'shape' has 8 columns, but 'top_k' is 4");
    CHECK_STR_EQ(refusal(CLUSTER "workload: [{moe: {" MOE ", routing: {npy: a, zipf: 1}}}]\n", 0),
                 "2:75: 'routing' takes one of 'zipf' and 'npy', such as {zipf: 1.1}");
}
