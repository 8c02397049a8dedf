"""The I/O back end that is always there: edge-triggered epoll. Its parts serve io_uring too."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport Conn, Io, Worker


cdef enum:
    EVENTS_A_TURN = 256


cdef const Io *IO_EPOLL

cdef bint epoll_start(Worker *w) noexcept nogil
cdef void epoll_stop(Worker *w) noexcept nogil
cdef bint epoll_add(Worker *w, Conn *c) noexcept nogil
cdef void epoll_remove(Worker *w, Conn *c) noexcept nogil
cdef void epoll_rearm(Worker *w, Conn *c) noexcept nogil
cdef void epoll_want_write(Worker *w, Conn *c, bint on) noexcept nogil
cdef void epoll_listen(Worker *w, int fd, uint32_t index) noexcept nogil
cdef void epoll_unlisten(Worker *w, int fd) noexcept nogil
cdef void epoll_pump(Worker *w, Conn *c) noexcept nogil
cdef int epoll_turn(Worker *w, int timeout_ms) noexcept nogil
