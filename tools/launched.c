// tools/launched.c: what the command line and the environment say about who starts the ranks.

#include "tools/launched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int find_joined(const struct phx_launched_options *o, struct phx_launched *l,
                       const char *variable, struct phx_message *message)
{
    struct phx_message why = {""};
    // As if the variable said so: the option is its other form.
    if (o->rendezvous != NULL && setenv("PHX_RENDEZVOUS", o->rendezvous, 1) != 0)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for the environment");
    int rc = phx_bootstrap_env(&l->env, &l->world, &why);
    if (rc != 0 && !o->joins && o->rendezvous == NULL)
        return phx_fail(message, rc,
                        "%s (%s is set, so a launcher seems to have started this; --alone starts "
                        "the ranks here)",
                        why.text, variable);
    if (rc != 0)
        return phx_fail(message, rc, "%s", why.text);
    l->is_joined = true;
    return 0;
}

int phx_launched_find(const struct phx_launched_options *o, struct phx_launched *l,
                      struct phx_message *message)
{
    const char *variable = phx_bootstrap_env_launched();
    l->is_joined = false;
    if (o->is_alone && (o->joins || o->rendezvous != NULL))
        return phx_fail(message, PHX_ERR_INVALID,
                        "--alone starts the ranks here; %s is for one that was started",
                        o->joins ? "--join" : "--rendezvous");
    if (o->is_alone || (variable == NULL && !o->joins && o->rendezvous == NULL))
        return 0;
    return find_joined(o, l, variable, message);
}

int phx_launched_ranks(const struct phx_launched *l, uint32_t *ranks, struct phx_message *message)
{
    if (!l->is_joined)
        return 0;
    if (*ranks != 0 && *ranks != l->world.ranks)
        return phx_fail(message, PHX_ERR_INVALID,
                        "--ranks says %u, but this is rank %u of %u that were started", *ranks,
                        l->world.rank, l->world.ranks);
    *ranks = l->world.ranks;
    return 0;
}

// FNV-1a of its text in its one form: mistakes are to be told apart, not forgeries.
uint64_t phx_launched_digest(const struct phx_scenario *scenario)
{
    char *text = NULL;
    size_t size = 0;
    uint64_t digest = UINT64_C(14695981039346656037);
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return 0;
    int rc = phx_scenario_write(out, scenario);
    if (fclose(out) != 0 || rc != 0)
        digest = 0;
    for (size_t i = 0; digest != 0 && i < size; i++)
        digest = (digest ^ (uint8_t)text[i]) * UINT64_C(1099511628211);
    free(text);
    return digest;
}
