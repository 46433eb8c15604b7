// sim/summary.c: gives back what a summary points to.

#include "sim/summary.h"

#include <stdlib.h>
#include <string.h>

void phx_summary_free(struct phx_summary *summary)
{
    free(summary->strikes);
    free(summary->violations);
    memset(summary, 0, sizeof *summary);
}
