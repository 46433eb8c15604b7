// tools/run_replay.c: a recorded run again, in the simulator, with the masks that it had.

#include <stdio.h>

#include "tools/command.h"
#include "tools/report.h"
#include "tools/run_history.h"
#include "tools/run_replay.h"

#if PHX_HAVE_BOOST_CONTEXT
#define FIBERS_DEFAULT PHX_FIBERS
#else
#define FIBERS_DEFAULT PHX_PTHREADS
#endif

static int refuse(const char *path, int rc, const struct phx_message *message)
{
    (void)fprintf(stderr, "phx replay: %s: %s\n", path, message->text);
    return rc == PHX_ERR_NO_MEMORY ? PHX_EXIT_INTERNAL : PHX_EXIT_USAGE;
}

int phx_replay_history(const char *path, bool is_json)
{
    struct phx_scenario *scenario = NULL;
    struct phx_history history;
    struct phx_message message = {""};
    struct phx_summary summary;
    int rc = phx_history_read(path, &scenario, &history, &message);
    if (rc != 0)
        return refuse(path, rc, &message);
    const struct phx_workload_options options = {
        .seed = scenario->run.seed,
        .schedule.tie = PHX_TIE_FIFO,
        .fibers = FIBERS_DEFAULT,
        .history = &history,
    };
    // What struck is in the masks now; what was expected was held to the run itself.
    struct phx_workload *w = &scenario->workload;
    w->fault_count = 0;
    w->freeze_ps = 0;
    w->expect = (struct phx_expectation){.survivors_finish_within_ps = PHX_EXPECT_NONE,
                                         .lost_tokens_max = PHX_EXPECT_NONE};
    rc = phx_workload_run(w, &options, &summary, &message);
    int status = PHX_EXIT_INTERNAL;
    if (rc != 0) {
        status = refuse(path, rc, &message);
    } else {
        status = summary.is_passed ? PHX_EXIT_PASSED : PHX_EXIT_FAILED;
        if (!is_json)
            phx_report_text(stdout, scenario, &summary, phx_wall_ms());
        else if (phx_report_json(stdout, &summary, phx_wall_ms()) != 0)
            status = PHX_EXIT_INTERNAL;
        phx_summary_free(&summary);
    }
    phx_scenario_free(scenario);
    phx_history_free(&history);
    return status;
}
