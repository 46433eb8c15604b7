// tools/scenario_expect.c: the key `expect`: what must be so when the run has ended.

#include <string.h>

#include "tools/scenario_parts.h"

#define PS_PER_US_DIGITS 6u
#define EXPECT_US_MAX (UINT64_C(1000000) * 3600)

static int read_alive(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    static const struct phx_choice choices[] = {
        {"all", PHX_ALIVE_ALL}, {"all_but_faulted", PHX_ALIVE_ALL_BUT_FAULTED}, {NULL, 0}};
    struct phx_expectation *expect = target;
    if (node->kind != PHX_YAML_LIST) {
        const struct phx_choice *chosen;
        int rc = phx_node_choice(r, node, "alive", choices, &chosen);
        if (rc == 0)
            expect->alive = chosen->value;
        return rc;
    }
    expect->alive = PHX_ALIVE_LIST;
    for (const struct phx_yaml *item = node->child; item != NULL; item = item->next) {
        uint32_t rank;
        int rc = phx_scenario_read_rank(r, item, &rank);
        if (rc != 0)
            return rc;
        if (phx_rank_set_has(&expect->alive_list, rank))
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, item->place,
                                "rank %u is in 'alive' twice", rank);
        expect->alive_list.words[rank / 64] |= UINT64_C(1) << (rank % 64);
    }
    return 0;
}

int phx_scenario_read_expect(struct phx_reader *r, const struct phx_yaml *node, void *target)
{
    static const struct phx_field fields[] = {
        {.name = "survivors_finish_within_us",
         .type = PHX_FIELD_DECIMAL,
         .digits = PS_PER_US_DIGITS, // us to ps
         .offset = offsetof(struct phx_expectation, survivors_finish_within_ps),
         .min = 0,
         .max = EXPECT_US_MAX * 1000000},
        {.name = "alive", .type = PHX_FIELD_CUSTOM, .read = read_alive},
        {.name = "lost_tokens_at_most",
         .type = PHX_FIELD_DECIMAL,
         .offset = offsetof(struct phx_expectation, lost_tokens_max),
         .min = 0,
         .max = UINT64_C(1) << 48},
        {.name = NULL},
    };
    struct phx_scenario *s = target;
    return phx_fields_read(r, node, "expect", fields, &s->workload.expect, NULL);
}
