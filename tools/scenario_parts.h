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

// What a file without any key would be. NULL: no memory.
struct phx_scenario *phx_scenario_standard(void);

// Field readers of the top-level keys; `target` is the scenario.
int phx_scenario_read_workload(struct phx_reader *r, const struct phx_yaml *node, void *target);
int phx_scenario_read_faults(struct phx_reader *r, const struct phx_yaml *node, void *target);
int phx_scenario_read_expect(struct phx_reader *r, const struct phx_yaml *node, void *target);

int phx_scenario_read_run(struct phx_reader *r, const struct phx_yaml *node, void *target);

// Writers of what stands below those keys. Expectations and the run: how many keys were written.
void phx_scenario_write_top(struct phx_writer *w, const struct phx_scenario *s,
                            const struct phx_scenario *standard);
void phx_scenario_write_workload(struct phx_writer *w, const struct phx_workload *workload);
void phx_scenario_write_faults(struct phx_writer *w, const struct phx_workload *workload);
uint32_t phx_scenario_write_expect(struct phx_writer *w, const struct phx_workload *workload,
                                   const struct phx_workload *standard);
void phx_scenario_write_run(struct phx_writer *w, const struct phx_scenario_run *run);

// The tables of keys, for those who compare them with the schema: NULL past the last one.
const struct phx_field *phx_scenario_top_table(uint32_t index, const char **what);
const struct phx_field *phx_scenario_workload_table(uint32_t index, const char **what);
const struct phx_field *phx_scenario_fault_table(uint32_t index, const char **what);
const struct phx_field *phx_scenario_expect_table(void);
const struct phx_field *phx_scenario_run_table(void);

// A rank: a number, `first` or `last`. target: uint32_t.
int phx_scenario_read_rank(struct phx_reader *r, const struct phx_yaml *node, void *target);
void phx_scenario_write_rank(struct phx_writer *w, const void *target);

#endif
