"""Texts that are known; see known.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from pgpool_core.session.effects cimport Effects
from pgpool_core.session.sqlscan cimport SqlScan, scan_sql
from pgpool_core.session.sqltoken cimport READ_TRAILING, READ_UNKNOWN


cdef void known_scan(KnownTexts *known, const uint8_t *text, size_t len, const Effects *effects, SqlScan *out) noexcept nogil:
    """`scan_sql`, where nobody knows how strings are read. `effects` live until `known_forget`."""
    cdef const SqlScan *found = known_found(known, text, len, effects)
    cdef KnownText *at
    cdef uint64_t seen
    if found != NULL:
        out[0] = found[0]
        return
    scan_sql(text, len, READ_UNKNOWN | READ_TRAILING, effects, out)
    if not KNOWN_LEAST <= len <= KNOWN_MOST:
        return
    seen = known_look(text, len)
    at = known_place(known, seen)
    if at.seen != seen:
        at.seen = seen
    elif out.name.at == NULL and out.value.at == NULL:        # which would be places in this text
        at.effects = effects
        at.len = <uint32_t>len
        at.scan = out[0]
        memcpy(at.text, text, len)


cdef void known_forget(KnownTexts *known) noexcept nogil:
    """Other effects are known now."""
    cdef uint32_t i
    for i in range(KNOWN_TEXTS):
        known.all[i].len = 0
