"""Doors to `wire` for tests and fuzz targets.

Every input is copied to memory of exactly its size and every output has exactly its capacity, so that a sanitizer
sees one byte too many on either side.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pgpool_core.wire.build cimport (
    build_auth_ok, build_copy_fail, build_empty, build_error, build_key, build_parameter, build_query, build_ready,
)
from pgpool_core.wire.expect cimport (
    Expect, expect_answer, expect_copy_begins, expect_copy_ends, expect_error, expect_free, expect_head, expect_init,
    expect_push, expect_ready,
)
from pgpool_core.wire.scan cimport (
    CLIENT_MARKS, EVERY_SERVER_MARKS, GROUP_MARKS, HEADER_LEN, MARK_REFUSE, MARK_SKIP, MARK_STOP, SCAN_END, SCAN_FOUND,
    SERVER_MARKS, Cursor, Frame, scan_past, scan_to, scan_whole,
)
from pgpool_core.wire.span cimport Span


cdef Span span_of(bytes data):
    cdef Span span
    span.at, span.len = <const uint8_t *>data, <uint32_t>len(data)
    return span


cdef const uint8_t *marks_of(str which) except NULL:
    if which == "client":
        return CLIENT_MARKS
    if which == "server":
        return SERVER_MARKS
    if which == "group":
        return GROUP_MARKS
    if which == "every":
        return EVERY_SERVER_MARKS
    raise ValueError(which)


def marks(str which):
    """Type byte -> "skip", "stop" or "refuse"."""
    cdef const uint8_t *table = marks_of(which)
    names = {MARK_SKIP: "skip", MARK_STOP: "stop", MARK_REFUSE: "refuse"}
    return {kind: names[table[kind]] for kind in range(256)}


def scan_feed(str which, bytes data, chunks=(), *, uint32_t max_body=0x7FFFFFFF):
    """Scan `data` as it arrives in pieces, as the engine does; sizes beyond `chunks` are all that is left.

    Returns what was found as (type, body_len, offset), how the scan ended and at which offset, the body bytes still
    to come, and for each message found whether its buffer held all of it.
    """
    cdef const uint8_t *table = marks_of(which)
    cdef Cursor cur
    cdef Frame frame
    cdef uint8_t *buf
    cdef size_t end, pos, base = 0
    cdef int status = SCAN_END
    cdef bytes held = b""
    found, whole = [], []
    sizes = iter(chunks)
    cdef size_t taken = 0
    cur.remain = 0
    cur.type = 0
    while status == SCAN_END and taken < <size_t>len(data):
        size = max(1, next(sizes, len(data)))
        piece = held + data[taken:taken + size]
        base = taken - len(held)
        taken = min(<size_t>len(data), taken + size)
        end = len(piece)
        buf = <uint8_t *>malloc(end)
        if buf is NULL:
            raise MemoryError
        memcpy(buf, <const char *>piece, end)
        pos = 0
        try:
            while True:
                with nogil:
                    status = scan_to(&cur, table, max_body, buf, end, &pos, &frame)
                if pos > end:
                    raise AssertionError("the scan left its buffer")
                if status != SCAN_FOUND:
                    break
                found.append((frame.type, frame.body_len, base + pos))
                whole.append(bool(scan_whole(&frame, end, pos)))
                scan_past(&cur, &frame, end, &pos)
                if pos > end:
                    raise AssertionError("the scan left its buffer")
        finally:
            free(buf)
        held = piece[pos:]
        if status == SCAN_END and len(held) >= HEADER_LEN:
            raise AssertionError("a whole header was left")
    return {"found": found, "status": status, "offset": taken - len(held) if status == SCAN_END else base + pos,
            "remain": cur.remain, "held": held if status == SCAN_END else b"", "whole": whole}


cdef class Queue:
    """One Expect."""
    cdef Expect queue

    def __cinit__(self):
        expect_init(&self.queue)

    def __dealloc__(self):
        expect_free(&self.queue)

    def push(self, int kind):
        return expect_push(&self.queue, kind)

    def head(self):
        return expect_head(&self.queue)

    def ready(self):
        return expect_ready(&self.queue)

    def answer(self, int be_type):
        expect_answer(&self.queue, be_type)

    def error(self):
        return bool(expect_error(&self.queue))

    def copy_begins(self):
        expect_copy_begins(&self.queue)

    def copy_ends(self):
        return expect_copy_ends(&self.queue)

    def clear(self):
        expect_free(&self.queue)

    @property
    def owed(self):
        return self.queue.owed

    @property
    def len(self):
        return self.queue.len

    @property
    def cap(self):
        return self.queue.cap

    @property
    def copying(self):
        return bool(self.queue.copying)

    @property
    def skipping(self):
        return bool(self.queue.skipping)

    @property
    def silent(self):
        return bool(self.queue.silent)


def build(str kind, size_t cap, *args):
    """The message `kind`, written into exactly `cap` bytes; empty when it does not fit."""
    cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
    cdef size_t written = 0
    cdef Span detail
    if out is NULL:
        raise MemoryError
    try:
        if kind == "error":
            severity, sqlstate, message, more = args
            if more is not None:
                detail = span_of(more)
            written = build_error(out, cap, <const char *><bytes>severity, <const char *><bytes>sqlstate,
                                  <const char *><bytes>message, NULL if more is None else &detail)
        elif kind == "ready":
            written = build_ready(out, cap, args[0])
        elif kind == "query":
            written = build_query(out, cap, <const uint8_t *><bytes>args[0], len(args[0]))
        elif kind == "parameter":
            written = build_parameter(out, cap, span_of(args[0]), span_of(args[1]))
        elif kind == "key":
            written = build_key(out, cap, args[0], args[1])
        elif kind == "auth_ok":
            written = build_auth_ok(out, cap)
        elif kind == "empty":
            written = build_empty(out, cap, args[0])
        elif kind == "copy_fail":
            written = build_copy_fail(out, cap, <const char *><bytes>args[0])
        else:
            raise ValueError(kind)
        return (<const char *>out)[:written]
    finally:
        free(out)
