// sim/ranks_text.c: runs of ranks.

#include "sim/ranks_text.h"

#include <stdio.h>
#include <string.h>

void phx_ranks_format(const struct phx_rank_set *set, uint32_t ranks, char *text, size_t size)
{
    size_t used = 0;
    (void)snprintf(text, size, "none");
    for (uint32_t r = 0; r < ranks; r++) {
        if (!phx_rank_set_has(set, r))
            continue;
        uint32_t last = r;
        while (last + 1 < ranks && phx_rank_set_has(set, last + 1))
            last++;
        char run[32];
        int n = last > r ? snprintf(run, sizeof run, "%s%u-%u", used > 0 ? ", " : "", r, last)
                         : snprintf(run, sizeof run, "%s%u", used > 0 ? ", " : "", r);
        if (used + (size_t)n + 4 >= size) {
            (void)snprintf(text + used, size - used, "...");
            return;
        }
        memcpy(text + used, run, (size_t)n + 1);
        used += (size_t)n;
        r = last;
    }
}
