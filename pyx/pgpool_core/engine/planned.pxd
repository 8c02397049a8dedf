"""Servers that control plans, opens, hands over or gives up. What is not `nogil` needs the GIL."""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from pgpool_core.engine.records cimport Plane, ServerConn
from pgpool_core.tls.face cimport Session


cdef ServerConn *server_seat(Plane *plane) noexcept nogil
cdef void server_unseat(Plane *plane, ServerConn *s) noexcept nogil
cdef uint32_t fewest_servers(Plane *plane) noexcept nogil
cdef list plan_servers(Plane *plane, uint64_t now_us)
cdef uint64_t server_adopt(Plane *plane, uint64_t server, int fd, uint32_t backend_pid, bytes backend_key, parameters,
                           bytes unread, bint family_unix, bytes host, uint16_t port, began, Session tls) except 0
cdef int server_abandon(Plane *plane, uint64_t server, bytes error) except -1
cdef void server_cancelled(Plane *plane, uint64_t server, bint in_doubt) noexcept nogil
# Have what is to be closed (close_needed) leave its client as soon as that is idle.
cdef void servers_hurry(Plane *plane) noexcept nogil

cdef void servers_retire(Plane *plane, int pool, const char *host, bint dedicated) noexcept nogil
cdef uint32_t closing_servers(Plane *plane, uint32_t pool) noexcept nogil
