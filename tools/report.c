// tools/report.c: the summary for a person: what ran, what struck it, what the others did, what was
// checked.

#include "tools/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "sim/ranks_text.h"

#define LABEL "  %-10s "

static const char *kind_text(uint32_t kind)
{
    return kind == PHX_DISPATCH ? "dispatch" : "combine";
}

static const char *unit_text(uint32_t unit)
{
    switch (unit) {
    case PHX_UNIT_PROCESS:
        return "process";
    case PHX_UNIT_HOST:
        return "host";
    case PHX_UNIT_GPU:
        return "GPU";
    case PHX_UNIT_NIC:
        return "NIC";
    default:
        return NULL;
    }
}

static void print_load(FILE *out, const struct phx_moe_load *m)
{
    (void)fprintf(
        out, LABEL "%u step%s of %u layer%s; %u tokens a rank, hidden %u, %u experts, top-%u\n",
        "workload", m->steps, m->steps == 1 ? "" : "s", m->layers, m->layers == 1 ? "" : "s",
        m->tokens, m->hidden, m->experts, m->top_k);
    (void)fprintf(out, LABEL "%s%s dispatch, bf16 combine, %s, %s layout, routing ", "",
                  m->dtype == PHX_FP8_E4M3 ? "fp8" : "bf16",
                  m->dtype != PHX_FP8_E4M3       ? ""
                  : m->scales == PHX_SCALE_UE8M0 ? " (ue8m0 scales)"
                                                 : " (f32 scales)",
                  m->rows == PHX_ROWS_ONCE ? "rows sent back once" : "rows sent back per expert",
                  m->layout == PHX_LAYOUT_SLOTS ? "slots" : "compact");
    if (m->routing == PHX_ROUTING_ZIPF)
        (void)fprintf(out, "zipf %g", (double)m->zipf_millionths / 1e6);
    else
        (void)fprintf(out, "%s", m->routing == PHX_ROUTING_BALANCED ? "balanced" : "uniform");
    (void)fprintf(out, "%s%s\n", m->hooks ? ", two micro-batches by hooks" : "",
                  m->renormalise ? ", renormalised" : "");
}

static void print_live(FILE *out, const struct phx_workload *w, const struct phx_summary_live *l)
{
    uint32_t ranks = w->cluster.nodes * w->cluster.ranks_per_node;
    char away[64];
    (void)fprintf(out, LABEL "%u process%s of this host over %s, %u worker%s each\n", "made by",
                  ranks, ranks == 1 ? "" : "es", l->transport, l->workers,
                  l->workers == 1 ? "" : "s");
    (void)fprintf(out, LABEL "deadlines, durations and times are those above, times %u\n", "slack",
                  l->slack);
    (void)fprintf(out, LABEL "%.3f ms from launch to the last rank's first operation\n", "open",
                  (double)l->open_ns / 1e6);
    (void)fprintf(out, LABEL "%.3f ms, the longest call of a rank that no fault held up\n", "stall",
                  (double)l->longest_ns / 1e6);
    phx_ranks_format(&l->away, ranks, away, sizeof away);
    if (strcmp(away, "none") != 0)
        (void)fprintf(out, LABEL "ranks %s, held up too long, ended knowing that they are out\n",
                      "zombies", away);
}

static void print_setup(FILE *out, const struct phx_scenario *s)
{
    const struct phx_workload *w = &s->workload;
    const struct phx_cluster *c = &w->cluster;
    (void)fprintf(out, "%s\n\n", s->name);
    (void)fprintf(out, LABEL "%u rank%s: %u node%s of %u; %s in a node, %s between nodes\n",
                  "cluster", c->nodes * c->ranks_per_node,
                  c->nodes * c->ranks_per_node == 1 ? "" : "s", c->nodes, c->nodes == 1 ? "" : "s",
                  c->ranks_per_node, c->intra_node, c->inter_node);
    for (uint32_t i = 0; i < w->load_count; i++)
        print_load(out, &w->loads[i]);
    (void)fprintf(out, LABEL "%" PRIu64 " us for each operation; %s\n", "deadline", w->timeout_us,
                  w->is_full ? "every channel stored"
                             : "128 channels stored and checked, all of them charged");
}

static void print_target(FILE *out, const struct phx_fault *f)
{
    if (f->kind == PHX_FAULT_PARTITION) {
        struct phx_rank_set set = {{0}};
        char text[64];
        for (uint32_t i = 0; i < f->member_count; i++)
            set.words[f->members[i] / 64] |= UINT64_C(1) << (f->members[i] % 64);
        phx_ranks_format(&set, PHX_RANKS_MAX, text, sizeof text);
        (void)fprintf(out, "ranks %s from all others", text);
        return;
    }
    (void)fprintf(out, "rank %u", f->rank);
    if (f->kind >= PHX_FAULT_LINK_DOWN && f->kind <= PHX_FAULT_DUPLICATE &&
        f->peer != PHX_FAULT_ANY)
        (void)fprintf(out, " %s rank %u", f->kind == PHX_FAULT_LINK_ONE_WAY ? "to" : "and",
                      f->peer);
    if (unit_text(f->unit) != NULL)
        (void)fprintf(out, " (%s)", unit_text(f->unit));
}

static void print_struck(FILE *out, const struct phx_workload *w, const struct phx_strike *s)
{
    const struct phx_fault *f = &w->faults[s->fault];
    (void)fprintf(out, "%s ", phx_fault_kind_name((enum phx_fault_kind)f->kind));
    print_target(out, f);
    if (s->at_ps == UINT64_MAX) {
        (void)fprintf(out, ": never struck");
        return;
    }
    (void)fprintf(out, ", struck at %.3f us", (double)s->at_ps / 1e6);
    if (s->kind != 0) {
        (void)fprintf(out, ", in %s %" PRIu64, kind_text(s->kind), s->number);
        if (w->load_count > 1)
            (void)fprintf(out, " of workload %u", s->load + 1);
    }
    if (f->when.after_puts > 0)
        (void)fprintf(out, " after %u put%s", f->when.after_puts,
                      f->when.after_puts == 1 ? "" : "s");
}

void phx_report_strike(char *text, size_t text_size, const struct phx_workload *w,
                       const struct phx_strike *strike)
{
    memset(text, 0, text_size);
    FILE *out = fmemopen(text, text_size, "w");
    if (out == NULL)
        return;
    print_struck(out, w, strike);
    (void)fclose(out);
    text[text_size - 1] = '\0';
}

static void print_strike(FILE *out, const struct phx_workload *w, const struct phx_strike *s)
{
    (void)fprintf(out, LABEL, "fault");
    print_struck(out, w, s);
    (void)fprintf(out, "\n");
    if (s->kind == 0 || s->at_ps == UINT64_MAX)
        return; // all had ended
    if (s->within_ps == UINT64_MAX)
        (void)fprintf(out, LABEL "none finished %s %" PRIu64 "\n", "survivors", kind_text(s->kind),
                      s->number);
    else
        (void)fprintf(out, LABEL "the last one finished %s %" PRIu64 " %.3f us after the fault\n",
                      "survivors", kind_text(s->kind), s->number, (double)s->within_ps / 1e6);
}

static uint64_t tokens_of(const struct phx_workload *w)
{
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < w->load_count; i++)
        tokens += (uint64_t)w->loads[i].steps * w->loads[i].layers * w->loads[i].tokens;
    return tokens;
}

static void print_ending(FILE *out, const struct phx_workload *w, const struct phx_summary *s)
{
    char done[64];
    char active[64];
    uint32_t finished = 0;
    for (uint32_t r = 0; r < s->ranks; r++)
        finished += (uint32_t)phx_rank_set_has(&s->finished, r);
    phx_ranks_format(&s->finished, s->ranks, done, sizeof done);
    phx_ranks_format(&s->active, s->ranks, active, sizeof active);
    (void)fprintf(out, LABEL "ranks %s; active for all survivors: %s\n", "finished", done, active);
    phx_ranks_format(&s->disputed, s->ranks, active, sizeof active);
    if (active[0] != '\0' && strcmp(active, "none") != 0)
        (void)fprintf(out, LABEL "survivors disagree on ranks %s: active for some of them alone\n",
                      "", active);
    (void)fprintf(out,
                  LABEL "%" PRIu64 " of %" PRIu64 " tokens had an expert that did not answer\n",
                  "lost", s->lost_tokens, tokens_of(w) * finished);
}

static void print_checks(FILE *out, const struct phx_summary *s)
{
    const char *label = "checked";
    for (uint32_t i = 0; i < s->check_count; i++) {
        const struct phx_checked *c = &s->checks[i];
        if (c->count == 0 && c->violations == 0)
            continue; // it had nothing to look at
        (void)fprintf(out, LABEL "%s %s (%" PRIu64 ")\n", label,
                      c->violations > 0 ? "FAIL" : "ok  ", c->text, c->count);
        label = "";
    }
}

static void print_violations(FILE *out, const struct phx_summary *s)
{
    for (uint32_t i = 0; i < s->violation_count; i++) {
        const struct phx_violation *v = &s->violations[i];
        (void)fprintf(out, LABEL "%s: rank %u", i == 0 ? "violations" : "", v->rule, v->rank);
        if (v->kind != 0)
            (void)fprintf(out, ", %s %" PRIu64, kind_text(v->kind), v->number);
        (void)fprintf(out, ", at %.3f us: %s\n", (double)v->at_ns / 1e3, v->text);
    }
    if (s->violations_total > s->violation_count)
        (void)fprintf(out, LABEL "and %" PRIu64 " more\n", "",
                      s->violations_total - s->violation_count);
}

void phx_report_text(FILE *out, const struct phx_scenario *scenario,
                     const struct phx_summary *summary, double wall_ms)
{
    const struct phx_workload *w = &scenario->workload;
    print_setup(out, scenario);
    if (summary->live.transport != NULL)
        print_live(out, w, &summary->live);
    (void)fprintf(out, "\n");
    for (uint32_t i = 0; i < summary->strike_count; i++)
        print_strike(out, w, &summary->strikes[i]);
    print_ending(out, w, summary);
    (void)fprintf(out, "\n");
    print_checks(out, summary);
    print_violations(out, summary);
    bool is_live = summary->live.transport != NULL;
    (void)fprintf(out,
                  "\n" LABEL "%" PRIu64 " operations, %" PRIu64 " messages, %" PRIu64
                  " events; %.3f us%s in %.1f ms\n",
                  "run", summary->operations, summary->messages, summary->events,
                  (double)summary->virtual_ns / 1e3, is_live ? "" : " of virtual time", wall_ms);
    (void)fprintf(out, LABEL "seed %" PRIu64 ", %s hash %016" PRIx64 "\n",
                  is_live ? "gave" : "replay", summary->seed, is_live ? "result" : "trace",
                  summary->trace_hash);
    (void)fprintf(out, LABEL "%s\n", "result", summary->is_passed ? "PASS" : "FAIL");
}
