"""The base of all codecs, and those that need no knowledge of a type: text as it is, bytes as they are, functions of the user's.

Source: PostgreSQL docs, "Formats and Format Codes".
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from pgpool_core.rows.out cimport Out

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    uint8_t *PyUnicode_1BYTE_DATA(object text)


cdef object text_of(const uint8_t *at, Py_ssize_t length):
    """The str of UTF-8, without the decoder's detours where it is ASCII, as most is. Python keeps one str for each single letter."""
    cdef uint64_t part, letters = 0
    cdef Py_ssize_t i = 0
    if 1 < length <= 256:
        while i + 8 <= length:
            memcpy(&part, at + i, 8)
            letters |= part
            i += 8
        while i < length:
            letters |= at[i]
            i += 1
        if not letters & <uint64_t>0x8080808080808080:
            text = PyUnicode_New(length, 127)
            memcpy(PyUnicode_1BYTE_DATA(text), at, length)
            return text
    return PyUnicode_DecodeUTF8(<const char *>at, length, NULL)


cdef class Codec:
    """One type. `decode` may raise anything: whoever asked is told which column it was, and the connection goes on."""

    def __init__(self, unsigned int oid, str name not None, *, int format=BINARY):
        self.oid = oid
        self.name = name
        self.format = format

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        raise TypeError(f"{self!r} is only the base of codecs: it reads no values")

    cdef int encode(self, object value, Out out) except -1:
        raise TypeError(f"{self!r} is only the base of codecs: it writes no values")

    def loads(self, bytes data not None):
        """The value that a server sends as `data`."""
        return self.decode(<const uint8_t *><const char *>data, len(data))

    def dumps(self, value):
        """What a server is sent for `value`, without its length."""
        cdef Out out = Out()
        self.encode(value, out)
        return out.flush()

    def __repr__(self):
        return f"<{type(self).__name__} {self.name} oid={self.oid} {'binary' if self.format else 'text'}>"


cdef class Text(Codec):
    """Text in UTF-8; in text format it serves every type that nothing is known of."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        return text_of(at, length)

    cdef int encode(self, object value, Out out) except -1:
        cdef Py_ssize_t length
        cdef const char *at
        if not isinstance(value, str):
            raise TypeError(f"a str is expected, not {type(value).__name__}")
        at = PyUnicode_AsUTF8AndSize(value, &length)
        return out.put(at, length)


cdef class Raw(Codec):
    """The bytes of the value, whatever they mean."""

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        return PyBytes_FromStringAndSize(<const char *>at, length)

    cdef int encode(self, object value, Out out) except -1:
        cdef bytes data = bytes(memoryview(value))
        return out.put(<const char *>data, len(data))


cdef class Void(Codec):
    """What functions without a result return."""

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        return None

    cdef int encode(self, object value, Out out) except -1:
        raise TypeError("void has no values")


cdef class Custom(Codec):
    """Functions of the user's: `loader` takes str (text format) or bytes (binary), `dumper` returns them."""

    cdef object loader
    cdef object dumper

    def __init__(self, unsigned int oid, str name not None, *, int format, loader, dumper):
        Codec.__init__(self, oid, name, format=format)
        self.loader = loader
        self.dumper = dumper
        self.takes_lists = self.takes_tuples = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        if self.loader is None:
            raise TypeError("its codec has no decoder")
        if self.format == TEXT:
            return self.loader(PyUnicode_DecodeUTF8(<const char *>at, length, NULL))
        return self.loader(PyBytes_FromStringAndSize(<const char *>at, length))

    cdef int encode(self, object value, Out out) except -1:
        cdef bytes data
        if self.dumper is None:
            raise TypeError("its codec has no encoder")
        made = self.dumper(value)
        if self.format == TEXT and isinstance(made, str):
            data = made.encode()
        else:
            data = bytes(memoryview(made))
        return out.put(<const char *>data, len(data))
