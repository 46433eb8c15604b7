// tests/fake_target.c: see the header.

#include "tests/fake_target.h"

#include <stdlib.h>
#include <string.h>

#include "engine/executor.h"
#include "engine/transport_ops.h"

#define FAKE_MEMS 256u

struct fake_target {
    struct phx_transport transport;
    struct phx_executor executor;
    uint8_t *mems[FAKE_MEMS]; // imports of other ranks' memory are NULL
    uint8_t live[FAKE_MEMS];
    uint32_t mem_count;
    struct phx_peer connecting[16];
    uint32_t connecting_count;
    uint64_t puts;
    uint64_t now_ns;
};

static struct fake_target *of_transport(struct phx_transport *t)
{
    return (struct fake_target *)(void *)t; // the transport is the first member
}
static struct fake_target *of_executor(struct phx_executor *e)
{
    return (struct fake_target *)(void *)((uint8_t *)e - offsetof(struct fake_target, executor));
}

static void fake_close(struct phx_transport *t)
{
    (void)t;
}
static struct phx_mem fake_mem(struct fake_target *f, uint8_t *base)
{
    struct phx_mem mem = {f->mem_count, 1};
    if (f->mem_count >= FAKE_MEMS)
        abort();
    f->mems[f->mem_count] = base;
    f->live[f->mem_count++] = 1;
    return mem;
}
static int fake_register(struct phx_transport *t, void *base, uint64_t size_bytes, uint16_t writer,
                         struct phx_mem *mem, struct phx_mem_key *key)
{
    (void)size_bytes;
    (void)writer;
    *mem = fake_mem(of_transport(t), base);
    memset(key, 0, sizeof *key);
    memcpy(key->bytes, &base, sizeof base);
    return 0;
}
static int fake_import(struct phx_transport *t, struct phx_peer peer, const struct phx_mem_key *key,
                       struct phx_mem *mem)
{
    uint8_t *base;
    memcpy(&base, key->bytes, sizeof base);
    *mem = fake_mem(of_transport(t), peer.rank == t->info.rank ? base : NULL);
    return 0;
}
static void fake_release(struct phx_transport *t, struct phx_mem mem)
{
    of_transport(t)->live[mem.index] = 0;
}
static int fake_connect(struct phx_transport *t, struct phx_peer peer)
{
    struct fake_target *f = of_transport(t);
    f->connecting[f->connecting_count++] = peer;
    return 0;
}
static void fake_fence(struct phx_transport *t, struct phx_peer peer)
{
    (void)t;
    (void)peer;
}
static uint32_t fake_post(struct phx_transport *t, const struct phx_op *ops, uint32_t count)
{
    struct fake_target *f = of_transport(t);
    for (uint32_t i = 0; i < count; i++) {
        const struct phx_op *op = &ops[i];
        uint8_t *target = f->mems[op->target.mem.index];
        if (target == NULL) {
            f->puts++;
            continue;
        }
        if (op->size_bytes > 0)
            memcpy(target + op->target.offset_bytes,
                   f->mems[op->source.mem.index] + op->source.offset_bytes, op->size_bytes);
        if (op->flags & PHX_OP_SIGNAL)
            memcpy(target + op->signal_offset, &op->signal_value, 8);
    }
    return count;
}
static uint32_t fake_poll(struct phx_transport *t, struct phx_event *events, uint32_t capacity)
{
    struct fake_target *f = of_transport(t);
    if (capacity == 0 || f->connecting_count == 0)
        return 0;
    memset(events, 0, sizeof *events);
    events->kind = PHX_EVENT_PEER;
    events->peer_state = PHX_PEER_UP;
    events->peer = f->connecting[--f->connecting_count];
    return 1;
}

static uint64_t fake_pending(const struct phx_transport *t, struct phx_peer peer)
{
    (void)t;
    (void)peer;
    return 0;
}

static void fake_flush(struct phx_transport *t, struct phx_peer peer)
{
    (void)t;
    (void)peer;
}

static const struct phx_transport_ops fake_ops = {
    fake_close, fake_register, fake_import, fake_release, fake_connect,
    fake_fence, fake_flush,    fake_post,   fake_poll,    fake_pending, NULL, NULL};

static uint64_t fake_now(struct phx_executor *e, uint32_t worker)
{
    (void)worker;
    return of_executor(e)->now_ns;
}
static void fake_park(struct phx_executor *e, uint32_t worker, const uint64_t *words,
                      uint32_t count, uint64_t until_ns)
{
    (void)worker;
    (void)words;
    (void)count;
    if (until_ns == UINT64_MAX)
        abort(); // nobody would ever wake it
    if (until_ns > of_executor(e)->now_ns)
        of_executor(e)->now_ns = until_ns;
}
static void fake_wake(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    (void)e;
    (void)worker;
    (void)word;
}
static void fake_charge(struct phx_executor *e, uint32_t worker, struct phx_cost cost)
{
    (void)e;
    (void)worker;
    (void)cost;
}
static void fake_observe(struct phx_executor *e, uint32_t worker, const uint64_t *word)
{
    (void)e;
    (void)worker;
    (void)word;
}
static void fake_touch(struct phx_executor *e, uint32_t worker, const void *base,
                       uint64_t size_bytes, int is_write)
{
    (void)e;
    (void)worker;
    (void)base;
    (void)size_bytes;
    (void)is_write;
}
static int fake_run(struct phx_executor *e, phx_body_fn *body, void *argument, uint32_t workers,
                    void (*on_events)(void *context), void *context)
{
    (void)e;
    for (uint32_t w = 0; w < workers; w++)
        body(argument, w);
    on_events(context);
    return 0;
}
static void fake_phase(struct phx_executor *e, uint32_t worker, uint32_t phase, uint64_t number)
{
    (void)e;
    (void)worker;
    (void)phase;
    (void)number;
}

static const struct phx_executor_ops fake_executor_ops = {
    fake_now, fake_park, fake_wake, fake_charge, fake_observe, fake_touch, fake_run, fake_phase};

struct fake_target *fake_target_open(uint16_t rank)
{
    struct fake_target *f = calloc(1, sizeof *f);
    if (f == NULL)
        abort();
    f->transport.ops = &fake_ops;
    f->transport.info.name = "fake";
    f->transport.info.rank = rank;
    f->transport.info.incarnation = 1;
    f->transport.info.lane_count = 4096;
    f->transport.info.post_count_max = 1024;
    f->executor.ops = &fake_executor_ops;
    return f;
}
void fake_target_close(struct fake_target *fake)
{
    free(fake);
}
struct phx_target fake_target_of(struct fake_target *fake)
{
    struct phx_target target = {&fake->transport, &fake->executor};
    return target;
}
uint64_t fake_target_puts(const struct fake_target *fake)
{
    return fake->puts;
}
uint64_t fake_target_registered(const struct fake_target *fake)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < fake->mem_count; i++)
        live += fake->live[i];
    return live;
}
