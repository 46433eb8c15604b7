// tools/bug_option.c: see the header.

#include "tools/bug_option.h"

#include <stdio.h>
#include <stdlib.h>

#include "tools/command.h"
#include "tools/fields.h"

const char *phx_program(void)
{
    const char *given = getenv("PHX_COMMAND");
    return given != NULL && given[0] != '\0' ? given : PHX_PROGRAM;
}

int phx_choose_bug(const char *command, const char *name)
{
    if (name == NULL || name[0] == '\0')
        return phx_bug_set(PHX_BUG_NONE) == 0 ? 0 : PHX_EXIT_INTERNAL;
    const char *names[PHX_BUG_END];
    uint32_t count = 0;
    for (int i = 1; i < PHX_BUG_END; i++)
        if (phx_bug_name((enum phx_bug)i) != NULL)
            names[count++] = phx_bug_name((enum phx_bug)i);
    struct phx_excerpt text = phx_excerpt_make(name);
    if (count == 0) {
        (void)fprintf(stderr, "%s: --bug %s: this build has no planted bugs; phx-planted has\n",
                      command, text.text);
        return PHX_EXIT_USAGE;
    }
    enum phx_bug bug = phx_bug_find(name);
    if (bug != PHX_BUG_NONE)
        return phx_bug_set(bug) == 0 ? 0 : PHX_EXIT_INTERNAL;
    const char *nearest = phx_nearest(name, names, count);
    (void)fprintf(stderr,
                  "%s: --bug %s: there is no such bug%s%s%s; docs/planted-bugs.md lists "
                  "them\n",
                  command, text.text, nearest != NULL ? "; did you mean " : "",
                  nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
    return PHX_EXIT_USAGE;
}
