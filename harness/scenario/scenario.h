/*
 * Runs scenario files: Lua scripts that declare machines and devices, and tests with names. Each
 * test gets its machines fresh; everything it made is gone when it ends.
 * The Lua side is described in scenarios/README.md; the library scripts share in scenarios/lib/.
 */
#ifndef RINGLAB_SCENARIO_H
#define RINGLAB_SCENARIO_H

#include "harness/report/report.h"

#include <glib.h>
#include <stdbool.h>

#define SCENARIO_ERROR (scenario_error_quark())
GQuark scenario_error_quark(void);

enum scenario_error {
    SCENARIO_ERROR_LOAD, /* the file cannot be read, is no Lua, or fails before its first test */
};

struct scenario_options {
    const char *filter;       /* run tests whose name this glob matches (as a whole); NULL: all */
    unsigned test_timeout_ms; /* per test; 0: 30 s */
    bool has_trace;           /* attach the register trace to a failed test */
    const char *record_dir;   /* write a transcript of each machine's qtest socket there, or NULL */
    bool only_list;           /* report the names as planned, run nothing */
    unsigned shuffle_seed;    /* != 0: run the tests in an order drawn from this */
    int cancel_fd;            /* readable: stop as soon as possible; -1: none */
    bool (*is_cancelled)(void); /* may be NULL */
    /* A script stays in one call into C (a string pattern without end, a finalizer that loops) for
     * `grace_ms` (0: 10 s) after its deadline: nothing can end it but the end of the process, which
     * is what this is for. Runs in a thread of its own while the script's thread touches nothing
     * but Lua; the report has the test that is stuck as running. NULL: wait for ever. */
    void (*stuck)(void *data, struct report *report);
    void *stuck_data;
    unsigned grace_ms;
    unsigned memory_mib; /* that Lua may use; 0: 1024 */
};

/* Runs one file; its tests are told to `report`, between report_file_started and
 * report_file_ended, which the caller calls. False with an error if the file is no scenario; tests
 * that fail are no error. */
bool scenario_run_file(const char *path, const struct scenario_options *options,
                       struct report *report, GError **error);

#endif
