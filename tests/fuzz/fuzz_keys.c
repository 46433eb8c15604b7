// tests/fuzz/fuzz_keys.c: engine/transport.h over the simulated wires, by a caller who forges keys,
// handles, offsets and peers, and releases, fences, flushes and dies at any moment.
//
// Whatever it does: memory outside the regions that were ever registered for a writer never
// changes, a region changes only by its writer's bytes, and each accepted op ends in one event.

#include "engine/transport.h"
#include "sim/fabric.h"
#include "sim/world_internal.h"
#include "tests/fuzz/fuzz.h"

#define RANKS 3u
#define ARENA 16384u
#define SLOT 4096u // of one writer: 1 KiB of guard, then the region, then guard
#define REGION_AT 1024u
#define REGION_MAX 2048u
#define SOURCE_AT (3 * SLOT)
#define SOURCE_BYTES 4096u
#define MEMS 24u
#define OPS 96u
#define UNTOUCHED 0xEEu

struct endpoint {
    struct phx_transport *transport;
    uint8_t *arena;
    struct phx_mem mems[MEMS]; // registered and imported
    uint32_t mem_count;
    bool foreign[MEMS];    // a region that another writes
    uint32_t sizes[RANKS]; // most that was registered for each writer
    bool dead;
};
struct key_case {
    struct fuzz_input in;
    struct phx_world *world;
    struct phx_fabric *fabric;
    struct endpoint ends[RANKS];
    struct phx_mem_key keys[MEMS]; // of all ranks, as they went over the bootstrap
    struct phx_peer key_peers[MEMS];
    uint32_t key_count;
    uint8_t poster[OPS]; // of accepted ops, by token
    bool silent[OPS];
    uint8_t answers[OPS];
    uint32_t op_count;
};

static uint8_t mark_of(uint32_t writer) // every byte that a writer sends
{
    return (uint8_t)(0x10 + writer);
}

static void keep(struct endpoint *e, struct phx_mem mem, bool is_foreign)
{
    if (e->mem_count == MEMS)
        phx_mem_release(e->transport, mem); // one that is not known can't be told from a source
    else {
        e->foreign[e->mem_count] = is_foreign;
        e->mems[e->mem_count++] = mem;
    }
}

// One of ours; or, now and then, any bytes.
static struct phx_mem pick_mem(struct key_case *c, const struct endpoint *e)
{
    uint8_t how = fuzz_u8(&c->in);
    struct phx_mem mem = {0, 0};
    if (how >= 224) {
        mem.index = how % 2 == 0 ? fuzz_u32(&c->in) : fuzz_u8(&c->in);
        mem.epoch = fuzz_u8(&c->in);
    } else if (e->mem_count > 0) {
        mem = e->mems[how % e->mem_count];
    }
    return mem;
}

static struct phx_peer pick_peer(struct key_case *c)
{
    uint8_t how = fuzz_u8(&c->in);
    struct phx_peer peer = {(uint16_t)(how % RANKS), 1};
    if (how >= 224) {
        peer.rank = fuzz_u16(&c->in);
        peer.epoch = (uint16_t)(1 + fuzz_u8(&c->in));
    }
    return peer;
}

static void do_register(struct key_case *c, uint32_t rank)
{
    struct endpoint *e = &c->ends[rank];
    uint32_t writer = fuzz_below(&c->in, 2 * RANKS);
    uint32_t size = 8 * (1 + fuzz_u16(&c->in) % (REGION_MAX / 8));
    struct phx_mem mem;
    struct phx_mem_key key;
    uint32_t slot = writer < RANKS ? writer : rank;
    int rc = phx_mem_register(e->transport, e->arena + slot * SLOT + REGION_AT, size,
                              (uint16_t)(writer == RANKS ? PHX_WRITER_NONE : writer), &mem, &key);
    if (rc != 0)
        return;
    FUZZ_CHECK(writer <= RANKS, "writer %u of %u ranks was taken", writer, RANKS);
    keep(e, mem, writer < RANKS && writer != rank);
    if (writer >= RANKS)
        return;
    if (e->sizes[writer] < size)
        e->sizes[writer] = size;
    if (c->key_count < MEMS) {
        c->key_peers[c->key_count] = (struct phx_peer){(uint16_t)rank, 1};
        c->keys[c->key_count++] = key;
    }
}

static void do_import(struct key_case *c, uint32_t rank)
{
    struct endpoint *e = &c->ends[rank];
    struct phx_mem_key key;
    struct phx_peer peer = {0, 1};
    struct phx_mem mem;
    uint8_t how = fuzz_u8(&c->in);
    memset(&key, 0, sizeof key);
    if (c->key_count > 0) {
        key = c->keys[how % c->key_count];
        peer = c->key_peers[how % c->key_count];
    }
    for (uint32_t flips = how / 64; flips > 0; flips--) { // a quarter is left as it is
        uint32_t at = fuzz_below(&c->in, sizeof key);
        key.bytes[at] = (uint8_t)(key.bytes[at] ^ fuzz_u8(&c->in));
    }
    if (how % 16 == 15)
        peer = pick_peer(c);
    if (phx_mem_import(e->transport, peer, &key, &mem) == 0)
        keep(e, mem, false);
}

// A source is never what others write: by its bytes the checks know who wrote what.
static struct phx_mem pick_source(struct key_case *c, const struct endpoint *e)
{
    struct phx_mem mem = pick_mem(c, e);
    for (uint32_t i = 0; i < e->mem_count; i++)
        if (e->foreign[i] && e->mems[i].index == mem.index && e->mems[i].epoch == mem.epoch)
            return e->mems[0];
    return mem;
}

static void do_post(struct key_case *c, uint32_t rank)
{
    struct endpoint *e = &c->ends[rank];
    const struct phx_transport_info *info = phx_transport_info(e->transport);
    uint8_t how = fuzz_u8(&c->in);
    struct phx_op op;
    if (c->op_count == OPS)
        return;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.flags = how & (PHX_OP_SIGNAL | PHX_OP_SILENT);
    op.lane = (uint16_t)(how / 4 % info->lane_count);
    op.peer = pick_peer(c);
    op.size_bytes = how < 240 ? fuzz_u16(&c->in) % 4096u : fuzz_u32(&c->in);
    op.wire_bytes = op.size_bytes;
    op.source.mem = pick_source(c, e);
    op.source.offset_bytes = how < 224 ? fuzz_u8(&c->in) : fuzz_u64(&c->in);
    op.target.mem = pick_mem(c, e);
    op.target.offset_bytes = how < 224 ? 8u * fuzz_u8(&c->in) : fuzz_u64(&c->in);
    op.signal_offset = (op.flags & PHX_OP_SIGNAL) != 0
                           ? (how < 224 ? 8u * fuzz_u8(&c->in) : fuzz_u32(&c->in) & ~7u)
                           : 0;
    memset(&op.signal_value, mark_of(rank), sizeof op.signal_value);
    op.token = c->op_count;
    if (phx_post(e->transport, &op, 1) == 1) {
        c->poster[c->op_count] = (uint8_t)rank;
        c->silent[c->op_count++] = (op.flags & PHX_OP_SILENT) != 0;
    }
}

static void do_poll(struct key_case *c, uint32_t rank)
{
    struct phx_event events[4];
    uint32_t count = phx_poll(c->ends[rank].transport, events, 4);
    for (uint32_t i = 0; i < count; i++) {
        if (events[i].kind != PHX_EVENT_OP)
            continue;
        uint32_t token = events[i].token;
        FUZZ_CHECK(token < c->op_count && c->poster[token] == rank, "an event of token %u", token);
        FUZZ_CHECK(!c->silent[token] || events[i].status < 0, "a silent op said that it is done");
        FUZZ_CHECK(++c->answers[token] == 1, "op %u has a second event", token);
    }
}

static void step(struct key_case *c)
{
    uint8_t how = fuzz_u8(&c->in);
    uint32_t rank = how % RANKS;
    struct endpoint *e = &c->ends[rank];
    uint32_t what = how / RANKS % 24;
    if (e->dead && what < 20)
        return; // a dead process calls nothing
    if (what < 8)
        do_post(c, rank);
    else if (what < 11)
        do_register(c, rank);
    else if (what < 14)
        do_import(c, rank);
    else if (what == 14)
        (void)phx_peer_connect(e->transport, pick_peer(c));
    else if (what == 15)
        phx_mem_release(e->transport, pick_mem(c, e));
    else if (what == 16)
        phx_peer_fence(e->transport, pick_peer(c));
    else if (what == 17)
        phx_peer_flush(e->transport, pick_peer(c));
    else if (what < 20)
        do_poll(c, rank);
    else if (what < 23)
        for (uint32_t i = fuzz_below(&c->in, 32); i > 0; i--)
            (void)phx_core_step(phx_world_core(c->world));
    else if (!e->dead && fuzz_u8(&c->in) < 64) {
        phx_fabric_process_dead(c->fabric, rank);
        e->dead = true;
    }
}

// Ranks as a group has them: a region for each writer, imported and connected.
static void open_ends(struct key_case *c)
{
    for (uint32_t r = 0; r < RANKS; r++) {
        struct endpoint *e = &c->ends[r];
        struct phx_mem mem;
        e->transport = phx_fabric_transport(c->fabric, r);
        e->arena = phx_sim_alloc(phx_world_rank(c->world, r), ARENA);
        FUZZ_CHECK(e->arena != NULL, "no memory");
        memset(e->arena, UNTOUCHED, ARENA);
        memset(e->arena + SOURCE_AT, mark_of(r), SOURCE_BYTES);
        FUZZ_CHECK(phx_mem_register(e->transport, e->arena + SOURCE_AT, SOURCE_BYTES,
                                    PHX_WRITER_NONE, &mem, NULL) == 0,
                   "a source");
        keep(e, mem, false);
    }
    for (uint32_t i = 0; i < RANKS * RANKS; i++) {
        struct endpoint *target = &c->ends[i / RANKS];
        struct endpoint *writer = &c->ends[i % RANKS];
        struct phx_peer peer = {(uint16_t)(i / RANKS), 1};
        struct phx_mem mem;
        FUZZ_CHECK(phx_mem_register(target->transport, target->arena + i % RANKS * SLOT + REGION_AT,
                                    REGION_MAX, (uint16_t)(i % RANKS), &mem, &c->keys[i]) == 0,
                   "a region");
        keep(target, mem, i / RANKS != i % RANKS);
        target->sizes[i % RANKS] = REGION_MAX;
        c->key_peers[c->key_count++] = peer;
        FUZZ_CHECK(phx_mem_import(writer->transport, peer, &c->keys[i], &mem) == 0, "an import");
        keep(writer, mem, false);
        FUZZ_CHECK(phx_peer_connect(writer->transport, peer) == 0, "a connection");
    }
    while (phx_core_step(phx_world_core(c->world)))
        continue;
}

static void check_memory(const struct key_case *c)
{
    for (uint32_t r = 0; r < RANKS; r++)
        for (uint32_t i = 0; i < ARENA; i++) {
            uint32_t writer = i / SLOT;
            uint8_t byte = c->ends[r].arena[i];
            bool is_source = i >= SOURCE_AT && i < SOURCE_AT + SOURCE_BYTES;
            bool is_region = writer < RANKS && i % SLOT >= REGION_AT &&
                             i % SLOT < REGION_AT + c->ends[r].sizes[writer];
            FUZZ_CHECK(byte == (is_source ? mark_of(r) : UNTOUCHED) ||
                           (is_region && byte == mark_of(writer)),
                       "rank %u, byte %u is %02x", r, i, byte);
        }
}

static void check_end(struct key_case *c)
{
    const struct phx_violation *list = NULL;
    while (phx_core_step(phx_world_core(c->world)))
        continue;
    for (uint32_t r = 0; r < RANKS; r++)
        for (uint32_t i = 0; !c->ends[r].dead && i < OPS; i++)
            do_poll(c, r);
    for (uint32_t i = 0; i < c->op_count; i++)
        FUZZ_CHECK(c->answers[i] == 1 || c->silent[i] || c->ends[c->poster[i]].dead,
                   "op %u of rank %u never ended", i, c->poster[i]);
    check_memory(c);
    phx_fabric_check_outcomes(c->fabric);
    uint32_t count = phx_world_violations(c->world, &list);
    for (uint32_t i = 0; i < count && i < 64; i++)
        FUZZ_CHECK(strcmp(list[i].rule, "op-outcome") != 0 &&
                       strcmp(list[i].rule, "fenced-write") != 0,
                   "%s: %s", list[i].rule, list[i].text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct key_case *c = fuzz_alloc(sizeof *c);
    struct phx_world_options o;
    struct phx_message message;
    c->in = fuzz_input_make(data, size);
    memset(&o, 0, sizeof o);
    uint8_t how = fuzz_u8(&c->in);
    o.seed = how;
    o.schedule.tie = how % 2 == 0 ? PHX_TIE_FIFO : PHX_TIE_RANDOM;
    o.fibers = PHX_PTHREADS; // no program runs here
    o.workers = 3;
    o.cluster.nodes = how / 2 % 2 == 0 ? 1 : RANKS;
    o.cluster.ranks_per_node = RANKS / o.cluster.nodes;
    o.cluster.intra_node = "nvlink4";
    o.cluster.inter_node = "roce_400g";
    FUZZ_CHECK(phx_world_create(&o, &c->world, &message) == 0, "%s", message.text);
    c->fabric = phx_fabric_of(c->world);
    open_ends(c);
    for (int i = 0; i < 200 && fuzz_left(&c->in) > 0; i++)
        step(c);
    check_end(c);
    phx_world_destroy(c->world);
    free(c);
    return 0;
}
