// kernels/kernels.c: the kernel bodies, compiled for C targets.

#include "kernels/kernels.h"

#include "kernels/operation.h"

void phx_kernel_run(void *argument, uint32_t worker)
{
    const struct phx_launch *launch = (const struct phx_launch *)argument;
    phx_launch_run(launch, worker, launch->kind, launch->halves);
}
