"""The system calls of the data plane."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/types.h>
    #include <sys/epoll.h>
    #include <sys/eventfd.h>
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <sys/uio.h>
    #include <sys/un.h>
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <arpa/inet.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <stddef.h>
    #include <time.h>
    #include <unistd.h>
    #include <stdio.h>

    static inline uint64_t pgpool_now_us(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
    }
    /* send and recv of a library are cancellation points, which cost two atomic writes a call in a threaded process */
    static inline ssize_t pgpool_send(int fd, const void *data, size_t n) {
        return syscall(SYS_sendto, fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
    }
    static inline ssize_t pgpool_recv(int fd, void *data, size_t n) {
        return syscall(SYS_recvfrom, fd, data, n, MSG_DONTWAIT, NULL, NULL);
    }
    static inline ssize_t pgpool_send2(int fd, const void *a, size_t an, const void *b, size_t bn) {
        struct iovec v[2] = {{(void *)a, an}, {(void *)b, bn}};
        struct msghdr m = {0};
        m.msg_iov = v;
        m.msg_iovlen = 2;
        return sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    /* Restartable sequences: the kernel writes the processor's number into the thread's memory whenever it has interrupted it, which costs
       a worker 1 % and which nobody in its thread reads (a library that does asks first whether it is kept). glibc 2.35 and later registers
       each thread, in 32 bytes where it says; other C libraries do not, and this does nothing. */
    extern const ptrdiff_t __rseq_offset __attribute__((weak));
    static inline void pgpool_processor_number(int kept) {
    #if defined(SYS_rseq) && (defined(__x86_64__) || defined(__aarch64__))
        char *thread;
        if (&__rseq_offset == NULL)
            return;
    #ifdef __x86_64__
        __asm__("mov %%fs:0, %0" : "=r"(thread));
        syscall(SYS_rseq, thread + __rseq_offset, 32, kept ? 0 : 1, 0x53053053);
    #else
        thread = __builtin_thread_pointer();
        syscall(SYS_rseq, thread + __rseq_offset, 32, kept ? 0 : 1, 0xd428bc00);
    #endif
    #else
        (void)kept;
    #endif
    }
    static inline int pgpool_dup(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 3); }
    static inline int pgpool_errno(void) { return errno; }
    static inline ssize_t pgpool_no_data(void) { errno = EAGAIN; return -1; }
    static inline ssize_t pgpool_broken(void) { errno = EPROTO; return -1; }
    """
    ctypedef long ssize_t
    ctypedef union epoll_data_t:
        void *ptr
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    void pgpool_processor_number(int kept)
    int pgpool_dup(int)
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)
    int eventfd(unsigned int, int)
    ssize_t read(int, void *, size_t)
    ssize_t write(int, const void *, size_t)
    ssize_t pgpool_recv(int, void *, size_t)
    ssize_t pgpool_send(int, const void *, size_t)
    int shutdown(int, int)
    int setsockopt(int, int, int, const void *, unsigned int)
    int open(const char *, int)
    int close(int)
    int gethostname(char *, size_t)
    uint64_t pgpool_now_us()
    ssize_t pgpool_send2(int, const void *, size_t, const void *, size_t)
    int pgpool_errno()
    ssize_t pgpool_no_data()
    ssize_t pgpool_broken()
    int EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_CLOEXEC, EFD_NONBLOCK, EFD_CLOEXEC
    int EPOLLIN, EPOLLOUT, EPOLLET, EPOLLHUP, EPOLLERR, EPOLLRDHUP, EPOLLEXCLUSIVE
    int MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_RDWR, SHUT_WR, SOL_SOCKET, SO_KEEPALIVE, IPPROTO_TCP, TCP_NODELAY
    int TCP_USER_TIMEOUT, SO_SNDBUF, SO_RCVBUF
    int TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, O_RDONLY, O_CLOEXEC
    int EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED


cdef extern from * nogil:
    """
    /* Who is at the other end of a socket, small enough to be kept with every client. */
    struct pgpool_peer {
        uint8_t family;          /* 4, 6, or 1 for a unix socket */
        uint8_t addr[16];
        uint16_t port;           /* host order */
        int32_t uid, pid;        /* unix sockets only, else -1 and 0 */
    };
    static inline void pgpool_unmap(struct pgpool_peer *peer) {    /* ::ffff:10.1.2.3 is 10.1.2.3: for rules, limits and the log */
        static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
        if (peer->family == 6 && __builtin_memcmp(peer->addr, mapped, sizeof mapped) == 0) {
            peer->family = 4;
            __builtin_memcpy(peer->addr, peer->addr + 12, 4);
            __builtin_memset(peer->addr + 4, 0, 12);
        }
    }
    static inline void pgpool_fill_peer(struct pgpool_peer *out, const struct sockaddr_storage *a) {
        __builtin_memset(out, 0, sizeof *out);
        out->uid = -1;
        if (a->ss_family == AF_INET) {
            const struct sockaddr_in *in = (const struct sockaddr_in *)a;
            out->family = 4;
            __builtin_memcpy(out->addr, &in->sin_addr, 4);
            out->port = ntohs(in->sin_port);
        } else if (a->ss_family == AF_INET6) {
            const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;
            out->family = 6;
            __builtin_memcpy(out->addr, &in6->sin6_addr, 16);
            out->port = ntohs(in6->sin6_port);
            pgpool_unmap(out);
        } else {
            out->family = 1;
        }
    }
    static inline void pgpool_fill_user(struct pgpool_peer *out, int fd) {
        struct ucred cred;
        socklen_t n = sizeof cred;
        if (out->family == 1 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) == 0) {
            out->uid = (int32_t)cred.uid;
            out->pid = (int32_t)cred.pid;
        }
    }
    static inline int pgpool_accept(int fd, struct pgpool_peer *out) {
        struct sockaddr_storage a;
        socklen_t n = sizeof a;
        int got = accept4(fd, (struct sockaddr *)&a, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (got >= 0) {
            pgpool_fill_peer(out, &a);
            pgpool_fill_user(out, got);
        }
        return got;
    }
    static inline void pgpool_peer_of(int fd, struct pgpool_peer *out, int local) {
        struct sockaddr_storage a;
        socklen_t n = sizeof a;
        if ((local ? getsockname(fd, (struct sockaddr *)&a, &n) : getpeername(fd, (struct sockaddr *)&a, &n)) == 0) {
            pgpool_fill_peer(out, &a);
            pgpool_fill_user(out, fd);
        } else {
            __builtin_memset(out, 0, sizeof *out);
            out->uid = -1;
        }
    }
    static inline void pgpool_print_peer(const struct pgpool_peer *p, char *out, unsigned cap) {
        out[0] = 0;
        if (p->family == 4) inet_ntop(AF_INET, p->addr, out, cap);
        else if (p->family == 6) inet_ntop(AF_INET6, p->addr, out, cap);
        else snprintf(out, cap, "unix");
    }
    """
    struct pgpool_peer:
        uint8_t family
        uint8_t addr[16]
        uint16_t port
        int32_t uid
        int32_t pid
    int pgpool_accept(int, pgpool_peer *)
    void pgpool_peer_of(int, pgpool_peer *, int)
    void pgpool_unmap(pgpool_peer *)
    void pgpool_print_peer(const pgpool_peer *, char *, unsigned int)
