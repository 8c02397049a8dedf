"""The SQL that makes a server stand as a client wants it; see replay.pxd.

Three forms are needed. `SET "name" = 'value'` is the cheapest. A list such as search_path would take a quoted value as
one element, so it goes through set_config, and so does what is not ASCII.
Role and session authorization are given up first and taken last: what stands between runs with the login's rights. A role is given up
by NONE: what RESET goes back to is none only where the login has no role by default.
Source: PostgreSQL docs, SET, RESET, set_config; GUC_LIST_QUOTE in its guc tables.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp, strlen

from pgpool_core.session.settings cimport MAX_IDENTIFIER_LEN, Block, block_entry, block_get
from pgpool_core.session.text cimport TextOut, plain, put, put_bytes, put_text, text_out
from pgpool_core.wire.span cimport Span

cdef extern from * nogil:
    """
    static const char *const pgpool_quoted_lists[] = {
        "local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces",
    };
    """
    const char *pgpool_quoted_lists[4]

cdef enum:
    N_QUOTED_LISTS = 4

cdef const char *ROLE = "role"
cdef const char *AUTHORIZATION = "session_authorization"


cdef inline bint is_named(Span name, const char *text) noexcept nogil:
    return strlen(text) == name.len and memcmp(text, name.at, name.len) == 0


cdef inline bint is_role(Span name) noexcept nogil:
    return is_named(name, ROLE) or is_named(name, AUTHORIZATION)


cdef inline bint equal(Span a, Span b) noexcept nogil:
    return a.len == b.len and memcmp(a.at, b.at, a.len) == 0


cdef bint is_quoted_list(Span name) noexcept nogil:
    cdef int i
    for i in range(N_QUOTED_LISTS):
        if is_named(name, pgpool_quoted_lists[i]):
            return True
    return False


cdef void put_name(TextOut *o, Span name) noexcept nogil:
    """`"app"."tenant"`; no name has a quotation mark."""
    cdef uint32_t i
    put(o, <const char *>b'"', 1)
    for i in range(name.len):
        if name.at[i] == 0x2E:
            put(o, <const char *>b'"."', 3)
        else:
            put(o, name.at + i, 1)
    put(o, <const char *>b'"', 1)


cdef void put_literal(TextOut *o, Span value) noexcept nogil:
    """A string constant that means the same whatever standard_conforming_strings is."""
    cdef uint32_t i
    if memchr(value.at, 0x5C, value.len) != NULL:
        put(o, <const char *>b"E", 1)
    put(o, <const char *>b"'", 1)
    for i in range(value.len):
        if value.at[i] == 0x27 or value.at[i] == 0x5C:
            put(o, value.at + i, 1)
        put(o, value.at + i, 1)
    put(o, <const char *>b"'", 1)


cdef void put_text_of(TextOut *o, Span text) noexcept nogil:
    if plain(text):
        put_literal(o, text)
    else:
        put_bytes(o, text)


cdef void put_call(TextOut *o, Span name, Span value) noexcept nogil:
    """What set_config returns is the value, which the encoding of before may not have: it is not asked for."""
    put_text(o, "SELECT pg_catalog.set_config(")
    put_text_of(o, name)
    put_text(o, ", ")
    put_text_of(o, value)
    put_text(o, ", false) IS NULL;")


cdef bint as_identifiers(Span name) noexcept nogil:
    """Whether `name` may stand in SQL outside of a string."""
    return plain(name) and name.len <= MAX_IDENTIFIER_LEN


cdef void put_set(TextOut *o, Span name, Span value) noexcept nogil:
    if is_quoted_list(name) or not as_identifiers(name) or not plain(value):
        put_call(o, name, value)
        return
    put_text(o, "SET ")
    put_name(o, name)
    put_text(o, " = ")
    put_literal(o, value)
    put_text(o, ";")


cdef void put_reset(TextOut *o, Span name) noexcept nogil:
    cdef Span nothing
    if not as_identifiers(name):                  # a custom setting: '' is what RESET would make of it
        nothing.at = name.at
        nothing.len = 0
        put_call(o, name, nothing)
        return
    put_text(o, "RESET ")
    put_name(o, name)
    put_text(o, ";")


cdef size_t replay_bound(const Block *have, const Block *want) noexcept nogil:
    """Bytes that are enough for `replay_write`."""
    cdef size_t n = 256
    cdef uint32_t at = 0
    cdef Span name, value
    while have != NULL and at < have.len:
        at = block_entry(have, at, &name, &value)
        n += 3 * <size_t>name.len + 160
    at = 0
    while want != NULL and at < want.len:
        at = block_entry(want, at, &name, &value)
        n += 3 * <size_t>name.len + 2 * <size_t>value.len + 256
    return n


cdef bint same_value(const Block *a, const Block *b, const char *text) noexcept nogil:
    cdef Span name, one, other
    cdef bint in_a, in_b
    name.at = <const uint8_t *>text
    name.len = <uint32_t>strlen(text)
    in_a = block_get(a, name, &one)
    in_b = block_get(b, name, &other)
    return in_a == in_b and (not in_a or equal(one, other))


cdef void put_role(TextOut *o, const Block *block, const char *text, bint reset) noexcept nogil:
    cdef Span name, value
    name.at = <const uint8_t *>text
    name.len = <uint32_t>strlen(text)
    if not block_get(block, name, &value):
        return
    if not reset:
        put_set(o, name, value)
    elif is_named(name, ROLE):
        put_text(o, "SET ROLE NONE;")
    else:
        put_reset(o, name)


cdef bint others_differ(const Block *have, const Block *want) noexcept nogil:
    """Whether anything but role and session authorization does."""
    cdef uint32_t at = 0, n_have = 0, n_want = 0
    cdef Span name, value, old
    while have != NULL and at < have.len:
        at = block_entry(have, at, &name, &value)
        n_have += not is_role(name)
    at = 0
    while want != NULL and at < want.len:
        at = block_entry(want, at, &name, &value)
        if is_role(name):
            continue
        n_want += 1
        if not block_get(have, name, &old) or not equal(old, value):
            return True
    return n_have != n_want


cdef int replay_write(const Block *have, const Block *want, uint8_t *out, size_t cap, size_t *out_len,
                      bint *must_wait) noexcept nogil:
    """Write the SQL that makes a server standing at `have` stand at `want`; `*out_len` is 0 when nothing differs.

    A role that stays is given up too where anything else differs: it may not have the right to set that. `*must_wait` is
    set when a client's query must not be sent before this has succeeded: it changes whose rights count.
    """
    cdef TextOut o = text_out(out, cap)
    cdef uint32_t at = 0
    cdef Span name, value, old
    cdef bint roles
    out_len[0] = 0
    must_wait[0] = not (same_value(have, want, ROLE) and same_value(have, want, AUTHORIZATION))
    roles = must_wait[0] or others_differ(have, want)
    if roles:
        put_role(&o, have, ROLE, True)
        put_role(&o, have, AUTHORIZATION, True)
    while have != NULL and at < have.len:
        at = block_entry(have, at, &name, &value)
        if not is_role(name) and not block_get(want, name, &old):
            put_reset(&o, name)
    at = 0
    while want != NULL and at < want.len:
        at = block_entry(want, at, &name, &value)
        if not is_role(name) and not (block_get(have, name, &old) and equal(old, value)):
            put_set(&o, name, value)
    if roles:                                     # SET SESSION AUTHORIZATION gives up the role: it comes first
        put_role(&o, want, AUTHORIZATION, False)
        put_role(&o, want, ROLE, False)
    if o.at > cap:
        return REPLAY_TOO_LONG
    out_len[0] = o.at
    return REPLAY_OK
