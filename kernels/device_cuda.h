// kernels/device_cuda.h: device.h for GPUs: a worker is a thread block.
//
// PHX_LANES threads of the block run the body together; they are called lanes here. Scalars live in
// every lane and are equal in all of them: what is read from words that others write is read by one
// lane and handed to the rest. One more warp, the *wire*, sends (wire_cuda.h): a body's puts and
// signals are jobs in a short queue in shared memory, which the wire turns into bulk copies and
// release stores, in order for each peer. So a body goes on while its rows are under way. Route
// messages are short, and its lanes store them themselves (message_cuda.h).
//
// Inside phx_split() the lanes of one warp stand for the worker.
//
// Lanes are handed values through two buffers by turns, one barrier for each: who writes the first
// buffer again has passed the barrier of the second, and so has everybody who read the first.

#ifndef PHX_KERNELS_DEVICE_CUDA_H
#define PHX_KERNELS_DEVICE_CUDA_H

#include <cuda/atomic>

#include "kernels/check.h"
#include "kernels/chip_cuda.h"
#include "kernels/numerics.h"

typedef cuda::atomic_ref<uint64_t, cuda::thread_scope_device> phx_local_word;
typedef cuda::atomic_ref<uint64_t, cuda::thread_scope_system> phx_shared_word;

PHX_FN uint32_t phx_lane(const struct phx_worker *w)
{
    return threadIdx.x & (w->lanes - 1);
}

PHX_FN void phx_sync_block(void)
{
    asm volatile("bar.sync 1, %0;" ::"n"(PHX_LANES) : "memory");
}
// The lanes of this worker meet; what one stored before, the others may read.
PHX_FN void phx_sync(const struct phx_worker *w)
{
    if (w->lanes == PHX_LANES)
        phx_sync_block();
    else
        __syncwarp();
}

PHX_FN uint32_t phx_turn(const struct phx_worker *w)
{
    struct phx_worker *mine = (struct phx_worker *)w; // its bookkeeping
    mine->turn ^= 1;
    return mine->turn;
}

// Lane 0's value to all, with what its acquire covers.
PHX_FN uint64_t phx_from_lane0(const struct phx_worker *w, uint64_t value)
{
    if (w->lanes != PHX_LANES) {
        __syncwarp();
        return __shfl_sync(PHX_WARP_ALL, (unsigned long long)value, 0);
    }
    uint32_t turn = phx_turn(w);
    if (threadIdx.x == 0)
        phx_chip()->handed[turn][0] = value;
    phx_sync(w);
    return phx_chip()->handed[turn][0];
}

PHX_FN void phx_worker_init(struct phx_worker *w)
{
    w->rank = &phx_chip()->rank; // the same, where the compiler sees that it is on chip
    w->lanes = PHX_LANES;
    w->turn = 0;
    w->stages = 0;
    w->unfenced = 0;
    w->expects = 0;
    w->fetches = 0;
    w->fetches_seen = 0;
}

// --- time and waiting ---------------------------------------------------------------------------

PHX_FN uint64_t phx_own_now(void)
{
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}
PHX_FN uint64_t phx_now(const struct phx_worker *w)
{
    return phx_from_lane0(w, phx_lane(w) == 0 ? phx_own_now() : 0);
}
PHX_FN uint64_t phx_now_begun(const struct phx_worker *w)
{
    (void)w;
    return phx_chip()->begun_ns;
}
// Reading the clock takes half as long as a load from memory: so it goes along with one, in a warp
// that has no other.
#define PHX_CLOCK_LANE (PHX_LANES / 2)
PHX_FN void phx_note_now(uint32_t turn)
{
    if (threadIdx.x == PHX_CLOCK_LANE)
        phx_chip()->looked_ns[turn] = phx_own_now();
}
PHX_FN uint64_t phx_now_looked(const struct phx_worker *w) // before it hands on anything else
{
    return phx_chip()->looked_ns[w->turn];
}

PHX_FN uint64_t phx_own_load(const uint64_t *word)
{
    return phx_shared_word(*(uint64_t *)word).load(cuda::memory_order_acquire);
}

PHX_FN uint64_t phx_load(const struct phx_worker *w, const uint64_t *word)
{
    return phx_from_lane0(w, phx_lane(w) == 0 ? phx_own_load(word) : 0);
}

// Of the first words each goes to a lane, so that one instruction loads all of them: acquire loads
// one after another would each wait for the one before.
PHX_FN void phx_gather_load(const uint64_t *const *words, uint32_t count, uint32_t lane,
                            uint32_t turn)
{
    const uint64_t *mine = words[0];
    if (lane >= count)
        return;
#pragma unroll
    for (uint32_t i = 1; i < PHX_GATHERED; i++)
        if (i < count && lane == i)
            mine = words[i];
    phx_chip()->handed[turn][lane] = phx_own_load(mine);
}

// values[i] = *words[i], with acquire; at most PHX_GATHERED.
PHX_FN void phx_gather(const struct phx_worker *w, const uint64_t *const *words, uint64_t *values,
                       uint32_t count)
{
    struct phx_chip *chip = phx_chip();
    uint32_t turn = phx_turn(w);
    phx_gather_load(words, count, threadIdx.x, turn);
    phx_note_now(turn);
    phx_sync(w);
    for (uint32_t i = 0; i < count; i++)
        values[i] = chip->handed[turn][i];
}

#define PHX_LOOK_NOTHING 1u // flags of a look
#define PHX_LOOK_GONE 2u

// Each warp's part of phx_look(). Values are of 24 bits, so 32 of them add up in 32 bits.
PHX_FN void phx_look_warp(const struct phx_worker *w, const uint64_t *words, uint32_t count,
                          uint32_t turn)
{
    uint32_t flags = 0;
    uint64_t sum = 0;
    PHX_ROLLED for (uint32_t first = threadIdx.x & ~(PHX_WARP - 1); first < count;
                    first += PHX_LANES)
    {
        uint32_t i = first + threadIdx.x % PHX_WARP;
        uint32_t value = 0;
        if (i < count) {
            uint64_t word = phx_own_load(&words[i]);
            uint32_t says = phx_word_says(word, w->rank->epoch, w->op->sequence);
            flags |= says == PHX_SEEN_GONE ? PHX_LOOK_GONE
                                           : (says == PHX_SEEN_NOTHING ? PHX_LOOK_NOTHING : 0);
            value = phx_word_value(word);
        }
        sum += __reduce_add_sync(PHX_WARP_ALL, value);
    }
    flags = __reduce_or_sync(PHX_WARP_ALL, flags);
    if (threadIdx.x % PHX_WARP == 0) {
        phx_chip()->warp_seen[turn][threadIdx.x / PHX_WARP] = flags;
        phx_chip()->warp_sum[turn][threadIdx.x / PHX_WARP] = sum;
    }
}

// See device_c.h. The words are shared out, so that a look takes as long as one load.
PHX_FN uint32_t phx_look(const struct phx_worker *w, const uint64_t *const *local, uint64_t *values,
                         uint32_t local_count, const uint64_t *words, uint32_t count, uint64_t *sum)
{
    struct phx_chip *chip = phx_chip();
    uint32_t turn = phx_turn(w);
    uint32_t flags = 0;
    if (local_count > 0) // by the last lanes, which have the fewest words
        phx_gather_load(local, local_count, PHX_LANES - 1 - threadIdx.x, turn);
    phx_look_warp(w, words, count, turn);
    phx_note_now(turn);
    phx_sync(w);
    for (uint32_t i = 0; i < local_count; i++)
        values[i] = chip->handed[turn][i];
    *sum = 0;
#pragma unroll
    for (uint32_t i = 0; i < PHX_LANES / PHX_WARP; i++) {
        flags |= chip->warp_seen[turn][i];
        *sum += chip->warp_sum[turn][i];
    }
    if (flags & PHX_LOOK_GONE)
        *sum = flags & PHX_LOOK_NOTHING;
    return flags & PHX_LOOK_GONE ? PHX_SEEN_GONE
                                 : (flags & PHX_LOOK_NOTHING ? PHX_SEEN_NOTHING : PHX_SEEN_ALL);
}

// Other warps go on while one waits for memory.
PHX_FN void phx_fetch(const void *base, uint64_t size_bytes)
{
    (void)base;
    (void)size_bytes;
}

// The words that this worker will wait for next, and their fate word. While it waits for something
// else it looks whether they are there; if so, it need not ask again.
PHX_FN void phx_expect(struct phx_worker *w, const uint64_t *fate, const uint64_t *words,
                       uint32_t count)
{
    struct phx_expected *e = &phx_chip()->expected;
    w->expects = 1;
    if (phx_lane(w) == 0) {
        e->fate = fate;
        e->words = words;
        e->count = count;
    }
    phx_sync(w);
}
// phx_gather(), and a look at what is expected, in the time that one of both takes.
PHX_FN void phx_gather_expecting(struct phx_worker *w, const uint64_t *const *words,
                                 uint64_t *values, uint32_t count)
{
    const struct phx_expected *e = &phx_chip()->expected;
    if (w->expects != 1) {
        phx_gather(w, words, values, count);
        return;
    }
    const uint64_t *local[PHX_GATHERED];
    uint64_t seen[PHX_GATHERED];
    uint64_t sum;
#pragma unroll
    for (uint32_t i = 0; i < PHX_GATHERED; i++)
        local[i] = i < count ? words[i] : e->fate;
    if (phx_look(w, local, seen, count + 1, e->words, e->count, &sum) == PHX_SEEN_ALL) {
        w->expects = 2;
        w->expected_sum = sum;
        w->expected_fate = seen[count];
    }
#pragma unroll
    for (uint32_t i = 0; i < PHX_GATHERED; i++)
        if (i < count)
            values[i] = seen[i];
}
// True when they are those that phx_wait() is called for, and were seen. What was there then of the
// fate is noted, as phx_wait() does.
PHX_FN int phx_expected(struct phx_worker *w, const uint64_t *words, uint64_t *sum)
{
    uint32_t expects = w->expects;
    w->expects = 0;
    if (expects != 2 || phx_chip()->expected.words != words)
        return 0;
    *sum = w->expected_sum;
    w->fate_seen = w->expected_fate;
    return 1;
}

PHX_FN int phx_local_reached(const struct phx_worker *w, const uint64_t *word, uint64_t value)
{
    (void)w;
    (void)word; // nothing parks: workers poll
    (void)value;
    return 0;
}

PHX_FN void phx_park(const struct phx_worker *w, const uint64_t *words, uint32_t count,
                     uint64_t until_ns)
{
    (void)w;
    (void)words;
    (void)count;
    (void)until_ns;
}

PHX_FN void phx_settle(const struct phx_worker *w)
{
    (void)w; // work takes the time it takes
}

PHX_FN void phx_wake(const struct phx_worker *w, const uint64_t *word)
{
    (void)w;
    (void)word;
}

PHX_FN void phx_phase(const struct phx_worker *w, uint32_t phase, uint64_t number)
{
    (void)w;
    (void)phase;
    (void)number;
}

// Our region that a source writes, and the one at a peer that we write. Those of the first ranks
// are kept on chip.
PHX_FN uint8_t *phx_region_of(const struct phx_worker *w, uint32_t source)
{
    return source < PHX_REGIONS ? phx_chip()->from[source] : w->rank->from[source];
}
PHX_FN uint8_t *phx_head_of(const struct phx_worker *w, uint32_t source, uint64_t sequence)
{
    (void)sequence;
    return phx_region_of(w, source);
}
PHX_FN uint8_t *phx_region_at(const struct phx_worker *w, uint32_t peer)
{
    return peer < PHX_REGIONS ? phx_chip()->to[peer] : w->rank->to[peer];
}

// --- the workers of this rank -------------------------------------------------------------------

PHX_FN uint64_t phx_local_load(const struct phx_worker *w, const uint64_t *word)
{
    return phx_load(w, word);
}
PHX_FN void phx_local_store(const struct phx_worker *w, uint64_t *word, uint64_t value)
{
    phx_sync(w);
    if (phx_lane(w) == 0)
        phx_local_word(*word).store(value, cuda::memory_order_release);
    phx_sync(w);
}
PHX_FN uint64_t phx_local_add(const struct phx_worker *w, uint64_t *word, uint64_t value)
{
    uint64_t before = 0;
    phx_sync(w);
    if (phx_lane(w) == 0)
        before = phx_local_word(*word).fetch_add(value, cuda::memory_order_acq_rel);
    return phx_from_lane0(w, before);
}
// Adds, and does not wait until it is done.
PHX_FN void phx_local_count(const struct phx_worker *w, uint64_t *word, uint64_t value)
{
    if (phx_lane(w) == 0)
        asm volatile("red.relaxed.gpu.global.add.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}
// Counts this worker in, with nothing that anybody may rely on.
PHX_FN void phx_arrive_relaxed(const struct phx_worker *w, uint64_t *word, uint64_t all)
{
    (void)all;
    if (phx_lane(w) == 0)
        asm volatile("red.relaxed.gpu.global.add.u64 [%0], 1;" ::"l"(word) : "memory");
}
// With all that it stored. Nobody is parked here, so it is not asked who was the last.
PHX_FN void phx_arrive(const struct phx_worker *w, uint64_t *word, uint64_t all)
{
    (void)all;
    phx_sync(w);
    if (phx_lane(w) == 0)
        asm volatile("red.release.gpu.global.add.u64 [%0], 1;" ::"l"(word) : "memory");
}
PHX_FN uint64_t phx_own_cas(uint64_t *word, uint64_t expected, uint64_t desired)
{
    phx_local_word(*word).compare_exchange_strong(expected, desired, cuda::memory_order_acq_rel);
    return expected;
}
PHX_FN uint64_t phx_local_cas(const struct phx_worker *w, uint64_t *word, uint64_t expected,
                              uint64_t desired)
{
    phx_sync(w);
    if (phx_lane(w) == 0)
        expected = phx_own_cas(word, expected, desired);
    return phx_from_lane0(w, expected);
}

// In two steps, and nothing is ordered by it: a fence before it would wait for what the worker's
// other lanes store meanwhile. Lane 0 has what was there.
PHX_FN uint64_t phx_local_cas_begin(const struct phx_worker *w, uint64_t *word, uint64_t expected,
                                    uint64_t desired)
{
    uint64_t before = 0;
    if (phx_lane(w) == 0)
        asm volatile("atom.relaxed.gpu.global.cas.b64 %0, [%1], %2, %3;"
                     : "=l"(before)
                     : "l"(word), "l"(expected), "l"(desired)
                     : "memory");
    return before;
}
PHX_FN uint64_t phx_local_cas_end(const struct phx_worker *w, uint64_t before)
{
    return phx_from_lane0(w, before);
}

// One worker alone decides here what it waits for alone: nobody can have been before it.
PHX_FN uint64_t phx_local_claim(const struct phx_worker *w, uint64_t *word, uint64_t expected,
                                uint64_t desired)
{
    if (phx_lane(w) == 0)
        phx_local_word(*word).store(desired, cuda::memory_order_relaxed);
    return expected;
}

PHX_FN int32_t phx_own_mask_load(const int32_t *entry)
{
    return *(const volatile int32_t *)entry;
}
PHX_FN void phx_own_mask_clear(int32_t *entry)
{
    *(volatile int32_t *)entry = 0;
}
PHX_FN void phx_mask_clear(const struct phx_worker *w, int32_t *entry)
{
    if (phx_lane(w) == 0)
        phx_own_mask_clear(entry);
}
PHX_FN void phx_own_wake(const struct phx_worker *w)
{
    (void)w;
}

// Whom to send to is decided when a send half begins, and kept on chip.
PHX_FN void phx_own_mask_note(const struct phx_worker *w, uint32_t rank, int suspected)
{
    (void)w;
    phx_chip()->suspected[rank] = (uint8_t)suspected;
    if (suspected)
        phx_chip()->suspects_any = 1;
}
PHX_FN int phx_suspects_to(const struct phx_worker *w, uint32_t peer)
{
    (void)w;
    return phx_chip()->suspected[peer];
}

PHX_FN void phx_store_i32(const struct phx_worker *w, int32_t *p, int32_t value)
{
    if (phx_lane(w) == 0)
        *p = value;
}
PHX_FN void phx_store_u32(const struct phx_worker *w, uint32_t *p, uint32_t value)
{
    if (phx_lane(w) == 0)
        *p = value;
}
PHX_FN void phx_store_i64(const struct phx_worker *w, int64_t *p, int64_t value)
{
    if (phx_lane(w) == 0)
        *p = value;
}
PHX_FN void phx_store_u64(const struct phx_worker *w, uint64_t *p, uint64_t value)
{
    if (phx_lane(w) == 0)
        *p = value;
}
PHX_FN void phx_store_f32(const struct phx_worker *w, float *p, float value)
{
    if (phx_lane(w) == 0)
        *p = value;
}

// --- loops that lanes share ----------------------------------------------------------------------

#define PHX_EACH(w, i, n) PHX_ROLLED for (uint32_t i = phx_lane(w); i < (n); i += (w)->lanes)
#define PHX_EACH_ALL(w, i, n)                                                                      \
    PHX_ROLLED for (uint32_t i = phx_lane(w); i - phx_lane(w) < (n); i += (w)->lanes)

PHX_FN void phx_each_begin(const struct phx_worker *w)
{
    phx_sync(w);
}
PHX_FN void phx_each_end(const struct phx_worker *w)
{
    phx_sync(w);
}
PHX_FN int phx_each_agree(const struct phx_worker *w, int holds)
{
    uint32_t all;
    if (w->lanes != PHX_LANES) {
        __syncwarp();
        return __all_sync(PHX_WARP_ALL, holds);
    }
    asm volatile("{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %1, 0;\n\t"
                 "bar.red.and.pred p, 1, %2, p;\n\tselp.u32 %0, 1, 0, p;\n\t}"
                 : "=r"(all)
                 : "r"(holds), "n"(PHX_LANES)
                 : "memory");
    return (int)all;
}

PHX_FN uint32_t phx_scan(const struct phx_worker *w, uint32_t value, uint32_t *total)
{
    struct phx_chip *chip = phx_chip();
    uint32_t lane = threadIdx.x % PHX_WARP;
    uint32_t warp = threadIdx.x / PHX_WARP;
    uint32_t sum = value; // of this lane and those before it in its warp
    uint32_t before = *total;
    for (uint32_t step = 1; step < PHX_WARP; step *= 2) {
        uint32_t other = __shfl_up_sync(PHX_WARP_ALL, sum, step);
        sum += lane >= step ? other : 0;
    }
    if (w->lanes == PHX_WARP) {
        *total += __shfl_sync(PHX_WARP_ALL, sum, PHX_WARP - 1);
        return before + sum - value;
    }
    uint32_t turn = phx_turn(w);
    if (lane == PHX_WARP - 1)
        chip->warp_sum[turn][warp] = sum;
    phx_sync(w);
    for (uint32_t i = 0; i < PHX_LANES / PHX_WARP; i++) {
        uint32_t one = (uint32_t)chip->warp_sum[turn][i];
        before += i < warp ? one : 0;
        *total += one;
    }
    return before + sum - value;
}

PHX_FN struct phx_row_list *phx_row_list_of(struct phx_worker *w)
{
    (void)w;
    return &phx_chip()->list;
}
PHX_FN struct phx_token *phx_token_of(struct phx_worker *w)
{
    (void)w;
    return &phx_chip()->token;
}

// Lanes of the first warp count and post what came of it, after they have met: what the others
// are told may be behind.
PHX_FN void phx_tally_clear(const struct phx_worker *w)
{
    PHX_EACH(w, i, w->rank->shape.ranks)
    phx_chip()->tally[i] = 0;
    phx_sync(w);
}
PHX_FN void phx_tally_add(const struct phx_worker *w, uint32_t peer)
{
    if (phx_lane(w) == 0)
        phx_chip()->tally[peer]++;
}
PHX_FN uint32_t phx_tally_of(const struct phx_worker *w, uint32_t peer)
{
    (void)w;
    return phx_chip()->tally[peer];
}

// Each warp is a worker of its own for a while. The lanes do not meet for that: what one of them
// has just written may not be seen.
PHX_FN struct phx_worker *phx_split(struct phx_worker *w, struct phx_worker *storage)
{
    *storage = *w;
    storage->lanes = PHX_WARP;
    return storage;
}
PHX_FN uint32_t phx_split_first(const struct phx_worker *split)
{
    (void)split;
    return threadIdx.x / PHX_WARP;
}
PHX_FN uint32_t phx_split_step(const struct phx_worker *split)
{
    (void)split;
    return PHX_LANES / PHX_WARP;
}
PHX_FN void phx_split_end(const struct phx_worker *w)
{
    phx_sync(w);
}
PHX_FN uint32_t phx_split_sum(const struct phx_worker *split, uint32_t value)
{
    (void)split;
    return __reduce_add_sync(PHX_WARP_ALL, value);
}

#include "kernels/leaves_cuda.h"
#include "kernels/wire_cuda.h"

#endif
