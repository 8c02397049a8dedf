"""The messages that a client of PostgreSQL sends, written one behind the other until they are sent together.

Source: PostgreSQL docs, "Message Formats".
"""

from libc.stdint cimport int16_t, int32_t, uint8_t

from pgpool_core.rows.codec cimport Codec
from pgpool_core.rows.out cimport Out
from pgpool_core.rows.statement cimport Statement
from pgpool_core.wire.codes cimport (
    FE_BIND, FE_CLOSE, FE_COPY_DATA, FE_COPY_DONE, FE_COPY_FAIL, FE_DESCRIBE, FE_EXECUTE, FE_PARSE, FE_QUERY, FE_SYNC,
    FE_TERMINATE,
)

from pgpool_core.errors import EncodeError

cdef bytes COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)


cdef str wrong_number(Py_ssize_t wanted, tuple args):
    """What is said where a query has other arguments than parameters."""
    said = f"the query takes {wanted} argument{'s' if wanted != 1 else ''}, and {len(args)} {'were' if len(args) != 1 else 'was'} given"
    if len(args) == 1 and wanted != 1 and isinstance(args[0], (tuple, list)) and len(args[0]) == wanted:
        return said + ": give the values one by one, as *args"
    return said


cdef str advice(Codec codec, object value):
    """What may have been meant by an argument that is no value of its type."""
    if isinstance(value, list) and not codec.takes_lists:
        return " (a list goes where the query says = any($1))"
    if codec.oid == 25 and not isinstance(value, str):
        return " (or the query names the type: $1::int8)"
    return ""


cdef class Outbox(Out):
    """Messages to be sent. A message that cannot be written leaves no trace."""

    cdef Py_ssize_t message(self, uint8_t code) except -1:
        self.take(1)[0] = code
        return self.begin()

    cdef int word(self, bytes text) except -1:
        """A text and its zero byte."""
        if b"\0" in text:
            raise EncodeError("a zero byte cannot stand in a name or in the text of a query")
        return self.put(<const char *>text, len(text) + 1)

    cdef int short_message(self, uint8_t code) except -1:
        return self.end_message(self.message(code))

    def query(self, bytes text not None):
        """Query, of the simple protocol."""
        cdef Py_ssize_t before = self.length
        try:
            start = self.message(FE_QUERY)
            self.word(text)
            self.end_message(start)
        except BaseException:
            self.length = before
            raise

    def parse(self, bytes name not None, bytes text not None):
        """Parse; PostgreSQL finds the types of parameters. Describe of the statement behind it."""
        cdef Py_ssize_t before = self.length
        try:
            start = self.message(FE_PARSE)
            self.word(name)
            self.word(text)
            self.put16(0)
            self.end_message(start)
            start = self.message(FE_DESCRIBE)
            self.take(1)[0] = 83
            self.word(name)
            self.end_message(start)
        except BaseException:
            self.length = before
            raise

    def close(self, bytes name not None, *, bint portal=False):
        """Close of a statement, or of a portal."""
        start = self.message(FE_CLOSE)
        self.take(1)[0] = 80 if portal else 83
        self.word(name)
        self.end_message(start)

    def bind(self, Statement statement not None, tuple args not None, *, bytes portal=b"", bint raw=False):
        """Bind; an argument that is no value of its type is an EncodeError."""
        cdef Py_ssize_t before = self.length
        cdef Py_ssize_t start, i
        cdef bytes part
        if len(args) != len(statement.parameters):
            raise EncodeError(wrong_number(len(statement.parameters), args))
        try:
            start = self.message(FE_BIND)
            self.word(portal)
            part = statement.bind_head
            self.put(<const char *>part, len(part))
            for i in range(len(args)):
                self.value(<Codec>statement.parameters[i], args[i], i, "argument $")
            part = statement.raw_tail if raw else statement.bind_tail
            self.put(<const char *>part, len(part))
            self.end_message(start)
        except BaseException:
            self.length = before
            raise

    cdef int value(self, Codec codec, object value, Py_ssize_t place, str what) except -1:
        cdef Py_ssize_t field
        if value is None:
            return self.put32(-1)
        field = self.begin()
        try:
            codec.encode(value, self)
        except Exception as error:
            raise EncodeError(f"{what}{place + 1} cannot be sent as {codec.name}: {error}{advice(codec, value)}") from error
        return self.end(field)

    def execute(self, *, bytes portal=b"", int32_t limit=0):
        """Execute, of at most `limit` rows unless that is 0."""
        start = self.message(FE_EXECUTE)
        self.word(portal)
        self.put32(limit)
        self.end_message(start)

    def sync(self):
        """Sync: the server answers to everything so far."""
        self.short_message(FE_SYNC)

    def run(self, Statement statement not None, tuple args not None, bint raw=False):
        """Bind, Execute and Sync: a whole query."""
        self.bind(statement, args, raw=raw)
        self.execute()
        self.short_message(FE_SYNC)

    def copy_data(self, data):
        """CopyData of bytes or another buffer."""
        cdef bytes part = data if type(data) is bytes else bytes(memoryview(data))
        start = self.message(FE_COPY_DATA)
        self.put(<const char *>part, len(part))
        self.end_message(start)

    def copy_begin(self):
        """CopyData with what a binary COPY begins with."""
        self.copy_data(COPY_SIGNATURE)

    def copy_row(self, tuple codecs not None, tuple row not None):
        """CopyData with one row of a binary COPY."""
        cdef Py_ssize_t before = self.length
        cdef Py_ssize_t i
        if len(row) != len(codecs):
            raise EncodeError(f"a row of {len(codecs)} columns is expected, not of {len(row)}")
        try:
            start = self.message(FE_COPY_DATA)
            self.put16(<int16_t>len(row))
            for i in range(len(row)):
                self.value(<Codec?>codecs[i], row[i], i, "column ")
            self.end_message(start)
        except BaseException:
            self.length = before
            raise

    def copy_end(self):
        """CopyData with what a binary COPY ends with."""
        self.copy_data(b"\xff\xff")

    def copy_done(self):
        """CopyDone."""
        self.short_message(FE_COPY_DONE)

    def copy_fail(self, bytes reason not None):
        """CopyFail: the server gives up the COPY."""
        start = self.message(FE_COPY_FAIL)
        self.word(reason)
        self.end_message(start)

    def terminate(self):
        """Terminate."""
        self.short_message(FE_TERMINATE)
