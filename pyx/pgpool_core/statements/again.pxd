"""Whether a group of messages that PostgreSQL has refused at its first Bind or Describe can be sent once more.

The refusal is "cached plan must not change result type": the rows have changed their shape since the statement was
prepared. Another try, with the statement prepared anew, is right where the client reads the rows by what it is told in
the group itself, and where what it has sent as values cannot be taken for something else.
Source: PostgreSQL docs, "Message Formats": Bind, Describe, Execute.
"""

from libc.stdint cimport uint8_t

from pgpool_core.statements.names cimport Names


cdef bint again_fits(Names *names, const uint8_t *group, size_t n) noexcept nogil
