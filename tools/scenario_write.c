// tools/scenario_write.c: a scenario as canonical YAML, by the tables that read it.

#include <errno.h>

#include "tools/scenario_parts.h"

int phx_scenario_write(FILE *out, const struct phx_scenario *s)
{
    struct phx_writer w = {.out = out, .context = s};
    struct phx_scenario *standard = phx_scenario_standard();
    if (standard == NULL)
        return PHX_ERR_NO_MEMORY;
    phx_scenario_write_top(&w, s, standard);
    (void)fputs("workload:\n", out);
    phx_scenario_write_workload(&w, &s->workload);
    if (s->workload.fault_count > 0)
        (void)fputs("faults:\n", out);
    phx_scenario_write_faults(&w, &s->workload);
    (void)fputs("expect:\n  ", out);
    if (phx_scenario_write_expect(&w, &s->workload, &standard->workload) == 0)
        (void)fputs("{}", out);
    (void)fputs("\n", out);
    if (s->run.is_given) {
        (void)fputs("run:\n  ", out);
        phx_scenario_write_run(&w, &s->run);
        (void)fputs("\n", out);
    }
    phx_scenario_free(standard);
    if (w.failed)
        return PHX_ERR_NO_MEMORY;
    return ferror(out) ? PHX_ERR_IO : 0;
}
