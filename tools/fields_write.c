// tools/fields_write.c: writes maps by the tables that read them.

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tools/fields.h"

void phx_decimal_write(FILE *out, uint64_t value, uint32_t digits)
{
    uint64_t unit = 1;
    for (uint32_t i = 0; i < digits; i++)
        unit *= 10;
    (void)fprintf(out, "%" PRIu64, value / unit);
    uint64_t rest = value % unit;
    for (; rest != 0 && rest % 10 == 0; rest /= 10)
        digits--;
    if (rest != 0)
        (void)fprintf(out, ".%0*" PRIu64, (int)digits, rest);
}

// --- texts --------------------------------------------------------------------------------------

static bool is_plain(const char *text)
{
    size_t size = strlen(text);
    if (size == 0 || !isalnum((unsigned char)text[0]) || text[size - 1] == ' ')
        return false;
    for (size_t i = 0; i < size; i++)
        if (!isalnum((unsigned char)text[i]) && strchr(" ._-", text[i]) == NULL)
            return false;
    return true;
}

// The code point that begins at text, and its size; a byte that begins none stands for itself.
static uint32_t code_point(const char *text, uint32_t *size_bytes)
{
    const unsigned char *t = (const unsigned char *)text;
    uint32_t size = t[0] < 0x80 ? 1 : t[0] >= 0xF0 ? 4 : t[0] >= 0xE0 ? 3 : t[0] >= 0xC0 ? 2 : 1;
    uint32_t code = size == 1 ? t[0] : t[0] & (0xFFu >> (size + 1));
    *size_bytes = size;
    for (uint32_t i = 1; i < size; i++) {
        if ((t[i] & 0xC0) != 0x80) {
            *size_bytes = 1;
            return t[0];
        }
        code = code << 6 | (t[i] & 0x3Fu);
    }
    return code;
}

void phx_text_write(FILE *out, const char *text)
{
    if (is_plain(text)) {
        (void)fputs(text, out);
        return;
    }
    (void)fputc('"', out);
    uint32_t size;
    for (; *text != '\0'; text += size) {
        uint32_t code = code_point(text, &size);
        if (code == '"' || code == '\\')
            (void)fprintf(out, "\\%c", (int)code);
        else if (code < 0x20 || (code >= 0x7F && code < 0xA0))
            (void)fprintf(out, "\\x%02x", code);
        else if (code == 0x2028 || code == 0x2029 || code == 0xFEFF)
            (void)fprintf(out, "\\u%04x", code);
        else
            (void)fwrite(text, 1, size, out);
    }
    (void)fputc('"', out);
}

// --- fields -------------------------------------------------------------------------------------

static const char *choice_name(const struct phx_choice *choices, uint32_t value)
{
    while (choices->name != NULL && choices->value != value)
        choices++;
    return choices->name != NULL ? choices->name : "?"; // no scenario has it; no reader takes it
}

static void value_write(struct phx_writer *w, const struct phx_field *field, const void *base)
{
    const void *target = (const char *)base + field->offset;
    switch (field->type) {
    case PHX_FIELD_U32:
        (void)fprintf(w->out, "%u", *(const uint32_t *)target);
        break;
    case PHX_FIELD_DECIMAL:
        phx_decimal_write(w->out, *(const uint64_t *)target, field->digits);
        break;
    case PHX_FIELD_BOOL:
        (void)fputs(*(const bool *)target ? "true" : "false", w->out);
        break;
    case PHX_FIELD_CHOICE:
        (void)fputs(choice_name(field->choices, *(const uint32_t *)target), w->out);
        break;
    case PHX_FIELD_TEXT:
        phx_text_write(w->out, target);
        break;
    case PHX_FIELD_CUSTOM:
        field->write(w, target);
        break;
    }
}

// NULL: no memory.
static char *value_text(struct phx_writer *w, const struct phx_field *field, const void *base)
{
    char *text = NULL;
    size_t size = 0;
    struct phx_writer inner = {.out = open_memstream(&text, &size), .context = w->context};
    if (inner.out != NULL) {
        value_write(&inner, field, base);
        bool is_ok = !ferror(inner.out) && !inner.failed;
        if (fclose(inner.out) == 0 && is_ok)
            return text;
        free(text);
    }
    w->failed = true;
    return NULL;
}

uint32_t phx_fields_write(struct phx_writer *w, const struct phx_field *fields, const void *target,
                          const void *standard, const char *between)
{
    uint32_t written = 0;
    for (; fields->name != NULL && !w->failed; fields++) {
        if (fields->type == PHX_FIELD_CUSTOM && fields->write == NULL)
            continue; // the caller's
        char *text = value_text(w, fields, target);
        char *other = fields->is_required ? NULL : value_text(w, fields, standard);
        if (text != NULL && (other == NULL || strcmp(text, other) != 0) && !w->failed)
            (void)fprintf(w->out, "%s%s: %s", written++ == 0 ? "" : between, fields->name, text);
        free(text);
        free(other);
    }
    return written;
}
