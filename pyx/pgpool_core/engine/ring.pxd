"""io_uring as far as it is used here: a ring, and a ring of buffers that the kernel receives into.

Built with PGPOOL_CORE_URING=0, where liburing was not found, everything says ENOSYS.

What is rested on, and tried once by pgpool_ring_works, because it depends on the kernel:
- A send with MSG_DONTWAIT is over when it has been submitted. With MSG_WAITALL and IOSQE_CQE_SKIP_SUCCESS it says something only
  where not all bytes were taken: how many, or an error.
- A multishot receive posts a completion for each buffer, and exactly one without IORING_CQE_F_MORE, its last, whatever ends it.
Source: io_uring_enter(2), io_uring_prep_recv_multishot(3), io_uring_setup_buf_ring(3).
"""

from libc.stdint cimport int32_t, uint8_t, uint64_t


cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>

    #ifndef PGPOOL_CORE_URING
    #define PGPOOL_CORE_URING 0
    #endif

    #define PGPOOL_RING_SENDS 512    /* sends between two calls of pgpool_ring_enter, at most */
    #define PGPOOL_RING_BUFFERS 256  /* a power of two */
    #define PGPOOL_RING_BUFFER 8192  /* bytes of each */
    #define PGPOOL_RING_STREAMS 2048 /* multishot receives at one time, at most */
    /* One for each buffer, for the last of each receive and for its cancellation, for each send, and some: it never overflows. */
    #define PGPOOL_RING_EVENTS 8192

    struct pgpool_event {
        uint64_t tag;
        int32_t result;              /* bytes, or -errno */
        int32_t buffer;              /* received into; -1 = none */
        uint8_t more;                /* this receive or poll goes on */
    };
    struct pgpool_ring;

    #if PGPOOL_CORE_URING
    #include <fcntl.h>
    #include <liburing.h>
    #include <poll.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    struct pgpool_ring {
        struct io_uring ring;
        struct io_uring_buf_ring *buffers;
        uint8_t *memory;
        unsigned n_buffers;
        struct io_uring_sqe *sends[PGPOOL_RING_SENDS];  /* prepared since the last enter */
        unsigned n_sends;
    };
    static inline void pgpool_ring_give(struct pgpool_ring *r, int buffer) {
        io_uring_buf_ring_add(r->buffers, r->memory + (size_t)buffer * PGPOOL_RING_BUFFER, PGPOOL_RING_BUFFER,
                              (unsigned short)buffer, io_uring_buf_ring_mask(r->n_buffers), 0);
        io_uring_buf_ring_advance(r->buffers, 1);
    }
    static void pgpool_ring_close(struct pgpool_ring *r) {
        if (r == NULL) return;
        io_uring_queue_exit(&r->ring);
        free(r->buffers);
        free(r->memory);
        free(r);
    }
    /* 0 and a ring for the thread that will call pgpool_ring_begin, or -errno. */
    static int pgpool_ring_open(struct pgpool_ring **out, unsigned n_buffers) {
        struct io_uring_params p;
        struct io_uring_buf_reg reg;
        struct pgpool_ring *r = (struct pgpool_ring *)calloc(1, sizeof *r);
        int error;
        unsigned i;
        if (r == NULL) return -ENOMEM;
        memset(&p, 0, sizeof p);
        p.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE
            | IORING_SETUP_R_DISABLED;
        p.cq_entries = PGPOOL_RING_EVENTS;
        error = io_uring_queue_init_params(2 * PGPOOL_RING_SENDS, &r->ring, &p);
        if (error) { free(r); return error; }
        io_uring_ring_dontfork(&r->ring);               /* a child's copy would keep the ring, and with it sockets, alive */
        r->n_buffers = n_buffers;
        if (posix_memalign((void **)&r->buffers, 4096, n_buffers * sizeof(struct io_uring_buf))) r->buffers = NULL;
        if (posix_memalign((void **)&r->memory, 4096, (size_t)n_buffers * PGPOOL_RING_BUFFER)) r->memory = NULL;
        error = -ENOMEM;
        if (r->buffers != NULL && r->memory != NULL) {
            memset(&reg, 0, sizeof reg);
            reg.ring_addr = (unsigned long)r->buffers;
            reg.ring_entries = n_buffers;
            error = io_uring_register_buf_ring(&r->ring, &reg, 0);
        }
        if (error) { pgpool_ring_close(r); return error; }
        io_uring_buf_ring_init(r->buffers);
        for (i = 0; i < n_buffers; i++) pgpool_ring_give(r, (int)i);
        *out = r;
        return 0;
    }
    /* liburing 2.3 declares io_uring_enable_rings and does not export it. */
    static int pgpool_ring_begin(struct pgpool_ring *r) {
        return syscall(__NR_io_uring_register, r->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) ? -errno : 0;
    }
    static inline int pgpool_ring_fd(const struct pgpool_ring *r) { return r->ring.ring_fd; }
    static inline uint8_t *pgpool_ring_buffer(const struct pgpool_ring *r, int buffer) {
        return r->memory + (size_t)buffer * PGPOOL_RING_BUFFER;
    }
    /* An entry to fill in, NULL when the kernel takes none. */
    static struct io_uring_sqe *pgpool_ring_entry(struct pgpool_ring *r) {
        struct io_uring_sqe *e = io_uring_get_sqe(&r->ring);
        if (e == NULL && r->n_sends == 0 && io_uring_submit(&r->ring) > 0) e = io_uring_get_sqe(&r->ring);
        return e;
    }
    static int pgpool_ring_receive(struct pgpool_ring *r, int fd, uint64_t tag) {
        struct io_uring_sqe *e = pgpool_ring_entry(r);
        if (e == NULL) return 0;
        io_uring_prep_recv_multishot(e, fd, NULL, 0, 0);
        e->flags |= IOSQE_BUFFER_SELECT;
        e->buf_group = 0;
        e->user_data = tag;
        return 1;
    }
    static int pgpool_ring_watch(struct pgpool_ring *r, int fd, uint64_t tag) {
        struct io_uring_sqe *e = pgpool_ring_entry(r);
        if (e == NULL) return 0;
        io_uring_prep_poll_multishot(e, fd, POLLIN);
        e->user_data = tag;
        return 1;
    }
    /* End what `tag` names; its last completion comes as ever. Tag 0 is nobody's. */
    static int pgpool_ring_cancel(struct pgpool_ring *r, uint64_t tag) {
        struct io_uring_sqe *e = pgpool_ring_entry(r);
        if (e == NULL) return 0;
        io_uring_prep_cancel64(e, tag, 0);
        e->flags |= IOSQE_CQE_SKIP_SUCCESS;
        e->user_data = 0;
        return 1;
    }
    /* Nothing but sends is prepared between the first of them and pgpool_ring_enter. */
    static int pgpool_ring_send(struct pgpool_ring *r, int fd, const void *data, unsigned n, uint64_t tag) {
        struct io_uring_sqe *e;
        if (r->n_sends == PGPOOL_RING_SENDS || (e = pgpool_ring_entry(r)) == NULL) return 0;
        io_uring_prep_send(e, fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT | MSG_WAITALL);
        e->flags |= IOSQE_CQE_SKIP_SUCCESS;
        e->user_data = tag;
        r->sends[r->n_sends++] = e;
        return 1;
    }
    /* Hand over what has been prepared, and wait until something has happened: -1 for ever, else so many ms.
       The number of sends, counted from the last one, that the kernel has not even looked at: they are taken back. */
    static unsigned pgpool_ring_enter(struct pgpool_ring *r, int wait_ms, int *error) {
        struct io_uring_cqe *cqe;
        struct __kernel_timespec t;
        unsigned left, i;
        int done;
        if (wait_ms == 0) {
            done = io_uring_submit_and_get_events(&r->ring);
        } else if (wait_ms < 0) {
            done = io_uring_submit_and_wait(&r->ring, 1);
        } else {
            t.tv_sec = wait_ms / 1000;
            t.tv_nsec = (long long)(wait_ms % 1000) * 1000000;
            done = io_uring_submit_and_wait_timeout(&r->ring, &cqe, 1, &t, NULL);
        }
        *error = done < 0 && done != -EINTR && done != -ETIME ? done : 0;
        left = io_uring_sq_ready(&r->ring);
        if (left && r->n_sends) {
            io_uring_submit(&r->ring);
            left = io_uring_sq_ready(&r->ring);
        }
        if (left > r->n_sends) left = r->n_sends;
        for (i = r->n_sends - left; i < r->n_sends; i++) {
            io_uring_prep_nop(r->sends[i]);
            r->sends[i]->flags = 0;
            r->sends[i]->user_data = 0;
        }
        r->n_sends = 0;
        return left;
    }
    /* What has happened, oldest first. */
    static unsigned pgpool_ring_take(struct pgpool_ring *r, struct pgpool_event *out, unsigned cap) {
        struct io_uring_cqe *cqe;
        unsigned head, n = 0;
        io_uring_for_each_cqe(&r->ring, head, cqe) {
            if (n == cap) break;
            out[n].tag = cqe->user_data;
            out[n].result = cqe->res;
            out[n].buffer = cqe->flags & IORING_CQE_F_BUFFER ? (int32_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT) : -1;
            out[n].more = (cqe->flags & IORING_CQE_F_MORE) != 0;
            n++;
        }
        io_uring_cq_advance(&r->ring, n);
        return n;
    }
    /* 1 when completions have been lost or put aside: PGPOOL_RING_EVENTS is meant to make that impossible. */
    static inline int pgpool_ring_overflown(const struct pgpool_ring *r) {
        return (IO_URING_READ_ONCE(*r->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW) != 0 || *r->ring.cq.koverflow != 0;
    }
    static int pgpool_ring_tried(struct pgpool_ring *r, const int fd[2], uint8_t *big, unsigned n) {
        struct pgpool_event e[8];
        int error;
        #define PGPOOL_TRY(what) if (!(what)) return -EOPNOTSUPP
        PGPOOL_TRY(pgpool_ring_receive(r, fd[1], 2));
        PGPOOL_TRY(pgpool_ring_enter(r, 0, &error) == 0 && error == 0 && pgpool_ring_take(r, e, 8) == 0);
        PGPOOL_TRY(pgpool_ring_send(r, fd[0], "abc", 3, 3));            /* says nothing, and is received */
        PGPOOL_TRY(pgpool_ring_enter(r, -1, &error) == 0 && error == 0 && pgpool_ring_take(r, e, 8) == 1);
        PGPOOL_TRY(e[0].tag == 2 && e[0].result == 3 && e[0].more && e[0].buffer >= 0);
        PGPOOL_TRY(memcmp(pgpool_ring_buffer(r, e[0].buffer), "abc", 3) == 0);
        pgpool_ring_give(r, e[0].buffer);
        PGPOOL_TRY(pgpool_ring_cancel(r, 2));                           /* its last */
        PGPOOL_TRY(pgpool_ring_enter(r, -1, &error) == 0 && error == 0 && pgpool_ring_take(r, e, 8) == 1);
        PGPOOL_TRY(e[0].tag == 2 && !e[0].more && e[0].result == -ECANCELED);
        PGPOOL_TRY(pgpool_ring_send(r, fd[0], big, n, 4));              /* too much: says how many were taken */
        PGPOOL_TRY(pgpool_ring_enter(r, 0, &error) == 0 && error == 0 && pgpool_ring_take(r, e, 8) == 1);
        PGPOOL_TRY(e[0].tag == 4 && e[0].result > 0 && (unsigned)e[0].result < n);
        PGPOOL_TRY(pgpool_ring_send(r, fd[0], "abc", 3, 5));            /* and none at all */
        PGPOOL_TRY(pgpool_ring_enter(r, 0, &error) == 0 && error == 0 && pgpool_ring_take(r, e, 8) == 1);
        PGPOOL_TRY(e[0].tag == 5 && e[0].result == -EAGAIN);
        return 0;
    }
    /* Whether this kernel lets us have a ring and does what we rest on: 0, or -errno. */
    static int pgpool_ring_works(void) {
        struct pgpool_ring *r;
        unsigned n = 1 << 23;
        uint8_t *big;
        int fd[2], error = pgpool_ring_open(&r, 2);
        if (error) return error;
        if ((error = pgpool_ring_begin(r)) != 0) { pgpool_ring_close(r); return error; }
        big = (uint8_t *)calloc(1, n);
        error = -ENOMEM;
        if (big != NULL && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0) {
            error = pgpool_ring_tried(r, fd, big, n);
            close(fd[0]);
            close(fd[1]);
        }
        free(big);
        pgpool_ring_close(r);
        return error;
    }
    #else
    struct pgpool_ring { int none; };
    static int pgpool_ring_works(void) { return -ENOSYS; }
    static int pgpool_ring_open(struct pgpool_ring **out, unsigned n) { return -ENOSYS; }
    static void pgpool_ring_close(struct pgpool_ring *r) { }
    static int pgpool_ring_begin(struct pgpool_ring *r) { return -ENOSYS; }
    static inline int pgpool_ring_fd(const struct pgpool_ring *r) { return -1; }
    static inline uint8_t *pgpool_ring_buffer(const struct pgpool_ring *r, int buffer) { return NULL; }
    static inline void pgpool_ring_give(struct pgpool_ring *r, int buffer) { }
    static inline int pgpool_ring_receive(struct pgpool_ring *r, int fd, uint64_t tag) { return 0; }
    static inline int pgpool_ring_watch(struct pgpool_ring *r, int fd, uint64_t tag) { return 0; }
    static inline int pgpool_ring_cancel(struct pgpool_ring *r, uint64_t tag) { return 0; }
    static inline int pgpool_ring_send(struct pgpool_ring *r, int fd, const void *p, unsigned n, uint64_t tag) { return 0; }
    static inline unsigned pgpool_ring_enter(struct pgpool_ring *r, int wait_ms, int *error) { return 0; }
    static inline unsigned pgpool_ring_take(struct pgpool_ring *r, struct pgpool_event *out, unsigned cap) { return 0; }
    static inline int pgpool_ring_overflown(const struct pgpool_ring *r) { return 0; }
    #endif
    """
    struct pgpool_event:
        uint64_t tag
        int32_t result
        int32_t buffer
        uint8_t more
    struct pgpool_ring
    int PGPOOL_CORE_URING, PGPOOL_RING_BUFFERS, PGPOOL_RING_BUFFER, PGPOOL_RING_STREAMS, PGPOOL_RING_EVENTS
    int pgpool_ring_works()
    int pgpool_ring_open(pgpool_ring **, unsigned int)
    void pgpool_ring_close(pgpool_ring *)
    int pgpool_ring_begin(pgpool_ring *)
    int pgpool_ring_fd(const pgpool_ring *)
    uint8_t *pgpool_ring_buffer(const pgpool_ring *, int)
    void pgpool_ring_give(pgpool_ring *, int)
    int pgpool_ring_receive(pgpool_ring *, int, uint64_t)
    int pgpool_ring_watch(pgpool_ring *, int, uint64_t)
    int pgpool_ring_cancel(pgpool_ring *, uint64_t)
    int pgpool_ring_send(pgpool_ring *, int, const void *, unsigned int, uint64_t)
    unsigned int pgpool_ring_enter(pgpool_ring *, int, int *)
    unsigned int pgpool_ring_take(pgpool_ring *, pgpool_event *, unsigned int)
    int pgpool_ring_overflown(const pgpool_ring *)
