// tools/scenario_fault.c: the key `faults`: what breaks, and when.
//
// A fault is a map with one kind of fault and either `at_us` or `when`. Each kind has a table of
// its keys, each key is one macro, and KINDS lists the tables: a new kind is a table and a row.

#include <string.h>

#include "tools/scenario_parts.h"

#define US_DIGITS 6u // us to ps
#define PS_PER_US UINT64_C(1000000)
#define US_MAX (UINT64_C(1) << 40) // of virtual time: twelve days
#define OFFSET_US_MAX UINT64_C(1000000000)
#define PPM_MAX 1000000u
#define PERCENT_SLOW_MAX 100u
#define COUNT_MAX 1000000u

static const struct phx_choice UNITS[] = {{"process", PHX_UNIT_PROCESS},
                                          {"host", PHX_UNIT_HOST},
                                          {"gpu", PHX_UNIT_GPU},
                                          {"nic", PHX_UNIT_NIC},
                                          {NULL, 0}};
static const struct phx_choice PORTS[] = {
    {"host", PHX_UNIT_HOST}, {"gpu", PHX_UNIT_GPU}, {"nic", PHX_UNIT_NIC}, {NULL, 0}};

static int read_members(struct phx_reader *r, const struct phx_yaml *node, void *target);
static void write_members(struct phx_writer *w, const void *target);
static int read_offset(struct phx_reader *r, const struct phx_yaml *node, void *target);
static void write_offset(struct phx_writer *w, const void *target);

#define AT(member) .offset = offsetof(struct phx_fault, member)
#define RANK                                                                                       \
    {                                                                                              \
        .name = "rank", .type = PHX_FIELD_CUSTOM, .is_required = true, AT(rank),                   \
        .read = phx_scenario_read_rank, .write = phx_scenario_write_rank                           \
    }
#define PEER                                                                                       \
    {                                                                                              \
        .name = "peer", .type = PHX_FIELD_CUSTOM, AT(peer), .read = phx_scenario_read_rank,        \
        .write = phx_scenario_write_rank                                                           \
    }
#define UNIT(list)                                                                                 \
    {                                                                                              \
        .name = "unit", .type = PHX_FIELD_CHOICE, AT(unit), .choices = (list)                      \
    }
#define US(key, member, needed)                                                                    \
    {                                                                                              \
        .name = (key), .type = PHX_FIELD_DECIMAL, .is_required = (needed), .digits = US_DIGITS,    \
        AT(member), .min = 1, .max = US_MAX * PS_PER_US                                            \
    }
#define NUMBER(key, member, low, high)                                                             \
    {                                                                                              \
        .name = (key), .type = PHX_FIELD_U32, .is_required = true, AT(member), .min = (low),       \
        .max = (high)                                                                              \
    }
#define FOR_US US("for_us", duration_ps, false)
#define END                                                                                        \
    {                                                                                              \
        .name = NULL                                                                               \
    }

static const struct phx_field KILL[] = {RANK, UNIT(UNITS), END};
static const struct phx_field PAUSE[] = {RANK, UNIT(UNITS), US("for_us", duration_ps, true), END};
static const struct phx_field SLOW[] = {RANK, NUMBER("percent", percent, 1, PERCENT_SLOW_MAX),
                                        FOR_US, END};
static const struct phx_field LINK[] = {RANK, PEER, UNIT(PORTS), FOR_US, END};
static const struct phx_field LINK_FLAP[] = {
    RANK, PEER, UNIT(PORTS), US("period_us", period_ps, true), NUMBER("count", count, 1, COUNT_MAX),
    END};
static const struct phx_field LINK_DEGRADED[] = {
    RANK, PEER, UNIT(PORTS), NUMBER("percent", percent, 1, PERCENT_SLOW_MAX), FOR_US, END};
static const struct phx_field LINK_LOSSY[] = {
    RANK, PEER, UNIT(PORTS), NUMBER("loss_ppm", ppm, 1, PPM_MAX), FOR_US, END};
static const struct phx_field PARTITION[] = {{.name = "ranks",
                                              .type = PHX_FIELD_CUSTOM,
                                              .is_required = true,
                                              .read = read_members,
                                              .write = write_members},
                                             FOR_US,
                                             END};
static const struct phx_field DELAY[] = {RANK,   PEER, UNIT(PORTS), US("delay_us", delay_ps, true),
                                         FOR_US, END};
static const struct phx_field DUPLICATE[] = {
    RANK, PEER, UNIT(PORTS), NUMBER("ppm", ppm, 1, PPM_MAX), FOR_US, END};
static const struct phx_field CLOCK_OFFSET[] = {RANK,
                                                {.name = "offset_us",
                                                 .type = PHX_FIELD_CUSTOM,
                                                 .is_required = true,
                                                 AT(offset_ns),
                                                 .read = read_offset,
                                                 .write = write_offset},
                                                END};
static const struct phx_field BIT_FLIP[] = {
    RANK,
    NUMBER("count", count, 1, COUNT_MAX),
    {.name = "caught", .type = PHX_FIELD_BOOL, AT(is_caught)},
    END};

static const struct kind {
    const char *name;
    uint32_t kind; // enum phx_fault_kind
    uint32_t unit; // when the file names none
    const struct phx_field *fields;
} KINDS[] = {
    {"kill", PHX_FAULT_KILL, PHX_UNIT_PROCESS, KILL},
    {"hang", PHX_FAULT_HANG, PHX_UNIT_PROCESS, KILL},
    {"pause", PHX_FAULT_PAUSE, PHX_UNIT_PROCESS, PAUSE},
    {"slow", PHX_FAULT_SLOW, PHX_UNIT_PROCESS, SLOW},
    {"link_down", PHX_FAULT_LINK_DOWN, 0, LINK},
    {"link_flap", PHX_FAULT_LINK_FLAP, 0, LINK_FLAP},
    {"link_one_way", PHX_FAULT_LINK_ONE_WAY, 0, LINK},
    {"link_degraded", PHX_FAULT_LINK_DEGRADED, 0, LINK_DEGRADED},
    {"link_lossy", PHX_FAULT_LINK_LOSSY, 0, LINK_LOSSY},
    {"partition", PHX_FAULT_PARTITION, 0, PARTITION},
    {"delay", PHX_FAULT_DELAY, 0, DELAY},
    {"duplicate", PHX_FAULT_DUPLICATE, 0, DUPLICATE},
    {"clock_offset", PHX_FAULT_CLOCK_OFFSET, PHX_UNIT_PROCESS, CLOCK_OFFSET},
    {"bit_flip", PHX_FAULT_BIT_FLIP, PHX_UNIT_PROCESS, BIT_FLIP},
};
#define KIND_COUNT (sizeof KINDS / sizeof KINDS[0])

static int read_offset(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    const char *must = "a number of microseconds, -1000000000 to 1000000000";
    struct phx_yaml positive = *node;
    bool is_negative = node->kind == PHX_YAML_SCALAR && node->text[0] == '-';
    if (is_negative)
        positive.text++;
    struct phx_diagnosis unused;
    struct phx_reader quiet = {.diagnosis = &unused, .context = r->context};
    uint64_t ns;
    if (phx_node_decimal(&quiet, &positive, "offset_us", 3, 0, OFFSET_US_MAX * 1000, &ns) != 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place, "'offset_us' must be %s",
                            must);
    *(int64_t *)target = is_negative ? -(int64_t)ns : (int64_t)ns;
    return 0;
}

static void write_offset(struct phx_writer *w, const void *target)
{
    int64_t ns = *(const int64_t *)target;
    if (ns < 0)
        (void)fputc('-', w->out);
    phx_decimal_write(w->out, (uint64_t)(ns < 0 ? -ns : ns), 3);
}

static void write_members(struct phx_writer *w, const void *target)
{
    const struct phx_fault *fault = target;
    (void)fputc('[', w->out);
    for (uint32_t i = 0; i < fault->member_count; i++)
        (void)fprintf(w->out, "%s%u", i == 0 ? "" : ", ", fault->members[i]);
    (void)fputc(']', w->out);
}

static int read_members(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    const struct phx_scenario_context *context = r->context;
    struct phx_scenario *s = context->scenario;
    struct phx_fault *fault = target;
    struct phx_rank_set seen = {{0}};
    int rc = phx_node_is(r, node, PHX_YAML_LIST, "ranks");
    if (rc != 0)
        return rc;
    uint32_t *members = &s->members[s->member_count];
    for (const struct phx_yaml *item = node->child; item != NULL; item = item->next) {
        uint32_t rank;
        rc = phx_scenario_read_rank(r, item, &rank);
        if (rc != 0)
            return rc;
        if (phx_rank_set_has(&seen, rank))
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, item->place,
                                "rank %u is in 'ranks' twice", rank);
        if (s->member_count == PHX_SCENARIO_MEMBERS_MAX)
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, item->place,
                                "the partitions of one file name more than %u ranks",
                                PHX_SCENARIO_MEMBERS_MAX);
        seen.words[rank / 64] |= UINT64_C(1) << (rank % 64);
        s->members[s->member_count++] = rank;
        fault->member_count++;
    }
    if (fault->member_count == 0 || fault->member_count == context->ranks)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'ranks' names %u of %u ranks; one side of a partition is 1 to %u",
                            fault->member_count, context->ranks, context->ranks - 1);
    fault->members = members;
    fault->rank = members[0]; // whose progress triggers, unless `when` names another
    return 0;
}

// --- when ---------------------------------------------------------------------------------------

enum phase_choice { PHASE_SEND = 1, PHASE_RECEIVE, PHASE_DONE };

struct when { // as written
    uint32_t operation;
    uint32_t number;
    uint32_t after_puts;
    uint32_t phase;
    uint32_t rank;
    uint64_t event;
};
static const struct when WHEN_STANDARD = {.rank = PHX_FAULT_ANY};

static const uint32_t PHASE_OF[3][4] = {
    [PHX_DISPATCH] = {0, PHX_PHASE_DISPATCH_SEND, PHX_PHASE_DISPATCH_RECEIVE,
                      PHX_PHASE_DISPATCH_DONE},
    [PHX_COMBINE] = {0, PHX_PHASE_COMBINE_SEND, PHX_PHASE_COMBINE_RECEIVE, PHX_PHASE_COMBINE_DONE},
};

static const struct phx_choice OPERATIONS[] = {
    {"dispatch", PHX_DISPATCH}, {"combine", PHX_COMBINE}, {NULL, 0}};
static const struct phx_choice PHASES[] = {
    {"send", PHASE_SEND}, {"receive", PHASE_RECEIVE}, {"done", PHASE_DONE}, {NULL, 0}};

#define PUTS_MAX (1u << 24)
#define EVENT_MAX (UINT64_C(1) << 48)

static const struct phx_field WHEN_FIELDS[] = {
    {.name = "operation",
     .type = PHX_FIELD_CHOICE,
     .offset = offsetof(struct when, operation),
     .choices = OPERATIONS},
    {.name = "number",
     .type = PHX_FIELD_U32,
     .offset = offsetof(struct when, number),
     .min = 1,
     .max = UINT32_MAX},
    {.name = "after_puts",
     .type = PHX_FIELD_U32,
     .offset = offsetof(struct when, after_puts),
     .max = PUTS_MAX},
    {.name = "phase",
     .type = PHX_FIELD_CHOICE,
     .offset = offsetof(struct when, phase),
     .choices = PHASES},
    {.name = "rank",
     .type = PHX_FIELD_CUSTOM,
     .offset = offsetof(struct when, rank),
     .read = phx_scenario_read_rank,
     .write = phx_scenario_write_rank},
    {.name = "event",
     .type = PHX_FIELD_DECIMAL,
     .offset = offsetof(struct when, event),
     .min = 1,
     .max = EVENT_MAX},
    {.name = NULL},
};

// Operations of one kind that the longest entry of the workload runs.
static uint64_t operations_max(const struct phx_workload *w)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < w->load_count; i++) {
        uint64_t pairs = (uint64_t)w->loads[i].steps * w->loads[i].layers;
        if (pairs > most)
            most = pairs;
    }
    return most;
}

// `event` stands alone; `operation` takes `after_puts` or `phase`.
static int check_when(struct phx_reader *r, const struct phx_yaml *node)
{
    const struct phx_yaml *event = phx_yaml_get(node, "event");
    const struct phx_yaml *phase = phx_yaml_get(node, "phase");
    if (event != NULL && phx_yaml_count(node) > 1)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, event->key_place,
                            "'event' is a moment of its own; 'when' takes no other key beside it");
    if (event == NULL && phx_yaml_get(node, "operation") == NULL)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'when' lacks the key 'operation'");
    if (phase != NULL && phx_yaml_get(node, "after_puts") != NULL)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, phase->key_place,
                            "'when' has both 'after_puts' and 'phase'; it takes one of them");
    return 0;
}

static int read_when(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    const struct phx_scenario_context *context = r->context;
    struct phx_fault_when *when = target;
    struct when w = WHEN_STANDARD;
    int rc = phx_fields_read(r, node, "when", WHEN_FIELDS, &w, NULL);
    if (rc == 0)
        rc = check_when(r, node);
    if (rc != 0)
        return rc;
    uint64_t operations = operations_max(&context->scenario->workload);
    if (w.number > operations)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, phx_yaml_get(node, "number")->place,
                            "'number' is %u, but the workload has %llu of each operation", w.number,
                            (unsigned long long)operations);
    *when = (struct phx_fault_when){
        .rank = w.rank,
        .kind = w.operation,
        .phase = w.operation != 0 ? PHASE_OF[w.operation][w.phase] : 0,
        .number = w.number,
        .after_puts = w.after_puts,
        .event = w.event,
    };
    return 0;
}

static void write_when(struct phx_writer *w, const struct phx_fault_when *when)
{
    struct when written = {
        .operation = when->kind,
        .number = (uint32_t)when->number,
        .after_puts = when->after_puts,
        .rank = when->rank,
        .event = when->event,
    };
    for (uint32_t kind = PHX_DISPATCH; when->phase != 0 && kind <= PHX_COMBINE; kind++) {
        for (uint32_t phase = PHASE_SEND; phase <= PHASE_DONE; phase++) {
            if (PHASE_OF[kind][phase] == when->phase) {
                written.operation = kind;
                written.phase = phase;
            }
        }
    }
    if (when->kind == 0 && when->phase == 0 && when->event == 0) {
        (void)fputs("at_us: ", w->out);
        phx_decimal_write(w->out, when->at_ps, US_DIGITS);
        return;
    }
    (void)fputs("when: {", w->out);
    (void)phx_fields_write(w, WHEN_FIELDS, &written, &WHEN_STANDARD, ", ");
    (void)fputs("}", w->out);
}

// --- one fault ----------------------------------------------------------------------------------

struct entry {
    struct phx_fault fault;
    uint32_t kinds; // keys of KINDS that were read
    uint32_t chance_ppm;
};

static int read_kind(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct entry *entry = target;
    const struct kind *kind = KINDS;
    while (strcmp(kind->name, node->key) != 0) // there: the table of keys was made of KINDS
        kind++;
    if (entry->kinds++ > 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->key_place,
                            "two faults in one entry; '%s' needs a '-' of its own", kind->name);
    entry->fault.kind = kind->kind;
    entry->fault.unit = kind->unit;
    entry->fault.peer = PHX_FAULT_ANY;
    int rc = phx_fields_read(r, node, kind->name, kind->fields, &entry->fault, NULL);
    const struct phx_yaml *peer = rc == 0 ? phx_yaml_get(node, "peer") : NULL;
    if (peer == NULL)
        return rc;
    if (phx_yaml_get(node, "unit") != NULL)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, peer->key_place,
                            "'%s' has both 'peer', for one link, and 'unit', for all of a port's; "
                            "it takes one of them",
                            kind->name);
    if (entry->fault.peer == entry->fault.rank)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, peer->place,
                            "'peer' is rank %u, and so is 'rank'; a link has two ends",
                            entry->fault.peer);
    return 0;
}

static int read_restart(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    (void)target;
    return phx_diagnose(r->diagnosis, PHX_ERR_UNSUPPORTED, node->key_place,
                        "'restart' needs membership, which is not built yet: a rank that came back "
                        "could not join the group again");
}

#define FAULT_FIELDS (KIND_COUNT + 5)

static void fields_fill(struct phx_field fields[FAULT_FIELDS])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < KIND_COUNT; i++)
        fields[count++] =
            (struct phx_field){.name = KINDS[i].name, .type = PHX_FIELD_CUSTOM, .read = read_kind};
    fields[count++] =
        (struct phx_field){.name = "restart", .type = PHX_FIELD_CUSTOM, .read = read_restart};
    fields[count++] = (struct phx_field){.name = "at_us",
                                         .type = PHX_FIELD_DECIMAL,
                                         .digits = US_DIGITS,
                                         .offset = offsetof(struct entry, fault.when.at_ps),
                                         .max = US_MAX * PS_PER_US};
    fields[count++] = (struct phx_field){.name = "when",
                                         .type = PHX_FIELD_CUSTOM,
                                         .offset = offsetof(struct entry, fault.when),
                                         .read = read_when};
    fields[count++] = (struct phx_field){.name = "chance_ppm",
                                         .type = PHX_FIELD_U32,
                                         .offset = offsetof(struct entry, chance_ppm),
                                         .min = 1,
                                         .max = PPM_MAX};
    fields[count] = (struct phx_field){.name = NULL};
}

static int read_fault(struct phx_reader *r, const struct phx_yaml *node, struct phx_fault *fault)
{
    struct phx_field fields[FAULT_FIELDS];
    struct entry entry = {.kinds = 0};
    fields_fill(fields);
    int rc = phx_fields_read(r, node, "fault", fields, &entry, NULL);
    if (rc != 0)
        return rc;
    if (entry.kinds == 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "a fault without a kind, such as 'kill: {rank: 3}'");
    const struct phx_yaml *at = phx_yaml_get(node, "at_us");
    const struct phx_yaml *when = phx_yaml_get(node, "when");
    if (at == NULL && when == NULL)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "a fault needs a time: 'at_us: 100', or 'when: {operation: dispatch, "
                            "number: 1}'");
    if (at != NULL && when != NULL)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, at->key_place,
                            "a fault has both 'at_us' and 'when'; it takes one of them");
    if (when != NULL && entry.fault.when.event == 0 && entry.fault.when.number == 0 &&
        entry.chance_ppm == 0)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, when->place,
                            "'when' lacks the key 'number'; without it a fault may strike in each "
                            "operation, and needs a 'chance_ppm' for it");
    entry.fault.when.chance_ppm = entry.chance_ppm;
    *fault = entry.fault;
    return 0;
}

static void write_fault(struct phx_writer *w, const struct phx_fault *fault)
{
    const struct kind *kind = KINDS;
    while (kind->kind != fault->kind && kind < KINDS + KIND_COUNT - 1)
        kind++;
    struct phx_fault standard = {.unit = kind->unit, .peer = PHX_FAULT_ANY};
    (void)fprintf(w->out, "  - {%s: {", kind->name);
    (void)phx_fields_write(w, kind->fields, fault, &standard, ", ");
    (void)fputs("}, ", w->out);
    write_when(w, &fault->when);
    if (fault->when.chance_ppm != 0)
        (void)fprintf(w->out, ", chance_ppm: %u", fault->when.chance_ppm);
    (void)fputs("}\n", w->out);
}

void phx_scenario_write_faults(struct phx_writer *w, const struct phx_workload *workload)
{
    for (uint32_t i = 0; i < workload->fault_count; i++)
        write_fault(w, &workload->faults[i]);
}

const struct phx_field *phx_scenario_fault_table(uint32_t index, const char **what)
{
    static struct phx_field fields[FAULT_FIELDS];
    if (index < KIND_COUNT) {
        *what = KINDS[index].name;
        return KINDS[index].fields;
    }
    if (index > KIND_COUNT + 1)
        return NULL;
    *what = index == KIND_COUNT ? "fault" : "when";
    if (index > KIND_COUNT)
        return WHEN_FIELDS;
    fields_fill(fields);
    return fields;
}

int phx_scenario_read_faults(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_scenario *s = target;
    int rc = phx_node_is(r, node, PHX_YAML_LIST, "faults");
    if (rc != 0)
        return rc;
    for (const struct phx_yaml *item = node->child; item != NULL; item = item->next) {
        if (s->workload.fault_count == PHX_SCENARIO_FAULTS_MAX)
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, item->place,
                                "more than %u faults in one file", PHX_SCENARIO_FAULTS_MAX);
        rc = read_fault(r, item, &s->faults[s->workload.fault_count]);
        if (rc != 0)
            return rc;
        s->workload.fault_count++;
    }
    return 0;
}
