/*
 * `ringlab attach`: modelled devices for the user's own QEMU.
 * Not here: how they get there (attach.h).
 */
#include "harness/attach.h"
#include "harness/cancel.h"
#include "harness/child.h"
#include "harness/cmd.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help_text[] =
    "Gives a QEMU of your own, with a guest that boots, modelled devices. Each DEVICE is\n"
    "ptnet-pci,port=PORT with a netmap port: vale0:a, or a pipe such as vale0:a{1; besides it "
    "takes\n"
    "mac=, klooptx=off, klooprx=off, and what QEMU's -device takes: id=, addr=, bus=.\n"
    "The command behind '--' is run with what the devices need added: shared RAM (unless it names "
    "a\n"
    "memory backend itself, which must have share=on), a qtest socket, the devices, and for each\n"
    "memory of netmap's a ptnetmap-memdev.\n"
    "\n"
    "The guest finds 1b36:000d (ptnet) and 1b36:000c (memdev), as on a QEMU that was built with\n"
    "ptnetmap. Interrupts are MSI-X messages. It ends when QEMU ends, with its status.";

static const char help_examples[] =
    "Examples:\n"
    "  ringlab attach ptnet-pci,port=vale0:a --link vale0:b=tap:tap0 -- \\\n"
    "      qemu-system-x86_64 -m 1G -accel kvm -hda guest.qcow2\n"
    "  ringlab attach ptnet-pci,port=vale0:a ptnet-pci,port=vale0:b -- qemu-system-x86_64 ...\n"
    "\n"
    "Exit status: that of QEMU; 2 wrong usage, or QEMU could not be started; 130 interrupted.\n";

static bool is_verbose;

static void note(const char *line)
{
    if (is_verbose) {
        fprintf(stderr, "ringlab attach: %s\n", line);
    }
}

/* Cuts argv at '--': what stands behind is the command. */
static char **take_command(int *argc, char **argv)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            argv[i] = NULL;
            *argc = i;
            return argv + i + 1;
        }
    }
    return NULL;
}

static int run(struct attach *a, char **command)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) argv = attach_command(a, command, &error);
    struct child child;
    unsigned n_fds;

    if (!argv) {
        cmd_error("%s", error->message);
        return CMD_USAGE;
    }
    g_autofree char *program = g_find_program_in_path(command[0]);
    if (!program) {
        cmd_error("there is no program '%s'", command[0]);
        return CMD_USAGE;
    }
    const int *fds = attach_fds(a, &n_fds);
    struct child_options options = {.program = program,
                                    .argv = (const char *const *)argv->pdata,
                                    .inherit_fds = fds,
                                    .n_inherit_fds = n_fds,
                                    .stdout_fd = STDOUT_FILENO,
                                    .stderr_fd = STDERR_FILENO,
                                    .is_users = true};
    if (!child_start(&child, &options, &error)) {
        cmd_error("%s", error->message);
        return CMD_USAGE;
    }
    attach_started(a);
    struct pollfd p[2] = {{.fd = child.pidfd, .events = POLLIN},
                          {.fd = cancel_fd(), .events = POLLIN}};
    while (!child_wait(&child, 0) && !cancel_is_requested()) {
        poll(p, 2, -1);
    }
    if (cancel_is_requested()) {
        child_kill(&child);
        return CMD_INTERRUPTED;
    }
    if (WIFSIGNALED(child.status)) {
        g_autofree char *how = child_how_ended(&child);
        cmd_error("QEMU %s", how);
        return CMD_FAILED;
    }
    return WEXITSTATUS(child.status);
}

static void print_stats(struct attach *a)
{
    struct attach_stats s = attach_stats(a);

    g_autofree char *line =
        g_strdup_printf("%" G_GUINT64_FORMAT " interrupts delivered, %" G_GUINT64_FORMAT " lost",
                        s.messages, s.failures);
    note(line);
}

static bool prepare(struct attach *a, char **devices, char **links, GError **error)
{
    for (char **link = links; link && *link; link++) {
        if (!attach_add_link(a, *link, error)) {
            return false;
        }
    }
    for (; *devices; devices++) {
        if (!attach_add_device(a, *devices, error)) {
            return false;
        }
    }
    return true;
}

int cmd_attach(int argc, char **argv)
{
    g_auto(GStrv) links = NULL;
    const GOptionEntry entries[] = {
        {"link", 'l', 0, G_OPTION_ARG_STRING_ARRAY, &links,
         "Links a port to tap:NAME, pcap:FILE or echo", "PORT=WHAT"},
        {"verbose", 'v', 0, G_OPTION_ARG_NONE, &is_verbose, "Say what is done for the guest", NULL},
        G_OPTION_ENTRY_NULL,
    };
    g_autoptr(GError) error = NULL;
    char **command = take_command(&argc, argv);
    bool done = false;

    if (!cmd_parse(entries, "DEVICE... -- QEMU-COMMAND...", help_text, help_examples, &argc, &argv,
                   &done)) {
        return CMD_USAGE;
    }
    if (done) {
        return CMD_PASSED;
    }
    if (!command || !*command || argc < 2) {
        cmd_error("%s; 'ringlab attach --help' shows how",
                  argc < 2 ? "no DEVICE given" : "no QEMU command; it stands behind '--'");
        return CMD_USAGE;
    }
    struct attach *a = attach_new(note, &error);
    if (!a || !prepare(a, argv + 1, links, &error)) {
        cmd_error("%s", error->message);
        if (a) {
            attach_free(a);
        }
        return CMD_USAGE;
    }
    int status = run(a, command);
    print_stats(a);
    attach_free(a);
    return status;
}
