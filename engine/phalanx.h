// engine/phalanx.h: the public interface of Phalanx.
//
// A group is a fixed set of ranks with one shape: experts, hidden size, most tokens, number format.
// Each rank opens its end over a target (a transport and an executor: the simulator's today), ranks
// exchange cards, and then call the same operations in the same order. A rank that dies or falls
// silent costs its own tokens and nothing else: the operation completes and says so.
//
// Tensors are described as [shape] dtype. All are contiguous, borrowed for the call (for hook
// halves: until the receive half returns), and in memory that the target's workers reach: host
// memory on C targets. Outputs are written only when a call returns 0 or PHX_ERR_CAPACITY; what an
// aborted operation left in them means nothing.
//
// Threads: one thread per group, the rank's control thread, makes every call but phx_abort().
// Errors: 0 or a negative enum phx_error; `message`, where there is one (NULL is allowed), then
// names the argument, its value and its bound. A call that fails with PHX_ERR_INVALID changed
// nothing. The headers are C11 and later, and C++11 and later.

#ifndef PHX_ENGINE_PHALANX_H
#define PHX_ENGINE_PHALANX_H

#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"
#include "engine/limits.h"
#include "kernels/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PHX_VERSION_MAJOR 0
#define PHX_VERSION_MINOR 1
#define PHX_VERSION_PATCH 0
// "0.1.0"; of the library that is linked, not of the header.
const char *phx_version(void);

struct phx_transport;
struct phx_executor;
struct phx_group;
struct phx_handle;

struct phx_target { // what carries the bytes and runs the workers; borrowed until the group closes
    struct phx_transport *transport;
    struct phx_executor *executor;
};

// Memory for a group. `alloc` returns zeroed memory aligned to 4096, or NULL; `free` may be NULL if
// the memory goes away with its arena. Called only by create, handle and close calls.
struct phx_allocator {
    void *(*alloc)(void *context, uint64_t size_bytes);
    void (*free)(void *context, void *memory, uint64_t size_bytes);
    void *context;
};

#define PHX_TIMEOUT_NONE INT64_C(-1) // wait for ever, or until the transport tells that a rank died

// What the loss of a rank costs. OFF: no deadlines, nothing said while waiting, no rank masked
// (active_ranks is not looked at): once the transport tells of a loss every operation fails with
// PHX_ERR_PEER_LOST, now and later; after a failed check with PHX_ERR_CORRUPT, whose process must
// end, or its peers wait for it. A rank that hangs is waited for until phx_abort().
enum phx_fault_tolerance { PHX_FAULT_TOLERANCE_ON = 1, PHX_FAULT_TOLERANCE_OFF };

struct phx_group_options {
    uint32_t size; // sizeof(struct phx_group_options), so that a later library knows this one
    uint32_t rank;
    uint32_t ranks;      // 1 to PHX_RANKS_MAX
    uint32_t experts;    // 1 to PHX_EXPERTS_MAX
    uint32_t top_k;      // 1 to PHX_TOP_K_MAX
    uint32_t tokens_max; // per rank and operation, 1 to PHX_TOKENS_MAX
    uint32_t hidden;     // channels; a multiple of 128, 128 to PHX_HIDDEN_MAX
    uint32_t channels; // 0: hidden. 128: store one scale group, charge the wire for all (simulator)
    uint32_t in_flight;                 // 0 or 1; 2 for hook halves that overlap
    uint32_t workers;                   // per rank, 1 to PHX_WORKERS_MAX; the same on every rank
    enum phx_dtype dtype;               // of dispatched rows
    enum phx_scale_format scale_format; // of fp8 rows; ignored for bf16
    enum phx_rows_form rows;            // of combine: once per rank (weights travel with dispatch)
                                        // or one row per expert, weighted at the source
    enum phx_output_layout layout;      // of dispatch's output
    enum phx_check check;               // what carries a check: routes, or rows too. A rank whose
                                        // message fails its check is masked, as corrupt
    enum phx_division division;         // how workers share what they send
    enum phx_fault_tolerance fault_tolerance; // the same on every rank
    const int32_t *expert_map;      // [experts] rank of each expert; NULL: in order, the first
                                    // experts % ranks ranks hold one more
    int64_t timeout_us;             // D, the default deadline of an operation; 1 to 2^40, or
                                    // PHX_TIMEOUT_NONE
    struct phx_allocator allocator; // alloc NULL: the C library's
};
// Zeroes the rest and fills size, in_flight 1, workers 1, fp8, f32 scales, rows once, slots layout,
// checked routes, divided by peer, fault tolerance on, timeout 1 s.
void phx_group_options_init(struct phx_group_options *options);

struct phx_size_hint {         // for these options, on this rank
    uint64_t region_bytes;     // one pair region; the rank holds `ranks` of them
    uint64_t stage_bytes;      // staging memory
    uint64_t handle_bytes;     // one handle
    uint64_t group_bytes;      // everything that opening a group allocates
    uint64_t recv_rows_max;    // rows of recv_x: slots layout, exactly; compact, in the worst case
    uint64_t recv_x_bytes;     // for recv_rows_max rows
    uint64_t recv_scale_bytes; // for recv_rows_max rows; 0 for bf16
    uint32_t experts_local;    // on this rank
};
int phx_size_hint(const struct phx_group_options *options, struct phx_size_hint *hint,
                  struct phx_message *message);

// --- opening -----------------------------------------------------------------------------------
// create, exchange cards (an all-to-all of fixed-size blobs, over whatever bootstrap there is),
// then connect. sim/open.h does the three for a simulated rank.

int phx_group_create(const struct phx_group_options *options, const struct phx_target *target,
                     struct phx_group **group, struct phx_message *message);
uint32_t phx_group_card_bytes(void);
// cards: [ranks][card_bytes]; card i is for rank i.
void phx_group_cards(const struct phx_group *group, void *cards);
// cards: [ranks][card_bytes]; card i came from rank i. PHX_ERR_MISMATCH names the rank and the
// field in which it differs; PHX_ERR_CORRUPT a card that is none.
int phx_group_connect(struct phx_group *group, const void *cards, struct phx_message *message);
// Takes in what the transport reports. Returns how many peers have not yet answered the connection,
// up or lost: operations may begin at 0. Never waits.
uint32_t phx_group_poll(struct phx_group *group);
// Releases the group's memory, and what is still in flight from it is lost: peers that have not got
// their rows yet would mask this rank. So call phx_group_poll() and phx_group_pending() until the
// latter is 0 first (sim/open.h's phx_sim_close() does). Never waits. NULL is allowed.
void phx_group_close(struct phx_group *group);
// Puts to ranks that are not masked which have not reached them.
uint64_t phx_group_pending(const struct phx_group *group);

// Ends every wait of this rank; its operations return PHX_ERR_ABORTED, now and later. Any thread;
// in the simulator, any fiber of the rank.
void phx_abort(struct phx_group *group);

// What dispatch hands to combine. A handle serves one dispatch at a time; the dispatch may be
// combined more than once, and the handle then serves another. Free handles before the group
// closes.
int phx_handle_create(struct phx_group *group, struct phx_handle **handle,
                      struct phx_message *message);
void phx_handle_free(struct phx_group *group, struct phx_handle *handle); // NULL is allowed

// --- what became of an operation ---------------------------------------------------------

#define PHX_RANK_WORDS (PHX_RANKS_MAX / 64)
struct phx_rank_set { // bit r % 64 of word r / 64
    uint64_t words[PHX_RANK_WORDS];
};
static inline int phx_rank_set_has(const struct phx_rank_set *set, uint32_t rank)
{
    return (int)(set->words[rank / 64] >> (rank % 64) & 1);
}

struct phx_outcome {
    uint32_t kind; // enum phx_kind
    uint32_t reserved;
    uint64_t number;              // of this kind, from 1
    uint64_t epoch;               // the view it ran in
    struct phx_rank_set counted;  // dispatch: sources whose counts came
    struct phx_rank_set present;  // dispatch: sources whose rows came
    struct phx_rank_set answered; // combine: ranks that answered for every row sent there
    struct phx_rank_set masked;   // ranks that this rank suspects, after the operation
    uint32_t masked_count;        // of them
    uint32_t rows_received;       // dispatch: rows laid out here, missing ones included
    uint64_t rows_dropped;        // dispatch, compact: rows beyond recv_rows_max
};

// --- dispatch ----------------------------------------------------------------------------

struct phx_dispatch_args {
    uint32_t size;             // sizeof(struct phx_dispatch_args)
    uint32_t token_count;      // 0 to tokens_max
    const void *x;             // [token_count, channels] bf16
    const int64_t *topk_idx;   // [token_count, top_k] expert, or -1 for none; a token
                               // lists an expert at most once
    const float *topk_weights; // [token_count, top_k] f32; required with rows once, else ignored
    int32_t *active_ranks; // [ranks] 1 = active; operations clear entries, never set them. A rank
                           // the caller cleared is masked until a view readmits it (engine/view.h).
                           // NULL: none
    int64_t timeout_us;    // 0: the group's; PHX_TIMEOUT_NONE: wait for ever
    // Outputs. Rows: slots layout [experts_local, ranks * tokens_max, channels], an expert's rows
    // from the front of its block; compact layout [recv_rows_max, channels], experts one after
    // another. Rows of an expert stand by source rank, then by token. Rows that were counted and
    // never came are zeros. Rows past an expert's count are left as they were.
    void *recv_x;                 // fp8 e4m3 or bf16
    void *recv_scales;            // fp8: u32 or f32 words, token-contiguous:
                                  // [experts_local, words, ranks * tokens_max]
                                  // (compact: [words, recv_rows_max]); f32: words = channels / 128;
                                  // ue8m0: four exponent bytes a word, words = channels / 512, up
    int32_t *recv_count;          // [experts_local]
    int32_t *recv_src_info;       // [rows] token index at the source
    int64_t *recv_layout_range;   // [experts_local, ranks] begin within the expert << 32 | count
    int64_t *recv_offsets;        // [experts_local + 1] first row of each expert; compact only, may
                                  // be NULL
    uint64_t recv_rows_max;       // compact: rows that recv_x holds
    int32_t *cumulative_received; // [experts_local] counts are added. NULL: none
    int64_t *wait_ns;             // [ranks] time waited for each rank is added. NULL: none
    const uint8_t *replay; // NULL. Or [2, ranks] recorded fates (counts, rows; enum phx_fate)
                           // to be taken instead of found out: replay and comparison only
    const uint8_t *replay_masked; // with it: NULL. Or [ranks] 1: recorded as masked at the end; it
                                  // is masked then, and not before
};

// The whole operation; returns when it is complete. `outcome` may be NULL. PHX_ERR_CAPACITY: the
// compact output was too small; what fits was written, rows_dropped says how many rows did not.
// Combine must follow all the same; a source with any row among the dropped counts every token that
// it sent to this rank as lost.
int phx_dispatch(struct phx_group *group, const struct phx_dispatch_args *args,
                 struct phx_handle *handle, struct phx_outcome *outcome,
                 struct phx_message *message);
// The same in halves, for overlap. At most in_flight operations of a kind may be between halves,
// each with its own handle; receives come in the order of sends.
int phx_dispatch_send(struct phx_group *group, const struct phx_dispatch_args *args,
                      struct phx_handle *handle, struct phx_message *message);
int phx_dispatch_receive(struct phx_group *group, struct phx_handle *handle,
                         struct phx_outcome *outcome, struct phx_message *message);

// --- combine -----------------------------------------------------------------------------

struct phx_combine_args {
    uint32_t size;             // sizeof(struct phx_combine_args)
    uint32_t token_count;      // as given to the dispatch of this handle
    const void *y;             // [rows of dispatch's output, channels] bf16: expert outputs
    const int64_t *topk_idx;   // as given to dispatch
    const float *topk_weights; // [token_count, top_k] f32; with rows once, as given to dispatch
    int32_t *active_ranks;     // as dispatch's
    int64_t timeout_us;        // as dispatch's
    uint32_t renormalise;      // not 0: scale surviving weights up to the sum of all; default off
    uint32_t reserved;
    void *out;         // [token_count, channels] bf16
    float *token_loss; // [token_count] sum of the weights whose experts did not answer. NULL: none
    int64_t *wait_ns;  // [ranks] as dispatch's
    const uint8_t *replay;        // NULL. Or [ranks] recorded fates, as dispatch's
    const uint8_t *replay_masked; // as dispatch's
};

int phx_combine(struct phx_group *group, const struct phx_combine_args *args,
                struct phx_handle *handle, struct phx_outcome *outcome,
                struct phx_message *message);
int phx_combine_send(struct phx_group *group, const struct phx_combine_args *args,
                     struct phx_handle *handle, struct phx_message *message);
int phx_combine_receive(struct phx_group *group, struct phx_handle *handle,
                        struct phx_outcome *outcome, struct phx_message *message);

// --- queries -----------------------------------------------------------------------------

// What this rank holds against each rank: enum phx_cause (kernels/rank.h), 0 = nothing. [ranks].
void phx_group_suspicions(const struct phx_group *group, uint32_t *causes);
const char *phx_cause_text(uint32_t cause);
uint64_t phx_group_epoch(const struct phx_group *group);

#ifdef __cplusplus
}
#endif

#endif
