// tools/report_json.c: the one object of `phx sim --json`; its keys are an interface.

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tools/report.h"

// As digits, because a JSON library's numbers are doubles and would round a 64-bit seed.
static cJSON *add_u64(cJSON *object, const char *key, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    return cJSON_AddRawToObject(object, key, text);
}

static int add_violation(cJSON *list, const struct phx_violation *v)
{
    char operation[48];
    cJSON *object = cJSON_CreateObject();
    if (object == NULL || !cJSON_AddItemToArray(list, object)) {
        cJSON_Delete(object);
        return -1;
    }
    cJSON *named;
    if (v->kind == 0) {
        named = cJSON_AddNullToObject(object, "operation");
    } else {
        (void)snprintf(operation, sizeof operation, "%s %" PRIu64,
                       v->kind == PHX_DISPATCH ? "dispatch" : "combine", v->number);
        named = cJSON_AddStringToObject(object, "operation", operation);
    }
    return named != NULL && cJSON_AddStringToObject(object, "rule", v->rule) &&
                   add_u64(object, "rank", v->rank) && add_u64(object, "virtual_ns", v->at_ns) &&
                   cJSON_AddStringToObject(object, "text", v->text)
               ? 0
               : -1;
}

static int fill(cJSON *object, const struct phx_summary *s, double wall_ms)
{
    char hash[20];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, s->trace_hash);
    if (!cJSON_AddStringToObject(object, "result", s->is_passed ? "pass" : "fail") ||
        !add_u64(object, "seed", s->seed) || !cJSON_AddStringToObject(object, "trace_hash", hash) ||
        !add_u64(object, "virtual_ns", s->virtual_ns) || !add_u64(object, "events", s->events) ||
        !add_u64(object, "operations", s->operations))
        return -1;
    cJSON *active = cJSON_AddArrayToObject(object, "active_ranks");
    if (active == NULL)
        return -1;
    for (uint32_t rank = 0; rank < s->ranks; rank++)
        if (phx_rank_set_has(&s->active, rank) &&
            !cJSON_AddItemToArray(active, cJSON_CreateNumber(rank)))
            return -1;
    if (!add_u64(object, "lost_tokens", s->lost_tokens))
        return -1;
    cJSON *violations = cJSON_AddArrayToObject(object, "violations");
    if (violations == NULL)
        return -1;
    for (uint32_t i = 0; i < s->violation_count; i++)
        if (add_violation(violations, &s->violations[i]) != 0)
            return -1;
    const struct phx_summary_live *l = &s->live;
    if (l->transport != NULL &&
        (!cJSON_AddStringToObject(object, "transport", l->transport) ||
         !add_u64(object, "workers", l->workers) || !add_u64(object, "slack", l->slack) ||
         !add_u64(object, "open_ns", l->open_ns) ||
         !add_u64(object, "longest_stall_ns", l->longest_ns)))
        return -1;
    char wall[32];
    (void)snprintf(wall, sizeof wall, "%.3f", wall_ms);
    return cJSON_AddRawToObject(object, "wall_ms", wall) ? 0 : -1;
}

int phx_report_json(FILE *out, const struct phx_summary *summary, double wall_ms)
{
    int rc = PHX_ERR_NO_MEMORY;
    char *text = NULL;
    cJSON *object = cJSON_CreateObject();
    if (object != NULL && fill(object, summary, wall_ms) == 0)
        text = cJSON_PrintUnformatted(object);
    if (text != NULL) {
        (void)fprintf(out, "%s\n", text); // main.c looks at the stream's error flag
        rc = 0;
    }
    cJSON_free(text);
    cJSON_Delete(object);
    return rc;
}
