// kernels/kernels.c: the kernel bodies, compiled for C targets.

#include "kernels/kernels.h"

#include "kernels/operation.h"

void phx_kernel_run(void *argument, uint32_t worker)
{
    phx_launch_run(argument, worker);
}
