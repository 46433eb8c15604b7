// tools/scenario.c: the file, the top level of the tree, and the cluster.

#include "tools/scenario.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/network.h"
#include "tools/scenario_parts.h"

#define TIMEOUT_US_MAX (UINT64_C(1) << 40)
#define PRESETS_MAX 32u
#define WORKERS_MAX 64u // fibers per rank; a simulated rank gains nothing from more

static const struct phx_choice PAYLOADS[] = {{"thin", 0}, {"full", 1}, {NULL, 0}};
static const struct phx_choice CHECKS[] = {{"routes", 0}, {"rows", 1}, {NULL, 0}};
static const struct phx_choice DIVISIONS[] = {{"by_peer", 0}, {"by_token", 1}, {NULL, 0}};

// The names of a plane's presets are the network's; the list here is made of them.
static int read_preset(struct phx_reader *r, const struct phx_yaml *node, const char *key,
                       enum phx_plane plane, const char **target)
{
    struct phx_choice choices[PRESETS_MAX + 1] = {{NULL, 0}};
    uint32_t count = 0;
    for (uint32_t i = 0; phx_preset_at(i) != NULL && count < PRESETS_MAX; i++)
        if (phx_preset_at(i)->plane == plane)
            choices[count++].name = phx_preset_at(i)->name;
    const struct phx_choice *chosen = NULL;
    int rc = phx_node_choice(r, node, key, choices, &chosen);
    if (rc == 0)
        *target = chosen->name;
    return rc;
}

static int read_intra_node(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    return read_preset(r, node, "intra_node", PHX_PLANE_NVLINK, target);
}

static int read_inter_node(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    return read_preset(r, node, "inter_node", PHX_PLANE_NIC, target);
}

// --ranks keeps the shape of a node where it can: fewer ranks than a node holds make one smaller
// node, more make more nodes.
static int scale_cluster(struct phx_reader *r, const struct phx_yaml *node, uint32_t ranks,
                         struct phx_cluster *cluster)
{
    if (ranks <= cluster->ranks_per_node) {
        cluster->nodes = 1;
        cluster->ranks_per_node = ranks;
        return 0;
    }
    if (ranks % cluster->ranks_per_node != 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "%u ranks do not fill nodes of %u: ask for a multiple of %u", ranks,
                            cluster->ranks_per_node, cluster->ranks_per_node);
    cluster->nodes = ranks / cluster->ranks_per_node;
    return 0;
}

static void write_preset(struct phx_writer *w, const void *target)
{
    (void)fputs(*(const char *const *)target, w->out);
}

static const struct phx_field CLUSTER_FIELDS[] = {
    {.name = "nodes",
     .type = PHX_FIELD_U32,
     .is_required = true,
     .offset = offsetof(struct phx_cluster, nodes),
     .min = 1,
     .max = PHX_RANKS_MAX},
    {.name = "ranks_per_node",
     .type = PHX_FIELD_U32,
     .is_required = true,
     .offset = offsetof(struct phx_cluster, ranks_per_node),
     .min = 1,
     .max = PHX_RANKS_MAX},
    {.name = "intra_node",
     .type = PHX_FIELD_CUSTOM,
     .offset = offsetof(struct phx_cluster, intra_node),
     .read = read_intra_node,
     .write = write_preset},
    {.name = "inter_node",
     .type = PHX_FIELD_CUSTOM,
     .offset = offsetof(struct phx_cluster, inter_node),
     .read = read_inter_node,
     .write = write_preset},
    {.name = NULL},
};

static const struct phx_cluster CLUSTER_STANDARD = {.intra_node = "nvlink4",
                                                    .inter_node = "roce_400g"};

static int read_cluster(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_cluster *cluster = target;
    struct phx_scenario_context *context = r->context;
    int rc = phx_fields_read(r, node, "cluster", CLUSTER_FIELDS, cluster, NULL);
    if (rc == 0 && context->options->ranks != 0)
        rc = scale_cluster(r, node, context->options->ranks, cluster);
    if (rc != 0)
        return rc;
    uint64_t ranks = (uint64_t)cluster->nodes * cluster->ranks_per_node;
    if (ranks > PHX_RANKS_MAX)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "%u nodes of %u ranks are %llu ranks; at most %u are supported",
                            cluster->nodes, cluster->ranks_per_node, (unsigned long long)ranks,
                            PHX_RANKS_MAX);
    context->ranks = (uint32_t)ranks;
    return 0;
}

static void write_cluster(struct phx_writer *w, const void *target)
{
    (void)fputs("{", w->out);
    (void)phx_fields_write(w, CLUSTER_FIELDS, target, &CLUSTER_STANDARD, ", ");
    (void)fputs("}", w->out);
}

static int read_bool_of(struct phx_reader *r, const struct phx_yaml *node, const char *key,
                        const struct phx_choice *choices, bool *target)
{
    const struct phx_choice *chosen;
    int rc = phx_node_choice(r, node, key, choices, &chosen);
    if (rc == 0)
        *target = chosen->value != 0;
    return rc;
}

static int read_payload(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    return read_bool_of(r, node, "payload", PAYLOADS, target);
}

static void write_payload(struct phx_writer *w, const void *target)
{
    (void)fputs(PAYLOADS[*(const bool *)target ? 1 : 0].name, w->out);
}

static int read_check(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    return read_bool_of(r, node, "check", CHECKS, target);
}

static void write_check(struct phx_writer *w, const void *target)
{
    (void)fputs(CHECKS[*(const bool *)target ? 1 : 0].name, w->out);
}

static int read_division(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    return read_bool_of(r, node, "division", DIVISIONS, target);
}

static void write_division(struct phx_writer *w, const void *target)
{
    (void)fputs(DIVISIONS[*(const bool *)target ? 1 : 0].name, w->out);
}

int phx_scenario_read_rank(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    const struct phx_scenario_context *context = r->context;
    uint32_t *rank = target;
    if (node->kind == PHX_YAML_SCALAR && strcmp(node->text, "first") == 0) {
        *rank = 0;
        return 0;
    }
    if (node->kind == PHX_YAML_SCALAR && strcmp(node->text, "last") == 0) {
        *rank = context->ranks - 1;
        return 0;
    }
    struct phx_diagnosis unused;
    struct phx_reader quiet = {.diagnosis = &unused, .context = r->context};
    uint64_t number;
    if (phx_node_number(&quiet, node, "rank", 0, context->ranks - 1, &number) != 0) {
        struct phx_excerpt text =
            phx_excerpt_make(node->kind == PHX_YAML_SCALAR ? node->text : phx_yaml_kind_text(node));
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'%s' is not a rank of this cluster: 0 to %u, first or last", text.text,
                            context->ranks - 1);
    }
    *rank = (uint32_t)number;
    return 0;
}

void phx_scenario_write_rank(struct phx_writer *w, const void *target)
{
    (void)fprintf(w->out, "%u", *(const uint32_t *)target);
}

#define IN_WORKLOAD(member)                                                                        \
    (offsetof(struct phx_scenario, workload) + offsetof(struct phx_workload, member))

// In the order of reading: what names ranks comes after the cluster.
static const struct phx_field TOP_FIELDS[] = {
    {.name = "name",
     .type = PHX_FIELD_TEXT,
     .offset = offsetof(struct phx_scenario, name),
     .max = PHX_SCENARIO_NAME_MAX},
    {.name = "cluster",
     .type = PHX_FIELD_CUSTOM,
     .is_required = true,
     .offset = IN_WORKLOAD(cluster),
     .read = read_cluster,
     .write = write_cluster},
    {.name = "workload",
     .type = PHX_FIELD_CUSTOM,
     .is_required = true,
     .read = phx_scenario_read_workload},
    {.name = "timeout_us",
     .type = PHX_FIELD_DECIMAL,
     .offset = IN_WORKLOAD(timeout_us),
     .min = 1,
     .max = TIMEOUT_US_MAX},
    {.name = "payload",
     .type = PHX_FIELD_CUSTOM,
     .offset = IN_WORKLOAD(is_full),
     .read = read_payload,
     .write = write_payload},
    {.name = "check",
     .type = PHX_FIELD_CUSTOM,
     .offset = IN_WORKLOAD(row_check),
     .read = read_check,
     .write = write_check},
    {.name = "division",
     .type = PHX_FIELD_CUSTOM,
     .offset = IN_WORKLOAD(is_by_token),
     .read = read_division,
     .write = write_division},
    {.name = "workers",
     .type = PHX_FIELD_U32,
     .offset = IN_WORKLOAD(workers),
     .min = 1,
     .max = WORKERS_MAX},
    {.name = "faults", .type = PHX_FIELD_CUSTOM, .read = phx_scenario_read_faults},
    {.name = "expect", .type = PHX_FIELD_CUSTOM, .read = phx_scenario_read_expect},
    {.name = "run", .type = PHX_FIELD_CUSTOM, .read = phx_scenario_read_run},
    {.name = NULL},
};

static void set_defaults(struct phx_scenario *s)
{
    struct phx_workload *w = &s->workload;
    (void)snprintf(s->name, sizeof s->name, "a scenario without a name");
    w->cluster = CLUSTER_STANDARD;
    w->loads = s->loads;
    w->faults = s->faults;
    w->timeout_us = 1000000;
    w->expect.survivors_finish_within_ps = PHX_EXPECT_NONE;
    w->expect.lost_tokens_max = PHX_EXPECT_NONE;
}

struct phx_scenario *phx_scenario_standard(void)
{
    struct phx_scenario *s = calloc(1, sizeof *s);
    if (s != NULL)
        set_defaults(s);
    return s;
}

void phx_scenario_write_top(struct phx_writer *w, const struct phx_scenario *s,
                            const struct phx_scenario *standard)
{
    (void)phx_fields_write(w, TOP_FIELDS, s, standard, "\n");
    (void)fputs("\n", w->out);
}

const struct phx_field *phx_scenario_top_table(uint32_t index, const char **what)
{
    *what = index == 0 ? "scenario" : "cluster";
    return index == 0 ? TOP_FIELDS : index == 1 ? CLUSTER_FIELDS : NULL;
}

// What only the whole file shows: a shape that no group has, and more memory than is reasonable.
static int check_workload(struct phx_reader *r, const struct phx_yaml *root,
                          const struct phx_workload *w)
{
    uint64_t bytes;
    struct phx_message message;
    int rc = phx_workload_bytes(w, &bytes, &message);
    if (rc != 0)
        return phx_diagnose(r->diagnosis, rc, phx_yaml_get(root, "workload")->place, "%s",
                            message.text);
    if (!w->is_full || bytes <= PHX_WORKLOAD_BYTES_MAX)
        return 0;
    double gib = (double)(UINT64_C(1) << 30);
    return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, phx_yaml_get(root, "payload")->place,
                        "payload: full would store %.1f GiB; at most %.0f GiB are allowed. "
                        "payload: thin stores 128 channels of %u and charges for all",
                        (double)bytes / gib, (double)PHX_WORKLOAD_BYTES_MAX / gib,
                        w->loads[0].hidden);
}

int phx_scenario_parse(const char *text, size_t size_bytes,
                       const struct phx_scenario_options *options, struct phx_scenario **scenario,
                       struct phx_diagnosis *d)
{
    struct phx_yaml *root = NULL;
    int rc = phx_yaml_parse(text, size_bytes, &root, d);
    if (rc != 0)
        return rc;
    struct phx_scenario *s = phx_scenario_standard();
    if (s == NULL) {
        phx_yaml_free(root);
        return phx_diagnose(d, PHX_ERR_NO_MEMORY, (struct phx_place){0, 0}, "out of memory");
    }
    struct phx_scenario_context context = {.scenario = s, .options = options};
    struct phx_reader reader = {.diagnosis = d, .context = &context};
    rc = phx_fields_read(&reader, root, "scenario", TOP_FIELDS, s, NULL);
    if (rc == 0)
        rc = check_workload(&reader, root, &s->workload);
    phx_yaml_free(root);
    if (rc != 0) {
        phx_scenario_free(s);
        return rc;
    }
    *scenario = s;
    return 0;
}

static int read_file(FILE *file, char **text, size_t *size_bytes, struct phx_diagnosis *d)
{
    struct phx_place nowhere = {0, 0};
    size_t capacity = PHX_YAML_SIZE_MAX + 1; // one more, so that a file that is too big shows
    char *buffer = malloc(capacity);
    if (buffer == NULL)
        return phx_diagnose(d, PHX_ERR_NO_MEMORY, nowhere, "out of memory");
    size_t size = fread(buffer, 1, capacity, file);
    int rc = 0;
    if (ferror(file))
        rc = phx_diagnose(d, PHX_ERR_IO, nowhere, "cannot be read: %s", strerror(errno));
    else if (size > PHX_YAML_SIZE_MAX)
        rc = phx_diagnose(d, PHX_ERR_INVALID, nowhere,
                          "the file is larger than %u bytes, the most that is read",
                          PHX_YAML_SIZE_MAX);
    if (rc != 0) {
        free(buffer);
        return rc;
    }
    *text = buffer;
    *size_bytes = size;
    return 0;
}

int phx_scenario_load(const char *path, const struct phx_scenario_options *options,
                      struct phx_scenario **scenario, struct phx_diagnosis *d)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return phx_diagnose(d, PHX_ERR_IO, (struct phx_place){0, 0}, "cannot be opened: %s",
                            strerror(errno));
    char *text = NULL;
    size_t size_bytes = 0;
    int rc = read_file(file, &text, &size_bytes, d);
    (void)fclose(file);
    char *directory = strdup(path); // what stands before the last slash
    if (rc == 0 && directory == NULL)
        rc = phx_diagnose(d, PHX_ERR_NO_MEMORY, (struct phx_place){0, 0}, "out of memory");
    if (rc == 0) {
        struct phx_scenario_options here = *options;
        char *slash = strrchr(directory, '/');
        if (slash != NULL)
            *slash = '\0';
        here.directory = slash == NULL ? "." : slash == directory ? "/" : directory;
        rc = phx_scenario_parse(text, size_bytes, &here, scenario, d);
    }
    free(directory);
    free(text);
    return rc;
}

void phx_scenario_free(struct phx_scenario *scenario)
{
    if (scenario == NULL)
        return;
    for (uint32_t i = 0; i < PHX_SCENARIO_LOADS_MAX; i++)
        free(scenario->traces[i]);
    free(scenario);
}
