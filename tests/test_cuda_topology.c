// tests/test_cuda_topology.c: GPUs are known by their UUIDs, and those without a way between them
// are refused, both named.

#include <string.h>

#include "hw/cuda_topology.h"
#include "tests/test.h"

static struct phx_gpu_table table_make(uint32_t count)
{
    struct phx_gpu_table t;
    memset(&t, 0, sizeof t);
    t.count = count;
    for (uint32_t i = 0; i < count; i++) {
        memset(t.gpus[i].uuid, (int)(0x10 + i), sizeof t.gpus[i].uuid);
        memcpy(t.gpus[i].name, "NVIDIA H100", 12);
        for (uint32_t to = 0; to < count; to++)
            t.reaches[i][to] = true;
    }
    return t;
}

TEST(cuda_topology_finds_a_gpu_by_its_uuid)
{
    struct phx_gpu_table t = table_make(3);
    const uint8_t stranger[16] = {9};
    CHECK_EQ(phx_gpu_find(&t, t.gpus[2].uuid), 2);
    CHECK_EQ(phx_gpu_find(&t, stranger), PHX_GPUS_MAX);
}

TEST(cuda_topology_tells_the_ways_between_gpus_apart)
{
    struct phx_gpu_table t = table_make(3);
    const uint8_t stranger[16] = {9};
    t.reaches[0][2] = false;
    CHECK_EQ(phx_gpu_path_find(&t, 0, t.gpus[0].uuid), PHX_GPU_PATH_SAME);
    CHECK_EQ(phx_gpu_path_find(&t, 0, t.gpus[1].uuid), PHX_GPU_PATH_PEER);
    CHECK_EQ(phx_gpu_path_find(&t, 0, t.gpus[2].uuid), PHX_GPU_PATH_NONE);
    CHECK_EQ(phx_gpu_path_find(&t, 2, t.gpus[0].uuid), PHX_GPU_PATH_PEER); // ways have directions
    CHECK_EQ(phx_gpu_path_find(&t, 0, stranger), PHX_GPU_PATH_HIDDEN);
}

TEST(cuda_topology_refuses_a_pair_without_peer_access_and_names_both)
{
    struct phx_gpu_table t = table_make(2);
    struct phx_message message = {""};
    t.reaches[0][1] = false;
    CHECK_EQ(phx_gpu_path_check(&t, 0, t.gpus[1].uuid, &message), PHX_ERR_UNSUPPORTED);
    CHECK_STR_EQ(message.text, "GPU-10101010-1010-1010-1010-101010101010 (NVIDIA H100) has no peer "
                               "access to GPU-11111111-1111-1111-1111-111111111111 (NVIDIA H100)");
    CHECK_EQ(phx_gpu_path_check(&t, 1, t.gpus[0].uuid, &message), 0);
}

TEST(cuda_topology_gives_each_rank_a_gpu_of_its_own)
{
    struct phx_gpu_table t = table_make(4);
    struct phx_message message = {""};
    uint32_t devices[8];
    CHECK_EQ(phx_gpus_choose(&t, 4, 1, devices, &message), 0);
    for (uint32_t r = 0; r < 4; r++)
        CHECK_EQ(devices[r], r);
    CHECK_EQ(phx_gpus_choose(&t, 8, 2, devices, &message), 0);
    CHECK_EQ(devices[1], 0);
    CHECK_EQ(devices[7], 3);
}

TEST(cuda_topology_refuses_more_ranks_than_gpus)
{
    struct phx_gpu_table t = table_make(2);
    struct phx_message message = {""};
    uint32_t devices[8];
    CHECK_EQ(phx_gpus_choose(&t, 3, 1, devices, &message), PHX_ERR_INVALID);
    CHECK_MSG(strstr(message.text, "3 ranks: there are 2 GPUs") != NULL, "%s", message.text);
    CHECK_MSG(strstr(message.text, "--ranks-per-gpu") != NULL, "%s", message.text);
    t.count = 0;
    CHECK_EQ(phx_gpus_choose(&t, 1, 1, devices, &message), PHX_ERR_UNSUPPORTED);
}

TEST(cuda_topology_chooses_no_gpus_that_do_not_reach_each_other)
{
    struct phx_gpu_table t = table_make(3);
    struct phx_message message = {""};
    uint32_t devices[3];
    t.reaches[2][1] = false;
    CHECK_EQ(phx_gpus_choose(&t, 2, 1, devices, &message), 0); // GPU 2 is not used
    CHECK_EQ(phx_gpus_choose(&t, 3, 1, devices, &message), PHX_ERR_UNSUPPORTED);
    CHECK_MSG(strstr(message.text, "GPU-12121212") < strstr(message.text, "GPU-11111111"), "%s",
              message.text);
}
