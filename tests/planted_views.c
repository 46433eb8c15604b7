// tests/planted_views.c: what the workload driver cannot reach: views that change, and numbers that
// wrap. Each seed draws a story for four ranks, with the planted mistake that --bug names:
//
//   return   a rank's process dies with stores under way and comes back as a new incarnation
//   numbers  operations go on far apart in number, past half the wrap, with rows and without
//
//     planted_views [--bug NAME] [--seeds N] [--first SEED] [--tie fifo|random|pct] [--verbose]
//
// Prints "SEED RULE" for the first seed whose run broke a rule and exits 1; 0 when none did.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/bug.h"
#include "sim/core.h"
#include "sim/world_internal.h"
#include "tests/sim_group.h"
#include "tests/test.h"

#define MS_NS UINT64_C(1000000)
#define US_PS UINT64_C(1000000)

enum {
    VICTIM = 3,
    BEFORE = 3,
    PAIRS_RETURN = 7,
    PAIRS_NUMBERS = 12,
    RETURN_MS = 24, // by then every survivor is through with the pairs before
    LEAPS = 3,      // the checkers, too, tell numbers apart up to 2^24
    SKIPPED = (1 << 22) - 4
};

enum story { STORY_RETURN = 0, STORY_NUMBERS, STORY_COUNT };

enum draw {
    DRAW_STORY = 0,
    DRAW_NODES,
    DRAW_WORKERS,
    DRAW_DELAY,
    DRAW_KILL,
    DRAW_KILL_AT,
    DRAW_LOCAL,
    DRAW_THINK
};

static struct {
    uint64_t seed;
    struct phx_schedule schedule;
    const char *rule; // broken first; NULL: none
    char text[256];
    struct sg_run *run;
} now;

// sim_group.c checks little, and nothing that a planted mistake breaks.
void phx_test_fail(struct phx_test_place place, const char *format, ...)
{
    (void)fprintf(stderr, "%s:%d: %s\n", place.file, place.line, format);
    exit(3);
}

static uint64_t draw(uint32_t what, uint64_t which, uint64_t bound)
{
    return phx_chance_below(bound, now.seed, PHX_CHANCE_FAULT, 0x706C616E74ull << 8 | what, which);
}

static void break_rule(const char *rule, uint32_t rank, const char *text)
{
    if (now.rule != NULL)
        return;
    now.rule = rule;
    (void)snprintf(now.text, sizeof now.text, "rank %u: %s", rank, text);
}

// --- a rank comes back --------------------------------------------------------------------------

static int install(struct sg_rank *self)
{
    struct phx_view view;
    phx__view_now(self->group, &view);
    view.epoch = 2;
    view.members = sg_members(SG_RANKS);
    return phx__view_install(self->group, &view, &self->message);
}

static int exchange_and_admit(struct phx_sim_rank *rank, struct sg_rank *self)
{
    uint32_t bytes = phx_group_card_bytes();
    uint8_t mine[SG_RANKS * 512];
    uint8_t theirs[SG_RANKS * 512];
    phx_group_cards(self->group, mine);
    int rc = phx_sim_exchange(rank, mine, theirs, bytes);
    if (rc == 0)
        rc = phx__view_admit(self->group, VICTIM, theirs + VICTIM * bytes, &self->message);
    while (rc == 0 && phx_group_poll(self->group) > 0)
        phx_sim_sleep_ns(rank, 1000);
    return rc;
}

static void pairs_after(struct phx_sim_rank *rank, struct sg_rank *self)
{
    for (uint32_t pair = BEFORE; self->rc == 0 && pair < PAIRS_RETURN; pair++)
        self->rc = sg_pair(now.run, rank, pair);
    phx_sim_sleep_ns(rank, 60 * MS_NS); // what is late may come now
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

static void newcomer(struct phx_sim_rank *rank, void *argument)
{
    struct sg_rank *self = &now.run->ranks[VICTIM];
    (void)argument;
    self->wrong_rows = self->wrong_sums = 0; // of the last incarnation, which died half-way
    self->rc = sg_open(now.run, rank);
    if (self->rc == 0)
        self->rc = phx__view_install(self->group, &now.run->view, &self->message);
    pairs_after(rank, self);
}

static void return_main(struct phx_sim_rank *rank, void *argument)
{
    uint32_t me = phx_sim_rank_number(rank);
    struct sg_rank *self = &now.run->ranks[me];
    (void)argument;
    self->rc = sg_open(now.run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < BEFORE; pair++)
        self->rc = sg_pair(now.run, rank, pair);
    if (me == VICTIM) {
        phx_sim_sleep_ns(rank, 1000 * MS_NS); // until it is killed
        return;
    }
    uint64_t at_ns = phx_sim_now_ns(rank);
    phx_sim_sleep_ns(rank, at_ns < RETURN_MS * MS_NS ? RETURN_MS * MS_NS - at_ns : 0);
    if (me == 0 && self->rc == 0) {
        phx__view_now(self->group, &now.run->view); // what a membership would hand to the newcomer
        now.run->view.epoch = 2;
        now.run->view.members = sg_members(SG_RANKS);
        self->rc = phx_world_restart(now.run->world, VICTIM, newcomer, now.run, &self->message);
    }
    if (self->rc == 0)
        self->rc = phx__view_renew(self->group, VICTIM, &self->message);
    if (self->rc == 0)
        self->rc = exchange_and_admit(rank, self);
    if (self->rc == 0)
        self->rc = install(self);
    self->active[VICTIM] = 1; // the user's mask is the user's to lift
    pairs_after(rank, self);
}

// Its stores may be late by any time up to the return and past it; it dies in an operation, or
// while nobody is in one.
static void return_draw(struct sg_run *run)
{
    struct phx_fault *kill = &run->faults[0];
    struct phx_fault *last = &run->faults[1];
    struct phx_fault *delay = &run->faults[2];
    run->main = return_main;
    run->fault_count = 2 + (draw(DRAW_DELAY, 0, 2) == 0);
    *kill = (struct phx_fault){.kind = PHX_FAULT_KILL, .unit = PHX_UNIT_PROCESS, .rank = VICTIM};
    kill->when.rank = PHX_FAULT_ANY;
    if (draw(DRAW_KILL, 0, 2) == 0) {
        kill->when.kind = draw(DRAW_KILL, 1, 2) == 0 ? PHX_DISPATCH : PHX_COMBINE;
        kill->when.number = 1 + draw(DRAW_KILL, 2, BEFORE);
        kill->when.after_puts = (uint32_t)draw(DRAW_KILL, 3, 10);
    } else { // up to the moment of the return
        kill->when.at_ps = (RETURN_MS - 1) * 1000 * US_PS + draw(DRAW_KILL_AT, 0, 1000) * US_PS;
    }
    *last = *kill; // at the latest
    last->when = (struct phx_fault_when){.at_ps = RETURN_MS * 1000 * US_PS - US_PS};
    *delay = (struct phx_fault){.kind = PHX_FAULT_DELAY, .rank = VICTIM, .peer = PHX_FAULT_ANY};
    delay->when.rank = PHX_FAULT_ANY;
    delay->when.kind = PHX_DISPATCH;
    delay->when.number = 1 + draw(DRAW_DELAY, 1, BEFORE);
    delay->delay_ps = (RETURN_MS - 4 + draw(DRAW_DELAY, 2, 8)) * 1000 * US_PS;
    delay->duration_ps = 5000 * US_PS;
}

static const char *masked_text(const struct sg_rank *self, uint32_t pair)
{
    static char text[160];
    int used = snprintf(text, sizeof text, "in pair %u it masked a member of the view:", pair + 1);
    for (uint32_t s = 0; s < SG_RANKS; s++)
        if (self->causes[s] != PHX_CAUSE_NONE)
            used += snprintf(text + used, sizeof text - (size_t)used, " rank %u, %s;", s,
                             phx_cause_text(self->causes[s]));
    return text;
}

static void return_check(struct sg_run *run)
{
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        const struct sg_rank *self = &run->ranks[r];
        if (self->rc != 0) {
            break_rule("operation-error", r, self->message.text);
            continue;
        }
        for (uint32_t pair = BEFORE; pair < PAIRS_RETURN; pair++)
            if (self->combined[pair].masked_count != 0 || self->dispatched[pair].masked_count != 0)
                break_rule("healthy-stay", r, masked_text(self, pair));
    }
}

// --- numbers ------------------------------------------------------------------------------------

// A rank's own experts alone, or as sim_group.c has it.
static void route(struct sg_rank *self, uint32_t me, int is_local)
{
    for (int t = 0; t < SG_TOKENS; t++)
        for (int k = 0; k < SG_TOP_K; k++)
            self->topk_idx[t * SG_TOP_K + k] =
                is_local ? (int64_t)me * SG_EXPERTS / SG_RANKS + k : (t + 3 * k) % SG_EXPERTS;
}

// As if so many pairs had passed. Two pairs run between one such leap and the next, so every word
// is written again, in both slots, long before it is half a wrap old.
static void leap(struct phx_group *group)
{
    group->operations += 2 * SKIPPED;
    for (uint32_t k = 0; k < 2; k++) {
        group->kinds[k].sent += SKIPPED;
        group->kinds[k].received += SKIPPED;
    }
}

static void numbers_main(struct phx_sim_rank *rank, void *argument)
{
    uint32_t me = phx_sim_rank_number(rank);
    struct sg_rank *self = &now.run->ranks[me];
    (void)argument;
    self->rc = sg_open(now.run, rank);
    for (uint32_t pair = 0; self->rc == 0 && pair < PAIRS_NUMBERS; pair++) {
        if (pair % 2 == 0 && pair > 0 && pair <= 2 * LEAPS)
            leap(self->group);
        route(self, me, pair >= 2 && draw(DRAW_LOCAL, pair / 2, 3) > 0);
        self->rc = sg_pair(now.run, rank, pair);
    }
    phx_group_suspicions(self->group, self->causes);
    phx_sim_close(rank, self->group);
}

static void numbers_check(struct sg_run *run)
{
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        const struct sg_rank *self = &run->ranks[r];
        if (self->rc != 0)
            break_rule("operation-error", r, self->message.text);
        for (uint32_t pair = 0; self->rc == 0 && pair < PAIRS_NUMBERS; pair++)
            if (self->combined[pair].masked_count != 0)
                break_rule("healthy-stay", r, masked_text(self, pair));
    }
}

// --- runs ---------------------------------------------------------------------------------------

static struct phx_world_options world_options(const struct sg_run *run)
{
    struct phx_world_options o;
    memset(&o, 0, sizeof o);
    o.seed = now.seed;
    o.schedule = now.schedule;
    o.fibers = PHX_HAVE_BOOST_CONTEXT ? PHX_FIBERS : PHX_PTHREADS;
    o.workers = run->workers;
    o.cluster.nodes = run->nodes;
    o.cluster.ranks_per_node = SG_RANKS / run->nodes;
    o.cluster.intra_node = "nvlink4";
    o.cluster.inter_node = "roce_400g";
    return o;
}

static void run_story(struct sg_run *run)
{
    struct phx_world_options o = world_options(run);
    const struct phx_violation *list;
    int rc = phx_world_create(&o, &run->world, &run->message);
    if (rc == 0)
        rc = phx_fault_install(run->world, run->faults, run->fault_count, &run->message);
    if (rc != 0) {
        (void)fprintf(stderr, "planted_views: %s\n", run->message.text);
        exit(3);
    }
    rc = phx_world_run(run->world, run->main, run, &run->message);
    if (phx_world_violations(run->world, &list) > 0)
        break_rule(list[0].rule, list[0].rank, list[0].text);
    if (rc != 0)
        break_rule("progress", 0, run->message.text);
    phx_world_destroy(run->world);
}

static void try_seed(uint64_t seed)
{
    struct sg_run *run = sg_new();
    now.seed = seed;
    now.rule = NULL;
    now.run = run;
    run->nodes = 1u << draw(DRAW_NODES, 0, 3);
    run->workers = 1u << draw(DRAW_WORKERS, 0, 4);
    for (uint32_t r = 0; r < SG_RANKS; r++)
        run->think_ns[r] = draw(DRAW_THINK, r, 200000);
    if (draw(DRAW_STORY, 0, STORY_COUNT) == STORY_RETURN) {
        return_draw(run);
        run_story(run);
        return_check(run);
    } else {
        run->main = numbers_main;
        run_story(run);
        numbers_check(run);
    }
    for (uint32_t r = 0; r < SG_RANKS; r++) {
        if (run->ranks[r].wrong_rows != 0)
            break_rule("dispatch-result", r, "it received rows of another operation");
        if (run->ranks[r].wrong_sums != 0)
            break_rule("combine-result", r, "a token's sum is not what was reported");
    }
    sg_free(run);
}

// --- the program --------------------------------------------------------------------------------

static uint64_t number_of(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    if (*text == '\0' || *end != '\0') {
        (void)fprintf(stderr, "planted_views: %s is not a number\n", text);
        exit(2);
    }
    return value;
}

static int usage(const char *what)
{
    (void)fprintf(stderr, "planted_views: %s: see tests/planted_views.c\n", what);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t seeds = 100;
    uint64_t first = 1;
    int is_verbose = 0;
    now.schedule.tie = PHX_TIE_RANDOM;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--verbose") == 0) {
            is_verbose = 1;
            continue;
        }
        if (strcmp(argv[i], "--bug") == 0 && phx_bug_find(value) != PHX_BUG_NONE)
            (void)phx_bug_set(phx_bug_find(value));
        else if (strcmp(argv[i], "--seeds") == 0)
            seeds = number_of(value);
        else if (strcmp(argv[i], "--first") == 0)
            first = number_of(value);
        else if (strcmp(argv[i], "--tie") == 0 && strcmp(value, "pct") == 0)
            now.schedule = (struct phx_schedule){.tie = PHX_TIE_PCT, .quantum_ps = 1000000};
        else if (strcmp(argv[i], "--tie") == 0 && strcmp(value, "fifo") == 0)
            now.schedule.tie = PHX_TIE_FIFO;
        else if (strcmp(argv[i], "--tie") != 0 || strcmp(value, "random") != 0)
            return usage(argv[i]);
        i++;
    }
    for (uint64_t i = 0; i < seeds; i++) {
        try_seed(first + i);
        if (now.rule == NULL)
            continue;
        printf("%" PRIu64 " %s\n", i + 1, now.rule);
        if (is_verbose)
            printf("seed %" PRIu64 ": %s\n", first + i, now.text);
        return 1;
    }
    return 0;
}
