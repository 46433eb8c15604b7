// tests/fuzz/fuzz_yaml.h: reading and writing scenarios, for the targets that do.

#ifndef PHX_TESTS_FUZZ_FUZZ_YAML_H
#define PHX_TESTS_FUZZ_FUZZ_YAML_H

#include "tests/fuzz/fuzz.h"
#include "tools/scenario.h"

#define FUZZ_TRACES "tests/fuzz/corpus/npy" // where relative paths of an input begin

// NULL: refused, with a sentence and a place inside the text.
static inline struct phx_scenario *fuzz_yaml_read(const char *text, size_t size)
{
    const struct phx_scenario_options options = {.ranks = 0, .directory = FUZZ_TRACES};
    struct phx_scenario *s = NULL;
    struct phx_diagnosis d;
    memset(&d, 0, sizeof d);
    if (memmem(text, size, "/dev", 4) != NULL || memmem(text, size, "/proc", 5) != NULL)
        return NULL; // not the fuzzer's own terminal, please
    int rc = phx_scenario_parse(text, size, &options, &s, &d);
    if (rc == 0)
        return s;
    FUZZ_CHECK(d.message.text[0] != 0, "refused without a word");
    FUZZ_CHECK(memchr(d.message.text, 0, sizeof d.message.text) != NULL, "no end of the message");
    uint64_t lines = 2;
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n' || text[i] == '\r' || (text[i] & 0x80) != 0; // NEL, LS, PS
    FUZZ_CHECK(d.place.line <= lines, "line %u of %llu", d.place.line, (unsigned long long)lines);
    return NULL;
}

static inline char *fuzz_yaml_write(const struct phx_scenario *s)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        abort();
    FUZZ_CHECK(phx_scenario_write(out, s) == 0, "it can't be written");
    FUZZ_CHECK(fclose(out) == 0 && strlen(text) == size, "it is no text");
    return text;
}

static inline void fuzz_yaml_same_again(const struct phx_scenario *s)
{
    char *once = fuzz_yaml_write(s);
    const struct phx_scenario_options options = {.ranks = 0, .directory = FUZZ_TRACES};
    struct phx_scenario *again = NULL;
    struct phx_diagnosis d;
    memset(&d, 0, sizeof d);
    int rc = phx_scenario_parse(once, strlen(once), &options, &again, &d);
    FUZZ_CHECK(rc == 0, "what was written is refused at %u:%u: %s\n%s", d.place.line,
               d.place.column, d.message.text, once);
    char *twice = fuzz_yaml_write(again);
    FUZZ_CHECK(strcmp(once, twice) == 0, "it is written otherwise:\n%s\n%s", once, twice);
    FUZZ_CHECK(
        memcmp(&s->run.seed, &again->run.seed, sizeof s->run.seed) == 0 &&
            s->run.is_given == again->run.is_given && strcmp(s->run.rule, again->run.rule) == 0 &&
            strcmp(s->run.bug, again->run.bug) == 0 && s->run.trace_hash == again->run.trace_hash &&
            memcmp(&s->run.schedule, &again->run.schedule, sizeof s->run.schedule) == 0,
        "another run");
    FUZZ_CHECK(s->workload.fault_count == again->workload.fault_count &&
                   s->workload.load_count == again->workload.load_count &&
                   s->workload.timeout_us == again->workload.timeout_us &&
                   s->workload.freeze_ps == again->workload.freeze_ps &&
                   s->workload.row_check == again->workload.row_check &&
                   s->workload.is_by_token == again->workload.is_by_token &&
                   s->workload.is_full == again->workload.is_full &&
                   s->workload.workers == again->workload.workers,
               "another workload");
    phx_scenario_free(again);
    free(once);
    free(twice);
}

#endif
