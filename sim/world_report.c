// sim/world_report.c: what went wrong, in words: violations, and who waits for what.

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernels/layout.h"
#include "sim/world_state.h"

#define WAITING_NAMED_MAX 6u // beyond a handful a list of waiters says nothing new

void phx_world_violate(struct phx_world *world, const struct phx_violation *violation)
{
    if (world->violation_count < PHX_VIOLATIONS_KEPT) {
        // The copy may be a call of memcpy(), which ThreadSanitizer watches.
        PHX_SIM_ACQUIRE(world->violations);
        world->violations[world->violation_count] = *violation;
        PHX_SIM_RELEASE(world->violations);
    }
    world->violation_count++;
    for (uint32_t i = 0; i < world->hook_count; i++)
        if (world->hooks[i].violated != NULL)
            world->hooks[i].violated(world->hooks[i].context, violation);
}

uint32_t phx_world_violations(const struct phx_world *world, const struct phx_violation **list)
{
    *list = world->violations;
    return world->violation_count;
}

// --- who waits for what --------------------------------------------------------------------------

struct writer {
    char *text;
    size_t size;
    size_t used;
};

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
say(struct writer *writer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(writer->text + writer->used, writer->size - writer->used, format, args);
    va_end(args);
    if (length < 0)
        return;
    size_t room = writer->size - writer->used - 1;
    writer->used += (size_t)length < room ? (size_t)length : room;
}

static const char *phase_name(uint32_t phase)
{
    switch (phase) {
    case PHX_PHASE_DISPATCH_SEND:
        return "dispatch-send";
    case PHX_PHASE_DISPATCH_RECEIVE:
        return "dispatch-receive";
    case PHX_PHASE_DISPATCH_DONE:
        return "dispatch-done";
    case PHX_PHASE_COMBINE_SEND:
        return "combine-send";
    case PHX_PHASE_COMBINE_RECEIVE:
        return "combine-receive";
    case PHX_PHASE_COMBINE_DONE:
        return "combine-done";
    default:
        return "an unnamed phase";
    }
}

static void say_word(struct writer *writer, const struct phx_strand *strand)
{
    const struct phx_sim_rank *rank = strand->rank;
    const struct phx_world *world = rank->world;
    char name[64];
    for (uint32_t i = 0; i < world->hook_count; i++) {
        const struct phx_world_hooks *hooks = &world->hooks[i];
        if (hooks->word_name != NULL &&
            hooks->word_name(hooks->context, rank->number, strand->words, name, sizeof name)) {
            say(writer, "%s", name);
            return;
        }
    }
    // Regions are numbered in the order of allocation; an address would differ from run to run.
    uint32_t regions = 0;
    for (const struct phx_region *region = rank->regions; region != NULL; region = region->next)
        regions++;
    for (const struct phx_region *region = rank->regions; region != NULL; region = region->next) {
        uintptr_t offset = (uintptr_t)strand->words - (uintptr_t)region->base;
        if (offset < region->size_bytes) {
            say(writer, "memory %u + 0x%llx", regions, (unsigned long long)offset);
            return;
        }
        regions--;
    }
    say(writer, "a word of its own");
}

static void say_absent(struct writer *writer, const struct phx_world *world)
{
    uint32_t named = 0;
    uint32_t absent = 0;
    for (uint32_t r = 0; r < world->rank_count; r++) {
        const struct phx_sim_rank *rank = &world->ranks[r];
        if (!rank->alive || rank->returned || rank->exchange_here)
            continue;
        if (named < 3) {
            say(writer, "%s%u", absent == 0 ? "" : ", ", r);
            named++;
        }
        absent++;
    }
    if (absent > named)
        say(writer, " and %u more", absent - named);
}

static bool strand_waits(const struct phx_strand *strand)
{
    return strand->state == PHX_STRAND_SLEEPING || strand->state == PHX_STRAND_PARKED ||
           strand->state == PHX_STRAND_EXCHANGING || strand->state == PHX_STRAND_READY ||
           (strand->state == PHX_STRAND_LAUNCHED && strand->rank->workers_left == 0);
}

static void say_strand(struct writer *writer, const struct phx_strand *strand)
{
    say(writer, "rank %u ", strand->rank->number);
    if (strand->worker == PHX_WORKER_CONTROL)
        say(writer, "control");
    else
        say(writer, "worker %u", strand->worker);
    if (strand->rank->paused) {
        say(writer, " is paused");
    } else if (strand->state == PHX_STRAND_EXCHANGING && strand->rank->exchange_here) {
        say(writer, " waits in the bootstrap for rank ");
        say_absent(writer, strand->rank->world);
    } else if (strand->state == PHX_STRAND_PARKED && strand->count > 0) {
        say(writer, " waits for ");
        say_word(writer, strand);
    } else {
        say(writer, strand->state == PHX_STRAND_PARKED ? " waits" : " works or sleeps");
    }
    if (strand->phase != 0)
        say(writer, " in %s %llu", phase_name(strand->phase), (unsigned long long)strand->number);
    if (strand->state != PHX_STRAND_READY)
        say(writer, " since %llu ns", (unsigned long long)(strand->since_ps / 1000));
}

void phx_world_waiting(const struct phx_world *world, char *text, size_t text_size)
{
    struct writer writer = {text, text_size, 0};
    uint32_t named = 0;
    uint32_t more = 0;
    text[0] = '\0';
    uint32_t strands = world->rank_count * (1 + world->options.workers);
    for (uint32_t i = 0; i < strands; i++) {
        const struct phx_strand *strand = &world->strands[i];
        if (!strand->rank->alive || strand->rank->returned || !strand_waits(strand))
            continue;
        size_t before = writer.used;
        if (named < WAITING_NAMED_MAX && more == 0) {
            say(&writer, named == 0 ? "" : "; ");
            say_strand(&writer, strand);
            // Whole sentences only, with room left for the count.
            if (writer.used + 24 < text_size || named == 0) {
                named++;
                continue;
            }
            writer.used = before;
            text[before] = '\0';
        }
        more++;
    }
    if (more > 0)
        say(&writer, "; and %u more", more);
}
