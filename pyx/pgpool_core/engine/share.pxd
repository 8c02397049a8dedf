"""How much of a turn clients get that log in, so that a wave of them does not hold up those who are in already. Declarations only.

The rest is read in the next turn, first come, first served.
"""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SHARE_LEAST = 4               # logins that are gone on with in each turn, however long the others take
    SHARE_MOST = 16
    SHARE_US = 500                # between these: while the turn is not older
    STREAK_STEP = 4
    STREAK_MOST = 16


cdef inline bint share_lets(uint32_t logins, uint64_t turn_us) noexcept nogil:
    """Whether one more may be gone on with, after so many in a turn of this age."""
    return logins < SHARE_LEAST or (logins < SHARE_MOST and turn_us < SHARE_US)


cdef inline uint32_t share_accepts(uint32_t streak) noexcept nogil:
    """How many clients to take off a listener at one go: 1, and twice as many for each STREAK_STEP times that all of them were there."""
    return <uint32_t>1 << ((streak if streak < STREAK_MOST else STREAK_MOST) // STREAK_STEP)
