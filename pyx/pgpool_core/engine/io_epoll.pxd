"""The I/O back end that is always there: edge-triggered epoll."""

from pgpool_core.engine.records cimport Io

cdef const Io *IO_EPOLL
