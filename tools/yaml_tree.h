// tools/yaml_tree.h: a small, bounded tree of a YAML document, with the place of every node.
//
// Made for files that people write by hand and that fuzzers attack: the size, the depth and the
// number of nodes are bounded, keys are plain scalars and unique within a map, and anchors, aliases
// and tags are refused. Whatever the bytes are, the answer is a tree or a place and a sentence.
//
// Memory: the tree owns all of it, the text of scalars included; phx_yaml_free() gives it back.

#ifndef PHX_TOOLS_YAML_TREE_H
#define PHX_TOOLS_YAML_TREE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/error.h"

#define PHX_YAML_SIZE_MAX (1u << 20)  // bytes of a file
#define PHX_YAML_NODES_MAX (1u << 16) // maps, lists and scalars, keys not counted
#define PHX_YAML_KEYS_MAX 64u         // of one map: each new key is compared with those before
#define PHX_YAML_DEPTH_MAX 16u        // scenarios need 6

enum phx_yaml_kind { PHX_YAML_SCALAR = 1, PHX_YAML_MAP, PHX_YAML_LIST };

struct phx_place { // both count from 1; columns are characters
    uint32_t line;
    uint32_t column;
};

// What is wrong with an input, and where. {0, 0}: the file as a whole.
struct phx_diagnosis {
    struct phx_place place;
    struct phx_message message;
};
// Fills d and returns code, so that a check is one line.
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
int phx_diagnose(struct phx_diagnosis *d, int code, struct phx_place place, const char *format,
                 ...);

struct phx_yaml {
    enum phx_yaml_kind kind;
    struct phx_place place;
    const char *text;           // SCALAR: its value, without NUL bytes inside
    int is_quoted;              // SCALAR: 'so' or "so"; a quoted number is a text
    const char *key;            // in a MAP: the key under which it stands
    struct phx_place key_place; // in a MAP
    struct phx_yaml *child;     // MAP, LIST: the first; in the order of the file
    struct phx_yaml *next;      // the next sibling
    struct phx_yaml *all;       // from the root on: every node, for phx_yaml_free()
};

// Reads one document out of text[0..size_bytes). 0, PHX_ERR_INVALID with *d filled, or
// PHX_ERR_NO_MEMORY. On 0 the caller owns *root.
int phx_yaml_parse(const char *text, size_t size_bytes, struct phx_yaml **root,
                   struct phx_diagnosis *d);
void phx_yaml_free(struct phx_yaml *root); // NULL is allowed

// The value under `key`, or NULL; map must be a MAP.
const struct phx_yaml *phx_yaml_get(const struct phx_yaml *map, const char *key);
uint32_t phx_yaml_count(const struct phx_yaml *node);        // children
const char *phx_yaml_kind_text(const struct phx_yaml *node); // "a map", "a list", "a value"

// Copies at most 40 characters of text for a message, what is unprintable as '?', and "..." where
// it was cut.
struct phx_excerpt {
    char text[48];
};
struct phx_excerpt phx_excerpt_make(const char *text);

#endif
