// tests/fuzz/fuzz_failure.c: what phx explore leaves behind and reads again: failure files
// (scenarios with `run:`) and the state of a campaign. The first byte says which.

// _GNU_SOURCE: memfd_create(), memmem()

#include "tests/fuzz/fuzz_yaml.h"

#include <sys/mman.h>
#include <unistd.h>

#include "tools/explore_jobs.h"

#define SIGNATURE UINT64_C(0x1122334455667788) // of the campaign in the kept inputs

static void failure_file(const char *text, size_t size)
{
    struct phx_scenario *s = fuzz_yaml_read(text, size);
    if (s == NULL)
        return;
    FUZZ_CHECK(memchr(s->run.bug, 0, sizeof s->run.bug) != NULL &&
                   memchr(s->run.rule, 0, sizeof s->run.rule) != NULL,
               "no end of a name");
    FUZZ_CHECK(!s->run.is_given || s->run.schedule.pct_depth <= 1u << 20, "a depth of %u",
               s->run.schedule.pct_depth);
    fuzz_yaml_same_again(s);
    phx_scenario_free(s);
}

static int read_state(const char *path, struct phx_totals *totals, struct phx_message *message)
{
    bool is_missing = false;
    memset(message, 0, sizeof *message);
    int rc = phx_state_read(path, SIGNATURE, totals, &is_missing, message);
    FUZZ_CHECK(!is_missing, "the file is there");
    FUZZ_CHECK(rc == 0 || message->text[0] != 0, "refused without a word");
    return rc;
}

// What was read is written, and reads back as the same.
static void write_again(const struct phx_totals *totals)
{
    static char directory[] = "/tmp/fuzz_failure.XXXXXX";
    static const char *made = NULL;
    char path[64];
    struct phx_message message;
    struct phx_totals *again = fuzz_alloc(sizeof *again);
    if (made == NULL)
        made = mkdtemp(directory);
    if (made == NULL)
        abort();
    (void)snprintf(path, sizeof path, "%s/state", made);
    FUZZ_CHECK(phx_state_write(path, SIGNATURE, totals, &message) == 0, "%s", message.text);
    FUZZ_CHECK(read_state(path, again, &message) == 0, "what was written: %s", message.text);
    FUZZ_CHECK(memcmp(again, totals, sizeof *again) == 0, "other totals");
    (void)unlink(path);
    (void)rmdir(made);
    made = NULL;
    memcpy(directory + sizeof directory - 7, "XXXXXX", 6);
    free(again);
}

static void state_file(const uint8_t *data, size_t size)
{
    char path[64];
    struct phx_totals *totals = fuzz_alloc(sizeof *totals);
    struct phx_message message;
    int file = memfd_create("state", MFD_CLOEXEC);
    if (file < 0 || write(file, data, size) != (ssize_t)size)
        abort();
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    int rc = read_state(path, totals, &message);
    (void)close(file);
    if (rc == 0) {
        FUZZ_CHECK(totals->rule_count <= PHX_RULES_MAX, "%u rules", totals->rule_count);
        for (uint32_t i = 0; i < totals->rule_count; i++)
            FUZZ_CHECK(memchr(totals->rules[i].rule, 0, sizeof totals->rules[i].rule) != NULL,
                       "no end of a rule's name");
        write_again(totals);
    }
    free(totals);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] == 's')
        state_file(data + 1, size - 1);
    else
        failure_file((const char *)data + 1, size - 1);
    return 0;
}
