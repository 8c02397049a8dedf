/* Preloaded into a pooler: what io_uring is to send in one piece of REFUSED_LENGTH bytes fails with EBADF; the socket is as well as before.

   Source: io_uring_submit(3), struct io_uring_sq of liburing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <liburing.h>
#include <stdlib.h>

static void spoil(struct io_uring *ring) {
    const struct io_uring_sq *sq = &ring->sq;
    const char *length = getenv("REFUSED_LENGTH");
    for (unsigned i = sq->sqe_head; length && i != sq->sqe_tail; i++) {
        struct io_uring_sqe *e = &sq->sqes[i & sq->ring_mask];
        if (e->opcode == IORING_OP_SEND && e->len == (unsigned)atoi(length)) e->fd = -1;
    }
}

#define ITS_OWN(name) (__extension__(__typeof__(&name))dlsym(RTLD_NEXT, #name))
int io_uring_submit(struct io_uring *ring) { spoil(ring); return ITS_OWN(io_uring_submit)(ring); }
int io_uring_submit_and_wait(struct io_uring *ring, unsigned n) { spoil(ring); return ITS_OWN(io_uring_submit_and_wait)(ring, n); }
int io_uring_submit_and_get_events(struct io_uring *ring) { spoil(ring); return ITS_OWN(io_uring_submit_and_get_events)(ring); }
int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe, unsigned n, struct __kernel_timespec *limit, sigset_t *mask) {
    spoil(ring);
    return ITS_OWN(io_uring_submit_and_wait_timeout)(ring, cqe, n, limit, mask);
}
