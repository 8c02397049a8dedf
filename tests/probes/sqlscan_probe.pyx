"""Doors to `session.sqlscan` for tests, fuzz targets and measurements; texts stand in memory that ends with them."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from pgpool_core.session cimport sqlscan as c
from pgpool_core.session.effects cimport Effects, effects_valid
from pgpool_core.session.known cimport KNOWN_SHAPES, KNOWN_TEXTS, KnownText, KnownTexts, known_forget, known_like, known_scan
from pgpool_core.session.shape cimport SHAPE_MOST, shape_of
from pgpool_core.session.sqltoken cimport (
    NAME_LEN, NAME_UNPROVEN, READ_BACKSLASHES, READ_STANDARD, READ_TRAILING, READ_UNKNOWN, TOKEN_END, Lexer, Token,
    name_fold, token_next,
)
from pgpool_core.session.sqlscan cimport SqlScan, scan_sql
from pgpool_core.wire.span cimport Span

STANDARD, BACKSLASHES, UNKNOWN, TRAILING = READ_STANDARD, READ_BACKSLASHES, READ_UNKNOWN, READ_TRAILING

FLAGS = {
    "sets": c.SQL_SETS, "local_set": c.SQL_LOCAL_SET, "listens": c.SQL_LISTENS, "unlistens": c.SQL_UNLISTENS,
    "notifies": c.SQL_NOTIFIES, "prepares": c.SQL_PREPARES, "executes": c.SQL_EXECUTES,
    "deallocates": c.SQL_DEALLOCATES, "temps": c.SQL_TEMPS, "holds": c.SQL_HOLDS, "closes": c.SQL_CLOSES,
    "advisory": c.SQL_ADVISORY, "unlocks": c.SQL_UNLOCKS, "loads": c.SQL_LOADS, "discards": c.SQL_DISCARDS,
    "opaque": c.SQL_OPAQUE, "sequences": c.SQL_SEQUENCES, "database_ddl": c.SQL_DATABASE_DDL,
    "function_ddl": c.SQL_FUNCTION_DDL, "calls": c.SQL_CALLS,
}
VERBS = {
    c.VERB_NONE: "none", c.VERB_OTHER: "other", c.VERB_SELECT: "select", c.VERB_INSERT: "insert",
    c.VERB_UPDATE: "update", c.VERB_DELETE: "delete", c.VERB_MERGE: "merge", c.VERB_WITH: "with", c.VERB_SET: "set",
    c.VERB_RESET: "reset", c.VERB_SHOW: "show", c.VERB_BEGIN: "begin", c.VERB_COMMIT: "commit",
    c.VERB_ROLLBACK: "rollback", c.VERB_SAVEPOINT: "savepoint", c.VERB_RELEASE: "release", c.VERB_PREPARE: "prepare",
    c.VERB_EXECUTE: "execute", c.VERB_DEALLOCATE: "deallocate", c.VERB_DISCARD: "discard", c.VERB_LISTEN: "listen",
    c.VERB_UNLISTEN: "unlisten", c.VERB_NOTIFY: "notify", c.VERB_DECLARE: "declare", c.VERB_FETCH: "fetch",
    c.VERB_CLOSE: "close", c.VERB_LOAD: "load", c.VERB_DO: "do", c.VERB_CALL: "call", c.VERB_COPY: "copy",
    c.VERB_EXPLAIN: "explain", c.VERB_CREATE: "create", c.VERB_ALTER: "alter", c.VERB_DROP: "drop",
}
PROVED = {
    c.PROVED_NONE: None, c.PROVED_SET: "set", c.PROVED_SET_TIME_ZONE: "set time zone", c.PROVED_SET_NAMES: "set names",
    c.PROVED_SET_SCHEMA: "set schema", c.PROVED_SET_ROLE: "set role", c.PROVED_SET_AUTHORIZATION: "set authorization",
    c.PROVED_RESET: "reset", c.PROVED_RESET_TIME_ZONE: "reset time zone",
    c.PROVED_RESET_AUTHORIZATION: "reset authorization", c.PROVED_RESET_ALL: "reset all",
    c.PROVED_DEALLOCATE: "deallocate", c.PROVED_DEALLOCATE_ALL: "deallocate all", c.PROVED_DISCARD_ALL: "discard all",
    c.PROVED_DISCARD_PLANS: "discard plans", c.PROVED_DISCARD_TEMP: "discard temp",
    c.PROVED_DISCARD_SEQUENCES: "discard sequences", c.PROVED_LISTEN: "listen", c.PROVED_UNLISTEN: "unlisten",
    c.PROVED_UNLISTEN_ALL: "unlisten all", c.PROVED_NOTIFY: "notify", c.PROVED_PREPARE: "prepare",
    c.PROVED_EXECUTE: "execute", c.PROVED_CLOSE: "close", c.PROVED_CLOSE_ALL: "close all", c.PROVED_BEGIN: "begin",
    c.PROVED_COMMIT: "commit", c.PROVED_ROLLBACK: "rollback",
}
VALUES = {
    c.VALUE_NONE: None, c.VALUE_DEFAULT: "default", c.VALUE_WORD: "word", c.VALUE_NUMBER: "number",
    c.VALUE_STRING: "string", c.VALUE_ESCAPED: "escaped", c.VALUE_NAME: "name", c.VALUE_LIST: "list",
    c.VALUE_OTHER: "other",
}


cdef class Text:
    """A copy of a text that ends where its memory ends, so that a sanitizer sees who reads on."""
    cdef uint8_t *at
    cdef size_t len

    def __cinit__(self, bytes text not None):
        self.len = len(text)
        self.at = <uint8_t *>malloc(self.len if self.len else 1)
        if self.at is NULL:
            raise MemoryError
        memcpy(self.at, <const uint8_t *>text, self.len)

    def __dealloc__(self):
        free(self.at)


cdef bytes taken(Text text, Span span):
    if span.at is NULL:
        return b""
    if not (text.at <= span.at and span.at + span.len <= text.at + text.len):
        raise AssertionError("a span is outside the text")
    return (<const char *>span.at)[:span.len]


def scan(bytes text not None, int reading=READ_STANDARD, bytes effects=None):
    """What `scan_sql` says, with names for numbers. `effects` is what effects_pack has made."""
    cdef Text table
    cdef const Effects *known = NULL
    cdef SqlScan found
    cdef Text copy = Text(text)
    cdef const uint8_t *at = copy.at
    cdef size_t size = copy.len
    if effects is not None:
        table = Text(effects)
        known = <const Effects *>table.at
        if not effects_valid(known, table.len):
            raise ValueError("no such table")
    with nogil:
        scan_sql(at, size, reading, known, &found)
    return told(copy, found)


cdef dict told(Text copy, SqlScan found):
    return {
        "hidden": frozenset(name for name, bit in FLAGS.items() if found.hidden & <uint32_t>bit),
        "flags": frozenset(name for name, bit in FLAGS.items() if found.flags & <uint32_t>bit),
        "statements": found.statements, "verb": VERBS[found.verb], "proved": PROVED[found.proved],
        "local": bool(found.local), "name": taken(copy, found.name), "name_quoted": bool(found.name_quoted),
        "value": taken(copy, found.value), "value_kind": VALUES[found.value_kind],
        "calls": [found.calls[i] for i in range(found.call_count)], "calls_overflow": bool(found.calls_overflow),
        "bodies": bool(found.bodies),
    }


cdef class Known:
    """Texts that are known, with what is known of names. `effects` is what effects_pack has made."""
    cdef KnownTexts *known
    cdef Text effects

    def __cinit__(self, bytes effects=None):
        self.known = <KnownTexts *>calloc(1, sizeof(KnownTexts))
        if self.known is NULL:
            raise MemoryError
        self.learn(effects)

    def __dealloc__(self):
        free(self.known)

    def learn(self, bytes effects):
        """Other effects are known from now on."""
        known_forget(self.known)
        self.effects = Text(effects) if effects is not None else None
        if effects is not None and not effects_valid(<const Effects *>self.effects.at, self.effects.len):
            raise ValueError("no such table")

    def scan(self, bytes text not None):
        """What `known_scan` says, as `scan` would tell it."""
        cdef Text copy = Text(text)
        cdef SqlScan found
        cdef const Effects *effects = <const Effects *>self.effects.at if self.effects is not None else NULL
        known_scan(self.known, copy.at, copy.len, effects, &found)
        return told(copy, found)

    def like(self, bytes text not None):
        """What `known_like` says, as `scan` would tell it, or None."""
        cdef Text copy = Text(text)
        cdef const Effects *effects = <const Effects *>self.effects.at if self.effects is not None else NULL
        cdef const SqlScan *found = known_like(self.known, copy.at, copy.len, effects)
        return told(copy, found[0]) if found is not NULL else None

    @property
    def kept(self):
        """The texts that would be known again."""
        return texts(self.known.all, KNOWN_TEXTS)

    @property
    def shapes(self):
        """The shapes that would be."""
        return texts(self.known.shapes, KNOWN_SHAPES)


cdef list texts(const KnownText *at, size_t n):
    return [(<const char *>at[i].text)[:at[i].len] for i in range(n) if at[i].len]


def shape(bytes text not None):
    """The text's shape, b"" where it has none."""
    cdef Text copy = Text(text)
    cdef Text room = Text(bytes(SHAPE_MOST))
    cdef uint32_t n = shape_of(copy.at, copy.len, room.at)
    return (<const char *>room.at)[:n]


def call_hash(bytes name not None):
    return c.call_hash(<const uint8_t *>name, len(name))


def fold(bytes raw not None):
    """The name as PostgreSQL knows it, or None where the text does not prove it."""
    cdef uint8_t out[NAME_LEN]
    cdef Text copy = Text(raw)
    cdef Span span
    cdef int length
    span.at, span.len = copy.at, <uint32_t>copy.len
    length = name_fold(span, out)
    return None if length == NAME_UNPROVEN else (<const char *>out)[:length]


def tokens(bytes text not None, int reading=READ_STANDARD):
    """(kind, raw bytes, whether it is closed) of every token."""
    cdef Text copy = Text(text)
    cdef Lexer lexer
    cdef Token token
    lexer.at, lexer.end, lexer.reading = copy.at, copy.at + copy.len, <uint8_t>reading
    found = []
    while True:
        token_next(&lexer, &token)
        if token.kind == TOKEN_END:
            return found
        found.append((token.kind, taken(copy, token.raw), bool(token.closed)))


def measure(bytes text not None, size_t times, int reading=READ_STANDARD):
    """Nanoseconds that `times` scans of the text take."""
    cdef SqlScan found
    cdef Text copy = Text(text)
    cdef const uint8_t *at = copy.at
    cdef size_t size = copy.len
    cdef size_t i
    cdef timespec begin, end
    with nogil:
        clock_gettime(CLOCK_MONOTONIC, &begin)
        for i in range(times):
            scan_sql(at, size, reading, NULL, &found)
        clock_gettime(CLOCK_MONOTONIC, &end)
    return (end.tv_sec - begin.tv_sec) * 1000000000 + end.tv_nsec - begin.tv_nsec
