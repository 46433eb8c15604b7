// tools/scenario.h: a scenario file: the cluster, the workload, the faults, what to expect.
//
// docs/scenarios.md describes the keys for people who write them. The reader takes any bytes: the
// result is a scenario whose every value is within its bounds, or a place and a sentence.

#ifndef PHX_TOOLS_SCENARIO_H
#define PHX_TOOLS_SCENARIO_H

#include <stdio.h>

#include "sim/workload.h"
#include "tools/yaml_tree.h"

#define PHX_SCENARIO_NAME_MAX 160u
#define PHX_SCENARIO_LOADS_MAX 16u
#define PHX_SCENARIO_FAULTS_MAX 256u
#define PHX_SCENARIO_MEMBERS_MAX 8192u // ranks named by all partitions together

#define PHX_SCENARIO_PATH_MAX 1023u

// How a run went that is to be repeated: what turns a scenario into a failure file. Options of the
// command line go before it.
struct phx_scenario_run {
    bool is_given;
    uint64_t seed;
    struct phx_schedule schedule;
    char bug[32];        // planted in the program (engine/bug.h); "": none
    char rule[48];       // of the violation that it showed; "": none
    uint64_t trace_hash; // 0: unknown
};

struct phx_scenario {
    char name[PHX_SCENARIO_NAME_MAX + 1];
    struct phx_workload workload; // its lists are the ones below
    struct phx_moe_load loads[PHX_SCENARIO_LOADS_MAX];
    struct phx_fault faults[PHX_SCENARIO_FAULTS_MAX];
    uint32_t members[PHX_SCENARIO_MEMBERS_MAX];
    uint32_t member_count;
    int32_t *traces[PHX_SCENARIO_LOADS_MAX]; // of routing: {npy: ...}, owned; NULL: none
    char trace_paths[PHX_SCENARIO_LOADS_MAX][PHX_SCENARIO_PATH_MAX + 1];
    struct phx_scenario_run run;
};

struct phx_scenario_options {
    uint32_t ranks;        // 0: as the file says; else the cluster is scaled to so many
    const char *directory; // where relative paths in the text begin; NULL: the current one.
                           // phx_scenario_load() takes the file's
};

// 0: *scenario is the caller's, to be freed. PHX_ERR_INVALID, PHX_ERR_IO or PHX_ERR_NO_MEMORY: *d
// says why, and where.
int phx_scenario_parse(const char *text, size_t size_bytes,
                       const struct phx_scenario_options *options, struct phx_scenario **scenario,
                       struct phx_diagnosis *d);
int phx_scenario_load(const char *path, const struct phx_scenario_options *options,
                      struct phx_scenario **scenario, struct phx_diagnosis *d);
// Writes it as YAML that reads back as an equal scenario, in one form for equal scenarios. Paths
// are written as absolute ones where they exist. 0, or PHX_ERR_IO, PHX_ERR_NO_MEMORY.
int phx_scenario_write(FILE *out, const struct phx_scenario *scenario);
void phx_scenario_free(struct phx_scenario *scenario); // NULL is allowed

#endif
