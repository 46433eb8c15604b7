// kernels/rank.h: one rank as its workers see it, and what an operation hands to them.
//
// Plain data, the same on every target. Pointers are to memory that the workers reach: host memory
// on C targets, device memory on GPUs. Nothing here is owned; engine/group.c (or the GPU launcher)
// allocates, and keeps it all alive while an operation runs.

#ifndef PHX_KERNELS_RANK_H
#define PHX_KERNELS_RANK_H

#include "kernels/layout.h"

// Waits of one operation on one source are of three kinds, each with a fate of its own.
enum phx_wait_phase { PHX_WAIT_COUNTS = 0, PHX_WAIT_ROWS, PHX_WAIT_COMBINE, PHX_WAIT_PHASES };

enum phx_fate { PHX_FATE_OPEN = 0, PHX_FATE_PRESENT, PHX_FATE_ABSENT };

// Why a rank is suspected. Kept until a view clears it.
enum phx_cause {
    PHX_CAUSE_NONE = 0,
    PHX_CAUSE_TIMEOUT,   // no signal within the deadline
    PHX_CAUSE_GAVE_UP,   // it told us that it masked us, or moved on without us
    PHX_CAUSE_TRANSPORT, // evidence from the transport: a dead process, a broken lane
    PHX_CAUSE_CORRUPT,   // a message of it failed its check
    PHX_CAUSE_USER,      // active_ranks said so
    PHX_CAUSE_VIEW       // it is outside the view
};

#define PHX_BLOCKED_SENDING 0x8000u
static_assert(PHX_RANKS_MAX < PHX_BLOCKED_SENDING, "a rank and a flag fit 16 bits");

// Mutable, shared by a rank's workers; rank-local atomics only. Arrays are [ranks] unless said.
struct phx_rank_state {
    uint64_t barrier_arrived; // workers that ever arrived, all barriers together
    uint64_t blocked_on;      // operation << 16 | PHX_BLOCKED_SENDING, if so, | (rank + 1), of a
                              // worker blocked for D/4; + 0: that rank has come
    uint64_t abort;           // not 0: every wait ends
    uint64_t rows_dropped;    // rows beyond the capacity of a compact output, in this operation
    uint64_t puts;            // GPU test launches: puts so far; the rank dies at die_after_puts
    uint64_t die_after_puts;  // 0: never
    uint64_t dead;            // GPU test launches: this rank's blocks have left
};

struct phx_rank {
    struct phx_shape shape;
    uint32_t rank;
    uint32_t epoch;               // low 16 bits go into words
    uint32_t experts_local;       // on this rank
    uint32_t stage_reused;        // not 0: puts have read their source when they return
    const uint16_t *expert_rank;  // [experts] where each expert lives
    const uint16_t *expert_local; // [experts] its index there
    uint8_t *const *from;         // [ranks] region in our memory that each source writes
    // [slots][ranks] What is added to an offset in that region's head of the slot, which may lie
    // apart: from[source], or an address that is nothing by itself. C targets only.
    uint8_t *const *heads;
    uint8_t *const *to; // [ranks] our region in each peer's memory; GPU targets only
    uint8_t *stage;     // phx_stage_bytes()
    struct phx_rank_state *state;
    uint64_t *suspected; // [ranks] enum phx_cause
    uint64_t *fates;     // [PHX_WAIT_PHASES][ranks] operation << 8 | enum phx_fate
    uint64_t *owed;      // [PHX_WAIT_PHASES][ranks] phx_owed_make(): a word to be stored; 0: none
    uint32_t *tally;     // [workers][ranks] rows sent to each, when divided by token; C targets
    const void *environment; // C targets: struct phx_environment of device_c.h
};

// What dispatch leaves for combine. One per operation in flight; arrays sized by the shape.
struct phx_handle_view {
    uint8_t *routes;     // route messages as received, packed: those of a worker's sources together
    uint64_t *route_at;  // [ranks] where a source's message begins, if its counts came
    uint64_t *sent_at;   // [ranks] where that to a peer was built, in staging's slot
    uint32_t *begin;     // [experts_local_max][ranks] first row of a source within an expert
    int64_t *offset;     // [experts_local_max + 1] first row of an expert; compact layout only
    uint32_t *count;     // [experts_local_max] rows of an expert, all sources
    uint64_t *counted;   // [ranks] phx_counted_make(): the fate of the counts, and the counts
    uint64_t *present;   // [ranks] enum phx_fate of the rows
    uint32_t *sent_rows; // [ranks] rows that our tokens have there
    uint64_t rows_max;   // compact: rows that the output holds
};

// What became of a source's route, and, if it came, how long it is.
PHX_BOTH uint64_t phx_counted_make(uint32_t fate, uint32_t row_count, uint32_t entry_count)
{
    return fate | (uint64_t)row_count << 8 | (uint64_t)entry_count << 32;
}
PHX_BOTH int phx_counted_is_there(uint64_t counted)
{
    return (counted & 0xFFu) == PHX_FATE_PRESENT;
}
PHX_BOTH uint32_t phx_counted_rows(uint64_t counted)
{
    return (uint32_t)(counted >> 8) & 0xFFFFFFu;
}
PHX_BOTH uint32_t phx_counted_entries(uint64_t counted)
{
    return (uint32_t)(counted >> 32);
}

// One operation, or one half of it. `replay` forces the fates that a recorded run had: [ranks] of
// enum phx_fate per wait phase used; NULL: they are found out.
struct phx_op_common {
    uint64_t operation;       // of the group, both kinds, from 1
    uint64_t sequence;        // of this kind, from 1
    uint64_t sent;            // the newest operation whose send half was launched
    uint64_t timeout_ns;      // D; UINT64_MAX: wait for ever
    uint64_t barriers_before; // rank-wide barriers that this group ever passed
    int32_t *active_ranks;    // [ranks] 1 = active; cleared, never set. NULL: none
    int64_t *wait_ns;         // [ranks] time waited for each rank is added. NULL: none
    const uint8_t *replay;    // see above
};

PHX_BOTH int phx_replays(const struct phx_op_common *op)
{
    return PHX_USUALLY(0, op->replay != NULL);
}

struct phx_dispatch_op {
    struct phx_op_common common;
    const uint16_t *x;         // [token_count, channels] bf16
    const int64_t *topk_idx;   // [token_count, top_k] -1: none
    const float *topk_weights; // [token_count, top_k], or NULL: weights of 1
    uint32_t token_count;
    uint32_t reserved;
    uint8_t *recv_x;              // rows of phx_payload_bytes(channels)
    uint32_t *recv_scales;        // words, token-contiguous: see phx_scales_at()
    int32_t *recv_src_info;       // token index at the source, per row
    int32_t *recv_count;          // [experts_local]
    int64_t *recv_layout_range;   // [experts_local][ranks] begin << 32 | count
    int32_t *cumulative_received; // [experts_local] counts are added. NULL: none
    struct phx_handle_view handle;
};

struct phx_combine_op {
    struct phx_op_common common;
    const uint16_t *y;         // expert outputs, bf16, in the rows that dispatch laid out
    const int64_t *topk_idx;   // as given to dispatch
    const float *topk_weights; // [token_count, top_k]
    uint32_t token_count;
    uint32_t renormalise; // not 0: surviving weights are scaled up to the full sum
    uint16_t *out;        // [token_count, channels] bf16
    float *token_loss;    // [token_count] f32. NULL: none
    uint64_t *answered;   // [ranks] 1: the rank answered in full
    struct phx_handle_view handle;
};

// A word that a rank given up may still wait for, by the worker that stores it (wait.h).
PHX_BOTH uint64_t phx_owed_make(uint64_t sequence, uint32_t worker)
{
    return (sequence & 0xFFFFFFu) << 16 | (worker + 1);
}
// To the peer at `offset`.
PHX_BOTH uint64_t phx_owed_word_offset(const struct phx_shape *s, uint32_t phase, uint64_t owed,
                                       uint32_t offset)
{
    uint64_t sequence = owed >> 16;
    uint32_t part = phx_part_of(s, (uint32_t)(owed & 0xFFFFu) - 1, offset);
    if (phase == PHX_WAIT_COUNTS)
        return phx_counts_word_offset(s, sequence);
    return phase == PHX_WAIT_ROWS ? phx_rows_word_offset(s, sequence, part)
                                  : phx_combine_word_offset(s, sequence, part);
}

PHX_BOTH uint8_t *phx_handle_route(const struct phx_handle_view *h, uint32_t source)
{
    return h->routes + h->route_at[source];
}

// Where row `row` of local expert `expert` lies in recv_x, recv_src_info and y.
PHX_BOTH uint64_t phx_row_at(const struct phx_shape *s, const struct phx_handle_view *h,
                             uint32_t expert, uint64_t row)
{
    if (phx_is_compact(s))
        return (uint64_t)h->offset[expert] + row;
    return (uint64_t)expert * s->ranks * s->tokens_max + row;
}

// Scales lie token-contiguous, as DeepEP's do: word i of a row at base + i * stride.
PHX_BOTH uint64_t phx_scales_at(const struct phx_shape *s, const struct phx_handle_view *h,
                                uint32_t expert, uint64_t row)
{
    if (phx_is_compact(s))
        return (uint64_t)h->offset[expert] + row;
    uint64_t rows = (uint64_t)s->ranks * s->tokens_max;
    return (uint64_t)expert * phx_stored_scale_words(s) * rows + row;
}
PHX_BOTH uint64_t phx_scales_stride(const struct phx_shape *s, const struct phx_handle_view *h)
{
    return phx_is_compact(s) ? h->rows_max : (uint64_t)s->ranks * s->tokens_max;
}

#endif
