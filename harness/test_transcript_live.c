/*
 * What a real QEMU says can be recorded, and played to the same driver without it. With
 * RINGLAB_TRANSCRIPT=FILE the recording is written there: qtest_client/testdata/ is made so.
 */
#include "harness/qemu.h"
#include "qtest_client/test_walk.h"

#include <string.h>

static struct qemu *start(void)
{
    static const char *const args[] = {"-netdev", WALK_NETDEV, "-device", WALK_DEVICE, NULL};
    struct qemu_options options = {.name = "walk", .board = MACHINE_PC, .args = args};
    g_autoptr(GError) error = NULL;
    struct qemu *qemu = qemu_start(&options, &error);

    if (!qemu) {
        fail_msg("%s", error->message);
    }
    return qemu;
}

static char *record(struct qemu *qemu)
{
    const struct qmp_version *version = qmp_version(qemu_qmp(qemu));
    char *transcript = NULL;
    size_t len;
    FILE *file = open_memstream(&transcript, &len);

    assert_non_null(file);
    fprintf(file, "# QEMU %d.%d.%d, machine pc, -netdev %s -device %s\n", version->major,
            version->minor, version->micro, WALK_NETDEV, WALK_DEVICE);
    qtest_record(qemu_qtest(qemu), file);
    walk(qemu_qtest(qemu));
    qtest_record(qemu_qtest(qemu), NULL);
    fclose(file);
    return transcript;
}

static void what_was_recorded_on_a_real_qemu_replays_without_it(void **state)
{
    struct qemu *qemu = start();
    char *transcript = record(qemu);
    const char *path = g_getenv("RINGLAB_TRANSCRIPT");
    g_autoptr(GError) error = NULL;
    int fd;

    (void)state;
    qemu_free(qemu);
    struct qtest_replay *replay = qtest_replay_new(transcript, &fd, &error);
    assert_non_null(replay);
    struct qtest *q = qtest_new(fd);
    qtest_set_closed_hook(q, qtest_replay_complaint, replay);
    walk(q);
    qtest_free(q);
    if (!qtest_replay_finish(replay, &error)) {
        fail_msg("%s", error->message);
    }
    if (path && !g_file_set_contents(path, transcript, -1, &error)) {
        fail_msg("%s", error->message);
    }
    free(transcript);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_recorded_on_a_real_qemu_replays_without_it),
    };
    return cmocka_run_group_tests_name("transcript_live", tests, NULL, NULL);
}
