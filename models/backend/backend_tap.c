/*
 * A TAP device: the real Linux stack at the other end. Follows Linux'
 * Documentation/networking/tuntap.
 */
#include "models/backend/backend_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

static unsigned tap_send(struct backend *b, const struct backend_frame *frames, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        ssize_t sent = write(b->fd, frames[i].data, frames[i].len);
        if (sent == (ssize_t)frames[i].len) {
            backend_count_sent(b, &frames[i], 1);
        } else if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            return i;
        } else { /* EIO: its link is down; EINVAL: no Ethernet frame */
            b->stats.dropped_send++;
        }
    }
    return n;
}

static unsigned tap_receive(struct backend *b, struct backend_frame *frames, unsigned n)
{
    unsigned n_done = 0;

    while (n_done < n) {
        uint8_t spill;
        struct backend_frame *f = &frames[n_done];
        struct iovec to[2] = {{f->data, f->len}, {&spill, 1}};
        ssize_t got = readv(b->fd, to, 2);
        if (got < 0) {
            if (errno != EAGAIN && errno != EINTR) {
                b->is_ended = true;
            }
            break;
        }
        if ((size_t)got > f->len) {
            b->stats.dropped_receive++;
            continue;
        }
        f->len = (uint32_t)got;
        f->time_ns = 0;
        backend_count_received(b, f->len);
        n_done++;
    }
    return n_done;
}

static void tap_free(struct backend *b)
{
    close(b->fd);
    g_free(b->name);
    g_free(b);
}

struct backend *backend_tap_from_fd(int fd, const char *name, GError **error)
{
    static const struct backend_ops ops = {"tap", tap_send, tap_receive, tap_free};
    struct backend *b;

    if (!backend_set_nonblocking(fd, error)) {
        close(fd);
        return NULL;
    }
    b = g_new0(struct backend, 1);
    *b = (struct backend){.ops = &ops, .name = g_strdup(name), .fd = fd};
    return b;
}

struct backend *backend_tap_new(const char *name, GError **error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};

    if (strlen(name) == 0 || strlen(name) >= sizeof(request.ifr_name)) {
        backend_set_errno(error, EINVAL, "TAP '%s': a name has 1 to %zu characters", name,
                          sizeof(request.ifr_name) - 1);
        return NULL;
    }
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        backend_set_errno(error, errno, "TAP '%s': /dev/net/tun", name);
        return NULL;
    }
    memcpy(request.ifr_name, name, strlen(name));
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        backend_set_errno(error, errno, "TAP '%s'%s", name,
                          errno == EPERM ? " (root, or CAP_NET_ADMIN in its namespace, may)"
                                         : (errno == EBUSY ? " (somebody has it open)" : ""));
        close(fd);
        return NULL;
    }
    return backend_tap_from_fd(fd, name, error);
}
