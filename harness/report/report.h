/*
 * What a run of scenarios did: files, their tests and results, told as it happens. A report keeps
 * all of it and passes each event on to its sinks (TAP, progress line); JUnit XML and JSON are made
 * from what it kept when the run has ended. Used from one thread.
 */
#ifndef RINGLAB_REPORT_H
#define RINGLAB_REPORT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum report_outcome {
    REPORT_PASSED,
    REPORT_FAILED,  /* an expectation did not hold */
    REPORT_SKIPPED, /* with a reason */
    REPORT_ERROR,   /* the test could not be carried out: a Lua error, a dead QEMU, a deadline */
};

/* A text that helps to understand a failure: "QEMU m stderr", "m register trace", "traceback". */
struct report_attachment {
    const char *name;
    const char *text;
    bool only_in_files; /* not for a reader of TAP: long, and the same for every failure */
};

/* How a test ended. All strings are copied, and may hold any bytes: what is no valid UTF-8 or a
 * control character is kept as "\xNN". Unknown ones are NULL. */
struct report_result {
    enum report_outcome outcome;
    const char *message;    /* reason of a skip; what went wrong; may be many lines */
    const char *expression; /* of an expectation: what was compared, */
    const char *expected;   /* what it should have been, */
    const char *actual;     /* and what it was */
    const char *script;     /* where: a file, */
    unsigned line;          /* and a line from 1; 0: unknown */
    int64_t duration_us;    /* 0: measured from report_test_started() */
    const struct report_attachment *attachments; /* of a test that did not pass */
    size_t n_attachments;
};

/* ---- telling what happens; in this order, files and tests one after the other ---- */

struct report *report_new(void);
void report_free(struct report *r);

/* `paths` (NULL-terminated, or NULL if unknown) are the files that will run, `n_rounds` times. */
void report_run_started(struct report *r, const char *const *paths, unsigned n_rounds);
/* `round` counts from 1. */
void report_file_started(struct report *r, const char *path, unsigned round);
/* The tests that will run in the file that was started; optional. It gives the progress line a
 * total, and an interrupted run the names of what it did not do. */
void report_file_planned(struct report *r, const char *const *names, size_t n);
void report_test_started(struct report *r, const char *name);
void report_test_ended(struct report *r, const struct report_result *result);
/* The file that was started could not be loaded, or broke down as a whole. It still has to be
 * ended. Counted as failed. */
void report_file_broken(struct report *r, const char *message);
void report_file_ended(struct report *r);
/* One line for whoever watches, at any moment: "no huge pages: ..." */
void report_note(struct report *r, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* The same, but a text that this run was told before is not told again. */
void report_note_once(struct report *r, const char *text);
/* `signal_number` is what interrupted the run, or 0. A test and a file that are still running end
 * here, the test with an error. */
void report_run_ended(struct report *r, int signal_number);
/* The same for a run that cannot go on; `why` is one line. */
void report_run_given_up(struct report *r, const char *why);

/* ---- what was told ---- */

struct report_test {
    char *name; /* one line */
    enum report_outcome outcome;
    char *message, *expression, *expected, *actual, *script; /* or NULL */
    unsigned line;
    int64_t duration_us;
    GPtrArray *attachments; /* struct report_text * */
};

struct report_text {
    char *name, *text;
    bool only_in_files;
};

struct report_file {
    char *path;
    unsigned round;     /* from 1 */
    char *broken;       /* or NULL: why it could not be run */
    GPtrArray *tests;   /* struct report_test *, those that ended */
    GPtrArray *planned; /* char *, or NULL */
    char *running;      /* name of the test that runs, or NULL */
    int64_t started_us, duration_us;
};

struct report_counts {
    unsigned passed, failed, skipped; /* failed: with errors and broken files */
    unsigned errors;                  /* those of `failed` that are tests with an error */
    unsigned broken;                  /* those of `failed` that are broken files */
};
struct report_counts report_counts(const struct report *r);
/* One file's share. */
struct report_counts report_file_counts(const struct report_file *file);
/* struct report_file *, in the order in which they were started. */
const GPtrArray *report_files(const struct report *r);
/* "N passed, N failed, N skipped" */
char *report_summary(const struct report *r);
/* What was planned and has not been run: "FILE" or "FILE: TEST", char *. */
GPtrArray *report_not_run(const struct report *r);
/* "FILE: TEST", with the round in front where there are several. `test` may be NULL. */
char *report_title(const struct report *r, const struct report_file *file, const char *test);

/* ---- sinks ---- */

enum report_event {
    REPORT_RUN_STARTED,
    REPORT_FILE_STARTED,
    REPORT_TEST_STARTED, /* text: its name */
    REPORT_TEST_ENDED,   /* test */
    REPORT_FILE_BROKEN,  /* text: why */
    REPORT_FILE_ENDED,
    REPORT_NOTE,      /* text */
    REPORT_RUN_ENDED, /* text: "interrupted by ...", or NULL */
};

struct report_sink {
    void (*event)(struct report_sink *sink, const struct report *r, enum report_event event,
                  const struct report_file *file, const struct report_test *test, const char *text);
    /* Something is about to be printed: take what is not meant to stay off the screen. Or NULL. */
    void (*hide)(struct report_sink *sink);
    void (*free)(struct report_sink *sink);
};

/* The report owns the sink from now on. Events reach sinks in the order in which they were added.
 */
void report_add_sink(struct report *r, struct report_sink *sink);
/* Calls hide() of every sink: before something else prints to the terminal. */
void report_hide(struct report *r);

/* TAP 14 on `out`, one flat line per test, a YAML block below a failure. Its consumers up to
 * version 13 read it as well, if only the first line says 13: `version` is 13 or 14. */
struct report_sink *report_tap_new(FILE *out, unsigned version, bool color);
/* One line on a terminal that is written over again and again. `columns` is its width, 0: ask. */
struct report_sink *report_progress_new(FILE *terminal, unsigned columns);

/* ---- files ---- */

/* The whole run as JUnit XML and as JSON; freed with g_free(). */
char *report_junit(const struct report *r);
char *report_json(const struct report *r);
/* Makes the folder and finds out whether it can be written: before a long run, not after it. */
bool report_prepare(const char *dir, GError **error);
/* Writes DIR/junit.xml and DIR/run.json, making DIR if needed. Each takes the place of an older one
 * as a whole, also with several runs at once. Errors are G_FILE_ERROR. */
bool report_write(const struct report *r, const char *dir, GError **error);

/* ---- for sinks and files ---- */

/* `text` as valid UTF-8 without control characters other than tab and line feed: other bytes are
 * spelled "\xNN", other characters "\u{N}". What is left can stand in XML, JSON and a terminal. */
char *report_clean(const char *text);
/* The same as one line: line feeds and tabs become spaces, and none stands at either end. */
char *report_clean_line(const char *text);
int64_t report_duration_us(const struct report *r);
GDateTime *report_started(const struct report *r);
/* Why the run ended early, or NULL. */
const char *report_interruption(const struct report *r);

#endif
