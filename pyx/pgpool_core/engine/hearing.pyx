"""What control's listening connections need of the plane; see hearing.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from pgpool_core.engine.conn cimport plane_want
from pgpool_core.engine.mailbox cimport MAIL_NOTIFY, Mail
from pgpool_core.engine.notes cimport note
from pgpool_core.engine.notifier cimport notifier_name
from pgpool_core.engine.pools cimport record_of
from pgpool_core.engine.post cimport post
from pgpool_core.engine.records cimport *
from pgpool_core.engine.sys cimport pgpool_now_us
from pgpool_core.pool.plan cimport plan_listener, plan_listener_gone
from pgpool_core.pool.server cimport Server


cdef int listener_take(Plane *plane, uint32_t pool) except -1:
    cdef PoolRecord *record = record_of(plane, pool)
    cdef Server *evicted = NULL
    cdef int verdict = plan_listener(plane.set, record.pool, pgpool_now_us(), &evicted)
    if evicted != NULL:
        note(plane, <ServerConn *>evicted.owner, SERVER_CLOSE)
    return verdict


cdef int listener_give(Plane *plane, uint32_t pool) except -1:
    plan_listener_gone(plane.set, record_of(plane, pool).pool)
    plane_want(plane)
    return 0


cdef int tell_notified(Plane *plane, uint32_t worker, uint32_t pool, bytes messages) except -1:
    """False when the worker's ring is full. Process ids become those that clients know."""
    cdef Mail mail
    cdef size_t n = len(messages)
    memset(&mail, 0, sizeof(Mail))
    mail.kind = MAIL_NOTIFY
    mail.a = pool
    mail.len = <uint32_t>n
    mail.data = malloc(n)
    if mail.data == NULL:
        raise MemoryError
    memcpy(mail.data, <const char *>messages, n)
    notifier_name(plane, record_of(plane, pool), <uint8_t *>mail.data, n, pgpool_now_us())
    if not post(plane, worker, &mail):
        free(mail.data)
        return False
    return True
