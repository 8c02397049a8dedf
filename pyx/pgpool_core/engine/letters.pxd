"""Mail, rows and counters as Python objects, for control. Needs the GIL; no worker calls anything here."""

from libc.stdint cimport uint32_t

from pgpool_core.engine.buf cimport Buf
from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.mailbox cimport Mail
from pgpool_core.engine.records cimport LogRecord
from pgpool_core.engine.rows cimport ClientRow
from pgpool_core.engine.sys cimport pgpool_peer


cdef bytes bytes_of(Buf *b)
cdef str address(const pgpool_peer *peer)
cdef dict count(Counters *k)
cdef tuple policy_letter(Mail *mail)
cdef tuple log_letter(LogRecord *line)
cdef list client_rows(ClientRow *rows, uint32_t n)
