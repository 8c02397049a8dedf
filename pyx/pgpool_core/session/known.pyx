"""Texts that are known; see known.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from pgpool_core.session.effects cimport Effects
from pgpool_core.session.shape cimport SHAPE_MOST, shape_look, shape_of
from pgpool_core.session.sqlscan cimport SqlScan, scan_does_nothing, scan_sql
from pgpool_core.session.sqltoken cimport READ_TRAILING, READ_UNKNOWN


cdef void keep(KnownText *at, uint64_t seen, const uint8_t *text, size_t len, const Effects *effects, const SqlScan *scan) noexcept nogil:
    """Such a text has come to its place."""
    if at.seen != seen:
        at.seen = seen
    else:
        at.effects = effects
        at.len = <uint32_t>len
        at.scan = scan[0]
        memcpy(at.text, text, len)


cdef const SqlScan *known_like(const KnownTexts *known, const uint8_t *text, size_t len, const Effects *effects) noexcept nogil:
    """What has been found in texts of its shape, where that is nothing (`scan_does_nothing`), NULL where they are not known."""
    cdef uint8_t[SHAPE_MOST] shape
    cdef uint32_t n = shape_of(text, len, shape)
    cdef const KnownText *at
    if n < KNOWN_LEAST:
        return NULL
    at = &known.shapes[shape_look(shape, n) & (KNOWN_SHAPES - 1)]
    return &at.scan if known_is(at, shape, n, effects) else NULL


cdef void known_scan(KnownTexts *known, const uint8_t *text, size_t len, const Effects *effects, SqlScan *out) noexcept nogil:
    """`scan_sql`, where nobody knows how strings are read. `effects` live until `known_forget`."""
    cdef const SqlScan *found = known_found(known, text, len, effects)
    cdef uint8_t[SHAPE_MOST] shape
    cdef uint32_t n
    cdef uint64_t seen
    if found != NULL:
        out[0] = found[0]
        return
    scan_sql(text, len, READ_UNKNOWN | READ_TRAILING, effects, out)
    if out.name.at != NULL or out.value.at != NULL:           # which are places in this text
        return
    if KNOWN_LEAST <= len <= KNOWN_MOST:
        seen = known_look(text, len)
        keep(known_place(known, seen), seen, text, len, effects, out)
    if scan_does_nothing(out) and not out.bodies:             # whatever its strings say
        n = shape_of(text, len, shape)
        if n >= KNOWN_LEAST:
            seen = shape_look(shape, n)
            keep(&known.shapes[seen & (KNOWN_SHAPES - 1)], seen, shape, n, effects, out)


cdef void forget(KnownText *at, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(n):
        if at[i].len:                             # the others are not touched: memory that was never used takes none
            at[i].len = 0


cdef void known_forget(KnownTexts *known) noexcept nogil:
    """Other effects are known now."""
    forget(known.all, KNOWN_TEXTS)
    forget(known.shapes, KNOWN_SHAPES)
