"""Notes for the workers of servers; see notes.pxd."""

from libc.stdint cimport uint32_t
from libc.stdlib cimport free

from pgpool_core.engine.conn cimport worker_wake
from pgpool_core.engine.records cimport *
from pgpool_core.engine.slots cimport slot_live, slot_release
from pgpool_core.sync.atomic cimport pgpool_cas_ptr, pgpool_load32, pgpool_load_ptr, pgpool_or32, pgpool_swap32
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock


cdef void note(Plane *plane, ServerConn *s, uint32_t what) noexcept nogil:
    """Leave a note for the worker of `s`; none for a server that has gone, whose slot nobody may put on a stack."""
    cdef Worker *w = NULL
    cdef void *head
    cdef uint32_t worker
    pthread_mutex_lock(&plane.server_lock)
    worker = pgpool_load32(&s.seat.worker)
    if slot_live(&s.conn.head) and not s.gone and worker < plane.n_workers and pgpool_or32(&s.notes, what) == 0:
        w = &plane.workers[worker]
        while True:
            head = pgpool_load_ptr(&w.notes)
            s.note_next = <ServerConn *>head
            if pgpool_cas_ptr(<void **>&w.notes, head, s):
                break
    pthread_mutex_unlock(&plane.server_lock)
    if w != NULL:
        worker_wake(w)


cdef uint32_t notes_taken(Plane *plane, ServerConn *s) noexcept nogil:
    """What has been noted for `s`, just taken off the stack; 0 when it has gone."""
    cdef uint32_t notes
    pthread_mutex_lock(&plane.server_lock)
    notes = pgpool_swap32(&s.notes, 0)
    if s.gone:
        slot_release(&plane.servers, &s.conn.head)
        notes = 0
    pthread_mutex_unlock(&plane.server_lock)
    return notes


cdef void slot_forget(Plane *plane, ServerConn *s) noexcept nogil:
    """Give back the slot of a server that has gone; one on a stack of notes waits for notes_taken."""
    pthread_mutex_lock(&plane.server_lock)
    s.gone = 1
    free(s.host)
    s.host = NULL
    if pgpool_load32(&s.notes) == 0:
        slot_release(&plane.servers, &s.conn.head)
    pthread_mutex_unlock(&plane.server_lock)
