// sim/presets.c: what links cost, and where each figure comes from.
//
// RoCE frames: 8 preamble + 14 Ethernet + 20 IPv4 + 8 UDP + 12 BTH + 4 ICRC + 4 FCS + 12 gap = 82
// bytes a packet; InfiniBand: 8 LRH + 12 BTH + 4 ICRC + 2 VCRC = 26. A write's first packet carries
// 16 more (RETH), which is charged on every packet here: 98 and 42. Retry timers are those of a
// queue pair with timeout 14 and retry_cnt 7: T = 4.096 us * 2^14 = 67.1 ms (InfiniBand
// specification, local ACK timeout), nominal detection 8 T = 0.54 s. Hardware may wait up to 4 T.

#include "sim/network.h"

#include <stdio.h>
#include <string.h>

#define ACK_TIMEOUT_14_PS (4096000ull << 14)

static const struct phx_preset presets[] = {
    {
        .name = "nvlink4",
        .source =
            "measured on 8x H200, all-to-all push by plain stores: bytes / 333 GB/s + 4 us, of "
            "which 0.66 us is a flag one way and 3.3 us the launch",
        .plane = PHX_PLANE_NVLINK,
        .mtu_bytes = 4096,
        .post_count_max = 4096,
        .bytes_per_us = 333000,
        .flight_ps = 660000,
        .jitter_ps = 20000,
        .message_ps = 96, // a 32-byte sector, the least that a store moves
        .connect_ps = 20000000,
    },
    {
        .name = "roce_400g",
        .source = "400 Gb/s Ethernet, RoCE v2 framing, MTU 4096; flight is an assumption: two NICs "
                  "and two switch hops with GPU memory at both ends",
        .plane = PHX_PLANE_NIC,
        .mtu_bytes = 4096,
        .packet_overhead_bytes = 98,
        .retry_count = 7,
        .post_count_max = 1024,
        .selective = true,
        .bytes_per_us = 50000,
        .flight_ps = 1800000,
        .jitter_ps = 200000,
        .message_ps = 5000, // 200 million messages a second
        .ack_timeout_ps = ACK_TIMEOUT_14_PS,
        .connect_ps = 100000000,
    },
    {
        .name = "ib_400g",
        .source = "400 Gb/s InfiniBand NDR, MTU 4096; flight is an assumption: two NICs and two "
                  "switch hops with GPU memory at both ends",
        .plane = PHX_PLANE_NIC,
        .mtu_bytes = 4096,
        .packet_overhead_bytes = 42,
        .retry_count = 7,
        .post_count_max = 1024,
        .bytes_per_us = 50000,
        .flight_ps = 1300000,
        .jitter_ps = 100000,
        .message_ps = 5000,
        .ack_timeout_ps = ACK_TIMEOUT_14_PS,
        .connect_ps = 100000000,
    },
    {
        .name = "roce_200g",
        .source = "200 Gb/s Ethernet, RoCE v2 framing, MTU 4096; flight is an assumption, as for "
                  "roce_400g",
        .plane = PHX_PLANE_NIC,
        .mtu_bytes = 4096,
        .packet_overhead_bytes = 98,
        .retry_count = 7,
        .post_count_max = 1024,
        .bytes_per_us = 25000,
        .flight_ps = 1900000,
        .jitter_ps = 200000,
        .message_ps = 5000,
        .ack_timeout_ps = ACK_TIMEOUT_14_PS,
        .connect_ps = 100000000,
    },
    {
        .name = "ethernet_25g",
        .source = "25 Gb/s Ethernet, RoCE v2 framing, MTU 1024 in frames of 1500; flight is an "
                  "assumption: two NICs and three switch hops",
        .plane = PHX_PLANE_NIC,
        .mtu_bytes = 1024,
        .packet_overhead_bytes = 98,
        .retry_count = 7,
        .post_count_max = 512,
        .bytes_per_us = 3125,
        .flight_ps = 4000000,
        .jitter_ps = 500000,
        .message_ps = 30000,
        .ack_timeout_ps = ACK_TIMEOUT_14_PS,
        .connect_ps = 200000000,
    },
};

#define PRESET_COUNT (sizeof presets / sizeof presets[0])

const struct phx_preset *phx_preset_at(uint32_t index)
{
    return index < PRESET_COUNT ? &presets[index] : NULL;
}

const struct phx_preset *phx_preset_find(const char *name)
{
    for (size_t i = 0; i < PRESET_COUNT; i++)
        if (strcmp(presets[i].name, name) == 0)
            return &presets[i];
    return NULL;
}

int phx_preset_require(const char *argument, const char *name, enum phx_plane plane,
                       const struct phx_preset **preset, struct phx_message *message)
{
    const struct phx_preset *found = name != NULL ? phx_preset_find(name) : NULL;
    if (found != NULL && found->plane == plane) {
        *preset = found;
        return 0;
    }
    char list[160] = "";
    size_t used = 0;
    for (size_t i = 0; i < PRESET_COUNT; i++) {
        if (presets[i].plane != plane || used >= sizeof list)
            continue;
        int more = snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "",
                            presets[i].name);
        used += more > 0 ? (size_t)more : 0;
    }
    return phx_fail(message, PHX_ERR_INVALID, "%s is \"%.40s\"; it may be one of: %s", argument,
                    name != NULL ? name : "", list);
}
