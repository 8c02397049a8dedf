"""How values of one PostgreSQL type become Python's and back; each type has one object of a class derived from this."""

from libc.stdint cimport uint8_t

from pgpool_core.rows.out cimport Out

cdef enum:
    TEXT = 0                      # format codes of Bind and RowDescription
    BINARY = 1


cdef class Codec:
    cdef readonly unsigned int oid
    cdef readonly str name
    cdef readonly int format      # in which it wants results and sends parameters
    cdef readonly bint takes_lists    # a list is one value, not a dimension of an array
    cdef readonly bint takes_tuples
    cdef bint atomic              # its values hold no other objects, so that they are in no cycle
    cdef object decode(self, const uint8_t *at, Py_ssize_t length)
    cdef int encode(self, object value, Out out) except -1
