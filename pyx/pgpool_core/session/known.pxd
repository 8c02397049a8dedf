"""Texts that come again and again, and what has been found in them: the same text is the same to `scan_sql` each time.

A text is kept from the second time on that one with its length, beginning and end comes, so that texts with their values in them
do not drive out those without. Found is only what is equal byte by byte.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.session.effects cimport Effects
from pgpool_core.session.sqlscan cimport SqlScan


cdef enum:
    KNOWN_TEXTS = 64              # a power of two
    KNOWN_LEAST = 8               # bytes of a text
    KNOWN_MOST = 360


cdef struct KnownText:
    uint64_t seen                 # what the last text that belonged here looked like
    const Effects *effects        # what was known when it was looked at; compared, never used
    uint32_t len                  # 0 = none
    SqlScan scan                  # borrows nothing
    uint8_t[KNOWN_MOST] text


cdef struct KnownTexts:           # of one thread; all zero = none
    KnownText all[KNOWN_TEXTS]


cdef void known_scan(KnownTexts *known, const uint8_t *text, size_t len, const Effects *effects, SqlScan *out) noexcept nogil
cdef void known_forget(KnownTexts *known) noexcept nogil
