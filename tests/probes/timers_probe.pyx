"""Doors to `engine.timers` for tests."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from pgpool_core.engine.timers cimport (TIMER_LOGIN, WHEEL_SHIFT, Timer, Timers, timer_clear, timer_set, timers_due, timers_init,
                                        timers_wait_ms)

TICK_US = 1 << WHEEL_SHIFT


cdef class Wheel:
    """A wheel with `room` timers, which begins at `now_us`."""
    cdef Timers *wheel
    cdef Timer *timers
    cdef int room

    def __cinit__(self, int room, uint64_t now_us):
        self.room = room
        self.wheel = <Timers *>calloc(1, sizeof(Timers))
        self.timers = <Timer *>calloc(room, sizeof(Timer))
        if self.wheel is NULL or self.timers is NULL:
            raise MemoryError
        timers_init(self.wheel, now_us)

    def __dealloc__(self):
        free(self.wheel)
        free(self.timers)

    cdef Timer *at(self, int which) except NULL:
        if not 0 <= which < self.room:
            raise IndexError(which)
        return &self.timers[which]

    def set(self, int which, uint64_t deadline_us):
        timer_set(self.wheel, self.at(which), TIMER_LOGIN, deadline_us)

    def clear(self, int which):
        timer_clear(self.wheel, self.at(which))

    def due(self, uint64_t now_us):
        """Take off all whose deadlines are over; which those are."""
        cdef Timer *timer = timers_due(self.wheel, now_us)
        found = []
        while timer is not NULL:
            found.append(timer - self.timers)
            timer_clear(self.wheel, timer)
            timer = timers_due(self.wheel, now_us)
        return found

    def wait_ms(self, uint64_t now_us):
        return timers_wait_ms(self.wheel, now_us)
