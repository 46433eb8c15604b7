// engine/bug.c: which planted mistake is in. Only the libraries of phx-planted hold this file.

#include "engine/bug.h"

#include <string.h>

static enum phx_bug chosen = PHX_BUG_NONE;

static const char *const NAMES[PHX_BUG_END] = {
#define PHX_BUG_NAME(name, text) [PHX_BUG_##name] = text,
    PHX_BUG_LIST(PHX_BUG_NAME)
#undef PHX_BUG_NAME
};

int phx_bug_is(enum phx_bug bug)
{
    return bug == chosen;
}

enum phx_bug phx_bug_find(const char *name)
{
    for (int i = 1; i < PHX_BUG_END; i++)
        if (strcmp(name, NAMES[i]) == 0)
            return (enum phx_bug)i;
    return PHX_BUG_NONE;
}

const char *phx_bug_name(enum phx_bug bug)
{
    return bug != PHX_BUG_NONE && (unsigned)bug < PHX_BUG_END ? NAMES[bug] : NULL;
}

int phx_bug_set(enum phx_bug bug)
{
    if ((unsigned)bug >= PHX_BUG_END)
        return PHX_ERR_INVALID;
    chosen = bug;
    return 0;
}

enum phx_bug phx_bug_chosen(void)
{
    return chosen;
}
