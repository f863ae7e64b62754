/*
 * The two virtio PCI transports against a device in this process (test_fake_virtio.h).
 */
#include "qtest_client/interrupt.h"
#include "qtest_client/test_fake_virtio.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { GPA = 0xC0000000, REGION_BYTES = 1 << 20 };

static struct guest_memory *memory;
static struct guest_region *region;
static struct fake_virtio fake;
static struct pci_bus *bus;
static struct pci_device *dev;
static struct virtio_pci *v;

static void assert_ok(bool ok, const GError *error)
{
    if (!ok) {
        fail_msg("%s", error ? error->message : "no error was set");
    }
}

static int open_machine(void **state)
{
    (void)state;
    memory = guest_memory_new();
    region = guest_region_new("rings", REGION_BYTES, GUEST_HUGEPAGES_OFF, NULL);
    assert_true(guest_memory_place(memory, region, GPA, NULL));
    fake_virtio_init(&fake, memory);
    bus = pci_bus_new(&fake.base);
    return 0;
}

static int close_machine(void **state)
{
    (void)state;
    virtio_pci_free(v);
    v = NULL;
    pci_bus_free(bus);
    fake_virtio_clear(&fake);
    guest_memory_free(memory);
    guest_region_free(region);
    return 0;
}

static void scan(void)
{
    g_autoptr(GError) error = NULL;

    assert_ok(pci_bus_scan(bus, &error), error);
    dev = pci_bus_find(bus, 0, FAKE_SLOT, 0);
    assert_non_null(dev);
}

static void open_transport(enum virtio_transport transport)
{
    g_autoptr(GError) error = NULL;

    scan();
    v = virtio_pci_new(dev, transport, &error);
    assert_ok(v != NULL, error);
    fake.n_status_log = 0;
}

static int open_modern(void **state)
{
    open_machine(state);
    open_transport(VIRTIO_TRANSPORT_MODERN);
    return 0;
}

static int open_legacy(void **state)
{
    open_machine(state);
    open_transport(VIRTIO_TRANSPORT_LEGACY);
    return 0;
}

static struct virtqueue *new_queue(uint16_t size)
{
    g_autoptr(GError) error = NULL;
    struct virtqueue *vq = virtqueue_new(
        memory, region, size,
        v->transport == VIRTIO_TRANSPORT_LEGACY ? VIRTQUEUE_LAYOUT_LEGACY : VIRTQUEUE_LAYOUT_MODERN,
        false, 0, &error);

    assert_ok(vq != NULL, error);
    return vq;
}

/* Enabling must fail with this code and a message that has this text. */
static void refuse_queue(uint16_t index, const struct virtqueue *vq, uint16_t vector, int code,
                         const char *text)
{
    g_autoptr(GError) error = NULL;

    assert_false(virtio_pci_queue_enable(v, index, vq, vector, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, code));
    if (!strstr(error->message, text)) {
        fail_msg("'%s' lacks '%s'", error->message, text);
    }
}

static void refuse_device(enum virtio_transport transport, const char *text)
{
    g_autoptr(GError) error = NULL;

    scan();
    assert_null(virtio_pci_new(dev, transport, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_NO_DEVICE));
    if (!strstr(error->message, text)) {
        fail_msg("'%s' lacks '%s'", error->message, text);
    }
}

/* ---- finding the interface ---- */

static void a_function_of_another_vendor_is_refused(void **state)
{
    (void)state;
    fake_put(fake.config + PCI_VENDOR_ID, 2, 0x8086);
    refuse_device(VIRTIO_TRANSPORT_MODERN, "not a virtio device");
}

static void a_device_without_capabilities_has_no_modern_interface(void **state)
{
    (void)state;
    fake.config[FAKE_MSIX_CAP + 1] = 0;
    refuse_device(VIRTIO_TRANSPORT_MODERN, "disable-modern=on");
}

static void a_device_without_its_notification_capability_has_no_modern_interface(void **state)
{
    (void)state;
    fake.config[FAKE_MSIX_CAP + 1] = 0x60;
    refuse_device(VIRTIO_TRANSPORT_MODERN, "no notification capability");
}

static void a_device_without_port_bar_has_no_legacy_interface(void **state)
{
    (void)state;
    memset(fake.config + PCI_BAR0, 0, 4);
    memset(fake.writable + PCI_BAR0, 0, 4);
    refuse_device(VIRTIO_TRANSPORT_LEGACY, "disable-legacy=on");
}

static void the_function_is_enabled_on_the_bus(void **state)
{
    (void)state;
    assert_int_equal(fake_get(fake.config + PCI_COMMAND, 2) & 7, 7);
    assert_int_not_equal(fake_bar_base(&fake, 4, 8), 0);
    assert_int_equal(fake.n_status_log, 0);
}

/* ---- status and features ---- */

static void modern_negotiation_goes_through_the_states_in_order(void **state)
{
    static const uint8_t order[] = {0, 1, 3, 0x0b};
    uint64_t wanted = VIRTIO_FEATURE(VIRTIO_NET_F_MAC) | VIRTIO_FEATURE(VIRTIO_NET_F_CSUM);
    g_autoptr(GError) error = NULL;

    (void)state;
    fake.taken = UINT64_MAX;
    assert_ok(virtio_pci_negotiate(v, wanted, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), &error), error);
    assert_int_equal(fake.n_status_log, sizeof(order));
    assert_memory_equal(fake.status_log, order, sizeof(order));
    /* CSUM is not offered; both halves are written */
    assert_int_equal(fake.taken, UINT64_C(0x100000020));
    assert_int_equal(v->features, UINT64_C(0x100000020));
    uint64_t offered;
    assert_ok(virtio_pci_device_features(v, &offered, &error), error);
    assert_int_equal(offered, FAKE_FEATURES & ~FAKE_LEGACY_ONLY);
}

static void legacy_negotiation_has_no_features_ok_and_32_bits(void **state)
{
    static const uint8_t order[] = {0, 1, 3};
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_ok(virtio_pci_negotiate(v, UINT64_MAX, 0, &error), error);
    assert_int_equal(fake.n_status_log, sizeof(order));
    assert_memory_equal(fake.status_log, order, sizeof(order));
    assert_int_equal(v->features, (uint32_t)FAKE_FEATURES);
    assert_int_equal(fake.taken, (uint32_t)FAKE_FEATURES);
    uint64_t offered;
    assert_ok(virtio_pci_device_features(v, &offered, &error), error);
    assert_int_equal(offered, (uint32_t)FAKE_FEATURES);
}

static void a_missing_feature_is_named_and_the_driver_gives_up(void **state)
{
    uint64_t required = VIRTIO_FEATURE(VIRTIO_NET_F_MQ) | VIRTIO_FEATURE(VIRTIO_F_VERSION_1) |
                        VIRTIO_FEATURE(VIRTIO_NET_F_RSS);
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_false(virtio_pci_negotiate(v, 0, required, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_FEATURES));
    assert_non_null(strstr(error->message, "does not offer feature bits 22, 60 "));
    assert_int_equal(fake.status, 0x83);
    assert_int_equal(v->features, 0);
}

static void the_legacy_interface_cannot_offer_version_1(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_false(virtio_pci_negotiate(v, 0, VIRTIO_FEATURE(VIRTIO_F_VERSION_1), &error));
    assert_non_null(strstr(error->message, "feature bits 32 (legacy interface"));
}

static void features_the_device_does_not_confirm_are_an_error(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    fake.refuses_features = true;
    assert_false(virtio_pci_negotiate(v, VIRTIO_FEATURE(VIRTIO_NET_F_MAC), 0, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_FEATURES));
    assert_non_null(strstr(error->message, "lacks FEATURES_OK"));
    assert_int_equal(fake.status, 0x83);
}

static void reset_waits_until_the_status_reads_zero(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    v->features = 1;
    fake.n_stubborn_reads = 5;
    assert_ok(virtio_pci_reset(v, &error), error);
    assert_int_equal(fake.n_stubborn_reads, 0);
    assert_int_equal(v->features, 0);
}

static void a_reset_that_never_completes_is_given_up(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    fake.n_stubborn_reads = UINT_MAX;
    assert_false(virtio_pci_reset(v, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_TIMEOUT));
    assert_non_null(strstr(error->message, "status still reads 0x01"));
}

static void a_device_that_needs_a_reset_says_so(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    fake.status = 0x0f;
    assert_ok(virtio_pci_check(v, &error), error);
    fake.status = 0x4f;
    assert_false(virtio_pci_check(v, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_NEEDS_RESET));
}

static void status_bits_are_added_to_what_is_there(void **state)
{
    uint8_t status;

    (void)state;
    assert_true(virtio_pci_set_status(v, 3, NULL));
    assert_true(virtio_pci_add_status(v, 4, NULL));
    assert_true(virtio_pci_get_status(v, &status, NULL));
    assert_int_equal(status, 7);
    assert_int_equal(fake.status, 7);
}

/* ---- queues ---- */

static void queues_and_their_sizes_are_counted(void **state)
{
    static const uint16_t sizes[] = {256, 256, 64, 0};
    uint16_t n, size;

    (void)state;
    assert_true(virtio_pci_n_queues(v, &n, NULL));
    assert_int_equal(n, 3);
    for (uint16_t i = 0; i < 4; i++) {
        assert_true(virtio_pci_queue_max_size(v, i, &size, NULL));
        assert_int_equal(size, sizes[i]);
    }
    /* queue 1 stays selected, and is not taken for it */
    assert_true(virtio_pci_queue_max_size(v, 1, &size, NULL));
    assert_true(virtio_pci_queue_max_size(v, VIRTIO_PCI_MAX_QUEUES, &size, NULL));
    assert_int_equal(size, 0);
}

static void a_modern_queue_gets_its_three_addresses_size_and_vector(void **state)
{
    struct virtqueue *vq = new_queue(128);
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_ok(virtio_pci_queue_enable(v, 1, vq, 2, &error), error);
    const struct fake_queue *q = &fake.queues[1];
    assert_true(q->is_enabled);
    assert_int_equal(q->size, 128);
    assert_int_equal(q->vector, 2);
    assert_int_equal(q->address[0], vq->desc_gpa);
    assert_int_equal(q->address[1], vq->avail_gpa);
    assert_int_equal(q->address[2], vq->used_gpa);
    assert_false(fake.queues[0].is_enabled);
    virtqueue_free(vq);
}

static void addresses_above_4_gib_are_written_whole(void **state)
{
    struct virtqueue vq = {.size = 8,
                           .desc_gpa = UINT64_C(0x7f1234000000),
                           .avail_gpa = UINT64_C(0x8000000000001000),
                           .used_gpa = UINT64_C(0x123456789abcdef0)};
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_ok(virtio_pci_queue_enable(v, 0, &vq, VIRTIO_NO_VECTOR, &error), error);
    assert_int_equal(fake.queues[0].address[0], vq.desc_gpa);
    assert_int_equal(fake.queues[0].address[1], vq.avail_gpa);
    assert_int_equal(fake.queues[0].address[2], vq.used_gpa);
}

static void a_modern_queue_that_cannot_be_is_refused_untouched(void **state)
{
    struct virtqueue *vq = new_queue(512), *ok = new_queue(8);

    (void)state;
    refuse_queue(3, ok, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE, "there is no queue 3");
    fake.queue_select = 0;
    refuse_queue(VIRTIO_PCI_MAX_QUEUES, ok, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE,
                 "there is no queue 1024");
    refuse_queue(0, vq, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE,
                 "queue 0 takes at most 256 entries, not 512");
    refuse_queue(0, ok, 4, VIRTIO_PCI_ERROR_QUEUE, "the MSI-X table has 4 entries");
    fake.refuses_vectors = true;
    refuse_queue(0, ok, 1, VIRTIO_PCI_ERROR_QUEUE, "no room for vector 1 of queue 0");
    fake.refuses_vectors = false;
    assert_false(fake.queues[0].is_enabled);
    assert_true(virtio_pci_queue_enable(v, 0, ok, 1, NULL));
    refuse_queue(0, ok, 1, VIRTIO_PCI_ERROR_QUEUE, "queue 0 is in use already");
    virtqueue_free(vq);
    virtqueue_free(ok);
}

static void a_legacy_queue_gets_its_page_number(void **state)
{
    struct virtqueue *vq = new_queue(256);
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_ok(virtio_pci_queue_enable(v, 1, vq, VIRTIO_NO_VECTOR, &error), error);
    assert_int_equal(fake.queues[1].address[0], vq->desc_gpa);
    assert_int_equal(fake.queues[1].address[1], vq->avail_gpa);
    assert_int_equal(fake.queues[1].address[2], vq->used_gpa);
    refuse_queue(1, vq, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE, "queue 1 is in use already");
    virtqueue_free(vq);
}

static void a_legacy_queue_that_cannot_be_is_refused_untouched(void **state)
{
    struct virtqueue *small = new_queue(128), *ok = new_queue(256);
    struct virtqueue *modern =
        virtqueue_new(memory, region, 256, VIRTQUEUE_LAYOUT_MODERN, false, 0, NULL);
    struct virtqueue far = *ok;

    (void)state;
    refuse_queue(7, ok, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE, "there is no queue 7");
    refuse_queue(0, small, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE, "has 256 entries, not 128");
    refuse_queue(0, modern, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE, "not laid out");
    far.avail_gpa += 2;
    refuse_queue(0, &far, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE, "not laid out");
    far = *ok;
    refuse_queue(0, ok, 1, VIRTIO_PCI_ERROR_INVALID, "only while MSI-X is enabled");
    far.desc_gpa += UINT64_C(1) << 44;
    far.avail_gpa += UINT64_C(1) << 44;
    far.used_gpa += UINT64_C(1) << 44;
    refuse_queue(0, &far, VIRTIO_NO_VECTOR, VIRTIO_PCI_ERROR_QUEUE, "below 2^44");
    assert_true(msix_set_enabled(dev, true, NULL));
    fake.refuses_vectors = true;
    refuse_queue(0, ok, 1, VIRTIO_PCI_ERROR_QUEUE, "no room for vector 1 of queue 0");
    assert_false(fake.queues[0].is_enabled);
    virtqueue_free(small);
    virtqueue_free(ok);
    virtqueue_free(modern);
}

static void one_queue_is_reset_only_with_its_feature(void **state)
{
    struct virtqueue *vq = new_queue(64);
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(virtio_pci_negotiate(v, VIRTIO_FEATURE(VIRTIO_F_RING_RESET), 0, NULL));
    assert_true(virtio_pci_queue_enable(v, 0, vq, 1, NULL));
    assert_true(virtio_pci_queue_enable(v, 1, vq, 2, NULL));
    assert_ok(virtio_pci_queue_reset(v, 0, &error), error);
    assert_false(fake.queues[0].is_enabled);
    assert_int_equal(fake.queues[0].size, 256);
    assert_true(fake.queues[1].is_enabled);
    fake.queue_select = 1;
    assert_false(virtio_pci_queue_reset(v, VIRTIO_PCI_MAX_QUEUES, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_QUEUE));
    g_clear_error(&error);
    assert_true(fake.queues[1].is_enabled);
    assert_true(virtio_pci_negotiate(v, 0, 0, NULL));
    assert_false(virtio_pci_queue_reset(v, 1, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_INVALID));
    virtqueue_free(vq);
}

/* ---- notification and interrupts ---- */

static void a_kick_is_one_posted_write_for_its_queue(void **state)
{
    (void)state;
    assert_true(virtio_pci_notify(v, 1, NULL)); /* the first may ask where to write */
    unsigned n = fake.n_accesses;
    assert_true(virtio_pci_notify(v, 1, NULL));
    assert_int_equal(fake.n_accesses - n, 1);
    assert_int_equal(fake.n_posts, 2);
    assert_int_equal(fake.queues[0].n_kicks, 0);
    assert_int_equal(fake.queues[1].n_kicks, 2);
    assert_int_equal(fake.queues[2].n_kicks, 0);
}

static void a_queue_number_that_has_no_address_cannot_be_kicked(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(virtio_pci_notify(v, 1023, &error));
    assert_false(virtio_pci_notify(v, 1024, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_INVALID));
}

static void a_notification_address_beyond_its_structure_is_refused(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    v->notify_multiplier = 0x1000;
    assert_true(virtio_pci_notify(v, 0, &error));
    assert_false(virtio_pci_notify(v, 1, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_QUEUE));
    assert_non_null(strstr(error->message, "beyond its notification structure of 0x1000 bytes"));
}

static void reading_the_isr_clears_it(void **state)
{
    uint8_t isr;

    (void)state;
    fake_change_config(&fake);
    assert_true(virtio_pci_isr(v, &isr, NULL));
    assert_int_equal(isr, VIRTIO_ISR_QUEUE | VIRTIO_ISR_CONFIG);
    assert_true(virtio_pci_isr(v, &isr, NULL));
    assert_int_equal(isr, 0);
}

static void the_configuration_vector_is_read_back(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(msix_set_enabled(dev, true, NULL));
    assert_ok(virtio_pci_set_config_vector(v, 3, &error), error);
    assert_int_equal(fake.config_vector, 3);
    assert_false(virtio_pci_set_config_vector(v, 4, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_INVALID));
    assert_true(virtio_pci_set_config_vector(v, VIRTIO_NO_VECTOR, NULL));
    assert_int_equal(fake.config_vector, VIRTIO_NO_VECTOR);
}

static void without_msix_the_legacy_interface_has_no_vectors(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(virtio_pci_set_config_vector(v, VIRTIO_NO_VECTOR, NULL));
    assert_false(virtio_pci_set_config_vector(v, 0, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_INVALID));
    assert_int_equal(fake.net_config[0], 0x52); /* where they would be is the configuration */
}

/* ---- device configuration ---- */

static void the_configuration_is_read_in_fields_of_their_width(void **state)
{
    uint8_t mac[6];
    uint16_t status = 0;

    (void)state;
    assert_true(virtio_pci_config_read(v, VIRTIO_NET_CFG_MAC, mac, 6, NULL));
    assert_int_equal(fake.n_config_reads, 6);
    assert_memory_equal(mac, fake.net_config, 6);
    assert_true(virtio_pci_config_read(v, VIRTIO_NET_CFG_STATUS, &status, 2, NULL));
    assert_int_equal(fake.n_config_reads, 7);
    assert_int_equal(status, VIRTIO_NET_S_LINK_UP);
    if (v->transport == VIRTIO_TRANSPORT_MODERN) { /* 8 bytes: two accesses, 4.1.3.1 */
        uint64_t wide = 0;
        fake_put(fake.net_config + 8, 8, UINT64_C(0x1122334455667788));
        assert_true(virtio_pci_config_read(v, 8, &wide, 8, NULL));
        assert_int_equal(fake.n_config_reads, 9);
        assert_int_equal(wide, UINT64_C(0x1122334455667788));
    }
}

static void a_configuration_that_changes_meanwhile_is_read_again(void **state)
{
    uint8_t mac[6];

    (void)state;
    fake.n_config_changes = 7; /* during the first reading and once in the second */
    assert_true(virtio_pci_config_read(v, 0, mac, 6, NULL));
    assert_int_equal(fake.n_config_reads, 18);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(mac[i], 0x52 + 7);
    }
}

static void a_configuration_that_never_settles_is_given_up(void **state)
{
    g_autoptr(GError) error = NULL;
    uint8_t mac[6];

    (void)state;
    fake.n_config_changes = UINT_MAX;
    assert_false(virtio_pci_config_read(v, 0, mac, 6, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_TIMEOUT));
}

static void the_legacy_configuration_moves_with_msix(void **state)
{
    uint8_t mac[6];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(msix_set_enabled(dev, i == 1, NULL));
        memset(mac, 0, sizeof(mac));
        assert_true(virtio_pci_config_read(v, 0, mac, 6, NULL));
        assert_memory_equal(mac, fake.net_config, 6);
    }
}

static void the_configuration_can_be_written(void **state)
{
    static const uint8_t mac[] = {2, 0, 0, 0, 0, 9};

    (void)state;
    assert_true(virtio_pci_config_write(v, 0, mac, 6, NULL));
    assert_memory_equal(fake.net_config, mac, 6);
}

static void configuration_beyond_its_end_is_refused(void **state)
{
    g_autoptr(GError) error = NULL;
    uint8_t bytes[300];

    (void)state;
    assert_false(virtio_pci_config_read(v, 0x1000, bytes, 1, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_INVALID));
    g_clear_error(&error);
    assert_false(virtio_pci_config_read(v, 0, bytes, 257, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_INVALID));
    g_clear_error(&error);
    assert_false(virtio_pci_config_write(v, 0, bytes, 0, &error));
    assert_true(g_error_matches(error, VIRTIO_PCI_ERROR, VIRTIO_PCI_ERROR_INVALID));
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, close_machine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_function_of_another_vendor_is_refused, open_machine),
        TEST(a_device_without_capabilities_has_no_modern_interface, open_machine),
        TEST(a_device_without_its_notification_capability_has_no_modern_interface, open_machine),
        TEST(a_device_without_port_bar_has_no_legacy_interface, open_machine),
        TEST(the_function_is_enabled_on_the_bus, open_modern),
        TEST(modern_negotiation_goes_through_the_states_in_order, open_modern),
        TEST(legacy_negotiation_has_no_features_ok_and_32_bits, open_legacy),
        TEST(a_missing_feature_is_named_and_the_driver_gives_up, open_modern),
        TEST(the_legacy_interface_cannot_offer_version_1, open_legacy),
        TEST(features_the_device_does_not_confirm_are_an_error, open_modern),
        TEST(reset_waits_until_the_status_reads_zero, open_modern),
        TEST(reset_waits_until_the_status_reads_zero, open_legacy),
        TEST(a_reset_that_never_completes_is_given_up, open_modern),
        TEST(a_device_that_needs_a_reset_says_so, open_modern),
        TEST(status_bits_are_added_to_what_is_there, open_modern),
        TEST(status_bits_are_added_to_what_is_there, open_legacy),
        TEST(queues_and_their_sizes_are_counted, open_modern),
        TEST(queues_and_their_sizes_are_counted, open_legacy),
        TEST(a_modern_queue_gets_its_three_addresses_size_and_vector, open_modern),
        TEST(addresses_above_4_gib_are_written_whole, open_modern),
        TEST(a_modern_queue_that_cannot_be_is_refused_untouched, open_modern),
        TEST(a_legacy_queue_gets_its_page_number, open_legacy),
        TEST(a_legacy_queue_that_cannot_be_is_refused_untouched, open_legacy),
        TEST(one_queue_is_reset_only_with_its_feature, open_modern),
        TEST(a_kick_is_one_posted_write_for_its_queue, open_modern),
        TEST(a_kick_is_one_posted_write_for_its_queue, open_legacy),
        TEST(a_queue_number_that_has_no_address_cannot_be_kicked, open_modern),
        TEST(a_notification_address_beyond_its_structure_is_refused, open_modern),
        TEST(reading_the_isr_clears_it, open_modern),
        TEST(reading_the_isr_clears_it, open_legacy),
        TEST(the_configuration_vector_is_read_back, open_modern),
        TEST(the_configuration_vector_is_read_back, open_legacy),
        TEST(without_msix_the_legacy_interface_has_no_vectors, open_legacy),
        TEST(the_configuration_is_read_in_fields_of_their_width, open_modern),
        TEST(the_configuration_is_read_in_fields_of_their_width, open_legacy),
        TEST(a_configuration_that_changes_meanwhile_is_read_again, open_modern),
        TEST(a_configuration_that_never_settles_is_given_up, open_modern),
        TEST(the_legacy_configuration_moves_with_msix, open_legacy),
        TEST(the_configuration_can_be_written, open_modern),
        TEST(the_configuration_can_be_written, open_legacy),
        TEST(configuration_beyond_its_end_is_refused, open_modern),
    };

    return cmocka_run_group_tests_name("virtio_pci", tests, NULL, NULL);
}
