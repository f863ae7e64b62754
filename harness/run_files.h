/*
 * Which scenarios a command line means.
 */
#ifndef RINGLAB_RUN_FILES_H
#define RINGLAB_RUN_FILES_H

#include <glib.h>

/* The paths (char *, ended by NULL) of the scenarios that `arguments` (NULL-terminated) name, in
 * their order. A folder stands for all *.lua files in it and below, sorted by name; folders called
 * `lib`, hidden ones and links to folders are left out. NULL with G_FILE_ERROR if one cannot be
 * read, is neither file nor folder, or holds no scenario. */
GPtrArray *run_files_collect(const char *const *arguments, GError **error);

#endif
