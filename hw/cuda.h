// hw/cuda.h: a rank on a GPU: regions in the memory of GPUs of this host, stored to over NVLink by
// the kernels of their one writer, and an executor that launches those kernels.
//
// The transport, "nvlink", is hw/shm.h with device memory for regions: the same sockets, locks,
// pidfds and fences. A region is made with CUDA's virtual-memory calls and passed to its writer as
// a file descriptor, so it lives as long as anybody maps it: a survivor's kernels may go on using
// what a dead process made. A fence maps fresh memory in the region's place.
//
// What a dead process leaves behind: its lock is given up within a millisecond, and its GPU goes on
// storing for ten more (bench/NOTES.md). So the lock masks a rank, and nothing that it could write
// is used again without a fence.
//
// Tensors given to such a group lie in device memory or in pinned host memory.
//
// Threads: as engine/transport.h and engine/executor.h. A process that forks must not have called
// any of these before. A build without CUDA has them all, and they refuse by name.

#ifndef PHX_HW_CUDA_H
#define PHX_HW_CUDA_H

#include "engine/phalanx.h"
#include "hw/cuda_topology.h"
#include "hw/shm.h"

#ifdef __cplusplus
extern "C" {
#endif

struct phx_cuda;

struct phx_cuda_options {
    uint64_t job; // as struct phx_shm_options
    uint32_t rank;
    uint32_t ranks;
    uint32_t incarnation;
    uint32_t device; // the ordinal of this rank's GPU, as this process sees them
    // Told of phases, on the control thread: SEND and DONE of each operation; RECEIVE only of
    // receive halves, because a kernel goes through its phases without telling. NULL: nobody.
    void (*phase)(void *context, uint32_t worker, uint32_t phase, uint64_t number);
    void *phase_context;
};

// PHX_ERR_UNSUPPORTED: a build without CUDA, or a GPU that can't do it, by name.
// PHX_ERR_DEVICE_LOST: a CUDA error, named.
int phx_cuda_create(const struct phx_cuda_options *options, struct phx_cuda **cuda,
                    struct phx_message *message);
void phx_cuda_destroy(struct phx_cuda *cuda); // after its groups; NULL is allowed
struct phx_target phx_cuda_target(struct phx_cuda *cuda);
struct phx_shm *phx_cuda_shm(struct phx_cuda *cuda);
// The next launch of this kind ends at its put after `puts`, as if the process had died there:
// nothing more is stored. `died` is called on the control thread when the kernel has left, or, with
// fewer puts than that, never. For faults of tests.
void phx_cuda_die_after(struct phx_cuda *cuda, uint64_t puts, void (*died)(void *context),
                        void *context);
// Puts of the last launch that was told to die, whether or not it did.
uint64_t phx_cuda_puts(const struct phx_cuda *cuda);

// Zeroed host memory that the GPU reaches. NULL: none.
void *phx_cuda_host_alloc(uint64_t size_bytes);
void phx_cuda_host_free(void *memory);

// The GPUs of this machine, looked at by a child process, so that this one may still fork.
int phx_cuda_probe(struct phx_gpu_table *table, struct phx_message *message);

#ifdef __cplusplus
}
#endif

#endif
