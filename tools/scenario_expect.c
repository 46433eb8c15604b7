// tools/scenario_expect.c: the key `expect`: what must be so when the run has ended.

#include <string.h>

#include "tools/scenario_parts.h"

#define PS_PER_US_DIGITS 6u
#define EXPECT_US_MAX (UINT64_C(1000000) * 3600)

static int read_ranks(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                      struct phx_rank_set *set)
{
    for (const struct phx_yaml *item = node->child; item != NULL; item = item->next) {
        uint32_t rank;
        int rc = phx_scenario_read_rank(r, item, &rank);
        if (rc != 0)
            return rc;
        if (phx_rank_set_has(set, rank))
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, item->place,
                                "rank %u is in '%s' twice", rank, what);
        set->words[rank / 64] |= UINT64_C(1) << (rank % 64);
    }
    return 0;
}

static void write_ranks(struct phx_writer *w, const struct phx_rank_set *set)
{
    const char *between = "[";
    for (uint32_t r = 0; r < PHX_RANKS_MAX; r++) {
        if (phx_rank_set_has(set, r)) {
            (void)fprintf(w->out, "%s%u", between, r);
            between = ", ";
        }
    }
    (void)fputs(*between == '[' ? "[]" : "]", w->out);
}

static const struct phx_choice ALIVES[] = {
    {"all", PHX_ALIVE_ALL}, {"all_but_faulted", PHX_ALIVE_ALL_BUT_FAULTED}, {NULL, 0}};

static int read_alive(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_expectation *expect = target;
    if (node->kind != PHX_YAML_LIST) {
        const struct phx_choice *chosen;
        int rc = phx_node_choice(r, node, "alive", ALIVES, &chosen);
        if (rc == 0)
            expect->alive = chosen->value;
        return rc;
    }
    expect->alive = PHX_ALIVE_LIST;
    return read_ranks(r, node, "alive", &expect->alive_list);
}

static void write_alive(struct phx_writer *w, const void *target)
{
    const struct phx_expectation *expect = target;
    if (expect->alive == PHX_ALIVE_LIST)
        write_ranks(w, &expect->alive_list);
    else if (expect->alive != PHX_ALIVE_UNCHECKED)
        (void)fputs(ALIVES[expect->alive == PHX_ALIVE_ALL ? 0 : 1].name, w->out);
}

static int read_corrupt(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_expectation *expect = target;
    int rc = phx_node_is(r, node, PHX_YAML_LIST, "corrupt");
    expect->is_corrupt_checked = true;
    return rc != 0 ? rc : read_ranks(r, node, "corrupt", &expect->corrupt);
}

static void write_corrupt(struct phx_writer *w, const void *target)
{
    const struct phx_expectation *expect = target;
    if (expect->is_corrupt_checked)
        write_ranks(w, &expect->corrupt);
}

static int read_every(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    static const struct phx_choice choices[] = {{"true", 1}, {"false", 0}, {NULL, 0}};
    const struct phx_choice *chosen;
    int rc = phx_node_choice(r, node, "every_fault_strikes", choices, &chosen);
    if (rc == 0)
        *(bool *)target = chosen->value == 0;
    return rc;
}

static void write_every(struct phx_writer *w, const void *target)
{
    (void)fputs(*(const bool *)target ? "false" : "true", w->out);
}

#define IN_WORKLOAD(member) offsetof(struct phx_workload, member)
#define IN_EXPECT(member) offsetof(struct phx_workload, expect.member)

static const struct phx_field EXPECT_FIELDS[] = {
    // of the workload
    {.name = "survivors_finish_within_us",
     .type = PHX_FIELD_DECIMAL,
     .digits = PS_PER_US_DIGITS, // us to ps
     .offset = IN_EXPECT(survivors_finish_within_ps),
     .min = 0,
     .max = EXPECT_US_MAX * 1000000},
    {.name = "alive",
     .type = PHX_FIELD_CUSTOM,
     .offset = IN_WORKLOAD(expect),
     .read = read_alive,
     .write = write_alive},
    {.name = "lost_tokens_at_most",
     .type = PHX_FIELD_DECIMAL,
     .offset = IN_EXPECT(lost_tokens_max),
     .min = 0,
     .max = UINT64_C(1) << 48},
    {.name = "frozen_after_us",
     .type = PHX_FIELD_DECIMAL,
     .digits = PS_PER_US_DIGITS,
     .offset = IN_WORKLOAD(freeze_ps),
     .min = 1,
     .max = EXPECT_US_MAX * 1000000},
    {.name = "progress_within_us",
     .type = PHX_FIELD_DECIMAL,
     .digits = PS_PER_US_DIGITS,
     .offset = IN_EXPECT(progress_within_ps),
     .min = 1,
     .max = EXPECT_US_MAX * 1000000},
    {.name = "healthy_stay", .type = PHX_FIELD_BOOL, .offset = IN_EXPECT(is_healthy_stay)},
    {.name = "corrupt",
     .type = PHX_FIELD_CUSTOM,
     .offset = IN_WORKLOAD(expect),
     .read = read_corrupt,
     .write = write_corrupt},
    {.name = "every_fault_strikes",
     .type = PHX_FIELD_CUSTOM,
     .offset = IN_EXPECT(may_miss),
     .read = read_every,
     .write = write_every},
    {.name = NULL},
};

// The first fault of the list whose time is not before the freeze; there is none: the count.
static uint32_t first_frozen(const struct phx_workload *w)
{
    uint32_t i = 0;
    while (i < w->fault_count &&
           (w->faults[i].when.kind != 0 || w->faults[i].when.phase != 0 ||
            w->faults[i].when.event != 0 || w->faults[i].when.at_ps < w->freeze_ps))
        i++;
    return i;
}

int phx_scenario_read_expect(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    struct phx_scenario *s = target;
    int rc = phx_fields_read(r, node, "expect", EXPECT_FIELDS, &s->workload, NULL);
    if (rc != 0)
        return rc;
    const struct phx_yaml *freeze = phx_yaml_get(node, "frozen_after_us");
    const struct phx_yaml *progress = phx_yaml_get(node, "progress_within_us");
    if (progress != NULL && freeze == NULL)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, progress->key_place,
                            "'progress_within_us' counts from 'frozen_after_us', which is missing");
    uint32_t late = freeze != NULL ? first_frozen(&s->workload) : s->workload.fault_count;
    if (late < s->workload.fault_count)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, freeze->place,
                            "'frozen_after_us' is %s, but fault %u of the list strikes no earlier",
                            freeze->text, late + 1);
    return 0;
}

const struct phx_field *phx_scenario_expect_table(void)
{
    return EXPECT_FIELDS;
}

uint32_t phx_scenario_write_expect(struct phx_writer *w, const struct phx_workload *workload,
                                   const struct phx_workload *standard)
{
    return phx_fields_write(w, EXPECT_FIELDS, workload, standard, "\n  ");
}
