"""Taking clients and servers that another process gives (-R); what they are told as stands in moving/parcel.pxd.

Control reads a parcel and makes all of it but the slot of the client, which is the worker's: that gets an `Arrival`. What is not
`nogil` needs the GIL and is control's.
"""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.buf cimport Buf
from pgpool_core.engine.records cimport Block, Names, Plane, PoolRecord, ServerConn, Terms, Worker
from pgpool_core.moving.parcel cimport ClientFacts


cdef struct Arrival:              # owns all of it but `pool`; moves to the worker by mail, and from there into the client
    PoolRecord *pool
    ServerConn *server            # that it keeps, in SV_LOGIN; NULL: none
    int fd
    uint64_t id
    ClientFacts facts
    Block *settings
    Block *start
    Names *names
    Terms *terms
    Buf unread
    Buf channels                  # names that it listens to, each behind its length


cdef tuple learn_texts(Plane *plane, dict known, bytes parcel)
cdef int forget_texts(Plane *plane, dict known) except -1
cdef uint64_t place_server(Plane *plane, uint32_t pool, bint kept, bytes parcel) except? 1
cdef uint64_t take_server(Plane *plane, dict known, uint64_t server, int fd, bytes parcel) except 0
cdef tuple take_client(Plane *plane, dict known, uint32_t pool, int fd, uint64_t server, int server_fd, bint stale, bytes parcel)
cdef void cancel_moved(Worker *w, uint64_t id, uint64_t canceller) noexcept nogil
cdef void client_arrives(Worker *w, Arrival *a) noexcept nogil
cdef void arrival_free(Plane *plane, Arrival *a) noexcept nogil
