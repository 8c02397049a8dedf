"""Finding and replacing statement names; see rewrite.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from pgpool_core.statements.names cimport MAX_NAME_LEN
from pgpool_core.statements.text cimport NOWHERE, server_name
from pgpool_core.wire.be cimport load_be16, load_be32, store_be32
from pgpool_core.wire.codes cimport BE_ERROR, FE_BIND, FE_CLOSE, FE_DESCRIBE, FE_EXECUTE, FE_PARSE, FE_SYNC

cdef enum:
    OF_STATEMENT = 0x53           # 'S' in Describe and Close
    OF_PORTAL = 0x50              # 'P'
    OUR_PREFIX_LEN = 7            # pgpool_
    OF_NAME_LEN = 20
    USED_MOST = 64                # length word of the messages behind the Parse
    UNNAMED_LEN = 26
    QUOTED_LEN = OF_NAME_LEN + SERVER_NAME_LEN + 1

cdef const char *OF_NAME = 'prepared statement "'
cdef const char *UNNAMED = "unnamed prepared statement"


cdef int string_end(const uint8_t *body, uint32_t at, uint32_t have, uint32_t body_len, uint32_t *end) noexcept nogil:
    """Where the string that begins at `at` has its zero."""
    cdef uint32_t most = MAX_NAME_LEN + 1
    cdef const uint8_t *zero = NULL
    if at < have and body[at] == 0:               # no name, as most have none
        end[0] = at
        return NAME_FOUND
    if have - at < most:
        most = have - at
    if most:
        zero = <const uint8_t *>memchr(body + at, 0, most)
    if zero != NULL:
        end[0] = <uint32_t>(zero - body)
        return NAME_FOUND
    if have - at > MAX_NAME_LEN:
        return NAME_TOO_LONG
    return NAME_BROKEN if have == body_len else NAME_NEED_MORE


cdef int name_place(uint8_t fe_type, const uint8_t *body, uint32_t have, uint32_t body_len,
                    NamePlace *out) noexcept nogil:
    """The statement's name in a Parse, Bind, Describe or Close, of whose body `have` bytes are there.

    `out` is written on NAME_FOUND, and for the unnamed statement, whose name is empty.
    """
    cdef uint32_t at = 0, end = 0
    cdef int r
    if fe_type == FE_BIND:
        r = string_end(body, 0, have, body_len, &end)       # the portal
        if r != NAME_FOUND:
            return r
        at = end + 1
    elif fe_type != FE_PARSE:
        if body_len == 0:
            return NAME_BROKEN
        if have == 0:
            return NAME_NEED_MORE
        if body[0] == OF_PORTAL:
            return NAME_NONE
        if body[0] != OF_STATEMENT:
            return NAME_BROKEN
        at = 1
    r = string_end(body, at, have, body_len, &end)
    if r != NAME_FOUND:
        return r
    if fe_type != FE_BIND and fe_type != FE_PARSE and end + 1 != body_len:
        return NAME_BROKEN                        # something behind the name
    out.name.at = body + at
    out.name.len = end - at
    out.at = at
    out.end = end + 1
    return NAME_FOUND if end > at else NAME_NONE


cdef bint parse_text_ok(const uint8_t *text, uint32_t n) noexcept nogil:
    """A Parse body behind the name is what PostgreSQL takes: query, zero, Int16, and as many OIDs."""
    cdef const uint8_t *zero = <const uint8_t *>memchr(text, 0, n) if n else NULL
    cdef uint32_t at
    if zero == NULL:
        return False
    at = <uint32_t>(zero - text) + 1
    return n - at >= 2 and n - at == 2 + 4 * <uint32_t>load_be16(text + at)


cdef int used_once(const uint8_t *group, size_t n) noexcept nogil:
    """Whether a group is a Parse, a Bind and an Execute of the unnamed statement and portal, perhaps Describes, and Sync.

    `group` begins with the Parse, which is whole. USED_NEED_MORE: so far it is.
    """
    cdef size_t at = HEADER_LEN + load_be32(group + 1) - 4
    cdef uint32_t length
    cdef uint8_t kind
    cdef uint8_t last = FE_PARSE
    cdef const uint8_t *body
    while n - at >= HEADER_LEN:
        kind = group[at]
        length = load_be32(group + at + 1)
        if length < 4 or length > USED_MOST:
            return USED_NOT
        length -= 4
        if length > n - at - HEADER_LEN:
            return USED_NEED_MORE
        body = group + at + HEADER_LEN
        if kind == FE_SYNC:
            return USED_ONCE if last == FE_EXECUTE else USED_NOT
        if kind == FE_BIND and last == FE_PARSE and length >= 2 and body[0] == 0 and body[1] == 0:
            last = FE_BIND
        elif kind == FE_EXECUTE and last == FE_BIND and length == 5 and body[0] == 0:
            last = FE_EXECUTE
        elif not (kind == FE_DESCRIBE and length == 2 and body[1] == 0):
            return USED_NOT
        at += HEADER_LEN + <size_t>length
    return USED_NEED_MORE


cdef bint name_like_ours(Span name) noexcept nogil:
    """A client's name that could be the name of somebody's statement at the server."""
    cdef uint8_t[SERVER_NAME_LEN] ours
    server_name(ours, 0)
    return name.len >= OUR_PREFIX_LEN and memcmp(name.at, ours, OUR_PREFIX_LEN) == 0


cdef uint32_t put_close(uint8_t *out, uint64_t id) noexcept nogil:
    """Close of the statement `id`: SHORT_LEN bytes."""
    out[0] = FE_CLOSE
    store_be32(out + 1, SHORT_LEN - 1)
    out[HEADER_LEN] = OF_STATEMENT
    server_name(out + HEADER_LEN + 1, id)
    out[SHORT_LEN - 1] = 0
    return SHORT_LEN


cdef uint32_t put_parse_head(uint8_t *out, uint64_t id, uint32_t text_len) noexcept nogil:
    """A Parse of the statement `id` up to its text, which is to follow: PARSE_HEAD_LEN bytes."""
    out[0] = FE_PARSE
    store_be32(out + 1, PARSE_HEAD_LEN - 1 + text_len)
    server_name(out + HEADER_LEN, id)
    out[PARSE_HEAD_LEN - 1] = 0
    return PARSE_HEAD_LEN


cdef uint32_t put_renamed(uint8_t *out, uint8_t fe_type, const uint8_t *body, uint32_t body_len,
                          const NamePlace *place, uint64_t id) noexcept nogil:
    """The message up to `place.end`, with the name of statement `id` instead of its own: at most RENAMED_MAX bytes."""
    out[0] = fe_type
    store_be32(out + 1, 4 + body_len - place.name.len + SERVER_NAME_LEN)
    memcpy(out + HEADER_LEN, body, place.at)
    server_name(out + HEADER_LEN + place.at, id)
    out[HEADER_LEN + place.at + SERVER_NAME_LEN] = 0
    return HEADER_LEN + place.at + SERVER_NAME_LEN + 1


cdef bint error_fields(const uint8_t *body, uint32_t n, ErrorFields *out) noexcept nogil:
    """Read an ErrorResponse; False when it is not well formed."""
    cdef uint32_t at = 0
    cdef const uint8_t *zero
    cdef Span value
    cdef uint8_t code
    out.sqlstate.at = out.message.at = out.routine.at = body
    out.sqlstate.len = out.message.len = out.routine.len = 0
    while at < n and body[at] != 0:
        code = body[at]
        at += 1
        zero = <const uint8_t *>memchr(body + at, 0, n - at) if at < n else NULL
        if zero == NULL:
            return False
        value.at = body + at
        value.len = <uint32_t>(zero - value.at)
        if code == 0x43:                          # 'C'
            out.sqlstate = value
        elif code == 0x4D:                        # 'M'
            out.message = value
        elif code == 0x52:                        # 'R'
            out.routine = value
        at += value.len + 1
    return at + 1 == n


cdef inline int digit(uint8_t c) noexcept nogil:
    if 0x30 <= c <= 0x39:
        return c - 0x30
    if 0x61 <= c <= 0x66:
        return c - 0x57
    return -1


cdef bint find_server_name(Span text, uint64_t *id) noexcept nogil:
    """The first name of ours in `text`."""
    cdef uint8_t[SERVER_NAME_LEN] ours
    cdef uint32_t at = 0, i
    cdef uint64_t number
    server_name(ours, 0)
    while at + SERVER_NAME_LEN <= text.len:
        if memcmp(text.at + at, ours, OUR_PREFIX_LEN) == 0:
            number = 0
            for i in range(<uint32_t>OUR_PREFIX_LEN, <uint32_t>SERVER_NAME_LEN):
                if digit(text.at[at + i]) < 0:
                    break
                number = number << 4 | <uint64_t>digit(text.at[at + i])
            else:
                id[0] = number
                return True
        at += 1
    return False


cdef size_t put_unnamed(uint8_t *out, size_t cap, const uint8_t *body, uint32_t n) noexcept nogil:
    """The whole ErrorResponse about the statement NOWHERE, as PostgreSQL words it for the unnamed one; 0: too small.

    In its other languages only the name is taken out.
    """
    cdef uint8_t[QUOTED_LEN] quoted
    cdef uint32_t at
    cdef size_t used
    cdef Span nothing
    nothing.at = body
    nothing.len = 0
    memcpy(quoted, OF_NAME, OF_NAME_LEN)
    server_name(quoted + OF_NAME_LEN, NOWHERE)
    quoted[QUOTED_LEN - 1] = 0x22
    at = 0
    while at + QUOTED_LEN <= n and not (body[at] == quoted[0] and memcmp(body + at, quoted, QUOTED_LEN) == 0):
        at += 1
    if at + QUOTED_LEN > n:
        return put_error(out, cap, body, n, NOWHERE, nothing)
    used = HEADER_LEN + <size_t>n - QUOTED_LEN + UNNAMED_LEN
    if used > cap:
        return 0
    out[0] = BE_ERROR
    store_be32(out + 1, <uint32_t>(used - 1))
    memcpy(out + HEADER_LEN, body, at)
    memcpy(out + HEADER_LEN + at, UNNAMED, UNNAMED_LEN)
    memcpy(out + HEADER_LEN + at + UNNAMED_LEN, body + at + QUOTED_LEN, n - at - QUOTED_LEN)
    return used


cdef size_t put_error(uint8_t *out, size_t cap, const uint8_t *body, uint32_t n, uint64_t id, Span name) noexcept nogil:
    """The whole ErrorResponse with `name` wherever the name of statement `id` stands; 0 when `cap` is too small."""
    cdef uint8_t[SERVER_NAME_LEN] ours
    cdef uint32_t at = 0
    cdef size_t used = HEADER_LEN
    server_name(ours, id)
    while at < n:
        if n - at >= SERVER_NAME_LEN and body[at] == 0x70 and memcmp(body + at, ours, SERVER_NAME_LEN) == 0:
            if name.len > cap or used > cap - name.len:
                return 0
            memcpy(out + used, name.at, name.len)
            used += name.len
            at += SERVER_NAME_LEN
        else:
            if used >= cap:
                return 0
            out[used] = body[at]
            used += 1
            at += 1
    if cap < HEADER_LEN:
        return 0
    out[0] = BE_ERROR
    store_be32(out + 1, <uint32_t>(used - 1))
    return used
