#!/bin/sh
# Builds and runs tests/gpu/sweep.cu; NVCC names the compiler. Well under a minute, most of it
# compilation. Exit status: 0 all pass, 1 something differs or does not build, 77 no GPU.
set -eu
cd "$(dirname "$0")/../.."
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$nvcc" -std=c++20 -arch=sm_90 -O3 --fmad=false -ftz=false -prec-div=true -prec-sqrt=true \
    -Xcompiler -ffp-contract=off -I. tests/gpu/sweep.cu -o "$out/sweep" || exit 1
"$out/sweep"
