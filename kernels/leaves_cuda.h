// kernels/leaves_cuda.h: operations on rows and spans by the lanes of a GPU worker.
//
// Their bits are those of leaves_portable.c. Every thread moves 16 bytes at a time. Sizes are
// multiples of 4.

#ifndef PHX_KERNELS_LEAVES_CUDA_H
#define PHX_KERNELS_LEAVES_CUDA_H

#include "kernels/device_cuda.h"

#define PHX_COPY_AHEAD 4u   // loads of a thread under way at once, of a row that a block copies,
#define PHX_PLACE_AHEAD 14u // of one that a warp does,
#define PHX_SCALES_AHEAD 2u // and of its scales
#define PHX_AHEAD 15u       // of one that a warp fetches on chip

template <uint32_t AHEAD>
PHX_FN void phx_copy_ahead(void *target, const void *source, uint32_t size_bytes, uint32_t lane,
                           uint32_t lanes)
{
    uint32_t done = 0; // words
    if (((uintptr_t)target | (uintptr_t)source) % 16 == 0) {
        uint32_t pieces = size_bytes / 16;
        PHX_ROLLED for (uint32_t base = lane; base < pieces; base += AHEAD * lanes)
        {
            uint4 ahead[AHEAD];
#pragma unroll
            for (uint32_t i = 0; i < AHEAD; i++)
                if (base + i * lanes < pieces)
                    ahead[i] = ((const uint4 *)source)[base + i * lanes];
#pragma unroll
            for (uint32_t i = 0; i < AHEAD; i++)
                if (base + i * lanes < pieces)
                    ((uint4 *)target)[base + i * lanes] = ahead[i];
        }
        done = pieces * 4;
    }
    PHX_ROLLED for (uint32_t i = done + lane; i < size_bytes / 4;
                    i += lanes)((uint32_t *)target)[i] = ((const uint32_t *)source)[i];
}

static __device__ __noinline__ void
phx_copy_span(void *target, const void *source, uint32_t size_bytes, uint32_t lane, uint32_t lanes)
{
    phx_copy_ahead<PHX_COPY_AHEAD>(target, source, size_bytes, lane, lanes);
}
PHX_FN void phx_copy_lanes(const struct phx_worker *w, void *target, const void *source,
                           uint64_t size_bytes)
{
    phx_copy_span(target, source, (uint32_t)size_bytes, phx_lane(w), w->lanes);
}

PHX_FN void phx_copy(const struct phx_worker *w, void *target, const void *source,
                     uint64_t size_bytes)
{
    phx_copy_lanes(w, target, source, size_bytes);
    phx_sync(w);
}
// What it stores is seen after a barrier, or phx_split_end().
PHX_FN void phx_copy_row(const struct phx_worker *w, void *target, const void *source,
                         uint64_t size_bytes)
{
    phx_copy_lanes(w, target, source, size_bytes);
}
PHX_FN void phx_zero_row(const struct phx_worker *w, void *target, uint64_t size_bytes)
{
    for (uint32_t i = phx_lane(w); i < size_bytes / 4; i += w->lanes)
        ((uint32_t *)target)[i] = 0;
}

PHX_FN uint32_t phx_e4m3_pair(float low, float high)
{
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
}

// 16 channels by each thread, so that 8 neighbours make a group of 128 and agree on its scale.
// packed: the channels.
PHX_FN void phx_quantise_unit(const struct phx_worker *w, uint32_t unit, const uint4 *packed,
                              uint8_t *row, uint8_t *scales)
{
    const struct phx_shape *s = &w->rank->shape;
    const uint32_t words[8] = {packed[0].x, packed[0].y, packed[0].z, packed[0].w,
                               packed[1].x, packed[1].y, packed[1].z, packed[1].w};
    uint32_t group = 0xFFu << (threadIdx.x % PHX_WARP / 8 * 8);
    uint32_t most = 0; // of two halves
#pragma unroll
    for (uint32_t i = 0; i < 8; i++)
        most = __vmaxu2(most, words[i] & 0x7FFF7FFFu);
    uint32_t amax_bits = most >> 16 > (most & 0xFFFFu) ? most >> 16 : most & 0xFFFFu;
    if (amax_bits > 0x7F80u) { // a NaN, which does not count
        amax_bits = 0;
        PHX_ROLLED for (uint32_t i = 0; i < 16; i++)
        {
            uint4 four = i < 8 ? packed[0] : packed[1];
            uint32_t word = i / 2 % 4 == 0   ? four.x
                            : i / 2 % 4 == 1 ? four.y
                            : i / 2 % 4 == 2 ? four.z
                                             : four.w;
            amax_bits = phx_amax_fold(amax_bits, (uint16_t)(word >> i % 2 * 16));
        }
    }
#pragma unroll
    for (uint32_t step = 4; step > 0; step /= 2) {
        uint32_t other = __shfl_xor_sync(group, amax_bits, step);
        amax_bits = other > amax_bits ? other : amax_bits;
    }
    float amax = phx_amax_finish(amax_bits);
    float inverse;
    if (s->scale_format == PHX_SCALE_UE8M0) {
        uint8_t exponent = phx_scale_ue8m0(amax);
        inverse = phx_inverse_ue8m0(exponent);
        if (unit % 8 == 0)
            scales[unit / 8] = exponent;
    } else {
        inverse = phx_inverse_f32(amax);
        if (unit % 8 == 0)
            ((float *)(void *)scales)[unit / 8] = phx_scale_f32(amax);
    }
    uint32_t out[4];
#pragma unroll
    for (uint32_t i = 0; i < 4; i++)
        out[i] = phx_e4m3_pair(phx_f32_from_bf16((uint16_t)words[2 * i]) * inverse,
                               phx_f32_from_bf16((uint16_t)(words[2 * i] >> 16)) * inverse) |
                 phx_e4m3_pair(phx_f32_from_bf16((uint16_t)words[2 * i + 1]) * inverse,
                               phx_f32_from_bf16((uint16_t)(words[2 * i + 1] >> 16)) * inverse)
                     << 16;
    ((uint4 *)(void *)row)[unit] = make_uint4(out[0], out[1], out[2], out[3]);
}

// Bulk copies to shared memory, and an mbarrier that tells when they are there: phase by phase.
PHX_FN uint32_t phx_fetch_address(const void *chip)
{
    return (uint32_t)__cvta_generic_to_shared(chip);
}
PHX_FN void phx_fetch_init(uint64_t *there) // before lanes first meet
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\n\tfence.proxy.async.shared::cta;" ::"r"(
                     phx_fetch_address(there))
                 : "memory");
}
PHX_FN void phx_fetch_expect(uint64_t *there, uint32_t bytes)
{
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(phx_fetch_address(there)),
        "r"(bytes)
        : "memory");
}
PHX_FN void phx_fetch_bytes(uint64_t *there, void *to, const void *from, uint32_t bytes)
{
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
        "[%3];" ::"r"(phx_fetch_address(to)),
        "l"(from), "r"(bytes), "r"(phx_fetch_address(there))
        : "memory");
}
PHX_FN void phx_fetch_wait(uint64_t *there, uint32_t phase)
{
    uint32_t done = 0;
    while (!done)
        asm volatile("{\n\t.reg .pred p;\n\t"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
                     "selp.u32 %0, 1, 0, p;\n\t}"
                     : "=r"(done)
                     : "r"(phx_fetch_address(there)), "r"(phase)
                     : "memory");
}

// Rows that will be summed next come on chip, if there is room for all of them, while the worker
// gets to it; then they are listed there. Behind the fence of the last row that was built.
#define PHX_FETCHER PHX_WARP // the lane that does it
PHX_FN void phx_rows_fetch(struct phx_worker *w, struct phx_row_list *list)
{
    struct phx_chip *chip = phx_chip();
    uint32_t bytes = 2 * w->rank->shape.channels;
    uint32_t count = list->count;
    if (count == 0 || count * bytes > chip->ahead_bytes)
        return;
    w->fetches++;
    if (threadIdx.x != PHX_FETCHER)
        return;
    phx_fetch_expect(&chip->rows_there, count * bytes);
    PHX_ROLLED for (uint32_t i = 0; i < count; i++)
    {
        uint8_t *to = phx_chip_memory + chip->ahead_at + i * bytes;
        phx_fetch_bytes(&chip->rows_there, to, list->row[i], bytes);
        list->row[i] = (const uint16_t *)(const void *)to; // seen when lanes next meet
    }
}
PHX_FN void phx_rows_fetched(struct phx_worker *w)
{
    if (w->fetches == w->fetches_seen)
        return;
    w->fetches_seen = w->fetches;
    phx_fetch_wait(&phx_chip()->rows_there, (w->fetches - 1) & 1);
}

// A block's first token comes on chip while the body does something else, to where received rows
// will be fetched.
PHX_FN const uint16_t *phx_token_fetched(const struct phx_dispatch_op *op, uint32_t worker)
{
    const struct phx_chip *chip = phx_chip();
    const struct phx_shape *s = &chip->rank.shape;
    if (!phx_is_by_token(s) || chip->ahead_at == 0 || worker >= op->token_count ||
        ((uintptr_t)op->x & 15) != 0)
        return NULL;
    return op->x + (uint64_t)worker * s->channels;
}
PHX_FN void phx_token_fetch(const struct phx_dispatch_op *op, uint32_t worker) // by one thread
{
    struct phx_chip *chip = phx_chip();
    const uint16_t *x = phx_token_fetched(op, worker);
    uint8_t *to = phx_chip_memory + chip->ahead_at;
    uint32_t bytes = 2 * chip->rank.shape.channels;
    if (x == NULL)
        return;
    phx_fetch_expect(&chip->token_there, bytes);
    phx_fetch_bytes(&chip->token_there, to, x, bytes);
}
// Where a token is read.
PHX_FN const uint16_t *phx_token_at(const struct phx_worker *w, const uint16_t *x)
{
    struct phx_chip *chip = phx_chip();
    if (x != phx_token_fetched(&chip->launch.dispatch, w->index))
        return x;
    phx_fetch_wait(&chip->token_there, 0);
    return (const uint16_t *)(const void *)(phx_chip_memory + chip->ahead_at);
}

#define PHX_UNITS_AHEAD 2u // of a lane, whose loads are under way at once
PHX_FN void phx_stage_row(const struct phx_worker *w, uint8_t *row, const uint16_t *x)
{
    const struct phx_shape *s = &w->rank->shape;
    x = phx_token_at(w, x);
    if (s->dtype == PHX_BF16) {
        phx_copy_lanes(w, row, x, 2 * (uint64_t)s->channels);
        phx_sync(w);
        return;
    }
    uint8_t *scales = row + phx_stored_payload_bytes(s);
    if (s->scale_format == PHX_SCALE_UE8M0) {
        for (uint32_t i = phx_lane(w); i < phx_stored_scale_words(s); i += w->lanes)
            ((uint32_t *)(void *)scales)[i] = 0;
        phx_sync(w);
    }
    uint32_t units = s->channels / 16;
#pragma unroll 1
    for (uint32_t unit = phx_lane(w); unit < units; unit += PHX_UNITS_AHEAD * w->lanes) {
        uint4 packed[PHX_UNITS_AHEAD][2];
#pragma unroll
        for (uint32_t i = 0; i < 2 * PHX_UNITS_AHEAD; i++) {
            uint32_t at = unit + i / 2 * w->lanes;
            if (at < units)
                packed[i / 2][i % 2] = ((const uint4 *)(const void *)x)[2 * (uint64_t)at + i % 2];
        }
#pragma unroll
        for (uint32_t i = 0; i < PHX_UNITS_AHEAD; i++)
            if (unit + i * w->lanes < units)
                phx_quantise_unit(w, unit + i * w->lanes, packed[i], row, scales);
    }
    phx_sync(w);
}

PHX_FN uint32_t phx_bf16_pair(float low, float high) // phx_bf16_from_f32() of both
{
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

// Eight channels of each of CHANNELS pieces of the sum, `step` channels apart; the loads of ROWS
// rows of all of them are under way before the first is added. Pieces past the end are left out.
template <uint32_t CHANNELS, uint32_t ROWS>
PHX_FN void phx_sum_pieces(uint16_t *out, const struct phx_row_list *rows, uint32_t count,
                           uint32_t channel, uint32_t step, uint32_t channels, float scale)
{
    float sum[CHANNELS][8];
#pragma unroll
    for (uint32_t i = 0; i < CHANNELS * 8; i++)
        sum[i / 8][i % 8] = 0.0f;
#pragma unroll 1
    for (uint32_t base = 0; base < count; base += ROWS) {
        uint4 ahead[CHANNELS][ROWS];
#pragma unroll
        for (uint32_t i = 0; i < CHANNELS * ROWS; i++) {
            uint32_t at = channel + i / ROWS * step;
            if (base + i % ROWS < count && at < channels)
                ahead[i / ROWS][i % ROWS] =
                    *(const uint4 *)(const void *)(rows->row[base + i % ROWS] + at);
        }
#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++) {
            if (base + r >= count)
                break;
            float weight = rows->weight[base + r];
#pragma unroll
            for (uint32_t i = 0; i < CHANNELS * 4; i++) {
                const uint4 *a = &ahead[i / 4][r];
                uint32_t word = i % 4 == 0 ? a->x : i % 4 == 1 ? a->y : i % 4 == 2 ? a->z : a->w;
                float *two = &sum[i / 4][i % 4 * 2];
                two[0] = phx_fma(weight, phx_f32_from_bf16((uint16_t)word), two[0]);
                two[1] = phx_fma(weight, phx_f32_from_bf16((uint16_t)(word >> 16)), two[1]);
            }
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < CHANNELS; i++) {
        uint32_t words[4];
#pragma unroll
        for (uint32_t j = 0; j < 4; j++)
            words[j] = phx_bf16_pair(sum[i][2 * j] * scale, sum[i][2 * j + 1] * scale);
        if (channel + i * step < channels)
            *(uint4 *)(void *)(out + channel + i * step) =
                make_uint4(words[0], words[1], words[2], words[3]);
    }
}

PHX_FN void phx_sum_rows(const struct phx_worker *w, uint16_t *out, const struct phx_row_list *rows,
                         uint32_t count, float scale)
{
    uint32_t channels = w->rank->shape.channels;
    uint32_t step = 8 * w->lanes;
#pragma unroll 1
    for (uint32_t c = 8 * phx_lane(w); c < channels; c += 2 * step)
        phx_sum_pieces<2, 4>(out, rows, count, c, step, channels, scale);
    phx_sync(w);
}

// Each of some sums modulo 2^32 over the lanes of a whole block.
PHX_FN void phx_sums(const struct phx_worker *w, uint32_t *sums, uint32_t count)
{
    struct phx_chip *chip = phx_chip();
    uint32_t turn = phx_turn(w);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t sum = __reduce_add_sync(PHX_WARP_ALL, sums[i]);
        if (threadIdx.x % PHX_WARP == 0)
            chip->warp_sums[turn][threadIdx.x / PHX_WARP][i] = sum;
        sums[i] = 0;
    }
    phx_sync(w);
#pragma unroll
    for (uint32_t warp = 0; warp < PHX_LANES / PHX_WARP; warp++)
        for (uint32_t i = 0; i < count; i++)
            sums[i] += chip->warp_sums[turn][warp][i];
}

// Only of whole blocks or of a split worker's warp, like everything here; the order is no matter.
PHX_FN uint64_t phx_sum_lanes(const struct phx_worker *w, uint64_t value)
{
    unsigned long long sum = value;
    for (uint32_t step = PHX_WARP / 2; step > 0; step /= 2)
        sum += __shfl_xor_sync(PHX_WARP_ALL, sum, (int)step);
    if (w->lanes == PHX_WARP)
        return sum;
    uint32_t turn = phx_turn(w);
    if (threadIdx.x % PHX_WARP == 0)
        phx_chip()->warp_sum[turn][threadIdx.x / PHX_WARP] = sum;
    phx_sync(w);
    sum = 0;
    for (uint32_t i = 0; i < PHX_LANES / PHX_WARP; i++)
        sum += phx_chip()->warp_sum[turn][i];
    return sum;
}

PHX_FN uint64_t phx_check_sum(const struct phx_worker *w, const uint8_t *row, uint64_t size_bytes)
{
    const uint64_t *words = (const uint64_t *)(const void *)row;
    uint64_t sum = 0;
    phx_sync(w); // the lanes that staged the row are through
    for (uint64_t i = phx_lane(w); i < size_bytes / 8; i += w->lanes)
        sum += phx_check_mix(words[i], i + 1);
    return phx_sum_lanes(w, sum);
}
PHX_FN uint64_t phx_row_load(const struct phx_worker *w, const uint64_t *word)
{
    return phx_from_lane0(w, phx_lane(w) == 0 ? *word : 0);
}
PHX_FN void phx_scatter(const struct phx_worker *w, uint32_t *target, uint64_t stride,
                        const uint32_t *source, uint32_t count)
{
#pragma unroll 1
    for (uint32_t i = phx_lane(w); i < count; i += w->lanes)
        target[i * stride] = source[i];
}

// A row that this warp places next comes on chip while what became of it is decided: its own lanes
// fetch it. Returns where from it is to be placed, behind phx_row_ahead_wait().
PHX_FN const uint8_t *phx_row_ahead(const struct phx_worker *w, const uint8_t *wire,
                                    uint64_t size_bytes)
{
    const struct phx_chip *chip = phx_chip();
    (void)w;
    if (chip->ahead_at == 0)
        return wire;
    uint8_t *row =
        phx_chip_memory + chip->ahead_at + threadIdx.x / PHX_WARP * chip->figures.dispatch_stride;
    uint32_t lane = threadIdx.x % PHX_WARP;
    uint32_t to = (uint32_t)__cvta_generic_to_shared(row) + 16 * lane;
    const uint8_t *from = wire + 16 * lane;
    uint32_t pieces = (uint32_t)size_bytes / 16;
    PHX_ROLLED for (uint32_t base = lane; base < pieces; base += PHX_AHEAD * PHX_WARP)
    {
#pragma unroll
        for (uint32_t i = 0; i < PHX_AHEAD; i++)
            if (base + i * PHX_WARP < pieces)
                asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + 512 * i),
                             "l"(from + 512 * i)
                             : "memory");
        to += 512 * PHX_AHEAD;
        from += 512 * PHX_AHEAD;
    }
    uint32_t i = (uint32_t)size_bytes / 16 * 4 + lane;
    if (i < (uint32_t)size_bytes / 4)
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(
                         (uint32_t)__cvta_generic_to_shared(row + 4 * i)),
                     "l"(wire + 4 * i)
                     : "memory");
    return row;
}
PHX_FN void phx_row_ahead_wait(const struct phx_worker *split)
{
    (void)split;
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncwarp();
}

// By a warp. Scales are under way together with the first bytes of the payload.
PHX_FN void phx_place_received(const struct phx_worker *w, uint8_t *target, const uint8_t *wire,
                               uint64_t payload_bytes, uint32_t *scales, uint64_t stride,
                               uint32_t words)
{
    const uint32_t *from = (const uint32_t *)(const void *)(wire + payload_bytes);
    uint32_t scale[PHX_SCALES_AHEAD];
#pragma unroll
    for (uint32_t i = 0; i < PHX_SCALES_AHEAD; i++)
        if (phx_lane(w) + i * PHX_WARP < words)
            scale[i] = from[phx_lane(w) + i * PHX_WARP];
    phx_copy_ahead<PHX_PLACE_AHEAD>(target, wire, (uint32_t)payload_bytes, phx_lane(w), PHX_WARP);
#pragma unroll
    for (uint32_t i = 0; i < PHX_SCALES_AHEAD; i++)
        if (phx_lane(w) + i * PHX_WARP < words)
            scales[(phx_lane(w) + i * PHX_WARP) * stride] = scale[i];
    uint32_t done = PHX_SCALES_AHEAD * PHX_WARP;
    if (words > done)
        phx_scatter(w, scales + done * stride, stride, from + done, words - done);
}

#endif
