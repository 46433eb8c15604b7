// tools/fields.h: reads maps of a scenario by tables: a key, its type, its bounds, its place.
//
// The same tables write a map again. A new key is one row of a table. Everything that can be wrong
// with a value, with a key that is not in the table or with one that is missing, is said here,
// once, with the value, its bound and the nearest known word.

#ifndef PHX_TOOLS_FIELDS_H
#define PHX_TOOLS_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/yaml_tree.h"

enum phx_field_type {
    PHX_FIELD_U32 = 1, // uint32_t: min..max, a multiple of `multiple`
    PHX_FIELD_DECIMAL, // uint64_t: the number times 10^digits, exactly; min..max in that unit
    PHX_FIELD_BOOL,    // bool
    PHX_FIELD_CHOICE,  // uint32_t: one of `choices`
    PHX_FIELD_TEXT,    // char[max + 1]
    PHX_FIELD_CUSTOM   // whatever `read` makes of it
};

struct phx_choice { // a list ends with {NULL, 0}
    const char *name;
    uint32_t value;
};

struct phx_reader { // what custom readers share
    struct phx_diagnosis *diagnosis;
    void *context;
};

typedef int phx_field_read(struct phx_reader *r, const struct phx_yaml *node, void *target);

struct phx_writer {
    FILE *out;
    const void *context; // for custom writers
    bool failed;         // no memory
};

// Writes the value as YAML that fits into {...}.
typedef void phx_field_write(struct phx_writer *w, const void *target);

struct phx_field { // a table ends with a row without name
    const char *name;
    enum phx_field_type type;
    bool is_required;
    uint32_t digits; // DECIMAL
    size_t offset;   // of the target in the struct that the table fills
    uint64_t min;
    uint64_t max;
    uint32_t multiple; // U32: not 0: only multiples of it
    const struct phx_choice *choices;
    phx_field_read *read;   // CUSTOM
    phx_field_write *write; // CUSTOM; NULL: whoever writes the map writes it
};

// Reads `map` (named `what` in messages) into *target. Keys that are absent leave their target as
// it is; *present (NULL is allowed) gets bit i for row i. Fields are read in the table's order, so
// that a later one can rely on an earlier one, whatever their order in the file.
int phx_fields_read(struct phx_reader *r, const struct phx_yaml *map, const char *what,
                    const struct phx_field *fields, void *target, uint64_t *present);

// Writes "key: value" of each field that is required or differs from *standard, which are what an
// absent key leaves, with `between` between two. Returns how many.
uint32_t phx_fields_write(struct phx_writer *w, const struct phx_field *fields, const void *target,
                          const void *standard, const char *between);
// A text as YAML: plain where that is safe, else in double quotes.
void phx_text_write(FILE *out, const char *text);
// value / 10^digits, exactly.
void phx_decimal_write(FILE *out, uint64_t value, uint32_t digits);

// Checks of a node's kind. `what` is its name in messages.
int phx_node_is(struct phx_reader *r, const struct phx_yaml *node, enum phx_yaml_kind kind,
                const char *what);
// A whole number min..max.
int phx_node_number(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                    uint64_t min, uint64_t max, uint64_t *value);
// A number with at most `digits` decimals, times 10^digits; min and max in that unit.
int phx_node_decimal(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                     uint32_t digits, uint64_t min, uint64_t max, uint64_t *value);
int phx_node_choice(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                    const struct phx_choice *choices, const struct phx_choice **chosen);

// The known word nearest to `word` (case aside), near enough to be a slip of the pen; else NULL.
const char *phx_nearest(const char *word, const char *const *known, uint32_t count);

#endif
