// tests/test_bootstrap_env.c: what launchers say, and secrets.

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hw/bootstrap.h"
#include "tests/test.h"

#define SIXTEEN "sixteen letters."

static struct phx_bootstrap_env env;
static struct phx_bootstrap_options options;
static struct phx_message message;

// "NAME=VALUE NAME=VALUE", on an environment that has no other of ours.
static int with(const char *settings)
{
    static const char *const names[] = {"PHX_RANK",
                                        "PHX_RANKS",
                                        "PHX_RENDEZVOUS",
                                        "PHX_SERVE_RANK",
                                        "PHX_TIMEOUT_MS",
                                        "PHX_SECRET",
                                        "PHX_SECRET_FILE",
                                        "RANK",
                                        "WORLD_SIZE",
                                        "MASTER_ADDR",
                                        "MASTER_PORT",
                                        "OMPI_COMM_WORLD_RANK",
                                        "OMPI_COMM_WORLD_SIZE"};
    char text[512];
    char *rest = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        CHECK_EQ(unsetenv(names[i]), 0);
    CHECK_EQ(setenv("PHX_SECRET", SIXTEEN, 1), 0);
    (void)snprintf(text, sizeof text, "%s", settings);
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        CHECK_EQ(setenv(word, value, 1), 0);
    }
    memset(&options, 0xab, sizeof options);
    memset(&message, 0, sizeof message);
    return phx_bootstrap_env(&env, &options, &message);
}

static void refused(const char *settings, int code, const char *says)
{
    struct phx_bootstrap_options untouched;
    memset(&untouched, 0xab, sizeof untouched);
    CHECK_EQ(with(settings), code);
    CHECK_MSG(strstr(message.text, says) != NULL, "%s: %s", settings, message.text);
    CHECK_MEM_EQ(&options, &untouched, sizeof options);
    CHECK(strstr(message.text, SIXTEEN) == NULL);
}

static void found(const char *settings, uint32_t rank, uint32_t ranks, const char *url, bool serve)
{
    CHECK_MSG(with(settings) == 0, "%s: %s", settings, message.text);
    CHECK_EQ(options.rank, rank);
    CHECK_EQ(options.ranks, ranks);
    CHECK_STR_EQ(options.url, url);
    CHECK_EQ(options.serve, serve);
    CHECK_EQ(options.secret_bytes, 16);
    CHECK_MEM_EQ(options.secret, SIXTEEN, 16);
}

TEST(environments_of_launchers_are_understood)
{
    found("PHX_RANK=2 PHX_RANKS=4 PHX_RENDEZVOUS=file:///x", 2, 4, "file:///x", false);
    CHECK_EQ(options.timeout_ms, 0);
    found("RANK=0 WORLD_SIZE=8 MASTER_ADDR=host MASTER_PORT=29500", 0, 8, "tcp://host:29501", true);
    found("RANK=3 WORLD_SIZE=8 MASTER_ADDR=fe80::1 MASTER_PORT=29500", 3, 8,
          "tcp://[fe80::1]:29501", false);
    found("RANK=0 WORLD_SIZE=8 MASTER_ADDR=h MASTER_PORT=1 PHX_RENDEZVOUS=tcp://r:7", 0, 8,
          "tcp://r:7", false);
    found("OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 PHX_RENDEZVOUS=tcp://r:7", 1, 2,
          "tcp://r:7", false);
    found("OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 PHX_RENDEZVOUS=tcp://r:7 "
          "PHX_SERVE_RANK=1",
          1, 2, "tcp://r:7", true);
    found("RANK=0 WORLD_SIZE=8 MASTER_ADDR=h MASTER_PORT=1 PHX_SERVE_RANK=none", 0, 8, "tcp://h:2",
          false);
    // Both launchers, in agreement; and PHX_ over a disagreement.
    found("RANK=1 WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 PHX_RENDEZVOUS=a", 1,
          2, "a", false);
    found("RANK=1 WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 PHX_RANK=0 "
          "PHX_RANKS=1 PHX_RENDEZVOUS=a PHX_TIMEOUT_MS=77",
          0, 1, "a", false);
    CHECK_EQ(options.timeout_ms, 77);
}

TEST(what_is_missing_wrong_or_in_conflict_is_named)
{
    refused("", PHX_ERR_INVALID, "nothing says which rank this is");
    refused("RANK=1", PHX_ERR_INVALID, "RANK is set, but WORLD_SIZE is not");
    refused("PHX_RANKS=1 RANK=0 WORLD_SIZE=1", PHX_ERR_INVALID,
            "PHX_RANKS is set, but PHX_RANK is not");
    refused("OMPI_COMM_WORLD_SIZE=1", PHX_ERR_INVALID,
            "OMPI_COMM_WORLD_SIZE is set, but OMPI_COMM_WORLD_RANK is not");
    refused("RANK=1 WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2", PHX_ERR_MISMATCH,
            "RANK and WORLD_SIZE say rank 1 of 2, but OMPI_COMM_WORLD_RANK and "
            "OMPI_COMM_WORLD_SIZE say rank 0 of 2");
    refused("RANK=2 WORLD_SIZE=2", PHX_ERR_INVALID, "RANK is \"2\"; it must be 0 to 1");
    refused("RANK=-1 WORLD_SIZE=2", PHX_ERR_INVALID, "RANK is \"-1\"");
    refused("RANK=0 WORLD_SIZE=1025", PHX_ERR_INVALID, "WORLD_SIZE is \"1025\"; it must be 1 to");
    refused("RANK=0 WORLD_SIZE=99999999999999999999", PHX_ERR_INVALID, "WORLD_SIZE is");
    refused("RANK=0 WORLD_SIZE=1", PHX_ERR_INVALID, "nothing says where the ranks meet");
    refused("RANK=0 WORLD_SIZE=1 MASTER_ADDR=h", PHX_ERR_INVALID,
            "MASTER_ADDR is set, but MASTER_PORT is not");
    refused("RANK=0 WORLD_SIZE=1 MASTER_ADDR=h MASTER_PORT=65535", PHX_ERR_INVALID,
            "MASTER_PORT is \"65535\"; it must be 1 to 65534");
    refused("RANK=0 WORLD_SIZE=1 PHX_RENDEZVOUS=a PHX_SERVE_RANK=1", PHX_ERR_INVALID,
            "PHX_SERVE_RANK is \"1\"; it must be 0 to 0");
    refused("RANK=0 WORLD_SIZE=1 PHX_RENDEZVOUS=a PHX_TIMEOUT_MS=soon", PHX_ERR_INVALID,
            "PHX_TIMEOUT_MS is \"soon\"");
    refused("RANK=0 WORLD_SIZE=1 PHX_RENDEZVOUS=a PHX_SECRET=", PHX_ERR_INVALID,
            "there is no secret");
    refused("RANK=0 WORLD_SIZE=1 PHX_RENDEZVOUS=a PHX_SECRET=short", PHX_ERR_INVALID,
            "PHX_SECRET holds a secret of 5 bytes; it must have 16 to 256");
    CHECK(strstr(message.text, "short") == NULL);
    refused("RANK=0 WORLD_SIZE=1 PHX_RENDEZVOUS=a PHX_SECRET_FILE=/x", PHX_ERR_INVALID,
            "PHX_SECRET_FILE and PHX_SECRET are both set");
}

static int from_file(const char *path)
{
    char settings[256];
    (void)snprintf(settings, sizeof settings,
                   "RANK=0 WORLD_SIZE=1 PHX_RENDEZVOUS=a PHX_SECRET= PHX_SECRET_FILE=%s", path);
    return with(settings);
}

TEST(a_secret_comes_from_a_file_that_is_its_owners_alone)
{
    char path[] = "/tmp/phx-secret-XXXXXX";
    int file = mkstemp(path);
    CHECK(file >= 0);
    CHECK_EQ(write(file, SIXTEEN "\n", 17), 17);
    CHECK_EQ(from_file(path), 0);
    CHECK_EQ(options.secret_bytes, 16); // without the line's end
    CHECK_MEM_EQ(options.secret, SIXTEEN, 16);
    static const mode_t modes[] = {0640, 0604, 0620, 0602, 0610};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        CHECK_EQ(fchmod(file, modes[i]), 0);
        CHECK_EQ(from_file(path), PHX_ERR_PROTECTION);
        CHECK(strstr(message.text, "others may read or write it") != NULL);
    }
    CHECK_EQ(fchmod(file, 0400), 0);
    CHECK_EQ(ftruncate(file, 15), 0);
    CHECK_EQ(from_file(path), PHX_ERR_INVALID);
    CHECK(strstr(message.text, "a secret of 15 bytes") != NULL);
    CHECK_EQ(ftruncate(file, 257), 0);
    CHECK_EQ(from_file(path), PHX_ERR_INVALID);
    CHECK_EQ(ftruncate(file, 1 << 20), 0);
    CHECK_EQ(from_file(path), PHX_ERR_INVALID);
    CHECK_EQ(ftruncate(file, 256), 0);
    CHECK_EQ(from_file(path), 0);
    (void)close(file);
    CHECK_EQ(unlink(path), 0);
    CHECK_EQ(from_file(path), PHX_ERR_IO);
    CHECK_EQ(from_file("/tmp"), PHX_ERR_INVALID);
    CHECK(strstr(message.text, "is not a file") != NULL);
}
