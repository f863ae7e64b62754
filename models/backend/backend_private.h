/*
 * What the kinds of back ends share.
 */
#ifndef RINGLAB_BACKEND_PRIVATE_H
#define RINGLAB_BACKEND_PRIVATE_H

#include "models/backend/backend.h"

/* Counts a burst of n frames. */
void backend_count_sent(struct backend *b, const struct backend_frame *frames, unsigned n);
void backend_count_received(struct backend *b, uint32_t len);
/* Sets an error of BACKEND_ERROR: "what: strerror(errno_value)". */
void backend_set_errno(GError **error, int errno_value, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
/* An eventfd that is readable. -1 with an error. */
int backend_new_eventfd(GError **error);
bool backend_set_nonblocking(int fd, GError **error);

#endif
