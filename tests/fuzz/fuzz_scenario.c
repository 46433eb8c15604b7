// tests/fuzz/fuzz_scenario.c: the scenario reader, over any text; and the writer, over whatever the
// reader takes: what it writes must read back, and be written the same again.

#include "tests/fuzz/fuzz_yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct phx_scenario *s = fuzz_yaml_read((const char *)data, size);
    if (s == NULL)
        return 0;
    struct phx_message message;
    uint64_t bytes = 0;
    memset(&message, 0, sizeof message);
    int rc = phx_workload_bytes(&s->workload, &bytes, &message);
    FUZZ_CHECK(rc == 0 || message.text[0] != 0, "refused without a word");
    FUZZ_CHECK(rc != 0 || bytes > 0, "a run without memory");
    fuzz_yaml_same_again(s);
    phx_scenario_free(s);
    return 0;
}
