"""Texts that are known; see known.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from pgpool_core.session.effects cimport Effects
from pgpool_core.session.sqlscan cimport SqlScan, scan_sql
from pgpool_core.session.sqltoken cimport READ_TRAILING, READ_UNKNOWN


cdef inline uint64_t eight(const uint8_t *at) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, at, 8)
    return value


cdef void known_scan(KnownTexts *known, const uint8_t *text, size_t len, const Effects *effects, SqlScan *out) noexcept nogil:
    """`scan_sql`, where nobody knows how strings are read. `effects` live until `known_forget`."""
    cdef KnownText *at
    cdef uint64_t seen
    if not KNOWN_LEAST <= len <= KNOWN_MOST:
        scan_sql(text, len, READ_UNKNOWN | READ_TRAILING, effects, out)
        return
    seen = (eight(text) * <uint64_t>0x9E3779B97F4A7C15 ^ eight(text + len - 8) ^ len) * <uint64_t>0x9E3779B97F4A7C15
    at = &known.all[seen >> 32 & (KNOWN_TEXTS - 1)]
    if at.len == len and at.effects == effects and memcmp(at.text, text, len) == 0:
        out[0] = at.scan
        return
    scan_sql(text, len, READ_UNKNOWN | READ_TRAILING, effects, out)
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
