// hw/bootstrap_internal.h: what bootstrap*.c and rendezvous_server.c share.

#ifndef PHX_HW_BOOTSTRAP_INTERNAL_H
#define PHX_HW_BOOTSTRAP_INTERNAL_H

#include "hw/bootstrap.h"
#include "hw/bootstrap_wire.h"

#define PHX_BOOTSTRAP_HOST_MAX 200u
#define PHX_BOOTSTRAP_ASK_MS 1000u // to ask who is missing, after a timeout

struct phx_bootstrap_tcp;
struct phx_bootstrap_file;

struct phx_bootstrap {
    uint32_t rank;
    uint32_t ranks;
    uint32_t timeout_ms;
    uint32_t incarnation;
    uint32_t next; // the number of the next exchange
    uint64_t job;
    int broken;                    // what ended it; every later call returns it
    struct phx_bootstrap_tcp *tcp; // one of both
    struct phx_bootstrap_file *file;
};

uint64_t phx_bootstrap_now_ms(void); // CLOCK_MONOTONIC
void phx_bootstrap_socket_tune(int file);

// HOST:PORT, [IPv6]:PORT, :PORT or *:PORT (every address); `what` names it in a refusal.
int phx_bootstrap_address(const char *what, const char *text, char host[PHX_BOOTSTRAP_HOST_MAX],
                          uint16_t *port, struct phx_message *message);
// "rank 3", "ranks 0, 4 and 5", "ranks 0, 1, 2 and 40 more": those that `set` lacks.
void phx_bootstrap_name_missing(char *text, size_t bytes, const uint8_t set[PHX_WIRE_RANKS_BYTES],
                                uint32_t ranks);

// tcp://. Each fills b or leaves nothing behind.
int phx_bootstrap_tcp_join(struct phx_bootstrap *b, const struct phx_bootstrap_options *options,
                           struct phx_message *message);
int phx_bootstrap_tcp_exchange(struct phx_bootstrap *b, const void *mine, void *theirs,
                               uint32_t bytes, uint8_t set[PHX_WIRE_RANKS_BYTES],
                               struct phx_message *message);
void phx_bootstrap_tcp_leave(struct phx_bootstrap *b);

// file://
int phx_bootstrap_file_join(struct phx_bootstrap *b, const struct phx_bootstrap_options *options,
                            struct phx_message *message);
int phx_bootstrap_file_exchange(struct phx_bootstrap *b, const void *mine, void *theirs,
                                uint32_t bytes, uint8_t set[PHX_WIRE_RANKS_BYTES],
                                struct phx_message *message);
void phx_bootstrap_file_leave(struct phx_bootstrap *b);

#endif
