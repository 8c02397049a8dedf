"""The I/O back end that makes one system call of a turn: io_uring, around a poll set of epoll."""

from pgpool_core.engine.records cimport Io


cdef const Io *IO_URING

cdef int uring_works() noexcept nogil
