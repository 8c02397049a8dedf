"""The beginning and the end of a plane."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.records cimport Plane


cdef enum:
    BACKEND_AUTO = 0              # io_uring where it can be had
    BACKEND_EPOLL = 1
    BACKEND_URING = 2


cdef str why_not(int refusal)
cdef int plane_open(Plane *plane, uint32_t workers, int backend, int *refusal) except -1
cdef void plane_end(Plane *plane) noexcept nogil
cdef void plane_shut(Plane *plane) noexcept nogil
cdef void plane_free(Plane *plane) noexcept nogil
cdef void plane_close_all(Plane *plane) noexcept nogil
cdef void plane_close_files(Plane *plane) noexcept nogil
