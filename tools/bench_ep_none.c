// tools/bench_ep_none.c: bench_ep_gpu.c in a build without CUDA, where no rank is on a GPU.

#include "tools/bench_ep_internal.h"

void phx_bench_gpu_options(struct phx_bench_rank *r, struct phx_group_options *options)
{
    (void)options;
    (void)r;
}

int phx_bench_gpu_run(struct phx_bench_rank *r)
{
    return phx_fail(&r->message, PHX_ERR_UNSUPPORTED, "this build has no CUDA");
}
