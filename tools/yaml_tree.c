// tools/yaml_tree.c: libyaml's events, folded into a tree under bounds.
//
// libyaml's own document API resolves aliases and has no bound on depth, so a file of a few hundred
// bytes can ask it for gigabytes. Events have neither problem: each is looked at once, and the open
// maps and lists stand on a stack of fixed height.

#include "tools/yaml_tree.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

int phx_diagnose(struct phx_diagnosis *d, int code, struct phx_place place, const char *format, ...)
{
    if (d != NULL) {
        d->place = place;
        va_list args;
        va_start(args, format);
        (void)vsnprintf(d->message.text, sizeof d->message.text, format, args);
        va_end(args);
    }
    return code;
}

struct phx_excerpt phx_excerpt_make(const char *text)
{
    struct phx_excerpt e;
    size_t length = 0;
    for (; text[length] != '\0' && length < 40; length++) {
        unsigned char c = (unsigned char)text[length];
        e.text[length] = (char)(c < 0x20 || c >= 0x7F ? '?' : c);
    }
    e.text[length] = '\0';
    if (text[length] != '\0')
        memcpy(e.text + length, "...", 4);
    return e;
}

struct level { // an open map or list
    struct phx_yaml *node;
    struct phx_yaml *last; // its last child so far
    uint32_t keys;         // MAP: so far
    char *key;             // MAP: the key whose value comes next; owned
    struct phx_place key_place;
};

struct builder {
    struct phx_yaml *root;
    uint32_t nodes;
    uint32_t depth;
    struct level levels[PHX_YAML_DEPTH_MAX];
    bool is_ended; // the document is complete
    bool is_done;  // the stream is
    struct phx_diagnosis *d;
};

static struct phx_place place_of(const yaml_mark_t *mark)
{
    return (struct phx_place){(uint32_t)mark->line + 1, (uint32_t)mark->column + 1};
}

static void free_node(struct phx_yaml *node)
{
    free((char *)(uintptr_t)node->text);
    free((char *)(uintptr_t)node->key);
    free(node);
}

void phx_yaml_free(struct phx_yaml *root)
{
    for (struct phx_yaml *node = root, *next; node != NULL; node = next) { // headed by the root
        next = node->all;
        free_node(node);
    }
}

// Hangs a new node under the innermost open level; the key that waits there becomes its own.
static int node_add(struct builder *b, enum phx_yaml_kind kind, struct phx_place place,
                    struct phx_yaml **added)
{
    if (b->nodes >= PHX_YAML_NODES_MAX)
        return phx_diagnose(b->d, PHX_ERR_INVALID, place, "more than %u values in one file",
                            PHX_YAML_NODES_MAX);
    struct phx_yaml *node = calloc(1, sizeof *node);
    if (node == NULL)
        return phx_diagnose(b->d, PHX_ERR_NO_MEMORY, place, "out of memory");
    b->nodes++;
    node->kind = kind;
    node->place = place;
    if (b->depth == 0) { // a document has one node at this level: the parser sees to it
        b->root = node;
    } else {
        node->all = b->root->all;
        b->root->all = node;
        struct level *level = &b->levels[b->depth - 1];
        node->key = level->key;
        node->key_place = level->key_place;
        level->key = NULL;
        if (level->last == NULL)
            level->node->child = node;
        else
            level->last->next = node;
        level->last = node;
    }
    *added = node;
    return 0;
}

static int key_set(struct builder *b, const char *key, struct phx_place place)
{
    struct level *level = &b->levels[b->depth - 1];
    if (level->keys++ == PHX_YAML_KEYS_MAX)
        return phx_diagnose(b->d, PHX_ERR_INVALID, place, "more than %u keys in one map",
                            PHX_YAML_KEYS_MAX);
    const struct phx_yaml *other = phx_yaml_get(level->node, key);
    if (other != NULL)
        return phx_diagnose(b->d, PHX_ERR_INVALID, place,
                            "'%s' is here twice; the first is on line %u",
                            phx_excerpt_make(key).text, other->key_place.line);
    level->key = strdup(key);
    level->key_place = place;
    if (level->key == NULL)
        return phx_diagnose(b->d, PHX_ERR_NO_MEMORY, place, "out of memory");
    return 0;
}

static bool wants_key(const struct builder *b)
{
    return b->depth > 0 && b->levels[b->depth - 1].node->kind == PHX_YAML_MAP &&
           b->levels[b->depth - 1].key == NULL;
}

static int take_scalar(struct builder *b, const yaml_event_t *event)
{
    struct phx_place place = place_of(&event->start_mark);
    const char *text = (const char *)event->data.scalar.value;
    if (event->data.scalar.anchor != NULL || event->data.scalar.tag != NULL)
        return phx_diagnose(b->d, PHX_ERR_INVALID, place, "anchors and tags are not supported");
    if (strlen(text) != event->data.scalar.length)
        return phx_diagnose(b->d, PHX_ERR_INVALID, place, "a NUL character in a value");
    if (wants_key(b))
        return key_set(b, text, place);
    struct phx_yaml *node = NULL;
    int rc = node_add(b, PHX_YAML_SCALAR, place, &node);
    if (rc != 0)
        return rc;
    node->is_quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->text = strdup(text);
    if (node->text == NULL)
        return phx_diagnose(b->d, PHX_ERR_NO_MEMORY, place, "out of memory");
    return 0;
}

static int take_open(struct builder *b, enum phx_yaml_kind kind, const yaml_event_t *event,
                     bool is_decorated)
{
    struct phx_place place = place_of(&event->start_mark);
    if (is_decorated)
        return phx_diagnose(b->d, PHX_ERR_INVALID, place, "anchors and tags are not supported");
    if (wants_key(b))
        return phx_diagnose(b->d, PHX_ERR_INVALID, place, "a key must be a plain word, not %s",
                            kind == PHX_YAML_MAP ? "a map" : "a list");
    if (b->depth == PHX_YAML_DEPTH_MAX)
        return phx_diagnose(b->d, PHX_ERR_INVALID, place, "nested more than %u deep",
                            PHX_YAML_DEPTH_MAX);
    struct phx_yaml *node = NULL;
    int rc = node_add(b, kind, place, &node);
    if (rc == 0)
        b->levels[b->depth++] = (struct level){.node = node};
    return rc;
}

static int take_event(struct builder *b, const yaml_event_t *event)
{
    struct phx_place place = place_of(&event->start_mark);
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return take_scalar(b, event);
    case YAML_MAPPING_START_EVENT:
        return take_open(b, PHX_YAML_MAP, event,
                         event->data.mapping_start.anchor != NULL ||
                             event->data.mapping_start.tag != NULL);
    case YAML_SEQUENCE_START_EVENT:
        return take_open(b, PHX_YAML_LIST, event,
                         event->data.sequence_start.anchor != NULL ||
                             event->data.sequence_start.tag != NULL);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        b->depth--;
        return 0;
    case YAML_ALIAS_EVENT:
        return phx_diagnose(b->d, PHX_ERR_INVALID, place, "aliases are not supported");
    case YAML_DOCUMENT_START_EVENT:
        if (b->is_ended)
            return phx_diagnose(b->d, PHX_ERR_INVALID, place,
                                "a second document begins here; a file holds one");
        return 0;
    case YAML_DOCUMENT_END_EVENT:
        b->is_ended = true;
        return 0;
    case YAML_STREAM_END_EVENT:
        b->is_done = true;
        return 0;
    default:
        return 0;
    }
}

// The place of a byte offset; the reader's errors (broken UTF-8) come with an offset alone.
static struct phx_place place_at(const char *text, size_t size_bytes, size_t offset)
{
    struct phx_place place = {1, 1};
    for (size_t i = 0; i < offset && i < size_bytes; i++) {
        place.column++;
        if (text[i] == '\n')
            place = (struct phx_place){place.line + 1, 1};
    }
    return place;
}

static int parser_failed(const yaml_parser_t *parser, const char *text, size_t size_bytes,
                         struct phx_diagnosis *d)
{
    const char *problem = parser->problem != NULL ? parser->problem : "cannot be read";
    if (parser->error == YAML_MEMORY_ERROR)
        return phx_diagnose(d, PHX_ERR_NO_MEMORY, (struct phx_place){0, 0}, "out of memory");
    struct phx_place place = parser->error == YAML_READER_ERROR
                                 ? place_at(text, size_bytes, parser->problem_offset)
                                 : place_of(&parser->problem_mark);
    if (parser->context == NULL)
        return phx_diagnose(d, PHX_ERR_INVALID, place, "not YAML: %s", problem);
    return phx_diagnose(d, PHX_ERR_INVALID, place, "not YAML: %s, %s", parser->context, problem);
}

int phx_yaml_parse(const char *text, size_t size_bytes, struct phx_yaml **root,
                   struct phx_diagnosis *d)
{
    struct phx_place start = {1, 1};
    if (size_bytes > PHX_YAML_SIZE_MAX)
        return phx_diagnose(d, PHX_ERR_INVALID, (struct phx_place){0, 0},
                            "the file has %zu bytes; at most %u are read", size_bytes,
                            PHX_YAML_SIZE_MAX);
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return phx_diagnose(d, PHX_ERR_NO_MEMORY, start, "out of memory");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size_bytes);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);

    struct builder b = {.d = d};
    int rc = 0;
    while (rc == 0 && !b.is_done) {
        yaml_event_t event;
        if (yaml_parser_parse(&parser, &event)) {
            rc = take_event(&b, &event);
            yaml_event_delete(&event);
        } else {
            rc = parser_failed(&parser, text, size_bytes, d);
        }
    }
    yaml_parser_delete(&parser);
    for (uint32_t i = 0; i < PHX_YAML_DEPTH_MAX; i++)
        free(b.levels[i].key);
    if (rc == 0 && b.root == NULL)
        rc = phx_diagnose(d, PHX_ERR_INVALID, start, "the file is empty");
    if (rc != 0) {
        phx_yaml_free(b.root);
        return rc;
    }
    *root = b.root;
    return 0;
}

const struct phx_yaml *phx_yaml_get(const struct phx_yaml *map, const char *key)
{
    for (const struct phx_yaml *node = map->child; node != NULL; node = node->next)
        if (node->key != NULL && strcmp(node->key, key) == 0)
            return node;
    return NULL;
}

uint32_t phx_yaml_count(const struct phx_yaml *node)
{
    uint32_t count = 0;
    for (const struct phx_yaml *child = node->child; child != NULL; child = child->next)
        count++;
    return count;
}

const char *phx_yaml_kind_text(const struct phx_yaml *node)
{
    switch (node->kind) {
    case PHX_YAML_MAP:
        return "a map";
    case PHX_YAML_LIST:
        return "a list";
    default:
        return "a value";
    }
}
