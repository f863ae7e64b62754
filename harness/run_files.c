/*
 * From the files and folders on a command line to the list of scenarios.
 */
#include "harness/run_files.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Adds the scenarios of a folder and its subfolders, in the order of their names. */
static bool collect_folder(const char *path, GPtrArray *files, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, error);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const char *entry;
    if (!dir) {
        return false;
    }
    while ((entry = g_dir_read_name(dir))) {
        if (entry[0] != '.') {
            g_ptr_array_add(names, g_strdup(entry));
        }
    }
    g_ptr_array_sort(names, compare_names);
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *full = g_build_filename(path, name, NULL);
        /* A link to a folder could lead in circles. */
        if (g_file_test(full, G_FILE_TEST_IS_DIR)) {
            if (strcmp(name, "lib") != 0 && !g_file_test(full, G_FILE_TEST_IS_SYMLINK) &&
                !collect_folder(full, files, error)) {
                return false;
            }
        } else if (g_str_has_suffix(name, ".lua")) {
            g_ptr_array_add(files, g_steal_pointer(&full));
        }
    }
    return true;
}

static bool collect_argument(const char *path, GPtrArray *files, GError **error)
{
    struct stat st;
    guint n_before = files->len;
    int code = stat(path, &st) != 0 || access(path, R_OK) != 0 ? errno : 0;
    if (code) {
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(code),
                    "cannot read scenario '%s': %s", path, g_strerror(code));
        return false;
    }
    if (S_ISDIR(st.st_mode)) {
        if (!collect_folder(path, files, error)) {
            return false;
        }
        if (files->len == n_before) {
            g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOENT,
                        "no scenario in folder '%s': there is no *.lua file in it", path);
            return false;
        }
        return true;
    }
    if (!S_ISREG(st.st_mode)) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL,
                    "cannot read scenario '%s': it is neither a file nor a folder", path);
        return false;
    }
    g_ptr_array_add(files, g_strdup(path));
    return true;
}

GPtrArray *run_files_collect(const char *const *arguments, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(g_free);
    for (; *arguments; arguments++) {
        if (!collect_argument(*arguments, files, error)) {
            return NULL;
        }
    }
    g_ptr_array_add(files, NULL);
    return g_steal_pointer(&files);
}
