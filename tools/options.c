// tools/options.c: option values, words for a shell, files that could not be read.

#include "tools/options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/error.h"
#include "tools/command.h"

int phx_parse_u64(const char *text, uint64_t *value)
{
    if (text[0] < '0' || text[0] > '9') // strtoull would take signs and blanks
        return -1;
    int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
    if (base == 16 && text[2] == '\0')
        return -1;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, base);
    if (errno != 0 || *end != '\0')
        return -1;
    *value = number;
    return 0;
}

uint64_t phx_number_or_usage(struct argp_state *state, const char *option, const char *text,
                             uint64_t min, uint64_t max)
{
    uint64_t value = 0;
    if (phx_parse_u64(text, &value) != 0 || value < min || value > max)
        argp_error(state, "%s %s: must be a whole number, %" PRIu64 " to %" PRIu64, option, text,
                   min, max); // does not return
    return value;
}

enum phx_tie phx_tie_or_usage(struct argp_state *state, const char *text)
{
    static const struct {
        const char *name;
        enum phx_tie tie;
    } ties[] = {{"fifo", PHX_TIE_FIFO}, {"random", PHX_TIE_RANDOM}, {"pct", PHX_TIE_PCT}};
    for (size_t i = 0; i < sizeof ties / sizeof ties[0]; i++)
        if (strcmp(text, ties[i].name) == 0)
            return ties[i].tie;
    argp_error(state, "--tie %s: must be fifo, random or pct", text);
    return PHX_TIE_FIFO;
}

void phx_print_word(FILE *out, const char *word)
{
    const char *plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:=@%";
    if (word[0] != '\0' && strspn(word, plain) == strlen(word)) {
        (void)fputs(word, out);
        return;
    }
    (void)fputc('\'', out);
    for (; *word != '\0'; word++) {
        if (*word == '\'')
            (void)fputs("'\\''", out);
        else
            (void)fputc(*word, out);
    }
    (void)fputc('\'', out);
}

int phx_refuse_file(const char *path, const struct phx_diagnosis *d, int rc)
{
    if (d->place.line > 0)
        (void)fprintf(stderr, "%s:%u:%u: %s\n", path, d->place.line, d->place.column,
                      d->message.text);
    else
        (void)fprintf(stderr, "%s: %s\n", path, d->message.text);
    return rc == PHX_ERR_NO_MEMORY ? PHX_EXIT_INTERNAL : PHX_EXIT_USAGE;
}
