// kernels/numerics.h: conversions between number formats, by bits; the scalar meaning of leaves.h.
//
// Owned by the numerics tests: every function is compared with the GPU's conversion over all 2^32
