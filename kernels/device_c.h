// kernels/device_c.h: device.h for C targets: the simulator's fibers and the host's pthreads.
//
// Time and waiting go to the executor, puts to the transport, rows to the leaves picked at start.
// Each leaf first shows its spans to the executor (the simulator checks them against what has been
// signalled) and then charges what it cost.

#ifndef PHX_KERNELS_DEVICE_C_H
#define PHX_KERNELS_DEVICE_C_H

#include "kernels/device_environment.h"

PHX_FN const struct phx_environment *phx_env(const struct phx_worker *w)
{
    return (const struct phx_environment *)w->rank->environment;
}

// --- time and waiting ---------------------------------------------------------------------------

PHX_FN uint64_t phx_now(const struct phx_worker *w)
{
    struct phx_executor *e = phx_env(w)->executor;
    return e->ops->now_ns(e, w->index);
}
PHX_FN uint64_t phx_now_begun(const struct phx_worker *w)
{
    return phx_now(w);
}
PHX_FN uint64_t phx_now_looked(const struct phx_worker *w)
{
    return phx_now(w);
}

PHX_FN uint64_t phx_load(const struct phx_worker *w, const uint64_t *word)
{
    struct phx_executor *e = phx_env(w)->executor;
    uint64_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    e->ops->observe(e, w->index, word);
    return value;
}

PHX_FN void phx_worker_init(struct phx_worker *w)
{
    (void)w;
}

// values[i] = *words[i], with acquire.
PHX_FN void phx_gather(const struct phx_worker *w, const uint64_t *const *words, uint64_t *values,
                       uint32_t count)
{
    (void)w;
    for (uint32_t i = 0; i < count; i++)
        values[i] = __atomic_load_n(words[i], __ATOMIC_ACQUIRE);
}

// phx_gather(), and what a source's words say together (enum phx_seen). PHX_SEEN_ALL: *sum is the
// sum of their values; PHX_SEEN_GONE: not 0, if some are not there (GPU targets).
PHX_FN uint32_t phx_look(const struct phx_worker *w, const uint64_t *const *local, uint64_t *values,
                         uint32_t local_count, const uint64_t *words, uint32_t count, uint64_t *sum)
{
    uint32_t seen = PHX_SEEN_ALL;
    phx_gather(w, local, values, local_count);
    *sum = 0;
    for (uint32_t i = 0; i < count && seen != PHX_SEEN_GONE; i++) {
        // Planted: the last word is read as if it were any memory, without acquire.
        uint64_t word =
            PHX_BUG(FENCE_MISSING) && i + 1 == count ? words[i] : phx_load(w, &words[i]);
        seen = phx_seen_both(seen, phx_word_says(word, w->rank->epoch, w->op->sequence));
        *sum += phx_word_value(word);
    }
    *sum = seen == PHX_SEEN_GONE ? 0 : *sum;
    return seen;
}

// Nothing is gained by looking ahead: who waits is parked.
PHX_FN void phx_expect(const struct phx_worker *w, const uint64_t *fate, const uint64_t *words,
                       uint32_t count)
{
    (void)w;
    (void)fate;
    (void)words;
    (void)count;
}
PHX_FN void phx_gather_expecting(const struct phx_worker *w, const uint64_t *const *words,
                                 uint64_t *values, uint32_t count)
{
    phx_gather(w, words, values, count);
}
PHX_FN int phx_expected(struct phx_worker *w, const uint64_t *words, uint64_t *sum)
{
    (void)w;
    (void)words;
    (void)sum;
    return 0;
}

// Whether a local word has reached a value by now; asked again before a worker parks on it.
PHX_FN int phx_local_reached(const struct phx_worker *w, const uint64_t *word, uint64_t value)
{
    (void)w;
    return __atomic_load_n(word, __ATOMIC_ACQUIRE) >= value;
}

PHX_FN void phx_park(const struct phx_worker *w, const uint64_t *words, uint32_t count,
                     uint64_t until_ns)
{
    struct phx_executor *e = phx_env(w)->executor;
    e->ops->park(e, w->index, words, count, until_ns);
}

// Time catches up with the work that was charged: a park until a time long past. So does memory:
// rows that were placed are there for whoever is told after this.
PHX_FN void phx_settle(const struct phx_worker *w)
{
    phx_env(w)->leaves->settle();
    phx_park(w, NULL, 0, 0);
}

// Wakes every parked worker of this rank (word NULL), or those parked on one word.
PHX_FN void phx_wake(const struct phx_worker *w, const uint64_t *word)
{
    struct phx_executor *e = phx_env(w)->executor;
    e->ops->wake(e, w->index, word);
}

PHX_FN void phx_phase(const struct phx_worker *w, uint32_t phase, uint64_t number)
{
    struct phx_executor *e = phx_env(w)->executor;
    e->ops->phase(e, w->index, phase, number);
}

// Our region that a source writes.
PHX_FN uint8_t *phx_region_of(const struct phx_worker *w, uint32_t source)
{
    return w->rank->from[source];
}
PHX_FN uint8_t *phx_head_of(const struct phx_worker *w, uint32_t source, uint64_t sequence)
{
    const struct phx_shape *s = &w->rank->shape;
    return w->rank->heads[phx_slot(s, sequence) * s->ranks + source];
}

// --- the workers of this rank -------------------------------------------------------------------

PHX_FN uint64_t phx_local_load(const struct phx_worker *w, const uint64_t *word)
{
    (void)w;
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
PHX_FN void phx_local_store(const struct phx_worker *w, uint64_t *word, uint64_t value)
{
    (void)w;
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}
PHX_FN uint64_t phx_local_add(const struct phx_worker *w, uint64_t *word, uint64_t value)
{
    (void)w;
    return __atomic_fetch_add(word, value, __ATOMIC_ACQ_REL);
}
PHX_FN void phx_local_count(const struct phx_worker *w, uint64_t *word, uint64_t value)
{
    phx_local_add(w, word, value);
}
// Counts this worker in; the one that makes it `all` wakes those parked on the word.
PHX_FN void phx_arrive(const struct phx_worker *w, uint64_t *word, uint64_t all)
{
    if (phx_local_add(w, word, 1) + 1 == all)
        phx_wake(w, word);
}
PHX_FN void phx_arrive_relaxed(const struct phx_worker *w, uint64_t *word, uint64_t all)
{
    phx_arrive(w, word, all);
}
// Returns what stood there: `expected` if the exchange was made.
PHX_FN uint64_t phx_local_cas(const struct phx_worker *w, uint64_t *word, uint64_t expected,
                              uint64_t desired)
{
    (void)w;
    __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}
// In two steps: a thread group may do something else before it asks what was there.
PHX_FN uint64_t phx_local_cas_begin(const struct phx_worker *w, uint64_t *word, uint64_t expected,
                                    uint64_t desired)
{
    return phx_local_cas(w, word, expected, desired);
}
PHX_FN uint64_t phx_local_cas_end(const struct phx_worker *w, uint64_t before)
{
    (void)w;
    return before;
}
PHX_FN uint64_t phx_local_claim(const struct phx_worker *w, uint64_t *word, uint64_t expected,
                                uint64_t desired)
{
    return phx_local_cas(w, word, expected, desired);
}

// --- loops that threads share: here there is one -------------------------------------------------

#define PHX_EACH(w, i, n) for (uint32_t i = 0; i < (n); i++)
#define PHX_EACH_ALL(w, i, n) PHX_EACH(w, i, n)
PHX_FN void phx_each_begin(const struct phx_worker *w)
{
    (void)w;
}
PHX_FN void phx_each_end(const struct phx_worker *w)
{
    (void)w;
}
PHX_FN int phx_each_agree(const struct phx_worker *w, int holds)
{
    (void)w;
    return holds;
}
// The sum of the values of all turns before this one; *total, 0 at first, of this one too.
PHX_FN uint32_t phx_scan(const struct phx_worker *w, uint32_t value, uint32_t *total)
{
    (void)w;
    *total += value;
    return *total - value;
}
PHX_FN struct phx_row_list *phx_row_list_of(struct phx_worker *w)
{
    return &w->list;
}
PHX_FN struct phx_token *phx_token_of(struct phx_worker *w)
{
    return &w->token;
}
PHX_FN uint64_t phx_own_load(const uint64_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
PHX_FN uint64_t phx_own_cas(uint64_t *word, uint64_t expected, uint64_t desired)
{
    __atomic_compare_exchange_n(word, &expected, desired, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    return expected;
}
PHX_FN int32_t phx_own_mask_load(const int32_t *entry)
{
    return __atomic_load_n(entry, __ATOMIC_RELAXED);
}
PHX_FN void phx_own_mask_clear(int32_t *entry)
{
    __atomic_store_n(entry, 0, __ATOMIC_RELAXED);
}
PHX_FN void phx_own_wake(const struct phx_worker *w)
{
    phx_wake(w, NULL);
}
PHX_FN void phx_own_mask_note(const struct phx_worker *w, uint32_t rank, int suspected)
{
    (void)w;
    (void)rank; // suspicion is looked up when it is asked for
    (void)suspected;
}
// How many rows of its tokens a worker has put to each peer (PHX_BY_TOKEN).
PHX_FN void phx_tally_clear(const struct phx_worker *w)
{
    uint32_t *tally = w->rank->tally + (uint64_t)w->index * w->rank->shape.ranks;
    for (uint32_t i = 0; i < w->rank->shape.ranks; i++)
        tally[i] = 0;
}
PHX_FN void phx_tally_add(const struct phx_worker *w, uint32_t peer)
{
    w->rank->tally[(uint64_t)w->index * w->rank->shape.ranks + peer]++;
}
PHX_FN uint32_t phx_tally_of(const struct phx_worker *w, uint32_t peer)
{
    return w->rank->tally[(uint64_t)w->index * w->rank->shape.ranks + peer];
}

PHX_FN int phx_suspects_to(const struct phx_worker *w, uint32_t peer)
{
    return __atomic_load_n(&w->rank->suspected[peer], __ATOMIC_ACQUIRE) != PHX_CAUSE_NONE;
}

PHX_FN void phx_told(const struct phx_worker *w)
{
    (void)w; // each is on its way when it is posted
}

PHX_FN struct phx_worker *phx_split(struct phx_worker *w, struct phx_worker *storage)
{
    (void)storage;
    return w;
}
PHX_FN uint32_t phx_split_first(const struct phx_worker *split)
{
    (void)split;
    return 0;
}
PHX_FN uint32_t phx_split_step(const struct phx_worker *split)
{
    (void)split;
    return 1;
}
PHX_FN void phx_split_end(const struct phx_worker *w)
{
    (void)w;
}
PHX_FN uint32_t phx_split_sum(const struct phx_worker *split, uint32_t value)
{
    (void)split;
    return value;
}
// What the next row is copied from: nothing is copied ahead here.
PHX_FN const uint8_t *phx_row_ahead(const struct phx_worker *w, const uint8_t *wire,
                                    uint64_t size_bytes)
{
    (void)w;
    (void)size_bytes;
    return wire;
}
PHX_FN void phx_row_ahead_wait(const struct phx_worker *split)
{
    (void)split;
}
PHX_FN void phx_rows_fetched(const struct phx_worker *w)
{
    (void)w;
}
PHX_FN void phx_sent_all(const struct phx_worker *w)
{
    (void)w;
}

// --- scalars ------------------------------------------------------------------------------------

PHX_FN void phx_mask_clear(const struct phx_worker *w, int32_t *entry)
{
    (void)w;
    __atomic_store_n(entry, 0, __ATOMIC_RELAXED);
}

PHX_FN void phx_store_i32(const struct phx_worker *w, int32_t *p, int32_t value)
{
    (void)w;
    *p = value;
}
PHX_FN void phx_store_u32(const struct phx_worker *w, uint32_t *p, uint32_t value)
{
    (void)w;
    *p = value;
}
PHX_FN void phx_store_i64(const struct phx_worker *w, int64_t *p, int64_t value)
{
    (void)w;
    *p = value;
}
PHX_FN void phx_store_u64(const struct phx_worker *w, uint64_t *p, uint64_t value)
{
    (void)w;
    *p = value;
}
PHX_FN void phx_store_f32(const struct phx_worker *w, float *p, float value)
{
    (void)w;
    *p = value;
}

// --- leaves -------------------------------------------------------------------------------------

PHX_FN void phx_touch(const struct phx_worker *w, const void *base, uint64_t size_bytes,
                      int is_write)
{
    struct phx_executor *e = phx_env(w)->executor;
    e->ops->touch(e, w->index, base, size_bytes, is_write);
}

// `bytes` were moved for stored channels; the charge is for all channels of the hidden size.
PHX_FN void phx_charge_rows(const struct phx_worker *w, uint64_t bytes)
{
    const struct phx_shape *s = &w->rank->shape;
    struct phx_executor *e = phx_env(w)->executor;
    struct phx_cost cost;
    cost.operations = 1;
    cost.bytes = bytes * s->hidden / s->channels;
    e->ops->charge(e, w->index, cost);
}
PHX_FN void phx_charge_bytes(const struct phx_worker *w, uint64_t bytes)
{
    struct phx_executor *e = phx_env(w)->executor;
    struct phx_cost cost;
    cost.operations = 1;
    cost.bytes = bytes;
    e->ops->charge(e, w->index, cost);
}

PHX_FN void phx_copy(const struct phx_worker *w, void *target, const void *source,
                     uint64_t size_bytes)
{
    phx_touch(w, source, size_bytes, 0);
    phx_env(w)->leaves->copy(target, source, size_bytes);
    phx_charge_bytes(w, 2 * size_bytes);
}
// The same for a row of stored channels, charged for all of them.
PHX_FN void phx_copy_row(const struct phx_worker *w, void *target, const void *source,
                         uint64_t size_bytes)
{
    phx_touch(w, source, size_bytes, 0);
    phx_env(w)->leaves->copy(target, source, size_bytes);
    phx_charge_rows(w, 2 * size_bytes);
}
// The same to where this rank's workers do not read it again: past their caches. Before anybody is
// told, phx_settle(), as every barrier does.
#define PHX_PLACE_ROW 1
PHX_FN void phx_place_row(const struct phx_worker *w, void *target, const void *source,
                          uint64_t size_bytes)
{
    phx_touch(w, source, size_bytes, 0);
    phx_env(w)->leaves->stream(target, source, size_bytes);
    phx_charge_rows(w, 2 * size_bytes);
}
PHX_FN void phx_zero_row(const struct phx_worker *w, void *target, uint64_t size_bytes)
{
    phx_env(w)->leaves->zero(target, size_bytes);
    phx_charge_rows(w, size_bytes);
}
// Among very many ranks what a source wrote is in no cache when its turn comes.
__attribute__((always_inline)) PHX_FN void phx_fetch(const void *base, uint64_t size_bytes)
{
    const uint8_t *line = (const uint8_t *)((uintptr_t)base / 64 * 64);
    for (; line < (const uint8_t *)base + size_bytes; line += 64)
        __builtin_prefetch(line);
}
// Where to build a row of up to size_bytes that will be put: its place in staging memory, here.
PHX_FN uint8_t *phx_stage_take(struct phx_worker *w, uint8_t *home, uint64_t size_bytes)
{
    (void)w;
    (void)size_bytes;
    return home;
}
// A wire row from a bf16 row: payload, then scale words (none for bf16).
PHX_FN void phx_stage_row(const struct phx_worker *w, uint8_t *row, const uint16_t *x)
{
    const struct phx_shape *s = &w->rank->shape;
    const struct phx_leaves *leaves = phx_env(w)->leaves;
    uint8_t *scales = row + phx_stored_payload_bytes(s);
    if (s->dtype == PHX_BF16) {
        leaves->copy(row, x, 2 * (uint64_t)s->channels);
    } else if (s->scale_format == PHX_SCALE_F32) {
        leaves->quantise_f32(x, s->channels, row, (float *)(void *)scales);
    } else {
        leaves->zero(scales, 4 * (uint64_t)phx_stored_scale_words(s));
        leaves->quantise_ue8m0(x, s->channels, row, scales);
    }
    phx_charge_rows(w, 2 * (uint64_t)s->channels + phx_dispatch_row_bytes(s, s->channels));
}
// out = bf16(scale * sum of weight * row), in the order of the list.
PHX_FN void phx_sum_rows(const struct phx_worker *w, uint16_t *out, const struct phx_row_list *rows,
                         uint32_t count, float scale)
{
    const struct phx_shape *s = &w->rank->shape;
    uint64_t row_bytes = phx_combine_row_bytes(s->channels);
    for (uint32_t i = 0; i < count; i++)
        phx_touch(w, rows->row[i], row_bytes, 0);
    phx_env(w)->leaves->sum_rows(out, rows->row, rows->weight, count, scale, s->channels);
    phx_charge_rows(w, (count + 1) * row_bytes);
}
// The check sum (check.h) of a row of stored channels. The same value to the whole worker.
PHX_FN uint64_t phx_check_sum(const struct phx_worker *w, const uint8_t *row, uint64_t size_bytes)
{
    phx_touch(w, row, size_bytes, 0);
    uint64_t sum = phx_env(w)->leaves->check_sum(row, size_bytes);
    phx_charge_rows(w, size_bytes);
    return sum;
}
PHX_FN uint64_t phx_row_load(const struct phx_worker *w, const uint64_t *word)
{
    phx_touch(w, word, sizeof *word, 0);
    return *word;
}
PHX_FN void phx_scatter(const struct phx_worker *w, uint32_t *target, uint64_t stride,
                        const uint32_t *source, uint32_t count)
{
    phx_touch(w, source, 4 * (uint64_t)count, 0);
    phx_env(w)->leaves->scatter_u32(target, stride, source, count);
    phx_charge_rows(w, 8 * (uint64_t)count);
}

// --- peers --------------------------------------------------------------------------------------

PHX_FN int phx_put_op(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                      const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes,
                      uint64_t signal_offset, uint64_t signal_value, uint32_t flags, uint32_t token)
{
    const struct phx_environment *env = phx_env(w);
    struct phx_op op;
    op.code = PHX_OP_PUT;
    op.flags = (uint8_t)(flags | PHX_OP_SILENT);
    op.lane = (uint16_t)w->index;
    op.peer = env->peers[peer];
    op.size_bytes = (uint32_t)size_bytes;
    op.wire_bytes = (uint32_t)wire_bytes;
    op.source.mem = env->stage;
    op.source.offset_bytes = size_bytes != 0 ? (uint64_t)(source - w->rank->stage) : 0;
    op.target.mem = env->targets[peer];
    op.target.offset_bytes = target_offset;
    op.signal_value = signal_value;
    op.signal_offset = (uint32_t)signal_offset;
    op.token = token;
    // Planted: a lane that looks stuck is left for the next one, without a fence at the receiver.
    if (PHX_BUG(LANE_MOVED) && phx_pending(env->transport, op.peer) > 6)
        op.lane = (uint16_t)((w->index + 1) % w->count);
    return phx_post(env->transport, &op, 1) == 1;
}

// Puts return 0 when the lane has no room for the op.
PHX_FN int phx_put(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                   const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes, uint32_t token)
{
    return phx_put_op(w, peer, target_offset, source, size_bytes, wire_bytes, 0, 0, 0, token);
}
PHX_FN int phx_put_signal(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                          const uint8_t *source, uint64_t size_bytes, uint64_t wire_bytes,
                          uint64_t signal_offset, uint64_t signal_value, uint32_t token)
{
    // Planted: the signal is stored ahead of the payload that it stands for.
    if (PHX_BUG(SIGNAL_BEFORE_PAYLOAD))
        phx_put_op(w, peer, 0, NULL, 0, 8, signal_offset, signal_value, PHX_OP_SIGNAL, token);
    return phx_put_op(w, peer, target_offset, source, size_bytes, wire_bytes, signal_offset,
                      signal_value, PHX_OP_SIGNAL, token);
}
PHX_FN int phx_put_message(const struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                           const uint8_t *message, uint64_t size_bytes, uint64_t signal_offset,
                           uint64_t signal_value, uint32_t token)
{
    return phx_put_signal(w, peer, target_offset, message, size_bytes, size_bytes, signal_offset,
                          signal_value, token);
}
PHX_FN int phx_signal(const struct phx_worker *w, uint32_t peer, uint64_t signal_offset,
                      uint64_t signal_value, uint32_t token)
{
    return phx_put_op(w, peer, 0, NULL, 0, 8, signal_offset, signal_value, PHX_OP_SIGNAL, token);
}

#endif
