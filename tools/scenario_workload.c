// tools/scenario_workload.c: the key `workload`: a list of what the ranks do, one after the other.

#include <stdbool.h>
#include <string.h>

#include "sim/routing.h"
#include "tools/scenario_parts.h"

#define STEPS_MAX 1000000u
#define LAYERS_MAX 1024u
#define ZIPF_DIGITS 6u // millionths
#define ZIPF_MAX 8000000u

static const struct phx_choice DTYPES[] = {{"fp8", PHX_FP8_E4M3}, {"bf16", PHX_BF16}, {NULL, 0}};
static const struct phx_choice SCALES[] = {
    {"f32", PHX_SCALE_F32}, {"ue8m0", PHX_SCALE_UE8M0}, {NULL, 0}};
static const struct phx_choice ROWS[] = {
    {"once", PHX_ROWS_ONCE}, {"per_expert", PHX_ROWS_PER_EXPERT}, {NULL, 0}};
static const struct phx_choice LAYOUTS[] = {
    {"slots", PHX_LAYOUT_SLOTS}, {"compact", PHX_LAYOUT_COMPACT}, {NULL, 0}};
static const struct phx_choice ROUTINGS[] = {
    {"uniform", PHX_ROUTING_UNIFORM}, {"balanced", PHX_ROUTING_BALANCED}, {NULL, 0}};

static int read_routing(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    static const struct phx_field fields[] = {
        {.name = "zipf",
         .type = PHX_FIELD_DECIMAL,
         .is_required = true,
         .digits = ZIPF_DIGITS,
         .offset = offsetof(struct phx_moe_load, zipf_millionths),
         .min = 0,
         .max = ZIPF_MAX},
        {.name = NULL},
    };
    struct phx_moe_load *load = target;
    if (node->kind == PHX_YAML_MAP) {
        load->routing = PHX_ROUTING_ZIPF;
        return phx_fields_read(r, node, "routing", fields, load, NULL);
    }
    if (node->kind == PHX_YAML_SCALAR && strcmp(node->text, "zipf") == 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'zipf' needs its exponent: routing: {zipf: 1.1}");
    const struct phx_choice *chosen;
    int rc = phx_node_choice(r, node, "routing", ROUTINGS, &chosen);
    if (rc == 0)
        load->routing = chosen->value;
    return rc;
}

#define U32(key, low, high)                                                                        \
    .name = #key, .type = PHX_FIELD_U32, .offset = offsetof(struct phx_moe_load, key),             \
    .min = (low), .max = (high)
#define CHOICE(key, member, list)                                                                  \
    .name = #key, .type = PHX_FIELD_CHOICE, .offset = offsetof(struct phx_moe_load, member),       \
    .choices = (list)
#define BOOL(key) .name = #key, .type = PHX_FIELD_BOOL, .offset = offsetof(struct phx_moe_load, key)

static const struct phx_field MOE_FIELDS[] = {
    {U32(steps, 1, STEPS_MAX)},
    {U32(layers, 1, LAYERS_MAX)},
    {U32(tokens, 0, PHX_TOKENS_MAX), .is_required = true},
    {U32(hidden, PHX_HIDDEN_MULTIPLE, PHX_HIDDEN_MAX), .multiple = PHX_HIDDEN_MULTIPLE,
     .is_required = true},
    {U32(experts, 1, PHX_EXPERTS_MAX), .is_required = true},
    {U32(top_k, 1, PHX_TOP_K_MAX), .is_required = true},
    {CHOICE(dispatch, dtype, DTYPES)},
    {CHOICE(scales, scales, SCALES)},
    {CHOICE(rows, rows, ROWS)},
    {CHOICE(layout, layout, LAYOUTS)},
    {.name = "routing", .type = PHX_FIELD_CUSTOM, .read = read_routing},
    {BOOL(hooks)},
    {BOOL(renormalise)},
    {.name = NULL},
};

static int read_moe(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_moe_load *load = target;
    *load = (struct phx_moe_load){
        .steps = 1,
        .layers = 1,
        .dtype = PHX_FP8_E4M3,
        .scales = PHX_SCALE_F32,
        .rows = PHX_ROWS_ONCE,
        .layout = PHX_LAYOUT_SLOTS,
        .routing = PHX_ROUTING_UNIFORM,
    };
    int rc = phx_fields_read(r, node, "moe", MOE_FIELDS, load, NULL);
    if (rc != 0)
        return rc;
    if (load->top_k > load->experts)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, phx_yaml_get(node, "top_k")->place,
                            "'top_k' is %u, but a token can't go to more than the %u experts",
                            load->top_k, load->experts);
    uint64_t pairs = (uint64_t)load->steps * load->layers;
    if (pairs > PHX_PAIRS_MAX)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'steps' times 'layers' is %llu; at most %u of each operation are run",
                            (unsigned long long)pairs, PHX_PAIRS_MAX);
    const struct phx_yaml *scales = phx_yaml_get(node, "scales");
    if (load->dtype == PHX_BF16 && scales != NULL)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, scales->key_place,
                            "'scales' belongs to dispatch: fp8; bf16 rows have none");
    return 0;
}

int phx_scenario_read_workload(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    static const struct phx_field entries[] = {
        {.name = "moe", .type = PHX_FIELD_CUSTOM, .is_required = true, .read = read_moe},
        {.name = NULL},
    };
    struct phx_scenario *s = target;
    int rc = phx_node_is(r, node, PHX_YAML_LIST, "workload");
    if (rc != 0)
        return rc;
    for (const struct phx_yaml *item = node->child; item != NULL; item = item->next) {
        if (s->workload.load_count == PHX_SCENARIO_LOADS_MAX)
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, item->place,
                                "more than %u entries in 'workload'", PHX_SCENARIO_LOADS_MAX);
        rc = phx_fields_read(r, item, "workload", entries, &s->loads[s->workload.load_count], NULL);
        if (rc != 0)
            return rc;
        s->workload.load_count++;
    }
    if (s->workload.load_count == 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'workload' is empty; it needs an entry such as '- moe: {...}'");
    return 0;
}
