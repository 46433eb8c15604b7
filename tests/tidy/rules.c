// tests/tidy/rules.c: the rules, each a table where it can be one.

#include "tests/tidy/tidy.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum {
    COLUMNS_MAX = 100,
    FILE_LINES_MAX = 900,
    FUNCTION_LINES_MAX = 70,
    FUNCTION_LINES_MAX_KERNELS = 150
};

void tidy_check_text(const struct tidy_file *file)
{
    for (size_t i = 0; i < file->line_count; i++) {
        const char *line = file->lines[i];
        size_t length = strlen(line);
        size_t columns = 0;
        for (size_t j = 0; j < length; j++)
            columns += ((unsigned char)line[j] & 0xC0) != 0x80; // not a UTF-8 continuation
        // A scenario keeps a cluster or a fault on one line, however long.
        if (columns > COLUMNS_MAX && !tidy_ends_with(file->path, ".yaml"))
            tidy_report(file, i + 1, "columns", "%zu columns; at most %d", columns, COLUMNS_MAX);
        if (strchr(line, '\t') != NULL)
            tidy_report(file, i + 1, "tab", "a tab; indent with 4 spaces");
        if (length > 0 && (line[length - 1] == ' ' || line[length - 1] == '\r'))
            tidy_report(file, i + 1, "trailing", "a blank at the end of the line");
    }
    if (file->line_count > FILE_LINES_MAX)
        tidy_report(file, file->line_count, "file-length", "%zu lines; at most %d",
                    file->line_count, FILE_LINES_MAX);
    if (!file->ends_with_newline)
        tidy_report(file, file->line_count, "newline", "no newline at the end of the file");
}

// What a directory may include from this repository, and the system headers it may not. An entry
// that ends in '/' stands for the directory.
struct include_rule {
    const char *directory;
    const char *allowed[12];
    const char *refused_system[8];
};
static const struct include_rule include_rules[] = {
    // kernels.h is the one door from the control plane to the data plane.
    {"engine",
     {"engine/", "kernels/layout.h", "kernels/macros.h", "kernels/kernels.h",
      "kernels/device_environment.h"},
     {"time.h", "pthread.h", "threads.h", "unistd.h", "sys/", "signal.h"}},
    {"kernels",
     {"kernels/", "engine/limits.h", "engine/transport.h", "engine/executor.h", "engine/error.h",
      "engine/handle.h", "engine/bug.h"},
     {"time.h", "unistd.h", "sys/", "signal.h"}},
    {"sim", {"sim/", "engine/", "kernels/"}, {NULL}},
    {"hw", {"hw/", "engine/", "kernels/"}, {NULL}},
    // Tests and programs may include everything, but only the runner knows the test library.
    {"tests", {"tests/", "engine/", "kernels/", "sim/", "hw/", "tools/"}, {"criterion/"}},
};

static int list_has(const char *const *list, size_t capacity, const char *path)
{
    for (size_t i = 0; i < capacity && list[i] != NULL; i++) {
        size_t length = strlen(list[i]);
        if (list[i][length - 1] == '/' ? strncmp(list[i], path, length) == 0
                                       : strcmp(list[i], path) == 0)
            return 1;
    }
    return 0;
}

// Finds the path of an #include line; 1 for "path", 2 for <path>, 0 for other lines.
static int include_parse(const char *line, char *path, size_t path_size)
{
    while (isspace((unsigned char)*line))
        line++;
    if (*line != '#')
        return 0;
    line++;
    while (isspace((unsigned char)*line))
        line++;
    if (strncmp(line, "include", 7) != 0)
        return 0;
    line += 7;
    while (isspace((unsigned char)*line))
        line++;
    char close = *line == '"' ? '"' : '>';
    if (*line != '"' && *line != '<')
        return 0;
    const char *end = strchr(line + 1, close);
    if (end == NULL || (size_t)(end - line - 1) >= path_size)
        return 0;
    memcpy(path, line + 1, (size_t)(end - line - 1));
    path[end - line - 1] = 0;
    return close == '"' ? 1 : 2;
}

void tidy_check_includes(const struct tidy_file *file)
{
    char path[256];
    for (size_t r = 0; r < sizeof include_rules / sizeof include_rules[0]; r++) {
        const struct include_rule *rule = &include_rules[r];
        if (!tidy_in(file->path, rule->directory))
            continue;
        for (size_t i = 0; i < file->line_count; i++) {
            int kind = include_parse(file->lines[i], path, sizeof path);
            if (kind == 1 &&
                !list_has(rule->allowed, sizeof rule->allowed / sizeof rule->allowed[0], path))
                tidy_report(file, i + 1, "include", "%s/ may not include \"%s\"", rule->directory,
                            path);
            if (kind == 2 &&
                list_has(rule->refused_system,
                         sizeof rule->refused_system / sizeof rule->refused_system[0], path) &&
                strcmp(file->path, "tests/runner_criterion.c") != 0 &&
                strcmp(file->path, "tests/test.h") != 0)
                tidy_report(file, i + 1, "include", "%s/ may not include <%s>", rule->directory,
                            path);
        }
    }
    // Of the rest, engine/, kernels/, sim/ and hw/ have their tables above.
    if (!tidy_in(file->path, "tools") && !tidy_in(file->path, "bench") &&
        !tidy_in(file->path, "examples"))
        return;
    for (size_t i = 0; i < file->line_count; i++) {
        if (include_parse(file->lines[i], path, sizeof path) == 1 &&
            strcmp(path, "engine/transport_ops.h") == 0)
            tidy_report(file, i + 1, "include", "only transports include \"%s\"", path);
    }
}

// Functions that a directory may not call, but for the files that `except` names.
struct call_rule {
    const char *directory;
    const char *name;
    const char *except[3];
    const char *why;
};
#define NO_CLOCK "time is passed in"
#define NO_CHANCE "chance is seeded and passed in"
#define NO_HEAP "nothing allocates after open; memory comes from struct phx_allocator"
#define NO_OUTPUT "errors are returned, logs go through the engine's own"
static const struct call_rule call_rules[] = {
    {"engine", "malloc", {"engine/group.c"}, NO_HEAP},
    {"engine", "calloc", {"engine/group.c"}, NO_HEAP},
    {"engine", "realloc", {NULL}, NO_HEAP},
    {"engine", "aligned_alloc", {"engine/group.c"}, NO_HEAP},
    {"engine", "posix_memalign", {"engine/group.c"}, NO_HEAP},
    {"engine", "free", {"engine/group.c"}, NO_HEAP},
    {"engine", "strdup", {NULL}, NO_HEAP},
    {"engine", "printf", {NULL}, NO_OUTPUT},
    {"engine", "puts", {NULL}, NO_OUTPUT},
    {"engine", "rand", {NULL}, NO_CHANCE},
    {"engine", "random", {NULL}, NO_CHANCE},
    {"engine", "time", {NULL}, NO_CLOCK},
    {"engine", "clock", {NULL}, NO_CLOCK},
    {"engine", "clock_gettime", {NULL}, NO_CLOCK},
    {"engine", "gettimeofday", {NULL}, NO_CLOCK},
    {"engine", "usleep", {NULL}, "nothing waits"},
    {"engine", "nanosleep", {NULL}, "nothing waits"},
    {"kernels", "malloc", {NULL}, "bodies do not allocate"},
    {"kernels", "calloc", {NULL}, "bodies do not allocate"},
    {"kernels", "rand", {NULL}, NO_CHANCE},
    {"kernels", "clock_gettime", {NULL}, NO_CLOCK},
    {"sim", "time", {NULL}, "one seed gives one run"},
    {"sim", "clock", {NULL}, "one seed gives one run"},
    {"sim", "clock_gettime", {NULL}, "one seed gives one run"},
    {"sim", "gettimeofday", {NULL}, "one seed gives one run"},
    {"sim", "rand", {NULL}, "one seed gives one run"},
    {"sim", "random", {NULL}, "one seed gives one run"},
    {"sim", "getrandom", {NULL}, "one seed gives one run"},
};

static int is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

// Whether the line calls `name`: the whole word, not a member, before an opening bracket.
static int line_calls(const char *line, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = strstr(line, name); at != NULL; at = strstr(at + 1, name)) {
        if (at > line && (is_word(at[-1]) || at[-1] == '.' || at[-1] == '*'))
            continue;
        if (at > line + 1 && at[-1] == '>' && at[-2] == '-')
            continue;
        const char *after = at + length;
        while (*after == ' ')
            after++;
        if (*after == '(')
            return 1;
    }
    return 0;
}

void tidy_check_calls(const struct tidy_file *file)
{
    for (size_t r = 0; r < sizeof call_rules / sizeof call_rules[0]; r++) {
        const struct call_rule *rule = &call_rules[r];
        if (!tidy_in(file->path, rule->directory) ||
            list_has(rule->except, sizeof rule->except / sizeof rule->except[0], file->path))
            continue;
        for (size_t i = 0; i < file->line_count; i++) {
            if (line_calls(file->code_lines[i], rule->name))
                tidy_report(file, i + 1, "call", "%s/ may not call %s(): %s", rule->directory,
                            rule->name, rule->why);
        }
    }
}

// A function's body stands between braces in column 0, as the format puts them.
void tidy_check_functions(const struct tidy_file *file)
{
    int limit = tidy_in(file->path, "kernels") ? FUNCTION_LINES_MAX_KERNELS : FUNCTION_LINES_MAX;
    size_t begin = 0; // line of the opening brace, from 1; 0 outside
    for (size_t i = 0; i < file->line_count; i++) {
        const char *line = file->code_lines[i];
        if (line[0] == '{') {
            begin = i + 1;
        } else if (line[0] == '}' && begin != 0) {
            size_t length = i - begin;
            if (length > (size_t)limit)
                tidy_report(file, begin, "function-length", "a function of %zu lines; at most %d",
                            length, limit);
            begin = 0;
        }
    }
}

// "kernels/device_c.h" -> "PHX_KERNELS_DEVICE_C_H"
static void guard_name(const char *path, char *guard, size_t guard_size)
{
    size_t used = (size_t)snprintf(guard, guard_size, "PHX_");
    for (; *path != 0 && used + 1 < guard_size; path++)
        guard[used++] = is_word(*path) ? (char)toupper((unsigned char)*path) : '_';
    guard[used] = 0;
}

void tidy_check_style(const struct tidy_file *file)
{
    char guard[256];
    int guarded = 0;
    guard_name(file->path, guard, sizeof guard);
    if (file->line_count > 0 && strncmp(file->lines[0], "//", 2) != 0)
        tidy_report(file, 1, "opening", "a file opens with a // comment that says what it is for");
    for (size_t i = 0; i < file->line_count; i++) {
        const char *code = file->code_lines[i];
        if (strncmp(code, "#define ", 8) == 0 && strcmp(code + 8, guard) == 0)
            guarded = 1;
        const char *old = strstr(file->lines[i], "/*");
        if (old != NULL && code[old - file->lines[i]] == ' ' && strncmp(code, "#", 1) != 0 &&
            strstr(file->lines[i], "//") == NULL && strchr(file->lines[i], '"') == NULL)
            tidy_report(file, i + 1, "comment", "comments are // comments");
        if (strncmp(code, "typedef struct", 14) == 0 || strncmp(code, "typedef enum", 12) == 0 ||
            strncmp(code, "typedef union", 13) == 0)
            tidy_report(file, i + 1, "typedef", "structs, enums and unions have no typedef names");
    }
    if (tidy_ends_with(file->path, ".h") && !guarded)
        tidy_report(file, 1, "guard", "a header is guarded by #define %s", guard);
}
