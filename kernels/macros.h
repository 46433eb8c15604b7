// kernels/macros.h: how one source is compiled as C17, C++20 and CUDA.
//
// PHX_FN     a kernel-side function: static inline in C, __device__ in CUDA
// PHX_BOTH   a pure function that the host side of a CUDA program calls too
// PHX_COLD   one that hardly ever runs: on a GPU compiled once, apart from the bodies (device.h)
// PHX_ROLLED before a loop: not to be unrolled. A GPU pays more for fetching a line of code than
//            for running it, and runs most of them once
// phx_fma    the only fused multiply-add; contraction is off everywhere else

#ifndef PHX_KERNELS_MACROS_H
#define PHX_KERNELS_MACROS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/bug.h"

#if defined(__CUDACC__)
#define PHX_FN static __device__ __forceinline__
#define PHX_BOTH static __host__ __device__ __forceinline__
#define PHX_COLD static __device__ __noinline__
#define PHX_ROLLED _Pragma("unroll 1")
#else
#define PHX_FN static inline
#define PHX_COLD static inline
#define PHX_ROLLED
#define PHX_BOTH static inline
#endif

#endif
