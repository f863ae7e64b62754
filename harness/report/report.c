/*
 * Keeps what happened in a run and passes it on to the sinks.
 * Not here: what any format looks like.
 */
#include "harness/report/report.h"

#include <string.h>

struct report {
    GPtrArray *files;   /* struct report_file * */
    GPtrArray *planned; /* char *: paths of all files, or NULL */
    unsigned n_rounds;
    struct report_file *file; /* that runs, or NULL */
    int64_t test_started_us;
    int64_t started_us, duration_us;
    GDateTime *started;
    char *interruption;
    GPtrArray *sinks;
    GHashTable *noted; /* char *: what report_note_once told */
};

static void text_free(void *data)
{
    struct report_text *text = data;
    g_free(text->name);
    g_free(text->text);
    g_free(text);
}

static void test_free(void *data)
{
    struct report_test *test = data;
    g_free(test->name);
    g_free(test->message);
    g_free(test->expression);
    g_free(test->expected);
    g_free(test->actual);
    g_free(test->script);
    g_ptr_array_unref(test->attachments);
    g_free(test);
}

static void file_free(void *data)
{
    struct report_file *file = data;
    g_free(file->path);
    g_free(file->broken);
    g_free(file->running);
    g_ptr_array_unref(file->tests);
    if (file->planned)
        g_ptr_array_unref(file->planned);
    g_free(file);
}

static void sink_free(void *data)
{
    struct report_sink *sink = data;
    sink->free(sink);
}

struct report *report_new(void)
{
    struct report *r = g_new0(struct report, 1);
    r->files = g_ptr_array_new_with_free_func(file_free);
    r->noted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    r->sinks = g_ptr_array_new_with_free_func(sink_free);
    r->started = g_date_time_new_now_utc();
    r->started_us = g_get_monotonic_time();
    r->n_rounds = 1;
    return r;
}

void report_free(struct report *r)
{
    if (!r)
        return;
    g_ptr_array_unref(r->sinks);
    g_ptr_array_unref(r->files);
    g_hash_table_unref(r->noted);
    if (r->planned)
        g_ptr_array_unref(r->planned);
    g_date_time_unref(r->started);
    g_free(r->interruption);
    g_free(r);
}

void report_add_sink(struct report *r, struct report_sink *sink)
{
    g_ptr_array_add(r->sinks, sink);
}

void report_hide(struct report *r)
{
    for (guint i = 0; i < r->sinks->len; i++) {
        struct report_sink *sink = r->sinks->pdata[i];
        if (sink->hide)
            sink->hide(sink);
    }
}

static void tell(struct report *r, enum report_event event, const struct report_test *test,
                 const char *text)
{
    report_hide(r);
    for (guint i = 0; i < r->sinks->len; i++) {
        struct report_sink *sink = r->sinks->pdata[i];
        sink->event(sink, r, event, r->file, test, text);
    }
}

void report_run_started(struct report *r, const char *const *paths, unsigned n_rounds)
{
    if (paths) {
        r->planned = g_ptr_array_new_with_free_func(g_free);
        for (; *paths; paths++)
            g_ptr_array_add(r->planned, report_clean_line(*paths));
    }
    r->n_rounds = n_rounds;
    tell(r, REPORT_RUN_STARTED, NULL, NULL);
}

void report_file_started(struct report *r, const char *path, unsigned round)
{
    g_assert(!r->file);
    struct report_file *file = g_new0(struct report_file, 1);
    file->path = report_clean_line(path);
    file->round = round;
    file->tests = g_ptr_array_new_with_free_func(test_free);
    file->started_us = g_get_monotonic_time();
    g_ptr_array_add(r->files, file);
    r->file = file;
    tell(r, REPORT_FILE_STARTED, NULL, NULL);
}

void report_file_planned(struct report *r, const char *const *names, size_t n)
{
    g_assert(r->file && !r->file->planned);
    r->file->planned = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; i < n; i++)
        g_ptr_array_add(r->file->planned, report_clean_line(names[i]));
}

void report_test_started(struct report *r, const char *name)
{
    g_assert(r->file && !r->file->running);
    r->file->running = report_clean_line(name);
    r->test_started_us = g_get_monotonic_time();
    tell(r, REPORT_TEST_STARTED, NULL, r->file->running);
}

static char *clean_or_null(const char *text)
{
    return text ? report_clean(text) : NULL;
}

void report_test_ended(struct report *r, const struct report_result *result)
{
    g_assert(r->file && r->file->running);
    struct report_test *test = g_new0(struct report_test, 1);
    test->name = g_steal_pointer(&r->file->running);
    test->outcome = result->outcome;
    test->message = clean_or_null(result->message);
    test->expression = clean_or_null(result->expression);
    test->expected = clean_or_null(result->expected);
    test->actual = clean_or_null(result->actual);
    test->script = clean_or_null(result->script);
    test->line = result->line;
    test->duration_us =
        result->duration_us ? result->duration_us : g_get_monotonic_time() - r->test_started_us;
    test->attachments = g_ptr_array_new_with_free_func(text_free);
    for (size_t i = 0; i < result->n_attachments; i++) {
        struct report_text *text = g_new(struct report_text, 1);
        text->name = report_clean_line(result->attachments[i].name);
        text->text = report_clean(result->attachments[i].text);
        text->only_in_files = result->attachments[i].only_in_files;
        g_ptr_array_add(test->attachments, text);
    }
    g_ptr_array_add(r->file->tests, test);
    tell(r, REPORT_TEST_ENDED, test, NULL);
}

void report_file_broken(struct report *r, const char *message)
{
    g_assert(r->file && !r->file->broken);
    if (r->file->running) {
        struct report_result result = {.outcome = REPORT_ERROR, .message = message};
        report_test_ended(r, &result);
    }
    r->file->broken = report_clean(message);
    tell(r, REPORT_FILE_BROKEN, NULL, r->file->broken);
}

void report_file_ended(struct report *r)
{
    g_assert(r->file && !r->file->running);
    r->file->duration_us = g_get_monotonic_time() - r->file->started_us;
    tell(r, REPORT_FILE_ENDED, NULL, NULL);
    r->file = NULL;
}

void report_note(struct report *r, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *raw = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *text = report_clean_line(raw);
    tell(r, REPORT_NOTE, NULL, text);
}

void report_note_once(struct report *r, const char *text)
{
    if (g_hash_table_add(r->noted, g_strdup(text)))
        report_note(r, "%s", text);
}

static void end_run(struct report *r)
{
    if (r->file && r->file->running) {
        struct report_result result = {
            .outcome = REPORT_ERROR,
            .message = r->interruption ? r->interruption : "the run ended in the middle of it",
        };
        report_test_ended(r, &result);
    }
    if (r->file)
        report_file_ended(r);
    r->duration_us = g_get_monotonic_time() - r->started_us;
    tell(r, REPORT_RUN_ENDED, NULL, r->interruption);
}

void report_run_ended(struct report *r, int signal_number)
{
    if (signal_number)
        r->interruption = g_strdup_printf("interrupted by signal %d (%s)", signal_number,
                                          g_strsignal(signal_number));
    end_run(r);
}

void report_run_given_up(struct report *r, const char *why)
{
    r->interruption = report_clean_line(why);
    end_run(r);
}

const GPtrArray *report_files(const struct report *r)
{
    return r->files;
}

struct report_counts report_file_counts(const struct report_file *file)
{
    struct report_counts counts = {0};
    for (guint i = 0; i < file->tests->len; i++) {
        const struct report_test *test = file->tests->pdata[i];
        counts.passed += test->outcome == REPORT_PASSED;
        counts.skipped += test->outcome == REPORT_SKIPPED;
        counts.failed += test->outcome == REPORT_FAILED || test->outcome == REPORT_ERROR;
        counts.errors += test->outcome == REPORT_ERROR;
    }
    counts.broken = file->broken != NULL;
    counts.failed += counts.broken;
    return counts;
}

struct report_counts report_counts(const struct report *r)
{
    struct report_counts sum = {0};
    for (guint i = 0; i < r->files->len; i++) {
        struct report_counts counts = report_file_counts(r->files->pdata[i]);
        sum.passed += counts.passed;
        sum.failed += counts.failed;
        sum.skipped += counts.skipped;
        sum.errors += counts.errors;
        sum.broken += counts.broken;
    }
    return sum;
}

char *report_summary(const struct report *r)
{
    struct report_counts counts = report_counts(r);
    return g_strdup_printf("%u passed, %u failed, %u skipped", counts.passed, counts.failed,
                           counts.skipped);
}

char *report_title(const struct report *r, const struct report_file *file, const char *test)
{
    GString *title = g_string_new(NULL);
    if (r->n_rounds > 1)
        g_string_append_printf(title, "round %u: ", file->round);
    g_string_append(title, file->path);
    if (test)
        g_string_append_printf(title, ": %s", test);
    return g_string_free(title, FALSE);
}

/* Names may repeat: the n-th of a name that was planned is the n-th of that name that ended. */
static void add_tests_not_run(const struct report *r, const struct report_file *file,
                              GPtrArray *not_run)
{
    g_autoptr(GHashTable) done = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < file->tests->len; i++) {
        const struct report_test *test = file->tests->pdata[i];
        guint n = GPOINTER_TO_UINT(g_hash_table_lookup(done, test->name));
        g_hash_table_insert(done, test->name, GUINT_TO_POINTER(n + 1));
    }
    for (guint i = 0; file->planned && i < file->planned->len; i++) {
        char *name = file->planned->pdata[i];
        guint n = GPOINTER_TO_UINT(g_hash_table_lookup(done, name));
        if (n > 0)
            g_hash_table_insert(done, name, GUINT_TO_POINTER(n - 1));
        else
            g_ptr_array_add(not_run, report_title(r, file, name));
    }
}

GPtrArray *report_not_run(const struct report *r)
{
    GPtrArray *not_run = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < r->files->len; i++)
        add_tests_not_run(r, r->files->pdata[i], not_run);
    guint n_planned = r->planned ? r->planned->len * r->n_rounds : 0;
    for (guint i = r->files->len; i < n_planned; i++) {
        struct report_file file = {
            .path = r->planned->pdata[i % r->planned->len],
            .round = i / r->planned->len + 1,
        };
        g_ptr_array_add(not_run, report_title(r, &file, NULL));
    }
    return not_run;
}

int64_t report_duration_us(const struct report *r)
{
    return r->duration_us;
}

GDateTime *report_started(const struct report *r)
{
    return r->started;
}

const char *report_interruption(const struct report *r)
{
    return r->interruption;
}
