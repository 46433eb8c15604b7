// Tests of engine/error.h: one list gives code, name, text and scope.

#include "tests/test.h"

#include "engine/error.h"

#include <string.h>

#define LISTED(name, code, text) {PHX_ERR_##name, code, #name, text},
static const struct {
    int value;
    int code;
    const char *name;
    const char *text;
} listed[] = {PHX_ERRORS(LISTED)};
enum { LISTED_COUNT = sizeof listed / sizeof listed[0] };

TEST(error_has_the_code_name_and_text_of_the_list)
{
    for (int i = 0; i < LISTED_COUNT; i++) {
        CHECK_EQ(listed[i].value, listed[i].code);
        CHECK_STR_EQ(phx_error_name(listed[i].code), listed[i].name);
        CHECK_STR_EQ(phx_error_text(listed[i].code), listed[i].text);
    }
    CHECK_STR_EQ(phx_error_name(PHX_OK), "OK");
    CHECK_STR_EQ(phx_error_text(PHX_OK), "success");
}

TEST(error_codes_and_names_are_distinct)
{
    for (int i = 0; i < LISTED_COUNT; i++) {
        for (int j = 0; j < i; j++) {
            CHECK_MSG(listed[i].code != listed[j].code, "%s, %s", listed[i].name, listed[j].name);
            CHECK_MSG(strcmp(listed[i].text, listed[j].text) != 0, "%s, %s", listed[i].name,
                      listed[j].name);
        }
    }
}

TEST(error_says_unknown_outside_the_list)
{
    static const int unlisted[] = {1, -7, -19, -39, -99, -100, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < sizeof unlisted / sizeof unlisted[0]; i++) {
        CHECK_STR_EQ(phx_error_name(unlisted[i]), "UNKNOWN");
        CHECK_STR_EQ(phx_error_text(unlisted[i]), "unknown error");
    }
}

TEST(error_scope_follows_the_range)
{
    CHECK_EQ(phx_error_scope(PHX_OK), 0);
    CHECK_EQ(phx_error_scope(1), 0);
    CHECK_EQ(phx_error_scope(-1), PHX_SCOPE_CALL);
    CHECK_EQ(phx_error_scope(-19), PHX_SCOPE_CALL);
    CHECK_EQ(phx_error_scope(-20), PHX_SCOPE_OP);
    CHECK_EQ(phx_error_scope(-39), PHX_SCOPE_OP);
    CHECK_EQ(phx_error_scope(-40), PHX_SCOPE_PEER);
    CHECK_EQ(phx_error_scope(-59), PHX_SCOPE_PEER);
    CHECK_EQ(phx_error_scope(-60), PHX_SCOPE_DEVICE);
    CHECK_EQ(phx_error_scope(-79), PHX_SCOPE_DEVICE);
    CHECK_EQ(phx_error_scope(-80), PHX_SCOPE_GROUP);
    CHECK_EQ(phx_error_scope(-99), PHX_SCOPE_GROUP);
    CHECK_EQ(phx_error_scope(-100), 0);
}

TEST(fail_formats_and_returns_its_code)
{
    struct phx_message message;
    CHECK_EQ(phx_fail(&message, PHX_ERR_INVALID, "hidden is %d; it may be at most %d", 7, 5),
             PHX_ERR_INVALID);
    CHECK_STR_EQ(message.text, "hidden is 7; it may be at most 5");
    CHECK_EQ(phx_fail(NULL, PHX_ERR_STATE, "nobody reads this: %d", 1), PHX_ERR_STATE);
}

TEST(fail_cuts_a_long_message_inside_its_buffer)
{
    struct phx_message message[2];
    memset(message, 'x', sizeof message);
    CHECK_EQ(phx_fail(&message[0], PHX_ERR_IO, "%0300d", 1), PHX_ERR_IO);
    CHECK_EQ(strlen(message[0].text), sizeof message[0].text - 1);
    CHECK_EQ(message[1].text[0], 'x');
}
