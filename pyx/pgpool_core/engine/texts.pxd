"""Control's bytes as spans, buffers and blocks of settings, its times as numbers. Needs the GIL."""

from libc.stdint cimport uint64_t

from pgpool_core.engine.buf cimport Buf
from pgpool_core.session.settings cimport Block, Settings
from pgpool_core.wire.span cimport Span


cdef Span span(bytes text)
cdef int set_text(Buf *b, bytes text) except -1
cdef int set_times(uint64_t *times, patience) except -1      # in the order of PATIENCE_*
cdef int set_pairs(Buf *b, parameters) except -1      # name, zero, value, zero ...
cdef int add_began(Settings *settings, Block **block, pairs) except -1
cdef int add_settings(Settings *settings, Block **block, parameters) except -1
