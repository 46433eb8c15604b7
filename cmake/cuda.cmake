# The CUDA target. Flags that decide results are the same for every .cu file: no contraction, no
# flushing of denormals, exact division and square root.

if(NOT CMAKE_CUDA_COMPILER)
    find_program(CMAKE_CUDA_COMPILER nvcc PATHS /usr/local/cuda/bin)
endif()
if(NOT CMAKE_CUDA_COMPILER)
    message(FATAL_ERROR "PHX_CUDA is on, but nvcc is neither in PATH nor in /usr/local/cuda/bin")
endif()
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90) # H100 and H200
endif()
enable_language(CUDA)
set(CMAKE_CUDA_FLAGS_RELEASE "-O3")
set(CMAKE_CUDA_FLAGS_DEBUG "-O0 -g")
# Not by CMAKE_CUDA_STANDARD: CMake 3.25 does not know that nvcc 13 has C++20.
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;--fmad=false;-ftz=false>"
    "$<$<COMPILE_LANGUAGE:CUDA>:-prec-div=true;-prec-sqrt=true;-Xcompiler=-ffp-contract=off>")
