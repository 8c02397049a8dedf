"""Rules for all clients, kept under `ignored_lock`; see rules.pxd."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pgpool_core.engine.buf cimport buf_add, buf_free
from pgpool_core.engine.records cimport Plane
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_store8
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.context cimport TlsContext, context_ref, context_unref
from pgpool_core.tls.face cimport Context
from pgpool_core.wire.build cimport build_notice


cdef uint8_t *name_list(names) except NULL:
    """Each name with a zero behind it, and another one at the end; owned by the caller."""
    cdef bytes joined = b"".join(bytes(name) + b"\0" for name in names) + b"\0"
    cdef uint8_t *out = <uint8_t *>malloc(len(joined))
    if out == NULL:
        raise MemoryError
    memcpy(out, <const char *>joined, len(joined))
    return out


cdef int rules_ignore(Plane *plane, names) except -1:
    """ignore_startup_parameters."""
    cdef uint8_t *ignored = name_list(names)
    pthread_mutex_lock(&plane.ignored_lock)
    free(plane.ignored)
    plane.ignored = ignored
    pgpool_add32(&plane.retold, 1)
    pthread_mutex_unlock(&plane.ignored_lock)
    return 0


cdef int rules_track(Plane *plane, names) except -1:
    """track_extra_parameters: the first time counts, because workers read it without a lock."""
    if plane.extra == NULL:
        plane.extra = name_list(names)
    return 0


cdef int rules_notice(Plane *plane, bytes text) except -1:
    """login_notify_message: b"" = none."""
    cdef uint8_t *message = NULL
    cdef size_t n = 0, cap = len(text) + 64
    if text:
        message = <uint8_t *>malloc(cap)
        if message == NULL:
            raise MemoryError
        n = build_notice(message, cap, "NOTICE", "00000", text, NULL)
    pthread_mutex_lock(&plane.ignored_lock)
    buf_free(&plane.login_notice)
    if n:
        buf_add(&plane.login_notice, message, n)
    pgpool_add32(&plane.retold, 1)
    pthread_mutex_unlock(&plane.ignored_lock)
    free(message)
    return 0


cdef int rules_tls(Plane *plane, Context context, bint required) except -1:
    """TLS for clients whose handshake begins from now on; None: there is none."""
    cdef TlsContext *before
    pthread_mutex_lock(&plane.ignored_lock)
    before = plane.client_tls
    plane.client_tls = NULL if context is None else context_ref(context.context)
    pgpool_store8(&plane.tls_required, required)
    pthread_mutex_unlock(&plane.ignored_lock)
    context_unref(before)
    return 0
