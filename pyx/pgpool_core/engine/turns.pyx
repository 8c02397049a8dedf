"""Turns of logins; see turns.pxd. All of it belongs to one worker."""

from libc.stdint cimport uint32_t, uint64_t

from pgpool_core.engine.login cimport login_turn
from pgpool_core.engine.records cimport *
from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_store32, pgpool_store64


cdef void append(Logins *list, LoginRecord *l) noexcept nogil:
    l.turn_next = NULL
    l.turn_prev = list.last
    if list.last == NULL:
        list.first = l
    else:
        list.last.turn_next = l
    list.last = l


cdef void remove(Logins *list, LoginRecord *l) noexcept nogil:
    if l.turn_prev == NULL:
        list.first = l.turn_next
    else:
        l.turn_prev.turn_next = l.turn_next
    if l.turn_next == NULL:
        list.last = l.turn_prev
    else:
        l.turn_next.turn_prev = l.turn_prev


cdef void begin(Worker *w, LoginRecord *l) noexcept nogil:
    l.turn = TURN_HAS
    l.turn_us = w.now_us
    append(&w.has_turn, l)
    pgpool_store32(&w.logins, w.logins + 1)


cdef bint is_room(Worker *w) noexcept nogil:
    """Whether one more may have a turn; the oldest loses its own where it has had it for long enough."""
    cdef uint32_t limit = pgpool_load32(&w.plane.max_logins)
    if limit == 0 or w.logins < limit:
        return True
    if w.has_turn.first.turn_us + TURN_US > w.now_us:
        return False
    turn_give(w, w.has_turn.first)
    return w.logins < limit


cdef bint turn_take(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    l.turn_of = c
    if w.waits_for_turn.first == NULL and is_room(w):
        begin(w, l)
        return True
    l.turn = TURN_WAITS
    append(&w.waits_for_turn, l)
    pgpool_store32(&w.logins_waiting, w.logins_waiting + 1)
    pgpool_store64(&w.logins_queued, w.logins_queued + 1)
    return False


cdef void turn_give(Worker *w, LoginRecord *l) noexcept nogil:
    if l.turn == TURN_WAITS:
        remove(&w.waits_for_turn, l)
        pgpool_store32(&w.logins_waiting, w.logins_waiting - 1)
    elif l.turn == TURN_HAS:
        remove(&w.has_turn, l)
        pgpool_store32(&w.logins, w.logins - 1)
    elif l.turn == TURN_OVER:
        remove(&w.waits_for_greeting, l)
    l.turn = TURN_NONE


cdef void turn_over(Worker *w, ClientConn *c, LoginRecord *l) noexcept nogil:
    l.turn = TURN_OVER
    l.turn_of = c
    append(&w.waits_for_greeting, l)


cdef bint turns_go_on(Worker *w) noexcept nogil:
    cdef LoginRecord *l
    cdef bint found = False
    while w.waits_for_turn.first != NULL and is_room(w):
        l = w.waits_for_turn.first
        turn_give(w, l)
        begin(w, l)
        found = True
        if not l.turn_of.conn.doomed:
            login_turn(w, l.turn_of)              # `l` may have gone
    return found


cdef int turns_wait_ms(Worker *w, int wait_ms) noexcept nogil:
    cdef uint64_t over_us
    cdef int until_ms
    if w.waits_for_turn.first == NULL or w.has_turn.first == NULL:
        return wait_ms
    over_us = w.has_turn.first.turn_us + TURN_US
    until_ms = <int>((over_us - w.now_us) // 1000) + 1 if over_us > w.now_us else 0
    return until_ms if wait_ms < 0 or until_ms < wait_ms else wait_ms
