"""Bytes on their way to a server: a buffer that grows, and the messages that are written into it."""

from libc.stdint cimport int16_t, int32_t, uint8_t


cdef class Out:
    cdef uint8_t *data            # owns
    cdef Py_ssize_t length
    cdef Py_ssize_t room
    cdef uint8_t *take(self, Py_ssize_t extra) except NULL    # `extra` more bytes, for the caller to write at once
    cdef int put(self, const void *at, Py_ssize_t length) except -1
    cdef int put16(self, int16_t value) except -1
    cdef int put32(self, int32_t value) except -1
    cdef Py_ssize_t begin(self) except -1                     # a length word, to be filled in by `end` or `end_message`
    cdef int end(self, Py_ssize_t start) except -1            # the length of what came behind it
    cdef int end_message(self, Py_ssize_t start) except -1    # the same, and itself
