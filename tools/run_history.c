// tools/run_history.c: writes and reads recorded runs.

#include "tools/run_history.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "phx history 1\n"
#define MAGIC_BYTES (sizeof MAGIC - 1)
#define FILE_BYTES_MAX (UINT64_C(1) << 32)

enum step { STEP_NONE = 0, STEP_BEGUN, STEP_ENDED };

static uint64_t check_of(const uint8_t *bytes, uint64_t size_bytes)
{
    uint64_t check = UINT64_C(0xCBF29CE484222325);
    for (uint64_t i = 0; i < size_bytes; i++)
        check = (check ^ bytes[i]) * UINT64_C(0x100000001B3);
    return check;
}

// --- writing ------------------------------------------------------------------------------------

static void put_bytes(FILE *out, uint64_t value, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        (void)fputc((int)(value >> 8 * i & 0xFF), out);
}

static void put_number(FILE *out, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        (void)fputc((int)(value & 0x7F) | 0x80, out);
    (void)fputc((int)value, out);
}

static void put_set(FILE *out, const struct phx_rank_set *set, uint32_t ranks)
{
    for (uint32_t i = 0; i < (ranks + 7) / 8; i++)
        put_bytes(out, set->words[i / 8] >> i % 8 * 8, 1);
}

static void put_rank(FILE *out, const struct phx_history *h, uint32_t rank)
{
    uint64_t before_ns = 0;
    put_number(out, h->begun[rank]);
    for (uint64_t o = 0; o < h->operations; o++) {
        const struct phx_history_operation *at = phx_history_at(h, rank, o);
        bool is_begun = at->hash != 0 || at->begin_ns != 0;
        put_number(out, at->hash != 0 ? STEP_ENDED : (is_begun ? STEP_BEGUN : STEP_NONE));
        if (!is_begun)
            continue;
        // With hooks operations do not begin in the order of their numbers: differences wrap.
        put_number(out, at->begin_ns - before_ns);
        before_ns = at->begin_ns;
        if (at->hash == 0)
            continue;
        put_number(out, at->end_ns - at->begin_ns);
        put_bytes(out, at->hash, 8);
        put_set(out, &at->first, h->ranks);
        if (o % 2 == 0)
            put_set(out, &at->second, h->ranks);
        put_set(out, &at->masked, h->ranks);
    }
}

static int scenario_text(const struct phx_scenario *scenario, uint64_t seed, char **text,
                         size_t *size)
{
    struct phx_scenario *copy = malloc(sizeof *copy);
    FILE *out = open_memstream(text, size);
    int rc = copy == NULL || out == NULL ? PHX_ERR_NO_MEMORY : 0;
    if (rc == 0) {
        *copy = *scenario; // what it points to stays the other's
        copy->run = (struct phx_scenario_run){.is_given = true, .seed = seed};
        rc = phx_scenario_write(out, copy);
    }
    if (out != NULL && fclose(out) != 0 && rc == 0)
        rc = PHX_ERR_NO_MEMORY;
    free(copy);
    return rc;
}

int phx_history_write(const char *path, const struct phx_scenario *scenario, uint64_t seed,
                      const struct phx_history *history, struct phx_message *message)
{
    char *text = NULL;
    char *all = NULL;
    size_t text_size = 0;
    size_t size = 0;
    int rc = scenario_text(scenario, seed, &text, &text_size);
    FILE *out = rc == 0 ? open_memstream(&all, &size) : NULL;
    if (out != NULL) {
        (void)fprintf(out, MAGIC "scenario %zu\n", text_size);
        (void)fwrite(text, 1, text_size, out);
        put_number(out, history->ranks);
        put_number(out, history->operations);
        for (uint32_t r = 0; r < history->ranks; r++)
            put_rank(out, history, r);
        (void)fflush(out);
        put_bytes(out, check_of((const uint8_t *)all, size), 8);
    }
    if (out == NULL || fclose(out) != 0)
        rc = phx_fail(message, PHX_ERR_NO_MEMORY, "no memory to write the run down");
    FILE *file = rc == 0 ? fopen(path, "wb") : NULL;
    if (rc == 0) {
        bool is_written = file != NULL && fwrite(all, 1, size, file) == size;
        int error = errno;
        if (file != NULL && fclose(file) != 0 && is_written) {
            is_written = false;
            error = errno;
        }
        if (!is_written)
            rc = phx_fail(message, PHX_ERR_IO, "%s: %s", path, strerror(error));
    }
    free(text);
    free(all);
    return rc;
}

// --- reading ------------------------------------------------------------------------------------

struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed; // it ended too early, or a number is none
};

static uint64_t get_bytes(struct reader *r, uint32_t count)
{
    uint64_t value = 0;
    if ((uint64_t)(r->end - r->at) < count) {
        r->failed = true;
        return 0;
    }
    for (uint32_t i = 0; i < count; i++)
        value |= (uint64_t)*r->at++ << 8 * i;
    return value;
}

static uint64_t get_number(struct reader *r)
{
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 64 && !r->failed; shift += 7) {
        uint64_t byte = get_bytes(r, 1);
        if (shift == 63 && byte > 1)
            break;
        value |= (byte & 0x7F) << shift;
        if (byte < 0x80)
            return value;
    }
    r->failed = true;
    return 0;
}

static void get_set(struct reader *r, struct phx_rank_set *set, uint32_t ranks)
{
    for (uint32_t i = 0; i < (ranks + 7) / 8; i++) {
        uint64_t byte = get_bytes(r, 1);
        if (i == ranks / 8 && byte >> ranks % 8 != 0)
            r->failed = true; // ranks that there are not
        set->words[i / 8] |= byte << i % 8 * 8;
    }
}

static void get_rank(struct reader *r, struct phx_history *h, uint32_t rank)
{
    uint64_t before_ns = 0;
    uint64_t begun = 0;
    h->begun[rank] = get_number(r);
    for (uint64_t o = 0; o < h->operations && !r->failed; o++) {
        struct phx_history_operation *at = phx_history_at(h, rank, o);
        uint64_t step = get_number(r);
        if (step == STEP_NONE)
            continue;
        begun++;
        before_ns += get_number(r);
        at->begin_ns = before_ns;
        if (step == STEP_ENDED) {
            at->end_ns = at->begin_ns + get_number(r);
            at->hash = get_bytes(r, 8);
            get_set(r, &at->first, h->ranks);
            if (o % 2 == 0)
                get_set(r, &at->second, h->ranks);
            get_set(r, &at->masked, h->ranks);
        }
        if (step > STEP_ENDED || (step == STEP_ENDED && at->hash == 0) ||
            phx_rank_set_has(&at->masked, rank))
            r->failed = true;
    }
    if (begun > h->begun[rank] || h->begun[rank] > h->operations)
        r->failed = true;
}

static uint64_t operations_of(const struct phx_workload *w)
{
    uint64_t operations = 0;
    for (uint32_t i = 0; i < w->load_count; i++)
        operations += 2 * (uint64_t)w->loads[i].steps * w->loads[i].layers;
    return operations;
}

static int history_get(struct reader *r, const struct phx_workload *w, struct phx_history *h,
                       struct phx_message *message)
{
    uint64_t ranks = get_number(r);
    uint64_t operations = get_number(r);
    // Each operation takes a byte at least, so memory is bounded by the file.
    if (r->failed || ranks != (uint64_t)w->cluster.nodes * w->cluster.ranks_per_node ||
        operations != operations_of(w) || operations > (uint64_t)(r->end - r->at))
        return phx_fail(message, PHX_ERR_INVALID,
                        "the history is of %" PRIu64 " operations of %" PRIu64
                        " ranks, its scenario of others",
                        operations, ranks);
    int rc = phx_history_open(h, (uint32_t)ranks, operations, message);
    for (uint32_t i = 0; rc == 0 && i < ranks && !r->failed; i++)
        get_rank(r, h, i);
    if (rc == 0 && (r->failed || r->at != r->end))
        rc = phx_fail(message, PHX_ERR_INVALID, "the history is not whole: it ends %s",
                      r->failed ? "too early, or holds what no run gives" : "too late");
    if (rc == 0)
        phx_history_fates(h);
    return rc;
}

int phx_history_parse(const void *bytes, uint64_t size_bytes, struct phx_scenario **scenario,
                      struct phx_history *history, struct phx_message *message)
{
    static const char key[] = "scenario ";
    const struct phx_scenario_options options = {0};
    struct phx_diagnosis d = {{0, 0}, {""}};
    const uint8_t *at = bytes;
    uint64_t size = 0;
    *scenario = NULL;
    memset(history, 0, sizeof *history);
    uint64_t used = MAGIC_BYTES + sizeof key - 1;
    if (size_bytes < used + 2 + 8 || memcmp(at, MAGIC, MAGIC_BYTES) != 0 ||
        memcmp(at + MAGIC_BYTES, key, sizeof key - 1) != 0)
        return phx_fail(message, PHX_ERR_INVALID, "it does not begin as a recorded run does");
    struct reader tail = {at + size_bytes - 8, at + size_bytes, false};
    if (get_bytes(&tail, 8) != check_of(at, size_bytes - 8))
        return phx_fail(message, PHX_ERR_INVALID, "its check fails: it is cut off, or was changed");
    while (used < size_bytes - 8 && at[used] >= '0' && at[used] <= '9' && size < FILE_BYTES_MAX)
        size = size * 10 + (uint64_t)(at[used++] - '0');
    if (used >= size_bytes - 8 || at[used++] != '\n' || size > size_bytes - 8 - used)
        return phx_fail(message, PHX_ERR_INVALID, "its scenario is longer than the file");
    int rc = phx_scenario_parse((const char *)at + used, size, &options, scenario, &d);
    if (rc != 0)
        return phx_fail(message, rc, "its scenario, line %u: %s", d.place.line, d.message.text);
    struct reader r = {at + used + size, at + size_bytes - 8, false};
    rc = (*scenario)->run.is_given
             ? history_get(&r, &(*scenario)->workload, history, message)
             : phx_fail(message, PHX_ERR_INVALID, "its scenario has no section 'run'");
    if (rc != 0) {
        phx_scenario_free(*scenario);
        phx_history_free(history);
        *scenario = NULL;
    }
    return rc;
}

bool phx_history_is(const char *path)
{
    char begin[MAGIC_BYTES];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    bool is = fread(begin, 1, sizeof begin, file) == sizeof begin &&
              memcmp(begin, MAGIC, sizeof begin) == 0;
    (void)fclose(file);
    return is;
}

int phx_history_read(const char *path, struct phx_scenario **scenario, struct phx_history *history,
                     struct phx_message *message)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    uint64_t size = 0;
    uint64_t room = 0;
    if (file == NULL)
        return phx_fail(message, PHX_ERR_IO, "%s: %s", path, strerror(errno));
    int rc = 0;
    for (size_t got = 1; rc == 0 && got > 0; size += got) {
        if (size == room) {
            room = room == 0 ? 65536 : 2 * room;
            uint8_t *larger = room <= FILE_BYTES_MAX ? realloc(bytes, room) : NULL;
            if (larger == NULL) {
                rc = phx_fail(message, PHX_ERR_NO_MEMORY, "%s: too large", path);
                break;
            }
            bytes = larger;
        }
        got = fread(bytes + size, 1, room - size, file);
    }
    if (rc == 0 && ferror(file))
        rc = phx_fail(message, PHX_ERR_IO, "%s: it could not be read", path);
    (void)fclose(file);
    if (rc == 0)
        rc = phx_history_parse(bytes, size, scenario, history, message);
    free(bytes);
    return rc;
}
