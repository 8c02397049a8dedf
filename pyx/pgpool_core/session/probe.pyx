"""Asking PostgreSQL which session state is left; see probe.pxd.

`pg_settings` lists neither custom settings (`app.tenant`) nor role and session_authorization, so these are asked for by
name: the names that the connection is known to have, and those that look like one in a text that may set something.
Every object is named with its schema: a client's search_path may put others in front. Answers come in ASCII, bytes of
the database's encoding written as encode() does with `escape`: client_encoding may have no such character.
Source: PostgreSQL docs, System Views; pg_settings.source is `session` after SET.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport malloc
from libc.string cimport memchr, memcmp, memcpy, strlen

from pgpool_core.session.settings cimport MAX_IDENTIFIER_LEN, MAX_NAME_LEN, Block, block_entry, setting_name
from pgpool_core.session.sqltoken cimport BYTE_KINDS, BYTE_SPACE, past_comment, past_line
from pgpool_core.session.text cimport TextOut, plain, put, put_bytes, put_text, text_out
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.codes cimport BE_DATA_ROW
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport Span

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef extern from * nogil:
    """
    #define ESCAPED(text) "pg_catalog.encode(pg_catalog.convert_to(" text ", pg_catalog.getdatabaseencoding()), 'escape')"
    static const char pgpool_probe_settings[] =
        "SELECT 's'::pg_catalog.text, name, " ESCAPED("setting") " FROM pg_catalog.pg_settings"
        " WHERE source OPERATOR(pg_catalog.=) 'session' UNION ALL SELECT 'n', " ESCAPED("n") ", "
        ESCAPED("pg_catalog.current_setting(n, true)")
        " FROM pg_catalog.unnest(ARRAY['role', 'session_authorization'";
    /* What a superuser has set is hidden from a role that is none: looked at with the rights of the login. */
    static const char pgpool_probe_hidden[] =
        ";BEGIN;SET LOCAL SESSION AUTHORIZATION DEFAULT;SELECT 's'::pg_catalog.text, name, " ESCAPED("setting")
        " FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'"
        " AND (name OPERATOR(pg_catalog.=) 'dynamic_library_path'"
        " OR name OPERATOR(pg_catalog.=) 'session_preload_libraries'"
        " OR name OPERATOR(pg_catalog.=) 'extension_control_path'"
        " OR name OPERATOR(pg_catalog.=) 'output_plugin_libraries');ROLLBACK";
    static const struct { unsigned part; const char *sql; } pgpool_probe_parts[] = {
        {2, "SELECT 'p', " ESCAPED("name") ", '' FROM pg_catalog.pg_prepared_statements WHERE from_sql"},
        {4, "SELECT 'c', " ESCAPED("name") ", '' FROM pg_catalog.pg_cursors WHERE is_holdable"},
        {8, "SELECT 'l', c, '' FROM pg_catalog.pg_listening_channels() c"},
        /* Whatever is in the schema depends on it: tables, functions, types, collations, operators ... */
        {16, "SELECT 't', objid::pg_catalog.text, '' FROM pg_catalog.pg_depend"
             " WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
             " AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()"},
        {32, "SELECT 'k', '', '' FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
             " AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()"},
        {64, "SELECT 'P', " ESCAPED("name") ", '' FROM pg_catalog.pg_prepared_statements WHERE NOT from_sql"},
    };
    """
    const char *pgpool_probe_settings
    const char *pgpool_probe_hidden
    cdef struct pgpool_probe_part:
        unsigned int part
        const char *sql
    pgpool_probe_part pgpool_probe_parts[6]

cdef enum:
    N_PARTS = 6
    ROOM_FOR_COMMENTS = 65536     # bytes that are gone past in one text to find names behind SET: comments may hold others


cdef inline bint begins_name(uint8_t b) noexcept nogil:
    return 0x41 <= b <= 0x5A or 0x61 <= b <= 0x7A or b == 0x5F or b >= 0x80


cdef inline bint in_name(uint8_t b) noexcept nogil:
    return begins_name(b) or 0x30 <= b <= 0x39 or b == 0x24


cdef void names_add(SettingNames *names, Span name) noexcept nogil:
    """Remember `name`, as blocks spell it; what cannot be a setting's name is left out."""
    cdef uint8_t[MAX_NAME_LEN] spelled
    cdef Span canonical
    cdef const uint8_t *at = names.data
    cdef const uint8_t *end = names.data + names.len
    if setting_name(name, spelled, &canonical) != 0:
        return
    while at < end:
        if strlen(<const char *>at) == canonical.len and memcmp(at, canonical.at, canonical.len) == 0:
            return
        at += strlen(<const char *>at) + 1
    if names.count == MAX_PROBED_NAMES or names.len + canonical.len + 1 > sizeof(names.data):
        names.overflow = 1
        return
    memcpy(names.data + names.len, canonical.at, canonical.len)
    names.data[names.len + canonical.len] = 0
    names.len += canonical.len + 1
    names.count += 1


cdef uint32_t clip(uint8_t *name, uint32_t n) noexcept nogil:
    """Cut each part of `name` as PostgreSQL does; the length that is left."""
    cdef uint32_t i, part = 0, end = 0
    for i in range(n):
        part = 0 if name[i] == 0x2E else part + 1
        if part <= MAX_IDENTIFIER_LEN:
            name[end] = name[i]
            end += 1
    return end


cdef bint is_word(const uint8_t *at, uint32_t n, const char *word) noexcept nogil:
    return n == strlen(word) and strncasecmp(<const char *>at, word, n) == 0


cdef const uint8_t *past_gap(const uint8_t *at, const uint8_t *end, size_t *room) noexcept nogil:
    """Where white space and comments at `at` end; NULL where comments are longer than the `room` that is left for them all."""
    cdef const uint8_t *begin
    cdef const uint8_t *stop
    while at < end:
        if BYTE_KINDS[at[0]] == BYTE_SPACE:
            at += 1
            continue
        if end - at < 2 or not (at[0] == 0x2D and at[1] == 0x2D or at[0] == 0x2F and at[1] == 0x2A):
            break
        begin = at
        stop = end if <size_t>(end - at) <= room[0] else at + room[0]
        at = past_line(at, stop) if at[0] == 0x2D else past_comment(at, stop)
        room[0] -= at - begin
        if at == stop and stop < end:
            return NULL
    return at


cdef const uint8_t *take_part(const uint8_t *at, const uint8_t *end, uint8_t *name, uint32_t *n) noexcept nogil:
    """Add the word at `at`, quoted or not, to `name`; what is behind it, or `at` where there is none or no room for it."""
    cdef const uint8_t *begin = at
    cdef bint quoted = at < end and at[0] == 0x22
    at += quoted
    if at == end or not begins_name(at[0]):
        return begin
    while at < end and (in_name(at[0]) or quoted and at[0] == 0x2E):
        if n[0] == MAX_NAME_LEN:
            return begin
        name[n[0]] = at[0]
        n[0] += 1
        at += 1
    if quoted:
        if at == end or at[0] != 0x22:
            return begin
        at += 1
    return at


cdef void set_name(SettingNames *names, const uint8_t *at, const uint8_t *end, size_t *room) noexcept nogil:
    """Remember the name behind the SET or RESET in front of `at`, where something stands around its dots."""
    cdef uint8_t[MAX_NAME_LEN + 1] joined
    cdef const uint8_t *past
    cdef uint32_t length = 0, dots = 0
    cdef Span name
    while True:
        at = past_gap(at, end, room)
        past = take_part(at, end, joined, &length) if at != NULL else NULL
        if past == at:
            break
        if end - past >= 2 and past[0] == 0x26 and past[1] == 0x22:     # U&"...": it may be any name
            names.overflow = 1
        at = past_gap(past, end, room)
        if at == NULL:
            break
        if at < end and at[0] == 0x2E and length < MAX_NAME_LEN:
            joined[length] = 0x2E
            length += 1
            dots += 1
            at += 1
        elif dots == 0 and (is_word(joined, length, b"session") or is_word(joined, length, b"local")):
            length = 0
        else:
            break
    if at == NULL:
        names.overflow = 1
    elif dots and joined[length - 1] != 0x2E:
        name.at = joined
        name.len = clip(joined, length)
        names_add(names, name)


cdef uint32_t last_word(const uint8_t *joined, uint32_t n) noexcept nogil:
    """Where in `joined` begins what is behind its last dollar."""
    while n and joined[n - 1] != 0x24:
        n -= 1
    return n


cdef void add_dotted(SettingNames *names, const uint8_t *at, uint32_t n) noexcept nogil:
    cdef Span name
    if n and begins_name(at[0]) and memchr(at, 0x2E, n) != NULL:
        name.at = at
        name.len = n
        names_add(names, name)


cdef void between_dollars(SettingNames *names, const uint8_t *joined, uint32_t n) noexcept nogil:
    """Remember what of `joined` is a name where its dollars quote: `$$app.x$$`, `$tag$app.x$tag$`, others around that.

    A name may have dollars of its own, too. That is found between two tags at most.
    """
    cdef uint32_t begin = 0, end = n, first = n, last, i
    for i in range(n + 1):
        if i < n and joined[i] != 0x24:
            continue
        add_dotted(names, joined + begin, i - begin)
        if first == n and i < n and memchr(joined, 0x2E, i) == NULL:
            first = i                             # of the tag in front
        begin = i + 1
    if joined[n - 1] == 0x24:
        last = last_word(joined, n - 1)
        if last and memchr(joined + last, 0x2E, n - last) == NULL:
            end = last - 1                        # in front of the tag behind it
    add_dotted(names, joined, end)
    if first < end:
        add_dotted(names, joined + first + 1, n - first - 1)
        add_dotted(names, joined + first + 1, end - first - 1)


cdef void names_find(SettingNames *names, const uint8_t *text, size_t n) noexcept nogil:
    """Remember every `word.word` of a text or a Bind message, quoted or not: one of them may be a custom setting.

    Most are a table and its schema; asking for a setting that does not exist costs nothing. Where there is something around
    the dot only what follows SET and RESET is meant: any prose has words, a dot, and words again.
    """
    cdef size_t i = 0, begin, room = ROOM_FOR_COMMENTS
    cdef Span name
    cdef uint8_t[MAX_NAME_LEN + 1] joined
    cdef uint32_t length, dots, word
    while i < n:
        if not begins_name(text[i]):
            i += 1
            continue
        begin = i
        length = dots = 0
        while i < n and length <= MAX_NAME_LEN:
            if in_name(text[i]):
                joined[length] = text[i]
                length += 1
                i += 1
            elif text[i] == 0x2E and i + 1 < n and begins_name(text[i + 1]):
                joined[length] = 0x2E
                length += 1
                dots += 1
                i += 1
            elif text[i] == 0x22 and i + 2 < n and text[i + 1] == 0x2E and (text[i + 2] == 0x22 or begins_name(text[i + 2])):
                joined[length] = 0x2E         # "word"."word"
                length += 1
                dots += 1
                i += 3 if text[i + 2] == 0x22 else 2
            elif text[i] == 0x2E and i + 2 < n and text[i + 1] == 0x22 and begins_name(text[i + 2]):
                joined[length] = 0x2E
                length += 1
                dots += 1
                i += 2
            else:
                break
        if dots == 0:
            word = last_word(joined, length)      # $tag$set
            if is_word(joined + word, length - word, b"set") or is_word(joined + word, length - word, b"reset"):
                set_name(names, text + i, text + n, &room)
        elif length <= MAX_NAME_LEN:
            if memchr(joined, 0x24, length) != NULL:
                between_dollars(names, joined, length)
            name.at = joined
            name.len = length
            names_add(names, name)
            if begin and text[begin - 1] == 0x5C:     # E'set\napp.x = 1'
                name.at += 1
                name.len -= 1
                names_add(names, name)
                name.at = joined
            if length > MAX_IDENTIFIER_LEN:
                name.len = MAX_IDENTIFIER_LEN     # "word.word"
                names_add(names, name)
                name.len = clip(joined, length)
                names_add(names, name)
        if i == begin:
            i += 1


cdef size_t probe_write(uint8_t parts, const Block *have, const SettingNames *names, uint8_t *out, size_t cap) noexcept nogil:
    """Write the query that asks for `parts`; 0 when it does not fit, or when `names` is not the whole truth.

    Args:
        have: what the server is believed to stand at; its custom settings are asked for too.
    """
    cdef TextOut o = text_out(out, cap)
    cdef uint32_t at = 0
    cdef int i
    cdef Span name, value
    cdef const uint8_t *next = names.data
    cdef const uint8_t *end = names.data + names.len
    if names.overflow and parts & PROBE_SETTINGS:
        return 0
    if parts & PROBE_SETTINGS:
        put_text(&o, pgpool_probe_settings)
        while have != NULL and at < have.len:
            at = block_entry(have, at, &name, &value)
            if memchr(name.at, 0x2E, name.len) != NULL:
                put_text(&o, ", ")
                if plain(name):
                    put_text(&o, "'")
                    put(&o, name.at, name.len)
                    put_text(&o, "'")
                else:
                    put_bytes(&o, name)
        while next < end:
            put_text(&o, ", '")
            put_text(&o, <const char *>next)
            put_text(&o, "'")
            next += strlen(<const char *>next) + 1
        put_text(&o, "]::pg_catalog.text[]) n")
    else:
        put_text(&o, "SELECT ''::pg_catalog.text, ''::pg_catalog.text, ''::pg_catalog.text WHERE false")
    for i in range(N_PARTS):
        if parts & pgpool_probe_parts[i].part:
            put_text(&o, " UNION ALL ")
            put_text(&o, pgpool_probe_parts[i].sql)
    if parts & PROBE_HIDDEN:
        put_text(&o, pgpool_probe_hidden)
    if o.at > cap:
        return 0
    return o.at


cdef uint32_t unescape(Span text, uint8_t *out) noexcept nogil:
    """Write what `text` stands for into `out`, which has room for `text.len` bytes; how many it is.

    A zero byte, which no value has, and a backslash with anything else behind it stay as they are.
    """
    cdef uint32_t i = 0, n = 0, byte
    while i < text.len:
        byte = text.at[i]
        i += 1
        if byte == 0x5C and i < text.len and text.at[i] == 0x5C:
            i += 1
        elif byte == 0x5C and text.len - i >= 3 and 0x30 <= text.at[i] <= 0x33 and text.at[i + 1] & 0xF8 == 0x30 \
                and text.at[i + 2] & 0xF8 == 0x30 and (text.at[i] | text.at[i + 1] | text.at[i + 2]) != 0x30:
            byte = (text.at[i] & 3) << 6 | (text.at[i + 1] & 7) << 3 | (text.at[i + 2] & 7)
            i += 3
        out[n] = <uint8_t>byte
        n += 1
    return n


cdef bint found_unescape(Found *found, uint8_t **owned) noexcept nogil:
    """Have `found` be the bytes that blocks have; False when memory is short.

    Where there are backslashes they lie in `owned`, which is the caller's to free.
    """
    cdef uint8_t *room
    cdef bint in_value = found.value.at != NULL and memchr(found.value.at, 0x5C, found.value.len) != NULL
    owned[0] = NULL
    if not in_value and memchr(found.name.at, 0x5C, found.name.len) == NULL:
        return True
    owned[0] = room = <uint8_t *>malloc(<size_t>found.name.len + found.value.len)
    if room == NULL:
        return False
    found.name.len = unescape(found.name, room)
    found.name.at = room
    if in_value:
        room += found.name.len
        found.value.len = unescape(found.value, room)
        found.value.at = room
    return True


cdef int probe_next(const uint8_t *answer, size_t n, size_t *at, Found *out) noexcept nogil:
    """The next row of an answer: whole backend messages, from which everything but DataRow is skipped.

    PROBE_ROW and `out`; PROBE_END behind the last message. A NULL value (no such setting) has `value.at` NULL.
    """
    cdef uint32_t length, field, i
    cdef const uint8_t *body
    cdef Span[3] fields
    while n - at[0] >= HEADER_LEN:
        length = load_be32(answer + at[0] + 1)
        if length < 4 or length - 4 > n - at[0] - HEADER_LEN:
            return PROBE_BROKEN
        length -= 4
        body = answer + at[0] + HEADER_LEN
        at[0] += HEADER_LEN + <size_t>length
        if (body - HEADER_LEN)[0] != BE_DATA_ROW:
            continue
        if length < 2 or body[0] != 0 or body[1] != 3:
            return PROBE_BROKEN
        body += 2
        length -= 2
        for i in range(3):
            if length < 4:
                return PROBE_BROKEN
            field = load_be32(body)
            body += 4
            length -= 4
            fields[i].at = NULL
            fields[i].len = 0
            if field == <uint32_t>-1:
                continue
            if field > length or memchr(body, 0, field) != NULL:
                return PROBE_BROKEN
            fields[i].at = body
            fields[i].len = field
            body += field
            length -= field
        if length != 0 or fields[0].len != 1 or fields[1].at == NULL:
            return PROBE_BROKEN
        out.kind = fields[0].at[0]
        out.name = fields[1]
        out.value = fields[2]
        return PROBE_ROW
    if n != at[0]:
        return PROBE_BROKEN
    return PROBE_END
