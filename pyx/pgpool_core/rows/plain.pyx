"""Booleans, whole numbers, floating point, bytes, uuid, json, xml.

Source: PostgreSQL docs, "Formats and Format Codes"; the binary form of a type is what its `send` function writes.
"""

import json as _json
import re as _re
import uuid as _uuid

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.number cimport PyNumber_Index
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.math cimport isinf
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from pgpool_core.rows.codec cimport Codec
from pgpool_core.rows.out cimport Out
from pgpool_core.wire.be cimport load_be16, load_be32, store_be32

cdef object UUID = _uuid.UUID
cdef object UNKNOWN_SAFETY = _uuid.SafeUUID.unknown
cdef object set_slot = object.__setattr__
cdef object loads_json = _json.loads
cdef object dumps_json = _json.dumps
cdef object ENCODING = _re.compile(
    r"""\A(<\?xml\s+version\s*=\s*(?:"[^"]*"|'[^']*')\s+encoding\s*=\s*)(?:"[^"]*"|'[^']*')"""
)


cdef int sized(Py_ssize_t length, Py_ssize_t due) except -1:
    if length != due:
        raise ValueError(f"the server sent {length} bytes where the type has {due}")
    return 0


cdef inline uint64_t load64(const uint8_t *at) noexcept nogil:
    return (<uint64_t>load_be32(at) << 32) | load_be32(at + 4)


cdef int put64(Out out, uint64_t value) except -1:
    cdef uint8_t *at = out.take(8)
    store_be32(at, <uint32_t>(value >> 32))
    store_be32(at + 4, <uint32_t>value)
    return 0


cdef class Bool(Codec):
    """bool."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        sized(length, 1)
        return at[0] != 0

    cdef int encode(self, object value, Out out) except -1:
        if value is not True and value is not False:
            raise TypeError(f"a bool is expected, not {type(value).__name__}")
        out.take(1)[0] = 1 if value is True else 0
        return 0


cdef class Int2(Codec):
    """smallint."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        sized(length, 2)
        return <int16_t>load_be16(at)

    cdef int encode(self, object value, Out out) except -1:
        cdef int64_t number = PyNumber_Index(value)
        if not -32768 <= number <= 32767:
            raise OverflowError("value out of range")
        return out.put16(<int16_t>number)


cdef class Int4(Codec):
    """integer."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        sized(length, 4)
        return <int32_t>load_be32(at)

    cdef int encode(self, object value, Out out) except -1:
        cdef int64_t number = PyNumber_Index(value)
        if not -2147483648LL <= number <= 2147483647LL:
            raise OverflowError("value out of range")
        return out.put32(<int32_t>number)


cdef class Oid(Codec):
    """oid, and what else is 32 bits without a sign."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        sized(length, 4)
        return load_be32(at)

    cdef int encode(self, object value, Out out) except -1:
        cdef int64_t number = PyNumber_Index(value)
        if not 0 <= number <= 4294967295LL:
            raise OverflowError("value out of range")
        return out.put32(<int32_t><uint32_t>number)


cdef class Int8(Codec):
    """bigint."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        sized(length, 8)
        return <int64_t>load64(at)

    cdef int encode(self, object value, Out out) except -1:
        cdef int64_t number = PyNumber_Index(value)
        return put64(out, <uint64_t>number)


cdef class Float4(Codec):
    """real."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef uint32_t bits
        cdef float number
        sized(length, 4)
        bits = load_be32(at)
        memcpy(&number, &bits, 4)
        return <double>number

    cdef int encode(self, object value, Out out) except -1:
        cdef double wide = value
        cdef float number = <float>wide
        cdef uint32_t bits
        if isinf(number) and not isinf(wide):
            raise OverflowError("value out of range")
        memcpy(&bits, &number, 4)
        return out.put32(<int32_t>bits)


cdef class Float8(Codec):
    """double precision."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef uint64_t bits
        cdef double number
        sized(length, 8)
        bits = load64(at)
        memcpy(&number, &bits, 8)
        return number

    cdef int encode(self, object value, Out out) except -1:
        cdef double number = value
        cdef uint64_t bits
        memcpy(&bits, &number, 8)
        return put64(out, bits)


cdef class Bytea(Codec):
    """bytea: bytes, and anything that has a buffer as a parameter."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        return PyBytes_FromStringAndSize(<const char *>at, length)

    cdef int encode(self, object value, Out out) except -1:
        cdef bytes data = value if type(value) is bytes else bytes(memoryview(value))
        return out.put(<const char *>data, len(data))


cdef class Char(Codec):
    """PostgreSQL's "char": one byte. An ASCII character is text, any other byte bytes."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        sized(length, 1)
        if at[0] == 0:
            return ""
        if at[0] > 127:
            return PyBytes_FromStringAndSize(<const char *>at, 1)
        return chr(at[0])

    cdef int encode(self, object value, Out out) except -1:
        cdef bytes data
        if isinstance(value, bytes):
            data = value
        elif isinstance(value, str):
            data = (<str>value).encode("ascii")
        else:
            raise TypeError(f"a str or bytes is expected, not {type(value).__name__}")
        if len(data) > 1:
            raise ValueError("it has one byte")
        out.take(1)[0] = (<const uint8_t *><const char *>data)[0] if data else 0
        return 0


cdef class Uuid(Codec):
    """uuid."""

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef object value
        sized(length, 16)
        value = UUID.__new__(UUID)
        set_slot(value, "int", (<object>load64(at) << 64) | load64(at + 8))
        set_slot(value, "is_safe", UNKNOWN_SAFETY)
        return value

    cdef int encode(self, object value, Out out) except -1:
        cdef bytes data
        if isinstance(value, str):
            value = UUID(value)
        if not isinstance(value, UUID):
            raise TypeError(f"a UUID is expected, not {type(value).__name__}")
        data = value.bytes
        return out.put(<const char *>data, 16)


cdef class Json(Codec):
    """json and jsonb, as what `json.loads` makes of them."""

    cdef readonly bint versioned  # jsonb: a byte with the number 1 goes ahead

    def __init__(self, unsigned int oid, str name not None, *, bint versioned):
        Codec.__init__(self, oid, name)
        self.versioned = versioned
        self.takes_lists = self.takes_tuples = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        if self.versioned:
            if length < 1 or at[0] != 1:
                raise ValueError("this version of jsonb is not known")
            at += 1
            length -= 1
        return loads_json(PyUnicode_DecodeUTF8(<const char *>at, length, NULL))

    cdef int encode(self, object value, Out out) except -1:
        cdef bytes data = (<str?>dumps_json(value)).encode()
        if self.versioned:
            out.take(1)[0] = 1
        return out.put(<const char *>data, len(data))


cdef class Xml(Codec):
    """xml. A str has no encoding, but the server believes the one that a declaration in it names: it is sent as UTF-8, and says so.

    Source: PostgreSQL docs, "XML Type", Encoding Handling.
    """

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        return PyUnicode_DecodeUTF8(<const char *>at, length, NULL)

    cdef int encode(self, object value, Out out) except -1:
        cdef bytes data
        if not isinstance(value, str):
            raise TypeError(f"a str is expected, not {type(value).__name__}")
        if value.startswith("<?xml"):
            value = ENCODING.sub(r'\1"UTF-8"', value, count=1)
        data = (<str>value).encode()
        return out.put(<const char *>data, len(data))
