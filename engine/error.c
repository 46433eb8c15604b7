// engine/error.c: texts and scopes from the one list in error.h.

#include "engine/error.h"

#include <stdarg.h>
#include <stdio.h>

const char *phx_error_text(int code)
{
    switch (code) {
    case PHX_OK:
        return "success";
#define PHX_ERROR_TEXT(name, value, text)                                                          \
    case value:                                                                                    \
        return text;
        PHX_ERRORS(PHX_ERROR_TEXT)
#undef PHX_ERROR_TEXT
    default:
        return "unknown error";
    }
}

const char *phx_error_name(int code)
{
    switch (code) {
    case PHX_OK:
        return "OK";
#define PHX_ERROR_NAME(name, value, text)                                                          \
    case value:                                                                                    \
        return #name;
        PHX_ERRORS(PHX_ERROR_NAME)
#undef PHX_ERROR_NAME
    default:
        return "UNKNOWN";
    }
}

enum phx_error_scope phx_error_scope(int code)
{
    if (code >= 0 || code < -99)
        return (enum phx_error_scope)0;
    if (code > -20)
        return PHX_SCOPE_CALL;
    if (code > -40)
        return PHX_SCOPE_OP;
    if (code > -60)
        return PHX_SCOPE_PEER;
    if (code > -80)
        return PHX_SCOPE_DEVICE;
    return PHX_SCOPE_GROUP;
}

int phx_fail(struct phx_message *m, int code, const char *format, ...)
{
    if (m != NULL) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(m->text, sizeof m->text, format, args);
        va_end(args);
    }
    return code;
}
