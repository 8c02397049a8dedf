"""What texts mean, and when that ends; see meaning.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy, strlen

from pgpool_core.sync.atomic cimport pgpool_load64, pgpool_store64
from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef const char *MOMENTS[4]       # literals that stand for the time at which they are read
MOMENTS[:] = [b"now", b"today", b"tomorrow", b"yesterday"]


cdef void changes_init(Changes *changes) noexcept nogil:
    """Nothing has changed; `changes` is all zero."""
    pthread_mutex_init(&changes.lock, NULL)


cdef void changes_free(Changes *changes) noexcept nogil:
    pthread_mutex_destroy(&changes.lock)


cdef void changes_add(Changes *changes, const uint8_t *names, uint32_t n) noexcept nogil:
    """The tables of these names, each with its zero, are not what they were; n = 0: anything may be."""
    cdef Change *at
    pthread_mutex_lock(&changes.lock)
    at = &changes.ring[(changes.last + 1) & (CHANGES_KEPT - 1)]
    at.len = n if n <= CHANGE_LEN else 0
    memcpy(at.names, names, at.len)
    pgpool_store64(&changes.last, changes.last + 1)
    pthread_mutex_unlock(&changes.lock)


cdef bint text_mentions(const uint8_t *text, size_t n, const uint8_t *name, size_t length) noexcept nogil:
    """`name`, in any case and also as a part of another one."""
    cdef size_t i
    for i in range(n - length + 1 if n >= length else 0):
        if strncasecmp(<const char *>text + i, <const char *>name, length) == 0:
            return True
    return False


cdef bint touches(const Change *change, const uint8_t *text, uint32_t n) noexcept nogil:
    cdef uint32_t at = 0, length
    if change.len == 0:
        return True
    while at < change.len:
        length = <uint32_t>strlen(<const char *>change.names + at)
        if text_mentions(text, n, change.names + at, length):
            return True
        at += length + 1
    return False


cdef bint changes_touch(Changes *changes, uint64_t since, uint64_t until, const uint8_t *text, uint32_t n) noexcept nogil:
    """Whether one of the changes behind number `since`, up to `until`, may be about what `text` mentions."""
    cdef bint found
    pthread_mutex_lock(&changes.lock)
    found = pgpool_load64(&changes.last) - since > CHANGES_KEPT
    while not found and since < until:
        since += 1
        found = touches(&changes.ring[since & (CHANGES_KEPT - 1)], text, n)
    pthread_mutex_unlock(&changes.lock)
    return found


cdef inline bint goes_on(uint8_t byte) noexcept nogil:
    """It may stand inside a name."""
    return 0x61 <= byte | 0x20 <= 0x7A or 0x30 <= byte <= 0x39 or byte == 0x5F or byte >= 0x80


cdef bint is_moment(const uint8_t *text, uint32_t n, uint32_t at, bint quoted) noexcept nogil:
    """One of MOMENTS stands at `at`; outside quotes not as a function that is called."""
    cdef int i
    cdef uint32_t behind
    for i in range(4):
        behind = at + <uint32_t>strlen(MOMENTS[i])
        if behind > n or strncasecmp(<const char *>text + at, MOMENTS[i], behind - at) != 0 or (behind < n and goes_on(text[behind])):
            continue
        while behind < n and text[behind] <= 0x20:
            behind += 1
        return quoted or behind == n or text[behind] != 0x28
    return False


cdef bint is_momentary(const uint8_t *text, uint32_t n) noexcept nogil:
    """Whether a literal in the query at `text` may stand for the time of its Parse, as 'now' and 'today' do.

    Where quotes cannot simply be counted (backslashes, comments, dollar quotes), the words count wherever they stand. What lies
    behind the query's zero is not looked at.
    """
    cdef bint quoted = False, counted = True
    cdef uint32_t i
    cdef uint8_t byte, letter, before = 0
    cdef const uint8_t *zero = <const uint8_t *>memchr(text, 0, n)
    if zero != NULL:
        n = <uint32_t>(zero - text)
    for i in range(n):
        byte = text[i]
        if byte == 0x27:
            quoted = not quoted
        elif byte == 0x5C or (byte == before and byte == 0x2D) or (byte == 0x2A and before == 0x2F) \
                or (before == 0x24 and not 0x30 <= byte <= 0x39):
            counted = False
        before = byte
    quoted = False
    before = 0
    for i in range(n):
        byte = text[i]
        letter = byte | 0x20
        if byte == 0x27:
            quoted = not quoted
        elif (letter == 0x6E or letter == 0x74 or letter == 0x79) and (quoted or not counted) and not goes_on(before) \
                and is_moment(text, n, i, quoted and counted):
            return True
        before = byte
    return False


cdef bint is_ascii(const uint8_t *text, uint32_t n) noexcept nogil:
    cdef uint64_t word, all = 0
    cdef uint32_t at = 0
    while n - at >= 8:
        memcpy(&word, text + at, 8)
        all |= word
        at += 8
    while at < n:
        all |= text[at]
        at += 1
    return all & <uint64_t>0x8080808080808080 == 0
