// tests/conformance.h: the rules of engine/transport.h as tests that every transport runs
// unchanged.
//
// A transport's test file says how to make endpoints that know each other, and then lists
// PHX_CONFORMANCE_TESTS(prefix, maker). Endpoints are connected, and endpoint i has a region of
// PHX_CONFORMANCE_REGION zero bytes that endpoint j may write, for every ordered pair.
//
// All endpoints of a fixture live in one program. `step` lets the transport work a little and says
// whether anything may still happen; a real transport waits a moment in it and says false after a
// time in which nothing moved.

#ifndef PHX_TESTS_CONFORMANCE_H
#define PHX_TESTS_CONFORMANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/transport.h"

#define PHX_CONFORMANCE_ENDPOINTS 3u
#define PHX_CONFORMANCE_REGION 65536u

struct phx_conformance { // what a maker fills in
    void *context;
    struct phx_transport *transport[PHX_CONFORMANCE_ENDPOINTS];
    struct phx_peer peer[PHX_CONFORMANCE_ENDPOINTS]; // as others name it
    bool (*step)(void *context);
    void *(*memory)(void *context, uint32_t endpoint, uint64_t size_bytes); // zeroed, page-aligned
    void (*kill)(void *context, uint32_t endpoint);                         // its process dies
    void (*close)(void *context); // and checks what the transport can check of itself
};

// Ends the test as failed or skipped when it can't.
typedef void phx_conformance_maker(struct phx_conformance *fixture);

void phx_conformance_one_event_per_op(phx_conformance_maker *maker);
void phx_conformance_silent_until_failure(phx_conformance_maker *maker);
void phx_conformance_one_event_when_peer_dies(phx_conformance_maker *maker);
void phx_conformance_signal_follows_payload(phx_conformance_maker *maker);
void phx_conformance_lanes_are_independent(phx_conformance_maker *maker);
void phx_conformance_success_means_landed(phx_conformance_maker *maker);
void phx_conformance_source_is_reusable(phx_conformance_maker *maker);
void phx_conformance_lost_follows_events(phx_conformance_maker *maker);
void phx_conformance_signal_is_stored(phx_conformance_maker *maker);
void phx_conformance_bounds_are_kept(phx_conformance_maker *maker);
void phx_conformance_one_writer_per_region(phx_conformance_maker *maker);
void phx_conformance_released_memory_is_refused(phx_conformance_maker *maker);
void phx_conformance_released_source_is_refused(phx_conformance_maker *maker);
void phx_conformance_stale_key_is_refused(phx_conformance_maker *maker);
void phx_conformance_full_lane_says_so(phx_conformance_maker *maker);
void phx_conformance_fence_keeps_out(phx_conformance_maker *maker);
void phx_conformance_unconnected_peer_fails(phx_conformance_maker *maker);
void phx_conformance_reaches_itself(phx_conformance_maker *maker);

#define PHX_CONFORMANCE_TEST(prefix, maker, rule)                                                  \
    TEST(prefix##_##rule)                                                                          \
    {                                                                                              \
        phx_conformance_##rule(maker);                                                             \
    }
#define PHX_CONFORMANCE_TESTS(prefix, maker)                                                       \
    PHX_CONFORMANCE_TEST(prefix, maker, one_event_per_op)                                          \
    PHX_CONFORMANCE_TEST(prefix, maker, silent_until_failure)                                      \
    PHX_CONFORMANCE_TEST(prefix, maker, one_event_when_peer_dies)                                  \
    PHX_CONFORMANCE_TEST(prefix, maker, signal_follows_payload)                                    \
    PHX_CONFORMANCE_TEST(prefix, maker, lanes_are_independent)                                     \
    PHX_CONFORMANCE_TEST(prefix, maker, success_means_landed)                                      \
    PHX_CONFORMANCE_TEST(prefix, maker, source_is_reusable)                                        \
    PHX_CONFORMANCE_TEST(prefix, maker, lost_follows_events)                                       \
    PHX_CONFORMANCE_TEST(prefix, maker, signal_is_stored)                                          \
    PHX_CONFORMANCE_TEST(prefix, maker, bounds_are_kept)                                           \
    PHX_CONFORMANCE_TEST(prefix, maker, one_writer_per_region)                                     \
    PHX_CONFORMANCE_TEST(prefix, maker, released_memory_is_refused)                                \
    PHX_CONFORMANCE_TEST(prefix, maker, released_source_is_refused)                                \
    PHX_CONFORMANCE_TEST(prefix, maker, stale_key_is_refused)                                      \
    PHX_CONFORMANCE_TEST(prefix, maker, full_lane_says_so)                                         \
    PHX_CONFORMANCE_TEST(prefix, maker, fence_keeps_out)                                           \
    PHX_CONFORMANCE_TEST(prefix, maker, unconnected_peer_fails)                                    \
    PHX_CONFORMANCE_TEST(prefix, maker, reaches_itself)

#endif
