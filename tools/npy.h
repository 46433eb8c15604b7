// tools/npy.h: reads numpy's .npy files of whole numbers: the form in which routing traces are
// published.
//
// Taken: versions 1, 2 and 3 of the format; int32 and int64, little endian ('<i4', '<i8'); C order;
// two dimensions. Whatever the bytes are, the answer is a table or a sentence that names the field,
// its value and its bound.

#ifndef PHX_TOOLS_NPY_H
#define PHX_TOOLS_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"

#define PHX_NPY_SIZE_MAX (1u << 26)   // bytes of a file
#define PHX_NPY_HEADER_MAX (1u << 16) // of its header

struct phx_npy {
    int32_t *values; // [rows][columns]
    uint64_t rows;   // from 1
    uint32_t columns;
};

// Every value must be within min..max. 0: the caller frees npy->values. PHX_ERR_INVALID or
// PHX_ERR_NO_MEMORY with the message; load adds PHX_ERR_IO.
int phx_npy_parse(const void *bytes, size_t size_bytes, int32_t min, int32_t max,
                  struct phx_npy *npy, struct phx_message *message);
int phx_npy_load(const char *path, int32_t min, int32_t max, struct phx_npy *npy,
                 struct phx_message *message);

#endif
