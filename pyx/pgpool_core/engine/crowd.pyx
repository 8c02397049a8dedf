"""Those who wait for their share of a turn; see crowd.pxd."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from pgpool_core.engine.conn cimport conn_again
from pgpool_core.engine.records cimport *
from pgpool_core.engine.share cimport SHARE_LEAST, share_lets
from pgpool_core.engine.slots cimport handle_of, slot_of
from pgpool_core.engine.sys cimport pgpool_now_us

cdef enum:
    ROOM_AT_FIRST = 64


cdef bint crowd_goes_on(Worker *w) noexcept nogil:
    if w.crowd_taken >= SHARE_LEAST and not share_lets(w.crowd_taken, pgpool_now_us() - w.now_us):
        return False
    w.crowd_taken += 1
    return True


cdef bint grown(Crowd *crowd) noexcept nogil:
    """Room for twice as many, in their order from the beginning; False when memory is short."""
    cdef uint32_t room = crowd.room * 2 if crowd.room else ROOM_AT_FIRST
    cdef uint64_t *handles = <uint64_t *>malloc(room * sizeof(uint64_t))
    cdef uint32_t i
    if handles == NULL:
        return False
    for i in range(crowd.n):
        handles[i] = crowd.handles[(crowd.head + i) % crowd.room]
    free(crowd.handles)
    crowd.handles = handles
    crowd.room = room
    crowd.head = 0
    return True


cdef void crowd_add(Worker *w, Conn *c) noexcept nogil:
    cdef Crowd *crowd = &w.crowd
    if c.again:
        return
    if crowd.n == crowd.room and not grown(crowd):
        conn_again(w, c)
        return
    c.again = AGAIN_CROWD
    crowd.handles[(crowd.head + crowd.n) % crowd.room] = handle_of(&c.head, KIND_CLIENT)
    crowd.n += 1


cdef Conn *crowd_next(Worker *w) noexcept nogil:
    cdef Crowd *crowd = &w.crowd
    cdef Conn *c = <Conn *>slot_of(&w.clients, crowd.handles[crowd.head])
    crowd.head = (crowd.head + 1) % crowd.room
    crowd.n -= 1
    if crowd.n == 0 and crowd.room > ROOM_AT_FIRST:
        crowd_free(crowd)                         # a wave is over
    if c == NULL or c.again != AGAIN_CROWD:
        return NULL
    c.again = AGAIN_NOT
    return NULL if c.doomed else c


cdef void crowd_free(Crowd *crowd) noexcept nogil:
    free(crowd.handles)
    crowd.handles = NULL
    crowd.room = crowd.head = crowd.n = 0
