// tools/cmd_info.c: phx info: what this machine and this build can do.
//
// What is missing is named with the reason, because "not listed" reads as "not known".

#include <argp.h>
#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "engine/phalanx.h"
#include "hw/shm_pages.h"
#include "kernels/leaves.h"
#include "tools/command.h"

#if PHX_HAVE_SODIUM
#include <sodium.h>
#endif
#if PHX_HAVE_XXHASH
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

#define TEXT_MAX 160u

struct fact { // one line: a name, and yes with a detail, or no with the reason
    const char *name;
    bool has;
    char text[TEXT_MAX];
};

struct info {
    struct fact facts[32];
    uint32_t count;
};

#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
static void
fact_add(struct info *info, const char *name, bool has, const char *format, ...)
{
    if (info->count == sizeof info->facts / sizeof info->facts[0])
        return; // a static list; tests/cli.sh looks for its last line
    struct fact *fact = &info->facts[info->count++];
    fact->name = name;
    fact->has = has;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(fact->text, sizeof fact->text, format, args);
    va_end(args);
}

static const char *compiler_text(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown";
#endif
}

static const char *sanitizer_text(void)
{
#if defined(PHX_ASAN) && PHX_ASAN
    return ", address and undefined-behaviour sanitizers";
#elif defined(PHX_TSAN) && PHX_TSAN
    return ", thread sanitizer";
#else
    return "";
#endif
}

static void add_build(struct info *info)
{
    fact_add(info, "version", true, "%s", phx_version());
    fact_add(info, "compiler", true, "%s", compiler_text());
    fact_add(info, "build", true, "%s%s", PHX_BUILD_TYPE, sanitizer_text());
    fact_add(info, "leaves", true, "%s", phx_leaves_get()->name);
}

// The first number behind `key` in a /proc file; -1 without one.
static long proc_number(const char *path, const char *key)
{
    FILE *file = fopen(path, "r");
    char line[256];
    long number = -1;
    while (file != NULL && number < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            number = strtol(line + strlen(key), NULL, 10);
    if (file != NULL)
        (void)fclose(file);
    return number;
}

// The word in brackets of a file that lists choices; "not known" without one.
static void chosen(const char *path, char word[32])
{
    char line[128] = "";
    FILE *file = fopen(path, "r");
    bool is_read = file != NULL && fgets(line, sizeof line, file) != NULL;
    if (file != NULL)
        (void)fclose(file);
    const char *from = is_read ? strchr(line, '[') : NULL;
    size_t size = from != NULL ? strcspn(from + 1, "]") : 0;
    if (size == 0 || size >= 32)
        (void)snprintf(word, 32, "not known");
    else
        (void)snprintf(word, 32, "%.*s", (int)size, from + 1);
}

static bool is_on(const char *mode)
{
    return strcmp(mode, "never") != 0 && strcmp(mode, "deny") != 0 &&
           strcmp(mode, "not known") != 0;
}

static void add_pages(struct info *info)
{
    char private[32];
    char shared[32];
    chosen("/sys/kernel/mm/transparent_hugepage/enabled", private);
    chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled", shared);
    long reserved = proc_number("/proc/meminfo", "HugePages_Total:");
    long free_pages = proc_number("/proc/meminfo", "HugePages_Free:");
    long kib = proc_number("/proc/meminfo", "Hugepagesize:");
    fact_add(info, "huge_pages", is_on(private), "transparent: %s", private);
    fact_add(info, "huge_regions", is_on(shared) || (free_pages > 0 && kib == 2048),
             "shared memory: transparent %s; reserved %ld of %ld KiB, %ld free", shared,
             reserved > 0 ? reserved : 0, kib > 0 ? kib : 0, free_pages > 0 ? free_pages : 0);
    uint32_t nodes = phx_numa_nodes();
    if (nodes > 1)
        fact_add(info, "numa", true, "%u memory nodes; regions are asked for on the reader's",
                 nodes);
    else
        fact_add(info, "numa", false, "one memory node: nothing to place");
}

static void add_machine(struct info *info)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    fact_add(info, "cores", cores > 0, "%ld", cores);
#if defined(__x86_64__)
    bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool has_avx512 = phx_leaves_avx512() != NULL;
    fact_add(info, "avx2", has_avx2, has_avx2 ? "with FMA" : "this processor has none");
    fact_add(info, "avx512", has_avx512,
             has_avx512 ? "with BW, DQ and VL" : "this processor lacks F, BW, DQ or VL");
#else
    fact_add(info, "avx2", false, "not an x86-64 processor");
    fact_add(info, "avx512", false, "not an x86-64 processor");
#endif
    add_pages(info);
}

static void add_libraries(struct info *info)
{
#if PHX_HAVE_BOOST_CONTEXT
    fact_add(info, "fibers", true, "context (Boost.Context), pthread");
#else
    fact_add(info, "fibers", true, "pthread alone: built without Boost.Context");
#endif
#if PHX_HAVE_XXHASH
    fact_add(info, "xxhash", true, "%d.%d.%d", XXH_VERSION_MAJOR, XXH_VERSION_MINOR,
             XXH_VERSION_RELEASE);
#else
    fact_add(info, "xxhash", false, "built without it: runs have no trace hash");
#endif
    fact_add(info, "yaml", true, "%s", yaml_get_version_string());
    fact_add(info, "cjson", true, "%s", cJSON_Version());
#if PHX_HAVE_SODIUM
    fact_add(info, "bootstrap", true, "tcp and file (libsodium %s)", sodium_version_string());
#else
    fact_add(info, "bootstrap", false, "built without libsodium: ranks can't find each other");
#endif
}

static void add_transports(struct info *info)
{
    fact_add(info, "transport_sim", true, "built");
    fact_add(info, "transport_shm", true, "built: processes of one host");
    fact_add(info, "transport_verbs", false, "not written yet");
#if PHX_HAVE_CUDA
    fact_add(info, "transport_cuda", true, "built: a process for each GPU of one host");
    fact_add(info, "cuda", true, "this build compiles the kernels for GPUs");
#else
    fact_add(info, "transport_cuda", false, "built without CUDA");
    fact_add(info, "cuda", false, "%s",
             access("/usr/local/cuda/bin/nvcc", X_OK) == 0
                 ? "nvcc is here, but this build was made without it: use the cuda preset"
                 : "built without it, and /usr/local/cuda/bin/nvcc is not here");
#endif
}

static int print_json(const struct info *info)
{
    cJSON *object = cJSON_CreateObject();
    bool is_ok = object != NULL;
    for (uint32_t i = 0; is_ok && i < info->count; i++) {
        cJSON *fact = cJSON_AddObjectToObject(object, info->facts[i].name);
        is_ok = fact != NULL && cJSON_AddBoolToObject(fact, "available", info->facts[i].has) &&
                cJSON_AddStringToObject(fact, "detail", info->facts[i].text);
    }
    char *text = is_ok ? cJSON_PrintUnformatted(object) : NULL;
    if (text != NULL)
        (void)printf("%s\n", text);
    cJSON_free(text);
    cJSON_Delete(object);
    return text != NULL ? PHX_EXIT_PASSED : PHX_EXIT_INTERNAL;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    bool *is_json = state->input;
    (void)argument;
    if (key != 'j')
        return ARGP_ERR_UNKNOWN;
    *is_json = true;
    return 0;
}

int phx_command_info(int argc, char **argv)
{
    static const struct argp_option options[] = {{"json", 'j', NULL, 0, "print one JSON object", 0},
                                                 {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "Say what this machine and this build can do.",
    };
    bool is_json = false;
    if (argp_parse(&argp, argc, argv, 0, NULL, &is_json) != 0)
        return PHX_EXIT_INTERNAL;
    struct info info = {.count = 0};
    add_build(&info);
    add_machine(&info);
    add_libraries(&info);
    add_transports(&info);
    if (is_json)
        return print_json(&info);
    for (uint32_t i = 0; i < info.count; i++)
        (void)printf("%-16s %-4s %s\n", info.facts[i].name, info.facts[i].has ? "yes" : "no",
                     info.facts[i].text);
    return PHX_EXIT_PASSED;
}
