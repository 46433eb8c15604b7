// tests/tidy/tidy.h: the checks that a compiler does not make: who includes whom, what the control
// plane may call, and sizes.
//
// Files are read once into lines of text and lines of code (comments and strings blanked, so that a
// rule about calls does not see a sentence). Rules print one line per offence:
// file:line: [rule] what was found and what holds instead.

#ifndef PHX_TESTS_TIDY_TIDY_H
#define PHX_TESTS_TIDY_TIDY_H

#include <stddef.h>

struct tidy_file {
    const char *path; // relative to the top, "engine/error.h"
    char *text;       // the file, each line ended by a zero byte
    char *code;       // the same places, comments and the insides of strings and characters blanked
    char **lines;     // into text
    char **code_lines;
    size_t line_count;
    size_t size_bytes;
    int ends_with_newline;
};

// 0, or -1 with errno set.
int tidy_file_read(struct tidy_file *file, const char *disk_path, const char *path);
void tidy_file_free(struct tidy_file *file);

// Whether `path` lies in directory `name` ("engine"), at any depth.
int tidy_in(const char *path, const char *name);
int tidy_ends_with(const char *path, const char *suffix);

__attribute__((format(printf, 4, 5))) void tidy_report(const struct tidy_file *file, size_t line,
                                                       const char *rule, const char *format, ...);
// Offences reported so far.
unsigned tidy_reported(void);

// The rules. Lines count from 1.
void tidy_check_text(const struct tidy_file *file);      // line length, tabs, blanks, file length
void tidy_check_includes(const struct tidy_file *file);  // who includes whom
void tidy_check_calls(const struct tidy_file *file);     // what the control plane may call
void tidy_check_functions(const struct tidy_file *file); // function length
void tidy_check_style(const struct tidy_file *file);     // guards, comments, typedefs

#endif
