// engine/handle.h: names of things that live elsewhere, as plain values.
//
// A handle is an index and the epoch in which that index was given out, so a stale one is told from
// a fresh one, and copying it into a log, a queue or a GPU's memory is safe. Zero is never valid:
// epochs start at 1.

#ifndef PHX_ENGINE_HANDLE_H
#define PHX_ENGINE_HANDLE_H

#include <stdint.h>

struct phx_peer {
    uint16_t rank;
    uint16_t epoch; // low bits of that rank's incarnation; a restarted process has another
};

struct phx_mem { // memory registered here, or a peer's memory imported here
    uint32_t index;
    uint32_t epoch;
};

struct phx_span {
    struct phx_mem mem;
    uint64_t offset_bytes;
};

struct phx_mem_key { // what a peer needs to reach registered memory; opaque outside the transport
    uint8_t bytes[32];
};

#endif
