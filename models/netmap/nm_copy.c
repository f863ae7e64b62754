/*
 * Reading and writing memory of this process that somebody named by its address: the kernel does
 * the touching, so that an address that is not mapped is an errno and not a crash.
 */
#include "models/netmap/nm_kern.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

typedef ssize_t (*vm_fn)(pid_t, const struct iovec *, unsigned long, const struct iovec *,
                         unsigned long, unsigned long);

static int copy(vm_fn fn, void *mine, uint64_t theirs, size_t len)
{
    while (len > 0) {
        struct iovec local = {.iov_base = mine, .iov_len = len};
        struct iovec remote = {.iov_base = (void *)(uintptr_t)theirs, .iov_len = len};
        ssize_t n = fn(getpid(), &local, 1, &remote, 1, 0);

        if (n <= 0) {
            return EFAULT;
        }
        mine = (char *)mine + n;
        theirs += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

int nm_copyin(void *to, uint64_t from, size_t len)
{
    return copy(process_vm_readv, to, from, len);
}

int nm_copyout(uint64_t to, const void *from, size_t len)
{
    union {
        const void *in;
        void *out;
    } source = {.in = from}; /* struct iovec has no const */

    return copy(process_vm_writev, source.out, to, len);
}
