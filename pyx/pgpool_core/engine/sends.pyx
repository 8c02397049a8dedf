"""The sends of a turn; see sends.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport malloc
from libc.string cimport memcpy


cdef Sends *sends_new() noexcept nogil:
    """None yet; NULL when memory is short. The caller frees it."""
    cdef Sends *sends = <Sends *>malloc(sizeof(Sends))
    if sends != NULL:
        sends.kept = sends.kept_end = NULL
        sends_clear(sends)
    return sends


cdef uint32_t sends_add(Sends *sends, void *conn, const uint8_t *first, uint32_t first_len, const uint8_t *data,
                        uint32_t n) noexcept nogil:
    """Keep `first` and `data` as one send; its place + 1, or 0 when there is no room. What is not kept elsewhere is copied."""
    cdef uint8_t *copy = sends.arena + sends.used
    cdef uint32_t total = first_len + n
    if total > SEND_MAX:
        return 0
    if first_len == 0:
        return sends.n if sends_keep(sends, conn, data, n) else 0
    if sends.n == SENDS_A_TURN or total > ARENA_SIZE - sends.used:
        return 0
    memcpy(copy, first, first_len)
    memcpy(copy + first_len, data, n)
    sends.used += total
    sends_put(sends, conn, copy, total)
    return sends.n


cdef void sends_clear(Sends *sends) noexcept nogil:
    """The turn is over."""
    sends.n = sends.used = 0
