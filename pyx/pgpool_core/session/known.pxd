"""Texts that come again and again, and what has been found in them: the same text is the same to `scan_sql` each time.

A text is kept from the second time on that one with its length, beginning and end comes, so that texts with their values in them
do not drive out those without. Found is only what is equal byte by byte.

Of texts with their values in them the shape (`session.shape`) is kept, if what has been found in them is nothing.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from pgpool_core.session.effects cimport Effects
from pgpool_core.session.shape cimport SHAPE_MOST
from pgpool_core.session.sqlscan cimport SqlScan


cdef enum:
    KNOWN_TEXTS = 64              # a power of two
    KNOWN_SHAPES = 256            # the same
    KNOWN_LEAST = 8               # bytes of a text or shape
    KNOWN_MOST = SHAPE_MOST


cdef struct KnownText:
    uint64_t seen                 # what the last text that belonged here looked like
    const Effects *effects        # what was known when it was looked at; compared, never used
    uint32_t len                  # 0 = none
    SqlScan scan                  # borrows nothing
    uint8_t[KNOWN_MOST] text


cdef struct KnownTexts:           # of one thread; all zero = none
    KnownText all[KNOWN_TEXTS]
    KnownText shapes[KNOWN_SHAPES]


cdef extern from *:
    """
    #include <string.h>
    static inline uint64_t pgpool_eight(const uint8_t *at) {
        uint64_t value;
        memcpy(&value, at, 8);
        return value;
    }
    """
    uint64_t eight "pgpool_eight"(const uint8_t *at) nogil


cdef inline uint64_t known_look(const uint8_t *text, size_t len) noexcept nogil:
    """What a text of KNOWN_LEAST bytes or more looks like, as a number."""
    return (eight(text) * <uint64_t>0x9E3779B97F4A7C15 ^ eight(text + len - 8) ^ len) * <uint64_t>0x9E3779B97F4A7C15


cdef inline KnownText *known_place(KnownTexts *known, uint64_t look) noexcept nogil:
    return &known.all[look >> 32 & (KNOWN_TEXTS - 1)]


cdef inline bint known_is(const KnownText *at, const uint8_t *text, size_t len, const Effects *effects) noexcept nogil:
    return at.len == len and at.effects == effects and memcmp(at.text, text, len) == 0


cdef inline const SqlScan *known_found(KnownTexts *known, const uint8_t *text, size_t len, const Effects *effects) noexcept nogil:
    """What has been found in this text, NULL where it is not known; borrowed until the next text is looked at."""
    cdef KnownText *at
    if not KNOWN_LEAST <= len <= KNOWN_MOST:
        return NULL
    at = known_place(known, known_look(text, len))
    return &at.scan if known_is(at, text, len, effects) else NULL


cdef const SqlScan *known_like(const KnownTexts *known, const uint8_t *text, size_t len, const Effects *effects) noexcept nogil
cdef void known_scan(KnownTexts *known, const uint8_t *text, size_t len, const Effects *effects, SqlScan *out) noexcept nogil
cdef void known_forget(KnownTexts *known) noexcept nogil
