// tests/test_npy.c: the reader of .npy files takes what numpy writes, and no other bytes.

#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/npy.h"

struct file {
    uint8_t bytes[4096];
    size_t size;
};

// As numpy writes it: the header is padded with blanks to a multiple of 64, and ends with a
// newline.
static void begin(struct file *f, uint32_t version, const char *header)
{
    size_t length_bytes = version == 1 ? 2 : 4;
    size_t begins = 8 + length_bytes;
    size_t size = strlen(header);
    size_t padded = (begins + size + 1 + 63) / 64 * 64 - begins;
    memset(f, 0, sizeof *f);
    memcpy(f->bytes, "\x93NUMPY", 6);
    f->bytes[6] = (uint8_t)version;
    f->bytes[8] = (uint8_t)padded;
    f->bytes[9] = (uint8_t)(padded >> 8);
    memset(f->bytes + begins, ' ', padded);
    memcpy(f->bytes + begins, header, size);
    f->bytes[begins + padded - 1] = '\n';
    f->size = begins + padded;
}

static void number(struct file *f, int64_t value, uint32_t size_bytes)
{
    for (uint32_t i = 0; i < size_bytes; i++)
        f->bytes[f->size++] = (uint8_t)((uint64_t)value >> (8 * i));
}

static const char *refusal(const struct file *f)
{
    static struct phx_message message;
    struct phx_npy npy = {NULL, 0, 0};
    int rc = phx_npy_parse(f->bytes, f->size, -1, 63, &npy, &message);
    CHECK_MSG(rc == PHX_ERR_INVALID, "taken");
    CHECK(npy.values == NULL);
    return message.text;
}

TEST(npy_reads_both_widths_and_all_versions)
{
    for (uint32_t version = 1; version <= 3; version++) {
        for (uint32_t width = 4; width <= 8; width += 4) {
            struct file f;
            struct phx_npy npy;
            struct phx_message message;
            begin(&f, version,
                  width == 4 ? "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 3), }"
                             : "{\"shape\":(2,3),\"descr\":\"<i8\",\"fortran_order\":False}");
            for (int i = 0; i < 6; i++)
                number(&f, i == 5 ? -1 : 10 * i, width);
            CHECK_EQ(phx_npy_parse(f.bytes, f.size, -1, 63, &npy, &message), 0);
            CHECK_EQ(npy.rows, 2);
            CHECK_EQ(npy.columns, 3);
            CHECK_EQ(npy.values[0], 0);
            CHECK_EQ(npy.values[4], 40);
            CHECK_EQ(npy.values[5], -1);
            free(npy.values);
        }
    }
}

TEST(npy_names_what_it_refuses)
{
    struct file f;
    begin(&f, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1), }");
    number(&f, 0, 4);
    CHECK_STR_EQ(refusal(&f),
                 "'descr' is '<f4'; it must be '<i4' or '<i8': whole numbers, little endian");
    begin(&f, 1, "{'descr': '>i4', 'fortran_order': False, 'shape': (1, 1), }");
    CHECK(strncmp(refusal(&f), "'descr' is '>i4'", 16) == 0);
    begin(&f, 1, "{'descr': '<i4', 'fortran_order': True, 'shape': (1, 1), }");
    CHECK_STR_EQ(refusal(&f), "'fortran_order' is True; it must be False");
    begin(&f, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (4,), }");
    CHECK_STR_EQ(refusal(&f), "'shape' has 1 dimensions; it must have 2: tokens and top_k");
    begin(&f, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (0, 4), }");
    CHECK_STR_EQ(refusal(&f), "'shape' is (0, 4); it must name 1 to 67108864 numbers");
    begin(&f, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (4294967296, 4294967295), }");
    CHECK(strncmp(refusal(&f), "'shape' is (4294967296, 4294967295);", 36) == 0);
    begin(&f, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), }");
    number(&f, 1, 4);
    CHECK_STR_EQ(refusal(&f), "'shape' (2, 2) needs 16 bytes after the header; there are 4");
    begin(&f, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2), }");
    number(&f, 63, 4);
    number(&f, 64, 4);
    CHECK_STR_EQ(refusal(&f), "[0, 1] is 64; it must be -1 to 63");
    begin(&f, 1, "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1), }");
    number(&f, INT64_C(1) << 32, 8); // 0 to a reader that cuts it
    CHECK_STR_EQ(refusal(&f), "[0, 0] is 4294967296; it must be -1 to 63");
    begin(&f, 1, "{'descr': '<i4', 'shape': (1, 1), }");
    CHECK_STR_EQ(refusal(&f), "its header lacks 'fortran_order'");
    begin(&f, 1, "{'descr': '<i4', 'descr': '<i4', 'shape': (1, 1), }");
    CHECK_STR_EQ(refusal(&f), "'descr' is in its header twice");
    begin(&f, 1, "{'order': 1}");
    CHECK_STR_EQ(refusal(&f), "'order' is not a key of its header, which has descr, fortran_order "
                              "and shape");
    begin(&f, 4, "{}");
    CHECK_STR_EQ(refusal(&f), "its version is 4.0; it must be 1.0, 2.0 or 3.0");
    begin(&f, 2, "{}");
    f.bytes[11] = 0xFF;
    CHECK(strncmp(refusal(&f), "its header has 42", 17) == 0);
    f.size = 0;
    CHECK_STR_EQ(refusal(&f), "it is no .npy file: it does not begin as one");
}

TEST(npy_survives_every_prefix_and_flipped_bit)
{
    struct file f;
    begin(&f, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), }");
    for (int i = 0; i < 4; i++)
        number(&f, i, 4);
    uint32_t taken = 0;
    for (size_t i = 0; i < f.size; i++) {
        for (uint32_t bit = 0; bit < 9; bit++) { // eight flips, and the prefix
            struct phx_npy npy = {NULL, 0, 0};
            struct phx_message message = {""};
            size_t size = bit < 8 ? f.size : i;
            uint8_t *copy = malloc(size + 1); // exactly as large, so that reading past it shows
            CHECK(copy != NULL);
            memcpy(copy, f.bytes, size);
            if (bit < 8)
                copy[i] = (uint8_t)(copy[i] ^ 1u << bit);
            int rc = phx_npy_parse(copy, size, -1, 63, &npy, &message);
            CHECK((rc == 0) == (npy.values != NULL));
            CHECK(rc == 0 || message.text[0] != '\0');
            taken += rc == 0;
            free(npy.values);
            free(copy);
        }
    }
    CHECK(taken > 0); // a flipped blank behind the dictionary
}

TEST(npy_says_why_a_file_cannot_be_read)
{
    struct phx_npy npy;
    struct phx_message message;
    CHECK_EQ(phx_npy_load("scenarios/routing/none.npy", -1, 63, &npy, &message), PHX_ERR_IO);
    CHECK_STR_EQ(message.text, "cannot be opened: No such file or directory");
    CHECK_EQ(phx_npy_load("scenarios", -1, 63, &npy, &message), PHX_ERR_IO);
    CHECK_STR_EQ(message.text, "cannot be read: Is a directory");
}
