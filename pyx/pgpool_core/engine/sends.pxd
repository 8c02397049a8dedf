"""The sends of a turn, kept until its end so that all go to the kernel in one call. At most one for each connection.

Whom a send wakes runs at once where a system call returns; after all sends of a turn that happens once.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy


cdef enum:
    SENDS_A_TURN = 512
    SEND_MAX = 16384              # a longer one is worth a call of its own
    ARENA_SIZE = 131072


cdef struct Send:
    void *conn                    # a Conn, borrowed; NULL: taken out again
    const uint8_t *at             # in `arena`, or where the back end keeps it until the turn's end
    uint32_t len
    int result                    # bytes sent, or -errno


cdef struct Sends:
    uint32_t n
    uint32_t used                 # bytes of `arena`
    const uint8_t *kept           # from here to `kept_end` bytes stay where they are until the turn's end
    const uint8_t *kept_end
    Send all[SENDS_A_TURN]
    uint8_t arena[ARENA_SIZE]


cdef Sends *sends_new() noexcept nogil
cdef uint32_t sends_add(Sends *sends, void *conn, const uint8_t *first, uint32_t first_len, const uint8_t *data,
                        uint32_t n) noexcept nogil
cdef void sends_clear(Sends *sends) noexcept nogil


cdef inline void sends_put(Sends *sends, void *conn, const uint8_t *at, uint32_t n) noexcept nogil:
    """There is room; `at` stays as it is until the turn's end."""
    cdef Send *send = &sends.all[sends.n]
    send.conn = conn
    send.at = at
    send.len = n
    send.result = <int>n
    sends.n += 1


cdef inline bint sends_keep(Sends *sends, void *conn, const uint8_t *data, uint32_t n) noexcept nogil:
    """Keep `data`, SEND_MAX bytes at most, as one send, whose place is `sends.n` then; False when there is no room."""
    cdef const uint8_t *at = data
    if sends.n == SENDS_A_TURN:
        return False
    if data + n <= sends.kept_end and data >= sends.kept:
        pass
    elif n <= ARENA_SIZE - sends.used:
        at = sends.arena + sends.used
        memcpy(sends.arena + sends.used, data, n)
        sends.used += n
    else:
        return False
    sends_put(sends, conn, at, n)
    return True
