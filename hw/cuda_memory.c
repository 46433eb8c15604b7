// hw/cuda_memory.c: regions in device memory, by CUDA's virtual-memory calls.
//
// Memory that is made so lives as long as anybody maps it, whatever becomes of the process that
// made it: that is documented, and what survivors rely on. An address, once reserved, stays with
// its region: a fence maps other memory behind it.

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "engine/assert.h"
#include "hw/cuda_internal.h"

static struct phx_cuda *cuda_of(struct phx_shm *shm)
{
    return shm->memory->context;
}

static uint64_t rounded(const struct phx_cuda *cuda, uint64_t bytes)
{
    return (bytes + cuda->granularity - 1) / cuda->granularity * cuda->granularity;
}

static int refuse(struct phx_shm *shm, CUresult result, const char *call)
{
    return phx_cuda_driver_fail(&cuda_of(shm)->driver, &shm->base.said, result, call);
}

// --- addresses ----------------------------------------------------------------------------------

// Maps memory at an address that is reserved, for this rank's GPU.
static CUresult map_at(const struct phx_cuda *cuda, CUdeviceptr at, uint64_t bytes,
                       CUmemGenericAllocationHandle memory)
{
    const struct phx_cuda_driver *d = &cuda->driver;
    const CUmemAccessDesc access = {cuda->property.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUresult result = d->map(at, bytes, 0, memory, 0);
    if (result != CUDA_SUCCESS)
        return result;
    result = d->set_access(at, bytes, &access, 1);
    if (result != CUDA_SUCCESS)
        (void)d->unmap(at, bytes);
    return result;
}

// The same at an address of its own.
static CUresult map_anywhere(const struct phx_cuda *cuda, CUdeviceptr *at, uint64_t bytes,
                             CUmemGenericAllocationHandle memory)
{
    const struct phx_cuda_driver *d = &cuda->driver;
    CUresult result = d->reserve(at, bytes, 0, 0, 0);
    if (result != CUDA_SUCCESS)
        return result;
    result = map_at(cuda, *at, bytes, memory);
    if (result != CUDA_SUCCESS)
        (void)d->unreserve(*at, bytes);
    return result;
}

static void unmap_all(const struct phx_cuda *cuda, CUdeviceptr at, uint64_t bytes)
{
    (void)cuda->driver.unmap(at, bytes);
    (void)cuda->driver.unreserve(at, bytes);
}

// Zeroed, at an address of its own.
static int take(struct phx_shm *shm, CUmemGenericAllocationHandle *memory, CUdeviceptr *at,
                uint64_t bytes)
{
    struct phx_cuda *cuda = cuda_of(shm);
    CUresult result = cuda->driver.create(memory, bytes, &cuda->property, 0);
    if (result != CUDA_SUCCESS)
        return refuse(shm, result, "cuMemCreate");
    result = map_anywhere(cuda, at, bytes, *memory);
    if (result != CUDA_SUCCESS) {
        (void)cuda->driver.release(*memory);
        return refuse(shm, result, "mapping a region");
    }
    cudaError_t error = cudaMemsetAsync((void *)(uintptr_t)*at, 0, bytes, cuda->side);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->side);
    if (error == cudaSuccess)
        return 0;
    unmap_all(cuda, *at, bytes);
    (void)cuda->driver.release(*memory);
    return phx_cuda_fail(&shm->base.said, error, "zeroing a region");
}

// --- our regions --------------------------------------------------------------------------------

static void drop(struct phx_shm *shm, struct phx_shm_mem *m)
{
    struct phx_cuda *cuda = cuda_of(shm);
    if (m->file >= 0)
        (void)close(m->file);
    m->file = -1;
    if (m->base == NULL)
        return;
    unmap_all(cuda, (CUdeviceptr)(uintptr_t)m->base, m->mapped_bytes);
    (void)cuda->driver.release(m->backing);
    m->base = NULL;
}

static int make(struct phx_shm *shm, struct phx_shm_mem *m)
{
    struct phx_cuda *cuda = cuda_of(shm);
    CUdeviceptr at = 0;
    CUmemGenericAllocationHandle memory = 0;
    uint64_t bytes = rounded(cuda, m->size_bytes);
    int rc = take(shm, &memory, &at, bytes);
    if (rc != 0)
        return rc;
    m->base = (uint8_t *)(uintptr_t)at;
    m->backing = memory;
    m->mapped_bytes = bytes;
    m->file = -1;
    if (m->peer == PHX_WRITER_NONE || m->peer == shm->options.rank)
        return 0; // nobody else is given it
    int file = -1;
    CUresult result = cuda->driver.export_handle(&file, memory,
                                                 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    if (result != CUDA_SUCCESS) {
        drop(shm, m);
        return refuse(shm, result, "cuMemExportToShareableHandle");
    }
    (void)fcntl(file, F_SETFD, FD_CLOEXEC);
    m->file = file;
    return 0;
}

// No kernel of this rank runs. What the peer still maps is left to it.
static int renew(struct phx_shm *shm, struct phx_shm_mem *m)
{
    struct phx_cuda *cuda = cuda_of(shm);
    const struct phx_cuda_driver *d = &cuda->driver;
    CUdeviceptr base = (CUdeviceptr)(uintptr_t)m->base;
    CUdeviceptr at = 0;
    CUmemGenericAllocationHandle memory = 0;
    if (m->file < 0)
        return 0;
    int rc = take(shm, &memory, &at, m->mapped_bytes);
    if (rc != 0)
        return rc;
    cudaError_t error = cudaMemcpyAsync((void *)(uintptr_t)at, m->base, m->mapped_bytes,
                                        cudaMemcpyDeviceToDevice, cuda->side);
    if (error == cudaSuccess)
        error = cudaStreamSynchronize(cuda->side);
    unmap_all(cuda, at, m->mapped_bytes);
    if (error != cudaSuccess) {
        (void)d->release(memory);
        return phx_cuda_fail(&shm->base.said, error, "copying a region");
    }
    CUresult result = d->unmap(base, m->mapped_bytes);
    if (result == CUDA_SUCCESS)
        result = map_at(cuda, base, m->mapped_bytes, memory);
    if (result != CUDA_SUCCESS)
        return refuse(shm, result, "mapping fresh memory for a region");
    (void)d->release(m->backing);
    m->backing = memory;
    (void)close(m->file);
    m->file = -1;
    return 0;
}

// --- a peer's -----------------------------------------------------------------------------------

static int refuse_peer(struct phx_shm *shm, const struct phx_shm_mem *m, CUresult result,
                       const struct phx_shm_answer *answer)
{
    const struct phx_cuda *cuda = cuda_of(shm);
    char own[PHX_GPU_UUID_TEXT];
    char other[PHX_GPU_UUID_TEXT];
    const char *text = NULL;
    phx_gpu_uuid_text(shm->memory->device, own);
    phx_gpu_uuid_text(answer->device, other);
    if (cuda->driver.error_string(result, &text) != CUDA_SUCCESS || text == NULL)
        text = "unknown error";
    return phx_fail(&shm->base.said, PHX_ERR_UNSUPPORTED,
                    "%s can't map memory of %s (%llu bytes): %s", own, other,
                    (unsigned long long)m->size_bytes, text);
}

// The owner is gone: stores go to memory that nobody reads, because kernels ask nobody.
static int map_nothing(struct phx_shm *shm, struct phx_shm_mem *m)
{
    CUdeviceptr at = 0;
    CUmemGenericAllocationHandle memory = 0;
    uint64_t bytes = rounded(cuda_of(shm), m->size_bytes);
    int rc = take(shm, &memory, &at, bytes);
    if (rc != 0)
        return rc;
    m->base = (uint8_t *)(uintptr_t)at;
    m->backing = memory;
    m->mapped_bytes = bytes;
    return 0;
}

static int map(struct phx_shm *shm, struct phx_shm_mem *m, int file,
               const struct phx_shm_answer *answer)
{
    struct phx_cuda *cuda = cuda_of(shm);
    CUmemGenericAllocationHandle memory = 0;
    CUdeviceptr at = 0;
    if (file < 0)
        return map_nothing(shm, m);
    if (answer->memory != PHX_SHM_MEMORY_CUDA) {
        (void)phx_fail(&shm->base.said, 0, "its regions are not in a GPU's memory");
        return PHX_ERR_MISMATCH;
    }
    if (answer->size_bytes != m->size_bytes || answer->mapped_bytes < m->size_bytes) {
        (void)phx_fail(&shm->base.said, 0, "its region has %llu bytes; its card said %llu",
                       (unsigned long long)answer->size_bytes, (unsigned long long)m->size_bytes);
        return PHX_ERR_MISMATCH;
    }
    int rc = phx_gpu_path_check(&cuda->gpus, cuda->options.device, answer->device,
                                &shm->base.said);
    if (rc != 0)
        return rc;
    CUresult result = cuda->driver.import_handle(&memory, (void *)(intptr_t)file,
                                                 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    if (result != CUDA_SUCCESS)
        return refuse_peer(shm, m, result, answer);
    result = map_anywhere(cuda, &at, answer->mapped_bytes, memory);
    if (result != CUDA_SUCCESS) {
        (void)cuda->driver.release(memory);
        return refuse_peer(shm, m, result, answer);
    }
    m->base = (uint8_t *)(uintptr_t)at;
    m->backing = memory;
    m->mapped_bytes = answer->mapped_bytes;
    return 0;
}

static void unmap(struct phx_shm *shm, struct phx_shm_mem *m)
{
    struct phx_cuda *cuda = cuda_of(shm);
    unmap_all(cuda, (CUdeviceptr)(uintptr_t)m->base, m->mapped_bytes);
    (void)cuda->driver.release(m->backing);
    m->base = NULL;
}

// --- the table ----------------------------------------------------------------------------------

static int attribute(const struct phx_cuda *cuda, CUdevice_attribute which, const char *what,
                     struct phx_message *message)
{
    CUdevice device;
    int has = 0;
    CUresult result = cuda->driver.device_get(&device, (int)cuda->options.device);
    if (result == CUDA_SUCCESS)
        result = cuda->driver.device_attribute(&has, which, device);
    if (result != CUDA_SUCCESS)
        return phx_cuda_driver_fail(&cuda->driver, message, result, "asking the GPU what it can");
    if (has)
        return 0;
    return phx_fail(message, PHX_ERR_UNSUPPORTED, "GPU %u (%s) can't %s", cuda->options.device,
                    cuda->gpus.gpus[cuda->options.device].name, what);
}

int phx_cuda_memory_init(struct phx_cuda *cuda, struct phx_message *message)
{
    size_t granularity = 0;
    int rc = attribute(cuda, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED,
                       "map memory by CUDA's virtual-memory calls", message);
    if (rc == 0)
        rc = attribute(cuda, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED,
                       "share memory as a file descriptor", message);
    if (rc != 0)
        return rc;
    cuda->property.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    cuda->property.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    cuda->property.location.id = (int)cuda->options.device;
    cuda->property.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CUresult result = cuda->driver.granularity(&granularity, &cuda->property,
                                               CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
    if (result != CUDA_SUCCESS)
        return phx_cuda_driver_fail(&cuda->driver, message, result,
                                    "cuMemGetAllocationGranularity");
    cuda->granularity = granularity;
    cuda->memory = (struct phx_shm_memory){.name = "nvlink",
                                           .kind = PHX_SHM_MEMORY_CUDA,
                                           .makes_memory = true,
                                           .context = cuda,
                                           .make = make,
                                           .renew = renew,
                                           .drop = drop,
                                           .map = map,
                                           .unmap = unmap};
    memcpy(cuda->memory.device, cuda->gpus.gpus[cuda->options.device].uuid,
           sizeof cuda->memory.device);
    return 0;
}
