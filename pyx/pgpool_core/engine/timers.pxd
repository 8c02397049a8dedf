"""Deadlines of one worker: a wheel of lists, so setting and clearing one costs a few stores."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


cdef enum:
    WHEEL_SLOTS = 512             # 512 slots of 2^14 us: one turn in 8.4 s; longer deadlines go round again
    WHEEL_SHIFT = 14
    WHEEL_WORDS = 8               # WHEEL_SLOTS bits

    TIMER_NONE = 0
    TIMER_LOGIN = 1               # client_login_timeout
    TIMER_QUERY_WAIT = 2          # query_wait_timeout, query_wait_notify
    TIMER_STALL = 3               # message_stall_timeout
    TIMER_LINGER = 4              # a client that has its error and is to hang up
    TIMER_DRAIN = 5               # server_drain_timeout
    TIMER_CLOSE = 6               # a server that has been told to end
    TIMER_PATIENCE = 7            # one of a client's timeouts could be over


cdef struct Timer:                # part of its owner's record; all zero = not set
    Timer *prev
    Timer *next
    uint64_t deadline_us
    uint32_t slot
    uint16_t within               # bytes from the beginning of that record: see timer_of
    uint8_t kind                  # TIMER_*


cdef struct Timers:
    Timer *heads[WHEEL_SLOTS]
    uint64_t occupied[WHEEL_WORDS]
    uint64_t done_tick            # every slot up to this tick has been looked at
    uint32_t count


cdef void timers_init(Timers *wheel, uint64_t now_us) noexcept nogil
cdef void timer_set(Timers *wheel, Timer *timer, uint8_t kind, uint64_t deadline_us) noexcept nogil
cdef void timer_clear(Timers *wheel, Timer *timer) noexcept nogil
cdef Timer *timers_due(Timers *wheel, uint64_t now_us) noexcept nogil
cdef int timers_wait_ms(Timers *wheel, uint64_t now_us) noexcept nogil


cdef inline void timer_of(void *owner, Timer *timer) noexcept nogil:
    """Make `timer`, which is a part of it, `owner`'s."""
    timer.within = <uint16_t>(<uint8_t *>timer - <uint8_t *>owner)


cdef inline void *timer_owner(Timer *timer) noexcept nogil:
    return <uint8_t *>timer - timer.within
