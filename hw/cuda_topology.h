// hw/cuda_topology.h: which GPUs reach each other's memory: the logic, without CUDA.
//
// A GPU is named by its UUID: ordinals differ between processes that see different GPUs
// (CUDA_VISIBLE_DEVICES), so nothing here, and no peer, is found by an ordinal. A process that sees
// its own GPU alone can't ask about the others: there the mapping itself says whether it may.

#ifndef PHX_HW_CUDA_TOPOLOGY_H
#define PHX_HW_CUDA_TOPOLOGY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PHX_GPUS_MAX 64u

struct phx_gpu {
    uint8_t uuid[16];
    char name[64];
};

struct phx_gpu_table { // as one process sees it; the index is that process's ordinal
    uint32_t count;
    struct phx_gpu gpus[PHX_GPUS_MAX];
    bool reaches[PHX_GPUS_MAX][PHX_GPUS_MAX]; // [from][to]: kernels on `from` may use to's memory
};

enum phx_gpu_path {
    PHX_GPU_PATH_SAME = 1,
    PHX_GPU_PATH_PEER,
    PHX_GPU_PATH_HIDDEN, // not visible here: mapping its memory will show
    PHX_GPU_PATH_NONE
};

// "GPU-6f1e2d3c-....", as nvidia-smi writes it.
#define PHX_GPU_UUID_TEXT 41u
void phx_gpu_uuid_text(const uint8_t uuid[16], char text[PHX_GPU_UUID_TEXT]);

// The ordinal of the GPU of this UUID, or PHX_GPUS_MAX.
uint32_t phx_gpu_find(const struct phx_gpu_table *table, const uint8_t uuid[16]);
enum phx_gpu_path phx_gpu_path_find(const struct phx_gpu_table *table, uint32_t own,
                                    const uint8_t uuid[16]);
// PHX_ERR_UNSUPPORTED: there is no path; the message names both GPUs.
int phx_gpu_path_check(const struct phx_gpu_table *table, uint32_t own, const uint8_t uuid[16],
                       struct phx_message *message);

// Gives each of `ranks` ranks a GPU, `per_gpu` ranks to each. devices: [ranks] ordinals.
// PHX_ERR_INVALID: more ranks than that makes. PHX_ERR_UNSUPPORTED: two of the GPUs have no path.
int phx_gpus_choose(const struct phx_gpu_table *table, uint32_t ranks, uint32_t per_gpu,
                    uint32_t *devices, struct phx_message *message);

#ifdef __cplusplus
}
#endif

#endif
