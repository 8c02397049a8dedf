"""Groups that may be sent once more; see again.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr

from pgpool_core.statements.names cimport Name, Names, names_find
from pgpool_core.statements.rewrite cimport NAME_FOUND, NamePlace, name_place
from pgpool_core.statements.text cimport Statement
from pgpool_core.wire.be cimport load_be16, load_be32
from pgpool_core.wire.codes cimport FE_BIND, FE_CLOSE, FE_DESCRIBE, FE_EXECUTE, FE_FLUSH, FE_SYNC
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport Span, same

cdef enum:
    OF_PORTAL = 0x50              # 'P' in Describe and Close


cdef inline Statement *meant(Names *names, Span name) noexcept nogil:
    cdef Name *found = names_find(names, name)
    if found == NULL:
        return NULL
    return found.stands if found.stands != NULL else found.planned


cdef bint declared(const Statement *statement, uint32_t i) noexcept nogil:
    """Whether the type of parameter `i` is the client's word, not what PostgreSQL has made of the text."""
    cdef const uint8_t *zero = <const uint8_t *>memchr(statement.data, 0, statement.len)
    cdef const uint8_t *types
    if zero == NULL or <size_t>(statement.data + statement.len - zero) < 3:
        return False
    types = zero + 3
    return i < load_be16(zero + 1) and load_be32(types + 4 * <size_t>i) != 0


cdef bint values_stay(const Statement *statement, const uint8_t *body, uint32_t n, uint32_t at) noexcept nogil:
    """Whether the rest of a Bind, from its format codes on, means the same for the statement prepared anew.

    A value in text is read by the type of that moment. One in binary is what it is. With more than one format for the
    columns of the result, there would have to be as many columns as before.
    """
    cdef uint32_t formats, values, i, code, length
    cdef const uint8_t *codes
    if n - at < 2:
        return False
    formats = load_be16(body + at)
    codes = body + at + 2
    if n - at - 2 < 2 * formats + 2:
        return False
    at += 2 + 2 * formats
    values = load_be16(body + at)
    at += 2
    for i in range(values):
        code = 0
        if formats == 1:
            code = load_be16(codes)
        elif i < formats:
            code = load_be16(codes + 2 * <size_t>i)
        if code and not declared(statement, i):
            return False
        if n - at < 4:
            return False
        length = load_be32(body + at)
        at += 4
        if length == <uint32_t>-1:
            continue
        if length > n - at:
            return False
        at += length
    if n - at < 2:
        return False
    formats = load_be16(body + at)
    return formats <= 1 and n - at == 2 + 2 * formats


cdef bint again_fits(Names *names, const uint8_t *group, size_t n) noexcept nogil:
    """Whether `group`, whole messages, up to a Sync if there is one, is nothing but named statements described and used.

    Each is bound to the unnamed portal. Between its Bind and its Execute the portal is described, or the statement was
    before the Bind: so the client is told of the rows before they come.
    """
    cdef size_t at = 0
    cdef uint32_t length
    cdef uint8_t kind
    cdef const uint8_t *body
    cdef NamePlace place
    cdef Statement *statement
    cdef Span told                # the statement that was described last; borrows from `group`
    cdef bint bound = False, shown = False
    told.at = group
    told.len = 0
    while n - at >= HEADER_LEN:
        kind = group[at]
        length = load_be32(group + at + 1)
        if length < 4 or length - 4 > n - at - HEADER_LEN:
            return False
        length -= 4
        body = group + at + HEADER_LEN
        at += HEADER_LEN + <size_t>length
        if kind == FE_SYNC:
            return at == n
        if kind == FE_BIND:
            if name_place(kind, body, length, length, &place) != NAME_FOUND or body[0] != 0:
                return False
            statement = meant(names, place.name)
            if statement == NULL or not values_stay(statement, body, length, place.end):
                return False
            bound = True
            shown = told.len != 0 and same(told, place.name)
        elif kind == FE_DESCRIBE and length == 2 and body[0] == OF_PORTAL and body[1] == 0:
            if not bound:
                return False
            shown = True
        elif kind == FE_DESCRIBE:
            if name_place(kind, body, length, length, &place) != NAME_FOUND or meant(names, place.name) == NULL:
                return False
            told = place.name
        elif kind == FE_EXECUTE:
            if not shown or length != 5 or body[0] != 0:
                return False
        elif not (kind == FE_FLUSH or kind == FE_CLOSE and length == 2 and body[0] == OF_PORTAL and body[1] == 0):
            return False
    return at == n
