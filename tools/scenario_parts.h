// tools/scenario_parts.h: how the scenario reader is split: one file per top-level key.

#ifndef PHX_TOOLS_SCENARIO_PARTS_H
#define PHX_TOOLS_SCENARIO_PARTS_H

#include "tools/fields.h"
#include "tools/scenario.h"

struct phx_scenario_context { // phx_reader.context while a scenario is read
    struct phx_scenario *scenario;
    const struct phx_scenario_options *options;
    uint32_t ranks; // known once `cluster` is read, which is before everything that names a rank
};

// Field readers of the top-level keys; `target` is the scenario.
int phx_scenario_read_workload(struct phx_reader *r, const struct phx_yaml *node, void *target);
int phx_scenario_read_faults(struct phx_reader *r, const struct phx_yaml *node, void *target);
int phx_scenario_read_expect(struct phx_reader *r, const struct phx_yaml *node, void *target);

// A rank: a number, `first` or `last`. target: uint32_t.
int phx_scenario_read_rank(struct phx_reader *r, const struct phx_yaml *node, void *target);

#endif
