// tools/directory.h: a directory that a command is to write into.

#ifndef PHX_TOOLS_DIRECTORY_H
#define PHX_TOOLS_DIRECTORY_H

#define PHX_DIRECTORY_LENGTH_MAX 900u // room for a file's name behind it

// Whether it can be made, with what is missing above it, or is there, and files can be made in it.
// Makes nothing. 0, or an errno.
int phx_directory_check(const char *path);
// Makes it and what is missing above it. 0, also when it is there already; or an errno.
int phx_directory_make(const char *path);

#endif
