// engine/group.h: a group from inside the engine: its memory, its peers, its place in the
// operations.
//
// group.c opens and closes it, card.c compares what ranks agreed on, operation.c runs operations.

#ifndef PHX_ENGINE_GROUP_H
#define PHX_ENGINE_GROUP_H

#include <stdbool.h>

#include "engine/executor.h"
#include "engine/phalanx.h"
#include "engine/transport.h"
#include "kernels/device_environment.h"
#include "kernels/kernels.h"

#define PHX_OPERATIONS_PENDING_MAX PHX_IN_FLIGHT_MAX

enum phx_handle_state {
    PHX_HANDLE_EMPTY = 1,
    PHX_HANDLE_DISPATCHING, // send half done
    PHX_HANDLE_FULL,        // dispatch done; combine may follow, more than once
    PHX_HANDLE_COMBINING    // combine's send half done
};

struct phx_handle {
    enum phx_handle_state state;
    uint64_t epoch; // of the view it was dispatched in
    uint32_t token_count;
    void *memory;
    uint64_t memory_bytes;
    struct phx_handle_view view;
    uint64_t *answered;           // [ranks] of the last combine
    struct phx_launch pending;    // between halves
    int64_t *recv_offsets;        // the user's, between halves
    const uint8_t *replay_masked; // likewise
};

// Operations on the caller's streams (engine/phalanx_cuda.h): the numbers here then only count what
// was enqueued, and the device's are those that hold.
enum phx_streaming {
    PHX_STREAMING_OFF = 0,
    PHX_STREAMING_ON,     // between calls
    PHX_STREAMING_ENQUEUE // inside one
};

struct phx_kind_counts { // of one kind, in this epoch
    uint64_t sent;
    uint64_t received;
    struct phx_handle *pending[PHX_OPERATIONS_PENDING_MAX]; // oldest first
};

struct phx_group {
    struct phx_group_options options; // with defaults filled; expert_map is not kept
    struct phx_target target;
    void *memory; // one block; everything below lies in it
    uint64_t memory_bytes;
    uint64_t map_hash; // of the expert placement
    bool connected;
    uint32_t unanswered; // peers whose connection is neither up nor lost yet
    uint32_t lost;       // 1 + the first rank lost, in a group without fault tolerance
    uint64_t epoch;
    uint64_t operations; // begun, of both kinds
    uint64_t barriers;   // passed, by all launches
    struct phx_kind_counts kinds[2];
    struct phx_rank rank;
    struct phx_environment environment;
    struct phx_peer *peers;   // [ranks]
    struct phx_mem *targets;  // [ranks]
    struct phx_mem *regions;  // [ranks]
    struct phx_mem_key *keys; // [ranks] of our regions, each for its writer
    uint8_t **from;           // [ranks]
    uint8_t **heads;          // [slots][ranks], of phx_rank
    uint8_t **to;             // [ranks] NULL unless the transport makes_memory
    bool has_twin;            // of the executor's, for workers with memory of their own
    uint32_t streaming;       // enum phx_streaming
    uint8_t *peer_answered;   // [ranks] 1: the connection came up, or was lost
    uint8_t *flushed;         // [ranks] 1: suspected, and nothing that we sent it has a source left
    uint8_t *peer_lost;       // [ranks] 1: the transport lost this incarnation
    void **renewed;           // [PHX_RENEWED_MAX] regions made after open, by view.c
    uint32_t renewed_count;
    uint16_t *expert_rank;  // [experts]
    uint16_t *expert_local; // [experts]
    uint32_t *experts_of;   // [ranks] experts on each
    struct phx_rank_state *state;
};

// Checks every option and gives the shape; names what is wrong.
int phx__shape_make(const struct phx_group_options *options, struct phx_shape *shape,
                    struct phx_message *message);
// Of a transport that makes_memory, from[], to[] and stage are its addresses.
bool phx__makes_memory(const struct phx_group *group);
// Where the heads of a rank's region lie, which was just registered.
void phx__heads_place(struct phx_group *group, uint32_t rank);
// Imports our region at a rank.
int phx__import(struct phx_group *group, uint32_t rank, const struct phx_mem_key *key);
// "what: why": in the transport's own words, if it has any.
int phx__fail_transport(const struct phx_group *group, int rc, const char *what,
                        struct phx_message *message);
// Takes in what the transport reports; the executor calls it while workers run.
void phx__group_events(void *group);
// Why nothing can be started now: PHX_ERR_STATE, PHX_ERR_ABORTED, or 0.
int phx__group_ready(const struct phx_group *group, struct phx_message *message);

// card.c: what ranks compare at open.
void phx__card_write(const struct phx_group *group, uint32_t peer, void *card);
int phx__card_check(const struct phx_group *group, uint32_t peer, const void *card,
                    struct phx_message *message);
void phx__card_read(const void *card, struct phx_peer *peer, struct phx_mem_key *key);

#endif
