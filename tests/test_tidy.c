// Tests of tests/tidy: each rule reports a planted offence, names its place, and lets good code
// pass.

#define _XOPEN_SOURCE 700

#include "tests/test.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_SIZE = 512, OUTPUT_SIZE = 8192 };

static char top[PATH_SIZE];
static char output[OUTPUT_SIZE];

static void tree_begin(void)
{
    const char *base = getenv("TMPDIR");
    (void)snprintf(top, sizeof top, "%s/phx-tidy-XXXXXX", base != NULL ? base : "/tmp");
    CHECK_MSG(mkdtemp(top) != NULL, "%s: %s", top, strerror(errno));
}

static int entry_remove(const char *path, const struct stat *status, int kind, struct FTW *ftw)
{
    (void)status;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void tree_end(void)
{
    CHECK_EQ(nftw(top, entry_remove, 8, FTW_DEPTH | FTW_PHYS), 0);
}

// Writes `text` to `path` ("engine/x.c") of the tree.
static void plant(const char *path, const char *text)
{
    char whole[2 * PATH_SIZE];
    (void)snprintf(whole, sizeof whole, "%s/%s", top, path);
    char *slash = strrchr(whole, '/');
    *slash = 0;
    CHECK(mkdir(whole, 0777) == 0 || errno == EEXIST);
    *slash = '/';
    FILE *stream = fopen(whole, "w");
    CHECK_MSG(stream != NULL, "%s: %s", whole, strerror(errno));
    CHECK(fputs(text, stream) >= 0);
    CHECK_EQ(fclose(stream), 0);
}

// Runs tidy on the tree; its exit code, and its output in `output`.
static int tidy(void)
{
    int ends[2];
    CHECK_EQ(pipe(ends), 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)close(ends[0]);
        (void)close(ends[1]);
        (void)execl(PHX_TIDY_PROGRAM, "tidy", top, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    size_t used = 0;
    for (;;) {
        ssize_t got = read(ends[0], output + used, sizeof output - 1 - used);
        if (got <= 0)
            break;
        used += (size_t)got;
    }
    output[used] = 0;
    (void)close(ends[0]);
    int status = 0;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

// One file in an otherwise empty tree must be reported by `rule` at `place` ("engine/x.c:2:").
static void refused(const char *path, const char *text, const char *place, const char *rule)
{
    tree_begin();
    plant(path, text);
    int code = tidy();
    tree_end();
    CHECK_MSG(code == 1, "exit %d: %s", code, output);
    CHECK_MSG(strncmp(output, place, strlen(place)) == 0, "not at %s: %s", place, output);
    CHECK_MSG(strstr(output, rule) != NULL, "not by %s: %s", rule, output);
    CHECK_MSG(strstr(output, "1 offences") != NULL, "more than one: %s", output);
}

static void accepted(const char *path, const char *text)
{
    tree_begin();
    plant(path, text);
    int code = tidy();
    tree_end();
    CHECK_MSG(code == 0, "exit %d: %s", code, output);
}

TEST(tidy_refuses_includes_against_the_flow)
{
    refused("sim/x.c", "// x\n#include \"hw/shm.h\"\n", "sim/x.c:2:", "[include]");
    refused("hw/x.c", "// x\n#include \"sim/world.h\"\n", "hw/x.c:2:", "[include]");
    refused("engine/x.c", "// x\n#include \"sim/core.h\"\n", "engine/x.c:2:", "[include]");
    refused("engine/x.c", "// x\n# include \"kernels/dispatch.h\"\n", "engine/x.c:2:", "[include]");
    refused("kernels/x.c", "// x\n#include \"engine/group.h\"\n", "kernels/x.c:2:", "[include]");
    refused("kernels/x.c", "// x\n#include \"engine/transport_ops.h\"\n",
            "kernels/x.c:2:", "[include]");
    refused("tools/x.c", "// x\n#include \"engine/transport_ops.h\"\n",
            "tools/x.c:2:", "[include]");
    refused("tests/x.c", "// x\n#include <criterion/criterion.h>\n", "tests/x.c:2:", "[include]");
}

TEST(tidy_refuses_clocks_threads_and_systems_in_the_control_plane)
{
    refused("engine/x.c", "// x\n#include <time.h>\n", "engine/x.c:2:", "[include]");
    refused("engine/x.c", "// x\n#include <pthread.h>\n", "engine/x.c:2:", "[include]");
    refused("engine/x.c", "// x\n#include <sys/mman.h>\n", "engine/x.c:2:", "[include]");
}

TEST(tidy_refuses_calls_that_the_control_plane_may_not_make)
{
    refused("engine/x.c", "// x\nint y(void)\n{\n    return rand();\n}\n",
            "engine/x.c:4:", "[call]");
    refused("engine/x.c", "// x\nvoid *y(void)\n{\n    return malloc (4);\n}\n",
            "engine/x.c:4:", "[call]");
    refused("sim/x.c", "// x\nlong y(void)\n{\n    return time(0);\n}\n", "sim/x.c:4:", "[call]");
}

TEST(tidy_tells_calls_from_names_and_sentences)
{
    accepted("engine/x.c", "// x: rand() is not called, nor is malloc(4)\n"
                           "const char *y(struct z *z)\n"
                           "{\n"
                           "    z->free(z);\n"
                           "    phx_rand(z);\n"
                           "    return \"time(0)\";\n"
                           "}\n");
    accepted("engine/group.c", "// the one place that allocates\nvoid *y(void)\n{\n"
                               "    return malloc(4);\n}\n");
}

static void long_function(const char *path, int lines, char *text, size_t text_size)
{
    (void)path;
    size_t used = (size_t)snprintf(text, text_size, "// x\nvoid y(void)\n{\n");
    for (int i = 0; i < lines; i++)
        used += (size_t)snprintf(text + used, text_size - used, "    z();\n");
    (void)snprintf(text + used, text_size - used, "}\n");
}

TEST(tidy_refuses_long_functions)
{
    static char text[1 << 14];
    long_function("sim/x.c", 70, text, sizeof text);
    accepted("sim/x.c", text);
    long_function("sim/x.c", 71, text, sizeof text);
    refused("sim/x.c", text, "sim/x.c:3:", "[function-length]");
    long_function("kernels/x.c", 150, text, sizeof text);
    accepted("kernels/x.c", text);
    long_function("kernels/x.c", 151, text, sizeof text);
    refused("kernels/x.c", text, "kernels/x.c:3:", "[function-length]");
}

TEST(tidy_refuses_long_files)
{
    static char text[4096];
    size_t used = (size_t)snprintf(text, sizeof text, "// x\n");
    for (int i = 0; i < 899; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "//\n");
    accepted("sim/x.c", text);
    (void)snprintf(text + used, sizeof text - used, "//\n");
    refused("sim/x.c", text, "sim/x.c:901:", "[file-length]");
}

TEST(tidy_refuses_wide_lines_tabs_and_trailing_blanks)
{
    static char text[256];
    (void)snprintf(text, sizeof text, "// %097d\n", 0);
    accepted("sim/x.c", text);
    (void)snprintf(text, sizeof text, "// %098d\n", 0);
    refused("sim/x.c", text, "sim/x.c:1:", "[columns]");
    (void)snprintf(text, sizeof text, "// %095d\xC3\xA9\xC3\xA9\n", 0); // two letters, four bytes
    accepted("sim/x.c", text);
    (void)snprintf(text, sizeof text, "# %098d\n", 0);
    accepted("scenarios/x.yaml", text);
    refused("sim/x.c", "// x\n\tint y;\n", "sim/x.c:2:", "[tab]");
    refused("sim/x.c", "// x\nint y; \n", "sim/x.c:2:", "[trailing]");
    refused("sim/x.c", "// x\nint y;\r\n", "sim/x.c:2:", "[trailing]");
    refused("sim/x.c", "// x\nint y;", "sim/x.c:2:", "[newline]");
    refused("cmake/x.cmake", "# x \n", "cmake/x.cmake:1:", "[trailing]");
}

TEST(tidy_refuses_other_styles)
{
    refused("sim/x.c", "int y;\n", "sim/x.c:1:", "[opening]");
    refused("sim/x.c", "// x\n/* y */\n", "sim/x.c:2:", "[comment]");
    refused("sim/x.c", "// x\ntypedef struct y y;\n", "sim/x.c:2:", "[typedef]");
    refused("sim/x.h", "// x\n#define PHX_X_H\n", "sim/x.h:1:", "[guard]");
    accepted("sim/x_y.h", "// x\n#ifndef PHX_SIM_X_Y_H\n#define PHX_SIM_X_Y_H\n#endif\n");
}

TEST(tidy_does_not_pass_an_empty_tree)
{
    tree_begin();
    int code = tidy();
    tree_end();
    CHECK_EQ(code, 2);
}
