// sim/fault_check.c: whether a list of faults can be: every refusal names the entry, the field, its
// value and its bound.

#include "engine/error.h"
#include "kernels/layout.h"
#include "sim/fault_internal.h"

struct checker {
    const struct phx_fault *fault;
    uint32_t entry; // from 1
    struct phx_message *message;
};

static int bad(const struct checker *c, const char *field, uint64_t value, const char *bound)
{
    const char *name = phx_fault_kind_name((enum phx_fault_kind)c->fault->kind);
    return phx_fail(c->message, PHX_ERR_INVALID, "fault %u (%s): %s is %llu; it %s", c->entry,
                    name != NULL ? name : "unknown", field, (unsigned long long)value, bound);
}

static int check_when(const struct checker *c, uint32_t ranks)
{
    const struct phx_fault_when *w = &c->fault->when;
    if (w->rank != PHX_FAULT_ANY && w->rank >= ranks)
        return bad(c, "when.rank", w->rank, "must be below the number of ranks");
    if (w->kind >= PHX_FAULT_KINDS)
        return bad(c, "when.kind", w->kind, "may be 0 to 15");
    if (w->phase > PHX_PHASE_COMBINE_DONE)
        return bad(c, "when.phase", w->phase, "is not a phase");
    if (w->after_puts != 0 && (w->kind == 0 || (w->number == 0 && w->chance_ppm == 0)))
        return bad(c, "when.after_puts", w->after_puts, "needs the operation's kind and number");
    if (w->chance_ppm > 1000000)
        return bad(c, "when.chance_ppm", w->chance_ppm, "may be 0 to 1000000");
    if (w->event != 0 && (w->kind != 0 || w->phase != 0 || w->at_ps != 0))
        return bad(c, "when.event", w->event, "takes no operation, phase or time beside it");
    return 0;
}

static int check_links(const struct checker *c, uint32_t ranks)
{
    const struct phx_fault *f = c->fault;
    if (phx_fault_is_link(f) && f->unit == 0 && f->peer != PHX_FAULT_ANY &&
        (f->peer >= ranks || f->peer == f->rank))
        return bad(c, "peer", f->peer, "must be another rank of the cluster");
    if (phx_fault_is_link(f) && f->unit == PHX_UNIT_PROCESS)
        return bad(c, "unit", f->unit, "has no link: a process is not a host, gpu or nic");
    if ((f->kind == PHX_FAULT_LINK_DEGRADED || f->kind == PHX_FAULT_SLOW) &&
        (f->percent < 1 || f->percent > 100))
        return bad(c, "percent", f->percent, "may be 1 to 100");
    if ((f->kind == PHX_FAULT_LINK_LOSSY || f->kind == PHX_FAULT_DUPLICATE) &&
        (f->ppm < 1 || f->ppm > 1000000))
        return bad(c, "ppm", f->ppm, "may be 1 to 1000000");
    if (f->kind == PHX_FAULT_LINK_FLAP && (f->count < 1 || f->period_ps < 2))
        return bad(c, "count", f->count, "must be at least 1, with a period");
    if (f->kind == PHX_FAULT_DELAY && f->delay_ps == 0)
        return bad(c, "delay_ps", 0, "must be above 0");
    if (f->kind != PHX_FAULT_PARTITION)
        return 0;
    if (f->member_count < 1 || f->member_count >= ranks)
        return bad(c, "member_count", f->member_count, "must leave ranks on both sides");
    for (uint32_t i = 0; i < f->member_count; i++)
        if (f->members[i] >= ranks)
            return bad(c, "members", f->members[i], "must be below the number of ranks");
    return 0;
}

static int check(const struct checker *c, uint32_t ranks)
{
    const struct phx_fault *f = c->fault;
    if (f->kind < PHX_FAULT_KILL || f->kind > PHX_FAULT_BIT_FLIP)
        return bad(c, "kind", f->kind, "is not a fault");
    if (f->unit > PHX_UNIT_NIC)
        return bad(c, "unit", f->unit, "is not a unit");
    if (f->rank >= ranks)
        return bad(c, "rank", f->rank, "must be below the number of ranks");
    if (f->kind <= PHX_FAULT_SLOW && f->unit == 0)
        return bad(c, "unit", f->unit, "must be process, host, gpu or nic");
    if (f->kind == PHX_FAULT_PAUSE && f->duration_ps == 0)
        return bad(c, "duration_ps", 0, "must be above 0: what never resumes is a hang");
    if (f->is_caught && f->kind != PHX_FAULT_BIT_FLIP)
        return bad(c, "is_caught", 1, "belongs to a bit flip");
    int error = check_when(c, ranks);
    return error != 0 ? error : check_links(c, ranks);
}

int phx_fault_list_check(const struct phx_fault *list, uint32_t count, uint32_t ranks,
                         struct phx_message *message)
{
    for (uint32_t i = 0; i < count; i++) {
        struct checker c = {&list[i], i + 1, message};
        int error = check(&c, ranks);
        if (error != 0)
            return error;
    }
    return 0;
}
