// tests/test_launched.c: who starts the ranks: what the command line says, what the environment
// says, and what is refused because they do not fit.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/test.h"
#include "tools/launched.h"

static struct phx_launched launched;
static struct phx_message message;

// "NAME=VALUE NAME=VALUE", on an environment that has no other of ours.
static void environment(const char *settings)
{
    static const char *const names[] = {
        "PHX_RANK",    "PHX_RANKS",       "PHX_RENDEZVOUS",       "PHX_SERVE_RANK",
        "PHX_SECRET",  "PHX_SECRET_FILE", "PHX_TIMEOUT_MS",       "RANK",
        "WORLD_SIZE",  "MASTER_ADDR",     "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
        "MASTER_PORT",
    };
    char text[512];
    char *rest = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        CHECK_EQ(unsetenv(names[i]), 0);
    CHECK_EQ(setenv("PHX_SECRET", "sixteen letters.", 1), 0);
    (void)snprintf(text, sizeof text, "%s", settings);
    for (char *word = strtok_r(text, " ", &rest); word != NULL; word = strtok_r(NULL, " ", &rest)) {
        char *value = strchr(word, '=');
        *value++ = '\0';
        CHECK_EQ(setenv(word, value, 1), 0);
    }
}

static int find(const char *settings, struct phx_launched_options options)
{
    environment(settings);
    memset(&message, 0, sizeof message);
    return phx_launched_find(&options, &launched, &message);
}

static void refused(const char *settings, struct phx_launched_options options, const char *says)
{
    CHECK_EQ(find(settings, options), PHX_ERR_INVALID);
    CHECK(!launched.is_joined);
    CHECK_MSG(strstr(message.text, says) != NULL, "%s", message.text);
}

#define TORCH "RANK=2 WORLD_SIZE=4 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500"
#define MPI "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=8"

TEST(launched_ranks_are_what_the_environment_says)
{
    const struct phx_launched_options none = {0};
    CHECK_EQ(find("", none), 0);
    CHECK(!launched.is_joined);
    CHECK_EQ(find("MASTER_ADDR=h MASTER_PORT=5 PHX_RENDEZVOUS=file:///x", none), 0);
    CHECK(!launched.is_joined); // none of them says that this is a rank
    CHECK_EQ(find(TORCH, none), 0);
    CHECK(launched.is_joined);
    CHECK_EQ(launched.world.rank, 2);
    CHECK_EQ(launched.world.ranks, 4);
    CHECK_STR_EQ(launched.world.url, "tcp://127.0.0.1:29501");
    CHECK_EQ(find(MPI " PHX_RENDEZVOUS=file:///x", none), 0);
    CHECK(launched.is_joined);
    CHECK_EQ(launched.world.rank, 1);
    CHECK_STR_EQ(launched.world.url, "file:///x");
}

TEST(launched_ranks_may_be_said_otherwise)
{
    const struct phx_launched_options alone = {.is_alone = true};
    const struct phx_launched_options there = {.rendezvous = "file:///there"};
    CHECK_EQ(find(TORCH, alone), 0);
    CHECK(!launched.is_joined);
    CHECK_EQ(find("RANK=2", alone), 0);
    CHECK(!launched.is_joined);
    CHECK_EQ(find(MPI " PHX_RENDEZVOUS=file:///here", there), 0);
    CHECK_STR_EQ(launched.world.url, "file:///there");
    CHECK_EQ(find(TORCH, there), 0);
    CHECK_STR_EQ(launched.world.url, "file:///there");
    CHECK(!launched.world.serve);
}

TEST(launched_ranks_that_are_not_clear_are_refused_by_name)
{
    const struct phx_launched_options none = {0};
    const struct phx_launched_options joins = {.joins = true};
    const struct phx_launched_options there = {.rendezvous = "file:///there"};
    struct phx_launched_options both = {.joins = true, .is_alone = true};
    refused("RANK=2", none, "WORLD_SIZE is not (RANK is set, so a launcher seems to have started "
                            "this; --alone starts the ranks here)");
    refused(MPI, none, "PHX_RENDEZVOUS");
    refused(MPI, none, "--alone starts the ranks here)"); // to the end
    refused(MPI " PHX_SECRET=", none, "OMPI_COMM_WORLD_RANK is set, so");
    refused("", joins, "nothing says which rank this is");
    refused("", there, "nothing says which rank this is");
    refused(TORCH, both, "--alone starts the ranks here; --join");
    both = (struct phx_launched_options){.is_alone = true, .rendezvous = "file:///x"};
    refused(TORCH, both, "--alone starts the ranks here; --rendezvous");
    CHECK_EQ(find(TORCH " " MPI, none), PHX_ERR_MISMATCH);
}

TEST(launched_ranks_decide_how_many_the_scenario_has)
{
    const struct phx_launched_options none = {0};
    uint32_t ranks = 0;
    CHECK_EQ(find("", none), 0);
    CHECK_EQ(phx_launched_ranks(&launched, &ranks, &message), 0);
    CHECK_EQ(ranks, 0);
    CHECK_EQ(find(TORCH, none), 0);
    CHECK_EQ(phx_launched_ranks(&launched, &ranks, &message), 0);
    CHECK_EQ(ranks, 4);
    CHECK_EQ(phx_launched_ranks(&launched, &ranks, &message), 0);
    ranks = 8;
    CHECK_EQ(phx_launched_ranks(&launched, &ranks, &message), PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "--ranks says 8, but this is rank 2 of 4 that were started");
}

static uint64_t digest_of(const char *text, uint32_t ranks)
{
    const struct phx_scenario_options options = {.ranks = ranks};
    struct phx_scenario *s = NULL;
    struct phx_diagnosis d = {{0, 0}, {""}};
    CHECK_MSG(phx_scenario_parse(text, strlen(text), &options, &s, &d) == 0, "%s", d.message.text);
    uint64_t digest = phx_launched_digest(s);
    phx_scenario_free(s);
    CHECK(digest != 0);
    return digest;
}

TEST(launched_scenarios_have_one_digest_if_they_are_equal)
{
    const char *const one = "name: a\n"
                            "cluster: {nodes: 1, ranks_per_node: 4, intra_node: nvlink4}\n"
                            "workload:\n  - moe: {tokens: 8, hidden: 256, experts: 8, top_k: 2}\n"
                            "timeout_us: 1000\n";
    const char *const same = "# the same\ntimeout_us: 1000\nname: a\n"
                             "cluster: {intra_node: nvlink4, ranks_per_node: 4, nodes: 1}\n"
                             "workload: [{moe: {top_k: 2, tokens: 8, hidden: 256, experts: 8}}]\n";
    const char *const other = "name: a\n"
                              "cluster: {nodes: 1, ranks_per_node: 4, intra_node: nvlink4}\n"
                              "workload:\n  - moe: {tokens: 8, hidden: 256, experts: 8, top_k: 3}\n"
                              "timeout_us: 1000\n";
    CHECK(digest_of(one, 0) == digest_of(same, 0));
    CHECK(digest_of(one, 0) != digest_of(other, 0));
    CHECK(digest_of(one, 0) != digest_of(one, 2));
}
