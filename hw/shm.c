// hw/shm.c: a process's end of the shared memory transport, and what it knows of each peer.

#include "hw/shm_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *phx_shm_evidence_text(uint32_t evidence)
{
    static const char *const texts[] = {"nothing",
                                        "the kernel gave up its lock",
                                        "its process ended",
                                        "its connection closed",
                                        "it closed its transport",
                                        "it did not answer"};
    return evidence < sizeof texts / sizeof texts[0] ? texts[evidence] : "unknown evidence";
}

void phx_shm_notify(struct phx_shm *shm)
{
    if (shm->options.notify != NULL)
        shm->options.notify(shm->options.notify_context);
}

// --- peers --------------------------------------------------------------------------------------

static bool is_proof(uint32_t evidence)
{
    return evidence == PHX_SHM_EVIDENCE_LOCK || evidence == PHX_SHM_EVIDENCE_PIDFD;
}

void phx_shm_lose(struct phx_shm *shm, uint32_t rank, uint32_t incarnation, uint32_t evidence)
{
    struct phx_shm_peer *peer = &shm->peers[rank];
    pthread_mutex_lock(&shm->lock);
    bool is_new = peer->state == PHX_SHM_PEER_UP && peer->incarnation == (uint16_t)incarnation;
    if (is_new) {
        peer->evidence = evidence;
        peer->lost_status = evidence == PHX_SHM_EVIDENCE_NONE || is_proof(evidence)
                                ? PHX_ERR_PEER_LOST
                                : PHX_ERR_PEER_UNREACHABLE;
        peer->lost_due = true;
        __atomic_store_n(&peer->state, PHX_SHM_PEER_LOST, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&shm->lock);
    if (is_new)
        phx_shm_notify(shm);
}

static void answer_connect(struct phx_shm *shm, struct phx_peer peer, struct phx_shm_link *link)
{
    struct phx_shm_peer *p = &shm->peers[peer.rank];
    pthread_mutex_lock(&shm->lock);
    p->incarnation = peer.epoch;
    p->evidence = PHX_SHM_EVIDENCE_REFUSED;
    p->lost_status = PHX_ERR_PEER_UNREACHABLE;
    p->page = link != NULL ? link->page : NULL;
    p->door = link != NULL ? link->door : NULL;
    p->up_due = link != NULL;
    p->lost_due = link == NULL;
    __atomic_store_n(&p->state, link != NULL ? PHX_SHM_PEER_UP : PHX_SHM_PEER_LOST,
                     __ATOMIC_RELEASE);
    if (link != NULL) {
        link->next = shm->links;
        shm->links = link;
    }
    pthread_mutex_unlock(&shm->lock);
}

static void link_free(struct phx_shm_link *link)
{
    bool is_self = link->page == link->shm->page;
    if (link->socket >= 0)
        (void)close(link->socket);
    if (link->pidfd >= 0)
        (void)close(link->pidfd);
    if (!is_self && link->page != NULL)
        (void)munmap((void *)(uintptr_t)link->page, sizeof *link->page);
    if (!is_self && link->door != NULL)
        (void)munmap(link->door, sizeof *link->door);
    free(link);
}

static void *map_file(int file, uint64_t size_bytes, int protection)
{
    void *base = mmap(NULL, size_bytes, protection, MAP_SHARED, file, 0);
    return base != MAP_FAILED ? base : NULL;
}

static int pidfd_of(int socket)
{
    struct ucred who;
    socklen_t size = sizeof who;
    if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.pid == getpid())
        return -1;
    return (int)syscall(SYS_pidfd_open, who.pid, 0);
}

static bool is_page_of(const struct phx_shm_state *page, const struct phx_shm *shm,
                       struct phx_peer peer)
{
    return page->magic == PHX_SHM_MAGIC && page->version == PHX_SHM_VERSION &&
           page->rank == peer.rank && (uint16_t)page->incarnation == peer.epoch &&
           page->ranks == shm->options.ranks;
}

// The peer's page and door over a connection that stays. False: it does not answer as it should.
static bool link_open(struct phx_shm *shm, struct phx_peer peer, struct phx_shm_link *link)
{
    const struct phx_shm_request hello = {.magic = PHX_SHM_MAGIC,
                                          .job = shm->options.job,
                                          .kind = PHX_SHM_REQUEST_HELLO,
                                          .rank = shm->options.rank,
                                          .incarnation = shm->options.incarnation};
    struct phx_shm_answer a;
    int files[2];
    if (phx_shm_ask(peer.rank, peer.epoch, &hello, &a, files, &link->socket) != 0)
        return false;
    if (a.error == 0 && a.file_count == 2 && a.rank == peer.rank &&
        (uint16_t)a.incarnation == peer.epoch) {
        link->page = map_file(files[0], sizeof *link->page, PROT_READ);
        link->door = map_file(files[1], sizeof *link->door, PROT_READ | PROT_WRITE);
    }
    for (uint32_t i = 0; i < a.file_count; i++)
        (void)close(files[i]);
    if (link->page == NULL || link->door == NULL || !is_page_of(link->page, shm, peer))
        return false;
    link->incarnation = peer.epoch;
    link->pidfd = pidfd_of(link->socket);
    return true;
}

static int peer_connect(struct phx_transport *t, struct phx_peer peer)
{
    struct phx_shm *shm = phx_shm_of(t);
    if (peer.rank >= shm->options.ranks)
        return PHX_ERR_INVALID;
    struct phx_shm_link *link = calloc(1, sizeof *link);
    if (link == NULL)
        return PHX_ERR_NO_MEMORY;
    *link = (struct phx_shm_link){
        .shm = shm, .rank = peer.rank, .incarnation = peer.epoch, .socket = -1, .pidfd = -1};
    bool is_self = peer.rank == shm->options.rank;
    bool is_up = true;
    if (is_self) {
        is_up = peer.epoch == (uint16_t)shm->options.incarnation;
        link->page = shm->page;
        link->door = shm->door;
    } else {
        is_up = link_open(shm, peer, link);
    }
    if (!is_up) {
        link_free(link);
        link = NULL;
    }
    answer_connect(shm, peer, link);
    int error = is_up && !is_self ? phx_shm_watch(link) : 0;
    phx_shm_notify(shm);
    return error;
}

static void peer_fence(struct phx_transport *t, struct phx_peer peer)
{
    struct phx_shm *shm = phx_shm_of(t);
    if (peer.rank >= shm->options.ranks)
        return;
    pthread_mutex_lock(&shm->lock);
    uint32_t *fenced = &shm->page->fenced[peer.rank];
    bool is_new = *fenced < peer.epoch;
    if (is_new)
        __atomic_store_n(fenced, peer.epoch, __ATOMIC_SEQ_CST);
    if (is_new)
        phx_shm_retire(shm, peer.rank);
    pthread_mutex_unlock(&shm->lock);
    phx_shm_lose(shm, peer.rank, peer.epoch, PHX_SHM_EVIDENCE_NONE);
}

// Puts are done when they are posted: nothing reads a source later, nothing is pending.
static void peer_flush(struct phx_transport *t, struct phx_peer peer)
{
    (void)t;
    (void)peer;
}
static uint64_t pending(const struct phx_transport *t, struct phx_peer peer)
{
    (void)t;
    (void)peer;
    return 0;
}

// --- create and close ---------------------------------------------------------------------------

static void shm_free(struct phx_shm *shm)
{
    phx_shm_watch_stop(shm);
    if (shm->mems != NULL && shm->page != NULL)
        phx_shm_mems_free(shm);
    while (shm->links != NULL) {
        struct phx_shm_link *next = shm->links->next;
        link_free(shm->links);
        shm->links = next;
    }
    const int files[] = {shm->page_file, shm->door_file, shm->listener, shm->wakeup, shm->epoll};
    for (uint32_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (files[i] >= 0)
            (void)close(files[i]);
    if (shm->page != NULL)
        (void)munmap(shm->page, sizeof *shm->page);
    if (shm->door != NULL)
        (void)munmap(shm->door, sizeof *shm->door);
    for (uint32_t i = 0; shm->lanes != NULL && i < shm->options.lanes; i++) {
        free(shm->lanes[i].events);
        free(shm->lanes[i].posted);
        free(shm->lanes[i].seen);
    }
    free(shm->lanes);
    free(shm->peers);
    free(shm->mems);
    (void)pthread_mutex_destroy(&shm->lock);
    free(shm);
}

static void transport_close(struct phx_transport *t)
{
    struct phx_shm *shm = phx_shm_of(t);
    phx_shm_service_stop(shm, false);
    __atomic_store_n(&shm->stopping, 1u, __ATOMIC_RELEASE);
    shm_free(shm);
}

void phx_shm_die(struct phx_shm *shm)
{
    phx_shm_service_stop(shm, true);
    pthread_mutex_lock(&shm->lock);
    for (struct phx_shm_link *link = shm->links; link != NULL; link = link->next)
        if (link->socket >= 0)
            (void)shutdown(link->socket, SHUT_RDWR);
    pthread_mutex_unlock(&shm->lock);
    if (shm->listener >= 0)
        (void)close(shm->listener);
    shm->listener = -1;
}

static bool tables_make(struct phx_shm *shm)
{
    uint32_t ranks = shm->options.ranks;
    shm->mems = calloc(PHX_SHM_MEMS, sizeof *shm->mems);
    shm->peers = calloc(ranks, sizeof *shm->peers);
    shm->lanes = calloc(shm->options.lanes, sizeof *shm->lanes);
    // Twice what one look of control lets in: it may look before it has taken everything.
    shm->lane_capacity = 2 * PHX_SHM_POSTS * ranks;
    if (shm->mems == NULL || shm->peers == NULL || shm->lanes == NULL)
        return false;
    for (uint32_t i = 0; i < shm->options.lanes; i++) {
        struct phx_shm_lane *lane = &shm->lanes[i];
        lane->events = calloc(shm->lane_capacity, sizeof *lane->events);
        lane->posted = calloc(ranks, sizeof *lane->posted);
        lane->seen = calloc(ranks, sizeof *lane->seen);
        if (lane->events == NULL || lane->posted == NULL || lane->seen == NULL)
            return false;
    }
    return true;
}

static int pages_make(struct phx_shm *shm, struct phx_message *message)
{
    shm->page_file = phx_shm_file("phx-page", sizeof *shm->page, 0);
    if (shm->page_file >= 0)
        shm->page = map_file(shm->page_file, sizeof *shm->page, PROT_READ | PROT_WRITE);
    shm->door_file = phx_shm_file("phx-door", sizeof *shm->door, 0);
    if (shm->door_file >= 0)
        shm->door = map_file(shm->door_file, sizeof *shm->door, PROT_READ | PROT_WRITE);
    if (shm->page == NULL || shm->door == NULL)
        return phx_fail(message, PHX_ERR_IO, "shared memory of rank %u: its pages: %s",
                        shm->options.rank, strerror(errno));
    shm->page->version = PHX_SHM_VERSION;
    shm->page->rank = shm->options.rank;
    shm->page->incarnation = shm->options.incarnation;
    shm->page->ranks = shm->options.ranks;
    shm->page->magic = PHX_SHM_MAGIC;
    return 0;
}

static int options_check(const struct phx_shm_options *o, struct phx_message *message)
{
    if (o->ranks < 1 || o->ranks > PHX_RANKS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "ranks is %u; it may be 1 to %u", o->ranks,
                        PHX_RANKS_MAX);
    if (o->rank >= o->ranks)
        return phx_fail(message, PHX_ERR_INVALID, "rank is %u; it must be below ranks, %u", o->rank,
                        o->ranks);
    if (o->lanes < 1 || o->lanes > PHX_WORKERS_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "lanes is %u; it may be 1 to %u", o->lanes,
                        PHX_WORKERS_MAX);
    if (o->incarnation < 1 || o->incarnation > UINT16_MAX)
        return phx_fail(message, PHX_ERR_INVALID, "incarnation is %u; it may be 1 to %u",
                        o->incarnation, (unsigned)UINT16_MAX);
    return 0;
}

static const struct phx_transport_ops OPS = {
    .close = transport_close,
    .mem_register = phx_shm_mem_register,
    .mem_import = phx_shm_mem_import,
    .mem_release = phx_shm_mem_release,
    .peer_connect = peer_connect,
    .peer_fence = peer_fence,
    .peer_flush = peer_flush,
    .post = phx_shm_post,
    .poll = phx_shm_poll,
    .pending = pending,
    .mem_base = phx_shm_mem_base,
};

int phx_shm_create(const struct phx_shm_options *options, struct phx_shm **out,
                   struct phx_message *message)
{
    int error = options_check(options, message);
    if (error != 0)
        return error;
    struct phx_shm *shm = calloc(1, sizeof *shm);
    if (shm == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a transport");
    shm->options = *options;
    shm->memory = options->memory != NULL ? options->memory : &phx_shm_files;
    shm->page_file = shm->door_file = shm->listener = shm->wakeup = shm->epoll = -1;
    (void)pthread_mutex_init(&shm->lock, NULL);
    shm->leaves = phx_leaves_get();
    shm->base.ops = &OPS;
    shm->base.info.name = shm->memory->name;
    shm->base.info.makes_memory = shm->memory->makes_memory;
    shm->base.info.rank = (uint16_t)options->rank;
    shm->base.info.incarnation = (uint16_t)options->incarnation;
    shm->base.info.lane_count = (uint16_t)options->lanes;
    shm->base.info.post_count_max = PHX_SHM_POSTS;
    shm->base.info.is_copied_at_post = shm->memory->kind == PHX_SHM_MEMORY_FILES;
    if (!tables_make(shm))
        error = phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for a transport of %u ranks",
                         options->ranks);
    if (error == 0)
        error = pages_make(shm, message);
    if (error == 0)
        error = phx_shm_service_start(shm, message);
    if (error != 0) {
        shm_free(shm);
        return error;
    }
    *out = shm;
    return 0;
}

struct phx_transport *phx_shm_transport(struct phx_shm *shm)
{
    return &shm->base;
}

struct phx_bell *phx_shm_bell(struct phx_shm *shm)
{
    return &shm->door->bell;
}
