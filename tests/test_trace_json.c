// tests/test_trace_json.c: what Perfetto needs of a trace, by a parser that is not ours.
//
// It counts nanoseconds and drops, without a word, an arrow that begins or ends in no span, and
// spans of a thread that overlap without one holding the other.

#define _POSIX_C_SOURCE 200809L // getpid()

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sim/workload.h"
#include "tests/test.h"

struct span {
    int64_t thread; // rank and thread in one number
    int64_t begin_ps;
    int64_t end_ps;
};

struct arrow {
    const char *id;
    int64_t thread;
    int64_t at_ps;
    char kind;
};

struct parsed {
    cJSON *root;
    struct span *spans; // by thread, then by begin, long ones first
    uint32_t span_count;
    struct arrow *arrows; // by id, then by time
    uint32_t arrow_count;
};

static int64_t ps_of(const cJSON *event, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(event, key);
    CHECK_MSG(cJSON_IsNumber(item), "an event lacks %s", key);
    CHECK(item->valuedouble >= 0.0);
    return (int64_t)(item->valuedouble * 1e6 + 0.5);
}

static int64_t thread_of(const cJSON *event)
{
    const cJSON *rank = cJSON_GetObjectItemCaseSensitive(event, "pid");
    const cJSON *thread = cJSON_GetObjectItemCaseSensitive(event, "tid");
    CHECK(cJSON_IsNumber(rank) && cJSON_IsNumber(thread));
    return (int64_t)rank->valuedouble << 32 | (int64_t)thread->valuedouble;
}

static const char *text_of(const cJSON *event, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(event, key));
    CHECK_MSG(text != NULL, "an event lacks %s", key);
    return text;
}

static int span_order(const void *a, const void *b)
{
    const struct span *x = a;
    const struct span *y = b;
    if (x->thread != y->thread)
        return x->thread < y->thread ? -1 : 1;
    if (x->begin_ps != y->begin_ps)
        return x->begin_ps < y->begin_ps ? -1 : 1;
    return x->end_ps > y->end_ps ? -1 : x->end_ps < y->end_ps;
}

static int arrow_order(const void *a, const void *b)
{
    const struct arrow *x = a;
    const struct arrow *y = b;
    int ids = strcmp(x->id, y->id);
    if (ids != 0)
        return ids;
    return x->at_ps < y->at_ps ? -1 : x->at_ps > y->at_ps;
}

// --- a run --------------------------------------------------------------------------------------

static struct phx_moe_load load(void)
{
    return (struct phx_moe_load){
        .steps = 4,
        .layers = 1,
        .tokens = 8,
        .hidden = 1024,
        .experts = 8,
        .top_k = 2,
        .dtype = PHX_FP8_E4M3,
        .scales = PHX_SCALE_F32,
        .rows = PHX_ROWS_ONCE,
        .layout = PHX_LAYOUT_SLOTS,
        .routing = PHX_ROUTING_UNIFORM,
    };
}

// Two nodes of two; the fault strikes rank 1 in its second dispatch.
static char *trace_of(uint32_t fault_kind)
{
    char path[256];
    const char *folder = getenv("TMPDIR");
    (void)snprintf(path, sizeof path, "%s/phx-perfetto-%ld.json", folder != NULL ? folder : "/tmp",
                   (long)getpid());
    const struct phx_moe_load moe = load();
    struct phx_fault fault;
    struct phx_workload w;
    struct phx_summary summary;
    struct phx_message message;
    memset(&fault, 0, sizeof fault);
    fault.kind = fault_kind;
    fault.unit = PHX_UNIT_PROCESS;
    fault.rank = 1;
    fault.peer = PHX_FAULT_ANY;
    fault.duration_ps = fault_kind == PHX_FAULT_PAUSE ? UINT64_C(3000000000) : 0;
    fault.when.rank = PHX_FAULT_ANY;
    fault.when.kind = PHX_DISPATCH;
    fault.when.number = 2;
    fault.when.after_puts = 3;
    memset(&w, 0, sizeof w);
    w.cluster.nodes = 2;
    w.cluster.ranks_per_node = 2;
    w.cluster.intra_node = "nvlink4";
    w.cluster.inter_node = "roce_400g";
    w.loads = &moe;
    w.load_count = 1;
    w.timeout_us = 1000;
    w.faults = &fault;
    w.fault_count = 1;
    w.expect.survivors_finish_within_ps = PHX_EXPECT_NONE;
    w.expect.lost_tokens_max = PHX_EXPECT_NONE;
    const struct phx_workload_options options = {
        .seed = 3, .fibers = PHX_PTHREADS, .trace_path = path};
    CHECK_MSG(phx_workload_run(&w, &options, &summary, &message) == 0, "%s", message.text);
    CHECK(summary.strike_count == 1 && summary.strikes[0].at_ps != UINT64_MAX);
    phx_summary_free(&summary);
    FILE *file = fopen(path, "r");
    CHECK(file != NULL);
    size_t size = (size_t)64 << 20;
    char *text = calloc(1, size);
    CHECK(text != NULL);
    CHECK(fread(text, 1, size - 1, file) > 0);
    (void)fclose(file);
    (void)unlink(path);
    return text;
}

static struct parsed parse(const char *text)
{
    struct parsed p = {.root = cJSON_Parse(text)};
    CHECK(p.root != NULL);
    const cJSON *events = cJSON_GetObjectItemCaseSensitive(p.root, "traceEvents");
    CHECK(cJSON_IsArray(events));
    size_t count = (size_t)cJSON_GetArraySize(events);
    p.spans = calloc(count, sizeof *p.spans);
    p.arrows = calloc(count, sizeof *p.arrows);
    CHECK(p.spans != NULL && p.arrows != NULL);
    const cJSON *event;
    cJSON_ArrayForEach(event, events)
    {
        const char *kind = text_of(event, "ph");
        CHECK(strlen(text_of(event, "name")) > 0);
        if (strcmp(kind, "X") == 0) {
            int64_t begin_ps = ps_of(event, "ts");
            p.spans[p.span_count++] =
                (struct span){thread_of(event), begin_ps, begin_ps + ps_of(event, "dur")};
        } else if (strchr("stf", kind[0]) != NULL) {
            p.arrows[p.arrow_count++] =
                (struct arrow){text_of(event, "id"), thread_of(event), ps_of(event, "ts"), kind[0]};
        }
    }
    qsort(p.spans, p.span_count, sizeof *p.spans, span_order);
    qsort(p.arrows, p.arrow_count, sizeof *p.arrows, arrow_order);
    return p;
}

static void parsed_free(struct parsed *p)
{
    cJSON_Delete(p->root);
    free(p->spans);
    free(p->arrows);
}

// --- what must hold -----------------------------------------------------------------------------

static void check_spans(const struct parsed *p)
{
    for (uint32_t i = 1; i < p->span_count; i++) {
        const struct span *a = &p->spans[i - 1];
        const struct span *b = &p->spans[i];
        CHECK_MSG(a->thread != b->thread || b->begin_ps >= a->end_ps,
                  "two spans of thread %lld of rank %lld overlap at %lld ps",
                  (long long)(a->thread & 0xFFFFFFFF), (long long)(a->thread >> 32),
                  (long long)b->begin_ps);
    }
}

// In nanoseconds, as Perfetto has them: an end belongs to no span.
static bool is_in_a_span(const struct parsed *p, const struct arrow *a)
{
    for (uint32_t i = 0; i < p->span_count; i++) {
        const struct span *s = &p->spans[i];
        int64_t begin_ns = s->begin_ps / 1000;
        int64_t end_ns = begin_ns + (s->end_ps - s->begin_ps) / 1000;
        if (s->thread == a->thread && begin_ns <= a->at_ps / 1000 && a->at_ps / 1000 < end_ns)
            return true;
    }
    return false;
}

static uint32_t check_arrows(const struct parsed *p)
{
    uint32_t whole = 0;
    for (uint32_t i = 0; i < p->arrow_count; whole++) {
        uint32_t end = i;
        char kinds[4] = "";
        for (; end < p->arrow_count && strcmp(p->arrows[end].id, p->arrows[i].id) == 0; end++) {
            CHECK_MSG(end - i < 3, "arrow %s has more than three points", p->arrows[i].id);
            kinds[end - i] = p->arrows[end].kind;
            CHECK_MSG(is_in_a_span(p, &p->arrows[end]), "point %c of arrow %s lies in no span",
                      p->arrows[end].kind, p->arrows[end].id);
        }
        CHECK_MSG(strcmp(kinds, "stf") == 0 || strcmp(kinds, "sf") == 0, "arrow %s is \"%s\"",
                  p->arrows[i].id, kinds);
        i = end;
    }
    return whole;
}

static uint32_t count_of(const struct parsed *p, const char *kind, const char *name)
{
    uint32_t count = 0;
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItemCaseSensitive(p->root, "traceEvents"))
    {
        count +=
            strcmp(text_of(event, "ph"), kind) == 0 && strcmp(text_of(event, "name"), name) == 0;
    }
    return count;
}

TEST(trace_of_a_death_is_what_perfetto_takes)
{
    char *text = trace_of(PHX_FAULT_KILL);
    struct parsed p = parse(text);
    check_spans(&p);
    CHECK(check_arrows(&p) > 0);
    CHECK_EQ(count_of(&p, "M", "process_name"), 4);
    CHECK_EQ(count_of(&p, "i", "kill"), 1);
    CHECK_EQ(count_of(&p, "i", "killed"), 1);
    CHECK_EQ(count_of(&p, "i", "masks 1"), 3); // by each survivor, once
    // Three survivors through four operations of each kind, the dead rank through one and a half.
    CHECK_EQ(count_of(&p, "X", "combine receive"), 3 * 4 + 1);
    CHECK(count_of(&p, "X", "dispatch send") == 3 * 4 + 2);
    parsed_free(&p);
    free(text);
}

TEST(trace_of_a_pause_is_what_perfetto_takes)
{
    char *text = trace_of(PHX_FAULT_PAUSE);
    struct parsed p = parse(text);
    check_spans(&p);
    CHECK(check_arrows(&p) > 0);
    CHECK_EQ(count_of(&p, "i", "stopped"), 1);
    CHECK_EQ(count_of(&p, "i", "resumed"), 1);
    parsed_free(&p);
    free(text);
}
