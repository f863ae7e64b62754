/*
 * `ringlab probe`: what is on the bus. Not here: finding it out and printing it (probe.h).
 */
#include "harness/cancel.h"
#include "harness/cmd.h"
#include "harness/devspec.h"
#include "harness/probe.h"

#include <unistd.h>

static const char help_text[] =
    "Starts a QEMU with the devices given, finds what is on its PCI bus, and shows each device:\n"
    "ids, BARs, capabilities, and every register that ringlab has a table of, decoded. A DEVICE "
    "is\n"
    "written as for QEMU's -device: NAME,PROPERTY=VALUE,... What it needs beside that (a netdev,\n"
    "memory, an ivshmem server, a disk) is made if it is not named. ptnet-pci and "
    "ptnetmap-memdev\n"
    "are ringlab's own models, on QEMU's bus. Without a DEVICE the functions of the bare machine "
    "are\n"
    "listed.\n"
    "Access of registers: ro read only, rw read and write, wo write only, rc cleared by reading "
    "(so\n"
    "the value shown is gone), w1c a one clears the bit, w1s a one sets it or starts something.";

static const char help_examples[] =
    "Examples:\n"
    "  ringlab probe                                   the bare machine\n"
    "  ringlab probe virtio-net-pci ivshmem-plain      two devices, every register\n"
    "  ringlab probe virtio-net-pci,disable-legacy=on  without the legacy interface\n"
    "  ringlab probe ivshmem-plain,size=64M            with 64 MiB of shared memory\n"
    "  ringlab probe ptnet-pci,port=vale0:a            netmap passthrough, with its memdev\n"
    "  ringlab probe --machine q35 pcie-root-port,id=rp e1000e,bus=rp\n"
    "                                                  behind a root port\n"
    "  ringlab probe --json edu | jq '.functions[].blocks'\n"
    "\n"
    "Exit status: 0 shown; 1 QEMU or a device failed meanwhile; 2 wrong usage, or QEMU did not\n"
    "start with these devices.\n";

static bool parse_board(const char *name, enum machine_board *board)
{
    if (!name || g_str_equal(name, "pc"))
        *board = MACHINE_PC;
    else if (g_str_equal(name, "q35"))
        *board = MACHINE_Q35;
    else
        return false;
    return true;
}

static bool has_color(void)
{
    const char *term = g_getenv("TERM");
    const char *no_color = g_getenv("NO_COLOR");
    return isatty(STDOUT_FILENO) && g_strcmp0(term, "dumb") != 0 && !(no_color && *no_color);
}

/* What was asked for cannot be, in contrast to something that failed while it was done. */
static bool is_usage(const GError *error)
{
    return error->domain == QEMU_ERROR || error->domain == DEVSPEC_ERROR ||
           error->domain == SESSION_ERROR || error->domain == PROBE_ERROR;
}

int cmd_probe(int argc, char **argv)
{
    g_autofree char *machine = NULL;
    g_autofree char *accelerator = NULL;
    gboolean is_json = FALSE, is_all = FALSE;
    const GOptionEntry entries[] = {
        {"machine", 'm', 0, G_OPTION_ARG_STRING, &machine, "pc (default) or q35", "MACHINE"},
        {"accel", 0, 0, G_OPTION_ARG_STRING, &accelerator,
         "QEMU's accelerator; otherwise qtest where there is one, else tcg", "NAME"},
        {"all", 'a', 0, G_OPTION_ARG_NONE, &is_all,
         "Show the registers of the machine's own functions too", NULL},
        {"json", 'j', 0, G_OPTION_ARG_NONE, &is_json, "One JSON object, for machines", NULL},
        G_OPTION_ENTRY_NULL,
    };
    bool done = false;
    if (!cmd_parse(entries, "[DEVICE...]", help_text, help_examples, &argc, &argv, &done))
        return CMD_USAGE;
    if (done)
        return CMD_PASSED;
    struct probe_options options = {
        .accelerator = accelerator,
        .devices = (const char *const *)argv + 1,
        .is_all = is_all,
    };
    if (!parse_board(machine, &options.board)) {
        cmd_error("--machine %s: there are pc and q35", machine);
        return CMD_USAGE;
    }
    g_autoptr(GError) error = NULL;
    struct probe *probe = probe_new(&options, &error);
    if (!probe) {
        cmd_error("%s", error->message);
        return is_usage(error) ? CMD_USAGE : CMD_FAILED;
    }
    if (is_json)
        probe_print_json(probe, stdout);
    else
        probe_print_text(probe, stdout, has_color());
    probe_free(probe);
    return CMD_PASSED;
}
