"""One row and what its columns are."""

from libc.stdint cimport uint8_t
from cpython.object cimport PyObject

from pgpool_core.rows.codec cimport Codec


cdef class Shape:
    cdef readonly tuple names
    cdef readonly tuple codecs
    cdef readonly dict places     # name: the last column of that name
    cdef PyObject **fast          # owns; the codecs, borrowed from `codecs`
    cdef Py_ssize_t count
    cdef bint atomic              # no value can be part of a cycle: rows need not be known to the garbage collector
    cdef object read(self, const uint8_t *at, Py_ssize_t length, Codec instead, bint bare, Py_ssize_t *place)
    cdef object misread(self, Py_ssize_t place, error)


cdef class Record:
    """A row. Where its values can be in no cycle they stand right behind this in memory, and the garbage collector knows nothing of it."""
    cdef PyObject *shape          # owns
    cdef Py_ssize_t columns       # values behind it; -1: they are in the tuple of a Linked


cdef class Linked(Record):
    """A row whose values may hold other objects, and so perhaps the row itself."""
    cdef tuple row


cdef Record record_of(Shape shape, tuple row)
