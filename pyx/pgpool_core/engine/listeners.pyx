"""Listening sockets come and go; see listeners.pxd."""

import os

from libc.stdint cimport uint16_t, uint32_t

from pgpool_core.engine.accept cimport listener_options
from pgpool_core.engine.mailbox cimport MAIL_LISTENERS
from pgpool_core.engine.post cimport tell_all
from pgpool_core.engine.records cimport *
from pgpool_core.engine.sys cimport *
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_store32, pgpool_store8


cdef int try_to_watch(Plane *plane, int fd) except -1:
    """Workers have nobody to tell that they cannot watch it (fs.epoll.max_user_watches): it is seen here, and nothing of it is left."""
    cdef uint32_t i
    cdef int error
    cdef epoll_event ev
    ev.events = 0
    ev.data.u64 = 0
    for i in range(plane.n_workers):
        if epoll_ctl(plane.workers[i].poll_fd, EPOLL_CTL_ADD, fd, &ev) != 0:
            error = pgpool_errno()
            raise OSError(error, os.strerror(error))
        epoll_ctl(plane.workers[i].poll_fd, EPOLL_CTL_DEL, fd, &ev)
    return 0


cdef int listeners_add(Plane *plane, int fd, bint is_unix, uint16_t port, bint late) except -1:
    """Every worker accepts from `fd`, which stays the caller's. `late`: clients have come to it before it had its options."""
    cdef Listener *listener
    if plane.n_listeners == MAX_LISTENERS:
        raise ValueError(f"at most {MAX_LISTENERS} addresses can be listened on (listen_addr)")
    try_to_watch(plane, fd)
    listener = &plane.listeners[plane.n_listeners]
    listener.fd = fd
    listener.port = port
    listener.is_unix = is_unix
    listener.live = 1
    listener.late = late
    listener.watchers = plane.n_workers
    listener_options(plane, listener)
    pgpool_store32(&plane.n_listeners, plane.n_listeners + 1)     # workers see what stands above
    tell_all(plane, MAIL_LISTENERS, 0, b"")
    return 0


cdef void listeners_drop(Plane *plane) noexcept nogil:
    cdef uint32_t i
    for i in range(plane.n_listeners):
        pgpool_store8(&plane.listeners[i].live, 0)


cdef bint listeners_let_go(Plane *plane, bint tcp_only):
    """Drop them, or those that are not on the unix socket; true once no worker watches one of these."""
    cdef uint32_t i, watched = 0
    for i in range(plane.n_listeners):
        if tcp_only and plane.listeners[i].is_unix:
            continue
        pgpool_store8(&plane.listeners[i].live, 0)
        watched += pgpool_load32(&plane.listeners[i].watchers)
    if watched:
        tell_all(plane, MAIL_LISTENERS, 0, b"")
    return not watched


cdef void listeners_tune(Plane *plane) noexcept nogil:
    """The settings of TCP have changed."""
    cdef uint32_t i
    for i in range(plane.n_listeners):
        if plane.listeners[i].live:
            listener_options(plane, &plane.listeners[i])
