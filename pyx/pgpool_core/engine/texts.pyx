"""What control says, as the plane keeps it; see texts.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.engine.buf cimport Buf, buf_add, buf_free
from pgpool_core.engine.terms cimport PATIENCES
from pgpool_core.session.settings cimport (MAX_NAME_LEN, SETTINGS_OK, Block, Settings, block_unref, block_with, put_setting,
                                           setting_name, setting_tracked)
from pgpool_core.wire.span cimport Span


cdef Span span(bytes text):
    cdef Span s
    s.at = <const uint8_t *><const char *>text
    s.len = <uint32_t>len(text)
    return s


cdef int set_text(Buf *b, bytes text) except -1:
    buf_free(b)
    if text and not buf_add(b, <const uint8_t *><const char *>text, len(text)):
        raise MemoryError
    return 0


cdef int set_times(uint64_t *times, patience) except -1:
    """None = as the pool says."""
    cdef uint32_t i
    if len(patience) != PATIENCES:
        raise ValueError(f"{PATIENCES} times are needed")
    for i in range(PATIENCES):
        times[i] = <uint64_t>-1 if patience[i] is None else patience[i]
    return 0


cdef int set_pairs(Buf *b, parameters) except -1:
    return set_text(b, b"".join(key + b"\0" + value + b"\0" for key, value in parameters))


cdef int add_began(Settings *settings, Block **block, pairs) except -1:
    """Put `pairs`, settings of any name, into `block` too."""
    cdef uint8_t[MAX_NAME_LEN] room
    cdef Span canonical
    for key, value in pairs:
        if setting_name(span(key), room, &canonical) == SETTINGS_OK and not put_setting(settings, block, canonical, span(value)):
            raise MemoryError
    return 0


cdef int add_settings(Settings *settings, Block **block, parameters) except -1:
    """Put the tracked settings among `parameters` into `block`, a reference that is the caller's."""
    cdef Span name, canonical
    cdef Block *fresh
    for key, value in parameters:
        name = span(key)
        if setting_tracked(name, &canonical) and block_with(settings, block[0], canonical, span(value),
                                                            &fresh) == SETTINGS_OK:
            block_unref(settings, block[0])
            block[0] = fresh
    return 0
