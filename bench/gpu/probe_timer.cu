// bench/gpu/probe_timer.cu: is %globaltimer fine enough for deadlines, and does it ever step back?
//
// Prints the steps it takes on one thread, whether a thread ever saw it go back, and by how much a
// reading can lie before one that another multiprocessor had already published.
//
//   nvcc -O3 -std=c++20 -arch=sm_90 bench/gpu/probe_timer.cu -o probe_timer && ./probe_timer

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#define MUST(call)                                                                                 \
    do {                                                                                           \
        cudaError_t e = (call);                                                                    \
        if (e != cudaSuccess) {                                                                    \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(e));                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static __device__ uint64_t timer()
{
    uint64_t t;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
    return t;
}

struct seen {
    unsigned long long back;     // readings below the thread's last
    unsigned long long back_max; // nanoseconds
    unsigned long long skew;     // readings below one that another thread had published
    unsigned long long skew_max;
    unsigned long long newest; // published
};

__global__ void steps(uint64_t *out, uint32_t count)
{
    uint64_t last = timer();
    for (uint32_t i = 0; i < count;) {
        uint64_t t = timer();
        if (t != last)
            out[i++] = t - last;
        last = t;
    }
}

__global__ void race(seen *s, uint32_t rounds)
{
    if (threadIdx.x != 0)
        return;
    uint64_t last = timer();
    for (uint32_t i = 0; i < rounds; i++) {
        unsigned long long published =
            *reinterpret_cast<volatile unsigned long long *>(&s->newest);
        __threadfence();
        uint64_t t = timer();
        if (t < last) {
            atomicAdd(&s->back, 1ull);
            atomicMax(&s->back_max, (unsigned long long)(last - t));
        }
        if (t < published) {
            atomicAdd(&s->skew, 1ull);
            atomicMax(&s->skew_max, published - t);
        }
        last = t;
        atomicMax(&s->newest, (unsigned long long)t);
    }
}

int main()
{
    const uint32_t count = 20000;
    int devices = 0;
    MUST(cudaGetDeviceCount(&devices));
    for (int d = 0; d < devices; d++) {
        MUST(cudaSetDevice(d));
        cudaDeviceProp p;
        MUST(cudaGetDeviceProperties(&p, d));
        uint64_t *out;
        seen *s;
        MUST(cudaMallocManaged(&out, count * sizeof *out));
        MUST(cudaMallocManaged(&s, sizeof *s));
        *s = seen{};
        steps<<<1, 1>>>(out, count);
        MUST(cudaDeviceSynchronize());
        std::vector<uint64_t> v(out, out + count);
        std::sort(v.begin(), v.end());
        race<<<2 * p.multiProcessorCount, 32>>>(s, 200000);
        MUST(cudaDeviceSynchronize());
        printf("gpu %d, %s: steps of %%globaltimer: least %llu ns, median %llu, 99.9%% %llu, most "
               "%llu\n",
               d, p.name, (unsigned long long)v[0], (unsigned long long)v[count / 2],
               (unsigned long long)v[count - count / 1000], (unsigned long long)v[count - 1]);
        printf("gpu %d: %u readings on %d multiprocessors: %llu went back (at most %llu ns), %llu "
               "lay before one already published by another (at most %llu ns)\n",
               d, 2 * p.multiProcessorCount * 200000, p.multiProcessorCount, s->back, s->back_max,
               s->skew, s->skew_max);
    }
    return 0;
}
