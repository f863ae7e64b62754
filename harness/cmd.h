/*
 * What the subcommands of `ringlab` have in common: their table, exit statuses, one-line errors.
 * A command is one file, harness/cmd_NAME.c, with one entry in the table of harness/main.c.
 */
#ifndef RINGLAB_CMD_H
#define RINGLAB_CMD_H

#include <glib.h>
#include <stdbool.h>

enum cmd_status {
    CMD_PASSED = 0,       /* done, or all tests passed */
    CMD_FAILED = 1,       /* a test failed, or what was compared differs */
    CMD_USAGE = 2,        /* wrong usage, a broken scenario, or nothing could be started */
    CMD_SKIPPED = 77,     /* all tests were skipped */
    CMD_INTERRUPTED = 130 /* Ctrl-C or SIGTERM */
};

struct command {
    const char *name;
    const char *arguments; /* what follows the name: "FILE|DIR..." */
    const char *summary;   /* one phrase for `ringlab --help` */
    /* argv[0] is the command's name. Returns an exit status. Parses its options itself, with
     * cmd_parse(), and so answers --help. */
    int (*run)(int argc, char **argv);
};

/* `ringlab [--version] [--help] COMMAND [ARGUMENT...]`: finds the command in `commands` (ended by
 * an entry with no name) and runs it. `help COMMAND` is the same as `COMMAND --help`. */
int cmd_dispatch(const struct command *commands, int argc, char **argv);

/* Parses the options of a command out of argc and argv; what is left over starts at (*argv)[1].
 * `arguments` is as in struct command; `text` is the paragraph below the usage line of --help, and
 * `examples` comes after the options. With --help it prints and sets *done. False: wrong usage,
 * already printed; return CMD_USAGE then. */
bool cmd_parse(const GOptionEntry *entries, const char *arguments, const char *text,
               const char *examples, int *argc, char ***argv, bool *done);

/* Prints "ringlab COMMAND: MESSAGE" as one line on standard error: line breaks become "; ". */
void cmd_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* The last thing a command line does: what was printed has to have arrived. Returns `status`, or
 * CMD_USAGE after an error that says that standard output could not be written. */
int cmd_finish(int status);

/* ---- the commands; each in its own file ---- */

int cmd_probe(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_regs(int argc, char **argv);
int cmd_bench(int argc, char **argv);
int cmd_pktgen(int argc, char **argv);
int cmd_attach(int argc, char **argv);

#endif
