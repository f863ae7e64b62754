/*
 * Where the Lua library is looked for, in folders made for the test.
 */
#include "harness/lua_dir.h"

#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static char *root;

static char *below(const char *path)
{
    return g_build_filename(root, path, NULL);
}

static void make_folder(const char *path)
{
    g_autofree char *full = below(path);
    assert_int_equal(g_mkdir_with_parents(full, 0700), 0);
}

static void remove_folder(const char *path)
{
    g_autofree char *full = below(path);
    assert_int_equal(g_rmdir(full), 0);
}

/* What is found for PREFIX/bin/ringlab is root/`expected`. */
static void expect(const char *override, const char *expected)
{
    g_autofree char *executable = below("prefix/bin/ringlab");
    g_autofree char *wanted = below(expected);
    g_autoptr(GError) error = NULL;
    g_autofree char *found = lua_dir_find(executable, override, &error);
    assert_null(error);
    assert_string_equal(found, wanted);
}

static int setup(void **state)
{
    (void)state;
    root = g_dir_make_tmp("ringlab-XXXXXX", NULL);
    return root ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    int status = g_rmdir(root);
    g_clear_pointer(&root, g_free);
    return status;
}

static void installed_the_library_is_found_below_the_prefix(void **state)
{
    (void)state;
    make_folder("prefix/share/ringlab/lua");
    expect(NULL, "prefix/share/ringlab/lua");
    expect("", "prefix/share/ringlab/lua");
    remove_folder("prefix/share/ringlab/lua");
    remove_folder("prefix/share/ringlab");
    remove_folder("prefix/share");
    remove_folder("prefix");
}

static void in_a_build_tree_the_link_beside_the_program_comes_first(void **state)
{
    (void)state;
    make_folder("prefix/share/ringlab/lua");
    make_folder("prefix/bin");
    make_folder("sources/lib");
    g_autofree char *target = below("sources/lib");
    g_autofree char *link_path = below("prefix/bin/lua");
    assert_int_equal(symlink(target, link_path), 0);
    expect(NULL, "prefix/bin/lua");
    assert_int_equal(g_unlink(link_path), 0);
    expect(NULL, "prefix/share/ringlab/lua");
    remove_folder("sources/lib");
    remove_folder("sources");
    remove_folder("prefix/bin");
    remove_folder("prefix/share/ringlab/lua");
    remove_folder("prefix/share/ringlab");
    remove_folder("prefix/share");
    remove_folder("prefix");
}

static void the_environment_overrides_both(void **state)
{
    (void)state;
    make_folder("prefix/bin/lua");
    make_folder("own");
    g_autofree char *own = below("own");
    expect(own, "own");
    remove_folder("own");
    remove_folder("prefix/bin/lua");
    remove_folder("prefix/bin");
    remove_folder("prefix");
}

static void an_override_that_is_no_folder_is_an_error_that_names_it(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_null(lua_dir_find("/x/bin/ringlab", "/no/such", &error));
    assert_true(g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOENT));
    assert_string_equal(error->message,
                        "the Lua library: RINGLAB_LUA_PATH is /no/such, which is no folder");
}

static void where_there_is_none_the_error_names_all_places(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    assert_null(lua_dir_find("/x/bin/ringlab", NULL, &error));
    assert_string_equal(error->message,
                        "the Lua library is neither in /x/bin/lua nor in /x/share/ringlab/lua: set "
                        "RINGLAB_LUA_PATH to its folder");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(installed_the_library_is_found_below_the_prefix),
        cmocka_unit_test(in_a_build_tree_the_link_beside_the_program_comes_first),
        cmocka_unit_test(the_environment_overrides_both),
        cmocka_unit_test(an_override_that_is_no_folder_is_an_error_that_names_it),
        cmocka_unit_test(where_there_is_none_the_error_names_all_places),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
