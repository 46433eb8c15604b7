// bench/gpu/push.h: the floor: a kernel that does nothing but store bytes into its peers' memory,
// 16 at a time, as measured.md's all-to-all push does.

#ifndef PHX_BENCH_GPU_PUSH_H
#define PHX_BENCH_GPU_PUSH_H

#include <stdint.h>

#include "engine/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PHX_PUSH_PEERS_MAX 64u

struct phx_push {
    const uint8_t *from;              // bytes, of this GPU
    uint8_t *to[PHX_PUSH_PEERS_MAX];  // bytes each, of others; aligned to 16, all
    uint32_t peers;
    uint64_t bytes; // to each; a multiple of 16
};

// Enqueues one push on a stream, by that many blocks of 512 threads. PHX_ERR_DEVICE_LOST.
int phx_push_launch(const struct phx_push *push, uint32_t blocks, void *stream,
                    struct phx_message *message);

#ifdef __cplusplus
}
#endif

#endif
