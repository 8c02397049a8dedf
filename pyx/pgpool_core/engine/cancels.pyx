"""A cancel request finds its worker; see cancels.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from pgpool_core.auth.cancel_key cimport CANCEL_KEY_LEN, CANCEL_OURS, CancelWho, cancel_key_read
from pgpool_core.engine.mailbox cimport MAIL_CANCEL_MOVED, MAIL_FIND_CANCEL, Mail
from pgpool_core.engine.post cimport post
from pgpool_core.engine.records cimport Plane


cdef bint cancel_find(Plane *plane, bytes key):
    """By its eight bytes; false: it is not one of ours, or the worker's ring is full."""
    cdef CancelWho who
    cdef Mail mail
    if len(key) != CANCEL_KEY_LEN or cancel_key_read(&plane.cancel_keys, <const uint8_t *><const char *>key, &who) \
            != CANCEL_OURS or who.worker >= plane.n_workers:
        return False
    memset(&mail, 0, sizeof(Mail))
    mail.kind = MAIL_FIND_CANCEL
    mail.client = who.slot
    mail.server = int.from_bytes(key, "big")
    mail.a = who.secret
    mail.b = who.secret_mask
    return post(plane, who.worker, &mail)


cdef bint cancel_moved(Plane *plane, uint64_t client_id, uint32_t worker, uint64_t canceller):
    """For a client who came with that process's key; false: the worker's ring is full."""
    cdef Mail mail
    memset(&mail, 0, sizeof(Mail))
    mail.kind = MAIL_CANCEL_MOVED
    mail.a = client_id
    mail.canceller = canceller
    return post(plane, worker, &mail)
