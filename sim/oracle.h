// sim/oracle.h: the plain, slow reference of dispatch and combine, given the masks that were
// reported.
//
// It is written from the contract, not from the kernels, and converts numbers by value
// (nearest-value search), so that a fault in kernels/ is not a fault here.
//
//   1. Dispatch: rows of an expert stand by source rank, then in token order, then in order of k.
//      A source that is not counted occupies nothing. Rows counted but not present are zero bytes
//      in place, scales too; their src_info is set. Memory beyond the counts is left as it was.
//   2. Combine, rows once: for each answering rank, in rank order, that rank's partial sum in order
//      of k, rounded once to bf16; then the sum of the partials. Per expert: one sum in order of k.
//      All sums are f32, one fused step per term, from +0; the result is scaled, then bf16.
//   3. A rank answers a source if it is marked so and had counted that source's rows.
//
// Everything allocated is freed before return. Errors: 0 or a negative enum phx_error with a
// message.

#ifndef PHX_SIM_ORACLE_H
#define PHX_SIM_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/error.h"
#include "kernels/layout.h"

struct phx_oracle_source { // what one rank gave to dispatch
    uint32_t tokens;
    const uint16_t *x;         // [tokens, channels] bf16
    const int64_t *topk_idx;   // [tokens, top_k]; -1: none
    const float *topk_weights; // [tokens, top_k], or NULL
};

struct phx_oracle_input {
    const struct phx_shape *shape;
    const uint32_t *expert_rank;             // [experts]
    const uint32_t *expert_local;            // [experts], below experts_local_max
    const struct phx_oracle_source *sources; // [ranks]
    bool is_checked; // a call for another rank has found nothing wrong with all of these
};

struct phx_oracle_masks {        // what one rank saw of dispatch, by source: 0 or 1
    const uint8_t *counted;      // [ranks]
    const uint8_t *rows_present; // [ranks]
};

// Output of dispatch on one rank; the caller owns the arrays. L = experts_local_max, R = ranks,
// M = tokens_max, rows = phx_oracle_rows().
struct phx_oracle_output {
    uint64_t capacity_rows; // compact: rows that the output holds. slots: not looked at
    int32_t *recv_count;    // [L]
    int64_t *layout_range;  // [L, R] begin << 32 | count, begin within the expert's rows
    int64_t *offsets;       // [L + 1] compact: an expert's first row. slots: may be NULL
    int32_t *src_info;      // [rows] token index at the source
    uint8_t *payload;       // [rows, channels] bf16 or e4m3
    uint32_t *scales;       // fp8: phx_oracle_scale_at(); else may be NULL
};

// Rows of the arrays above: L * R * M, or capacity_rows.
uint64_t phx_oracle_rows(const struct phx_shape *shape, uint64_t capacity_rows);
// Words of `scales` in all.
uint64_t phx_oracle_scale_words(const struct phx_shape *shape, uint64_t capacity_rows);
// Index of scale word `word` of a row. slots: [L, words, R * M]; compact: [words, capacity_rows].
// `row` counts within the whole output in both.
uint64_t phx_oracle_scale_at(const struct phx_shape *shape, uint64_t capacity_rows, uint64_t row,
                             uint32_t word);

// PHX_ERR_CAPACITY if the rows do not fit: then counts, ranges and offsets are set, and no row is.
int phx_oracle_dispatch(const struct phx_oracle_input *input, uint32_t rank,
                        const struct phx_oracle_masks *masks, struct phx_oracle_output *out,
                        struct phx_message *message);

// The rows of every source as they travel, made once for all the ranks that receive them.
struct phx_oracle_wire {
    uint8_t *payload; // [ranks, tokens_max, channels] bf16 or e4m3
    uint32_t *scales; // [ranks, tokens_max, words] fp8; else not looked at
};
// Fills in the rows of source `source`.
void phx_oracle_wire_fill(const struct phx_oracle_input *input, uint32_t source,
                          struct phx_oracle_wire *wire);
// Row `token` of source `source` in `wire` as its receivers read it: [channels] bf16.
void phx_oracle_wire_read(const struct phx_shape *shape, const struct phx_oracle_wire *wire,
                          uint32_t source, uint32_t token, uint16_t *x);
// As phx_oracle_dispatch(), with the rows of every counted source in `wire`; NULL: made here.
int phx_oracle_dispatch_wired(const struct phx_oracle_input *input,
                              const struct phx_oracle_wire *wire, uint32_t rank,
                              const struct phx_oracle_masks *masks, struct phx_oracle_output *out,
                              struct phx_message *message);

// Compares what the contract defines and skips the rest. 0, or PHX_ERR_CORRUPT with a message that
// names the first place that differs.
int phx_oracle_dispatch_compare(const struct phx_shape *shape,
                                const struct phx_oracle_output *expected,
                                const struct phx_oracle_output *actual,
                                struct phx_message *message);

// The output row of an expert: [channels] bf16, at the row where dispatch put its input on that
// rank
// (`row` counts within the whole output: slots e * R * M + i, compact offsets[e] + i). Never NULL;
// borrowed until the oracle returns.
typedef const uint16_t *phx_oracle_expert_row(void *context, uint32_t rank, uint64_t row);

struct phx_oracle_combine {
    uint32_t rank; // the source, whose tokens are summed
    enum phx_rows_form form;
    bool renormalise;
    // [tokens, top_k]; NULL: those given to dispatch, or 1 without. Partial sums (rows once) always
    // take those given to dispatch.
    const float *topk_weights;
    const uint8_t *answered; // [ranks]
    // [ranks][ranks]: counted[d][s], d's mask; NULL, or NULL for a rank: all counted.
    const uint8_t *const *counted;
    phx_oracle_expert_row *expert_row;
    void *context;
    uint16_t *out;     // [tokens, channels] bf16
    float *token_loss; // [tokens] sum of the weights whose experts did not answer
};

int phx_oracle_combine(const struct phx_oracle_input *input,
                       const struct phx_oracle_combine *combine, struct phx_message *message);

struct phx_oracle_error {
    double abs_max;
    double relative_l2; // sqrt(sum of squared errors / sum of squared values)
    uint64_t skipped;   // channels where either side is not finite
};

// How far `out`, [tokens, channels] bf16, lies from the same sums in f64.
int phx_oracle_combine_error(const struct phx_oracle_input *input,
                             const struct phx_oracle_combine *combine, const uint16_t *out,
                             struct phx_oracle_error *error, struct phx_message *message);

#endif
