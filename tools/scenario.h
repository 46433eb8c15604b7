// tools/scenario.h: a scenario file: the cluster, the workload, the faults, what to expect.
//
// docs/scenarios.md describes the keys for people who write them. The reader takes any bytes: the
// result is a scenario whose every value is within its bounds, or a place and a sentence.

#ifndef PHX_TOOLS_SCENARIO_H
#define PHX_TOOLS_SCENARIO_H

#include "sim/workload.h"
#include "tools/yaml_tree.h"

#define PHX_SCENARIO_NAME_MAX 160u
#define PHX_SCENARIO_LOADS_MAX 16u
#define PHX_SCENARIO_FAULTS_MAX 256u
#define PHX_SCENARIO_MEMBERS_MAX 8192u // ranks named by all partitions together

struct phx_scenario {
    char name[PHX_SCENARIO_NAME_MAX + 1];
    struct phx_workload workload; // its lists are the ones below
    struct phx_moe_load loads[PHX_SCENARIO_LOADS_MAX];
    struct phx_fault faults[PHX_SCENARIO_FAULTS_MAX];
    uint32_t members[PHX_SCENARIO_MEMBERS_MAX];
    uint32_t member_count;
};

struct phx_scenario_options {
    uint32_t ranks; // 0: as the file says; else the cluster is scaled to so many
};

// 0: *scenario is the caller's, to be freed. PHX_ERR_INVALID, PHX_ERR_IO or PHX_ERR_NO_MEMORY: *d
// says why, and where.
int phx_scenario_parse(const char *text, size_t size_bytes,
                       const struct phx_scenario_options *options, struct phx_scenario **scenario,
                       struct phx_diagnosis *d);
int phx_scenario_load(const char *path, const struct phx_scenario_options *options,
                      struct phx_scenario **scenario, struct phx_diagnosis *d);
void phx_scenario_free(struct phx_scenario *scenario); // NULL is allowed

#endif
