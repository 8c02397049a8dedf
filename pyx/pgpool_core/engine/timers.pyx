"""The timer wheel; see timers.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memset

cdef extern from * nogil:
    int __builtin_ctzll(unsigned long long)


cdef void timers_init(Timers *wheel, uint64_t now_us) noexcept nogil:
    """An empty wheel that starts at `now_us`."""
    memset(wheel, 0, sizeof(Timers))
    wheel.done_tick = now_us >> WHEEL_SHIFT


cdef void timer_set(Timers *wheel, Timer *timer, uint8_t kind, uint64_t deadline_us) noexcept nogil:
    """(Re)arm `timer`; it is due at or up to 16 ms after `deadline_us`."""
    cdef uint64_t tick = (deadline_us >> WHEEL_SHIFT) + 1
    cdef uint32_t slot
    timer_clear(wheel, timer)
    if tick <= wheel.done_tick:
        tick = wheel.done_tick + 1
    slot = <uint32_t>(tick % WHEEL_SLOTS)
    timer.kind = kind
    timer.deadline_us = deadline_us
    timer.slot = slot
    timer.prev = NULL
    timer.next = wheel.heads[slot]
    if timer.next != NULL:
        timer.next.prev = timer
    wheel.heads[slot] = timer
    wheel.occupied[slot >> 6] |= <uint64_t>1 << (slot & 63)
    wheel.count += 1


cdef void timer_clear(Timers *wheel, Timer *timer) noexcept nogil:
    """Disarm `timer`; nothing happens when it is not armed."""
    if timer.kind == TIMER_NONE:
        return
    if timer.prev != NULL:
        timer.prev.next = timer.next
    else:
        wheel.heads[timer.slot] = timer.next
        if timer.next == NULL:
            wheel.occupied[timer.slot >> 6] &= ~(<uint64_t>1 << (timer.slot & 63))
    if timer.next != NULL:
        timer.next.prev = timer.prev
    timer.prev = timer.next = NULL
    timer.kind = TIMER_NONE
    wheel.count -= 1


cdef Timer *timers_due(Timers *wheel, uint64_t now_us) noexcept nogil:
    """One timer whose deadline is over, still armed (its `kind` tells why it was set); NULL when none is.

    Call it until it returns NULL, clearing or setting anew each timer that it returns.
    """
    cdef uint64_t now_tick = now_us >> WHEEL_SHIFT
    cdef Timer *timer
    if wheel.count == 0:
        wheel.done_tick = now_tick
        return NULL
    if now_tick > wheel.done_tick + WHEEL_SLOTS:
        wheel.done_tick = now_tick - WHEEL_SLOTS      # a whole turn shows every slot once
    while wheel.done_tick < now_tick:
        timer = wheel.heads[(wheel.done_tick + 1) % WHEEL_SLOTS]
        while timer != NULL:
            if timer.deadline_us <= now_us:
                return timer
            timer = timer.next
        wheel.done_tick += 1
    return NULL


cdef int timers_wait_ms(Timers *wheel, uint64_t now_us) noexcept nogil:
    """How long a loop may sleep before a timer could be due: milliseconds, -1 for ever."""
    cdef uint64_t tick, word
    cdef uint32_t first, slot, i
    if wheel.count == 0:
        return -1
    first = slot = <uint32_t>((wheel.done_tick + 1) % WHEEL_SLOTS)
    word = wheel.occupied[slot >> 6] >> (slot & 63) << (slot & 63)      # without the slots in front of it
    for i in range(WHEEL_WORDS):
        if word:
            break
        slot = (slot + 64) % WHEEL_SLOTS
        word = wheel.occupied[slot >> 6]
    slot = (slot & ~<uint32_t>63) + __builtin_ctzll(word)
    tick = (wheel.done_tick + 1 + (slot - first) % WHEEL_SLOTS) << WHEEL_SHIFT
    return <int>((tick - now_us) // 1000 + 1) if tick > now_us else 0
