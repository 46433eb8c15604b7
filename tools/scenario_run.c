// tools/scenario_run.c: the key `run`: how a run went that is to be repeated.

#include <inttypes.h>
#include <string.h>

#include "tools/scenario_parts.h"

static const struct phx_choice TIES[] = {
    {"fifo", PHX_TIE_FIFO}, {"random", PHX_TIE_RANDOM}, {"pct", PHX_TIE_PCT}, {NULL, 0}};

static int read_hash(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    static const char digits[] = "0123456789abcdef";
    const char *text = node->kind == PHX_YAML_SCALAR ? node->text : "";
    uint64_t value = 0;
    size_t size = strlen(text);
    for (size_t i = 0; i < size && size == 16; i++) {
        const char *digit = strchr(digits, text[i]);
        if (digit == NULL)
            size = 0;
        else
            value = value << 4 | (uint64_t)(digit - digits);
    }
    if (size != 16)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'trace_hash' must be 16 hexadecimal digits, in small letters");
    *(uint64_t *)target = value;
    return 0;
}

static void write_hash(struct phx_writer *w, const void *target)
{
    (void)fprintf(w->out, "%016" PRIx64, *(const uint64_t *)target);
}

#define AT(member) .offset = offsetof(struct phx_scenario_run, member)

static const struct phx_field RUN_FIELDS[] = {
    {.name = "seed", .type = PHX_FIELD_DECIMAL, .is_required = true, AT(seed), .max = UINT64_MAX},
    {.name = "tie", .type = PHX_FIELD_CHOICE, AT(schedule.tie), .choices = TIES},
    {.name = "pct_depth",
     .type = PHX_FIELD_U32,
     AT(schedule.pct_depth),
     .min = 1,
     .max = PHX_PCT_DEPTH_MAX},
    {.name = "pct_events",
     .type = PHX_FIELD_DECIMAL,
     AT(schedule.pct_events),
     .min = 1,
     .max = UINT64_MAX},
    {.name = "quantum_ps",
     .type = PHX_FIELD_DECIMAL,
     AT(schedule.quantum_ps),
     .max = PHX_QUANTUM_PS_MAX},
    {.name = "bug", .type = PHX_FIELD_TEXT, AT(bug), .max = 31},
    {.name = "rule", .type = PHX_FIELD_TEXT, AT(rule), .max = 47},
    {.name = "trace_hash",
     .type = PHX_FIELD_CUSTOM,
     AT(trace_hash),
     .read = read_hash,
     .write = write_hash},
    {.name = NULL},
};
static_assert(sizeof((struct phx_scenario_run *)0)->bug == 32, "the bound above");
static_assert(sizeof((struct phx_scenario_run *)0)->rule == 48, "the bound above");

int phx_scenario_read_run(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_scenario_run *run = &((struct phx_scenario *)target)->run;
    run->is_given = true;
    return phx_fields_read(r, node, "run", RUN_FIELDS, run, NULL);
}

void phx_scenario_write_run(struct phx_writer *w, const struct phx_scenario_run *run)
{
    static const struct phx_scenario_run standard = {.is_given = true};
    (void)phx_fields_write(w, RUN_FIELDS, run, &standard, "\n  ");
}

const struct phx_field *phx_scenario_run_table(void)
{
    return RUN_FIELDS;
}
