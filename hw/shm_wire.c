// hw/shm_wire.c: sockets between the processes of a job, and the files that pass over them.
//
// Sockets have abstract names, so nothing stays in the file system. Only processes of the same user
// are answered. Every message has a fixed size; what is longer, shorter or of another version is
// dropped with its connection.

#include "hw/shm_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int phx_shm_file(const char *name, uint64_t size_bytes, uint32_t flags)
{
    int file = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    if (file < 0)
        return -1;
    // Sealed, so that no peer can cut it short and make this process fault.
    if (ftruncate(file, (off_t)size_bytes) != 0 ||
        fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        int why = errno;
        (void)close(file);
        errno = why;
        return -1;
    }
    return file;
}

static socklen_t address_make(struct sockaddr_un *address, uint64_t job, uint32_t rank,
                              uint32_t incarnation)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    int length = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "phx-%016llx-%u-%u",
                          (unsigned long long)job, rank, incarnation);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

int phx_shm_listen(uint64_t job, uint32_t rank, uint32_t incarnation)
{
    struct sockaddr_un address;
    socklen_t size = address_make(&address, job, rank, incarnation);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0)
        return -1;
    if (bind(s, (const struct sockaddr *)(const void *)&address, size) != 0 ||
        listen(s, 4096) != 0) {
        int why = errno;
        (void)close(s);
        errno = why;
        return -1;
    }
    return s;
}

static int connect_to(uint64_t job, uint32_t rank, uint32_t incarnation)
{
    struct sockaddr_un address;
    socklen_t size = address_make(&address, job, rank, incarnation);
    int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0)
        return PHX_ERR_IO;
    if (connect(s, (const struct sockaddr *)(const void *)&address, size) != 0) {
        (void)close(s);
        return PHX_ERR_PEER_UNREACHABLE; // nobody listens, or its backlog is full: it is stuck
    }
    return s;
}

static bool same_user(int socket)
{
    struct ucred who;
    socklen_t size = sizeof who;
    return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.uid == geteuid();
}

static int receive_answer(int socket, struct phx_shm_answer *answer, int files[2])
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec part = {answer, sizeof *answer};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct pollfd ready = {.fd = socket, .events = POLLIN};
    files[0] = files[1] = -1;
    if (poll(&ready, 1, PHX_SHM_ANSWER_MS) != 1)
        return PHX_ERR_PEER_UNREACHABLE;
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    uint32_t count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); got > 0 && c != NULL;
         c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        count = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(files, CMSG_DATA(c), count * sizeof(int));
    }
    if (got == (ssize_t)sizeof *answer && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 &&
        answer->magic == PHX_SHM_MAGIC && answer->error <= 0 && count == answer->file_count)
        return 0;
    for (uint32_t i = 0; i < 2; i++)
        if (files[i] >= 0)
            (void)close(files[i]);
    files[0] = files[1] = -1;
    return PHX_ERR_PEER_UNREACHABLE;
}

int phx_shm_ask(uint32_t rank, uint32_t incarnation, const struct phx_shm_request *request,
                struct phx_shm_answer *answer, int files[2], int *socket)
{
    int s = connect_to(request->job, rank, incarnation);
    if (s < 0)
        return s;
    int error = PHX_ERR_PEER_UNREACHABLE;
    if (same_user(s) && send(s, request, sizeof *request, MSG_NOSIGNAL) == (ssize_t)sizeof *request)
        error = receive_answer(s, answer, files);
    if (error != 0) {
        (void)close(s);
        return error;
    }
    *socket = s;
    return 0;
}

bool phx_shm_send_answer(int socket, const struct phx_shm_answer *answer, const int *files)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec part = {(void *)(uintptr_t)answer, sizeof *answer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    if (answer->file_count > 0) {
        size_t bytes = answer->file_count * sizeof(int);
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(c), files, bytes);
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)sizeof *answer;
}
