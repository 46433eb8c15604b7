// hw/cuda_internal.h: what the parts of a rank on a GPU share.
//
//   cuda.c            create and destroy; errors
//   cuda_driver.c     the driver's calls that the runtime has no names for
//   cuda_memory.c     regions in device memory: struct phx_shm_memory
//   cuda_executor.c   launches, and what reaches them while they run
//   cuda_twin.c       twins of groups and handles in device memory
//   cuda_stream.c     engine/phalanx_cuda.h: operations on the caller's stream
//   cuda_probe.c      the GPUs of this machine

#ifndef PHX_HW_CUDA_INTERNAL_H
#define PHX_HW_CUDA_INTERNAL_H

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdbool.h>

#include "engine/executor.h"
#include "hw/cuda.h"
#include "hw/shm_internal.h"
#include "kernels/launch.h"

struct phx_cuda_driver {
    PFN_cuGetErrorString_v6000 error_string;
    PFN_cuDeviceGet_v2000 device_get;
    PFN_cuDeviceGetAttribute_v2000 device_attribute;
    PFN_cuMemGetAllocationGranularity_v10020 granularity;
    PFN_cuMemCreate_v10020 create;
    PFN_cuMemRelease_v10020 release;
    PFN_cuMemAddressReserve_v10020 reserve;
    PFN_cuMemAddressFree_v10020 unreserve;
    PFN_cuMemMap_v10020 map;
    PFN_cuMemUnmap_v10020 unmap;
    PFN_cuMemSetAccess_v10020 set_access;
    PFN_cuMemExportToShareableHandle_v10020 export_handle;
    PFN_cuMemImportFromShareableHandle_v10020 import_handle;
};

// A group in device memory, and a pinned copy of it. What kernels change stands together, behind
// what they only read.
struct phx_cuda_twin {
    struct phx_cuda_twin *next;
    const struct phx_rank *rank; // the engine's
    uint8_t *device;
    uint8_t *pinned;
    uint64_t bytes;
    bool is_current; // the part that kernels only read
    // Offsets, of either.
    uint64_t expert_rank_at;
    uint64_t expert_local_at;
    uint64_t from_at;
    uint64_t to_at;
    uint64_t changing_at; // from here on kernels change it
    uint64_t state_at;
    uint64_t suspected_at;
    uint64_t fates_at;
    uint64_t owed_at;
    uint64_t counters_at;
    // What a running kernel was told: pinned, [ranks + 1], the last one is abort.
    uint64_t *told;
    bool is_telling; // and not waited for yet
};

// A handle likewise. What the engine reads stands first.
struct phx_cuda_handle {
    struct phx_cuda_handle *next;
    const struct phx_handle_view *view; // the engine's
    uint64_t *answered;                 // likewise
    uint8_t *device;
    uint8_t *pinned; // [read_bytes]
    uint64_t read_bytes;
    uint64_t offset_at;
    uint64_t count_at;
    uint64_t counted_at;
    uint64_t present_at;
    uint64_t answered_at;
    uint64_t begin_at;
    uint64_t sent_rows_at;
    uint64_t route_at_at;
    uint64_t sent_at_at;
    uint64_t routes_at;
};

struct phx_cuda_pump { // cuda_stream.c
    struct phx_cuda *cuda;
    struct phx_group *group; // NULL: none is on streams
    struct phx_cuda_twin *twin;
    pthread_t thread;
    bool is_stopping;
};

struct phx_cuda {
    struct phx_executor base; // first
    struct phx_cuda_options options;
    struct phx_cuda_driver driver;
    struct phx_shm_memory memory;
    struct phx_gpu_table gpus;
    CUmemAllocationProp property;
    uint64_t granularity;
    struct phx_shm *shm;
    cudaStream_t work;  // non-blocking streams, both: launches
    cudaStream_t side;  // what must not wait for them
    cudaEvent_t pushed; // on `work`: the last copy of a group to the GPU
    cudaEvent_t done;
    struct phx_cuda_twin *twins;
    struct phx_cuda_handle *handles;
    struct phx_bell bell; // rung by notify
    bool has_events;
    bool is_lost;
    struct phx_message why;
    // Operations on the caller's streams.
    struct phx_cuda_pump pump;
    bool is_enqueuing; // run() enqueues on `stream`, and returns
    void *stream;
    // For faults of tests.
    uint64_t die_after;
    void (*died)(void *context);
    void *died_context;
    uint64_t puts;
};

static inline struct phx_cuda *phx_cuda_of(struct phx_executor *e)
{
    return (struct phx_cuda *)(void *)e;
}

// --- cuda.c -------------------------------------------------------------------------------------

int phx_cuda_fail(struct phx_message *message, cudaError_t error, const char *call);
// Keeps the first error that CUDA gave; from then on every launch fails. 0, or PHX_ERR_DEVICE_LOST.
int phx_cuda_check(struct phx_cuda *cuda, cudaError_t error, const char *call);

// --- cuda_driver.c ------------------------------------------------------------------------------

int phx_cuda_driver_load(struct phx_cuda_driver *driver, struct phx_message *message);
int phx_cuda_driver_fail(const struct phx_cuda_driver *driver, struct phx_message *message,
                         CUresult result, const char *call);

// --- cuda_memory.c ------------------------------------------------------------------------------

// Fills cuda->memory. PHX_ERR_UNSUPPORTED: the GPU can't share memory so.
int phx_cuda_memory_init(struct phx_cuda *cuda, struct phx_message *message);

// --- cuda_probe.c -------------------------------------------------------------------------------

// The GPUs that this process sees; makes it one that uses CUDA.
int phx_cuda_gpus(struct phx_gpu_table *table, struct phx_message *message);

// --- cuda_stream.c ------------------------------------------------------------------------------

// Ends what this group has on streams, as an abort does, and its thread.
void phx_cuda_stream_close(struct phx_cuda *cuda, const struct phx_cuda_twin *twin);

// --- cuda_executor.c ----------------------------------------------------------------------------

extern const struct phx_executor_ops phx_cuda_executor_ops;
void phx_cuda_notify(void *cuda);

// --- cuda_twin.c --------------------------------------------------------------------------------

extern const struct phx_twin_ops phx_cuda_twin_ops;
struct phx_cuda_twin *phx_cuda_twin_of(const struct phx_cuda *cuda, const struct phx_rank *rank);
struct phx_cuda_handle *phx_cuda_handle_of(const struct phx_cuda *cuda,
                                           const struct phx_handle_view *view);
// Enqueues on cuda->work: the engine's group to its twin, and back what kernels changed.
int phx_cuda_twin_push(struct phx_cuda *cuda, struct phx_cuda_twin *twin);
int phx_cuda_twin_pull(struct phx_cuda *cuda, struct phx_cuda_twin *twin);
int phx_cuda_handle_pull(struct phx_cuda *cuda, struct phx_cuda_handle *handle);
// When all that was enqueued is done: from the pinned copies to the engine's.
void phx_cuda_twin_take(struct phx_cuda_twin *twin);
void phx_cuda_handle_take(struct phx_cuda_handle *handle, const struct phx_rank *rank);
// What the engine came to hold against a rank while a kernel runs, and an abort. Does not wait.
int phx_cuda_twin_tell(struct phx_cuda *cuda, struct phx_cuda_twin *twin);
// The launch that the engine filled, with device addresses.
void phx_cuda_launch_fill(const struct phx_cuda_twin *twin, const struct phx_cuda_handle *handle,
                          struct phx_launch *launch);

static inline struct phx_gpu_counters *phx_cuda_counters(const struct phx_cuda_twin *twin)
{
    return (struct phx_gpu_counters *)(void *)(twin->device + twin->counters_at);
}

#endif
