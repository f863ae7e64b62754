/*
 * A modelled function served over a socket pair to a stand-in for QEMU: what messages do, what bad
 * ones do, guest memory, and what becomes of either side when the other stops.
 */
#include "models/abi/qemu_proxy.h"
#include "models/qemu_proxy.h"
#include "models/test_toy_model.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cmocka.h>

enum {
    PAGE = 4096,
    RAM_PAGES = 16,
    DEADLINE_MS = 10000, /* of what must not take that long */
    SHORT_MS = 50,       /* a deadline that is meant to pass */
    IO_BASE = 0xc000,
    REGISTER_BASE = 0xfe000000,
    MSIX_BASE = 0xfe001000,
};

struct bed {
    struct toy_model *toy;
    struct qemu_proxy *proxy;
    int qemu; /* the stand-in's end */
    int ram;
    uint8_t *ram_here;
};

/* ---- the stand-in ---- */

static void send_raw(int fd, const void *bytes, size_t len, const int *fds, unsigned n_fds)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(32 * sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
    /* the other side may have hung up at the first bytes: that is for the caller to find out */
    assert_true(n == (ssize_t)len || (n < 0 && (errno == EPIPE || errno == ECONNRESET)));
}

/* Header and payload in one. */
static size_t build(uint8_t *message, int command, const void *payload, size_t size)
{
    struct qemu_proxy_header header = {command, 0xdeadbeef, size};

    memcpy(message, &header, sizeof(header));
    if (size > 0)
        memcpy(message + sizeof(header), payload, size);
    return sizeof(header) + size;
}

static void send_message(struct bed *b, int command, const void *payload, size_t size,
                         const int *fds, unsigned n_fds)
{
    uint8_t message[256];
    size_t len = build(message, command, payload, size);
    send_raw(b->qemu, message, len, fds, n_fds);
}

/* Waits until there is something to read, or the end. */
static void wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
}

static uint64_t expect_reply(struct bed *b)
{
    uint8_t reply[24];
    struct qemu_proxy_header header;
    uint64_t value;

    wait_readable(b->qemu);
    assert_int_equal(recv(b->qemu, reply, sizeof(reply), MSG_WAITALL), sizeof(reply));
    memcpy(&header, reply, sizeof(header));
    memcpy(&value, reply + sizeof(header), sizeof(value));
    assert_int_equal(header.command, QEMU_PROXY_RET);
    assert_int_equal(header.size, 8);
    return value;
}

static void expect_hung_up(struct bed *b)
{
    char byte;

    wait_readable(b->qemu);
    ssize_t n = recv(b->qemu, &byte, 1, 0);
    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

static void send_config(struct bed *b, int command, uint32_t addr, uint32_t value, int len)
{
    struct qemu_proxy_config c = {addr, value, len};
    send_message(b, command, &c, sizeof(c), NULL, 0);
}

static uint64_t config_read(struct bed *b, uint32_t addr, int len)
{
    send_config(b, QEMU_PROXY_PCI_CFGREAD, addr, 0, len);
    return expect_reply(b);
}

static void config_write(struct bed *b, uint32_t addr, uint32_t value, int len)
{
    send_config(b, QEMU_PROXY_PCI_CFGWRITE, addr, value, len);
    assert_int_equal(expect_reply(b), 0);
}

static void send_bar(struct bed *b, int command, bool is_memory, uint64_t addr, uint64_t value,
                     unsigned size)
{
    struct qemu_proxy_bar m = {.addr = addr, .value = value, .size = size, .is_memory = is_memory};
    send_message(b, command, &m, sizeof(m), NULL, 0);
}

static uint64_t bus_read(struct bed *b, bool is_memory, uint64_t addr, unsigned size)
{
    send_bar(b, QEMU_PROXY_BAR_READ, is_memory, addr, 0, size);
    return expect_reply(b);
}

static void bus_write(struct bed *b, bool is_memory, uint64_t addr, uint64_t value, unsigned size)
{
    send_bar(b, QEMU_PROXY_BAR_WRITE, is_memory, addr, value, size);
    assert_int_equal(expect_reply(b), 0);
}

static void reset(struct bed *b)
{
    send_message(b, QEMU_PROXY_DEVICE_RESET, NULL, 0, NULL, 0);
    assert_int_equal(expect_reply(b), 0);
}

/* What was sent before, and has no reply, has been handled. */
static void settle(struct bed *b)
{
    assert_int_equal(config_read(b, PCI_VENDOR_ID, 2), TOY_VENDOR);
}

static void sync_ram(struct bed *b, uint64_t gpa, uint64_t size, uint64_t offset)
{
    struct qemu_proxy_sysmem s = {.gpa = {gpa}, .size = {size}, .offset = {offset}};
    send_message(b, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s), &b->ram, 1);
    settle(b);
}

static void place_bars(struct bed *b)
{
    config_write(b, PCI_BAR0, IO_BASE, 4);
    config_write(b, PCI_BAR2, REGISTER_BASE, 4);
    config_write(b, PCI_BAR4, MSIX_BASE, 4);
    config_write(b, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

/* ---- the bed ---- */

static void connect_with(struct bed *b, const struct qemu_proxy_options *options)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    b->qemu = pair[0];
    b->proxy = qemu_proxy_new(b->toy->m, pair[1], options, NULL);
    assert_non_null(b->proxy);
}

static void disconnect(struct bed *b)
{
    assert_true(qemu_proxy_free(b->proxy));
    b->proxy = NULL;
    if (b->qemu >= 0)
        close(b->qemu);
    b->qemu = -1;
}

static int set_up(void **state)
{
    struct bed *b = g_new0(struct bed, 1);
    b->toy = toy_new();
    b->ram = memfd_create("ram", MFD_CLOEXEC);
    assert_int_equal(ftruncate(b->ram, RAM_PAGES * PAGE), 0);
    b->ram_here = mmap(NULL, RAM_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, b->ram, 0);
    connect_with(b, NULL);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bed *b = *state;
    if (b->proxy)
        disconnect(b);
    pci_model_free(b->toy->m);
    munmap(b->ram_here, RAM_PAGES * PAGE);
    close(b->ram);
    g_free(b);
    return 0;
}

static struct qemu_proxy_stats stats(struct bed *b)
{
    return qemu_proxy_stats(b->proxy);
}

static void expect_ended(struct bed *b, const char *why)
{
    expect_hung_up(b);
    assert_true(qemu_proxy_wait_end(b->proxy, DEADLINE_MS));
    assert_false(stats(b).is_connected);
    assert_string_equal(stats(b).why_ended, why);
}

static void expect_bad(struct bed *b, const char *why)
{
    expect_ended(b, why);
    assert_int_equal(stats(b).bad_messages, 1);
}

/* ---- what messages do ---- */

static void the_messages_of_a_start_are_answered(void **state)
{
    struct bed *b = *state;
    int fds[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
    sync_ram(b, 0, RAM_PAGES * PAGE, 0);
    send_message(b, QEMU_PROXY_SET_IRQFD, NULL, 0, fds, 2);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(config_read(b, PCI_VENDOR_ID, 2), TOY_VENDOR);
    assert_int_equal(config_read(b, PCI_DEVICE_ID, 2), TOY_DEVICE);
    assert_int_equal(config_read(b, 0x0a, 2), 0xff00);
    assert_int_equal(config_read(b, PCI_SUBSYSTEM_ID, 2), 0x1100);
    static const uint32_t sizes[] = {0xffffffc1, 0xffffe000, 0xffffff00, 0, 0xfffff000, 0, 0};
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        uint64_t saved = config_read(b, PCI_BAR0 + 4 * i, 4);
        config_write(b, PCI_BAR0 + 4 * i, 0xffffffff, 4);
        assert_int_equal(config_read(b, PCI_BAR0 + 4 * i, 4), sizes[i]);
        config_write(b, PCI_BAR0 + 4 * i, (uint32_t)saved, 4);
    }
    reset(b);
    struct qemu_proxy_stats s = stats(b);
    assert_true(s.is_connected);
    assert_false(s.was_cut_off);
    assert_int_equal(s.requests, 36); /* with the one that settles */
    assert_int_equal(s.config_reads, 19);
    assert_int_equal(s.config_writes, 14);
    assert_int_equal(s.memory_updates, 1);
    assert_int_equal(s.unmapped_ranges, 0);
    assert_int_equal(s.resets, 1);
    assert_int_equal(s.bad_messages, 0);
    assert_int_equal(toy_n_resets(b->toy), 1);
}

static void registers_are_reached_by_address_in_every_size(void **state)
{
    struct bed *b = *state;
    place_bars(b);
    for (unsigned size = 1; size <= 4; size *= 2) {
        bus_write(b, false, IO_BASE + 60, 0xa1b2c3d4, size);
        assert_int_equal(b->toy->last_size, size);
        assert_int_equal(b->toy->last_offset, 60);
        assert_int_equal(bus_read(b, false, IO_BASE + 60, size),
                         0xa1b2c3d4u & (UINT32_MAX >> (32 - 8 * size)));
        bus_write(b, true, REGISTER_BASE + 8, 0x11223344, size);
        assert_int_equal(b->toy->last_offset, 8);
        assert_int_equal(b->toy->last_value, 0x11223344u & (UINT32_MAX >> (32 - 8 * size)));
    }
    /* nobody there: all ones of that size, and nothing */
    assert_int_equal(bus_read(b, true, IO_BASE + 60, 2), 0xffff);
    assert_int_equal(bus_read(b, false, 0x1234, 1), 0xff);
    assert_int_equal(bus_read(b, true, UINT64_MAX, 4), 0xffffffff);
    bus_write(b, true, 0x1234, 5, 4);
    struct qemu_proxy_stats s = stats(b);
    assert_int_equal(s.bar_reads, 6);
    assert_int_equal(s.bar_writes, 7);
}

static void a_message_may_come_in_pieces(void **state)
{
    struct bed *b = *state;
    uint8_t message[256];
    struct qemu_proxy_sysmem s = {.gpa = {PAGE}, .size = {PAGE}, .offset = {PAGE}};
    struct qemu_proxy_config c = {PCI_DEVICE_ID, 0, 2};
    size_t len = build(message, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s));
    send_raw(b->qemu, message, 1, &b->ram, 1);
    for (size_t i = 1; i < len; i += 7)
        send_raw(b->qemu, message + i, MIN(7, len - i), NULL, 0);
    len = build(message, QEMU_PROXY_PCI_CFGREAD, &c, sizeof(c));
    for (size_t i = 0; i < len; i++)
        send_raw(b->qemu, message + i, 1, NULL, 0);
    assert_int_equal(expect_reply(b), TOY_DEVICE);
    assert_int_equal(stats(b).memory_updates, 1);
    assert_int_equal(stats(b).unmapped_ranges, 0);
    assert_int_equal(stats(b).bad_messages, 0);
}

static void messages_may_come_together(void **state)
{
    struct bed *b = *state;
    uint8_t messages[512];
    uint32_t bytes[8];
    size_t len = 0;
    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = pci_model_config_read(b->toy->m, i, 1);
        struct qemu_proxy_config c = {i, 0, 1};
        len += build(messages + len, QEMU_PROXY_PCI_CFGREAD, &c, sizeof(c));
    }
    send_raw(b->qemu, messages, len, NULL, 0);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(expect_reply(b), bytes[i]);
}

static void a_late_bar_appears_at_the_first_reset(void **state)
{
    struct bed *b = *state;
    disconnect(b);
    connect_with(b, &(struct qemu_proxy_options){.late_bars = 1 << TOY_MEMORY_BAR});
    config_write(b, PCI_BAR1, 0xffffffff, 4);
    assert_int_equal(config_read(b, PCI_BAR1, 4), 0);
    assert_int_equal(config_read(b, PCI_BAR1 + 2, 2), 0);
    config_write(b, PCI_BAR2, 0xffffffff, 4);
    assert_int_equal(config_read(b, PCI_BAR2, 4), 0xffffff00);
    reset(b);
    config_write(b, PCI_BAR1, 0xffffffff, 4);
    assert_int_equal(config_read(b, PCI_BAR1, 4), 0xffffe000);
    reset(b);
    config_write(b, PCI_BAR1, 0xffffffff, 4);
    assert_int_equal(config_read(b, PCI_BAR1, 4), 0xffffe000);
}

/* ---- guest memory ---- */

static struct pci_dma *dma(struct bed *b)
{
    return pci_model_dma(b->toy->m);
}

static void guest_memory_is_where_qemu_says(void **state)
{
    struct bed *b = *state;
    struct qemu_proxy_sysmem s = {
        .gpa = {0, 0x100000}, .size = {2 * PAGE, 4 * PAGE}, .offset = {0, 8 * PAGE}};
    int fds[2] = {b->ram, b->ram};
    send_message(b, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s), fds, 2);
    settle(b);
    memcpy(b->ram_here + PAGE, "low", 4);
    memcpy(b->ram_here + 8 * PAGE, "high", 5);
    uint8_t *low = pci_dma_map(dma(b), PAGE, PAGE);
    uint8_t *high = pci_dma_map(dma(b), 0x100000, 4 * PAGE);
    assert_string_equal(low, "low");
    assert_string_equal(high, "high");
    memcpy(high, "back", 5);
    assert_string_equal(b->ram_here + 8 * PAGE, "back");
    assert_null(pci_dma_map(dma(b), PAGE, PAGE + 1));
    assert_null(pci_dma_map(dma(b), 2 * PAGE, 1));
    assert_null(pci_dma_map(dma(b), 0xfffff, 2));
    pci_dma_unmap(dma(b), low);
    pci_dma_unmap(dma(b), high);
}

static void a_message_lands_in_guest_memory(void **state)
{
    struct bed *b = *state;
    uint32_t word;
    sync_ram(b, 0x100000, PAGE, 0);
    place_bars(b);
    bus_write(b, true, MSIX_BASE + 16, 0x100ffc, 4);
    bus_write(b, true, MSIX_BASE + 16 + 8, 0xcafe, 4);
    bus_write(b, true, MSIX_BASE + 16 + 12, 0, 4);
    config_write(b, PCI_MODEL_MSIX_CAPABILITY + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE, 2);
    bus_write(b, true, REGISTER_BASE + TOY_RAISE, 1, 4);
    memcpy(&word, b->ram_here + 0xffc, 4);
    assert_int_equal(word, 0xcafe);
}

static unsigned n_open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Mappings of the memory called `name` in this process. */
static unsigned n_mappings(const char *name)
{
    g_autofree char *maps = NULL;
    unsigned n = 0;
    assert_true(g_file_get_contents("/proc/self/maps", &maps, NULL, NULL));
    for (const char *at = maps; (at = strstr(at, name)); at++)
        n++;
    return n;
}

static void the_same_memory_again_changes_nothing_and_keeps_no_descriptor(void **state)
{
    struct bed *b = *state;
    sync_ram(b, 0, 4 * PAGE, 0);
    uint8_t *before = pci_dma_map(dma(b), 0, 16);
    unsigned n_files = n_open_files(), n_maps = n_mappings("memfd:ram ");
    assert_int_equal(n_maps, 2); /* the stand-in's and the proxy's */
    for (unsigned i = 0; i < 2000; i++) {
        struct qemu_proxy_sysmem s = {.size = {4 * PAGE}};
        send_message(b, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s), &b->ram, 1);
    }
    settle(b);
    assert_int_equal(stats(b).memory_updates, 2001);
    assert_int_equal(n_open_files(), n_files);
    assert_int_equal(n_mappings("memfd:ram "), n_maps);
    uint8_t *after = pci_dma_map(dma(b), 0, 16);
    assert_ptr_equal(after, before);
    pci_dma_unmap(dma(b), before);
    pci_dma_unmap(dma(b), after);
}

static void moved_memory_keeps_its_place_here(void **state)
{
    struct bed *b = *state;
    sync_ram(b, 0, 4 * PAGE, PAGE);
    uint8_t *before = pci_dma_map(dma(b), 0, 16);
    sync_ram(b, 0x80000000, 4 * PAGE, PAGE);
    assert_null(pci_dma_map(dma(b), 0, 16));
    uint8_t *after = pci_dma_map(dma(b), 0x80000000, 16);
    assert_ptr_equal(after, before);
    pci_dma_unmap(dma(b), before);
    pci_dma_unmap(dma(b), after);
    assert_int_equal(n_mappings("memfd:ram "), 2);
}

static void memory_that_is_gone_stays_for_those_who_have_it_mapped(void **state)
{
    struct bed *b = *state;
    int other = memfd_create("other", MFD_CLOEXEC);
    assert_int_equal(ftruncate(other, PAGE), 0);
    sync_ram(b, 0, PAGE, 0);
    uint8_t *kept = pci_dma_map(dma(b), 0, PAGE);
    struct qemu_proxy_sysmem s = {.size = {PAGE}};
    send_message(b, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s), &other, 1);
    settle(b);
    assert_int_equal(n_mappings("memfd:ram "), 2);
    assert_int_equal(n_mappings("memfd:other "), 1);
    memcpy(kept, "still there", 12);
    assert_string_equal(b->ram_here, "still there");
    pci_dma_unmap(dma(b), kept);
    assert_int_equal(n_mappings("memfd:ram "), 1);
    close(other);
}

static void mapped_memory_outlives_qemu_and_the_proxy(void **state)
{
    struct bed *b = *state;
    sync_ram(b, 0, PAGE, 0);
    struct pci_dma *had = dma(b);
    uint8_t *kept = pci_dma_map(had, 0, PAGE);
    close(b->qemu);
    b->qemu = -1;
    assert_true(qemu_proxy_wait_end(b->proxy, DEADLINE_MS));
    assert_null(pci_dma_map(had, 0, PAGE));
    disconnect(b);
    assert_null(dma(b));
    kept[0] = 7;
    assert_int_equal(b->ram_here[0], 7);
    pci_dma_unmap(had, kept);
    assert_int_equal(n_mappings("memfd:ram "), 1);
}

static void what_cannot_be_mapped_is_left_out_and_counted(void **state)
{
    struct bed *b = *state;
    int fds[5] = {b->ram, eventfd(0, EFD_CLOEXEC), b->ram, b->ram, b->ram};
    struct qemu_proxy_sysmem s = {
        .gpa = {0x10000, 0x20000, 0x30000, 0x40000, 0x50000},
        .size = {PAGE, PAGE, 0, PAGE, UINT64_MAX},
        .offset = {0, 0, 0, (RAM_PAGES - 1) * PAGE + 1, 2 * PAGE},
    };
    send_message(b, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s), fds, 5);
    close(fds[1]);
    settle(b);
    assert_int_equal(stats(b).unmapped_ranges, 4);
    assert_int_equal(stats(b).bad_messages, 0);
    for (unsigned i = 1; i < 5; i++)
        assert_null(pci_dma_map(dma(b), 0x10000 + i * 0x10000, 1));
    assert_true(pci_dma_write32(dma(b), 0x10000, 1));
    assert_int_equal(b->ram_here[0], 1);
}

/* ---- messages that cannot be ---- */

static void expect_bad_message(struct bed *b, int command, size_t size, unsigned n_fds,
                               const char *why)
{
    static const uint8_t zeros[256];
    int fds[QEMU_PROXY_MAX_FDS];
    unsigned n_files = n_open_files();
    for (unsigned i = 0; i < n_fds; i++)
        fds[i] = b->ram;
    send_message(b, command, zeros, size, fds, n_fds);
    expect_bad(b, why);
    assert_int_equal(n_open_files(), n_files - 1); /* none of those, and not the socket */
    disconnect(b);
    connect_with(b, NULL);
}

static void a_message_that_cannot_be_ends_the_connection(void **state)
{
    struct bed *b = *state;
    expect_bad_message(b, 8, 0, 0, "QEMU sent a message of unknown kind 8");
    expect_bad_message(b, -1, 12, 0, "QEMU sent a message of unknown kind -1");
    expect_bad_message(b, QEMU_PROXY_RET, 8, 0, "QEMU sent a message of unknown kind 1");
    expect_bad_message(b, QEMU_PROXY_PCI_CFGREAD, 11, 0, "QEMU's PCI_CFGREAD has 11 bytes, not 12");
    expect_bad_message(b, QEMU_PROXY_BAR_WRITE, 25, 0, "QEMU's BAR_WRITE has 25 bytes, not 24");
    expect_bad_message(b, QEMU_PROXY_DEVICE_RESET, 1, 0, "QEMU's DEVICE_RESET has 1 bytes, not 0");
    expect_bad_message(b, QEMU_PROXY_SYNC_SYSMEM, 192, 0,
                       "QEMU's SYNC_SYSMEM came with 0 descriptors (1 to 8)");
    expect_bad_message(b, QEMU_PROXY_SYNC_SYSMEM, 0, 1, "QEMU's SYNC_SYSMEM has 0 bytes, not 192");
    expect_bad_message(b, QEMU_PROXY_SET_IRQFD, 0, 1,
                       "QEMU's SET_IRQFD came with 1 descriptors (2 to 2)");
    expect_bad_message(b, QEMU_PROXY_PCI_CFGREAD, 12, 8,
                       "QEMU's PCI_CFGREAD came with 8 descriptors (0 to 0)");
    expect_bad_message(b, QEMU_PROXY_PCI_CFGREAD, 193, 0, "QEMU announced a message of 193 bytes");
}

static void accesses_that_cannot_be_end_the_connection(void **state)
{
    struct bed *b = *state;
    static const struct {
        uint32_t addr;
        int len;
        const char *why;
    } config[] = {
        {0, 3, "QEMU asked for 3 bytes at 0x0 of configuration space"},
        {0, 0, "QEMU asked for 0 bytes at 0x0 of configuration space"},
        {0, -1, "QEMU asked for -1 bytes at 0x0 of configuration space"},
        {253, 4, "QEMU asked for 4 bytes at 0xfd of configuration space"},
        {256, 1, "QEMU asked for 1 bytes at 0x100 of configuration space"},
        {0xffffffff, 2, "QEMU asked for 2 bytes at 0xffffffff of configuration space"},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(config); i++) {
        send_config(b, i % 2 ? QEMU_PROXY_PCI_CFGWRITE : QEMU_PROXY_PCI_CFGREAD, config[i].addr, 0,
                    config[i].len);
        expect_bad(b, config[i].why);
        disconnect(b);
        connect_with(b, NULL);
    }
    send_bar(b, QEMU_PROXY_BAR_READ, true, 0, 0, 3);
    expect_bad(b, "QEMU asked for 3 bytes of a BAR");
    disconnect(b);
    connect_with(b, NULL);
    send_bar(b, QEMU_PROXY_BAR_WRITE, true, 0, 0, 0);
    expect_bad(b, "QEMU asked for 0 bytes of a BAR");
}

static void an_oversized_message_is_not_waited_for(void **state)
{
    struct bed *b = *state;
    struct qemu_proxy_header header = {QEMU_PROXY_SYNC_SYSMEM, 0, UINT64_MAX};
    send_raw(b->qemu, &header, sizeof(header), NULL, 0);
    expect_bad(b, "QEMU announced a message of 18446744073709551615 bytes");
}

static void too_many_descriptors_end_the_connection_and_are_closed(void **state)
{
    struct bed *b = *state;
    int fds[20];
    struct qemu_proxy_sysmem s = {.size = {PAGE}};
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = b->ram;
    unsigned n_files = n_open_files();
    send_message(b, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s), fds, G_N_ELEMENTS(fds));
    expect_bad(b, "QEMU sent more descriptors than 8, or than can be open here");
    assert_int_equal(n_open_files(), n_files - 1);

    /* a few with every byte */
    disconnect(b);
    connect_with(b, NULL);
    uint8_t message[256];
    build(message, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s));
    for (unsigned i = 0; i < 5; i++)
        send_raw(b->qemu, message + i, 1, fds, 2);
    expect_bad(b, "QEMU sent more descriptors than 8, or than can be open here");
    assert_int_equal(n_open_files(), n_files - 1);
}

static void a_peer_that_never_reads_answers_is_left(void **state)
{
    struct bed *b = *state;
    uint8_t message[64];
    struct qemu_proxy_config c = {0, 0, 4};
    size_t len = build(message, QEMU_PROXY_PCI_CFGREAD, &c, sizeof(c));
    struct timeval timeout = {.tv_sec = DEADLINE_MS / 1000};
    setsockopt(b->qemu, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    while (send(b->qemu, message, len, MSG_NOSIGNAL) > 0)
        ;
    assert_true(errno == EPIPE || errno == ECONNRESET); /* it was hung up on */
    assert_true(qemu_proxy_wait_end(b->proxy, DEADLINE_MS));
    assert_string_equal(stats(b).why_ended, "QEMU does not read its answers");
    assert_int_equal(stats(b).bad_messages, 1);
}

/* ---- either side's end ---- */

static void when_qemu_hangs_up_the_model_is_reset_and_can_be_served_again(void **state)
{
    struct bed *b = *state;
    place_bars(b);
    bus_write(b, false, IO_BASE, 42, 4);
    close(b->qemu);
    b->qemu = -1;
    assert_true(qemu_proxy_wait_end(b->proxy, DEADLINE_MS));
    assert_false(stats(b).is_connected);
    assert_false(stats(b).was_cut_off);
    assert_string_equal(stats(b).why_ended, "");
    assert_int_equal(toy_n_resets(b->toy), 1);
    assert_int_equal(pci_model_config_read(b->toy->m, PCI_COMMAND, 2), 0);
    assert_int_equal(b->toy->io[0], 0);
    disconnect(b);
    connect_with(b, NULL);
    settle(b);
    assert_int_equal(stats(b).requests, 1);
}

static void a_qemu_that_dies_while_it_speaks_is_no_bad_message(void **state)
{
    struct bed *b = *state;
    uint8_t message[256];
    struct qemu_proxy_sysmem s = {.size = {PAGE}};
    unsigned n_files = n_open_files();
    build(message, QEMU_PROXY_SYNC_SYSMEM, &s, sizeof(s));
    send_raw(b->qemu, message, 100, &b->ram, 1);
    close(b->qemu);
    b->qemu = -1;
    assert_true(qemu_proxy_wait_end(b->proxy, DEADLINE_MS));
    assert_int_equal(stats(b).bad_messages, 0);
    assert_string_equal(stats(b).why_ended, "");
    assert_int_equal(n_open_files(), n_files - 2);
}

static void when_the_proxy_ends_qemu_sees_a_dead_device(void **state)
{
    struct bed *b = *state;
    settle(b);
    assert_true(qemu_proxy_free(b->proxy));
    b->proxy = NULL;
    expect_hung_up(b);
    close(b->qemu);
}

static void a_model_that_takes_too_long_is_cut_off(void **state)
{
    struct bed *b = *state;
    disconnect(b);
    connect_with(b, &(struct qemu_proxy_options){.deadline_ms = SHORT_MS});
    place_bars(b);
    send_bar(b, QEMU_PROXY_BAR_WRITE, true, REGISTER_BASE + TOY_HANG, 1, 4);
    toy_wait_hanging(b->toy, true);
    expect_hung_up(b);
    assert_true(stats(b).was_cut_off);
    assert_false(stats(b).is_connected);
    assert_string_equal(stats(b).why_ended, "the model took longer than 50 ms over an access");
    assert_false(qemu_proxy_wait_end(b->proxy, 0));
    /* it comes back after all */
    toy_go_on(b->toy);
    assert_true(qemu_proxy_wait_end(b->proxy, DEADLINE_MS));
    assert_int_equal(toy_n_resets(b->toy), 1 + 1);
}

static void a_slow_model_within_its_deadline_is_waited_for(void **state)
{
    struct bed *b = *state;
    place_bars(b);
    send_bar(b, QEMU_PROXY_BAR_WRITE, true, REGISTER_BASE + TOY_HANG, 1, 4);
    toy_wait_hanging(b->toy, true);
    toy_go_on(b->toy);
    assert_int_equal(expect_reply(b), 0);
    assert_false(stats(b).was_cut_off);
    settle(b);
}

static void a_model_that_never_comes_back_is_left_behind(void **state)
{
    struct bed *b = *state;
    disconnect(b);
    connect_with(b, &(struct qemu_proxy_options){.deadline_ms = SHORT_MS});
    place_bars(b);
    send_bar(b, QEMU_PROXY_BAR_WRITE, true, REGISTER_BASE + TOY_HANG, 1, 4);
    toy_wait_hanging(b->toy, true);
    assert_false(qemu_proxy_free(b->proxy));
    b->proxy = NULL;
    expect_hung_up(b);
    close(b->qemu);
    /* here it does, so that nothing is left: its thread frees the rest, then lets go of the model
     */
    toy_go_on(b->toy);
    gint64 until = g_get_monotonic_time() + DEADLINE_MS * 1000;
    while (pci_model_dma(b->toy->m) && g_get_monotonic_time() < until)
        g_thread_yield();
    assert_null(pci_model_dma(b->toy->m));
}

static void without_a_socket_messages_are_handled_by_hand(void **state)
{
    struct bed *b = *state;
    uint8_t message[64], reply[24];
    struct qemu_proxy_config c = {PCI_DEVICE_ID, 0, 2};
    disconnect(b);
    b->proxy = qemu_proxy_new(b->toy->m, -1, NULL, NULL);
    size_t len = build(message, QEMU_PROXY_PCI_CFGREAD, &c, sizeof(c));
    assert_int_equal(qemu_proxy_message(b->proxy, message, len, NULL, 0, reply), 24);
    assert_int_equal(reply[16] | reply[17] << 8, TOY_DEVICE);
    assert_int_equal(qemu_proxy_message(b->proxy, message, len - 1, NULL, 0, reply), -1);
    assert_int_equal(qemu_proxy_message(b->proxy, message, 15, NULL, 0, reply), -1);
    assert_int_equal(stats(b).bad_messages, 2);
    assert_false(stats(b).is_connected);
    assert_true(qemu_proxy_wait_end(b->proxy, 0));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_messages_of_a_start_are_answered),
        TEST(registers_are_reached_by_address_in_every_size),
        TEST(a_message_may_come_in_pieces),
        TEST(messages_may_come_together),
        TEST(a_late_bar_appears_at_the_first_reset),
        TEST(guest_memory_is_where_qemu_says),
        TEST(a_message_lands_in_guest_memory),
        TEST(the_same_memory_again_changes_nothing_and_keeps_no_descriptor),
        TEST(moved_memory_keeps_its_place_here),
        TEST(memory_that_is_gone_stays_for_those_who_have_it_mapped),
        TEST(mapped_memory_outlives_qemu_and_the_proxy),
        TEST(what_cannot_be_mapped_is_left_out_and_counted),
        TEST(a_message_that_cannot_be_ends_the_connection),
        TEST(accesses_that_cannot_be_end_the_connection),
        TEST(an_oversized_message_is_not_waited_for),
        TEST(too_many_descriptors_end_the_connection_and_are_closed),
        TEST(a_peer_that_never_reads_answers_is_left),
        TEST(when_qemu_hangs_up_the_model_is_reset_and_can_be_served_again),
        TEST(a_qemu_that_dies_while_it_speaks_is_no_bad_message),
        TEST(when_the_proxy_ends_qemu_sees_a_dead_device),
        TEST(a_model_that_takes_too_long_is_cut_off),
        TEST(a_slow_model_within_its_deadline_is_waited_for),
        TEST(a_model_that_never_comes_back_is_left_behind),
        TEST(without_a_socket_messages_are_handled_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
