// tests/fuzz/replay.c: runs a fuzz target on files that were kept: replay FILE|DIRECTORY...
//
// Files of a directory are run in the order of their names. The name of each is printed before it
// runs when -v is given, and always when the target ends the process. A directory without files is
// an error: a test that ran nothing would pass.

#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES_MAX 4096

static const char *running = "";

static void on_abort(int number)
{
    static const char text[] = "replay: the input was ";
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, running, strlen(running));
    (void)!write(2, "\n", 1);
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static int run_file(const char *path, int is_verbose)
{
    FILE *in = fopen(path, "rb");
    if (in == NULL) {
        (void)fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
        return -1;
    }
    size_t size = 0;
    size_t capacity = 4096;
    uint8_t *bytes = fuzz_alloc(capacity);
    for (size_t got; (got = fread(bytes + size, 1, capacity - size, in)) > 0;) {
        size += got;
        if (size == capacity) {
            bytes = realloc(bytes, capacity *= 2);
            if (bytes == NULL)
                abort();
        }
    }
    (void)fclose(in);
    uint8_t *exact = fuzz_alloc(size); // so that a read past the end is seen
    if (size > 0)
        memcpy(exact, bytes, size);
    free(bytes);
    if (is_verbose)
        (void)fprintf(stderr, "%s\n", path);
    running = path;
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Returns how many were run; -1: one could not be read.
static int run_directory(const char *path, int is_verbose)
{
    char *names[NAMES_MAX];
    int count = 0;
    DIR *directory = opendir(path);
    if (directory == NULL) {
        (void)fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
        return -1;
    }
    for (struct dirent *entry; count < NAMES_MAX && (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.') {
            size_t size = strlen(path) + strlen(entry->d_name) + 2;
            names[count] = fuzz_alloc(size);
            (void)snprintf(names[count++], size, "%s/%s", path, entry->d_name);
        }
    (void)closedir(directory);
    qsort(names, (size_t)count, sizeof names[0], by_name);
    int result = count;
    for (int i = 0; i < count; i++) {
        if (run_file(names[i], is_verbose) != 0)
            result = -1;
        free(names[i]);
    }
    if (count == 0)
        (void)fprintf(stderr, "replay: %s has no files\n", path);
    return count > 0 ? result : -1;
}

int main(int argc, char **argv)
{
    int is_verbose = argc > 1 && strcmp(argv[1], "-v") == 0;
    int total = 0;
    int is_bad = argc < 2 + is_verbose;
    (void)signal(SIGABRT, on_abort);
    for (int i = 1 + is_verbose; i < argc; i++) {
        struct stat status;
        int is_directory = stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode);
        int ran = is_directory ? run_directory(argv[i], is_verbose)
                               : 1 + 2 * run_file(argv[i], is_verbose);
        is_bad |= ran < 1;
        total += ran > 0 ? ran : 0;
    }
    if (argc < 2 + is_verbose)
        (void)fprintf(stderr, "usage: replay [-v] FILE|DIRECTORY...\n");
    else
        (void)printf("%d inputs\n", total);
    return is_bad ? 2 : 0;
}
