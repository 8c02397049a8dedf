"""Remembered outcomes of texts; see outcome.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove

from pgpool_core.session.settings cimport Block, Settings, block_ref, block_unref

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)


cdef bint outcome_sure(const uint8_t *text, size_t n) noexcept nogil:
    """Nothing in a text that has been found to do no more than SET or RESET depends on data.

    No call has an argument, and no UPDATE of pg_settings takes its values from a table.
    """
    cdef size_t i
    if n == 0 or n > OUTCOME_TEXT_MAX:
        return False
    for i in range(n):
        if text[i] == 0x28 and (i + 1 == n or text[i + 1] != 0x29):
            return False
        if n - i >= 11 and strncasecmp(<const char *>text + i, "pg_settings", 11) == 0:
            return False
    return True


cdef Outcome *set_of(Outcome *table, const void *whose, const Block *before, const Block *start, const uint8_t *text,
                     uint32_t n) noexcept nogil:
    cdef uint64_t h = <uint64_t>14695981039346656037 ^ (<uint64_t>before >> 4) ^ (<uint64_t>start << 20)     # FNV-1a
    cdef uint32_t i
    h ^= <uint64_t>whose << 8
    for i in range(n):
        h = (h ^ text[i]) * <uint64_t>1099511628211
    h *= <uint64_t>0x9E3779B97F4A7C15              # FNV leaves the last bytes in its low bits
    return &table[(h >> 32) % (OUTCOMES // OUTCOME_WAYS) * OUTCOME_WAYS]


cdef Outcome *found(Outcome *among, const void *whose, const Block *before, const Block *start, const uint8_t *text,
                    uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(OUTCOME_WAYS):
        if among[i].whose == whose and among[i].before == before and among[i].start == start and among[i].len == n \
                and memcmp(among[i].text, text, n) == 0:
            return &among[i]
    return NULL


cdef Block *outcome_find(Outcome *table, const void *whose, const Block *before, const Block *start,
                         const uint8_t *text, uint32_t n) noexcept nogil:
    """What `before` became by this text; borrowed. NULL: not known."""
    cdef Outcome *at = found(set_of(table, whose, before, start, text, n), whose, before, start, text, n)
    return at.after if at != NULL else NULL


cdef void outcome_learn(Outcome *table, Settings *settings, const void *whose, Block *before, Block *start,
                        const uint8_t *text, uint32_t n, Block *after) noexcept nogil:
    """This text has succeeded and has made `after` of `before`."""
    cdef Outcome *newest = set_of(table, whose, before, start, text, n)
    cdef Outcome *goes = found(newest, whose, before, start, text, n)
    if goes == NULL:
        goes = newest + OUTCOME_WAYS - 1
    block_unref(settings, goes.before)
    block_unref(settings, goes.start)
    block_unref(settings, goes.after)
    memmove(newest + 1, newest, <size_t>(goes - newest) * sizeof(Outcome))
    newest.whose = whose
    newest.before = block_ref(settings, before)
    newest.start = block_ref(settings, start)
    newest.after = block_ref(settings, after)
    newest.len = n
    memcpy(newest.text, text, n)
