"""Bytes on their way to a server; see out.pxd.

Source: PostgreSQL docs, "Message Formats".
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from pgpool_core.wire.be cimport store_be32

cdef enum:
    FIRST_ROOM = 512
    KEPT_ROOM = 1 << 16           # a buffer that has grown beyond it is given back when it has been sent
    MAX_ROOM = 1 << 30


cdef class Out:
    """A buffer of bytes to be sent."""

    def __cinit__(self):
        self.data = <uint8_t *>malloc(FIRST_ROOM)
        if self.data is NULL:
            raise MemoryError
        self.room = FIRST_ROOM

    def __dealloc__(self):
        free(self.data)

    def __len__(self):
        return self.length

    def cut(self, Py_ssize_t length):
        """Forget what came behind the first `length` bytes: a message that could not be finished."""
        if not 0 <= length <= self.length:
            raise ValueError("there are not so many bytes")
        self.length = length

    def flush(self):
        """All bytes, which are then the caller's to send."""
        cdef bytes data = PyBytes_FromStringAndSize(<char *>self.data, self.length)
        cdef uint8_t *smaller
        self.length = 0
        if self.room > KEPT_ROOM:
            smaller = <uint8_t *>realloc(self.data, FIRST_ROOM)
            if smaller is not NULL:
                self.data, self.room = smaller, FIRST_ROOM
        return data

    cdef uint8_t *take(self, Py_ssize_t extra) except NULL:
        cdef Py_ssize_t room = self.room
        cdef uint8_t *larger
        cdef uint8_t *at
        if extra > MAX_ROOM - self.length:
            raise OverflowError("a message has at most 1 GiB")
        if self.length + extra > room:
            while room < self.length + extra:
                room *= 2
            larger = <uint8_t *>realloc(self.data, room)
            if larger is NULL:
                raise MemoryError
            self.data, self.room = larger, room
        at = self.data + self.length
        self.length += extra
        return at

    cdef int put(self, const void *at, Py_ssize_t length) except -1:
        memcpy(self.take(length), at, length)
        return 0

    cdef int put16(self, int16_t value) except -1:
        cdef uint8_t *at = self.take(2)
        at[0] = <uint8_t>(<uint16_t>value >> 8)
        at[1] = <uint8_t>value
        return 0

    cdef int put32(self, int32_t value) except -1:
        store_be32(self.take(4), <uint32_t>value)
        return 0

    cdef Py_ssize_t begin(self) except -1:
        self.take(4)
        return self.length - 4

    cdef int end(self, Py_ssize_t start) except -1:
        store_be32(self.data + start, <uint32_t>(self.length - start - 4))
        return 0

    cdef int end_message(self, Py_ssize_t start) except -1:
        store_be32(self.data + start, <uint32_t>(self.length - start))
        return 0
