/*
 * The `ringlab` program: the table of its commands. Each command lives in a file of its own.
 */
#include "harness/cancel.h"
#include "harness/cmd.h"

#include <fcntl.h>
#include <locale.h>
#include <unistd.h>

static const struct command commands[] = {
    {"probe", "[DEVICE...]", "what is on the bus: ids, BARs, capabilities, registers", cmd_probe},
    {"run", "FILE|DIR...", "run scenarios; TAP on stdout, JUnit and JSON under results/", cmd_run},
    {"regs", "snapshot|diff|check ...", "register semantics as text, compared with a baseline",
     cmd_regs},
    {"attach", "DEVICE... -- QEMU-COMMAND...", "modelled devices for a QEMU of your own",
     cmd_attach},
    {"bench", "[NAME...]", "measure; --json for machines", cmd_bench},
    {"pktgen", "-i PORT [-f MODE] ...", "send, receive and measure frames on netmap ports",
     cmd_pktgen},
    {NULL, NULL, NULL, NULL},
};

/* How long teardown may take after Ctrl-C. */
enum { TEARDOWN_S = 10 };

/* A descriptor that the caller closed would be given to the next socket, and what is printed would
 * go into that. */
static void fill_standard_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    setlocale(LC_CTYPE, "");
    cancel_install(TEARDOWN_S);
    int status = cmd_finish(cmd_dispatch(commands, argc, argv));
    return cancel_is_requested() ? CMD_INTERRUPTED : status;
}
