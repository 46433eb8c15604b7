// kernels/wire_cuda.h: how a GPU worker's puts and signals leave: the jobs, and the warp that does
// them.
//
// A row built on chip (phx_stage_take) leaves as a bulk copy from shared memory to the peer's
// memory. What lies elsewhere is copied by the lanes before its signal is queued. (Route messages
// by token leave past the wire, with their words: message_cuda.h.) A signal is a release store at
// system scope after all bulk copies queued before it are complete; signals that wait at the same
// time are stored together, one by each lane of the wire.

#ifndef PHX_KERNELS_WIRE_CUDA_H
#define PHX_KERNELS_WIRE_CUDA_H

#include "kernels/device_cuda.h"

#define PHX_WIRE_KEPT 4 // slots whose rows may still be read when others are handed out again

// Words of the ring, shared by a block: in shared memory, which a plain reference does not tell.
PHX_FN uint32_t phx_chip_load(const uint32_t *word)
{
    uint32_t value;
    asm volatile("ld.acquire.cta.shared::cta.u32 %0, [%1];"
                 : "=r"(value)
                 : "r"((uint32_t)__cvta_generic_to_shared(word))
                 : "memory");
    return value;
}
PHX_FN void phx_chip_store(uint32_t *word, uint32_t value)
{
    asm volatile(
        "st.release.cta.shared::cta.u32 [%0], %1;" ::"r"((uint32_t)__cvta_generic_to_shared(word)),
        "r"(value)
        : "memory");
}

// --- posting: lane 0 ----------------------------------------------------------------------------

// Jobs are written one by one and told of a few at a time: a release takes as long as writing
// several. phx_told() comes before anybody waits, and before what takes long.
PHX_FN void phx_wire_post(void)
{
    struct phx_chip *chip = phx_chip();
    if (chip->posted != chip->written)
        phx_chip_store(&chip->posted, chip->written);
}
// Waits until so many more fit into the ring. Returns how many there were ever.
PHX_FN uint32_t phx_wire_room(uint32_t count)
{
    struct phx_chip *chip = phx_chip();
    uint32_t written = chip->written;
    if (written + count - chip->taken_seen > PHX_WIRE_JOBS) {
        phx_wire_post();
        do
            chip->taken_seen = phx_chip_load(&chip->taken);
        while (written + count - chip->taken_seen > PHX_WIRE_JOBS);
    }
    return written;
}
static __device__ __noinline__ void phx_wire_write(uint32_t kind, uint8_t *to, const uint8_t *from,
                                                   uint32_t size_bytes, uint64_t value)
{
    struct phx_chip *chip = phx_chip();
    uint32_t written = phx_wire_room(1);
    struct phx_wire_job *job = &chip->jobs[written % PHX_WIRE_JOBS];
    job->kind = kind;
    job->to = to;
    job->from = from;
    job->size_bytes = size_bytes;
    job->value = value;
    chip->written = written + 1;
}
// The lanes of the first warp write a job each, those that have one: a signal, or a put from chip
// if `from` is not NULL.
PHX_FN void phx_wire_write_each(int has_one, uint8_t *to, uint64_t value, const uint8_t *from,
                                uint32_t size_bytes)
{
    struct phx_chip *chip = phx_chip();
    uint32_t all = __ballot_sync(PHX_WARP_ALL, has_one);
    uint32_t count = (uint32_t)__popc(all);
    uint32_t written = chip->written;
    if (threadIdx.x == 0)
        phx_wire_room(count);
    __syncwarp();
    if (has_one) {
        uint32_t before = (uint32_t)__popc(all & ((1u << threadIdx.x) - 1));
        struct phx_wire_job *job = &chip->jobs[(written + before) % PHX_WIRE_JOBS];
        job->kind = from != NULL ? PHX_WIRE_PUT : PHX_WIRE_SIGNAL;
        job->to = to;
        job->from = from;
        job->size_bytes = size_bytes;
        job->value = value;
    }
    __syncwarp();
    if (threadIdx.x == 0)
        chip->written = written + count;
    __syncwarp();
}
PHX_FN void phx_told(const struct phx_worker *w)
{
    if (phx_lane(w) == 0)
        phx_wire_post();
}
// The wire of a worker that sends nothing more, nor builds a row, ends meanwhile. At the end of a
// block: whatever worker it is.
PHX_FN void phx_wire_end(void)
{
    struct phx_chip *chip = phx_chip();
    if (chip->has_ended)
        return;
    chip->has_ended = 1;
    phx_wire_write(PHX_WIRE_END, NULL, NULL, 0, 0);
    phx_wire_post();
}
PHX_FN void phx_sent_all(const struct phx_worker *w)
{
    if (w->index != 0 && phx_lane(w) == 0)
        phx_wire_end();
}

// Where to build a row of up to size_bytes: the next slot on chip, once the row that was there has
// left; `home`, in global memory, if there are no slots of that size.
PHX_FN uint8_t *phx_stage_take(struct phx_worker *w, uint8_t *home, uint64_t size_bytes)
{
    struct phx_chip *chip = phx_chip();
    if (chip->slots == 0 || size_bytes > chip->slot_bytes) {
        phx_told(w); // building it takes long
        return home;
    }
    if (phx_lane(w) == 0) {
        if (w->stages > 1) // of the last row but one: combine holds one put back
            phx_wire_write(PHX_WIRE_FREE, NULL, NULL, 0, 0);
        phx_wire_post();
        while (w->stages - phx_chip_load(&chip->freed) >= chip->slots)
            continue;
    }
    uint8_t *slot = phx_chip_slot(w->stages % chip->slots);
    w->stages++;
    w->unfenced = 1;
    phx_sync(w);
    return slot;
}

// A test launch may have a rank die: at that put, and after it, its workers send nothing more.
PHX_COLD int phx_dies_here_apart(const struct phx_worker *w)
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

PHX_FN int phx_dies_here(const struct phx_worker *w)
{
    if (!phx_chip()->may_die)
        return 0;
    PHX_ASIDE_BEGIN(w);
    int dies = phx_dies_here_apart(aside);
    PHX_ASIDE_END((struct phx_worker *)w);
    return dies;
}

// Whole 16-byte pieces: slots are multiples of 64 bytes at either end.
PHX_FN uint32_t phx_put_pieces_bytes(uint64_t size_bytes)
{
    return (uint32_t)(size_bytes + 15) / 16 * 16;
}
// A row that ordinary stores wrote on chip may be put.
PHX_FN void phx_put_fence(struct phx_worker *w)
{
    if (!w->unfenced)
        return;
    w->unfenced = 0;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    phx_sync_block();
}
static __device__ __noinline__ void phx_put_bytes(uint8_t *to, const uint8_t *source,
                                                  uint32_t size_bytes)
{
    if (!__isShared(source)) {
        if (threadIdx.x == 0)
            phx_wire_post(); // the copy takes long
        phx_sync_block();
        phx_copy_span(to, source, size_bytes, threadIdx.x, PHX_LANES);
        phx_sync_block();
        return;
    }
    if (threadIdx.x == 0)
        phx_wire_write(PHX_WIRE_PUT, to, source, phx_put_pieces_bytes(size_bytes), 0);
}
// The payload's part of a put.
PHX_FN void phx_put_payload(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                            const uint8_t *source, uint64_t size_bytes)
{
    if (__isShared(source))
        phx_put_fence((struct phx_worker *)w);
    phx_put_bytes(phx_region_at(w, peer) + target_offset, source, (uint32_t)size_bytes);
}

PHX_FN void phx_put_word(const struct phx_worker *w, uint32_t peer, uint64_t offset, uint64_t value)
{
    if (phx_lane(w) == 0)
        phx_wire_write(PHX_WIRE_SIGNAL, phx_region_at(w, peer) + offset, NULL, 0, value);
}

// Puts never find a lane full here, and a dead rank's are lost without its knowing: always 1.
PHX_FN int phx_put(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                   const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes, uint32_t token)
{
    (void)wire_bytes;
    (void)token;
    if (phx_dies_here(w))
        return 1;
    phx_put_payload(w, peer, target_offset, source, size_bytes);
    phx_told(w);
    return 1;
}
PHX_FN int phx_put_signal(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                          const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes,
                          uint64_t signal_offset, uint64_t signal_value, uint32_t token)
{
    (void)wire_bytes;
    (void)token;
    if (phx_dies_here(w))
        return 1;
    phx_put_payload(w, peer, target_offset, source, size_bytes);
    phx_put_word(w, peer, signal_offset, signal_value);
    phx_told(w);
    return 1;
}
PHX_FN int phx_signal(const struct phx_worker *w, uint32_t peer, uint64_t signal_offset,
                      uint64_t signal_value, uint32_t token)
{
    (void)token;
    if (!phx_dies_here(w))
        phx_put_word(w, peer, signal_offset, signal_value);
    return 1;
}

// --- the wire -----------------------------------------------------------------------------------

struct phx_wire {
    uint32_t taken;   // jobs,
    uint32_t posted;  // of so many that were seen
    uint32_t slots;   // FREE jobs seen: bulk groups committed for them
    uint32_t freed;   // of these, shown as free
    uint32_t pending; // signals, one in each of the first lanes
    uint8_t *to;
    uint64_t value;
};

PHX_FN void phx_wire_show_freed(struct phx_wire *v, uint32_t freed)
{
    v->freed = freed;
    if (threadIdx.x % PHX_WARP == 0)
        phx_chip_store(&phx_chip()->freed, freed);
}

// The next job, or NULL. Every lane gets the same. Whether there are more is asked when those that
// were there are done, and only then is it told that they are.
PHX_FN const struct phx_wire_job *phx_wire_next(struct phx_wire *v)
{
    struct phx_chip *chip = phx_chip();
    uint32_t posted = 0;
    if (v->posted != v->taken)
        return &chip->jobs[v->taken % PHX_WIRE_JOBS];
    if (threadIdx.x % PHX_WARP == 0)
        posted = phx_chip_load(&chip->posted);
    __syncwarp();
    v->posted = __shfl_sync(PHX_WARP_ALL, posted, 0);
    return v->posted != v->taken ? &chip->jobs[v->taken % PHX_WIRE_JOBS] : NULL;
}
PHX_FN void phx_wire_done(struct phx_wire *v) // with the job that phx_wire_next() gave
{
    v->taken++;
    if (v->taken != v->posted)
        return;
    __syncwarp();
    if (threadIdx.x % PHX_WARP == 0)
        phx_chip_store(&phx_chip()->taken, v->taken);
}

// Takes a signal to be stored with the others; 0: not together with one to the same word, which has
// its place in the order, or there are too many.
PHX_FN int phx_wire_hold(struct phx_wire *v, const struct phx_wire_job *job)
{
    uint32_t lane = threadIdx.x % PHX_WARP;
    int same = lane < v->pending && v->to == job->to;
    if (v->pending == PHX_WARP || __any_sync(PHX_WARP_ALL, same))
        return 0;
    if (lane == v->pending) {
        v->to = job->to;
        v->value = job->value;
    }
    v->pending++;
    phx_wire_done(v);
    return 1;
}

// Everything put before is complete; then the signals, and those that were queued meanwhile. By PTX
// a bulk copy whose completion lane 0 has observed is ordered before what it does next, and by the
// __syncwarp() before what the other lanes do: no fence between the proxies is needed.
PHX_FN void phx_wire_flush(struct phx_wire *v)
{
    uint32_t lane = threadIdx.x % PHX_WARP;
    if (lane == 0) {
        asm volatile("cp.async.bulk.commit_group;\n\tcp.async.bulk.wait_group 0;" ::: "memory");
    }
    __syncwarp();
    for (;;) {
        const struct phx_wire_job *job = phx_wire_next(v);
        if (job == NULL || job->kind != PHX_WIRE_SIGNAL || !phx_wire_hold(v, job))
            break;
    }
    if (lane < v->pending)
        phx_shared_word(*(uint64_t *)(void *)v->to).store(v->value, cuda::memory_order_release);
    v->pending = 0;
    phx_wire_show_freed(v, v->slots);
}

PHX_FN void phx_wire_free(struct phx_wire *v)
{
    v->slots++;
    if (threadIdx.x % PHX_WARP == 0) {
        asm volatile("cp.async.bulk.commit_group;" ::: "memory");
        if (v->slots - v->freed > PHX_WIRE_KEPT)
            asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PHX_WIRE_KEPT) : "memory");
    }
    if (v->slots - v->freed > PHX_WIRE_KEPT)
        phx_wire_show_freed(v, v->slots - PHX_WIRE_KEPT);
}

PHX_FN void phx_wire_put(const struct phx_wire_job *job)
{
    if (threadIdx.x % PHX_WARP == 0)
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(job->to),
                     "r"((uint32_t)__cvta_generic_to_shared(job->from)), "r"(job->size_bytes)
                     : "memory");
}

// The wire warp, from the first job to PHX_WIRE_END.
PHX_FN void phx_wire_run(void)
{
    struct phx_wire v = {0, 0, 0, 0, 0, NULL, 0};
    for (;;) {
        const struct phx_wire_job *job = phx_wire_next(&v);
        if (job == NULL) {
            if (v.pending > 0) {
                phx_wire_flush(&v);
            } else if (v.freed != v.slots) {
                if (threadIdx.x % PHX_WARP == 0)
                    asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
                phx_wire_show_freed(&v, v.slots);
            }
            continue;
        }
        if (job->kind == PHX_WIRE_SIGNAL) {
            if (!phx_wire_hold(&v, job))
                phx_wire_flush(&v);
            continue;
        }
        if (job->kind == PHX_WIRE_END)
            break;
        if (job->kind == PHX_WIRE_PUT)
            phx_wire_put(job);
        else
            phx_wire_free(&v);
        phx_wire_done(&v);
    }
    phx_wire_flush(&v);
}

#endif
