// sim/world_internal.h: what the parts of sim/ (network, memory checker, faults, trace) share with
// the world. Nothing outside sim/ and its tests includes it.
//
// Two clocks: phx_core_now_ps() is the time of the event being dispatched; a fiber runs ahead of it
// by the work it has charged and not slept off (its debt), so what a fiber does carries
// phx_world_fiber_time_ps(). Event handlers run on the scheduler's own stack, outside any fiber.

#ifndef PHX_SIM_WORLD_INTERNAL_H
#define PHX_SIM_WORLD_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/sanitizer.h"
#include "sim/world.h"

// Event types: every part has its range of phx_core_handle()'s 64.
#define PHX_EVENTS_WORLD 1u   // to 7
#define PHX_EVENTS_NETWORK 8u // to 31
#define PHX_EVENTS_FAULT 32u  // to 47
#define PHX_EVENTS_TEST 48u   // to 63

// A part of the world. Up to 8 tables, called in the order in which they were added; any entry may
// be NULL. `worker` is PHX_WORKER_CONTROL for the control fiber.
struct phx_world_hooks {
    void *context;
    // A rank's process starts (again, after a restart): returns its transport, or NULL when this
    // part has none to give. The first table that gives one wins.
    struct phx_transport *(*rank_start)(void *context, uint32_t rank);
    // The process was killed, now. Memory and transport stay until destroy.
    void (*rank_killed)(void *context, uint32_t rank);
    void (*rank_returned)(void *context, uint32_t rank); // its program ended by itself
    void (*rank_paused)(void *context, uint32_t rank, bool paused);
    // The executor's entries of the same names, on the caller's fiber.
    void (*observe)(void *context, uint32_t rank, uint32_t worker, const uint64_t *word);
    void (*touch)(void *context, uint32_t rank, uint32_t worker, const void *base,
                  uint64_t size_bytes, int is_write);
    // May kill or pause any rank, the caller's own too (world.h).
    void (*phase)(void *context, uint32_t rank, uint32_t worker, uint32_t phase, uint64_t number);
    // For traces: a fiber stopped to wait for words[0..count) at begin_ps and ran again at end_ps.
    // Its own charged work is not a wait. count 0: a sleep, or the bootstrap.
    void (*waited)(void *context, uint32_t rank, uint32_t worker, const uint64_t *words,
                   uint32_t count, uint64_t begin_ps, uint64_t end_ps);
    void (*violated)(void *context, const struct phx_violation *violation);
    // Says which word this is ("rank 2's region + 64"); false: not one of this part's. For reports.
    bool (*word_name)(void *context, uint32_t rank, const uint64_t *word, char *text,
                      size_t text_size);
    // Called by phx_world_destroy() first, in reverse order: report leaks, free everything.
    void (*destroy)(void *context);
};
// False: eight are there already.
bool phx_world_hooks_add(struct phx_world *world, const struct phx_world_hooks *hooks);

// What phx_network_attach() made, kept for phx_fabric_of(); NULL: no network.
struct phx_fabric;
void phx_world_fabric_set(struct phx_world *world, struct phx_fabric *fabric);
struct phx_fabric *phx_world_fabric(const struct phx_world *world);

// Called by phx_world_create() when cluster.intra_node or inter_node names a preset (a world of two
// NULLs has no network): checks the names, makes the network of the whole world and adds its hooks.
// Implemented by the network.
int phx_network_attach(struct phx_world *world, const struct phx_cluster *cluster,
                       struct phx_message *message);

const struct phx_world_options *phx_world_options(const struct phx_world *world); // defaults filled
uint32_t phx_world_node(const struct phx_world *world, uint32_t rank);
// From 1; a restarted process has the next one. phx_peer.epoch is its low 16 bits.
uint32_t phx_world_rank_incarnation(const struct phx_world *world, uint32_t rank);
bool phx_world_rank_paused(const struct phx_world *world, uint32_t rank);
bool phx_world_rank_returned(const struct phx_world *world, uint32_t rank);
// What that rank's clock says now, without any fiber's debt.
uint64_t phx_world_rank_clock_ns(const struct phx_world *world, uint32_t rank);

// Whose fiber is running; false in an event handler (and outside phx_world_run).
bool phx_world_current(const struct phx_world *world, uint32_t *rank, uint32_t *worker);
// Now, plus that fiber's debt.
uint64_t phx_world_fiber_time_ps(const struct phx_world *world, uint32_t rank, uint32_t worker);
// The same for whoever runs: the time at which a post, a touch or a phase happens. Now, in a
// handler.
uint64_t phx_world_time_ps(const struct phx_world *world);
// The phase and operation number that this worker (or the control fiber) last named; 0: none yet.
void phx_world_worker_phase(const struct phx_world *world, uint32_t rank, uint32_t worker,
                            uint32_t *phase, uint64_t *number);

// *address in that rank's memory has changed: fibers parked on it run, at phx_world_time_ps().
void phx_world_word_changed(struct phx_world *world, uint32_t rank, const void *address);
// phx_poll() has something new for that rank: its control fiber, parked or inside the executor's
// run, goes and looks.
void phx_world_events_arrived(struct phx_world *world, uint32_t rank);

// The next incarnation of a killed rank: new memory, transport and control fiber, running main.
// 0; PHX_ERR_STATE unless it is dead; PHX_ERR_NO_MEMORY.
int phx_world_restart(struct phx_world *world, uint32_t rank, phx_rank_main *main, void *argument,
                      struct phx_message *message);
// What every rank was started with, for a restart that runs the same program.
void phx_world_program(const struct phx_world *world, phx_rank_main **main, void **argument);

// Ends the run with this error after the current event: no memory in a handler, a broken invariant.
// `why` is borrowed until the run ends. The first call counts.
void phx_world_stop(struct phx_world *world, int error, const char *why);

// After phx_world_run(): dispatches what is still under way (deliveries, timers) until nothing is
// left. False: phx_world_stop() was called.
bool phx_world_drain(struct phx_world *world);
// "rank 2 worker 0 waits for ... since ...; ...", as many as fit, then how many more. world.h's run
// says the same in its message.
void phx_world_waiting(const struct phx_world *world, char *text, size_t text_size);

#endif
