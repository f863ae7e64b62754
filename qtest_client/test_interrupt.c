/*
 * Interrupts in their three forms, against a machine of plain bytes (test_fake_pci.h).
 */
#include "models/abi/ivshmem.h"
#include "qtest_client/interrupt.h"
#include "qtest_client/test_fake_pci.h"

#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    N_VECTORS = 40,
    SHARED_BYTES = 1 << 16,
    N_CHANNELS = 3,
};
#define SHARED_GPA   UINT64_C(0x123400000000)
#define WORD_GPA     (SHARED_GPA + 0x40)
#define DOORBELL_GPA UINT64_C(0xe2000000c)

static struct guest_memory *memory;
static struct guest_region *region;
static struct fake_machine fake;
static struct fake_function *card; /* slot 4, INTA, MSI-X in BAR 1 */
static struct pci_bus *bus;
static struct pci_device *dev;
static int eventfds[N_CHANNELS];
static const uint16_t peer_ids[N_CHANNELS] = {7, 65535, 9};
static struct interrupt_bridge bridge;

/* The doorbell device: what is written to its register rings the eventfd of that peer. */
static void doorbell(void *data, uint64_t address, uint32_t value)
{
    uint64_t one = 1;

    (void)data;
    assert_int_equal(address, DOORBELL_GPA);
    assert_int_equal(value & 0xffff, 0); /* vector 0 */
    for (unsigned i = 0; i < N_CHANNELS; i++) {
        if (value >> 16 == peer_ids[i]) {
            assert_int_equal(write(eventfds[i], &one, sizeof(one)), sizeof(one));
            return;
        }
    }
    fail_msg("nobody is peer %u", value >> 16);
}

static void scan(void)
{
    g_autoptr(GError) error = NULL;

    bus = pci_bus_new(&fake.base);
    if (!pci_bus_scan(bus, &error)) {
        fail_msg("%s", error->message);
    }
}

static int open_board(enum machine_board board)
{
    g_autoptr(GError) error = NULL;

    memory = guest_memory_new();
    region = guest_region_new("shared", SHARED_BYTES, GUEST_HUGEPAGES_OFF, &error);
    assert_non_null(region);
    assert_true(guest_memory_place(memory, region, SHARED_GPA, &error));
    fake_machine_init(&fake, board, memory);
    fake.message = doorbell;
    card = fake_add(&fake, 4, 0x1af4, 0x1041, 1);
    fake_add_msix(card, 1, N_VECTORS);
    if (board == MACHINE_PC) {
        struct fake_function *piix3 = fake_add(&fake, 1, 0x8086, 0x7000, 0);
        fake_put(piix3->config + PCI_CLASS_DEVICE, 2, PCI_CLASS_BRIDGE_ISA);
        memset(piix3->config + PIIX3_PIRQA, PIIX3_PIRQ_DISABLE, 4);
        memset(piix3->writable + PIIX3_PIRQA, 0xff, 4);
    }
    for (unsigned i = 0; i < N_CHANNELS; i++) {
        eventfds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    bridge = (struct interrupt_bridge){.doorbell_gpa = DOORBELL_GPA,
                                       .peer_ids = peer_ids,
                                       .eventfds = eventfds,
                                       .n_channels = N_CHANNELS};
    scan();
    dev = pci_bus_find(bus, 0, 4, 0);
    assert_non_null(dev);
    assert_true(pci_device_enable(dev, &error));
    assert_true(msix_set_enabled(dev, true, &error));
    g_array_set_size(fake.writes, 0);
    return 0;
}

static int open_pc(void **state)
{
    (void)state;
    return open_board(MACHINE_PC);
}

static int open_q35(void **state)
{
    (void)state;
    return open_board(MACHINE_Q35);
}

static int close_all(void **state)
{
    (void)state;
    for (unsigned i = 0; i < N_CHANNELS; i++) {
        close(eventfds[i]);
    }
    pci_bus_free(bus);
    fake_machine_clear(&fake);
    guest_memory_free(memory);
    guest_region_free(region);
    return 0;
}

/* The message of `error`, which must be of this domain and code, has `text` in it. */
static void expect_error(GError **error, GQuark domain, int code, const char *text)
{
    assert_non_null(*error);
    if (!g_error_matches(*error, domain, code) || !strstr((*error)->message, text)) {
        fail_msg("not \"...%s...\" but: %s", text, (*error)->message);
    }
    g_clear_error(error);
}

static uint32_t *word_at(uint64_t gpa)
{
    return guest_memory_host(memory, gpa, 4);
}

/* ---- programming MSI-X ---- */

static void expect_write(unsigned i, unsigned offset, uint64_t value)
{
    const struct machine_access *a = &g_array_index(fake.writes, struct machine_access, i);

    assert_int_equal(a->addr, dev->bars[1].base + offset);
    assert_int_equal(a->value, value);
    assert_int_equal(a->width, 4);
}

static void an_open_entry_is_masked_while_it_changes_and_open_again_afterwards(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(msix_set_masked(dev, 3, false, &error));
    g_array_set_size(fake.writes, 0);
    assert_true(msix_set_message(dev, 3, 0x123456789abc, 0xdeadbeef, &error));
    assert_int_equal(fake.writes->len, 5);
    expect_write(0, 3 * 16 + 12, 1);
    expect_write(1, 3 * 16 + 0, 0x56789abc);
    expect_write(2, 3 * 16 + 4, 0x1234);
    expect_write(3, 3 * 16 + 8, 0xdeadbeef);
    expect_write(4, 3 * 16 + 12, 0);
}

static void a_masked_entry_stays_masked_when_its_message_changes(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(msix_set_message(dev, N_VECTORS - 1, 0x1000, 1, &error));
    assert_int_equal(fake_msix_entry(card, N_VECTORS - 1, 0), 0x1000);
    assert_int_equal(fake_msix_entry(card, N_VECTORS - 1, 12), 1);
}

static void masking_touches_only_the_mask_bit_of_its_vector(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    fake_put(card->bar[1] + 2 * 16 + 12, 4, 0xabcd0001); /* reserved bits are preserved, 6.8.2.9 */
    assert_true(msix_set_masked(dev, 2, false, &error));
    assert_int_equal(fake_msix_entry(card, 2, 12), 0xabcd0000);
    assert_true(msix_set_masked(dev, 2, true, &error));
    assert_int_equal(fake_msix_entry(card, 2, 12), 0xabcd0001);
    assert_int_equal(fake_msix_entry(card, 1, 12), 1);
    assert_int_equal(fake_msix_entry(card, 3, 12), 1);
}

static uint64_t message_control(void)
{
    return fake_get(card->config + FAKE_MSIX_CAP + PCI_MSIX_FLAGS, 2);
}

static void enable_and_function_mask_are_set_independently(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_true(msix_set_enabled(dev, false, &error));
    assert_int_equal(message_control(), N_VECTORS - 1);
    assert_true(msix_set_function_mask(dev, true, &error));
    assert_int_equal(message_control(), 0x4000 | (N_VECTORS - 1));
    assert_true(msix_set_enabled(dev, true, &error));
    assert_int_equal(message_control(), 0xc000 | (N_VECTORS - 1));
    assert_true(msix_set_function_mask(dev, false, &error));
    assert_int_equal(message_control(), 0x8000 | (N_VECTORS - 1));
}

static void the_pending_bit_of_each_vector_is_its_own(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    bool is_pending = false;

    fake_send(&fake, card, 0);
    fake_send(&fake, card, 35);
    for (unsigned v = 0; v < N_VECTORS; v++) {
        assert_true(msix_pending(dev, v, &is_pending, &error));
        assert_int_equal(is_pending, v == 0 || v == 35);
    }
}

static void vectors_and_addresses_that_cannot_be_are_refused_and_nothing_is_written(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    bool is_pending;

    assert_false(msix_set_message(dev, N_VECTORS, 0x1000, 1, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "no MSI-X vector 40 (40 vectors");
    assert_false(msix_set_masked(dev, N_VECTORS, true, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "no MSI-X vector 40");
    assert_false(msix_pending(dev, N_VECTORS, &is_pending, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "no MSI-X vector 40");
    assert_false(msix_set_message(dev, 0, 0x1002, 1, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "address 0x1002");
    assert_int_equal(fake.writes->len, 0);

    struct pci_device *isa = pci_bus_find(bus, 0, 1, 0);
    assert_false(msix_set_enabled(isa, true, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "no MSI-X capability");
    assert_false(msix_set_masked(isa, 0, true, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "no MSI-X capability");
}

/* ---- the memory form ---- */

static struct interrupt *new_memory(unsigned vector, uint64_t gpa, uint32_t data)
{
    g_autoptr(GError) error = NULL;
    struct interrupt *irq = interrupt_new_memory(dev, vector, gpa, data, &error);

    if (!irq) {
        fail_msg("%s", error->message);
    }
    return irq;
}

static void a_message_in_memory_is_taken_once(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct interrupt *irq = new_memory(2, WORD_GPA, 0xcafe);

    assert_false(interrupt_is_raised(irq));
    assert_false(interrupt_take(irq));
    fake_send(&fake, card, 2);
    assert_int_equal(*word_at(WORD_GPA), 0xcafe);
    assert_true(interrupt_is_raised(irq));
    assert_true(interrupt_is_raised(irq));
    assert_true(interrupt_take(irq));
    assert_int_equal(*word_at(WORD_GPA), 0);
    assert_false(interrupt_is_raised(irq));
    assert_false(interrupt_take(irq));

    fake_send(&fake, card, 2);
    fake_send(&fake, card, 2); /* counts as one with the first */
    assert_true(interrupt_wait(irq, 0, &error));
    assert_false(interrupt_take(irq));
    assert_int_equal(irq->n_taken, 2);
    interrupt_free(irq);
}

static void two_vectors_do_not_disturb_each_other(void **state)
{
    (void)state;
    struct interrupt *a = new_memory(0, WORD_GPA, 1), *b = new_memory(1, WORD_GPA + 4, 2);

    fake_send(&fake, card, 1);
    assert_false(interrupt_take(a));
    assert_true(interrupt_take(b));
    fake_send(&fake, card, 0);
    assert_false(interrupt_take(b));
    assert_true(interrupt_take(a));
    interrupt_free(a);
    interrupt_free(b);
}

static void a_new_interrupt_has_nothing_pending_whatever_was_in_its_word(void **state)
{
    (void)state;
    *word_at(WORD_GPA) = 77;
    struct interrupt *irq = new_memory(0, WORD_GPA, 1);

    assert_int_equal(*word_at(WORD_GPA), 0);
    assert_false(interrupt_take(irq));
    interrupt_free(irq);
}

static void a_freed_interrupt_leaves_its_vector_masked(void **state)
{
    (void)state;
    struct interrupt *irq = new_memory(5, WORD_GPA, 1);

    assert_int_equal(fake_msix_entry(card, 5, 12), 0);
    interrupt_free(irq);
    assert_int_equal(fake_msix_entry(card, 5, 12), 1);
    interrupt_free(NULL);
}

static void an_abandoned_interrupt_leaves_its_vector_and_its_channel_as_they_are(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct interrupt *irq = interrupt_new_eventfd(dev, 5, &bridge, &error);

    interrupt_abandon(irq);
    assert_int_equal(fake_msix_entry(card, 5, 12), 0);
    assert_int_equal(bridge.n_used, 1);
    fake_send(&fake, card, 5); /* it still rings */
    irq = interrupt_new_eventfd(dev, 6, &bridge, &error);
    assert_int_equal(irq->channel, 1);
    interrupt_free(irq);
}

static void freeing_an_interrupt_of_a_dead_machine_is_no_error(void **state)
{
    (void)state;
    struct interrupt *irq = new_memory(5, WORD_GPA, 1);

    fake.is_dead = true;
    interrupt_free(irq);
}

static void words_that_cannot_be_are_refused(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_null(interrupt_new_memory(dev, 0, WORD_GPA + 2, 1, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "at 0x123400000042");
    assert_null(interrupt_new_memory(dev, 0, WORD_GPA, 0, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "value 0x0");
    assert_null(interrupt_new_memory(dev, 0, SHARED_GPA + SHARED_BYTES, 1, &error));
    expect_error(&error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_RANGE, "0x123400010000");
    assert_null(interrupt_new_memory(dev, N_VECTORS, WORD_GPA, 1, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "no MSI-X vector 40");
}

static void waiting_for_a_message_that_does_not_come_names_device_and_vector(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct interrupt *irq = new_memory(6, WORD_GPA, 1);

    assert_false(interrupt_wait(irq, 2, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "00:04.0");
    assert_false(interrupt_wait(irq, 0, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "MSI-X vector 6) within 0 ms");
    assert_int_equal(irq->n_taken, 0);
    interrupt_free(irq);
}

static void *send_thread(void *data)
{
    fake_send(&fake, card, *(unsigned *)data);
    return NULL;
}

static void expect_wait_ends_by_a_message(struct interrupt *irq)
{
    g_autoptr(GError) error = NULL;
    pthread_t thread;

    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(pthread_create(&thread, NULL, send_thread, &irq->vector), 0);
        assert_true(interrupt_wait(irq, 10000, &error));
        pthread_join(thread, NULL);
        assert_false(interrupt_take(irq));
    }
    assert_int_equal(irq->n_taken, 100);
}

static void a_wait_ends_when_another_thread_stores_the_message(void **state)
{
    (void)state;
    struct interrupt *irq = new_memory(1, WORD_GPA, 1);

    expect_wait_ends_by_a_message(irq);
    interrupt_free(irq);
}

/* ---- the eventfd form ---- */

static struct interrupt *new_eventfd(unsigned vector)
{
    g_autoptr(GError) error = NULL;
    struct interrupt *irq = interrupt_new_eventfd(dev, vector, &bridge, &error);

    if (!irq) {
        fail_msg("%s", error->message);
    }
    return irq;
}

static void a_doorbell_message_makes_the_eventfd_of_its_channel_readable(void **state)
{
    (void)state;
    struct interrupt *a = new_eventfd(0), *b = new_eventfd(1);

    assert_int_equal(fake_msix_entry(card, 0, 0), DOORBELL_GPA & 0xffffffff);
    assert_int_equal(fake_msix_entry(card, 0, 4), DOORBELL_GPA >> 32);
    assert_int_equal(fake_msix_entry(card, 0, 8), 7u << 16);
    assert_int_equal(fake_msix_entry(card, 1, 8), 65535u << 16);
    assert_int_equal(a->eventfd, eventfds[0]);
    assert_int_equal(b->eventfd, eventfds[1]);
    fake_send(&fake, card, 1);
    fake_send(&fake, card, 1);
    assert_false(interrupt_is_raised(a));
    assert_true(interrupt_is_raised(b));
    assert_false(interrupt_take(a));
    assert_true(interrupt_take(b));
    assert_false(interrupt_take(b));
    interrupt_free(a);
    interrupt_free(b);
}

static void messages_that_are_taken_together_are_counted_each(void **state)
{
    (void)state;
    struct interrupt *irq = new_eventfd(1);

    for (unsigned i = 0; i < 3; i++) {
        fake_send(&fake, card, 1);
    }
    assert_true(interrupt_take(irq));
    assert_int_equal(irq->n_taken, 1);
    assert_int_equal(irq->n_messages, 3);
    fake_send(&fake, card, 1);
    assert_true(interrupt_wait(irq, 0, NULL));
    assert_int_equal(irq->n_messages, 4);
    interrupt_free(irq);
}

static void a_channel_that_was_given_back_is_given_out_again_empty(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct interrupt *irqs[N_CHANNELS];

    for (unsigned i = 0; i < N_CHANNELS; i++) {
        irqs[i] = new_eventfd(i);
    }
    assert_null(interrupt_new_eventfd(dev, 3, &bridge, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_NO_SPACE, "all 3 channels");

    fake_send(&fake, card, 1); /* never taken */
    interrupt_free(irqs[1]);
    struct interrupt *again = new_eventfd(4);
    assert_int_equal(again->channel, 1);
    assert_false(interrupt_is_raised(again));
    assert_int_equal(bridge.n_used, 3);
    interrupt_free(irqs[0]);
    interrupt_free(irqs[2]);
    interrupt_free(again);
    assert_int_equal(bridge.n_used, 0);
}

static void a_vector_that_cannot_be_leaves_its_channel_free(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_null(interrupt_new_eventfd(dev, N_VECTORS, &bridge, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_INVALID, "no MSI-X vector 40");
    assert_int_equal(bridge.n_used, 0);
    struct interrupt *irq = new_eventfd(0);
    assert_int_equal(irq->channel, 0);
    interrupt_free(irq);
}

static void a_sleeping_wait_ends_by_the_eventfd_or_at_its_deadline(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct interrupt *irq = new_eventfd(8);

    assert_false(interrupt_wait(irq, 2, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "MSI-X vector 8) within 2 ms");
    expect_wait_ends_by_a_message(irq);
    interrupt_free(irq);
}

/* ---- lines ---- */

static struct interrupt *new_line(struct pci_device *of)
{
    g_autoptr(GError) error = NULL;
    struct interrupt *irq = interrupt_new_line(of, &error);

    if (!irq) {
        fail_msg("%s", error->message);
    }
    return irq;
}

static unsigned line_of(unsigned bus_nr, unsigned slot)
{
    struct pci_device *d = pci_bus_find(bus, bus_nr, slot, 0);

    assert_non_null(d);
    struct interrupt *irq = new_line(d);
    unsigned line = irq->line;
    interrupt_free(irq);
    return line;
}

static void rescan(void)
{
    pci_bus_free(bus);
    scan();
    dev = pci_bus_find(bus, 0, 4, 0);
}

static void on_pc_a_pin_is_routed_through_the_pirq_of_its_slot(void **state)
{
    (void)state;
    fake_add(&fake, 5, 0x1234, 1, 1);
    fake_add(&fake, 6, 0x1234, 1, 1);
    fake_add(&fake, 7, 0x1234, 1, 2);
    fake.functions[1].config[PIIX3_PIRQA + 1] = 7; /* somebody routed PIRQB already */
    rescan();
    const uint8_t *pirq = fake.functions[1].config + PIIX3_PIRQA;

    assert_int_equal(line_of(0, 4), 3); /* (4 - 1 + 0) & 3: PIRQD */
    assert_int_equal(line_of(0, 5), 10);
    assert_int_equal(line_of(0, 6), 7);
    assert_int_equal(line_of(0, 7), 3); /* INTB of slot 7: PIRQD again */
    assert_int_equal(pirq[0], 10);
    assert_int_equal(pirq[1], 7);
    assert_int_equal(pirq[2], PIIX3_PIRQ_DISABLE); /* nobody asked for it */
    assert_int_equal(pirq[3], 3);
}

static void on_q35_lines_are_fixed(void **state)
{
    (void)state;
    fake_add(&fake, 2, 0x1234, 1, 1);
    fake_add(&fake, 3, 0x1234, 1, 1);
    fake_add(&fake, 24, 0x1234, 1, 1);
    fake_add(&fake, 25, 0x1234, 1, 1);
    fake_add(&fake, 26, 0x1234, 1, 1);
    fake_add(&fake, 30, 0x1234, 1, 1);
    fake_add(&fake, 5, 0x1234, 1, 4);
    rescan();
    assert_int_equal(line_of(0, 4), 20);
    assert_int_equal(line_of(0, 2), 22);
    assert_int_equal(line_of(0, 3), 23);
    assert_int_equal(line_of(0, 24), 20);
    assert_int_equal(line_of(0, 25), 16);
    assert_int_equal(line_of(0, 26), 16);
    assert_int_equal(line_of(0, 30), 20);
    assert_int_equal(line_of(0, 5), 20);
}

static void behind_a_bridge_pins_are_turned_by_the_slot(void **state)
{
    (void)state;
    fake_add_bridge(&fake, 0, 6);
    struct fake_function *below = fake_add(&fake, 3, 0x1234, 1, 1);
    below->bus = 1;
    rescan();
    /* slot 3, INTA -> INTD of slot 6 on the root bus -> 20 + (6 + 3) % 4 */
    assert_int_equal(line_of(1, 3), 21);
}

static void a_function_without_a_pin_has_no_line(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;

    assert_null(interrupt_new_line(pci_bus_find(bus, 0, 1, 0), &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "no interrupt pin");
    fake.functions[1].config[PCI_CLASS_DEVICE] = 0x80; /* no ISA bridge: no PIIX3 */
    rescan();
    assert_null(interrupt_new_line(dev, &error));
    expect_error(&error, PCI_ERROR, PCI_ERROR_NOT_FOUND, "PIIX3");
}

static void raises_of_a_line_are_taken_and_a_line_that_stays_up_counts_once(void **state)
{
    (void)state;
    fake_line_raise(&fake, 3);
    fake_line_lower(&fake, 3);
    struct interrupt *irq = new_line(dev);

    assert_int_equal(irq->line, 3);
    assert_false(interrupt_take(irq)); /* what was before does not count */
    assert_false(interrupt_is_raised(irq));
    fake_line_raise(&fake, 3);
    assert_true(interrupt_is_raised(irq));
    assert_true(interrupt_take(irq));
    assert_true(interrupt_is_raised(irq));
    assert_false(interrupt_take(irq));
    fake_line_lower(&fake, 3);
    assert_false(interrupt_is_raised(irq));
    fake_line_raise(&fake, 3);
    fake_line_lower(&fake, 3);
    fake_line_raise(&fake, 3);
    fake_line_lower(&fake, 3);
    assert_true(interrupt_take(irq));
    assert_false(interrupt_take(irq));
    assert_int_equal(irq->n_taken, 2);
    assert_int_equal(irq->n_messages, 3);
    interrupt_free(irq);
}

static void waiting_for_a_line_consumes_the_raise(void **state)
{
    (void)state;
    g_autoptr(GError) error = NULL;
    struct interrupt *irq = new_line(dev);

    assert_false(interrupt_wait(irq, 3, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_TIMEOUT, "(line 3) within 3 ms");
    fake_line_raise(&fake, 3);
    assert_true(interrupt_wait(irq, 3, &error));
    assert_false(interrupt_take(irq));
    assert_int_equal(irq->n_taken, 1);
    assert_int_equal(irq->n_messages, 1);
    fake.is_dead = true;
    assert_false(interrupt_wait(irq, 3, &error));
    expect_error(&error, QTEST_ERROR, QTEST_ERROR_CLOSED, "dead");
    assert_false(interrupt_take(irq));
    interrupt_free(irq);
}

struct end {
    int fd; /* the far end of the lifeline */
    struct interrupt *irq;
    bool sends_first;
};

static void *end_machine(void *data)
{
    struct end *e = data;

    if (e->sends_first) {
        fake_send(&fake, card, e->irq->vector);
    }
    close(e->fd);
    return NULL;
}

/* The wait has ten minutes: it ends by what is told. */
static bool wait_while_the_machine_ends(struct interrupt *irq, bool sends_first, GError **error)
{
    int ends[2];
    pthread_t thread;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    fake.lifeline = ends[0];
    struct end e = {ends[1], irq, sends_first};
    assert_int_equal(pthread_create(&thread, NULL, end_machine, &e), 0);
    bool ok = interrupt_wait(irq, 600000, error);
    pthread_join(thread, NULL);
    close(ends[0]);
    fake.lifeline = -1;
    return ok;
}

static void a_wait_ends_when_the_machine_does_unless_the_message_came_before(void **state)
{
    (void)state;
    struct interrupt *irqs[] = {new_memory(6, WORD_GPA, 1), new_eventfd(8)};

    for (unsigned i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        assert_false(wait_while_the_machine_ends(irqs[i], false, &error));
        expect_error(&error, QTEST_ERROR, QTEST_ERROR_CLOSED,
                     i ? "QEMU is gone: no interrupt (MSI-X vector 8) will come"
                       : "QEMU is gone: no interrupt (MSI-X vector 6) will come");
        assert_true(wait_while_the_machine_ends(irqs[i], true, &error));
        assert_int_equal(irqs[i]->n_taken, 1);
        interrupt_free(irqs[i]);
    }
}

#define on_pc(test)  cmocka_unit_test_setup_teardown(test, open_pc, close_all)
#define on_q35(test) cmocka_unit_test_setup_teardown(test, open_q35, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        on_pc(an_open_entry_is_masked_while_it_changes_and_open_again_afterwards),
        on_pc(a_masked_entry_stays_masked_when_its_message_changes),
        on_pc(masking_touches_only_the_mask_bit_of_its_vector),
        on_pc(enable_and_function_mask_are_set_independently),
        on_pc(the_pending_bit_of_each_vector_is_its_own),
        on_pc(vectors_and_addresses_that_cannot_be_are_refused_and_nothing_is_written),
        on_pc(a_message_in_memory_is_taken_once),
        on_pc(two_vectors_do_not_disturb_each_other),
        on_pc(a_new_interrupt_has_nothing_pending_whatever_was_in_its_word),
        on_pc(a_freed_interrupt_leaves_its_vector_masked),
        on_pc(an_abandoned_interrupt_leaves_its_vector_and_its_channel_as_they_are),
        on_pc(freeing_an_interrupt_of_a_dead_machine_is_no_error),
        on_pc(words_that_cannot_be_are_refused),
        on_pc(waiting_for_a_message_that_does_not_come_names_device_and_vector),
        on_pc(a_wait_ends_when_another_thread_stores_the_message),
        on_pc(a_doorbell_message_makes_the_eventfd_of_its_channel_readable),
        on_pc(messages_that_are_taken_together_are_counted_each),
        on_pc(a_channel_that_was_given_back_is_given_out_again_empty),
        on_pc(a_vector_that_cannot_be_leaves_its_channel_free),
        on_pc(a_sleeping_wait_ends_by_the_eventfd_or_at_its_deadline),
        on_pc(a_wait_ends_when_the_machine_does_unless_the_message_came_before),
        on_pc(on_pc_a_pin_is_routed_through_the_pirq_of_its_slot),
        on_q35(on_q35_lines_are_fixed),
        on_q35(behind_a_bridge_pins_are_turned_by_the_slot),
        on_pc(a_function_without_a_pin_has_no_line),
        on_pc(raises_of_a_line_are_taken_and_a_line_that_stays_up_counts_once),
        on_pc(waiting_for_a_line_consumes_the_raise),
    };
    return cmocka_run_group_tests_name("interrupt", tests, NULL, NULL);
}
