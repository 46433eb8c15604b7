// kernels/leaves_select.c: which leaves this process uses, decided once.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/leaves.h"

static pthread_once_t select_once = PTHREAD_ONCE_INIT;
static const struct phx_leaves *selected;

static void leaves_select(void)
{
    const struct phx_leaves *avx2 = phx_leaves_avx2();
    const struct phx_leaves *best = avx2 != NULL ? avx2 : &phx_leaves_portable;
    const char *name = getenv("PHX_LEAVES");
    selected = best;
    if (name == NULL || name[0] == '\0' || strcmp(name, best->name) == 0)
        return;
    if (strcmp(name, phx_leaves_portable.name) == 0) {
        selected = &phx_leaves_portable;
        return;
    }
    const char *why = strcmp(name, "avx2") == 0 ? "this build or processor lacks it"
                                                : "known are portable and avx2";
    fprintf(stderr, "phalanx: PHX_LEAVES=%s: %s; using %s\n", name, why, best->name);
}

const struct phx_leaves *phx_leaves_get(void)
{
    pthread_once(&select_once, leaves_select); // fails only for a bad once object
    return selected;
}
