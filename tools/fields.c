// tools/fields.c: one reader per type, and the sentences that go with each.

#include "tools/fields.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 31u  // longer words are near nothing
#define KNOWN_MAX 64u // words of one table
#define LIST_TEXT_MAX 160u

static int fail_at(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                   const char *must)
{
    if (node->kind != PHX_YAML_SCALAR)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place, "'%s' is %s; it must be %s",
                            what, phx_yaml_kind_text(node), must);
    if (node->text[0] == '\0')
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                            "'%s' has no value; it must be %s", what, must);
    return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place, "'%s' is '%s'; it must be %s",
                        what, phx_excerpt_make(node->text).text, must);
}

// --- nearest words ------------------------------------------------------------------------------

// Edit distance with transpositions (optimal string alignment), case aside.
static uint32_t distance_of(const char *a, const char *b)
{
    size_t n = strlen(a);
    size_t m = strlen(b);
    if (n > WORD_MAX || m > WORD_MAX)
        return UINT32_MAX;
    uint32_t rows[3][WORD_MAX + 1];
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = (uint32_t)j;
    for (size_t i = 1; i <= n; i++) {
        uint32_t *row = rows[i % 3];
        const uint32_t *up = rows[(i + 2) % 3];
        const uint32_t *up_twice = rows[(i + 1) % 3];
        row[0] = (uint32_t)i;
        for (size_t j = 1; j <= m; j++) {
            int x = tolower((unsigned char)a[i - 1]);
            int y = tolower((unsigned char)b[j - 1]);
            uint32_t best = up[j - 1] + (x != y);
            if (up[j] + 1 < best)
                best = up[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                tolower((unsigned char)a[i - 2]) == y && up_twice[j - 2] + 1 < best)
                best = up_twice[j - 2] + 1;
            row[j] = best;
        }
    }
    return rows[n % 3][m];
}

const char *phx_nearest(const char *word, const char *const *known, uint32_t count)
{
    const char *nearest = NULL;
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t distance = distance_of(word, known[i]);
        // A third of the letters may be wrong: 'at' is not 'to', but 'zipff' is 'zipf'.
        if (distance < best && distance != UINT32_MAX && 3 * distance <= strlen(known[i]) + 2) {
            best = distance;
            nearest = known[i];
        }
    }
    return nearest;
}

static void list_words(char *text, const char *const *words, uint32_t count)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count && used < LIST_TEXT_MAX; i++) {
        int n = snprintf(text + used, LIST_TEXT_MAX - used, "%s%s", i == 0 ? "" : ", ", words[i]);
        used += (size_t)n;
    }
}

// --- values -------------------------------------------------------------------------------------

int phx_node_is(struct phx_reader *r, const struct phx_yaml *node, enum phx_yaml_kind kind,
                const char *what)
{
    if (node->kind == kind)
        return 0;
    return fail_at(r, node, what,
                   kind == PHX_YAML_MAP    ? "a map of 'key: value' lines"
                   : kind == PHX_YAML_LIST ? "a list"
                                           : "one value");
}

static void format_decimal(char text[32], uint64_t value, uint32_t digits)
{
    uint64_t unit = 1;
    for (uint32_t i = 0; i < digits; i++)
        unit *= 10;
    int used = snprintf(text, 32, "%" PRIu64, value / unit);
    if (value % unit == 0)
        return;
    (void)snprintf(text + used, 32 - (size_t)used, ".%0*" PRIu64, (int)digits, value % unit);
    for (size_t end = strlen(text) - 1; text[end] == '0'; end--)
        text[end] = '\0';
}

// Plain decimal text to a number times 10^digits; false: not such a text, or beyond 64 bits.
static bool parse_decimal(const char *text, uint32_t digits, uint64_t *value)
{
    uint64_t number = 0;
    uint32_t decimals = 0;
    bool has_point = false;
    bool has_digit = false;
    for (; *text != '\0'; text++) {
        if (*text == '.' && digits > 0 && !has_point && has_digit) {
            has_point = true;
            continue;
        }
        if (*text < '0' || *text > '9' || (has_point && ++decimals > digits))
            return false;
        if (__builtin_mul_overflow(number, 10u, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number))
            return false;
        has_digit = true;
    }
    if (!has_digit || (has_point && decimals == 0))
        return false;
    for (; decimals < digits; decimals++)
        if (__builtin_mul_overflow(number, 10u, &number))
            return false;
    *value = number;
    return true;
}

int phx_node_decimal(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                     uint32_t digits, uint64_t min, uint64_t max, uint64_t *value)
{
    char low[32];
    char high[32];
    char must[128];
    format_decimal(low, min, digits);
    format_decimal(high, max, digits);
    (void)snprintf(must, sizeof must,
                   digits == 0 ? "a whole number, %s to %s"
                               : "a number, %s to %s, with at most %u decimals",
                   low, high, digits);
    uint64_t number;
    if (node->kind != PHX_YAML_SCALAR || node->is_quoted ||
        !parse_decimal(node->text, digits, &number) || number < min || number > max)
        return fail_at(r, node, what, must);
    *value = number;
    return 0;
}

int phx_node_number(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                    uint64_t min, uint64_t max, uint64_t *value)
{
    return phx_node_decimal(r, node, what, 0, min, max, value);
}

int phx_node_choice(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                    const struct phx_choice *choices, const struct phx_choice **chosen)
{
    const char *names[KNOWN_MAX];
    uint32_t count = 0;
    for (; choices[count].name != NULL && count < KNOWN_MAX; count++)
        names[count] = choices[count].name;
    if (node->kind == PHX_YAML_SCALAR) {
        for (uint32_t i = 0; i < count; i++) {
            if (strcmp(node->text, names[i]) == 0) {
                *chosen = &choices[i];
                return 0;
            }
        }
    }
    char list[LIST_TEXT_MAX];
    char must[LIST_TEXT_MAX + 64];
    list_words(list, names, count);
    const char *nearest =
        node->kind == PHX_YAML_SCALAR ? phx_nearest(node->text, names, count) : NULL;
    if (nearest != NULL)
        (void)snprintf(must, sizeof must, "one of %s; did you mean '%s'?", list, nearest);
    else
        (void)snprintf(must, sizeof must, "one of %s", list);
    return fail_at(r, node, what, must);
}

static int read_bool(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                     bool *value)
{
    static const struct phx_choice choices[] = {{"true", 1}, {"false", 0}, {NULL, 0}};
    const struct phx_choice *chosen;
    int rc = phx_node_choice(r, node, what, choices, &chosen);
    if (rc == 0)
        *value = chosen->value != 0;
    return rc;
}

static int read_text(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                     uint64_t max, char *target)
{
    char must[64];
    (void)snprintf(must, sizeof must, "a text of 1 to %" PRIu64 " bytes", max);
    if (node->kind != PHX_YAML_SCALAR || node->text[0] == '\0' || strlen(node->text) > max)
        return fail_at(r, node, what, must);
    memcpy(target, node->text, strlen(node->text) + 1);
    return 0;
}

static int field_read(struct phx_reader *r, const struct phx_yaml *node,
                      const struct phx_field *field, void *base)
{
    void *target = (char *)base + field->offset;
    const struct phx_choice *chosen = NULL;
    uint64_t number = 0;
    int rc;
    switch (field->type) {
    case PHX_FIELD_U32:
        rc = phx_node_number(r, node, field->name, field->min, field->max, &number);
        if (rc == 0 && field->multiple != 0 && number % field->multiple != 0)
            rc = phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->place,
                              "'%s' is %" PRIu64 "; it must be a multiple of %u", field->name,
                              number, field->multiple);
        if (rc == 0)
            *(uint32_t *)target = (uint32_t)number;
        return rc;
    case PHX_FIELD_DECIMAL:
        return phx_node_decimal(r, node, field->name, field->digits, field->min, field->max,
                                (uint64_t *)target);
    case PHX_FIELD_BOOL:
        return read_bool(r, node, field->name, (bool *)target);
    case PHX_FIELD_CHOICE:
        rc = phx_node_choice(r, node, field->name, field->choices, &chosen);
        if (rc == 0)
            *(uint32_t *)target = chosen->value;
        return rc;
    case PHX_FIELD_TEXT:
        return read_text(r, node, field->name, field->max, (char *)target);
    case PHX_FIELD_CUSTOM:
        return field->read(r, node, target);
    }
    return phx_diagnose(r->diagnosis, PHX_ERR_UNSUPPORTED, node->place,
                        "'%s' has a type that no reader knows", field->name);
}

// --- maps ---------------------------------------------------------------------------------------

static int key_unknown(struct phx_reader *r, const struct phx_yaml *node, const char *what,
                       const struct phx_field *fields)
{
    const char *names[KNOWN_MAX];
    uint32_t count = 0;
    for (; fields[count].name != NULL && count < KNOWN_MAX; count++)
        names[count] = fields[count].name;
    struct phx_excerpt key = phx_excerpt_make(node->key);
    const char *nearest = phx_nearest(node->key, names, count);
    if (nearest != NULL)
        return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->key_place,
                            "'%s' is not a key of '%s'; did you mean '%s'?", key.text, what,
                            nearest);
    char list[LIST_TEXT_MAX];
    list_words(list, names, count);
    return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, node->key_place,
                        "'%s' is not a key of '%s'; its keys are %s", key.text, what, list);
}

int phx_fields_read(struct phx_reader *r, const struct phx_yaml *map, const char *what,
                    const struct phx_field *fields, void *target, uint64_t *present)
{
    int rc = phx_node_is(r, map, PHX_YAML_MAP, what);
    if (rc != 0)
        return rc;
    for (const struct phx_yaml *node = map->child; node != NULL; node = node->next) {
        const struct phx_field *field = fields;
        while (field->name != NULL && strcmp(field->name, node->key) != 0)
            field++;
        if (field->name == NULL)
            return key_unknown(r, node, what, fields);
    }
    uint64_t found = 0;
    for (uint32_t i = 0; fields[i].name != NULL; i++) {
        const struct phx_yaml *node = phx_yaml_get(map, fields[i].name);
        if (node == NULL && fields[i].is_required)
            return phx_diagnose(r->diagnosis, PHX_ERR_INVALID, map->place,
                                "'%s' lacks the key '%s'", what, fields[i].name);
        if (node == NULL)
            continue;
        found |= UINT64_C(1) << i;
        rc = field_read(r, node, &fields[i], target);
        if (rc != 0)
            return rc;
    }
    if (present != NULL)
        *present = found;
    return 0;
}
