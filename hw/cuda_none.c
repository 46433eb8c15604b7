// hw/cuda_none.c: hw/cuda.h in a build without CUDA: refused by name.

#include <stddef.h>

#include "engine/assert.h"
#include "hw/cuda.h"

static int refuse(struct phx_message *message)
{
    return phx_fail(message, PHX_ERR_UNSUPPORTED,
                    "this build has no CUDA: build it with the cuda preset");
}

int phx_cuda_create(const struct phx_cuda_options *options, struct phx_cuda **cuda,
                    struct phx_message *message)
{
    (void)options;
    (void)cuda;
    return refuse(message);
}

void phx_cuda_destroy(struct phx_cuda *cuda)
{
    phx_assert(cuda == NULL);
}

struct phx_target phx_cuda_target(struct phx_cuda *cuda)
{
    phx_assert(cuda != NULL); // nobody has one
    return (struct phx_target){NULL, NULL};
}

struct phx_shm *phx_cuda_shm(struct phx_cuda *cuda)
{
    phx_assert(cuda != NULL);
    return NULL;
}

void phx_cuda_die_after(struct phx_cuda *cuda, uint64_t puts, void (*died)(void *context),
                        void *context)
{
    (void)puts;
    (void)died;
    (void)context;
    phx_assert(cuda != NULL);
}

uint64_t phx_cuda_puts(const struct phx_cuda *cuda)
{
    (void)cuda;
    return 0;
}

void *phx_cuda_host_alloc(uint64_t size_bytes)
{
    (void)size_bytes;
    return NULL;
}

void phx_cuda_host_free(void *memory)
{
    phx_assert(memory == NULL);
}

int phx_cuda_probe(struct phx_gpu_table *table, struct phx_message *message)
{
    (void)table;
    return refuse(message);
}
