// tests/test_trace.c: traces are well-formed, explain waits, and change nothing.

#define _POSIX_C_SOURCE 200809L // getpid()

#include "sim/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/layout.h"
#include "sim/fault.h"
#include "sim/world_internal.h"
#include "tests/test.h"

struct exchange {
    uint64_t *words[2]; // rank r's, which the other writes
    uint64_t hash;
};

// Rank 0 signals rank 1 after 20 us; rank 1 parks on the word and answers.
static void ping(struct phx_sim_rank *rank, void *argument)
{
    struct exchange *x = argument;
    uint32_t me = phx_sim_rank_number(rank);
    struct phx_transport *t = phx_sim_transport(rank);
    struct phx_executor *e = phx_sim_executor(rank);
    struct phx_mem mem;
    struct phx_mem_key keys[2];
    struct phx_mem_key theirs[2];
    x->words[me] = phx_sim_alloc(rank, 4096);
    CHECK_EQ(phx_mem_register(t, x->words[me], 4096, (uint16_t)!me, &mem, &keys[!me]), 0);
    keys[me] = keys[!me];
    CHECK_EQ(phx_sim_exchange(rank, keys, theirs, sizeof keys[0]), 0);
    struct phx_op op;
    memset(&op, 0, sizeof op);
    op.code = PHX_OP_PUT;
    op.flags = PHX_OP_SIGNAL | PHX_OP_SILENT;
    op.peer = (struct phx_peer){(uint16_t)!me, 1};
    op.wire_bytes = 8;
    op.signal_value = 7;
    CHECK_EQ(phx_mem_import(t, op.peer, &theirs[!me], &op.target.mem), 0);
    CHECK_EQ(phx_peer_connect(t, op.peer), 0);
    phx_sim_sleep_ns(rank, 200000);
    e->ops->phase(e, PHX_WORKER_CONTROL, PHX_PHASE_DISPATCH_SEND, 1);
    if (me == 0) {
        phx_sim_sleep_ns(rank, 20000);
        CHECK_EQ(phx_post(t, &op, 1), 1);
    }
    e->ops->phase(e, PHX_WORKER_CONTROL, PHX_PHASE_DISPATCH_RECEIVE, 1);
    uint64_t until_ns = phx_sim_now_ns(rank) + 100000;
    while (__atomic_load_n(x->words[me], __ATOMIC_ACQUIRE) == 0 && phx_sim_now_ns(rank) < until_ns)
        e->ops->park(e, PHX_WORKER_CONTROL, x->words[me], 1, until_ns);
    if (me == 1)
        CHECK_EQ(phx_post(t, &op, 1), 1);
    e->ops->phase(e, PHX_WORKER_CONTROL, PHX_PHASE_DISPATCH_DONE, 1);
    phx_sim_sleep_ns(rank, 10000);
}

static uint64_t run(const char *path)
{
    struct phx_world_options options;
    struct phx_world *world = NULL;
    struct phx_message message;
    struct phx_trace *trace = NULL;
    struct exchange x;
    memset(&x, 0, sizeof x);
    memset(&options, 0, sizeof options);
    options.seed = 2;
    options.schedule.tie = PHX_TIE_RANDOM;
    options.fibers = PHX_PTHREADS; // there in every build
    options.workers = 1;
    options.cluster =
        (struct phx_cluster){.nodes = 2, .ranks_per_node = 1, .inter_node = "ib_400g"};
    CHECK_MSG(phx_world_create(&options, &world, &message) == 0, "%s", message.text);
    struct phx_fault slow;
    memset(&slow, 0, sizeof slow);
    slow.kind = PHX_FAULT_SLOW;
    slow.unit = PHX_UNIT_NIC;
    slow.percent = 50;
    slow.peer = PHX_FAULT_ANY;
    slow.when.rank = PHX_FAULT_ANY;
    slow.when.at_ps = 1000000;
    CHECK_MSG(phx_fault_install(world, &slow, 1, &message) == 0, "%s", message.text);
    if (path != NULL)
        CHECK_MSG(phx_trace_open(world, path, NULL, &trace, &message) == 0, "%s", message.text);
    CHECK_MSG(phx_world_run(world, ping, &x, &message) == 0, "%s", message.text);
    uint64_t hash = phx_core_hash(phx_world_core(world));
    CHECK_EQ(phx_trace_close(trace, &message), 0);
    phx_world_destroy(world);
    return hash;
}

static char *file_text(const char *path)
{
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    char *text = calloc(1, 1 << 20);
    CHECK(text != NULL);
    CHECK(fread(text, 1, (1 << 20) - 1, file) > 0);
    (void)fclose(file);
    return text;
}

static void temporary(char *path, size_t size, const char *name)
{
    const char *folder = getenv("TMPDIR");
    (void)snprintf(path, size, "%s/phx-%s-%ld.json", folder != NULL ? folder : "/tmp", name,
                   (long)getpid());
}

static uint32_t occurrences(const char *text, const char *part)
{
    uint32_t count = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        count++;
    return count;
}

TEST(trace_explains_a_wait)
{
    char path[256];
    temporary(path, sizeof path, "trace");
    (void)run(path);
    char *text = file_text(path);
    // Brackets pair up outside strings; nothing follows the last.
    int depth = 0;
    bool quoted = false;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' && (c == text || c[-1] != '\\'))
            quoted = !quoted;
        depth += !quoted && (*c == '{' || *c == '[');
        depth -= !quoted && (*c == '}' || *c == ']');
        CHECK(depth >= 0);
    }
    CHECK_EQ(depth, 0);
    CHECK(!quoted);
    CHECK_EQ(occurrences(text, "\"process_name\""), 2);
    CHECK_EQ(occurrences(text, "\"name\":\"signal to "), 2);
    CHECK_EQ(occurrences(text, "\"name\":\"dispatch receive\""), 2);
    CHECK_EQ(occurrences(text, "\"ph\":\"s\""), 2); // put, queue, wait: one arrow for each signal
    CHECK_EQ(occurrences(text, "\"ph\":\"t\""), 2);
    CHECK_EQ(occurrences(text, "\"ph\":\"f\""), 2);
    CHECK_EQ(occurrences(text, "\"ph\":\"i\""), 1); // the fault
    CHECK(strstr(text, "\"name\":\"slow\"") != NULL);
    free(text);
    (void)unlink(path);
}

TEST(trace_is_the_same_text_and_changes_no_hash)
{
    char path[2][256];
    temporary(path[0], sizeof path[0], "one");
    temporary(path[1], sizeof path[1], "two");
    uint64_t without = run(NULL);
    CHECK(run(path[0]) == without);
    CHECK(run(path[1]) == without);
    char *one = file_text(path[0]);
    char *two = file_text(path[1]);
    CHECK_STR_EQ(one, two);
    free(one);
    free(two);
    (void)unlink(path[0]);
    (void)unlink(path[1]);
}

TEST(trace_says_why_a_file_cannot_be_written)
{
    struct phx_world_options options;
    struct phx_world *world = NULL;
    struct phx_message message;
    struct phx_trace *trace = NULL;
    memset(&options, 0, sizeof options);
    options.schedule.tie = PHX_TIE_FIFO;
    options.fibers = PHX_PTHREADS;
    options.workers = 1;
    options.cluster =
        (struct phx_cluster){.nodes = 1, .ranks_per_node = 2, .intra_node = "nvlink4"};
    CHECK_EQ(phx_world_create(&options, &world, &message), 0);
    CHECK_EQ(phx_trace_open(world, "/nowhere/at/all.json", NULL, &trace, &message), PHX_ERR_IO);
    CHECK_STR_EQ(message.text, "trace \"/nowhere/at/all.json\" cannot be written: "
                               "No such file or directory");
    phx_world_destroy(world);
}
