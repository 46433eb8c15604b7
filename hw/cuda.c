// hw/cuda.c: a rank on a GPU from create to destroy.

#include <stdlib.h>
#include <string.h>

#include "engine/assert.h"
#include "hw/cuda_internal.h"

int phx_cuda_fail(struct phx_message *message, cudaError_t error, const char *call)
{
    int code = error == cudaErrorMemoryAllocation ? PHX_ERR_NO_MEMORY : PHX_ERR_DEVICE_LOST;
    if (error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice)
        code = PHX_ERR_UNSUPPORTED;
    return phx_fail(message, code, "%s: %s", call, cudaGetErrorString(error));
}

int phx_cuda_check(struct phx_cuda *cuda, cudaError_t error, const char *call)
{
    if (error != cudaSuccess && !cuda->is_lost) {
        cuda->is_lost = true;
        (void)phx_cuda_fail(&cuda->why, error, call);
    }
    return cuda->is_lost ? PHX_ERR_DEVICE_LOST : 0;
}

static int device_open(struct phx_cuda *cuda, struct phx_message *message)
{
    // A kernel that is loaded when it is first launched is late for its first operation.
    (void)setenv("CUDA_MODULE_LOADING", "EAGER", 0);
    int rc = phx_cuda_gpus(&cuda->gpus, message);
    if (rc != 0)
        return rc;
    uint32_t device = cuda->options.device;
    if (device >= cuda->gpus.count)
        return phx_fail(message, PHX_ERR_INVALID, "device = %u: this process sees %u GPUs", device,
                        cuda->gpus.count);
    int is_cooperative = 0;
    cudaError_t error = cudaSetDevice((int)device);
    if (error == cudaSuccess)
        error = cudaDeviceGetAttribute(&is_cooperative, cudaDevAttrCooperativeLaunch, (int)device);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&cuda->work, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaStreamCreateWithFlags(&cuda->side, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&cuda->done, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = cudaEventCreateWithFlags(&cuda->pushed, cudaEventDisableTiming);
    if (error != cudaSuccess)
        return phx_cuda_fail(message, error, "opening the GPU");
    if (!is_cooperative)
        return phx_fail(message, PHX_ERR_UNSUPPORTED, "GPU %u (%s) has no cooperative launch",
                        device, cuda->gpus.gpus[device].name);
    return 0;
}

int phx_cuda_create(const struct phx_cuda_options *options, struct phx_cuda **out,
                    struct phx_message *message)
{
    struct phx_cuda *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a rank on a GPU");
    cuda->base.ops = &phx_cuda_executor_ops;
    cuda->base.twins = &phx_cuda_twin_ops;
    cuda->options = *options;
    int rc = device_open(cuda, message);
    if (rc == 0)
        rc = phx_cuda_driver_load(&cuda->driver, message);
    if (rc == 0)
        rc = phx_cuda_memory_init(cuda, message);
    const struct phx_shm_options so = {.job = options->job,
                                       .rank = options->rank,
                                       .ranks = options->ranks,
                                       .incarnation = options->incarnation,
                                       .lanes = 1, // nobody posts: kernels store
                                       .notify = phx_cuda_notify,
                                       .notify_context = cuda,
                                       .memory = &cuda->memory};
    if (rc == 0)
        rc = phx_shm_create(&so, &cuda->shm, message);
    if (rc != 0) {
        phx_cuda_destroy(cuda);
        return rc;
    }
    // What a group asks of its transport: a lane for each worker.
    phx_shm_transport(cuda->shm)->info.lane_count = PHX_WORKERS_MAX;
    *out = cuda;
    return 0;
}

void phx_cuda_destroy(struct phx_cuda *cuda)
{
    if (cuda == NULL)
        return;
    phx_assert(cuda->twins == NULL && cuda->handles == NULL);
    if (cuda->shm != NULL)
        phx_transport_close(phx_shm_transport(cuda->shm));
    if (cuda->done != NULL)
        (void)cudaEventDestroy(cuda->done);
    if (cuda->pushed != NULL)
        (void)cudaEventDestroy(cuda->pushed);
    if (cuda->side != NULL)
        (void)cudaStreamDestroy(cuda->side);
    if (cuda->work != NULL)
        (void)cudaStreamDestroy(cuda->work);
    free(cuda);
}

struct phx_target phx_cuda_target(struct phx_cuda *cuda)
{
    return (struct phx_target){phx_shm_transport(cuda->shm), &cuda->base};
}

struct phx_shm *phx_cuda_shm(struct phx_cuda *cuda)
{
    return cuda->shm;
}

void phx_cuda_die_after(struct phx_cuda *cuda, uint64_t puts, void (*died)(void *context),
                        void *context)
{
    phx_assert(puts > 0 && died != NULL);
    cuda->die_after = puts;
    cuda->died = died;
    cuda->died_context = context;
}

uint64_t phx_cuda_puts(const struct phx_cuda *cuda)
{
    return cuda->puts;
}

void *phx_cuda_host_alloc(uint64_t size_bytes)
{
    void *memory = NULL;
    if (cudaHostAlloc(&memory, size_bytes > 0 ? size_bytes : 1, cudaHostAllocDefault) !=
        cudaSuccess)
        return NULL;
    return memset(memory, 0, size_bytes);
}

void phx_cuda_host_free(void *memory)
{
    if (memory != NULL)
        (void)cudaFreeHost(memory);
}
