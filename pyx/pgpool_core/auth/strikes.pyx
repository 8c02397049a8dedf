"""Failed logins by address; see strikes.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock


cdef bint strikes_init(Strikes *s) noexcept nogil:
    s.table = <Strike *>calloc(STRIKE_SETS * STRIKE_WAYS, sizeof(Strike))
    pthread_mutex_init(&s.lock, NULL)
    return s.table != NULL


cdef void strikes_free(Strikes *s) noexcept nogil:
    free(s.table)
    s.table = NULL
    pthread_mutex_destroy(&s.lock)


cdef Strike *place_of(Strikes *s, uint8_t family, const uint8_t *addr) noexcept nogil:
    """The place of an address: its own, else a free one, else that of whoever has not failed for longest."""
    cdef uint32_t hash = 2166136261, i
    cdef uint32_t n = 4 if family == 4 else 8
    cdef Strike *first
    cdef Strike *found = NULL
    for i in range(n):
        hash = (hash ^ addr[i]) * 16777619
    first = &s.table[(hash ^ hash >> 16) % STRIKE_SETS * STRIKE_WAYS]
    for i in range(STRIKE_WAYS):
        if first[i].family == family and memcmp(first[i].addr, addr, n) == 0:
            return &first[i]
        if found == NULL or first[i].last_us < found.last_us:
            found = &first[i]
    memset(found, 0, sizeof(Strike))
    found.family = family
    memcpy(found.addr, addr, n)
    return found


cdef void strikes_add(Strikes *s, uint8_t family, const uint8_t *addr, uint64_t now_us, uint64_t delay_us,
                      StrikeVerdict *out) noexcept nogil:
    cdef Strike *strike
    memset(out, 0, sizeof(StrikeVerdict))
    pthread_mutex_lock(&s.lock)
    strike = place_of(s, family, addr)
    if now_us > strike.last_us + STRIKE_FORGET_US:
        strike.count = 0
        strike.due_us = 0
    strike.last_us = now_us
    if strike.count < 0xFFFFFFFFu:
        strike.count += 1
    out.count = strike.count
    if strike.count > STRIKES_FREE:
        out.notable = strike.count == STRIKES_FREE + 1 or strike.count & (strike.count - 1) == 0
        if strike.due_us < now_us:
            strike.due_us = now_us
        if strike.due_us - now_us > (STRIKES_HELD - 1) * delay_us:
            out.silent = 1
        else:
            strike.due_us += delay_us
            out.due_us = strike.due_us
    pthread_mutex_unlock(&s.lock)
