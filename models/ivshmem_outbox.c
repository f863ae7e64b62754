/*
 * Messages to one client of the ivshmem server.
 */
#include "models/ivshmem_outbox.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

struct message {
    int64_t value;
    int fd;
};

void ivshmem_outbox_init(struct ivshmem_outbox *outbox, int socket)
{
    *outbox = (struct ivshmem_outbox){.socket = socket,
                                      .queue = g_array_new(FALSE, FALSE, sizeof(struct message))};
}

void ivshmem_outbox_clear(struct ivshmem_outbox *outbox)
{
    g_array_free(outbox->queue, TRUE);
    outbox->queue = NULL;
}

void ivshmem_outbox_add(struct ivshmem_outbox *outbox, int64_t value, int fd)
{
    struct message message = {.value = value, .fd = fd};
    if (!outbox->is_broken)
        g_array_append_val(outbox->queue, message);
}

unsigned ivshmem_outbox_take_back(struct ivshmem_outbox *outbox, int64_t value)
{
    guint n_kept = 0;
    unsigned n_taken_back = 0;
    for (guint i = outbox->n_sent; i < outbox->queue->len; i++) {
        struct message message = g_array_index(outbox->queue, struct message, i);
        if (message.fd >= 0 && message.value == value)
            n_taken_back++;
        else
            g_array_index(outbox->queue, struct message, n_kept++) = message;
    }
    g_array_set_size(outbox->queue, n_kept);
    outbox->n_sent = 0;
    return n_taken_back;
}

/* 0, or the errno of the failure. */
static int send_message(int socket, const struct message *message)
{
    uint64_t wire = GUINT64_TO_LE((uint64_t)message->value);
    struct iovec iov = {.iov_base = &wire, .iov_len = sizeof(wire)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (message->fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(cmsg), &message->fd, sizeof(int));
    }
    ssize_t n;
    do
        n = sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    /* Half a message: there is no way to go on. */
    return n == (ssize_t)sizeof(wire) ? 0 : EPROTO;
}

static void drop_all(struct ivshmem_outbox *outbox)
{
    g_array_set_size(outbox->queue, 0);
    outbox->n_sent = 0;
}

enum ivshmem_outbox_result ivshmem_outbox_flush(struct ivshmem_outbox *outbox)
{
    for (; outbox->n_sent < outbox->queue->len; outbox->n_sent++) {
        switch (send_message(outbox->socket,
                             &g_array_index(outbox->queue, struct message, outbox->n_sent))) {
        case 0:
            break;
        case EAGAIN:
            return IVSHMEM_OUTBOX_FULL;
        case ETOOMANYREFS:
        case ENOBUFS:
        case ENOMEM:
            return IVSHMEM_OUTBOX_STARVED;
        default:
            outbox->is_broken = true;
            drop_all(outbox);
            return IVSHMEM_OUTBOX_BROKEN;
        }
    }
    drop_all(outbox);
    return outbox->is_broken ? IVSHMEM_OUTBOX_BROKEN : IVSHMEM_OUTBOX_EMPTY;
}

bool ivshmem_outbox_is_empty(const struct ivshmem_outbox *outbox)
{
    return outbox->queue->len == 0;
}
