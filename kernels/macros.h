// kernels/macros.h: how one source is compiled as C17, C++20 and CUDA.
//
// PHX_FN     a kernel-side function: static inline in C, __device__ in CUDA
// PHX_CALL   the same, not copied into its callers on GPUs: a kernel runs most of its code once, and
//            then fetching instructions costs more than calling
// PHX_BOTH   a pure function that the host side of a CUDA program calls too
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
#define PHX_CALL static __device__ __noinline__
#else
#define PHX_FN static inline
#define PHX_BOTH static inline
#define PHX_CALL static inline
#endif

#endif
