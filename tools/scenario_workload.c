// tools/scenario_workload.c: the key `workload`: a list of what the ranks do, one after the other.

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "sim/routing.h"
#include "tools/npy.h"
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

struct routing { // as written
    uint64_t zipf_millionths;
    char npy[PHX_SCENARIO_PATH_MAX + 1];
};

static const struct phx_field ROUTING_FIELDS[] = {
    {.name = "zipf",
     .type = PHX_FIELD_DECIMAL,
     .digits = ZIPF_DIGITS,
     .offset = offsetof(struct routing, zipf_millionths),
     .min = 0,
     .max = ZIPF_MAX},
    {.name = "npy",
     .type = PHX_FIELD_TEXT,
     .offset = offsetof(struct routing, npy),
     .max = PHX_SCENARIO_PATH_MAX},
    {.name = NULL},
};

static int read_routing(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_moe_load *load = target;
    if (node->kind == PHX_YAML_MAP) {
        const struct phx_scenario_context *context = r->context;
        struct routing routing = {.zipf_millionths = 0};
        uint64_t present;
        int rc = phx_fields_read(r, node, "routing", ROUTING_FIELDS, &routing, &present);
        if (rc == 0 && present != 1 && present != 2)
            rc = phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                              "'routing' takes one of 'zipf' and 'npy', such as {zipf: 1.1}");
        if (rc != 0)
            return rc;
        load->routing = present == 1 ? PHX_ROUTING_ZIPF : PHX_ROUTING_TRACE;
        load->zipf_millionths = routing.zipf_millionths;
        memcpy(context->scenario->trace_paths[load - context->scenario->loads], routing.npy,
               sizeof routing.npy); // read when experts and top_k are known
        return 0;
    }
    if (node->kind == PHX_YAML_SCALAR && strcmp(node->text, "zipf") == 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'zipf' needs its exponent: routing: {zipf: 1.1}");
    if (node->kind == PHX_YAML_SCALAR && strcmp(node->text, "npy") == 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'npy' needs its file: routing: {npy: routing/skewed.npy}");
    const struct phx_choice *chosen;
    int rc = phx_node_choice(r, node, "routing", ROUTINGS, &chosen);
    if (rc == 0)
        load->routing = chosen->value;
    return rc;
}

static void write_routing(struct phx_writer *w, const void *target)
{
    const struct phx_scenario *s = w->context;
    const struct phx_moe_load *load = target;
    if (load->routing == PHX_ROUTING_ZIPF) {
        (void)fputs("{zipf: ", w->out);
        phx_decimal_write(w->out, load->zipf_millionths, ZIPF_DIGITS);
        (void)fputs("}", w->out);
    } else if (load->routing == PHX_ROUTING_TRACE) {
        (void)fputs("{npy: ", w->out);
        phx_text_write(w->out, s->trace_paths[load - s->loads]);
        (void)fputs("}", w->out);
    } else {
        (void)fputs(ROUTINGS[load->routing == PHX_ROUTING_UNIFORM ? 0 : 1].name, w->out);
    }
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
    {.name = "routing", .type = PHX_FIELD_CUSTOM, .read = read_routing, .write = write_routing},
    {BOOL(hooks)},
    {BOOL(renormalise)},
    {.name = NULL},
};

static const struct phx_moe_load MOE_STANDARD = {
    .steps = 1,
    .layers = 1,
    .dtype = PHX_FP8_E4M3,
    .scales = PHX_SCALE_F32,
    .rows = PHX_ROWS_ONCE,
    .layout = PHX_LAYOUT_SLOTS,
    .routing = PHX_ROUTING_UNIFORM,
};

// A path in the file is relative to the file. Kept as the absolute one, so that the scenario can be
// written elsewhere.
static int resolve_path(struct phx_reader *r, struct phx_place place, char *path)
{
    const struct phx_scenario_context *context = r->context;
    const char *directory = context->options->directory;
    char joined[2 * PHX_SCENARIO_PATH_MAX + 2];
    bool is_relative = path[0] != '/' && directory != NULL;
    (void)snprintf(joined, sizeof joined, "%.*s%s%s", (int)PHX_SCENARIO_PATH_MAX,
                   is_relative ? directory : "", is_relative ? "/" : "", path);
    char *resolved = realpath(joined, NULL);
    int rc = 0;
    if (resolved == NULL || strlen(resolved) > PHX_SCENARIO_PATH_MAX)
        rc = phx_diagnose(r->diagnosis, PHX_ERR_INVALID, place, "'npy': there is no file %s",
                          phx_excerpt_make(path).text);
    else
        memcpy(path, resolved, strlen(resolved) + 1);
    free(resolved);
    return rc;
}

static bool lists_twice(const int32_t *row, uint32_t columns)
{
    for (uint32_t i = 0; i < columns; i++)
        for (uint32_t j = 0; j < i; j++)
            if (row[i] >= 0 && row[i] == row[j])
                return true;
    return false;
}

static int read_trace(struct phx_reader *r, const struct phx_yaml *moe, struct phx_moe_load *load)
{
    const struct phx_scenario_context *context = r->context;
    struct phx_scenario *s = context->scenario;
    size_t index = (size_t)(load - s->loads);
    struct phx_place place = phx_yaml_get(phx_yaml_get(moe, "routing"), "npy")->place;
    struct phx_excerpt path = phx_excerpt_make(s->trace_paths[index]);
    struct phx_message message;
    struct phx_npy npy;
    int rc = resolve_path(r, place, s->trace_paths[index]);
    if (rc != 0)
        return rc;
    rc = phx_npy_load(s->trace_paths[index], -1, (int32_t)load->experts - 1, &npy, &message);
    if (rc != 0)
        return phx_diagnose(r->diagnosis, rc, place, "%s: %s", path.text, message.text);
    s->traces[index] = npy.values;
    load->trace = npy.values;
    load->trace_rows = npy.rows;
    if (npy.columns != load->top_k)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, place,
                            "%s: 'shape' has %u columns, but 'top_k' is %u", path.text, npy.columns,
                            load->top_k);
    for (uint64_t row = 0; row < npy.rows; row++)
        if (lists_twice(npy.values + row * npy.columns, npy.columns))
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, place,
                                "%s: row %llu lists an expert twice", path.text,
                                (unsigned long long)row);
    return 0;
}

static int read_moe(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_moe_load *load = target;
    *load = MOE_STANDARD;
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
    return load->routing == PHX_ROUTING_TRACE ? read_trace(r, node, load) : 0;
}

static const struct phx_field ENTRY_FIELDS[] = {
    {.name = "moe", .type = PHX_FIELD_CUSTOM, .is_required = true, .read = read_moe},
    {.name = NULL},
};

const struct phx_field *phx_scenario_workload_table(uint32_t index, const char **what)
{
    static const struct {
        const char *what;
        const struct phx_field *fields;
    } tables[] = {{"workload", ENTRY_FIELDS}, {"moe", MOE_FIELDS}, {"routing", ROUTING_FIELDS}};
    if (index >= sizeof tables / sizeof tables[0])
        return NULL;
    *what = tables[index].what;
    return tables[index].fields;
}

void phx_scenario_write_workload(struct phx_writer *w, const struct phx_workload *workload)
{
    for (uint32_t i = 0; i < workload->load_count; i++) {
        (void)fputs("  - moe: {", w->out);
        (void)phx_fields_write(w, MOE_FIELDS, &workload->loads[i], &MOE_STANDARD, ", ");
        (void)fputs("}\n", w->out);
    }
}

int phx_scenario_read_workload(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_scenario *s = target;
    int rc = phx_node_is(r, node, PHX_YAML_LIST, "workload");
    if (rc != 0)
        return rc;
    for (const struct phx_yaml *item = node->child; item != NULL; item = item->next) {
        if (s->workload.load_count == PHX_SCENARIO_LOADS_MAX)
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, item->place,
                                "more than %u entries in 'workload'", PHX_SCENARIO_LOADS_MAX);
        rc = phx_fields_read(r, item, "workload", ENTRY_FIELDS, &s->loads[s->workload.load_count],
                             NULL);
        if (rc != 0)
            return rc;
        s->workload.load_count++;
    }
    if (s->workload.load_count == 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'workload' is empty; it needs an entry such as '- moe: {...}'");
    return 0;
}
