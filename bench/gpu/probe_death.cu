// bench/gpu/probe_death.cu: what a killed process's stores do, and what its peers notice when.
//
// Two processes, one GPU each. Each maps the other's memory (made with the virtual-memory API,
// passed as a file descriptor). The writer's kernel stores a counter into the owner's memory
// without end and is killed with SIGKILL. The owner notes when it sees the writer's robust lock
// given up, and its pidfd readable, and when the counter moved last; then it goes on storing into
// the dead writer's memory and reports any CUDA error.
//
//   nvcc -O3 -std=c++20 -arch=sm_90 bench/gpu/probe_death.cu -o probe_death -lcuda
//   ./probe_death [ROUNDS [MIB]]      MIB: further memory of the writer, to make its end longer

#include <cuda.h>
#include <cuda_runtime.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#define MUST(call)                                                                                 \
    do {                                                                                           \
        int e_ = (int)(call);                                                                      \
        if (e_ != 0) {                                                                             \
            fprintf(stderr, "%d: line %d: %s: error %d\n", getpid(), __LINE__, #call, e_);         \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct shared {
    pthread_mutex_t life; // held by the writer
    volatile int writing; // its kernel runs
    volatile double lock_us, pidfd_us; // when the owner saw the end, after the kill
    volatile int lock_seen, pidfd_seen;
    volatile double killed_at;
};
static shared *S;

static double now_us()
{
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

// --- memory that others map -----------------------------------------------------------------

static const size_t SIZE = 64u << 20;

static CUmemGenericAllocationHandle memory_make(int device)
{
    CUmemAllocationProp p = {};
    p.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    p.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
    p.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
    CUmemGenericAllocationHandle h;
    MUST(cuMemCreate(&h, SIZE, &p, 0));
    return h;
}

static uint64_t *memory_map(CUmemGenericAllocationHandle h, int device)
{
    CUdeviceptr at;
    CUmemAccessDesc a = {{CU_MEM_LOCATION_TYPE_DEVICE, device}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    MUST(cuMemAddressReserve(&at, SIZE, 0, 0, 0));
    MUST(cuMemMap(at, SIZE, 0, h, 0));
    MUST(cuMemSetAccess(at, SIZE, &a, 1));
    return (uint64_t *)at;
}

static void fd_send(int s, int fd)
{
    char byte = 1, control[CMSG_SPACE(sizeof(int))] = {};
    iovec part = {&byte, 1};
    msghdr m = {};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    MUST(sendmsg(s, &m, 0) != 1);
}

static int fd_receive(int s)
{
    char byte, control[CMSG_SPACE(sizeof(int))] = {};
    iovec part = {&byte, 1};
    msghdr m = {};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    MUST(recvmsg(s, &m, 0) != 1);
    int fd;
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof fd);
    return fd;
}

struct gpu {
    uint64_t *mine;
    uint64_t *theirs;
};

static gpu open_gpu(int device, int s)
{
    gpu g;
    int fd;
    CUmemGenericAllocationHandle h, other;
    MUST(cudaSetDevice(device));
    MUST(cudaFree(nullptr));
    MUST(cuInit(0));
    h = memory_make(device);
    MUST(cuMemExportToShareableHandle(&fd, h, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    fd_send(s, fd);
    int theirs = fd_receive(s);
    MUST(cuMemImportFromShareableHandle(&other, (void *)(uintptr_t)theirs,
                                        CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    g.mine = memory_map(h, device);
    g.theirs = memory_map(other, device);
    MUST(cudaMemset(g.mine, 0, SIZE));
    MUST(cudaDeviceSynchronize());
    return g;
}

// --- the writer --------------------------------------------------------------------------------

__global__ void store_for_ever(volatile uint64_t *counter)
{
    for (uint64_t i = 1;; i++) {
        *counter = i;
        __threadfence_system();
    }
}

static void writer(int s, size_t mib)
{
    gpu g = open_gpu(0, s);
    MUST(pthread_mutex_lock(&S->life));
    if (mib > 0) {
        void *more;
        MUST(cudaMalloc(&more, mib << 20));
        MUST(cudaMemset(more, 1, mib << 20));
        char *host = (char *)mmap(nullptr, mib << 20, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memset(host, 1, mib << 20);
    }
    char ready;
    MUST(read(s, &ready, 1) != 1);
    store_for_ever<<<1, 1>>>(g.theirs);
    MUST(cudaGetLastError());
    usleep(200000);
    S->writing = 1;
    pause();
}

// --- the owner ---------------------------------------------------------------------------------

static void *lock_watch(void *)
{
    int rc = pthread_mutex_lock(&S->life);
    S->lock_us = now_us() - S->killed_at;
    S->lock_seen = rc == EOWNERDEAD ? 1 : -1;
    pthread_mutex_consistent(&S->life);
    pthread_mutex_unlock(&S->life);
    return nullptr;
}
static void *pidfd_watch(void *fd)
{
    pollfd p = {(int)(intptr_t)fd, POLLIN, 0};
    poll(&p, 1, -1);
    S->pidfd_us = now_us() - S->killed_at;
    S->pidfd_seen = 1;
    return nullptr;
}

__global__ void touch(volatile uint64_t *theirs, uint32_t words)
{
    for (uint32_t i = threadIdx.x; i < words; i += blockDim.x)
        theirs[i] = theirs[i] + 1;
}

static void owner(int s, pid_t victim, int round)
{
    gpu g = open_gpu(1, s);
    pthread_t a, b;
    int pidfd = (int)syscall(SYS_pidfd_open, victim, 0);
    uint64_t *seen;
    MUST(cudaMallocHost(&seen, sizeof *seen));
    cudaStream_t stream;
    MUST(cudaStreamCreate(&stream));
    MUST(write(s, "r", 1) != 1);
    while (!S->writing)
        usleep(1000);
    MUST(pthread_create(&a, nullptr, lock_watch, nullptr));
    MUST(pthread_create(&b, nullptr, pidfd_watch, (void *)(intptr_t)pidfd));
    usleep(100000);
    uint64_t last = 0, at_lock = 0, at_pidfd = 0;
    double last_us = 0, sample_us = 0;
    S->killed_at = now_us();
    MUST(kill(victim, SIGKILL));
    while (now_us() - S->killed_at < 3e6) {
        double before = now_us();
        int lock = S->lock_seen, fd = S->pidfd_seen;
        MUST(cudaMemcpyAsync(seen, g.mine, sizeof *seen, cudaMemcpyDeviceToHost, stream));
        MUST(cudaStreamSynchronize(stream));
        double after = now_us();
        if (after - before > sample_us && last_us > 0)
            sample_us = after - before;
        if (*seen != last) {
            last = *seen;
            last_us = after - S->killed_at;
            at_lock += lock != 0;
            at_pidfd += fd != 0;
        }
    }
    printf("round %d: lock given up %.0f us after the kill, pidfd %.0f us; the counter moved last "
           "at %.0f us (samples at most %.0f us apart): %llu changes seen after the lock, %llu "
           "after the pidfd\n",
           round, S->lock_us, S->pidfd_us, last_us, sample_us, (unsigned long long)at_lock,
           (unsigned long long)at_pidfd);
    for (int i = 0; i < 50; i++) {
        touch<<<16, 256>>>(g.theirs, SIZE / 8);
        cudaError_t e = cudaDeviceSynchronize();
        if (e != cudaSuccess) {
            printf("round %d: touching a dead peer's memory: %s\n", round, cudaGetErrorString(e));
            exit(1);
        }
    }
    printf("round %d: 50 kernels read and wrote all %zu MiB of the dead peer's memory: no error\n",
           round, SIZE >> 20);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 5;
    size_t mib = argc > 2 ? (size_t)atoi(argv[2]) : 0;
    for (int round = 1; round <= rounds; round++) {
        S = (shared *)mmap(nullptr, sizeof *S, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                           -1, 0);
        memset((void *)S, 0, sizeof *S);
        pthread_mutexattr_t a;
        pthread_mutexattr_init(&a);
        pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
        pthread_mutex_init(&S->life, &a);
        int pair[2], status;
        MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
        pid_t w = fork();
        if (w == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(pair[0]);
            writer(pair[1], mib);
            _exit(1);
        }
        pid_t o = fork();
        if (o == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            close(pair[1]);
            owner(pair[0], w, round);
            _exit(0);
        }
        close(pair[0]);
        close(pair[1]);
        waitpid(o, &status, 0);
        kill(w, SIGKILL);
        waitpid(w, nullptr, 0);
        if (status != 0)
            return 1;
    }
    return 0;
}
