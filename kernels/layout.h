// kernels/layout.h: what ranks agree on at open, and where everything lies in a pair region.
//
// Each ordered pair (source s, destination d) has one region in d's memory, written by s alone:
//
//   heads    [slots] words (counts | rows[parts] | combine[parts]), a short route message (route.h)
//            and near rows
//   status   one word
//   routes   [slots] longer route messages, if rows can be near
//   dispatch [slots][tokens_max] wire rows: payload, then scales     wire slot = place in the route
//                                                                    message; small ones are near
//   combine  [slots][tokens_max * rows per token] bf16 rows          wire slot = source token index
//                                                                    (* top_k + k when per expert)
//
// Slot of operation n of a kind: n mod slots. Everything here is a pure function of phx_shape.

#ifndef PHX_KERNELS_LAYOUT_H
#define PHX_KERNELS_LAYOUT_H

#include "engine/limits.h"
#include "kernels/macros.h"

enum phx_dtype { PHX_BF16 = 1, PHX_FP8_E4M3 };
enum phx_scale_format { PHX_SCALE_F32 = 1, PHX_SCALE_UE8M0 };
enum phx_rows_form { PHX_ROWS_ONCE = 1, PHX_ROWS_PER_EXPERT };
enum phx_output_layout { PHX_LAYOUT_SLOTS = 1, PHX_LAYOUT_COMPACT };
// What carries a check of its own, beside the transport's: a bit that flips behind that one then
// shows, and its source is masked as corrupt.
enum phx_check {
    PHX_CHECK_ROUTES = 1, // route messages; a flipped row passes
    PHX_CHECK_ROWS        // and each row, which is 8 to 20 bytes longer (check.h)
};

// How a rank's workers share what they send.
enum phx_division {
    PHX_BY_PEER = 1, // each serves few peers: rows are staged, all workers meet, few words are sent
    PHX_BY_TOKEN     // each sends its own tokens to every peer at once, and a word to each: for
                     // many workers that meet at a cost
};

enum phx_kind { PHX_DISPATCH = 1, PHX_COMBINE };
enum phx_phase {
    PHX_PHASE_DISPATCH_SEND = 1,
    PHX_PHASE_DISPATCH_RECEIVE,
    PHX_PHASE_DISPATCH_DONE,
    PHX_PHASE_COMBINE_SEND,
    PHX_PHASE_COMBINE_RECEIVE,
    PHX_PHASE_COMBINE_DONE
};

struct phx_shape {
    uint32_t ranks;
    uint32_t experts;
    uint32_t experts_local_max; // most experts on one rank
    uint32_t top_k;
    uint32_t tokens_max;   // per rank and operation
    uint32_t hidden;       // channels of a row, as the wire is charged
    uint32_t channels;     // channels stored and computed: hidden, or 128 with thin payloads
    uint32_t in_flight;    // W: 1, or 2 for hook mode
    uint32_t workers;      // per rank; the same on every rank, because it fixes `parts`
    uint32_t dtype;        // enum phx_dtype, of dispatched rows
    uint32_t scale_format; // enum phx_scale_format; only for fp8
    uint32_t rows;         // enum phx_rows_form, of combine
    uint32_t layout;       // enum phx_output_layout, of dispatch's output
    uint32_t check;        // enum phx_check
    uint32_t division;     // enum phx_division
};

// Numbers of a shape that are asked for again and again. A block of a GPU has one rank and one
// shape, and keeps them on chip (chip_cuda.h), figured out by the host that launches it; elsewhere
// the formula that stands where the number is asked for is as quick.
struct phx_figures {
    uint32_t shares;
    uint32_t parts;
    uint32_t near_rows;
    uint32_t scale_words; // of a stored row, like all bytes here
    uint32_t payload_bytes;
    uint32_t dispatch_stride;
    uint32_t combine_stride;
    uint32_t route_rows_offset;
    uint64_t dispatch_wire_bytes;
    uint64_t combine_wire_bytes;
    uint64_t combine_rows_per_slot;
    uint64_t route_stride;
    uint64_t route_room_max;
    uint64_t words_per_slot;
    uint64_t head_bytes;
    uint64_t far_rows_offset;
    uint64_t combine_offset; // of the first combine row, in a region
    uint64_t stage_combine_offset;
};
#if defined(__CUDA_ARCH__) && defined(PHX_FIGURES_ON_CHIP)
static __device__ const struct phx_figures *phx_figures_here(void);
#define PHX_FIGURE(name, formula) (phx_figures_here()->name)
#else
#define PHX_FIGURE(name, formula) (formula)
#endif

// A block of a GPU runs most of its code once, and pays for each question that it asks. What most
// launches answer alike is also compiled in (launch_usual.cu). Each such answer is asked for in
// is_usual() of launch.cu, which chooses between the two.
#if defined(__CUDA_ARCH__) && defined(PHX_USUAL)
#define PHX_USUALLY(usual, value) (usual)
#else
#define PHX_USUALLY(usual, value) (value)
#endif

// value % modulus, of a value that is mostly less than twice as much: without a division then.
PHX_BOTH uint32_t phx_wrap(uint32_t value, uint32_t modulus)
{
    if (value >= modulus)
        value -= modulus;
    return value < modulus ? value : value % modulus;
}

PHX_BOTH int phx_is_by_token(const struct phx_shape *s)
{
    return PHX_USUALLY(1, s->division == PHX_BY_TOKEN);
}
PHX_BOTH int phx_is_compact(const struct phx_shape *s)
{
    return PHX_USUALLY(0, s->layout == PHX_LAYOUT_COMPACT);
}
// Workers wait for the layout before they place rows. Else each reckons for itself, which takes
// reading what all sources sent: for many workers that take few rows.
PHX_BOTH int phx_is_laid_out_first(const struct phx_shape *s)
{
    return !phx_is_by_token(s) || phx_is_compact(s);
}
PHX_BOTH int phx_is_once(const struct phx_shape *s)
{
    return PHX_USUALLY(1, s->rows == PHX_ROWS_ONCE);
}

// Workers that share the rows of one peer when work is divided by peer. With at least one worker
// per rank, worker w serves peer offset w % ranks, share w / ranks; with fewer, it serves every
// peer offset that is w modulo workers.
PHX_BOTH uint32_t phx_shares(const struct phx_shape *s)
{
    return PHX_FIGURE(shares, s->workers >= s->ranks ? s->workers / s->ranks : 1);
}

// Parts that an ordered pair's rows are sent in, each with a word and a worker of its own.
PHX_BOTH uint32_t phx_parts(const struct phx_shape *s)
{
    return PHX_FIGURE(parts, phx_is_by_token(s) ? s->workers : phx_shares(s));
}
// The part that a worker sends to the peer at `offset` (peer = (rank + offset) % ranks), if it
// serves that peer. By token the parts are turned from peer to peer, so that the workers whose part
// of one peer is empty are not those of the next.
PHX_BOTH uint32_t phx_part_of(const struct phx_shape *s, uint32_t worker, uint32_t offset)
{
    if (!phx_is_by_token(s))
        return s->workers >= s->ranks ? worker / s->ranks : 0;
    return phx_wrap(worker + offset * phx_shares(s), s->workers);
}
// The first peer offset whose route message a worker sends, and takes; the others are `workers`
// apart. By token these are the last workers, which have the fewest tokens.
PHX_BOTH uint32_t phx_route_first(const struct phx_shape *s, uint32_t worker)
{
    return phx_is_by_token(s) ? s->workers - 1 - worker : worker;
}

PHX_BOTH uint32_t phx_slots(const struct phx_shape *s)
{
    return 2 * s->in_flight;
}

// The slot of operation n of a kind. There are two or four, so no division is needed.
static_assert(PHX_IN_FLIGHT_MAX == 2, "a slot is found by a mask");
PHX_BOTH uint64_t phx_slot(const struct phx_shape *s, uint64_t sequence)
{
    return sequence & (phx_slots(s) - 1);
}

PHX_BOTH uint64_t phx_align(uint64_t value, uint64_t multiple)
{
    return (value + multiple - 1) / multiple * multiple;
}

// --- words -------------------------------------------------------------------------------------

PHX_BOTH uint64_t phx_word_make(uint64_t epoch, uint64_t sequence, uint32_t value)
{
    return (epoch & 0xFFFFu) << 48 | (sequence & 0xFFFFFFu) << 24 | (value & 0xFFFFFFu);
}
PHX_BOTH uint32_t phx_word_epoch(uint64_t word)
{
    return (uint32_t)(word >> 48);
}
PHX_BOTH uint32_t phx_word_sequence(uint64_t word)
{
    return (uint32_t)(word >> 24) & 0xFFFFFFu;
}
PHX_BOTH uint32_t phx_word_value(uint64_t word)
{
    return (uint32_t)word & 0xFFFFFFu;
}

// --- route messages ----------------------------------------------------------------------------

struct phx_route_header {
    uint32_t row_count;   // tokens of the source with at least one expert here
    uint32_t entry_count; // (token, expert) pairs
    uint32_t head_check;  // phx_route_head_check() of both: nothing is read by them before it holds
    uint32_t check;       // phx_route_check_sum() of everything else
};
struct phx_route_row {
    uint32_t token;       // source token index, ascending
    uint32_t entry_begin; // first entry; entries of a row stand in order of k
};
struct phx_route_entry {
    uint16_t index;  // which of this source's rows for that expert, in token order
    uint16_t row;    // in this message
    float weight;    // 1 when dispatch was given no weights
    uint16_t expert; // local to the destination
    uint16_t k;      // place in the token's top-k list
};
static_assert(PHX_TOKENS_MAX <= 1u << 16, "a token and an index fit 16 bits");
// A message is: header | counts[experts_local_max] u32 | rows[row_count] | entries[entry_count].

PHX_BOTH uint64_t phx_route_counts_offset(void)
{
    return sizeof(struct phx_route_header);
}
PHX_BOTH uint64_t phx_route_rows_offset(const struct phx_shape *s)
{
    return PHX_FIGURE(
        route_rows_offset,
        phx_align(phx_route_counts_offset() + 4 * (uint64_t)s->experts_local_max, 16));
}
PHX_BOTH uint64_t phx_route_entries_offset(const struct phx_shape *s, uint32_t row_count)
{
    return phx_route_rows_offset(s) + 8 * (uint64_t)row_count;
}
PHX_BOTH uint64_t phx_route_bytes(const struct phx_shape *s, uint32_t row_count,
                                  uint32_t entry_count)
{
    return phx_route_entries_offset(s, row_count) + 12 * (uint64_t)entry_count;
}
// Of one token: it lists an expert once, and only experts of one rank stand in a message.
PHX_BOTH uint32_t phx_route_row_entries_max(const struct phx_shape *s)
{
    return s->top_k < s->experts_local_max ? s->top_k : s->experts_local_max;
}
PHX_BOTH uint64_t phx_route_stride(const struct phx_shape *s)
{
    return PHX_FIGURE(
        route_stride,
        phx_align(phx_route_bytes(s, s->tokens_max, s->tokens_max * phx_route_row_entries_max(s)),
                  128));
}

// By token there is room for a message that goes as pieces of three words and a tag each, as
// between GPUs (message_cuda.h).
#define PHX_PIECE_WORDS 3u
PHX_BOTH uint64_t phx_pieces_bytes(uint64_t bytes)
{
    return (bytes / 4 + PHX_PIECE_WORDS - 1) / PHX_PIECE_WORDS * 16;
}
PHX_BOTH uint64_t phx_route_room(const struct phx_shape *s, uint64_t bytes)
{
    return phx_is_by_token(s) ? phx_align(phx_pieces_bytes(bytes), 128) : bytes;
}
// Of the longest, in a region.
PHX_BOTH uint64_t phx_route_room_max(const struct phx_shape *s)
{
    return PHX_FIGURE(route_room_max, phx_route_room(s, phx_route_stride(s)));
}

// --- wire rows ---------------------------------------------------------------------------------

PHX_BOTH uint32_t phx_scale_groups(uint32_t channels)
{
    return channels / PHX_SCALE_GROUP;
}
// u32 words of scales behind a row of `channels`: f32 each, or four ue8m0 bytes each.
PHX_BOTH uint32_t phx_scale_words(const struct phx_shape *s, uint32_t channels)
{
    if (s->dtype != PHX_FP8_E4M3)
        return 0;
    uint32_t groups = phx_scale_groups(channels);
    return s->scale_format == PHX_SCALE_UE8M0 ? (groups + 3) / 4 : groups;
}
PHX_BOTH uint64_t phx_payload_bytes(const struct phx_shape *s, uint32_t channels)
{
    return (uint64_t)channels * (s->dtype == PHX_FP8_E4M3 ? 1 : 2);
}
// Of a row as it is stored.
PHX_BOTH uint32_t phx_stored_scale_words(const struct phx_shape *s)
{
    return PHX_FIGURE(scale_words, phx_scale_words(s, s->channels));
}
PHX_BOTH uint64_t phx_stored_payload_bytes(const struct phx_shape *s)
{
    return PHX_FIGURE(payload_bytes, phx_payload_bytes(s, s->channels));
}
// Bytes of a dispatched row: payload and scales.
PHX_BOTH uint64_t phx_dispatch_row_bytes(const struct phx_shape *s, uint32_t channels)
{
    return phx_payload_bytes(s, channels) + 4 * (uint64_t)phx_scale_words(s, channels);
}
PHX_BOTH int phx_rows_checked(const struct phx_shape *s)
{
    return PHX_USUALLY(0, s->check == PHX_CHECK_ROWS);
}
// Where the check of a row of `row_bytes` stands: at the end of the last 16 bytes.
PHX_BOTH uint64_t phx_check_offset(uint64_t row_bytes)
{
    return phx_align(row_bytes + 8, 16) - 8;
}
PHX_BOTH uint64_t phx_wire_bytes(const struct phx_shape *s, uint64_t row_bytes)
{
    return phx_rows_checked(s) ? phx_check_offset(row_bytes) + 8 : row_bytes;
}
// Bytes of a dispatched row as it is sent: payload, scales, and the check if there is one.
PHX_BOTH uint64_t phx_dispatch_wire_bytes(const struct phx_shape *s, uint32_t channels)
{
    return phx_wire_bytes(s, phx_dispatch_row_bytes(s, channels));
}
PHX_BOTH uint64_t phx_dispatch_stored_bytes(const struct phx_shape *s)
{
    return PHX_FIGURE(dispatch_wire_bytes, phx_dispatch_wire_bytes(s, s->channels));
}
PHX_BOTH uint64_t phx_dispatch_row_stride(const struct phx_shape *s)
{
    return PHX_FIGURE(dispatch_stride, phx_align(phx_dispatch_wire_bytes(s, s->channels), 64));
}
PHX_BOTH uint64_t phx_combine_row_bytes(uint32_t channels)
{
    return 2 * (uint64_t)channels;
}
PHX_BOTH uint64_t phx_combine_wire_bytes(const struct phx_shape *s, uint32_t channels)
{
    return phx_wire_bytes(s, phx_combine_row_bytes(channels));
}
PHX_BOTH uint64_t phx_combine_stored_bytes(const struct phx_shape *s)
{
    return PHX_FIGURE(combine_wire_bytes, phx_combine_wire_bytes(s, s->channels));
}
PHX_BOTH uint64_t phx_combine_row_stride(const struct phx_shape *s)
{
    return PHX_FIGURE(combine_stride, phx_align(phx_combine_wire_bytes(s, s->channels), 64));
}
PHX_BOTH uint64_t phx_combine_rows_per_slot(const struct phx_shape *s)
{
    return PHX_FIGURE(combine_rows_per_slot,
                      (uint64_t)s->tokens_max * (!phx_is_once(s) ? s->top_k : 1));
}

// --- heads -------------------------------------------------------------------------------------
// The words of a slot and its route message stand side by side, and the first rows behind them if
// they are small: among many ranks few rows go from one to another, and then all of it lies in the
// head, from its first byte on, and heads may lie apart from what else a region has
// (phx_mem_heads()). Rows of a full hidden size are far, and take no page that they do not fill;
// the same goes for a route message that needs more room than the near rows' would.

#define PHX_NEAR_BYTES 3072u
#define PHX_NEAR_ROWS_MIN 4u

PHX_BOTH uint32_t phx_near_rows_figure(const struct phx_shape *s)
{
    uint64_t stride = phx_dispatch_row_stride(s); // asked for each row: no division
    uint32_t rows = stride <= PHX_NEAR_BYTES / 16  ? 16
                    : stride <= PHX_NEAR_BYTES / 8 ? 8
                    : stride <= PHX_NEAR_BYTES / 4 ? 4
                                                   : 0;
    while (rows > PHX_NEAR_ROWS_MIN &&
           (uint64_t)rows * s->ranks > 2 * (uint64_t)s->tokens_max * s->top_k)
        rows /= 2;
    return rows < s->tokens_max ? rows : s->tokens_max;
}
// So many that about twice as many come on average: heads of very many ranks are many.
PHX_BOTH uint32_t phx_near_rows(const struct phx_shape *s)
{
    return PHX_FIGURE(near_rows, phx_near_rows_figure(s));
}
// Of a route message in a head. Without near rows any is there.
PHX_BOTH uint64_t phx_near_route_bytes(const struct phx_shape *s)
{
    uint32_t rows = phx_near_rows(s);
    if (rows == 0)
        return phx_route_room_max(s);
    return phx_align(
        phx_route_room(s, phx_route_bytes(s, rows, rows * phx_route_row_entries_max(s))), 64);
}
// Of one of `row_count` rows; both ends know no more when they look for it.
PHX_BOTH int phx_route_is_near(const struct phx_shape *s, uint64_t row_count)
{
    uint32_t rows = phx_near_rows(s);
    return rows == 0 || row_count <= rows;
}
PHX_BOTH uint64_t phx_words_per_slot(const struct phx_shape *s)
{
    // Whole cache lines, in pairs, unless the head is a small one.
    return PHX_FIGURE(words_per_slot,
                      phx_align(1 + 2 * (uint64_t)phx_parts(s), phx_near_rows(s) == 0 ? 16 : 8));
}
PHX_BOTH uint64_t phx_near_rows_at(const struct phx_shape *s) // in a head
{
    return phx_words_per_slot(s) * 8 + phx_near_route_bytes(s);
}
PHX_BOTH uint64_t phx_head_bytes(const struct phx_shape *s)
{
    return PHX_FIGURE(head_bytes,
                      phx_near_rows_at(s) + phx_near_rows(s) * phx_dispatch_row_stride(s));
}
PHX_BOTH uint64_t phx_counts_word_offset(const struct phx_shape *s, uint64_t sequence)
{
    return phx_slot(s, sequence) * phx_head_bytes(s);
}
PHX_BOTH uint64_t phx_rows_word_offset(const struct phx_shape *s, uint64_t sequence, uint32_t part)
{
    return phx_counts_word_offset(s, sequence) + 8 + 8 * (uint64_t)part;
}
PHX_BOTH uint64_t phx_combine_word_offset(const struct phx_shape *s, uint64_t sequence,
                                          uint32_t part)
{
    return phx_counts_word_offset(s, sequence) + 8 + 8 * ((uint64_t)phx_parts(s) + part);
}
PHX_BOTH uint64_t phx_status_word_offset(const struct phx_shape *s)
{
    return phx_slots(s) * phx_head_bytes(s);
}
PHX_BOTH uint64_t phx_heads_bytes(const struct phx_shape *s) // and the status word behind them
{
    return phx_status_word_offset(s) + 128;
}
PHX_BOTH uint64_t phx_route_offset(const struct phx_shape *s, uint64_t sequence, uint64_t row_count)
{
    if (!phx_route_is_near(s, row_count))
        return phx_heads_bytes(s) + phx_slot(s, sequence) * phx_route_room_max(s);
    return phx_counts_word_offset(s, sequence) + phx_words_per_slot(s) * 8;
}
PHX_BOTH uint64_t phx_far_rows_offset(const struct phx_shape *s)
{
    return PHX_FIGURE(far_rows_offset,
                      phx_heads_bytes(s) +
                          (phx_near_rows(s) > 0 ? phx_slots(s) * phx_route_room_max(s) : 0));
}

// --- the pair region ---------------------------------------------------------------------------

// Where the rows of one operation lie; for many rows it is figured out once.
struct phx_row_places {
    uint64_t near_at;
    uint64_t far_at;
    uint64_t stride;
    uint64_t sequence;
    uint32_t near_rows;
};
PHX_BOTH struct phx_row_places phx_dispatch_row_places(const struct phx_shape *s, uint64_t sequence)
{
    struct phx_row_places p;
    p.stride = phx_dispatch_row_stride(s);
    p.near_rows = phx_near_rows(s);
    p.sequence = sequence;
    p.near_at = phx_slot(s, sequence) * phx_head_bytes(s) + phx_near_rows_at(s);
    p.far_at = phx_far_rows_offset(s) + phx_slot(s, sequence) * s->tokens_max * p.stride;
    return p;
}
// The wire slot of the row that stands at `row` in the route message: its place there; by token,
// where rows leave before the message is built, the token itself.
PHX_BOTH uint32_t phx_row_slot(const struct phx_shape *s, uint32_t row, uint32_t token)
{
    return phx_is_by_token(s) ? token : row;
}
PHX_BOTH uint64_t phx_row_place(const struct phx_row_places *p, uint32_t row)
{
    return (row < p->near_rows ? p->near_at : p->far_at) + row * p->stride;
}
PHX_BOTH uint64_t phx_dispatch_row_offset(const struct phx_shape *s, uint64_t sequence,
                                          uint32_t row)
{
    struct phx_row_places places = phx_dispatch_row_places(s, sequence);
    return phx_row_place(&places, row);
}
PHX_BOTH uint64_t phx_combine_row_offset(const struct phx_shape *s, uint64_t sequence, uint64_t row)
{
    uint64_t rows = phx_slot(s, sequence) * phx_combine_rows_per_slot(s) + row;
    uint64_t first =
        PHX_FIGURE(combine_offset, phx_far_rows_offset(s) + (uint64_t)phx_slots(s) * s->tokens_max *
                                                                phx_dispatch_row_stride(s));
    return first + rows * phx_combine_row_stride(s);
}
PHX_BOTH uint64_t phx_region_bytes(const struct phx_shape *s)
{
    return phx_align(phx_combine_row_offset(s, 0, 0) +
                         phx_slots(s) * phx_combine_rows_per_slot(s) * phx_combine_row_stride(s),
                     4096);
}

// --- staging: where a rank builds what it sends; sources of puts --------------------------------
// Same slots as the regions: the evidence that frees a slot at the peers frees it here.

// Room for the longest route message to each peer.
PHX_BOTH uint64_t phx_stage_routes_offset(const struct phx_shape *s, uint64_t sequence)
{
    return phx_slot(s, sequence) * s->ranks * phx_route_stride(s);
}
PHX_BOTH uint64_t phx_stage_row_offset(const struct phx_shape *s, uint64_t sequence, uint32_t token)
{
    return phx_slots(s) * s->ranks * phx_route_stride(s) +
           (phx_slot(s, sequence) * s->tokens_max + token) * phx_dispatch_row_stride(s);
}
PHX_BOTH uint64_t phx_stage_combine_offset(const struct phx_shape *s, uint64_t sequence,
                                           uint32_t peer, uint64_t row)
{
    uint64_t rows = (phx_slot(s, sequence) * s->ranks + peer) * phx_combine_rows_per_slot(s);
    uint64_t first =
        PHX_FIGURE(stage_combine_offset,
                   (uint64_t)phx_slots(s) * (s->ranks * phx_route_stride(s) +
                                             s->tokens_max * phx_dispatch_row_stride(s)));
    return first + (rows + row) * phx_combine_row_stride(s);
}
PHX_BOTH uint64_t phx_stage_bytes(const struct phx_shape *s)
{
    return phx_align(phx_stage_combine_offset(s, 0, 0, 0) + phx_slots(s) * s->ranks *
                                                                phx_combine_rows_per_slot(s) *
                                                                phx_combine_row_stride(s),
                     4096);
}

// --- figures ------------------------------------------------------------------------------------

static inline struct phx_figures phx_figures_of(const struct phx_shape *s) // host
{
    struct phx_figures f;
    f.shares = phx_shares(s);
    f.parts = phx_parts(s);
    f.near_rows = phx_near_rows(s);
    f.scale_words = phx_stored_scale_words(s);
    f.payload_bytes = (uint32_t)phx_stored_payload_bytes(s);
    f.dispatch_stride = (uint32_t)phx_dispatch_row_stride(s);
    f.combine_stride = (uint32_t)phx_combine_row_stride(s);
    f.route_rows_offset = (uint32_t)phx_route_rows_offset(s);
    f.dispatch_wire_bytes = phx_dispatch_stored_bytes(s);
    f.combine_wire_bytes = phx_combine_stored_bytes(s);
    f.combine_rows_per_slot = phx_combine_rows_per_slot(s);
    f.route_stride = phx_route_stride(s);
    f.route_room_max = phx_route_room_max(s);
    f.words_per_slot = phx_words_per_slot(s);
    f.head_bytes = phx_head_bytes(s);
    f.far_rows_offset = phx_far_rows_offset(s);
    f.combine_offset = phx_combine_row_offset(s, 0, 0);
    f.stage_combine_offset = phx_stage_combine_offset(s, 0, 0, 0);
    return f;
}

#endif
