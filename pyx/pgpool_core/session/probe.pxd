"""Asking PostgreSQL which session state is left on a server connection.

One query, asked between two transactions; which parts it has is chosen by what the client's statements may have done.
Every answer is a row of three texts: kind, name, value. The last two are in ASCII: `found_unescape` makes them the
bytes that blocks have. Names of channels alone are in the session's client_encoding, as in the texts of its client.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.session.settings cimport Block
from pgpool_core.wire.span cimport Span


cdef enum:
    PROBE_SETTINGS = 1            # bits: parts of the query
    PROBE_PREPARED = 2
    PROBE_CURSORS = 4
    PROBE_LISTENS = 8
    PROBE_TEMPORARY = 16
    PROBE_LOCKS = 32
    PROBE_ALL = 63
    PROBE_HIDDEN = 128            # with PROBE_SETTINGS: also what pg_settings hides from the role of that moment
    PROBE_PROTOCOL = 64           # not part of ALL: named statements of the protocol may be the pooler's own

    FOUND_SETTING = 0x73          # 's': a setting that differs from what the connection began with
    FOUND_NAMED = 0x6E            # 'n': the value of a setting that PostgreSQL does not list
    FOUND_PREPARED = 0x70         # 'p': a statement of SQL's PREPARE
    FOUND_CURSOR = 0x63           # 'c': a cursor WITH HOLD
    FOUND_LISTEN = 0x6C           # 'l': a channel
    FOUND_TEMPORARY = 0x74        # 't': something in the temporary schema
    FOUND_LOCK = 0x6B             # 'k': a session-level advisory lock
    FOUND_PROTOCOL = 0x50         # 'P': a named statement of the extended protocol

    PROBE_END = 0
    PROBE_ROW = 1
    PROBE_BROKEN = -1             # not the answer to such a query

    MAX_PROBED_NAMES = 64


cdef struct Found:                # borrowed from the answer
    uint8_t kind                  # FOUND_*
    Span name
    Span value


cdef struct SettingNames:                # names of custom settings that a text mentions; zero, name, zero, ...: owns nothing
    uint32_t len
    uint32_t count
    uint8_t overflow              # there were more: what is left cannot be known
    uint8_t data[2048]


cdef void names_find(SettingNames *names, const uint8_t *text, size_t n) noexcept nogil
cdef void names_add(SettingNames *names, Span name) noexcept nogil
cdef size_t probe_write(uint8_t parts, const Block *have, const SettingNames *names, uint8_t *out, size_t cap) noexcept nogil
cdef int probe_next(const uint8_t *answer, size_t n, size_t *at, Found *out) noexcept nogil
cdef bint found_unescape(Found *found, uint8_t **owned) noexcept nogil
