/*
 * See sysfs_machine.h. Follows Linux' Documentation/PCI/sysfs-pci.rst and
 * admin-guide/mm/pagemap.rst.
 */
#include "images/guest/sysfs_machine.h"

#include "models/abi/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PCI_DEVICES "/sys/bus/pci/devices"

enum { N_BARS = 6, MAX_FUNCTIONS = 16, CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc };

struct bar {
    int fd; /* its resource file; -1: absent */
    bool is_io;
    uint32_t type; /* the low bits of the register */
    uint64_t size;
    uint32_t base; /* where the driver has placed it */
    uint8_t *map;  /* memory, once it was accessed */
};

struct function {
    unsigned slot, number;
    int config_fd;
    struct bar bars[N_BARS];
};

struct sysfs_machine {
    struct machine base;
    struct function functions[MAX_FUNCTIONS];
    unsigned n_functions;
    uint32_t config_address;
};

static bool fail(GError **error, const char *what, const char *which)
{
    g_set_error(error, QTEST_ERROR, QTEST_ERROR_SYSTEM, "%s %s: %s", what, which,
                g_strerror(errno));
    return false;
}

/* ---- configuration space ---- */

static struct bar *bar_at(struct function *f, unsigned offset)
{
    bool is_bar = offset >= PCI_BAR0 && offset < PCI_BAR0 + 4 * N_BARS;

    return is_bar ? &f->bars[(offset - PCI_BAR0) / 4] : NULL;
}

static uint32_t config_read(struct function *f, unsigned offset, unsigned width)
{
    const struct bar *bar = bar_at(f, offset);
    uint32_t value = 0;

    if (bar) {
        value = bar->fd >= 0 ? bar->base | bar->type : 0;
        return (uint32_t)((uint64_t)value >> 8 * (offset & 3) & ((UINT64_C(1) << 8 * width) - 1));
    }
    return pread(f->config_fd, &value, width, offset) == (ssize_t)width ? value : UINT32_MAX;
}

static void config_write(struct function *f, unsigned offset, uint32_t value, unsigned width)
{
    struct bar *bar = bar_at(f, offset);

    if (bar) {
        if (bar->fd >= 0 && width == 4) {
            bar->base = value & ~(uint32_t)(bar->size - 1);
        }
        return;
    }
    (void)!pwrite(f->config_fd, &value, width, offset);
}

static struct function *addressed(struct sysfs_machine *m)
{
    for (unsigned i = 0; i < m->n_functions; i++) {
        struct function *f = &m->functions[i];
        if ((m->config_address & 0x80ffff00u) == (0x80000000u | f->slot << 11 | f->number << 8)) {
            return f;
        }
    }
    return NULL;
}

/* ---- accesses ---- */

static struct bar *bar_of(struct sysfs_machine *m, const struct machine_access *a, uint64_t *offset)
{
    for (unsigned i = 0; i < m->n_functions; i++) {
        for (unsigned k = 0; k < N_BARS; k++) {
            struct bar *bar = &m->functions[i].bars[k];
            if (bar->fd >= 0 && bar->base != 0 && bar->is_io == (a->space == MACHINE_IO) &&
                a->addr >= bar->base && a->addr + a->width <= bar->base + bar->size) {
                *offset = a->addr - bar->base;
                return bar;
            }
        }
    }
    return NULL;
}

static bool map_bar(struct bar *bar, GError **error)
{
    if (bar->map) {
        return true;
    }
    void *map = mmap(NULL, bar->size, PROT_READ | PROT_WRITE, MAP_SHARED, bar->fd, 0);
    if (map == MAP_FAILED) {
        return fail(error, "cannot map", "a BAR");
    }
    bar->map = map;
    return true;
}

/* One access of exactly this width. */
static void access_memory(volatile void *at, struct machine_access *a)
{
    switch (a->width) {
    case 1:
        a->is_write ? *(volatile uint8_t *)at = (uint8_t)a->value
                    : (a->value = *(volatile uint8_t *)at);
        break;
    case 2:
        a->is_write ? *(volatile uint16_t *)at = (uint16_t)a->value
                    : (a->value = *(volatile uint16_t *)at);
        break;
    case 4:
        a->is_write ? *(volatile uint32_t *)at = (uint32_t)a->value
                    : (a->value = *(volatile uint32_t *)at);
        break;
    default:
        a->is_write ? *(volatile uint64_t *)at = a->value : (a->value = *(volatile uint64_t *)at);
        break;
    }
}

static bool access_bar(struct bar *bar, uint64_t offset, struct machine_access *a, GError **error)
{
    uint64_t value = a->value;
    ssize_t done;

    if (!bar->is_io) {
        if (!map_bar(bar, error)) {
            return false;
        }
        access_memory(bar->map + offset, a);
        return true;
    }
    if (a->is_write) {
        done = pwrite(bar->fd, &value, a->width, (off_t)offset);
    } else {
        value = 0;
        done = pread(bar->fd, &value, a->width, (off_t)offset);
        a->value = value;
    }
    return done == (ssize_t)a->width || fail(error, "cannot access", "an I/O BAR");
}

static bool run_one(struct sysfs_machine *m, struct machine_access *a, GError **error)
{
    struct function *f = addressed(m);
    uint64_t offset = 0;

    if (a->space == MACHINE_IO && a->addr == CONFIG_ADDRESS && a->width == 4 && a->is_write) {
        m->config_address = (uint32_t)a->value;
        return true;
    }
    if (a->space == MACHINE_IO && a->addr >= CONFIG_DATA && a->addr < CONFIG_DATA + 4) {
        unsigned at = (m->config_address & 0xfcu) + (unsigned)(a->addr - CONFIG_DATA);
        if (!f) {
            a->value = a->is_write ? a->value : (UINT64_C(1) << 8 * a->width) - 1;
        } else if (a->is_write) {
            config_write(f, at, (uint32_t)a->value, a->width);
        } else {
            a->value = config_read(f, at, a->width);
        }
        return true;
    }
    struct bar *bar = bar_of(m, a, &offset);
    if (bar) {
        return access_bar(bar, offset, a, error);
    }
    if (!a->is_write) {
        a->value = a->width == 8 ? UINT64_MAX : (UINT64_C(1) << 8 * a->width) - 1;
    }
    return true; /* nobody is there: the same as on a bus */
}

static bool run(struct machine *base, struct machine_access *accesses, size_t n, GError **error)
{
    struct sysfs_machine *m = (struct sysfs_machine *)base;

    for (size_t i = 0; i < n; i++) {
        if (!run_one(m, &accesses[i], error)) {
            return false;
        }
    }
    return true;
}

static bool post(struct machine *base, const struct machine_access *access, GError **error)
{
    struct machine_access a = *access;

    return run(base, &a, 1, error);
}

static bool barrier(struct machine *base, GError **error)
{
    (void)base;
    (void)error;
    return true; /* each access has happened when it returns */
}

/* Memory that no region holds: none of this machine's. */
static bool no_bytes(GError **error, uint64_t addr)
{
    g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID, "0x%" PRIx64 " is in no shared region",
                addr);
    return false;
}

static bool read_bytes(struct machine *m, uint64_t addr, void *bytes, size_t len, GError **error)
{
    (void)m;
    (void)bytes;
    (void)len;
    return no_bytes(error, addr);
}

static bool write_bytes(struct machine *m, uint64_t addr, const void *bytes, size_t len,
                        GError **error)
{
    (void)m;
    (void)bytes;
    (void)len;
    return no_bytes(error, addr);
}

/* ---- making it ---- */

static uint64_t read_number(const char *dir, const char *file)
{
    g_autofree char *path = g_build_filename(PCI_DEVICES, dir, file, NULL);
    g_autofree char *text = NULL;

    return g_file_get_contents(path, &text, NULL, NULL) ? g_ascii_strtoull(text, NULL, 16) : 0;
}

static void open_bars(struct function *f, const char *dir)
{
    g_autofree char *path = g_build_filename(PCI_DEVICES, dir, "resource", NULL);
    g_autofree char *text = NULL;

    for (unsigned i = 0; i < N_BARS; i++) {
        f->bars[i].fd = -1;
    }
    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (unsigned i = 0; i < N_BARS && lines[i]; i++) {
        uint64_t start, end, flags;
        if (sscanf(lines[i], "%" SCNx64 " %" SCNx64 " %" SCNx64, &start, &end, &flags) != 3 ||
            end <= start) {
            continue;
        }
        g_autofree char *name = g_strdup_printf("resource%u", i);
        g_autofree char *file = g_build_filename(PCI_DEVICES, dir, name, NULL);
        struct bar *bar = &f->bars[i];
        bar->is_io = (flags & 0x100) != 0;
        bar->type = bar->is_io ? PCI_BAR_SPACE_IO : (flags & 0x2000 ? PCI_BAR_MEM_PREFETCH : 0);
        bar->size = end - start + 1;
        bar->fd = open(file, O_RDWR | O_CLOEXEC);
    }
}

static bool open_function(struct sysfs_machine *m, const char *dir, GError **error)
{
    struct function *f = &m->functions[m->n_functions];
    unsigned domain, bus;

    if (m->n_functions == MAX_FUNCTIONS ||
        sscanf(dir, "%x:%x:%x.%u", &domain, &bus, &f->slot, &f->number) != 4 || domain || bus) {
        return true; /* behind bridges: not ours */
    }
    g_autofree char *path = g_build_filename(PCI_DEVICES, dir, "config", NULL);
    f->config_fd = open(path, O_RDWR | O_CLOEXEC);
    if (f->config_fd < 0) {
        return fail(error, "cannot open", path);
    }
    open_bars(f, dir);
    m->n_functions++;
    return true;
}

static void sysfs_free(struct machine *base)
{
    struct sysfs_machine *m = (struct sysfs_machine *)base;

    for (unsigned i = 0; i < m->n_functions; i++) {
        close(m->functions[i].config_fd);
        for (unsigned k = 0; k < N_BARS; k++) {
            struct bar *bar = &m->functions[i].bars[k];
            if (bar->map) {
                munmap(bar->map, bar->size);
            }
            if (bar->fd >= 0) {
                close(bar->fd);
            }
        }
    }
    g_free(m);
}

struct machine *sysfs_machine_new(uint16_t vendor_id, struct guest_memory *memory, GError **error)
{
    static const struct machine_ops ops = {.run = run,
                                           .post = post,
                                           .barrier = barrier,
                                           .read_bytes = read_bytes,
                                           .write_bytes = write_bytes,
                                           .free = sysfs_free};
    g_autoptr(GDir) dir = g_dir_open(PCI_DEVICES, 0, error);
    struct sysfs_machine *m = g_new0(struct sysfs_machine, 1);
    const char *name;
    bool ok = dir != NULL;

    m->base.ops = &ops;
    m->base.board = MACHINE_PC;
    m->base.memory = memory;
    while (ok && (name = g_dir_read_name(dir))) {
        ok = read_number(name, "vendor") != vendor_id || open_function(m, name, error);
    }
    if (!ok) {
        sysfs_free(&m->base);
        return NULL;
    }
    return &m->base;
}

/* ---- memory ---- */

struct guest_region *sysfs_machine_bar_region(struct machine *base, uint64_t at, GError **error)
{
    struct machine_access a = {at, 0, MACHINE_MEM, 1, false};
    uint64_t offset = 0;
    struct bar *bar = bar_of((struct sysfs_machine *)base, &a, &offset);

    if (!bar || offset != 0) {
        g_set_error(error, QTEST_ERROR, QTEST_ERROR_INVALID,
                    "no memory BAR was placed at 0x%" PRIx64, at);
        return NULL;
    }
    return map_bar(bar, error) ? guest_region_new_over("BAR", bar->map, bar->size, -1, error)
                               : NULL;
}

/* Where a page of this process lies in the guest's memory. */
static bool physical_address(const void *page, uint64_t *gpa, GError **error)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    off_t at = (off_t)((uintptr_t)page / (uintptr_t)sysconf(_SC_PAGESIZE) * sizeof(entry));
    bool ok = fd >= 0 && pread(fd, &entry, sizeof(entry), at) == (ssize_t)sizeof(entry);

    if (fd >= 0) {
        close(fd);
    }
    if (!ok || !(entry >> 63) || !(entry & ((UINT64_C(1) << 55) - 1))) {
        return fail(error, "cannot learn the address of memory from", "/proc/self/pagemap");
    }
    *gpa = (entry & ((UINT64_C(1) << 55) - 1)) * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

struct guest_region *sysfs_machine_shared(struct machine *m, GError **error)
{
    struct guest_region *r = guest_region_new("shared", 2 << 20, GUEST_HUGEPAGES_REQUIRE, error);
    uint64_t gpa;

    if (!r) {
        return NULL;
    }
    memset(r->host, 0, r->size);
    if (!physical_address(r->host, &gpa, error) || !guest_memory_place(m->memory, r, gpa, error)) {
        guest_region_free(r);
        return NULL;
    }
    return r;
}
