/*
 * The driver's side of a split virtqueue against a small device written for the purpose
 * (test_device_ring.h), in one thread: layouts, chains, suppression in both directions with exact
 * counts, and everything a broken device may return.
 */
#include "qtest_client/test_device_ring.h"
#include "qtest_client/virtqueue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { GPA = 0xC0000000, SIZE = 8, REGION_BYTES = 4 << 20 };

static struct guest_memory *memory;
static struct guest_region *region;
static struct virtqueue *vq;
static struct device_ring device;
static int tokens[65536];

static int open_region(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    memory = guest_memory_new();
    region = guest_region_new("rings", REGION_BYTES, GUEST_HUGEPAGES_OFF, &error);
    assert_non_null(region);
    assert_true(guest_memory_place(memory, region, GPA, &error));
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    virtqueue_free(vq);
    vq = NULL;
    assert_int_equal(guest_region_allocated(region), 0);
    guest_memory_free(memory);
    guest_region_free(region);
    return 0;
}

static void open_queue(uint16_t size, bool has_event_idx, uint16_t indirect_entries)
{
    g_autoptr(GError) error = NULL;

    vq = virtqueue_new(memory, region, size, VIRTQUEUE_LAYOUT_MODERN, has_event_idx,
                       indirect_entries, &error);
    assert_non_null(vq);
    device = (struct device_ring){
        memory, vq->desc_gpa, vq->avail_gpa, vq->used_gpa, size, has_event_idx, 0, 0, 0};
}

static int open_flags_queue(void **state)
{
    open_region(state);
    open_queue(SIZE, false, 0);
    return 0;
}

static int open_event_queue(void **state)
{
    open_region(state);
    open_queue(SIZE, true, 0);
    return 0;
}

static int open_indirect_queue(void **state)
{
    open_region(state);
    open_queue(SIZE, false, 4);
    return 0;
}

/* ---- helpers ---- */

static bool add_in(uint32_t len, void *token)
{
    struct virtqueue_buffer buffer = {GPA + 0x100000, len};

    return virtqueue_add(vq, &buffer, 0, 1, token);
}

/* Adds `n` one-buffer chains of 64 writable bytes, tokens first.. */
static void add_many(unsigned n, unsigned first)
{
    for (unsigned i = 0; i < n; i++) {
        assert_true(add_in(64, &tokens[first + i]));
    }
}

/* The device takes and returns `n` chains, and publishes them at once. */
static bool serve(unsigned n, uint32_t len)
{
    struct device_chain chain;

    for (unsigned i = 0; i < n; i++) {
        assert_true(device_take(&device, &chain));
        device_put(&device, chain.head, len);
    }
    return device_publish(&device);
}

static unsigned pop_all(void)
{
    struct virtqueue_used used[SIZE * 2];

    return virtqueue_pop(vq, used, G_N_ELEMENTS(used));
}

static void assert_broken(const char *reason)
{
    struct virtqueue_used used;

    assert_true(vq->is_broken);
    assert_string_equal(vq->broken_reason, reason);
    assert_int_equal(virtqueue_pop(vq, &used, 1), 0);
    assert_false(virtqueue_has_used(vq));
    assert_false(add_in(64, &tokens[0]));
    assert_false(virtqueue_needs_kick(vq));
}

/* ---- layout ---- */

static void a_size_that_is_no_power_of_two_is_refused(void **state)
{
    static const uint16_t bad[] = {0, 3, 100, 32767, 32769, 65535};

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(
            virtqueue_new(memory, region, bad[i], VIRTQUEUE_LAYOUT_MODERN, false, 0, &error));
        assert_true(g_error_matches(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_INVALID));
    }
}

static void indirect_tables_longer_than_the_queue_are_refused(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_null(virtqueue_new(memory, region, 4, VIRTQUEUE_LAYOUT_MODERN, false, 5, &error));
    assert_true(g_error_matches(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_INVALID));
}

static void rings_in_memory_without_a_guest_address_are_refused(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_true(guest_memory_place(memory, region, GUEST_UNPLACED, NULL));
    assert_null(virtqueue_new(memory, region, 4, VIRTQUEUE_LAYOUT_MODERN, false, 0, &error));
    assert_true(g_error_matches(error, VIRTQUEUE_ERROR, VIRTQUEUE_ERROR_INVALID));
    assert_non_null(strstr(error->message, "rings"));
}

static void a_full_region_refuses_the_rings_and_keeps_nothing(void **state)
{
    g_autoptr(GError) error = NULL;

    (void)state;
    assert_null(
        virtqueue_new(memory, region, 32768, VIRTQUEUE_LAYOUT_MODERN, false, 32768, &error));
    assert_true(g_error_matches(error, GUEST_MEMORY_ERROR, GUEST_MEMORY_ERROR_NO_SPACE));
    assert_int_equal(guest_region_allocated(region), 0);
}

static void the_largest_and_the_smallest_queue_have_aligned_parts(void **state)
{
    static const uint16_t sizes[] = {1, 2, 256, 32768};

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        open_queue(sizes[i], false, 0);
        assert_int_equal(vq->desc_gpa % VIRTQ_DESC_ALIGN, 0);
        assert_int_equal(vq->avail_gpa % VIRTQ_AVAIL_ALIGN, 0);
        assert_int_equal(vq->used_gpa % VIRTQ_USED_ALIGN, 0);
        assert_true(vq->avail_gpa >= vq->desc_gpa + 16u * sizes[i]);
        assert_true(vq->used_gpa >= vq->avail_gpa + 6 + 2u * sizes[i]);
        assert_ptr_equal(guest_memory_host(memory, vq->avail_gpa, 2), vq->avail);
        assert_ptr_equal(guest_memory_host(memory, vq->used_gpa, 2), vq->used);
        assert_int_equal(vq->n_free, sizes[i]);
        virtqueue_free(vq);
        vq = NULL;
    }
}

static void the_legacy_layout_is_one_block_with_the_used_ring_on_a_page_boundary(void **state)
{
    static const struct {
        uint16_t size;
        uint64_t avail, used;
    } cases[] = {{8, 0x80, 0x1000}, {256, 0x1000, 0x2000}, {1024, 0x4000, 0x5000}};

    (void)state;
    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        vq = virtqueue_new(memory, region, cases[i].size, VIRTQUEUE_LAYOUT_LEGACY, true, 0, NULL);
        assert_non_null(vq);
        assert_int_equal(vq->desc_gpa % 4096, 0);
        assert_int_equal(vq->avail_gpa - vq->desc_gpa, cases[i].avail);
        assert_int_equal(vq->used_gpa - vq->desc_gpa, cases[i].used);
        virtqueue_free(vq);
        vq = NULL;
    }
}

/* ---- descriptors ---- */

static void a_chain_reaches_the_device_in_order_with_its_directions(void **state)
{
    struct virtqueue_buffer buffers[] = {{GPA + 0x1000, 12}, {GPA + 0x2000, 1}, {GPA + 0x3000, 99}};
    struct device_chain chain;

    (void)state;
    assert_true(virtqueue_add(vq, buffers, 2, 1, &tokens[0]));
    virtqueue_publish(vq);
    assert_true(device_take(&device, &chain));
    assert_int_equal(chain.n_out, 2);
    assert_int_equal(chain.n_in, 1);
    assert_false(chain.was_indirect);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(chain.buffers[i].gpa, buffers[i].gpa);
        assert_int_equal(chain.buffers[i].len, buffers[i].len);
    }
    assert_int_equal(vq->n_free, SIZE - 3);
}

static void an_indirect_chain_takes_one_descriptor_of_the_ring(void **state)
{
    struct virtqueue_buffer buffers[] = {
        {GPA + 0x1000, 12}, {GPA + 0x2000, 1}, {GPA + 0x3000, 99}, {GPA + 0x4000, 7}};
    struct device_chain chain;

    (void)state;
    for (unsigned i = 0; i < SIZE; i++) {
        assert_true(virtqueue_add(vq, buffers, 1, 3, &tokens[i]));
    }
    assert_false(virtqueue_add(vq, buffers, 1, 3, &tokens[0]));
    virtqueue_publish(vq);
    for (unsigned round = 0; round < SIZE; round++) {
        assert_true(device_take(&device, &chain));
        assert_true(chain.was_indirect);
        assert_int_equal(chain.n_out, 1);
        assert_int_equal(chain.n_in, 3);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(chain.buffers[i].gpa, buffers[i].gpa);
            assert_int_equal(chain.buffers[i].len, buffers[i].len);
        }
    }
}

static void one_buffer_or_more_than_the_table_holds_goes_without_a_table(void **state)
{
    struct virtqueue_buffer buffers[5] = {{GPA, 1}, {GPA, 2}, {GPA, 3}, {GPA, 4}, {GPA, 5}};
    struct device_chain chain;

    (void)state;
    assert_true(virtqueue_add(vq, buffers, 1, 0, &tokens[0]));
    assert_true(virtqueue_add(vq, buffers, 5, 0, &tokens[1]));
    assert_int_equal(vq->n_free, SIZE - 6);
    virtqueue_publish(vq);
    assert_true(device_take(&device, &chain));
    assert_false(chain.was_indirect);
    assert_int_equal(chain.n_out, 1);
    assert_true(device_take(&device, &chain));
    assert_false(chain.was_indirect);
    assert_int_equal(chain.n_out, 5);
}

static void too_few_descriptors_change_nothing(void **state)
{
    struct virtqueue_buffer buffers[9] = {{GPA, 1}};

    (void)state;
    assert_false(virtqueue_add(vq, buffers, 9, 0, &tokens[0]));
    assert_true(virtqueue_add(vq, buffers, 6, 0, &tokens[0]));
    assert_false(virtqueue_add(vq, buffers, 3, 0, &tokens[1]));
    assert_int_equal(vq->n_free, 2);
    assert_true(virtqueue_add(vq, buffers, 1, 1, &tokens[1]));
    assert_int_equal(vq->n_free, 0);
    virtqueue_publish(vq);
    assert_int_equal(device_n_available(&device), 2);
    serve(2, 0);
    assert_int_equal(pop_all(), 2);
    assert_int_equal(vq->n_free, SIZE);
}

static void nothing_is_available_before_publish(void **state)
{
    (void)state;
    add_many(3, 0);
    assert_int_equal(device_n_available(&device), 0);
    assert_int_equal(vq->n_in_flight, 0);
    assert_false(virtqueue_needs_kick(vq));
    virtqueue_publish(vq);
    assert_int_equal(device_n_available(&device), 3);
    assert_int_equal(vq->n_in_flight, 3);
    virtqueue_publish(vq);
    assert_int_equal(device_n_available(&device), 3);
}

static void tokens_and_lengths_come_back_in_the_device_s_order(void **state)
{
    struct device_chain chain[3];
    struct virtqueue_used used[3];

    (void)state;
    add_many(3, 0);
    virtqueue_publish(vq);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(device_take(&device, &chain[i]));
    }
    device_put(&device, chain[2].head, 64);
    device_put(&device, chain[0].head, 1);
    device_put(&device, chain[1].head, 0);
    assert_false(virtqueue_has_used(vq));
    device_publish(&device);
    assert_true(virtqueue_has_used(vq));
    assert_int_equal(virtqueue_pop(vq, used, 2), 2);
    assert_ptr_equal(used[0].token, &tokens[2]);
    assert_int_equal(used[0].len, 64);
    assert_int_equal(used[0].head, chain[2].head);
    assert_ptr_equal(used[1].token, &tokens[0]);
    assert_int_equal(used[1].len, 1);
    assert_int_equal(virtqueue_pop(vq, used, 2), 1);
    assert_ptr_equal(used[0].token, &tokens[1]);
    assert_int_equal(used[0].len, 0);
    assert_false(virtqueue_has_used(vq));
    assert_int_equal(vq->n_in_flight, 0);
}

static void descriptors_scribbled_over_do_not_lead_the_driver_astray(void **state)
{
    struct virtqueue_buffer buffers[4] = {{GPA, 1}, {GPA, 1}, {GPA, 1}, {GPA, 1}};
    struct device_chain chain;

    (void)state;
    assert_true(virtqueue_add(vq, buffers, 4, 0, &tokens[0]));
    virtqueue_publish(vq);
    assert_true(device_take(&device, &chain));
    memset((void *)vq->desc, 0xee, VIRTQ_DESC_BYTES(SIZE));
    device_put(&device, chain.head, 0);
    device_publish(&device);
    assert_int_equal(pop_all(), 1);
    for (unsigned i = 0; i < SIZE / 2; i++) {
        assert_true(virtqueue_add(vq, buffers, 2, 0, &tokens[i]));
    }
    virtqueue_publish(vq);
    for (unsigned i = 0; i < SIZE / 2; i++) {
        assert_true(device_take(&device, &chain));
        assert_int_equal(chain.n_out, 2);
    }
}

static void indices_wrap_around_and_no_chain_is_lost(void **state)
{
    struct virtqueue_used used[SIZE];
    unsigned n_sent = 0, n_back = 0;

    (void)state;
    /* batches of 1 to 7, in flight over the wrap of both indices, twice */
    while (n_back < 140000) {
        unsigned n = 1 + n_sent % 7;
        while (n > 0 && add_in(64, &tokens[n_sent % 65536])) {
            n_sent++;
            n--;
        }
        virtqueue_publish(vq);
        serve(MIN(device_n_available(&device), 5u), 60);
        unsigned got = virtqueue_pop(vq, used, SIZE);
        assert_in_range(got, 1, 5);
        for (unsigned i = 0; i < got; i++) {
            assert_ptr_equal(used[i].token, &tokens[n_back % 65536]);
            n_back++;
        }
        assert_int_equal(vq->n_in_flight, n_sent - n_back);
    }
    assert_int_equal(vq->last_used_idx, n_back % 65536);
    assert_false(vq->is_broken);
}

/* ---- kicks ---- */

static void flags_decide_about_every_batch(void **state)
{
    (void)state;
    add_many(2, 0);
    virtqueue_publish(vq);
    assert_true(virtqueue_needs_kick(vq));
    assert_false(virtqueue_needs_kick(vq));
    device_want_kicks(&device, false);
    add_many(2, 2);
    virtqueue_publish(vq);
    assert_false(virtqueue_needs_kick(vq));
    device_want_kicks(&device, true);
    add_many(1, 4);
    virtqueue_publish(vq);
    assert_true(virtqueue_needs_kick(vq));
}

static void with_event_index_one_kick_is_enough_until_the_device_asks_again(void **state)
{
    (void)state;
    add_many(1, 0);
    virtqueue_publish(vq);
    assert_true(virtqueue_needs_kick(vq)); /* event 0: the first chain */
    for (unsigned i = 1; i < 4; i++) {
        add_many(1, i);
        virtqueue_publish(vq);
        assert_false(virtqueue_needs_kick(vq));
    }
    serve(4, 0);
    device_want_kicks(&device, true);
    assert_int_equal(pop_all(), 4);
    add_many(1, 4);
    virtqueue_publish(vq);
    assert_true(virtqueue_needs_kick(vq));
    add_many(1, 5);
    virtqueue_publish(vq);
    assert_false(virtqueue_needs_kick(vq));
}

static void a_batch_that_crosses_the_event_index_anywhere_needs_one_kick(void **state)
{
    (void)state;
    for (uint16_t event = 0; event < 6; event++) {
        virtqueue_reset(vq);
        device.last_avail = device.used_idx = device.signalled_idx = 0;
        device_set_avail_event(&device, event);
        add_many(2, 0);
        virtqueue_publish(vq);
        add_many(3, 2);
        virtqueue_publish(vq);
        /* one question for both: chains 0 to 4 */
        assert_int_equal(virtqueue_needs_kick(vq), event < 5);
        assert_false(virtqueue_needs_kick(vq));
    }
}

static void kicks_with_event_index_are_exact_over_the_wrap_of_the_indices(void **state)
{
    unsigned n_kicks = 0, n_rounds = 0;

    (void)state;
    /* the device asks after each round of batches of 3 and 2: every round costs exactly one kick,
     * also the one whose first batch begins at 65535 */
    for (unsigned n = 0; n < 140000; n += 5) {
        for (unsigned batch = 3; batch >= 2; batch--) {
            add_many(batch, 0);
            virtqueue_publish(vq);
            n_kicks += virtqueue_needs_kick(vq);
        }
        serve(5, 0);
        device_want_kicks(&device, true);
        assert_int_equal(pop_all(), 5);
        n_rounds++;
        assert_int_equal(n_kicks, n_rounds);
    }
    assert_int_equal(n_rounds, 28000);
}

/* Against counting one by one, at every distance from the wrap and from the event. */
static void an_event_index_is_passed_when_counting_meets_it(void **state)
{
    (void)state;
    for (unsigned start = 65536 - 40; start < 65536 + 40; start++) {
        for (unsigned n = 0; n < 20; n++) {
            for (unsigned event = start - 30; event < start + 60; event++) {
                uint16_t from = (uint16_t)start, to = (uint16_t)(start + n), at = (uint16_t)event;
                if (virtqueue_need_event(at, to, from) != device_passes(from, to, at)) {
                    fail_msg("from %u to %u, event %u", from, to, at);
                }
            }
        }
    }
    assert_true(virtqueue_need_event(7, 6, 7)); /* all but one of a turn */
    assert_false(virtqueue_need_event(6, 6, 7));
}

static void a_question_delayed_for_a_whole_turn_of_the_index_is_answered_yes(void **state)
{
    (void)state;
    device_set_avail_event(&device, 40000);
    for (unsigned n = 0; n < 65536; n += SIZE) {
        add_many(SIZE, 0);
        virtqueue_publish(vq);
        serve(SIZE, 0);
        assert_int_equal(pop_all(), SIZE);
    }
    assert_int_equal(vq->avail_idx_published, vq->avail_idx_notified);
    assert_true(virtqueue_needs_kick(vq));
    assert_false(virtqueue_needs_kick(vq));
}

static void reset_restarts_the_notification_decision(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 200; n += 2) {
        add_many(2, 0);
        virtqueue_publish(vq);
        virtqueue_needs_kick(vq);
        serve(2, 0);
        assert_int_equal(pop_all(), 2);
    }
    add_many(2, 0); /* left unpublished, and forgotten */
    virtqueue_reset(vq);
    device.last_avail = device.used_idx = device.signalled_idx = 0;
    assert_int_equal(vq->n_free, SIZE);
    assert_int_equal(device_n_available(&device), 0);
    add_many(SIZE, 0);
    virtqueue_publish(vq);
    assert_int_equal(device_n_available(&device), SIZE);
    assert_true(virtqueue_needs_kick(vq));
    serve(SIZE, 64);
    assert_int_equal(pop_all(), SIZE);
    assert_false(vq->is_broken);
}

/* ---- interrupts ---- */

static void flags_switch_interrupts(void **state)
{
    (void)state;
    add_many(3, 0);
    virtqueue_publish(vq);
    assert_true(serve(1, 0));
    virtqueue_disable_interrupts(vq);
    assert_false(serve(1, 0));
    assert_int_equal(pop_all(), 2);
    assert_true(virtqueue_enable_interrupts(vq));
    assert_true(serve(1, 0));
}

static void with_event_index_one_interrupt_comes_for_each_time_it_was_asked_for(void **state)
{
    unsigned n_interrupts = 0;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        add_many(4, 0);
        virtqueue_publish(vq);
        assert_true(virtqueue_enable_interrupts(vq));
        for (unsigned i = 0; i < 4; i++) {
            n_interrupts += serve(1, 0);
        }
        assert_int_equal(pop_all(), 4);
    }
    assert_int_equal(n_interrupts, 20000);
}

static void with_event_index_disabled_interrupts_stay_away_for_a_turn_of_the_index(void **state)
{
    unsigned n_interrupts = 0;

    (void)state;
    virtqueue_disable_interrupts(vq);
    for (unsigned n = 0; n < 65534; n++) {
        add_many(1, 0);
        virtqueue_publish(vq);
        n_interrupts += serve(1, 0);
        assert_int_equal(pop_all(), 1);
    }
    assert_int_equal(n_interrupts, 0);
    assert_int_equal(vq->avail->flags, 0); /* 2.7.7.1 */
}

static void enabling_interrupts_tells_of_what_was_used_meanwhile(void **state)
{
    (void)state;
    virtqueue_disable_interrupts(vq);
    add_many(2, 0);
    virtqueue_publish(vq);
    assert_true(virtqueue_enable_interrupts(vq));
    virtqueue_disable_interrupts(vq);
    assert_false(serve(1, 0));
    assert_false(virtqueue_enable_interrupts(vq));
    assert_int_equal(pop_all(), 1);
    assert_true(virtqueue_enable_interrupts(vq));
    assert_true(serve(1, 0));
}

static void a_delayed_interrupt_comes_after_three_quarters(void **state)
{
    unsigned at = 0;

    (void)state;
    add_many(8, 0);
    virtqueue_publish(vq);
    assert_true(virtqueue_enable_interrupts_delayed(vq));
    for (unsigned i = 1; i <= 8; i++) {
        if (serve(1, 0)) {
            assert_int_equal(at, 0);
            at = i;
        }
    }
    assert_int_equal(at, 7); /* the first beyond 6 of 8 */
    /* 8 used, 6 would have been waited for: too late to sleep */
    assert_false(virtqueue_enable_interrupts_delayed(vq));
    assert_int_equal(pop_all(), 8);
    assert_true(virtqueue_enable_interrupts_delayed(vq));
}

static void without_event_index_a_delayed_interrupt_is_an_ordinary_one(void **state)
{
    (void)state;
    virtqueue_disable_interrupts(vq);
    add_many(8, 0);
    virtqueue_publish(vq);
    assert_true(virtqueue_enable_interrupts_delayed(vq));
    assert_true(serve(1, 0));
    assert_false(virtqueue_enable_interrupts_delayed(vq));
}

/* ---- broken devices ---- */

static void a_head_out_of_range_breaks_the_queue(void **state)
{
    (void)state;
    add_many(2, 0);
    virtqueue_publish(vq);
    device_put(&device, SIZE, 0);
    device_publish(&device);
    assert_int_equal(pop_all(), 0);
    assert_broken("used entry 0 returns head 8: the queue has only 0 to 7");
}

static void a_head_of_65536_more_breaks_the_queue(void **state)
{
    (void)state;
    add_many(2, 0);
    virtqueue_publish(vq);
    device_put(&device, 0x10000, 0);
    device_publish(&device);
    assert_int_equal(pop_all(), 0);
    assert_broken("used entry 0 returns head 65536: the queue has only 0 to 7");
}

static void a_head_returned_twice_breaks_the_queue_after_the_first(void **state)
{
    struct virtqueue_used used[SIZE];
    struct device_chain chain;

    (void)state;
    add_many(2, 0);
    virtqueue_publish(vq);
    assert_true(device_take(&device, &chain));
    device_put(&device, chain.head, 0);
    device_put(&device, chain.head, 0);
    device_publish(&device);
    assert_int_equal(virtqueue_pop(vq, used, SIZE), 1);
    assert_ptr_equal(used[0].token, &tokens[0]);
    assert_broken("used entry 1 returns head 0, which is not in flight");
}

static void a_descriptor_inside_a_chain_is_no_head(void **state)
{
    struct virtqueue_buffer buffers[2] = {{GPA, 1}, {GPA, 1}};

    (void)state;
    assert_true(virtqueue_add(vq, buffers, 2, 0, &tokens[0]));
    virtqueue_publish(vq);
    device_put(&device, 1, 0);
    device_publish(&device);
    assert_int_equal(pop_all(), 0);
    assert_broken("used entry 0 returns head 1, which is not in flight");
}

static void a_chain_that_was_not_published_cannot_come_back(void **state)
{
    (void)state;
    add_many(1, 0);
    virtqueue_publish(vq);
    add_many(1, 1);
    device_put(&device, 1, 0);
    device_publish(&device);
    assert_int_equal(pop_all(), 0);
    assert_broken("used entry 0 returns head 1, which is not in flight");
}

static void more_used_than_available_breaks_the_queue(void **state)
{
    (void)state;
    add_many(3, 0);
    virtqueue_publish(vq);
    add_many(2, 3);
    device.used_idx = 4;
    device_publish(&device);
    assert_true(virtqueue_has_used(vq));
    assert_int_equal(pop_all(), 0);
    assert_broken("used.idx went from 0 to 4, but only 3 chains are in flight");
}

static void a_used_index_that_goes_back_breaks_the_queue(void **state)
{
    (void)state;
    add_many(3, 0);
    virtqueue_publish(vq);
    serve(2, 0);
    assert_int_equal(pop_all(), 2);
    device.used_idx = 1;
    device_publish(&device);
    assert_int_equal(pop_all(), 0);
    assert_broken("used.idx went from 2 to 1, but only 1 chains are in flight");
}

static void a_length_beyond_the_writable_part_breaks_the_queue(void **state)
{
    struct virtqueue_buffer buffers[3] = {{GPA, 100}, {GPA, 20}, {GPA, 10}};

    (void)state;
    assert_true(virtqueue_add(vq, buffers, 1, 2, &tokens[0]));
    assert_true(virtqueue_add(vq, buffers, 1, 2, &tokens[1]));
    virtqueue_publish(vq);
    serve(1, 30);
    assert_int_equal(pop_all(), 1);
    serve(1, 31);
    assert_int_equal(pop_all(), 0);
    assert_broken("used entry 1, head 3: 31 bytes written, where the chain has room for 30");
}

static void buffers_of_4_gib_together_do_not_overflow_the_length_check(void **state)
{
    struct virtqueue_buffer buffers[2] = {{GPA, UINT32_MAX}, {GPA, 2}};

    (void)state;
    assert_true(virtqueue_add(vq, buffers, 0, 2, &tokens[0]));
    virtqueue_publish(vq);
    serve(1, UINT32_MAX);
    assert_int_equal(pop_all(), 1);
    assert_false(vq->is_broken);
}

static void a_broken_queue_works_again_after_reset(void **state)
{
    (void)state;
    add_many(3, 0);
    virtqueue_publish(vq);
    device_put(&device, 77, 0);
    device_publish(&device);
    assert_int_equal(pop_all(), 0);
    assert_true(vq->is_broken);
    virtqueue_reset(vq);
    device.last_avail = device.used_idx = device.signalled_idx = 0;
    add_many(SIZE, 0);
    virtqueue_publish(vq);
    assert_true(virtqueue_needs_kick(vq));
    serve(SIZE, 64);
    assert_int_equal(pop_all(), SIZE);
}

#define TEST(name, setup) cmocka_unit_test_setup_teardown(name, setup, close_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_size_that_is_no_power_of_two_is_refused, open_region),
        TEST(indirect_tables_longer_than_the_queue_are_refused, open_region),
        TEST(rings_in_memory_without_a_guest_address_are_refused, open_region),
        TEST(a_full_region_refuses_the_rings_and_keeps_nothing, open_region),
        TEST(the_largest_and_the_smallest_queue_have_aligned_parts, open_region),
        TEST(the_legacy_layout_is_one_block_with_the_used_ring_on_a_page_boundary, open_region),
        TEST(a_chain_reaches_the_device_in_order_with_its_directions, open_flags_queue),
        TEST(an_indirect_chain_takes_one_descriptor_of_the_ring, open_indirect_queue),
        TEST(one_buffer_or_more_than_the_table_holds_goes_without_a_table, open_indirect_queue),
        TEST(too_few_descriptors_change_nothing, open_flags_queue),
        TEST(nothing_is_available_before_publish, open_flags_queue),
        TEST(tokens_and_lengths_come_back_in_the_device_s_order, open_flags_queue),
        TEST(descriptors_scribbled_over_do_not_lead_the_driver_astray, open_flags_queue),
        TEST(indices_wrap_around_and_no_chain_is_lost, open_flags_queue),
        TEST(flags_decide_about_every_batch, open_flags_queue),
        TEST(with_event_index_one_kick_is_enough_until_the_device_asks_again, open_event_queue),
        TEST(a_batch_that_crosses_the_event_index_anywhere_needs_one_kick, open_event_queue),
        TEST(kicks_with_event_index_are_exact_over_the_wrap_of_the_indices, open_event_queue),
        cmocka_unit_test(an_event_index_is_passed_when_counting_meets_it),
        TEST(a_question_delayed_for_a_whole_turn_of_the_index_is_answered_yes, open_event_queue),
        TEST(reset_restarts_the_notification_decision, open_event_queue),
        TEST(flags_switch_interrupts, open_flags_queue),
        TEST(with_event_index_one_interrupt_comes_for_each_time_it_was_asked_for, open_event_queue),
        TEST(with_event_index_disabled_interrupts_stay_away_for_a_turn_of_the_index,
             open_event_queue),
        TEST(enabling_interrupts_tells_of_what_was_used_meanwhile, open_event_queue),
        TEST(enabling_interrupts_tells_of_what_was_used_meanwhile, open_flags_queue),
        TEST(a_delayed_interrupt_comes_after_three_quarters, open_event_queue),
        TEST(without_event_index_a_delayed_interrupt_is_an_ordinary_one, open_flags_queue),
        TEST(a_head_out_of_range_breaks_the_queue, open_flags_queue),
        TEST(a_head_of_65536_more_breaks_the_queue, open_flags_queue),
        TEST(a_head_returned_twice_breaks_the_queue_after_the_first, open_flags_queue),
        TEST(a_descriptor_inside_a_chain_is_no_head, open_flags_queue),
        TEST(a_chain_that_was_not_published_cannot_come_back, open_flags_queue),
        TEST(more_used_than_available_breaks_the_queue, open_flags_queue),
        TEST(a_used_index_that_goes_back_breaks_the_queue, open_flags_queue),
        TEST(a_length_beyond_the_writable_part_breaks_the_queue, open_flags_queue),
        TEST(buffers_of_4_gib_together_do_not_overflow_the_length_check, open_flags_queue),
        TEST(a_broken_queue_works_again_after_reset, open_flags_queue),
    };

    return cmocka_run_group_tests_name("virtqueue", tests, NULL, NULL);
}
