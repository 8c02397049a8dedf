"""Failed logins by address: who fails again and again is answered later and later. Bounded memory, any thread.

An address is forgotten when it has not failed for STRIKE_FORGET_US, or when newer ones need its place.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.sync.mutex cimport pthread_mutex_t


cdef enum:
    STRIKE_SETS = 1024
    STRIKE_WAYS = 4               # addresses of a set
    STRIKES_FREE = 10             # failures that are answered at once
    STRIKES_HELD = 16             # answers that may be waiting for one address; further failures get none
    STRIKE_FORGET_US = 60000000


cdef struct Strike:
    uint8_t family                # 4 or 6; 0 = free
    uint8_t addr[16]              # of IPv6 the first 8 bytes count: a network has so many addresses
    uint32_t count                # failures since it was last forgotten
    uint64_t last_us
    uint64_t due_us               # when its last answer is due


cdef struct Strikes:
    pthread_mutex_t lock
    Strike *table                 # owned; set by set


cdef struct StrikeVerdict:
    uint64_t due_us               # when to answer; 0 = at once
    uint32_t count
    uint8_t silent                # do not answer at all
    uint8_t notable               # worth a line in the log: the first one too many, then each time that the count has doubled


cdef bint strikes_init(Strikes *s) noexcept nogil                       # False: no memory
cdef void strikes_free(Strikes *s) noexcept nogil

# One more failure from this address; `addr` has 4 or 16 bytes.
cdef void strikes_add(Strikes *s, uint8_t family, const uint8_t *addr, uint64_t now_us, uint64_t delay_us,
                      StrikeVerdict *out) noexcept nogil
