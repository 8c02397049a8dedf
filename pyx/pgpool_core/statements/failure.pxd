"""ErrorResponses that have to do with prepared statements: what they tell us, and what the client is to read."""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.statements.names cimport Names
from pgpool_core.statements.owed cimport Owed
from pgpool_core.statements.prepared cimport Prepared


cdef enum:
    FAILURE_OTHER = 0             # forward it as it is
    FAILURE_RENAMED = 1           # forward what was written instead: it has the client's own name
    FAILURE_OUTDATED = 2          # "cached plan must not change result type": prepared anew from now on; as it is, or retry


cdef void failure_told(Owed *q, Prepared *set) noexcept nogil
cdef int failure_read(Owed *q, Prepared *set, Names *names, const uint8_t *body, uint32_t n, uint8_t *out, size_t cap,
                      size_t *out_len) noexcept nogil
