// hw/cuda_probe.c: the GPUs of this machine, and who reaches whom.

#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hw/cuda_internal.h"

static cudaError_t gpu_look(struct phx_gpu_table *table, uint32_t i)
{
    struct cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, (int)i);
    if (error != cudaSuccess)
        return error;
    memcpy(table->gpus[i].uuid, p.uuid.bytes, sizeof table->gpus[i].uuid);
    memcpy(table->gpus[i].name, p.name, sizeof table->gpus[i].name - 1);
    for (uint32_t to = 0; error == cudaSuccess && to < table->count; to++) {
        int may = to == i;
        if (to != i)
            error = cudaDeviceCanAccessPeer(&may, (int)i, (int)to);
        table->reaches[i][to] = may != 0;
    }
    return error;
}

int phx_cuda_gpus(struct phx_gpu_table *table, struct phx_message *message)
{
    int count = 0;
    memset(table, 0, sizeof *table);
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess)
        return phx_cuda_fail(message, error, "looking for GPUs");
    table->count = (uint32_t)count < PHX_GPUS_MAX ? (uint32_t)count : PHX_GPUS_MAX;
    for (uint32_t i = 0; error == cudaSuccess && i < table->count; i++)
        error = gpu_look(table, i);
    return error == cudaSuccess ? 0 : phx_cuda_fail(message, error, "looking at the GPUs");
}

struct answer {
    int rc;
    struct phx_message message;
    struct phx_gpu_table table;
};

int phx_cuda_probe(struct phx_gpu_table *table, struct phx_message *message)
{
    struct answer *a = mmap(NULL, sizeof *a, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                            0);
    if (a == MAP_FAILED)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory to look for GPUs");
    a->rc = PHX_ERR_DEVICE_LOST;
    (void)phx_fail(&a->message, 0, "the process that looked for GPUs did not answer");
    pid_t child = fork();
    if (child == 0) {
        a->rc = phx_cuda_gpus(&a->table, &a->message);
        _exit(0);
    }
    int status;
    if (child > 0)
        (void)waitpid(child, &status, 0);
    int rc = a->rc;
    if (rc == 0)
        *table = a->table;
    else
        (void)phx_fail(message, rc, "%s", a->message.text);
    (void)munmap(a, sizeof *a);
    return rc;
}
