// sim/sanitizer.h: what ThreadSanitizer is told of order between fibers.
//
// It sees every fiber as a thread, a switch of fibers orders nothing, and sim/ is not instrumented:
// that is how a race between two workers shows although they never run at the same time. So where
// the simulator does hand something over (a post and its delivery, a launch and its workers) it
// says so. In other builds nothing is said.

#ifndef PHX_SIM_SANITIZER_H
#define PHX_SIM_SANITIZER_H

#include <stdint.h>

#if defined(PHX_TSAN) && PHX_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define PHX_SIM_ACQUIRE(address) __tsan_acquire((void *)(uintptr_t)(address))
#define PHX_SIM_RELEASE(address) __tsan_release((void *)(uintptr_t)(address))
#else
#define PHX_SIM_ACQUIRE(address) ((void)(address))
#define PHX_SIM_RELEASE(address) ((void)(address))
#endif

#endif
