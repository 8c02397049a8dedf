"""TLS below a connection: what is sent is encrypted as it goes, what has come is decrypted as it is received. Nobody above sees it.

`out` holds ciphertext then, which stays in order because it is encrypted in the order of sending. A receive takes less ciphertext than
the caller has room for, so that all plaintext in it is given at once: nothing readable ever waits inside a session.
"""

from libc.stdint cimport uint8_t

from pgpool_core.engine.records cimport ClientConn, Conn, Worker
from pgpool_core.engine.sys cimport ssize_t


# A client has asked for TLS: from now on it has it. False, and nothing changed, where it is not to be had.
cdef bint secure_accept(Worker *w, ClientConn *c) noexcept nogil
cdef int secure_send(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil          # conn_send
cdef bint secure_put(Worker *w, Conn *c, const uint8_t *data, size_t n) noexcept nogil          # conn_put
cdef ssize_t secure_receive(Worker *w, Conn *c, uint8_t *into, size_t cap) noexcept nogil       # conn_receive; EPROTO: TLS has failed
cdef void secure_bye(Worker *w, Conn *c) noexcept nogil                 # say that nothing more will come
cdef void secure_last(Conn *c) noexcept nogil                           # the same, of one that is closed now
cdef void secure_tell(Worker *w, ClientConn *c) noexcept nogil          # a log line about what has failed
