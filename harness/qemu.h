/*
 * A QEMU process: finding the binary, learning what it is, starting it with inherited sockets,
 * noticing its death, ending it in every case. Nothing it uses has a name in the file system.
 */
#ifndef RINGLAB_QEMU_H
#define RINGLAB_QEMU_H

#include "qtest_client/machine.h"
#include "qtest_client/qmp.h"
#include "qtest_client/qtest.h"

#define QEMU_ERROR (qemu_error_quark())
GQuark qemu_error_quark(void);

enum qemu_error {
    QEMU_ERROR_NOT_FOUND,   /* no binary */
    QEMU_ERROR_UNSUPPORTED, /* this QEMU has no such accelerator, machine or device */
    QEMU_ERROR_START,       /* it exited while starting; the message has its last lines */
    QEMU_ERROR_SYSTEM,
};

/* What a binary says of itself. Each question costs a process start (15 to 40 ms), so it is asked
 * when first needed and the answer kept for the life of this process. Starting a QEMU asks none. */
struct qemu_info {
    char *path;
    int major, minor, micro;
    char *package; /* "Debian 1:7.2+..." or "" */
};
/* Path of the binary: $RINGLAB_QEMU if set (a path, or a name on PATH), else qemu-system-x86_64 on
 * PATH. Freed with g_free. */
char *qemu_find_binary(GError **error);
/* Asks the version. Owned by the function. Callable from any thread. */
const struct qemu_info *qemu_info_get(GError **error);
/* What `-accel help` lists, and every name and alias that -device takes, sorted; NULL-terminated;
 * empty if the binary did not answer. */
const char *const *qemu_info_accelerators(const struct qemu_info *info);
const char *const *qemu_info_devices(const struct qemu_info *info);
bool qemu_info_has_device(const struct qemu_info *info, const char *name);
/* The device name nearest to `name`, or NULL; for messages. */
const char *qemu_info_nearest_device(const struct qemu_info *info, const char *name);

struct qemu;

struct qemu_options {
    const char *name; /* for messages: "m", "left" ... */
    enum machine_board board;
    const char *accelerator; /* NULL: qtest where there is one, else tcg */
    uint64_t ram_bytes;      /* 0: 16 MiB */
    int ram_fd; /* machine RAM as shared memory behind this descriptor; 0 or -1: QEMU's own */
    const char *const *args; /* more arguments, NULL-terminated; may be NULL */
    const int *inherit_fds;  /* descriptors the arguments name by number; kept open, same number */
    unsigned n_inherit_fds;
    unsigned timeout_ms; /* for start and each reply; 0: 5000 */
};

/* Starts a QEMU with the parking ROM in its vCPU, qtest and QMP on inherited socket pairs, its
 * working folder a private one that has no name any more, its standard error kept (the first
 * 16 MiB). Returns when QMP has greeted and qtest has answered once. The child is killed when the
 * thread that started it dies. Without a choice of accelerator QEMU is told `-accel qtest -accel
 * tcg` and takes the first it has: no question has to be asked beforehand. */
struct qemu *qemu_start(const struct qemu_options *options, GError **error);
/* Ends it with SIGKILL, and reaps it. There is no guest whose disks an orderly end would keep
 * whole, and a QEMU that is blocked (in a reply, in a silent peer) does not act on SIGTERM. */
void qemu_free(struct qemu *qemu);

struct qtest *qemu_qtest(struct qemu *qemu);
struct qmp *qemu_qmp(struct qemu *qemu);
/* 0 once it has ended. */
int qemu_pid(const struct qemu *qemu);
/* The accelerator it runs with: as asked for, or the one QEMU chose. */
const char *qemu_accelerator(const struct qemu *qemu);
/* Whether it is still running; if not, *reason (freed with g_free) says how it ended: "was killed
 * by signal 9 (Killed)", "exited with status 1", then its last lines. */
bool qemu_is_alive(struct qemu *qemu, char **reason);
/* What it wrote to standard output and error so far, without a few lines that our own command line
 * always causes. */
char *qemu_log(struct qemu *qemu);
/* The command line, quoted for a shell. */
char *qemu_command_line(struct qemu *qemu);

#endif
