/*
 * Ctrl-C and termination requests. The first one is told to whoever asks, and ends every child
 * process at once: whatever waits for one of them returns with an error, and teardown takes its
 * usual way. A second one, or a teardown that takes too long, ends this process.
 */
#ifndef RINGLAB_CANCEL_H
#define RINGLAB_CANCEL_H

#include <stdbool.h>

/* From now on SIGINT, SIGTERM and SIGHUP (those that were not ignored) cancel. After the first,
 * teardown may take `grace_s` seconds (through alarm(2), which belongs to this file). Call it once,
 * from main. */
void cancel_install(unsigned grace_s);
bool cancel_is_requested(void);
/* The signal that did it, or 0. */
int cancel_signal(void);
/* Readable once it was requested; for poll loops. -1 before cancel_install. */
int cancel_fd(void);

#endif
