// tests/tidy/tidy.c: walks a tree and applies the rules. tidy [TOP]; exit 0 clean, 1 offences, 2
// could not look.

#define _POSIX_C_SOURCE 200809L

#include "tests/tidy/tidy.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { PATH_SIZE = 4096 };

static const char *const directories[] = {"engine",   "kernels",   "sim",   "hw",
                                          "tools",    "tests",     "bench", "cmake",
                                          "examples", "scenarios", ".ci"};
static unsigned files_seen;

static int is_c(const char *path)
{
    return tidy_ends_with(path, ".c") || tidy_ends_with(path, ".h") ||
           tidy_ends_with(path, ".cu") || tidy_ends_with(path, ".cuh") ||
           tidy_ends_with(path, ".cpp");
}

static int is_text(const char *path)
{
    return tidy_ends_with(path, ".cmake") || tidy_ends_with(path, "CMakeLists.txt") ||
           tidy_ends_with(path, ".yaml") || tidy_ends_with(path, ".sh") ||
           tidy_ends_with(path, "/run") || tidy_ends_with(path, "/run-sanitized") ||
           strcmp(path, "phx") == 0;
}

static int file_check(const char *top, const char *path)
{
    char disk[PATH_SIZE];
    struct tidy_file file;
    if (!is_c(path) && !is_text(path))
        return 0;
    (void)snprintf(disk, sizeof disk, "%s/%s", top, path);
    if (tidy_file_read(&file, disk, path) != 0) {
        fprintf(stderr, "tidy: %s: %s\n", disk, strerror(errno));
        return -1;
    }
    files_seen++;
    tidy_check_text(&file);
    if (is_c(path)) {
        tidy_check_includes(&file);
        tidy_check_calls(&file);
        tidy_check_functions(&file);
        tidy_check_style(&file);
    }
    tidy_file_free(&file);
    return 0;
}

// Visits in name order, so that two runs print the same.
static int directory_check(const char *top, const char *path)
{
    char disk[PATH_SIZE];
    struct dirent **entries = NULL;
    (void)snprintf(disk, sizeof disk, "%s/%s", top, path);
    int count = scandir(disk, &entries, NULL, alphasort);
    if (count < 0)
        return errno == ENOENT ? 0 : -1;
    int result = 0;
    for (int i = 0; i < count; i++) {
        char inner[PATH_SIZE];
        struct stat status;
        const char *name = entries[i]->d_name;
        int length = snprintf(inner, sizeof inner, "%s/%s", path, name);
        int disk_length = snprintf(disk, sizeof disk, "%s/%s", top, inner);
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0) {
            if (length < 0 || length >= PATH_SIZE || disk_length < 0 || disk_length >= PATH_SIZE) {
                fprintf(stderr, "tidy: a path under %s/%s is too long\n", top, path);
                result = -1;
            } else if (lstat(disk, &status) != 0) {
                // A file that went away while we looked is an editor's.
                result = errno == ENOENT ? result : -1;
            } else if (S_ISDIR(status.st_mode)) {
                result |= directory_check(top, inner);
            } else if (S_ISREG(status.st_mode)) {
                result |= file_check(top, inner);
            }
        }
        free(entries[i]);
    }
    free(entries);
    return result;
}

int main(int argc, char **argv)
{
    const char *top = argc > 1 ? argv[1] : ".";
    int failed = 0;
    if (argc > 2 || (argc == 2 && argv[1][0] == '-')) {
        fprintf(stderr, "usage: tidy [TOP]\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++)
        failed |= directory_check(top, directories[i]) != 0;
    static const char *const files[] = {"CMakeLists.txt", "phx"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char disk[PATH_SIZE];
        struct stat status;
        (void)snprintf(disk, sizeof disk, "%s/%s", top, files[i]);
        if (stat(disk, &status) == 0)
            failed |= file_check(top, files[i]) != 0;
    }
    if (failed || files_seen == 0) {
        fprintf(stderr, "tidy: could not read everything under %s (%u files)\n", top, files_seen);
        return 2;
    }
    printf("tidy: %u files, %u offences\n", files_seen, tidy_reported());
    return tidy_reported() > 0 ? 1 : 0;
}
