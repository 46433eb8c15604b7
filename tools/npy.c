// tools/npy.c: the header, which is a Python dictionary of three keys, and the numbers.

#include "tools/npy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC_BYTES 8u // "\x93NUMPY", major, minor
#define TEXT_MAX 15u   // of a descr; longer ones are none that is taken
#define DIMENSIONS_MAX 2u

struct header {
    char descr[TEXT_MAX + 1];
    bool is_fortran;
    uint64_t shape[DIMENSIONS_MAX];
    uint32_t dimensions; // as written; more than DIMENSIONS_MAX are counted, not kept
    uint32_t keys;       // bit per key
};

struct cursor {
    const char *at;
    const char *end;
    struct phx_message *message;
};

// --- the dictionary -----------------------------------------------------------------------------

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t'))
        c->at++;
}

static bool take(struct cursor *c, char wanted)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, const char *word)
{
    size_t size = strlen(word);
    skip_blanks(c);
    if ((size_t)(c->end - c->at) < size || memcmp(c->at, word, size) != 0)
        return false;
    c->at += size;
    return true;
}

// A quoted text without escapes; false: there is none, or it is longer than TEXT_MAX.
static bool take_text(struct cursor *c, char text[TEXT_MAX + 1])
{
    skip_blanks(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"'))
        return false;
    char quote = *c->at++;
    const char *begin = c->at;
    while (c->at < c->end && *c->at != quote)
        c->at++;
    size_t size = (size_t)(c->at - begin);
    if (c->at == c->end || size > TEXT_MAX)
        return false;
    for (size_t i = 0; i < size; i++) // shown in messages
        text[i] = begin[i] >= ' ' && begin[i] <= '~' ? begin[i] : '?';
    text[size] = '\0';
    c->at++;
    return true;
}

static bool take_number(struct cursor *c, uint64_t *value)
{
    skip_blanks(c);
    const char *begin = c->at;
    uint64_t number = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*c->at - '0'), &number))
            return false;
    *value = number;
    return c->at > begin;
}

static int broken(const struct cursor *c, const char *what)
{
    return phx_fail(c->message, PHX_ERR_INVALID, "the header's %s cannot be read", what);
}

static int take_shape(struct cursor *c, struct header *h)
{
    if (!take(c, '('))
        return broken(c, "'shape'");
    while (!take(c, ')')) {
        uint64_t size;
        if (!take_number(c, &size))
            return broken(c, "'shape'");
        if (h->dimensions < DIMENSIONS_MAX)
            h->shape[h->dimensions] = size;
        h->dimensions++;
        if (!take(c, ',') && (c->at == c->end || *c->at != ')'))
            return broken(c, "'shape'");
    }
    return 0;
}

static int take_entry(struct cursor *c, struct header *h)
{
    static const char *const keys[] = {"descr", "fortran_order", "shape"};
    char key[TEXT_MAX + 1];
    if (!take_text(c, key) || !take(c, ':'))
        return broken(c, "dictionary");
    uint32_t k = 0;
    while (k < 3 && strcmp(key, keys[k]) != 0)
        k++;
    if (k == 3)
        return phx_fail(c->message, PHX_ERR_INVALID,
                        "'%s' is not a key of its header, which has descr, fortran_order and shape",
                        key);
    if (h->keys >> k & 1)
        return phx_fail(c->message, PHX_ERR_INVALID, "'%s' is in its header twice", key);
    h->keys |= 1u << k;
    if (k == 0)
        return take_text(c, h->descr) ? 0 : broken(c, "'descr'");
    if (k == 2)
        return take_shape(c, h);
    h->is_fortran = take_word(c, "True");
    return h->is_fortran || take_word(c, "False") ? 0 : broken(c, "'fortran_order'");
}

static int take_header(struct cursor *c, struct header *h)
{
    if (!take(c, '{'))
        return broken(c, "dictionary");
    while (!take(c, '}')) {
        int rc = take_entry(c, h);
        if (rc != 0)
            return rc;
        skip_blanks(c);
        if (!take(c, ',') && (c->at == c->end || *c->at != '}'))
            return broken(c, "dictionary");
    }
    if (h->keys != 7)
        return phx_fail(c->message, PHX_ERR_INVALID, "its header lacks '%s'",
                        !(h->keys & 1)   ? "descr"
                        : !(h->keys & 2) ? "fortran_order"
                                         : "shape");
    return 0;
}

// --- what is taken ------------------------------------------------------------------------------

static int check_header(const struct header *h, size_t left_bytes, struct phx_message *message)
{
    bool is_wide = strcmp(h->descr, "<i8") == 0;
    if (!is_wide && strcmp(h->descr, "<i4") != 0)
        return phx_fail(message, PHX_ERR_INVALID,
                        "'descr' is '%s'; it must be '<i4' or '<i8': whole numbers, little endian",
                        h->descr);
    if (h->is_fortran)
        return phx_fail(message, PHX_ERR_INVALID, "'fortran_order' is True; it must be False");
    if (h->dimensions != DIMENSIONS_MAX)
        return phx_fail(message, PHX_ERR_INVALID,
                        "'shape' has %u dimensions; it must have 2: tokens and top_k",
                        h->dimensions);
    uint64_t count;
    if (h->shape[0] == 0 || h->shape[1] == 0 || h->shape[1] > UINT32_MAX ||
        __builtin_mul_overflow(h->shape[0], h->shape[1], &count) || count > PHX_NPY_SIZE_MAX)
        return phx_fail(message, PHX_ERR_INVALID,
                        "'shape' is (%" PRIu64 ", %" PRIu64 "); it must name 1 to %u numbers",
                        h->shape[0], h->shape[1], PHX_NPY_SIZE_MAX);
    uint64_t needed = count * (is_wide ? 8 : 4);
    if (needed != left_bytes)
        return phx_fail(message, PHX_ERR_INVALID,
                        "'shape' (%" PRIu64 ", %" PRIu64 ") needs %" PRIu64
                        " bytes after the header; there are %zu",
                        h->shape[0], h->shape[1], needed, left_bytes);
    return 0;
}

static int64_t number_at(const uint8_t *bytes, uint32_t size_bytes)
{
    uint64_t value = 0;
    for (uint32_t i = size_bytes; i-- > 0;)
        value = value << 8 | bytes[i];
    if (size_bytes == 4)
        return (int32_t)(uint32_t)value;
    return (int64_t)value;
}

static int read_numbers(const struct header *h, const uint8_t *bytes, int32_t min, int32_t max,
                        struct phx_npy *npy, struct phx_message *message)
{
    uint32_t size_bytes = h->descr[2] == '8' ? 8 : 4;
    uint64_t count = h->shape[0] * h->shape[1];
    int32_t *values = malloc(count * sizeof *values);
    if (values == NULL)
        return phx_fail(message, PHX_ERR_NO_MEMORY, "no memory for %" PRIu64 " numbers", count);
    for (uint64_t i = 0; i < count; i++) {
        int64_t value = number_at(bytes + i * size_bytes, size_bytes);
        if (value < min || value > max) {
            free(values);
            return phx_fail(message, PHX_ERR_INVALID,
                            "[%" PRIu64 ", %" PRIu64 "] is %" PRId64 "; it must be %d to %d",
                            i / h->shape[1], i % h->shape[1], value, min, max);
        }
        values[i] = (int32_t)value;
    }
    *npy = (struct phx_npy){values, h->shape[0], (uint32_t)h->shape[1]};
    return 0;
}

int phx_npy_parse(const void *bytes, size_t size_bytes, int32_t min, int32_t max,
                  struct phx_npy *npy, struct phx_message *message)
{
    const uint8_t *b = bytes;
    if (size_bytes < MAGIC_BYTES + 2 || memcmp(b, "\x93NUMPY", 6) != 0)
        return phx_fail(message, PHX_ERR_INVALID, "it is no .npy file: it does not begin as one");
    if (b[6] < 1 || b[6] > 3 || b[7] != 0)
        return phx_fail(message, PHX_ERR_INVALID,
                        "its version is %u.%u; it must be 1.0, 2.0 or 3.0", b[6], b[7]);
    size_t length_bytes = b[6] == 1 ? 2 : 4;
    size_t begin = MAGIC_BYTES + length_bytes;
    if (size_bytes < begin)
        return phx_fail(message, PHX_ERR_INVALID, "it ends before its header's length");
    uint64_t length = (uint64_t)number_at(b + MAGIC_BYTES, (uint32_t)length_bytes);
    if (length_bytes == 4)
        length &= UINT32_MAX;
    if (length > PHX_NPY_HEADER_MAX || length > size_bytes - begin)
        return phx_fail(message, PHX_ERR_INVALID,
                        "its header has %" PRIu64 " bytes; at most %zu fit", length,
                        size_bytes - begin < PHX_NPY_HEADER_MAX ? size_bytes - begin
                                                                : (size_t)PHX_NPY_HEADER_MAX);
    struct header h = {.dimensions = 0};
    struct cursor c = {(const char *)b + begin, (const char *)b + begin + length, message};
    int rc = take_header(&c, &h);
    if (rc == 0)
        rc = check_header(&h, size_bytes - begin - length, message);
    if (rc == 0)
        rc = read_numbers(&h, b + begin + length, min, max, npy, message);
    return rc;
}

int phx_npy_load(const char *path, int32_t min, int32_t max, struct phx_npy *npy,
                 struct phx_message *message)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return phx_fail(message, PHX_ERR_IO, "cannot be opened: %s", strerror(errno));
    uint8_t *bytes = malloc(PHX_NPY_SIZE_MAX + 1); // one more, so that a file too big shows
    int rc = 0;
    size_t size = 0;
    if (bytes == NULL)
        rc = phx_fail(message, PHX_ERR_NO_MEMORY, "no memory to read it");
    else
        size = fread(bytes, 1, PHX_NPY_SIZE_MAX + 1, file);
    if (rc == 0 && ferror(file))
        rc = phx_fail(message, PHX_ERR_IO, "cannot be read: %s", strerror(errno));
    else if (rc == 0 && size > PHX_NPY_SIZE_MAX)
        rc = phx_fail(message, PHX_ERR_INVALID, "it is larger than %u bytes, the most that is read",
                      PHX_NPY_SIZE_MAX);
    if (rc == 0)
        rc = phx_npy_parse(bytes, size, min, max, npy, message);
    free(bytes);
    (void)fclose(file);
    return rc;
}
