/*
 * Finding the Lua library from the place of the program.
 */
#include "harness/lua_dir.h"

char *lua_dir_find(const char *executable, const char *override, GError **error)
{
    if (override && *override) {
        g_autofree char *path = g_canonicalize_filename(override, NULL);
        if (g_file_test(path, G_FILE_TEST_IS_DIR))
            return g_steal_pointer(&path);
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                    "the Lua library: RINGLAB_LUA_PATH is %s, which is no folder", override);
        return NULL;
    }
    g_autofree char *bin = g_path_get_dirname(executable);
    g_autofree char *built = g_canonicalize_filename("lua", bin);
    if (g_file_test(built, G_FILE_TEST_IS_DIR))
        return g_steal_pointer(&built);
    g_autofree char *installed = g_canonicalize_filename("../share/ringlab/lua", bin);
    if (g_file_test(installed, G_FILE_TEST_IS_DIR))
        return g_steal_pointer(&installed);
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                "the Lua library is neither in %s nor in %s: set RINGLAB_LUA_PATH to its folder",
                built, installed);
    return NULL;
}

char *lua_dir(GError **error)
{
    g_autofree char *executable = g_file_read_link("/proc/self/exe", error);
    return executable ? lua_dir_find(executable, g_getenv("RINGLAB_LUA_PATH"), error) : NULL;
}
