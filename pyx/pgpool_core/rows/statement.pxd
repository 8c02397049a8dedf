"""A statement that a server has prepared: what it takes and what it gives."""

from pgpool_core.rows.record cimport Shape


cdef class Statement:
    cdef readonly bytes name      # b"" where it is not kept
    cdef readonly str text
    cdef readonly tuple parameters    # a Codec each
    cdef readonly Shape shape     # None: no rows
    cdef readonly bint leaves     # it may change the session beyond its transaction
    cdef bytes bind_head          # behind the name: formats of the parameters, and how many there are
    cdef bytes bind_tail          # formats of the results
    cdef bytes raw_tail           # the same where all are wanted as text
