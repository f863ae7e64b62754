/*
 * Finding and running a subcommand, and what their --help and their errors look like.
 */
#include "harness/cmd.h"
#include "harness/cancel.h"
#include "qtest_client/pci.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void print_help(const struct command *commands)
{
    printf("Usage: ringlab [--version] [--help] COMMAND [ARGUMENT...]\n\n"
           "A laboratory for devices that share rings with a guest. It drives the devices of a\n"
           "stock QEMU from outside, with no guest booted.\n\n"
           "Commands:\n");
    for (const struct command *c = commands; c->name; c++) {
        g_autofree char *synopsis = g_strconcat(c->name, " ", c->arguments, NULL);
        printf("  %-26s %s\n", synopsis, c->summary);
    }
    printf("  %-26s %s\n\n", "help COMMAND", "all about one command");
    printf("Exit status: 0 all passed; 1 something failed; 2 wrong usage or a broken scenario;\n"
           "77 all skipped; 130 interrupted.\n\n"
           "Environment:\n"
           "  RINGLAB_QEMU               the QEMU to use; otherwise qemu-system-x86_64 on PATH\n"
           "  NO_COLOR                   no colours, even on a terminal\n");
}

static const struct command *find(const struct command *commands, const char *name)
{
    for (const struct command *c = commands; c->name; c++) {
        if (!strcmp(c->name, name))
            return c;
    }
    return NULL;
}

static int unknown(const struct command *commands, const char *name)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    for (const struct command *c = commands; c->name; c++)
        g_ptr_array_add(names, (gpointer)(uintptr_t)c->name);
    const char *nearest = pci_nearest_name(name, (const char *const *)names->pdata, names->len);
    g_autofree char *hint = nearest ? g_strdup_printf("; did you mean '%s'?", nearest)
                                    : g_strdup("; 'ringlab --help' lists them");
    cmd_error("no command '%s'%s", name, hint);
    return CMD_USAGE;
}

static int run(const struct command *command, int argc, char **argv)
{
    /* GOption and GLib's own messages take the program's name from here. */
    g_autofree char *name = g_strconcat("ringlab ", command->name, NULL);
    g_set_prgname(name);
    return command->run(argc, argv);
}

int cmd_dispatch(const struct command *commands, int argc, char **argv)
{
    g_set_prgname("ringlab");
    if (argc < 2) {
        cmd_error("no command given; 'ringlab --help' lists them");
        return CMD_USAGE;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--version")) {
        printf("ringlab %s\n", RINGLAB_VERSION);
        return CMD_PASSED;
    }
    bool is_help = !strcmp(word, "help");
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || (is_help && argc == 2)) {
        print_help(commands);
        return CMD_PASSED;
    }
    if (word[0] == '-') {
        cmd_error("no option '%s' before the command; 'ringlab --help' lists them", word);
        return CMD_USAGE;
    }
    if (is_help)
        word = argv[2];
    const struct command *command = find(commands, word);
    if (!command)
        return unknown(commands, word);
    if (is_help) {
        char help[] = "--help";
        char *help_argv[] = {argv[2], help, NULL};
        return run(command, 2, help_argv);
    }
    return run(command, argc - 1, argv + 1);
}

bool cmd_parse(const GOptionEntry *entries, const char *arguments, const char *text,
               const char *examples, int *argc, char ***argv, bool *done)
{
    g_autoptr(GOptionContext) context = g_option_context_new(arguments);
    g_autoptr(GError) error = NULL;
    gboolean help = FALSE;
    const GOptionEntry help_entry[] = {
        {"help", 'h', 0, G_OPTION_ARG_NONE, &help, "Print this text", NULL},
        G_OPTION_ENTRY_NULL,
    };

    /* GOption's own --help would leave through exit(). */
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_set_summary(context, text);
    g_option_context_set_description(context, examples);
    if (entries)
        g_option_context_add_main_entries(context, entries, NULL);
    g_option_context_add_main_entries(context, help_entry, NULL);
    if (!g_option_context_parse(context, argc, argv, &error)) {
        cmd_error("%s; '%s --help' lists the options", error->message, g_get_prgname());
        return false;
    }
    /* "--" ends the options and is left in place by GOption where an argument looks like one. */
    if (*argc > 1 && !strcmp((*argv)[1], "--")) {
        memmove(&(*argv)[1], &(*argv)[2], (size_t)(*argc - 1) * sizeof(char *));
        (*argc)--;
    }
    *done = help;
    if (help) {
        g_autofree char *out = g_option_context_get_help(context, TRUE, NULL);
        fputs(out, stdout);
    }
    return true;
}

void cmd_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_auto(GStrv) lines = g_strsplit(g_strchomp(text), "\n", -1);
    for (char **l = lines; *l; l++)
        g_strstrip(*l);
    g_autofree char *line = g_strjoinv("; ", lines);
    fflush(stdout);
    /* Whatever failed then failed because of that. */
    if (cancel_is_requested())
        fprintf(stderr, "%s: interrupted (%s)\n", g_get_prgname(), g_strsignal(cancel_signal()));
    else
        fprintf(stderr, "%s: %s\n", g_get_prgname(), line);
}

int cmd_finish(int status)
{
    bool has_failed_now = fflush(stdout) != 0;
    int reason = errno;
    if (!has_failed_now && !ferror(stdout))
        return status;
    cmd_error("cannot write to standard output%s%s; what was to be told is lost",
              has_failed_now ? ": " : "", has_failed_now ? g_strerror(reason) : "");
    return CMD_USAGE;
}
