/*
 * Where the Lua library that scenarios share lies: beside the program in a build tree, below its
 * prefix when installed. Found from the program's own place, so that both can be moved.
 */
#ifndef RINGLAB_LUA_DIR_H
#define RINGLAB_LUA_DIR_H

#include <glib.h>

/* The folder, absolute, freed with g_free. `override` (what $RINGLAB_LUA_PATH says) is taken if it
 * is not NULL or empty; else the first that exists of, seen from the folder of `executable`: lua (a
 * link made by the build) and ../share/ringlab/lua. G_FILE_ERROR_NOENT names all that was tried. */
char *lua_dir_find(const char *executable, const char *override, GError **error);

/* lua_dir_find for this process. */
char *lua_dir(GError **error);

#endif
