/*
 * The `ringlab` program: the table of its commands. Each command lives in a file of its own.
 */
#include "harness/cmd.h"

#include <locale.h>

static const struct command commands[] = {
    {"run", "FILE|DIR...", "run scenarios; TAP on stdout, JUnit and JSON under results/", cmd_run},
    {"regs", "snapshot|diff|check ...", "register semantics as text, compared with a baseline",
     cmd_regs},
    {NULL, NULL, NULL, NULL},
};

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    return cmd_dispatch(commands, argc, argv);
}
