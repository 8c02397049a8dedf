"""Mail, rows and counters as Python objects, for control. Needs the GIL; no worker calls anything here."""

from libc.stdint cimport uint8_t

from pgpool_core.engine.buf cimport Buf
from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.records cimport Plane
from pgpool_core.engine.sys cimport pgpool_peer


cdef bytes bytes_of(Buf *b)
cdef str address(const pgpool_peer *peer)
cdef dict count(Counters *k)
cdef str replication_word(uint8_t kind)

# What a server for one client alone is to be started with, out of that client's startup packet.
cdef list server_parameters(Plane *plane, Buf *startup)

cdef list take_letters(Plane *plane)
