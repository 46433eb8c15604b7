// tests/fuzz/fuzz_npy.c: the reader of routing traces, over any bytes. What it takes must be the
// numbers that stand at the end of the file, all of them within the bounds that were asked for.

#include "tests/fuzz/fuzz.h"
#include "tools/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct phx_npy npy;
    struct phx_message message;
    if (size < 1)
        return 0;
    int32_t max = data[0] < 128 ? data[0] : INT32_MAX;
    int32_t min = data[0] < 192 ? -1 : INT32_MIN;
    data++;
    size--;
    memset(&message, 0, sizeof message);
    if (phx_npy_parse(data, size, min, max, &npy, &message) != 0) {
        FUZZ_CHECK(message.text[0] != 0, "refused without a word");
        return 0;
    }
    FUZZ_CHECK(npy.rows > 0 && npy.columns > 0, "an empty table");
    uint64_t count = npy.rows * npy.columns;
    FUZZ_CHECK(count <= size / 4 && npy.rows <= count, "%llu numbers in %zu bytes",
               (unsigned long long)count, size);
    size_t header = data[6] == 1 ? 10 + (size_t)data[8] + 256 * (size_t)data[9]
                                 : 12 + (size_t)data[8] + 256 * (size_t)data[9] +
                                       65536 * (size_t)data[10] + 16777216 * (size_t)data[11];
    FUZZ_CHECK(header < size && (size - header) % count == 0, "%zu bytes of header", header);
    size_t width = (size - header) / count;
    FUZZ_CHECK(width == 4 || width == 8, "numbers of %zu bytes", width);
    for (uint64_t i = 0; i < count; i++) {
        int64_t wide = 0;
        int32_t narrow = 0;
        memcpy(&wide, data + header + i * width, width == 8 ? 8 : 0);
        memcpy(&narrow, data + header + i * width, width == 4 ? 4 : 0);
        FUZZ_CHECK(npy.values[i] == (width == 8 ? wide : narrow), "number %llu",
                   (unsigned long long)i);
        FUZZ_CHECK(npy.values[i] >= min && npy.values[i] <= max, "%d", npy.values[i]);
    }
    free(npy.values);
    return 0;
}
