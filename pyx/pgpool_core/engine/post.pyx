"""Mail from control; see post.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from pgpool_core.engine.conn cimport worker_wake
from pgpool_core.engine.mailbox cimport Mail, mailbox_post
from pgpool_core.engine.records cimport *


cdef bint post(Plane *plane, uint32_t worker, const Mail *mail) noexcept nogil:
    """Put `mail` into the ring of a worker and wake it; what cannot be put there stays the caller's."""
    if not mailbox_post(&plane.workers[worker].inbox, mail):
        return False
    worker_wake(&plane.workers[worker])
    return True


cdef bint tell(Plane *plane, uint32_t worker, uint32_t kind, uint64_t client, uint64_t a, bytes data):
    """Post mail to a worker; False when its ring is full."""
    cdef Mail mail
    memset(&mail, 0, sizeof(Mail))
    mail.kind = kind
    mail.client = client
    mail.a = a
    if data:
        mail.data = malloc(len(data))
        if mail.data == NULL:
            return False
        memcpy(mail.data, <const char *>data, len(data))
        mail.len = <uint32_t>len(data)
    if not post(plane, worker, &mail):
        free(mail.data)
        return False
    return True


cdef bint tell_all(Plane *plane, uint32_t kind, uint64_t a, bytes data):
    """Post mail to every worker; False when the ring of one is full, who then does not hear of it."""
    cdef uint32_t i
    cdef bint heard = True
    for i in range(plane.n_workers):
        heard = tell(plane, i, kind, 0, a, data) and heard
    return heard
