"""Who a client says it is, while nothing else tells it, and what it was told at its end: for the log and the lists."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn
from pgpool_core.wire.span cimport Span


cdef bint caller_says(ClientConn *c, Span user, Span database) noexcept nogil        # False when memory is short
cdef void caller_known(ClientConn *c) noexcept nogil                                 # its pool and its terms tell it from now on
cdef void caller_keep(ClientConn *c) noexcept nogil                                  # its terms go: the log still wants its name
cdef void caller_note(ClientConn *c, const uint8_t *message, size_t n) noexcept nogil
cdef void caller_free(ClientConn *c) noexcept nogil

cdef const char *client_user(const ClientConn *c) noexcept nogil                     # the name it logs in with; else NULL
cdef const char *client_asked(const ClientConn *c) noexcept nogil                    # the database it asked for; NULL once its pool tells it
cdef const char *client_told(const ClientConn *c) noexcept nogil                     # the error that ends it; else NULL
