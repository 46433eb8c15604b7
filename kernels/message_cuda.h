// kernels/message_cuda.h: a short message between GPUs, whose parts say themselves that they are
// there.
//
// A message goes as pieces of 16 bytes: three words, and a tag of the operation. A piece is stored
// and loaded as a whole, so a reader that finds the tag has the words: nothing has to be complete
// before something else is stored, and the message takes one way over the link instead of two. The
// word that goes with it tells how many rows it has, and nothing about what has come.

#ifndef PHX_KERNELS_MESSAGE_CUDA_H
#define PHX_KERNELS_MESSAGE_CUDA_H

#include "kernels/route.h"

struct phx_piece {
    uint32_t word[PHX_PIECE_WORDS];
    uint32_t tag;
};
static_assert(sizeof(struct phx_piece) == 16, "of one access");

#define PHX_PIECES_AHEAD 3u // of a lane, whose loads are under way at once
#define PHX_MESSAGE_LOOKS 16u

#if defined(PHX_PIECES_PLAIN) // a test without a GPU
PHX_FN void phx_piece_store(uint8_t *to, struct phx_piece p)
{
    *(struct phx_piece *)(void *)to = p;
}
PHX_FN struct phx_piece phx_piece_load(const uint8_t *from)
{
    return *(const struct phx_piece *)(const void *)from;
}
#else
PHX_FN void phx_piece_store(uint8_t *to, struct phx_piece p)
{
    uint64_t low = p.word[0] | (uint64_t)p.word[1] << 32;
    uint64_t high = p.word[2] | (uint64_t)p.tag << 32;
    asm volatile("{\n\t.reg .b128 v;\n\tmov.b128 v, {%1, %2};\n\t"
                 "st.relaxed.sys.global.b128 [%0], v;\n\t}" ::"l"(to),
                 "l"(low), "l"(high)
                 : "memory");
}
PHX_FN struct phx_piece phx_piece_load(const uint8_t *from)
{
    uint64_t low;
    uint64_t high;
    asm volatile("{\n\t.reg .b128 v;\n\tld.relaxed.sys.global.b128 v, [%2];\n\t"
                 "mov.b128 {%0, %1}, v;\n\t}"
                 : "=l"(low), "=l"(high)
                 : "l"(from)
                 : "memory");
    struct phx_piece p = {{(uint32_t)low, (uint32_t)(low >> 32), (uint32_t)high},
                          (uint32_t)(high >> 32)};
    return p;
}
#endif

// Of a message of this operation. Another operation's is another number, but for one in 2^32; the
// message's own check stands behind it.
PHX_FN uint32_t phx_piece_tag(uint32_t epoch, uint64_t sequence)
{
    return phx_route_mix((uint32_t)sequence, epoch & 0xFFFFu);
}

// Stores a message at a peer, or here. What the lanes have written of it is stored.
PHX_FN void phx_pieces_put(const struct phx_worker *w, uint8_t *to, const uint8_t *message,
                           uint32_t size_bytes, uint32_t tag)
{
    const uint32_t *words = (const uint32_t *)(const void *)message;
    uint32_t count = size_bytes / 4;
    phx_sync(w);
    PHX_EACH(w, i, (uint32_t)(phx_pieces_bytes(size_bytes) / 16))
    {
        struct phx_piece p;
        p.tag = tag;
#pragma unroll
        for (uint32_t j = 0; j < PHX_PIECE_WORDS; j++)
            p.word[j] = PHX_PIECE_WORDS * i + j < count ? words[PHX_PIECE_WORDS * i + j] : 0;
        phx_piece_store(to + 16 * (uint64_t)i, p);
    }
}

// Of a message of at most `most` pieces, as many as its first one tells that it has.
PHX_FN uint32_t phx_pieces_told(const struct phx_worker *w, const struct phx_piece *head,
                                uint32_t most)
{
    static_assert(offsetof(struct phx_route_header, row_count) == 0 &&
                      offsetof(struct phx_route_header, entry_count) == 4,
                  "words of the first piece");
    uint64_t bytes = phx_route_bytes(&w->rank->shape, head->word[0], head->word[1]);
    return phx_pieces_bytes(bytes) / 16 < most ? (uint32_t)(phx_pieces_bytes(bytes) / 16) : most;
}

// Loads those that are there of the pieces of a message of at most size_bytes, to both places. True
// if all are, as far as this lane has seen.
PHX_FN int phx_pieces_look(const struct phx_worker *w, uint8_t *message, uint8_t *kept,
                           const uint8_t *from, uint32_t size_bytes, uint32_t tag)
{
    uint32_t *words = (uint32_t *)(void *)message;
    uint32_t *copy = (uint32_t *)(void *)kept;
    uint32_t count = (uint32_t)(phx_pieces_bytes(size_bytes) / 16);
    int missing = 0;
    struct phx_piece head = phx_piece_load(from);
    PHX_ROLLED for (uint32_t base = phx_lane(w); base < count; base += PHX_PIECES_AHEAD * PHX_LANES)
    {
        struct phx_piece ahead[PHX_PIECES_AHEAD];
#pragma unroll
        for (uint32_t i = 0; i < PHX_PIECES_AHEAD; i++) {
            uint32_t at = base + i * PHX_LANES;
            ahead[i] = phx_piece_load(from + 16 * (uint64_t)(at < count ? at : 0));
        }
#pragma unroll
        for (uint32_t i = 0; i < PHX_PIECES_AHEAD * PHX_PIECE_WORDS; i++) {
            const struct phx_piece *p = &ahead[i / PHX_PIECE_WORDS];
            uint32_t at = base + i / PHX_PIECE_WORDS * PHX_LANES;
            uint32_t word = PHX_PIECE_WORDS * at + i % PHX_PIECE_WORDS;
            if (i == 0) // which comes along with the others
                count = head.tag == tag ? phx_pieces_told(w, &head, count) : 0;
            if (at < count && p->tag == tag && word < size_bytes / 4) {
                words[word] = p->word[i % PHX_PIECE_WORDS];
                copy[word] = p->word[i % PHX_PIECE_WORDS];
            }
            missing |= at < count && p->tag != tag;
        }
    }
    return head.tag == tag && !missing;
}

// Copies the message to both places. 0: some of it has not come, after a few looks.
PHX_FN int phx_pieces_take(const struct phx_worker *w, uint8_t *message, uint8_t *kept,
                           const uint8_t *from, uint32_t size_bytes, uint32_t tag)
{
    int is_there = 0;
    PHX_ROLLED for (uint32_t i = 0; i < PHX_MESSAGE_LOOKS && !is_there; i++)
    {
        is_there = phx_each_agree(w, phx_pieces_look(w, message, kept, from, size_bytes, tag));
    }
    return is_there;
}

#if !defined(PHX_PIECES_PLAIN)
// By peer rows' senders read the message again, and it goes as anything else does.
PHX_FN int phx_put_message(struct phx_worker *w, uint32_t peer, uint64_t target_offset,
                           const uint8_t *message, uint64_t size_bytes, uint64_t signal_offset,
                           uint64_t signal_value, uint32_t token)
{
    uint8_t *region = phx_region_at(w, peer);
    if (!phx_is_by_token(&w->rank->shape))
        return phx_put_signal(w, peer, target_offset, message, size_bytes, size_bytes,
                              signal_offset, signal_value, token);
    if (phx_dies_here(w))
        return 1;
    phx_pieces_put(w, region + target_offset, message, (uint32_t)size_bytes,
                   phx_piece_tag(w->rank->epoch, w->op->sequence));
    if (phx_lane(w) == 0)
        phx_shared_word(*(uint64_t *)(void *)(region + signal_offset))
            .store(signal_value, cuda::memory_order_relaxed);
    return 1;
}
#endif

#endif
