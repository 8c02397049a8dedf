"""What a server sends, cut into messages; rows are read into records on the way.

Bytes come in by `window`, messages go out by `next`. Nothing is made on the word of a length: memory grows with the bytes that
have come. Source: PostgreSQL docs, "Message Formats".
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

from pgpool_core.rows.codec cimport Codec

from pgpool_core.rows.record cimport Shape
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.codes cimport (
    BE_BIND_COMPLETE, BE_CLOSE_COMPLETE, BE_COMMAND_COMPLETE, BE_COPY_DATA,
    BE_COPY_DONE, BE_COPY_IN, BE_COPY_OUT, BE_DATA_ROW, BE_EMPTY_QUERY, BE_ERROR, BE_NO_DATA, BE_NOTICE, BE_NOTIFICATION,
    BE_PARAMETER_DESCRIPTION, BE_PARAMETER_STATUS, BE_PARSE_COMPLETE, BE_PORTAL_SUSPENDED, BE_READY, BE_ROW_DESCRIPTION,
)

from pgpool_core.errors import ServerProtocolError
from pgpool_core.rows.codec import Raw

cdef enum:
    WINDOW = 1 << 16
    MAX_LENGTH = 0x3FFFFFFF + 4   # PostgreSQL makes no longer message
    PASSED = 1
    TOLD = 2

cdef Codec AS_BYTES = Raw(0, "bytes", format=0)
cdef uint8_t marks[256]
for code in (BE_PARSE_COMPLETE, BE_BIND_COMPLETE, BE_CLOSE_COMPLETE):
    marks[<int>code] = PASSED
for code in (
    BE_COMMAND_COMPLETE, BE_COPY_DATA, BE_COPY_DONE, BE_COPY_IN, BE_COPY_OUT, BE_DATA_ROW, BE_EMPTY_QUERY, BE_ERROR, BE_NO_DATA,
    BE_NOTICE, BE_NOTIFICATION, BE_PARAMETER_DESCRIPTION, BE_PARAMETER_STATUS, BE_PORTAL_SUSPENDED, BE_READY, BE_ROW_DESCRIPTION,
):
    marks[<int>code] = TOLD

NEED_MORE = 0
BIND_COMPLETE = BE_BIND_COMPLETE
COMMAND_COMPLETE = BE_COMMAND_COMPLETE
COPY_DATA = BE_COPY_DATA
COPY_DONE = BE_COPY_DONE
COPY_IN = BE_COPY_IN
COPY_OUT = BE_COPY_OUT
DATA_ROW = BE_DATA_ROW
EMPTY_QUERY = BE_EMPTY_QUERY
ERROR = BE_ERROR
NO_DATA = BE_NO_DATA
NOTICE = BE_NOTICE
NOTIFICATION = BE_NOTIFICATION
PARAMETER_DESCRIPTION = BE_PARAMETER_DESCRIPTION
PARAMETER_STATUS = BE_PARAMETER_STATUS
PORTAL_SUSPENDED = BE_PORTAL_SUSPENDED
READY = BE_READY
ROW_DESCRIPTION = BE_ROW_DESCRIPTION


cdef class Inbox:
    """A server's bytes and the messages in them."""

    cdef bytearray memory         # what `window` shows; it cannot move or go while somebody holds `window`
    cdef uint8_t *chunk           # borrows it
    cdef uint8_t *kept            # owns; a message of which not all has come
    cdef Py_ssize_t room
    cdef const uint8_t *at        # into `chunk` or `kept`
    cdef Py_ssize_t left
    cdef const uint8_t *body_at   # the body of the last message, until the next call
    cdef Py_ssize_t body_length
    cdef readonly object window
    cdef readonly object failure  # the first DecodeError since `expect`
    cdef Shape shape
    cdef list rows
    cdef bint raw
    cdef bint bare

    def __cinit__(self):
        self.memory = bytearray(WINDOW)
        self.window = memoryview(self.memory)
        self.chunk = <uint8_t *>PyByteArray_AS_STRING(self.memory)
        self.at = self.chunk

    def __dealloc__(self):
        free(self.kept)

    def expect(self, Shape shape, list rows, *, bint raw=False, bint bare=False):
        """From now on rows are of `shape` and are put into `rows`; without them they are dropped.

        Args:
            raw: values are bytes. bare: rows are tuples instead of records.
        """
        self.shape = shape
        self.rows = rows
        self.raw = raw
        self.bare = bare
        self.failure = None

    def received(self, Py_ssize_t count):
        """The first `count` bytes of `window` have come from the server.

        `next` has said NEED_MORE before, so that what is left stands at the beginning of `kept`.
        """
        cdef uint8_t *larger
        cdef Py_ssize_t room
        if not 0 <= count <= WINDOW:
            raise ValueError("the window is smaller")
        if self.left and self.at != self.kept:
            raise RuntimeError("there are messages that nobody has asked for")
        if self.left == 0:
            self.at, self.left = self.chunk, count
            if self.room > 4 * WINDOW:
                free(self.kept)
                self.kept, self.room = NULL, 0
            return
        if self.left + count > self.room:
            room = self.room
            while room < self.left + count:
                room *= 2
            larger = <uint8_t *>realloc(self.kept, room)
            if larger is NULL:
                raise MemoryError
            self.kept, self.room = larger, room
        self.at = self.kept
        memcpy(self.kept + self.left, self.chunk, count)
        self.left += count

    def feed(self, bytes data not None):
        """The same for bytes that are somewhere else; at most 64 KiB."""
        if len(data) > WINDOW:
            raise ValueError("the window is smaller")
        memcpy(self.chunk, <const char *>data, len(data))
        self.received(len(data))

    def stash(self):
        """Put by what `received` has been told of, so that more can be received before anything is asked for."""
        self.keep()

    def pending(self):
        """How many bytes wait for the rest of their message."""
        return self.left

    cdef int keep(self) except -1:
        """Move what is left to the beginning of `kept`."""
        cdef uint8_t *larger
        if self.left == 0 or self.at == self.kept:
            return 0
        if self.kept is NULL or self.left > self.room:
            larger = <uint8_t *>malloc(WINDOW if self.left < WINDOW else self.left)
            if larger is NULL:
                raise MemoryError
            memcpy(larger, self.at, self.left)
            free(self.kept)
            self.kept, self.room = larger, WINDOW if self.left < WINDOW else self.left
        else:
            memmove(self.kept, self.at, self.left)
        self.at = self.kept
        return 0

    def next(self):
        """The code of the next message that somebody has to look at, or NEED_MORE."""
        cdef Py_ssize_t place = -1
        while True:
            try:
                return self.look(&place)
            except ServerProtocolError:
                raise
            except Exception as error:
                if place < 0:                     # it was no value
                    raise
                self.failure = self.shape.misread(place, error)
                self.failure.__cause__ = error

    cdef int look(self, Py_ssize_t *place) except -1:
        """As `next`; what a codec raises goes out, and `place` is its column. The row has been taken then."""
        cdef uint32_t length
        cdef uint8_t code, mark
        while self.left >= 5:
            code = self.at[0]
            length = load_be32(self.at + 1)
            mark = marks[code]
            if mark == 0:
                raise ServerProtocolError(f"the server sent a message of an unknown type {code}")
            if length < 4 or length > <uint32_t>MAX_LENGTH:
                raise ServerProtocolError(f"the server sent a message of {length} bytes")
            if <Py_ssize_t>length + 1 > self.left:
                break
            self.body_at, self.body_length = self.at + 5, <Py_ssize_t>length - 4
            self.at += <Py_ssize_t>length + 1
            self.left -= <Py_ssize_t>length + 1
            if code == BE_DATA_ROW:
                if self.shape is None or self.failure is not None:
                    continue
                row = self.shape.read(self.body_at, self.body_length, AS_BYTES if self.raw else None, self.bare, place)
                place[0] = -1
                if self.rows is not None:
                    self.rows.append(row)
            elif mark == TOLD:
                return code
        self.keep()
        return NEED_MORE

    def body(self):
        """The body of the message that `next` has just named."""
        return PyBytes_FromStringAndSize(<const char *>self.body_at, self.body_length)

    def status(self):
        """Of a ReadyForQuery: its byte."""
        if self.body_length != 1 or self.body_at[0] not in (73, 84, 69):
            raise ServerProtocolError("malformed ReadyForQuery")
        return self.body_at[0]
