"""Remembered outcomes of texts; see outcome.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

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


cdef Outcome *place(Outcome *table, const void *whose, const Block *before, const Block *start, const uint8_t *text,
                    uint32_t n) noexcept nogil:
    cdef uint64_t h = <uint64_t>14695981039346656037 ^ (<uint64_t>before >> 4) ^ (<uint64_t>start << 20)     # FNV-1a
    cdef uint32_t i
    h ^= <uint64_t>whose << 8
    for i in range(n):
        h = (h ^ text[i]) * <uint64_t>1099511628211
    return &table[(h >> 32) % OUTCOMES]


cdef Block *outcome_find(Outcome *table, const void *whose, const Block *before, const Block *start,
                         const uint8_t *text, uint32_t n) noexcept nogil:
    """What `before` became by this text; borrowed. NULL: not known."""
    cdef Outcome *at = place(table, whose, before, start, text, n)
    if at.whose != whose or at.before != before or at.start != start or at.len != n or memcmp(at.text, text, n) != 0:
        return NULL
    return at.after


cdef void outcome_learn(Outcome *table, Settings *settings, const void *whose, Block *before, Block *start,
                        const uint8_t *text, uint32_t n, Block *after) noexcept nogil:
    """This text has succeeded and has made `after` of `before`."""
    cdef Outcome *at = place(table, whose, before, start, text, n)
    block_unref(settings, at.before)
    block_unref(settings, at.start)
    block_unref(settings, at.after)
    at.whose = whose
    at.before = block_ref(settings, before)
    at.start = block_ref(settings, start)
    at.after = block_ref(settings, after)
    at.len = n
    memcpy(at.text, text, n)
