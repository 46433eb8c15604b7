// tests/test_scenario_schema.c: docs/scenario.schema.json has the keys, words and bounds that the
// reader has, no more and no fewer.

#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "tools/scenario_parts.h"

static cJSON *schema_read(void)
{
    FILE *file = fopen("docs/scenario.schema.json", "rb");
    CHECK(file != NULL);
    char *text = calloc(1, 1 << 20);
    CHECK(text != NULL);
    CHECK(fread(text, 1, (1 << 20) - 1, file) > 0);
    (void)fclose(file);
    cJSON *schema = cJSON_Parse(text);
    CHECK_MSG(schema != NULL, "not JSON at: %.60s", cJSON_GetErrorPtr());
    free(text);
    return schema;
}

static bool is_required(const cJSON *object, const char *key)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(object, "required"))
    {
        if (strcmp(item->valuestring, key) == 0)
            return true;
    }
    return false;
}

static void bound_check(const cJSON *property, const char *name, const struct phx_field *field,
                        const char *what)
{
    const cJSON *bound = cJSON_GetObjectItemCaseSensitive(property, name);
    CHECK_MSG(cJSON_IsNumber(bound), "%s.%s has no %s", what, field->name, name);
    double unit = 1;
    for (uint32_t i = 0; i < field->digits; i++)
        unit *= 10;
    double expected = (double)(strcmp(name, "minimum") == 0 ? field->min : field->max) / unit;
    CHECK_MSG(bound->valuedouble >= expected && bound->valuedouble <= expected,
              "%s.%s: %s is %.17g, and %.17g to the reader", what, field->name, name,
              bound->valuedouble, expected);
}

static void choices_check(const cJSON *property, const struct phx_field *field, const char *what)
{
    const cJSON *words = cJSON_GetObjectItemCaseSensitive(property, "enum");
    int count = 0;
    for (const struct phx_choice *c = field->choices; c->name != NULL; c++, count++) {
        const cJSON *word = cJSON_GetArrayItem(words, count);
        CHECK_MSG(word != NULL && strcmp(word->valuestring, c->name) == 0,
                  "%s.%s lacks the word %s", what, field->name, c->name);
    }
    CHECK_MSG(cJSON_GetArraySize(words) == count, "%s.%s has words that the reader has not", what,
              field->name);
}

static void table_check(const cJSON *schema, const struct phx_field *fields, const char *what)
{
    const cJSON *object = schema;
    if (strcmp(what, "scenario") != 0)
        object = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(schema, "$defs"),
                                                  what);
    CHECK_MSG(object != NULL, "the schema has no '%s'", what);
    CHECK_MSG(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(object, "additionalProperties")),
              "'%s' takes unknown keys", what);
    const cJSON *properties = cJSON_GetObjectItemCaseSensitive(object, "properties");
    int count = 0;
    for (const struct phx_field *f = fields; f->name != NULL; f++, count++) {
        const cJSON *property = cJSON_GetObjectItemCaseSensitive(properties, f->name);
        CHECK_MSG(property != NULL, "'%s' lacks the key '%s'", what, f->name);
        CHECK_MSG(is_required(object, f->name) == f->is_required, "%s.%s: required?", what,
                  f->name);
        if (f->type == PHX_FIELD_U32 || f->type == PHX_FIELD_DECIMAL) {
            bound_check(property, "minimum", f, what);
            bound_check(property, "maximum", f, what);
        } else if (f->type == PHX_FIELD_CHOICE) {
            choices_check(property, f, what);
        }
    }
    const cJSON *property;
    cJSON_ArrayForEach(property, properties)
    {
        const struct phx_field *f = fields;
        while (f->name != NULL && strcmp(f->name, property->string) != 0)
            f++;
        CHECK_MSG(f->name != NULL, "'%s' has the key '%s', which the reader has not", what,
                  property->string);
    }
    CHECK_EQ(cJSON_GetArraySize(properties), count);
}

TEST(schema_has_the_keys_of_the_reader)
{
    cJSON *schema = schema_read();
    const char *what = NULL;
    const struct phx_field *fields;
    uint32_t tables = 2;
    for (uint32_t i = 0; (fields = phx_scenario_top_table(i, &what)) != NULL; i++, tables++)
        table_check(schema, fields, what);
    for (uint32_t i = 0; (fields = phx_scenario_workload_table(i, &what)) != NULL; i++, tables++)
        table_check(schema, fields, what);
    for (uint32_t i = 0; (fields = phx_scenario_fault_table(i, &what)) != NULL; i++, tables++)
        table_check(schema, fields, what);
    table_check(schema, phx_scenario_expect_table(), "expect");
    table_check(schema, phx_scenario_run_table(), "run");
    // 'rank' is no map; everything else in the schema is a table of the reader's.
    const cJSON *defs = cJSON_GetObjectItemCaseSensitive(schema, "$defs");
    CHECK_EQ(cJSON_GetArraySize(defs), tables); // less the root, and 'rank' more
    cJSON_Delete(schema);
}
