"""Doors to `session.settings`, `session.outcome`, `session.regulars`, `session.replay` and `session.probe` for tests and fuzz targets; outputs have exactly their capacity, for sanitizers."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from pgpool_core.session.outcome cimport OUTCOMES, Outcome, outcome_find, outcome_learn
from pgpool_core.session.probe cimport (
    PROBE_ROW, Found, SettingNames, found_unescape, names_find, probe_next, probe_write,
)
from pgpool_core.session.regulars cimport REGULARS, Regular, regular_find, regular_greeting, regular_learn, regulars_free
from pgpool_core.session.replay cimport replay_bound, replay_write
from pgpool_core.session.settings cimport (
    MAX_NAME_LEN, SETTINGS_BUCKETS, SETTINGS_OK, Block, Settings, block_get, block_ref, block_unref, block_with,
    setting_name, setting_tracked, settings_free, settings_new,
)
from pgpool_core.wire.span cimport Span


cdef Span span_of(bytes data):
    cdef Span span
    span.at, span.len = <const uint8_t *>data, <uint32_t>len(data)
    return span


def tracked(bytes name):
    """PostgreSQL's spelling of `name`, or None where clients do not keep their own value."""
    cdef Span spelled
    if setting_tracked(span_of(name), &spelled):
        return (<const char *>spelled.at)[:spelled.len]
    return None


def spelled(bytes name):
    """`name` as blocks spell it, or None where no setting can have it."""
    cdef Span canonical
    cdef uint8_t[MAX_NAME_LEN] room
    if setting_name(span_of(name), room, &canonical) != SETTINGS_OK:
        return None
    return (<const char *>canonical.at)[:canonical.len]


cdef class Table:
    """One Settings table; `Held` blocks keep it alive."""
    cdef Settings *table

    def __cinit__(self):
        self.table = settings_new()
        if self.table is NULL:
            raise MemoryError

    def __dealloc__(self):
        settings_free(self.table)

    def having(self, Held base, bytes name, bytes value):
        """`base` (None = empty) with `name` set to `value` (None = without it), or the status of a refusal."""
        cdef Block *block = NULL
        cdef Block *before = NULL if base is None else base.block
        cdef Span name_span = span_of(name)
        cdef Span value_span
        cdef int status
        value_span.at = NULL
        value_span.len = 0
        if value is not None:
            value_span = span_of(value)
        with nogil:
            status = block_with(self.table, before, name_span, value_span, &block)
        if status != SETTINGS_OK:
            return status
        held = Held(self)
        held.block = block
        return held

    def __len__(self):
        """Blocks in the table."""
        cdef uint32_t i
        cdef Block *block
        n = 0
        for i in range(SETTINGS_BUCKETS):
            block = self.table.buckets[i]
            while block is not NULL:
                n += 1
                block = block.next
        return n


@cython.no_gc_clear
cdef class Held:
    """One hold on a Block, given up when this object goes."""
    cdef Table table
    cdef Block *block

    def __init__(self, Table table not None):
        self.table = table

    def __dealloc__(self):
        if self.block is not NULL:
            block_unref(self.table.table, self.block)

    def again(self):
        """One more hold on the same block."""
        held = Held(self.table)
        held.block = block_ref(self.table.table, self.block)
        return held

    def same(self, Held other not None):
        return self.block == other.block

    @property
    def refs(self):
        return self.block.refs

    @property
    def data(self):
        return (<const char *>self.block.data)[:self.block.len]

    def get(self, bytes name):
        cdef Span value
        if block_get(self.block, span_of(name), &value):
            return (<const char *>value.at)[:value.len]
        return None


cdef class Outcomes:
    """A worker's table of remembered outcomes, over blocks of one Settings table; `whose` is any number."""
    cdef Table settings
    cdef Outcome *table

    def __cinit__(self, Table settings not None):
        self.settings = settings
        self.table = <Outcome *>calloc(OUTCOMES, sizeof(Outcome))
        if self.table is NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(OUTCOMES if self.table is not NULL else 0):
            block_unref(self.settings.table, self.table[i].before)
            block_unref(self.settings.table, self.table[i].start)
            block_unref(self.settings.table, self.table[i].after)
        free(self.table)

    def learn(self, size_t whose, Held before, Held start, bytes text, Held after):
        outcome_learn(self.table, self.settings.table, <const void *>whose, NULL if before is None else before.block,
                      NULL if start is None else start.block, <const uint8_t *>text, <uint32_t>len(text),
                      NULL if after is None else after.block)

    def find(self, size_t whose, Held before, Held start, bytes text):
        """What the text makes of `before`; None where that is not known (or nothing)."""
        cdef Block *after = outcome_find(self.table, <const void *>whose, NULL if before is None else before.block,
                                         NULL if start is None else start.block, <const uint8_t *>text, <uint32_t>len(text))
        if after is NULL:
            return None
        held = Held(self.settings)
        held.block = block_ref(self.settings.table, after)
        return held


cdef class Regulars:
    """A worker's table of remembered greetings, over blocks of one Settings table; `whose` is any number but 0."""
    cdef Table settings
    cdef Regular *table

    def __cinit__(self, Table settings not None):
        self.settings = settings
        self.table = <Regular *>calloc(REGULARS, sizeof(Regular))
        if self.table is NULL:
            raise MemoryError

    def __dealloc__(self):
        regulars_free(self.table, self.settings.table)

    def learn(self, size_t whose, uint64_t version, bytes packet, bytes greeting, Held settings not None, uint8_t rights=0):
        cdef Regular fresh
        fresh.whose, fresh.version, fresh.bytes = <const void *>whose, version, NULL
        fresh.packet_len, fresh.greeting_len, fresh.key_at = <uint32_t>len(packet), <uint32_t>len(greeting), 0
        fresh.rights, fresh.settings = rights, settings.block
        regular_learn(self.table, self.settings.table, &fresh, <const uint8_t *>packet, <const uint8_t *>greeting)

    def find(self, size_t whose, uint64_t version, bytes packet):
        """(greeting, settings, rights) of who begins with `packet`; None where nothing is known."""
        cdef const Regular *known = regular_find(self.table, <const void *>whose, version, <const uint8_t *>packet,
                                                 <uint32_t>len(packet))
        if known is NULL:
            return None
        held = Held(self.settings)
        held.block = block_ref(self.settings.table, known.settings)
        return (<const char *>regular_greeting(known))[:known.greeting_len], held, known.rights


def replay(Held have, Held want, cap=None):
    """(status, SQL, must wait) that makes a server standing at `have` (None = nothing known) stand at `want`."""
    cdef Block *a = NULL if have is None else have.block
    cdef Block *b = NULL if want is None else want.block
    cdef size_t room = replay_bound(a, b) if cap is None else cap
    cdef uint8_t *out = <uint8_t *>malloc(room if room > 0 else 1)
    cdef size_t out_len = 0
    cdef bint must_wait = False
    cdef int status
    if out is NULL:
        raise MemoryError
    try:
        status = replay_write(a, b, out, room, &out_len, &must_wait)
        if out_len > room:
            raise AssertionError("more was written than there is room for")
        return status, (<const char *>out)[:out_len], bool(must_wait)
    finally:
        free(out)


def names(*texts):
    """(names that look like custom settings in `texts`, whether there were more)."""
    cdef SettingNames found
    found.len = found.count = found.overflow = 0
    for text in texts:
        names_find(&found, <const uint8_t *><const char *>text, len(text))
    return (<const char *>found.data)[:found.len].split(b"\0")[:-1], bool(found.overflow)


def probe_sql(int parts, Held have, bytes text=b"", size_t cap=32768):
    """The query that asks for `parts`, names from `text` included; empty when it does not fit."""
    cdef SettingNames found
    cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
    cdef size_t n
    if out is NULL:
        raise MemoryError
    found.len = found.count = found.overflow = 0
    names_find(&found, <const uint8_t *><const char *>text, len(text))
    try:
        n = probe_write(parts, NULL if have is None else have.block, &found, out, cap)
        return (<const char *>out)[:n]
    finally:
        free(out)


def probe_rows(bytes answer):
    """(status, [(kind, name, value or None)]) of a server's messages; the status is what ended the reading."""
    cdef size_t at = 0
    cdef Found found
    cdef int status
    cdef uint8_t *owned
    cdef uint8_t *copy = <uint8_t *>malloc(len(answer) if answer else 1)
    rows = []
    for i in range(len(answer)):
        copy[i] = answer[i]
    try:
        while True:
            status = probe_next(copy, len(answer), &at, &found)
            if status != PROBE_ROW:
                return status, rows
            if not found_unescape(&found, &owned):
                raise MemoryError
            rows.append((chr(found.kind), (<const char *>found.name.at)[:found.name.len],
                         None if found.value.at is NULL else (<const char *>found.value.at)[:found.value.len]))
            free(owned)
    finally:
        free(copy)
