// sim/fiber.h: stacks that take turns: one runs until it yields, and the scheduler chooses the
// next.
//
// Two kinds with the same turns. PHX_FIBERS switches stacks inside the scheduler's thread (Boost's
// fcontext). PHX_PTHREADS gives each fiber a thread and hands a baton, for gdb and for builds
// without Boost. A fiber that will never be resumed again may be destroyed where it stands; what it
// held on its stack is gone, what it held elsewhere is its owner's to free.
//
// Stacks are 64 KiB with a guard page below, and are reused. Sanitizers and valgrind are told of
// every stack. To ThreadSanitizer a switch orders nothing (sanitizer.h). Creating and destroying a
// fiber does, as with a thread, and whoever does PHX_SIM_ACQUIRE(fiber) sees all that it did before
// its latest yield.

#ifndef PHX_SIM_FIBER_H
#define PHX_SIM_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"
#include "sim/world.h" // enum phx_fiber_mode

#define PHX_FIBER_STACK_BYTES (64u * 1024u)

struct phx_fibers; // the fibers of one scheduler
struct phx_fiber;

typedef void phx_fiber_main(void *argument);

// PHX_ERR_UNSUPPORTED names the library that this build lacks.
int phx_fibers_create(enum phx_fiber_mode mode, struct phx_fibers **fibers,
                      struct phx_message *message);
void phx_fibers_destroy(
    struct phx_fibers *fibers); // all fibers are destroyed already; NULL allowed

// NULL: no memory or no thread.
struct phx_fiber *phx_fiber_create(struct phx_fibers *fibers, phx_fiber_main *main, void *argument);
void phx_fiber_destroy(
    struct phx_fiber *fiber); // done, suspended or never run; not the running one
// From the scheduler: runs the fiber until it yields or returns.
void phx_fiber_resume(struct phx_fiber *fiber);
// From a fiber of this scheduler: back to phx_fiber_resume()'s caller.
void phx_fiber_yield(struct phx_fibers *fibers);
bool phx_fiber_done(const struct phx_fiber *fiber); // its main has returned

uint64_t phx_fibers_alive(const struct phx_fibers *fibers); // created and not destroyed

#endif
