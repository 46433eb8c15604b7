// kernels/leaves_select.c: which leaves this process uses, decided once.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/leaves.h"

static pthread_once_t select_once = PTHREAD_ONCE_INIT;
static const struct phx_leaves *selected;

static const char *const NAMES[PHX_LEAVES_SETS] = {"portable", "avx2", "avx512"};

const struct phx_leaves *phx_leaves_set(uint32_t index)
{
    switch (index) {
    case 0:
        return &phx_leaves_portable;
    case 1:
        return phx_leaves_avx2();
    case 2:
        return phx_leaves_avx512();
    default:
        return NULL;
    }
}

static void leaves_select(void)
{
    const char *name = getenv("PHX_LEAVES");
    const char *why = "known are portable, avx2 and avx512";
    const struct phx_leaves *named = NULL;
    for (uint32_t i = 0; i < PHX_LEAVES_SETS; i++) {
        const struct phx_leaves *set = phx_leaves_set(i);
        if (set != NULL)
            selected = set; // the last of them is the best
        if (name == NULL || strcmp(name, NAMES[i]) != 0)
            continue;
        named = set;
        why = "this build or processor lacks it";
    }
    if (named != NULL)
        selected = named;
    else if (name != NULL && name[0] != '\0')
        fprintf(stderr, "phalanx: PHX_LEAVES=%s: %s; using %s\n", name, why, selected->name);
}

const struct phx_leaves *phx_leaves_get(void)
{
    pthread_once(&select_once, leaves_select); // fails only for a bad once object
    return selected;
}
