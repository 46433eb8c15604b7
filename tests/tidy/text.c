// tests/tidy/text.c: a file as lines of text and lines of code.

#include "tests/tidy/tidy.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned reported;

void tidy_report(const struct tidy_file *file, size_t line, const char *rule, const char *format,
                 ...)
{
    va_list args;
    printf("%s:%zu: [%s] ", file->path, line, rule);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    printf("\n");
    reported++;
}

unsigned tidy_reported(void)
{
    return reported;
}

int tidy_in(const char *path, const char *name)
{
    size_t length = strlen(name);
    return strncmp(path, name, length) == 0 && path[length] == '/';
}

int tidy_ends_with(const char *path, const char *suffix)
{
    size_t path_length = strlen(path);
    size_t suffix_length = strlen(suffix);
    return path_length >= suffix_length && strcmp(path + path_length - suffix_length, suffix) == 0;
}

// Blanks comments and the insides of literals, in place; newlines stay. "#include "x"" keeps its
// path, because tidy_check_includes() reads text, not code.
static void code_blank(char *code, size_t size_bytes)
{
    enum { CODE = 1, LINE_COMMENT, BLOCK_COMMENT, STRING, CHARACTER } state = CODE;
    for (size_t i = 0; i < size_bytes; i++) {
        char c = code[i];
        char next = i + 1 < size_bytes ? code[i + 1] : 0;
        if (c == '\n') {
            if (state == LINE_COMMENT || state == STRING || state == CHARACTER)
                state = CODE;
            continue;
        }
        switch (state) {
        case CODE:
            if (c == '/' && next == '/') {
                state = LINE_COMMENT;
                code[i] = ' ';
            } else if (c == '/' && next == '*') {
                state = BLOCK_COMMENT;
                code[i] = code[i + 1] = ' ';
                i++;
            } else if (c == '"') {
                state = STRING;
            } else if (c == '\'' &&
                       (i == 0 || strchr("0123456789abcdefABCDEF", code[i - 1]) == NULL)) {
                state = CHARACTER;
            }
            break;
        case LINE_COMMENT:
            code[i] = ' ';
            break;
        case BLOCK_COMMENT:
            code[i] = ' ';
            if (c == '*' && next == '/') {
                code[++i] = ' ';
                state = CODE;
            }
            break;
        case STRING:
        case CHARACTER:
            if (c == (state == STRING ? '"' : '\'')) {
                state = CODE;
            } else {
                code[i] = ' ';
                if (c == '\\' && next != '\n' && next != 0)
                    code[++i] = ' ';
            }
            break;
        }
    }
}

static int whole_read(const char *disk_path, char **text, size_t *size_bytes)
{
    FILE *stream = fopen(disk_path, "rb");
    if (stream == NULL)
        return -1;
    size_t used = 0;
    size_t capacity = 1 << 16;
    char *buffer = (char *)malloc(capacity);
    while (buffer != NULL) {
        used += fread(buffer + used, 1, capacity - used - 1, stream);
        if (used + 1 < capacity)
            break;
        capacity *= 2;
        char *larger = (char *)realloc(buffer, capacity);
        if (larger == NULL)
            free(buffer);
        buffer = larger;
    }
    int failed = ferror(stream);
    (void)fclose(stream);
    if (buffer == NULL || failed) {
        free(buffer);
        errno = failed ? EIO : ENOMEM;
        return -1;
    }
    buffer[used] = 0;
    *text = buffer;
    *size_bytes = used;
    return 0;
}

// Cuts `text` into lines, in place.
static void lines_cut(char *text, size_t size_bytes, char **lines)
{
    size_t count = 0;
    char *begin = text;
    for (size_t i = 0; i < size_bytes; i++) {
        if (text[i] != '\n')
            continue;
        text[i] = 0;
        lines[count++] = begin;
        begin = text + i + 1;
    }
    if (begin < text + size_bytes)
        lines[count] = begin;
}

int tidy_file_read(struct tidy_file *file, const char *disk_path, const char *path)
{
    memset(file, 0, sizeof *file);
    file->path = path;
    if (whole_read(disk_path, &file->text, &file->size_bytes) != 0)
        return -1;
    for (size_t i = 0; i < file->size_bytes; i++)
        file->line_count += file->text[i] == '\n';
    file->ends_with_newline = file->size_bytes == 0 || file->text[file->size_bytes - 1] == '\n';
    file->line_count += !file->ends_with_newline;
    file->code = (char *)malloc(file->size_bytes + 1);
    file->lines = (char **)calloc(file->line_count + 1, sizeof *file->lines);
    file->code_lines = (char **)calloc(file->line_count + 1, sizeof *file->code_lines);
    if (file->code == NULL || file->lines == NULL || file->code_lines == NULL) {
        tidy_file_free(file);
        errno = ENOMEM;
        return -1;
    }
    memcpy(file->code, file->text, file->size_bytes + 1);
    code_blank(file->code, file->size_bytes);
    lines_cut(file->text, file->size_bytes, file->lines);
    lines_cut(file->code, file->size_bytes, file->code_lines);
    return 0;
}

void tidy_file_free(struct tidy_file *file)
{
    free(file->text);
    free(file->code);
    free(file->lines);
    free(file->code_lines);
    memset(file, 0, sizeof *file);
}
