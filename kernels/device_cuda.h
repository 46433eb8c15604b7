// kernels/device_cuda.h: device.h for GPUs: a worker is one converged warp.
//
// Peers' regions are mapped: a put is a copy by the warp's lanes into the peer's memory, a signal a
// release store at system scope behind it. Scalars live in every lane and are equal in all of them;
// what is read from shared words is read by lane 0 and handed to the others, so that they stay
// equal. A synchronised warp orders its lanes' stores before lane 0's release (PTX: bar.warp.sync
// is cumulative), which is what puts and barriers rely on.
//
// Leaves here are written for correctness; their bits are those of leaves_portable.c.

#ifndef PHX_KERNELS_DEVICE_CUDA_H
#define PHX_KERNELS_DEVICE_CUDA_H

#include <cuda/atomic>

#include "kernels/check.h"
#include "kernels/numerics.h"

#define PHX_WARP 32u
#define PHX_WARP_ALL 0xFFFFFFFFu

PHX_FN uint32_t phx_lane(void)
{
    return threadIdx.x % PHX_WARP;
}

// Lane 0's value to all. The shuffle orders no memory; the barrier before it does: what lane 0's
// acquire covers, the other lanes may read.
PHX_FN uint64_t phx_from_lane0(uint64_t value)
{
    __syncwarp();
    return __shfl_sync(PHX_WARP_ALL, (unsigned long long)value, 0);
}

// --- time and waiting ---------------------------------------------------------------------------

PHX_FN uint64_t phx_now(const struct phx_worker *w)
{
    (void)w;
    uint64_t now = 0;
    if (phx_lane() == 0)
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return phx_from_lane0(now);
}

PHX_FN uint64_t phx_load(const struct phx_worker *w, const uint64_t *word)
{
    (void)w;
    uint64_t value = 0;
    if (phx_lane() == 0)
        value = cuda::atomic_ref<uint64_t, cuda::thread_scope_system>(*(uint64_t *)word)
                    .load(cuda::memory_order_acquire);
    return phx_from_lane0(value);
}

PHX_FN void phx_park(const struct phx_worker *w, const uint64_t *words, uint32_t count,
                     uint64_t until_ns)
{
    (void)w;
    (void)words;
    (void)count;
    (void)until_ns;
    __nanosleep(20);
}

PHX_FN void phx_settle(const struct phx_worker *w)
{
    (void)w; // work takes the time it takes
}

PHX_FN void phx_wake(const struct phx_worker *w, const uint64_t *word)
{
    (void)w;
    (void)word; // nothing parks: workers poll
}

PHX_FN void phx_phase(const struct phx_worker *w, uint32_t phase, uint64_t number)
{
    (void)w;
    (void)phase;
    (void)number;
}

// --- the workers of this rank -------------------------------------------------------------------

typedef cuda::atomic_ref<uint64_t, cuda::thread_scope_device> phx_local_word;

PHX_FN uint64_t phx_local_load(const struct phx_worker *w, const uint64_t *word)
{
    (void)w;
    uint64_t value = 0;
    if (phx_lane() == 0)
        value = phx_local_word(*(uint64_t *)word).load(cuda::memory_order_acquire);
    return phx_from_lane0(value);
}
PHX_FN void phx_local_store(const struct phx_worker *w, uint64_t *word, uint64_t value)
{
    (void)w;
    __syncwarp();
    if (phx_lane() == 0)
        phx_local_word(*word).store(value, cuda::memory_order_release);
    __syncwarp();
}
PHX_FN uint64_t phx_local_add(const struct phx_worker *w, uint64_t *word, uint64_t value)
{
    (void)w;
    uint64_t before = 0;
    __syncwarp();
    if (phx_lane() == 0)
        before = phx_local_word(*word).fetch_add(value, cuda::memory_order_acq_rel);
    return phx_from_lane0(before);
}
PHX_FN uint64_t phx_local_cas(const struct phx_worker *w, uint64_t *word, uint64_t expected,
                              uint64_t desired)
{
    (void)w;
    __syncwarp();
    if (phx_lane() == 0)
        phx_local_word(*word).compare_exchange_strong(expected, desired,
                                                      cuda::memory_order_acq_rel);
    return phx_from_lane0(expected);
}

PHX_FN int32_t phx_mask_load(const struct phx_worker *w, const int32_t *entry)
{
    (void)w;
    int32_t value = 0;
    if (phx_lane() == 0)
        value = *(const volatile int32_t *)entry;
    return (int32_t)__shfl_sync(PHX_WARP_ALL, value, 0);
}
PHX_FN void phx_mask_clear(const struct phx_worker *w, int32_t *entry)
{
    (void)w;
    if (phx_lane() == 0)
        *(volatile int32_t *)entry = 0;
}

PHX_FN void phx_store_i32(const struct phx_worker *w, int32_t *p, int32_t value)
{
    (void)w;
    if (phx_lane() == 0)
        *p = value;
}
PHX_FN void phx_store_u32(const struct phx_worker *w, uint32_t *p, uint32_t value)
{
    (void)w;
    if (phx_lane() == 0)
        *p = value;
}
PHX_FN void phx_store_i64(const struct phx_worker *w, int64_t *p, int64_t value)
{
    (void)w;
    if (phx_lane() == 0)
        *p = value;
}
PHX_FN void phx_store_u64(const struct phx_worker *w, uint64_t *p, uint64_t value)
{
    (void)w;
    if (phx_lane() == 0)
        *p = value;
}
PHX_FN void phx_store_f32(const struct phx_worker *w, float *p, float value)
{
    (void)w;
    if (phx_lane() == 0)
        *p = value;
}

PHX_FN int phx_serial_begin(const struct phx_worker *w)
{
    (void)w;
    __syncwarp();
    return phx_lane() == 0;
}
PHX_FN void phx_serial_end(const struct phx_worker *w)
{
    (void)w;
    __syncwarp();
}
PHX_FN int phx_serial_end_value(const struct phx_worker *w, int value)
{
    (void)w;
    __syncwarp();
    return (int)__shfl_sync(PHX_WARP_ALL, value, 0);
}

// --- leaves -------------------------------------------------------------------------------------

// Sizes are multiples of 4; 16-byte pieces first where both ends allow them.
PHX_FN void phx_copy_lanes(void *target, const void *source, uint64_t size_bytes)
{
    uint64_t done = 0;
    if (((uintptr_t)target | (uintptr_t)source) % 16 == 0) {
        for (uint64_t i = phx_lane(); i < size_bytes / 16; i += PHX_WARP)
            ((uint4 *)target)[i] = ((const uint4 *)source)[i];
        done = size_bytes / 16 * 4;
    }
    for (uint64_t i = done + phx_lane(); i < size_bytes / 4; i += PHX_WARP)
        ((uint32_t *)target)[i] = ((const uint32_t *)source)[i];
}

PHX_FN void phx_copy(const struct phx_worker *w, void *target, const void *source,
                     uint64_t size_bytes)
{
    (void)w;
    phx_copy_lanes(target, source, size_bytes);
    __syncwarp();
}
PHX_FN void phx_copy_row(const struct phx_worker *w, void *target, const void *source,
                         uint64_t size_bytes)
{
    phx_copy(w, target, source, size_bytes);
}
PHX_FN void phx_zero_row(const struct phx_worker *w, void *target, uint64_t size_bytes)
{
    (void)w;
    for (uint64_t i = phx_lane(); i < size_bytes / 4; i += PHX_WARP)
        ((uint32_t *)target)[i] = 0;
}

// One group of 128 channels, four to a lane.
PHX_FN void phx_quantise_group(const struct phx_shape *s, const uint16_t *x, uint32_t group,
                               uint8_t *row, uint8_t *scales)
{
    const uint16_t *mine = x + (uint64_t)group * PHX_SCALE_GROUP + 4 * phx_lane();
    uint32_t amax_bits = 0;
    for (uint32_t i = 0; i < 4; i++)
        amax_bits = phx_amax_fold(amax_bits, mine[i]);
    amax_bits = __reduce_max_sync(PHX_WARP_ALL, amax_bits);
    float amax = phx_amax_finish(amax_bits);
    float inverse = phx_inverse_f32(amax);
    if (s->scale_format == PHX_SCALE_UE8M0) {
        uint8_t exponent = phx_scale_ue8m0(amax);
        inverse = phx_inverse_ue8m0(exponent);
        if (phx_lane() == 0)
            scales[group] = exponent;
    } else if (phx_lane() == 0) {
        ((float *)(void *)scales)[group] = phx_scale_f32(amax);
    }
    uint32_t packed = 0;
    for (uint32_t i = 0; i < 4; i++)
        packed |= (uint32_t)phx_e4m3_from_f32(phx_f32_from_bf16(mine[i]) * inverse) << (8 * i);
    ((uint32_t *)(void *)(row + (uint64_t)group * PHX_SCALE_GROUP))[phx_lane()] = packed;
}

PHX_FN void phx_stage_row(const struct phx_worker *w, uint8_t *row, const uint16_t *x)
{
    const struct phx_shape *s = &w->rank->shape;
    if (s->dtype == PHX_BF16) {
        phx_copy_lanes(row, x, 2 * (uint64_t)s->channels);
        return;
    }
    uint8_t *scales = row + phx_payload_bytes(s, s->channels);
    for (uint32_t i = phx_lane(); i < phx_scale_words(s, s->channels); i += PHX_WARP)
        ((uint32_t *)(void *)scales)[i] = 0;
    __syncwarp();
    for (uint32_t group = 0; group < phx_scale_groups(s->channels); group++)
        phx_quantise_group(s, x, group, row, scales);
}

PHX_FN void phx_sum_rows(const struct phx_worker *w, uint16_t *out, const struct phx_row_list *rows,
                         float scale)
{
    uint32_t channels = w->rank->shape.channels;
    for (uint32_t c = 2 * phx_lane(); c < channels; c += 2 * PHX_WARP) {
        float low = 0.0f;
        float high = 0.0f;
        for (uint32_t i = 0; i < rows->count; i++) {
            uint32_t pair = *(const uint32_t *)(const void *)(rows->row[i] + c);
            low = phx_fma(rows->weight[i], phx_f32_from_bf16((uint16_t)pair), low);
            high = phx_fma(rows->weight[i], phx_f32_from_bf16((uint16_t)(pair >> 16)), high);
        }
        uint32_t sum = phx_bf16_from_f32(low * scale);
        sum |= (uint32_t)phx_bf16_from_f32(high * scale) << 16;
        *(uint32_t *)(void *)(out + c) = sum;
    }
    __syncwarp();
}

PHX_FN uint64_t phx_check_sum(const struct phx_worker *w, const uint8_t *row, uint64_t size_bytes)
{
    (void)w;
    const uint64_t *words = (const uint64_t *)(const void *)row;
    uint64_t sum = 0;
    __syncwarp(); // the lanes that staged the row are through
    for (uint64_t i = phx_lane(); i < size_bytes / 8; i += PHX_WARP)
        sum += phx_check_mix(words[i], i + 1);
    for (uint32_t step = PHX_WARP / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(PHX_WARP_ALL, (unsigned long long)sum, (int)step);
    return sum;
}
PHX_FN uint64_t phx_row_load(const struct phx_worker *w, const uint64_t *word)
{
    (void)w;
    return phx_from_lane0(phx_lane() == 0 ? *word : 0);
}
PHX_FN void phx_scatter(const struct phx_worker *w, uint32_t *target, uint64_t stride,
                        const uint32_t *source, uint32_t count)
{
    (void)w;
    for (uint32_t i = phx_lane(); i < count; i += PHX_WARP)
        target[i * stride] = source[i];
}

// --- peers --------------------------------------------------------------------------------------

// A test launch may have a rank die: at that put, and after it, its warps store nothing more.
PHX_FN int phx_dies_here(const struct phx_worker *w)
{
    struct phx_rank_state *state = w->rank->state;
    if (phx_local_load(w, &state->dead) != 0)
        return 1;
    if (phx_local_load(w, &state->die_after_puts) == 0)
        return 0;
    if (phx_local_add(w, &state->puts, 1) < phx_local_load(w, &state->die_after_puts))
        return 0;
    phx_local_store(w, &state->dead, 1);
    return 1;
}

PHX_FN void phx_signal_store(const struct phx_worker *w, uint32_t peer, uint64_t offset,
                             uint64_t value)
{
    __syncwarp();
    if (phx_lane() == 0)
        cuda::atomic_ref<uint64_t, cuda::thread_scope_system>(
            *(uint64_t *)(void *)(w->rank->to[peer] + offset))
            .store(value, cuda::memory_order_release);
    __syncwarp();
}

// Puts never find a lane full here, and a dead rank's are lost without its knowing: always 1.
PHX_FN int phx_put(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                   const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes, uint32_t token)
{
    (void)wire_bytes;
    (void)token;
    __syncwarp();
    if (!phx_dies_here(w))
        phx_copy_lanes(w->rank->to[peer] + target_offset, source, size_bytes);
    return 1;
}
PHX_FN int phx_put_signal(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                          const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes,
                          uint64_t signal_offset, uint64_t signal_value, uint32_t token)
{
    (void)wire_bytes;
    (void)token;
    __syncwarp();
    if (phx_dies_here(w))
        return 1;
    phx_copy_lanes(w->rank->to[peer] + target_offset, source, size_bytes);
    phx_signal_store(w, peer, signal_offset, signal_value);
    return 1;
}
PHX_FN int phx_signal(const struct phx_worker *w, uint32_t peer, uint64_t signal_offset,
                      uint64_t signal_value, uint32_t token)
{
    (void)token;
    if (!phx_dies_here(w))
        phx_signal_store(w, peer, signal_offset, signal_value);
    return 1;
}

#endif
