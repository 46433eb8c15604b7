// hw/cuda_topology.c: see the header.

#include "hw/cuda_topology.h"

#include <stdio.h>
#include <string.h>

void phx_gpu_uuid_text(const uint8_t uuid[16], char text[PHX_GPU_UUID_TEXT])
{
    const uint8_t *u = uuid;
    (void)snprintf(text, PHX_GPU_UUID_TEXT,
                   "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0],
                   u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
                   u[14], u[15]);
}

uint32_t phx_gpu_find(const struct phx_gpu_table *table, const uint8_t uuid[16])
{
    for (uint32_t i = 0; i < table->count; i++)
        if (memcmp(table->gpus[i].uuid, uuid, 16) == 0)
            return i;
    return PHX_GPUS_MAX;
}

enum phx_gpu_path phx_gpu_path_find(const struct phx_gpu_table *table, uint32_t own,
                                    const uint8_t uuid[16])
{
    uint32_t other = phx_gpu_find(table, uuid);
    if (other == own)
        return PHX_GPU_PATH_SAME;
    if (other == PHX_GPUS_MAX)
        return PHX_GPU_PATH_HIDDEN;
    return table->reaches[own][other] ? PHX_GPU_PATH_PEER : PHX_GPU_PATH_NONE;
}

static int refuse(const struct phx_gpu_table *table, uint32_t from, uint32_t to,
                  struct phx_message *message)
{
    char one[PHX_GPU_UUID_TEXT];
    char other[PHX_GPU_UUID_TEXT];
    phx_gpu_uuid_text(table->gpus[from].uuid, one);
    phx_gpu_uuid_text(table->gpus[to].uuid, other);
    return phx_fail(message, PHX_ERR_UNSUPPORTED, "%s (%s) has no peer access to %s (%s)", one,
                    table->gpus[from].name, other, table->gpus[to].name);
}

int phx_gpu_path_check(const struct phx_gpu_table *table, uint32_t own, const uint8_t uuid[16],
                       struct phx_message *message)
{
    if (phx_gpu_path_find(table, own, uuid) != PHX_GPU_PATH_NONE)
        return 0;
    return refuse(table, own, phx_gpu_find(table, uuid), message);
}

int phx_gpus_choose(const struct phx_gpu_table *table, uint32_t ranks, uint32_t per_gpu,
                    uint32_t *devices, struct phx_message *message)
{
    if (table->count == 0)
        return phx_fail(message, PHX_ERR_UNSUPPORTED, "this machine shows no GPU to this process");
    if (ranks > (uint64_t)table->count * per_gpu)
        return phx_fail(message, PHX_ERR_INVALID,
                        "%u ranks: there are %u GPUs here, and %u rank%s to each; --ranks N makes "
                        "them fewer, --ranks-per-gpu N puts more on one",
                        ranks, table->count, per_gpu, per_gpu == 1 ? "" : "s");
    uint32_t used = (ranks + per_gpu - 1) / per_gpu;
    for (uint32_t from = 0; from < used; from++)
        for (uint32_t to = 0; to < used; to++)
            if (from != to && !table->reaches[from][to])
                return refuse(table, from, to, message);
    for (uint32_t r = 0; r < ranks; r++)
        devices[r] = r / per_gpu;
    return 0;
}
