"""Doors to `session.settings` for tests and fuzz targets; outputs have exactly their capacity, for sanitizers."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc

from pgpool_core.session.settings cimport (
    SETTINGS_BUCKETS, SETTINGS_OK, Block, Settings, block_get, block_ref, block_replay, block_unref, block_with,
    setting_tracked, settings_free, settings_new,
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
        """`base` (None = empty) with `name` set to `value`, or the status of a refusal."""
        cdef Block *block = NULL
        cdef Block *before = NULL if base is None else base.block
        cdef Span name_span = span_of(name)
        cdef Span value_span = span_of(value)
        cdef int status
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


def replay(Held have, Held want, size_t cap=65536):
    """(status, SQL) that makes a server standing at `have` (None = nothing known) stand at `want`."""
    cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
    cdef size_t out_len = 0
    cdef int status
    if out is NULL:
        raise MemoryError
    try:
        status = block_replay(NULL if have is None else have.block, NULL if want is None else want.block,
                              out, cap, &out_len)
        if out_len > cap:
            raise AssertionError("more was written than there is room for")
        return status, (<const char *>out)[:out_len]
    finally:
        free(out)
