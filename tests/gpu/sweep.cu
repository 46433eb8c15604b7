// tests/gpu/sweep.cu: all 2^32 f32 inputs through kernels/numerics.h on a GPU, against the GPU's
// own conversions, against this host's results and against the hashes in tests/golden.
//
// Build and run (tests/gpu/sweep.sh does both; a few seconds on one GPU):
//     nvcc -std=c++20 -arch=sm_90 -O3 --fmad=false -ftz=false -prec-div=true -prec-sqrt=true \
//          -Xcompiler -ffp-contract=off -I. tests/gpu/sweep.cu -o sweep && ./sweep
//
// Prints a line for each comparison, PASS or FAIL, and a last one for all. Exit status: 0 all pass,
// 1 something differs, 77 no GPU.
//
// No difference is expected, NaN inputs included. One that concerns only which NaN comes out is
// counted apart and fails nothing: a note says how many inputs.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include "tests/golden/sweep.h"
#include "tests/golden/sweep_hashes.h"

enum { COLUMNS = PHX_SWEEP_END - PHX_SWEEP_BF16, SAMPLES = 1 << 20 };

struct tally { // by comparison with the GPU's own conversion
    unsigned long long differing;
    unsigned long long nan_only; // differing, and the input is NaN and both outputs are
    unsigned int first_input;    // the smallest that differs, NaN-only ones aside
};

#define CUDA_CHECK(call)                                                                           \
    do {                                                                                           \
        cudaError_t error_ = (call);                                                               \
        if (error_ != cudaSuccess) {                                                               \
            printf("FAIL: %s: %s\n", #call, cudaGetErrorString(error_));                           \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

// What the GPU's library gives for the same input. Scales: IEEE division and multiplication by
// intrinsics, which no compiler flag changes.
static __device__ uint64_t hardware_value(uint32_t sweep, uint32_t bits)
{
    float x = __uint_as_float(bits);
    switch (sweep) {
    case PHX_SWEEP_BF16:
        return __bfloat16_as_ushort(__float2bfloat16_rn(x));
    case PHX_SWEEP_E4M3:
        return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
    case PHX_SWEEP_UE8M0:
        return __nv_cvt_float_to_e8m0(x, __NV_NOSAT, cudaRoundPosInf);
    default: {
        float amax = fmaxf(fabsf(x), 1e-4f); // of NaN: the other operand
        return (uint64_t)__float_as_uint(__fdiv_rn(448.0f, amax)) << 32 |
               __float_as_uint(__fmul_rn(amax, 1.0f / 448.0f));
    }
    }
}

static __device__ bool is_nan_code(uint32_t sweep, uint64_t value)
{
    switch (sweep) {
    case PHX_SWEEP_BF16:
        return (value & 0x7FFF) > 0x7F80;
    case PHX_SWEEP_E4M3:
        return (value & 0x7F) == 0x7F;
    case PHX_SWEEP_UE8M0:
        return value == 0xFF;
    default:
        return false;
    }
}

// One grid row per block of 2^24 inputs.
template <uint32_t sweep> static __global__ void sweep_kernel(uint64_t *hashes, struct tally *tally)
{
    uint32_t block = blockIdx.y;
    uint64_t sum = 0;
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < PHX_SWEEP_INPUTS;
         i += gridDim.x * blockDim.x) {
        uint32_t bits = block << 24 | i;
        uint64_t ours = phx_sweep_value(sweep, bits);
        uint64_t theirs = hardware_value(sweep, bits);
        sum += phx_sweep_mix(i, ours);
        if (ours == theirs)
            continue;
        atomicAdd(&tally->differing, 1ull);
        if ((bits & 0x7FFFFFFFu) > 0x7F800000u && is_nan_code(sweep, ours) &&
            is_nan_code(sweep, theirs))
            atomicAdd(&tally->nan_only, 1ull);
        else
            atomicMin(&tally->first_input, bits);
    }
    atomicAdd((unsigned long long *)&hashes[block], (unsigned long long)sum);
}

// Decoders, exhaustively: 256 e4m3 codes, 256 ue8m0 codes and 65536 bf16 codes. NaNs compare as
// NaNs.
static __global__ void decode_kernel(unsigned long long *wrong)
{
    uint32_t code = blockIdx.x * blockDim.x + threadIdx.x;
    float bf16 = __bfloat162float(__ushort_as_bfloat16((unsigned short)code));
    float ours = phx_f32_from_bf16((uint16_t)code);
    if (__float_as_uint(bf16) != __float_as_uint(ours) && !(isnan(bf16) && isnan(ours)))
        atomicAdd(&wrong[0], 1ull);
    if (code >= 256)
        return;
    __half_raw raw = __nv_cvt_fp8_to_halfraw((__nv_fp8_storage_t)code, __NV_E4M3);
    float e4m3 = __half2float(__half(raw));
    ours = phx_f32_from_e4m3((uint8_t)code);
    if (__float_as_uint(e4m3) != __float_as_uint(ours) && !(isnan(e4m3) && isnan(ours)))
        atomicAdd(&wrong[1], 1ull);
    float ue8m0 = __bfloat162float(__nv_bfloat16(__nv_cvt_e8m0_to_bf16raw((uint8_t)code)));
    ours = phx_f32_from_ue8m0((uint8_t)code);
    if (__float_as_uint(ue8m0) != __float_as_uint(ours) && !(isnan(ue8m0) && isnan(ours)))
        atomicAdd(&wrong[2], 1ull);
}

// The path that leaves take, over samples: bf16 x, bf16 amax, f32 weight. Compared with this host.
struct chain {
    uint8_t q_f32, q_ue8m0;
    uint16_t back, sum;
};

PHX_BOTH uint64_t sample_bits(uint32_t i)
{
    uint64_t z = (i + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

PHX_BOTH struct chain sample_chain(uint32_t i)
{
    uint64_t r = sample_bits(i);
    float x = phx_f32_from_bf16((uint16_t)r);
    uint32_t folded = phx_amax_fold(phx_amax_fold(0, (uint16_t)r), (uint16_t)(r >> 16));
    float amax = phx_amax_finish(folded);
    float weight = phx_f32_from_bits((uint32_t)(r >> 32));
    struct chain c;
    c.q_f32 = phx_e4m3_from_f32(x * phx_inverse_f32(amax));
    c.q_ue8m0 = phx_e4m3_from_f32(x * phx_inverse_ue8m0(phx_scale_ue8m0(amax)));
    c.back = phx_bf16_from_f32(phx_f32_from_e4m3(c.q_f32) * phx_scale_f32(amax));
    c.sum = phx_bf16_from_f32(phx_fma(weight, x, phx_f32_from_bf16((uint16_t)(r >> 16))));
    return c;
}

static __global__ void chain_kernel(struct chain *out)
{
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    out[i] = sample_chain(i);
}

static int report(const char *what, bool good)
{
    printf("%s: %s\n", good ? "PASS" : "FAIL", what);
    return good ? 0 : 1;
}

template <uint32_t sweep> static int run_sweep(uint64_t *hashes, struct tally *tally)
{
    for (uint32_t b = 0; b < PHX_SWEEP_BLOCKS; b++)
        hashes[b] = 0;
    *tally = {0, 0, 0xFFFFFFFFu};
    sweep_kernel<sweep><<<dim3(64, PHX_SWEEP_BLOCKS), 256>>>(hashes, tally);
    CUDA_CHECK(cudaGetLastError());
    CUDA_CHECK(cudaDeviceSynchronize());
    uint32_t wrong_blocks = 0;
    for (uint32_t b = 0; b < PHX_SWEEP_BLOCKS; b++)
        wrong_blocks += hashes[b] != phx_sweep_hashes[b][sweep - PHX_SWEEP_BF16];
    unsigned long long real = tally->differing - tally->nan_only;
    const char *name = phx_sweep_name(sweep);
    char text[200];
    int failed = 0;
    snprintf(text, sizeof(text), "%s against the GPU's own: %llu of 2^32 inputs differ%s", name,
             real, real == 0 ? "" : ", first:");
    failed |= report(text, real == 0);
    if (real != 0)
        printf("      0x%08x\n", tally->first_input);
    if (tally->nan_only != 0)
        printf("note: %s: %llu NaN inputs give another NaN there\n", name, tally->nan_only);
    snprintf(text, sizeof(text), "%s against the golden hashes: %u of %u blocks differ", name,
             wrong_blocks, PHX_SWEEP_BLOCKS);
    return failed | report(text, wrong_blocks == 0);
}

static int run_decoders(void)
{
    static const char *const names[3] = {"bf16", "e4m3", "ue8m0"};
    unsigned long long *wrong;
    CUDA_CHECK(cudaMallocManaged(&wrong, 3 * sizeof(*wrong)));
    for (int i = 0; i < 3; i++)
        wrong[i] = 0;
    decode_kernel<<<256, 256>>>(wrong);
    CUDA_CHECK(cudaGetLastError());
    CUDA_CHECK(cudaDeviceSynchronize());
    int failed = 0;
    for (int i = 0; i < 3; i++) {
        char text[120];
        snprintf(text, sizeof(text), "decoding %s against the GPU's own: %llu codes differ",
                 names[i], wrong[i]);
        failed |= report(text, wrong[i] == 0);
    }
    CUDA_CHECK(cudaFree(wrong));
    return failed;
}

static int run_chain(void)
{
    struct chain *out;
    CUDA_CHECK(cudaMallocManaged(&out, SAMPLES * sizeof(*out)));
    chain_kernel<<<SAMPLES / 256, 256>>>(out);
    CUDA_CHECK(cudaGetLastError());
    CUDA_CHECK(cudaDeviceSynchronize());
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        struct chain host = sample_chain(i);
        wrong += host.q_f32 != out[i].q_f32 || host.q_ue8m0 != out[i].q_ue8m0 ||
                 host.back != out[i].back || host.sum != out[i].sum;
    }
    CUDA_CHECK(cudaFree(out));
    char text[120];
    snprintf(text, sizeof(text), "quantise, dequantise and fma against this host: %u of %u differ",
             wrong, (unsigned)SAMPLES);
    return report(text, wrong == 0);
}

int main()
{
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
        printf("SKIP: no GPU\n");
        return 77;
    }
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
    printf("%s, compute capability %d.%d\n", properties.name, properties.major, properties.minor);

    uint64_t *hashes;
    struct tally *tally;
    CUDA_CHECK(cudaMallocManaged(&hashes, PHX_SWEEP_BLOCKS * sizeof(*hashes)));
    CUDA_CHECK(cudaMallocManaged(&tally, sizeof(*tally)));
    int failed = run_sweep<PHX_SWEEP_BF16>(hashes, tally);
    failed |= run_sweep<PHX_SWEEP_E4M3>(hashes, tally);
    failed |= run_sweep<PHX_SWEEP_UE8M0>(hashes, tally);
    failed |= run_sweep<PHX_SWEEP_SCALE>(hashes, tally);
    failed |= run_decoders();
    failed |= run_chain();
    CUDA_CHECK(cudaFree(hashes));
    CUDA_CHECK(cudaFree(tally));
    printf("%s: all comparisons\n", failed ? "FAIL" : "PASS");
    return failed;
}
