/*
 * For tests of commands: what is printed to a descriptor, caught in a file without a name.
 */
#ifndef RINGLAB_TEST_CAPTURE_H
#define RINGLAB_TEST_CAPTURE_H

#include <glib.h>
#include <stdio.h>
#include <unistd.h>

struct capture {
    FILE *file;
    int fd, saved;
};

static inline void capture_begin(struct capture *c, int fd)
{
    fflush(NULL);
    c->fd = fd;
    c->file = tmpfile();
    assert_non_null(c->file);
    c->saved = dup(fd);
    assert_int_not_equal(dup2(fileno(c->file), fd), -1);
}

static inline char *capture_end(struct capture *c)
{
    fflush(NULL);
    dup2(c->saved, c->fd);
    close(c->saved);
    long size = lseek(fileno(c->file), 0, SEEK_END);
    char *text = g_malloc0((size_t)size + 1);
    assert_int_equal(pread(fileno(c->file), text, (size_t)size, 0), size);
    fclose(c->file);
    return text;
}

#endif
