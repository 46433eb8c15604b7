// tools/directory.c: asking for a directory, and making it.

#define _POSIX_C_SOURCE 200809L

#include "tools/directory.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool copied(char copy[PHX_DIRECTORY_LENGTH_MAX + 1], const char *path)
{
    size_t length = strlen(path);
    if (length == 0 || length > PHX_DIRECTORY_LENGTH_MAX)
        return false;
    memcpy(copy, path, length + 1);
    while (length > 1 && copy[length - 1] == '/')
        copy[--length] = '\0';
    return true;
}

// What stands above: "." above a name alone.
static void go_up(char *path)
{
    char *slash = strrchr(path, '/');
    if (slash == NULL)
        memcpy(path, ".", 2);
    else
        slash[slash == path ? 1 : 0] = '\0';
}

int phx_directory_check(const char *path)
{
    char at[PHX_DIRECTORY_LENGTH_MAX + 1];
    struct stat info;
    if (!copied(at, path))
        return path[0] == '\0' ? ENOENT : ENAMETOOLONG;
    while (stat(at, &info) != 0) {
        int error = errno;
        int is_link = lstat(at, &info) == 0; // to nothing
        if (error != ENOENT || is_link || strcmp(at, ".") == 0 || strcmp(at, "/") == 0)
            return error;
        go_up(at);
    }
    if (!S_ISDIR(info.st_mode))
        return ENOTDIR;
    return access(at, W_OK | X_OK) == 0 ? 0 : errno;
}

int phx_directory_make(const char *path)
{
    char at[PHX_DIRECTORY_LENGTH_MAX + 1];
    struct stat info;
    if (!copied(at, path))
        return path[0] == '\0' ? ENOENT : ENAMETOOLONG;
    for (char *slash = at; slash != NULL;) {
        slash = strchr(slash + 1, '/');
        if (slash != NULL)
            *slash = '\0';
        // Another process may make it meanwhile.
        if (mkdir(at, 0777) != 0 && errno != EEXIST)
            return errno;
        if (slash != NULL)
            *slash = '/';
    }
    if (stat(at, &info) != 0)
        return errno;
    return S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
}
