"""What functions of users may do to a session, as control has read it from the catalogs: each worker has a copy.

A pool belongs to a database by number (`PoolRecord.functions`); pools of the same database share its `FunctionsMark`. A
text that changes functions makes what is known of them *stale* when its transaction ends: until control has read them
again, every text that may call one counts as suspicious.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.mailbox cimport Mail
from pgpool_core.engine.records cimport ClientConn, Plane, PoolRecord, ServerConn, Worker
from pgpool_core.session.effects cimport Effects
from pgpool_core.session.sqlscan cimport SqlScan
from pgpool_core.statements.text cimport Statement


cdef enum:
    SQL_HIDDEN = 1 << 27          # beside SQL_*: the text does not say it, nor which settings it is about


cdef const Effects *functions_of(Worker *w, const PoolRecord *pool) noexcept nogil
cdef uint32_t functions_text(Worker *w, ClientConn *c, ServerConn *s, const SqlScan *scan, const uint8_t *text,
                             size_t n) noexcept nogil
cdef uint32_t functions_statement(Worker *w, ClientConn *c, Statement *statement) noexcept nogil
cdef void functions_changed(Plane *plane, ServerConn *s) noexcept nogil
cdef void functions_mail(Worker *w, Mail *mail) noexcept nogil
cdef void functions_free(Worker *w) noexcept nogil
