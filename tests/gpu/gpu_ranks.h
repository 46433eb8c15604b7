// tests/gpu/gpu_ranks.h: the ranks of one group on one GPU, for comparing the kernels with the
// simulator's. Inputs and outputs are host memory; each call copies them in and out.

#ifndef PHX_TESTS_GPU_GPU_RANKS_H
#define PHX_TESTS_GPU_GPU_RANKS_H

#include "kernels/launch.h"

#ifdef __cplusplus
extern "C" {
#endif

struct placement { // of experts; arrays are [experts] and [ranks]
    const uint16_t *expert_rank;
    const uint16_t *expert_local;
    const uint32_t *experts_of;
};

struct rank_io { // one rank, one dispatch and its combine; host memory, sizes by the shape
    // in
    uint16_t *x;       // [tokens_max, channels]
    int64_t *topk_idx; // [tokens_max, top_k]
    float *weights;    // [tokens_max, top_k]
    uint16_t *y;       // [rows_max, channels]
    uint32_t token_count;
    // out
    uint8_t *recv_x;       // [rows_max] payloads
    uint32_t *recv_scales; // [rows_max * scale words]
    int32_t *recv_src_info;
    int32_t *recv_count;
    int64_t *recv_layout_range;
    uint16_t *out;
    float *token_loss;
    uint8_t *fates;  // [PHX_WAIT_PHASES][ranks] enum phx_fate
    int32_t *active; // [ranks] in and out
};

struct gpu_ranks;

int gpu_present(void); // 0: this machine has none

uint64_t io_rows_max(const struct phx_shape *s);

int gpu_ranks_open(const struct phx_shape *shape, const struct placement *placement,
                   struct gpu_ranks **ranks, struct phx_message *message);
// From its next put but `puts` on, that rank stores nothing more.
int gpu_ranks_kill(struct gpu_ranks *g, uint32_t rank, uint64_t puts, struct phx_message *message);
// kind: enum phx_kind. split: send and receive halves in launches of their own. The combine uses
// what the last dispatch left. *kernel_us gets the time of the launches.
int gpu_ranks_run(struct gpu_ranks *g, uint32_t kind, int split, int renormalise,
                  uint64_t timeout_us, struct rank_io *io, float *kernel_us,
                  struct phx_message *message);
void gpu_ranks_close(struct gpu_ranks *g);

#ifdef __cplusplus
}
#endif

#endif
